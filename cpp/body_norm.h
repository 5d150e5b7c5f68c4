// Layer norm and RMS norm over the features of a panel: lanes are tokens, so every sum is vertical.

template <int B>
inline void norm_strip(const NormJob& job, std::size_t token) {
  using V = Wide;
  const std::size_t ld = job.ld;
  const float* x = job.x + token;
  if (job.residual) {
    const float* r = job.residual + token;
    float* sum = job.sum + token;
    for (std::size_t f = 0; f < job.features; ++f) {
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) {
        const std::size_t at = f * ld + b * V::lanes;
        V::store(sum + at, V::add(V::load(x + at), V::load(r + at)));
      }
    }
    x = sum;
  }
  const typename V::T share = V::set(1.0f / static_cast<float>(job.features));
  typename V::T mean[B], root[B];
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) mean[b] = V::zero();
  if (job.centred) {
    for (std::size_t f = 0; f < job.features; ++f) {
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) mean[b] = V::add(mean[b], V::load(x + f * ld + b * V::lanes));
    }
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) mean[b] = V::mul(mean[b], share);
  }
  // The squares of what is left after the mean: squares first, mean after, cancels where the mean is large.
  typename V::T square[B], minus[B];
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    square[b] = V::zero();
    minus[b] = V::mul(mean[b], V::set(-1.0f));
  }
  for (std::size_t f = 0; f < job.features; ++f) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      const typename V::T left = V::add(V::load(x + f * ld + b * V::lanes), minus[b]);
      square[b] = V::fma(left, left, square[b]);
    }
  }
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    root[b] = V::div(V::set(1.0f), V::root(V::fma(square[b], share, V::set(job.epsilon))));
  }
  float* y = job.y + token;
  for (std::size_t f = 0; f < job.features; ++f) {
    const typename V::T scale = V::set(job.scale[f]), shift = V::set(job.shift ? job.shift[f] : 0.0f);
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      const std::size_t at = f * ld + b * V::lanes;
      V::store(y + at, V::fma(V::mul(V::add(V::load(x + at), minus[b]), root[b]), scale, shift));
    }
  }
}

inline void norm(const NormJob& job) {
  std::size_t done = 0;
  for (; done + 3 <= job.vectors; done += 3) norm_strip<3>(job, done * Wide::lanes);
  for (; done < job.vectors; ++done) norm_strip<1>(job, done * Wide::lanes);
}
