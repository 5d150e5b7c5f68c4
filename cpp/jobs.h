// What the driver passes to the bodies of one instruction set: plain data, no vector types, no templates.
// Every isa_*.cpp shares these definitions, so nothing here may depend on a -m flag.
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
  std::size_t tile, stored;  // outputs per tile, total stored outputs
  std::size_t begin, end;
};

// Rows [begin, end) of a CSR weight against one strip. Row r uses elements [start, start + count) where
// start = pointers[r] if there are pointers, otherwise r * stride + offset with a fixed count.
struct RowJob {
  Strip strip;
  const float* values;
  Columns columns;
  const std::int64_t* pointers;
  std::size_t stride, offset, count;
  const std::int32_t* rows;
  const float* bias;
  bool accumulate;  // add to the contents of `out`; the bias is then ignored
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

// Normalisation of one panel over its features: x, residual, sum and y are [features][ld].
struct NormJob {
  const float* x;
  const float* residual;  // added to x first, or null
  float* sum;             // where x + residual goes; may be x or residual itself; null without a residual
  const float* scale;     // by feature
  const float* shift;     // by feature, or null
  float* y;               // may be x
  std::size_t features, ld, vectors;
  float epsilon;
  bool centred;           // layer norm; otherwise RMS norm
};

// One head of attention for `vectors` vectors of queries, all of them compared with keys [begin, end) of one sequence. The
// rows of q and out are `ld` floats apart. Token t of the keys is in panel t / ld at lane t % ld; panels are `step` floats apart.
struct AttentionJob {
  const float* q;         // [depth][ld], at the first query of the strip
  const float* k;         // the head's rows of panel 0
  const float* v;
  float* out;             // [depth][vectors * lanes]
  std::size_t depth, ld, step, vectors;
  std::size_t begin, end;
  std::size_t query;      // token of the first query; only keys up to a query's own token count where causal
  bool causal;
  float scale;
  float* scores;          // [ld][vectors * lanes]
};

// One instruction set: its name and its bodies. Panels are 64-byte aligned; x and y need no alignment.
struct Isa {
  const char* name;
  std::size_t lanes;         // floats per vector
  std::size_t tile_vectors;  // maximum vectors that a strip of the tile kernel keeps in registers
  std::size_t row_vectors;   // the same for the row kernel
  // x[tokens][ld_x], columns [0, features) -> panel[features][ld], missing tokens up to ld are zero.
  void (*pack)(const float* x, std::size_t ld_x, std::size_t tokens, std::size_t features, float* panel, std::size_t ld);
  // panel[features][ld] -> y[tokens][ld_y], columns [0, features).
  void (*unpack)(const float* panel, std::size_t ld, std::size_t tokens, std::size_t features, float* y, std::size_t ld_y);
  void (*tiles)(const TileJob&);
  void (*rows)(const RowJob&);
  void (*small)(const SmallJob&);
  void (*activate)(float* values, std::size_t count, Activation);
  void (*norm)(const NormJob&);
  void (*attention)(const AttentionJob&);
  // Runs `rounds` of independent register-only FMAs; returns the number of floating-point operations.
  double (*peak)(std::size_t rounds);
};

const Isa* generic_isa();
const Isa* avx2_isa();    // null if this build has no such body
const Isa* avx512_isa();

}  // namespace tilewright
