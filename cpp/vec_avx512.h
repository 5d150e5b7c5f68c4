// The vector vocabulary in AVX-512F: 16 lanes. Included inside the namespace of one instruction set.

struct Avx512 {
  static constexpr int lanes = 16;
  typedef __m512 T;

  static __mmask16 mask(std::size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
  static T zero() { return _mm512_setzero_ps(); }
  static T set(float a) { return _mm512_set1_ps(a); }
  static T load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, T a) { _mm512_storeu_ps(p, a); }
  static T quad(const float* p) { return _mm512_broadcast_f32x4(_mm_loadu_ps(p)); }
  template <int I>
  static T lane(T q) { return _mm512_permute_ps(q, I * 0x55); }
  static T load_part(const float* p, std::size_t n) { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store_part(float* p, std::size_t n, T a) { _mm512_mask_storeu_ps(p, mask(n), a); }
  static T fma(T a, T b, T c) { return _mm512_fmadd_ps(a, b, c); }
  static T add(T a, T b) { return _mm512_add_ps(a, b); }
  static T mul(T a, T b) { return _mm512_mul_ps(a, b); }
  static T div(T a, T b) { return _mm512_div_ps(a, b); }
  static T root(T a) { return _mm512_sqrt_ps(a); }
  static T round(T a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static T power_of_two(T n) { return _mm512_scalef_ps(set(1.0f), n); }
  // The instruction returns its second operand if either is NaN, so NaN in `a` survives.
  static T at_least(T low, T a) { return _mm512_max_ps(low, a); }
  static T at_most(T high, T a) { return _mm512_min_ps(high, a); }
  static T saturate(T x, float limit, T a) {
    a = _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, set(limit), _CMP_GE_OQ), set(1.0f));
    return _mm512_mask_mov_ps(a, _mm512_cmp_ps_mask(x, set(-limit), _CMP_LE_OQ), set(-1.0f));
  }
  // Four rounds of 16 shuffles: 32-bit pairs, 64-bit pairs, then 128-bit blocks twice.
  static void transpose(T (&r)[16]) {
    T s[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 2) {
      s[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i += 4) {
      t[i] = pair(s[i], s[i + 2], false);
      t[i + 1] = pair(s[i], s[i + 2], true);
      t[i + 2] = pair(s[i + 1], s[i + 3], false);
      t[i + 3] = pair(s[i + 1], s[i + 3], true);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 4; ++i) {
      s[i] = _mm512_shuffle_f32x4(t[i], t[i + 4], 0x88);
      s[i + 4] = _mm512_shuffle_f32x4(t[i], t[i + 4], 0xdd);
      s[i + 8] = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0x88);
      s[i + 12] = _mm512_shuffle_f32x4(t[i + 8], t[i + 12], 0xdd);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 8; ++i) {
      r[i] = _mm512_shuffle_f32x4(s[i], s[i + 8], 0x88);
      r[i + 8] = _mm512_shuffle_f32x4(s[i], s[i + 8], 0xdd);
    }
  }

 private:
  static T pair(T a, T b, bool high) {
    const __m512d p = _mm512_castps_pd(a), q = _mm512_castps_pd(b);
    return _mm512_castpd_ps(high ? _mm512_unpackhi_pd(p, q) : _mm512_unpacklo_pd(p, q));
  }
};
