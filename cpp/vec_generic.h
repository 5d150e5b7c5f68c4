// The vector vocabulary in GCC/Clang vector extensions: 4 lanes on any target (SSE2, NEON, ...).
// Included inside the namespace of one instruction set; see body.h for the meaning of each member.

struct Ext4 {
  static constexpr int lanes = 4;
  typedef float T __attribute__((vector_size(16)));
  typedef float U __attribute__((vector_size(16), aligned(4), may_alias));

  static T zero() { return T{}; }
  static T set(float a) { return T{} + a; }
  static T load(const float* p) { return *reinterpret_cast<const U*>(p); }
  static void store(float* p, T a) { *reinterpret_cast<U*>(p) = a; }
  static T quad(const float* p) { return load(p); }
  template <int I>
  static T lane(T q) { return set(q[I]); }
  static T load_part(const float* p, std::size_t n) {
    T a{};
    for (std::size_t i = 0; i < n; ++i) a[i] = p[i];
    return a;
  }
  static void store_part(float* p, std::size_t n, T a) {
    for (std::size_t i = 0; i < n; ++i) p[i] = a[i];
  }
  static T fma(T a, T b, T c) { return a * b + c; }
  static T add(T a, T b) { return a + b; }
  static T mul(T a, T b) { return a * b; }
  static T div(T a, T b) { return a / b; }
  static T root(T a) {
    for (int i = 0; i < 4; ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
  }
  static T round(T a) {
    for (int i = 0; i < 4; ++i) a[i] = __builtin_nearbyintf(a[i]);
    return a;
  }
  static T power_of_two(T n) {
    typedef int I __attribute__((vector_size(16)));
    const I bits = (__builtin_convertvector(n, I) + 127) << 23;
    return reinterpret_cast<T>(bits);
  }
  static T at_least(T low, T a) { return a < low ? low : a; }
  static T at_most(T high, T a) { return a > high ? high : a; }
  static T saturate(T x, float limit, T a) {
    a = x >= set(limit) ? set(1.0f) : a;
    return x <= set(-limit) ? set(-1.0f) : a;
  }
  static void transpose(T (&r)[4]) {
    float m[4][4];
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j) m[j][i] = r[i][j];
    for (int i = 0; i < 4; ++i) r[i] = load(m[i]);
  }
};
