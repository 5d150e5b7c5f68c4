// Activation functions on contiguous floats. tanh and erf are rational functions x * P(x^2) / Q(x^2), fitted to the
// smallest relative error up to the limit (below 4e-7 for both in float32); all others are derived from these two.

template <class V, int N>
inline typename V::T polynomial(typename V::T t, const float (&c)[N]) {
  typename V::T sum = V::set(c[N - 1]);
#pragma GCC unroll 8
  for (int i = N - 2; i >= 0; --i) sum = V::fma(sum, t, V::set(c[i]));
  return sum;
}

template <class V, int N, int D>
inline typename V::T odd_ratio(typename V::T x, float limit, const float (&p)[N], const float (&q)[D]) {
  const typename V::T t = V::mul(x, x);
  const typename V::T r = V::div(V::mul(x, polynomial<V>(t, p)), polynomial<V>(t, q));
  // Exactly 1 beyond the limit: gelu(-1e30) must be 0, not -1e30 times a rounding error.
  return V::saturate(x, limit, V::at_most(V::set(1.0f), V::at_least(V::set(-1.0f), r)));
}

template <class V>
inline typename V::T vtanh(typename V::T x) {
  static const float p[] = {1.0f, 0.13380368f, 0.0034948066f, 2.0596202e-05f, 1.3336751e-08f};
  static const float q[] = {1.0f, 0.46713683f, 0.025874009f, 0.00032843559f, 7.7692425e-07f};
  return odd_ratio<V>(x, 9.01f, p, q);
}

template <class V>
inline typename V::T verf(typename V::T x) {
  static const float p[] = {1.1283791f, 0.18966706f, 0.052668113f, 0.0037383561f, 0.00028506244f, 2.0664718e-06f};
  static const float q[] = {1.0f, 0.50142086f, 0.11381906f, 0.014914297f, 0.0011573787f, 3.827002e-05f};
  return odd_ratio<V>(x, 3.9f, p, q);
}

struct Relu {
  template <class V>
  static typename V::T of(typename V::T x) { return V::at_least(V::zero(), x); }
};
struct Gelu {
  template <class V>
  static typename V::T of(typename V::T x) {
    const typename V::T half = V::mul(V::set(0.5f), x);
    return V::fma(half, verf<V>(V::mul(x, V::set(0.70710678f))), half);
  }
};
struct GeluTanh {
  template <class V>
  static typename V::T of(typename V::T x) {
    const typename V::T half = V::mul(V::set(0.5f), x);
    const typename V::T cubic = V::fma(V::mul(V::mul(x, x), V::set(0.044715f)), x, x);
    return V::fma(half, vtanh<V>(V::mul(cubic, V::set(0.79788456f))), half);
  }
};
struct Silu {
  template <class V>
  static typename V::T of(typename V::T x) {
    const typename V::T half = V::mul(V::set(0.5f), x);
    return V::fma(half, vtanh<V>(half), half);
  }
};
struct Tanh {
  template <class V>
  static typename V::T of(typename V::T x) { return vtanh<V>(x); }
};

template <class F>
inline void apply(float* p, std::size_t count) {
  std::size_t i = 0;
  for (; i + Wide::lanes <= count; i += Wide::lanes) Wide::store(p + i, F::template of<Wide>(Wide::load(p + i)));
  if (i < count) Wide::store_part(p + i, count - i, F::template of<Wide>(Wide::load_part(p + i, count - i)));
}

inline void activate(float* p, std::size_t count, Activation activation) {
  switch (activation) {
    case Activation::none: return;
    case Activation::relu: return apply<Relu>(p, count);
    case Activation::gelu: return apply<Gelu>(p, count);
    case Activation::gelu_tanh: return apply<GeluTanh>(p, count);
    case Activation::silu: return apply<Silu>(p, count);
    case Activation::tanh: return apply<Tanh>(p, count);
  }
}
