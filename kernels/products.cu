// What measure.cu and empirical.cu do for a query and a segment of which many rows have weight, by products of float64 matrices
// on tensor cores (matrix.cuh) where that is as exact as it has to be: near.cu says where.
//
// With c a point in the middle of the data, x' = x - c and y' = y - c:
//
//     |x - y|^2 = |x'|^2 + |y'|^2 - 2 x'.y'        sum w (y - s) = sum w y' + (c - s) sum w
//
// Distances are off by at most E = error_of_products (few.cuh).
//
// The nearest row's distance, from which those of all others are taken, is the one that near.cu would have found, bit for bit: copies
// of a row tie, whatever way their segments are summed, and a second pass meets the distance that the first has taken. So wherever
// there are bounds, rows that may be the nearest but for rounding are measured again, as near.cu does.
//
//   mnemo_measure_products(rows, part, centre, x, row_squares, query_squares, few, distances)
//       distances [queries, segments, SEGMENT] <- |y - x|^2. row_squares [rows of the set], query_squares [queries]: |y'|^2 and
//       |x'|^2. Grid (ceil(queries / 64), ceil(SEGMENT / 128), segments).
//   mnemo_measure_again(rows, part, x, few, records, running, distances)
//       distances <- once more where they may be the least of the segment, whose E is that of `records`; where few is not below 0
//       nothing is done. few NULL, in a second pass: where they may be the distance of `running`. Grid (queries, segments).
//   mnemo_weights
//   mnemo_accumulate_products(rows, part, centre, few, weights, records, shift, partial)
//       As mnemo_accumulate_64. Grid (ceil(dim / 128), ceil(queries / 64), segments).
//
// Every kernel: block 256, no dynamic shared memory.
#include "few.cuh"
#include "matrix.cuh"
#include "records.cuh"

// Queries and columns (rows, or numbers of a row) of a block, and of a warp: 4 by 4 products of 8 by 8. Numbers of the inner index
// that are staged at a time.
constexpr int QUERIES = 64, COLUMNS = 128, STEP = 8;
constexpr int WARP_SIDE = 32, TILES = WARP_SIDE / 8;
static_assert(QUERIES / WARP_SIDE * (COLUMNS / WARP_SIDE) == WARPS, "one block");
// Lanes l / 4 and l % 4 apart meet in no bank.
constexpr int ALONG_STEP = STEP + 4, ALONG_COLUMNS = COLUMNS + 4;

// sum += a b' of what is staged: a [QUERIES][STEP] and, by `b_at`, b of COLUMNS and STEP. Queries from `left` on are not there.
template <class At>
__device__ inline void add_staged(double (&sum)[TILES][TILES][2], const double (&a)[QUERIES][ALONG_STEP], At b_at,
                                  int left) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int query = warp / (COLUMNS / WARP_SIDE) * WARP_SIDE, column = warp % (COLUMNS / WARP_SIDE) * WARP_SIDE;
#pragma unroll
    for (int k = 0; k < STEP; k += 4) {
        double b[TILES];
#pragma unroll
        for (int j = 0; j < TILES; j++) b[j] = b_at(column + 8 * j + lane / 4, k + lane % 4);
#pragma unroll
        for (int i = 0; i < TILES; i++) {
            // Where there are few queries the rest of their places costs nothing.
            if (query + 8 * i >= left) continue;
            const double own = a[query + 8 * i + lane / 4][k + lane % 4];
#pragma unroll
            for (int j = 0; j < TILES; j++) add_products(sum[i][j], own, b[j]);
        }
    }
}

// Visits a thread's sums: each(query of the block, column of the block, sum).
template <class Each> __device__ inline void for_each_sum(const double (&sum)[TILES][TILES][2], Each each) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int query = warp / (COLUMNS / WARP_SIDE) * WARP_SIDE, column = warp % (COLUMNS / WARP_SIDE) * WARP_SIDE;
#pragma unroll
    for (int i = 0; i < TILES; i++)
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int e = 0; e < 2; e++)
                each(query + 8 * i + lane / 4, column + 8 * j + 2 * (lane % 4) + e, sum[i][j][e]);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_measure_products(Rows rows, Part part, const double *centre, const double *x, const double *row_squares,
                       const double *query_squares, const int *few, double *distances) {
    __shared__ double of_x[QUERIES][ALONG_STEP];
    __shared__ double of_rows[COLUMNS][ALONG_STEP];
    const int segment = blockIdx.z;
    const long long start = start_of(part, segment);
    const int count = rows_of(part, segment);
    const int first_row = blockIdx.y * COLUMNS, first_query = blockIdx.x * QUERIES;
    if (first_row >= count || !any_is<QUERIES>(part, few, first_query, segment, BY_PRODUCTS)) return;

    // Each thread stages one k of several rows and queries.
    constexpr int APART = THREADS / STEP, OF_ROWS = COLUMNS / APART, OF_X = QUERIES / APART;
    const int own_k = threadIdx.x % STEP, own = threadIdx.x / STEP;
    double next_row[OF_ROWS], next_x[OF_X], next_centre = 0.0;
    const auto fetch = [&](int from) {
        const int k = from + own_k;
        long long row[OF_ROWS];
        int column[OF_ROWS];
        next_centre = k < rows.dim ? centre[k] : 0.0;
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) {
            const int c = first_row + own + i * APART;
            row[i] = c < count && k < rows.dim ? start + c : -1;
            column[i] = k;
        }
        values_of(rows, row, column, next_row);
#pragma unroll
        for (int i = 0; i < OF_X; i++) {
            const int query = first_query + own + i * APART;
            next_x[i] = query < part.queries && k < rows.dim ? x[(long long)query * rows.dim + k] : next_centre;
        }
    };
    double sum[TILES][TILES][2] = {};
    fetch(0);
    for (int from = 0; from < rows.dim; from += STEP) {
        // Rows that are not there give what nobody looks at.
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) of_rows[own + i * APART][own_k] = next_row[i] - next_centre;
#pragma unroll
        for (int i = 0; i < OF_X; i++) of_x[own + i * APART][own_k] = next_x[i] - next_centre;
        __syncthreads();
        if (from + STEP < rows.dim) fetch(from + STEP);
        add_staged(sum, of_x, [&](int row, int k) { return of_rows[row][k]; }, part.queries - first_query);
        __syncthreads();
    }

    for_each_sum(sum, [&](int q, int c, double product) {
        const int query = first_query + q, row = first_row + c;
        if (query >= part.queries || row >= count || !is(part, few, query, segment, BY_PRODUCTS)) return;
        const double distance =
            query_squares[query] + row_squares[row_number(rows.subset, start + row)] - 2.0 * product;
        distances[buffer_at(part, query, segment) + row] = distance < 0.0 ? 0.0 : distance;
    });
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_measure_again(Rows rows, Part part, const double *x, const int *few, const Record *records, const Record *running,
                    double *distances) {
    __shared__ Nearest nearest_of[WARPS];
    __shared__ unsigned short place[SEGMENT];
    __shared__ int found;
    const int query = blockIdx.x, segment = blockIdx.y;
    if (few && few[query * part.segments + segment] >= 0) return;
    const int here = rows_of(part, segment);
    double *own = distances + buffer_at(part, query, segment);
    Nearest nearest = nothing();
    if (few) {
        for (int c = threadIdx.x; c < here; c += THREADS) nearest = nearer(nearest, {own[c], c});
        nearest = block_nearest(nearest, nearest_of);
    } else {
        nearest.distance = running[query].distance;
    }
    double limit = nearest.distance * (1.0 + error_of_order(rows.dim));
    if (is(part, few, query, segment, BY_PRODUCTS))
        limit += 2.0 * records[(long long)query * part.segments + segment].error;
    if (threadIdx.x == 0) found = 0;
    __syncthreads();
    for (int c = threadIdx.x; c < here; c += THREADS)
        if (own[c] <= limit) place[atomicAdd(&found, 1)] = (unsigned short)c;
    __syncthreads();
    measure_few(rows, start_of(part, segment), place, 0, found, x + (long long)query * rows.dim,
                [&](int i, double distance) { own[place[i]] = distance; });
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_accumulate_products(Rows rows, Part part, const double *centre, const int *few, const double *weights,
                          const Record *records, const double *shift, double *partial) {
    __shared__ double of_weights[QUERIES][ALONG_STEP];
    __shared__ double of_rows[STEP][ALONG_COLUMNS];
    const int segment = blockIdx.z;
    const long long start = start_of(part, segment);
    const int count = rows_of(part, segment);
    const int first_query = blockIdx.y * QUERIES, first_column = blockIdx.x * COLUMNS;
    if (!any_is<QUERIES>(part, few, first_query, segment, BY_PRODUCTS)) return;

    // Rows are staged along their columns, weights along the rows they belong to.
    constexpr int ROWS_APART = THREADS / COLUMNS, OF_ROWS = STEP / ROWS_APART;
    constexpr int QUERIES_APART = THREADS / STEP, OF_WEIGHTS = QUERIES / QUERIES_APART;
    const int own_column = threadIdx.x % COLUMNS, own_row = threadIdx.x / COLUMNS;
    const int own_c = threadIdx.x % STEP, own_query = threadIdx.x / STEP;
    const bool in_row = first_column + own_column < rows.dim;
    const double own_centre = in_row ? centre[first_column + own_column] : 0.0;
    bool takes_part[OF_WEIGHTS];
#pragma unroll
    for (int i = 0; i < OF_WEIGHTS; i++) {
        const int query = first_query + own_query + i * QUERIES_APART;
        takes_part[i] = query < part.queries && is(part, few, query, segment, BY_PRODUCTS);
    }
    double next_row[OF_ROWS], next_weight[OF_WEIGHTS];
    const auto fetch = [&](int from) {
        long long row[OF_ROWS];
        int column[OF_ROWS];
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) {
            const int c = from + own_row + i * ROWS_APART;
            row[i] = c < count && in_row ? start + c : -1;
            column[i] = first_column + own_column;
        }
        values_of(rows, row, column, next_row);
#pragma unroll
        for (int i = 0; i < OF_WEIGHTS; i++) {
            const int query = first_query + own_query + i * QUERIES_APART, c = from + own_c;
            next_weight[i] = takes_part[i] && c < count ? weights[buffer_at(part, query, segment) + c] : 0.0;
        }
    };
    double sum[TILES][TILES][2] = {};
    fetch(0);
    for (int from = 0; from < count; from += STEP) {
#pragma unroll
        for (int i = 0; i < OF_ROWS; i++) of_rows[own_row + i * ROWS_APART][own_column] = next_row[i] - own_centre;
#pragma unroll
        for (int i = 0; i < OF_WEIGHTS; i++) of_weights[own_query + i * QUERIES_APART][own_c] = next_weight[i];
        __syncthreads();
        if (from + STEP < count) fetch(from + STEP);
        add_staged(sum, of_weights, [&](int column, int k) { return of_rows[k][column]; }, part.queries - first_query);
        __syncthreads();
    }

    for_each_sum(sum, [&](int q, int c, double product) {
        const int query = first_query + q, column = first_column + c;
        if (query >= part.queries || column >= rows.dim || !is(part, few, query, segment, BY_PRODUCTS)) return;
        const double origin = shift ? shift[(long long)query * rows.dim + column] : 0.0;
        const double total = 1.0 + records[(long long)query * part.segments + segment].rest;
        partial[((long long)segment * part.queries + query) * rows.dim + column] =
            fma(total, centre[column] - origin, product) + 0.0;
    });
}
