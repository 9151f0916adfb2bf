// Row-wise sums, copies and checks on working matrices.
//
// Every kernel: block 256, any grid (work is strided over it), no dynamic shared memory. One thread per element, or one
// warp per row where a sum over the row is wanted; then 8 rows per block.
//
// mnemo_load(from, dtype, stride, rows, cols, to, limit, first_bad)
//     to [rows, cols] <- from: F32 or F64, its rows `stride` elements apart.
//     first_bad: NULL, or the least of its own value and the numbers of rows with an element that is not at most `limit`
//     in magnitude (NaN is not). Its owner begins with the largest number.
// mnemo_store(from, rows, cols, to, dtype, stride, limit, first_bad)
//     to <- from [rows, cols], rounded once; first_bad as above, on numbers before rounding.
// mnemo_combine(Combine)                    out <- keep out + sum of factor * matrix, see combine.cuh.
// mnemo_dot_rows(x, y, rows, cols, out)     out [rows] <- x_i . y_i
// mnemo_error_norms(error, x, y, rows, cols, rtol, atol, out)
//     out [rows] <- root mean square over a row of error / (atol + rtol max(|x|, |y|))
// mnemo_first_beyond(x, rows, cols, limit, first_bad)     as in mnemo_load
// mnemo_copy_rows(from, from_index, to, to_index, rows, cols)
//     row to_index[i] of `to` <- row from_index[i] of `from`, i < rows; NULL: i itself. The two may not overlap.
// mnemo_fill(to, count, value)              to [count] <- value
#include "combine.cuh"

// Visits elements `at` of `count`, strided over the grid.
#define FOR_EACH(at, count)                                                                                            \
    _Pragma("unroll 1")                                                                                                \
    for (long long at = (long long)blockIdx.x * THREADS + threadIdx.x; at < (count);                                   \
         at += (long long)gridDim.x * THREADS)

// The same for rows, one warp each.
#define FOR_EACH_ROW(row, rows)                                                                                        \
    _Pragma("unroll 1")                                                                                                \
    for (long long row = (long long)blockIdx.x * WARPS + threadIdx.x / WARP; row < (rows);                             \
         row += (long long)gridDim.x * WARPS)

// Notes a row with an element beyond the limit.
__device__ inline void check(double value, double limit, long long row, unsigned long long *first_bad) {
    if (first_bad && !(fabs(value) <= limit)) atomicMin(first_bad, (unsigned long long)row);
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_load(const void *from, int dtype, long long stride, long long rows, int cols, double *to, double limit,
           unsigned long long *first_bad) {
    FOR_EACH(at, rows * cols) {
        const Place place = place_of(at, cols);
        const long long source = place.row * stride + place.column;
        const double value = dtype == F32 ? raw_value<F32>(from, source) : raw_value<F64>(from, source);
        check(value, limit, place.row, first_bad);
        to[at] = value;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_store(const double *from, long long rows, int cols, void *to, int dtype, long long stride, double limit,
            unsigned long long *first_bad) {
    FOR_EACH(at, rows * cols) {
        const Place place = place_of(at, cols);
        const double value = from[at];
        check(value, limit, place.row, first_bad);
        const long long target = place.row * stride + place.column;
        if (dtype == F32) ((float *)to)[target] = __double2float_rn(value);
        else ((double *)to)[target] = value;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) mnemo_combine(Combine sum) {
    FOR_EACH(at, sum.rows * sum.cols) sum.out[at] = combined(sum, place_of(at, sum.cols).row, at);
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_dot_rows(const double *x, const double *y, long long rows, int cols, double *out) {
    FOR_EACH_ROW(row, rows) {
        double sum = 0.0;
        for (int j = threadIdx.x % WARP; j < cols; j += WARP) sum = fma(x[row * cols + j], y[row * cols + j], sum);
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) out[row] = sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 4)
mnemo_error_norms(const double *error, const double *x, const double *y, long long rows, int cols, double rtol,
                  double atol, double *out) {
    FOR_EACH_ROW(row, rows) {
        double sum = 0.0;
        for (int j = threadIdx.x % WARP; j < cols; j += WARP) {
            const long long at = row * cols + j;
            const double allowed = atol + rtol * fmax(fabs(x[at]), fabs(y[at]));
            // No error needs no allowance.
            const double share = error[at] == 0.0 ? 0.0 : error[at] / allowed;
            sum = fma(share, share, sum);
        }
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) out[row] = sqrt(sum / (double)cols);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_first_beyond(const double *x, long long rows, int cols, double limit, unsigned long long *first_bad) {
    FOR_EACH(at, rows * cols) {
        if (!(fabs(x[at]) <= limit)) atomicMin(first_bad, (unsigned long long)place_of(at, cols).row);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
mnemo_copy_rows(const double *from, const long long *from_index, double *to, const long long *to_index, long long rows,
                int cols) {
    FOR_EACH(at, rows * cols) {
        const Place place = place_of(at, cols);
        const long long source = from_index ? from_index[place.row] : place.row;
        const long long target = to_index ? to_index[place.row] : place.row;
        to[target * cols + place.column] = from[source * cols + place.column];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) mnemo_fill(double *to, long long count, double value) {
    FOR_EACH(at, count) to[at] = value;
}
