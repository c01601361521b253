// Distances between two histograms of one feature: the reference's and the live one, over the same bins.
//
// Shares are counts divided by their sum, each division rounded once, so that equal shares are equal doubles and
// two histograms of the same shape are at distance 0 exactly (sums to 2^53). Cumulative shares come from integer
// sums for the same reason.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace fastserve::distance {

enum Measure {
    kPsi, kPsiRaw, kJensenShannon, kHellinger, kVariation, kKolmogorov, kWasserstein, kChiSquare, kMeasures
};

// Sum of the counts, or -1 where one is negative, or -2 where the sum does not fit.
inline int64_t total(const int64_t* counts, int64_t bins) noexcept {
    int64_t sum = 0, signs = 0;
    bool over = false;
    for (int64_t i = 0; i < bins; ++i) {
        signs |= counts[i];
        over |= __builtin_add_overflow(sum, counts[i], &sum);
    }
    return signs < 0 ? -1 : over ? -2 : sum;
}

// p·ln(p/μ) + q·ln(q/μ) with μ = (p+q)/2. With d = (p-q)/(p+q) it is μ·((1+d)·ln(1+d) + (1-d)·ln(1-d)); near
// d = 0 the two cancel but for d², so there it is their series μ·Σ d^2k / (k(2k-1)), which six terms give to double
// precision below d = 1/16.
inline double divergence(double p, double q) noexcept {
    const double sum = p + q;
    if (sum == 0.0) return 0.0;
    const double d = (p - q) / sum, d2 = d * d;
    if (d2 < 1.0 / 256) {
        const double tail = 1.0 / 15 + d2 * (1.0 / 28 + d2 * (1.0 / 45 + d2 * (1.0 / 66)));
        return 0.5 * sum * d2 * (1.0 + d2 * (1.0 / 6 + d2 * tail));
    }
    const double left = p > 0.0 ? p * std::log(2.0 * p / sum) : 0.0;
    const double right = q > 0.0 ? q * std::log(2.0 * q / sum) : 0.0;
    return left + right;
}

// ∫|F-G| over a bin of the given width, where F-G runs straight from `from` to `to` and may cross 0 on the way.
inline double between(double from, double to, double width) noexcept {
    const double a = std::fabs(from), b = std::fabs(to);
    if (a + b == 0.0) return 0.0;  // also where the width is infinite
    if ((from < 0.0) == (to < 0.0) || a == 0.0 || b == 0.0) return 0.5 * (a + b) * width;
    return 0.5 * (a * a + b * b) / (a + b) * width;
}

// What needs the bins in order: KS and W1. `edges` holds bins + 1 boundaries. `steps`: count i lies at boundary i.
inline void ordered(const int64_t* reference, const int64_t* live, int64_t bins, const double* edges,
                    bool steps, int64_t rows, int64_t live_rows, double* out, int64_t stride) noexcept {
    const double m = static_cast<double>(rows), n = static_cast<double>(live_rows);
    int64_t below = 0, live_below = 0;
    double widest = 0.0, area = 0.0, before = 0.0;
    for (int64_t i = 0; i < bins; ++i) {
        below += reference[i];
        live_below += live[i];
        const double gap = static_cast<double>(below) / m - static_cast<double>(live_below) / n;
        widest = std::max(widest, std::fabs(gap));
        if (!steps)
            area += between(before, gap, edges[i + 1] - edges[i]);
        else if (gap != 0.0)  // so not behind the last bin, nor where the width is infinite and no mass moved
            area += std::fabs(gap) * (edges[i + 1] - edges[i]);
        before = gap;
    }
    out[kKolmogorov * stride] = widest;
    out[kWasserstein * stride] = area;
}

// All measures of one feature, measure k to out[k·stride]; returns the degrees of freedom of chi-square. `rows`
// and `live_rows` are the sums of the counts; where one is 0 every measure is NaN. `edges` may be null.
inline int64_t measure(const int64_t* reference, const int64_t* live, int64_t bins, const double* edges,
                       bool steps, double epsilon, int64_t rows, int64_t live_rows, double* out,
                       int64_t stride) noexcept {
    for (int k = 0; k < kMeasures; ++k) out[k * stride] = std::numeric_limits<double>::quiet_NaN();
    if (rows == 0 || live_rows == 0) return 0;
    const double m = static_cast<double>(rows), n = static_cast<double>(live_rows);
    double psi = 0.0, shannon = 0.0, roots = 0.0, variation = 0.0, chi = 0.0;
    int64_t filled = 0;
    for (int64_t i = 0; i < bins; ++i) {
        const double r = static_cast<double>(reference[i]), l = static_cast<double>(live[i]);
        const double p = r / m, q = l / n, gap = p - q;
        const double high = std::max(p, epsilon), low = std::max(q, epsilon);
        psi += (high - low) * std::log(high / low);
        shannon += divergence(p, q);
        const double root = std::sqrt(p) - std::sqrt(q);
        roots += root * root;
        variation += std::fabs(gap);
        if (r + l > 0.0) {
            chi += gap * gap / (r + l);
            ++filled;
        }
    }
    out[kPsiRaw * stride] = psi;
    out[kPsi * stride] = psi - static_cast<double>(bins - 1) * (1.0 / n + 1.0 / m);
    out[kJensenShannon * stride] = std::sqrt(shannon / (2.0 * M_LN2));
    out[kHellinger * stride] = std::sqrt(0.5 * roots);
    out[kVariation * stride] = 0.5 * variation;
    out[kChiSquare * stride] = chi * m * n;
    if (edges) ordered(reference, live, bins, edges, steps, rows, live_rows, out, stride);
    return filled - 1;
}

}  // namespace fastserve::distance
