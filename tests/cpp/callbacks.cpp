// Callables as models, progress reports and observers; what they throw, nested and on many threads at once.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "check.hpp"

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using mnemo::ConstTensor;
using mnemo::Context;
using mnemo::Dataset;
using mnemo::Prediction;
using mnemo::Process;
using mnemo::Score;
using mnemo::Tensor;
using mnemo::View;

static const Context &context() {
  static const Context shared = [] {
    mnemo::ContextOptions options;
    options.num_threads = 2;
    return Context(options);
  }();
  return shared;
}
static Process edm() { return Process::ve_power(2, 1, 80); }

/// What `call` throws, as it was thrown; it must throw an E.
template <class E, class F>
static E thrown(F call) {
  try {
    call();
  } catch (const E &e) {
    return e;
  }
  std::fprintf(stderr, "nothing was thrown\n");
  std::exit(1);
}

// Not derived from anything, so that nothing but the original can be caught.
struct Own {
  int number;
};

/// A model that predicts x0 = 0; `before` runs first.
template <class F>
static Score zero_model(F before, std::int64_t dim = 1) {
  const auto eval = [before](View<const double> x, View<const double>, View<double> out) {
    before();
    for (std::int64_t i = 0; i < x.rows(); i++) {
      for (std::int64_t j = 0; j < x.cols(); j++) out(i, j) = 0;
    }
  };
  return Score::custom(context(), edm(), dim, Prediction::x0, eval);
}

// ----- models --------------------------------------------------------------------------------------------------------

// Data N(mu, s0^2) under a VP process, whose every prediction is known.
constexpr double mu = 1, s0 = 0.6;

static double predict(Prediction prediction, double x, double s, double m, double sigma) {
  const double eps = -sigma * s, clean = (x + sigma * sigma * s) / m;
  switch (prediction) {
    case Prediction::score: return s;
    case Prediction::eps: return eps;
    case Prediction::x0: return clean;
    case Prediction::v: return m * eps - sigma * clean;
    default: return eps - clean;
  }
}

template <class T>
static void every_prediction(double tolerance) {
  const Process vp = Process::vp_linear(0.1, 5);
  const std::vector<T> x = {T(0), T(-2), T(3)}, v = {T(1), T(0.5), T(2)};
  const std::vector<double> t = {0.1, 0.5, 1};
  for (const auto prediction : {Prediction::score, Prediction::eps, Prediction::x0, Prediction::v, Prediction::flow}) {
    const auto write = [&](const auto &at, const auto &times, const auto &out, double mean) {
      CHECK(at.rows() == 3 && at.cols() == 1 && times.rows() == 3 && times.cols() == 1 && out.rows() == 3);
      for (std::int64_t i = 0; i < at.rows(); i++) {
        const auto p = vp.at(times[i]);  // callbacks may call
        const double s = (p.m * mean - double(at[i])) / (p.m * p.m * s0 * s0 + p.sigma * p.sigma);
        out[i] = T(predict(prediction, double(at[i]), s, p.m, p.sigma));
      }
    };
    const Score score = Score::custom(
        context(), vp, 1, prediction,
        [&](View<const T> at, View<const double> times, View<T> out) { write(at, times, out, mu); },
        [&](View<const T>, View<const double> times, View<const T> along, View<T> out) { write(along, times, out, 0); });
    std::vector<T> s(3), denoised(3), product(3);
    score.eval(x, t, {s, denoised});
    score.jvp(x, t, v, product);
    for (std::size_t i = 0; i < 3; i++) {
      const auto p = vp.at(t[i]);
      const double variance = p.m * p.m * s0 * s0 + p.sigma * p.sigma, want = (p.m * mu - double(x[i])) / variance;
      NEAR(double(s[i]), want, tolerance);
      NEAR(double(denoised[i]), (double(x[i]) + p.sigma * p.sigma * want) / p.m, tolerance / p.m);
      NEAR(double(product[i]), -double(v[i]) / variance, tolerance);
    }
    std::vector<T> entropy(3);
    mnemo::ScoreOutputs none;
    none.entropy = entropy;
    FAILS(unsupported, "entropy", score.eval(x, t, none));
  }
}
TEST(predictions_in_double) { every_prediction<double>(1e-12); }
TEST(predictions_in_float) { every_prediction<float>(1e-5); }

static void half_of(View<const double> x, View<const double>, View<double> out) { out[0] = x[0] / 2; }

TEST(forms_of_callables) {
  const auto gives = [](const Score &score) {
    std::vector<double> x = {4}, y(1);
    mnemo::ScoreOutputs out;
    out.denoised = y;
    score.eval(x, 1, out);
    return y[0];
  };
  const auto model = [&](auto eval) { return Score::custom(context(), edm(), 1, Prediction::x0, std::move(eval)); };
  CHECK(gives(model(half_of)) == 2);
  CHECK(gives(model(&half_of)) == 2);
  CHECK(gives(model(std::function<void(View<const double>, View<const double>, View<double>)>(half_of))) == 2);
  CHECK(gives(model([](auto x, auto, auto out) { out(0, 0) = x(0, 0) / 2; })) == 2);
  CHECK(gives(model([](const auto &x, const auto &, const auto &out) { out(0, 0) = x(0, 0) / 2; return true; })) == 2);
  CHECK(gives(model([](ConstTensor x, ConstTensor t, Tensor out) {
    CHECK(t.as<double>()[0] == 1);
    out.as<double>()[0] = x.as<double>()[0] / 2;
  })) == 2);
  CHECK(gives(model([half = std::make_unique<double>(0.5)](auto x, auto, auto out) {
          using T = std::remove_reference_t<decltype(out[0])>;
          out[0] = x[0] * T(*half);
        })) == 2);
  // With the stream of the call, which is none where the context has none.
  int stream = 0;
  mnemo::Exec exec;
  exec.stream = &stream;
  std::vector<double> x = {4};
  const auto with_stream = model([&](View<const double> in, View<const double>, View<double> out, void *s) {
    CHECK(s == nullptr || s == &stream);
    half_of(in, in, out);
  });
  with_stream.sample(x, {}, exec);
  const auto derivative = [&](View<const double>, View<const double>, View<const double> v, View<double> out, void *s) {
    CHECK(s == nullptr || s == &stream);
    out[0] = v[0];
  };
  const auto jvp = Score::custom(context(), edm(), 1, Prediction::score, half_of, derivative);
  jvp.jvp(x, 1, std::vector<double>{5}, x, exec);
  CHECK(x[0] == 5);
}

TEST(one_element_type_only) {
  std::vector<float> f = {1};
  std::vector<double> d = {1};
  const auto nothing = [](View<const double>, auto, auto, auto) {};
  const Score doubles = Score::custom(context(), edm(), 1, Prediction::x0, half_of, nothing);
  FAILS(dtype, "this callback takes double only", doubles.sample(f));
  FAILS(dtype, "this callback takes double only", doubles.jvp(f, 1, f, f));
  doubles.sample(d);
  const auto zero = [](View<const float>, auto, View<float> out) { out[0] = 0; };
  const Score floats = Score::custom(context(), edm(), 1, Prediction::x0, zero);
  FAILS(dtype, "this callback takes float only", floats.eval(d, 1, {d}));
  floats.sample(f);
  mnemo::SamplerOptions seen;
  seen.observer = [](std::uint64_t, double, View<const double>) {};
  FAILS(dtype, "this callback takes double only", floats.sample(f, seen));
  FAILS(unsupported, "jvp", floats.jvp(f, 1, f, f));
}

TEST(models_live_as_long_as_their_score) {
  const auto alive = std::make_shared<int>(0);
  const auto model = [alive](auto, auto, View<double> out) { out[0] = 0; };
  CHECK(alive.use_count() == 2);
  Score score = Score::custom(context(), edm(), 1, Prediction::x0, model, [alive](auto, auto, auto, auto) {});
  CHECK(alive.use_count() == 4);
  std::vector<double> x = {1};
  score.sample(x);
  Score other = std::move(score);
  CHECK(alive.use_count() == 4);
  other.reset();
  CHECK(alive.use_count() == 2);
  // What is not made owns nothing.
  FAILS(invalid, "dim", Score::custom(context(), edm(), 0, Prediction::x0, model));
  FAILS(invalid, "prediction", Score::custom(context(), edm(), 1, Prediction(9), model));
  CHECK(alive.use_count() == 2);
  // A callback may close its own score: the model stays until the call ends.
  std::unique_ptr<Score> itself;
  const auto closes = [&itself, &alive, kept = alive](auto, auto, View<double> out) {
    const auto owners = alive.use_count();
    if (itself) itself->reset();
    CHECK(alive.use_count() == owners && kept == alive);
    out[0] = 0;
  };
  itself = std::make_unique<Score>(Score::custom(context(), edm(), 1, Prediction::x0, closes));
  CHECK(alive.use_count() == 4);
  itself->sample(x);
  CHECK(!*itself && alive.use_count() == 3);
}

// ----- what callbacks throw ------------------------------------------------------------------------------------------

TEST(exceptions_of_models) {
  std::vector<double> x = {3}, kept = x, out = {-1};
  int calls = 0;
  const Score score = Score::custom(
      context(), edm(), 1, Prediction::x0,
      [&](auto, auto, auto y) {
        if (calls++ % 2 == 0) throw Own{calls};
        y[0] = 0;
      },
      [](auto, auto, auto, auto) { throw std::out_of_range("from jvp"); });
  CHECK(thrown<Own>([&] { score.eval(x, 1, {out}); }).number == 1);
  CHECK(out[0] == -1);
  score.eval(x, 1, {out});  // and on
  CHECK(out[0] == -3);
  CHECK(thrown<Own>([&] { score.sample(x); }).number == 3);
  CHECK(x == kept);
  CHECK(thrown<std::out_of_range>([&] { score.jvp(x, 1, x, out); }).what() == std::string("from jvp"));
}

// Enough work for a call to report on.
static const Dataset &rows() {
  static const Dataset shared = [] {
    std::vector<double> values(4000 * 8);
    for (std::size_t i = 0; i < values.size(); i++) values[i] = double(i * 7919 % 1000) / 500 - 1;
    return context().copy({values, 8});
  }();
  return shared;
}

TEST(exceptions_of_progress) {
  const Score score = Score::empirical(rows(), edm());
  std::vector<double> x(8 * 500, 0.5), distance(500);
  mnemo::Exec exec;
  std::uint64_t reports = 0;
  exec.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(done <= total);
    reports++;
  };
  const auto all = [&](auto check) {
    check([&] { score.sample({x, 8}, {}, exec); });
    check([&] { score.eval({x, 8}, 1, {{x, 8}}, exec); });
    check([&] { score.jvp({x, 8}, 1, {x, 8}, {x, 8}, exec); });
    check([&] { rows().nearest({x, 8}, 1, {distance}, exec); });
    check([&] { (void)rows().memorization({x, 8}, {1}, exec); });
  };
  all([&](auto call) {
    reports = 0;
    call();
    CHECK(reports > 0);
  });
  exec.progress = [](auto, auto) { throw Own{5}; };
  all([&](auto call) { CHECK(thrown<Own>(call).number == 5); });
  exec.progress = [](auto, auto) { return false; };
  all([&](auto call) { FAILS(cancelled, "exec.progress", (call(), 0)); });
  exec.progress = {};
  all([&](auto call) { call(); });
  // A function pointer and a std::function that hold nothing are no callbacks.
  exec.progress = static_cast<void (*)(std::uint64_t, std::uint64_t)>(nullptr);
  CHECK(!exec.progress);
  all([&](auto call) { call(); });
  mnemo::SamplerOptions unwatched;
  unwatched.observer = std::function<void(std::uint64_t, double, mnemo::View<const double>)>();
  CHECK(!unwatched.observer);
  score.sample({x, 8}, unwatched, exec);
  // A callable of its own state, moved in and shared by copies.
  exec.progress = [count = std::make_unique<int>(0)](auto, auto) mutable { if (++*count == 2) throw Own{*count}; };
  const mnemo::Exec copy = exec;
  CHECK(thrown<Own>([&] { score.sample({x, 8}, {}, exec), score.sample({x, 8}, {}, copy); }).number == 2);
}

TEST(exceptions_of_observers) {
  const Score score = zero_model([] {}, 2);
  std::vector<double> x = {1, 2, 3, 4}, before = x;
  std::vector<std::uint64_t> steps;
  std::vector<double> times;
  mnemo::SamplerOptions o;
  o.steps = 3;
  o.observer = [&](std::uint64_t step, double t, View<const double> state) {
    CHECK(state.rows() == 2 && state.cols() == 2 && (step > 0 || state(1, 0) == 3));
    steps.push_back(step), times.push_back(t);
  };
  score.sample({x, 2}, o);
  CHECK(steps == std::vector<std::uint64_t>({0, 1, 2, 3}) && times.front() == 80 && times.back() < 0.01);
  x = before;
  o.observer = [](std::uint64_t step, double, ConstTensor) { if (step == 2) throw Own{8}; };
  CHECK(thrown<Own>([&] { score.sample({x, 2}, o); }).number == 8 && x == before);
  o.observer = [](std::uint64_t step, double, auto) { return step < 1; };
  FAILS(callback, "observer", score.sample({x, 2}, o));
  try {
    score.sample({x, 2}, o);
  } catch (const mnemo::Error &e) {
    CHECK(e.native() == 1 && x == before);
  }
  std::vector<float> f = {1, 2};
  const auto none = [](auto, auto, auto out) { out(0, 0) = out(0, 1) = 0; };
  const Score floats = Score::custom(context(), edm(), 2, Prediction::eps, none);
  o.observer = [](std::uint64_t, double, View<const float> state) { throw Own{int(state(0, 1))}; };
  CHECK(thrown<Own>([&] { floats.sample({f, 2}, o); }).number == 2);
}

TEST(false_of_models) {
  const Score score = Score::custom(context(), edm(), 1, Prediction::x0, [](auto, auto, auto) { return false; },
                                    [](auto, auto, auto, auto) { return false; });
  std::vector<double> x = {1};
  FAILS(callback, "eval", score.sample(x));
  FAILS(callback, "jvp", score.jvp(x, 1, x, x));
}

// ----- calls within calls --------------------------------------------------------------------------------------------

TEST(an_exception_passes_through_nested_calls) {
  std::vector<double> x = {1};
  const Score inner = zero_model([] { throw Own{1}; });
  const Score middle = zero_model([&] { std::vector<double> y = {1}; inner.sample(y); });
  const Score outer = zero_model([&] { std::vector<double> y = {1}; middle.eval(y, 1, {y}); });
  CHECK(thrown<Own>([&] { outer.sample(x); }).number == 1);
}

TEST(an_exception_handled_within_is_gone) {
  std::vector<double> x = {1};
  const Score inner = zero_model([] { throw Own{1}; });
  int caught = 0;
  const auto handle = [&] {
    std::vector<double> y = {1};
    try {
      inner.sample(y);
    } catch (const Own &) {
      caught++;
    }
  };
  zero_model(handle).sample(x);
  CHECK(caught > 1);
  // A later error of the outer call is its own.
  const Score fails = Score::custom(context(), edm(), 1, Prediction::x0, [&](auto, auto, View<double> out) {
    handle();
    out[0] = std::nan("");
  });
  x[0] = 1;
  try {
    fails.sample(x);
    CHECK(false);
  } catch (const mnemo::Error &e) {
    CHECK(e.code() != mnemo::Status::ok && std::strstr(e.what(), "NaN") != nullptr);
  }
  // As is that of a later callback.
  int evaluations = 0;
  const Score later = zero_model([&] { ++evaluations == 1 ? handle() : throw Own{3}; });
  CHECK(thrown<Own>([&] { later.sample(x); }).number == 3);
  // And one in its place.
  const Score replaces = zero_model([&] { handle(), throw Own{2}; });
  CHECK(thrown<Own>([&] { replaces.sample(x); }).number == 2);
  const Score refuses = Score::custom(context(), edm(), 1, Prediction::x0, [&](auto, auto, auto) { handle(); return false; });
  FAILS(callback, "eval", refuses.sample(x));
}

// The library's own error within a callback comes out as it was, not as an error of the callback.
TEST(errors_of_the_library_pass_through) {
  std::vector<double> x = {1};
  const Score outer = zero_model([] { (void)context().open("nowhere.npy"); });
  FAILS(io, "nowhere.npy", outer.sample(x));
  mnemo::Exec exec;
  exec.progress = [](auto, auto) { (void)edm().at(99); };
  FAILS(invalid, "t", zero_model([] {}).sample(x, {}, exec));
}

// A callback that uses the C ABI itself may ignore what a score of ours did there.
TEST(calls_of_the_c_abi_within_callbacks) {
  std::vector<double> x = {1};
  const Score inner = zero_model([] { throw Own{1}; });
  int ignored = 0;
  const auto in_c = [&] {
    std::vector<double> y = {1};
    mnemo_tensor raw = Tensor(y).raw();
    CHECK(mnemo_sample(inner.get(), nullptr, &raw, nullptr, nullptr) == MNEMO_E_CALLBACK);
    ignored++;
  };
  zero_model(in_c).sample(x);
  CHECK(ignored > 1);
  const Score refuses = Score::custom(context(), edm(), 1, Prediction::x0, [&](auto, auto, auto) { in_c(); return false; });
  FAILS(callback, "eval", refuses.sample(x));
  mnemo::Exec exec;
  exec.progress = [&](auto, auto) { in_c(); return false; };
  FAILS(cancelled, "exec.progress", zero_model([] {}).sample(x, {}, exec));
  in_c();  // and outside of any call
}

// An eval that throws is not forgotten for a progress that goes on.
TEST(callbacks_of_one_call) {
  std::vector<double> x = {1};
  mnemo::Exec exec;
  mnemo::SamplerOptions o;
  int evals = 0, reports = 0, steps = 0;
  exec.progress = [&](auto, auto) { reports++; };
  o.observer = [&](auto, auto, auto) { steps++; };
  const Score score = zero_model([&] { if (++evals == 4) throw Own{evals}; });
  CHECK(thrown<Own>([&] { score.sample(x, o, exec); }).number == 4);
  CHECK(steps > 0);
  score.sample(x, o, exec);
  // Cancelled from within, and thrown at the same time.
  const mnemo::Cancel cancel;
  exec.cancel = &cancel;
  const Score both = zero_model([&] { cancel.request(), throw Own{6}; });
  CHECK(thrown<Own>([&] { both.sample(x, o, exec); }).number == 6);
  cancel.clear();
  // Whatever order the library may come to call them in.
  mnemo::detail::Call call;
  CHECK(mnemo::detail::Call::guard([]() -> mnemo::detail::Outcome { throw Own{7}; }) != 0);
  CHECK(mnemo::detail::Call::guard([] { return mnemo::detail::Outcome(); }) == 0);
  CHECK(thrown<Own>([&] { call.done(); }).number == 7);
  const Score cancels = zero_model([&] { cancel.request(); });
  FAILS(cancelled, "stop was requested", cancels.sample(x, o, exec));
}

// ----- threads -------------------------------------------------------------------------------------------------------

// What the model below does in the call of this thread.
static thread_local int number = 0, evaluation = 0;

// Many threads fail at once in one score, each with its own message, and each gets its own.
TEST(threads_that_fail_at_once) {
  constexpr int threads = 8, rounds = 25;
  std::mutex mutex;
  std::condition_variable all_in;
  int in = 0;
  const auto wait_for_all = [&] {
    std::unique_lock<std::mutex> lock(mutex);
    const int round = in++ / threads;
    all_in.notify_all();
    all_in.wait(lock, [&] { return in >= (round + 1) * threads; });
  };
  const Score inner = zero_model([] { throw std::runtime_error("inner " + std::to_string(number)); });
  const Score score = zero_model([&] {
    if (++evaluation == 1) return wait_for_all();  // all calls have begun; the second evaluation throws
    if (number % 2 == 0) throw std::runtime_error("outer " + std::to_string(number));
    std::vector<double> y = {1};
    inner.eval(y, 1, {y});
  });
  std::atomic<int> wrong{0}, right{0};
  const auto work = [&](int thread) {
    for (int round = 0; round < rounds; round++) {
      number = 1000 * thread + round, evaluation = 0;
      std::vector<double> x = {1};
      try {
        score.sample(x);
        wrong++;
      } catch (const std::runtime_error &e) {
        const std::string want = (number % 2 == 0 ? "outer " : "inner ") + std::to_string(number);
        (e.what() == want ? right : wrong)++;
      }
    }
  };
  std::vector<std::thread> pool;
  for (int i = 0; i < threads; i++) pool.emplace_back(work, i);
  for (std::thread &thread : pool) thread.join();
  CHECK(wrong == 0 && right == threads * rounds);
}

TEST(callbacks_run_on_the_thread_of_the_call) {
  std::vector<std::thread> pool;
  const Score score = Score::empirical(rows(), edm());
  for (int i = 0; i < 4; i++) {
    pool.emplace_back([&] {
      const auto self = std::this_thread::get_id();
      std::vector<double> x(8 * 200, 0.5);
      mnemo::Exec exec;
      exec.progress = [&](auto, auto) { CHECK(std::this_thread::get_id() == self); };
      score.sample({x, 8}, {}, exec);
    });
  }
  for (std::thread &thread : pool) thread.join();
}

TEST(cancel_from_another_thread) {
  mnemo::Cancel cancel;
  mnemo::Exec exec;
  exec.cancel = &cancel;
  std::atomic<bool> running{false};
  const Score score = zero_model([&] {
    running = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  });
  std::thread stopper([&] {
    while (!running) std::this_thread::yield();
    cancel.request();
  });
  std::vector<double> x = {1};
  mnemo::SamplerOptions o;
  o.steps = 100000;
  FAILS(cancelled, "stop was requested", score.sample(x, o, exec));
  stopper.join();
}

// A child process goes on with its parent's objects, exceptions and all.
TEST(fork_in_the_middle) {
  const Score score = Score::empirical(rows(), edm());
  std::vector<double> x(8 * 500, 0.5), mine = x, theirs = x;
  score.eval({x, 8}, 1, {{mine, 8}});
  const pid_t child = fork();
  CHECK(child >= 0);
  if (child == 0) {
    score.eval({x, 8}, 1, {{theirs, 8}});
    std::vector<double> y = {1};
    const bool same = mine == theirs && thrown<Own>([&] { zero_model([] { throw Own{3}; }).sample(y); }).number == 3;
    _exit(same ? 0 : 1);
  }
  int status = -1;
  CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main() { return run_tests(); }
