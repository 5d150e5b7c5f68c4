// y = activation(x @ w.T + bias) for a packed weight: divides the work into panels and chunks of outputs and passes them
// to the bodies of one instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

#include "jobs.h"

namespace tilewright {

// Compressed rows over the original outputs, added to the result of the tiles.
struct Residual {
  const float* values = nullptr;
  Columns columns{};
  const std::int64_t* pointers = nullptr;  // N + 1, or null: no residual
};

struct Weight {
  std::size_t N, K;
  std::size_t tile, stored, tiles;  // outputs per tile, stored outputs, number of tiles
  const float* values;
  Columns columns;
  const std::int64_t* pointers;
  const std::int32_t* rows;  // null: all outputs are stored, in order
  std::size_t n, m;          // n:m with tile 1, otherwise 0
  std::size_t few;           // up to this many tokens, lanes hold outputs
  Residual residual;
};

struct Epilogue {
  const float* bias;  // N, or null
  Activation activation;
};

// x[M][K] and y[M][N], both row-major.
void linear(const Isa&, const Weight&, const Epilogue&, const float* x, std::size_t M, float* y, std::size_t threads);

// x[panels][K][T] and y[panels][N][T] with T a multiple of 16. Tokens from M on are unspecified in y.
void linear_panels(const Isa&, const Weight&, const Epilogue&, const float* x, std::size_t M, std::size_t T, float* y,
                   std::size_t threads);

void pack_panels(const Isa&, const float* x, std::size_t M, std::size_t K, std::size_t T, float* panels,
                 std::size_t threads);
void unpack_panels(const Isa&, const float* panels, std::size_t M, std::size_t N, std::size_t T, float* y,
                   std::size_t threads);

}  // namespace tilewright
