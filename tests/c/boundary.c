/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Objects released in every order and from every thread, callbacks that fail, call back and release what they are called
 * for, and contexts mixed with each other. */
#include "host.h"

static double expected[POINTS];

/* ---- A whole graph of objects, released in random order ---- */

enum { CONTEXTS = 2, PROCESSES = 2, DATASETS = 3, EMPIRICAL = 4, CUSTOM = 3, CANCELS = 1 };
enum { FIRST_SCORE = CONTEXTS + PROCESSES + DATASETS, FIRST_CUSTOM = FIRST_SCORE + EMPIRICAL,
       FIRST_CANCEL = FIRST_CUSTOM + CUSTOM, OBJECTS = FIRST_CANCEL + CANCELS, RELEASERS = 3 };

struct dropped {
  int times;
  pthread_t thread;
};

static int32_t minus_x(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  int64_t i;
  (void)user, (void)t, (void)stream;
  for (i = 0; i < x->rows * x->cols; i++) ((double *)out->data)[i] = -((const double *)x->data)[i];
  return 0;
}

static void note_drop(void *user) {
  struct dropped *dropped = user;
  dropped->times++;
  dropped->thread = pthread_self();
}

static void release_one(int which, void *object) {
  if (which < CONTEXTS) mnemo_context_release(object);
  else if (which < CONTEXTS + PROCESSES) mnemo_process_release(object);
  else if (which < FIRST_SCORE) mnemo_dataset_release(object);
  else if (which < FIRST_CANCEL) mnemo_score_release(object);
  else mnemo_cancel_release(object);
}

struct releaser {
  pthread_t thread;
  void **objects;
  int order[OBJECTS], count;
};

static void *release_share(void *argument) {
  struct releaser *me = argument;
  int i;
  for (i = 0; i < me->count; i++) release_one(me->order[i], me->objects[me->order[i]]);
  return NULL;
}

static void graph(uint64_t seed, int from_threads) {
  void *objects[OBJECTS];
  struct dropped dropped[CUSTOM];
  struct releaser releasers[RELEASERS];
  int order[OBJECTS], i, j, released[OBJECTS] = {0};
  uint64_t state = seed;
  memset(dropped, 0, sizeof dropped);
  for (i = 0; i < CONTEXTS; i++) objects[i] = make_context(1 + random_below(&state, 4));
  for (; i < CONTEXTS + PROCESSES; i++) objects[i] = make_process();
  for (; i < FIRST_SCORE; i++) objects[i] = make_dataset(objects[random_below(&state, CONTEXTS)]);
  for (; i < FIRST_CANCEL; i++) {
    mnemo_process *process = objects[CONTEXTS + random_below(&state, PROCESSES)];
    mnemo_score *score = NULL;
    if (i < FIRST_CUSTOM) {
      mnemo_dataset *data = objects[CONTEXTS + PROCESSES + random_below(&state, DATASETS)];
      CALL(mnemo_score_empirical(data, process, NULL, &score, &error));
    } else {
      mnemo_score_ops ops;
      mnemo_score_ops_init(&ops, sizeof ops);
      ops.eval = minus_x, ops.drop = note_drop;
      CALL(mnemo_score_custom(objects[random_below(&state, CONTEXTS)], process, DIM, &ops, &dropped[i - FIRST_CUSTOM],
                              &score, &error));
    }
    objects[i] = score;
  }
  for (; i < OBJECTS; i++) {
    mnemo_cancel *cancel = NULL;
    CALL(mnemo_cancel_create(&cancel, &error));
    objects[i] = cancel;
  }
  for (i = 0; i < OBJECTS; i++) {
    j = (int)random_below(&state, (uint32_t)i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  if (from_threads) {
    for (j = 0; j < RELEASERS; j++) {
      releasers[j].objects = objects;
      for (releasers[j].count = 0, i = j; i < OBJECTS; i += RELEASERS) releasers[j].order[releasers[j].count++] = order[i];
      CHECK(pthread_create(&releasers[j].thread, NULL, release_share, &releasers[j]) == 0);
    }
    for (j = 0; j < RELEASERS; j++) CHECK(pthread_join(releasers[j].thread, NULL) == 0);
  } else {
    for (i = 0; i < OBJECTS; i++) {
      /* What is left works, whatever is gone. */
      int score = FIRST_SCORE + (int)random_below(&state, EMPIRICAL);
      if (!released[score]) CHECK(is_right(objects[score], expected));
      release_one(order[i], objects[order[i]]);
      released[order[i]] = 1;
      for (j = 0; j < CUSTOM; j++) {
        CHECK(dropped[j].times == released[FIRST_CUSTOM + j]);
        CHECK(!dropped[j].times || pthread_equal(dropped[j].thread, pthread_self()));
      }
    }
  }
  for (j = 0; j < CUSTOM; j++) CHECK(dropped[j].times == 1);
  CHECK(has_threads(1)); /* all pools have ended */
}

/* ---- Callbacks that fail at the k-th call ---- */

struct host {
  const mnemo_score *score;
  int calls, fail_at, result, depth, poison;
};

static int32_t count(struct host *host) {
  host->calls++;
  CHECK(host->fail_at == 0 || host->calls <= host->fail_at); /* none after the one that failed */
  return host->calls == host->fail_at ? host->result : 0;
}

static int32_t counted_eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  struct host *host = user;
  int32_t result;
  minus_x(NULL, x, t, out, stream);
  result = count(host);
  if (result != 0 && host->poison) {
    ((double *)out->data)[x->rows * x->cols - 1] = NAN;
    return 0;
  }
  return result;
}

static int32_t counted_jvp(void *user, const mnemo_tensor *x, const mnemo_tensor *t, const mnemo_tensor *v,
                           mnemo_tensor *out, void *stream) {
  (void)x;
  return counted_eval(user, v, t, out, stream);
}

static int32_t minus_v(void *user, const mnemo_tensor *x, const mnemo_tensor *t, const mnemo_tensor *v, mnemo_tensor *out,
                       void *stream) {
  (void)x;
  return minus_x(user, v, t, out, stream);
}

static int32_t counted_observer(void *user, uint64_t step, double t, const mnemo_tensor *x) {
  (void)step, (void)t, (void)x;
  return count(user);
}

static int32_t counted_progress(void *user, uint64_t done, uint64_t total) {
  (void)done, (void)total;
  return count(user);
}

enum { EVAL, JVP, SOLVERS }; /* and beyond: mnemo_sample with each solver */

static int32_t work(int what, mnemo_score *score, double *out, const mnemo_exec *exec,
                    int32_t (*observer)(void *, uint64_t, double, const mnemo_tensor *), struct host *host) {
  double x[POINTS], t = 0.5;
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), tt = tensor(&t, 1, 1, MNEMO_F64);
  mnemo_tensor to = tensor(out, BATCH, DIM, MNEMO_F64);
  mnemo_sampler_options options;
  int i;
  for (i = 0; i < POINTS; i++) x[i] = i / 8.0 - 1;
  if (what == EVAL) return evaluate(score, out, exec, &error);
  if (what == JVP) return mnemo_score_jvp(score, &tx, &tt, &tx, &to, exec, &error);
  mnemo_sampler_options_init(&options, sizeof options);
  options.solver = (uint32_t)(what - SOLVERS);
  options.steps = 4, options.t_start = 2, options.t_end = 0.5, options.denoise_last = 1;
  options.rtol = options.atol = 0.1, options.s_churn = 1;
  options.observer = observer, options.observer_user = host;
  return mnemo_sample(score, &options, &to, exec, &error);
}

/* Which: 0 the model fails, 1 it writes NaN, 2 the observer fails, 3 the progress callback stops the call. */
static void fails_at_every_call(int what, int which) {
  static const int results[] = {1, -1, 77, INT32_MAX, INT32_MIN};
  mnemo_context *context = make_context(2);
  mnemo_process *process = make_process();
  mnemo_score *score = NULL;
  mnemo_score_ops ops;
  mnemo_exec exec;
  struct host host;
  double start[POINTS], reference[POINTS], out[POINTS];
  int k, i, quiet = which > 1;
  memset(&host, 0, sizeof host);
  host.poison = which == 1;
  for (i = 0; i < POINTS; i++) start[i] = i / 16.0;
  mnemo_exec_init(&exec, sizeof exec);
  exec.seed = 3;
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = quiet ? minus_x : counted_eval, ops.jvp = quiet ? minus_v : counted_jvp;
  CALL(mnemo_score_custom(context, process, DIM, &ops, &host, &score, &error));
  memcpy(reference, start, sizeof start);
  CALL(work(what, score, reference, &exec, NULL, NULL));
  if (which == 3) exec.progress = counted_progress, exec.progress_user = &host;
  for (k = 1;; k++) {
    int32_t status;
    host.calls = 0, host.fail_at = k, host.result = results[k % 5];
    memcpy(out, start, sizeof out);
    status = work(what, score, out, &exec, which == 2 ? counted_observer : NULL, &host);
    if (host.calls < k) break;
    CHECK(host.calls == k && memcmp(out, start, sizeof out) == 0);
    FAILS(status, which == 3 ? MNEMO_E_CANCELLED : MNEMO_E_CALLBACK,
          which == 3 ? "progress" : which == 2 ? "observer" : what == JVP ? "jvp" : "eval");
    CHECK(error.native == (which == 0 || which == 2 ? host.result : 0));
    host.fail_at = 0;
    memcpy(out, start, sizeof out);
    CALL(work(what, score, out, &exec, NULL, NULL));
    CHECK(memcmp(out, reference, sizeof out) == 0);
  }
  CHECK(error.code == MNEMO_OK && memcmp(out, reference, sizeof out) == 0);
  CHECK(k > (which < 2 ? 1 : what < SOLVERS ? 0 : 4)); /* it did fail, at every step */
  mnemo_score_release(score);
  mnemo_process_release(process);
  mnemo_context_release(context);
}

/* ---- Callbacks that call the library ---- */

/* A model that samples from itself before it answers, and fails inside: its own error, not the outer call's. */
static int32_t recursive_eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  struct host *host = user;
  host->calls++;
  if (host->depth < 3) {
    double inner[POINTS] = {0}, wrong = -1, y = 0;
    mnemo_tensor ti = tensor(inner, BATCH, DIM, MNEMO_F64), tw = tensor(&wrong, 1, 1, MNEMO_F64);
    mnemo_tensor ty = tensor(&y, 1, 1, MNEMO_F64);
    mnemo_sampler_options options;
    mnemo_score_outputs none;
    mnemo_error own;
    mnemo_sampler_options_init(&options, sizeof options);
    options.steps = 2;
    mnemo_score_outputs_init(&none, sizeof none);
    host->depth++;
    CHECK(mnemo_sample(host->score, &options, &ti, NULL, &own) == MNEMO_OK && own.code == MNEMO_OK);
    CHECK(mnemo_score_eval(host->score, &ty, &tw, &none, NULL, &own) == MNEMO_E_SHAPE && own.len > 0);
    host->depth--;
  }
  return minus_x(NULL, x, t, out, stream);
}

/* The observer of an empirical score asks the same score, whose pool is awake, and reports through the same exec. */
struct inside {
  mnemo_score *score;
  mnemo_dataset *dataset;
  mnemo_exec *exec;
  int calls, depth;
};

static int32_t asking(struct inside *inside) {
  inside->calls++;
  if (inside->depth == 0) {
    double query[DIM] = {0.5}, distance, got[POINTS];
    mnemo_tensor tq = tensor(query, 1, DIM, MNEMO_F64), td = tensor(&distance, 1, 1, MNEMO_F64);
    inside->depth++;
    CHECK(is_right(inside->score, expected));
    CHECK(mnemo_nearest(inside->dataset, &tq, MNEMO_METRIC_L2, 1, &td, NULL, inside->exec, NULL) == MNEMO_OK);
    CHECK(evaluate(inside->score, got, inside->exec, NULL) == MNEMO_OK && memcmp(got, expected, sizeof got) == 0);
    inside->depth--;
  }
  return 0;
}

static int32_t asking_observer(void *user, uint64_t step, double t, const mnemo_tensor *x) {
  (void)step, (void)t, (void)x;
  return asking(user);
}

static int32_t asking_progress(void *user, uint64_t done, uint64_t total) {
  (void)done, (void)total;
  return asking(user);
}

static void recursion(void) {
  mnemo_context *context = make_context(3);
  mnemo_process *process = make_process();
  mnemo_dataset *dataset = make_dataset(context);
  mnemo_score *custom = NULL, *score = NULL;
  mnemo_score_ops ops;
  mnemo_exec exec;
  struct host host;
  struct inside inside;
  double out[POINTS];
  memset(&host, 0, sizeof host);
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = recursive_eval;
  CALL(mnemo_score_custom(context, process, DIM, &ops, &host, &custom, &error));
  host.score = custom;
  CHECK(evaluate(custom, out, NULL, &error) == MNEMO_OK);
  CHECK(host.calls == 1 + 4 + 4 * 4 + 4 * 4 * 4); /* two steps of Heun are four evaluations */
  CALL(mnemo_score_empirical(dataset, process, NULL, &score, &error));
  mnemo_exec_init(&exec, sizeof exec);
  memset(&inside, 0, sizeof inside);
  inside.score = score, inside.dataset = dataset, inside.exec = &exec;
  exec.progress = asking_progress, exec.progress_user = &inside;
  memset(out, 0, sizeof out);
  CALL(work(SOLVERS + MNEMO_SOLVER_HEUN, score, out, &exec, asking_observer, (struct host *)(void *)&inside));
  CHECK(inside.calls > 10 && inside.depth == 0);
  mnemo_context_release(context);
  mnemo_process_release(process);
  mnemo_dataset_release(dataset);
  mnemo_score_release(score);
  mnemo_score_release(custom);
}

/* A first callback that releases everything the call was made of, and a drop that makes and releases objects. */
struct suicide {
  mnemo_context *context;
  mnemo_process *process;
  mnemo_score *score;
  int drops, evals;
};

static int32_t releasing_eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  struct suicide *all = user;
  if (all->evals++ == 0) {
    mnemo_context_release(all->context);
    mnemo_process_release(all->process);
    mnemo_score_release(all->score);
  }
  CHECK(all->drops == 0);
  return minus_x(NULL, x, t, out, stream);
}

static void calling_drop(void *user) {
  mnemo_context *context = make_context(2);
  mnemo_process *process = make_process();
  mnemo_dataset *dataset = make_dataset(context);
  mnemo_score *score = NULL;
  CHECK(mnemo_score_empirical(dataset, process, NULL, &score, NULL) == MNEMO_OK && is_right(score, expected));
  mnemo_score_release(score);
  mnemo_dataset_release(dataset);
  mnemo_process_release(process);
  mnemo_context_release(context);
  ((struct suicide *)user)->drops++;
}

static void released_within(void) {
  struct suicide all;
  mnemo_score_ops ops;
  double out[POINTS] = {0};
  memset(&all, 0, sizeof all);
  all.context = make_context(2);
  all.process = make_process();
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.eval = releasing_eval, ops.drop = calling_drop;
  CALL(mnemo_score_custom(all.context, all.process, DIM, &ops, &all, &all.score, &error));
  CALL(work(SOLVERS + MNEMO_SOLVER_HEUN, all.score, out, NULL, NULL, NULL));
  CHECK(all.evals > 1 && all.drops == 1); /* the call's own share was the last */
}

/* ---- Contexts of different sizes, and objects of one used beside those of another ---- */

static void *evaluate_often(void *argument) {
  int i;
  for (i = 0; i < 10; i++) CHECK(is_right(argument, expected));
  return NULL;
}

static void contexts_mixed(void) {
  static const uint32_t threads[4] = {1, 2, 3, 5};
  mnemo_process *process = make_process();
  mnemo_score *scores[4];
  pthread_t users[8];
  int i;
  for (i = 0; i < 4; i++) {
    mnemo_context *context = make_context(threads[i]);
    mnemo_dataset *dataset = make_dataset(context);
    CALL(mnemo_score_empirical(dataset, process, NULL, &scores[i], &error));
    mnemo_dataset_release(dataset);
    mnemo_context_release(context);
  }
  mnemo_process_release(process);
  CHECK(has_threads(1));
  for (i = 0; i < 8; i++) CHECK(pthread_create(&users[i], NULL, evaluate_often, scores[i % 4]) == 0);
  for (i = 0; i < 8; i++) CHECK(pthread_join(users[i], NULL) == 0);
  CHECK(has_threads(1 + 2 + 3 + 5)); /* a context of one thread works on its caller's */
  for (i = 3; i >= 0; i--) {
    mnemo_score_release(scores[i]);
    CHECK(has_threads(i == 3 ? 1 + 2 + 3 : i == 2 ? 1 + 2 : 1));
  }
}

int main(void) {
  int i, which;
  set_alarm();
  expect(expected);
  for (i = 0; i < rounds(120); i++) graph((uint64_t)i + 1, i % 2);
  for (which = 0; which < 4; which++)
    for (i = EVAL; i < SOLVERS + 8; i++)
      if (which != 2 || i >= SOLVERS) fails_at_every_call(i, which);
  recursion();
  released_within();
  contexts_mixed();
  CHECK(has_threads(1));
  puts("ok boundary");
  return 0;
}
