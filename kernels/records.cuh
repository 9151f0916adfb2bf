// What a segment gives to the sums over a data set, and how two such are merged.
#pragma once
#include "common.cuh"

// 40 bytes; see empirical.cu.
struct Record {
    double distance; // the smallest squared distance D
    double rest;     // sum of exp(-h (D_n - D)) over all rows but the nearest, whose share is 1
    double slope;    // sum of exp(-h (D_n - D)) h (D_n - D)
    long long row;   // position of the nearest, the first of equals
    double error;    // of other distances, beyond that of sums of squared differences, at most (products.cu)
};

// w a, of which w = exp(-a) goes to 0 the faster.
__device__ inline double weighted(double w, double a) { return w > 0.0 ? w * a : 0.0; }

// What sums relative to the smallest distance so far, and relative to the segment's, are multiplied by.
struct Scales {
    double before, here;
};

// Adds a segment to the sums so far, of which there are none where it is the `first`.
__device__ inline Scales merge(Record &sum, const Record &next, double h, bool first) {
    if (first) {
        sum = next;
        return {0.0, 1.0};
    }
    // The sum with the smaller distance stays as it is; of equals the earlier.
    const bool before = sum.distance <= next.distance;
    const Record near = before ? sum : next, far = before ? next : sum;
    const double above = h * (far.distance - near.distance);
    const double w = exp(-above);
    sum.distance = near.distance;
    sum.row = near.row;
    sum.error = fmax(sum.error, next.error);
    sum.rest = fma(w, 1.0 + far.rest, near.rest);
    sum.slope = near.slope + fma(w, far.slope, weighted(w, above) * (1.0 + far.rest));
    return before ? Scales{1.0, w} : Scales{w, 1.0};
}

// A squared distance and where in the segment it is.
struct Nearest {
    double distance;
    int at;
};
// Behind any row.
__device__ inline Nearest nothing() { return {infinity(), 0x7fffffff}; }

// The nearer of two; of equals the one that comes first.
__device__ inline Nearest nearer(const Nearest &a, const Nearest &b) {
    return b.distance < a.distance || (b.distance == a.distance && b.at < a.at) ? b : a;
}

// The nearest of a block, for all its threads.
__device__ inline Nearest block_nearest(Nearest own, Nearest (&room)[WARPS]) {
    for (int step = WARP / 2; step > 0; step /= 2) {
        const double distance = __shfl_xor_sync(0xffffffffu, own.distance, step);
        const int at = __shfl_xor_sync(0xffffffffu, own.at, step);
        own = nearer(own, {distance, at});
    }
    if (threadIdx.x % WARP == 0) room[threadIdx.x / WARP] = own;
    __syncthreads();
    own = room[0];
    for (int warp = 1; warp < WARPS; warp++) own = nearer(own, room[warp]);
    return own;
}
