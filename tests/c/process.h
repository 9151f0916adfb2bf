/* SPDX-License-Identifier: MIT OR Apache-2.0
 * A time limit, the number of this process's threads, and rest. Include it first. */
#ifndef PROCESS_H
#define PROCESS_H

#define _XOPEN_SOURCE 700
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#if defined __GNUC__
#define UNUSED __attribute__((unused))
#else
#define UNUSED
#endif

/* A hang is a failure: an alarm ends the process. Far more than any machine needs, and more where every instruction is
   watched: what is tested is the hang, not the speed. */
UNUSED static void set_alarm(void) { alarm(getenv("UNDER_VALGRIND") != NULL ? 1200 : 120); }

/* Rounds of a test: fewer where every instruction is watched. */
UNUSED static int rounds(int natively) {
  return getenv("UNDER_VALGRIND") != NULL ? (natively + 19) / 20 : natively;
}

UNUSED static void rest(int milliseconds) {
  struct timespec pause;
  pause.tv_sec = milliseconds / 1000;
  pause.tv_nsec = milliseconds % 1000 * 1000000L;
  while (nanosleep(&pause, &pause) != 0) CHECK(errno == EINTR);
}

UNUSED static int thread_count(void) {
  DIR *tasks = opendir("/proc/self/task");
  int n;
  CHECK(tasks != NULL);
  for (n = -2; readdir(tasks) != NULL; n++); /* . and .. do not count */
  CHECK(closedir(tasks) == 0);
  return n;
}

/* Whether this process has that many threads, soon: a thread that was joined is listed a moment longer. */
UNUSED static int has_threads(int wanted) {
  int patience = 5000;
  while (thread_count() != wanted && --patience > 0) rest(1);
  return patience > 0;
}

#endif
