// The k nearest rows of each query, nearest first, ties to the lower index: exact, for any k up to the number of rows.
//
// A query's list of the best so far is sorted. Segments come in order; of each, rows nearer than the last of a full list
// are collected, sorted in shared memory by (distance, index) and merged into the list by rank. A list has two sides in
// global memory, of which one is current: [2, queries, k].
//
// For each part of the segments:
//   measure.cu    squared distances [queries, segments, SEGMENT]
//   mnemo_bound_cosines(part, factor, distances)     for cosines only, where rows and queries
//       have length 1: at most 4, and 2 from a row of zeros, whose factor (see mnemo_row_factors) is 0.
//       Grid (queries, segments).
//   mnemo_select(part, distances, k, list_distance, list_index, side)
//       list_distance, list_index [2, queries, k]; side [queries] says which is current (all begun where part.first_segment is 0).
//       Grid queries.
// Then mnemo_finish_nearest(queries, k, list_distance, list_index, side, cosine, distance, index)
//       distance [queries, k] <- sqrt(D), or where `cosine` is not 0 D / 2; index [queries, k]. Any grid.
//
// Every kernel: block 256, no dynamic shared memory. There are no subsets here.
#include "common.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_bound_cosines(Part part, const double *factor, double *distances) {
    const int query = blockIdx.x, segment = blockIdx.y;
    const int here = rows_of(part, segment);
    double *own = distances + buffer_at(part, query, segment);
    for (int c = threadIdx.x; c < here; c += THREADS) {
        const bool zeros = factor[start_of(part, segment) + c] == 0.0;
        own[c] = zeros ? 2.0 : fmin(own[c], 4.0);
    }
}

// How many of the ascending numbers are below `limit`; with `or_equal`, at most it.
__device__ inline long long count_below(const double *sorted, long long count, double limit, bool or_equal) {
    long long from = 0, to = count;
    while (from < to) {
        const long long middle = (from + to) / 2;
        const bool below = or_equal ? sorted[middle] <= limit : sorted[middle] < limit;
        if (below) from = middle + 1;
        else to = middle;
    }
    return from;
}

// The least power of two that is not below n.
__device__ inline int power_of_two(int n) {
    int power = 1;
    while (power < n) power *= 2;
    return power;
}

static_assert(SEGMENT <= 0xffff && (SEGMENT & (SEGMENT - 1)) == 0, "places in 16 bits, padded to a power of two");

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_select(Part part, const double *distances, long long k, double *list_distance, unsigned *list_index, int *side) {
    __shared__ double near[SEGMENT];
    __shared__ unsigned short place[SEGMENT];
    __shared__ int found;
    const int query = blockIdx.x;
    const long long all = (long long)part.queries * k;
    int current = part.first_segment == 0 ? 0 : side[query];
    for (int s = 0; s < part.segments; s++) {
        const long long start = start_of(part, s);
        const int here = rows_of(part, s);
        const long long kept = start < k ? start : k;
        const double *old_distance = list_distance + current * all + query * k;
        const unsigned *old_index = list_index + current * all + query * k;
        const bool full = kept == k;
        const double limit = full ? old_distance[k - 1] : 0.0;
        if (threadIdx.x == 0) found = 0;
        __syncthreads();
        // In whatever order: sorting settles it. An equal distance has the higher index and stays out.
        const double *own = distances + buffer_at(part, query, s);
        for (int c = threadIdx.x; c < here; c += THREADS) {
            const double d = own[c];
            if (!full || d < limit) {
                const int at = atomicAdd(&found, 1);
                near[at] = d;
                place[at] = (unsigned short)c;
            }
        }
        __syncthreads();
        const int candidates = found;
        if (candidates == 0) {
            // `found` is set to 0 again only when all have seen it.
            __syncthreads();
            continue;
        }
        const int padded = power_of_two(candidates);
        for (int c = candidates + threadIdx.x; c < padded; c += THREADS) {
            near[c] = infinity();
            place[c] = 0xffff;
        }
        // Bitonic sort by (distance, place).
        for (int run = 2; run <= padded; run *= 2) {
            for (int apart = run / 2; apart > 0; apart /= 2) {
                __syncthreads();
                for (int pair = threadIdx.x; pair < padded / 2; pair += THREADS) {
                    const int a = 2 * pair - (pair & (apart - 1)), b = a + apart;
                    const bool ascending = (a & run) == 0;
                    const double near_a = near[a], near_b = near[b];
                    const unsigned short place_a = place[a], place_b = place[b];
                    const bool after = near_a > near_b || (near_a == near_b && place_a > place_b);
                    if (after == ascending) {
                        near[a] = near_b;
                        near[b] = near_a;
                        place[a] = place_b;
                        place[b] = place_a;
                    }
                }
            }
        }
        __syncthreads();
        // Where each goes: as many places on as there are of the other list before it. What is in the list comes before
        // an equal distance of this segment.
        double *new_distance = list_distance + (1 - current) * all + query * k;
        unsigned *new_index = list_index + (1 - current) * all + query * k;
        for (long long i = threadIdx.x; i < kept; i += THREADS) {
            const double d = old_distance[i];
            const long long to = i + count_below(near, candidates, d, false);
            if (to < k) {
                new_distance[to] = d;
                new_index[to] = old_index[i];
            }
        }
        for (int i = threadIdx.x; i < candidates; i += THREADS) {
            const double d = near[i];
            const long long to = i + count_below(old_distance, kept, d, true);
            if (to < k) {
                new_distance[to] = d;
                new_index[to] = (unsigned)(start + place[i]);
            }
        }
        current = 1 - current;
        __syncthreads();
    }
    if (threadIdx.x == 0) side[query] = current;
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_finish_nearest(int queries, long long k, const double *list_distance, const unsigned *list_index, const int *side,
                     int cosine, double *distance, long long *index) {
    const long long all = (long long)queries * k;
    for (long long at = (long long)blockIdx.x * THREADS + threadIdx.x; at < all;
         at += (long long)gridDim.x * THREADS) {
        const long long from = side[at / k] * all + at;
        const double d = list_distance[from];
        distance[at] = cosine ? 0.5 * d : sqrt(d);
        index[at] = (long long)list_index[from];
    }
}
