// Attention with queries in the lanes. A block of scores is a product whose outputs are keys, its weights the keys' panel; what
// is summed up is a product whose outputs are features, its weights the values' panel: both are the tile kernel, dense. The softmax
// goes along block by block, so no matrix of scores is ever in memory, and all its maxima and sums are vertical.

template <class V>
TILEWRIGHT_INLINE typename V::T vexp(typename V::T x) {
  static const float series[] = {1.0f, 1.0f, 0.5f, 0.16666667f, 0.041666668f, 0.0083333333f, 0.0013888889f, 0.00019841270f};
  x = V::at_most(V::set(88.0f), V::at_least(V::set(-87.0f), x));
  const typename V::T n = V::round(V::mul(x, V::set(1.4426950f)));
  // ln 2 in two parts: n times the first is exact.
  const typename V::T r = V::fma(n, V::set(2.1219444e-4f), V::fma(n, V::set(-0.69335938f), x));
  return V::mul(polynomial<V>(r, series), V::power_of_two(n));
}

// W rows of sums over `count` steps: step i adds lanes[i * ld_lanes ...] times weights[j * across + i * along] to row j.
template <int W, int B>
inline __attribute__((noinline)) void dense_rows(const float* lanes, std::size_t ld_lanes, const float* weights, std::size_t across,
                                                 std::size_t along, std::size_t count, float scale, bool accumulate, float* out,
                                                 std::size_t ld_out) {
  using V = Wide;
  typename V::T acc[W][B];
#pragma GCC unroll 8
  for (int j = 0; j < W; ++j) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) acc[j][b] = accumulate ? V::load(out + j * ld_out + b * V::lanes) : V::zero();
  }
  for (std::size_t i = 0; i < count; ++i) {
    typename V::T x[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) x[b] = V::load(lanes + i * ld_lanes + b * V::lanes);
#pragma GCC unroll 8
    for (int j = 0; j < W; ++j) {
      const typename V::T w = V::set(weights[j * across + i * along]);
#pragma GCC unroll 4
      for (int b = 0; b < B; ++b) acc[j][b] = V::fma(w, x[b], acc[j][b]);
    }
  }
  const typename V::T factor = V::set(scale);
#pragma GCC unroll 8
  for (int j = 0; j < W; ++j) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) V::store(out + j * ld_out + b * V::lanes, V::mul(acc[j][b], factor));
  }
}

template <int B>
inline void dense_block(const float* lanes, std::size_t ld_lanes, const float* weights, std::size_t across, std::size_t along,
                        std::size_t count, std::size_t rows, float scale, bool accumulate, float* out, std::size_t ld_out) {
  constexpr std::size_t most = tile_outputs;
  std::size_t j = 0;
  for (; j + most <= rows; j += most) {
    dense_rows<most, B>(lanes, ld_lanes, weights + j * across, across, along, count, scale, accumulate, out + j * ld_out, ld_out);
  }
  for (; j < rows; ++j) {
    dense_rows<1, B>(lanes, ld_lanes, weights + j * across, across, along, count, scale, accumulate, out + j * ld_out, ld_out);
  }
}

// Scores that do not count: 1 in lane t where the key stands at or before query t, else 0.
template <class V>
TILEWRIGHT_INLINE typename V::T counts(std::size_t key, std::size_t query) {
  float ones[V::lanes];
  for (int t = 0; t < V::lanes; ++t) ones[t] = key <= query + static_cast<std::size_t>(t) ? 1.0f : 0.0f;
  return V::load(ones);
}

template <int B>
inline void attention_strip(const AttentionJob& job, std::size_t vector) {
  using V = Wide;
  const std::size_t token = vector * V::lanes, width = job.vectors * V::lanes;
  const std::size_t query = job.query + token;
  const float* q = job.q + token;
  float *out = job.out + token, *scores = job.scores + token;
  typename V::T most[B], total[B];
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    most[b] = V::set(-1e30f);
    total[b] = V::zero();
  }
  for (std::size_t d = 0; d < job.depth; ++d) {
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) V::store(out + d * width + b * V::lanes, V::zero());
  }
  const std::size_t last = query + B * V::lanes;  // no query of the strip may see a key from here on
  const std::size_t end = job.causal && last < job.end ? last : job.end;
  for (std::size_t key = job.begin, next; key < end; key = next) {
    const std::size_t panel = key / job.ld, lane = key % job.ld;
    next = (panel + 1) * job.ld < end ? (panel + 1) * job.ld : end;
    const std::size_t keys = next - key;
    const float *k = job.k + panel * job.step + lane, *v = job.v + panel * job.step + lane;
    dense_block<B>(q, job.ld, k, 1, job.ld, job.depth, keys, job.scale, false, scores, width);
    const bool partly = job.causal && next > query + 1;
    typename V::T before[B];
#pragma GCC unroll 4
    for (int b = 0; b < B; ++b) {
      before[b] = most[b];
      for (std::size_t j = 0; j < keys; ++j) {
        typename V::T s = V::load(scores + j * width + b * V::lanes);
        if (partly) {
          const typename V::T one = counts<V>(key + j, query + b * V::lanes);
          s = V::fma(one, s, V::mul(V::add(one, V::set(-1.0f)), V::set(1e30f)));
        }
        most[b] = V::at_least(most[b], s);
      }
      const typename V::T minus = V::mul(most[b], V::set(-1.0f));
      const typename V::T shrink = vexp<V>(V::add(before[b], minus));
      total[b] = V::mul(total[b], shrink);
      for (std::size_t j = 0; j < keys; ++j) {
        float* place = scores + j * width + b * V::lanes;
        typename V::T p = vexp<V>(V::add(V::load(place), minus));
        if (partly) p = V::mul(p, counts<V>(key + j, query + b * V::lanes));
        total[b] = V::add(total[b], p);
        V::store(place, p);
      }
      if (key > job.begin) {
        for (std::size_t d = 0; d < job.depth; ++d) {
          float* place = out + d * width + b * V::lanes;
          V::store(place, V::mul(V::load(place), shrink));
        }
      }
    }
    dense_block<B>(scores, width, v, job.ld, 1, keys, job.depth, 1.0f, true, out, width);
  }
#pragma GCC unroll 4
  for (int b = 0; b < B; ++b) {
    const typename V::T share = V::div(V::set(1.0f), total[b]);
    for (std::size_t d = 0; d < job.depth; ++d) {
      float* place = out + d * width + b * V::lanes;
      V::store(place, V::mul(V::load(place), share));
    }
  }
}

inline void attention(const AttentionJob& job) {
  std::size_t done = 0;
  for (; done + 3 <= job.vectors; done += 3) attention_strip<3>(job, done);
  for (; done < job.vectors; ++done) attention_strip<1>(job, done);
}
