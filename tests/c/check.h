/* What the C programs share: a check that says where it failed, and tensors in one line. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <mnemo.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(holds) \
  ((holds) ? (void)0 : (fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #holds), exit(1)))

/* A call that must succeed; `error` is the variable it is given. */
#define CALL(call)                                                                                         \
  do {                                                                                                     \
    if ((call) != MNEMO_OK) {                                                                              \
      fprintf(stderr, "%s:%d: %s: %s: %s\n", __FILE__, __LINE__, #call, mnemo_status_name(error.code), error.message); \
      exit(1);                                                                                             \
    }                                                                                                      \
    CHECK(error.code == MNEMO_OK && error.len == 0 && error.message[0] == 0);                              \
  } while (0)

/* A call that must fail, with that status and a message that names `word`. */
#define FAILS(call, status, word)                                                                     \
  do {                                                                                                \
    CHECK((call) == (status));                                                                        \
    CHECK(error.code == (status) && error.len == strlen(error.message) && error.len > 0);             \
    if (strstr(error.message, word) == NULL) {                                                        \
      fprintf(stderr, "%s:%d: '%s' does not name %s\n", __FILE__, __LINE__, error.message, word);     \
      exit(1);                                                                                        \
    }                                                                                                 \
  } while (0)

#define NEAR(got, want, tolerance)                                                             \
  do {                                                                                         \
    double got_ = (got), want_ = (want);                                                       \
    if (!(fabs(got_ - want_) <= (tolerance) * (fabs(want_) > 1 ? fabs(want_) : 1))) {          \
      fprintf(stderr, "%s:%d: %s is %.17g, not %.17g\n", __FILE__, __LINE__, #got, got_, want_); \
      exit(1);                                                                                 \
    }                                                                                          \
  } while (0)

#define PI 3.14159265358979323846

static mnemo_tensor tensor(void *data, int64_t rows, int64_t cols, uint32_t dtype) {
  mnemo_tensor t = {0};
  t.data = data;
  t.rows = rows;
  t.cols = cols;
  t.dtype = dtype;
  t.device_type = MNEMO_CPU;
  return t;
}

#endif
