// The bodies compiled for AVX-512 F/BW/DQ/VL. Only this file gets those -m flags; none of it may run before cpu.cpp has allowed it.
#include "jobs.h"

#if defined(TILEWRIGHT_X86)
#include <immintrin.h>

namespace tilewright::avx512 {
#include "vec_generic.h"

#include "vec_avx2.h"
#include "vec_avx512.h"
using Wide = Avx512;
using Mid = Avx2;
using Narrow = Ext4;

#include "body.h"
}  // namespace tilewright::avx512

const tilewright::Isa* tilewright::avx512_isa() {
  static constexpr Isa isa = avx512::describe("avx512");
  return &isa;
}
#else
const tilewright::Isa* tilewright::avx512_isa() { return nullptr; }
#endif
