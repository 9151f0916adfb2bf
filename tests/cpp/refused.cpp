// What must not compile. Each case is compiled alone with -DCASE=n, and the compiler must say what stands after `says:`, a
// regular expression.
// CASE 0, in which nothing is wrong, compiles.
// SPDX-License-Identifier: MIT OR Apache-2.0
#include <Eigen/Core>
#include <array>
#include <mnemo.hpp>
#include <string>
#include <vector>

using RowMajor = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

struct NoOrder {  // row-major or not?
  double *data() const;
  int rows() const;
  int cols() const;
};
struct Cube {
  static constexpr int rank() { return 3; }
  double *data_handle() const;
  int extent(int) const;
  int stride(int) const;
};

void refused(const mnemo::Context &context, const mnemo::Score &score);

void refused(const mnemo::Context &context, const mnemo::Score &score) {
  std::vector<double> x(6);
  const std::vector<double> constant(6);
  const mnemo::Process process = mnemo::Process::flow();
  (void)process, (void)context, (void)score;
#if CASE == 0
  score.sample({x, 3});
#elif CASE == 1  // says: these elements are const
  score.sample({constant, 3});
#elif CASE == 2  // says: these elements are const
  score.sample(constant);
#elif CASE == 3  // says: these elements are const
  score.sample({constant.data(), 2, 3});
#elif CASE == 4  // says: these elements are const
  const RowMajor m(2, 3);
  score.sample(m);
#elif CASE == 5  // says: these elements are const
  const RowMajor m(2, 3);
  score.eval({x, 3}, 1, {m.block(0, 0, 2, 2)});
#elif CASE == 6  // says: these elements are const
  score.eval({x, 3}, 1, {Eigen::Map<const RowMajor>(x.data(), 2, 3)});
#elif CASE == 7  // says: these elements are const
  const std::array<double, 3> a{};
  score.sample(a);
#elif CASE == 8  // says: these elements are const
  const double a[2][3] = {};
  score.sample(a);
#elif CASE == 9  // says: these elements are const
  score.sample(mnemo::View<const double>(x.data(), 2, 3, 3));
#elif CASE == 10  // says: (no matching|no viable conversion|could not convert|cannot convert)
  score.sample(mnemo::columns(std::as_const(*new Eigen::MatrixXd(3, 2))));
#elif CASE == 11  // says: this matrix is column-major
  Eigen::MatrixXd m(2, 3);
  score.sample(m);
#elif CASE == 12  // says: this matrix is column-major
  const Eigen::MatrixXf m(2, 3);
  (void)context.copy(m);
#elif CASE == 13  // says: mnemo::columns is for column-major matrices
  RowMajor m(2, 3);
  score.sample(mnemo::columns(m));
#elif CASE == 14  // says: is this matrix row-major
  (void)context.copy(NoOrder());
#elif CASE == 15  // says: mnemo takes spans of rank 1
  (void)context.copy(Cube());
#elif CASE == 16  // says: mnemo has no element type for this
  (void)context.copy(std::string("abc"));
#elif CASE == 17  // says: a callback of mnemo returns nothing, or a bool
  mnemo::Exec exec;
  exec.progress = [](auto, auto) { return 0; };
#elif CASE == 18  // says: an observer takes
  mnemo::SamplerOptions options;
  options.observer = [](double) {};
#elif CASE == 19  // says: a mutable lambda could not serve several threads
  (void)mnemo::Score::custom(context, process, 1, mnemo::Prediction::x0, [n = 0](auto, auto, auto) mutable { n++; });
#elif CASE == 20  // says: jvp takes
  (void)mnemo::Score::custom(context, process, 1, mnemo::Prediction::x0, [](auto, auto, auto) {}, [](auto, auto, auto) {});
#elif CASE == 21  // says: deleted
  const mnemo::Process other = process;
#elif CASE == 22  // says: nodiscard
  context.open("digits.npy");
#elif CASE == 23  // says: does not take a callback's arguments
  mnemo::Exec exec;
  exec.progress = [](const char *) {};
#elif CASE == 24  // says: (no matching|no viable conversion|could not convert|cannot convert)
  score.eval({x, 3}, 1, {mnemo::ConstTensor(x, 3)});
#elif CASE == 25  // says: (no matching|no viable conversion|could not convert|cannot convert)
  const RowMajor a(2, 3), b(2, 3);
  (void)context.copy(a + b);
#else
#error "no such case"
#endif
}
