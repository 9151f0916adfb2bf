// Lower bounds of squared distances by products of 8-bit codes, which are exact: rows that are too far to count need not
// be read in float64 then.
//
// With c a point in the middle of the data, y' = y - c is kept as y^ = s k, k integers in [-127, 127] and s = max |y'| / 127, and
// so is x' = x - c of a query. With r the lengths of what this leaves,
//
//     x'.y' = x^.y^ + (x' - x^).y' + x^.(y' - y^) <= s_x s_y k_x.k_y + r_x |y'| + |x^| r_y,   |x^| <= |x'| + r_x
//     |x - y|^2 = |x'|^2 + |y'|^2 - 2 x'.y' >= |x'|^2 + |y'|^2 - 2 (s_x s_y k_x.k_y + r_x |y'| + (|x'| + r_x) r_y)
//
// Rounding. k_x.k_y fits 32 bits and is exact. The float32 numbers of the bracket and their sums are at most
// 3.5 S^2 together, S = |x'| + |y'| (r <= |y'|: 0 is a code too), and make less than 28 roundings of S^2 in all; the bound is made
// smaller by 48. What else is rounded is so in float64, and nothing to that. Where numbers underflow they are off by
// 7e-46, which is multiplied by 2 k_x.k_y, below 2.2e9: for this 4e-36 is taken off. Where anything overflows, or is NaN, so is the bound: that says
// nothing then.
//
// mnemo_encode(rows, centre, stride, codes, terms, squares)
//     codes [count, stride] <- k, and zeros up to stride, a multiple of 64 not below dim; terms [count], see Terms; squares [count]
//     <- |y'|^2.
//     For all rows of a set (rows.subset NULL) and for queries, which are rows too. centre [dim]. One warp per row: block
//     256, any grid.
// mnemo_bound(part, subset, stride, row_codes, row_terms, query_codes, query_terms, low)
//     low [queries, segments, SEGMENT] <- bounds, of which only places of rows that are there are written.
//     Block 256; grid (ceil(part.queries / 128), ceil(SEGMENT / 128), part.segments). No dynamic shared memory.
#include "common.cuh"
#include "matrix.cuh"

// Of a row or a query; see above.
struct __align__(16) Terms {
    float squared; // |y'|^2, rounded down
    float step;    // s
    float length;  // |y'|, rounded up
    float left;    // r, rounded up
};

constexpr double STEPS = 127.0;
constexpr float SLACK = 48.0f * 5.9604644775390625e-8f; // 2^-24
constexpr float UNDERFLOW = 4e-36f;

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_encode(Rows rows, const double *centre, int stride, signed char *codes, Terms *terms, double *squares) {
    const int lane = threadIdx.x % WARP;
    for (long long n = (long long)blockIdx.x * WARPS + threadIdx.x / WARP; n < rows.count;
         n += (long long)gridDim.x * WARPS) {
        double largest = 0.0;
        for (int j = lane; j < rows.dim; j += WARP) largest = fmax(largest, fabs(value_of(rows, n, j) - centre[j]));
        for (int apart = WARP / 2; apart > 0; apart /= 2)
            largest = fmax(largest, __shfl_xor_sync(0xffffffffu, largest, apart));
        const float step = __double2float_ru(largest / STEPS);
        const double wide = (double)step;
        double squared = 0.0, left = 0.0;
        for (int j = lane; j < stride; j += WARP) {
            const double value = j < rows.dim ? value_of(rows, n, j) - centre[j] : 0.0;
            const int code = wide > 0.0 ? __double2int_rn(value / wide) : 0;
            const double rest = value - wide * (double)code;
            squared = fma(value, value, squared);
            left = fma(rest, rest, left);
            codes[n * stride + j] = (signed char)code;
        }
        squared = warp_sum(squared);
        left = warp_sum(left);
        if (lane == 0) {
            terms[n] = {__double2float_rd(squared), step, __double2float_ru(sqrt(squared)),
                        __double2float_ru(sqrt(left))};
            squares[n] = squared;
        }
    }
}

// Queries and rows of a block, and bytes of each that are staged at a time: four pieces of 16.
constexpr int SIDE = 128, DEPTH = 64, PIECE = 16, PIECES = DEPTH / PIECE;
// A warp takes 64 queries and 32 rows: 4 by 4 products of 16 by 8.
constexpr int WARP_QUERIES = 64, WARP_ROWS = 32;
static_assert(SIDE / WARP_QUERIES * (SIDE / WARP_ROWS) == WARPS, "one block");

// Where a piece of a staged row is. Rows of 64 bytes: without the turn by row, eight of them would meet in the same banks.
__device__ inline unsigned staged_at(int row, int piece) { return row * DEPTH + (piece ^ (row >> 1 & 3)) * PIECE; }

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_bound(Part part, const unsigned *subset, int stride, const signed char *row_codes, const Terms *row_terms,
            const signed char *query_codes, const Terms *query_terms, float *low) {
    // Two turns, of queries and of rows.
    __shared__ __align__(16) signed char staged[2][2][SIDE * DEPTH];
    const int segment = blockIdx.z;
    const long long start = start_of(part, segment);
    const int count = rows_of(part, segment);
    const int first_row = blockIdx.y * SIDE, first_query = blockIdx.x * SIDE;
    if (first_row >= count) return;

    // Each thread copies the same piece of two queries and of two rows.
    const int own_piece = threadIdx.x % PIECES, own = threadIdx.x / PIECES;
    constexpr int APART = THREADS / PIECES, EACH = SIDE / APART;
    const signed char *from[2][EACH];
    bool there[2][EACH];
    unsigned to[2][EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int at = own + i * APART, query = first_query + at, row = first_row + at;
        there[0][i] = query < part.queries;
        there[1][i] = row < count;
        from[0][i] = query_codes + (there[0][i] ? (long long)query * stride : 0) + own_piece * PIECE;
        from[1][i] = row_codes + (there[1][i] ? row_number(subset, start + row) * stride : 0) + own_piece * PIECE;
        to[0][i] = shared_address(staged[0][0]) + staged_at(at, own_piece);
        to[1][i] = shared_address(staged[0][1]) + staged_at(at, own_piece);
    }
    const auto fetch = [&](int k) {
        const unsigned side = k / DEPTH % 2 * (2 * SIDE * DEPTH);
#pragma unroll
        for (int of = 0; of < 2; of++)
#pragma unroll
            for (int i = 0; i < EACH; i++) copy_16(to[of][i] + side, from[of][i] + k, there[of][i]);
    };

    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int warp_query = warp / (SIDE / WARP_ROWS) * WARP_QUERIES, warp_row = warp % (SIDE / WARP_ROWS) * WARP_ROWS;
    // As load_matrices and add_products want them: queries 0-7, 8-15, 0-7, 8-15, rows 0-7, 0-7, 8-15, 8-15.
    const int query_lane = lane % 16, query_piece = lane / 16;
    const int row_lane = lane % 8 + lane / 16 * 8, row_piece = lane / 8 % 2;
    int sum[4][4][4] = {};
    fetch(0);
    commit_copies();
    for (int k = 0; k < stride; k += DEPTH) {
        if (k + DEPTH < stride) fetch(k + DEPTH);
        commit_copies();
        wait_copies<1>();
        __syncthreads();
        const unsigned queries = shared_address(staged[k / DEPTH % 2][0]), rows = shared_address(staged[k / DEPTH % 2][1]);
#pragma unroll
        for (int half = 0; half < PIECES; half += 2) {
            unsigned b[2][4];
#pragma unroll
            for (int j = 0; j < 2; j++)
                load_matrices(b[j], rows + staged_at(warp_row + 16 * j + row_lane, half + row_piece));
#pragma unroll
            for (int i = 0; i < 4; i++) {
                // Where there are few queries the rest of their places costs nothing.
                if (first_query + warp_query + 16 * i >= part.queries) continue;
                unsigned a[4];
                load_matrices(a, queries + staged_at(warp_query + 16 * i + query_lane, half + query_piece));
#pragma unroll
                for (int j = 0; j < 4; j++) add_products(sum[i][j], a, b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
            }
        }
        __syncthreads();
    }

#pragma unroll
    for (int j = 0; j < 4; j++) {
#pragma unroll
        for (int e = 0; e < 2; e++) {
            const int row = first_row + warp_row + 8 * j + 2 * (lane % 4) + e;
            if (row >= count) continue;
            const Terms y = row_terms[row_number(subset, start + row)];
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int query = first_query + warp_query + 8 * i + lane / 4;
                if (query >= part.queries) continue;
                const Terms x = query_terms[query];
                const float product = x.step * y.step * (float)sum[i / 2][j][i % 2 * 2 + e];
                const float most = product + x.left * y.length + (x.length + x.left) * y.left;
                const float length = x.length + y.length;
                const float bound = x.squared + y.squared - 2.0f * most - (SLACK * length * length + UNDERFLOW);
                low[buffer_at(part, query, segment) + row] = bound;
            }
        }
    }
}
