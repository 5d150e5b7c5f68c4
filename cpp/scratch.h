// Scratch memory of a thread: 64-byte aligned, grown when needed, kept for the next call, freed with the thread.
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

// The calling thread's buffers, for packed activations and for sums to be written.
Scratch& packed_scratch();
Scratch& output_scratch();

// Tests fill every buffer with NaN when it is allocated, so that reading stale scratch shows in the result.
void poison_scratch(bool on);

}  // namespace tilewright
