// Sums of matrices with factors for their rows.
#pragma once
#include "common.cuh"

constexpr int MOST_TERMS = 8;

// A factor: rows[i] for row i, or where that is NULL one number for all rows.
struct Factor {
    const double *rows; // [rows], or NULL
    double all;
};

// out <- keep out + sum over terms of factor * matrix, in order; without `keeps` nothing is kept.
struct Combine {
    double *out;
    long long rows;
    int cols;
    int terms; // at most 8
    int keeps; // 0: out is not read
    int plain; // the first term has one factor for all rows, whatever numbers others have
    Factor keep;
    Factor factor[MOST_TERMS];
    const double *matrix[MOST_TERMS]; // [rows, cols]
};

// Element `at` of the sum, which is in row `row`.
__device__ inline double combined(const Combine &sum, long long row, long long at) {
    double value = 0.0;
    int term = 0;
    if (sum.keeps) {
        const double kept = sum.out[at];
        value = sum.keep.rows ? kept * sum.keep.rows[row] : sum.keep.all == 1.0 ? kept : kept * sum.keep.all;
    } else if (sum.terms > 0 && sum.plain) {
        // As on the CPU: a first term with one factor is not added to 0, which would make 0 of -0.
        value = sum.factor[0].all * sum.matrix[0][at];
        term = 1;
    }
#pragma unroll
    for (int t = 0; t < MOST_TERMS; t++) {
        if (t < term || t >= sum.terms) continue;
        const double factor = sum.factor[t].rows ? sum.factor[t].rows[row] : sum.factor[t].all;
        value = __dadd_rn(value, __dmul_rn(factor, sum.matrix[t][at]));
    }
    return value;
}
