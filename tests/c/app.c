/* The README's programs in C, whole: with the runtime, and with a linked model. */
#include <edgecc.h>
#include <stdlib.h>

#include "model.h"

void with_runtime(const char *path, void *image, size_t image_bytes, void *scores, size_t scores_bytes);
int linked(const void *weights, const float *image, float *scores);

void with_runtime(const char *path, void *image, size_t image_bytes, void *scores, size_t scores_bytes) {
  edgecc_model *model;
  edgecc_session *session;
  edgecc_model_open(path, EDGECC_VERIFY_WEIGHTS, &model); /* each call gives a status; edgecc_last_error() tells more */
  edgecc_session_create(model, 2, &session);              /* two threads */
  edgecc_buffer inputs[] = {{image, image_bytes}}, outputs[] = {{scores, scores_bytes}};
  edgecc_session_run(session, inputs, 1, outputs, 1);     /* no allocation, no lock */
}

int linked(const void *weights, const float *image, float *scores) {
  void *arena = aligned_alloc(64, (model_arena_size() + 63) / 64 * 64);
  const void *inputs[] = {image};                       /* dense row-major tensors, in the model's order */
  void *outputs[] = {scores};
  int status = model_run(weights, arena, inputs, outputs, NULL);  /* 1: weights of another model */
  free(arena);
  return status;
}
