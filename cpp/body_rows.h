// The row kernel (tile 1): one output at a time, B vectors of tokens in registers, every output with its own columns.
// Each element costs B panel loads for B multiply-adds, so it is limited by the L1 cache's two loads per cycle; column
// numbers and weights are read four at a time (one load each, then shifts and shuffles) to leave those loads to the panel.

constexpr std::size_t rows_ahead = 8;
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

// Location of one output's elements, and destination of its sums.
template <class Index>
struct Row {
  const Index* columns;
  const float* values;
  float* out;
  float bias;
};

template <int B, class Index>
TILEWRIGHT_INLINE void row_start(typename Wide::T (&sum)[B], const Row<Index>& row, bool accumulate) {
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) sum[b] = accumulate ? Wide::load(row.out + b * Wide::lanes) : Wide::set(row.bias);
}

// Both loops below read column numbers one round ahead: panel loads that wait for an address fill the load scheduler, and
// the load of the next address would have to queue behind them.

// One output, with two sets of sums: with one set, B < 8 chains of four-cycle multiply-adds could not keep two units busy.
template <int B, class Index>
TILEWRIGHT_INLINE void row_single(const Row<Index>& row, std::size_t count, const float* panel, std::size_t ld,
                                  bool accumulate) {
  typename Wide::T even[B], odd[B];
  row_start<B>(even, row, accumulate);
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) odd[b] = Wide::zero();
  const Index* columns = row.columns;
  std::size_t i = 0;
  Four next = count >= 4 ? four(columns) : Four{};
  for (; i + 4 <= count; i += 4) {
    const Four c = next;
    next = four(columns + (i + 8 <= count ? i + 4 : i));
    const typename Wide::T w = Wide::quad(row.values + i);
    row_step<B>(even, Wide::template lane<0>(w), panel + pick<0>(c, columns) * ld);
    row_step<B>(odd, Wide::template lane<1>(w), panel + pick<1>(c, columns) * ld);
    row_step<B>(even, Wide::template lane<2>(w), panel + pick<2>(c, columns) * ld);
    row_step<B>(odd, Wide::template lane<3>(w), panel + pick<3>(c, columns) * ld);
  }
  for (; i < count; ++i) row_step<B>(even, Wide::set(row.values[i]), panel + columns[i] * ld);
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) Wide::store(row.out + b * Wide::lanes, Wide::add(even[b], odd[b]));
}

// Two outputs with the same number of elements: one set of sums each, and nothing to add up at the end.
template <int B, class Index>
TILEWRIGHT_INLINE void row_pair(const Row<Index>& one, const Row<Index>& two, std::size_t count, const float* panel,
                                std::size_t ld, bool accumulate) {
  typename Wide::T first[B], second[B];
  row_start<B>(first, one, accumulate);
  row_start<B>(second, two, accumulate);
  std::size_t i = 0;
  Four next_one = count >= 4 ? four(one.columns) : Four{}, next_two = count >= 4 ? four(two.columns) : Four{};
  for (; i + 4 <= count; i += 4) {
    const Four c = next_one, d = next_two;
    const std::size_t ahead = i + 8 <= count ? i + 4 : i;
    next_one = four(one.columns + ahead);
    next_two = four(two.columns + ahead);
    const typename Wide::T v = Wide::quad(one.values + i), w = Wide::quad(two.values + i);
    row_step<B>(first, Wide::template lane<0>(v), panel + pick<0>(c, one.columns) * ld);
    row_step<B>(second, Wide::template lane<0>(w), panel + pick<0>(d, two.columns) * ld);
    row_step<B>(first, Wide::template lane<1>(v), panel + pick<1>(c, one.columns) * ld);
    row_step<B>(second, Wide::template lane<1>(w), panel + pick<1>(d, two.columns) * ld);
    row_step<B>(first, Wide::template lane<2>(v), panel + pick<2>(c, one.columns) * ld);
    row_step<B>(second, Wide::template lane<2>(w), panel + pick<2>(d, two.columns) * ld);
    row_step<B>(first, Wide::template lane<3>(v), panel + pick<3>(c, one.columns) * ld);
    row_step<B>(second, Wide::template lane<3>(w), panel + pick<3>(d, two.columns) * ld);
  }
  for (; i < count; ++i) {
    row_step<B>(first, Wide::set(one.values[i]), panel + one.columns[i] * ld);
    row_step<B>(second, Wide::set(two.values[i]), panel + two.columns[i] * ld);
  }
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) Wide::store(one.out + b * Wide::lanes, first[b]);
#pragma GCC unroll 8
  for (int b = 0; b < B; ++b) Wide::store(two.out + b * Wide::lanes, second[b]);
}

// Every cache line of a piece, including that of its last element, wherever the piece begins.
template <class T>
inline void prefetch_piece(const T* piece, std::size_t count) {
  constexpr std::size_t line = 64 / sizeof(T);
  for (std::size_t i = 0; i < count; i += line) __builtin_prefetch(piece + i);
  if (count > 0) __builtin_prefetch(piece + count - 1);
}

template <int B, class Index>
inline void rows_strip(const RowJob& job, std::size_t token) {
  const Index* columns = static_cast<const Index*>(job.columns.data);
  const float* panel = job.strip.panel + token;
  const std::size_t ld = job.strip.ld;
  const auto row = [&](std::size_t r, std::size_t start) {
    const std::int64_t n = job.rows ? job.rows[r] : static_cast<std::int64_t>(r);
    float* out = job.strip.out + (n - job.strip.first) * static_cast<std::int64_t>(job.strip.ld_out) + token;
    return Row<Index>{columns + start, job.values + start, out, job.bias ? job.bias[n] : 0.0f};
  };
  std::size_t r = job.begin;
  if (!job.pointers) {
    const auto start = [&](std::size_t i) { return i * job.stride + job.offset; };
    for (; r + 2 <= job.end; r += 2) {
      // A block takes a short piece of each row, a long stride apart: too irregular for the hardware prefetcher.
      const std::size_t next = start(r + rows_ahead + 1 < job.end ? r + rows_ahead : r);
      prefetch_piece(job.values + next, job.count);
      prefetch_piece(job.values + next + job.stride, job.count);
      prefetch_piece(columns + next, job.count);
      prefetch_piece(columns + next + job.stride, job.count);
      row_pair<B>(row(r, start(r)), row(r + 1, start(r + 1)), job.count, panel, ld, job.accumulate);
    }
    if (r < job.end) row_single<B>(row(r, start(r)), job.count, panel, ld, job.accumulate);
    return;
  }
  for (; r < job.end; ++r) {
    const auto start = static_cast<std::size_t>(job.pointers[r]);
    const std::size_t count = static_cast<std::size_t>(job.pointers[r + 1]) - start;
    if (job.accumulate && count == 0) continue;
    row_single<B>(row(r, start), count, panel, ld, job.accumulate);
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
