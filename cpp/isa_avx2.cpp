// The bodies compiled for AVX2 with FMA. Only this file gets those -m flags; none of it may run before cpu.cpp has allowed it.
#include "jobs.h"

#if defined(TILEWRIGHT_X86)
#include <immintrin.h>

namespace tilewright::avx2 {
#include "vec_generic.h"

#include "vec_avx2.h"

using Wide = Avx2;
using Mid = Avx2;
using Narrow = Ext4;

#include "body.h"
}  // namespace tilewright::avx2

const tilewright::Isa* tilewright::avx2_isa() {
  static constexpr Isa isa = avx2::describe("avx2");
  return &isa;
}
#else
const tilewright::Isa* tilewright::avx2_isa() { return nullptr; }
#endif
