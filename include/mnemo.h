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

/* ====================================================================================================================
 * Status and errors
 * ==================================================================================================================== */

/**
 * Success.
 */
#define MNEMO_OK 0

/**
 * An argument has a value that is not accepted (NULL, NaN, out of range, an unknown constant).
 */
#define MNEMO_E_INVALID 1

/**
 * Sizes or strides do not agree, or are not accepted.
 */
#define MNEMO_E_SHAPE 2

/**
 * An element type is not accepted.
 */
#define MNEMO_E_DTYPE 3

/**
 * The device is not there, or a tensor lives on another device than its context.
 */
#define MNEMO_E_DEVICE 4

/**
 * Memory could not be had, or the context's memory_limit would be passed.
 */
#define MNEMO_E_NOMEM 5

/**
 * A file could not be read, does not hold what its header says, or was changed while a data set reads its rows from it;
 * `native` is errno or 0.
 */
#define MNEMO_E_IO 6

/**
 * The CUDA driver reported an error; `native` is its number.
 */
#define MNEMO_E_CUDA 7

/**
 * A kernel could not be compiled or loaded; `native` is the number of NVRTC or of the CUDA driver.
 */
#define MNEMO_E_COMPILE 8

/**
 * A cancel handle or a progress callback asked to stop.
 */
#define MNEMO_E_CANCELLED 9

/**
 * A callback of the host failed; `native` is what it returned.
 */
#define MNEMO_E_CALLBACK 10

/**
 * The request is understood, but this object or this version cannot do it.
 */
#define MNEMO_E_UNSUPPORTED 11

/**
 * The context cannot be used any more (a CUDA context after a fork or a device fault).
 */
#define MNEMO_E_POISONED 12

/**
 * A bug in the library; the object that was being worked on should be released.
 */
#define MNEMO_E_PANIC 13

/**
 * The ABI's major version: the SONAME is libmnemo.so.MAJOR. While it is 0, minor versions may change the ABI too;
 * every change is in CHANGELOG.md.
 */
#define MNEMO_ABI_MAJOR 0

/**
 * The ABI's minor version: goes up when something is added.
 */
#define MNEMO_ABI_MINOR 2

/**
 * What went wrong in one call, in memory of the caller's own; 512 bytes, no initialisation needed. A call that is
 * given one fills it whatever happens: on success `code` is MNEMO_OK and `message` is empty.
 */
typedef struct mnemo_error {
  /**
   * The status that the call returned.
   */
  int32_t code;
  /**
   * The number of the layer below: errno, a CUDA error, a callback's own result; 0 if there is none.
   */
  int32_t native;
  /**
   * Length of `message` in bytes, without its NUL.
   */
  uint32_t len;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * UTF-8, NUL-terminated, cut at a character if it is too long. Names the argument, what was given and what is
   * accepted.
   */
  char message[496];
} mnemo_error;

/**
 * The ABI version of the library that is loaded: (major << 16) | minor. Compare its upper half with MNEMO_ABI_MAJOR
 * and its lower half with at least the MNEMO_ABI_MINOR you were compiled with.
 *
 * Threads: any. Errors: none.
 */
uint32_t mnemo_abi_version(void);

/**
 * The version of the library that is loaded, such as "0.1.0". A static string.
 *
 * Threads: any. Errors: none.
 */
const char *mnemo_version(void);

/**
 * The name of a status, such as "MNEMO_E_SHAPE"; "unknown status" for a number that is none. A static string.
 *
 * Threads: any. Errors: none.
 */
const char *mnemo_status_name(int32_t status);

/* ====================================================================================================================
 * Tensors
 * ==================================================================================================================== */

/**
 * Element type: IEEE binary32.
 */
#define MNEMO_F32 1

/**
 * Element type: IEEE binary64.
 */
#define MNEMO_F64 2

/**
 * Element type: IEEE binary16.
 */
#define MNEMO_F16 3

/**
 * Element type: bfloat16.
 */
#define MNEMO_BF16 4

/**
 * Element type: unsigned 8-bit integer.
 */
#define MNEMO_U8 5

/**
 * Element type: signed 32-bit integer.
 */
#define MNEMO_I32 6

/**
 * Element type: signed 64-bit integer.
 */
#define MNEMO_I64 7

/**
 * Device type: the host's memory (DLPack's number).
 */
#define MNEMO_CPU 1

/**
 * Device type: the memory of a CUDA device (DLPack's number).
 */
#define MNEMO_CUDA 2

/**
 * A view of a row-major matrix in the caller's memory. A vector of n numbers has rows = n and cols = 1.
 *
 * The memory is borrowed for the call, a device's until the stream of the call has passed. It must be aligned to the
 * element type. Rows may be apart (row_stride > cols);
 * elements of a row are not. NaN or Inf in an input is an error that names the row and the column. An input may be the
 * same memory as an output; two outputs may not.
 */
typedef struct mnemo_tensor {
  /**
   * The first element; may be NULL if there is none (rows or cols is 0).
   */
  void *data;
  /**
   * Number of rows.
   */
  int64_t rows;
  /**
   * Number of columns.
   */
  int64_t cols;
  /**
   * Elements from one row to the next, at least cols; 0 means cols. Not looked at when there are fewer than two
   * rows.
   */
  int64_t row_stride;
  /**
   * MNEMO_F32 …
   */
  uint32_t dtype;
  /**
   * MNEMO_CPU or MNEMO_CUDA.
   */
  uint32_t device_type;
  /**
   * Which CUDA device; not looked at for MNEMO_CPU.
   */
  int32_t device_id;
  /**
   * 0.
   */
  uint32_t reserved;
} mnemo_tensor;

/**
 * The mnemo_tensor of a contiguous matrix in the host's memory, for C: a compound literal, so that its address may be
 * passed to a call as it is: `mnemo_score_eval(score, &MNEMO_CPU_TENSOR(x, n, d, MNEMO_F32), …)`.
 */
#define MNEMO_CPU_TENSOR(data, rows, cols, dtype) \
  ((mnemo_tensor){(void *)(data), (rows), (cols), 0, (dtype), MNEMO_CPU, 0, 0})

/* ====================================================================================================================
 * One call: stream, seed, cancel, progress
 * ==================================================================================================================== */

/**
 * Ask a CUDA context to wait, and to report NaN, Inf and numbers that a result cannot hold as it does for tensors in the
 * host's memory. Without it rows of a device tensor that have such numbers give NaN, nearest_index -1, and results beyond
 * F32 are infinite. Calls that wait for every step (nearest rows, memorization, RK45) always look. CPU contexts always check their
 * inputs; they accept the flag and need nothing from it.
 */
#define MNEMO_EXEC_CHECK 1

/**
 * A flag by which any thread stops calls that were given it.
 */
typedef struct mnemo_cancel mnemo_cancel;

/**
 * How one call runs. NULL in its place means the initial values of mnemo_exec_init: no seed, no cancel, no progress.
 */
typedef struct mnemo_exec {
  /**
   * sizeof(mnemo_exec).
   */
  uint32_t struct_size;
  /**
   * MNEMO_EXEC_… or 0.
   */
  uint32_t flags;
  /**
   * The CUDA stream of the call, of the context's device; NULL is the legacy default stream. It must outlive the work
   * that is queued on it. CPU contexts hand it on to callbacks and do not look at it.
   */
  void *stream;
  /**
   * The seed of every random number of the call. Numbers come from Philox4x32-10 (Salmon et al. 2011) and depend on
   * nothing but (seed, sample index, step, purpose, element): key = (seed low, seed high), counter = (element / 2,
   * step, sample low, purpose << 24 | sample high), purpose 0 = initial state, 1 = step noise, 2 = EDM churn. The
   * four words w0 … w3 give elements 2i and 2i+1 by Box-Muller in float64: u = ((w1:w0 >> 11) + 0.5) 2^-53, v =
   * (w3:w2 >> 11) 2^-53, sqrt(-2 ln u) cos(2 pi v) and sqrt(-2 ln u) sin(2 pi v).
   */
  uint64_t seed;
  /**
   * Stops the call when requested, or NULL.
   */
  mnemo_cancel *cancel;
  /**
   * Called now and then with (done, total), in units of the call's own (rows, steps), on the thread that made the
   * call; while one step takes long, with the same numbers again. A non-zero result stops the call with
   * MNEMO_E_CANCELLED. Or NULL.
   */
  int32_t (*progress)(void *user, uint64_t done, uint64_t total);
  /**
   * Passed to `progress`.
   */
  void *progress_user;
} mnemo_exec;

/**
 * Fills `exec` with its initial values; `size` is sizeof *exec.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_exec_init(mnemo_exec *exec, size_t size);

/**
 * Makes a cancel flag, not requested, into `out`. Owned by the caller: mnemo_cancel_release.
 *
 * Threads: any. Errors: MNEMO_E_INVALID.
 */
int32_t mnemo_cancel_create(mnemo_cancel **out, mnemo_error *err);

/**
 * Asks every call that was given `cancel` to stop with MNEMO_E_CANCELLED; later ones stop at once, until a reset.
 *
 * Threads: any, at any time; safe in a signal handler. Errors: MNEMO_E_INVALID.
 */
int32_t mnemo_cancel_request(mnemo_cancel *cancel);

/**
 * Makes `cancel` usable for new calls.
 *
 * Threads: any; a call still running under it may miss the request. Errors: MNEMO_E_INVALID.
 */
int32_t mnemo_cancel_reset(mnemo_cancel *cancel);

/**
 * Releases `cancel`; NULL is ignored. No call may still be using it.
 *
 * Threads: any. Errors: none.
 */
void mnemo_cancel_release(mnemo_cancel *cancel);

/* ====================================================================================================================
 * Contexts: where computing happens
 * ==================================================================================================================== */

/**
 * Instruction set: the best that this processor has.
 */
#define MNEMO_ISA_BEST 0

/**
 * Instruction set: none beyond what every processor of the architecture has.
 */
#define MNEMO_ISA_PORTABLE 1

/**
 * Instruction set: x86-64 with AVX2 and FMA.
 */
#define MNEMO_ISA_AVX2 2

/**
 * Instruction set: x86-64 with AVX-512 F, DQ, VL and VNNI.
 */
#define MNEMO_ISA_AVX512 3

/**
 * Instruction set: the same with AVX-512 BW and AMX, on Linux. The first context that has it, be it as the best, asks the
 * system for the tile registers on behalf of the process; from then on an alternate signal stack must have
 * getauxval(AT_MINSIGSTKSZ) bytes. Where one is smaller already the system refuses, and AVX-512 is the best.
 */
#define MNEMO_ISA_AMX 4

/**
 * A machine to compute on, with its own threads. Objects made from a context keep what they need of it: it may be
 * released before they are.
 */
typedef struct mnemo_context mnemo_context;

/**
 * How a context computes.
 */
typedef struct mnemo_context_options {
  /**
   * sizeof(mnemo_context_options).
   */
  uint32_t struct_size;
  /**
   * MNEMO_CPU (initially) or MNEMO_CUDA.
   */
  uint32_t device_type;
  /**
   * Which CUDA device; initially 0.
   */
  int32_t device_id;
  /**
   * Threads of a CPU context; 0 (initially) means one per processor. They start with the first work that is worth
   * it.
   */
  uint32_t num_threads;
  /**
   * Bytes of memory that the stored rows of one data set may take, and what is kept to find those near a sample (104
   * bytes a row and one a number; up to 16 dimensions 16 a number instead), which is left out where it does not fit; 0
   * (initially) means no limit. Rows of a larger file stay there: mnemo_dataset_open. A CUDA context keeps a copy of the
   * rows on the device, and none of what finds near ones; rows of a larger file are MNEMO_E_UNSUPPORTED on it.
   */
  uint64_t memory_limit;
  /**
   * Folder for compiled CUDA kernels, UTF-8, copied; NULL (initially) means the user's cache folder. Who can write to it
   * can have the device run what they like. One that cannot be written to costs time, and is no error.
   */
  const char *kernel_cache_dir;
  /**
   * MNEMO_ISA_…, the kernels of a CPU context; initially MNEMO_ISA_BEST. Results on two machines have the same bits
   * if they use the same one: a set that both have, or MNEMO_ISA_PORTABLE, which is several times slower.
   */
  uint32_t instruction_set;
  /**
   * 0.
   */
  uint32_t reserved;
} mnemo_context_options;

/**
 * Fills `options` with its initial values; `size` is sizeof *options.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_context_options_init(mnemo_context_options *options, size_t size);

/**
 * Makes a context into `out`. `options` may be NULL. Owned by the caller: mnemo_context_release.
 *
 * After a fork the child may go on using its parent's CPU contexts: each process starts threads of its own. Calls on its
 * parent's CUDA contexts, and with what was made on them, are MNEMO_E_POISONED there.
 *
 * A CUDA context needs NVIDIA's driver, for CUDA 12.0 or later, and a device of compute capability 8.0 or higher; what is
 * missing is MNEMO_E_DEVICE, and no CUDA context ever computes on the CPU. Kernels are compiled by NVRTC 12.0 or later, if
 * it is found (the file that MNEMO_NVRTC names, or where the loader, CUDA's installer and the PyPI packages of NVRTC put
 * it), and kept in kernel_cache_dir; without it the driver compiles the PTX that is in the library.
 *
 * Threads: any; one context may be used by many threads at once. Errors: MNEMO_E_INVALID, MNEMO_E_UNSUPPORTED,
 * MNEMO_E_DEVICE if the device or its driver is not there, or the processor does not have the instruction set.
 */
int32_t mnemo_context_create(const mnemo_context_options *options,
                             mnemo_context **out,
                             mnemo_error *err);

/**
 * Makes ready on a CUDA `context` what its first calls would otherwise do: all kernels are compiled, or read from the
 * cache, and loaded. A CPU context needs nothing. Work space is taken by the first call of each size on each stream.
 *
 * Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_COMPILE, MNEMO_E_CUDA, MNEMO_E_POISONED.
 */
int32_t mnemo_context_warm_up(const mnemo_context *context, mnemo_error *err);

/**
 * Describes `context` as a JSON object with the members "backend", "instruction_set", "threads" and "device". A CUDA
 * context's instruction set is its compute capability, such as "sm_90"; it adds "device_id", "driver" (the CUDA version
 * it is for), "nvrtc" (its version, or null), "cache" (the folder, or null) and "kernels", how many files of them were
 * compiled, read from the cache, taken from the library's own PTX, and not yet loaded.
 *
 * Writes it with its NUL to `json`, of `capacity` bytes, and the bytes that takes to `needed` (which may be NULL).
 * With json = NULL and capacity = 0 it only tells `needed`.
 *
 * Threads: any. Errors: MNEMO_E_INVALID; if `capacity` is too small `needed` is set all the same.
 */
int32_t mnemo_context_describe(const mnemo_context *context,
                               char *json,
                               size_t capacity,
                               size_t *needed,
                               mnemo_error *err);

/**
 * Releases `context`; NULL is ignored. When the last object that computes on it is gone too, its threads have ended.
 *
 * Threads: any. Errors: none.
 */
void mnemo_context_release(mnemo_context *context);

/* ====================================================================================================================
 * Forward processes
 * ==================================================================================================================== */

/**
 * A forward process dx = -beta/2 x dt + sqrt(g) dW, under which x_t given a training row y is N(m(t) y, sigma(t)^2 I).
 * g is the variance rate. Immutable.
 */
typedef struct mnemo_process mnemo_process;

/**
 * Variance preserving, linear: beta = g = beta_min + (t/T)(beta_max - beta_min), 0 <= t <= T = t_end; m = exp(-B/2),
 * sigma^2 = 1 - exp(-B), B the integral of beta. Song et al.: 0.1, 20, 1. beta_min = beta_max is the constant
 * schedule.
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_vp_linear(double beta_min,
                                double beta_max,
                                double t_end,
                                mnemo_process **out,
                                mnemo_error *err);

/**
 * Sub-VP (Song et al. 2021): m and beta as vp_linear with T = 1, sigma = 1 - exp(-B), g = beta (1 - exp(-2B)).
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_sub_vp(double beta_min, double beta_max, mnemo_process **out, mnemo_error *err);

/**
 * Variance exploding, power: beta = 0, g = k t^a, m = 1, sigma^2 = k t^(a+1) / (a+1). EDM (sigma = t) is k = 2, a = 1,
 * t_end = 80. k > 0, a > -1.
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_ve_power(double k, double a, double t_end, mnemo_process **out, mnemo_error *err);

/**
 * Variance exploding, exponential: beta = 0, g = r^t, m = 1, sigma^2 = (r^t - 1) / ln r, r = rate_base > 0 (reg 2: r =
 * 100).
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_ve_exponential(double rate_base, double t_end, mnemo_process **out, mnemo_error *err);

/**
 * Variance exploding, geometric (Song et al. 2021): m = 1, sigma = sigma_min (sigma_max / sigma_min)^t, 0 <= t <= 1.
 * sigma(0) is sigma_min, not 0.
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_ve_geometric(double sigma_min, double sigma_max, mnemo_process **out, mnemo_error *err);

/**
 * Discrete variance preserving (DDPM): alpha_bar[0] … alpha_bar[steps - 1], strictly falling in (0, 1), belong to t =
 * 1 … steps; m = sqrt(alpha_bar), sigma^2 = 1 - alpha_bar, and between steps log(sigma/m) is linear in t; at a step
 * beta and g are those of the interval below it. t lies in [1, steps]; 0 stands only for the clean end of a sampler's
 * own time grid. The table is copied.
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_discrete(const double *alpha_bar, int64_t steps, mnemo_process **out, mnemo_error *err);

/**
 * Flow matching (rectified flow): x_t = (1 - t) y + t eps, m = 1 - t, sigma = t, 0 <= t <= 1; beta = 2 / (1 - t) and g
 * = 2t / (1 - t) are infinite at t = 1. The ODE solvers start there all the same on the grids UNIFORM_T, UNIFORM_S and
 * CUSTOM; the KARRAS grid and EDM_STOCHASTIC (sigma/m is infinite) and EULER_MARUYAMA (g is) want a t_start below 1.
 *
 * Threads: any. Errors: MNEMO_E_INVALID. Owned by the caller: mnemo_process_release.
 */
int32_t mnemo_process_flow(mnemo_process **out, mnemo_error *err);

/**
 * The process at `n` times: m, sigma, beta and g, each an array of n or NULL.
 *
 * Threads: any. Errors: MNEMO_E_INVALID if a time is outside the process, MNEMO_E_SHAPE; nothing is written then.
 */
int32_t mnemo_process_eval(const mnemo_process *process,
                           const double *t,
                           int64_t n,
                           double *m,
                           double *sigma,
                           double *beta,
                           double *g,
                           mnemo_error *err);

/**
 * The inverse of sigma(t): the times at which the process has `n` given noise levels, into `t`, an array of n.
 *
 * Threads: any. Errors: MNEMO_E_INVALID if a level is outside the process, MNEMO_E_SHAPE; nothing is written then.
 */
int32_t mnemo_process_time_of_sigma(const mnemo_process *process,
                                    const double *sigma,
                                    int64_t n,
                                    double *t,
                                    mnemo_error *err);

/**
 * Releases `process`; NULL is ignored. Scores made from it keep it.
 *
 * Threads: any. Errors: none.
 */
void mnemo_process_release(mnemo_process *process);

/* ====================================================================================================================
 * Data sets: the training rows
 * ==================================================================================================================== */

/**
 * Training rows, kept in their own element type, and their labels. Immutable; scores made from it keep it alive.
 */
typedef struct mnemo_dataset mnemo_dataset;

/**
 * How rows are read.
 */
typedef struct mnemo_dataset_options {
  /**
   * sizeof(mnemo_dataset_options).
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * value = scale * raw + shift, in float64; initially 1. For 8-bit images in [-1, 1]: scale = 1/127.5, shift = -1.
   */
  double scale;
  /**
   * Initially 0.
   */
  double shift;
  /**
   * mnemo_dataset_open only: a file of one integer per row (.npy or IDX, plain or gzip), UTF-8; initially NULL, no
   * labels.
   */
  const char *labels_path;
} mnemo_dataset_options;

/**
 * What a data set holds.
 */
struct mnemo_dataset_info {
  /**
   * sizeof(mnemo_dataset_info), set by the caller.
   */
  uint32_t struct_size;
  /**
   * The element type of the stored rows, MNEMO_F32 …
   */
  uint32_t dtype;
  /**
   * Number of rows N.
   */
  int64_t rows;
  /**
   * Dimension d of a row.
   */
  int64_t dim;
  /**
   * Number of distinct labels; 0 if there are none.
   */
  int64_t labels;
  /**
   * The smallest value, after scale and shift.
   */
  double min;
  /**
   * The largest value. 8-bit images in their own range: open, read min and max, open again scaled by them.
   */
  double max;
};

/**
 * Fills `options` with its initial values; `size` is sizeof *options.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_dataset_options_init(mnemo_dataset_options *options, size_t size);

/**
 * Fills `info` with zeros and its size; `size` is sizeof *info.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_dataset_info_init(struct mnemo_dataset_info *info, size_t size);

/**
 * Makes a data set of a copy of `rows` [N, d] (F32, F64, F16, BF16 or U8; at least one row and one column) into `out`.
 *
 * Tensors in a device's memory are read on the legacy default stream, and waited for.
 *
 * `labels` is NULL or a vector of N integers (I64, I32 or U8). `options` may be NULL. Owned by the caller:
 * mnemo_dataset_release.
 *
 * Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM.
 */
int32_t mnemo_dataset_copy(const mnemo_context *context,
                           const mnemo_tensor *rows,
                           const mnemo_tensor *labels,
                           const mnemo_dataset_options *options,
                           mnemo_dataset **out,
                           mnemo_error *err);

/**
 * Makes a data set of a file into `out`: .npy (f2, f4, f8 or u1) or IDX (u8, f32 or f64; the MNIST format), plain or
 * gzip-compressed, told by their contents. The first dimension is N, the others are flattened to d.
 *
 * `path` is UTF-8. `options` may be NULL. A file that is truncated, too long or not what its header says is
 * MNEMO_E_IO; nothing is allocated before sizes are checked. Owned by the caller: mnemo_dataset_release.
 *
 * Rows that exceed the context's memory_limit stay in the file, if it is not compressed: it is kept open, and every call
 * reads what it needs, at most 8 KiB at a time on the stack of each thread. In memory are then 8 bytes a row and 8 a label
 * (labels alone must fit the limit), and what calls take anyway. Results have the same bits as with the rows in memory,
 * with one exception: scores at small sigma, whose near rows are found and summed apart where the limit leaves room for
 * it (see memory_limit) and by a pass over all rows where it does not, may differ within their error. A file that cannot
 * be read, is cut short, or changes in size or time of modification is MNEMO_E_IO of that call and of every later one
 * with this data set. Its name may be removed or given to another file.
 *
 * Threads: any. Errors: MNEMO_E_IO, MNEMO_E_DTYPE, MNEMO_E_UNSUPPORTED, MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_NOMEM.
 */
int32_t mnemo_dataset_open(const mnemo_context *context,
                           const char *path,
                           const mnemo_dataset_options *options,
                           mnemo_dataset **out,
                           mnemo_error *err);

/**
 * Describes `dataset` in `info`, whose struct_size is set.
 *
 * Threads: any. Errors: MNEMO_E_INVALID.
 */
int32_t mnemo_dataset_info(const mnemo_dataset *dataset, struct mnemo_dataset_info *info, mnemo_error *err);

/**
 * Writes the values of the rows named by `index` (a vector of I64) to `out` [rows of index, d], F32 or F64. Tensors in a
 * device's memory are read and written on the legacy default stream, and waited for.
 *
 * Threads: any. Errors: MNEMO_E_INVALID for an index outside [0, N); MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE,
 * MNEMO_E_NOMEM, MNEMO_E_IO (rows in a file: all of them are read, into memory of their own, before one is written).
 */
int32_t mnemo_dataset_gather(const mnemo_dataset *dataset,
                             const mnemo_tensor *index,
                             mnemo_tensor *out,
                             mnemo_error *err);

/**
 * Releases `dataset`; NULL is ignored.
 *
 * Threads: any. Errors: none.
 */
void mnemo_dataset_release(mnemo_dataset *dataset);

/* ====================================================================================================================
 * Scores: models of grad log p_t(x)
 * ==================================================================================================================== */

/**
 * Regularizer: none. s = (m ybar - x) / sigma^2 (reg 3.8).
 */
#define MNEMO_REG_NONE 0

/**
 * Regularizer: Tikhonov, strength c >= 0. s = (m ybar - x) / (sigma^2 + c) (reg 5.7).
 */
#define MNEMO_REG_TIKHONOV 1

/**
 * Regularizer: empirical Bayes against the density, strength c > 0. s min(1, p(x)/c) (reg 5.11).
 */
#define MNEMO_REG_BAYES_DENSITY 2

/**
 * Regularizer: empirical Bayes against the unnormalised weights, strength c > 0. s min(1, sum_n exp(l_n)/c) (reg
 * 5.12). c_density = c_weight / (N (2 pi sigma^2)^(d/2)).
 */
#define MNEMO_REG_BAYES_WEIGHT 3

/**
 * A custom score's eval writes the score s.
 */
#define MNEMO_PREDICT_SCORE 0

/**
 * A custom score's eval writes the noise, eps = -sigma s.
 */
#define MNEMO_PREDICT_EPS 1

/**
 * A custom score's eval writes the denoised value, x0 = (x + sigma^2 s) / m.
 */
#define MNEMO_PREDICT_X0 2

/**
 * A custom score's eval writes the velocity, v = m eps - sigma x0.
 */
#define MNEMO_PREDICT_V 3

/**
 * A custom score's eval writes the flow velocity, u = eps - x0.
 */
#define MNEMO_PREDICT_FLOW 4

/**
 * A model of the score of p_t. Immutable; it keeps its data set, process and context alive.
 */
typedef struct mnemo_score mnemo_score;

/**
 * How an empirical score is formed.
 */
typedef struct mnemo_empirical_options {
  /**
   * sizeof(mnemo_empirical_options).
   */
  uint32_t struct_size;
  /**
   * MNEMO_REG_…; initially MNEMO_REG_NONE.
   */
  uint32_t regularizer;
  /**
   * The regularizer's constant c; not looked at for MNEMO_REG_NONE, nor for empirical Bayes with a log_strength.
   */
  double strength;
  /**
   * Training rows whose summed weight is below this may be left out: of ybar, and of the other sums where few rows have
   * weight. In [0, 1), 0 leaves out none. Initially 1e-12, which is below what float64 results show.
   */
  double tolerance;
  /**
   * With conditional = 1, the label whose rows alone form the score.
   */
  int64_t label;
  /**
   * 0 (initially) or 1.
   */
  uint32_t conditional;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * ln c for empirical Bayes, whose c is beyond the range of double in high dimension: the weights at a noised
   * training row sum to about exp(-d/2). NaN (initially): ln(strength).
   */
  double log_strength;
} mnemo_empirical_options;

/**
 * The host's model. Its functions run on the thread that called the library, once per evaluation for the whole batch,
 * and may call the library. `x`, `v` and `out` are contiguous [batch, dim], F32 if the caller's matrix is F32 and F64
 * if it is F64; `t` is a vector [batch] of F64. On a CUDA context all are in its device's memory, and what the functions
 * do with them is queued on `stream`, that of the call. They return 0; anything else ends the
 * call with MNEMO_E_CALLBACK and is its error's `native`. They must not let exceptions or panics escape.
 */
typedef struct mnemo_score_ops {
  /**
   * sizeof(mnemo_score_ops).
   */
  uint32_t struct_size;
  /**
   * What eval writes, MNEMO_PREDICT_…; initially MNEMO_PREDICT_SCORE.
   */
  uint32_t prediction;
  /**
   * Writes the prediction at (x, t) to out.
   */
  int32_t (*eval)(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out, void *stream);
  /**
   * Writes the derivative of the prediction along v to out; or NULL, and mnemo_score_jvp is MNEMO_E_UNSUPPORTED.
   */
  int32_t (*jvp)(void *user,
                 const mnemo_tensor *x,
                 const mnemo_tensor *t,
                 const mnemo_tensor *v,
                 mnemo_tensor *out,
                 void *stream);
  /**
   * Called once with `user` when the last object that uses the score is released, on the thread that does so; or
   * NULL.
   */
  void (*drop)(void *user);
} mnemo_score_ops;

/**
 * What mnemo_score_eval computes: an output for each pointer that is not NULL, all in one pass over the data. Matrices
 * are [batch, dim] of the element type of x; vectors are F64 or F32 unless said otherwise. A custom score has `score`
 * and `denoised` only.
 */
typedef struct mnemo_score_outputs {
  /**
   * sizeof(mnemo_score_outputs).
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * s(x, t), the score with its regularizer.
   */
  mnemo_tensor *score;
  /**
   * (x + sigma^2 s) / m of that score. Without a regularizer it is ybar = sum_n w_n y_n.
   */
  mnemo_tensor *denoised;
  /**
   * ln p_t(x) of the unregularized mixture, nats. Conditional scores: of the label's mixture.
   */
  mnemo_tensor *log_density;
  /**
   * div s, the trace of the score's derivative.
   */
  mnemo_tensor *divergence;
  /**
   * Entropy of the weights w, nats: ln of the number of training rows that x might have come from.
   */
  mnemo_tensor *entropy;
  /**
   * I64: argmin_n |x - m y_n|, ties to the lowest index.
   */
  mnemo_tensor *nearest_index;
  /**
   * min_n |x - m y_n|.
   */
  mnemo_tensor *nearest_distance;
  /**
   * Upper bound on the length (L2, absolute) of the error of each row of denoised as this call writes it, or with
   * denoised NULL would write it alone, in the type of x.
   *
   * The error is that against exact arithmetic on the x given, the data's values scale * raw + shift rounded to float64,
   * and the m and sigma of mnemo_process_eval. Rigorous: what tolerance leaves out (its share of the data's diameter at
   * most; nothing at 0), distances that are sums of squared differences, exponentials, sums, means, the regularizer, the
   * rounding of denoised to its type. Probabilistic: where many rows have weight, and distances are products, the
   * roundings of a product are taken as independent, and eight standard deviations of their sum (1e-15) as its most.
   */
  mnemo_tensor *denoised_error_bound;
  /**
   * The same for log_density, the rounding to its type included (NULL: to F64), in nats. No output is changed by asking
   * for a bound.
   */
  mnemo_tensor *log_density_error_bound;
} mnemo_score_outputs;

/**
 * Fills `options` with its initial values; `size` is sizeof *options.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_empirical_options_init(mnemo_empirical_options *options, size_t size);

/**
 * Fills `ops` with its initial values (no functions); `size` is sizeof *ops.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_score_ops_init(mnemo_score_ops *ops, size_t size);

/**
 * Fills `outputs` with its initial values (no outputs); `size` is sizeof *outputs.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_score_outputs_init(mnemo_score_outputs *outputs, size_t size);

/**
 * Makes the exact score of the training set smoothed by `process` into `out`: with l_n = -|x - m y_n|^2 / (2 sigma^2),
 * w = softmax(l) and ybar = sum_n w_n y_n, s = (m ybar - x) / sigma^2 (reg 3.8), or as `options` (may be NULL)
 * regularizes it.
 *
 * Owned by the caller: mnemo_score_release.
 *
 * Threads: any; one score may be used by many threads at once. Errors: MNEMO_E_INVALID, also for a label that is not
 * in the data; MNEMO_E_UNSUPPORTED.
 */
int32_t mnemo_score_empirical(const mnemo_dataset *dataset,
                              const mnemo_process *process,
                              const mnemo_empirical_options *options,
                              mnemo_score **out,
                              mnemo_error *err);

/**
 * Makes a score of the host's own model, of dimension `dim`, into `out`. `user` is passed to every function of `ops`.
 *
 * The score owns `user` from success on (ops.drop); on failure drop is not called. Owned by the caller:
 * mnemo_score_release.
 *
 * Threads: any; the host's functions run on the threads that use the score. Errors: MNEMO_E_INVALID,
 * MNEMO_E_UNSUPPORTED.
 */
int32_t mnemo_score_custom(const mnemo_context *context,
                           const mnemo_process *process,
                           int64_t dim,
                           const mnemo_score_ops *ops,
                           void *user,
                           mnemo_score **out,
                           mnemo_error *err);

/**
 * Evaluates `score` at `x` [batch, dim] (F32 or F64) and times `t` (a vector of one, or of one per row; F64 or F32)
 * into the tensors of `outputs`.
 *
 * For F32 x the error of the score is below 1e-5 of its length, for F64 x below 1e-9, beyond what the data themselves
 * leave open: a score much shorter than |x|/sigma^2, as near a stationary point at small sigma, is a difference of
 * equal terms, of which float64 keeps 1e-16. Memory beyond the outputs: about three times x in float64 and a bounded
 * work space; never batch * N.
 *
 * Threads: any. Errors: MNEMO_E_INVALID (NaN or Inf in x; t outside the process or where sigma = 0; a result that an
 * F32 output cannot hold), MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM, MNEMO_E_CANCELLED,
 * MNEMO_E_CALLBACK, MNEMO_E_UNSUPPORTED (an output that this score does not have), MNEMO_E_IO (rows in a file). On failure the outputs are untouched.
 */
int32_t mnemo_score_eval(const mnemo_score *score,
                         const mnemo_tensor *x,
                         const mnemo_tensor *t,
                         const mnemo_score_outputs *outputs,
                         const mnemo_exec *exec,
                         mnemo_error *err);

/**
 * The derivative of the score along `v`, J v, at `x` and `t` as for mnemo_score_eval. `v` and `out` are [batch, dim]
 * of the element type of x. Empirical: J v = -v/sigma^2 + (m^2/sigma^4) sum_n w_n (y_n - ybar) ((y_n - ybar).v),
 * regularized like s.
 *
 * Threads: any. Errors: as mnemo_score_eval; MNEMO_E_UNSUPPORTED for a custom score without jvp.
 */
int32_t mnemo_score_jvp(const mnemo_score *score,
                        const mnemo_tensor *x,
                        const mnemo_tensor *t,
                        const mnemo_tensor *v,
                        mnemo_tensor *out,
                        const mnemo_exec *exec,
                        mnemo_error *err);

/**
 * Releases `score`; NULL is ignored.
 *
 * Threads: any. Errors: none.
 */
void mnemo_score_release(mnemo_score *score);

/* ====================================================================================================================
 * Sampling: integrating the reverse process
 * ==================================================================================================================== */

/**
 * Solver: explicit Euler on the ODE dx/dt = -beta/2 x - g/2 s.
 */
#define MNEMO_SOLVER_EULER 0

/**
 * Solver: Heun's second-order rule on the ODE (Karras et al. 2022, Alg. 1). Two evaluations per step.
 */
#define MNEMO_SOLVER_HEUN 1

/**
 * Solver: x <- m' x0 + sigma' eps, exact for a constant denoised value: the DDIM step (Song et al. 2021). With eta >
 * 0, DDIM's stochastic form.
 */
#define MNEMO_SOLVER_EXPONENTIAL 2

/**
 * Solver: DPM-Solver++(2M) (Lu et al. 2022). Second order, one evaluation per step.
 */
#define MNEMO_SOLVER_DPMPP_2M 3

/**
 * Solver: Dormand-Prince 5(4) on the ODE; step size and error test (rtol, atol; root mean square over a row) per
 * sample.
 */
#define MNEMO_SOLVER_RK45 4

/**
 * Solver: Euler-Maruyama on the SDE, drift -beta/2 x - (1 + alpha2)/2 g s and noise sqrt(alpha2 g) (reg 2.10).
 */
#define MNEMO_SOLVER_EULER_MARUYAMA 5

/**
 * Solver: the posterior of the next state given the denoised value, with eta times its noise: DDPM (Ho et al. 2020).
 */
#define MNEMO_SOLVER_ANCESTRAL 6

/**
 * Solver: Karras et al. 2022, Alg. 2 (s_churn, s_min, s_max, s_noise), in the frame x/m, sigma/m.
 */
#define MNEMO_SOLVER_EDM_STOCHASTIC 7

/**
 * Grid: equal steps in t.
 */
#define MNEMO_GRID_UNIFORM_T 0

/**
 * Grid: equal steps in log sigma.
 */
#define MNEMO_GRID_UNIFORM_S 1

/**
 * Grid: equal steps in (sigma/m)^(1/rho) (Karras et al. 2022, Eq. 5). sigma/m must be finite at t_start: not the
 * flow's 1.
 */
#define MNEMO_GRID_KARRAS 2

/**
 * Grid: the caller's `times`.
 */
#define MNEMO_GRID_CUSTOM 3

/**
 * How to sample. The initial values are EDM's deterministic sampler: HEUN, KARRAS, 18 steps, rho = 7.
 */
typedef struct mnemo_sampler_options {
  /**
   * sizeof(mnemo_sampler_options).
   */
  uint32_t struct_size;
  /**
   * MNEMO_SOLVER_…; initially MNEMO_SOLVER_HEUN.
   */
  uint32_t solver;
  /**
   * MNEMO_GRID_…; initially MNEMO_GRID_KARRAS. Not looked at by RK45, but for a custom grid, at whose nodes it
   * stops.
   */
  uint32_t grid;
  /**
   * 1: start from sigma(t_start) z, z standard normal, which fits where m(t_start) y is small beside sigma; 0
   * (initially): start from the caller's x.
   */
  uint32_t from_prior;
  /**
   * 1: end with x <- denoised(x, last time); initially 0. For a regularized score that is its own denoised value,
   * which moves x by a share sigma^2 / (sigma^2 + c) (Tikhonov) or min(1, p/c) (empirical Bayes) of the way only.
   */
  uint32_t denoise_last;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Number of steps, the denoising one included: with denoise_last = 1 EDM's 18 steps are 17 between 18 noise levels
   * and one to 0. Initially 18. Not looked at by RK45 or with a custom grid.
   */
  int64_t steps;
  /**
   * Index in the random stream of the first row of x: a batch that is split continues with the index of its part.
   * Initially 0.
   */
  int64_t first_sample;
  /**
   * First time; NaN (initially) means the process's last, T.
   */
  double t_start;
  /**
   * Last time at which the score is evaluated, where sigma > 0; NaN (initially) means that of sigma = 0.002, or the
   * process's first.
   */
  double t_end;
  /**
   * alpha2 >= 0 of the SDE, for EULER_MARUYAMA; NaN (initially) means 1 there. The ODE solvers accept 0 only;
   * ANCESTRAL and EDM_STOCHASTIC have their own noise and do not look at it.
   */
  double alpha2;
  /**
   * eta in [0, 1] of EXPONENTIAL (NaN, initially, means 0) and ANCESTRAL (NaN means 1).
   */
  double eta;
  /**
   * Relative tolerance of RK45; initially 1e-5.
   */
  double rtol;
  /**
   * Absolute tolerance of RK45; initially 1e-5.
   */
  double atol;
  /**
   * rho of the Karras grid; initially 7.
   */
  double rho;
  /**
   * S_churn of EDM_STOCHASTIC; initially 0.
   */
  double s_churn;
  /**
   * S_min: no churn below this sigma/m; initially 0.
   */
  double s_min;
  /**
   * S_max: no churn above this sigma/m; initially infinity.
   */
  double s_max;
  /**
   * S_noise: standard deviation of the churn noise; initially 1.
   */
  double s_noise;
  /**
   * The nodes of a custom grid, strictly falling; a last node of 0, where sigma is 0, means a denoising step.
   */
  const double *times;
  /**
   * How many.
   */
  int64_t times_count;
  /**
   * Called after each step, and before the first with step = 0, with the time reached (0 after a denoising step;
   * RK45: that of the slowest sample) and the state [batch, dim] in the element type of x and in memory of its kind
   * (a device's is for work that is queued on the stream before the observer returns); on the thread that made the call. A non-zero result stops the call with MNEMO_E_CALLBACK. Or NULL.
   */
  int32_t (*observer)(void *user, uint64_t step, double t, const mnemo_tensor *x);
  /**
   * Passed to `observer`.
   */
  void *observer_user;
} mnemo_sampler_options;

/**
 * Fills `options` with its initial values; `size` is sizeof *options.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_sampler_options_init(mnemo_sampler_options *options, size_t size);

/**
 * Integrates the reverse process of `score` from t_start to t_end. `x_inout` [batch, dim] (F32 or F64) holds the
 * initial states, unless from_prior = 1, and receives the samples. `options` may be NULL.
 *
 * The state is float64. A sample's bits depend on its initial state, its index (first_sample + row), exec->seed and
 * the options, not on the batch it is in nor on the number of threads. Memory: a few times x in float64.
 *
 * Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM,
 * MNEMO_E_CANCELLED, MNEMO_E_CALLBACK, MNEMO_E_UNSUPPORTED, MNEMO_E_IO (rows in a file). On failure x_inout is untouched.
 */
int32_t mnemo_sample(const mnemo_score *score,
                     const mnemo_sampler_options *options,
                     mnemo_tensor *x_inout,
                     const mnemo_exec *exec,
                     mnemo_error *err);

/* ====================================================================================================================
 * Memorization: what of the generated is copied
 * ==================================================================================================================== */

/**
 * Metric: Euclidean distance.
 */
#define MNEMO_METRIC_L2 0

/**
 * Metric: 1 - cos(x, y), in [0, 2]: 0 in the same direction, 1 at a right angle, 2 in the opposite direction, whatever the
 * lengths. It is formed as half the squared distance of the rows divided by their lengths, so that small ones do not cancel.
 */
#define MNEMO_METRIC_COSINE 1

/**
 * What counts as a copy.
 */
typedef struct mnemo_memorization_options {
  /**
   * sizeof(mnemo_memorization_options).
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * A sample within this Euclidean distance of a training row is a copy (tau of reg 5); positive, initially 0: to be
   * set. Half the median distance of training rows to their nearest neighbours is a scale-free choice.
   */
  double threshold;
} mnemo_memorization_options;

/**
 * How near generated samples come to the training rows.
 */
typedef struct mnemo_memorization_report {
  /**
   * sizeof(mnemo_memorization_report), set by the caller.
   */
  uint32_t struct_size;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Number of samples.
   */
  int64_t samples;
  /**
   * Samples within the threshold of their nearest training row.
   */
  int64_t copied;
  /**
   * copied / samples.
   */
  double fraction_copied;
  /**
   * Smallest Euclidean distance of a sample to its nearest training row.
   */
  double min_distance;
  /**
   * Median of these distances (mean of the middle two).
   */
  double median_distance;
  /**
   * Largest of these distances.
   */
  double max_distance;
} mnemo_memorization_report;

/**
 * Fills `options` with its initial values; `size` is sizeof *options.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_memorization_options_init(mnemo_memorization_options *options, size_t size);

/**
 * Fills `report` with zeros and its size; `size` is sizeof *report.
 *
 * Threads: any. Errors: none; NULL is ignored.
 */
void mnemo_memorization_report_init(mnemo_memorization_report *report, size_t size);

/**
 * The `k` nearest training rows of each query, exact: `distance` [queries, k] (F64 or F32), nearest first, and `index`
 * [queries, k] (I64), ties to the lower index; either may be NULL. `queries` is [any, dim], F32 or F64; k in [1, N]. A
 * training row's nearest row is itself: for its neighbours ask for one more and leave out the first.
 *
 * MNEMO_METRIC_L2: distances are square roots of float64 sums of squared differences. MNEMO_METRIC_COSINE: a training row
 * of zeros has no direction, and distance 1 from every query; a query of zeros is MNEMO_E_INVALID. Distances are equal if
 * their float64 values are: rows that are multiples of each other by powers of two tie, by other factors they may differ in
 * the last bits. L2 leaves out rows that cannot be among the nearest, cosine reads every row.
 *
 * Memory: 16 bytes times min(k times 32, N) per
 * query of a block whose results are kept at a time, at most 64 MiB or one query's; never queries * N.
 *
 * Threads: any. Errors: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE, MNEMO_E_NOMEM,
 * MNEMO_E_CANCELLED, MNEMO_E_IO (rows in a file). On failure the outputs are untouched.
 */
int32_t mnemo_nearest(const mnemo_dataset *dataset,
                      const mnemo_tensor *queries,
                      uint32_t metric,
                      int64_t k,
                      mnemo_tensor *distance,
                      mnemo_tensor *index,
                      const mnemo_exec *exec,
                      mnemo_error *err);

/**
 * Reports how many of the `generated` samples [any > 0, dim] (F32 or F64) are copies of training rows, and how near
 * the samples come, into `report`, whose struct_size is set.
 *
 * Threads: any. Errors: as mnemo_nearest; MNEMO_E_INVALID if options->threshold is not positive.
 */
int32_t mnemo_memorization(const mnemo_dataset *dataset,
                           const mnemo_tensor *generated,
                           const mnemo_memorization_options *options,
                           mnemo_memorization_report *report,
                           const mnemo_exec *exec,
                           mnemo_error *err);

#ifdef __cplusplus
}
#endif

#endif /* MNEMO_H */
