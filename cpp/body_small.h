// One to eight tokens: lanes are outputs, so values are streamed once as whole vectors and every kept column
// broadcasts M activations. Bound by memory, so time is proportional to density.

// The values come from beyond the L2 cache, once. With several tokens a column fills so much of the reorder window that
// the hardware prefetcher falls behind; with one token and full vectors it is faster on its own.
constexpr std::size_t prefetch_floats = 2048;

// V outputs x M tokens, U columns at a time; U separate sums hide the latency of the multiply-add.
template <class V, int M, class Index>
inline void small_sums(const float* x, std::size_t ld, const Index* columns, std::size_t count, const float* values,
                       std::size_t width, std::size_t part, typename V::T (&sum)[M]) {
  constexpr int U = M == 1 ? 8 : M == 2 ? 4 : M <= 4 ? 2 : 1;
  typename V::T acc[U][M];
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) {
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[u][m] = V::zero();
  }
  std::size_t i = 0;
  for (; i + U <= count; i += U) {
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) {
      const float* at = values + u * width;
      const typename V::T w = part == V::lanes ? V::load(at) : V::load_part(at, part);
      const float* xs = x + columns[i + u] * ld;
      if constexpr (M > 1 || V::lanes < 16) __builtin_prefetch(at + prefetch_floats);
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) acc[u][m] = V::fma(w, V::set(xs[m]), acc[u][m]);
    }
    values += U * width;
  }
  for (; i < count; ++i) {
    const typename V::T w = part == V::lanes ? V::load(values) : V::load_part(values, part);
    const float* xs = x + columns[i] * ld;
#pragma GCC unroll 8
    for (int m = 0; m < M; ++m) acc[0][m] = V::fma(w, V::set(xs[m]), acc[0][m]);
    values += width;
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    sum[m] = acc[0][m];
#pragma GCC unroll 8
    for (int u = 1; u < U; ++u) sum[m] = V::add(sum[m], acc[u][m]);
  }
}

template <class V, int M, class Index>
inline void small_outputs(const SmallJob& job, const Index* columns, std::size_t count, const float* values,
                          std::size_t width, std::size_t part, std::size_t output) {
  typename V::T sum[M];
  if (part == V::lanes) small_sums<V, M>(job.x, job.ld, columns, count, values, width, V::lanes, sum);
  else small_sums<V, M>(job.x, job.ld, columns, count, values, width, part, sum);
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m) {
    float* y = job.y + m * job.ld_y;
    if (!job.rows && part == V::lanes) {
      V::store(y + output, V::add(V::load(y + output), sum[m]));
      continue;
    }
    float one[V::lanes];
    V::store(one, sum[m]);
    for (std::size_t j = 0; j < part; ++j) y[job.rows ? static_cast<std::size_t>(job.rows[output + j]) : output + j] += one[j];
  }
}

// One output with its own columns: one dot product per token.
template <int M, class Index>
inline void small_dot(const SmallJob& job, const Index* columns, std::size_t count, const float* values, std::size_t output) {
  constexpr int U = M <= 2 ? 4 : 2;
  float acc[U][M] = {};
  std::size_t i = 0;
  for (; i + U <= count; i += U) {
#pragma GCC unroll 4
    for (int u = 0; u < U; ++u) {
      const float* xs = job.x + columns[i + u] * job.ld;
#pragma GCC unroll 8
      for (int m = 0; m < M; ++m) acc[u][m] += values[i + u] * xs[m];
    }
  }
  for (; i < count; ++i) {
    for (int m = 0; m < M; ++m) acc[0][m] += values[i] * job.x[columns[i] * job.ld + m];
  }
  const std::size_t n = job.rows ? static_cast<std::size_t>(job.rows[output]) : output;
  for (int m = 0; m < M; ++m) {
    float sum = acc[0][m];
    for (int u = 1; u < U; ++u) sum += acc[u][m];
    job.y[m * job.ld_y + n] += sum;
  }
}

template <int M, class Index>
inline void small_tiles(const SmallJob& job) {
  for (std::size_t t = job.begin; t < job.end; ++t) {
    const auto start = static_cast<std::size_t>(job.pointers[t]);
    const std::size_t count = static_cast<std::size_t>(job.pointers[t + 1]) - start;
    const std::size_t first = t * job.tile;
    const std::size_t width = first + job.tile <= job.stored ? job.tile : job.stored - first;
    const Index* columns = static_cast<const Index*>(job.columns.data) + start;
    const float* values = job.values + start * job.tile;
    if (width == 1) {
      small_dot<M>(job, columns, count, values, first);
      continue;
    }
    std::size_t j = 0;
    for (; j + Wide::lanes <= width; j += Wide::lanes) {
      small_outputs<Wide, M>(job, columns, count, values + j, width, Wide::lanes, first + j);
    }
    if constexpr (Wide::lanes > Mid::lanes) {
      if (width - j >= Mid::lanes) {
        small_outputs<Mid, M>(job, columns, count, values + j, width, Mid::lanes, first + j);
        j += Mid::lanes;
      }
    }
    if constexpr (Mid::lanes > Narrow::lanes) {
      if (width - j >= Narrow::lanes) {
        small_outputs<Narrow, M>(job, columns, count, values + j, width, Narrow::lanes, first + j);
        j += Narrow::lanes;
      }
    }
    if (j < width) small_outputs<Narrow, M>(job, columns, count, values + j, width, width - j, first + j);
  }
}

template <class Index>
inline void small_of(const SmallJob& job) {
  switch (job.tokens) {
    case 1: return small_tiles<1, Index>(job);
    case 2: return small_tiles<2, Index>(job);
    case 3: return small_tiles<3, Index>(job);
    case 4: return small_tiles<4, Index>(job);
    case 5: return small_tiles<5, Index>(job);
    case 6: return small_tiles<6, Index>(job);
    case 7: return small_tiles<7, Index>(job);
    default: return small_tiles<8, Index>(job);
  }
}

inline void small(const SmallJob& job) {
  if (job.columns.wide) small_of<std::uint32_t>(job);
  else small_of<std::uint16_t>(job);
}
