/* copies.c - which models copy their training set? The short audit; the same program is in every language of examples/.
 *
 *     cc copies.c -o copies $(pkg-config --cflags --libs mnemo) && ./copies ../data/digits.npy
 */
#include <mnemo.h>
#include <stdio.h>
#include <stdlib.h>

enum { SAMPLES = 64, NEIGHBOURS = 500, SEED = 1 };

static mnemo_error err;

static void check(int32_t status)
{
    if (status == MNEMO_OK) return;
    fprintf(stderr, "copies: %s: %s\n", mnemo_status_name(status), err.message);
    exit(EXIT_FAILURE);
}

/* Rows 0 … count - 1 as float64, to be freed. */
static double *first_rows(const mnemo_dataset *data, int64_t count, int64_t dim)
{
    int64_t *index = malloc((size_t)count * sizeof *index);
    double *rows = malloc((size_t)(count * dim) * sizeof *rows);
    if (index == NULL || rows == NULL) exit(EXIT_FAILURE);
    for (int64_t i = 0; i < count; i++) index[i] = i;
    check(mnemo_dataset_gather(data, &MNEMO_CPU_TENSOR(index, count, 1, MNEMO_I64),
                               &MNEMO_CPU_TENSOR(rows, count, dim, MNEMO_F64), &err));
    free(index);
    return rows;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Half the median distance between a row and its nearest other row: what is nearer than that is a copy. */
static double copy_distance(const mnemo_dataset *data, int64_t dim)
{
    double *rows = first_rows(data, NEIGHBOURS, dim), distance[NEIGHBOURS][2], other[NEIGHBOURS];
    check(mnemo_nearest(data, &MNEMO_CPU_TENSOR(rows, NEIGHBOURS, dim, MNEMO_F64), MNEMO_METRIC_L2, 2,
                        &MNEMO_CPU_TENSOR(distance, NEIGHBOURS, 2, MNEMO_F64), NULL, NULL, &err));
    for (int i = 0; i < NEIGHBOURS; i++) other[i] = distance[i][1];
    qsort(other, NEIGHBOURS, sizeof *other, ascending);
    free(rows);
    return other[NEIGHBOURS / 2] / 2;
}

/* A model of the host's own, behind a callback: the Gaussian with the data's mean and mean variance. */
struct gaussian {
    double *mean, variance;
};

static struct gaussian fit(const mnemo_dataset *data, int64_t count, int64_t dim)
{
    struct gaussian g = {calloc((size_t)dim, sizeof *g.mean), 0};
    double *rows = first_rows(data, count, dim);
    if (g.mean == NULL) exit(EXIT_FAILURE);
    for (int64_t i = 0; i < count * dim; i++) g.mean[i % dim] += rows[i] / (double)count;
    for (int64_t i = 0; i < count * dim; i++) {
        const double off = rows[i] - g.mean[i % dim];
        g.variance += off * off / (double)(count * dim);
    }
    free(rows);
    return g;
}

/* E[y | x] = mean + v / (v + sigma^2) (x - mean), where sigma = t. */
static int32_t denoise(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream)
{
    const struct gaussian *g = user;
    (void)stream;
    for (int64_t i = 0; i < x->rows; i++) {
        const double sigma = ((const double *)t->data)[i], keep = g->variance / (g->variance + sigma * sigma);
        const double *from = (const double *)x->data + i * x->cols;
        double *to = (double *)out->data + i * x->cols;
        for (int64_t j = 0; j < x->cols; j++) to[j] = g->mean[j] + keep * (from[j] - g->mean[j]);
    }
    return 0;
}

/* Samples of a score by EDM's sampler, and how near they come to the training rows. Releases the score. */
static void audit(const char *name, mnemo_score *score, const mnemo_dataset *data, int64_t dim, double threshold)
{
    double *x = malloc((size_t)(SAMPLES * dim) * sizeof *x);
    if (x == NULL) exit(EXIT_FAILURE);
    mnemo_sampler_options edm;
    mnemo_sampler_options_init(&edm, sizeof edm); /* Heun, Karras grid, 18 steps */
    edm.from_prior = 1;
    mnemo_exec exec;
    mnemo_exec_init(&exec, sizeof exec);
    exec.seed = SEED;
    check(mnemo_sample(score, &edm, &MNEMO_CPU_TENSOR(x, SAMPLES, dim, MNEMO_F64), &exec, &err));

    mnemo_memorization_options options;
    mnemo_memorization_options_init(&options, sizeof options);
    options.threshold = threshold;
    mnemo_memorization_report report;
    mnemo_memorization_report_init(&report, sizeof report);
    check(mnemo_memorization(data, &MNEMO_CPU_TENSOR(x, SAMPLES, dim, MNEMO_F64), &options, &report, NULL, &err));
    printf("%-15s %3d of %d %9.4f %9.4f %9.4f\n", name, (int)report.copied, SAMPLES, report.min_distance,
           report.median_distance, report.max_distance);
    free(x);
    mnemo_score_release(score);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "digits.npy";
    mnemo_context *context;
    mnemo_dataset *data;
    mnemo_process *process;
    mnemo_score *score;
    struct mnemo_dataset_info info;
    check(mnemo_context_create(NULL, &context, &err));
    check(mnemo_process_ve_power(2, 1, 80, &process, &err)); /* EDM: sigma(t) = t, up to 80 */

    /* The images as they are, then scaled to [-1, 1], which EDM's noise levels are meant for. */
    check(mnemo_dataset_open(context, path, NULL, &data, &err));
    mnemo_dataset_info_init(&info, sizeof info);
    check(mnemo_dataset_info(data, &info, &err));
    mnemo_dataset_release(data);
    mnemo_dataset_options scaled;
    mnemo_dataset_options_init(&scaled, sizeof scaled);
    scaled.scale = 2 / (info.max - info.min);
    scaled.shift = -1 - info.min * scaled.scale;
    check(mnemo_dataset_open(context, path, &scaled, &data, &err));
    const double threshold = copy_distance(data, info.dim);
    printf("%d rows of %d values in [%.1f, %.1f], scaled to [-1, 1]\n", (int)info.rows, (int)info.dim, info.min, info.max);
    printf("a copy is within %.4f of a training row\n\n", threshold);
    printf("%-15s %9s %9s %9s %9s\n", "model", "copied", "nearest", "median", "farthest");

    check(mnemo_score_empirical(data, process, NULL, &score, &err));
    audit("exact", score, data, info.dim, threshold);

    mnemo_empirical_options tikhonov;
    mnemo_empirical_options_init(&tikhonov, sizeof tikhonov);
    tikhonov.regularizer = MNEMO_REG_TIKHONOV;
    for (tikhonov.strength = 0.01; tikhonov.strength < 1; tikhonov.strength *= 4) {
        char name[32];
        snprintf(name, sizeof name, "Tikhonov %.2f", tikhonov.strength);
        check(mnemo_score_empirical(data, process, &tikhonov, &score, &err));
        audit(name, score, data, info.dim, threshold);
    }

    struct gaussian gaussian = fit(data, info.rows, info.dim);
    mnemo_score_ops ops;
    mnemo_score_ops_init(&ops, sizeof ops);
    ops.prediction = MNEMO_PREDICT_X0;
    ops.eval = denoise;
    check(mnemo_score_custom(context, process, info.dim, &ops, &gaussian, &score, &err));
    audit("Gaussian", score, data, info.dim, threshold);

    free(gaussian.mean);
    mnemo_process_release(process);
    mnemo_dataset_release(data);
    mnemo_context_release(context);
    return EXIT_SUCCESS;
}
