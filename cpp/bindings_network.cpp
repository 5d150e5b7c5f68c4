// The Python face of what a network does between its products. As in bindings.cpp, only lengths and contents that an address is
// made from are checked here.
#include <algorithm>
#include <vector>

#include "bindings.h"
#include <nanobind/stl/vector.h>
#include "network.h"

namespace tilewright {
namespace {

using namespace nb::literals;
using Starts = In<std::int64_t, 1>;

Sequences sequences_of(const Starts& starts, std::size_t panels, std::size_t T) {
  require(T > 0 && T % 16 == 0, "panels need a multiple of 16 tokens");
  require(starts.size() > 1 && starts.data()[0] == 0, "starts must begin with 0 and hold one more than there are sequences");
  const std::int64_t* s = starts.data();
  require(std::is_sorted(s, s + starts.size()), "starts must ascend");
  require((static_cast<std::size_t>(s[starts.size() - 1]) + T - 1) / T == panels, "panels do not fit the tokens");
  return {s, starts.size() - 1};
}

const char* bind_norm(const std::string& isa, const In<float, 3>& x, const std::optional<In<float, 3>>& residual,
                      const std::optional<Out<float, 3>>& sum, const In<float, 1>& scale, const std::optional<In<float, 1>>& shift,
                      const Out<float, 3>& y, float epsilon, bool centred, std::size_t threads) {
  const std::size_t P = x.shape(0), F = x.shape(1), T = x.shape(2);
  const auto alike = [&](const auto& a) { return a.shape(0) == P && a.shape(1) == F && a.shape(2) == T; };
  require(T > 0 && T % 16 == 0 && F > 0, "panels need features and a multiple of 16 tokens");
  require(alike(y) && residual.has_value() == sum.has_value(), "y does not fit x, or sum and residual are not both there");
  require(!residual || (alike(*residual) && alike(*sum)), "residual and sum do not fit x");
  require(scale.size() == F && (!shift || shift->size() == F), "scale and shift do not fit the features");
  const Isa& bodies = isa_of(isa);
  const NormJob job{x.data(), residual ? residual->data() : nullptr, sum ? sum->data() : nullptr, scale.data(),
                    shift ? shift->data() : nullptr, y.data(), F, T, T / bodies.lanes, epsilon, centred};
  const nb::gil_scoped_release released;
  norm_panels(bodies, job, P, threads);
  return bodies.name;
}

const char* bind_attention(const std::string& isa, const In<float, 3>& q, const In<float, 3>& k, const In<float, 3>& v,
                           const Out<float, 3>& out, const Starts& starts, std::size_t queries, std::size_t keys, bool causal,
                           float scale, std::size_t threads) {
  const std::size_t P = q.shape(0), T = q.shape(2);
  const Sequences s = sequences_of(starts, P, T);
  require(keys > 0 && queries > 0 && queries % keys == 0 && q.shape(1) % queries == 0, "heads do not fit the features");
  const Heads heads{queries, keys, q.shape(1) / queries};
  const auto fits = [&](const auto& a, std::size_t rows) { return a.shape(0) == P && a.shape(1) == rows && a.shape(2) == T; };
  require(fits(k, keys * heads.depth) && fits(v, keys * heads.depth) && fits(out, queries * heads.depth),
          "k, v and out do not fit q and the heads");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  attention_panels(bodies, s, heads, q.data(), k.data(), v.data(), out.data(), T, causal, scale, threads);
  return bodies.name;
}

const char* bind_embed(const std::string& isa, const std::vector<In<float, 2>>& tables, const In<std::int64_t, 2>& ids,
                       const Out<float, 3>& panels, std::size_t threads) {
  const std::size_t count = ids.shape(0), tokens = ids.shape(1), F = panels.shape(1), T = panels.shape(2);
  require(count > 0 && tables.size() == count, "there must be one row of ids for each table");
  require(T > 0 && T % 16 == 0 && panels.shape(0) == (tokens + T - 1) / T, "panels do not fit the tokens");
  std::vector<const float*> rows;
  for (std::size_t i = 0; i < count; ++i) {
    require(tables[i].shape(1) == F, "the tables have other widths than the panels");
    const std::int64_t* id = ids.data() + i * tokens;
    const auto most = static_cast<std::int64_t>(tables[i].shape(0));
    require(std::all_of(id, id + tokens, [&](std::int64_t a) { return a >= 0 && a < most; }), "an id is outside its table");
    rows.push_back(tables[i].data());
  }
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  embed_panels(bodies, rows.data(), ids.data(), count, tokens, F, T, panels.data(), threads);
  return bodies.name;
}

const char* bind_pool(const std::string& isa, const In<float, 3>& panels, const Starts& starts, const Out<float, 2>& y, bool mean,
                      std::size_t threads) {
  const Sequences s = sequences_of(starts, panels.shape(0), panels.shape(2));
  require(y.shape(0) == s.count && y.shape(1) == panels.shape(1), "y does not fit the sequences and features");
  for (std::size_t i = 0; i < s.count; ++i) require(s.starts[i] < s.starts[i + 1], "an empty sequence has nothing to pool");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  pool_panels(s, panels.data(), panels.shape(1), panels.shape(2), mean, y.data(), threads);
  return bodies.name;
}

}  // namespace

void bind_network(nb::module_& module) {
  module.def("norm_panels", &bind_norm, "isa"_a, "x"_a.noconvert(), "residual"_a.noconvert().none(), "sum"_a.noconvert().none(),
             "scale"_a.noconvert(), "shift"_a.noconvert().none(), "y"_a.noconvert(), "epsilon"_a, "centred"_a, "threads"_a);
  module.def("attention_panels", &bind_attention, "isa"_a, "q"_a.noconvert(), "k"_a.noconvert(), "v"_a.noconvert(),
             "out"_a.noconvert(), "starts"_a.noconvert(), "queries"_a, "keys"_a, "causal"_a, "scale"_a, "threads"_a);
  module.def("embed_panels", &bind_embed, "isa"_a, "tables"_a, "ids"_a.noconvert(), "panels"_a.noconvert(), "threads"_a);
  module.def("pool_panels", &bind_pool, "isa"_a, "panels"_a.noconvert(), "starts"_a.noconvert(), "y"_a.noconvert(), "mean"_a,
             "threads"_a);
}

}  // namespace tilewright
