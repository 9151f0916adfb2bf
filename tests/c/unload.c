/* SPDX-License-Identifier: MIT OR Apache-2.0
 * A plugin's life: the library is loaded, used and unloaded, over and over, also while a thread that used it lives on. Not
 * linked with the library, whose path is the argument. */
#include "process.h"

#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

enum { ROWS = 1200, DIM = 16, BATCH = 4 };

/* The functions used here. */
struct api {
  void *library;
  int32_t (*context_create)(const mnemo_context_options *, mnemo_context **, mnemo_error *);
  void (*context_options_init)(mnemo_context_options *, size_t);
  void (*context_release)(mnemo_context *);
  int32_t (*dataset_copy)(const mnemo_context *, const mnemo_tensor *, const mnemo_tensor *, const mnemo_dataset_options *,
                          mnemo_dataset **, mnemo_error *);
  void (*dataset_release)(mnemo_dataset *);
  int32_t (*nearest)(const mnemo_dataset *, const mnemo_tensor *, uint32_t, int64_t, mnemo_tensor *, mnemo_tensor *,
                     const mnemo_exec *, mnemo_error *);
};

static const char *path;

/* ISO C has no conversion of an object's address to a function's. */
static void find(void *library, const char *name, void *to) {
  void *found = dlsym(library, name);
  CHECK(found != NULL);
  memcpy(to, &found, sizeof found);
}

static struct api load(void) {
  struct api api;
  if ((api.library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) == NULL) fprintf(stderr, "%s\n", dlerror());
  CHECK(api.library != NULL);
  find(api.library, "mnemo_context_create", &api.context_create);
  find(api.library, "mnemo_context_options_init", &api.context_options_init);
  find(api.library, "mnemo_context_release", &api.context_release);
  find(api.library, "mnemo_dataset_copy", &api.dataset_copy);
  find(api.library, "mnemo_dataset_release", &api.dataset_release);
  find(api.library, "mnemo_nearest", &api.nearest);
  return api;
}

/* A call that fails, and one that a pool of two threads works on. */
static void use(const struct api *api) {
  static double rows[ROWS * DIM];
  double distance[BATCH];
  mnemo_tensor table = tensor(rows, ROWS, DIM, MNEMO_F64), queries = tensor(rows, BATCH, DIM, MNEMO_F64);
  mnemo_tensor out = tensor(distance, BATCH, 1, MNEMO_F64);
  mnemo_context_options options;
  mnemo_context *context = NULL;
  mnemo_dataset *dataset = NULL;
  mnemo_error error;
  int i, before = thread_count();
  for (i = 0; i < ROWS * DIM; i++) rows[i] = i % 97;
  api->context_options_init(&options, sizeof options);
  options.num_threads = 2;
  CHECK(api->context_create(&options, &context, &error) == MNEMO_OK);
  table.cols = 0;
  FAILS(api->dataset_copy(context, &table, NULL, NULL, &dataset, &error), MNEMO_E_INVALID, "empty");
  table.cols = DIM;
  CHECK(api->dataset_copy(context, &table, NULL, NULL, &dataset, &error) == MNEMO_OK);
  CHECK(api->nearest(dataset, &queries, MNEMO_METRIC_L2, 1, &out, NULL, NULL, &error) == MNEMO_OK);
  for (i = 0; i < BATCH; i++) CHECK(distance[i] == 0);
  CHECK(has_threads(before + 2));
  api->context_release(context);
  api->dataset_release(dataset);
  CHECK(has_threads(before));
}

/* Uses the library on a thread that ends before its unloading, or only after it. */
struct guest {
  struct api api;
  pthread_barrier_t used, unloaded;
};

static void *visit(void *api) {
  use(api);
  return NULL;
}

static void *stay(void *argument) {
  struct guest *guest = argument;
  use(&guest->api);
  pthread_barrier_wait(&guest->used);
  pthread_barrier_wait(&guest->unloaded);
  return NULL;
}

static void visited(void) {
  struct api api = load();
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, visit, &api) == 0 && pthread_join(thread, NULL) == 0);
  CHECK(dlclose(api.library) == 0);
}

static void outlived(void) {
  struct guest guest;
  pthread_t thread;
  guest.api = load();
  CHECK(pthread_barrier_init(&guest.used, NULL, 2) == 0 && pthread_barrier_init(&guest.unloaded, NULL, 2) == 0);
  CHECK(pthread_create(&thread, NULL, stay, &guest) == 0);
  pthread_barrier_wait(&guest.used);
  CHECK(dlclose(guest.api.library) == 0);
  pthread_barrier_wait(&guest.unloaded);
  CHECK(pthread_join(thread, NULL) == 0);
  CHECK(pthread_barrier_destroy(&guest.used) == 0 && pthread_barrier_destroy(&guest.unloaded) == 0);
}

static void at_home(void) {
  struct api api = load();
  use(&api);
  CHECK(dlclose(api.library) == 0);
}

/* Bytes that are allocated now. */
static long in_use(void) {
  struct mallinfo2 info = mallinfo2();
  return (long)(info.uordblks + info.hblkhd);
}

/* Many times over, and no memory is left. */
static void often(void (*life)(void)) {
  enum { SETTLED = 10 };
  int i, n = rounds(100);
  long before = 0;
  for (i = 0; i < SETTLED + n; i++) {
    if (i == SETTLED) before = in_use();
    life();
    CHECK(has_threads(1));
  }
  CHECK(in_use() - before < 16 * 1024);
}

int main(int count, char **arguments) {
  CHECK(count == 2);
  path = arguments[1];
  set_alarm();
  often(visited);
  often(outlived);
  often(at_home);
  puts("ok unload");
  return 0;
}
