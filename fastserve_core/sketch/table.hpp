// The edges of every feature, and their keys as the sweeps read them: laid side by side for each panel of lanes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

#include "bytes.hpp"
#include "grid.hpp"
#include "sweep.hpp"

namespace fastserve::number {

using namespace fastserve::sketch;

constexpr int64_t kMaxCounts = 4'000'000;
constexpr int64_t kMaxFeatureEdges = 65'535;

// What of an edge a value of type S can tell: x > edge exactly when key_of(x) > `key`, or always.
template <typename S>
struct Floor {
    KeyOf<S> key;
    bool always;
};

// Floats: the largest S that is not above the edge; -inf where there is none, which all but -inf are above.
template <typename S>
inline Floor<S> floor_to(double edge) noexcept {
    if constexpr (std::is_same_v<S, double>) {
        return {key_of(edge == 0 ? 0.0 : edge), false};
    } else if constexpr (std::is_same_v<S, float>) {
        constexpr float kMax = std::numeric_limits<float>::max(), kEndless = std::numeric_limits<float>::infinity();
        if (edge >= static_cast<double>(kMax)) return {key_of(kMax), false};
        if (edge < -static_cast<double>(kMax)) return {key_of(-kEndless), false};
        float near = static_cast<float>(edge);
        if (static_cast<double>(near) > edge) near = std::nextafter(near, -kEndless);
        return {key_of(near == 0 ? 0.0F : near), false};
    } else {
        constexpr double kBelow = std::is_signed_v<S> ? (sizeof(S) == 4 ? -0x1p31 : -0x1p63) : 0.0;
        constexpr double kAbove = kBelow + (sizeof(S) == 4 ? 0x1p32 : 0x1p64);
        const double whole = std::floor(edge);
        if (whole < kBelow) return {kMissing<KeyOf<S>>, true};
        if (whole >= kAbove) return {kNever<KeyOf<S>>, false};
        return {key_of(static_cast<S>(whole)), false};
    }
}

// The edges of every feature, fixed once `close` has been called, and how their keys lie in memory.
class Plan {
public:
    std::vector<int64_t> offsets{0};
    std::vector<double> edges;  // feature f owns [offsets[f] - f, offsets[f + 1] - f - 1)
    std::vector<double> shifts;

    int64_t features() const noexcept { return static_cast<int64_t>(shifts.size()); }
    int64_t counts() const noexcept { return offsets.back(); }
    uint64_t fingerprint() const noexcept { return fingerprint_; }
    int64_t number(int64_t f) const noexcept { return offsets[f + 1] - offsets[f] - 1; }
    const double* edges_of(int64_t f) const noexcept { return edges.data() + offsets[f] - f; }

    void add(const double* values, int64_t number, double shift) {
        edges.insert(edges.end(), values, values + number);
        offsets.push_back(offsets.back() + number + 1);
        shifts.push_back(shift);
    }

    void close() {
        fingerprint_ = hash_number(static_cast<uint64_t>(features()), 3);
        for (int64_t f = 0; f < features(); ++f) {
            fingerprint_ = hash_number(fingerprint_ ^ read<uint64_t>(&shifts[f]), static_cast<uint64_t>(number(f)));
            for (int64_t j = 0; j < number(f); ++j)
                fingerprint_ = hash_number(fingerprint_, read<uint64_t>(edges_of(f) + j));
        }
        while (features() < kLanes && features() * fold % kLanes) fold *= 2;
        width = features() * fold;
        tables.assign(features(), 0);
        for (int64_t column = 0; column < width; column += kLanes) add_panel(column);
        panel_keys = keys;
        for (int64_t f = 0; f < features(); ++f) {
            if (!searched(f)) continue;
            tables[f] = keys;
            keys += number(f);
        }
    }

    bool searched(int64_t f) const noexcept { return number(f) > kWide; }

    int64_t fold = 1;             // rows that share a vector
    int64_t width = 0;            // values of so many rows
    int64_t keys = 0;             // in a table
    int64_t panel_keys = 0;       // of them those that are not searched
    std::vector<Panel> panels;
    std::vector<int64_t> tables;  // where a feature's keys start

private:
    void add_panel(int64_t column) {
        Panel panel{std::min(column, width - kLanes), 0, false, keys, 0, {}};
        panel.first = static_cast<int>(column - panel.column);
        for (int lane = 0; lane < kLanes; ++lane) {
            const int64_t f = panel.features[lane] = (panel.column + lane) % features();
            if (lane < panel.first) continue;
            if (panel.column + lane < features()) tables[f] = keys + lane;
            panel.searched |= searched(f);
            if (!searched(f)) panel.number = std::max(panel.number, number(f));
        }
        keys += panel.number * kLanes;
        panels.push_back(panel);
    }

    uint64_t fingerprint_ = 0;
};

// The edges' keys for one dtype: first those of the panels, [number][kLanes] each, then those that are searched. And
// what has been counted with them since `Counts::settle`.
template <typename S>
struct Table {
    std::vector<KeyOf<S>> keys, above;
    std::vector<int32_t> skips;  // edges that every value is above
    std::vector<Tally<KeyOf<S>>> tallies;
    std::vector<Grid> grids;  // of the panels, where one is usable
    int64_t rows = 0;

    void clear() noexcept {
        for (auto& tally : tallies) tally.clear();
        std::fill(above.begin(), above.end(), 0);
        rows = 0;
    }

    void fill(const Plan& plan) {
        skips.assign(plan.features(), 0);
        for (int64_t f = 0; f < plan.features(); ++f)
            for (int64_t j = 0; j < plan.number(f); ++j) skips[f] += floor_to<S>(plan.edges_of(f)[j]).always;
        keys.assign(plan.keys, kNever<KeyOf<S>>);
        for (const Panel& panel : plan.panels)
            for (int lane = panel.first; lane < kLanes; ++lane) {
                const int64_t f = panel.features[lane];
                if (!plan.searched(f)) lay(plan, f, panel.table + lane, kLanes);
            }
        for (int64_t f = 0; f < plan.features(); ++f)
            if (plan.searched(f)) lay(plan, f, plan.tables[f], 1);
        above.resize(plan.panel_keys);
        tallies.resize(plan.panels.size());
        for (size_t p = 0; p < tallies.size(); ++p)
            for (int lane = 0; lane < kLanes; ++lane)
                tallies[p].shift[lane] = plan.shifts[plan.panels[p].features[lane]];
        clear();
        if constexpr (std::is_same_v<S, float>) fit(plan);
    }

private:
    void fit(const Plan& plan) {
        if (best_level() != kAvx2) return;
        grids.resize(plan.panels.size());
        bool any = false;
        for (size_t p = 0; p < grids.size(); ++p) {
            const Panel& panel = plan.panels[p];
            Grid& grid = grids[p];
            grid.clear();
            grid.usable = panel.number >= kFewEdges;
            for (int lane = 0; lane < kLanes && grid.usable; ++lane) {
                const int64_t f = panel.features[lane], number = plan.number(f);
                float edges[kMostEdges];
                grid.usable = number <= kMostEdges;
                for (int64_t j = 0; j < number && grid.usable; ++j)
                    edges[j] = static_cast<float>(double_of_key<float>(floor_to<float>(plan.edges_of(f)[j]).key));
                grid.usable = grid.usable && grid.fit(lane, edges, number, plan.shifts[f]);
                if (lane < panel.first) grid.forget_edges(lane);
            }
            any |= grid.usable;
        }
        if (!any) grids = {};
    }

    void lay(const Plan& plan, int64_t f, int64_t at, int64_t stride) noexcept {
        for (int64_t j = skips[f]; j < plan.number(f); ++j, at += stride)
            keys[at] = floor_to<S>(plan.edges_of(f)[j]).key;
    }
};

}  // namespace fastserve::number
