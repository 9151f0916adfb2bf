/* One score in many threads, errors that stay with their call, a cancel from outside, and a fork. */
#include "process.h"

#include <pthread.h>
#include <sys/wait.h>

enum { THREADS = 8, CALLS = 24, ROWS = 6000, DIM = 16, BATCH = 8 };

static mnemo_error error;
static mnemo_context *context;
static mnemo_process *process;
static mnemo_dataset *data;
static mnemo_score *score;
static double points[BATCH * DIM], expected[BATCH * DIM];

static double next(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (double)(*state >> 11) / 9007199254740992.0;
}

static int32_t evaluate(double *x, int64_t cols, double t, double *out, mnemo_error *err) {
  mnemo_tensor tx = tensor(x, BATCH, cols, MNEMO_F64), tt = tensor(&t, 1, 1, MNEMO_F64);
  mnemo_tensor ts = tensor(out, BATCH, DIM, MNEMO_F64);
  mnemo_score_outputs outputs;
  mnemo_score_outputs_init(&outputs, sizeof outputs);
  outputs.score = &ts;
  return mnemo_score_eval(score, &tx, &tt, &outputs, NULL, err);
}

/* Three calls in four fail, each in a way that only this thread and call can have. */
static void *mixed(void *argument) {
  int me = (int)(size_t)argument, call, calls = getenv("UNDER_VALGRIND") != NULL ? CALLS / 3 : CALLS;
  for (call = 0; call < calls; call++) {
    mnemo_error own;
    double x[BATCH * DIM], out[BATCH * DIM] = {0};
    char want[64];
    memcpy(x, points, sizeof x);
    switch ((me + call) % 4) {
      case 0:
        CHECK(evaluate(x, DIM, 0.5, out, &own) == MNEMO_OK && own.code == MNEMO_OK && own.len == 0);
        CHECK(memcmp(out, expected, sizeof out) == 0); /* to the bit, whoever computed it */
        continue;
      case 1:
        CHECK(evaluate(x, me + 1, 0.5, out, &own) == MNEMO_E_SHAPE);
        sprintf(want, "x: %d columns", me + 1);
        break;
      case 2:
        x[(call % BATCH) * DIM + me] = NAN;
        CHECK(evaluate(x, DIM, 0.5, out, &own) == MNEMO_E_INVALID);
        sprintf(want, "row %d, column %d", call % BATCH, me);
        break;
      default:
        CHECK(evaluate(x, DIM, 100 + me * CALLS + call, out, &own) == MNEMO_E_INVALID);
        sprintf(want, "%d", 100 + me * CALLS + call);
    }
    if (strstr(own.message, want) == NULL) {
      fprintf(stderr, "thread %d, call %d: '%s' instead of '%s'\n", me, call, own.message, want);
      exit(1);
    }
    CHECK(out[0] == 0 && out[BATCH * DIM - 1] == 0);
  }
  return NULL;
}

static void many_threads(void) {
  pthread_t threads[THREADS];
  size_t i;
  for (i = 0; i < THREADS; i++) CHECK(pthread_create(&threads[i], NULL, mixed, (void *)i) == 0);
  for (i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *request_soon(void *cancel) {
  struct timespec pause = {0, 50 * 1000 * 1000};
  nanosleep(&pause, NULL);
  CHECK(mnemo_cancel_request(cancel) == MNEMO_OK);
  return NULL;
}

/* Two calls that would take minutes: one of many steps, one in a single pass over much data. */
static void cancelled(void) {
  enum { MANY = 20000 };
  double *x = malloc(sizeof *x * MANY * DIM), *before = malloc(sizeof *x * MANY * DIM);
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), large = tensor(x, MANY, DIM, MNEMO_F64);
  uint64_t state = 3;
  mnemo_dataset *much = NULL;
  mnemo_sampler_options options;
  int which, i;
  CHECK(x != NULL && before != NULL);
  for (i = 0; i < MANY * DIM; i++) x[i] = before[i] = next(&state);
  CALL(mnemo_dataset_copy(context, &large, NULL, NULL, &much, &error));
  mnemo_sampler_options_init(&options, sizeof options);
  options.steps = 2000000;
  options.grid = MNEMO_GRID_UNIFORM_T;
  for (which = 0; which < 2; which++) {
    mnemo_cancel *cancel = NULL;
    mnemo_exec exec;
    pthread_t thread;
    mnemo_exec_init(&exec, sizeof exec);
    CALL(mnemo_cancel_create(&cancel, &error));
    exec.cancel = cancel;
    CHECK(pthread_create(&thread, NULL, request_soon, cancel) == 0);
    if (which == 0)
      FAILS(mnemo_sample(score, &options, &tx, &exec, &error), MNEMO_E_CANCELLED, "cancel");
    else
      FAILS(mnemo_nearest(much, &large, MNEMO_METRIC_L2, 5, NULL, NULL, &exec, &error), MNEMO_E_CANCELLED, "cancel");
    CHECK(memcmp(x, before, sizeof *x * MANY * DIM) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    mnemo_cancel_release(cancel);
  }
  mnemo_dataset_release(much);
  free(x);
  free(before);
}

static void release(void) {
  mnemo_context_release(context);
  mnemo_process_release(process);
  mnemo_dataset_release(data);
  mnemo_score_release(score);
}

/* The child computes with the objects of its parent, whose threads it does not have, and releases them or does not. */
static void forks(void) {
  int releases;
  for (releases = 0; releases < 2; releases++) {
    int result[2], status;
    char verdict = 0;
    pid_t child;
    CHECK(pipe(result) == 0 && (child = fork()) >= 0);
    if (child == 0) {
      double out[BATCH * DIM];
      set_alarm(); /* alarms are not inherited */
      CHECK(evaluate(points, DIM, 0.5, out, &error) == MNEMO_OK);
      CHECK(memcmp(out, expected, sizeof out) == 0 && has_threads(4));
      if (releases) release();
      CHECK(has_threads(releases ? 1 : 4)); /* they have ended when the last object is gone */
      CHECK(write(result[1], "y", 1) == 1);
      exit(0);
    }
    CHECK(close(result[1]) == 0 && read(result[0], &verdict, 1) == 1 && verdict == 'y');
    CHECK(close(result[0]) == 0 && waitpid(child, &status, 0) == child);
    /* Under valgrind the child's exit counts its leaks: the parent's pool, which it cannot join, is one on purpose. */
    CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || getenv("UNDER_VALGRIND") != NULL));
    many_threads();
  }
}

int main(void) {
  double *rows = malloc(sizeof *rows * ROWS * DIM);
  mnemo_tensor table = tensor(rows, ROWS, DIM, MNEMO_F64);
  mnemo_context_options options;
  uint64_t state = 1;
  int i;
  set_alarm();
  CHECK(rows != NULL);
  for (i = 0; i < ROWS * DIM; i++) rows[i] = next(&state);
  for (i = 0; i < BATCH * DIM; i++) points[i] = next(&state);
  mnemo_context_options_init(&options, sizeof options);
  options.num_threads = 3;
  CALL(mnemo_context_create(&options, &context, &error));
  CALL(mnemo_process_ve_power(2, 1, 80, &process, &error));
  CALL(mnemo_dataset_copy(context, &table, NULL, NULL, &data, &error));
  CALL(mnemo_score_empirical(data, process, NULL, &score, &error));
  free(rows);
  CHECK(has_threads(1)); /* none before there is work */
  CHECK(evaluate(points, DIM, 0.5, expected, &error) == MNEMO_OK);
  CHECK(has_threads(4)); /* without them the fork would prove nothing */
  many_threads();
  forks();
  cancelled();
  release();
  CHECK(has_threads(1));
  puts("ok threads");
  return 0;
}
