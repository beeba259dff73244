/* Runs a linked model of one input and one output:
 *
 *   linked WEIGHTS INPUT OUTPUT THREADS
 *
 * Files are raw; THREADS above 1 hands pieces of every step to that many threads. Ends with what model_run returns. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "model.h"

enum { MOST_THREADS = 8 };

typedef struct {
  model_kernel kernel;
  uint8_t *const *bases;
  const uint32_t *args;
  uint32_t begin, end, worker;
} piece;

static void *run_piece(void *argument) {
  const piece *p = argument;
  p->kernel(p->bases, p->args, p->begin, p->end, p->worker);
  return NULL;
}

/* One piece a thread, each but the last a multiple of grain long. */
static void in_parallel(void *context, model_kernel kernel, uint8_t *const *bases, const uint32_t *args, uint32_t range,
                        uint32_t grain) {
  uint32_t threads = *(const uint32_t *)context, grains = (range + grain - 1) / grain;
  uint32_t length = (grains + threads - 1) / threads * grain, begin = 0, count = 0;
  pthread_t started[MOST_THREADS];
  piece pieces[MOST_THREADS];
  for (; begin < range; begin += length, count++) {
    uint32_t end = range - begin < length ? range : begin + length;
    pieces[count] = (piece){kernel, bases, args, begin, end, count};
    if (pthread_create(&started[count], NULL, run_piece, &pieces[count]) != 0) exit(5);
  }
  while (count > 0) pthread_join(started[--count], NULL);
}

/* Tensors lie at a multiple of an element's 4 bytes, and of nothing greater. */
static void *tensor(size_t bytes) {
  char *place = aligned_alloc(64, (bytes + 4 + 63) / 64 * 64);
  return place ? place + 4 : NULL;
}

static void *read_file(const char *path, void *bytes, size_t expected) {
  FILE *file = fopen(path, "rb");
  if (!file || !bytes || fread(bytes, 1, expected, file) != expected || fgetc(file) != EOF) {
    fprintf(stderr, "%s is not a file of %zu bytes\n", path, expected);
    exit(4);
  }
  fclose(file);
  return bytes;
}

int main(int count, char **arguments) {
  if (count != 5) return 2;
  uint32_t threads = (uint32_t)atoi(arguments[4]);
  if (threads < 1 || threads > MOST_THREADS) return 2;
  const void *weights = read_file(arguments[1], aligned_alloc(64, (MODEL_WEIGHTS_BYTES + 63) / 64 * 64), MODEL_WEIGHTS_BYTES);
  const void *inputs[] = {read_file(arguments[2], tensor(MODEL_INPUT_0_BYTES), MODEL_INPUT_0_BYTES)};
  void *outputs[] = {tensor(MODEL_OUTPUT_0_BYTES)};
  void *arena = aligned_alloc(64, (model_arena_size() + 63) / 64 * 64);
  model_parallel parallel = {in_parallel, &threads};
  int status = model_run(weights, arena, inputs, outputs, threads > 1 ? &parallel : NULL);
  if (status != 0) return status;
  FILE *file = fopen(arguments[3], "wb");
  if (!file || fwrite(outputs[0], 1, MODEL_OUTPUT_0_BYTES, file) != MODEL_OUTPUT_0_BYTES || fclose(file) != 0) return 4;
  return 0;
}
