// What the C++ tests share: checks that say where they failed, and a list of tests that main runs.
// SPDX-License-Identifier: MIT OR Apache-2.0
#ifndef CHECK_HPP
#define CHECK_HPP

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mnemo.hpp>
#include <string>
#include <vector>

#define CHECK(...)      \
  ((__VA_ARGS__) ? (void)0 \
                 : (std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #__VA_ARGS__), std::exit(1)))

#define NEAR(got, want, tolerance) near_(__FILE__, __LINE__, #got, got, want, tolerance)

inline void near_(const char *file, int line, const char *what, double got, double want, double tolerance) {
  if (std::abs(got - want) <= tolerance * std::fmax(1, std::abs(want))) return;
  std::fprintf(stderr, "%s:%d: %s is %.17g, not %.17g\n", file, line, what, got, want);
  std::exit(1);
}

/// The error that it must be, with a message that names `word`.
inline void error_(const char *file, int line, const mnemo::Error &e, mnemo::Status code, const char *word) {
  const char *name = mnemo::status_name(code);
  if (e.code() == code && std::strstr(e.what(), word) != nullptr && std::strcmp(e.name(), name) == 0) return;
  std::fprintf(stderr, "%s:%d: %s: '%s', not %s with '%s'\n", file, line, e.name(), e.what(), name, word);
  std::exit(1);
}
[[noreturn]] inline void no_error_(const char *file, int line, const char *what) {
  std::fprintf(stderr, "%s:%d: %s did not fail\n", file, line, what);
  std::exit(1);
}

#if defined(MNEMO_USE_EXPECTED)
#define FAILS(code, word, ...)                                                    \
  do {                                                                            \
    if (auto result_ = (__VA_ARGS__); result_) no_error_(__FILE__, __LINE__, #__VA_ARGS__); \
    else error_(__FILE__, __LINE__, result_.error(), mnemo::Status::code, word);  \
  } while (0)
#else
#define FAILS(code, word, ...)                                            \
  do {                                                                    \
    bool failed_ = false;                                                 \
    try {                                                                 \
      (void)(__VA_ARGS__);                                                \
    } catch (const mnemo::Error &e_) {                                    \
      failed_ = true;                                                     \
      error_(__FILE__, __LINE__, e_, mnemo::Status::code, word);          \
    }                                                                     \
    if (!failed_) no_error_(__FILE__, __LINE__, #__VA_ARGS__);            \
  } while (0)
#endif

struct Test {
  void (*run)();
  const char *name;
};
inline std::vector<Test> &tests() {
  static std::vector<Test> list;
  return list;
}
struct Registered {
  Registered(void (*run)(), const char *name) { tests().push_back({run, name}); }
};
#define TEST(name)                                     \
  static void name();                                  \
  static const Registered registered_##name(name, #name); \
  static void name()

/// Each test is named before it runs, so that a crash says where; the last line is how many there were.
inline int run_tests() {
  for (const Test &test : tests()) {
    std::fprintf(stderr, "  %s\n", test.name);
    test.run();
  }
  std::printf("%d\n", int(tests().size()));
  return 0;
}

#endif
