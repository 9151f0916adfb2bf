/* SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What a process is like after the library is loaded, and after a context that has had no work: as before. load LIBRARY
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <mnemo.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct state {
  int threads, files;
  struct sigaction handlers[NSIG];
  sigset_t blocked;
};

static int entries(const char *folder) {
  DIR *dir = opendir(folder);
  int n = 0;
  if (!dir) {
    perror(folder);
    exit(1);
  }
  while (readdir(dir)) ++n;
  closedir(dir);
  return n;
}

static struct state look(void) {
  struct state now;
  memset(&now, 0, sizeof now);
  now.threads = entries("/proc/self/task");
  now.files = entries("/proc/self/fd");
  for (int i = 1; i < NSIG; ++i) sigaction(i, NULL, &now.handlers[i]);
  sigprocmask(SIG_BLOCK, NULL, &now.blocked);
  return now;
}

static int same(const char *when, const struct state *before) {
  struct state after = look();
  int ok = 1;
  if (after.threads != before->threads) ok = 0, printf("%s: %d new threads\n", when, after.threads - before->threads);
  if (after.files != before->files) ok = 0, printf("%s: %d more open files\n", when, after.files - before->files);
  if (memcmp(&after.blocked, &before->blocked, sizeof after.blocked) != 0) ok = 0, printf("%s: other signals are blocked\n", when);
  for (int i = 1; i < NSIG; ++i)
    if (after.handlers[i].sa_handler != before->handlers[i].sa_handler)
      ok = 0, printf("%s: signal %d has another handler\n", when, i);
  return ok;
}

int main(int argc, char **argv) {
  struct state before;
  void *library;
  mnemo_context *context;
  int32_t (*create)(const mnemo_context_options *, mnemo_context **, mnemo_error *);
  void (*release)(mnemo_context *);
  if (argc != 2) return 2;
  before = look();
  library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    printf("%s\n", dlerror());
    return 1;
  }
  if (!same("dlopen", &before)) return 1;
  *(void **)&create = dlsym(library, "mnemo_context_create");
  *(void **)&release = dlsym(library, "mnemo_context_release");
  if (!create || !release || create(NULL, &context, NULL) != MNEMO_OK) return printf("no context\n"), 1;
  if (!same("mnemo_context_create", &before)) return 1;
  release(context);
  dlclose(library);
  return same("dlclose", &before) ? 0 : 1;
}
