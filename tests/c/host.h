/* SPDX-License-Identifier: MIT OR Apache-2.0
 * A score whose results are known to the bit, and what it is made of. Include it first. */
#ifndef HOST_H
#define HOST_H

#include "process.h"

#include <pthread.h>
#include <signal.h>

/* Enough work for a pool to be started, and more columns than are answered without one. */
enum { ROWS = 1200, DIM = 17, BATCH = 4, POINTS = BATCH * DIM };

static mnemo_error error;

UNUSED static uint32_t random_below(uint64_t *state, uint32_t n) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 33) % n;
}

UNUSED static double random_real(uint64_t *state) { return random_below(state, 1 << 30) / (double)(1 << 30); }

UNUSED static mnemo_context *make_context(uint32_t threads) {
  mnemo_context_options options;
  mnemo_context *context = NULL;
  mnemo_context_options_init(&options, sizeof options);
  options.num_threads = threads;
  CHECK(mnemo_context_create(&options, &context, NULL) == MNEMO_OK);
  return context;
}

/* The same rows every time, without a lock that a fork could find held. */
UNUSED static mnemo_dataset *make_dataset(const mnemo_context *context) {
  double *rows = malloc(sizeof *rows * ROWS * DIM);
  mnemo_tensor table = tensor(rows, ROWS, DIM, MNEMO_F64);
  mnemo_dataset *dataset = NULL;
  uint64_t state = 1;
  int i;
  CHECK(rows != NULL);
  for (i = 0; i < ROWS * DIM; i++) rows[i] = random_real(&state);
  CHECK(mnemo_dataset_copy(context, &table, NULL, NULL, &dataset, NULL) == MNEMO_OK);
  free(rows);
  return dataset;
}

UNUSED static mnemo_process *make_process(void) {
  mnemo_process *process = NULL;
  CHECK(mnemo_process_ve_power(2, 1, 80, &process, NULL) == MNEMO_OK);
  return process;
}

/* What a score answers at fixed points: its status, and the score in `out`. */
UNUSED static int32_t evaluate(const mnemo_score *score, double *out, const mnemo_exec *exec, mnemo_error *err) {
  double x[POINTS], t = 0.5;
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64), tt = tensor(&t, 1, 1, MNEMO_F64);
  mnemo_tensor ts = tensor(out, BATCH, DIM, MNEMO_F64);
  mnemo_score_outputs outputs;
  uint64_t state = 2;
  int i;
  for (i = 0; i < POINTS; i++) x[i] = random_real(&state);
  mnemo_score_outputs_init(&outputs, sizeof outputs);
  outputs.score = &ts;
  return mnemo_score_eval(score, &tx, &tt, &outputs, exec, err);
}

/* The answer of the score of these rows, from a context of its own with one thread. */
UNUSED static void expect(double *expected) {
  mnemo_context *context = make_context(1);
  mnemo_process *process = make_process();
  mnemo_dataset *dataset = make_dataset(context);
  mnemo_score *score = NULL;
  CALL(mnemo_score_empirical(dataset, process, NULL, &score, &error));
  CHECK(evaluate(score, expected, NULL, &error) == MNEMO_OK);
  mnemo_context_release(context);
  mnemo_process_release(process);
  mnemo_dataset_release(dataset);
  mnemo_score_release(score);
}

/* To the bit, whoever computed it. */
UNUSED static int is_right(const mnemo_score *score, const double *expected) {
  double got[POINTS];
  return evaluate(score, got, NULL, NULL) == MNEMO_OK && memcmp(got, expected, sizeof got) == 0;
}

#endif
