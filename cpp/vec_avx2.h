// The vector vocabulary in AVX2 + FMA: 8 lanes. Included inside the namespace of one instruction set.

struct Avx2 {
  static constexpr int lanes = 8;
  typedef __m256 T;

  static __m256i mask(std::size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static T zero() { return _mm256_setzero_ps(); }
  static T set(float a) { return _mm256_set1_ps(a); }
  static T load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, T a) { _mm256_storeu_ps(p, a); }
  static T quad(const float* p) { return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(p)); }
  template <int I>
  static T lane(T q) { return _mm256_permute_ps(q, I * 0x55); }
  static T load_part(const float* p, std::size_t n) { return _mm256_maskload_ps(p, mask(n)); }
  static void store_part(float* p, std::size_t n, T a) { _mm256_maskstore_ps(p, mask(n), a); }
  static T fma(T a, T b, T c) { return _mm256_fmadd_ps(a, b, c); }
  static T add(T a, T b) { return _mm256_add_ps(a, b); }
  static T mul(T a, T b) { return _mm256_mul_ps(a, b); }
  static T div(T a, T b) { return _mm256_div_ps(a, b); }
  static T root(T a) { return _mm256_sqrt_ps(a); }
  static T round(T a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  static T power_of_two(T n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
  }
  // The instruction returns its second operand if either is NaN, so NaN in `a` survives.
  static T at_least(T low, T a) { return _mm256_max_ps(low, a); }
  static T at_most(T high, T a) { return _mm256_min_ps(high, a); }
  static T saturate(T x, float limit, T a) {
    a = _mm256_blendv_ps(a, set(1.0f), _mm256_cmp_ps(x, set(limit), _CMP_GE_OQ));
    return _mm256_blendv_ps(a, set(-1.0f), _mm256_cmp_ps(x, set(-limit), _CMP_LE_OQ));
  }
  static void transpose(T (&r)[8]) {
    T s[8], t[8];
    for (int i = 0; i < 8; i += 2) {
      s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      t[i] = _mm256_shuffle_ps(s[i], s[i + 2], 0x44);
      t[i + 1] = _mm256_shuffle_ps(s[i], s[i + 2], 0xee);
      t[i + 2] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0x44);
      t[i + 3] = _mm256_shuffle_ps(s[i + 1], s[i + 3], 0xee);
    }
    for (int i = 0; i < 4; ++i) {
      r[i] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x20);
      r[i + 4] = _mm256_permute2f128_ps(t[i], t[i + 4], 0x31);
    }
  }
};
