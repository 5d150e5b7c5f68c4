// A small pool of helper threads for the kernels. Not OpenMP: a second OpenMP runtime beside torch's would keep its
// own threads spinning on the same cores.
#pragma once

#include <cstddef>
#include <functional>

namespace tilewright {

// Calls work(item) for every item in [0, items), on the caller and up to threads - 1 helpers, and returns when all are
// done. Items are claimed one by one. When another caller is using the helpers, this one works alone. The first
// exception thrown by `work` is rethrown here.
void parallel(std::size_t items, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace tilewright
