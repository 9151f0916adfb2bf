// Rows of up to 128 numbers: distances, weights and sums of a segment in one kernel, without a buffer of one number per query
// and row. What comes out is what mnemo_weights and mnemo_accumulate with shift = x or NULL give, the sums in another order.
//
// mnemo_flash_32, mnemo_flash_64, mnemo_flash_128(rows, part, x, precision, whole, records, partial)
//     rows.dim at most the number D in the name.
//     records [queries, segments] as in empirical.cu; partial [segments, queries, dim] <- sum over the segment of
//     w (y - x_q), or where `whole` is not 0 of w y; or NULL. Next come mnemo_merge_records and mnemo_merge_means of
//     empirical.cu.
//     Block 256; grid (ceil(queries / 32), segments); dynamic shared memory (64 (D + 1) + 32 * 33) * 8 bytes: 25344, 41728
//     and 74496. More than 48 KB must be allowed for first (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
//
// 32 queries stay, 32 rows come at a time. Threads share out the 32 x 32 distances; then each warp has four queries to itself:
// a lane weighs one row for each, relative to the smallest distance so far, and adds up D / 32 columns of each sum. Longer
// rows gain nothing from this: what is read and written between kernels is little beside what is computed.
#include "records.cuh"

constexpr int QUERIES = 32, ROWS = 32;
// Queries of a warp.
constexpr int EACH = QUERIES / WARPS;
static_assert(ROWS == WARP, "a lane for each row");

// The sums of one query that a lane has: over rows number lane, lane + 32, ... but the nearest of all.
struct Share {
    double rest, slope;
};

// Takes a nearer row for reference: `above` is by how much more all others are above it now, times h; w = exp(-above). The
// row that was the nearest is one of lane 0's from now on.
__device__ inline Share relative_to_nearer(const Share &old, double above, double w, bool adds_nearest) {
    const double nearest = adds_nearest ? 1.0 : 0.0;
    return {w * (old.rest + nearest), fma(w, old.slope, weighted(w, above) * (old.rest + nearest))};
}

template <int D>
__device__ inline void flash(const Rows &rows, const Part &part, const double *x, const double *precision, bool whole,
                             Record *records, double *partial) {
    extern __shared__ double shared[];
    // A number of padding: lanes read along rows and along columns, both without bank conflicts.
    double(*of_x)[D + 1] = reinterpret_cast<double(*)[D + 1]>(shared);
    double(*of_rows)[D + 1] = of_x + QUERIES;
    // Distances first, then weights.
    double(*weight)[ROWS + 1] = reinterpret_cast<double(*)[ROWS + 1]>(of_rows + ROWS);

    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int segment = blockIdx.y, count = rows_of(part, segment), dim = rows.dim;
    const long long start = start_of(part, segment);
    const int first_query = blockIdx.x * QUERIES;
    const int queries = part.queries - first_query < QUERIES ? part.queries - first_query : QUERIES;

    // Each thread stages one column.
    constexpr int APART = THREADS / D, STAGED = ROWS * D / THREADS, AT_ONCE = STAGED < 8 ? STAGED : 8;
    const int column = threadIdx.x % D, down = threadIdx.x / D;
    for (int q = down; q < QUERIES; q += APART)
        of_x[q][column] = q < queries && column < dim ? x[(long long)(first_query + q) * dim + column] : 0.0;

    // 2 x 2 distances per thread.
    constexpr int HALF = 16;
    const int near_row = threadIdx.x % HALF, near_query = threadIdx.x / HALF;

    double h[EACH], smallest[EACH], sum[EACH][D / WARP] = {};
    int nearest[EACH];
    Share share[EACH] = {};
#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int q = warp * EACH + e;
        h[e] = q < queries ? 0.5 * precision[first_query + q] : 0.0;
        smallest[e] = infinity();
        nearest[e] = 0;
    }

    for (int from = 0; from < count; from += ROWS) {
        __syncthreads();
#pragma unroll 1
        for (int batch = 0; batch < STAGED; batch += AT_ONCE) {
            long long row[AT_ONCE];
            int columns[AT_ONCE];
            double value[AT_ONCE];
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) {
                const int c = from + down + (batch + i) * APART;
                row[i] = c < count && column < dim ? start + c : -1;
                columns[i] = column;
            }
            values_of(rows, row, columns, value);
#pragma unroll
            for (int i = 0; i < AT_ONCE; i++) of_rows[down + (batch + i) * APART][column] = value[i];
        }
        __syncthreads();

        if (near_query < queries) {
            double d[2][2] = {};
#pragma unroll 4
            for (int k = 0; k < dim; k++) {
#pragma unroll
                for (int q = 0; q < 2; q++) {
#pragma unroll
                    for (int r = 0; r < 2; r++) {
                        const double apart = of_rows[near_row + r * HALF][k] - of_x[near_query + q * HALF][k];
                        d[q][r] = fma(apart, apart, d[q][r]);
                    }
                }
            }
#pragma unroll
            for (int q = 0; q < 2; q++) {
#pragma unroll
                for (int r = 0; r < 2; r++) weight[near_query + q * HALF][near_row + r * HALF] = d[q][r];
            }
        }
        __syncthreads();

        const bool there = from + lane < count;
        unsigned weighs = 0;
#pragma unroll
        for (int e = 0; e < EACH; e++) {
            const int q = warp * EACH + e;
            if (q >= queries) {
                weight[q][lane] = 0.0;
                continue;
            }
            const double d = weight[q][lane];
            if (__any_sync(0xffffffffu, there && d < smallest[e])) {
                Nearest best = {there ? d : infinity(), lane};
                for (int step = WARP / 2; step > 0; step /= 2) {
                    const double distance = __shfl_xor_sync(0xffffffffu, best.distance, step);
                    const int at = __shfl_xor_sync(0xffffffffu, best.at, step);
                    best = nearer(best, {distance, at});
                }
                if (from > 0) {
                    const double above = h[e] * (smallest[e] - best.distance), w = exp(-above);
                    share[e] = relative_to_nearer(share[e], above, w, lane == 0);
#pragma unroll
                    for (int j = 0; j < D / WARP; j++) sum[e][j] *= w;
                }
                smallest[e] = best.distance;
                nearest[e] = from + best.at;
            }
            const double above = h[e] * (d - smallest[e]);
            const double w = there && above < 746.0 ? exp(-above) : 0.0;
            if (nearest[e] != from + lane) {
                share[e].rest += w;
                share[e].slope += weighted(w, above);
            }
            weight[q][lane] = w;
            if (__any_sync(0xffffffffu, w > 0.0)) weighs |= 1u << e;
        }
        __syncwarp();

        // As many queries at once as there are registers for.
        constexpr int TOGETHER = D > 64 ? 2 : EACH;
#pragma unroll
        for (int first = 0; first < EACH; first += TOGETHER) {
            if ((weighs >> first & ((1u << TOGETHER) - 1)) == 0) continue;
            double origin[TOGETHER][D / WARP];
#pragma unroll
            for (int e = 0; e < TOGETHER; e++) {
#pragma unroll
                for (int j = 0; j < D / WARP; j++)
                    origin[e][j] = whole ? 0.0 : of_x[warp * EACH + first + e][lane + j * WARP];
            }
#pragma unroll 2
            for (int r = 0; r < ROWS; r++) {
                double y[D / WARP];
#pragma unroll
                for (int j = 0; j < D / WARP; j++) y[j] = of_rows[r][lane + j * WARP];
#pragma unroll
                for (int e = 0; e < TOGETHER; e++) {
                    const double w = weight[warp * EACH + first + e][r];
#pragma unroll
                    for (int j = 0; j < D / WARP; j++) sum[first + e][j] = fma(w, y[j] - origin[e][j], sum[first + e][j]);
                }
            }
        }
    }

#pragma unroll
    for (int e = 0; e < EACH; e++) {
        const int q = warp * EACH + e;
        if (q >= queries) continue;
        const long long query = first_query + q;
        const double rest = warp_sum(share[e].rest), slope = warp_sum(share[e].slope);
        if (lane == 0) records[query * part.segments + segment] = {smallest[e], rest, slope, start + nearest[e]};
        if (!partial) continue;
        double *to = partial + ((long long)segment * part.queries + query) * dim;
#pragma unroll
        for (int j = 0; j < D / WARP; j++)
            // Rows without weight may have been left out, which spares a -0: no sum is one.
            if (lane + j * WARP < dim) to[lane + j * WARP] = sum[e][j] + 0.0;
    }
}

#define FLASH(D)                                                                                                       \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
    mnemo_flash_##D(Rows rows, Part part, const double *x, const double *precision, int whole, Record *records,        \
                    double *partial) {                                                                                 \
        flash<D>(rows, part, x, precision, whole != 0, records, partial);                                              \
    }
FLASH(32)
FLASH(64)
FLASH(128)
