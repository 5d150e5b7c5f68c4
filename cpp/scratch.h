// Scratch memory of one thread: 64-byte aligned, grown when needed, kept for the next call, freed with the thread.
#pragma once

#include <cstddef>

namespace tilewright {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  // `count` floats with unspecified contents, valid until the next call. Throws std::bad_alloc.
  float* get(std::size_t count);

 private:
  float* data_ = nullptr;
  std::size_t size_ = 0;
};

// The calling thread's buffers: packed activations, and sums on their way out.
Scratch& packed_scratch();
Scratch& output_scratch();

// Tests fill every buffer with NaN when it is handed out, so that a read of stale scratch shows in the result.
void poison_scratch(bool on);

}  // namespace tilewright
