/* mnemo.h - memorization in diffusion models: exact scores of a training set, samplers, and how much of a result is
 * copied.
 *
 * This file is generated from src/capi by `make abi`. SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * What it is. A context is a machine to compute on. A data set holds training rows y_1 … y_N in R^d, a process says
 * how noise is added, x_t = m(t) y + sigma(t) eps, and a score is a model of grad log p_t(x): the exact one of the
 * smoothed training set, regularized or conditional, or the host's own behind a callback. mnemo_score_eval evaluates
 * it, mnemo_sample draws samples by integrating the reverse process, and mnemo_nearest and mnemo_memorization say what
 * of them is copied.
 *
 * How to link. `cc main.c $(pkg-config --cflags --libs mnemo)`; the SONAME is the ABI's major version.
 *
 * Calls. A call that can fail returns MNEMO_OK (0) or a status and fills the caller's mnemo_error, which may be NULL.
 * On failure outputs are untouched, unless a function says otherwise. `err` is always the last argument and `exec`,
 * where a call can take long, the one before it; both may be NULL. Nothing is printed, no signal handler is set,
 * nothing is started when the library is loaded. A bug in the library is MNEMO_E_PANIC, not the end of the host.
 *
 * Objects are opaque and are released by mnemo_…_release, in any order, from any thread; what one object needs of
 * another it keeps. A handle must live until a call that was given it has begun its work (its first callback), and
 * better until it returns. Releasing twice is an error of the host. Strings in are copied; strings out are static or
 * in the caller's buffer. No memory is ever handed over.
 *
 * Threads. Data sets, processes and scores are immutable and may be used by many threads at once. The host's callbacks
 * run only on the thread that made the call, never on one of the library's own.
 *
 * Option structs begin with struct_size and only ever grow. Fill one with its init function, then change what is to
 * differ. A shorter struct of an older version is completed with initial values; a longer one is accepted if what this
 * version does not know is 0. NULL options mean the initial values.
 *
 * Constants are uint32_t in signatures; an unknown one is MNEMO_E_INVALID (a tensor's dtype MNEMO_E_DTYPE, its
 * device_type MNEMO_E_DEVICE), never a default. Numbers larger than 1e100 in magnitude are refused like NaN and Inf.
 * Any call may answer MNEMO_E_NOMEM or MNEMO_E_PANIC, and any that reads a struct MNEMO_E_UNSUPPORTED; the `Errors:`
 * line of a function names what else it may answer.
 *
 * CUDA. A context made with device_type = MNEMO_CUDA computes on that device, in its primary context, which is that of
 * PyTorch and of the CUDA runtime; the caller's current context is given back. Its calls take tensors in that device's
 * memory, which are used in place, and in the host's, which are copied; `t` and the arrays of options are the host's.
 * Work is queued on exec->stream, after the host's own work there. A call waits for it where a tensor that it was given
 * is in the host's memory (`t` apart), for outputs of one number per row, for empirical Bayes, RK45 and nearest rows, and
 * where MNEMO_EXEC_CHECK is set. Any other call neither waits nor, once the same call was made on that stream
 * and unless others have used 2 GiB of work space since, allocates, and with one time for all rows it may be captured into a CUDA graph; a graph uses the work space of its
 * stream, so it must run on that stream, or while no call does, and context, data set and score must outlive it. A capture that a call cannot be part of is
 * MNEMO_E_UNSUPPORTED. Outputs are unspecified after MNEMO_E_CUDA, a device's after MNEMO_E_CANCELLED too; after a fault of the
 * device every call on its contexts is MNEMO_E_POISONED. Results have the same bits for any split of a batch, and agree
 * with those of a CPU context within their errors; random numbers agree to the bit.
 *
 * Papers: reg = Baptista et al., "Memorization and regularization in generative diffusion models" (2025).
 */
#ifndef MNEMO_H
#define MNEMO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
