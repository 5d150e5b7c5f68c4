#include "scratch.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <limits>
#include <new>

namespace tilewright {
namespace {
constexpr std::size_t alignment = 64;
std::atomic<bool> poison{false};
}  // namespace

Scratch::~Scratch() { std::free(data_); }

float* Scratch::get(std::size_t count) {
  if (count > size_) {
    if (count > std::numeric_limits<std::size_t>::max() / (2 * sizeof(float))) throw std::bad_alloc();
    const std::size_t bytes = (count * sizeof(float) + alignment - 1) / alignment * alignment;
    std::free(data_);
    size_ = 0;
    data_ = static_cast<float*>(std::aligned_alloc(alignment, bytes));
    if (data_ == nullptr) throw std::bad_alloc();
    size_ = bytes / sizeof(float);
  }
  if (poison.load(std::memory_order_relaxed)) {
    std::fill_n(data_, size_, std::numeric_limits<float>::quiet_NaN());
  }
  return data_;
}

Scratch& packed_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

Scratch& output_scratch() {
  thread_local Scratch scratch;
  return scratch;
}

void poison_scratch(bool on) { poison.store(on, std::memory_order_relaxed); }

}  // namespace tilewright
