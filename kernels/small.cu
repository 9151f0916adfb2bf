// Rows of few numbers: distances, weights and sums of a segment in one kernel, without a buffer of one number per query and
// row. What comes out is what mnemo_weights and mnemo_accumulate with shift = x or NULL give, the sums in another order.
//
// mnemo_small_2, _4, _8, _16(rows, part, x, precision, whole, records, partial)
//     rows.dim at most the number in the name. Same bits from all that may be taken.
//     records [queries, segments] as in empirical.cu; partial [segments, queries, dim] <- sum over the segment of
//     w (y - x_q), or where `whole` is not 0 of w y; or NULL. Next come mnemo_merge_records and mnemo_merge_means of empirical.cu.
//     Block 256; grid (ceil(queries / 32), segments). No dynamic shared memory.
//
// A lane has one query, and the same row as its neighbours: staged rows are read by all at once. The eight warps of a block
// have the same 32 queries and every eighth row, whatever the batch.
#include "records.cuh"

constexpr int QUERIES = WARP;

// Rows staged at a time: 32 KB, and as many for each warp.
template <int D> constexpr int tile_rows() { return 4096 / D / WARPS * WARPS; }

// Rows [from, from + tile) of those that begin at `start`, each of D numbers, zeros behind the last.
template <int D>
__device__ inline void stage(const Rows &rows, long long start, int from, int count, double (&staged)[tile_rows<D>() * D]) {
    constexpr int AT_ONCE = 4;
    const int numbers = (count - from < tile_rows<D>() ? count - from : tile_rows<D>()) * D;
#pragma unroll 1
    for (int base = threadIdx.x; base < numbers; base += AT_ONCE * THREADS) {
        long long row[AT_ONCE];
        int column[AT_ONCE];
        double value[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            const int at = base + i * THREADS;
            column[i] = at % D;
            row[i] = at < numbers && column[i] < rows.dim ? start + from + at / D : -1;
        }
        values_of(rows, row, column, value);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (base + i * THREADS < numbers) staged[base + i * THREADS] = value[i];
    }
}

// y - x and its square, summed as in measure.cu.
template <int D> __device__ inline double difference(const double *y, const double (&x)[D], double (&out)[D]) {
    double sum = 0.0;
#pragma unroll
    for (int j = 0; j < D; j++) {
        out[j] = y[j] - x[j];
        sum = fma(out[j], out[j], sum);
    }
    return sum;
}

template <int D>
__device__ inline void small(const Rows &rows, const Part &part, const double *x, const double *precision, bool whole,
                             Record *records, double *partial) {
    constexpr int TILE = tile_rows<D>();
    __shared__ double staged[TILE * D];
    __shared__ double room[WARPS][QUERIES];
    __shared__ Nearest nearest_of[WARPS][QUERIES];
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int segment = blockIdx.y, count = rows_of(part, segment);
    const long long start = start_of(part, segment);
    const int query = blockIdx.x * QUERIES + lane;
    const bool there = query < part.queries;

    double own[D];
#pragma unroll
    for (int j = 0; j < D; j++) own[j] = there && j < rows.dim ? x[(long long)query * rows.dim + j] : 0.0;
    const double h = there ? 0.5 * precision[query] : 0.0;

    Nearest nearest = nothing();
    for (int from = 0; from < count; from += TILE) {
        __syncthreads();
        stage<D>(rows, start, from, count, staged);
        __syncthreads();
        const int end = count - from < TILE ? count - from : TILE;
#pragma unroll(D > 8 ? 2 : 4)
        for (int c = warp; c < end; c += WARPS) {
            double ignored[D];
            const double d = difference<D>(staged + c * D, own, ignored);
            if (d < nearest.distance) nearest = {d, from + c};
        }
    }
    nearest_of[warp][lane] = nearest;
    __syncthreads();
    for (int other = 0; other < WARPS; other++) nearest = nearer(nearest, nearest_of[other][lane]);

    double rest = 0.0, slope = 0.0, sum[D] = {};
    for (int from = 0; from < count; from += TILE) {
        // A single tile is still there.
        if (count > TILE) {
            __syncthreads();
            stage<D>(rows, start, from, count, staged);
            __syncthreads();
        }
        const int end = count - from < TILE ? count - from : TILE;
#pragma unroll(D > 8 ? 1 : 2)
        for (int c = warp; c < end; c += WARPS) {
            double apart[D];
            const double above = h * (difference<D>(staged + c * D, own, apart) - nearest.distance);
            // Beyond, the exponential is 0.
            if (!(above < 746.0)) continue;
            const double w = exp(-above);
            if (from + c != nearest.at) {
                rest += w;
                slope += w * above;
            }
#pragma unroll
            for (int j = 0; j < D; j++) sum[j] = fma(w, whole ? staged[c * D + j] : apart[j], sum[j]);
        }
    }

    // One number after the other over the warps, in their order.
    const auto over_warps = [&](double value) {
        __syncthreads();
        room[warp][lane] = value;
        __syncthreads();
        double total = room[0][lane];
        for (int other = 1; other < WARPS; other++) total += room[other][lane];
        return total;
    };
    rest = over_warps(rest);
    slope = over_warps(slope);
    if (warp == 0 && there)
        records[(long long)query * part.segments + segment] = {nearest.distance, rest, slope, start + nearest.at};
    if (!partial) return;
    double *to = partial + ((long long)segment * part.queries + query) * rows.dim;
#pragma unroll
    for (int j = 0; j < D; j++) {
        const double total = over_warps(sum[j]);
        if (warp == j % WARPS && there && j < rows.dim) to[j] = total;
    }
}

#define SMALL(D)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, D > 8 ? 1 : 2)                                               \
    mnemo_small_##D(Rows rows, Part part, const double *x, const double *precision, int whole, Record *records,        \
                    double *partial) {                                                                                 \
        small<D>(rows, part, x, precision, whole != 0, records, partial);                                              \
    }
SMALL(2)
SMALL(4)
SMALL(8)
SMALL(16)
