// Python bindings of the kernels. Error messages for users are written in Python; here every length that a body relies
// on is checked again, so that no call can access memory beyond an array. The contents (column indices, order of
// pointers) are trusted, because KernelArrays.of has validated them.
#include <time.h>

#include <algorithm>
#include <optional>
#include <string>

#include "bindings.h"
#include "linear.h"
#include "scratch.h"

using namespace nb::literals;

namespace tilewright {
namespace {

using AnyColumns = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

Columns columns_of(const AnyColumns& c) {
  const bool wide = c.dtype() == nb::dtype<std::uint32_t>();
  require(wide || c.dtype() == nb::dtype<std::uint16_t>(), "columns must be uint16 or uint32");
  return {c.data(), wide};
}

// The plain arrays of a packed weight; keeps them alive and knows their lengths.
struct Arrays {
  std::size_t N, K, tile, n, m, few;
  In<float, 1> values;
  AnyColumns columns;
  In<std::int64_t, 1> pointers;
  std::optional<In<std::int32_t, 1>> rows;
  std::optional<In<float, 1>> residual_values;
  std::optional<AnyColumns> residual_columns;
  std::optional<In<std::int64_t, 1>> residual_pointers;

  Weight view() const {
    require(tile > 0 && pointers.size() > 0, "tile must be positive and pointers must not be empty");
    const std::size_t tiles = pointers.size() - 1;
    const std::size_t stored = rows ? rows->size() : N;
    require(stored <= N && tiles == (stored + tile - 1) / tile, "pointers do not fit the number of stored outputs");
    const std::int64_t* p = pointers.data();
    const std::int64_t before_last = tiles > 0 ? p[tiles - 1] : 0;
    require(p[0] == 0 && before_last >= 0 && p[tiles] >= before_last &&
                static_cast<std::size_t>(p[tiles]) == columns.size(), "pointers do not fit the columns");
    const std::size_t width = tiles > 0 ? stored - (tiles - 1) * tile : 0;
    require(values.size() == static_cast<std::size_t>(before_last) * tile +
                                 static_cast<std::size_t>(p[tiles] - before_last) * width,
            "values do not fit the pointers");
    require(few >= 1 && few <= 8 && (tile > 1 || few == 1), "outputs go into the lanes for 1 to 8 tokens, for 1 with tile 1");
    if (m > 0) {
      require(tile == 1 && n > 0 && n <= m, "n:m needs tile 1 and 1 <= n <= m");
      require(columns.size() == stored * (K / m * n + std::min(n, K % m)), "columns do not fit n:m");
    }
    Weight w{N, K, tile, stored, tiles, values.data(), columns_of(columns), p, rows ? rows->data() : nullptr, n, m, few, {}};
    if (residual_values || residual_columns || residual_pointers) {
      require(residual_values && residual_columns && residual_pointers, "a residual needs values, columns and pointers");
      require(residual_pointers->size() == N + 1, "residual pointers do not fit the outputs");
      const std::int64_t* q = residual_pointers->data();
      require(q[0] == 0 && q[N] >= 0 && static_cast<std::size_t>(q[N]) == residual_columns->size() &&
                  residual_columns->size() == residual_values->size(), "residual arrays do not fit each other");
      w.residual = {residual_values->data(), columns_of(*residual_columns), q};
    }
    return w;
  }
};

Epilogue epilogue_of(const std::optional<In<float, 1>>& bias, std::size_t N, int activation) {
  require(!bias || bias->size() == N, "bias does not fit the outputs");
  require(activation >= 0 && activation <= static_cast<int>(Activation::tanh), "unknown activation code");
  return {bias ? bias->data() : nullptr, static_cast<Activation>(activation)};
}

// Each of these returns the name of the bodies that ran.
const char* bind_linear(const std::string& isa, const Arrays& arrays, const In<float, 2>& x, const Out<float, 2>& out,
                 const std::optional<In<float, 1>>& bias, int activation, std::size_t threads) {
  const Weight w = arrays.view();
  const Epilogue e = epilogue_of(bias, w.N, activation);
  require(x.shape(1) == w.K && out.shape(1) == w.N && out.shape(0) == x.shape(0), "x and out do not fit the weight");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  linear(bodies, w, e, x.data(), x.shape(0), out.data(), threads);
  return bodies.name;
}

const char* bind_linear_panels(const std::string& isa, const Arrays& arrays, const In<float, 3>& x, const Out<float, 3>& out,
                               std::size_t M, const std::optional<In<float, 1>>& bias, int activation, std::size_t threads) {
  const Weight w = arrays.view();
  const Epilogue e = epilogue_of(bias, w.N, activation);
  const std::size_t T = x.shape(2);
  require(T > 0 && T % 16 == 0 && out.shape(2) == T, "panels need a multiple of 16 tokens");
  require(x.shape(1) == w.K && out.shape(1) == w.N, "panels do not fit the weight");
  require(x.shape(0) == (M + T - 1) / T && out.shape(0) == x.shape(0), "panels do not fit the tokens");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  linear_panels(bodies, w, e, x.data(), M, T, out.data(), threads);
  return bodies.name;
}

const char* bind_pack(const std::string& isa, const In<float, 2>& x, const Out<float, 3>& panels, std::size_t threads) {
  const std::size_t T = panels.shape(2), M = x.shape(0);
  require(T > 0 && T % 16 == 0 && panels.shape(0) == (M + T - 1) / T && panels.shape(1) == x.shape(1), "panels do not fit x");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  pack_panels(bodies, x.data(), M, x.shape(1), T, panels.data(), threads);
  return bodies.name;
}

const char* bind_unpack(const std::string& isa, const In<float, 3>& panels, const Out<float, 2>& y, std::size_t threads) {
  const std::size_t T = panels.shape(2), M = y.shape(0);
  require(T > 0 && T % 16 == 0 && panels.shape(0) == (M + T - 1) / T && panels.shape(1) == y.shape(1), "panels do not fit y");
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  unpack_panels(bodies, panels.data(), M, y.shape(1), T, y.data(), threads);
  return bodies.name;
}

// Seconds this thread has spent on a core; unlike wall time, this does not depend on how busy the machine is.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// FLOP/s of a register-only loop of multiply-adds that runs for at least `seconds`.
double fma_peak(const std::string& isa, double seconds) {
  const Isa& bodies = isa_of(isa);
  const nb::gil_scoped_release released;
  const double start = thread_seconds();
  double done = 0, spent = 0;
  while (spent < seconds) {
    done += bodies.peak(20000);
    spent = thread_seconds() - start;
  }
  return done / spent;
}

nb::list list_candidates() {
  nb::list out;
  for (const Candidate& c : candidates()) {
    nb::dict d;
    d["name"] = c.name;
    d["needs"] = c.needs;
    d["built"] = c.built;
    d["available"] = c.available;
    out.append(d);
  }
  return out;
}

}  // namespace
}  // namespace tilewright

NB_MODULE(_native, module) {
  using namespace tilewright;
  nb::class_<Arrays>(module, "Arrays")
      .def("__init__",
           [](Arrays* self, std::size_t N, std::size_t K, std::size_t tile, std::size_t n, std::size_t m, std::size_t few,
              In<float, 1> values, AnyColumns columns, In<std::int64_t, 1> pointers,
              std::optional<In<std::int32_t, 1>> rows, std::optional<In<float, 1>> residual_values,
              std::optional<AnyColumns> residual_columns, std::optional<In<std::int64_t, 1>> residual_pointers) {
             new (self) Arrays{N, K, tile, n, m, few, values, columns, pointers, rows, residual_values, residual_columns,
                               residual_pointers};
             self->view();
           },
           "N"_a, "K"_a, "tile"_a, "n"_a, "m"_a, "few"_a, "values"_a.noconvert(), "columns"_a.noconvert(), "pointers"_a.noconvert(),
           "rows"_a.noconvert().none(), "residual_values"_a.noconvert().none(), "residual_columns"_a.noconvert().none(),
           "residual_pointers"_a.noconvert().none());
  module.def("linear", &bind_linear, "isa"_a, "arrays"_a, "x"_a.noconvert(), "out"_a.noconvert(),
             "bias"_a.noconvert().none(), "activation"_a, "threads"_a);
  module.def("linear_panels", &bind_linear_panels, "isa"_a, "arrays"_a, "x"_a.noconvert(), "out"_a.noconvert(), "M"_a,
             "bias"_a.noconvert().none(), "activation"_a, "threads"_a);
  module.def("pack_panels", &bind_pack, "isa"_a, "x"_a.noconvert(), "panels"_a.noconvert(), "threads"_a);
  module.def("unpack_panels", &bind_unpack, "isa"_a, "panels"_a.noconvert(), "y"_a.noconvert(), "threads"_a);
  bind_network(module);
  module.def("fma_peak", &fma_peak, "isa"_a, "seconds"_a);
  module.def("candidates", &list_candidates);
  module.def("poison_scratch", &poison_scratch, "on"_a);
}
