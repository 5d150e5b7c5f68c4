// The tile kernel: W outputs x B vectors of tokens stay in registers while the tile's kept columns are traversed. Each
// kept column costs B loads of the panel row and W broadcasts for W * B multiply-adds.

// Registers: W*B accumulators, B panel vectors and one broadcast must fit in 32 (AVX-512) or 16.
constexpr std::size_t tile_outputs = Wide::lanes == 16 ? 8 : 4;
constexpr std::size_t tile_vectors = 3;

template <int W, int B, class Index>
TILEWRIGHT_INLINE void tile_strip(const TileJob& job, const Index* columns, std::size_t count, const float* values,
                       std::size_t width, std::size_t output, std::size_t token) {
  typename Wide::T acc[W][B];
  float* out[W];
#pragma GCC unroll 16
  for (int j = 0; j < W; ++j) {
    const std::int64_t n = job.rows ? job.rows[output + j] : static_cast<std::int64_t>(output + j);
    out[j] = job.strip.out + (n - job.strip.first) * static_cast<std::int64_t>(job.strip.ld_out) + token;
    const typename Wide::T start = Wide::set(job.bias ? job.bias[n] : 0.0f);
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) acc[j][b] = start;
  }
  const float* panel = job.strip.panel + token;
  const std::size_t ld = job.strip.ld;
  for (std::size_t i = 0; i < count; ++i) {
    const float* row = panel + columns[i] * ld;
    // In a network the values come from beyond the L2 cache at every call; a benchmark that repeats one weight hides that.
    __builtin_prefetch(values + prefetch_floats);
    typename Wide::T x[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) x[b] = Wide::load(row + b * Wide::lanes);
#pragma GCC unroll 16
    for (int j = 0; j < W; ++j) {
      const typename Wide::T w = Wide::set(values[j]);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) acc[j][b] = Wide::fma(w, x[b], acc[j][b]);
    }
    values += width;
  }
#pragma GCC unroll 16
  for (int j = 0; j < W; ++j) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) Wide::store(out[j] + b * Wide::lanes, acc[j][b]);
  }
}

template <int B, class Index>
inline void tile_columns(const TileJob& job, std::size_t t, std::size_t token) {
  const auto start = static_cast<std::size_t>(job.pointers[t]);
  const std::size_t count = static_cast<std::size_t>(job.pointers[t + 1]) - start;
  const std::size_t first = t * job.tile;
  const std::size_t width = first + job.tile <= job.stored ? job.tile : job.stored - first;
  const Index* columns = static_cast<const Index*>(job.columns.data) + start;
  const float* values = job.values + start * job.tile;
  std::size_t j = 0;
  for (; j + tile_outputs <= width; j += tile_outputs) {
    tile_strip<tile_outputs, B>(job, columns, count, values + j, width, first + j, token);
  }
  if constexpr (tile_outputs == 8) {
    if (width - j >= 4) {
      tile_strip<4, B>(job, columns, count, values + j, width, first + j, token);
      j += 4;
    }
  }
  switch (width - j) {
    case 3: return tile_strip<3, B>(job, columns, count, values + j, width, first + j, token);
    case 2: return tile_strip<2, B>(job, columns, count, values + j, width, first + j, token);
    case 1: return tile_strip<1, B>(job, columns, count, values + j, width, first + j, token);
    default: return;
  }
}

template <class Index>
inline void tiles_of(const TileJob& job) {
  const std::size_t strips = (job.strip.vectors + tile_vectors - 1) / tile_vectors;
  for (std::size_t t = job.begin; t < job.end; ++t) {
    std::size_t token = 0, left = job.strip.vectors;
    for (std::size_t s = strips; s > 0; --s) {
      // Even strips: 4 vectors become 2 + 2, not 3 + 1, because a lone vector starves the multiply-adds.
      const std::size_t take = (left + s - 1) / s;
      if (take == 3) tile_columns<3, Index>(job, t, token);
      else if (take == 2) tile_columns<2, Index>(job, t, token);
      else tile_columns<1, Index>(job, t, token);
      token += take * Wide::lanes;
      left -= take;
    }
  }
}

inline void tiles(const TileJob& job) {
  if (job.columns.wide) tiles_of<std::uint32_t>(job);
  else tiles_of<std::uint16_t>(job);
}
