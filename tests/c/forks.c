/* SPDX-License-Identifier: MIT OR Apache-2.0
 * Use after fork: children with their parent's context and with their own, several at once, from the middle of a callback,
 * and while other threads of the parent are inside the library. */
#include "host.h"

#include <sys/wait.h>

enum { CHILDREN = 4 };

static double expected[POINTS];
static mnemo_context *context;
static mnemo_process *process;
static mnemo_dataset *dataset;
static mnemo_score *score;

static void release_all(void) {
  mnemo_context_release(context);
  mnemo_process_release(process);
  mnemo_score_release(score);
  mnemo_dataset_release(dataset);
}

static mnemo_score *own_score(uint32_t threads) {
  mnemo_context *own = make_context(threads);
  mnemo_dataset *data = make_dataset(own);
  mnemo_score *made = NULL;
  CALL(mnemo_score_empirical(data, process, NULL, &made, &error));
  mnemo_dataset_release(data);
  mnemo_context_release(own);
  return made;
}

/* A child says that all went well through a pipe: under valgrind its exit status counts its leaks too, of which the
   parent's pool, which it cannot join, is one on purpose. */
struct child {
  pid_t process; /* 0 in the child */
  int verdict;
};

static struct child start(void) {
  struct child child;
  int ends[2];
  CHECK(pipe(ends) == 0 && (child.process = fork()) >= 0);
  child.verdict = ends[child.process == 0];
  CHECK(close(ends[child.process != 0]) == 0);
  if (child.process == 0) set_alarm(); /* alarms are not inherited */
  return child;
}

static void succeed(struct child self) {
  if (write(self.verdict, "y", 1) == 1) _exit(0);
  _exit(1);
}

static void wait_for(struct child child) {
  char verdict = 0;
  int status = 0;
  CHECK(read(child.verdict, &verdict, 1) == 1 && verdict == 'y' && close(child.verdict) == 0);
  CHECK(waitpid(child.process, &status, 0) == child.process);
  CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || getenv("UNDER_VALGRIND") != NULL));
}

/* Uses, in an order that differs from child to child, the parent's score and one of the child's own. */
static void child_life(int which, int in_middle) {
  mnemo_score *mine;
  if (which % 2) {
    mine = own_score(2);
    CHECK(is_right(mine, expected) && is_right(score, expected));
  } else {
    CHECK(is_right(score, expected));
    mine = own_score(2);
    CHECK(is_right(mine, expected) && is_right(score, expected));
  }
  CHECK(has_threads(1 + 3 + 2));
  mnemo_score_release(mine);
  CHECK(has_threads(1 + 3));
  if (which >= 2 && !in_middle) {
    release_all();
    CHECK(has_threads(1));
  }
}

static void several_at_once(void) {
  struct child children[CHILDREN];
  int i;
  for (i = 0; i < CHILDREN; i++) {
    children[i] = start();
    if (children[i].process == 0) {
      /* A grandchild before the child has done anything, and one after. */
      struct child grandchild = start();
      child_life(i, 0);
      if (grandchild.process == 0) succeed(grandchild);
      wait_for(grandchild);
      if (i < 2) {
        grandchild = start();
        if (grandchild.process == 0) {
          child_life(i + 2, 0);
          succeed(grandchild);
        }
        wait_for(grandchild);
      }
      succeed(children[i]);
    }
    CHECK(is_right(score, expected)); /* the parent goes on */
  }
  for (i = 0; i < CHILDREN; i++) wait_for(children[i]);
  CHECK(is_right(score, expected));
}

/* An observer that forks at its third step: both processes finish the call, with the same result. */
struct forking {
  struct child child;
  int fork_at;
};

static int32_t fork_observer(void *user, uint64_t step, double t, const mnemo_tensor *x) {
  struct forking *forking = user;
  (void)t, (void)x;
  if ((int)step == forking->fork_at) forking->child = start();
  return 0;
}

static void from_a_callback(void) {
  struct forking forking = {{-1, -1}, 100};
  double x[POINTS] = {0}, y[POINTS] = {0};
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), ty = tensor(y, BATCH, DIM, MNEMO_F64);
  mnemo_sampler_options options;
  mnemo_sampler_options_init(&options, sizeof options);
  options.steps = 5, options.from_prior = 1;
  options.observer = fork_observer, options.observer_user = &forking;
  CALL(mnemo_sample(score, &options, &tx, NULL, &error));
  forking.fork_at = 3;
  CALL(mnemo_sample(score, &options, &ty, NULL, &error));
  CHECK(memcmp(x, y, sizeof x) == 0);
  if (forking.child.process == 0) {
    child_life(2, 1);
    succeed(forking.child);
  }
  wait_for(forking.child);
}

/* Threads that are inside the library, in the pool, making contexts, failing, whenever the fork happens. */
static int done;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int is_done(void) {
  int now;
  pthread_mutex_lock(&lock);
  now = done;
  pthread_mutex_unlock(&lock);
  return now;
}

static void set_done(int now) {
  pthread_mutex_lock(&lock);
  done = now;
  pthread_mutex_unlock(&lock);
}

static void *busy(void *argument) {
  int which = (int)(size_t)argument;
  while (!is_done()) {
    if (which == 0) {
      mnemo_context *own = make_context(2);
      mnemo_dataset *data = make_dataset(own);
      mnemo_score *made = NULL;
      CHECK(mnemo_score_empirical(data, process, NULL, &made, NULL) == MNEMO_OK && is_right(made, expected));
      mnemo_score_release(made);
      mnemo_dataset_release(data);
      mnemo_context_release(own);
    } else if (which == 1) {
      CHECK(mnemo_dataset_open(context, "/nowhere", NULL, &dataset, NULL) == MNEMO_E_IO);
    } else {
      CHECK(is_right(score, expected));
    }
  }
  return NULL;
}

static void while_others_work(void) {
  pthread_t threads[4];
  struct child children[CHILDREN];
  size_t i;
  int n, k;
  set_done(0);
  for (i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, busy, (void *)i) == 0);
  for (n = rounds(20); n > 0; n--) {
    for (k = 0; k < CHILDREN; k++) {
      rest(k);
      children[k] = start();
      if (children[k].process == 0) {
        child_life(k, 1);
        succeed(children[k]);
      }
    }
    for (k = 0; k < CHILDREN; k++) wait_for(children[k]);
  }
  set_done(1);
  for (i = 0; i < 4; i++) CHECK(pthread_join(threads[i], NULL) == 0);
}

int main(void) {
  set_alarm();
  expect(expected);
  context = make_context(3);
  process = make_process();
  dataset = make_dataset(context);
  CALL(mnemo_score_empirical(dataset, process, NULL, &score, &error));
  several_at_once(); /* before the parent has threads */
  CHECK(is_right(score, expected) && has_threads(1 + 3));
  several_at_once();
  from_a_callback();
  while_others_work();
  release_all();
  CHECK(has_threads(1));
  puts("ok forks");
  return 0;
}
