// SPDX-License-Identifier: MIT OR Apache-2.0
//
// Prints the version of the library that it runs with.
#include <iostream>
#include <mnemo.hpp>

int main() {
  const mnemo::Context context; // an Error if the library is not one for this header
  std::cout << mnemo::version() << '\n';
}
