/* SPDX-License-Identifier: MIT OR Apache-2.0
 * A machine that refuses threads and memory: pthread_create and the large allocations of this program, and so of the
 * library, fail when they are told to. Every call answers MNEMO_E_NOMEM, changes nothing and works the next time.
 *
 * Native only: valgrind and the address sanitizer have an allocator of their own. */
#define _GNU_SOURCE
#include "host.h"

#include <dlfcn.h>

/* ---- What is refused ---- */

/* Allocations below this are not refused: Rust ends the process where a small one fails. */
enum { LARGE = 64 * 1024 };

static long refuse_memory_at, refuse_thread_at; /* the first one refused, counted from 1; 0: none */
static long memory_seen, threads_seen;

static int is_refused(long *seen, long at) { return at != 0 && __atomic_add_fetch(seen, 1, __ATOMIC_RELAXED) >= at; }

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  return size >= LARGE && is_refused(&memory_seen, refuse_memory_at) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  return count * size >= LARGE && is_refused(&memory_seen, refuse_memory_at) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  return size >= LARGE && is_refused(&memory_seen, refuse_memory_at) ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  if (size >= LARGE && is_refused(&memory_seen, refuse_memory_at)) return ENOMEM;
  return (*out = __libc_memalign(alignment, size)) == NULL ? ENOMEM : 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
  int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
  void *found = dlsym(RTLD_NEXT, "pthread_create");
  if (is_refused(&threads_seen, refuse_thread_at)) return EAGAIN;
  memcpy(&real, &found, sizeof real);
  return real(thread, attributes, start, argument);
}

/* ---- Threads ---- */

static double expected[POINTS];

static void few_threads(void) {
  enum { THREADS = 4 };
  mnemo_context *context = make_context(THREADS);
  mnemo_dataset *dataset = make_dataset(context);
  mnemo_process *process = make_process();
  mnemo_score *score = NULL;
  double out[POINTS] = {0};
  int i, k;
  CALL(mnemo_score_empirical(dataset, process, NULL, &score, &error));
  for (refuse_thread_at = 1; refuse_thread_at <= THREADS; refuse_thread_at++) {
    threads_seen = 0;
    for (k = 0; k < 3; k++) {
      FAILS(evaluate(score, out, NULL, &error), MNEMO_E_NOMEM, "num_threads");
      for (i = 0; i < POINTS; i++) CHECK(out[i] == 0);
      CHECK(has_threads(1)); /* those that had started have ended */
      threads_seen = 0;
    }
  }
  refuse_thread_at = 0;
  CHECK(is_right(score, expected) && has_threads(1 + THREADS));
  mnemo_context_release(context);
  mnemo_dataset_release(dataset);
  mnemo_process_release(process);
  mnemo_score_release(score);
}

/* ---- Memory ---- */

enum { MANY = 9000, FEW = 16, WIDE = 2 }; /* an array of one number per sample is large, whatever is kept per row is not */

static double x[MANY * WIDE], out[MANY * WIDE], columns[4][MANY * 8];
static int64_t indices[MANY * 8];
static char path[512];
static mnemo_context *wide_context;
static mnemo_dataset *wide_data;
static mnemo_score *wide_scores[3]; /* plain, Bayes, custom */

static int32_t copy_out(void *user, const mnemo_tensor *from, const mnemo_tensor *t, mnemo_tensor *to, void *stream) {
  (void)user, (void)t, (void)stream;
  memcpy(to->data, from->data, (size_t)(from->rows * from->cols) * (from->dtype == MNEMO_F64 ? 8 : 4));
  return 0;
}

static int32_t copy_tangent(void *user, const mnemo_tensor *from, const mnemo_tensor *t, const mnemo_tensor *v,
                            mnemo_tensor *to, void *stream) {
  (void)from;
  return copy_out(user, v, t, to, stream);
}

static int32_t watch(void *user, uint64_t step, double t, const mnemo_tensor *state) {
  (void)user, (void)step, (void)t, (void)state;
  return 0;
}

enum { COPY = 0, OPEN = 1, GATHER = 2, NEAREST = 3, MEMORIZATION = 4, EVAL = 5, JVP = 8, SAMPLE = 11, CALLS = SAMPLE + 16 };

/* One call of each kind: 5 to 7 and 8 to 10 for the three scores, 11 on for eight solvers and two scores. */
static int32_t one(int which, mnemo_error *err) {
  double t = 0.5;
  mnemo_tensor tx = tensor(x, MANY, WIDE, MNEMO_F64), to = tensor(out, MANY, WIDE, MNEMO_F64);
  mnemo_tensor tt = tensor(&t, 1, 1, MNEMO_F64), ti = tensor(indices, MANY, 1, MNEMO_I64);
  mnemo_tensor column[4];
  mnemo_score_outputs outputs;
  int i;
  for (i = 0; i < 4; i++) column[i] = tensor(columns[i], MANY, 1, MNEMO_F64);
  if (which == COPY || which == OPEN) {
    mnemo_dataset *made = NULL;
    int32_t status = which == COPY ? mnemo_dataset_copy(wide_context, &tx, &ti, NULL, &made, err)
                                   : mnemo_dataset_open(wide_context, path, NULL, &made, err);
    CHECK((status == MNEMO_OK) == (made != NULL));
    mnemo_dataset_release(made);
    return status;
  }
  if (which == GATHER) return mnemo_dataset_gather(wide_data, &ti, &to, err);
  if (which == NEAREST) {
    mnemo_tensor td = tensor(columns, MANY, 8, MNEMO_F64), tn = tensor(indices, MANY, 8, MNEMO_I64);
    return mnemo_nearest(wide_data, &tx, MNEMO_METRIC_L2, 8, &td, &tn, NULL, err);
  }
  if (which == MEMORIZATION) {
    mnemo_memorization_options options = {sizeof options, 0, 1};
    mnemo_memorization_report report = {sizeof report, 0, 0, 0, 0, 0, 0, 0};
    int32_t status = mnemo_memorization(wide_data, &tx, &options, &report, NULL, err);
    CHECK(report.samples == (status == MNEMO_OK ? MANY : 0));
    return status;
  }
  if (which < JVP) {
    mnemo_score_outputs_init(&outputs, sizeof outputs);
    outputs.score = &to;
    if (which < EVAL + 2) {
      outputs.log_density = &column[0], outputs.divergence = &column[1], outputs.entropy = &column[2];
      outputs.nearest_distance = &column[3], outputs.nearest_index = &ti;
    }
    return mnemo_score_eval(wide_scores[which - EVAL], &tx, &tt, &outputs, NULL, err);
  }
  if (which < SAMPLE) return mnemo_score_jvp(wide_scores[which - JVP], &tx, &tt, &tx, &to, NULL, err);
  {
    mnemo_sampler_options options;
    mnemo_sampler_options_init(&options, sizeof options);
    options.solver = (uint32_t)(which - SAMPLE) / 2;
    options.steps = 2, options.t_start = 2, options.t_end = 1, options.denoise_last = 1, options.from_prior = 1;
    options.rtol = options.atol = 100, options.s_churn = 1, options.observer = watch;
    return mnemo_sample(wide_scores[which % 2 ? 0 : 2], &options, &to, NULL, err);
  }
}

static void write_rows(const char *folder) {
  static const unsigned char header[12] = {0, 0, 8, 2, 0, 0, MANY >> 8, MANY & 255, 0, 0, 0, WIDE};
  FILE *file;
  CHECK(strlen(folder) < sizeof path - 16);
  strcat(strcpy(path, folder), "/many.idx");
  CHECK((file = fopen(path, "wb")) != NULL && fwrite(header, sizeof header, 1, file) == 1);
  CHECK(fwrite(x, MANY * WIDE, 1, file) == 1 && fclose(file) == 0);
}

static void little_memory(void) {
  mnemo_process *process = make_process();
  mnemo_empirical_options bayes;
  mnemo_score_ops ops;
  mnemo_tensor table = tensor(x, FEW, WIDE, MNEMO_F64);
  static char before[sizeof out + sizeof columns + sizeof indices], after[sizeof before];
  uint64_t state = 5;
  int which, i;
  long k;
  for (i = 0; i < MANY * WIDE; i++) x[i] = random_real(&state);
  wide_context = make_context(1);
  CALL(mnemo_dataset_copy(wide_context, &table, NULL, NULL, &wide_data, &error));
  CALL(mnemo_score_empirical(wide_data, process, NULL, &wide_scores[0], &error));
  mnemo_empirical_options_init(&bayes, sizeof bayes);
  bayes.regularizer = MNEMO_REG_BAYES_WEIGHT, bayes.strength = 1e-3;
  CALL(mnemo_score_empirical(wide_data, process, &bayes, &wide_scores[1], &error));
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = copy_out, ops.jvp = copy_tangent;
  CALL(mnemo_score_custom(wide_context, process, WIDE, &ops, NULL, &wide_scores[2], &error));
  for (which = 0; which < CALLS; which++) {
    for (k = 1;; k += k < 40 ? 1 : 9) {
      int32_t status;
      memcpy(before, out, sizeof out);
      memcpy(before + sizeof out, columns, sizeof columns);
      memcpy(before + sizeof out + sizeof columns, indices, sizeof indices);
      memory_seen = 0, refuse_memory_at = k;
      status = one(which, &error);
      refuse_memory_at = 0;
      if (memory_seen < k) break;
      if (getenv("VERBOSE")) fprintf(stderr, "call %d, allocation %ld: %d %s\n", which, k, status, error.message);
      FAILS(status, MNEMO_E_NOMEM, "could not be allocated");
      memcpy(after, out, sizeof out);
      memcpy(after + sizeof out, columns, sizeof columns);
      memcpy(after + sizeof out + sizeof columns, indices, sizeof indices);
      CHECK(memcmp(before, after, sizeof before) == 0);
    }
    CHECK(error.code == MNEMO_OK && k > 1);
    for (i = 0; i < MANY * 8; i++) indices[i] = i % FEW;
  }
  mnemo_process_release(process);
  mnemo_context_release(wide_context);
  mnemo_dataset_release(wide_data);
  for (i = 0; i < 3; i++) mnemo_score_release(wide_scores[i]);
}

int main(int count, char **arguments) {
  CHECK(count == 2); /* a folder to write to */
  set_alarm();
  expect(expected);
  write_rows(arguments[1]);
  few_threads();
  little_memory();
  CHECK(remove(path) == 0);
  puts("ok starved");
  return 0;
}
