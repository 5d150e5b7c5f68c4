#include "cpu.h"

namespace tilewright {
namespace {

#if defined(TILEWRIGHT_X86)
constexpr bool x86 = true;
// __builtin_cpu_supports also checks that the operating system saves the wider registers.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#else
constexpr bool x86 = false;
bool has_avx2() { return false; }
bool has_avx512() { return false; }
#endif

}  // namespace

const std::vector<Candidate>& candidates() {
  static const std::vector<Candidate> list = {
      {"avx512", "avx512f avx512bw avx512dq avx512vl fma", x86, has_avx512()},
      {"avx2", "avx2 fma", x86, has_avx2()},
      {"generic", "", true, true},
  };
  return list;
}

const Isa* find_isa(std::string_view name) {
  for (const Candidate& c : candidates()) {
    if (c.name != name || !c.available) continue;
    if (name == "avx512") return avx512_isa();
    if (name == "avx2") return avx2_isa();
    return generic_isa();
  }
  return nullptr;
}

}  // namespace tilewright
