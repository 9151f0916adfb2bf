// A shared library that hides its symbols and makes a score for others: see mixed.cpp.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include "plugin.hpp"

mnemo_score *failing_score(mnemo_context *borrowed) {
  mnemo::Context context(borrowed);
  mnemo::Score score = mnemo::Score::custom(context, mnemo::Process::flow(), 1, mnemo::Prediction::x0,
                                            [](mnemo::View<const double> x, auto, auto) {
                                              if (x[0] > 0) throw PluginError{5};
                                              (void)mnemo::Process::vp_linear(-1, 2);
                                            });
  (void)context.release();  // the caller's still
  return score.release();
}
