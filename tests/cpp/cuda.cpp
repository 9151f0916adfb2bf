// CUDA contexts on device 0, or a stand-in for it: tensors of the host and of the device, streams, callbacks.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "check.hpp"

#include <dlfcn.h>

using mnemo::Device;
using mnemo::Process;
using mnemo::Score;
using mnemo::View;

// The driver's functions, whose types are those of cuda.h.
template <class... A>
static void cuda(const char *name, A... arguments) {
  static void *const driver = dlopen("libcuda.so.1", RTLD_NOW);
  void *const found = driver ? dlsym(driver, name) : nullptr;
  const int code = found ? reinterpret_cast<int (*)(A...)>(found)(arguments...) : -1;
  if (code != 0) throw std::runtime_error(std::string(name) + ": " + std::to_string(code));
}

static void copy(void *to, const void *from, std::size_t bytes, void *stream, const char *function) {
  cuda(function, to, from, bytes, stream);
  cuda("cuStreamSynchronize", stream);
}

// A matrix on the device.
template <class T>
struct Matrix {
  T *data = nullptr;
  std::int64_t rows, cols;

  Matrix(const std::vector<T> &from, std::int64_t columns)
      : rows(static_cast<std::int64_t>(from.size()) / columns), cols(columns) {
    cuda("cuMemAlloc_v2", &data, from.size() * sizeof(T));
    copy(data, from.data(), from.size() * sizeof(T), nullptr, "cuMemcpyHtoDAsync_v2");
  }
  ~Matrix() { cuda("cuMemFree_v2", data); }
  Matrix(const Matrix &) = delete;
  Matrix &operator=(const Matrix &) = delete;

  View<T> view() const { return {data, rows, cols, cols, Device::cuda, 0}; }
};

template <class T>
static std::vector<std::remove_const_t<T>> fetch(View<T> view, void *stream = nullptr) {
  CHECK(view.device() == Device::cuda && view.device_id() == 0 && view.row_stride() == view.cols());
  std::vector<std::remove_const_t<T>> host(static_cast<std::size_t>(view.rows() * view.cols()));
  copy(host.data(), view.data(), host.size() * sizeof(T), stream, "cuMemcpyDtoHAsync_v2");
  return host;
}

static mnemo::Context made(nullptr);
static const mnemo::Context &context() { return made; }

static void *new_stream() {
  void *stream = nullptr;
  cuda("cuStreamCreate", &stream, 1u);  // CU_STREAM_NON_BLOCKING
  return stream;
}

TEST(the_context) {
  context().warm_up();
  const std::string described = context().describe();
  CHECK(described.find("\"backend\":\"cuda\"") != std::string::npos);
  CHECK(described.find("\"not_loaded\":0") != std::string::npos);
}

// The denoised value of N(0, v I) at sigma = t; its derivative is the same function.
static std::vector<double> gaussian(const std::vector<double> &x, const std::vector<double> &t) {
  std::vector<double> out = x;
  const std::size_t d = x.size() / t.size();
  for (std::size_t i = 0; i < x.size(); i++) out[i] *= 0.5 / (0.5 + t[i / d] * t[i / d]);
  return out;
}

TEST(a_model_of_the_hosts) {
  void *const streams[] = {nullptr, new_stream()};
  std::vector<void *> seen;
  const auto predict = [&](View<const double> x, View<const double> t, View<double> out, void *stream) {
    seen.push_back(stream);
    const std::vector<double> value = gaussian(fetch(x, stream), fetch(t, stream));
    copy(out.data(), value.data(), value.size() * sizeof(double), stream, "cuMemcpyHtoDAsync_v2");
  };
  const auto along = [&](View<const double>, View<const double> t, View<const double> v, View<double> out, void *stream) {
    predict(v, t, out, stream);
  };
  const Process edm = Process::ve_power(2, 1, 80);
  const Score score = Score::custom(context(), edm, 2, mnemo::Prediction::x0, predict, along);
  const std::vector<double> x = {1, 2, 3, 4, 5, 6}, times = {0.5, 1, 2}, expected = gaussian(x, times);
  const Matrix<double> at(x, 2), out(std::vector<double>(6), 2);
  for (void *stream : streams) {
    seen.clear();
    mnemo::ScoreOutputs outputs;
    outputs.denoised = out.view();
    mnemo::Exec exec;
    exec.stream = stream;
    score.eval(at.view(), times, outputs, exec);
    const std::vector<double> found = fetch(out.view(), stream);
    for (std::size_t i = 0; i < 6; i++) NEAR(found[i], expected[i], 1e-12);
    CHECK(seen == std::vector<void *>{stream});
    score.jvp(at.view(), times, at.view(), out.view(), exec);
    fetch(out.view(), stream);
    CHECK(seen.size() == 2 && seen.back() == stream);
  }
  // The host's memory by copies.
  std::vector<double> denoised(6);
  mnemo::ScoreOutputs outputs;
  outputs.denoised = mnemo::Tensor(denoised, 2);
  score.eval({x, 2}, times, outputs);
  for (std::size_t i = 0; i < 6; i++) NEAR(denoised[i], expected[i], 1e-12);

  // Samples in place; the observer is shown the state where x is.
  int steps = 0;
  mnemo::SamplerOptions options;
  options.steps = 3;
  options.observer = [&](std::uint64_t step, double, View<const double> state) {
    if (step == 0) CHECK(fetch(state) == x);
    steps++;
  };
  score.sample(at.view(), options);
  std::vector<double> on_host = x;
  options.observer = [&](std::uint64_t, double, View<const double> state) { CHECK(state.device() == Device::cpu); };
  score.sample({on_host, 2}, options);
  CHECK(steps == 4 && fetch(at.view()) == on_host);

  const auto fails = Score::custom(context(), edm, 2, mnemo::Prediction::x0,
                                   [](auto, auto, auto) { throw std::out_of_range("no such layer"); });
  try {
    fails.sample(at.view());
    CHECK(false);
  } catch (const std::out_of_range &) {
  }
}

TEST(data_from_either_memory) {
  const std::vector<float> rows = {1, 2, 3, 4, 5, 6};
  const Matrix<float> there(rows, 2), gathered(std::vector<float>(4), 2);
  const Matrix<std::int64_t> index({2, 0}, 1);
  const auto data = context().copy(there.view());
  CHECK(data.info().rows == 3 && data.info().dim == 2);
  data.gather(index.view(), gathered.view());
  CHECK((fetch(gathered.view()) == std::vector<float>{5, 6, 1, 2}));
}

TEST(what_is_refused) {
  const Score score = Score::custom(context(), Process::flow(), 2, mnemo::Prediction::eps, [](auto, auto, auto) {});
  const Matrix<double> x({1, std::nan(""), 3, 4}, 2);
  mnemo::Exec checked;
  checked.check = true;
  FAILS(invalid, "x: row 0", score.eval(x.view(), 0.5, {x.view()}, checked));
  FAILS(device, "x: on CUDA device 1", score.eval(View<double>(x.data, 2, 2, 2, Device::cuda, 1), 0.5, {x.view()}));
}

int main() {
  void *primary = nullptr;
  cuda("cuInit", 0u);
  cuda("cuDevicePrimaryCtxRetain", &primary, 0);
  cuda("cuCtxSetCurrent", primary);
  mnemo::ContextOptions options;
  options.device_type = Device::cuda;
  made = mnemo::Context(options);
  const int status = run_tests();
  made.reset();  // before the driver is gone
  return status;
}
