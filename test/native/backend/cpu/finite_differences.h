// Gradients of a function written in plain double arithmetic, by central differences: what the gradient ops must give.
#pragma once

#include <cmath>
#include <functional>
#include <vector>

namespace nextscale::test {

using Doubles = std::vector<double>;

inline Doubles Widen(const std::vector<float>& values) { return Doubles(values.begin(), values.end()); }

// d f / d x[i] for every i; x is left as it was.
inline Doubles FiniteDifferences(Doubles& x, const std::function<double()>& f) {
  Doubles gradient(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i], step = 1e-5 * std::max(1.0, std::abs(value));
    x[i] = value + step;
    const double above = f();
    x[i] = value - step;
    const double below = f();
    x[i] = value;
    gradient[i] = (above - below) / (2 * step);
  }
  return gradient;
}

// ‖found − wanted‖ / ‖wanted‖
inline double RelativeDistance(const std::vector<float>& found, const Doubles& wanted) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    difference += std::pow(static_cast<double>(found[i]) - wanted[i], 2);
    norm += wanted[i] * wanted[i];
  }
  return std::sqrt(difference) / std::max(std::sqrt(norm), 1e-30);
}

}  // namespace nextscale::test
