/* The edgecc runtime for C: loads an artifact and runs it.
 *
 * A function that can fail returns EDGECC_OK or another status; edgecc_last_error() then says why, in words.
 * Handles are freed by the function of their name; a model may be freed before its sessions. A model may be used by
 * several threads at a time, a session by one. */
#ifndef EDGECC_H
#define EDGECC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; edgecc_abi_version() tells the library's. They must be equal. */
#define EDGECC_ABI_VERSION 1

/* A flag of edgecc_model_open: verify the hash of the weights too, which reads all of them. */
#define EDGECC_VERIFY_WEIGHTS 1

typedef enum edgecc_status {
    EDGECC_OK = 0,
    EDGECC_INVALID_ARGUMENT = 1, /* a pointer is null, an index too large, or a buffer of the wrong size */
    EDGECC_CANNOT_READ = 2,      /* the file cannot be opened or mapped */
    EDGECC_BAD_ARTIFACT = 3,     /* not an artifact, or a damaged one */
    EDGECC_WRONG_VERSION = 4,    /* another version of the format */
    EDGECC_WRONG_PROCESSOR = 5,  /* compiled for another processor */
    EDGECC_OUT_OF_RESOURCES = 6, /* the system gives no memory, no executable memory or no thread */
    EDGECC_CANCELLED = 7,        /* the run was cancelled */
    EDGECC_NO_DEVICE = 8,        /* no GPU adapter, none of the name, or one that has less than the model needs */
    EDGECC_DEVICE_FAILED = 9     /* the GPU's driver refuses a shader, fails, or loses the device again and again */
} edgecc_status;

typedef enum edgecc_element_type {
    EDGECC_BOOL = 1, /* one byte, 0 or 1 */
    EDGECC_U8 = 2,
    EDGECC_I8 = 3,
    EDGECC_U16 = 4,
    EDGECC_I16 = 5,
    EDGECC_U32 = 6,
    EDGECC_I32 = 7,
    EDGECC_U64 = 8,
    EDGECC_I64 = 9,
    EDGECC_F16 = 10,
    EDGECC_BF16 = 11,
    EDGECC_F32 = 12,
    EDGECC_F64 = 13
} edgecc_element_type;

typedef struct edgecc_model edgecc_model;
typedef struct edgecc_pool edgecc_pool;
typedef struct edgecc_session edgecc_session;

/* An input or output: a dense row-major tensor. What it points to lives as long as the model. */
typedef struct edgecc_port {
    const char *name;      /* UTF-8 */
    uint32_t element_type; /* an edgecc_element_type */
    uint32_t rank;         /* number of dimensions */
    const uint64_t *dims;  /* outermost first; the bound where an extent is known at run time */
    size_t bytes;          /* of the whole tensor */
} edgecc_port;

/* Memory of the caller, at any address. */
typedef struct edgecc_buffer {
    void *data;
    size_t bytes;
} edgecc_buffer;

/* The version of the library's interface. */
uint32_t edgecc_abi_version(void);

/* Why the last failed call of this thread failed; empty before the first. Valid until the next failure. */
const char *edgecc_last_error(void);

/* Loads an artifact; flags are 0 or EDGECC_VERIFY_WEIGHTS. It holds machine code, so it must come from a source that
 * you trust. The file stays mapped and must not be changed in place while the model or a session of it lives: replace it
 * by renaming. If it shrinks, the process gets SIGBUS. */
edgecc_status edgecc_model_open(const char *path, uint32_t flags, edgecc_model **model);

/* Loads an artifact from memory, which may be freed afterwards. */
edgecc_status edgecc_model_from_bytes(const void *data, size_t bytes, uint32_t flags, edgecc_model **model);

/* Frees a model; null is allowed. */
void edgecc_model_free(edgecc_model *model);

size_t edgecc_model_input_count(const edgecc_model *model);
size_t edgecc_model_output_count(const edgecc_model *model);

/* Describe an input or output, counted from 0 in the order of the source model. */
edgecc_status edgecc_model_input(const edgecc_model *model, size_t index, edgecc_port *port);
edgecc_status edgecc_model_output(const edgecc_model *model, size_t index, edgecc_port *port);

/* The name of a class, or null if the artifact has none for this index. Lives as long as the model. */
const char *edgecc_model_label(const edgecc_model *model, size_t index);

/* The number of fast cores that this process may use, at most 8: a good number of threads. */
size_t edgecc_big_cores(void);

/* Starts threads - 1 threads that any number of sessions may share; they sleep while no session runs. Of sessions that
 * run at the same time, one has the threads during a step, and the others compute theirs alone. */
edgecc_status edgecc_pool_create(size_t threads, edgecc_pool **pool);

/* Frees a pool; null is allowed. A pool may be freed before its sessions. */
void edgecc_pool_free(edgecc_pool *pool);

/* Makes a session: the memory of one run at a time, and threads - 1 threads besides the caller's. Results do not depend
 * on the number of threads. */
edgecc_status edgecc_session_create(const edgecc_model *model, size_t threads, edgecc_session **session);

/* Makes a session that computes on the threads of a pool and the caller's. */
edgecc_status edgecc_session_create_in(const edgecc_model *model, const edgecc_pool *pool, edgecc_session **session);

/* Frees a session; null is allowed. */
void edgecc_session_free(edgecc_session *session);

/* Runs the model from the inputs to the outputs, one buffer for each in their order. Does not allocate. */
edgecc_status edgecc_session_run(edgecc_session *session, const edgecc_buffer *inputs, size_t input_count,
                                 const edgecc_buffer *outputs, size_t output_count);

/* While cancel is true, the current run and every later one end before their next step with EDGECC_CANCELLED. May be
 * called from any thread. */
void edgecc_session_cancel(const edgecc_session *session, bool cancel);

/* Sets what persists from run to run back to zeros. */
void edgecc_session_reset_state(edgecc_session *session);

/* GPUs: of the library that was built with its feature gpu. Define EDGECC_GPU in front of this header. A model may then have
 * shaders beside the processor's program (--target aarch64,wgsl) or alone (--target wgsl), and its sessions are run alike
 * wherever they run. A run on a GPU copies the buffers and waits for the answer; cancelling keeps it from starting. A device that
 * is lost meanwhile is opened anew, once a run. */
#ifdef EDGECC_GPU
typedef struct edgecc_gpu edgecc_gpu;

/* Seconds of a run; below 0 where there was none. */
typedef struct edgecc_times {
    double cpu;
    double gpu; /* with upload and read-back */
} edgecc_times;

/* Writes the name of an adapter, counted from 0, with its end, cut to what there is room for. EDGECC_INVALID_ARGUMENT behind
 * the last one. */
edgecc_status edgecc_gpu_adapter(size_t index, char *name, size_t bytes);

/* Opens the first adapter whose name has this part, or the fastest where it is null. In the folder cache, if not null, is kept
 * what the driver makes of shaders, so that later sessions start sooner; whoever can write there can do what the driver lets
 * such files do. */
edgecc_status edgecc_gpu_open(const char *adapter, const char *cache, edgecc_gpu **gpu);

/* Frees a device; null is allowed. A device may be freed before its sessions. */
void edgecc_gpu_free(edgecc_gpu *gpu);

/* The name of the adapter; lives as long as the device. */
const char *edgecc_gpu_name(const edgecc_gpu *gpu);

/* Makes a session on a GPU. EDGECC_WRONG_PROCESSOR if the artifact has no shaders. */
edgecc_status edgecc_session_create_on(const edgecc_model *model, const edgecc_gpu *gpu, edgecc_session **session);

/* Makes a session on the processor and one on the GPU, runs each on zeros twice, times the second run, and keeps the session
 * that is faster. Where there is one alone, since the artifact has one program, gpu is null, or the GPU fails, it is not timed
 * against anything and kept; why the GPU failed is the last error, though the call succeeds. The times are written if not null. */
edgecc_status edgecc_session_create_fastest(const edgecc_model *model, size_t threads, const edgecc_gpu *gpu,
                                            edgecc_session **session, edgecc_times *times);

/* What a session runs on: cpu, or the name of the adapter. Lives as long as the session. */
const char *edgecc_session_device(const edgecc_session *session);
#endif

#ifdef __cplusplus
}
#endif

#endif
