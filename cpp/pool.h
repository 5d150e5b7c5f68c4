// Helper threads for the kernels: those of a GNU OpenMP that the process has already loaded (torch ships one), otherwise
// a small pool of our own. A second pool next to torch's would find the cores occupied by spinning threads.
#pragma once

#include <cstddef>
#include <functional>

namespace tilewright {

// Calls work(item) for every item in [0, items), on the caller and up to threads - 1 helpers, and returns when all are
// done. Items are claimed one by one. If another caller is using our own helpers, this one works alone. The first
// exception thrown by `work` is rethrown here.
void parallel(std::size_t items, std::size_t threads, const std::function<void(std::size_t)>& work);

}  // namespace tilewright
