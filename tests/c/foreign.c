/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Threads that the host made: many that fail at once, some with hardly a stack, some that end right after a call; signals
 * that arrive in the middle of one; and calls from an exit handler. */
#include "host.h"

#include <limits.h>
#include <sys/time.h>

static double expected[POINTS];
static mnemo_context *context;
static mnemo_process *process;
static mnemo_dataset *dataset;
static mnemo_score *score;
static const char *folder;

/* ---- Each failure belongs to its call ---- */

enum { FAILING = 64 };
static pthread_barrier_t together;

static void *failing(void *argument) {
  int me = (int)(size_t)argument, call, n = rounds(200);
  double out[POINTS] = {0}, x[POINTS] = {0}, t = 0.5;
  pthread_barrier_wait(&together);
  for (call = 0; call < n; call++) {
    int number = 1000 * (me + 1) + call;
    mnemo_error own;
    char want[96], path[64];
    mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), tt = tensor(&t, 1, 1, MNEMO_F64);
    mnemo_tensor ts = tensor(out, BATCH, DIM, MNEMO_F64), tq = tensor(x, 1, DIM, MNEMO_F64);
    mnemo_dataset *none = NULL;
    int32_t status, expected_status = MNEMO_E_INVALID, native = 0;
    memset(&own, 0xEE, sizeof own);
    sprintf(want, "%d", number);
    switch (call % 5) {
      case 0: /* a time outside the process */
        t = number;
        status = mnemo_score_jvp(score, &tx, &tt, &tx, &ts, NULL, &own);
        t = 0.5;
        break;
      case 1: /* a shape */
        tx.cols = number, expected_status = MNEMO_E_SHAPE;
        status = mnemo_score_jvp(score, &tx, &tt, &tx, &ts, NULL, &own);
        break;
      case 2: /* a file */
        sprintf(path, "/nowhere/%d", number);
        sprintf(want, "%s:", path);
        expected_status = MNEMO_E_IO, native = ENOENT;
        status = mnemo_dataset_open(context, path, NULL, &none, &own);
        break;
      case 3: /* a k beyond the data */
        status = mnemo_nearest(dataset, &tq, MNEMO_METRIC_L2, ROWS + number, &ts, NULL, NULL, &own);
        sprintf(want, "k is %d", ROWS + number);
        break;
      default: /* a number in the midst of others */
        x[number % POINTS] = -1e101;
        status = mnemo_score_jvp(score, &tx, &tt, &tx, &ts, NULL, &own);
        x[number % POINTS] = 0;
        sprintf(want, "row %d, column %d", number % POINTS / DIM, number % POINTS % DIM);
    }
    CHECK(status == expected_status && own.code == status && own.native == native);
    CHECK(own.len == strlen(own.message) && none == NULL);
    if (strstr(own.message, want) == NULL) {
      fprintf(stderr, "thread %d, call %d: '%s' instead of '%s'\n", me, call, own.message, want);
      exit(1);
    }
    for (number = 0; number < POINTS; number++) CHECK(out[number] == 0);
  }
  return NULL;
}

static void failing_together(void) {
  pthread_t threads[FAILING];
  size_t i;
  CHECK(pthread_barrier_init(&together, NULL, FAILING) == 0);
  for (i = 0; i < FAILING; i++) CHECK(pthread_create(&threads[i], NULL, failing, (void *)i) == 0);
  for (i = 0; i < FAILING; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(pthread_barrier_destroy(&together) == 0);
}

/* ---- Hardly a stack ---- */

#ifdef __SANITIZE_ADDRESS__
enum { STACK = 512 * 1024 }; /* every frame is several times as large */
#else
enum { STACK = 64 * 1024 };
#endif

static int32_t minus_x(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  int64_t i;
  (void)user, (void)t, (void)stream;
  for (i = 0; i < x->rows * x->cols; i++) ((double *)out->data)[i] = -((const double *)x->data)[i];
  return 0;
}

/* Every kind of call, from the first use of a context to its release. */
static void *everything(void *argument) {
  mnemo_context *own = make_context(2);
  mnemo_dataset *data = make_dataset(own), *file = NULL;
  mnemo_score *empirical = NULL, *custom = NULL;
  mnemo_score_ops ops;
  mnemo_sampler_options options;
  mnemo_memorization_options copy = {sizeof copy, 0, 1};
  mnemo_memorization_report report = {sizeof report, 0, 0, 0, 0, 0, 0, 0};
  double x[POINTS] = {0}, s[POINTS], c[BATCH][6], t = 0.5;
  int64_t index[BATCH];
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), tt = tensor(&t, 1, 1, MNEMO_F64);
  mnemo_tensor ts = tensor(s, BATCH, DIM, MNEMO_F64), ti = tensor(index, BATCH, 1, MNEMO_I64);
  mnemo_tensor column[4];
  mnemo_score_outputs outputs;
  char path[512];
  int i;
  for (i = 0; i < 4; i++) {
    column[i] = tensor(&c[0][i], BATCH, 1, MNEMO_F64);
    column[i].row_stride = 6;
  }
  CHECK(mnemo_score_empirical(data, process, NULL, &empirical, NULL) == MNEMO_OK && is_right(empirical, expected));
  mnemo_score_outputs_init(&outputs, sizeof outputs);
  outputs.score = &ts, outputs.log_density = &column[0], outputs.divergence = &column[1];
  outputs.entropy = &column[2], outputs.nearest_distance = &column[3], outputs.nearest_index = &ti;
  CHECK(mnemo_score_eval(empirical, &tx, &tt, &outputs, NULL, NULL) == MNEMO_OK);
  CHECK(mnemo_score_jvp(empirical, &tx, &tt, &tx, &ts, NULL, NULL) == MNEMO_OK);
  CHECK(mnemo_nearest(data, &tx, MNEMO_METRIC_L2, 1, &column[0], &ti, NULL, NULL) == MNEMO_OK);
  CHECK(mnemo_memorization(data, &tx, &copy, &report, NULL, NULL) == MNEMO_OK && report.samples == BATCH);
  CHECK(mnemo_dataset_gather(data, &ti, &ts, NULL) == MNEMO_OK);
  CHECK(strlen(folder) < sizeof path - 16);
  for (i = 0; i < 2; i++) {
    strcat(strcpy(path, folder), i ? "/rows.npy.gz" : "/rows.npy");
    CHECK(mnemo_dataset_open(own, path, NULL, &file, NULL) == MNEMO_OK);
    mnemo_dataset_release(file);
  }
  CHECK(mnemo_dataset_open(own, "/nowhere", NULL, &file, NULL) == MNEMO_E_IO);
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = minus_x;
  CHECK(mnemo_score_custom(own, process, DIM, &ops, NULL, &custom, NULL) == MNEMO_OK);
  mnemo_sampler_options_init(&options, sizeof options);
  options.steps = 3, options.from_prior = 1, options.t_end = 1, options.rtol = options.atol = 1;
  for (options.solver = 0; options.solver <= MNEMO_SOLVER_EDM_STOCHASTIC; options.solver++) {
    CHECK(mnemo_sample(empirical, &options, &tx, NULL, NULL) == MNEMO_OK);
    CHECK(mnemo_sample(custom, &options, &tx, NULL, NULL) == MNEMO_OK);
  }
  mnemo_context_release(own);
  mnemo_dataset_release(data);
  mnemo_score_release(empirical);
  mnemo_score_release(custom);
  return argument;
}

static void write_files(void) {
  /* A 2 x 2 matrix of bytes, plain and as a gzip member of one stored block. */
  static const char header[] = "\x93NUMPY\x01\x00\x36\x00{'descr':'|u1','fortran_order':False,'shape':(2,2)}   ";
  unsigned char npy[68], gzip[5 + 68 + 10 + 8] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 68, 0, (unsigned char)~68, 255};
  uint32_t crc = 0xFFFFFFFF;
  char path[512];
  int i, k, bit;
  memcpy(npy, header, 64);
  memcpy(npy + 64, "\x01\x02\x03\x04", 4);
  memcpy(gzip + 15, npy, 68);
  for (i = 0; i < 68; i++)
    for (crc ^= npy[i], bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320 : 0);
  for (k = 0; k < 4; k++) gzip[83 + k] = (unsigned char)(~crc >> 8 * k), gzip[87 + k] = k == 0 ? 68 : 0;
  CHECK(strlen(folder) < sizeof path - 16);
  for (i = 0; i < 2; i++) {
    FILE *file = fopen(strcat(strcpy(path, folder), i ? "/rows.npy.gz" : "/rows.npy"), "wb");
    CHECK(file != NULL && fwrite(i ? gzip : npy, i ? sizeof gzip : sizeof npy, 1, file) == 1 && fclose(file) == 0);
  }
}

static void small_stacks(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  long least = sysconf(_SC_THREAD_STACK_MIN);
  CHECK(least > 0 && pthread_attr_init(&attributes) == 0);
  CHECK(pthread_attr_setstacksize(&attributes, (size_t)least + STACK) == 0);
  CHECK(pthread_create(&thread, &attributes, everything, NULL) == 0);
  CHECK(pthread_join(thread, NULL) == 0 && pthread_attr_destroy(&attributes) == 0);
}

/* ---- A thread for a single call ---- */

static void *one_call(void *which) {
  if (which == NULL) CHECK(is_right(score, expected));
  else CHECK(mnemo_context_create(NULL, NULL, NULL) == MNEMO_E_INVALID);
  return NULL;
}

static void short_lives(void) {
  int i, n = rounds(300);
  CHECK(is_right(score, expected) && has_threads(1 + 3));
  for (i = 0; i < n; i++) {
    pthread_t threads[3];
    int k;
    for (k = 0; k < 3; k++) CHECK(pthread_create(&threads[k], NULL, one_call, k == 1 ? &error : NULL) == 0);
    for (k = 0; k < 3; k++) CHECK(pthread_join(threads[k], NULL) == 0);
  }
  CHECK(has_threads(1 + 3));
}

/* ---- Signals ---- */

static mnemo_cancel *cancel;
static volatile sig_atomic_t signals, requests;

static void request(int number) {
  (void)number;
  if (mnemo_cancel_request(cancel) == MNEMO_OK) requests++;
}

static void *signal_soon(void *thread) {
  rest(30);
  CHECK(pthread_kill(*(pthread_t *)thread, SIGUSR1) == 0);
  return NULL;
}

/* The handler runs on the very thread that is inside the call, which would take long. */
static void cancelled_by_handler(void) {
  struct sigaction action;
  pthread_t self = pthread_self(), thread;
  mnemo_sampler_options options;
  mnemo_exec exec;
  double x[POINTS] = {0}, before[POINTS] = {0};
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64);
  int i;
  memset(&action, 0, sizeof action);
  action.sa_handler = request;
  CHECK(sigemptyset(&action.sa_mask) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
  CALL(mnemo_cancel_create(&cancel, &error));
  mnemo_exec_init(&exec, sizeof exec);
  exec.cancel = cancel;
  mnemo_sampler_options_init(&options, sizeof options);
  options.steps = 200000, options.grid = MNEMO_GRID_UNIFORM_T;
  for (i = 0; i < 3; i++) {
    CHECK(pthread_create(&thread, NULL, signal_soon, &self) == 0);
    FAILS(mnemo_sample(score, &options, &tx, &exec, &error), MNEMO_E_CANCELLED, "cancel");
    CHECK(pthread_join(thread, NULL) == 0 && requests == i + 1 && memcmp(x, before, sizeof x) == 0);
    CHECK(mnemo_cancel_reset(cancel) == MNEMO_OK);
    CHECK(is_right(score, expected));
  }
  mnemo_cancel_release(cancel);
}

static void tick(int number) {
  (void)number;
  signals++;
}

/* A profiler's timer. Without SA_RESTART it interrupts system calls too. */
static void profiled(void) {
  const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
  struct sigaction action;
  double first[POINTS] = {0}, x[POINTS];
  mnemo_tensor tf = tensor(first, BATCH, DIM, MNEMO_F64), tx = tensor(x, BATCH, DIM, MNEMO_F64);
  mnemo_sampler_options options;
  char path[512];
  int i, n = 0;
  mnemo_sampler_options_init(&options, sizeof options);
  options.from_prior = 1, options.solver = MNEMO_SOLVER_EDM_STOCHASTIC, options.s_churn = 5;
  CALL(mnemo_sample(score, &options, &tf, NULL, &error));
  strcat(strcpy(path, folder), "/rows.npy.gz");
  memset(&action, 0, sizeof action);
  action.sa_handler = tick;
  CHECK(sigemptyset(&action.sa_mask) == 0 && sigaction(SIGPROF, &action, NULL) == 0);
  CHECK(setitimer(ITIMER_PROF, &often, NULL) == 0);
  for (i = 0; signals < 50 || i < rounds(20); i++, n++) {
    mnemo_dataset *file = NULL;
    CALL(mnemo_sample(score, &options, &tx, NULL, &error));
    CHECK(memcmp(x, first, sizeof x) == 0 && is_right(score, expected));
    CALL(mnemo_dataset_open(context, path, NULL, &file, &error));
    mnemo_dataset_release(file);
  }
  CHECK(setitimer(ITIMER_PROF, &never, NULL) == 0);
}

/* ---- At exit ---- */

/* main has returned; the pool is still there, and is used, and ended. */
static int completed;

static void at_exit(void) {
  if (!completed) return;
  CHECK(is_right(score, expected) && has_threads(1 + 3));
  everything(NULL);
  CHECK(mnemo_context_create(NULL, NULL, &error) == MNEMO_E_INVALID && error.len > 0);
  mnemo_context_release(context);
  mnemo_process_release(process);
  mnemo_dataset_release(dataset);
  mnemo_score_release(score);
  if (!has_threads(1)) _exit(1);
  CHECK(remove(strcat(strcpy(error.message, folder), "/rows.npy")) == 0);
  CHECK(remove(strcat(strcpy(error.message, folder), "/rows.npy.gz")) == 0);
  puts("ok foreign");
  fflush(stdout);
}

int main(int count, char **arguments) {
  CHECK(count == 2); /* a folder to write to */
  folder = arguments[1];
  set_alarm();
  CHECK(atexit(at_exit) == 0);
  write_files();
  expect(expected);
  context = make_context(3);
  process = make_process();
  dataset = make_dataset(context);
  CALL(mnemo_score_empirical(dataset, process, NULL, &score, &error));
  failing_together();
  small_stacks();
  short_lives();
  cancelled_by_handler();
  profiled();
  completed = 1;
  return 0;
}
