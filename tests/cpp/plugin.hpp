// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef PLUGIN_HPP
#define PLUGIN_HPP

#include <mnemo.hpp>

struct [[gnu::visibility("default")]] PluginError {
  int number;
};

/// A score whose model throws a PluginError where x > 0 and a mnemo::Error elsewhere; owned by the caller.
[[gnu::visibility("default")]] mnemo_score *failing_score(mnemo_context *borrowed);

#endif
