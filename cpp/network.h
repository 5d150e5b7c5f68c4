// What a network does between its products, on panels: normalisation, attention, embedding, pooling. Token t of a batch
// stands in panel t / T at lane t % T; sequences follow one another without padding, so one panel may hold parts of several.
#pragma once

#include <cstddef>
#include <cstdint>

#include "jobs.h"

namespace tilewright {

struct Sequences {
  const std::int64_t* starts;  // count + 1 tokens, ascending: sequence i is [starts[i], starts[i + 1])
  std::size_t count;
};

struct Heads {
  std::size_t queries, keys, depth;  // heads of queries, a multiple of those of keys and values; features of one
};

// x, residual, sum and y[panels][features][T]; `sum` is where x + residual goes.
void norm_panels(const Isa&, NormJob whole, std::size_t panels, std::size_t threads);

// q and out[panels][queries * depth][T], k and v[panels][keys * depth][T].
void attention_panels(const Isa&, const Sequences&, const Heads&, const float* q, const float* k, const float* v, float* out,
                      std::size_t T, bool causal, float scale, std::size_t threads);

// The sum of one row of each table for every token: ids[tables][tokens], table i [..][features].
void embed_panels(const Isa&, const float* const* tables, const std::int64_t* ids, std::size_t count, std::size_t tokens,
                  std::size_t features, std::size_t T, float* panels, std::size_t threads);

// Of every sequence its first token, or the mean of its tokens: y[sequences][features].
void pool_panels(const Sequences&, const float* panels, std::size_t features, std::size_t T, bool mean, float* y,
                 std::size_t threads);

}  // namespace tilewright
