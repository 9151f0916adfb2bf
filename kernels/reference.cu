// The same results by the obvious loops, one thread per output and everything in order: what the kernels beside this are
// compared with on a device. Nothing else uses them.
//
// mnemo_reference_measure(rows, queries, x, v, out)         out [queries, count] <- |y - x|^2; (y - x) . v if v is not NULL
// mnemo_reference_weigh(queries, count, precision, distances, weights, log_sum, entropy, nearest)
//     from distances [queries, count]: weights [queries, count] that sum to 1, ln sum exp(l), -sum w ln w, and the position
//     of the first of the smallest
// mnemo_reference_mean(rows, queries, weights, multiplier, shift, out)
//     out [queries, dim] <- sum of w (y - shift); w times multiplier [queries, count], shift [queries, dim], either NULL
// mnemo_reference_sum(queries, count, weights, values, out) out [queries] <- sum of w values
// mnemo_reference_nearest(queries, count, k, distances, distance, index)
//     distance [queries, k], ascending, as they are given; index [queries, k]
// mnemo_reference_dot_rows(x, y, rows, cols, out)
// mnemo_reference_error_norms(error, x, y, rows, cols, rtol, atol, out)
//     as those of elementwise.cu
//
// Every kernel: block 256, grid ceil(outputs / 256), where those that write several numbers a query count queries.
#include "common.cuh"

__device__ inline long long own() { return (long long)blockIdx.x * THREADS + threadIdx.x; }

extern "C" __global__ void mnemo_reference_measure(Rows rows, int queries, const double *x, const double *v, double *out) {
    if (own() >= queries * rows.count) return;
    const long long query = own() / rows.count, n = row_number(rows.subset, own() % rows.count);
    double sum = 0.0;
    for (int j = 0; j < rows.dim; j++) {
        const long long at = query * rows.dim + j;
        const double difference = value_of(rows, n, j) - x[at];
        sum += difference * (v ? v[at] : difference);
    }
    out[own()] = sum;
}

extern "C" __global__ void mnemo_reference_weigh(int queries, long long count, const double *precision,
                                                 const double *distances, double *weights, double *log_sum,
                                                 double *entropy, long long *nearest) {
    if (own() >= queries) return;
    const double h = 0.5 * precision[own()];
    const double *d = distances + own() * count;
    double *w = weights + own() * count;
    long long best = 0;
    for (long long n = 1; n < count; n++)
        if (d[n] < d[best]) best = n;
    double rest = 0.0, slope = 0.0;
    for (long long n = 0; n < count; n++) {
        const double above = h * (d[n] - d[best]);
        w[n] = exp(-above);
        if (n != best && w[n] > 0.0) {
            rest += w[n];
            slope += w[n] * above;
        }
    }
    for (long long n = 0; n < count; n++) w[n] /= 1.0 + rest;
    log_sum[own()] = log1p(rest) - h * d[best];
    entropy[own()] = log1p(rest) + slope / (1.0 + rest);
    nearest[own()] = best;
}

extern "C" __global__ void mnemo_reference_mean(Rows rows, int queries, const double *weights, const double *multiplier,
                                                const double *shift, double *out) {
    if (own() >= (long long)queries * rows.dim) return;
    const long long query = own() / rows.dim;
    const int j = (int)(own() % rows.dim);
    double sum = 0.0;
    for (long long n = 0; n < rows.count; n++) {
        const long long at = query * rows.count + n;
        const double w = weights[at] * (multiplier ? multiplier[at] : 1.0);
        sum += w * (value_of(rows, row_number(rows.subset, n), j) - (shift ? shift[own()] : 0.0));
    }
    out[own()] = sum;
}

extern "C" __global__ void mnemo_reference_sum(int queries, long long count, const double *weights, const double *values,
                                               double *out) {
    if (own() >= queries) return;
    double sum = 0.0;
    for (long long n = 0; n < count; n++) sum += weights[own() * count + n] * values[own() * count + n];
    out[own()] = sum;
}

extern "C" __global__ void mnemo_reference_nearest(int queries, long long count, long long k, const double *distances,
                                                   double *distance, long long *index) {
    if (own() >= queries) return;
    const double *d = distances + own() * count;
    long long last = -1;
    for (long long i = 0; i < k; i++) {
        // The first of the smallest that come after the last.
        long long next = -1;
        for (long long n = 0; n < count; n++) {
            const bool after = last < 0 || d[n] > d[last] || (d[n] == d[last] && n > last);
            if (after && (next < 0 || d[n] < d[next])) next = n;
        }
        distance[own() * k + i] = d[next];
        index[own() * k + i] = next;
        last = next;
    }
}

extern "C" __global__ void mnemo_reference_dot_rows(const double *x, const double *y, long long rows, int cols,
                                                    double *out) {
    if (own() >= rows) return;
    double sum = 0.0;
    for (int j = 0; j < cols; j++) sum += x[own() * cols + j] * y[own() * cols + j];
    out[own()] = sum;
}

extern "C" __global__ void mnemo_reference_error_norms(const double *error, const double *x, const double *y,
                                                       long long rows, int cols, double rtol, double atol, double *out) {
    if (own() >= rows) return;
    double sum = 0.0;
    for (int j = 0; j < cols; j++) {
        const long long at = own() * cols + j;
        const double share = error[at] == 0.0 ? 0.0 : error[at] / (atol + rtol * fmax(fabs(x[at]), fabs(y[at])));
        sum += share * share;
    }
    out[own()] = sqrt(sum / cols);
}
