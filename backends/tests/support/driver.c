/* Runs one kernel under an emulator: driver CASE RESULT.
   CASE: u64 code bytes, u64 cuts, u64 buffers, cuts x u64, code, then per buffer {u64 bytes, u64 origin, bytes}.
   The range [cut 0, last cut) runs in one call per neighbouring pair of cuts. RESULT: the bytes of all buffers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef void kernel(uint8_t *const *bases, const uint32_t *args, uint32_t begin, uint32_t end, uint32_t worker);

static void get(void *to, size_t bytes, FILE *from) {
    if (fread(to, 1, bytes, from) != bytes) exit(3);
}

static uint64_t number(FILE *from) {
    uint64_t value;
    get(&value, sizeof value, from);
    return value;
}

int main(int count, char **names) {
    if (count != 3) return 2;
    FILE *from = fopen(names[1], "rb");
    if (!from) return 2;
    uint64_t code_bytes = number(from), cuts = number(from), buffers = number(from);
    uint64_t *cut = malloc(cuts * sizeof *cut);
    for (uint64_t i = 0; i < cuts; i++) cut[i] = number(from);
    char *code = mmap(0, code_bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 4;
    get(code, code_bytes, from);
    __builtin___clear_cache(code, code + code_bytes);
    uint8_t **bytes = calloc(buffers, sizeof *bytes), **bases = calloc(buffers, sizeof *bases);
    uint64_t *sizes = calloc(buffers, sizeof *sizes);
    for (uint64_t i = 0; i < buffers; i++) {
        sizes[i] = number(from);
        uint64_t origin = number(from);
        bytes[i] = malloc(sizes[i]);
        bases[i] = bytes[i] + origin;
        get(bytes[i], sizes[i], from);
    }
    uint32_t args[16] = {0};
    for (uint64_t i = 0; i + 1 < cuts; i++)
        ((kernel *)(uintptr_t)code)(bases, args, (uint32_t)cut[i], (uint32_t)cut[i + 1], (uint32_t)i);
    FILE *to = fopen(names[2], "wb");
    if (!to) return 2;
    for (uint64_t i = 0; i < buffers; i++)
        if (fwrite(bytes[i], 1, sizes[i], to) != sizes[i]) return 3;
    return fclose(to);
}
