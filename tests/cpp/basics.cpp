// Every function once, against closed forms or the C ABI itself.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "check.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

using mnemo::Context;
using mnemo::Dataset;
using mnemo::Process;
using mnemo::Score;

// The image sets of examples/data.
static std::string digits, labels;

TEST(versions) {
  CHECK(mnemo::abi_version() >> 16 == MNEMO_ABI_MAJOR);
  CHECK((mnemo::abi_version() & 0xffff) >= MNEMO_ABI_MINOR);
  CHECK(std::string(mnemo::version()).find('.') != std::string::npos);
  CHECK(mnemo::status_name(mnemo::Status::shape) == std::string("MNEMO_E_SHAPE"));
  CHECK(mnemo::status_name(mnemo::Status(-1)) == std::string("unknown status"));
  mnemo::check_abi();
}

TEST(contexts) {
  const auto describes = [](const mnemo::ContextOptions &options, const char *word) {
    return Context(options).describe().find(word) != std::string::npos;
  };
  mnemo::ContextOptions options;
  options.num_threads = 2;
  CHECK(describes(options, "\"threads\":2"));
  options.instruction_set = mnemo::InstructionSet::portable;
  CHECK(describes(options, "\"instruction_set\":\"portable\""));
  CHECK(Context().describe().back() == '}');
  Context ready;
  ready.warm_up();
  ready.reset();
  FAILS(invalid, "context", ready.warm_up());
  options.device_type = mnemo::Device::cuda;
  options.device_id = 4096;  // which no machine has
  FAILS(device, "driver", Context(options));
  options.device_type = mnemo::Device(99);
  FAILS(invalid, "device_type", Context(options));
  options = {};
  options.memory_limit = 8;
  const Context small(options);
  const std::vector<double> row = {1, 2};
  FAILS(nomem, "memory_limit", small.copy({row, 2}));
  options = {};
  options.kernel_cache_dir = std::string("a\0b", 3);
  FAILS(invalid, "kernel_cache_dir", Context(options));
}

// At one time: m, sigma, beta, g, alone and in vectors, and that time_of_sigma leads back.
static void at(const Process &process, double t, double m, double sigma, double beta, double g) {
  const mnemo::ProcessValues v = process.at(t);
  NEAR(v.m, m, 1e-14);
  NEAR(v.sigma, sigma, 1e-14);
  NEAR(v.beta, beta, 1e-14);
  NEAR(v.g, g, 1e-14);
  NEAR(process.time_of_sigma(v.sigma), t, 1e-12);
  const std::vector<double> times(3, t);
  std::array<double, 3> vm, vs, vb, vg, back;
  process.eval(times, {vm, vs, vb, vg});
  process.time_of_sigma(vs, back);
  for (std::size_t i = 0; i < 3; i++) {
    CHECK(vm[i] == v.m && vs[i] == v.sigma && vb[i] == v.beta && vg[i] == v.g);
    NEAR(back[i], t, 1e-12);
  }
}

TEST(processes) {
  at(Process::vp_linear(2, 2), 0.5, std::exp(-0.5), std::sqrt(1 - std::exp(-1.0)), 2, 2);
  at(Process::vp_linear(2, 2, 4), 0.5, std::exp(-0.5), std::sqrt(1 - std::exp(-1.0)), 2, 2);
  at(Process::sub_vp(2, 2), 0.5, std::exp(-0.5), 1 - std::exp(-1.0), 2, 2 * (1 - std::exp(-2.0)));
  at(Process::ve_power(2, 1, 80), 3, 1, 3, 0, 6);
  at(Process::ve_exponential(100, 1), 0.5, 1, std::sqrt(9 / std::log(100.0)), 0, 10);
  at(Process::ve_geometric(0.01, 50), 0.5, 1, std::sqrt(0.5), 0, std::log(5000.0));
  at(Process::flow(), 0.25, 0.75, 0.25, 2 / 0.75, 0.5 / 0.75);
  const std::vector<double> table = {0.9, 0.5, 0.1};
  NEAR(Process::discrete(table).at(2).sigma, std::sqrt(0.5), 1e-14);

  const Process edm = Process::ve_power(2, 1, 80);
  FAILS(invalid, "t", edm.at(80.5));
  FAILS(invalid, "sigma is -1", edm.time_of_sigma(-1));
  FAILS(invalid, "beta_min", Process::vp_linear(-1, 20));
  // Arrays are vectors of double, and agree in length; one bad time and nothing is written.
  std::vector<double> t = {1, 80.5}, sigma = {-1, -1};
  mnemo::ProcessOutputs out;
  out.sigma = sigma;
  FAILS(invalid, "t", edm.eval(t, out));
  CHECK(sigma[0] == -1 && sigma[1] == -1);
  t.push_back(2);
  FAILS(shape, "sigma: 2 elements; it must have 3", edm.eval(t, out));
  FAILS(shape, "t: it must be a contiguous vector", edm.eval({t, 3}, out));
  FAILS(shape, "alpha_bar: it must be a contiguous vector", Process::discrete(mnemo::ConstTensor(table.data(), 2, 1, 2)));
  FAILS(invalid, "t: no tensor", edm.eval({}, out));
  FAILS(invalid, "alpha_bar: no tensor", Process::discrete({}));
  const std::vector<float> single = {1};
  FAILS(dtype, "t: its elements must be double", edm.eval(single, out));
  FAILS(invalid, "t is NULL", edm.time_of_sigma(std::vector<double>{1}, {}));
}

// A half of the user's own.
struct Half {
  std::uint16_t bits;
};
struct Brain {
  std::uint16_t bits;
};
template <>
struct mnemo::dtype_of<Half> {
  static constexpr mnemo::Dtype value = mnemo::Dtype::f16;
};
template <>
struct mnemo::dtype_of<Brain> {
  static constexpr mnemo::Dtype value = mnemo::Dtype::bf16;
};

template <class T>
static void stored(const Context &context, mnemo::Dtype dtype, std::array<T, 4> values, mnemo::DatasetOptions options) {
  const double want[4] = {0.5, 1, -2, 0.25};
  const Dataset data = context.copy({values, 2}, options);
  const mnemo::DatasetInfo info = data.info();
  CHECK(info.dtype == dtype && info.rows == 2 && info.dim == 2 && info.labels == 0 && info.min == -2 && info.max == 1);
  const std::vector<std::int64_t> order = {1, 0, 1};
  std::vector<double> f64(6);
  std::vector<float> f32(6);
  data.gather(order, {f64, 2});
  data.gather(order, {f32, 2});
  for (std::size_t i = 0; i < 6; i++) CHECK(f64[i] == want[(i + 2) % 4] && double(f32[i]) == f64[i]);
  FAILS(invalid, "index", data.gather(std::vector<std::int64_t>{0, 2, 0}, {f64, 2}));
  FAILS(invalid, "out", data.gather(order, {}));
}

TEST(datasets) {
  const Context context;
  stored<float>(context, mnemo::Dtype::f32, {0.5f, 1, -2, 0.25f}, {});
  stored<double>(context, mnemo::Dtype::f64, {0.5, 1, -2, 0.25}, {});
  stored<Half>(context, mnemo::Dtype::f16, {Half{0x3800}, Half{0x3C00}, Half{0xC000}, Half{0x3400}}, {});
  stored<Brain>(context, mnemo::Dtype::bf16, {Brain{0x3F00}, Brain{0x3F80}, Brain{0xC000}, Brain{0x3E80}}, {});
  stored<std::uint8_t>(context, mnemo::Dtype::u8, {10, 12, 0, 9}, {0.25, -2});

  const std::vector<double> rows = {0, 0, 1, 1, 2, 2};
  CHECK(context.copy({rows, 2}, std::vector<std::int64_t>{7, 7, -3}).info().labels == 2);
  CHECK(context.copy({rows, 2}, std::vector<int>{7, 8, -3}).info().labels == 3);
  CHECK(context.copy({rows, 2}, std::vector<long long>{7, 7, 7}, {2, 0}).info().max == 4);
  FAILS(shape, "labels", context.copy({rows, 2}, std::vector<std::uint8_t>{1, 2}));
  FAILS(invalid, "rows is NULL", context.copy({}));
  FAILS(invalid, "labels_path", context.copy({rows, 2}, {1, 0, "labels.npy"}));
}

TEST(files) {
  const Context context;
  const Dataset data = context.open(digits, {1 / 8.0, -1, labels});
  const mnemo::DatasetInfo info = data.info();
  CHECK(info.rows == 1797 && info.dim == 64 && info.labels == 10 && info.min == -1 && info.max == 1);
  CHECK(context.open(digits).info().labels == 0);
  FAILS(io, "nowhere.npy", context.open("nowhere.npy"));
  try {
    (void)context.open("nowhere.npy");
  } catch (const mnemo::Error &e) {
    CHECK(e.native() == ENOENT);
  }
  FAILS(invalid, "path has a NUL", context.open(digits + std::string("\0.npy", 5)));
  FAILS(invalid, "labels_path has a NUL", context.open(digits, {1, 0, std::string("\0", 1)}));
  FAILS(io, "No such file", context.open(""));
}

// The empirical score of one row y is that of N(y, t^2 I).
TEST(one_row) {
  const Context context;
  const std::array<double, 3> y = {1, -2, 0.5};
  const std::vector<double> x = {0, 1, 2, 3, -2, 0.5}, times = {0.7, 2}, v = {1, 0, 0, 1, 2, -1};
  const Dataset data = context.copy({y, 3});
  const Score score = Score::empirical(data, Process::ve_power(2, 1, 80));
  std::vector<double> s(6), denoised(6), log_density(2), divergence(2), entropy(2), distance(2), product(6);
  std::vector<double> bound(2, -1), log_bound(2, -1);
  std::vector<std::int64_t> index(2, -1);
  mnemo::ScoreOutputs out;
  out.score = {s, 3};
  out.denoised = {denoised, 3};
  out.log_density = log_density;
  out.divergence = divergence;
  out.entropy = entropy;
  out.nearest_index = index;
  out.nearest_distance = distance;
  out.denoised_error_bound = bound;
  out.log_density_error_bound = log_bound;
  score.eval({x, 3}, times, out);
  score.jvp({x, 3}, times, {v, 3}, {product, 3});
  for (std::size_t n = 0; n < 2; n++) {
    const double variance = times[n] * times[n];
    double d2 = 0, error = 0;
    for (std::size_t i = 3 * n; i < 3 * n + 3; i++) {
      error = std::hypot(error, denoised[i] - y[i % 3]);
      const double o = y[i % 3] - x[i];
      d2 += o * o;
      NEAR(s[i], o / variance, 1e-12);
      NEAR(denoised[i], y[i % 3], 1e-12);
      NEAR(product[i], -v[i] / variance, 1e-12);
    }
    NEAR(log_density[n], -d2 / (2 * variance) - 1.5 * std::log(2 * std::acos(-1) * variance), 1e-12);
    CHECK(bound[n] >= error && bound[n] < 1e-12 && log_bound[n] > 0 && log_bound[n] < 1e-11);
    NEAR(divergence[n], -3 / variance, 1e-12);
    NEAR(entropy[n], 0, 1e-12);
    NEAR(distance[n], std::sqrt(d2), 1e-12);
    CHECK(index[n] == 0);
  }
  // One time for all, as a number and as a vector of one, in either element type.
  std::vector<double> one(6), vector(6);
  score.eval({x, 3}, 0.7, {{one, 3}});
  score.eval({x, 3}, std::vector<float>{0.7f}, {{vector, 3}});
  for (std::size_t i = 0; i < 3; i++) CHECK(one[i] == s[i]);
  for (std::size_t i = 0; i < 6; i++) NEAR(vector[i], one[i], 1e-6);
  score.jvp({x, 3}, 2, {v, 3}, {product, 3});
  NEAR(product[0], -0.25, 1e-12);

  FAILS(invalid, "x is NULL", score.eval({}, 1, {{one, 3}}));
  FAILS(shape, "score", score.eval({x, 3}, 1, {{one, 2}}));
  FAILS(invalid, "out", score.jvp({x, 3}, 2, {v, 3}, {}));
  FAILS(shape, "t: ", score.eval({x, 3}, std::vector<double>(3, 1.0), {{one, 3}}));
}

// Two rows at +a and -a: ybar = a tanh(a x / sigma^2); the options change it as mnemo.h says.
TEST(empirical_options) {
  const Context context;
  const double a = 1.5, x = 0.4, sigma = 1.2, v = sigma * sigma;
  const Process process = Process::ve_power(2, 1, 80);
  const Dataset data = context.copy(std::vector<double>{a, -a}, std::vector<std::int64_t>{5, 9});
  const auto score_at = [&](const mnemo::EmpiricalOptions &options) {
    double s[1];
    Score::empirical(data, process, options).eval(std::vector<double>{x}, sigma, {s});
    return s[0];
  };
  const double plain = (a * std::tanh(a * x / v) - x) / v;
  const double weights = std::exp(-(x - a) * (x - a) / (2 * v)) + std::exp(-(x + a) * (x + a) / (2 * v));
  const double density = weights / 2 / std::sqrt(2 * std::acos(-1) * v);
  NEAR(score_at({}), plain, 1e-12);
  NEAR(score_at({mnemo::Regularizer::tikhonov, 0.3}), plain * v / (v + 0.3), 1e-12);
  NEAR(score_at({mnemo::Regularizer::bayes_density, 3}), plain * density / 3, 1e-12);
  NEAR(score_at({mnemo::Regularizer::bayes_weight, 3}), plain * weights / 3, 1e-12);
  NEAR(score_at({mnemo::Regularizer::bayes_weight, 0, std::log(3.0)}), plain * weights / 3, 1e-12);
  mnemo::EmpiricalOptions options;
  options.label = 9;
  NEAR(score_at(options), (-a - x) / v, 1e-12);
  options.label = 6;
  FAILS(invalid, "label", score_at(options));
  options = {};
  options.tolerance = 2;
  FAILS(invalid, "tolerance", score_at(options));
  options = {};
  options.log_strength = std::nan("");
  FAILS(invalid, "log_strength is NaN", score_at(options));
}

static std::string bytes(const void *p, std::size_t n) { return std::string(static_cast<const char *>(p), n); }

// Options that nobody changed are the library's own, and each field arrives where it belongs.
TEST(options_are_those_of_the_library) {
  mnemo::detail::Call call;
  mnemo_sampler_options sampler;
  mnemo_sampler_options_init(&sampler, sizeof sampler);
  mnemo_sampler_options raw = mnemo::detail::raw(call, mnemo::SamplerOptions());
  // The bits of a NaN may differ.
  for (mnemo_sampler_options *o : {&raw, &sampler}) {
    for (double *d : {&o->t_start, &o->t_end, &o->alpha2, &o->eta}) {
      CHECK(std::isnan(*d));
      *d = 0;
    }
  }
  CHECK(bytes(&raw, sizeof raw) == bytes(&sampler, sizeof sampler));
  mnemo_empirical_options empirical;
  mnemo_empirical_options_init(&empirical, sizeof empirical);
  mnemo_empirical_options made = mnemo::detail::raw(call, mnemo::EmpiricalOptions());
  CHECK(std::isnan(made.log_strength) && std::isnan(empirical.log_strength));
  made.log_strength = empirical.log_strength = 0;
  CHECK(bytes(&made, sizeof made) == bytes(&empirical, sizeof empirical));
  mnemo_exec exec;
  mnemo_exec_init(&exec, sizeof exec);
  const mnemo_exec none = mnemo::detail::raw(call, mnemo::Exec());
  CHECK(bytes(&none, sizeof none) == bytes(&exec, sizeof exec));

  mnemo::SamplerOptions o;
  o.solver = mnemo::Solver::edm_stochastic, o.grid = mnemo::Grid::uniform_s, o.steps = 2, o.from_prior = true;
  o.denoise_last = true, o.first_sample = 3, o.t_start = 4, o.t_end = 5, o.alpha2 = 6, o.eta = 7, o.rtol = 8, o.atol = 9;
  o.rho = 10, o.s_churn = 11, o.s_min = 12, o.s_max = 13, o.s_noise = 14, o.times = {15, 16};
  raw = mnemo::detail::raw(call, o);
  CHECK(raw.solver == MNEMO_SOLVER_EDM_STOCHASTIC && raw.grid == MNEMO_GRID_UNIFORM_S && raw.from_prior == 1);
  CHECK(raw.denoise_last == 1 && raw.steps == 2 && raw.first_sample == 3 && raw.t_start == 4 && raw.t_end == 5);
  CHECK(raw.alpha2 == 6 && raw.eta == 7 && raw.rtol == 8 && raw.atol == 9 && raw.rho == 10 && raw.s_churn == 11);
  CHECK(raw.s_min == 12 && raw.s_max == 13 && raw.s_noise == 14 && raw.times_count == 2 && raw.times[1] == 16);
  mnemo::Exec e;
  int stream = 0;
  const mnemo::Cancel cancel;
  e.seed = 17, e.cancel = &cancel, e.stream = &stream, e.check = true;
  const mnemo_exec full = mnemo::detail::raw(call, e);
  CHECK(full.seed == 17 && full.cancel == cancel.get() && full.stream == &stream && full.flags == MNEMO_EXEC_CHECK);
}

// The same samples, bit for bit, as from C with the same constants.
TEST(sampling) {
  const std::pair<mnemo::Solver, std::uint32_t> solvers[] = {
      {mnemo::Solver::euler, MNEMO_SOLVER_EULER},
      {mnemo::Solver::heun, MNEMO_SOLVER_HEUN},
      {mnemo::Solver::exponential, MNEMO_SOLVER_EXPONENTIAL},
      {mnemo::Solver::dpmpp_2m, MNEMO_SOLVER_DPMPP_2M},
      {mnemo::Solver::rk45, MNEMO_SOLVER_RK45},
      {mnemo::Solver::euler_maruyama, MNEMO_SOLVER_EULER_MARUYAMA},
      {mnemo::Solver::ancestral, MNEMO_SOLVER_ANCESTRAL},
      {mnemo::Solver::edm_stochastic, MNEMO_SOLVER_EDM_STOCHASTIC},
  };
  const std::pair<mnemo::Grid, std::uint32_t> grids[] = {
      {mnemo::Grid::uniform_t, MNEMO_GRID_UNIFORM_T},
      {mnemo::Grid::uniform_s, MNEMO_GRID_UNIFORM_S},
      {mnemo::Grid::karras, MNEMO_GRID_KARRAS},
      {mnemo::Grid::custom, MNEMO_GRID_CUSTOM},
  };
  const Context context;
  const Dataset data = context.copy({std::vector<double>{1, 2, -1, 0, 3, -2}, 2});
  const Score score = Score::empirical(data, Process::ve_power(2, 1, 80));
  const std::vector<double> times = {10, 1, 0.1, 0};
  std::vector<std::string> seen;
  for (const auto &[solver, raw_solver] : solvers) {
    for (const auto &[grid, raw_grid] : grids) {
      std::vector<double> ours(8), theirs(8);
      mnemo::SamplerOptions o;
      o.solver = solver, o.grid = grid, o.steps = 5, o.from_prior = true, o.s_churn = 2;
      if (grid == mnemo::Grid::custom) o.times = times;
      mnemo::Exec exec;
      exec.seed = 7;
      score.sample({ours, 2}, o, exec);

      mnemo_sampler_options r;
      mnemo_sampler_options_init(&r, sizeof r);
      r.solver = raw_solver, r.grid = raw_grid, r.steps = 5, r.from_prior = 1, r.s_churn = 2;
      if (raw_grid == MNEMO_GRID_CUSTOM) r.times = times.data(), r.times_count = 4;
      mnemo_exec e;
      mnemo_exec_init(&e, sizeof e);
      e.seed = 7;
      mnemo_tensor x{};
      x.data = theirs.data(), x.rows = 4, x.cols = 2, x.dtype = MNEMO_F64, x.device_type = MNEMO_CPU;
      CHECK(mnemo_sample(score.get(), &r, &x, &e, nullptr) == MNEMO_OK);
      CHECK(ours == theirs && ours[0] != 0);
    }
  }
  // From the caller's state, in float32; the flow of one row is a straight line to it.
  const Score one = Score::empirical(context.copy({std::vector<float>{1, -1}, 2}), Process::ve_power(2, 1, 80));
  std::vector<float> x = {3, 5};
  mnemo::SamplerOptions o;
  o.t_start = 4, o.t_end = 1, o.solver = mnemo::Solver::exponential;
  one.sample({x, 2}, o);
  NEAR(double(x[0]), 1 + (3 - 1) / 4.0, 1e-6);
  NEAR(double(x[1]), -1 + (5 + 1) / 4.0, 1e-6);
  o.t_start = std::nan("");
  FAILS(invalid, "t_start is NaN", one.sample({x, 2}, o));
  o = {};
  o.steps = 0;
  FAILS(invalid, "steps", one.sample({x, 2}, o));
  FAILS(shape, "x", one.sample(x));
}

TEST(nearest_and_memorization) {
  const Context context;
  const Dataset data = context.copy({std::vector<double>{0, 0, 3, 4, 6, 8}, 2});
  const std::vector<double> queries = {0, 0, 6, 8.5};
  double distance[2][3];
  std::int64_t index[2][3];
  data.nearest({queries, 2}, 3, {distance, index});
  const double want[2][3] = {{0, 5, 10}, {0.5, std::hypot(3, 4.5), std::hypot(6, 8.5)}};
  for (int i = 0; i < 2; i++) {
    for (int j = 0; j < 3; j++) {
      NEAR(distance[i][j], want[i][j], 1e-14);
      CHECK(index[i][j] == (i == 0 ? j : 2 - j));
    }
  }
  std::int64_t alone[2];
  mnemo::NearestOutputs out;
  out.index = alone;
  data.nearest({queries, 2}, 1, out, {}, mnemo::Metric::l2);
  CHECK(alone[0] == 0 && alone[1] == 2);
  FAILS(invalid, "metric", data.nearest({queries, 2}, 1, out, {}, mnemo::Metric(9)));
  const std::vector<double> directions = {0, 2, -3, -4};
  data.nearest({directions, 2}, 3, {distance, index}, {}, mnemo::Metric::cosine);
  CHECK(index[0][0] == 1 && index[1][0] == 0);
  for (int i = 0; i < 2; i++) {
    for (int j = 0; j < 3; j++) {
      /* The rows are 0, (3, 4) and (6, 8): no direction, and one. */
      NEAR(distance[i][j], index[i][j] == 0 ? 1 : i == 0 ? 0.2 : 2, 1e-14);
    }
  }
  FAILS(invalid, "k", data.nearest({queries, 2}, 4, out));

  const std::vector<float> generated = {0, 0.25f, 3, 6, 6, 8.5f};
  const mnemo::MemorizationReport report = data.memorization({generated, 2}, {0.5});
  CHECK(report.samples == 3 && report.copied == 2 && report.fraction_copied == 2 / 3.0);
  CHECK(report.min_distance == 0.25 && report.median_distance == 0.5 && report.max_distance == 2);
  FAILS(invalid, "threshold", data.memorization({generated, 2}, {}));
}

TEST(cancel_and_seed) {
  const Context context;
  const Score score = Score::empirical(context.copy({std::vector<double>{1, 2}, 2}), Process::ve_power(2, 1, 80));
  std::vector<double> x(2), again(2), other(2);
  mnemo::SamplerOptions o;
  o.from_prior = true;
  mnemo::Cancel cancel;
  mnemo::Exec exec{1, &cancel};
  score.sample({x, 2}, o, exec);
  cancel.request();
  FAILS(cancelled, "stop was requested", score.sample({again, 2}, o, exec));
  FAILS(cancelled, "stop was requested", score.eval({x, 2}, 1, {{again, 2}}, exec));
  CHECK(again[0] == 0);
  cancel.clear();
  score.sample({again, 2}, o, exec);
  exec.seed = 2;
  score.sample({other, 2}, o, exec);
  CHECK(again == x && other != x);
  // No tensor is no time: not t = 0, at which this process has a score.
  const Score early = Score::empirical(context.copy({x, 2}), Process::ve_geometric(0.1, 10));
  FAILS(invalid, "t", early.eval({x, 2}, mnemo::ConstTensor(), {{again, 2}}));
  // A closed flag would never stop anything: an error, not silence.
  mnemo::Cancel taken = std::move(cancel);
  FAILS(invalid, "cancel: the handle is empty", score.sample({x, 2}, o, exec));
  FAILS(invalid, "cancel: the handle is empty", (cancel.request(), 0));
  FAILS(invalid, "cancel: the handle is empty", (cancel.clear(), 0));
  taken.request();
}

TEST(closed_and_moved_handles) {
  Context context;
  Process process = Process::flow();
  Dataset data = context.copy(std::vector<double>{1});
  Score score = Score::empirical(data, process);
  std::vector<double> x = {1};

  Score moved = std::move(score);
  CHECK(!score && moved && score.get() == nullptr);
  FAILS(invalid, "score: the handle is empty", score.eval(x, 0.5, {}));
  FAILS(invalid, "score: the handle is empty", score.jvp(x, 0.5, x, x));
  FAILS(invalid, "score: the handle is empty", score.sample(x));
  score = std::move(moved);
  score.eval(x, 0.5, {x});

  context.reset(), context.reset();
  FAILS(invalid, "context: the handle is empty", context.describe());
  FAILS(invalid, "context: the handle is empty", context.open(digits));
  FAILS(invalid, "context: the handle is empty", context.copy(x));
  FAILS(invalid, "context: the handle is empty",
        Score::custom(context, process, 1, mnemo::Prediction::x0, [](auto, auto, auto) {}));
  process.reset();
  FAILS(invalid, "process: the handle is empty", process.at(0.5));
  FAILS(invalid, "process: the handle is empty", process.eval(x, {}));
  FAILS(invalid, "process: the handle is empty", process.time_of_sigma(0.5));
  FAILS(invalid, "process: the handle is empty", process.time_of_sigma(x, x));
  FAILS(invalid, "process: the handle is empty", Score::empirical(data, process));
  data.reset();
  FAILS(invalid, "dataset: the handle is empty", data.info());
  FAILS(invalid, "dataset: the handle is empty", data.gather(x, x));
  FAILS(invalid, "dataset: the handle is empty", data.nearest(x, 1, {}));
  FAILS(invalid, "dataset: the handle is empty", data.memorization(x, {1}));
  FAILS(invalid, "dataset: the handle is empty", Score::empirical(data, process));
  score.eval(x, 0.5, {x});  // it keeps what it needs
  score.reset();
  FAILS(invalid, "score: the handle is empty", score.sample(x));
}

TEST(raw_handles) {
  mnemo_process *raw = nullptr;
  CHECK(mnemo_process_flow(&raw, nullptr) == MNEMO_OK);
  Process adopted(raw);
  CHECK(adopted.get() == raw && adopted.at(0.25).m == 0.75);
  mnemo_process *given = adopted.release();
  CHECK(given == raw && !adopted);
  mnemo_process_release(given);
  const Context context;
  mnemo_dataset *made = nullptr;
  const std::vector<double> y = {2};
  const mnemo::ConstTensor rows(y);
  CHECK(mnemo_dataset_copy(context.get(), &rows.raw(), nullptr, nullptr, &made, nullptr) == MNEMO_OK);
  CHECK(Dataset(made).info().max == 2);
}

// Objects of two contexts and everything made from them, destroyed in every order.
TEST(two_contexts_in_any_order) {
  std::array<int, 4> order = {0, 1, 2, 3};
  std::vector<double> y = {1, 2}, x(2);
  do {
    mnemo::ContextOptions options;
    options.num_threads = 1;
    Context first(options), second(options);
    Process process = Process::ve_power(2, 1, 80);
    Dataset data = first.copy({y, 2});
    Score score = Score::empirical(data, process);
    Score custom = Score::custom(second, process, 2, mnemo::Prediction::x0, [&](auto, auto, mnemo::View<double> out) {
      double s[1][2];
      score.eval({y, 2}, 1, {s});
      out(0, 0) = s[0][0] + 1, out(0, 1) = s[0][1] + 2;
    });
    custom.sample({x, 2});
    NEAR(x[0], 1, 1e-3);
    for (int which : order) {
      switch (which) {
        case 0: first.reset(), second.reset(); break;
        case 1: process.reset(); break;
        case 2: data.reset(); break;
        default: custom.reset(), score.reset();
      }
    }
  } while (std::next_permutation(order.begin(), order.end()));
}

int main(int argc, char **argv) {
  CHECK(argc == 2);
  digits = std::string(argv[1]) + "/digits.npy";
  labels = std::string(argv[1]) + "/digits-labels.npy";
  return run_tests();
}
