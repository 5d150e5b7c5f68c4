#include "network.h"

#include <algorithm>
#include <cstring>

#include "pool.h"
#include "scratch.h"

namespace tilewright {
namespace {

struct Run {
  std::size_t begin, end;  // tokens of one sequence in one panel
};

// Calls visit(sequence, run) for every sequence that has tokens in panel p.
template <class Visit>
void for_runs(const Sequences& s, std::size_t p, std::size_t T, Visit visit) {
  const auto first = static_cast<std::int64_t>(p * T), last = static_cast<std::int64_t>((p + 1) * T);
  const std::int64_t* after = std::upper_bound(s.starts, s.starts + s.count, first);
  for (auto i = static_cast<std::size_t>(after - s.starts) - 1; i < s.count && s.starts[i] < last; ++i) {
    const std::int64_t begin = std::max(first, s.starts[i]), end = std::min(last, s.starts[i + 1]);
    if (begin < end) visit(i, Run{static_cast<std::size_t>(begin), static_cast<std::size_t>(end)});
  }
}

std::size_t panels_of(const Sequences& s, std::size_t T) {
  return (static_cast<std::size_t>(s.starts[s.count]) + T - 1) / T;
}

}  // namespace

void norm_panels(const Isa& isa, NormJob whole, std::size_t panels, std::size_t threads) {
  parallel(panels, threads, [&](std::size_t p) {
    const std::size_t at = p * whole.features * whole.ld;
    NormJob job = whole;
    job.x += at;
    job.y += at;
    if (job.residual) {
      job.residual += at;
      job.sum += at;
    }
    isa.norm(job);
  });
}

void attention_panels(const Isa& isa, const Sequences& s, const Heads& heads, const float* q, const float* k, const float* v,
                      float* out, std::size_t T, bool causal, float scale, std::size_t threads) {
  const std::size_t rows = heads.queries * heads.depth, step = heads.keys * heads.depth * T, L = isa.lanes;
  const std::size_t sharing = heads.queries / heads.keys;
  parallel(panels_of(s, T) * heads.queries, threads, [&](std::size_t item) {
    const std::size_t p = item / heads.queries, h = item % heads.queries;
    const std::size_t head = (p * rows + h * heads.depth) * T, shared = h / sharing * heads.depth * T;
    for_runs(s, p, T, [&](std::size_t i, Run run) {
      const std::size_t lane = run.begin - p * T, tokens = run.end - run.begin;
      const std::size_t vector = lane / L, vectors = (lane + tokens + L - 1) / L - vector, width = vectors * L;
      float* sums = output_scratch().get((heads.depth + T) * width);
      isa.attention({q + head + vector * L, k + shared, v + shared, sums, heads.depth, T, step, vectors,
                     static_cast<std::size_t>(s.starts[i]), static_cast<std::size_t>(s.starts[i + 1]), p * T + vector * L, causal,
                     scale, sums + heads.depth * width});
      // Lanes of other sequences hold sums that nobody asked for.
      for (std::size_t d = 0; d < heads.depth; ++d) {
        std::memcpy(out + head + d * T + lane, sums + d * width + (lane - vector * L), tokens * sizeof(float));
      }
    });
  });
}

void embed_panels(const Isa& isa, const float* const* tables, const std::int64_t* ids, std::size_t count, std::size_t tokens,
                  std::size_t features, std::size_t T, float* panels, std::size_t threads) {
  parallel((tokens + T - 1) / T, threads, [&](std::size_t p) {
    const std::size_t here = std::min(T, tokens - p * T);
    float* rows = packed_scratch().get(here * features);
    for (std::size_t t = 0; t < here; ++t) {
      float* row = rows + t * features;
      for (std::size_t i = 0; i < count; ++i) {
        const float* from = tables[i] + static_cast<std::size_t>(ids[i * tokens + p * T + t]) * features;
        if (i == 0) std::memcpy(row, from, features * sizeof(float));
        else for (std::size_t f = 0; f < features; ++f) row[f] += from[f];
      }
    }
    isa.pack(rows, features, here, features, panels + p * features * T, T);
  });
}

void pool_panels(const Sequences& s, const float* panels, std::size_t features, std::size_t T, bool mean, float* y,
                 std::size_t threads) {
  parallel(s.count, threads, [&](std::size_t i) {
    const auto begin = static_cast<std::size_t>(s.starts[i]), end = static_cast<std::size_t>(s.starts[i + 1]);
    float* row = y + i * features;
    std::fill_n(row, features, 0.0f);
    for (std::size_t token = begin, next; token < (mean ? end : begin + 1); token = next) {
      const std::size_t p = token / T;
      next = std::min((p + 1) * T, mean ? end : begin + 1);
      for (std::size_t f = 0; f < features; ++f) {
        const float* lanes = panels + (p * features + f) * T - p * T;
        float sum = 0.0f;
        for (std::size_t t = token; t < next; ++t) sum += lanes[t];
        row[f] += sum;
      }
    }
    if (!mean) return;
    for (std::size_t f = 0; f < features; ++f) row[f] /= static_cast<float>(end - begin);
  });
}

}  // namespace tilewright
