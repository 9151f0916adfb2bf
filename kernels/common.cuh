// What all kernels share: the rows of a data set, how they are cut into segments, and sums in a fixed order.
//
// Everything here is float64. The compiler contracts nothing (--fmad=false in options.txt): a fused multiply-add is
// there only where it is written, so that bits do not depend on the compiler's version. No sum depends on a grid's
// size or on what else is in the batch. Nothing is included from outside this folder.
//
// Matrices are row-major and contiguous unless a stride is named. [n, d] after a parameter is its shape.
#pragma once

// Rows of a segment. The last segment may be shorter; it is not padded, but its place in buffers is this long.
#ifndef SEGMENT
#define SEGMENT 4096
#endif

// Threads of every block.
constexpr int THREADS = 256;
constexpr int WARP = 32;
constexpr int WARPS = THREADS / WARP;

// Element types, as in mnemo.h.
enum Dtype { F32 = 1, F64 = 2, F16 = 3, BF16 = 4, U8 = 5 };

// The rows y_n of a data set that take part. Row number n of the set has the values (scale * raw + shift), and where
// `factor` is given these times factor[n]. A factor below 0 belongs to a row of numbers so small that 1/|y| would
// overflow: its values are multiplied by TINY_ROWS_GROW first and by -factor[n] then.
struct Rows {
    const void *data;       // [rows of the set, dim] of `dtype`
    const unsigned *subset; // [count] row numbers, ascending; NULL: all rows
    const double *factor;   // [rows of the set], or NULL
    double scale, shift;
    long long count; // rows that take part
    int dim;
    int dtype;
};

// The segments that a launch is about, and the queries. Buffers of one number per query and row are
// [queries, segments, SEGMENT].
struct Part {
    long long count; // rows that take part, of all segments
    long long first_segment;
    int segments; // at most 65535, the most that a grid has across its lesser axes
    int queries;
};

// 2^600, by which numbers grow without rounding.
#define TINY_ROWS_GROW 4.149515568880993e180

// The position of the first row of segment `segment` of a part.
__device__ inline long long start_of(const Part &part, int segment) {
    return (part.first_segment + segment) * SEGMENT;
}

// How many rows it has.
__device__ inline int rows_of(const Part &part, int segment) {
    const long long left = part.count - start_of(part, segment);
    return left >= SEGMENT ? SEGMENT : left > 0 ? (int)left : 0;
}

// Where its numbers for a query begin in a buffer.
__device__ inline long long buffer_at(const Part &part, long long query, int segment) {
    return (query * part.segments + segment) * SEGMENT;
}

// How a segment of a query is summed, where that is chosen (near.cu): few [queries, segments] says how many rows may have weight,
// or one of these. NULL: by differences.
enum Way { BY_PRODUCTS = -1, BY_DIFFERENCES = -2 };

__device__ inline bool is(const Part &part, const int *few, long long query, int segment, Way way) {
    return few ? few[query * part.segments + segment] == way : way == BY_DIFFERENCES;
}

// Whether that is so of one of COUNT queries, which are at most as many as the threads of the block that asks.
template <int COUNT>
__device__ inline bool any_is(const Part &part, const int *few, int first_query, int segment, Way way) {
    if (!few) return way == BY_DIFFERENCES;
    const int query = first_query + threadIdx.x;
    return __syncthreads_or(threadIdx.x < COUNT && query < part.queries && is(part, few, query, segment, way));
}

// Behind every distance.
__device__ inline double infinity() { return __longlong_as_double(0x7ff0000000000000ll); }

// The row number behind position `at`.
__device__ inline long long row_number(const unsigned *subset, long long at) {
    return subset ? (long long)subset[at] : at;
}

// A finite binary16, exactly.
__device__ inline float widen_half(unsigned bits) {
    const unsigned magnitude = bits & 0x7fff;
    const float subnormal = (float)magnitude * 5.9604644775390625e-8f; // 2^-24
    const float normal = __uint_as_float((magnitude << 13) + ((127u - 15u) << 23));
    const float value = magnitude < 0x400 ? subnormal : normal;
    return __uint_as_float(__float_as_uint(value) | (bits & 0x8000) << 16);
}

// Stored number `at`, exactly.
template <int DTYPE> __device__ inline double raw_value(const void *data, long long at) {
    if constexpr (DTYPE == F32) return (double)((const float *)data)[at];
    else if constexpr (DTYPE == F64) return ((const double *)data)[at];
    else if constexpr (DTYPE == F16) return (double)widen_half(((const unsigned short *)data)[at]);
    else if constexpr (DTYPE == BF16) return (double)__uint_as_float((unsigned)((const unsigned short *)data)[at] << 16);
    else return (double)((const unsigned char *)data)[at];
}

// Stored numbers at[0], at[1], ..., exactly, or 0 where an index is below 0. The type is looked at once, so that all of the
// loads are on their way before the first is waited for.
template <int COUNT>
__device__ inline void raw_values(const void *data, int dtype, const long long (&at)[COUNT], double (&raw)[COUNT]) {
    const auto load = [&](auto each) {
#pragma unroll
        for (int i = 0; i < COUNT; i++) raw[i] = at[i] < 0 ? 0.0 : each(at[i]);
    };
    switch (dtype) {
    case F32: load([=](long long i) { return raw_value<F32>(data, i); }); break;
    case F64: load([=](long long i) { return raw_value<F64>(data, i); }); break;
    case F16: load([=](long long i) { return raw_value<F16>(data, i); }); break;
    case BF16: load([=](long long i) { return raw_value<BF16>(data, i); }); break;
    default: load([=](long long i) { return raw_value<U8>(data, i); });
    }
}

// The value behind a stored number of row number n. Two roundings, multiply then add, as on the CPU.
__device__ inline double decoded(const Rows &rows, long long n, double raw) {
    const double value = __dadd_rn(__dmul_rn(rows.scale, raw), rows.shift);
    if (!rows.factor) return value;
    const double factor = rows.factor[n];
    return factor < 0.0 ? value * TINY_ROWS_GROW * -factor : value * factor;
}

// Element j of row number n.
__device__ inline double value_of(const Rows &rows, long long n, int j) {
    const long long at[1] = {n * rows.dim + j};
    double raw[1];
    raw_values(rows.data, rows.dtype, at, raw);
    return decoded(rows, n, raw[0]);
}

// COUNT elements at once: number i is element column[i] of the row at position row[i], or 0 where row[i] is below 0.
template <int COUNT>
__device__ inline void values_of(const Rows &rows, const long long (&row)[COUNT], const int (&column)[COUNT],
                                 double (&value)[COUNT]) {
    long long n[COUNT], at[COUNT];
#pragma unroll
    for (int i = 0; i < COUNT; i++) {
        n[i] = row[i] < 0 ? 0 : row_number(rows.subset, row[i]);
        at[i] = row[i] < 0 ? -1 : n[i] * rows.dim + column[i];
    }
    raw_values(rows.data, rows.dtype, at, value);
#pragma unroll
    for (int i = 0; i < COUNT; i++) value[i] = row[i] < 0 ? 0.0 : decoded(rows, n[i], value[i]);
}

// The row and column of element `at` of a matrix. 32-bit division where it will do.
struct Place {
    long long row;
    int column;
};
__device__ inline Place place_of(long long at, int cols) {
    if (at < 0x80000000ll) {
        const unsigned row = (unsigned)at / (unsigned)cols;
        return {(long long)row, (int)((unsigned)at - row * (unsigned)cols)};
    }
    const long long row = at / cols;
    return {row, (int)(at - row * cols)};
}

// The sum over a warp, in lane 0: lane i takes lane i + 16, then i + 8, ...
__device__ inline double warp_sum(double value) {
    for (int step = WARP / 2; step > 0; step /= 2) value += __shfl_down_sync(0xffffffffu, value, step);
    return value;
}

// The sum over a block, for all its threads: within warps, then warp 0, 1, 2, ... `room` is used up.
__device__ inline double block_sum(double value, double (&room)[WARPS]) {
    value = warp_sum(value);
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = value;
    __syncthreads();
    double sum = room[0];
    for (int warp = 1; warp < WARPS; warp++) sum += room[warp];
    __syncthreads();
    return sum;
}
