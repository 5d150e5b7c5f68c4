// The bodies compiled for any CPU this compiler targets: 4 lanes, which is SSE2 on x86-64 and NEON on ARM64.
#include "jobs.h"

namespace tilewright::generic {
#include "vec_generic.h"

using Wide = Ext4;
using Mid = Ext4;
using Narrow = Ext4;

#include "body.h"
}  // namespace tilewright::generic

const tilewright::Isa* tilewright::generic_isa() {
  static constexpr Isa isa = generic::describe("generic");
  return &isa;
}
