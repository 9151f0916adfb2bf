// The k nearest rows of each query, nearest first, ties to the lower index: exact, for any k up to the number of rows.
//
// A query's list of the best so far is sorted. Segments come in order; of each, rows nearer than the last of a full list
// are collected, sorted in shared memory by (distance, index) and merged into the list by rank. A list has two sides in
// global memory, of which one is current: [2, queries, k].
//
// Queries are finite. With bounds only rows are measured whose bound is not above the last of a full list; of more than k such the k with the
// least bounds are, and then those whose bound is not above the farthest of these.
//
// For each part of the segments, by bounds and for k <= SEGMENT / 16:
//   bounds.cu     bounds of squared distances -> low [queries, segments, SEGMENT]
//   mnemo_select_near(rows, part, x, low, k, list_distance, list_index, side)
//       As mnemo_select. Grid queries.
// Else:
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
#include "few.cuh"

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

// Rows of a segment and their distances, in shared memory.
struct Candidates {
    double near[SEGMENT];
    unsigned short place[SEGMENT];
    int count;
};

// Adds one, in whatever order: sorting settles it.
__device__ inline void add(Candidates &found, double near, int place) {
    const int at = atomicAdd(&found.count, 1);
    found.near[at] = near;
    found.place[at] = (unsigned short)place;
}

// Sorts by (distance, place), from where all have been added; a bitonic sort of a power of two.
__device__ inline void sort(Candidates &found, int count) {
    const int padded = power_of_two(count);
    for (int c = count + threadIdx.x; c < padded; c += THREADS) {
        found.near[c] = infinity();
        found.place[c] = 0xffff;
    }
    for (int run = 2; run <= padded; run *= 2) {
        for (int apart = run / 2; apart > 0; apart /= 2) {
            __syncthreads();
            for (int pair = threadIdx.x; pair < padded / 2; pair += THREADS) {
                const int a = 2 * pair - (pair & (apart - 1)), b = a + apart;
                const bool ascending = (a & run) == 0;
                const double near_a = found.near[a], near_b = found.near[b];
                const unsigned short place_a = found.place[a], place_b = found.place[b];
                const bool after = near_a > near_b || (near_a == near_b && place_a > place_b);
                if (after == ascending) {
                    found.near[a] = near_b;
                    found.near[b] = near_a;
                    found.place[a] = place_b;
                    found.place[b] = place_a;
                }
            }
        }
    }
    __syncthreads();
}

// A query's list: which side is current, and how many it has.
struct List {
    double *distance;
    unsigned *index;
    long long all, k;
    int side;

    __device__ const double *distances() const { return distance + side * all; }

    // Merges the `count` candidates, sorted, into the other side, which becomes the current one. Where each goes: as many places
    // on as there are of the other list before it. What is in the list comes before an equal distance of a later segment.
    __device__ void merge(const Candidates &found, int count, long long start, long long kept) {
        const double *old_distance = distances();
        const unsigned *old_index = index + side * all;
        double *new_distance = distance + (1 - side) * all;
        unsigned *new_index = index + (1 - side) * all;
        for (long long i = threadIdx.x; i < kept; i += THREADS) {
            const double d = old_distance[i];
            const long long to = i + count_below(found.near, count, d, false);
            if (to < k) {
                new_distance[to] = d;
                new_index[to] = old_index[i];
            }
        }
        for (int i = threadIdx.x; i < count; i += THREADS) {
            const double d = found.near[i];
            const long long to = i + count_below(old_distance, kept, d, true);
            if (to < k) {
                new_distance[to] = d;
                new_index[to] = (unsigned)(start + found.place[i]);
            }
        }
        side = 1 - side;
        __syncthreads();
    }
};

__device__ inline List list_of(const Part &part, int query, long long k, double *list_distance, unsigned *list_index,
                               const int *side) {
    const int current = part.first_segment == 0 ? 0 : side[query];
    return {list_distance + query * k, list_index + query * k, (long long)part.queries * k, k, current};
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_select(Part part, const double *distances, long long k, double *list_distance, unsigned *list_index, int *side) {
    __shared__ Candidates found;
    const int query = blockIdx.x;
    List list = list_of(part, query, k, list_distance, list_index, side);
    for (int s = 0; s < part.segments; s++) {
        const long long start = start_of(part, s);
        const int here = rows_of(part, s);
        const long long kept = start < k ? start : k;
        const bool full = kept == k;
        const double limit = full ? list.distances()[k - 1] : 0.0;
        if (threadIdx.x == 0) found.count = 0;
        __syncthreads();
        // An equal distance has the higher index and stays out.
        const double *own = distances + buffer_at(part, query, s);
        for (int c = threadIdx.x; c < here; c += THREADS) {
            const double d = own[c];
            if (!full || d < limit) add(found, d, c);
        }
        __syncthreads();
        const int count = found.count;
        // It is set to 0 again only when all have seen it.
        __syncthreads();
        if (count == 0) continue;
        sort(found, count);
        list.merge(found, count, start, kept);
    }
    if (threadIdx.x == 0) side[query] = list.side;
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_select_near(Rows rows, Part part, const double *x, const unsigned *low, long long k, double *list_distance,
                  unsigned *list_index, int *side) {
    __shared__ Candidates found;
    const int query = blockIdx.x;
    x += (long long)query * rows.dim;
    const auto to_found = [&](int i, double distance) { found.near[i] = distance; };
    List list = list_of(part, query, k, list_distance, list_index, side);
    for (int s = 0; s < part.segments; s++) {
        const long long start = start_of(part, s), at = buffer_at(part, query, s);
        const int here = rows_of(part, s);
        const long long kept = start < k ? start : k;
        double limit = kept == k ? list.distances()[k - 1] * WIDER : infinity();
        if (threadIdx.x == 0) found.count = 0;
        __syncthreads();
        for (int c = threadIdx.x; c < here; c += THREADS) {
            const double bound = (double)bound_of(low[at + c]);
            if (!(bound > limit)) add(found, bound, c);
        }
        __syncthreads();
        int count = found.count;
        __syncthreads();
        if (count == 0) continue;
        // The k with the least bounds are measured first: no row is wanted that is farther than all of these.
        if (count > k) {
            sort(found, count);
            // Bounds of the others stay.
            measure_few(rows, start, found.place, 0, (int)k, x, to_found);
            __syncthreads();
            double most = 0.0;
            for (int i = threadIdx.x % WARP; i < k; i += WARP) most = fmax(most, found.near[i]);
            for (int step = WARP / 2; step > 0; step /= 2) most = fmax(most, __shfl_xor_sync(0xffffffffu, most, step));
            limit = fmin(limit, most * WIDER);
            const int measured = (int)k;
            // NaN is not above a limit.
            count = measured + (int)count_below(found.near + measured, count - measured, limit, true);
            // All have looked before any of the bounds gives way to a distance.
            __syncthreads();
            measure_few(rows, start, found.place, measured, count, x, to_found);
        } else {
            measure_few(rows, start, found.place, 0, count, x, to_found);
        }
        __syncthreads();
        sort(found, count);
        list.merge(found, count, start, kept);
    }
    if (threadIdx.x == 0) side[query] = list.side;
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
