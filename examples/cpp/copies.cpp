// copies.cpp - which models copy their training set? The short audit; the same program is in every language of examples/.
//
//     c++ -std=c++17 copies.cpp -o copies $(pkg-config --cflags --libs mnemo) && ./copies ../data/digits.npy
//
// SPDX-License-Identifier: MIT OR Apache-2.0
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <iterator>
#include <mnemo.hpp>
#include <numeric>
#include <string>
#include <vector>

constexpr int samples = 64, neighbours = 500, seed = 1;

// Rows 0 … count - 1.
static std::vector<double> first_rows(const mnemo::Dataset &data, std::size_t count, std::int64_t dim) {
  std::vector<std::int64_t> index(count);
  std::iota(index.begin(), index.end(), 0);
  std::vector<double> rows(count * std::size_t(dim));
  data.gather(index, {rows, dim});
  return rows;
}

// Half the median distance between a row and its nearest other row: what is nearer than that is a copy.
static double copy_distance(const mnemo::Dataset &data, std::int64_t dim) {
  double distance[neighbours][2], other[neighbours];
  data.nearest({first_rows(data, neighbours, dim), dim}, 2, {distance});
  for (int i = 0; i < neighbours; i++) other[i] = distance[i][1];
  std::sort(std::begin(other), std::end(other));
  return other[neighbours / 2] / 2;
}

// A model of the host's own, a callable: the Gaussian with the data's mean and mean variance.
class Gaussian {
 public:
  explicit Gaussian(const mnemo::Dataset &data) {
    const mnemo::DatasetInfo info = data.info();
    const std::vector<double> rows = first_rows(data, std::size_t(info.rows), info.dim);
    mean.resize(std::size_t(info.dim));
    for (std::size_t i = 0; i < rows.size(); i++) mean[i % mean.size()] += rows[i] / double(info.rows);
    for (std::size_t i = 0; i < rows.size(); i++) {
      const double off = rows[i] - mean[i % mean.size()];
      variance += off * off / double(rows.size());
    }
  }

  // E[y | x] = mean + v / (v + sigma^2) (x - mean), where sigma = t.
  void operator()(mnemo::View<const double> x, mnemo::View<const double> t, mnemo::View<double> out) const {
    for (std::int64_t i = 0; i < x.rows(); i++) {
      const double keep = variance / (variance + t[i] * t[i]);
      for (std::int64_t j = 0; j < x.cols(); j++) {
        const double center = mean[std::size_t(j)];
        out(i, j) = center + keep * (x(i, j) - center);
      }
    }
  }

 private:
  std::vector<double> mean;
  double variance = 0;
};

// Samples of a score by EDM's sampler, and how near they come to the training rows.
static void audit(const std::string &name, const mnemo::Score &score, const mnemo::Dataset &data, std::int64_t dim,
                  double threshold) {
  std::vector<double> x(std::size_t(samples * dim));
  mnemo::SamplerOptions edm;  // Heun, Karras grid, 18 steps
  edm.from_prior = true;
  score.sample({x, dim}, edm, {seed});
  const mnemo::MemorizationReport report = data.memorization({x, dim}, {threshold});
  std::printf("%-15s %3d of %d %9.4f %9.4f %9.4f\n", name.c_str(), int(report.copied), samples,
              report.min_distance, report.median_distance, report.max_distance);
}

static void run(const std::string &path) {
  const mnemo::Context context;
  const mnemo::Process process = mnemo::Process::ve_power(2, 1, 80);  // EDM: sigma(t) = t, up to 80

  // The images as they are, then scaled to [-1, 1], which EDM's noise levels are meant for.
  const mnemo::DatasetInfo info = context.open(path).info();
  const double scale = 2 / (info.max - info.min);
  const mnemo::Dataset data = context.open(path, {scale, -1 - info.min * scale});
  const double threshold = copy_distance(data, info.dim);
  std::printf("%d rows of %d values in [%.1f, %.1f], scaled to [-1, 1]\n", int(info.rows),
              int(info.dim), info.min, info.max);
  std::printf("a copy is within %.4f of a training row\n\n", threshold);
  std::printf("%-15s %9s %9s %9s %9s\n", "model", "copied", "nearest", "median", "farthest");

  audit("exact", mnemo::Score::empirical(data, process), data, info.dim, threshold);
  for (double strength = 0.01; strength < 1; strength *= 4) {
    const auto score = mnemo::Score::empirical(data, process, {mnemo::Regularizer::tikhonov, strength});
    audit("Tikhonov " + std::to_string(strength).substr(0, 4), score, data, info.dim, threshold);
  }
  const auto gaussian = mnemo::Score::custom(context, process, info.dim, mnemo::Prediction::x0, Gaussian(data));
  audit("Gaussian", gaussian, data, info.dim, threshold);
}

int main(int argc, char **argv) {
  try {
    run(argc > 1 ? argv[1] : "digits.npy");
  } catch (const mnemo::Error &error) {
    std::fprintf(stderr, "copies: %s: %s\n", error.name(), error.what());
    return 1;
  }
}
