// The first pass of empirical.cu for a query and a segment of which few rows have weight: bounds (bounds.cu) find them, and
// they alone are measured and summed.
//
// The row with the least bound is measured; with D its distance, a row whose bound is above D + cut / h weighs less than
// exp(-cut) of the segment's nearest and is left out. Bounds only save work: what is summed are the rows with
// h (D_n - D) <= cut. Whether there are few depends on the query and the segment alone.
//
// For each part:
//   mnemo_bound -> `low`
//   mnemo_near(rows, part, x, precision, cut, query_squares, radius, low, few, weights, records)
//       few [queries, segments] <- how many rows may count. Where more than FEW do it is one of Way instead, and kernels that get
//       `few` do what is to be done: BY_PRODUCTS where the error of products is nothing to what is asked, with h E <= 1e-8,
//       E <= 1e-6 R^2, and D >= 1e-9 R^2, since the mean less x may be as short as the nearest row less x; records have E then.
//       query_squares [queries]: |x'|^2, radius: R, see few.cuh.
//       low <- positions of these rows in the segment, ascending, as integers; weights <- their w, as in mnemo_weights;
//       records likewise. precision and cut: w is 0 where h (D_n - D) > cut. Grid (queries, segments).
//   mnemo_accumulate_near(rows, part, low, few, weights, shift, partial)
//       As mnemo_accumulate_8 and with its bits. Grid (ceil(dim / 256), queries, segments).
//
// Every kernel: block 256, no dynamic shared memory.
#include "few.cuh"
#include "records.cuh"

// The most rows of a segment that are few. One a thread.
constexpr int FEW = SEGMENT / 16;
static_assert(FEW <= THREADS, "one a thread");

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_near(Rows rows, Part part, const double *x, const double *precision, double cut, const double *query_squares,
           double radius, unsigned *low, int *few, double *weights, Record *records) {
    // Rows next to each other are a thread's own, so that those found stay in order.
    constexpr int EACH = (SEGMENT + THREADS - 1) / THREADS;
    __shared__ Nearest nearest_of[WARPS];
    __shared__ double room[WARPS];
    __shared__ int found[WARPS];
    __shared__ int place[FEW];
    __shared__ double distance[FEW];
    const int query = blockIdx.x, segment = blockIdx.y;
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const long long start = start_of(part, segment), at = buffer_at(part, query, segment);
    const int here = rows_of(part, segment);
    const double h = 0.5 * precision[query];
    x += (long long)query * rows.dim;

    float bound[EACH];
    Nearest least = nothing();
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = threadIdx.x * EACH + i;
        bound[i] = c < here ? bound_of(low[at + c]) : 0.0f;
        if (c < here) least = nearer(least, {(double)bound[i], c});
    }
    least = block_nearest(least, nearest_of);

    double limit = 0.0;
    for (int j = threadIdx.x; j < rows.dim; j += THREADS) {
        const double difference = value_of(rows, row_number(rows.subset, start + least.at), j) - x[j];
        limit = fma(difference, difference, limit);
    }
    const double near = block_sum(limit, room);
    limit = (near + cut / h) * WIDER;

    // Of NaN all are near.
    int own = 0;
#pragma unroll
    for (int i = 0; i < EACH; i++) own += threadIdx.x * EACH + i < here && !((double)bound[i] > limit);
    int before = own;
    for (int apart = 1; apart < WARP; apart *= 2) {
        const int other = __shfl_up_sync(0xffffffffu, before, apart);
        if (lane >= apart) before += other;
    }
    if (lane == WARP - 1) found[warp] = before;
    __syncthreads();
    before -= own;
    int count = 0;
    for (int i = 0; i < WARPS; i++) {
        if (i < warp) before += found[i];
        count += found[i];
    }
    Record &record = records[(long long)query * part.segments + segment];
    if (threadIdx.x == 0) {
        const double error = error_of_products(rows.dim, query_squares[query], radius);
        const double wide = radius * radius;
        const bool products = h * error <= 1e-8 && error <= 1e-6 * wide && near >= 1e-9 * wide;
        few[query * part.segments + segment] = count <= FEW ? count : products ? BY_PRODUCTS : BY_DIFFERENCES;
        if (count > FEW) record.error = error;
    }
    if (count > FEW) return;
#pragma unroll
    for (int i = 0; i < EACH; i++) {
        const int c = threadIdx.x * EACH + i;
        if (c < here && !((double)bound[i] > limit)) place[before++] = c;
    }
    __syncthreads();

    measure_few(rows, start, place, 0, count, x, [&](int i, double d) { distance[i] = d; });
    __syncthreads();

    const bool is_near = threadIdx.x < count;
    const Nearest mine = is_near ? Nearest{distance[threadIdx.x], place[threadIdx.x]} : nothing();
    const Nearest nearest = block_nearest(mine, nearest_of);
    double rest = 0.0, slope = 0.0;
    if (is_near) {
        const double above = h * (mine.distance - nearest.distance);
        const double w = above > cut ? 0.0 : exp(-above);
        low[at + threadIdx.x] = (unsigned)mine.at;
        weights[at + threadIdx.x] = w;
        if (mine.at != nearest.at) {
            rest = w;
            slope = weighted(w, above);
        }
    }
    rest = block_sum(rest, room);
    slope = block_sum(slope, room);
    if (threadIdx.x == 0) record = {nearest.distance, rest, slope, start + nearest.at, 0.0};
}

extern "C" __global__ void __launch_bounds__(THREADS, 2)
mnemo_accumulate_near(Rows rows, Part part, const unsigned *low, const int *few, const double *weights,
                      const double *shift, double *partial) {
    __shared__ unsigned place[FEW];
    __shared__ double weight[FEW];
    const int query = blockIdx.y, segment = blockIdx.z, column = blockIdx.x * THREADS + threadIdx.x;
    const int count = few[query * part.segments + segment];
    if (count < 0) return;
    const long long at = buffer_at(part, query, segment);
    if (threadIdx.x < count) {
        place[threadIdx.x] = low[at + threadIdx.x];
        weight[threadIdx.x] = weights[at + threadIdx.x];
    }
    __syncthreads();
    if (column >= rows.dim) return;
    const double origin = shift ? shift[(long long)query * rows.dim + column] : 0.0;
    const int columns[AT_ONCE] = {column, column, column, column};
    double sum = 0.0;
    for (int first = 0; first < count; first += AT_ONCE) {
        long long row[AT_ONCE];
        double value[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            row[i] = first + i < count ? start_of(part, segment) + place[first + i] : -1;
        values_of(rows, row, columns, value);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++)
            if (first + i < count) sum = fma(weight[first + i], value[i] - origin, sum);
    }
    partial[((long long)segment * part.queries + query) * rows.dim + column] = sum + 0.0;
}
