/* The losses' one pass over a batch on the CPU, fused: what losses/piecewise.py does with torch, for exclusive classes
 * and float32 or bfloat16. losses/native/__init__.py calls it; losses/term.py tells what the quantities are for.
 *
 * The batch is cut into segments of positions of one sample, and a segment into tiles that stay in the first-level
 * cache. Sums are float64 and kept for each segment, so that the result does not depend on the number of threads, which
 * share nothing.
 */
#include <pthread.h>
#include <stdlib.h>

#include "tile.h"

#define VERSION 1 /* of `job`; losses/native/__init__.py asks for the one it was written for */
#define TILE_LOGITS 8192 /* 32 KiB of float32 */
#define MAX_THREADS 64
#define WANTS(q) (j->wanted >> (q) & 1)

WIDEST static void forward_segment(const job *j, int64_t sample, int64_t start, int64_t stop, tile *t,
                                   double *sums, int64_t *facts) {
  for (int64_t at = start; at < stop; at += t->width) {
    const int held = stop - at < t->width ? (int)(stop - at) : t->width, w = (held + BLOCK - 1) / BLOCK * BLOCK;
    read_target(j, sample, at, held, w, t->y);
    read_logits(j, sample, at, held, w, t);
    int32_t counted = 0, unknown = 0;
    for (int i = 0; i < w; i++) counted += t->y[i] != -1, unknown += t->y[i] == -2;
    facts[0] += counted, facts[1] += unknown;
    softmax(j, w, t);
    if (WANTS(NLL) || WANTS(FOCAL)) log_prob_of_target(j->classes, w, t);
    for (int64_t c = 0; c < j->classes; c++) {
      const float *p = t->p + c * t->width, *x = t->x + c * t->width;
      double predicted = 0, squared = 0, overlap = 0, nll = 0, even = 0;
      int32_t mass = 0;
      for (int i = 0; i < w; i++) mass += t->y[i] == c;
      if (WANTS(PREDICTED)) ADD_UP(predicted, p[i]);
      if (WANTS(SQUARED)) ADD_UP(squared, p[i] * p[i]);
      if (WANTS(OVERLAP)) ADD_UP(overlap, if_true(t->y[i] == c, p[i]));
      if (WANTS(NLL)) ADD_UP(nll, if_true(t->y[i] == c, -t->at[i]));
      if (WANTS(EVEN)) ADD_UP(even, if_true(t->y[i] != -1, -log_prob(x[i], t->top[i], t->log_total[i])));
      sums[PREDICTED * j->classes + c] += predicted;
      sums[SQUARED * j->classes + c] += squared;
      sums[OVERLAP * j->classes + c] += overlap;
      sums[MASS * j->classes + c] += mass;
      sums[NLL * j->classes + c] += nll;
      sums[EVEN * j->classes + c] += even;
    }
    if (WANTS(FOCAL)) {
      focal(j, w, t);
      for (int64_t c = 0; c < j->classes; c++) {
        double cost = 0;
        ADD_UP(cost, if_true(t->y[i] == c, t->at[i]));
        sums[FOCAL * j->classes + c] += cost;
      }
    }
  }
}

/* With q the derivative by log p: dx = q - p sum(q). q = p (predicted + 2 p squared + [y] overlap) + [y] t - even. */
WIDEST static void backward_segment(const job *j, int64_t sample, int64_t start, int64_t stop, tile *t) {
  const float *slope[QUANTITIES];
  for (int q = 0; q < QUANTITIES; q++) slope[q] = j->slopes + (q * j->samples + sample) * j->classes;
  for (int64_t at = start; at < stop; at += t->width) {
    const int held = stop - at < t->width ? (int)(stop - at) : t->width, w = (held + BLOCK - 1) / BLOCK * BLOCK;
    read_target(j, sample, at, held, w, t->y);
    read_logits(j, sample, at, held, w, t);
    softmax(j, w, t);
    if (WANTS(FOCAL)) {
      log_prob_of_target(j->classes, w, t);
      focal(j, w, t);
    }
    EACH t->dot[i] = t->part[i] = 0;
    for (int64_t c = 0; c < j->classes; c++) { /* the logits are not needed any more: x becomes q */
      const float *p = t->p + c * t->width;
      float *q = t->x + c * t->width;
      const float a = slope[PREDICTED][c], o = slope[OVERLAP][c], n = slope[NLL][c];
      const float e = slope[EVEN][c], s = 2.0f * slope[SQUARED][c], f = slope[FOCAL][c];
      if (WANTS(FOCAL))
        EACH {
          const float mine = p[i] * o + f * t->t[i] - n;
          q[i] = p[i] * (a + s * p[i]) + (t->y[i] == c ? mine : 0.0f) - (t->y[i] == -1 ? 0.0f : e);
          t->part[i] += q[i];
        }
      else
        EACH {
          const float mine = p[i] * o - n;
          q[i] = p[i] * (a + s * p[i]) + (t->y[i] == c ? mine : 0.0f) - (t->y[i] == -1 ? 0.0f : e);
          t->part[i] += q[i];
        }
      GATHER_PARTS(t->dot, c);
    }
    write_grad(j, sample, at, held, t);
  }
}

typedef struct {
  const job *j;
  int64_t first, last; /* segments */
  int failed;
} share;

static void *work(void *argument) {
  share *s = argument;
  const job *j = s->j;
  const int64_t in_sample = (j->positions + j->segment - 1) / j->segment;
  int width = (int)(TILE_LOGITS / j->classes / BLOCK * BLOCK);
  width = width < BLOCK ? BLOCK : width > 4 * BLOCK ? 4 * BLOCK : width;
  float *memory = malloc(sizeof(float) * width * (2 * j->classes + 9));
  s->failed = memory == NULL;
  if (s->failed) return NULL;
  float *row = memory + 2 * j->classes * width;
  tile t = {width, memory, memory + j->classes * width, row, row + width, row + 2 * width, row + 3 * width,
            row + 4 * width, row + 5 * width, row + 6 * width, row + 7 * width, (int32_t *)(row + 8 * width)};
  for (int64_t k = s->first; k < s->last; k++) {
    const int64_t sample = k / in_sample, start = k % in_sample * j->segment;
    const int64_t stop = start + j->segment < j->positions ? start + j->segment : j->positions;
    if (j->exists && !j->exists[sample]) continue;
    if (j->grad) backward_segment(j, sample, start, stop, &t);
    else forward_segment(j, sample, start, stop, &t, j->sums + k * QUANTITIES * j->classes, j->facts + k * 2);
  }
  free(memory);
  return NULL;
}

int64_t loupe_losses_version(void) { return VERSION; }

/* Forward if grad is NULL, else backward. Sums, facts and, for samples that do not exist, grad are set beforehand.
 * Returns 0, or 1 if memory ran out. */
int64_t loupe_losses_run(const job *j) {
  const int64_t segments = j->samples * ((j->positions + j->segment - 1) / j->segment);
  int64_t threads = j->threads < segments ? j->threads : segments;
  threads = threads > MAX_THREADS ? MAX_THREADS : threads < 1 ? 1 : threads;
  share shares[MAX_THREADS];
  pthread_t thread[MAX_THREADS];
  int started[MAX_THREADS] = {0};
  for (int64_t k = 0; k < threads; k++) shares[k] = (share){j, segments * k / threads, segments * (k + 1) / threads, 0};
  for (int64_t k = 1; k < threads; k++) started[k] = pthread_create(&thread[k], NULL, work, &shares[k]) == 0;
  int failed = 0;
  for (int64_t k = 0; k < threads; k++) {
    if (started[k]) pthread_join(thread[k], NULL);
    else work(&shares[k]); /* the first share, and what no thread could be had for */
    failed |= shares[k].failed;
  }
  return failed;
}
