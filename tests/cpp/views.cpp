// Tensors of every kind of memory: what is described, and what the library reads and writes there.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "check.hpp"

#include <Eigen/Core>
#include <array>
#include <cstdint>
#include <type_traits>
#if __cplusplus >= 202002L
#include <span>
#endif

using mnemo::columns;
using mnemo::ConstTensor;
using mnemo::Dtype;
using mnemo::Tensor;

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using ColMajor = Eigen::MatrixXd;

// What std::mdspan offers, with any strides; its handle is returned by reference, as std's is.
template <class T, std::size_t Rank>
struct Span {
  T *handle;
  std::array<std::size_t, Rank> extents;
  std::array<std::ptrdiff_t, Rank> strides;
  static constexpr std::size_t rank() noexcept { return Rank; }
  T *const &data_handle() const noexcept { return handle; }
  std::size_t extent(std::size_t i) const noexcept { return extents[i]; }
  std::ptrdiff_t stride(std::size_t i) const noexcept { return strides[i]; }
};

static void is(const ConstTensor &t, const void *data, std::int64_t rows, std::int64_t cols, std::int64_t stride, Dtype dtype) {
  const mnemo_tensor &r = t.raw();
  CHECK(t && t.fault() == nullptr);
  CHECK(r.data == data && t.rows() == rows && t.cols() == cols && t.dtype() == dtype);
  CHECK(rows < 2 || r.row_stride == stride || (r.row_stride == 0 && stride == cols));
  CHECK(r.device_type == MNEMO_CPU && r.device_id == 0 && r.reserved == 0);
}

// A tensor that a call refuses with that reason.
static void refused(const ConstTensor &t, const char *reason) {
  static const mnemo::Context context;
  CHECK(t.fault() != nullptr);
  FAILS(shape, reason, context.copy(t));
  FAILS(shape, "rows: ", context.copy(t));
  FAILS(shape, reason, t.as<double>());
}

TEST(element_types) {
  float f[2];
  double d[2];
  std::uint8_t u[2];
  int i[2];
  std::int64_t l[2];
  long long ll[2];
  is(f, f, 2, 1, 1, Dtype::f32);
  is(d, d, 2, 1, 1, Dtype::f64);
  is(u, u, 2, 1, 1, Dtype::u8);
  is(i, i, 2, 1, 1, Dtype::i32);
  is(l, l, 2, 1, 1, Dtype::i64);
  is(ll, ll, 2, 1, 1, Dtype::i64);
}

TEST(sequences) {
  std::vector<double> v(6);
  const std::vector<double> c(6);
  std::array<float, 6> a{};
  double matrix[2][3] = {};
  is(v, v.data(), 6, 1, 1, Dtype::f64);
  is(c, c.data(), 6, 1, 1, Dtype::f64);
  is({v, 3}, v.data(), 2, 3, 3, Dtype::f64);
  is(Tensor(a, 2), a.data(), 3, 2, 2, Dtype::f32);
  is(matrix, matrix, 2, 3, 3, Dtype::f64);
  is({v.data(), 3, 2}, v.data(), 3, 2, 2, Dtype::f64);
  is({c.data(), 2, 2, 4}, c.data(), 2, 2, 4, Dtype::f64);
  is(std::vector<double>(), nullptr, 0, 1, 1, Dtype::f64);
  is({std::vector<double>(), 3}, nullptr, 0, 3, 3, Dtype::f64);
#if __cplusplus >= 202002L
  is(Tensor(std::span<double>(v).subspan(2)), v.data() + 2, 4, 1, 1, Dtype::f64);
  is(std::span<const double>(c), c.data(), 6, 1, 1, Dtype::f64);
  is({std::span<const double, 6>(c), 2}, c.data(), 3, 2, 2, Dtype::f64);
#endif
  refused({v, 4}, "not a multiple");
  refused({v, 0}, "not a multiple");
  refused({v, -3}, "not a multiple");
  refused({v.data(), 2, 3, 2}, "rows overlap");
  refused({v.data(), 2, 3, 0}, "rows overlap");
  refused({v.data(), 2, 3, -3}, "rows overlap");
  CHECK(!ConstTensor() && !Tensor());
}

TEST(eigen_row_major) {
  RowMajor m(4, 3);
  const RowMajor &c = m;
  is(Tensor(m), m.data(), 4, 3, 3, Dtype::f64);
  is(c, m.data(), 4, 3, 3, Dtype::f64);
  is(Tensor(m.block(1, 1, 2, 2)), &m(1, 1), 2, 2, 3, Dtype::f64);
  is(Tensor(m.topRows(2)), m.data(), 2, 3, 3, Dtype::f64);
  is(c.row(2), &m(2, 0), 1, 3, 3, Dtype::f64);
  is(Tensor(m.col(1)), &m(0, 1), 4, 1, 3, Dtype::f64);
  Eigen::Matrix<float, 2, 5, Eigen::RowMajor> fixed;
  is(Tensor(fixed), fixed.data(), 2, 5, 5, Dtype::f32);
  Eigen::Array<std::uint8_t, 2, 2, Eigen::RowMajor> bytes;
  is(bytes, bytes.data(), 2, 2, 2, Dtype::u8);
  is(RowMajor(5, 0), nullptr, 5, 0, 0, Dtype::f64);

  double buffer[24];
  using Map = Eigen::Map<RowMajor, 0, Eigen::OuterStride<>>;
  is(Tensor(Map(buffer, 3, 2, Eigen::OuterStride<>(8))), buffer, 3, 2, 8, Dtype::f64);
  is(Eigen::Map<const RowMajor>(buffer, 3, 2), buffer, 3, 2, 2, Dtype::f64);
  is(Eigen::Ref<RowMajor>(m), m.data(), 4, 3, 3, Dtype::f64);
  using Apart = Eigen::Map<RowMajor, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  refused(Apart(buffer, 3, 2, {8, 2}), "elements of a row are apart");
  refused(Map(buffer, 3, 2, Eigen::OuterStride<>(1)), "rows overlap");
}

TEST(eigen_vectors) {
  Eigen::VectorXd v(5);
  Eigen::RowVectorXf row(4);
  is(Tensor(v), v.data(), 5, 1, 1, Dtype::f64);
  is(v.segment(1, 3), &v[1], 3, 1, 1, Dtype::f64);
  is(row, row.data(), 1, 4, 4, Dtype::f32);
  const Eigen::Map<Eigen::VectorXd, 0, Eigen::InnerStride<>> every_second(v.data(), 3, Eigen::InnerStride<>(2));
  is(every_second, v.data(), 3, 1, 2, Dtype::f64);
  ColMajor m(3, 4);
  is(Tensor(m.col(1)), &m(0, 1), 3, 1, 1, Dtype::f64);
  refused(m.row(1), "elements of a row are apart");
  const Eigen::Map<Eigen::VectorXd, 0, Eigen::InnerStride<>> broadcast(v.data(), 3, Eigen::InnerStride<>(0));
  refused(broadcast, "rows overlap");
}

TEST(eigen_columns) {
  ColMajor m(3, 4);
  const ColMajor &c = m;
  is(columns(m), m.data(), 4, 3, 3, Dtype::f64);
  is(columns(m.block(1, 1, 2, 3)), &m(1, 1), 3, 2, 3, Dtype::f64);
  is(columns(Eigen::Map<const Eigen::Matrix<float, 2, 3>>(nullptr)), nullptr, 3, 2, 2, Dtype::f32);
  Eigen::VectorXd one(5);
  is(columns(one), one.data(), 1, 5, 5, Dtype::f64);
  static_assert(std::is_same_v<decltype(columns(m)), Tensor>);
  static_assert(std::is_same_v<decltype(columns(c)), ConstTensor>);
}

TEST(spans_of_two_dimensions) {
  double buffer[24];
  using S1 = Span<double, 1>;
  using S2 = Span<double, 2>;
  using C2 = Span<const double, 2>;
  is(Tensor(S1{buffer, {6}, {2}}), buffer, 6, 1, 2, Dtype::f64);
  is(Tensor(S2{buffer, {3, 4}, {4, 1}}), buffer, 3, 4, 4, Dtype::f64);
  is(C2{buffer, {3, 2}, {8, 1}}, buffer, 3, 2, 8, Dtype::f64);
  is(S2{buffer, {1, 2}, {-9, 1}}, buffer, 1, 2, 0, Dtype::f64);
  is(S2{buffer, {3, 1}, {2, -9}}, buffer, 3, 1, 2, Dtype::f64);
  is(columns(S2{buffer, {3, 4}, {1, 3}}), buffer, 4, 3, 3, Dtype::f64);
  static_assert(std::is_same_v<decltype(columns(C2{})), ConstTensor>);
  refused(S2{buffer, {3, 4}, {1, 3}}, "elements of a row are apart");
  refused(S2{buffer, {3, 4}, {4, -1}}, "elements of a row are apart");
  refused(S2{buffer, {3, 4}, {0, 1}}, "rows overlap");
  refused(S2{buffer, {3, 4}, {-4, 1}}, "rows overlap");
  refused(S1{buffer, {3}, {-1}}, "rows overlap");
  refused(columns(S2{buffer, {3, 4}, {4, 1}}), "elements of a row are apart");
}

// A matrix class of somebody's own, without strides.
struct Plain {
  static constexpr bool IsRowMajor = true;
  std::vector<float> values = std::vector<float>(6);
  const float *data() const { return values.data(); }
  float *data() { return values.data(); }
  int rows() const { return 2; }
  int cols() const { return 3; }
};

TEST(other_matrices_and_views) {
  Plain plain;
  is(Tensor(plain), plain.values.data(), 2, 3, 3, Dtype::f32);
  const mnemo::View<float> view = Tensor(plain).as<float>();
  CHECK(view.rows() == 2 && view.cols() == 3 && view.row_stride() == 3 && view.data() == plain.values.data());
  view(1, 2) = 7;
  CHECK(plain.values[5] == 7 && view.row(1)[2] == 7 && ConstTensor(plain).as<float>()(1, 2) == 7);
  is(Tensor(view), view.data(), 2, 3, 3, Dtype::f32);
  is(mnemo::View<const float>(view), view.data(), 2, 3, 3, Dtype::f32);
  FAILS(dtype, "another type", Tensor(plain).as<double>());

  double buffer[8] = {0, 1, 2, 3, 4, 5, 6, 7};
  const auto second = ConstTensor(buffer, 4, 1, 2).as<double>();
  CHECK(second[3] == 6);
  mnemo_tensor raw{};
  raw.data = buffer, raw.rows = 4, raw.cols = 2, raw.dtype = MNEMO_F64, raw.device_type = MNEMO_CPU;
  CHECK(Tensor(raw).as<double>()(3, 1) == 7);  // row_stride 0 is cols
  // One that says nothing of its type is wrong, not absent.
  raw.dtype = 0;
  mnemo::ProcessOutputs out;
  out.sigma = Tensor(raw);
  FAILS(dtype, "sigma", mnemo::Process::flow().eval(std::vector<double>{0.5}, out));
  raw.dtype = MNEMO_BF16, raw.device_type = MNEMO_CUDA;
  const mnemo::Context context;
  FAILS(device, "rows", context.copy(ConstTensor(raw)));
}

// Memory that says it is a device's reaches the library where it is, and callbacks as it is; nobody touches it here.
TEST(device_memory) {
  float buffer[12] = {};
  const mnemo::View<float> view(buffer, 2, 3, 5, mnemo::Device::cuda, 4);
  CHECK(view.device() == mnemo::Device::cuda && view.device_id() == 4);
  CHECK(mnemo::View<float>(buffer, 2, 3, 3).device() == mnemo::Device::cpu);
  const mnemo::View<const float> read = view;
  CHECK(read.device() == mnemo::Device::cuda && read.device_id() == 4 && read.row_stride() == 5);
  for (const ConstTensor &tensor : {ConstTensor(view), ConstTensor(read), ConstTensor(Tensor(view))}) {
    const mnemo_tensor &raw = tensor.raw();
    CHECK(raw.data == buffer && raw.rows == 2 && raw.cols == 3 && raw.row_stride == 5 && raw.dtype == MNEMO_F32);
    CHECK(raw.device_type == MNEMO_CUDA && raw.device_id == 4 && tensor.device() == mnemo::Device::cuda);
    CHECK(tensor.as<float>().device_id() == 4 && tensor.as<float>().device() == mnemo::Device::cuda);
    CHECK(mnemo::detail::view_of<const float>(raw).device_id() == 4);
  }
  CHECK(ConstTensor(buffer, 4, 3).device() == mnemo::Device::cpu);

  const mnemo::Context context;
  const auto data = context.copy({std::vector<double>{0, 0, 0}, 3});
  const auto score = mnemo::Score::empirical(data, mnemo::Process::ve_power(2, 1, 80));
  float x[6] = {};
  const Tensor host(x, 2, 3);
  mnemo::ScoreOutputs out;
  out.score = view;
  FAILS(device, "x", score.eval(view, 1, {host}));
  FAILS(device, "t", score.eval(host, mnemo::View<const double>(nullptr, 2, 1, 1, mnemo::Device::cuda), {host}));
  FAILS(device, "outputs.score", score.eval(host, 1, out));
  FAILS(device, "v", score.jvp(host, 1, view, host));
  FAILS(device, "x_inout", score.sample(view));
  FAILS(device, "queries", data.nearest(view, 1, {}));
  FAILS(device, "generated", data.memorization(view, {0.1}));
  FAILS(device, "sigma", mnemo::Process::flow().time_of_sigma(
                             mnemo::View<const double>(nullptr, 2, 1, 1, mnemo::Device::cuda), Tensor()));
}

static_assert(std::is_convertible_v<Tensor, ConstTensor> && !std::is_convertible_v<ConstTensor, Tensor>);
static_assert(!std::is_convertible_v<double, ConstTensor> && !std::is_convertible_v<int, Tensor>);
static_assert(!std::is_convertible_v<mnemo::View<const float>, mnemo::View<float>>);
static_assert(std::is_nothrow_move_constructible_v<mnemo::Score> && !std::is_copy_constructible_v<mnemo::Score>);

// The library reads and writes through all of them: a score of one row at the origin is -x / sigma^2.
TEST(what_the_library_sees) {
  const mnemo::Context context;
  const mnemo::Process process = mnemo::Process::ve_power(2, 1, 80);
  const auto score = mnemo::Score::empirical(context.copy({std::vector<double>{0, 0, 0}, 3}), process);
  RowMajor x(4, 3), s = RowMajor::Constant(6, 5, 9);
  for (int i = 0; i < 12; i++) x(i / 3, i % 3) = i + 1;
  score.eval(x, 2, {s.block(1, 1, 4, 3)});
  for (int i = 0; i < 6; i++) {
    for (int j = 0; j < 5; j++) {
      const bool inside = i >= 1 && i < 5 && j >= 1 && j < 4;
      NEAR(s(i, j), inside ? -x(i - 1, j - 1) / 4 : 9, 1e-14);
    }
  }
  // Columns as samples, times in an Eigen vector, a vector output in a strided column of a matrix.
  const ColMajor xt = x.transpose();
  ColMajor st(3, 4);
  Eigen::VectorXd times(4);
  times << 1, 2, 3, 4;
  RowMajor table = RowMajor::Constant(4, 2, 9);
  mnemo::ScoreOutputs out;
  out.score = columns(st);
  out.divergence = table.col(1);
  score.eval(columns(xt), times, out);
  for (int i = 0; i < 4; i++) {
    for (int j = 0; j < 3; j++) NEAR(st(j, i), -x(i, j) / (times[i] * times[i]), 1e-14);
    NEAR(table(i, 1), -3 / (times[i] * times[i]), 1e-14);
    CHECK(table(i, 0) == 9);
  }
  // A gap between rows is not looked at.
  double gaps[2][4] = {{1, 2, 3, std::nan("")}, {4, 5, 6, std::nan("")}};
  CHECK(context.copy({&gaps[0][0], 2, 3, 4}).info().max == 6);
  const Span<const double, 2> span{&gaps[0][0], {2, 3}, {4, 1}};
  CHECK(context.copy(span).info().min == 1);
}

int main() { return run_tests(); }
