
/**
 * The mnemo_tensor of a contiguous matrix in the host's memory, for C: a compound literal, so that its address may be
 * passed to a call as it is: `mnemo_score_eval(score, &MNEMO_CPU_TENSOR(x, n, d, MNEMO_F32), …)`.
 */
#define MNEMO_CPU_TENSOR(data, rows, cols, dtype) \
  ((mnemo_tensor){(void *)(data), (rows), (cols), 0, (dtype), MNEMO_CPU, 0, 0})
