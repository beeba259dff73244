/* Runs an artifact with shaders on a GPU, or where the answer comes sooner, and prints the first output, a value a line:
 *
 *     gpu ARTIFACT INPUT.f32 gpu|fastest [ADAPTER]
 *
 * ADAPTER is a part of an adapter's name. What runs, and what there is, goes to standard error. */
#define EDGECC_GPU
#include <edgecc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void check(edgecc_status status)
{
    if (status != EDGECC_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, edgecc_last_error());
        exit(1);
    }
}

static edgecc_buffer buffer_of(const edgecc_port *port)
{
    edgecc_buffer buffer = {calloc(port->bytes ? port->bytes : 1, 1), port->bytes};
    if (buffer.data == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return buffer;
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc > 5) {
        fprintf(stderr, "usage: %s ARTIFACT INPUT.f32 gpu|fastest [ADAPTER]\n", argv[0]);
        return 2;
    }
    char name[256];
    for (size_t index = 0; edgecc_gpu_adapter(index, name, sizeof name) == EDGECC_OK; index++)
        fprintf(stderr, "adapter %zu: %s\n", index, name);

    edgecc_model *model;
    edgecc_gpu *gpu;
    edgecc_session *session;
    check(edgecc_model_open(argv[1], EDGECC_VERIFY_WEIGHTS, &model));
    check(edgecc_gpu_open(argc == 5 ? argv[4] : NULL, NULL, &gpu));
    if (strcmp(argv[3], "gpu") == 0) {
        check(edgecc_session_create_on(model, gpu, &session));
    } else {
        edgecc_times times;
        check(edgecc_session_create_fastest(model, edgecc_big_cores(), gpu, &session, &times));
        fprintf(stderr, "cpu %g s, gpu %g s\n", times.cpu, times.gpu);
    }
    fprintf(stderr, "runs on %s\n", edgecc_session_device(session));

    edgecc_port port;
    check(edgecc_model_input(model, 0, &port));
    edgecc_buffer input = buffer_of(&port);
    check(edgecc_model_output(model, 0, &port));
    edgecc_buffer output = buffer_of(&port);
    FILE *file = fopen(argv[2], "rb");
    if (file == NULL || fread(input.data, 1, input.bytes, file) != input.bytes) {
        fprintf(stderr, "error: %s must be a file of %zu bytes\n", argv[2], input.bytes);
        return 1;
    }
    fclose(file);
    check(edgecc_session_run(session, &input, 1, &output, 1));
    for (size_t index = 0; index < port.bytes / sizeof(float); index++)
        printf("%g\n", ((const float *)output.data)[index]);

    free(input.data);
    free(output.data);
    edgecc_session_free(session);
    edgecc_gpu_free(gpu);
    edgecc_model_free(model);
    return 0;
}
