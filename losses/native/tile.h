/* What is done with one tile of positions: reading it, the softmax, the cost of the true class.
 *
 * Built without -ffast-math: NaN and infinity have to stay what they are, and exp_of and log_of rely on the order of
 * their operations. Sums are vectorised where a pragma says so (-fopenmp-simd, which needs no library).
 */
#include <float.h>
#include <math.h>
#include <stdint.h>

/* One binary for all x86 on Linux with glibc: the loader picks the widest vectors that the processor has. */
#if defined(__x86_64__) && defined(__linux__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define WIDEST __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define WIDEST
#endif
#define INLINE static inline __attribute__((always_inline))

#define PRAGMA(text) _Pragma(#text)
/* A loop over the positions of a tile, which do not depend on each other. */
#define EACH PRAGMA(omp simd) for (int i = 0; i < w; i++)
/* total += value(i) over the tile: four are added in float32, the rest in float64. w is a multiple of BLOCK. */
#define LANES 16
#define BLOCK (4 * LANES)
#define ADD_UP(total, value)                                                          \
  do {                                                                                \
    double lanes[LANES] = {0};                                                        \
    for (int first = 0; first < w; first += BLOCK)                                    \
      PRAGMA(omp simd) for (int lane = 0; lane < LANES; lane++) {                     \
        float four[4];                                                                \
        for (int k = 0; k < 4; k++) {                                                 \
          const int i = first + k * LANES + lane;                                     \
          four[k] = (value);                                                          \
        }                                                                             \
        lanes[lane] += (double)((four[0] + four[1]) + (four[2] + four[3]));           \
      }                                                                               \
    for (int lane = 0; lane < LANES; lane++) total += lanes[lane];                    \
  } while (0)

enum quantity { OVERLAP, PREDICTED, SQUARED, MASS, NLL, EVEN, FOCAL, QUANTITIES };

typedef struct {
  const void *logits; /* (N, C, P), strides in elements */
  int64_t logits_sample, logits_class, logits_position;
  int64_t half;       /* logits and grad are bfloat16, else float32 */
  const void *target; /* (N, P), contiguous */
  int64_t target_bytes; /* 8: int64, 4: int32, 1: uint8 */
  const uint8_t *exists; /* (N), or NULL: all samples do */
  int64_t samples, classes, positions;
  int64_t has_ignore, ignore;
  int64_t wanted; /* bits of enum quantity */
  double gamma;   /* of FOCAL */
  int64_t segment, threads;
  double *sums;   /* forward: (segments, QUANTITIES, C) */
  int64_t *facts; /* forward: (segments, 2), positions counted, and those of them whose class does not exist */
  const float *slopes; /* backward: (QUANTITIES, N, C), the derivative by the sums */
  void *grad;          /* backward: (N, C, P), strides in elements */
  int64_t grad_sample, grad_class, grad_position;
} job;

/* One tile: rows of `width`, of which w hold positions or, at the end of a segment, padding that does not count. */
typedef struct {
  int width;
  float *x, *p;                              /* (C, width): logits, softmax (0 where not counted) */
  float *top, *total, *log_total, *at, *rest, *t, *dot, *part; /* (width) */
  int32_t *y;                                /* (width): class, or -1 where not counted */
} tile;

/* exp(x) for x <= 0; 0 below the smallest normal number. Taylor to x^7 on |r| <= ln(2)/2: error 6e-9. */
INLINE float exp_of(float x) {
  const float n = rintf((x >= -88.0f ? x : -88.0f) * 1.44269504f); /* a number also where x is none */
  float r = x - n * 0.693359375f; /* ln 2 in two parts, the first exact times n */
  r = r - n * -2.12194440e-4f;
  float e = 1.0f / 5040;
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  union { uint32_t i; float f; } power = {(uint32_t)((int32_t)n + 127) << 23};
  return x < -87.0f ? 0.0f : e * power.f;
}

/* log(x) for normal x > 0, as 2 atanh(f / (2 + f)) with x = 2^k (1 + f): error 2e-9 before rounding. */
INLINE float log_of(float x) {
  union { float f; int32_t i; } bits = {x};
  const int32_t k = (bits.i - 0x3f3504f3) >> 23; /* so that 1 + f lies between sqrt(1/2) and sqrt(2) */
  bits.i -= k * (1 << 23);
  const float f = bits.f - 1.0f, s = f / (2.0f + f), z = s * s;
  const float series = ((z * (1.0f / 9) + 1.0f / 7) * z + 1.0f / 5) * z + 1.0f / 3;
  const float log_x = (float)k * 0.693147182f + (2.0f * s + 2.0f * s * z * series);
  return x > 0.0f ? log_x : x; /* that is NaN */
}

/* Class numbers of `held` positions, then padding up to w: -1 where a position does not count, -2 for no such class. */
INLINE void read_target(const job *j, int64_t sample, int64_t start, int held, int w, int32_t *y) {
  const int64_t from = sample * j->positions + start, ignore = j->ignore, classes = j->classes;
  const int32_t ignored = j->has_ignore ? -1 : -2; /* without it, `ignore` is a value that no class has */
#define READ(type)                                                              \
  PRAGMA(omp simd) for (int i = 0; i < held; i++) {                             \
    const int64_t value = ((const type *)j->target)[from + i];                  \
    const int64_t known = (uint64_t)value < (uint64_t)classes ? value : -2;     \
    y[i] = (int32_t)(value == ignore ? ignored : known);                        \
  }
  if (j->target_bytes == 8) READ(int64_t)
  else if (j->target_bytes == 4) READ(int32_t)
  else READ(uint8_t)
#undef READ
  for (int i = held; i < w; i++) y[i] = -1;
}

INLINE float of_half(uint16_t bits) {
  union { uint32_t i; float f; } u = {(uint32_t)bits << 16};
  return u.f;
}

/* Rounded to nearest, ties to even; NaN stays NaN. */
INLINE uint16_t to_half(float value) {
  union { float f; uint32_t i; } u = {value};
  return (uint16_t)(value != value ? 0x7fc0 : (u.i + 0x7fff + (u.i >> 16 & 1)) >> 16);
}

/* For all classes and held positions, in the order of the memory: `move`, with k in the batch and i, c in the tile. */
#define IN_ORDER(class_stride, position_stride, move)                                     \
  if ((position_stride) == 1)                                                             \
    for (int64_t c = 0; c < j->classes; c++) PRAGMA(omp simd) for (int i = 0; i < held; i++) { \
        const int64_t k = c * (class_stride) + i;                                         \
        move;                                                                             \
      }                                                                                   \
  else                                                                                    \
    for (int i = 0; i < held; i++) for (int64_t c = 0; c < j->classes; c++) {             \
        const int64_t k = i * (position_stride) + c * (class_stride);                     \
        move;                                                                             \
      }

INLINE void read_logits(const job *j, int64_t sample, int64_t start, int held, int w, tile *t) {
  const int64_t from = sample * j->logits_sample + start * j->logits_position;
  if (j->half) {
    const uint16_t *logits = (const uint16_t *)j->logits + from;
    IN_ORDER(j->logits_class, j->logits_position, t->x[c * t->width + i] = of_half(logits[k]))
  } else {
    const float *logits = (const float *)j->logits + from;
    IN_ORDER(j->logits_class, j->logits_position, t->x[c * t->width + i] = logits[k])
  }
  for (int64_t c = 0; c < j->classes; c++)
    for (int i = held; i < w; i++) t->x[c * t->width + i] = 0;
}

/* x - p dot: with q, the derivative by log p, in x and its sum over the classes in dot, the derivative by the logit. */
INLINE void write_grad(const job *j, int64_t sample, int64_t start, int held, const tile *t) {
  const int64_t to = sample * j->grad_sample + start * j->grad_position;
#define SLOPE t->x[c * t->width + i] - t->p[c * t->width + i] * t->dot[i]
  if (j->half) {
    uint16_t *grad = (uint16_t *)j->grad + to;
    IN_ORDER(j->grad_class, j->grad_position, grad[k] = to_half(SLOPE))
  } else {
    float *grad = (float *)j->grad + to;
    IN_ORDER(j->grad_class, j->grad_position, grad[k] = SLOPE)
  }
#undef SLOPE
}

/* Sums over many classes are made of sums over 32, whose rounding errors do not pile up: after class c, into `row`. */
#define GATHER_PARTS(row, c)                                                              \
  if ((c) % 32 == 31 || (c) == j->classes - 1) EACH row[i] += t->part[i], t->part[i] = 0

/* Softmax, the largest logit and the sum of the exponentials. */
INLINE void softmax(const job *j, int w, tile *t) {
  EACH t->top[i] = t->x[i], t->total[i] = t->part[i] = 0;
  for (int64_t c = 1; c < j->classes; c++) {
    const float *x = t->x + c * t->width;
    EACH t->top[i] = x[i] > t->top[i] ? x[i] : t->top[i];
  }
  for (int64_t c = 0; c < j->classes; c++) {
    const float *x = t->x + c * t->width;
    float *p = t->p + c * t->width;
    EACH {
      p[i] = exp_of(x[i] - t->top[i]);
      t->part[i] += p[i];
    }
    GATHER_PARTS(t->total, c);
  }
  EACH t->rest[i] = 1.0f / t->total[i];
  for (int64_t c = 0; c < j->classes; c++) {
    float *p = t->p + c * t->width;
    EACH {
      const float each = p[i] * t->rest[i];
      p[i] = t->y[i] == -1 ? 0.0f : each;
    }
  }
}

INLINE float if_true(int condition, float value) { return condition ? value : 0.0f; }

INLINE float log_prob(float x, float top, float log_total) {
  const float log_p = x - top - log_total;
  return log_p < -FLT_MAX / 4 ? -FLT_MAX / 4 : log_p;
}

/* at: log-probability of the true class, 0 where not counted. */
INLINE void log_prob_of_target(int64_t classes, int w, tile *t) {
  EACH t->at[i] = 0, t->log_total[i] = log_of(t->total[i]);
  for (int64_t c = 0; c < classes; c++) {
    const float *x = t->x + c * t->width;
    EACH t->at[i] = t->y[i] == c ? x[i] : t->at[i];
  }
  EACH t->at[i] = if_true(t->y[i] != -1, log_prob(t->at[i], t->top[i], t->log_total[i]));
}

/* log(1 - x) for 0 <= x <= 1/2, as -2 atanh(x / (2 - x)): exact also where 1 - x would be rounded. */
INLINE float log_of_rest(float x) {
  const float s = x / (2.0f - x), z = s * s;
  float series = 1.0f / 17;
  series = series * z + 1.0f / 15;
  series = series * z + 1.0f / 13;
  series = series * z + 1.0f / 11;
  series = series * z + 1.0f / 9;
  series = series * z + 1.0f / 7;
  series = series * z + 1.0f / 5;
  series = series * z + 1.0f / 3;
  return -2.0f * s - 2.0f * s * z * series;
}

/* From p and log p of the true class to its focal cost (at) and the derivative of that by log p (t). */
INLINE void focal(const job *j, int w, tile *t) {
  EACH t->rest[i] = t->part[i] = t->t[i] = 0;
  for (int64_t c = 0; c < j->classes; c++) {
    const float *p = t->p + c * t->width;
    EACH {
      const float each = p[i];
      t->part[i] += t->y[i] == c ? 0.0f : each;
      t->t[i] = t->y[i] == c ? each : t->t[i];
    }
    GATHER_PARTS(t->rest, c);
  }
  EACH t->rest[i] = t->rest[i] < 0.5f ? t->rest[i] : 1.0f - t->t[i]; /* whichever is the more exact */
  const float gamma = (float)j->gamma;
  if (gamma == 2.0f)
    EACH t->t[i] = t->rest[i] * t->rest[i];
  else
    for (int i = 0; i < w; i++) t->t[i] = powf(t->rest[i], gamma);
  EACH {
    const float rest = t->rest[i], safe = rest < FLT_MIN ? 1.0f : rest;
    const float log_p = rest < 0.5f ? log_of_rest(rest < 0.5f ? rest : 0.0f) : t->at[i];
    const float p = rest < 0.5f ? 1.0f - rest : exp_of(log_p);
    const float v = rest < FLT_MIN ? 1.0f : -log_p / safe;
    t->at[i] = -t->t[i] * log_p;
    t->t[i] = -t->t[i] * (1.0f + gamma * p * v);
  }
}
