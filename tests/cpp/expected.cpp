// Errors as values: compiled with exceptions, and with -fno-exceptions -fno-rtti.
// SPDX-License-Identifier: MIT OR Apache-2.0
#define MNEMO_USE_EXPECTED
#include "check.hpp"

#include <csignal>
#include <memory>
#include <sys/wait.h>
#include <unistd.h>

using mnemo::Expected;
using mnemo::View;

static const mnemo::Context &context() {
  static const mnemo::Context shared = *mnemo::Context::create();
  return shared;
}
static mnemo::Process edm() { return *mnemo::Process::ve_power(2, 1, 80); }

// A constructor could not say what went wrong.
static_assert(!std::is_default_constructible_v<mnemo::Context> && !std::is_default_constructible_v<mnemo::Cancel>);

TEST(values_and_errors) {
  Expected<std::unique_ptr<int>> value = std::make_unique<int>(3);
  CHECK(value && value.has_value() && **value == 3 && *value.value() == 3 && value->get() == value.value().get());
  const std::unique_ptr<int> taken = *std::move(value);
  CHECK(*taken == 3);
  const Expected<int> error = mnemo::Error(mnemo::Status::io, "gone", 2);
  CHECK(!error && error.error().code() == mnemo::Status::io && error.error().native() == 2);
  CHECK(std::strcmp(error.error().what(), "gone") == 0 && std::strcmp(error.error().name(), "MNEMO_E_IO") == 0);
  const Expected<void> nothing, fault = error.error();
  CHECK(nothing && !fault && fault.error().code() == mnemo::Status::io);
  nothing.value();
}

// The value of an error: thrown, or where nothing can be, printed and the end.
TEST(values_that_are_not_there) {
  const Expected<int> error = mnemo::Error(mnemo::Status::io, "gone");
#if defined(__cpp_exceptions)
  int thrown = 0;
  try {
    (void)error.value();
  } catch (const mnemo::Error &e) {
    thrown += e.code() == mnemo::Status::io;
  }
  try {
    (void)*error;
  } catch (const mnemo::Error &e) {
    thrown += e.code() == mnemo::Status::io;
  }
  CHECK(thrown == 2);
#else
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    std::_Exit(error.value());
  }
  int status = 0;
  char said[64] = {};
  CHECK(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
  CHECK(read(ends[0], said, sizeof said - 1) > 0 && std::strcmp(said, "MNEMO_E_IO: gone\n") == 0);
#endif
}

TEST(every_function_returns) {
  std::vector<double> x = {3}, y(1);
  std::vector<std::int64_t> index = {0};
  CHECK(mnemo::check_abi());
  const mnemo::Context &ctx = context();
  CHECK(ctx.describe()->front() == '{');
  const mnemo::Process process = edm();
  CHECK(process.at(3)->sigma == 3 && *process.time_of_sigma(3) == 3);
  CHECK(process.eval(x, {y}) && y[0] == 1);
  CHECK(process.time_of_sigma(x, y) && y[0] == 3);
  for (auto make : {+[] { return mnemo::Process::vp_linear(0.1, 20); }, +[] { return mnemo::Process::sub_vp(0.1, 20); },
                    +[] { return mnemo::Process::ve_exponential(100, 1); }, +[] { return mnemo::Process::flow(); },
                    +[] { return mnemo::Process::ve_geometric(0.01, 50); },
                    +[] { return mnemo::Process::discrete(std::vector<double>{0.9, 0.1}); }}) {
    CHECK(make());
  }
  const mnemo::Dataset data = *ctx.copy(x, index);
  CHECK(data.info()->max == 3 && data.gather(index, y) && y[0] == 3);
  CHECK(data.nearest(x, 1, {y, index}) && y[0] == 0);
  CHECK(data.memorization(x, {1})->copied == 1);
  const mnemo::Score score = *mnemo::Score::empirical(data, process);
  CHECK(score.eval(x, 2, {y}) && y[0] == 0);
  CHECK(score.jvp(x, 2, x, y) && y[0] == -0.75);
  CHECK(score.sample(x));
  const mnemo::Cancel cancel = *mnemo::Cancel::create();
  mnemo::Exec exec;
  exec.cancel = &cancel;
  CHECK(cancel.request());
  FAILS(cancelled, "stop was requested", score.sample(x, {}, exec));
  CHECK(cancel.clear() && score.sample(x, {}, exec));
  CHECK(*mnemo::Tensor(x).as<double>()->data() == x[0]);
}

TEST(every_function_fails) {
  std::vector<double> x = {3};
  mnemo::ContextOptions options;
  options.device_type = mnemo::Device(9);
  FAILS(invalid, "device_type", mnemo::Context::create(options));
  FAILS(io, "nowhere.npy", context().open("nowhere.npy"));
  FAILS(invalid, "beta_min", mnemo::Process::vp_linear(-1, 2));
  FAILS(dtype, "another type", mnemo::Tensor(x).as<float>());
  FAILS(shape, "not a multiple", context().copy({x, 2}));
  mnemo::Process process = edm();
  FAILS(invalid, "t", process.at(99));
  process.reset();
  FAILS(invalid, "process: the handle is empty", process.time_of_sigma(1));
  mnemo::Cancel cancel = *mnemo::Cancel::create();
  cancel.reset();
  FAILS(invalid, "cancel: the handle is empty", cancel.request());
}

// A callback's own error is the call's.
TEST(errors_of_callbacks) {
  std::vector<double> x = {3}, kept = x;
  const auto own = [](const char *text) { return Expected<void>(mnemo::Error(mnemo::Status::poisoned, text, 7)); };
  const auto model = [](auto eval, auto jvp) {
    return *mnemo::Score::custom(context(), edm(), 1, mnemo::Prediction::x0, eval, jvp);
  };
  const auto nothing = [](auto, auto, auto, auto) {};
  const auto zero = [](auto, auto, auto out) { out[0] = 0; };
  const mnemo::Score fails = model([&](auto, auto, auto) { return own("eval's"); },
                                   [&](auto, auto, auto, auto) { return own("jvp's"); });
  FAILS(poisoned, "eval's", fails.sample(x));
  FAILS(poisoned, "jvp's", fails.jvp(x, 1, x, x));
  const auto error = fails.eval(x, 1, {x});
  CHECK(error.error().native() == 7 && x == kept);

  mnemo::SamplerOptions o;
  mnemo::Exec exec;
  const mnemo::Score good = model(zero, nothing);
  o.observer = [&](auto, auto, auto) { return own("observer's"); };
  FAILS(poisoned, "observer's", good.sample(x, o));
  exec.progress = [&](auto, auto) { return own("progress's"); };
  FAILS(poisoned, "progress's", good.sample(x, {}, exec));
  exec.progress = [](auto, auto) { return false; };
  FAILS(cancelled, "exec.progress", good.sample(x, {}, exec));
  CHECK(x == kept && good.sample(x));

  // An inner call's error is handed on, or not.
  std::vector<double> y = {1};
  const mnemo::Score outer = model([&](auto, auto, auto) { return fails.eval(y, 1, {y}); }, nothing);
  FAILS(poisoned, "eval's", outer.sample(x));
  const mnemo::Score handles = model([&](auto, auto, auto out) { out[0] = fails.eval(y, 1, {y}) ? 1 : 0; }, nothing);
  CHECK(handles.sample(x));
}

#if defined(__cpp_exceptions)
// Other people's exceptions are still exceptions.
TEST(exceptions_of_callbacks) {
  std::vector<double> x = {3};
  const auto score = *mnemo::Score::custom(context(), edm(), 1, mnemo::Prediction::x0, [](auto, auto, auto) { throw 42; });
  int caught = 0;
  try {
    (void)score.sample(x);
  } catch (int e) {
    caught = e;
  }
  CHECK(caught == 42);
}
#endif

int main() { return run_tests(); }
