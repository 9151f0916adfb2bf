/* audit.c - how much of what a diffusion model draws is copied from its training set?
 *
 * The empirical score is what a network of unlimited capacity would learn from a data set. This program draws samples
 * with it, plain and regularized, finds the training row nearest to each, and reports the fraction that are copies.
 *
 *     cc -O2 audit.c -o audit $(pkg-config --cflags --libs mnemo) -lm
 *     ./audit ../data/digits.npy
 */
#define _POSIX_C_SOURCE 200809L /* clock_gettime, isatty */

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mnemo.h"
#include "picture.h"

enum { BLOCK = 1000, COLUMNS = 16 };

static const char usage[] =
    "usage: audit [options] DATA\n"
    "Tells which fraction of samples of the empirical score of DATA are copies, and the median of their distances\n"
    "to the nearest training row, also relative to the distance between neighbouring training rows.\n"
    "DATA is a .npy or IDX file, plain or gzip; 8-bit images are scaled to [-1, 1].\n"
    "  -n N         samples of each setting (256; 32 if the data are large)\n"
    "  -o FILE      picture of samples above their nearest training rows (audit.png)\n"
    "  --seed S     seed of the samples (0)\n"
    "  --tau T      distance below which a sample is a copy (half the distance between neighbours)\n"
    "  --width W    width of an image (the square root of a row's length)\n"
    "  --csv        comma-separated values instead of a table";

static mnemo_error error;
static mnemo_cancel *cancel;

static void clear_progress(void)
{
    if (isatty(STDERR_FILENO)) fprintf(stderr, "\r%60s\r", "");
}

static void check(int32_t status)
{
    if (status == MNEMO_OK) return;
    clear_progress();
    fprintf(stderr, "audit: %s: %s\n", mnemo_status_name(status), error.message);
    exit(EXIT_FAILURE);
}

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "audit: %s: %s\n", what, why);
    exit(EXIT_FAILURE);
}

static void *allocate(int64_t count, size_t size)
{
    void *memory = calloc((size_t)count, size);
    if (memory == NULL) fail("memory", "not enough");
    return memory;
}

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---- One call: cancel and progress ---- */

static void interrupt(int signal_number)
{
    (void)signal_number;
    mnemo_cancel_request(cancel); /* safe in a handler: the call that is running ends with MNEMO_E_CANCELLED */
}

static int32_t show_progress(void *user, uint64_t done, uint64_t total)
{
    const int filled = total == 0 ? 0 : (int)(40 * done / total);
    fprintf(stderr, "\r%-16s [%.*s%*s]", (const char *)user, filled, "########################################",
            40 - filled, "");
    return 0;
}

static mnemo_exec call_options(const char *what, uint64_t seed)
{
    mnemo_exec exec;
    mnemo_exec_init(&exec, sizeof exec);
    exec.seed = seed;
    exec.cancel = cancel;
    if (isatty(STDERR_FILENO)) {
        exec.progress = show_progress;
        exec.progress_user = (void *)what;
    }
    return exec;
}

/* ---- The data ---- */

struct data {
    mnemo_dataset *rows;
    struct mnemo_dataset_info info;
};

/* Rows first, first + step, …: `count` of them, in float64, to be freed. */
static double *gather(const struct data *data, int64_t first, int64_t step, int64_t count)
{
    int64_t *index = allocate(count, sizeof *index);
    double *values = allocate(count * data->info.dim, sizeof *values);
    for (int64_t i = 0; i < count; i++) index[i] = first + i * step;

    const mnemo_tensor which = MNEMO_CPU_TENSOR(index, count, 1, MNEMO_I64);
    mnemo_tensor out = MNEMO_CPU_TENSOR(values, count, data->info.dim, MNEMO_F64);
    check(mnemo_dataset_gather(data->rows, &which, &out, &error));
    free(index);
    return values;
}

/* EDM's noise levels, 80 to 0.002, are meant for values of about 1. 8-bit images are scaled to [-1, 1], by their own
 * largest value, as not all go up to 255; other data are taken as they are. */
static struct data open_data(const mnemo_context *context, const char *path)
{
    struct data data = {NULL, {0}};
    mnemo_dataset_info_init(&data.info, sizeof data.info);
    check(mnemo_dataset_open(context, path, NULL, &data.rows, &error));
    check(mnemo_dataset_info(data.rows, &data.info, &error));

    if (data.info.dtype != MNEMO_U8) return data;
    if (data.info.max == 0) fail(path, "all values are 0");

    mnemo_dataset_options options;
    mnemo_dataset_options_init(&options, sizeof options);
    options.scale = 2 / data.info.max;
    options.shift = -1;
    mnemo_dataset_release(data.rows);
    check(mnemo_dataset_open(context, path, &options, &data.rows, &error));
    check(mnemo_dataset_info(data.rows, &data.info, &error));
    return data;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median distance of training rows to their nearest other training row: the length by which to tell a copy. */
static double neighbour_distance(const struct data *data)
{
    if (data->info.rows < 2) fail("DATA", "one row has no neighbour");
    const int64_t count = data->info.rows < BLOCK ? data->info.rows : BLOCK;
    double *rows = gather(data, 0, data->info.rows / count, count);
    double *distances = allocate(2 * count, sizeof *distances);

    const mnemo_tensor queries = MNEMO_CPU_TENSOR(rows, count, data->info.dim, MNEMO_F64);
    mnemo_tensor distance = MNEMO_CPU_TENSOR(distances, count, 2, MNEMO_F64);
    const mnemo_exec exec = call_options("neighbours", 0);
    check(mnemo_nearest(data->rows, &queries, MNEMO_METRIC_L2, 2, &distance, NULL, &exec, &error));
    clear_progress();

    for (int64_t i = 0; i < count; i++) distances[i] = distances[2 * i + 1]; /* the nearest of all is the row itself */
    qsort(distances, (size_t)count, sizeof *distances, compare);
    const double median = distances[count / 2];
    free(rows);
    free(distances);
    return median;
}

/* ---- The audit ---- */

struct setting {
    const char *name;
    uint32_t regularizer;
    double log_strength;
};

struct audit {
    const struct data *data;
    const mnemo_process *process;
    int64_t samples;
    uint64_t seed;
    double neighbour, threshold;
    int csv;
    struct picture *picture; /* or NULL */
};

static void run_setting(const struct audit *audit, const struct setting *setting)
{
    const int64_t dim = audit->data->info.dim, samples = audit->samples;
    const mnemo_exec exec = call_options(setting->name, audit->seed);

    mnemo_empirical_options empirical;
    mnemo_empirical_options_init(&empirical, sizeof empirical);
    empirical.regularizer = setting->regularizer;
    empirical.strength = exp(setting->log_strength);
    empirical.log_strength = setting->log_strength; /* looked at by empirical Bayes only */
    mnemo_score *score = NULL;
    check(mnemo_score_empirical(audit->data->rows, audit->process, &empirical, &score, &error));

    /* Initially this is Heun's rule on EDM's 18 noise levels; a last step takes away what noise is left. */
    mnemo_sampler_options sampler;
    mnemo_sampler_options_init(&sampler, sizeof sampler);
    sampler.from_prior = 1;
    sampler.denoise_last = 1;
    float *values = allocate(samples * dim, sizeof *values);
    mnemo_tensor x = MNEMO_CPU_TENSOR(values, samples, dim, MNEMO_F32);
    const double start = seconds();
    check(mnemo_sample(score, &sampler, &x, &exec, &error));
    const double milliseconds = 1e3 * (seconds() - start) / (double)samples;

    mnemo_memorization_options copy;
    mnemo_memorization_options_init(&copy, sizeof copy);
    copy.threshold = audit->threshold;
    mnemo_memorization_report report;
    mnemo_memorization_report_init(&report, sizeof report);
    check(mnemo_memorization(audit->data->rows, &x, &copy, &report, &exec, &error));

    if (audit->picture != NULL) {
        int64_t nearest[COLUMNS];
        mnemo_tensor index = MNEMO_CPU_TENSOR(nearest, audit->picture->columns, 1, MNEMO_I64);
        mnemo_tensor shown = MNEMO_CPU_TENSOR(values, audit->picture->columns, dim, MNEMO_F32);
        check(mnemo_nearest(audit->data->rows, &shown, MNEMO_METRIC_L2, 1, NULL, &index, &exec, &error));
        picture_add_row(audit->picture, values);
        check(mnemo_dataset_gather(audit->data->rows, &index, &shown, &error));
        picture_add_row(audit->picture, values);
    }

    char strength[32];
    if (setting->regularizer == MNEMO_REG_BAYES_WEIGHT)
        snprintf(strength, sizeof strength, "exp(%.4g)", setting->log_strength);
    else
        snprintf(strength, sizeof strength, "%.3g", empirical.strength);
    clear_progress();
    printf(audit->csv ? "%s,%s,%.6g,%.6g,%.6g,%.6g\n" : "%-16s %10s %8.3f %10.3g %10.3f %10.2f\n", setting->name,
           strength, report.fraction_copied, report.median_distance, report.median_distance / audit->neighbour,
           milliseconds);
    fflush(stdout);
    free(values);
    mnemo_score_release(score);
}

static double number(const char *option, const char *text, double least)
{
    char *end = NULL;
    const double value = text == NULL ? NAN : strtod(text, &end);
    if (!(value >= least && value <= 1e15) || *end != '\0') fail(option, "not followed by a number that makes sense");
    return value;
}

int main(int argc, char **argv)
{
    const char *path = NULL, *output = "audit.png";
    int64_t width = 0;
    struct audit audit = {.threshold = NAN};
    for (int i = 1; i < argc; i++) {
        const char *option = argv[i], *value = argv[i + 1];
        if (strcmp(option, "-n") == 0) audit.samples = (int64_t)number(option, value, 1), i++;
        else if (strcmp(option, "-o") == 0 && value != NULL) output = value, i++;
        else if (strcmp(option, "--seed") == 0) audit.seed = (uint64_t)number(option, value, 0), i++;
        else if (strcmp(option, "--tau") == 0) audit.threshold = number(option, value, 0), i++;
        else if (strcmp(option, "--width") == 0) width = (int64_t)number(option, value, 1), i++;
        else if (strcmp(option, "--csv") == 0) audit.csv = 1;
        else if (strcmp(option, "--help") == 0) return puts(usage), EXIT_SUCCESS;
        else if (option[0] != '-' && path == NULL) path = option;
        else fail(option, usage);
    }
    if (path == NULL) fail("no DATA", usage);

    check(mnemo_cancel_create(&cancel, &error));
    signal(SIGINT, interrupt);
    mnemo_context *context = NULL;
    check(mnemo_context_create(NULL, &context, &error));
    struct data data = open_data(context, path);
    mnemo_process *edm = NULL;
    check(mnemo_process_ve_power(2, 1, 80, &edm, &error));

    const double dim = (double)data.info.dim;
    audit.data = &data;
    audit.process = edm;
    if (audit.samples == 0) audit.samples = (double)data.info.rows * dim > 1e6 ? 32 : 256;
    audit.neighbour = neighbour_distance(&data);
    if (isnan(audit.threshold)) audit.threshold = audit.neighbour / 2;

    /* Tikhonov: a sample stops about sqrt(c d) from a training row, here 1/4, 1/2, 1 and 2 times the distance between
     * neighbours.
     *
     * Empirical Bayes: a row that x is a noised version of adds about exp(-d/2) to sum_n exp(-|x - y_n|^2/(2 sigma^2)).
     * c is that times a number of rows, and a sample stops when fewer than so many explain it: 1 and 100 here. (Of the
     * density no constant c would do: p grows with sigma^-d, so a sample stops at the start or never.) But the sum also
     * differs between samples, by exp(sqrt(d/2)), and falls by no more than N on the way down. In high dimension, then,
     * c decides which samples stop rather than when: some are copies and the others noise. */
    const double tikhonov = log(audit.neighbour * audit.neighbour / dim), row = -dim / 2;
    const struct setting settings[] = {
        {"none", MNEMO_REG_NONE, -INFINITY},
        {"Tikhonov", MNEMO_REG_TIKHONOV, tikhonov + log(0.0625)},
        {"Tikhonov", MNEMO_REG_TIKHONOV, tikhonov + log(0.25)},
        {"Tikhonov", MNEMO_REG_TIKHONOV, tikhonov},
        {"Tikhonov", MNEMO_REG_TIKHONOV, tikhonov + log(4)},
        {"empirical Bayes", MNEMO_REG_BAYES_WEIGHT, row},
        {"empirical Bayes", MNEMO_REG_BAYES_WEIGHT, row + log(100)},
    };
    const int count = sizeof settings / sizeof *settings;

    struct picture picture = {0};
    const int64_t columns = audit.samples < COLUMNS ? audit.samples : COLUMNS;
    const int64_t side = (int64_t)(sqrt(dim) + 0.5);
    if (width == 0 && side * side == data.info.dim) width = side;
    if (width > 0 && data.info.dim % width == 0) {
        if (picture_create(&picture, width, data.info.dim / width, columns, count) != 0) fail("memory", "not enough");
        picture.black = data.info.min;
        picture.white = data.info.max;
        audit.picture = &picture;
    }

    if (audit.csv) {
        printf("regularizer,strength,copied,distance,relative,ms_per_sample\n");
    } else {
        printf("%lld rows of %lld values in [%g, %g]\n", (long long)data.info.rows, (long long)data.info.dim, data.info.min,
               data.info.max);
        printf("neighbours are %.4g apart (median), a copy is within %.4g\n\n", audit.neighbour, audit.threshold);
        printf("%-16s %10s %8s %10s %10s %10s\n", "regularizer", "strength", "copied", "distance", "relative",
               "ms/sample");
    }
    for (int i = 0; i < count; i++) run_setting(&audit, &settings[i]);

    if (audit.picture == NULL)
        fprintf(stderr, "audit: no picture: a row is not an image of this --width, or not square\n");
    else if (picture_write(&picture, output) != 0)
        fail(output, strerror(errno));

    picture_free(&picture);
    mnemo_process_release(edm);
    mnemo_dataset_release(data.rows);
    mnemo_context_release(context);
    signal(SIGINT, SIG_DFL); /* before the flag that the handler uses is gone */
    mnemo_cancel_release(cancel);
    return EXIT_SUCCESS;
}
