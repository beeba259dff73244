/* The README's program that links a model, whole. */
#include <stdlib.h>

#include "model.h"

int classify(const void *weights, const float *image, float *scores);

int classify(const void *weights, const float *image, float *scores) {
  void *arena = aligned_alloc(64, (model_arena_size() + 63) / 64 * 64);
  const void *inputs[] = {image};                       /* dense row-major tensors, in the model's order */
  void *outputs[] = {scores};
  int status = model_run(weights, arena, inputs, outputs, NULL);  /* 1: weights of another model */
  free(arena);
  return status;
}
