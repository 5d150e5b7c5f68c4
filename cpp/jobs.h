// What the driver hands to the bodies of one instruction set: plain data, no vector types, no templates.
// Every isa_*.cpp sees these same definitions, so nothing here may depend on a -m flag.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tilewright {

enum class Activation : int { none, relu, gelu, gelu_tanh, silu, tanh };

// Kept columns of a weight, 16 or 32 bits wide.
struct Columns {
  const void* data;
  bool wide;  // true: uint32_t
};

// One strip of tokens: `vectors` vectors of an activation panel stored [feature][ld].
struct Strip {
  const float* panel;
  float* out;            // row of original output `first`; rows are `ld_out` floats apart
  std::size_t ld;        // floats between two features of the panel
  std::size_t ld_out;
  std::size_t vectors;
  std::int64_t first;    // original output stored at `out`
};

// Tiles [begin, end) of a weight against one strip. Every output starts from its bias.
struct TileJob {
  Strip strip;
  const float* values;
  Columns columns;
  const std::int64_t* pointers;
  const std::int32_t* rows;  // stored output -> original output, or null
  const float* bias;         // by original output, or null
  std::size_t tile, stored;  // outputs a tile, stored outputs in all
  std::size_t begin, end;
};

// Rows [begin, end) of a CSR weight against one strip. Row r uses elements [start, start + count) where
// start = pointers[r] when there are pointers, else r * stride + offset with a fixed count.
struct RowJob {
  Strip strip;
  const float* values;
  Columns columns;
  const std::int64_t* pointers;
  std::size_t stride, offset, count;
  const std::int32_t* rows;
  const float* bias;
  bool accumulate;  // add to what `out` holds; the bias is then ignored
  std::size_t begin, end;
};

// Tiles [begin, end) against 1 to 8 tokens. `x` holds [feature][ld] with ld = 1 (one token), 4 or 8;
// sums are added to y[token * ld_y + original output].
struct SmallJob {
  const float* x;
  std::size_t ld, tokens;
  float* y;
  std::size_t ld_y;
  const float* values;
  Columns columns;
  const std::int64_t* pointers;
  const std::int32_t* rows;
  std::size_t tile, stored;
  std::size_t begin, end;
};

// One instruction set: what it is called and its bodies. Panels are 64-byte aligned; x and y need no alignment.
struct Isa {
  const char* name;
  std::size_t lanes;         // floats a vector
  std::size_t tile_vectors;  // most vectors a strip of the tile kernel keeps in registers
  std::size_t row_vectors;   // the same for the row kernel
  // x[tokens][ld_x], columns [0, features) -> panel[features][ld], missing tokens up to ld are zero.
  void (*pack)(const float* x, std::size_t ld_x, std::size_t tokens, std::size_t features, float* panel, std::size_t ld);
  // panel[features][ld] -> y[tokens][ld_y], columns [0, features).
  void (*unpack)(const float* panel, std::size_t ld, std::size_t tokens, std::size_t features, float* y, std::size_t ld_y);
  void (*tiles)(const TileJob&);
  void (*rows)(const RowJob&);
  void (*small)(const SmallJob&);
  void (*activate)(float* values, std::size_t count, Activation);
  // Runs `rounds` of independent register-only FMAs; returns how many floating-point operations that was.
  double (*peak)(std::size_t rounds);
};

const Isa* generic_isa();
const Isa* avx2_isa();    // null when this build has no such body
const Isa* avx512_isa();

}  // namespace tilewright
