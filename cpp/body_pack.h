// Row-major activations <-> feature-major panels, one square block of lanes x lanes at a time.

template <class V>
inline void pack_block(const float* x, std::size_t ld_x, std::size_t tokens, std::size_t features, float* panel,
                       std::size_t ld) {
  typename V::T r[V::lanes];
  const bool whole = features >= V::lanes;
#pragma GCC unroll 16
  for (std::size_t i = 0; i < V::lanes; ++i) {
    if (i >= tokens) r[i] = V::zero();
    else r[i] = whole ? V::load(x + i * ld_x) : V::load_part(x + i * ld_x, features);
  }
  V::transpose(r);
  if (whole) {
#pragma GCC unroll 16
    for (std::size_t i = 0; i < V::lanes; ++i) V::store(panel + i * ld, r[i]);
  } else {
    for (std::size_t i = 0; i < features; ++i) V::store(panel + i * ld, r[i]);
  }
}

template <class V>
inline void pack_as(const float* x, std::size_t ld_x, std::size_t tokens, std::size_t features, float* panel,
                    std::size_t ld) {
  for (std::size_t t = 0; t < ld; t += V::lanes) {
    const std::size_t left = t < tokens ? tokens - t : 0;
    const float* from = x + t * ld_x;
    std::size_t k = 0;
    if (left >= V::lanes) {
      // The common case is separate: with constant counts the block compiles to straight-line code.
      for (; k + V::lanes <= features; k += V::lanes) pack_block<V>(from + k, ld_x, V::lanes, V::lanes, panel + k * ld + t, ld);
    }
    for (; k < features; k += V::lanes) pack_block<V>(left ? from + k : x, ld_x, left, features - k, panel + k * ld + t, ld);
  }
}

inline void pack(const float* x, std::size_t ld_x, std::size_t tokens, std::size_t features, float* panel, std::size_t ld) {
  if (ld % Wide::lanes == 0) pack_as<Wide>(x, ld_x, tokens, features, panel, ld);
  else if (ld % Mid::lanes == 0) pack_as<Mid>(x, ld_x, tokens, features, panel, ld);
  else pack_as<Narrow>(x, ld_x, tokens, features, panel, ld);
}

template <class V>
inline void unpack_block(const float* panel, std::size_t ld, std::size_t tokens, std::size_t features, float* y,
                         std::size_t ld_y) {
  typename V::T r[V::lanes];
#pragma GCC unroll 16
  for (std::size_t i = 0; i < V::lanes; ++i) r[i] = i < features ? V::load(panel + i * ld) : V::zero();
  V::transpose(r);
  if (tokens >= V::lanes && features >= V::lanes) {
#pragma GCC unroll 16
    for (std::size_t i = 0; i < V::lanes; ++i) V::store(y + i * ld_y, r[i]);
    return;
  }
  const std::size_t last = tokens < V::lanes ? tokens : V::lanes;
  for (std::size_t i = 0; i < last; ++i) {
    if (features >= V::lanes) V::store(y + i * ld_y, r[i]);
    else V::store_part(y + i * ld_y, features, r[i]);
  }
}

inline void unpack(const float* panel, std::size_t ld, std::size_t tokens, std::size_t features, float* y,
                   std::size_t ld_y) {
  constexpr std::size_t L = Wide::lanes;
  for (std::size_t t = 0; t < tokens; t += L) {
    std::size_t n = 0;
    if (t + L <= tokens) {
      for (; n + L <= features; n += L) unpack_block<Wide>(panel + n * ld + t, ld, L, L, y + t * ld_y + n, ld_y);
    }
    for (; n < features; n += L) {
      unpack_block<Wide>(panel + n * ld + t, ld, tokens - t, features - n, y + t * ld_y + n, ld_y);
    }
  }
}
