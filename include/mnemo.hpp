// mnemo.hpp - mnemo for C++17 and later: the C ABI of mnemo.h with owners, views, exceptions and callables.
//
// SPDX-License-Identifier: MIT OR Apache-2.0
//
//     mnemo::Context context;
//     mnemo::Dataset images = context.open("digits.npy", {1 / 8.0, -1});
//     mnemo::Score score = mnemo::Score::empirical(images, mnemo::Process::ve_power(2, 1, 80));
//     std::vector<float> x(100 * 64);
//     score.sample({x, 64}, {.from_prior = true}, {.seed = 1});       // C++20; in C++17 fill the options as variables
//
// Names, shapes and units are those of mnemo.h, which is the manual of what is computed; this header says only what
// C++ adds. It needs the standard library and mnemo.h, nothing else.
//
// Owners. Context, Cancel, Process, Dataset and Score are owners like std::unique_ptr: movable, not copyable, get(),
// release() (gives the raw handle away), reset() (releases it now). They may go in any order. To use an empty one
// (moved from, reset) is an error, Status::invalid, not a crash. A raw handle is adopted by the explicit constructor.
//
// Errors. A call that fails throws mnemo::Error, and its outputs are as they were. With MNEMO_USE_EXPECTED defined
// before the header is included nothing is thrown: functions return Expected<T> in place of T, and Context::create()
// and Cancel::create() stand for the constructors. Written Result<T> below. Needed with -fno-exceptions. Files compiled
// in different ways may be linked into one program, but not pass each other objects of this header.
//
// Callbacks. Any callable may be a model, a progress report or an observer. It runs on the thread that made the call
// and may call the library. It returns nothing, or a bool, false ending the call with MNEMO_E_CALLBACK (progress:
// MNEMO_E_CANCELLED), or with MNEMO_USE_EXPECTED an Expected<void>, whose error becomes the call's. If it throws, the
// library ends the call, and the call throws that same exception. (Not where the code of the score was loaded by dlopen
// with symbols of its own: that is MNEMO_E_CALLBACK.)
//
// Threads. Processes, data sets and scores are immutable: const member functions may run on many threads at once. A
// cancel handle may be requested from any thread. As with every object, whoever destroys one sees to it that nobody
// still uses it.
#ifndef MNEMO_HPP
#define MNEMO_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

// mnemo.h has a struct and a function of one name, which -Wshadow of GCC dislikes.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wshadow"
#endif
#include <mnemo.h>
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

#if __cplusplus < 201703L
#error "mnemo.hpp needs C++17 or later"
#endif
#if !defined(__cpp_exceptions) && !defined(MNEMO_USE_EXPECTED)
#error "mnemo.hpp without exceptions needs MNEMO_USE_EXPECTED"
#endif

namespace mnemo {

// One name per way of compiling: files compiled in different ways do not share functions by mistake.
#if !defined(MNEMO_USE_EXPECTED)
inline namespace throwing {
#elif defined(__cpp_exceptions)
inline namespace returning {
#else
inline namespace returning_noexcept {
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Status and errors
// ---------------------------------------------------------------------------------------------------------------------

enum class Status : std::int32_t {
  ok = MNEMO_OK,
  invalid = MNEMO_E_INVALID,
  shape = MNEMO_E_SHAPE,
  dtype = MNEMO_E_DTYPE,
  device = MNEMO_E_DEVICE,
  nomem = MNEMO_E_NOMEM,
  io = MNEMO_E_IO,
  cuda = MNEMO_E_CUDA,
  compile = MNEMO_E_COMPILE,
  cancelled = MNEMO_E_CANCELLED,
  callback = MNEMO_E_CALLBACK,
  unsupported = MNEMO_E_UNSUPPORTED,
  poisoned = MNEMO_E_POISONED,
  panic = MNEMO_E_PANIC,
};

/// "MNEMO_E_SHAPE"; "unknown status" for a number that is none.
inline const char *status_name(Status status) noexcept { return mnemo_status_name(static_cast<std::int32_t>(status)); }

/// What went wrong in one call; what() is the library's message: the argument, what was given, what is accepted.
class [[gnu::visibility("default")]] Error : public std::runtime_error {
 public:
  Error(Status code, const std::string &message, std::int32_t native = 0)
      : std::runtime_error(message), code_(code), native_(native) {}
  explicit Error(const mnemo_error &error) : Error(static_cast<Status>(error.code), error.message, error.native) {}

  Status code() const noexcept { return code_; }
  /// "MNEMO_E_SHAPE".
  const char *name() const noexcept { return status_name(code_); }
  /// The number of the layer below: errno, a CUDA error, 1 where a callback returned false; 0 if there is none.
  std::int32_t native() const noexcept { return native_; }

 private:
  Status code_;
  std::int32_t native_;
};

#if defined(MNEMO_USE_EXPECTED)
/// A value or the error that stands in its place. To take the value of an error throws the error, or without exceptions
/// prints it and aborts.
template <class T>
class [[nodiscard]] Expected {
  // What is stored where T is void.
  using Value = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

 public:
  Expected(Value value) : stored_(std::in_place_index<0>, std::move(value)) {}
  Expected(Error error) : stored_(std::in_place_index<1>, std::move(error)) {}
  template <class U = T, class = std::enable_if_t<std::is_void_v<U>>>
  Expected() noexcept {}

  bool has_value() const noexcept { return stored_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }
  Value &value() & { return required(*this); }
  const Value &value() const & { return required(*this); }
  Value &&value() && { return std::move(required(*this)); }
  Value &operator*() & { return value(); }
  const Value &operator*() const & { return value(); }
  Value &&operator*() && { return std::move(*this).value(); }
  Value *operator->() { return &value(); }
  const Value *operator->() const { return &value(); }
  /// Only where there is no value.
  const Error &error() const noexcept { return *std::get_if<1>(&stored_); }

 private:
  template <class Self>
  static auto &required(Self &self) {
    if (!self.has_value()) {
#if defined(__cpp_exceptions)
      throw self.error();
#else
      std::fprintf(stderr, "%s: %s\n", self.error().name(), self.error().what());
      std::abort();
#endif
    }
    return *std::get_if<0>(&self.stored_);
  }

  std::variant<Value, Error> stored_;
};
/// What a function that can fail returns.
template <class T>
using Result = Expected<T>;
#else
/// What a function that can fail returns: it throws.
template <class T>
using Result = T;
#endif

namespace detail {
template <class T>
Result<T> failed(Error error) {
#if defined(MNEMO_USE_EXPECTED)
  return Result<T>(std::move(error));
#else
  throw error;
#endif
}
}  // namespace detail

/// The version of the library that is loaded, such as "0.1.0".
inline const char *version() noexcept { return mnemo_version(); }

/// The ABI version of the library that is loaded: (major << 16) | minor.
inline std::uint32_t abi_version() noexcept { return mnemo_abi_version(); }

/// An error, Status::unsupported, if the library that is loaded is not one that this header was made for. A context
/// asks it before it is made.
inline Result<void> check_abi() {
  const std::uint32_t major = abi_version() >> 16, minor = abi_version() & 0xffff;
  // Through variables, as a minor version of 0 would make the comparison one that is always true.
  const std::uint32_t wanted_major = MNEMO_ABI_MAJOR, wanted_minor = MNEMO_ABI_MINOR;
  if (major == wanted_major && minor >= wanted_minor) return Result<void>();
  const auto text = [](std::uint32_t a, std::uint32_t b) { return std::to_string(a) + "." + std::to_string(b); };
  return detail::failed<void>(Error(Status::unsupported,
                                    "libmnemo " + std::string(version()) + " has ABI " + text(major, minor) +
                                        "; this program was compiled for ABI " + text(wanted_major, wanted_minor)));
}

// ---------------------------------------------------------------------------------------------------------------------
// Constants
// ---------------------------------------------------------------------------------------------------------------------

enum class Dtype : std::uint32_t {
  f32 = MNEMO_F32,
  f64 = MNEMO_F64,
  f16 = MNEMO_F16,
  bf16 = MNEMO_BF16,
  u8 = MNEMO_U8,
  i32 = MNEMO_I32,
  i64 = MNEMO_I64,
};

enum class Device : std::uint32_t { cpu = MNEMO_CPU, cuda = MNEMO_CUDA };

enum class InstructionSet : std::uint32_t {
  best = MNEMO_ISA_BEST,
  portable = MNEMO_ISA_PORTABLE,
  avx2 = MNEMO_ISA_AVX2,
  avx512 = MNEMO_ISA_AVX512,
  amx = MNEMO_ISA_AMX,
};

enum class Regularizer : std::uint32_t {
  none = MNEMO_REG_NONE,
  tikhonov = MNEMO_REG_TIKHONOV,
  bayes_density = MNEMO_REG_BAYES_DENSITY,
  bayes_weight = MNEMO_REG_BAYES_WEIGHT,
};

enum class Prediction : std::uint32_t {
  score = MNEMO_PREDICT_SCORE,
  eps = MNEMO_PREDICT_EPS,
  x0 = MNEMO_PREDICT_X0,
  v = MNEMO_PREDICT_V,
  flow = MNEMO_PREDICT_FLOW,
};

enum class Solver : std::uint32_t {
  euler = MNEMO_SOLVER_EULER,
  heun = MNEMO_SOLVER_HEUN,
  exponential = MNEMO_SOLVER_EXPONENTIAL,
  dpmpp_2m = MNEMO_SOLVER_DPMPP_2M,
  rk45 = MNEMO_SOLVER_RK45,
  euler_maruyama = MNEMO_SOLVER_EULER_MARUYAMA,
  ancestral = MNEMO_SOLVER_ANCESTRAL,
  edm_stochastic = MNEMO_SOLVER_EDM_STOCHASTIC,
};

enum class Grid : std::uint32_t {
  uniform_t = MNEMO_GRID_UNIFORM_T,
  uniform_s = MNEMO_GRID_UNIFORM_S,
  karras = MNEMO_GRID_KARRAS,
  custom = MNEMO_GRID_CUSTOM,
};

enum class Metric : std::uint32_t {
  l2 = MNEMO_METRIC_L2,
  cosine = MNEMO_METRIC_COSINE,
};

// ---------------------------------------------------------------------------------------------------------------------
// Tensors: views of the caller's memory
// ---------------------------------------------------------------------------------------------------------------------

/// The element type of T: `dtype_of<T>::value`. Specialize it for a half or bfloat16 type of your own:
///     template <> struct mnemo::dtype_of<half> { static constexpr mnemo::Dtype value = mnemo::Dtype::f16; };
template <class T, class = void>
struct dtype_of {};
template <>
struct dtype_of<float> {
  static constexpr Dtype value = Dtype::f32;
};
template <>
struct dtype_of<double> {
  static constexpr Dtype value = Dtype::f64;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr Dtype value = Dtype::u8;
};
template <class T>
struct dtype_of<T, std::enable_if_t<std::is_integral_v<T> && std::is_signed_v<T> && sizeof(T) % 4 == 0>> {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "mnemo has integers of 32 and 64 bits");
  static constexpr Dtype value = sizeof(T) == 4 ? Dtype::i32 : Dtype::i64;
};

/// A row-major matrix of known element type: what a callback is given. A vector is a matrix of one column. On a CUDA
/// context callbacks are given its device's memory, whose elements the host cannot reach: data() is for kernels and
/// libraries that are queued on the call's stream. As a tensor a view is what it views, on the same device.
template <class T>
class View {
 public:
  View(T *data, std::int64_t rows, std::int64_t cols, std::int64_t row_stride, Device device = Device::cpu,
       std::int32_t device_id = 0) noexcept
      : data_(data), rows_(rows), cols_(cols), row_stride_(row_stride), device_(device), device_id_(device_id) {}
  template <class U, class = std::enable_if_t<std::is_same_v<const U, T>>>
  View(View<U> other) noexcept
      : View(other.data(), other.rows(), other.cols(), other.row_stride(), other.device(), other.device_id()) {}

  T *data() const noexcept { return data_; }
  std::int64_t rows() const noexcept { return rows_; }
  std::int64_t cols() const noexcept { return cols_; }
  /// Elements from one row to the next.
  std::int64_t row_stride() const noexcept { return row_stride_; }
  static constexpr bool IsRowMajor = true;
  /// Where the memory is.
  Device device() const noexcept { return device_; }
  /// Which CUDA device.
  std::int32_t device_id() const noexcept { return device_id_; }

  /// Not checked.
  T *row(std::int64_t i) const noexcept { return data_ + i * row_stride_; }
  /// In the host's memory only; not checked.
  T &operator()(std::int64_t i, std::int64_t j) const noexcept { return row(i)[j]; }
  /// Element i of a vector, likewise.
  T &operator[](std::int64_t i) const noexcept { return *row(i); }

 private:
  T *data_;
  std::int64_t rows_, cols_, row_stride_;
  Device device_;
  std::int32_t device_id_;
};

namespace detail {

// The kinds of type that a view is made of, told by what they have.
template <class M>
using data_of = decltype(std::declval<M &>().data());
template <class M>
using size_of = decltype(std::declval<M &>().size());
template <class M>
using rows_of = decltype(std::declval<M &>().rows() + std::declval<M &>().cols());
template <class M>
using handle_of = decltype(std::declval<M &>().data_handle());
template <class M>
using order_of = decltype(std::remove_cv_t<M>::IsRowMajor);
template <class M>
using cols_at_compile_time = decltype(std::remove_cv_t<M>::ColsAtCompileTime);
template <class M>
using outer_of = decltype(std::declval<M &>().outerStride());
template <class M>
using inner_of = decltype(std::declval<M &>().innerStride());
template <class M>
using row_stride_of = decltype(std::declval<M &>().row_stride());

template <class, template <class> class Has, class M>
struct has_impl : std::false_type {};
template <template <class> class Has, class M>
struct has_impl<std::void_t<Has<M>>, Has, M> : std::true_type {};
template <template <class> class Has, class M>
inline constexpr bool has = has_impl<void, Has, M>::value;

template <class M>
inline constexpr bool is_view = false;
template <class T>
inline constexpr bool is_view<View<T>> = true;

template <class T>
using dtype_value = decltype(dtype_of<std::remove_cv_t<T>>::value);

template <class M>
inline constexpr bool is_mdspan = has<handle_of, M>;
template <class M>
inline constexpr bool is_matrix = !is_mdspan<M> && has<data_of, M> && has<rows_of, M>;
template <class M>
inline constexpr bool is_container = !is_mdspan<M> && !is_matrix<M> && has<data_of, M> && has<size_of, M>;
template <class M>
inline constexpr bool is_viewable = is_mdspan<M> || is_matrix<M> || is_container<M> || std::is_array_v<M>;

/// A tensor being made, and what is wrong with its memory, if anything: a call that is given it says so.
struct Described {
  mnemo_tensor raw{};
  const char *fault = nullptr;
  bool present = false;
};

/// Whatever integers the sizes are.
template <class T, class N, class K, class R, class C>
Described describe(T *data, N n, K k, R row, C col) {
  const auto rows = static_cast<std::int64_t>(n), cols = static_cast<std::int64_t>(k);
  const auto row_stride = static_cast<std::int64_t>(row), col_stride = static_cast<std::int64_t>(col);
  static_assert(has<dtype_value, T>, "mnemo has no element type for this; see mnemo::dtype_of");
  Described d;
  d.present = true;
  d.raw.data = const_cast<void *>(static_cast<const volatile void *>(data));
  d.raw.rows = rows;
  d.raw.cols = cols;
  d.raw.row_stride = row_stride;
  d.raw.dtype = static_cast<std::uint32_t>(dtype_of<std::remove_cv_t<T>>::value);
  d.raw.device_type = MNEMO_CPU;
  // Rows that overlap are found here, as the C ABI reads a stride of 0 as cols.
  if (rows > 0 && cols > 1 && col_stride != 1) d.fault = "the elements of a row are apart; mnemo is row-major";
  else if (rows > 1 && cols > 0 && row_stride < cols) d.fault = "its rows overlap: they are less than cols apart";
  return d;
}

template <class M>
auto row_stride(M &m) {
  if constexpr (has<outer_of, M>) return m.outerStride();
  else if constexpr (has<row_stride_of, M>) return m.row_stride();
  else return std::remove_cv_t<M>::IsRowMajor ? m.cols() : m.rows();
}

template <class M>
auto inner_stride(M &m) {
  if constexpr (has<inner_of, M>) return m.innerStride();
  else return 1;
}

/// Eigen's column vectors are column-major, and yet a vector of ours.
template <class M>
constexpr bool is_column() {
  if constexpr (has<cols_at_compile_time, M>) return int(std::remove_cv_t<M>::ColsAtCompileTime) == 1;
  else return false;
}

template <class M>
constexpr bool row_major() {
  static_assert(has<order_of, M>, "is this matrix row-major? Give its type a static constexpr bool IsRowMajor");
  if constexpr (has<order_of, M>) return bool(std::remove_cv_t<M>::IsRowMajor);
  else return true;
}

template <class M>
Described describe_object(M &m) {
  if constexpr (is_mdspan<M>) {
    constexpr std::size_t rank = std::remove_cv_t<M>::rank();
    static_assert(rank == 1 || rank == 2, "mnemo takes spans of rank 1 (a vector) and 2 (a matrix)");
    if constexpr (rank == 1) return describe(m.data_handle(), m.extent(0), 1, m.stride(0), 1);
    else return describe(m.data_handle(), m.extent(0), m.extent(1), m.stride(0), m.stride(1));
  } else if constexpr (is_column<M>()) {
    return describe(m.data(), m.rows(), 1, inner_stride(m), 1);
  } else if constexpr (is_matrix<M>) {
    static_assert(row_major<M>(),
                  "this matrix is column-major and mnemo's are row-major: pass mnemo::columns(m), whose rows are the "
                  "columns of m, or use a row-major matrix");
    Described d = describe(m.data(), m.rows(), m.cols(), row_stride(m), inner_stride(m));
    if constexpr (is_view<std::remove_cv_t<M>>) {
      d.raw.device_type = static_cast<std::uint32_t>(m.device());
      d.raw.device_id = m.device_id();
    }
    return d;
  } else {
    return describe(m.data(), m.size(), 1, 1, 1);
  }
}

template <class T, std::size_t N>
Described describe_object(T (&a)[N]) {
  return describe(a, N, 1, 1, 1);
}
template <class T, std::size_t N, std::size_t K>
Described describe_object(T (&a)[N][K]) {
  return describe(&a[0][0], N, K, K, 1);
}

/// Elements in sequence as rows of `cols`.
template <class C>
Described describe_rows(C &values, std::int64_t cols) {
  const auto size = static_cast<std::int64_t>(values.size());
  Described d = describe(values.data(), cols > 0 ? size / cols : 0, cols, cols, 1);
  if (cols < 0 || d.raw.rows * cols != size) d.fault = "its size is not a multiple of its columns";
  return d;
}

template <class M>
constexpr bool is_const() {
  if constexpr (std::is_array_v<M>) return std::is_const_v<std::remove_all_extents_t<M>>;
  else if constexpr (is_mdspan<M>) return std::is_const_v<std::remove_pointer_t<std::remove_reference_t<handle_of<M>>>>;
  else return std::is_const_v<std::remove_pointer_t<std::remove_reference_t<data_of<M>>>>;
}

}  // namespace detail

/// A matrix to read, in memory that the caller keeps for as long as the tensor is used: pass it, do not keep it.
///
/// It is made, without a copy, of a vector (anything with data() and size(): [n, 1]; with a number of columns: [n /
/// cols, cols]), an array, a pointer with sizes, a row-major matrix with data(), rows(), cols() and IsRowMajor (Eigen:
/// matrices, maps and blocks; its vectors are [n, 1]), or a span of rank 1 or 2 with data_handle(), extent() and
/// stride(). A column-major matrix does not compile: see columns(). Memory whose rows are not contiguous or overlap is
/// an error, Status::shape, of the call that is given it.
class ConstTensor {
 public:
  /// No tensor: an output that is not wanted, labels that are not there.
  ConstTensor() noexcept = default;
  /// Any tensor of the C ABI, such as one of an element type without a C++ type. See also mnemo_dlpack.h. For a device's
  /// memory see View, whose constructor takes the device.
  explicit ConstTensor(const mnemo_tensor &raw) noexcept : made_{raw, nullptr, true} {}
  template <class T>
  ConstTensor(const T *data, std::int64_t rows, std::int64_t cols) : ConstTensor(data, rows, cols, cols) {}
  template <class T>
  ConstTensor(const T *data, std::int64_t rows, std::int64_t cols, std::int64_t row_stride)
      : made_(detail::describe(data, rows, cols, row_stride, 1)) {}
  template <class M, std::enable_if_t<!std::is_base_of_v<ConstTensor, M> && detail::is_viewable<const M>, int> = 0>
  ConstTensor(const M &m) : made_(detail::describe_object(m)) {}
  template <class C, std::enable_if_t<detail::is_container<const C>, int> = 0>
  ConstTensor(const C &values, std::int64_t cols) : made_(detail::describe_rows(values, cols)) {}

  explicit operator bool() const noexcept { return made_.present; }
  std::int64_t rows() const noexcept { return made_.raw.rows; }
  std::int64_t cols() const noexcept { return made_.raw.cols; }
  Dtype dtype() const noexcept { return static_cast<Dtype>(made_.raw.dtype); }
  Device device() const noexcept { return static_cast<Device>(made_.raw.device_type); }
  const mnemo_tensor &raw() const noexcept { return made_.raw; }
  /// What is wrong with the memory, or nullptr.
  const char *fault() const noexcept { return made_.fault; }

  /// The elements, if they are of type T; otherwise Status::dtype.
  template <class T>
  Result<View<const T>> as() const {
    return view<const T>();
  }

 protected:
  explicit ConstTensor(const detail::Described &made) noexcept : made_(made) {}

  template <class T>
  Result<View<T>> view() const {
    if (made_.fault) return detail::failed<View<T>>(Error(Status::shape, made_.fault));
    if (dtype() != dtype_of<std::remove_cv_t<T>>::value) {
      return detail::failed<View<T>>(Error(Status::dtype, "the tensor's elements are of another type"));
    }
    const bool apart = made_.raw.rows > 1 && made_.raw.row_stride != 0;
    return View<T>(static_cast<T *>(made_.raw.data), rows(), cols(), apart ? made_.raw.row_stride : cols(), device(),
                   made_.raw.device_id);
  }

  template <class M>
  friend auto columns(M &&m);

  detail::Described made_;
};

/// A matrix to write, made of the same as ConstTensor; elements that are const do not compile.
class Tensor : public ConstTensor {
 public:
  Tensor() noexcept = default;
  explicit Tensor(const mnemo_tensor &raw) noexcept : ConstTensor(raw) {}
  template <class T>
  Tensor(T *data, std::int64_t rows, std::int64_t cols) : Tensor(data, rows, cols, cols) {}
  template <class T>
  Tensor(T *data, std::int64_t rows, std::int64_t cols, std::int64_t row_stride)
      : ConstTensor(data, rows, cols, row_stride) {
    static_assert(!std::is_const_v<T>, "mnemo::Tensor is written to, and these elements are const");
  }
  template <class M, class U = std::remove_reference_t<M>,
            std::enable_if_t<!std::is_base_of_v<ConstTensor, std::remove_cv_t<U>> && detail::is_viewable<U>, int> = 0>
  Tensor(M &&m) : ConstTensor(detail::describe_object(m)) {
    static_assert(!detail::is_const<U>(), "mnemo::Tensor is written to, and these elements are const");
  }
  template <class C, class U = std::remove_reference_t<C>, std::enable_if_t<detail::is_container<U>, int> = 0>
  Tensor(C &&values, std::int64_t cols) : ConstTensor(detail::describe_rows(values, cols)) {
    static_assert(!detail::is_const<U>(), "mnemo::Tensor is written to, and these elements are const");
  }

  template <class T>
  Result<View<T>> as() const {
    return view<T>();
  }

 private:
  explicit Tensor(const detail::Described &made) noexcept : ConstTensor(made) {}
  template <class M>
  friend auto columns(M &&m);
};

/// The columns of a column-major matrix as rows, without a copy: a d x n Eigen matrix whose columns are samples is the
/// [n, d] of this library. A Tensor, or a ConstTensor if the elements are const.
template <class M>
auto columns(M &&m) {
  using U = std::remove_reference_t<M>;
  using Made = std::conditional_t<detail::is_const<U>(), ConstTensor, Tensor>;
  if constexpr (detail::is_mdspan<U>) {
    return Made(detail::describe(m.data_handle(), m.extent(1), m.extent(0), m.stride(1), m.stride(0)));
  } else {
    static_assert(!detail::row_major<U>(), "mnemo::columns is for column-major matrices; pass this one as it is");
    return Made(detail::describe(m.data(), m.cols(), m.rows(), detail::row_stride(m), detail::inner_stride(m)));
  }
}

/// Times: one number for all rows, or a vector of one per row (F64 or F32).
class Times {
 public:
  Times(double t) noexcept : one_(t) {}
  Times(const ConstTensor &t) noexcept : given_(true), many_(t) {}
  template <class M, std::enable_if_t<!std::is_arithmetic_v<M> && !std::is_base_of_v<ConstTensor, M> &&
                                          std::is_convertible_v<const M &, ConstTensor>,
                                      int> = 0>
  Times(const M &t) : given_(true), many_(t) {}

  /// A view of this object or of the vector it was made of.
  ConstTensor tensor() const noexcept { return given_ ? many_ : ConstTensor(&one_, 1, 1); }

 private:
  bool given_ = false;
  double one_ = 0;
  ConstTensor many_;
};

// ---------------------------------------------------------------------------------------------------------------------
// Callbacks
// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

/// How a callback ended: 0, or what it returned and why.
struct Outcome {
  std::int32_t native = 0;
  std::optional<Error> error;
#if defined(__cpp_exceptions)
  std::exception_ptr thrown;
#endif
};

template <class>
inline constexpr bool never = false;

/// Whether a function pointer or a std::function is empty: it stands for no callback.
template <class F>
bool is_null(const F &f) {
  if constexpr (std::is_constructible_v<F, std::nullptr_t> && std::is_constructible_v<bool, const F &>) return !f;
  else return false;
}

inline constexpr char empty_handle[] = ": the handle is empty (moved from, reset or released)";

template <class F, class... A>
Outcome outcome(F &f, A... a) {
  using R = decltype(f(a...));
  Outcome o;
  if constexpr (std::is_void_v<R>) {
    f(a...);
  } else if constexpr (std::is_same_v<R, bool>) {
    o.native = f(a...) ? 0 : 1;
#if defined(MNEMO_USE_EXPECTED)
  } else if constexpr (std::is_same_v<R, Expected<void>>) {
    if (auto result = f(a...); !result) o.native = 1, o.error = result.error();
#endif
  } else if constexpr (std::is_same_v<R, Outcome>) {
    o = f(a...);
  } else {
    static_assert(never<R>, "a callback of mnemo returns nothing, or a bool: false ends the call");
  }
  return o;
}

/// One call of the C ABI: what was given to it, how it ended, and how its callbacks ended.
///
/// The functions of a score know nothing of the call they run in: the score is shared by threads and outlives calls.
/// But they run on the thread of their call, and calls of one thread are nested. So each call lies on its thread's
/// stack of calls while it runs, and the top is the one whose callback runs.
class [[gnu::visibility("default")]] Call {
 public:
  Call() noexcept : outer_(current) { current = this; }
  ~Call() { current = outer_; }
  Call(const Call &) = delete;
  Call &operator=(const Call &) = delete;

  /// What is found wrong before the library is asked. The first stands.
  void refuse(Status code, const std::string &message) {
    if (!refused_) refused_.emplace(code, message);
  }
  void handle(const char *name, const void *raw) {
    if (raw == nullptr) refuse(Status::invalid, std::string(name) + empty_handle);
  }
  /// NULL for no tensor.
  const mnemo_tensor *input(const char *name, const ConstTensor &tensor) {
    if (tensor.fault()) refuse(Status::shape, std::string(name) + ": " + tensor.fault());
    return tensor ? &tensor.raw() : nullptr;
  }
  mnemo_tensor *output(const char *name, const Tensor &tensor) {
    return const_cast<mnemo_tensor *>(input(name, tensor));  // the library writes to what it points to, not to itself
  }
  /// The elements of a vector of double, n if it is an output, for what the C ABI takes as an array.
  double *array(const char *name, const ConstTensor &tensor, std::int64_t n = -1) {
    const mnemo_tensor *raw = input(name, tensor);
    const std::string of = std::string(name) + ": ";
    if (raw == nullptr) {
      if (n < 0) refuse(Status::invalid, of + "no tensor");
      return nullptr;
    }
    if (tensor.dtype() != Dtype::f64) refuse(Status::dtype, of + "its elements must be double");
    if (raw->device_type != MNEMO_CPU) refuse(Status::device, of + "it must be in the host's memory");
    if (raw->cols != 1 || (raw->rows > 1 && raw->row_stride != 0 && raw->row_stride != 1)) {
      refuse(Status::shape, of + "it must be a contiguous vector");
    }
    if (n >= 0 && raw->rows != n) {
      refuse(Status::shape, of + std::to_string(raw->rows) + " elements; it must have " + std::to_string(n));
    }
    return static_cast<double *>(raw->data);
  }
  /// The C ABI says with NaN that a number is not given; one that is given and NaN is a mistake.
  double number(const char *name, const std::optional<double> &value) {
    if (value && std::isnan(*value)) refuse(Status::invalid, std::string(name) + " is NaN");
    return value.value_or(std::numeric_limits<double>::quiet_NaN());
  }
  /// NULL for an empty string; the C ABI would end a string at a NUL within.
  const char *text(const char *name, const std::string &text) {
    if (text.find('\0') != std::string::npos) refuse(Status::invalid, std::string(name) + " has a NUL within");
    return text.empty() ? nullptr : text.c_str();
  }

  template <class F>
  void run(F f) {
    if (!refused_ && status_ == MNEMO_OK) status_ = f(&error_);
  }

  Result<void> done() {
    if (auto error = failure()) return failed<void>(*std::move(error));
    return Result<void>();
  }
  template <class T>
  Result<T> done(T value) {
    if (auto error = failure()) return failed<T>(*std::move(error));
    return Result<T>(std::move(value));
  }

  /// Runs a callback of the innermost call of this thread.
  template <class Body>
  static std::int32_t guard(Body body) noexcept {
    Call *const call = current;
    // A callback that goes on takes back what failed within it: calls of the C ABI that it made itself.
    Outcome before = call ? std::exchange(call->ended_, Outcome()) : Outcome(), now;
#if defined(__cpp_exceptions)
    try {
      now = body();
    } catch (...) {
      now.native = 1;
      now.thrown = std::current_exception();
    }
#else
    now = body();
#endif
    const std::int32_t native = now.native;
    if (call) call->ended_ = native != 0 ? std::move(now) : std::move(before);
    return native;
  }

 private:
  std::optional<Error> failure() {
#if defined(__cpp_exceptions)
    if (ended_.thrown) std::rethrow_exception(std::exchange(ended_.thrown, nullptr));
#endif
    if (ended_.error) return std::move(ended_.error);
    if (refused_) return std::move(refused_);
    if (status_ != MNEMO_OK) return Error(error_);
    return std::nullopt;
  }

  static inline thread_local Call *current = nullptr;

  Call *outer_;
  std::optional<Error> refused_;
  Outcome ended_;
  std::int32_t status_ = MNEMO_OK;
  mnemo_error error_;
};

/// Any callable that takes A...; copies share it.
template <class... A>
class Callback {
 public:
  Callback() noexcept = default;
  template <class F, std::enable_if_t<!std::is_base_of_v<Callback, std::decay_t<F>>, int> = 0>
  Callback(F &&f)
      : object_(is_null(f) ? nullptr : std::make_shared<std::decay_t<F>>(std::forward<F>(f))),
        call_([](void *object, A... a) { return outcome(*static_cast<std::decay_t<F> *>(object), a...); }) {
    static_assert(std::is_invocable_v<std::decay_t<F> &, A...>, "this callable does not take a callback's arguments");
  }

  explicit operator bool() const noexcept { return object_ != nullptr; }
  Outcome operator()(A... a) const { return call_(object_.get(), a...); }

 private:
  std::shared_ptr<void> object_;
  Outcome (*call_)(void *, A...) = nullptr;
};

/// Calls f, whose x has elements of type T, if it takes them.
template <class T, class F, class... A>
Outcome call_typed(F &f, A... a) {
  if constexpr (std::is_invocable_v<F &, A...>) {
    return outcome(f, a...);
  } else {
    Outcome o;
    o.native = 1;
    o.error.emplace(Status::dtype, std::is_same_v<T, float> ? "x is float, and this callback takes double only"
                                                            : "x is double, and this callback takes float only");
    return o;
  }
}

template <class T>
View<T> view_of(const mnemo_tensor &t) {
  return {static_cast<T *>(t.data), t.rows,
          t.cols,                   t.row_stride == 0 ? t.cols : t.row_stride,
          Device(t.device_type),    t.device_id};
}

}  // namespace detail

/// Told now and then how far a call is: any callable (std::uint64_t done, std::uint64_t total).
using Progress = detail::Callback<std::uint64_t, std::uint64_t>;

/// Shown the state after each step: any callable (std::uint64_t step, double t, View<const T> x) where T is the element
/// type of x, float or double. One that takes a ConstTensor or is generic takes both.
class Observer : public detail::Callback<std::uint64_t, double, const mnemo_tensor &> {
 public:
  Observer() noexcept = default;
  template <class F, std::enable_if_t<!std::is_base_of_v<Observer, std::decay_t<F>>, int> = 0>
  Observer(F &&f) : Callback(detail::is_null(f) ? Callback() : Callback(wrap(std::decay_t<F>(std::forward<F>(f))))) {}

 private:
  template <class F>
  static auto wrap(F f) {
    static_assert(std::is_invocable_v<F &, std::uint64_t, double, View<const double>> ||
                      std::is_invocable_v<F &, std::uint64_t, double, View<const float>>,
                  "an observer takes (std::uint64_t step, double t, View<const T> x) for T = double, float or both");
    return [f = std::move(f)](std::uint64_t step, double t, const mnemo_tensor &x) mutable {
      if (x.dtype == MNEMO_F32) return detail::call_typed<float>(f, step, t, detail::view_of<const float>(x));
      return detail::call_typed<double>(f, step, t, detail::view_of<const double>(x));
    };
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Owners; one call: seed, cancel, progress
// ---------------------------------------------------------------------------------------------------------------------

namespace detail {

template <class R, void (*Release)(R *)>
class Handle {
 public:
  using Raw = R;
  /// Takes over a raw handle; nullptr makes an empty one.
  explicit Handle(Raw *raw) noexcept : raw_(raw) {}

  /// The raw handle, for the C ABI; still owned.
  Raw *get() const noexcept { return raw_.get(); }
  explicit operator bool() const noexcept { return raw_ != nullptr; }
  /// Gives the raw handle away; the new owner calls mnemo_…_release.
  [[nodiscard]] Raw *release() noexcept { return raw_.release(); }
  /// Releases the object now.
  void reset() noexcept { raw_.reset(); }

 private:
  struct Deleter {
    void operator()(Raw *raw) const noexcept { Release(raw); }
  };
  std::unique_ptr<Raw, Deleter> raw_;
};

template <class T, class Make>
Result<T> made(Call &call, Make make) {
  typename T::Raw *raw = nullptr;
  call.run([&](mnemo_error *error) { return make(&raw, error); });
  return call.done(T(raw));
}

}  // namespace detail

/// A flag by which any thread stops the calls that were given it (Exec::cancel). It must outlive them.
class [[nodiscard]] Cancel : public detail::Handle<mnemo_cancel, mnemo_cancel_release> {
 public:
  using Handle::Handle;
#if !defined(MNEMO_USE_EXPECTED)
  Cancel() : Cancel(create()) {}
#endif
  static Result<Cancel> create() {
    detail::Call call;
    return detail::made<Cancel>(call, mnemo_cancel_create);
  }

  /// Stops those calls with Status::cancelled, and later ones until clear(). From any thread, or a signal handler.
  Result<void> request() const { return did(mnemo_cancel_request(get())); }
  /// Makes the flag usable for new calls (mnemo_cancel_reset).
  Result<void> clear() const { return did(mnemo_cancel_reset(get())); }

 private:
  // Not a detail::Call, which a signal handler could not afford.
  Result<void> did(std::int32_t status) const {
    if (status == MNEMO_OK) return Result<void>();
    return detail::failed<void>(Error(static_cast<Status>(status), std::string("cancel") + detail::empty_handle));
  }
};

/// How one call runs.
struct Exec {
  /// The seed of every random number of the call; see mnemo_exec.
  std::uint64_t seed = 0;
  const Cancel *cancel = nullptr;
  Progress progress{};
  /// The CUDA stream of the call, of the context's device; nullptr is the legacy default stream.
  void *stream = nullptr;
  /// MNEMO_EXEC_CHECK: a CUDA context waits, and reports NaN and Inf in tensors on its device.
  bool check = false;
};

namespace detail {
/// The C struct; `exec` must outlive it.
inline mnemo_exec raw(Call &call, const Exec &exec) {
  mnemo_exec r;
  mnemo_exec_init(&r, sizeof r);
  r.flags = exec.check ? MNEMO_EXEC_CHECK : 0;
  r.stream = exec.stream;
  r.seed = exec.seed;
  if (exec.cancel != nullptr) {
    call.handle("cancel", exec.cancel->get());
    r.cancel = exec.cancel->get();
  }
  if (exec.progress) {
    r.progress = [](void *user, std::uint64_t done, std::uint64_t total) {
      return Call::guard([&] { return (*static_cast<const Progress *>(user))(done, total); });
    };
    r.progress_user = const_cast<Progress *>(&exec.progress);
  }
  return r;
}
}  // namespace detail

// ---------------------------------------------------------------------------------------------------------------------
// Forward processes
// ---------------------------------------------------------------------------------------------------------------------

/// A process at one time.
struct ProcessValues {
  double m = 0, sigma = 0, beta = 0, g = 0;
};

/// Vectors of double, one element per time; those left out are not computed.
struct ProcessOutputs {
  Tensor m{}, sigma{}, beta{}, g{};
};

/// How noise is added: x_t = m(t) y + sigma(t) eps. See mnemo.h for each.
class [[nodiscard]] Process : public detail::Handle<mnemo_process, mnemo_process_release> {
 public:
  using Handle::Handle;

  static Result<Process> vp_linear(double beta_min, double beta_max, double t_end = 1) {
    return make([&](auto *out, auto *error) { return mnemo_process_vp_linear(beta_min, beta_max, t_end, out, error); });
  }
  static Result<Process> sub_vp(double beta_min, double beta_max) {
    return make([&](auto *out, auto *error) { return mnemo_process_sub_vp(beta_min, beta_max, out, error); });
  }
  /// EDM, sigma(t) = t, is (2, 1, 80).
  static Result<Process> ve_power(double k, double a, double t_end) {
    return make([&](auto *out, auto *error) { return mnemo_process_ve_power(k, a, t_end, out, error); });
  }
  static Result<Process> ve_exponential(double rate_base, double t_end) {
    return make([&](auto *out, auto *error) { return mnemo_process_ve_exponential(rate_base, t_end, out, error); });
  }
  static Result<Process> ve_geometric(double sigma_min, double sigma_max) {
    return make([&](auto *out, auto *error) { return mnemo_process_ve_geometric(sigma_min, sigma_max, out, error); });
  }
  /// DDPM: alpha_bar is a vector of double, strictly falling.
  static Result<Process> discrete(const ConstTensor &alpha_bar) {
    detail::Call call;
    const double *table = call.array("alpha_bar", alpha_bar);
    return detail::made<Process>(call, [&](auto *out, auto *error) {
      return mnemo_process_discrete(table, alpha_bar.rows(), out, error);
    });
  }
  static Result<Process> flow() { return make(mnemo_process_flow); }

  /// The process at one time.
  Result<ProcessValues> at(double t) const {
    detail::Call call;
    call.handle("process", get());
    ProcessValues v;
    call.run([&](auto *error) { return mnemo_process_eval(get(), &t, 1, &v.m, &v.sigma, &v.beta, &v.g, error); });
    return call.done(v);
  }
  /// The process at a vector of times (double).
  Result<void> eval(const ConstTensor &t, const ProcessOutputs &outputs) const {
    detail::Call call;
    call.handle("process", get());
    const std::int64_t n = t.rows();
    const double *times = call.array("t", t);
    double *m = call.array("m", outputs.m, n), *sigma = call.array("sigma", outputs.sigma, n);
    double *beta = call.array("beta", outputs.beta, n), *g = call.array("g", outputs.g, n);
    call.run([&](auto *error) { return mnemo_process_eval(get(), times, n, m, sigma, beta, g, error); });
    return call.done();
  }
  /// The time at which the process has a noise level.
  Result<double> time_of_sigma(double sigma) const {
    detail::Call call;
    call.handle("process", get());
    double t = 0;
    call.run([&](auto *error) { return mnemo_process_time_of_sigma(get(), &sigma, 1, &t, error); });
    return call.done(t);
  }
  /// The same for vectors of double.
  Result<void> time_of_sigma(const ConstTensor &sigma, const Tensor &t) const {
    detail::Call call;
    call.handle("process", get());
    const double *levels = call.array("sigma", sigma);
    double *times = call.array("t", t, sigma.rows());
    call.run([&](auto *error) { return mnemo_process_time_of_sigma(get(), levels, sigma.rows(), times, error); });
    return call.done();
  }

 private:
  template <class Make>
  static Result<Process> make(Make make) {
    detail::Call call;
    return detail::made<Process>(call, make);
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Data sets: the training rows, and what is copied of them
// ---------------------------------------------------------------------------------------------------------------------

/// How rows are read: value = scale * raw + shift.
struct DatasetOptions {
  double scale = 1;
  double shift = 0;
  /// Context::open only: a file of one integer per row.
  std::string labels_path{};
};

struct DatasetInfo {
  /// The element type of the stored rows.
  Dtype dtype{};
  std::int64_t rows = 0, dim = 0;
  /// Number of distinct labels.
  std::int64_t labels = 0;
  /// The range of the values, after scale and shift.
  double min = 0, max = 0;
};

/// Matrices [queries, k], nearest first; one that is left out is not written.
struct NearestOutputs {
  /// double or float.
  Tensor distance{};
  /// std::int64_t.
  Tensor index{};
};

struct MemorizationOptions {
  /// A sample within this Euclidean distance of a training row is a copy; to be set.
  double threshold = 0;
};

/// How near samples come to the training rows, in Euclidean distance to the nearest.
struct MemorizationReport {
  std::int64_t samples = 0, copied = 0;
  double fraction_copied = 0, min_distance = 0, median_distance = 0, max_distance = 0;
};

/// Training rows [N, d] and their labels. Made by Context::copy and Context::open. Immutable.
class [[nodiscard]] Dataset : public detail::Handle<mnemo_dataset, mnemo_dataset_release> {
 public:
  using Handle::Handle;

  Result<DatasetInfo> info() const {
    detail::Call call;
    call.handle("dataset", get());
    struct ::mnemo_dataset_info i;
    mnemo_dataset_info_init(&i, sizeof i);
    call.run([&](auto *error) { return mnemo_dataset_info(get(), &i, error); });
    return call.done(DatasetInfo{static_cast<Dtype>(i.dtype), i.rows, i.dim, i.labels, i.min, i.max});
  }
  /// Writes the rows named by a vector of std::int64_t to out [rows of index, d], double or float.
  Result<void> gather(const ConstTensor &index, const Tensor &out) const {
    detail::Call call;
    call.handle("dataset", get());
    const mnemo_tensor *i = call.input("index", index);
    mnemo_tensor *o = call.output("out", out);
    call.run([&](auto *error) { return mnemo_dataset_gather(get(), i, o, error); });
    return call.done();
  }
  /// The k nearest training rows of each of the queries [any, d], in Euclidean distance or by 1 - cos.
  Result<void> nearest(const ConstTensor &queries, std::int64_t k, const NearestOutputs &outputs, const Exec &exec = {},
                       Metric metric = Metric::l2) const {
    detail::Call call;
    call.handle("dataset", get());
    const mnemo_tensor *q = call.input("queries", queries);
    mnemo_tensor *distance = call.output("distance", outputs.distance), *index = call.output("index", outputs.index);
    const mnemo_exec e = detail::raw(call, exec);
    call.run([&](auto *error) {
      return mnemo_nearest(get(), q, static_cast<std::uint32_t>(metric), k, distance, index, &e, error);
    });
    return call.done();
  }
  /// How many of the generated samples [any > 0, d] are copies of training rows.
  Result<MemorizationReport> memorization(const ConstTensor &generated, const MemorizationOptions &options,
                                          const Exec &exec = {}) const {
    detail::Call call;
    call.handle("dataset", get());
    const mnemo_tensor *x = call.input("generated", generated);
    mnemo_memorization_options o;
    mnemo_memorization_options_init(&o, sizeof o);
    o.threshold = options.threshold;
    mnemo_memorization_report r;
    mnemo_memorization_report_init(&r, sizeof r);
    const mnemo_exec e = detail::raw(call, exec);
    call.run([&](auto *error) { return mnemo_memorization(get(), x, &o, &r, &e, error); });
    return call.done(MemorizationReport{r.samples, r.copied, r.fraction_copied, r.min_distance, r.median_distance,
                                        r.max_distance});
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Contexts: where computing happens
// ---------------------------------------------------------------------------------------------------------------------

struct ContextOptions {
  /// 0: one per processor.
  std::uint32_t num_threads = 0;
  InstructionSet instruction_set = InstructionSet::best;
  /// Bytes of memory that the rows of one data set may take; 0: no limit. Rows of a larger plain file stay there.
  std::uint64_t memory_limit = 0;
  Device device_type = Device::cpu;
  std::int32_t device_id = 0;
  /// Empty: the user's cache folder.
  std::string kernel_cache_dir{};
};

/// A machine to compute on: the processor, with threads of its own, or a CUDA device (Status::device if it is not there).
/// Objects made from it keep what they need of it. Calls on a CUDA context use tensors on that device where they are, those
/// in the host's memory by copies, and queue their work on Exec::stream; see CUDA in mnemo.h for when they wait.
class [[nodiscard]] Context : public detail::Handle<mnemo_context, mnemo_context_release> {
 public:
  using Handle::Handle;
#if !defined(MNEMO_USE_EXPECTED)
  Context() : Context(create()) {}
  explicit Context(const ContextOptions &options) : Context(create(options)) {}
#endif
  static Result<Context> create(const ContextOptions &options = {}) {
#if defined(MNEMO_USE_EXPECTED)
    if (auto same = check_abi(); !same) return same.error();
#else
    check_abi();
#endif
    detail::Call call;
    mnemo_context_options o;
    mnemo_context_options_init(&o, sizeof o);
    o.device_type = static_cast<std::uint32_t>(options.device_type);
    o.device_id = options.device_id;
    o.num_threads = options.num_threads;
    o.memory_limit = options.memory_limit;
    o.kernel_cache_dir = call.text("kernel_cache_dir", options.kernel_cache_dir);
    o.instruction_set = static_cast<std::uint32_t>(options.instruction_set);
    return detail::made<Context>(call, [&](auto *out, auto *error) { return mnemo_context_create(&o, out, error); });
  }

  /// Compiles and loads all kernels of a CUDA context, which its first calls would otherwise wait for. A CPU context has
  /// nothing to do.
  Result<void> warm_up() const {
    detail::Call call;
    call.handle("context", get());
    call.run([&](auto *error) { return mnemo_context_warm_up(get(), error); });
    return call.done();
  }

  /// A JSON object with the members "backend", "instruction_set", "threads" and "device"; of a CUDA context some more, see
  /// mnemo_context_describe.
  Result<std::string> describe() const {
    detail::Call call;
    call.handle("context", get());
    std::size_t needed = 1;
    call.run([&](auto *error) { return mnemo_context_describe(get(), nullptr, 0, &needed, error); });
    std::string json(needed, '\0');
    call.run([&](auto *error) { return mnemo_context_describe(get(), json.data(), json.size(), nullptr, error); });
    json.pop_back();  // the NUL
    return call.done(std::move(json));
  }

  /// A data set of a copy of rows [N, d]: float, double, half, bfloat16 or std::uint8_t.
  Result<Dataset> copy(const ConstTensor &rows, const DatasetOptions &options = {}) const {
    return copy(rows, ConstTensor(), options);
  }
  /// With a vector of N labels: std::int64_t, std::int32_t or std::uint8_t.
  Result<Dataset> copy(const ConstTensor &rows, const ConstTensor &labels, const DatasetOptions &options = {}) const {
    detail::Call call;
    call.handle("context", get());
    const mnemo_tensor *r = call.input("rows", rows), *l = call.input("labels", labels);
    const mnemo_dataset_options o = raw(call, options);
    return detail::made<Dataset>(
        call, [&](auto *out, auto *error) { return mnemo_dataset_copy(get(), r, l, &o, out, error); });
  }
  /// A data set of a file, .npy or IDX, plain or gzip; the path is UTF-8. Rows of a plain file that exceed memory_limit stay
  /// there and are read when they are needed: it must not change (Status::io).
  Result<Dataset> open(const std::string &path, const DatasetOptions &options = {}) const {
    detail::Call call;
    call.handle("context", get());
    call.text("path", path);
    const mnemo_dataset_options o = raw(call, options);
    return detail::made<Dataset>(
        call, [&](auto *out, auto *error) { return mnemo_dataset_open(get(), path.c_str(), &o, out, error); });
  }

 private:
  static mnemo_dataset_options raw(detail::Call &call, const DatasetOptions &options) {
    mnemo_dataset_options o;
    mnemo_dataset_options_init(&o, sizeof o);
    o.scale = options.scale;
    o.shift = options.shift;
    o.labels_path = call.text("labels_path", options.labels_path);
    return o;
  }
};

// ---------------------------------------------------------------------------------------------------------------------
// Scores and sampling
// ---------------------------------------------------------------------------------------------------------------------

/// How an empirical score is formed.
struct EmpiricalOptions {
  Regularizer regularizer = Regularizer::none;
  /// The regularizer's constant c.
  double strength = 0;
  /// ln c for empirical Bayes, in place of strength.
  std::optional<double> log_strength{};
  /// The label whose rows alone form the score.
  std::optional<std::int64_t> label{};
  /// Rows whose summed weight is below this may be left out.
  double tolerance = 1e-12;
};

/// What Score::eval computes: those that are given. Matrices are [batch, d] of the element type of x, vectors [batch]
/// double or float. A custom score has score and denoised only.
struct ScoreOutputs {
  Tensor score{};
  Tensor denoised{};
  Tensor log_density{};
  Tensor divergence{};
  Tensor entropy{};
  /// std::int64_t.
  Tensor nearest_index{};
  Tensor nearest_distance{};
  /// Upper bounds on the error of denoised (its length) and of log_density, by what was left out and rounded: rigorous but
  /// for the roundings of products, which are taken as independent. See mnemo_score_outputs.
  Tensor denoised_error_bound{};
  Tensor log_density_error_bound{};
};

/// How to sample; initially EDM's deterministic sampler. What is left out is the process's or the solver's own. See
/// mnemo_sampler_options.
struct SamplerOptions {
  Solver solver = Solver::heun;
  Grid grid = Grid::karras;
  std::int64_t steps = 18;
  /// Start from sigma(t_start) z, not from the caller's x.
  bool from_prior = false;
  /// End with x <- denoised(x, last time).
  bool denoise_last = false;
  /// Index in the random stream of the first row of x.
  std::int64_t first_sample = 0;
  std::optional<double> t_start{}, t_end{};
  std::optional<double> alpha2{}, eta{};
  double rtol = 1e-5, atol = 1e-5;
  double rho = 7;
  double s_churn = 0, s_min = 0, s_max = std::numeric_limits<double>::infinity(), s_noise = 1;
  /// The nodes of Grid::custom.
  std::vector<double> times{};
  Observer observer{};
};

namespace detail {

inline mnemo_empirical_options raw(Call &call, const EmpiricalOptions &options) {
  mnemo_empirical_options o;
  mnemo_empirical_options_init(&o, sizeof o);
  o.regularizer = static_cast<std::uint32_t>(options.regularizer);
  o.strength = options.strength;
  o.log_strength = call.number("log_strength", options.log_strength);
  o.conditional = options.label.has_value();
  o.label = options.label.value_or(0);
  o.tolerance = options.tolerance;
  return o;
}

/// The C struct; `options` must outlive it.
inline mnemo_sampler_options raw(Call &call, const SamplerOptions &options) {
  mnemo_sampler_options o;
  mnemo_sampler_options_init(&o, sizeof o);
  o.solver = static_cast<std::uint32_t>(options.solver);
  o.grid = static_cast<std::uint32_t>(options.grid);
  o.steps = options.steps;
  o.from_prior = options.from_prior;
  o.denoise_last = options.denoise_last;
  o.first_sample = options.first_sample;
  o.t_start = call.number("t_start", options.t_start);
  o.t_end = call.number("t_end", options.t_end);
  o.alpha2 = call.number("alpha2", options.alpha2);
  o.eta = call.number("eta", options.eta);
  o.rtol = options.rtol;
  o.atol = options.atol;
  o.rho = options.rho;
  o.s_churn = options.s_churn;
  o.s_min = options.s_min;
  o.s_max = options.s_max;
  o.s_noise = options.s_noise;
  o.times = options.times.empty() ? nullptr : options.times.data();
  o.times_count = static_cast<std::int64_t>(options.times.size());
  if (options.observer) {
    o.observer = [](void *user, std::uint64_t step, double t, const mnemo_tensor *x) {
      return Call::guard([&] { return (*static_cast<const Observer *>(user))(step, t, *x); });
    };
    o.observer_user = const_cast<Observer *>(&options.observer);
  }
  return o;
}

/// The host's model: what a custom score owns.
template <class Eval, class Jvp>
struct Model {
  Eval eval;
  Jvp jvp;

  // The stream is an argument for those that want it.
  template <class... FA>
  static constexpr bool takes = std::is_invocable_v<FA...> || std::is_invocable_v<FA..., void *>;
  template <class T>
  static constexpr bool evaluates = takes<const Eval &, View<const T>, View<const double>, View<T>>;
  template <class T>
  static constexpr bool differentiates = takes<const Jvp &, View<const T>, View<const double>, View<const T>, View<T>>;

  template <class T, class F, class... A>
  static Outcome call(const F &f, void *stream, A... a) {
    if constexpr (std::is_invocable_v<const F &, A...>) return outcome(f, a...);
    else return call_typed<T>(f, a..., stream);
  }
  static std::int32_t raw_eval(void *user, const mnemo_tensor *x, const mnemo_tensor *t, mnemo_tensor *out,
                               void *stream) {
    return Call::guard([&] {
      const Eval &f = static_cast<Model *>(user)->eval;
      const auto as = [&](auto zero) {
        using T = decltype(zero);
        return call<T>(f, stream, view_of<const T>(*x), view_of<const double>(*t), view_of<T>(*out));
      };
      return x->dtype == MNEMO_F32 ? as(0.0f) : as(0.0);
    });
  }
  static std::int32_t raw_jvp(void *user, const mnemo_tensor *x, const mnemo_tensor *t, const mnemo_tensor *v,
                              mnemo_tensor *out, void *stream) {
    return Call::guard([&] {
      const Jvp &f = static_cast<Model *>(user)->jvp;
      const auto as = [&](auto zero) {
        using T = decltype(zero);
        return call<T>(f, stream, view_of<const T>(*x), view_of<const double>(*t), view_of<const T>(*v),
                       view_of<T>(*out));
      };
      return x->dtype == MNEMO_F32 ? as(0.0f) : as(0.0);
    });
  }
  static void drop(void *user) { delete static_cast<Model *>(user); }
};

struct NoJvp {};

}  // namespace detail

/// A model of grad log p_t(x). It keeps its data set, process and context. Immutable.
class [[nodiscard]] Score : public detail::Handle<mnemo_score, mnemo_score_release> {
 public:
  using Handle::Handle;

  /// The exact score of a training set smoothed by a process, or as the options regularize it.
  static Result<Score> empirical(const Dataset &dataset, const Process &process, const EmpiricalOptions &options = {}) {
    detail::Call call;
    call.handle("dataset", dataset.get());
    call.handle("process", process.get());
    const mnemo_empirical_options o = detail::raw(call, options);
    return detail::made<Score>(call, [&](auto *out, auto *error) {
      return mnemo_score_empirical(dataset.get(), process.get(), &o, out, error);
    });
  }

  /// A model of the host's own, of dimension `dim`: `eval` is any callable
  ///     (View<const T> x, View<const double> t, View<T> out)
  /// that writes the prediction at x [batch, dim] and times t [batch] to out [batch, dim], once per evaluation for the
  /// whole batch. T is float or double, as x is in the call; a callable may take one of them, or both, being generic or
  /// taking ConstTensor and Tensor. It may take the call's stream, a void *, as a last argument; on a CUDA context it queues
  /// its work there, on memory of the device. Threads that use the score call it at the same time: it is called as const.
  /// It is destroyed with the last object that uses the score.
  template <class Eval>
  static Result<Score> custom(const Context &context, const Process &process, std::int64_t dim, Prediction prediction,
                              Eval eval) {
    return make_custom(context, process, dim, prediction, std::move(eval), detail::NoJvp());
  }
  /// With its derivative along v [batch, dim]: `jvp` is any callable
  ///     (View<const T> x, View<const double> t, View<const T> v, View<T> out).
  template <class Eval, class Jvp>
  static Result<Score> custom(const Context &context, const Process &process, std::int64_t dim, Prediction prediction,
                              Eval eval, Jvp jvp) {
    return make_custom(context, process, dim, prediction, std::move(eval), std::move(jvp));
  }

  /// Evaluates the score at x [batch, d] (double or float) and times t.
  Result<void> eval(const ConstTensor &x, const Times &t, const ScoreOutputs &outputs, const Exec &exec = {}) const {
    detail::Call call;
    call.handle("score", get());
    const ConstTensor times = t.tensor();
    const mnemo_tensor *rx = call.input("x", x), *rt = call.input("t", times);
    mnemo_score_outputs o;
    mnemo_score_outputs_init(&o, sizeof o);
    o.score = call.output("score", outputs.score);
    o.denoised = call.output("denoised", outputs.denoised);
    o.log_density = call.output("log_density", outputs.log_density);
    o.divergence = call.output("divergence", outputs.divergence);
    o.entropy = call.output("entropy", outputs.entropy);
    o.nearest_index = call.output("nearest_index", outputs.nearest_index);
    o.nearest_distance = call.output("nearest_distance", outputs.nearest_distance);
    o.denoised_error_bound = call.output("denoised_error_bound", outputs.denoised_error_bound);
    o.log_density_error_bound = call.output("log_density_error_bound", outputs.log_density_error_bound);
    const mnemo_exec e = detail::raw(call, exec);
    call.run([&](auto *error) { return mnemo_score_eval(get(), rx, rt, &o, &e, error); });
    return call.done();
  }

  /// The derivative of the score along v: v and out are [batch, d] of the element type of x.
  Result<void> jvp(const ConstTensor &x, const Times &t, const ConstTensor &v, const Tensor &out,
                   const Exec &exec = {}) const {
    detail::Call call;
    call.handle("score", get());
    const ConstTensor times = t.tensor();
    const mnemo_tensor *rx = call.input("x", x), *rt = call.input("t", times), *rv = call.input("v", v);
    mnemo_tensor *ro = call.output("out", out);
    const mnemo_exec e = detail::raw(call, exec);
    call.run([&](auto *error) { return mnemo_score_jvp(get(), rx, rt, rv, ro, &e, error); });
    return call.done();
  }

  /// Integrates the reverse process: x [batch, d] (double or float) holds the initial states, unless from_prior is set,
  /// and receives the samples.
  Result<void> sample(const Tensor &x, const SamplerOptions &options = {}, const Exec &exec = {}) const {
    detail::Call call;
    call.handle("score", get());
    mnemo_tensor *rx = call.output("x", x);
    const mnemo_sampler_options o = detail::raw(call, options);
    const mnemo_exec e = detail::raw(call, exec);
    call.run([&](auto *error) { return mnemo_sample(get(), &o, rx, &e, error); });
    return call.done();
  }

 private:
  template <class Eval, class Jvp>
  static Result<Score> make_custom(const Context &context, const Process &process, std::int64_t dim,
                                   Prediction prediction, Eval eval, Jvp jvp) {
    using Model = detail::Model<Eval, Jvp>;
    static_assert(Model::template evaluates<double> || Model::template evaluates<float>,
                  "eval takes (View<const T> x, View<const double> t, View<T> out) for T = double, float or both, and "
                  "is called as const: a mutable lambda could not serve several threads");
    detail::Call call;
    call.handle("context", context.get());
    call.handle("process", process.get());
    mnemo_score_ops ops;
    mnemo_score_ops_init(&ops, sizeof ops);
    ops.prediction = static_cast<std::uint32_t>(prediction);
    ops.eval = Model::raw_eval;
    ops.drop = Model::drop;
    if constexpr (!std::is_same_v<Jvp, detail::NoJvp>) {
      static_assert(Model::template differentiates<double> || Model::template differentiates<float>,
                    "jvp takes (View<const T> x, View<const double> t, View<const T> v, View<T> out) for T = double, "
                    "float or both, and is called as const");
      ops.jvp = Model::raw_jvp;
    }
    std::unique_ptr<Model> model(new Model{std::move(eval), std::move(jvp)});
    return detail::made<Score>(call, [&](auto *out, auto *error) {
      const std::int32_t status = mnemo_score_custom(context.get(), process.get(), dim, &ops, model.get(), out, error);
      if (status == MNEMO_OK) model.release();  // the score's now
      return status;
    });
  }
};

}  // inline namespace
}  // namespace mnemo

#endif  // MNEMO_HPP
