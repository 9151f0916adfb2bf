// Distances of a few rows of a segment, which bounds (bounds.cu) have found.
#pragma once
#include "common.cuh"

// The largest float, and for rounding off distances and what they are compared with, which is less than 1e-11 of them.
constexpr float LARGEST = 3.4028234663852886e38f;
constexpr double WIDER = 1.0 + 1e-10;

// How far a squared distance by products (products.cu) is from its own, at most: with a = |x'|, R the largest |y'| and u = 2^-53,
// the products are off by (d + 3) u a R, the squares by (d + 4) u (a^2 + R^2), their sum by 3 u (a + R)^2, and x' and y' make 2 u
// (a + R)^2 of it; all of that twice, for what tensor cores round.
__device__ inline double error_of_products(int dim, double query_squared, double radius) {
    const double far = sqrt(query_squared) + radius;
    return 2.0 * (dim + 12.0) * 1.1102230246251565e-16 * far * far;
}

// By what share of themselves two sums of the same squares may differ, at most, that are added in other orders; twice that.
__device__ inline double error_of_order(int dim) { return 4.0 * (dim + 4.0) * 1.1102230246251565e-16; }

// Rows that a thread reads at once, so that their loads are on the way together.
constexpr int AT_ONCE = 4;

// A bound as bounds.cu leaves it. One that says nothing is below all others.
__device__ inline float bound_of(unsigned stored) {
    const float bound = __uint_as_float(stored);
    return bound < LARGEST ? bound : -LARGEST;
}

// to(i, |y - x|^2) of the row at place[i] of the segment that begins at `start`; first <= i < count. A warp takes four rows. What
// it reads the block has to be done with writing, and the caller waits for what it writes.
template <class Index, class To>
__device__ inline void measure_few(const Rows &rows, long long start, const Index *place, int first, int count,
                                   const double *x, To to) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    for (first += warp * AT_ONCE; first < count; first += WARPS * AT_ONCE) {
        long long row[AT_ONCE];
        double value[AT_ONCE], sum[AT_ONCE] = {};
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) row[i] = first + i < count ? start + place[first + i] : -1;
        for (int j = lane; j < rows.dim; j += WARP) {
            const int column[AT_ONCE] = {j, j, j, j};
            values_of(rows, row, column, value);
            const double x_j = x[j];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) sum[i] = fma(value[i] - x_j, value[i] - x_j, sum[i]);
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            sum[i] = warp_sum(sum[i]);
            if (lane == 0 && first + i < count) to(first + i, sum[i]);
        }
    }
}
