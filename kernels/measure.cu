// Squared distances and projections of all rows of some segments, by differences.
//
// mnemo_measure_8, mnemo_measure_64(rows, part, x, NULL, few, out)
//     out[q, s, c] <- |y - x_q|^2, y row c of segment part.first_segment + s
// mnemo_project_8, mnemo_project_64(rows, part, x, v, few, out)
//     out[q, s, c] <- (y - x_q) . v_q
//     few: NULL, or [queries, segments]: only where it says BY_DIFFERENCES (near.cu).
//     x, v [queries, dim]; out is a buffer, of which only places of rows that are there are written.
//     Block 256; grid (ceil(part.queries / 8 or 64), ceil(SEGMENT / 128 or 64), part.segments): `_8` has tiles of 8 queries and 128
//     rows, `_64` of 64 and 64. No dynamic shared memory. Same bits from both.
//
// mnemo_decode(rows, to)             to [count, dim] <- the rows' values. Block 256, any grid.
// mnemo_row_factors(rows, factor)    factor [count] <- 1 / |y|, 0 for a row of zeros, below 0 for a row of tiny numbers
//     (see Rows); rows.factor is not read. One warp per row: block 256, any grid.
#include "tile.cuh"

template <class S, bool PROJECT>
__device__ inline void measure(const Rows &rows, const Part &part, const double *x, const double *v, const int *few,
                               double *out) {
    __shared__ Stage<S::COLUMNS> of_rows;
    __shared__ Stage<S::QUERIES> of_x;
    __shared__ Stage<PROJECT ? S::QUERIES : 1> of_v;
    const int segment = blockIdx.z;
    const long long start = start_of(part, segment);
    const int count = rows_of(part, segment);
    const int first_row = blockIdx.y * S::COLUMNS;
    if (first_row >= count) return;
    const int first_query = blockIdx.x * S::QUERIES;
    if (!any_is<S::QUERIES>(part, few, first_query, segment, BY_DIFFERENCES)) return;
    const int dim = rows.dim;

    // Each thread stages one k of several rows and queries: threads next to each other read numbers next to each other.
    constexpr int ROWS_APART = THREADS / KSTEP;
    const int own_k = threadIdx.x % KSTEP, own = threadIdx.x / KSTEP;
    double next_row[S::RIGHT], next_x[S::LEFT], next_v[S::LEFT];
    const auto fetch = [&](int from) {
        const int k = from + own_k;
        long long row[S::RIGHT];
        int column[S::RIGHT];
#pragma unroll
        for (int i = 0; i < S::RIGHT; i++) {
            const int c = first_row + own + i * ROWS_APART;
            row[i] = c < count && k < dim ? start + c : -1;
            column[i] = k;
        }
        values_of(rows, row, column, next_row);
#pragma unroll
        for (int i = 0; i < S::LEFT; i++) {
            const int query = first_query + own + i * ROWS_APART;
            const bool there = own + i * ROWS_APART < S::QUERIES && query < part.queries && k < dim;
            const long long at = (long long)query * dim + k;
            next_x[i] = there ? x[at] : 0.0;
            if (PROJECT) next_v[i] = there ? v[at] : 0.0;
        }
    };
    const auto stage = [&]() {
#pragma unroll
        for (int i = 0; i < S::RIGHT; i++) of_rows[own_k][own + i * ROWS_APART] = next_row[i];
#pragma unroll
        for (int i = 0; i < S::LEFT; i++) {
            const int query = own + i * ROWS_APART;
            if (query < S::QUERIES) {
                of_x[own_k][query] = next_x[i];
                if (PROJECT) of_v[own_k][query] = next_v[i];
            }
        }
    };

    const int across = threadIdx.x % S::ACROSS, down = threadIdx.x / S::ACROSS;
    double sum[S::Q][S::C] = {};
    // One turn ahead: the first only fetches.
    for (int from = -KSTEP; from < dim; from += KSTEP) {
        if (from >= 0) stage();
        __syncthreads();
        if (from + KSTEP < dim) fetch(from + KSTEP);
        if (from < 0) continue;
        const int steps = dim - from < KSTEP ? dim - from : KSTEP;
#pragma unroll 2
        for (int k = 0; k < steps; k++) {
            double y[S::C];
#pragma unroll
            for (int c = 0; c < S::C; c++) y[c] = of_rows[k][across + c * S::ACROSS];
#pragma unroll
            for (int q = 0; q < S::Q; q++) {
                const double x_k = of_x[k][down + q * S::DOWN];
                const double v_k = PROJECT ? of_v[k][down + q * S::DOWN] : 0.0;
#pragma unroll
                for (int c = 0; c < S::C; c++) {
                    const double difference = y[c] - x_k;
                    sum[q][c] = fma(difference, PROJECT ? v_k : difference, sum[q][c]);
                }
            }
        }
        __syncthreads();
    }

#pragma unroll
    for (int q = 0; q < S::Q; q++) {
        const int query = first_query + down + q * S::DOWN;
        if (query >= part.queries || !is(part, few, query, segment, BY_DIFFERENCES)) continue;
        double *to = out + buffer_at(part, query, segment);
#pragma unroll
        for (int c = 0; c < S::C; c++) {
            const int row = first_row + across + c * S::ACROSS;
            if (row < count) to[row] = sum[q][c];
        }
    }
}

#define MEASURE(NAME, SHAPE, PROJECT)                                                                                  \
    extern "C" __global__ void __launch_bounds__(THREADS, 2)                                                           \
    NAME(Rows rows, Part part, const double *x, const double *v, const int *few, double *out) {                        \
        measure<SHAPE, PROJECT>(rows, part, x, v, few, out);                                                           \
    }
MEASURE(mnemo_measure_8, Low, false)
MEASURE(mnemo_measure_64, High, false)
MEASURE(mnemo_project_8, Low, true)
MEASURE(mnemo_project_64, High, true)

extern "C" __global__ void __launch_bounds__(THREADS) mnemo_decode(Rows rows, double *to) {
    for (long long at = (long long)blockIdx.x * THREADS + threadIdx.x; at < rows.count * rows.dim;
         at += (long long)gridDim.x * THREADS) {
        const Place place = place_of(at, rows.dim);
        to[at] = value_of(rows, row_number(rows.subset, place.row), place.column);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) mnemo_row_factors(Rows rows, double *factor) {
    // Squares of smaller numbers would be subnormal or 0.
    constexpr double SMALL = 1e-100;
    rows.factor = nullptr;
    const int lane = threadIdx.x % WARP;
    for (long long at = (long long)blockIdx.x * WARPS + threadIdx.x / WARP; at < rows.count;
         at += (long long)gridDim.x * WARPS) {
        const long long n = row_number(rows.subset, at);
        double largest = 0.0;
        for (int j = lane; j < rows.dim; j += WARP) largest = fmax(largest, fabs(value_of(rows, n, j)));
        for (int step = WARP / 2; step > 0; step /= 2)
            largest = fmax(largest, __shfl_xor_sync(0xffffffffu, largest, step));
        const bool tiny = largest < SMALL;
        double squares = 0.0;
        for (int j = lane; j < rows.dim; j += WARP) {
            const double value = value_of(rows, n, j) * (tiny ? TINY_ROWS_GROW : 1.0);
            squares = fma(value, value, squares);
        }
        squares = warp_sum(squares);
        if (lane == 0) factor[at] = largest == 0.0 ? 0.0 : tiny ? -1.0 / sqrt(squares) : 1.0 / sqrt(squares);
    }
}
