// A program of files compiled in different ways: exceptions here, values in mixed_values.cpp. Were the functions of the two
// the same to the linker, one half would get what the other expects.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "check.hpp"
#include "plugin.hpp"

int status_as_value(mnemo_process *raw);

TEST(two_ways_in_one_program) {
  mnemo::Process process = mnemo::Process::flow();
  FAILS(invalid, "t", process.at(99));
  CHECK(status_as_value(process.release()) == MNEMO_E_INVALID);
}

// The model's code is in a library with hidden symbols; its exceptions arrive here all the same.
TEST(a_score_of_a_shared_library) {
  const mnemo::Context context;
  const mnemo::Score score(failing_score(context.get()));
  std::vector<double> x = {1};
  int number = 0;
  try {
    score.eval(x, 0.5, {x});
  } catch (const PluginError &e) {
    number = e.number;
  }
  CHECK(number == 5);
  x[0] = -1;
  FAILS(invalid, "beta_min", score.eval(x, 0.5, {x}));
}

int main() { return run_tests(); }
