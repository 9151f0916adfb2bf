/* What Go calls instead of the library where a call takes tensors or callbacks.
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Go may not pass a pointer to Go memory that itself holds pointers to Go memory, as a mnemo_tensor with Go's data would
 * be. So a matrix comes by value, as a mnemo_go_view, and becomes a mnemo_tensor on the C stack. Its data is a pointer to
 * bytes, not to void: cgo then need not look for pointers in the object around it.
 */
#ifndef MNEMO_GO_SHIM_H
#define MNEMO_GO_SHIM_H

#include <mnemo.h>
#include <stdlib.h>

typedef struct mnemo_go_view {
    uint8_t *data;         /* host memory */
    uintptr_t device_data; /* memory of a device */
    int64_t rows, cols, row_stride;
    uint32_t present; /* 0: no tensor, NULL */
    uint32_t dtype, device_type;
    int32_t device_id;
} mnemo_go_view;

typedef struct mnemo_go_outputs {
    mnemo_go_view score, denoised, log_density, divergence, entropy, nearest_index, nearest_distance;
    mnemo_go_view denoised_error_bound, log_density_error_bound;
} mnemo_go_outputs;

typedef struct mnemo_go_exec {
    uintptr_t call; /* the Go side's record of the call, for its callbacks; 0 if it has none */
    uintptr_t stream;
    uint64_t seed;
    mnemo_cancel *cancel;
    uint32_t flags;
    uint32_t progress; /* 1: report progress to the record */
} mnemo_go_exec;

int32_t mnemo_go_dataset_copy(const mnemo_context *context, mnemo_go_view rows, mnemo_go_view labels,
                              const mnemo_dataset_options *options, mnemo_dataset **out, mnemo_error *err);
int32_t mnemo_go_dataset_gather(const mnemo_dataset *dataset, mnemo_go_view index, mnemo_go_view out, mnemo_error *err);
int32_t mnemo_go_score_custom(const mnemo_context *context, const mnemo_process *process, int64_t dim,
                              uint32_t prediction, int has_eval, int has_jvp, uintptr_t model,
                              mnemo_score **out, mnemo_error *err);
int32_t mnemo_go_score_eval(const mnemo_score *score, mnemo_go_view x, mnemo_go_view t, mnemo_go_outputs outputs,
                            mnemo_go_exec exec, mnemo_error *err);
int32_t mnemo_go_score_jvp(const mnemo_score *score, mnemo_go_view x, mnemo_go_view t, mnemo_go_view v, mnemo_go_view out,
                           mnemo_go_exec exec, mnemo_error *err);
int32_t mnemo_go_sample(const mnemo_score *score, const mnemo_sampler_options *options, const double *times, int observe,
                        mnemo_go_view x, mnemo_go_exec exec, mnemo_error *err);
int32_t mnemo_go_nearest(const mnemo_dataset *dataset, mnemo_go_view queries, uint32_t metric, int64_t k,
                         mnemo_go_view distance, mnemo_go_view index, mnemo_go_exec exec, mnemo_error *err);
int32_t mnemo_go_memorization(const mnemo_dataset *dataset, mnemo_go_view generated,
                              const mnemo_memorization_options *options, mnemo_memorization_report *report,
                              mnemo_go_exec exec, mnemo_error *err);

#endif
