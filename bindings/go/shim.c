/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "_cgo_export.h"

/* The record of the call that this thread is in. A score's callback is told its model but not its call; it runs on the
 * thread that made the call. It makes no call on that thread itself: Go runs it on another (call.go). */
static __thread uintptr_t current_call;

static mnemo_tensor *tensor(mnemo_tensor *to, mnemo_go_view from)
{
    if (!from.present) return NULL;
    *to = (mnemo_tensor){from.data ? (void *)from.data : (void *)from.device_data, from.rows, from.cols, from.row_stride,
                         from.dtype, from.device_type, from.device_id, 0};
    return to;
}

#define TENSOR(view) tensor(&(mnemo_tensor){0}, (view))

static int32_t on_progress(void *user, uint64_t done, uint64_t total)
{
    return mnemoGoProgress((uintptr_t)user, done, total);
}

static int32_t on_observe(void *user, uint64_t step, double t, const mnemo_tensor *x)
{
    return mnemoGoObserve((uintptr_t)user, step, t, (mnemo_tensor *)x);
}

static int32_t on_eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream)
{
    return mnemoGoPredict(current_call, (uintptr_t)user, (mnemo_tensor *)x, (mnemo_tensor *)t, NULL, out,
                          (uintptr_t)stream);
}

static int32_t on_jvp(void *user, const mnemo_tensor *x, const mnemo_tensor *t, const mnemo_tensor *v, mnemo_tensor *out,
                      void *stream)
{
    return mnemoGoPredict(current_call, (uintptr_t)user, (mnemo_tensor *)x, (mnemo_tensor *)t, (mnemo_tensor *)v, out,
                          (uintptr_t)stream);
}

static void on_drop(void *user)
{
    mnemoGoDrop((uintptr_t)user);
}

/* Fills `exec` and makes its call the thread's. */
static const mnemo_exec *begin(mnemo_exec *exec, mnemo_go_exec from)
{
    mnemo_exec_init(exec, sizeof *exec);
    exec->flags = from.flags;
    exec->stream = (void *)from.stream;
    exec->seed = from.seed;
    exec->cancel = from.cancel;
    exec->progress = from.progress ? on_progress : NULL;
    exec->progress_user = (void *)from.call;
    current_call = from.call;
    return exec;
}

int32_t mnemo_go_dataset_copy(const mnemo_context *context, mnemo_go_view rows, mnemo_go_view labels,
                              const mnemo_dataset_options *options, mnemo_dataset **out, mnemo_error *err)
{
    return mnemo_dataset_copy(context, TENSOR(rows), TENSOR(labels), options, out, err);
}

int32_t mnemo_go_dataset_gather(const mnemo_dataset *dataset, mnemo_go_view index, mnemo_go_view out, mnemo_error *err)
{
    return mnemo_dataset_gather(dataset, TENSOR(index), TENSOR(out), err);
}

int32_t mnemo_go_score_custom(const mnemo_context *context, const mnemo_process *process, int64_t dim,
                              uint32_t prediction, int has_eval, int has_jvp, uintptr_t model,
                              mnemo_score **out, mnemo_error *err)
{
    mnemo_score_ops ops;
    mnemo_score_ops_init(&ops, sizeof ops);
    ops.prediction = prediction;
    ops.eval = has_eval ? on_eval : NULL;
    ops.jvp = has_jvp ? on_jvp : NULL;
    ops.drop = on_drop;
    return mnemo_score_custom(context, process, dim, &ops, (void *)model, out, err);
}

int32_t mnemo_go_score_eval(const mnemo_score *score, mnemo_go_view x, mnemo_go_view t, mnemo_go_outputs outputs,
                            mnemo_go_exec exec, mnemo_error *err)
{
    mnemo_exec e;
    mnemo_score_outputs to;
    mnemo_score_outputs_init(&to, sizeof to);
    to.score = TENSOR(outputs.score);
    to.denoised = TENSOR(outputs.denoised);
    to.log_density = TENSOR(outputs.log_density);
    to.divergence = TENSOR(outputs.divergence);
    to.entropy = TENSOR(outputs.entropy);
    to.nearest_index = TENSOR(outputs.nearest_index);
    to.nearest_distance = TENSOR(outputs.nearest_distance);
    to.denoised_error_bound = TENSOR(outputs.denoised_error_bound);
    to.log_density_error_bound = TENSOR(outputs.log_density_error_bound);
    return mnemo_score_eval(score, TENSOR(x), TENSOR(t), &to, begin(&e, exec), err);
}

int32_t mnemo_go_score_jvp(const mnemo_score *score, mnemo_go_view x, mnemo_go_view t, mnemo_go_view v, mnemo_go_view out,
                           mnemo_go_exec exec, mnemo_error *err)
{
    mnemo_exec e;
    return mnemo_score_jvp(score, TENSOR(x), TENSOR(t), TENSOR(v), TENSOR(out), begin(&e, exec), err);
}

int32_t mnemo_go_sample(const mnemo_score *score, const mnemo_sampler_options *options, const double *times, int observe,
                        mnemo_go_view x, mnemo_go_exec exec, mnemo_error *err)
{
    mnemo_exec e;
    mnemo_sampler_options o = *options;
    o.times = times;
    o.observer = observe ? on_observe : NULL;
    o.observer_user = (void *)exec.call;
    return mnemo_sample(score, &o, TENSOR(x), begin(&e, exec), err);
}

int32_t mnemo_go_nearest(const mnemo_dataset *dataset, mnemo_go_view queries, uint32_t metric, int64_t k,
                         mnemo_go_view distance, mnemo_go_view index, mnemo_go_exec exec, mnemo_error *err)
{
    mnemo_exec e;
    return mnemo_nearest(dataset, TENSOR(queries), metric, k, TENSOR(distance), TENSOR(index), begin(&e, exec), err);
}

int32_t mnemo_go_memorization(const mnemo_dataset *dataset, mnemo_go_view generated,
                              const mnemo_memorization_options *options, mnemo_memorization_report *report,
                              mnemo_go_exec exec, mnemo_error *err)
{
    mnemo_exec e;
    return mnemo_memorization(dataset, TENSOR(generated), options, report, begin(&e, exec), err);
}
