/* The README's programs in C, whole: with the runtime, on a GPU, and with a linked model. */
#define EDGECC_GPU
#include <edgecc.h>
#include <stdlib.h>

#include "model.h"

void with_runtime(const char *path, void *image, size_t image_bytes, void *scores, size_t scores_bytes);
void on_gpu(const edgecc_model *model, const char *cache_folder);
int linked(const void *weights, const float *image, float *scores);

void with_runtime(const char *path, void *image, size_t image_bytes, void *scores, size_t scores_bytes) {
  edgecc_model *model;
  edgecc_session *session;
  edgecc_model_open(path, EDGECC_VERIFY_WEIGHTS, &model); /* each call gives a status; edgecc_last_error() tells more */
  edgecc_session_create(model, 2, &session);              /* two threads */
  edgecc_buffer inputs[] = {{image, image_bytes}}, outputs[] = {{scores, scores_bytes}};
  edgecc_session_run(session, inputs, 1, outputs, 1);     /* no allocation, no lock */
}

void on_gpu(const edgecc_model *model, const char *cache_folder) {
  edgecc_session *session;
  edgecc_times times;
  edgecc_gpu *gpu;
  edgecc_gpu_open(NULL, cache_folder, &gpu);              /* the fastest adapter; or a part of the name of one of edgecc_gpu_adapter() */
  edgecc_session_create_on(model, gpu, &session);         /* shaders, of --target wgsl or aarch64,wgsl */
  edgecc_session_create_fastest(model, 2, gpu, &session, &times); /* or what answers sooner; edgecc_session_device() tells which */
}

int linked(const void *weights, const float *image, float *scores) {
  void *arena = aligned_alloc(64, (model_arena_size() + 63) / 64 * 64);
  const void *inputs[] = {image};                       /* dense row-major tensors, in the model's order */
  void *outputs[] = {scores};
  int status = model_run(weights, arena, inputs, outputs, NULL);  /* 1: weights of another model */
  free(arena);
  return status;
}
