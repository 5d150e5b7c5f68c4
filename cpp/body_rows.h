// The row kernel (tile 1): one output at a time, B vectors of tokens in registers, every output with its own columns.
// One broadcast and B panel loads for B multiply-adds: it lives on the two loads a cycle of the L1 cache.

constexpr std::size_t row_vectors = Wide::lanes == 16 ? 8 : 4;

template <int B, class Index>
inline void row_strip(const Strip& s, const Index* columns, const float* values, std::size_t count, float* out,
                      float start, bool accumulate, std::size_t token) {
  typename Wide::T even[B], odd[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    even[b] = accumulate ? Wide::load(out + b * Wide::lanes) : Wide::set(start);
    odd[b] = Wide::zero();
  }
  const float* panel = s.panel + token;
  std::size_t i = 0;
  // Two sets of sums: with one, B < 8 chains of four-cycle multiply-adds could not fill two units.
  for (; i + 2 <= count; i += 2) {
    const float* p = panel + columns[i] * s.ld;
    const float* q = panel + columns[i + 1] * s.ld;
    const typename Wide::T v = Wide::set(values[i]), w = Wide::set(values[i + 1]);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) even[b] = Wide::fma(v, Wide::load(p + b * Wide::lanes), even[b]);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) odd[b] = Wide::fma(w, Wide::load(q + b * Wide::lanes), odd[b]);
  }
  if (i < count) {
    const float* p = panel + columns[i] * s.ld;
    const typename Wide::T v = Wide::set(values[i]);
#pragma GCC unroll 8
    for (int b = 0; b < B; ++b) even[b] = Wide::fma(v, Wide::load(p + b * Wide::lanes), even[b]);
  }
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) Wide::store(out + b * Wide::lanes, Wide::add(even[b], odd[b]));
}

template <int B, class Index>
inline void rows_strip(const RowJob& job, std::size_t token) {
  const Index* columns = static_cast<const Index*>(job.columns.data);
  for (std::size_t r = job.begin; r < job.end; ++r) {
    std::size_t start = r * job.stride + job.offset, count = job.count;
    if (job.pointers) {
      start = static_cast<std::size_t>(job.pointers[r]);
      count = static_cast<std::size_t>(job.pointers[r + 1]) - start;
    }
    if (job.accumulate && count == 0) continue;
    const std::int64_t n = job.rows ? job.rows[r] : static_cast<std::int64_t>(r);
    float* out = job.strip.out + (n - job.strip.first) * static_cast<std::int64_t>(job.strip.ld_out) + token;
    row_strip<B>(job.strip, columns + start, job.values + start, count, out, job.bias ? job.bias[n] : 0.0f,
                 job.accumulate, token);
  }
}

template <class Index>
inline void rows_of(const RowJob& job) {
  std::size_t token = 0, left = job.strip.vectors;
  for (std::size_t s = (left + row_vectors - 1) / row_vectors; s > 0; --s) {
    const std::size_t take = (left + s - 1) / s;
    switch (take) {
      case 1: rows_strip<1, Index>(job, token); break;
      case 2: rows_strip<2, Index>(job, token); break;
      case 3: rows_strip<3, Index>(job, token); break;
      case 4: rows_strip<4, Index>(job, token); break;
      default:
        if constexpr (row_vectors == 8) {
          switch (take) {
            case 5: rows_strip<5, Index>(job, token); break;
            case 6: rows_strip<6, Index>(job, token); break;
            case 7: rows_strip<7, Index>(job, token); break;
            default: rows_strip<8, Index>(job, token); break;
          }
        }
    }
    token += take * Wide::lanes;
    left -= take;
  }
}

inline void rows(const RowJob& job) {
  if (job.columns.wide) rows_of<std::uint32_t>(job);
  else rows_of<std::uint16_t>(job);
}
