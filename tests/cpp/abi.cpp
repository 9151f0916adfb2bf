// A program compiled for another ABI than that of the library that is loaded is told so, and makes no context.
//
// Compile with -DABI_MAJOR=… -DABI_MINOR=…, of which the library must not be.
// SPDX-License-Identifier: MIT OR Apache-2.0
#pragma GCC diagnostic ignored "-Wshadow"
#include <mnemo.h>
#undef MNEMO_ABI_MAJOR
#undef MNEMO_ABI_MINOR
#define MNEMO_ABI_MAJOR ABI_MAJOR
#define MNEMO_ABI_MINOR ABI_MINOR
#include "check.hpp"

TEST(another_abi) {
  const std::string wanted = "for ABI " + std::to_string(ABI_MAJOR) + "." + std::to_string(ABI_MINOR);
  FAILS(unsupported, wanted.c_str(), (mnemo::check_abi(), 0));
  FAILS(unsupported, wanted.c_str(), mnemo::Context());
  FAILS(unsupported, mnemo::version(), mnemo::Context());
}

int main() { return run_tests(); }
