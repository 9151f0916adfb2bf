// What has no name in C++: copies that do not wait, and products of small matrices by a warp (PTX ISA, sm_80 and later).
#pragma once

// Where `p`, which is in shared memory, is there.
__device__ inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// Begins to copy 16 bytes to shared memory; zeros where they are not `there`, and nothing is read then. Both addresses are
// multiples of 16.
__device__ inline void copy_16(unsigned to, const void *from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
// Ends a group of copies.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until no more than LEFT of this thread's groups are on their way.
template <int LEFT> __device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

// Four matrices of 8 rows of 16 bytes: lane l gives the address of row l % 8 of matrix l / 8, and gets of each matrix the
// bytes 4 (l % 4) and on of row l / 4.
__device__ inline void load_matrices(unsigned (&to)[4], unsigned row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

// sum += a b', where a is 16 rows and b 8 rows of 32 signed bytes. Of a: the matrices of rows 0-7 and 8-15, bytes 0-15, then
// those of bytes 16-31; of b: bytes 0-15, then 16-31. Lane l has rows l / 4 of a (sum[0], sum[1]) and l / 4 + 8 (sum[2],
// sum[3]), and rows 2 (l % 4) and 2 (l % 4) + 1 of b.
__device__ inline void add_products(int (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(sum[0]), "+r"(sum[1]), "+r"(sum[2]), "+r"(sum[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// sum += a b', where a and b are 8 rows of 4 numbers: lane l has number l % 4 of row l / 4 of either, and of the sums rows l / 4 of
// a and 2 (l % 4), 2 (l % 4) + 1 of b.
__device__ inline void add_products(double (&sum)[2], double a, double b) {
    asm("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
        : "+d"(sum[0]), "+d"(sum[1])
        : "d"(a), "d"(b));
}
