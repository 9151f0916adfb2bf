/* mnemo_dlpack.h, compiled as C and as C++, with DLPack 0 and 1 (-DDLPACK_1: types declared in dlpack1.h).
 * SPDX-License-Identifier: MIT OR Apache-2.0 */
#ifdef DLPACK_1
#include "dlpack1.h"
#endif
#include <mnemo_dlpack.h>
#include <mnemo_dlpack.h>
#include <stdlib.h>

#define CHECK(holds) \
  ((holds) ? (void)0 : (fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #holds), exit(1)))

static mnemo_error error;
static double buffer[240];
static int cases;

/* A tensor of the buffer; no strides if `strides` is NULL. */
static DLTensor tensor(int ndim, int64_t *shape, int64_t *strides) {
  DLTensor t;
  memset(&t, 0, sizeof t);
  t.data = buffer;
  t.device.device_type = kDLCPU;
  t.ndim = ndim;
  t.dtype.code = kDLFloat;
  t.dtype.bits = 64;
  t.dtype.lanes = 1;
  t.shape = shape;
  t.strides = strides;
  return t;
}

/* It becomes [rows, cols] with that stride between rows, and comes back as the same. */
static void is(DLTensor from, int64_t rows, int64_t cols, int64_t row_stride, uint32_t dtype) {
  mnemo_tensor t;
  DLTensor back;
  int64_t shape[2], strides[2];
  mnemo_tensor again;
  memset(&error, 0xff, sizeof error);
  CHECK(mnemo_from_dlpack(&from, &t, &error) == MNEMO_OK);
  CHECK(error.code == MNEMO_OK && error.native == 0 && error.len == 0 && error.reserved == 0 && error.message[0] == 0);
  CHECK(t.rows == rows && t.cols == cols && t.dtype == dtype && t.reserved == 0);
  CHECK(rows < 2 || t.row_stride == row_stride);
  CHECK(t.data == (rows * cols == 0 ? NULL : (void *)((char *)from.data + from.byte_offset)));
  CHECK(mnemo_to_dlpack(&t, shape, strides, &back, NULL) == MNEMO_OK);
  CHECK(back.ndim == 2 && back.shape == shape && back.strides == strides && back.byte_offset == 0 && back.data == t.data);
  CHECK(shape[0] == rows && shape[1] == cols && strides[1] == 1 && (rows < 2 || strides[0] == row_stride));
  CHECK(back.dtype.code == from.dtype.code && back.dtype.bits == from.dtype.bits && back.dtype.lanes == 1);
  CHECK(mnemo_from_dlpack(&back, &again, NULL) == MNEMO_OK && again.rows == rows && again.cols == cols);
  CHECK(again.data == t.data && again.dtype == dtype && again.device_type == t.device_type && again.device_id == t.device_id);
  cases++;
}

static void refused(DLTensor from, int32_t status, const char *word) {
  mnemo_tensor t;
  unsigned char before[sizeof t];
  memset(&t, 0x5a, sizeof t);
  memcpy(before, &t, sizeof t);
  CHECK(mnemo_from_dlpack(&from, &t, &error) == status && mnemo_from_dlpack(&from, &t, NULL) == status);
  CHECK(error.code == status && error.len == strlen(error.message) && memcmp(before, &t, sizeof t) == 0);
  if (strstr(error.message, word) == NULL) {
    fprintf(stderr, "'%s' does not say '%s'\n", error.message, word);
    exit(1);
  }
  cases++;
}

static void shapes(void) {
  int64_t n[] = {5}, two[] = {4, 3}, three[] = {2, 3, 4}, five[] = {2, 1, 3, 1, 4}, empty[] = {0, 3}, flat[] = {3, 0};
  int64_t row[] = {1, 3}, column[] = {4, 1};
  is(tensor(0, NULL, NULL), 1, 1, 1, MNEMO_F64);
  is(tensor(1, n, NULL), 5, 1, 1, MNEMO_F64);
  is(tensor(2, two, NULL), 4, 3, 3, MNEMO_F64);
  is(tensor(3, three, NULL), 2, 12, 12, MNEMO_F64);
  is(tensor(5, five, NULL), 2, 12, 12, MNEMO_F64);
  is(tensor(2, empty, NULL), 0, 3, 3, MNEMO_F64);
  is(tensor(2, flat, NULL), 3, 0, 0, MNEMO_F64);
  {
    int64_t every_second[] = {2}, apart[] = {7, 1}, apart3[] = {20, 4, 1}, any5[] = {30, -9, 4, 0, 1};
    int64_t any_row[] = {-5, 1}, any_column[] = {6, 77}, zeros[] = {0, 0};
    is(tensor(1, n, every_second), 5, 1, 2, MNEMO_F64);
    is(tensor(2, two, apart), 4, 3, 7, MNEMO_F64);
    is(tensor(3, three, apart3), 2, 12, 20, MNEMO_F64);
    is(tensor(5, five, any5), 2, 12, 30, MNEMO_F64); /* a stride of a dimension of size 1 may be anything */
    is(tensor(2, row, any_row), 1, 3, 3, MNEMO_F64);
    is(tensor(2, column, any_column), 4, 1, 6, MNEMO_F64);
    is(tensor(2, empty, zeros), 0, 3, 3, MNEMO_F64);
    is(tensor(2, flat, zeros), 3, 0, 0, MNEMO_F64);
  }
  {
    int64_t transposed[] = {1, 4}, backward[] = {3, -1}, wide[] = {0, 1}, repeated[] = {1, 0}, up[] = {-3, 1}, near_[] = {2, 1};
    int64_t gap3[] = {24, 8, 1}, gap_last[] = {24, 8, 2}, back1[] = {-1}, none1[] = {0};
    refused(tensor(2, two, transposed), MNEMO_E_SHAPE, "dimension 1 has stride 4; it must be 1");
    refused(tensor(2, two, backward), MNEMO_E_SHAPE, "dimension 1 has stride -1");
    refused(tensor(2, two, repeated), MNEMO_E_SHAPE, "dimension 1 has stride 0 (broadcast)");
    refused(tensor(2, two, wide), MNEMO_E_SHAPE, "dimension 0 has stride 0 (broadcast); it must be at least 3");
    refused(tensor(2, two, up), MNEMO_E_SHAPE, "dimension 0 has stride -3");
    refused(tensor(2, two, near_), MNEMO_E_SHAPE, "dimension 0 has stride 2");
    refused(tensor(3, three, gap3), MNEMO_E_SHAPE, "dimension 1 has stride 8; it must be 4");
    refused(tensor(3, three, gap_last), MNEMO_E_SHAPE, "dimension 2 has stride 2");
    refused(tensor(1, n, back1), MNEMO_E_SHAPE, "dimension 0 has stride -1");
    refused(tensor(1, n, none1), MNEMO_E_SHAPE, "dimension 0 has stride 0");
  }
  {
    int64_t negative[] = {2, -3}, huge[] = {2, INT64_MAX, 2};
    refused(tensor(2, negative, NULL), MNEMO_E_SHAPE, "dimension 1 has size -3");
    refused(tensor(3, huge, NULL), MNEMO_E_SHAPE, "dimension 1: too many");
    refused(tensor(-1, NULL, NULL), MNEMO_E_SHAPE, "ndim is -1");
    refused(tensor(2, NULL, NULL), MNEMO_E_INVALID, "shape is NULL");
  }
}

static void types(void) {
  static const struct {
    uint8_t code, bits;
    uint32_t dtype;
  } known[] = {{kDLFloat, 32, MNEMO_F32}, {kDLFloat, 64, MNEMO_F64}, {kDLFloat, 16, MNEMO_F16}, {kDLBfloat, 16, MNEMO_BF16},
               {kDLUInt, 8, MNEMO_U8},    {kDLInt, 32, MNEMO_I32},   {kDLInt, 64, MNEMO_I64}};
  int64_t shape[] = {4, 3};
  size_t k;
  int code, bits;
  for (k = 0; k < sizeof known / sizeof *known; k++) {
    DLTensor t = tensor(2, shape, NULL);
    t.dtype.code = known[k].code;
    t.dtype.bits = known[k].bits;
    is(t, 4, 3, 3, known[k].dtype);
    t.dtype.lanes = 2;
    refused(t, MNEMO_E_DTYPE, "2 lanes");
    t.dtype.lanes = 0;
    refused(t, MNEMO_E_DTYPE, "0 lanes");
  }
  for (code = 0; code < 10; code++) { /* and no others */
    for (bits = 1; bits <= 128; bits++) {
      DLTensor t = tensor(2, shape, NULL);
      mnemo_tensor out;
      int is_known = 0;
      for (k = 0; k < sizeof known / sizeof *known; k++) is_known |= known[k].code == code && known[k].bits == bits;
      t.dtype.code = (uint8_t)code;
      t.dtype.bits = (uint8_t)bits;
      CHECK(mnemo_from_dlpack(&t, &out, &error) == (is_known ? MNEMO_OK : MNEMO_E_DTYPE));
    }
  }
}

static void memory(void) {
  int64_t shape[] = {4, 3}, back_shape[2], back_strides[2], empty[] = {0, 3};
  DLTensor t = tensor(2, shape, NULL), back;
  mnemo_tensor out;
  t.byte_offset = 16;
  is(t, 4, 3, 3, MNEMO_F64);
  t.byte_offset = 12;
  refused(t, MNEMO_E_INVALID, "aligned to the 8 bytes");
  t.byte_offset = 8;
  t.data = NULL;
  refused(t, MNEMO_E_INVALID, "data is NULL");
  t.shape = empty;
  is(t, 0, 3, 3, MNEMO_F64);

  t = tensor(2, shape, NULL);
  t.device.device_type = kDLCUDAHost;
  t.device.device_id = 3;
  CHECK(mnemo_from_dlpack(&t, &out, &error) == MNEMO_OK && out.device_type == MNEMO_CPU && out.device_id == 0);
  t.device.device_type = kDLCUDA;
  CHECK(mnemo_from_dlpack(&t, &out, &error) == MNEMO_OK && out.device_type == MNEMO_CUDA && out.device_id == 3);
  CHECK(mnemo_to_dlpack(&out, back_shape, back_strides, &back, &error) == MNEMO_OK);
  CHECK(back.device.device_type == kDLCUDA && back.device.device_id == 3);
  t.device.device_type = kDLROCM;
  refused(t, MNEMO_E_DEVICE, "device_type is 10");
  t.device.device_type = kDLCUDAManaged;
  refused(t, MNEMO_E_DEVICE, "device_type is 13");
}

/* As a custom score's functions and the library use them. */
static void with_the_library(void) {
  int64_t shape[] = {2, 1, 2}, strides[] = {3, 3, 1}, index[1] = {1}, one[] = {1};
  double out[2] = {0, 0};
  DLTensor rows = tensor(3, shape, strides), which = tensor(1, one, NULL);
  mnemo_context *context = NULL;
  mnemo_dataset *data = NULL;
  mnemo_tensor t, i, o = {out, 1, 2, 0, MNEMO_F64, MNEMO_CPU, 0, 0};
  buffer[0] = 1, buffer[1] = 2, buffer[2] = -99, buffer[3] = 3, buffer[4] = 4;
  which.data = index;
  which.dtype.code = kDLInt;
  CHECK(mnemo_from_dlpack(&rows, &t, NULL) == MNEMO_OK && mnemo_from_dlpack(&which, &i, NULL) == MNEMO_OK);
  CHECK(mnemo_context_create(NULL, &context, NULL) == MNEMO_OK);
  CHECK(mnemo_dataset_copy(context, &t, NULL, NULL, &data, NULL) == MNEMO_OK);
  CHECK(mnemo_dataset_gather(data, &i, &o, NULL) == MNEMO_OK && out[0] == 3 && out[1] == 4);
  mnemo_dataset_release(data);
  mnemo_context_release(context);
}

static void bad_arguments(void) {
  int64_t shape[2] = {4, 3}, strides[2];
  DLTensor t = tensor(2, shape, NULL), out;
  mnemo_tensor m;
  CHECK(mnemo_from_dlpack(NULL, &m, &error) == MNEMO_E_INVALID && strstr(error.message, "from is NULL"));
  CHECK(mnemo_from_dlpack(&t, NULL, &error) == MNEMO_E_INVALID && strstr(error.message, "out is NULL"));
  CHECK(mnemo_from_dlpack(&t, &m, NULL) == MNEMO_OK);
  CHECK(mnemo_to_dlpack(NULL, shape, strides, &out, &error) == MNEMO_E_INVALID && strstr(error.message, "from"));
  CHECK(mnemo_to_dlpack(&m, NULL, strides, &out, &error) == MNEMO_E_INVALID && strstr(error.message, "shape"));
  CHECK(mnemo_to_dlpack(&m, shape, NULL, &out, &error) == MNEMO_E_INVALID && strstr(error.message, "strides"));
  CHECK(mnemo_to_dlpack(&m, shape, strides, NULL, &error) == MNEMO_E_INVALID && strstr(error.message, "out"));
  m.row_stride = 0; /* cols */
  CHECK(mnemo_to_dlpack(&m, shape, strides, &out, &error) == MNEMO_OK && strides[0] == 3);
  m.dtype = 8;
  CHECK(mnemo_to_dlpack(&m, shape, strides, &out, &error) == MNEMO_E_DTYPE && strstr(error.message, "dtype is 8"));
  m.dtype = 0;
  CHECK(mnemo_to_dlpack(&m, shape, strides, &out, &error) == MNEMO_E_DTYPE);
  m.dtype = MNEMO_F32;
  m.device_type = 7;
  CHECK(mnemo_to_dlpack(&m, shape, strides, &out, &error) == MNEMO_E_DEVICE && strstr(error.message, "device_type is 7"));
  m.device_type = MNEMO_CPU;
  m.rows = -1;
  CHECK(mnemo_to_dlpack(&m, shape, strides, &out, &error) == MNEMO_E_SHAPE && strstr(error.message, "-1 rows"));
}

static void versions(void) {
#ifdef DLPACK_MAJOR_VERSION
  int64_t shape[] = {4, 3};
  DLManagedTensorVersioned t;
  mnemo_tensor out;
  memset(&t, 0, sizeof t);
  t.version.major = DLPACK_MAJOR_VERSION;
  t.dl_tensor = tensor(2, shape, NULL);
  CHECK(mnemo_from_dlpack_versioned(&t, 1, &out, &error) == MNEMO_OK && out.rows == 4 && out.cols == 3);
  t.flags = DLPACK_FLAG_BITMASK_READ_ONLY;
  CHECK(mnemo_from_dlpack_versioned(&t, 0, &out, &error) == MNEMO_OK);
  CHECK(mnemo_from_dlpack_versioned(&t, 1, &out, &error) == MNEMO_E_INVALID && strstr(error.message, "read-only"));
  t.flags = 2; /* a copy: anybody may write */
  CHECK(mnemo_from_dlpack_versioned(&t, 1, &out, &error) == MNEMO_OK);
  t.version.major = DLPACK_MAJOR_VERSION + 1;
  CHECK(mnemo_from_dlpack_versioned(&t, 0, &out, &error) == MNEMO_E_UNSUPPORTED && strstr(error.message, "DLPack 2"));
  CHECK(mnemo_from_dlpack_versioned(NULL, 0, &out, &error) == MNEMO_E_INVALID);
#elif defined(DLPACK_1)
#error "the header under test was not that of DLPack 1"
#endif
}

int main(void) {
  shapes();
  types();
  memory();
  with_the_library();
  bad_arguments();
  versions();
  CHECK(cases > 50);
  puts("6");
  return 0;
}
