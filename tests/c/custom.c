/* The host's own model: data N(mu, s0^2 I) under a VP process, whose every prediction is known. */
#include "check.h"

enum { DIM = 2, BATCH = 3 };

static const double MU[DIM] = {1, -0.5};
static const double S0 = 0.6;
static mnemo_error error;

struct model {
  mnemo_process *process;
  uint32_t prediction;
  int fail, calls, drops;
  void *stream;         /* expected */
};

static void marginal(const struct model *model, double t, double *m, double *sigma) {
  CHECK(mnemo_process_eval(model->process, &t, 1, m, sigma, NULL, NULL, NULL) == MNEMO_OK); /* callbacks may call */
}

/* The prediction is a x + b s; `score` is s, or its derivative if x is a tangent. */
static double predict(uint32_t prediction, double x, double score, double m, double sigma) {
  double eps = -sigma * score, clean = (x + sigma * sigma * score) / m;
  switch (prediction) {
    case MNEMO_PREDICT_SCORE: return score;
    case MNEMO_PREDICT_EPS: return eps;
    case MNEMO_PREDICT_X0: return clean;
    case MNEMO_PREDICT_V: return m * eps - sigma * clean;
    default: return eps - clean;
  }
}

/* s = -(x - m mu) / (m^2 s0^2 + sigma^2), or with mu = 0 its derivative along x. */
static double score_of(double x, double mu, double m, double sigma) {
  return (m * mu - x) / (m * m * S0 * S0 + sigma * sigma);
}

static int32_t write(struct model *model, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, int tangent) {
  int64_t i, j;
  model->calls++;
  CHECK(x->rows == out->rows && x->cols == DIM && out->cols == DIM && x->dtype == out->dtype);
  CHECK(t->rows == x->rows && t->cols == 1 && t->dtype == MNEMO_F64);
  CHECK(x->device_type == MNEMO_CPU && (x->row_stride == 0 || x->row_stride == DIM));
  for (i = 0; i < x->rows; i++) {
    double m, sigma;
    marginal(model, ((double *)t->data)[i], &m, &sigma);
    for (j = 0; j < DIM; j++) {
      int64_t k = i * DIM + j;
      double v = x->dtype == MNEMO_F32 ? ((float *)x->data)[k] : ((double *)x->data)[k];
      double p = predict(model->prediction, v, score_of(v, tangent ? 0 : MU[j], m, sigma), m, sigma);
      if (x->dtype == MNEMO_F32) ((float *)out->data)[k] = (float)p;
      else ((double *)out->data)[k] = p;
    }
  }
  return model->fail;
}

static int32_t eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream) {
  CHECK(stream == ((struct model *)user)->stream);
  return write(user, x, t, out, 0);
}

static int32_t jvp(void *user, const mnemo_tensor *x, const mnemo_tensor *t, const mnemo_tensor *v, mnemo_tensor *out,
                   void *stream) {
  CHECK(stream == ((struct model *)user)->stream && x->rows == v->rows);
  return write(user, v, t, out, 1);
}

static void drop(void *user) { ((struct model *)user)->drops++; }

static mnemo_score *make(const mnemo_context *context, struct model *model) {
  mnemo_score_ops ops;
  mnemo_score *score = NULL;
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.prediction = model->prediction;
  ops.eval = eval, ops.jvp = jvp, ops.drop = drop;
  CALL(mnemo_score_custom(context, model->process, DIM, &ops, model, &score, &error));
  return score;
}

/* Score, denoised value and derivative in both element types. */
static void predictions(const mnemo_context *context, struct model *model) {
  const double x[BATCH * DIM] = {0, 1, -2, 0.5, 3, -0.25}, v[BATCH * DIM] = {1, 0, 0.5, -1, 2, 2};
  double times[BATCH] = {0.1, 0.5, 1};
  double x64[BATCH * DIM], v64[BATCH * DIM], s64[BATCH * DIM], d64[BATCH * DIM], p64[BATCH * DIM];
  float x32[BATCH * DIM], v32[BATCH * DIM], s32[BATCH * DIM], d32[BATCH * DIM], p32[BATCH * DIM];
  mnemo_score *score = make(context, model);
  mnemo_tensor tt = tensor(times, BATCH, 1, MNEMO_F64);
  mnemo_exec exec;
  int single, k;
  for (k = 0; k < BATCH * DIM; k++) x64[k] = x[k], v64[k] = v[k], x32[k] = (float)x[k], v32[k] = (float)v[k];
  for (single = 0; single < 2; single++) {
    uint32_t dtype = single ? MNEMO_F32 : MNEMO_F64;
    double tolerance = single ? 1e-5 : 1e-12;
    mnemo_tensor tx = tensor(single ? (void *)x32 : x64, BATCH, DIM, dtype);
    mnemo_tensor tv = tensor(single ? (void *)v32 : v64, BATCH, DIM, dtype);
    mnemo_tensor ts = tensor(single ? (void *)s32 : s64, BATCH, DIM, dtype);
    mnemo_tensor td = tensor(single ? (void *)d32 : d64, BATCH, DIM, dtype);
    mnemo_tensor tp = tensor(single ? (void *)p32 : p64, BATCH, DIM, dtype);
    mnemo_score_outputs outputs;
    mnemo_score_outputs_init(&outputs, sizeof outputs);
    outputs.score = &ts, outputs.denoised = &td;
    model->calls = 0;
    mnemo_exec_init(&exec, sizeof exec);
    exec.stream = model->stream = &exec; /* any address: a CPU context does not look at it, the model is given it */
    CALL(mnemo_score_eval(score, &tx, &tt, &outputs, &exec, &error));
    CHECK(model->calls == 1); /* once for the whole batch and both outputs */
    CALL(mnemo_score_jvp(score, &tx, &tt, &tv, &tp, &exec, &error));
    model->stream = NULL;
    for (k = 0; k < BATCH * DIM; k++) {
      double m, sigma, s;
      marginal(model, times[k / DIM], &m, &sigma);
      s = score_of(x[k], MU[k % DIM], m, sigma);
      NEAR(single ? s32[k] : s64[k], s, tolerance);
      NEAR(single ? d32[k] : d64[k], (x[k] + sigma * sigma * s) / m, tolerance / m);
      NEAR(single ? p32[k] : p64[k], score_of(v[k], 0, m, sigma), tolerance);
    }
    outputs.entropy = &tt;
    FAILS(mnemo_score_eval(score, &tx, &tt, &outputs, NULL, &error), MNEMO_E_UNSUPPORTED, "entropy");
  }
  mnemo_score_release(score);
}

/* The probability flow of a Gaussian is a scaling about its mean. */
static void flow(const mnemo_context *context, struct model *model) {
  double start[BATCH * DIM] = {0, 1, -2, 0.5, 3, -0.25}, x[BATCH * DIM], m[2], sigma[2], spread[2];
  mnemo_tensor tx = tensor(x, BATCH, DIM, MNEMO_F64);
  mnemo_score *score = make(context, model);
  mnemo_sampler_options options;
  int i, k;
  mnemo_sampler_options_init(&options, sizeof options);
  options.solver = MNEMO_SOLVER_RK45;
  options.rtol = options.atol = 1e-10;
  options.t_start = 1, options.t_end = 0.01;
  for (i = 0; i < 2; i++) {
    marginal(model, i ? options.t_end : options.t_start, &m[i], &sigma[i]);
    spread[i] = sqrt(m[i] * m[i] * S0 * S0 + sigma[i] * sigma[i]);
  }
  memcpy(x, start, sizeof x);
  CALL(mnemo_sample(score, &options, &tx, NULL, &error));
  for (k = 0; k < BATCH * DIM; k++) {
    double mu = MU[k % DIM];
    NEAR(x[k], m[1] * mu + spread[1] / spread[0] * (start[k] - m[0] * mu), 1e-7);
  }
  /* A callback that fails leaves x as it was. */
  memcpy(start, x, sizeof x);
  model->fail = -5;
  FAILS(mnemo_sample(score, &options, &tx, NULL, &error), MNEMO_E_CALLBACK, "eval");
  CHECK(error.native == -5 && memcmp(x, start, sizeof x) == 0);
  model->fail = 0;
  mnemo_score_release(score);
}

/* Context, process and two scores, one of them an empirical score, released in every order; drop is called once, with its score. */
static void orders(void) {
  int order;
  for (order = 0; order < 256; order++) {
    int which[4], k;
    which[0] = order & 3, which[1] = order >> 2 & 3, which[2] = order >> 4 & 3, which[3] = order >> 6;
    if ((1 << which[0] | 1 << which[1] | 1 << which[2] | 1 << which[3]) == 15) {
      double y[DIM] = {1, 2};
      mnemo_tensor ty = tensor(y, 1, DIM, MNEMO_F64);
      mnemo_context *context = NULL;
      mnemo_dataset *data = NULL;
      mnemo_score *custom, *empirical = NULL;
      struct model model = {NULL, MNEMO_PREDICT_EPS, 0, 0, 0, NULL};
      CALL(mnemo_context_create(NULL, &context, &error));
      CALL(mnemo_process_flow(&model.process, &error));
      CALL(mnemo_dataset_copy(context, &ty, NULL, NULL, &data, &error));
      CALL(mnemo_score_empirical(data, model.process, NULL, &empirical, &error));
      mnemo_dataset_release(data);
      custom = make(context, &model);
      for (k = 0; k < 4; k++) {
        int before = model.drops;
        switch (which[k]) {
          case 0: mnemo_context_release(context); break;
          case 1: mnemo_process_release(model.process); break;
          case 2: mnemo_score_release(empirical); break;
          default: mnemo_score_release(custom);
        }
        CHECK(model.drops - before == (which[k] == 3));
      }
    }
  }
}

int main(void) {
  struct model model = {NULL, 0, 0, 0, 0, NULL};
  mnemo_context *context = NULL;
  mnemo_score *score = NULL;
  mnemo_score_ops ops;
  CALL(mnemo_context_create(NULL, &context, &error));
  CALL(mnemo_process_vp_linear(0.1, 5, 1, &model.process, &error));
  for (model.prediction = MNEMO_PREDICT_SCORE; model.prediction <= MNEMO_PREDICT_FLOW; model.prediction++) {
    model.drops = 0;
    predictions(context, &model);
    CHECK(model.drops == 1);
    flow(context, &model);
    CHECK(model.drops == 2);
  }
  /* What is not made owns nothing. */
  mnemo_score_ops_init(&ops, sizeof ops);
  ops.drop = drop;
  FAILS(mnemo_score_custom(context, model.process, DIM, &ops, &model, &score, &error), MNEMO_E_INVALID, "eval");
  ops.eval = eval;
  FAILS(mnemo_score_custom(context, model.process, 0, &ops, &model, &score, &error), MNEMO_E_INVALID, "dim");
  ops.prediction = 5;
  FAILS(mnemo_score_custom(context, model.process, DIM, &ops, &model, &score, &error), MNEMO_E_INVALID, "prediction");
  CHECK(model.drops == 2 && score == NULL);
  mnemo_process_release(model.process);
  mnemo_context_release(context);
  orders();
  puts("ok custom");
  return 0;
}
