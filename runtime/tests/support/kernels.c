/* The kernels of the tests. Their bytes stand in mod.rs, made by
 *   cc -O1 -ffreestanding -fno-stack-protector -fcf-protection=none -ffunction-sections -c kernels.c
 *   objcopy -O binary -j .text.NAME kernels.o NAME.bin
 * with gcc 12 for x86-64 and for aarch64. */
#include <stdint.h>

typedef uint8_t *const *Bases;

/* out[i] = a[i] + b[i] */
void add(Bases bases, const uint32_t *args, uint32_t begin, uint32_t end, uint32_t worker)
{
    const float *a = (const float *)bases[0], *b = (const float *)bases[1];
    float *out = (float *)bases[2];
    for (uint32_t i = begin; i < end; i++)
        out[i] = a[i] + b[i];
}

/* scratch[i] = a[i] * a[i]; then out[i] = scratch[i] + args[0] */
void square(Bases bases, const uint32_t *args, uint32_t begin, uint32_t end, uint32_t worker)
{
    const float *a = (const float *)bases[0];
    volatile float *scratch = (volatile float *)bases[1];
    float *out = (float *)bases[2];
    for (uint32_t i = begin; i < end; i++)
        scratch[i] = a[i] * a[i];
    for (uint32_t i = begin; i < end; i++)
        out[i] = scratch[i] + (float)(int32_t)args[0];
}

/* state[i] += 1; out[i] = state[i] */
void count(Bases bases, const uint32_t *args, uint32_t begin, uint32_t end, uint32_t worker)
{
    uint32_t *state = (uint32_t *)bases[0], *out = (uint32_t *)bases[1];
    for (uint32_t i = begin; i < end; i++) {
        state[i] += 1;
        out[i] = state[i];
    }
}
