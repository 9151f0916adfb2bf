// One half of a program: errors as values. The other half is mixed.cpp.
// SPDX-License-Identifier: MIT OR Apache-2.0
#define MNEMO_USE_EXPECTED
#include <mnemo.hpp>

int status_as_value(mnemo_process *raw);

int status_as_value(mnemo_process *raw) {
  const mnemo::Process process(raw);  // a raw handle goes from one half to the other
  const auto at = process.at(99);
  return at ? 0 : int(at.error().code());
}
