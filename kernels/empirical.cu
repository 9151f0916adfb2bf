// The Gaussian-kernel mixture behind every empirical score (reg 3.8), in float64, for any batch, number of rows and
// dimension: with h = precision / 2, D_n = |y_n - x|^2 and D the smallest of them, first at row n*,
//
//     w_n = exp(-h (D_n - D)),   ln sum exp(l_n) = -h D + ln(1 + rest),   rest = sum of w_n, n != n*
//     mean = sum w_n y_n / (1 + rest),   entropy = ln(1 + rest) + slope / (1 + rest),   slope = sum w_n h (D_n - D)
//
// D_n - D, and never a difference of logarithms: precisions of 0 or 1e140 and sums of 1e-50 keep their relative accuracy.
// Rows are taken in segments. A part of the segments passes through buffers at a time; how large a part does not change a
// bit, for what segments give is merged in their order. Parts come in order, part.count being that of `rows`; what is
// carried from part to part begins anew where part.first_segment is 0. queries and segments are those of `part`.
//
// First pass, for each part:
//   measure.cu      D_n -> `weights`; where there are bounds, after bounds.cu and near.cu and with products.cu
//   mnemo_weights(part, precision, few, weights, records)
//       weights <- w_n relative to the segment's own smallest D; records [queries, segments] <- what a segment gives.
//       Grid (queries, segments). few: NULL, or where it is not below 0 near.cu has done this.
//   mnemo_merge_records(part, precision, records, running, scales)
//       running [queries] <- the records of all segments so far;
//       scales [queries, segments, 2] <- what the sums before and those of the segment are to be multiplied by. One thread
//       per query: grid ceil(queries / 256).
//   mnemo_accumulate_8, mnemo_accumulate_64(rows, part, few, weights, multiplier, shift, partial)
//       partial [segments, queries, dim] <- sum over the segment of w (y - shift_q); w times multiplier [like weights] where
//       that is not NULL, shift [queries, dim] or NULL for 0.
//       Grid (ceil(dim / 128 or 64), ceil(queries / 8 or 64), segments): there may be more columns than y goes. Same bits
//       from both. few: NULL, or only where it says BY_DIFFERENCES.
//   mnemo_merge_means(part, dim, partial, scales, running, mean)
//       mean [queries, dim] <- merged with `partial` in order; scales NULL: 1 and 1.
//       running not NULL: the result is divided by 1 + rest; for the last part. Any grid.
// Then mnemo_finish(queries, precision, subset, running, log_sum, entropy, distance, nearest): one number per query, any
//   of the four NULL. distance is Euclidean, nearest a row number of the set. Grid ceil(queries / 256).
//
// Second pass, where the mean must be known:
//   measure.cu      D_n of x again -> `weights`
//   mnemo_reweight(part, precision, running, weights)
//       weights <- w_n / (1 + rest). Grid (queries, segments).
//   Trace of the covariance: measure.cu about the mean -> `values`, then
//   mnemo_weighted_sums(part, weights, values, sums)
//       sums [queries, segments] <- sum over the segment of w values. Grid (queries, segments).
//   mnemo_merge_sums(part, sums, total)
//       total [queries] <- total + sums in order. Grid ceil(queries / 256).
//   Covariance times v: mnemo_project about the mean -> `values`; mnemo_accumulate with multiplier = values and shift = mean;
//   mnemo_merge_means without scales and running.
//
// Every kernel: block 256, no dynamic shared memory.
#include "records.cuh"
#include "tile.cuh"

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_weights(Part part, const double *precision, const int *few, double *weights, Record *records) {
    constexpr int EACH = (SEGMENT + THREADS - 1) / THREADS;
    __shared__ Nearest nearest_of[WARPS];
    __shared__ double room[WARPS];
    const int query = blockIdx.x, segment = blockIdx.y;
    if (few && few[query * part.segments + segment] >= 0) return;
    const int here = rows_of(part, segment);
    const double h = 0.5 * precision[query];
    double *own = weights + buffer_at(part, query, segment);

    double d[EACH];
    Nearest nearest = nothing();
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = threadIdx.x + i * THREADS;
        d[i] = c < here ? own[c] : 0.0;
        if (c < here) nearest = nearer(nearest, {d[i], c});
    }
    nearest = block_nearest(nearest, nearest_of);

    double rest = 0.0, slope = 0.0;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = threadIdx.x + i * THREADS;
        if (c >= here) continue;
        const double above = h * (d[i] - nearest.distance);
        const double w = exp(-above);
        own[c] = w;
        if (c != nearest.at) {
            rest += w;
            slope += weighted(w, above);
        }
    }
    rest = block_sum(rest, room);
    slope = block_sum(slope, room);
    if (threadIdx.x == 0) {
        const long long row = start_of(part, segment) + nearest.at;
        Record &record = records[(long long)query * part.segments + segment];
        const double error = is(part, few, query, segment, BY_PRODUCTS) ? record.error : 0.0;
        record = {nearest.distance, rest, slope, row, error};
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_merge_records(Part part, const double *precision, const Record *records, Record *running, double *scales) {
    const int query = blockIdx.x * THREADS + threadIdx.x;
    if (query >= part.queries) return;
    const double h = 0.5 * precision[query];
    Record sum = part.first_segment == 0 ? Record{} : running[query];
    for (int s = 0; s < part.segments; s++) {
        const long long at = (long long)query * part.segments + s;
        const Scales scale = merge(sum, records[at], h, part.first_segment + s == 0);
        scales[2 * at] = scale.before;
        scales[2 * at + 1] = scale.here;
    }
    // No row is near a query of NaN, of which not all kernels keep weights: the mean becomes NaN by this.
    if (!(sum.distance < infinity())) sum.rest = infinity() - infinity();
    running[query] = sum;
}

template <class S>
__device__ inline void accumulate(const Rows &rows, const Part &part, const int *few, const double *weights,
                                  const double *multiplier, const double *shift, double *partial) {
    __shared__ Stage<S::COLUMNS> of_rows;
    __shared__ Stage<S::QUERIES> of_weights[2];
    const int segment = blockIdx.z;
    const long long start = start_of(part, segment);
    const int count = rows_of(part, segment);
    const int first_query = blockIdx.y * S::QUERIES, first_column = blockIdx.x * S::COLUMNS;
    if (!any_is<S::QUERIES>(part, few, first_query, segment, BY_DIFFERENCES)) return;

    // Rows are staged along their columns, weights along the rows they belong to.
    const int own_column = threadIdx.x % S::COLUMNS, own_row = threadIdx.x / S::COLUMNS;
    constexpr int ROWS_APART = THREADS / S::COLUMNS, QUERIES_APART = THREADS / KSTEP;
    const int own_c = threadIdx.x % KSTEP, own_query = threadIdx.x / KSTEP;
    const long long own_weights = buffer_at(part, first_query + own_query, segment);
    bool takes_part[S::LEFT];
#pragma unroll
    for (int i = 0; i < S::LEFT; i++) {
        const int slot = own_query + i * QUERIES_APART, query = first_query + slot;
        takes_part[i] = slot < S::QUERIES && query < part.queries && is(part, few, query, segment, BY_DIFFERENCES);
    }
    double next_row[S::RIGHT], next_weight[S::LEFT];
    const auto fetch_rows = [&](int from) {
        long long row[S::RIGHT];
        int column[S::RIGHT];
#pragma unroll
        for (int i = 0; i < S::RIGHT; i++) {
            const int c = from + own_row + i * ROWS_APART;
            column[i] = first_column + own_column;
            row[i] = c < count && column[i] < rows.dim ? start + c : -1;
        }
        values_of(rows, row, column, next_row);
    };
    const auto fetch_weights = [&](int from) {
#pragma unroll
        for (int i = 0; i < S::LEFT; i++) {
            const int c = from + own_c;
            next_weight[i] = 0.0;
            if (takes_part[i] && c < count) {
                const long long at = own_weights + i * (QUERIES_APART * (long long)part.segments * SEGMENT) + c;
                next_weight[i] = multiplier ? weights[at] * multiplier[at] : weights[at];
            }
        }
    };
    const auto stage_rows = [&]() {
#pragma unroll
        for (int i = 0; i < S::RIGHT; i++) of_rows[own_row + i * ROWS_APART][own_column] = next_row[i];
    };
    // Says whether one of them is not 0.
    const auto stage_weights = [&](int side) {
        bool any = false;
#pragma unroll
        for (int i = 0; i < S::LEFT; i++) {
            const int slot = own_query + i * QUERIES_APART;
            if (slot < S::QUERIES) of_weights[side][own_c][slot] = next_weight[i];
            any |= next_weight[i] != 0.0;
        }
        return any;
    };

    const int across = threadIdx.x % S::ACROSS, down = threadIdx.x / S::ACROSS;
    double origin[S::Q][S::C], sum[S::Q][S::C] = {};
#pragma unroll
    for (int q = 0; q < S::Q; q++) {
#pragma unroll
        for (int c = 0; c < S::C; c++) {
            const int query = first_query + down + q * S::DOWN, column = first_column + across + c * S::ACROSS;
            const bool there = shift && query < part.queries && column < rows.dim;
            origin[q][c] = there ? shift[(long long)query * rows.dim + column] : 0.0;
        }
    }
    // Weights are two turns ahead and rows one, so that rows which weigh nothing are not read; where the kernel of the
    // mixture is narrow these are most. The first turn only fetches.
    fetch_weights(0);
    bool weigh = false;
    for (int from = -KSTEP; from < count; from += KSTEP) {
        const int side = from / KSTEP & 1;
        if (weigh) stage_rows();
        const bool next_weigh = __syncthreads_or(stage_weights(1 - side));
        fetch_weights(from + 2 * KSTEP);
        if (next_weigh) fetch_rows(from + KSTEP);
        if (weigh) {
            const int steps = count - from < KSTEP ? count - from : KSTEP;
#pragma unroll(S::Q * S::C < 16 ? 2 : 1)
            for (int k = 0; k < steps; k++) {
                double y[S::C];
#pragma unroll
                for (int c = 0; c < S::C; c++) y[c] = of_rows[k][across + c * S::ACROSS];
#pragma unroll
                for (int q = 0; q < S::Q; q++) {
                    const double w = of_weights[side][k][down + q * S::DOWN];
#pragma unroll
                    for (int c = 0; c < S::C; c++) sum[q][c] = fma(w, y[c] - origin[q][c], sum[q][c]);
                }
            }
            __syncthreads();
        }
        weigh = next_weigh;
    }

#pragma unroll
    for (int q = 0; q < S::Q; q++) {
#pragma unroll
        for (int c = 0; c < S::C; c++) {
            const int query = first_query + down + q * S::DOWN, column = first_column + across + c * S::ACROSS;
            // Rows left out would have made 0 of a -0: no sum is one.
            if (query < part.queries && column < rows.dim && is(part, few, query, segment, BY_DIFFERENCES))
                partial[((long long)segment * part.queries + query) * rows.dim + column] = sum[q][c] + 0.0;
        }
    }
}

#define ACCUMULATE(NAME, SHAPE)                                                                                        \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
    NAME(Rows rows, Part part, const int *few, const double *weights, const double *multiplier, const double *shift,   \
         double *partial) {                                                                                            \
        accumulate<SHAPE>(rows, part, few, weights, multiplier, shift, partial);                                       \
    }
ACCUMULATE(mnemo_accumulate_8, Low)
ACCUMULATE(mnemo_accumulate_64, High)

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_merge_means(Part part, int dim, const double *partial, const double *scales, const Record *running,
                  double *mean) {
    const long long numbers = (long long)part.queries * dim;
    for (long long at = (long long)blockIdx.x * THREADS + threadIdx.x; at < numbers;
         at += (long long)gridDim.x * THREADS) {
        const long long query = place_of(at, dim).row;
        double sum = part.first_segment == 0 ? 0.0 : mean[at];
        for (int s = 0; s < part.segments; s++) {
            const double next = partial[s * numbers + at];
            const double *scale = scales ? scales + 2 * (query * part.segments + s) : nullptr;
            sum = scale ? fma(scale[1], next, scale[0] * sum) : sum + next;
        }
        mean[at] = running ? sum / (1.0 + running[query].rest) : sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_finish(int queries, const double *precision, const unsigned *subset, const Record *running, double *log_sum,
             double *entropy, double *distance, long long *nearest) {
    const int query = blockIdx.x * THREADS + threadIdx.x;
    if (query >= queries) return;
    const Record sum = running[query];
    const bool is_near = sum.distance < infinity();
    const double log_rest = log1p(sum.rest);
    if (log_sum) log_sum[query] = log_rest - 0.5 * precision[query] * sum.distance;
    if (entropy) entropy[query] = log_rest + sum.slope / (1.0 + sum.rest);
    if (distance) distance[query] = is_near ? sqrt(sum.distance) : sum.rest;
    if (nearest) nearest[query] = is_near ? row_number(subset, sum.row) : -1;
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_reweight(Part part, const double *precision, const Record *running, double *weights) {
    const int query = blockIdx.x, segment = blockIdx.y;
    const int here = rows_of(part, segment);
    const double h = 0.5 * precision[query];
    const Record sum = running[query];
    const double total = 1.0 + sum.rest;
    double *own = weights + buffer_at(part, query, segment);
    for (int c = threadIdx.x; c < here; c += THREADS) own[c] = exp(-h * (own[c] - sum.distance)) / total;
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_weighted_sums(Part part, const double *weights, const double *values, double *sums) {
    __shared__ double room[WARPS];
    const int query = blockIdx.x, segment = blockIdx.y;
    const int here = rows_of(part, segment);
    const long long from = buffer_at(part, query, segment);
    double sum = 0.0;
    for (int c = threadIdx.x; c < here; c += THREADS) sum = fma(weights[from + c], values[from + c], sum);
    sum = block_sum(sum, room);
    if (threadIdx.x == 0) sums[(long long)query * part.segments + segment] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_merge_sums(Part part, const double *sums, double *total) {
    const int query = blockIdx.x * THREADS + threadIdx.x;
    if (query >= part.queries) return;
    double sum = part.first_segment == 0 ? 0.0 : total[query];
    for (int s = 0; s < part.segments; s++) sum += sums[(long long)query * part.segments + s];
    total[query] = sum;
}
