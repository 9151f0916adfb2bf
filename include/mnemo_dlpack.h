/* mnemo_dlpack.h - DLPack's tensors as mnemo's, and back. C99 and C++.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * For the tensors of frameworks that speak DLPack (PyTorch, JAX, NumPy, CuPy, TVM, …). It includes <dlpack/dlpack.h>
 * unless a dlpack.h was included before. Nothing is copied and nothing is owned: a view lives as long as the memory it
 * was made of, and the deleter of a DLManagedTensor stays the caller's to call.
 *
 * Every function returns MNEMO_OK or a status, and fills the error it is given, which may be NULL, as the calls of
 * mnemo.h do: MNEMO_E_INVALID, MNEMO_E_SHAPE, MNEMO_E_DTYPE, MNEMO_E_DEVICE or MNEMO_E_UNSUPPORTED. On failure outputs
 * are untouched. Threads: any.
 */
#ifndef MNEMO_DLPACK_H
#define MNEMO_DLPACK_H

#include <stdio.h>
#include <string.h>

/* mnemo.h has a struct and a function of one name, which -Wshadow of G++ dislikes. */
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#include <mnemo.h>
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#ifndef DLPACK_DLPACK_H_
#include <dlpack/dlpack.h>
#endif

/* The end of a function that fails: a status and a message as for printf. */
#define MNEMO_DLPACK_FAIL(err, status, ...)                                     \
  do {                                                                          \
    char message_[sizeof((err)->message)];                                      \
    (void)snprintf(message_, sizeof message_, __VA_ARGS__);                     \
    return mnemo_dlpack_report((err), (status), message_);                      \
  } while (0)

/* Fills `err` as the library does, and returns `status`. */
static inline int32_t mnemo_dlpack_report(mnemo_error *err, int32_t status, const char *message)
{
  if (err != NULL) {
    const size_t room = sizeof err->message - 1, length = strlen(message);
    memset(err, 0, sizeof *err);
    err->code = status;
    err->len = (uint32_t)(length < room ? length : room);
    memcpy(err->message, message, err->len);
  }
  return status;
}

/* The element type of a DLDataType and its size in bytes; 0 if mnemo has none. */
static inline uint32_t mnemo_dlpack_dtype(DLDataType type, uint32_t *size)
{
  if (type.lanes != 1) return 0;
  *size = (uint32_t)type.bits / 8;
  switch (type.code) {
    case kDLFloat: return type.bits == 32 ? MNEMO_F32 : type.bits == 64 ? MNEMO_F64 : type.bits == 16 ? MNEMO_F16 : 0;
    case kDLBfloat: return type.bits == 16 ? MNEMO_BF16 : 0;
    case kDLUInt: return type.bits == 8 ? MNEMO_U8 : 0;
    case kDLInt: return type.bits == 32 ? MNEMO_I32 : type.bits == 64 ? MNEMO_I64 : 0;
    default: return 0;
  }
}

/**
 * The mnemo_tensor of a DLTensor, into `out`: its first dimension is rows, the others, if their elements are
 * contiguous, are flattened to cols. A vector [n] is n rows of one column, a number [] is one of one.
 *
 * The memory must be the host's (also pinned by CUDA) or a CUDA device's, aligned to the element type, row-major: only
 * rows may be apart. Strides of dimensions of size 1 are not looked at.
 */
static inline int32_t mnemo_from_dlpack(const DLTensor *from, mnemo_tensor *out, mnemo_error *err)
{
  uint32_t size = 0, dtype;
  int64_t rows, cols = 1, row_stride;
  int ndim, i, empty = 0;
  mnemo_tensor made;

  if (from == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "from is NULL");
  if (out == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "out is NULL");
  memset(&made, 0, sizeof made);
  switch (from->device.device_type) {
    case kDLCPU:
    case kDLCUDAHost: made.device_type = MNEMO_CPU; break;
    case kDLCUDA:
      made.device_type = MNEMO_CUDA;
      made.device_id = (int32_t)from->device.device_id;
      break;
    default:
      MNEMO_DLPACK_FAIL(err, MNEMO_E_DEVICE, "device_type is %d; accepted: kDLCPU (1), kDLCUDA (2), kDLCUDAHost (3)",
                        (int)from->device.device_type);
  }
  dtype = mnemo_dlpack_dtype(from->dtype, &size);
  if (dtype == 0) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_DTYPE,
                      "dtype has code %d, %d bits, %d lanes; accepted: float of 16, 32 and 64 bits, bfloat of 16, "
                      "int of 32 and 64, uint of 8, all of one lane",
                      (int)from->dtype.code, (int)from->dtype.bits, (int)from->dtype.lanes);
  }
  ndim = from->ndim;
  if (ndim < 0) MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE, "ndim is %d; it must not be negative", ndim);
  if (ndim > 0 && from->shape == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "shape is NULL, and ndim is %d", ndim);
  for (i = 0; i < ndim; i++) {
    if (from->shape[i] < 0) {
      MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE, "dimension %d has size %lld; it must not be negative", i,
                        (long long)from->shape[i]);
    }
    if (from->shape[i] == 0) empty = 1;
  }

  /* From the last dimension: cols is what was passed, and the stride that the next one must have. */
  for (i = ndim - 1; i > 0; i--) {
    const int64_t n = from->shape[i];
    if (!empty && n > 1 && from->strides != NULL && from->strides[i] != cols) {
      MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE,
                        "dimension %d has stride %lld%s; it must be %lld: all dimensions but the first are contiguous",
                        i, (long long)from->strides[i], from->strides[i] == 0 ? " (broadcast)" : "", (long long)cols);
    }
    if (n > 0 && cols > INT64_MAX / n) MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE, "dimension %d: too many elements", i);
    cols *= n;
  }
  rows = ndim > 0 ? from->shape[0] : 1;
  row_stride = cols;
  if (!empty && rows > 1 && from->strides != NULL) {
    row_stride = from->strides[0];
    if (row_stride < cols) {
      MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE,
                        "dimension 0 has stride %lld%s; it must be at least %lld: rows do not overlap",
                        (long long)row_stride, row_stride == 0 ? " (broadcast)" : "", (long long)cols);
    }
  }

  if (!empty) {
    if (from->data == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "data is NULL, and the tensor is not empty");
    made.data = (char *)from->data + from->byte_offset;
    if ((uintptr_t)made.data % size != 0) {
      MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "data is not aligned to the %u bytes of an element", (unsigned)size);
    }
  }
  made.rows = rows;
  made.cols = cols;
  made.row_stride = row_stride;
  made.dtype = dtype;
  *out = made;
  return mnemo_dlpack_report(err, MNEMO_OK, "");
}

/**
 * The DLTensor of a mnemo_tensor, such as a callback is given, into `out`: 2-dimensional, with `shape` and `strides` in
 * the caller's memory, which must live as long as `out`. Where cols is 1, set out->ndim to 1 to have the vector.
 */
static inline int32_t mnemo_to_dlpack(const mnemo_tensor *from, int64_t shape[2], int64_t strides[2], DLTensor *out,
                                      mnemo_error *err)
{
  /* By dtype - MNEMO_F32. */
  static const struct {
    uint8_t code, bits;
  } types[] = {{kDLFloat, 32}, {kDLFloat, 64}, {kDLFloat, 16}, {kDLBfloat, 16},
               {kDLUInt, 8},   {kDLInt, 32},   {kDLInt, 64}};

  if (from == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "from is NULL");
  if (shape == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "shape is NULL");
  if (strides == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "strides is NULL");
  if (out == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "out is NULL");
  if (from->dtype < MNEMO_F32 || from->dtype > MNEMO_I64) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_DTYPE, "dtype is %u; it is one of MNEMO_F32 to MNEMO_I64 (1 to 7)",
                      (unsigned)from->dtype);
  }
  if (from->device_type != MNEMO_CPU && from->device_type != MNEMO_CUDA) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_DEVICE, "device_type is %u; it is MNEMO_CPU (1) or MNEMO_CUDA (2)",
                      (unsigned)from->device_type);
  }
  if (from->rows < 0 || from->cols < 0) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_SHAPE, "%lld rows, %lld cols; they must not be negative", (long long)from->rows,
                      (long long)from->cols);
  }
  shape[0] = from->rows;
  shape[1] = from->cols;
  strides[0] = from->rows > 1 && from->row_stride != 0 ? from->row_stride : from->cols;
  strides[1] = 1;
  memset(out, 0, sizeof *out);
  out->data = from->data;
  out->device.device_type = from->device_type == MNEMO_CPU ? kDLCPU : kDLCUDA;
  out->device.device_id = from->device_type == MNEMO_CPU ? 0 : from->device_id;
  out->ndim = 2;
  out->dtype.code = types[from->dtype - MNEMO_F32].code;
  out->dtype.bits = types[from->dtype - MNEMO_F32].bits;
  out->dtype.lanes = 1;
  out->shape = shape;
  out->strides = strides;
  return mnemo_dlpack_report(err, MNEMO_OK, "");
}

#ifdef DLPACK_MAJOR_VERSION
/**
 * As mnemo_from_dlpack, for the managed tensors of DLPack 1: `writable` says that the tensor is an output, and one that
 * is read-only is MNEMO_E_INVALID then. Another major version than that of the dlpack.h is MNEMO_E_UNSUPPORTED.
 */
static inline int32_t mnemo_from_dlpack_versioned(const DLManagedTensorVersioned *from, int writable, mnemo_tensor *out,
                                                  mnemo_error *err)
{
  if (from == NULL) MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "from is NULL");
  if (from->version.major != DLPACK_MAJOR_VERSION) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_UNSUPPORTED, "a tensor of DLPack %u; this program knows DLPack %u",
                      (unsigned)from->version.major, (unsigned)DLPACK_MAJOR_VERSION);
  }
  if (writable && (from->flags & DLPACK_FLAG_BITMASK_READ_ONLY) != 0) {
    MNEMO_DLPACK_FAIL(err, MNEMO_E_INVALID, "the tensor is read-only, and an output is written to");
  }
  return mnemo_from_dlpack(&from->dl_tensor, out, err);
}
#endif

#undef MNEMO_DLPACK_FAIL

#endif /* MNEMO_DLPACK_H */
