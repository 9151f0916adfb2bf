// SPDX-License-Identifier: MIT OR Apache-2.0
//
// mnemo's empirical score as XLA FFI handlers for the CPU; mnemo/jax.py is the other half.
//
// Lifetimes. Python owns the handles. It lends them to a Model, which is known by an id that is never used twice. A
// compiled program takes a share of its Model when XLA instantiates it, and keeps it until the program itself is
// destroyed, which may be long after Python has let go of everything. When the last share is gone the id is listed as
// gone, and Python, the next time it looks, drops the handles. So no call can meet a released handle, and no thread
// of XLA's ever needs the interpreter.

#include <mnemo.h>

#include <cmath>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

struct Model;

struct Table {
  std::mutex mutex;
  int64_t last_id = 0;
  size_t alive = 0;
  std::map<int64_t, std::shared_ptr<const Model>> open;
  std::vector<int64_t> gone;
};

// Never destroyed: XLA's threads may outlive static destructors.
Table& table() {
  static Table* const the = new Table;
  return *the;
}

struct Model {
  int64_t id = 0;
  const mnemo_score* score = nullptr;    // with its regularizer
  const mnemo_score* mixture = nullptr;  // without: its score is the gradient of the log density
  const mnemo_process* process = nullptr;

  ~Model() {
    if (id == 0) return;
    const std::lock_guard<std::mutex> lock(table().mutex);
    table().gone.push_back(id);  // within what was reserved
  }
};

// A program's share of its model.
struct Share {
  static ffi::TypeId id;
  std::shared_ptr<const Model> model;
};
ffi::TypeId Share::id = {};
const ffi::TypeInfo share_info = ffi::MakeTypeInfo<Share>();

ffi::Error failure(int32_t status, const std::string& message) {
  ffi::ErrorCode code = ffi::ErrorCode::kInternal;
  switch (status) {
    case MNEMO_E_INVALID:
    case MNEMO_E_SHAPE:
    case MNEMO_E_DTYPE:
    case MNEMO_E_DEVICE:
      code = ffi::ErrorCode::kInvalidArgument;
      break;
    case MNEMO_E_NOMEM:
      code = ffi::ErrorCode::kResourceExhausted;
      break;
    case MNEMO_E_UNSUPPORTED:
      code = ffi::ErrorCode::kUnimplemented;
      break;
    case MNEMO_E_CANCELLED:
      code = ffi::ErrorCode::kCancelled;
      break;
    default:
      break;
  }
  return ffi::Error(code, std::string(mnemo_status_name(status)) + ": " + message);
}

// Nothing but an XLA error leaves a handler.
template <typename Body>
ffi::Error guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return failure(MNEMO_E_NOMEM, "out of memory");
  } catch (const std::exception& e) {
    return failure(MNEMO_E_PANIC, e.what());
  }
}

// The buffer as [rows, cols]; a dtype that mnemo has no name for becomes 0, which it refuses.
mnemo_tensor tensor(const ffi::AnyBuffer& buffer, int64_t rows, int64_t cols) {
  uint32_t dtype = 0;
  switch (buffer.element_type()) {
    case ffi::DataType::F32: dtype = MNEMO_F32; break;
    case ffi::DataType::F64: dtype = MNEMO_F64; break;
    case ffi::DataType::S64: dtype = MNEMO_I64; break;
    default: break;
  }
  return {buffer.untyped_data(), rows, cols, 0, dtype, MNEMO_CPU, 0, 0};
}

// x is [..., dim]; what comes before the last dimension, from the caller or from vmap, is the batch.
struct Shape {
  int64_t rows = 1, cols = 1;
  explicit Shape(const ffi::AnyBuffer& x) {
    const auto dims = x.dimensions();
    for (size_t i = 0; i < dims.size(); i++) (i + 1 < dims.size() ? rows : cols) *= dims[i];
  }
};

mnemo_tensor vector(const ffi::AnyBuffer& buffer) {
  return tensor(buffer, static_cast<int64_t>(buffer.element_count()), 1);
}

ffi::ErrorOr<std::unique_ptr<Share>> instantiate(ffi::Dictionary attributes) {
  const ffi::ErrorOr<int64_t> id = attributes.get<int64_t>("model");
  if (!id.has_value()) return ffi::Unexpected(id.error());
  std::unique_ptr<Share> share;
  const ffi::Error error = guarded([&]() -> ffi::Error {
    const std::lock_guard<std::mutex> lock(table().mutex);
    const auto found = table().open.find(*id);
    if (found == table().open.end())
      return failure(MNEMO_E_INVALID, "the mnemo.jax.Empirical of this function is gone");
    share = std::make_unique<Share>(Share{found->second});
    return ffi::Error::Success();
  });
  if (!share) return ffi::Unexpected(error);
  return share;
}

// `outputs` has a bit for each member of mnemo_score_outputs, in its order; the results come in that order.
ffi::Error evaluate(Share* share, ffi::AnyBuffer x, ffi::AnyBuffer t, ffi::RemainingRets results, int64_t /* model */,
                    int64_t outputs, bool mixture) {
  return guarded([&]() -> ffi::Error {
    const Shape shape(x);
    const mnemo_tensor points = tensor(x, shape.rows, shape.cols), times = vector(t);
    mnemo_score_outputs wanted;
    mnemo_score_outputs_init(&wanted, sizeof wanted);
    mnemo_tensor** const members[] = {&wanted.score,   &wanted.denoised,      &wanted.log_density,     &wanted.divergence,
                                      &wanted.entropy, &wanted.nearest_index, &wanted.nearest_distance};
    mnemo_tensor tensors[7];
    std::vector<int64_t> wide;  // an index, where JAX without 64-bit types wants 32
    int32_t* narrow = nullptr;
    size_t count = 0;
    for (int i = 0; i < 7; i++) {
      if (!(outputs >> i & 1)) continue;
      ffi::ErrorOr<ffi::Result<ffi::AnyBuffer>> result = results.get<ffi::AnyBuffer>(count);
      if (!result.has_value()) return result.error();
      const ffi::AnyBuffer& buffer = **result;
      tensors[count] = i < 2 ? tensor(buffer, shape.rows, shape.cols) : tensor(buffer, shape.rows, 1);
      if (buffer.element_type() == ffi::DataType::S32) {
        narrow = static_cast<int32_t*>(buffer.untyped_data());
        wide.resize(static_cast<size_t>(shape.rows));
        tensors[count].data = wide.data();
        tensors[count].dtype = MNEMO_I64;
      }
      *members[i] = &tensors[count++];
    }
    const mnemo_score* score = mixture ? share->model->mixture : share->model->score;
    mnemo_error err;
    if (mnemo_score_eval(score, &points, &times, &wanted, nullptr, &err) != MNEMO_OK)
      return failure(err.code, err.message);
    for (size_t i = 0; i < wide.size(); i++) {
      if (wide[i] > INT32_MAX) return failure(MNEMO_E_INVALID, "nearest_index is above 2^31: set jax_enable_x64");
      narrow[i] = static_cast<int32_t>(wide[i]);
    }
    return ffi::Error::Success();
  });
}

// The derivative of the denoised value, (v + sigma^2 J v) / m: near a training row a small difference of equal terms,
// so in float64 whatever the element type is.
template <typename T>
ffi::Error denoised_jvp(const Model& model, Shape shape, const ffi::AnyBuffer& x, const mnemo_tensor& times,
                        const ffi::AnyBuffer& v, const ffi::AnyBuffer& out) {
  const auto rows = static_cast<size_t>(shape.rows), cols = static_cast<size_t>(shape.cols);
  const T* const from_x = static_cast<const T*>(x.untyped_data());
  const T* const from_v = static_cast<const T*>(v.untyped_data());
  std::vector<double> point(from_x, from_x + rows * cols), along(from_v, from_v + rows * cols), product(rows * cols);
  std::vector<double> t(rows), m(rows), sigma(rows);
  for (size_t i = 0; i < rows; i++)
    t[i] = times.dtype == MNEMO_F32 ? static_cast<const float*>(times.data)[i] : static_cast<const double*>(times.data)[i];

  const auto view = [&](std::vector<double>& data) {
    return mnemo_tensor{data.data(), shape.rows, shape.cols, 0, MNEMO_F64, MNEMO_CPU, 0, 0};
  };
  const mnemo_tensor px = view(point), pv = view(along);
  mnemo_tensor jv = view(product);
  mnemo_error err;
  if (mnemo_score_jvp(model.score, &px, &times, &pv, &jv, nullptr, &err) != MNEMO_OK ||
      mnemo_process_eval(model.process, t.data(), shape.rows, m.data(), sigma.data(), nullptr, nullptr, &err) != MNEMO_OK)
    return failure(err.code, err.message);

  T* const to = static_cast<T*>(out.untyped_data());
  for (size_t i = 0; i < rows; i++) {
    if (m[i] == 0 && model.score != model.mixture)
      return failure(MNEMO_E_INVALID, "the denoised value of a regularized score does not exist where m = 0");
    for (size_t k = i * cols; k < (i + 1) * cols; k++) {
      // Where m = 0 x says nothing of y, and without a regularizer the denoised value is the same everywhere.
      const double value = m[i] == 0 ? 0 : (along[k] + sigma[i] * sigma[i] * product[k]) / m[i];
      to[k] = static_cast<T>(value);
      if (!std::isfinite(to[k])) return failure(MNEMO_E_INVALID, "the derivative is beyond the range of its element type");
    }
  }
  return ffi::Error::Success();
}

ffi::Error derivative(Share* share, ffi::AnyBuffer x, ffi::AnyBuffer t, ffi::AnyBuffer v, ffi::Result<ffi::AnyBuffer> out,
                      int64_t /* model */, bool denoised, bool mixture) {
  return guarded([&]() -> ffi::Error {
    const Model& model = *share->model;
    const Shape shape(x);
    const mnemo_tensor times = vector(t), points = tensor(x, shape.rows, shape.cols);
    const mnemo_tensor along = tensor(v, shape.rows, shape.cols);
    if (denoised)
      return points.dtype == MNEMO_F32 ? denoised_jvp<float>(model, shape, x, times, v, *out)
                                       : denoised_jvp<double>(model, shape, x, times, v, *out);
    mnemo_tensor product = tensor(*out, shape.rows, shape.cols);
    mnemo_error err;
    const mnemo_score* score = mixture ? model.mixture : model.score;
    if (mnemo_score_jvp(score, &points, &times, &along, &product, nullptr, &err) != MNEMO_OK)
      return failure(err.code, err.message);
    return ffi::Error::Success();
  });
}

}  // namespace

#pragma GCC visibility push(default)

XLA_FFI_DEFINE_HANDLER_SYMBOL(mnemo_jax_instantiate, instantiate, ffi::Ffi::BindInstantiate().Attrs());

XLA_FFI_DEFINE_HANDLER_SYMBOL(mnemo_jax_eval, evaluate,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::State<Share>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingRets()
                                  .Attr<int64_t>("model")
                                  .Attr<int64_t>("outputs")
                                  .Attr<bool>("mixture"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(mnemo_jax_jvp, derivative,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::State<Share>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<int64_t>("model")
                                  .Attr<bool>("denoised")
                                  .Attr<bool>("mixture"));

extern "C" {

const void* mnemo_jax_type_id(void) { return &Share::id; }

const void* mnemo_jax_type_info(void) { return &share_info; }

// The ABI that this was compiled for: (major << 16) | minor.
uint32_t mnemo_jax_abi_version(void) { return MNEMO_ABI_MAJOR << 16 | MNEMO_ABI_MINOR; }

// Lends three handles, until the id that is returned is among those of mnemo_jax_gone. 0: out of memory.
int64_t mnemo_jax_open(const mnemo_score* score, const mnemo_score* mixture, const mnemo_process* process) {
  try {
    const auto model = std::make_shared<Model>();
    model->score = score, model->mixture = mixture, model->process = process;
    const std::lock_guard<std::mutex> lock(table().mutex);
    table().gone.reserve(table().alive + 1);
    table().open.emplace(table().last_id + 1, model);
    table().alive++;
    return model->id = ++table().last_id;
  } catch (const std::bad_alloc&) {
    return 0;
  }
}

// No further program may use the model.
void mnemo_jax_close(int64_t id) {
  std::shared_ptr<const Model> last;  // destroyed after the lock is
  const std::lock_guard<std::mutex> lock(table().mutex);
  const auto found = table().open.find(id);
  if (found == table().open.end()) return;
  last = std::move(found->second);
  table().open.erase(found);
}

// Takes one model that no program uses any more from the list; 0 if there is none.
int64_t mnemo_jax_gone(void) {
  const std::lock_guard<std::mutex> lock(table().mutex);
  if (table().gone.empty()) return 0;
  const int64_t id = table().gone.back();
  table().gone.pop_back();
  table().alive--;
  return id;
}

}  // extern "C"

#pragma GCC visibility pop
