/* Every function once, against closed forms: what a host meets first. */
#include "check.h"

static mnemo_error error;

static void versions(void) {
  CHECK(mnemo_abi_version() >> 16 == MNEMO_ABI_MAJOR);
  CHECK((mnemo_abi_version() & 0xffff) >= MNEMO_ABI_MINOR);
  CHECK(strchr(mnemo_version(), '.') != NULL);
  CHECK(strcmp(mnemo_status_name(MNEMO_E_SHAPE), "MNEMO_E_SHAPE") == 0);
  CHECK(strcmp(mnemo_status_name(-1), "unknown status") == 0);
}

static mnemo_context *contexts(void) {
  mnemo_context_options options;
  mnemo_context *context = NULL;
  char json[512];
  size_t needed = 0, needed_again = 0;
  mnemo_context_options_init(&options, sizeof options);
  options.num_threads = 2;
  CALL(mnemo_context_create(&options, &context, &error));
  CALL(mnemo_context_describe(context, NULL, 0, &needed, &error));
  CHECK(needed > 1 && needed <= sizeof json);
  memset(json, 'x', sizeof json);
  FAILS(mnemo_context_describe(context, json, needed - 1, &needed_again, &error), MNEMO_E_INVALID, "capacity");
  CHECK(needed_again == needed && json[0] == 'x');
  CALL(mnemo_context_describe(context, json, needed, NULL, &error));
  CHECK(strlen(json) + 1 == needed && strstr(json, "\"threads\":2") != NULL && strstr(json, "\"backend\":\"cpu\"") != NULL);
  options.instruction_set = MNEMO_ISA_PORTABLE;
  {
    mnemo_context *portable = NULL;
    CALL(mnemo_context_create(&options, &portable, &error));
    CALL(mnemo_context_describe(portable, json, sizeof json, NULL, &error));
    CHECK(strstr(json, "\"instruction_set\":\"portable\"") != NULL);
    mnemo_context_release(portable);
  }
  options.instruction_set = MNEMO_ISA_BEST;
  options.device_type = 99;
  FAILS(mnemo_context_create(&options, &context, &error), MNEMO_E_INVALID, "device_type");
  return context;
}

/* At one time: m, sigma, beta, g, and that time_of_sigma leads back. */
static void at(mnemo_process *process, double t, double m, double sigma, double beta, double g) {
  double got[4], back;
  CALL(mnemo_process_eval(process, &t, 1, &got[0], &got[1], &got[2], &got[3], &error));
  NEAR(got[0], m, 1e-14);
  NEAR(got[1], sigma, 1e-14);
  NEAR(got[2], beta, 1e-14);
  NEAR(got[3], g, 1e-14);
  CALL(mnemo_process_time_of_sigma(process, &got[1], 1, &back, &error));
  NEAR(back, t, 1e-12);
  mnemo_process_release(process);
}

static void processes(void) {
  const double table[3] = {0.9, 0.5, 0.1};
  double t[3] = {0.5, 80.5, 0}, sigma[3] = {-1, -1, -1};
  mnemo_process *p = NULL;
  CALL(mnemo_process_vp_linear(2, 2, 1, &p, &error));
  at(p, 0.5, exp(-0.5), sqrt(1 - exp(-1.0)), 2, 2);
  CALL(mnemo_process_sub_vp(2, 2, &p, &error));
  at(p, 0.5, exp(-0.5), 1 - exp(-1.0), 2, 2 * (1 - exp(-2.0)));
  CALL(mnemo_process_ve_power(2, 1, 80, &p, &error));
  at(p, 3, 1, 3, 0, 6);
  CALL(mnemo_process_ve_exponential(100, 1, &p, &error));
  at(p, 0.5, 1, sqrt(9 / log(100.0)), 0, 10);
  CALL(mnemo_process_ve_geometric(0.01, 50, &p, &error));
  at(p, 0.5, 1, sqrt(0.5), 0, log(5000.0));
  CALL(mnemo_process_flow(&p, &error));
  at(p, 0.25, 0.75, 0.25, 2 / 0.75, 0.5 / 0.75);
  CALL(mnemo_process_discrete(table, 3, &p, &error));
  CALL(mnemo_process_eval(p, (t[0] = 2, t), 1, &sigma[0], NULL, NULL, NULL, &error));
  NEAR(sigma[0], sqrt(0.5), 1e-14);
  mnemo_process_release(p);
  /* One bad time and nothing is written. */
  CALL(mnemo_process_ve_power(2, 1, 80, &p, &error));
  sigma[0] = -1;
  FAILS(mnemo_process_eval(p, t, 3, NULL, sigma, NULL, NULL, &error), MNEMO_E_INVALID, "t");
  CHECK(sigma[0] == -1 && sigma[1] == -1 && sigma[2] == -1);
  mnemo_process_release(p);
  p = NULL;
  FAILS(mnemo_process_vp_linear(-1, 20, 1, &p, &error), MNEMO_E_INVALID, "beta_min");
  CHECK(p == NULL);
}

/* The same 2 x 2 values in every element type, with a gap after each row. */
static void datasets(const mnemo_context *context) {
  float f32[8] = {0.5f, 1, 9, 9, -2, 0.25f, 9, 9};
  double f64[8] = {0.5, 1, 9, 9, -2, 0.25, 9, 9};
  uint16_t f16[8] = {0x3800, 0x3C00, 0x7E00, 0x7E00, 0xC000, 0x3400, 0x7E00, 0x7E00}; /* NaN in the gap */
  uint16_t bf16[8] = {0x3F00, 0x3F80, 0x7FC0, 0x7FC0, 0xC000, 0x3E80, 0x7FC0, 0x7FC0};
  uint8_t u8[8] = {10, 12, 9, 9, 0, 9, 9, 9}; /* times 0.25, minus 2 */
  const double want[4] = {0.5, 1, -2, 0.25};
  struct { void *data; uint32_t dtype; } kinds[5];
  int32_t labels[2] = {4, -4};
  int kind, apart, i;
  kinds[0].data = f32, kinds[0].dtype = MNEMO_F32;
  kinds[1].data = f64, kinds[1].dtype = MNEMO_F64;
  kinds[2].data = f16, kinds[2].dtype = MNEMO_F16;
  kinds[3].data = bf16, kinds[3].dtype = MNEMO_BF16;
  kinds[4].data = u8, kinds[4].dtype = MNEMO_U8;
  for (kind = 0; kind < 5; kind++) {
    for (apart = 0; apart < 2; apart++) {
      int u = kinds[kind].dtype == MNEMO_U8;
      mnemo_tensor rows = tensor(kinds[kind].data, apart ? 2 : 1, 2, kinds[kind].dtype);
      mnemo_tensor label = tensor(labels, rows.rows, 1, MNEMO_I32);
      int64_t order[2] = {0, 0};
      double values[4] = {7, 7, 7, 7};
      float singles[4] = {7, 7, 7, 7};
      mnemo_tensor index = tensor(order, rows.rows, 1, MNEMO_I64);
      mnemo_tensor out = tensor(values, rows.rows, 2, MNEMO_F64);
      mnemo_dataset_options options;
      struct mnemo_dataset_info info;
      mnemo_dataset *data = NULL;
      mnemo_dataset_options_init(&options, sizeof options);
      rows.row_stride = 4;
      if (u) options.scale = 0.25, options.shift = -2;
      CALL(mnemo_dataset_copy(context, &rows, &label, &options, &data, &error));
      mnemo_dataset_info_init(&info, sizeof info);
      CALL(mnemo_dataset_info(data, &info, &error));
      CHECK(info.rows == rows.rows && info.dim == 2 && info.dtype == rows.dtype && info.labels == rows.rows);
      CHECK(info.min == (apart ? -2 : 0.5) && info.max == 1);
      if (apart) order[0] = 1; /* the second row, then the first */
      CALL(mnemo_dataset_gather(data, &index, &out, &error));
      for (i = 0; i < 4; i++) CHECK(values[i] == (apart ? want[(i + 2) % 4] : i < 2 ? want[i] : 7));
      out.data = singles;
      out.dtype = MNEMO_F32;
      CALL(mnemo_dataset_gather(data, &index, &out, &error));
      CHECK(singles[0] == (float)values[0] && singles[1] == (float)values[1]);
      order[0] = rows.rows;
      FAILS(mnemo_dataset_gather(data, &index, &out, &error), MNEMO_E_INVALID, "index");
      mnemo_dataset_release(data);
    }
  }
}

struct seen {
  uint64_t steps, progress;
  double first, last;
  int stop_at;
};

static int32_t observe(void *user, uint64_t step, double t, const mnemo_tensor *x) {
  struct seen *seen = user;
  CHECK(x->rows == 2 && x->cols == 3 && x->dtype == MNEMO_F64 && step == seen->steps);
  if (step == 0) seen->first = t;
  seen->last = t;
  seen->steps++;
  return seen->stop_at == (int)step ? 77 : 0;
}

static int32_t progress(void *user, uint64_t done, uint64_t total) {
  struct seen *seen = user;
  CHECK(done <= total);
  seen->progress++;
  return 0;
}

/* The empirical score of one row y is that of N(y, t^2 I). */
static void one_row(const mnemo_context *context) {
  double y[3] = {1, -2, 0.5}, x[6] = {0, 1, 2, 3, -2, 0.5}, times[2] = {0.7, 2}, v[6] = {1, 0, 0, 1, 2, -1};
  double s[6], denoised[6], log_density[2], divergence[2], entropy[2], distance[2], product[6], copy[6];
  int64_t index[2];
  mnemo_tensor ty = tensor(y, 1, 3, MNEMO_F64), tx = tensor(x, 2, 3, MNEMO_F64), tt = tensor(times, 2, 1, MNEMO_F64);
  mnemo_tensor tv = tensor(v, 2, 3, MNEMO_F64), ts = tensor(s, 2, 3, MNEMO_F64), td = tensor(denoised, 2, 3, MNEMO_F64);
  mnemo_tensor tl = tensor(log_density, 2, 1, MNEMO_F64), tg = tensor(divergence, 2, 1, MNEMO_F64);
  mnemo_tensor te = tensor(entropy, 2, 1, MNEMO_F64), tr = tensor(distance, 2, 1, MNEMO_F64);
  mnemo_tensor ti = tensor(index, 2, 1, MNEMO_I64), tp = tensor(product, 2, 3, MNEMO_F64);
  mnemo_tensor tc = tensor(copy, 2, 3, MNEMO_F64);
  mnemo_process *process = NULL;
  mnemo_dataset *data = NULL;
  mnemo_score *score = NULL;
  mnemo_score_outputs outputs;
  mnemo_sampler_options sampler;
  mnemo_memorization_options options;
  mnemo_memorization_report report;
  mnemo_exec exec;
  mnemo_cancel *cancel = NULL;
  struct seen seen = {0, 0, 0, 0, -1};
  int i, n;

  CALL(mnemo_process_ve_power(2, 1, 80, &process, &error));
  CALL(mnemo_dataset_copy(context, &ty, NULL, NULL, &data, &error));
  CALL(mnemo_score_empirical(data, process, NULL, &score, &error));
  mnemo_process_release(process);
  mnemo_score_outputs_init(&outputs, sizeof outputs);
  outputs.score = &ts, outputs.denoised = &td, outputs.log_density = &tl, outputs.divergence = &tg;
  outputs.entropy = &te, outputs.nearest_index = &ti, outputs.nearest_distance = &tr;
  CALL(mnemo_score_eval(score, &tx, &tt, &outputs, NULL, &error));
  CALL(mnemo_score_jvp(score, &tx, &tt, &tv, &tp, NULL, &error));
  for (n = 0; n < 2; n++) {
    double variance = times[n] * times[n], d2 = 0;
    for (i = 3 * n; i < 3 * n + 3; i++) {
      double o = y[i % 3] - x[i];
      d2 += o * o;
      NEAR(s[i], o / variance, 1e-12);
      NEAR(denoised[i], y[i % 3], 1e-12);
      NEAR(product[i], -v[i] / variance, 1e-12);
    }
    NEAR(log_density[n], -0.5 * d2 / variance - 1.5 * log(2 * PI * variance), 1e-12);
    NEAR(divergence[n], -3 / variance, 1e-12);
    NEAR(entropy[n], 0, 1e-12);
    NEAR(distance[n], sqrt(d2), 1e-12);
    CHECK(index[n] == 0);
  }

  /* Samples from the prior end on the row, and are the same for the same seed. */
  mnemo_sampler_options_init(&sampler, sizeof sampler);
  mnemo_exec_init(&exec, sizeof exec);
  sampler.from_prior = sampler.denoise_last = 1;
  sampler.observer = observe, sampler.observer_user = &seen;
  exec.seed = 5, exec.progress = progress, exec.progress_user = &seen;
  CALL(mnemo_sample(score, &sampler, &tc, &exec, &error));
  for (i = 0; i < 6; i++) NEAR(copy[i], y[i % 3], 1e-9);
  CHECK(seen.steps == 19 && seen.progress > 0 && seen.first == 80 && seen.last == 0);
  sampler.observer = NULL, sampler.denoise_last = 0, sampler.t_end = 1;
  CALL(mnemo_sample(score, &sampler, &tc, &exec, &error));
  CALL(mnemo_sample(score, &sampler, &tx, &exec, &error));
  CHECK(memcmp(x, copy, sizeof x) == 0);
  exec.seed = 6;
  CALL(mnemo_sample(score, &sampler, &tx, &exec, &error));
  CHECK(memcmp(x, copy, sizeof x) != 0);
  /* An observer that stops leaves x as it was. */
  memcpy(copy, x, sizeof x);
  seen.steps = 0, seen.stop_at = 3, sampler.observer = observe;
  FAILS(mnemo_sample(score, &sampler, &tx, &exec, &error), MNEMO_E_CALLBACK, "observer");
  CHECK(error.native == 77 && seen.steps == 4 && memcmp(x, copy, sizeof x) == 0);

  /* A cancel flag stops every call until it is reset. */
  CALL(mnemo_cancel_create(&cancel, &error));
  mnemo_exec_init(&exec, sizeof exec);
  exec.cancel = cancel;
  CHECK(mnemo_cancel_request(cancel) == MNEMO_OK);
  FAILS(mnemo_score_eval(score, &tx, &tt, &outputs, &exec, &error), MNEMO_E_CANCELLED, "cancel");
  CHECK(mnemo_cancel_reset(cancel) == MNEMO_OK);
  CALL(mnemo_score_eval(score, &tx, &tt, &outputs, &exec, &error));
  mnemo_cancel_release(cancel);

  /* A sample 0.1 from the row, and one 4 from it. */
  for (i = 0; i < 6; i++) x[i] = y[i % 3];
  x[0] += 0.1, x[5] -= 4;
  CALL(mnemo_nearest(data, &tx, MNEMO_METRIC_L2, 1, &tr, &ti, NULL, &error));
  NEAR(distance[0], 0.1, 1e-12);
  NEAR(distance[1], 4, 1e-12);
  mnemo_memorization_options_init(&options, sizeof options);
  mnemo_memorization_report_init(&report, sizeof report);
  FAILS(mnemo_memorization(data, &tx, &options, &report, NULL, &error), MNEMO_E_INVALID, "threshold");
  CHECK(report.samples == 0);
  options.threshold = 0.2;
  CALL(mnemo_memorization(data, &tx, &options, &report, NULL, &error));
  CHECK(report.samples == 2 && report.copied == 1 && report.fraction_copied == 0.5);
  NEAR(report.min_distance, 0.1, 1e-12);
  NEAR(report.median_distance, 2.05, 1e-12);
  NEAR(report.max_distance, 4, 1e-12);
  FAILS(mnemo_nearest(data, &tx, MNEMO_METRIC_L2, 2, NULL, NULL, NULL, &error), MNEMO_E_INVALID, "k");
  mnemo_dataset_release(data);
  mnemo_score_release(score);
}

/* A file, and what is wrong with another. */
static void files(const mnemo_context *context, const char *folder) {
  char path[4096];
  static const unsigned char idx[] = {0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6};
  double values[3];
  int64_t second = 1;
  mnemo_tensor index = tensor(&second, 1, 1, MNEMO_I64), out = tensor(values, 1, 3, MNEMO_F64);
  mnemo_dataset *data = NULL;
  FILE *file;
  CHECK(strlen(folder) < sizeof path - 16);
  strcat(strcpy(path, folder), "/rows.idx");
  CHECK((file = fopen(path, "wb")) != NULL && fwrite(idx, sizeof idx, 1, file) == 1 && fclose(file) == 0);
  CALL(mnemo_dataset_open(context, path, NULL, &data, &error));
  CALL(mnemo_dataset_gather(data, &index, &out, &error));
  CHECK(values[0] == 4 && values[1] == 5 && values[2] == 6);
  mnemo_dataset_release(data);
  data = NULL;
  CHECK((file = fopen(path, "wb")) != NULL && fwrite(idx, sizeof idx - 1, 1, file) == 1 && fclose(file) == 0);
  FAILS(mnemo_dataset_open(context, path, NULL, &data, &error), MNEMO_E_IO, "rows.idx");
  CHECK(remove(path) == 0);
  FAILS(mnemo_dataset_open(context, path, NULL, &data, &error), MNEMO_E_IO, "rows.idx");
  CHECK(error.native == 2 && data == NULL);
}

int main(int count, char **arguments) {
  mnemo_context *context;
  CHECK(count == 2); /* a folder to write to */
  versions();
  context = contexts();
  processes();
  datasets(context);
  one_row(context);
  files(context, arguments[1]);
  mnemo_context_release(context);
  puts("ok basics");
  return 0;
}
