// The bodies, written once. An isa_*.cpp names three vector types before including this file, all inside its own
// namespace: Wide (the native width), Mid and Narrow (8 and 4 lanes, for small tiles and few tokens).
//
// Members of a vector type V: V::T is the register, V::lanes its width; zero, set (all lanes), load/store (no alignment needed),
// quad(p): four floats repeated, lane<i>(quad): one of them in all lanes;
// load_part/store_part (first n < lanes lanes, nothing beyond is accessed), fma(a, b, c) = a*b + c, add, mul, div,
// at_least(low, a) and at_most(high, a) (NaN in `a` survives), saturate(x, limit, a): a, but 1 where x >= limit and -1 where
// x <= -limit; root, round to the nearest whole number, power_of_two of a whole number in [-126, 127]; transpose of lanes
// registers.
//
// Only the compiler's own headers are used here: a function template of the standard library compiled with this
// file's -m flags could be the copy that the linker keeps for the whole extension, and would crash on an older CPU.

// For functions that must be inlined into their caller's loop: a call ends in vzeroupper and reloads every constant.
#define TILEWRIGHT_INLINE inline __attribute__((always_inline))

#include "body_activation.h"
#include "body_norm.h"
#include "body_pack.h"
#include "body_rows.h"
#include "body_small.h"
#include "body_tiles.h"
#include "body_attention.h"

// Independent multiply-adds that never leave the registers: the peak of this core. The first factor is
// hidden from the compiler so that the loop cannot be folded away.
inline double peak(std::size_t rounds) {
  constexpr int chains = Wide::lanes == 16 ? 24 : 12;
  typename Wide::T acc[chains];
  for (int i = 0; i < chains; ++i) acc[i] = Wide::set(0.001f * static_cast<float>(i));
  typename Wide::T a = Wide::set(0.999f), b = Wide::set(0.001f);
  asm volatile("" : "+x"(a), "+x"(b));
  for (std::size_t r = 0; r < rounds; ++r) {
#pragma GCC unroll 24
    for (int i = 0; i < chains; ++i) acc[i] = Wide::fma(acc[i], a, b);
  }
  for (int i = 0; i < chains; ++i) asm volatile("" : : "x"(acc[i]));
  return 2.0 * Wide::lanes * chains * static_cast<double>(rounds);
}

// A constant: the function that returns its address must not execute any instruction of this set.
constexpr Isa describe(const char* name) {
  return {name, Wide::lanes, tile_vectors, row_vectors, pack, unpack, tiles, rows, small, activate, norm, attention, peak};
}
