/* Loads an artifact, prints its inputs and outputs, runs it and prints the largest values of each f32 output:
 *
 *     classify ARTIFACT [INPUT.f32]
 *
 * The file holds the first input; without it, and for the other inputs, the input is zero. */
#include <edgecc.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { TOP = 5, THREADS = 2 };

static void check(edgecc_status status)
{
    if (status != EDGECC_OK) {
        fprintf(stderr, "error %d: %s\n", (int)status, edgecc_last_error());
        exit(1);
    }
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes ? bytes : 1);
    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

static void print_port(const char *direction, const edgecc_port *port)
{
    printf("%s %s [", direction, port->name);
    for (uint32_t axis = 0; axis < port->rank; axis++)
        printf("%s%" PRIu64, axis ? "x" : "", port->dims[axis]);
    printf("] %zu bytes\n", port->bytes);
}

static void read_input(const char *path, edgecc_buffer input)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL || fread(input.data, 1, input.bytes, file) != input.bytes || fgetc(file) != EOF) {
        fprintf(stderr, "error: %s must be a file of %zu bytes\n", path, input.bytes);
        exit(1);
    }
    fclose(file);
}

/* Prints the largest values, the largest first; of equal ones the first. */
static void print_top(const edgecc_model *model, const float *values, size_t count)
{
    bool *printed = allocate(count, sizeof *printed);
    for (size_t rank = 0; rank < TOP && rank < count; rank++) {
        size_t best = count;
        for (size_t index = 0; index < count; index++)
            if (!printed[index] && (best == count || values[index] > values[best]))
                best = index;
        printed[best] = true;
        const char *label = edgecc_model_label(model, best);
        printf("  %zu %s %g\n", best, label ? label : "-", values[best]);
    }
    free(printed);
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s ARTIFACT [INPUT.f32]\n", argv[0]);
        return 2;
    }
    if (edgecc_abi_version() != EDGECC_ABI_VERSION) {
        fprintf(stderr, "error: header and library have different versions\n");
        return 1;
    }
    edgecc_model *model;
    edgecc_session *session;
    check(edgecc_model_open(argv[1], EDGECC_VERIFY_WEIGHTS, &model));
    check(edgecc_session_create(model, THREADS, &session));

    size_t input_count = edgecc_model_input_count(model), output_count = edgecc_model_output_count(model);
    edgecc_buffer *inputs = allocate(input_count, sizeof *inputs);
    edgecc_buffer *outputs = allocate(output_count, sizeof *outputs);
    edgecc_port port;
    for (size_t index = 0; index < input_count; index++) {
        check(edgecc_model_input(model, index, &port));
        print_port("input", &port);
        inputs[index] = (edgecc_buffer){allocate(port.bytes, 1), port.bytes};
    }
    for (size_t index = 0; index < output_count; index++) {
        check(edgecc_model_output(model, index, &port));
        print_port("output", &port);
        outputs[index] = (edgecc_buffer){allocate(port.bytes, 1), port.bytes};
    }
    if (argc == 3 && input_count > 0)
        read_input(argv[2], inputs[0]);

    check(edgecc_session_run(session, inputs, input_count, outputs, output_count));

    for (size_t index = 0; index < output_count; index++) {
        check(edgecc_model_output(model, index, &port));
        printf("%s:\n", port.name);
        if (port.element_type == EDGECC_F32)
            print_top(model, outputs[index].data, port.bytes / sizeof(float));
        free(outputs[index].data);
    }
    for (size_t index = 0; index < input_count; index++)
        free(inputs[index].data);
    free(inputs);
    free(outputs);
    edgecc_session_free(session);
    edgecc_model_free(model);
    return 0;
}
