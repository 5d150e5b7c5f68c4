// The row kernel (tile 1): one output at a time, B vectors of tokens in registers, every output with its own columns.
// Each element costs B panel loads for B multiply-adds, so it lives on the two loads a cycle of the L1 cache; column
// numbers and weights come four at a time (one load each, then shifts and shuffles) to leave those loads to the panel.

constexpr std::size_t row_vectors = Wide::lanes == 16 ? 8 : 4;

// Four column numbers from one or two 64-bit loads.
struct Four {
  std::uint64_t low, high;
};
inline Four four(const std::uint16_t* p) {
  Four f{};
  __builtin_memcpy(&f.low, p, 8);
  return f;
}
inline Four four(const std::uint32_t* p) {
  Four f;
  __builtin_memcpy(&f, p, 16);
  return f;
}
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "four() reads the lowest column from the lowest bits");

template <int I>
inline std::size_t pick(Four f, const std::uint16_t*) {
  return (f.low >> (16 * I)) & 0xffff;
}
template <int I>
inline std::size_t pick(Four f, const std::uint32_t*) {
  return ((I < 2 ? f.low : f.high) >> (32 * (I % 2))) & 0xffffffff;
}

template <int B>
TILEWRIGHT_INLINE void row_step(typename Wide::T (&sum)[B], typename Wide::T weight, const float* row) {
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) sum[b] = Wide::fma(weight, Wide::load(row + b * Wide::lanes), sum[b]);
}

template <int B, class Index>
TILEWRIGHT_INLINE void row_strip(const Strip& s, const Index* columns, const float* values, std::size_t count, float* out,
                      float start, bool accumulate, std::size_t token) {
  typename Wide::T even[B], odd[B];
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) {
    even[b] = accumulate ? Wide::load(out + b * Wide::lanes) : Wide::set(start);
    odd[b] = Wide::zero();
  }
  const float* panel = s.panel + token;
  const std::size_t ld = s.ld;
  std::size_t i = 0;
  // Two sets of sums: with one, B < 8 chains of four-cycle multiply-adds could not fill two units.
  for (; i + 4 <= count; i += 4) {
    const Four c = four(columns + i);
    const typename Wide::T w = Wide::quad(values + i);
    row_step<B>(even, Wide::template lane<0>(w), panel + pick<0>(c, columns) * ld);
    row_step<B>(odd, Wide::template lane<1>(w), panel + pick<1>(c, columns) * ld);
    row_step<B>(even, Wide::template lane<2>(w), panel + pick<2>(c, columns) * ld);
    row_step<B>(odd, Wide::template lane<3>(w), panel + pick<3>(c, columns) * ld);
  }
  for (; i < count; ++i) row_step<B>(even, Wide::set(values[i]), panel + columns[i] * ld);
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
