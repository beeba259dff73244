/* A plugin of qemu (API version 1, without its header): how often each instruction of a program for aarch64 runs on each
   thread between the third and the fourth mark, `orr x27, x27, x27`, which stand around the second timed run of the
   example `line`. Writes one line per thread and instruction: the thread's number, address and word in hexadecimal,
   executions. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0xaa1b037bu
#define THREADS 16

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
void qemu_plugin_outs(const char *);
EXPORT int qemu_plugin_version = 1;

/* A translated block: its instructions, and how often it has run on each thread, now, at the third mark and since. A
   thread counts in its own place, so no count is lost. */
struct block {
  struct block *next;
  uint64_t runs[THREADS], before[THREADS], measured[THREADS], address;
  size_t count;
  uint32_t words[];
};

static struct block *blocks;
static int marks;

static void mark(unsigned cpu, void *data) {
  marks++;
  for (struct block *b = blocks; b; b = b->next) {
    for (int i = 0; i < THREADS; i++) {
      if (marks == 3) b->before[i] = b->runs[i];
      if (marks == 4) b->measured[i] = b->runs[i] - b->before[i];
    }
  }
}

static void entered(unsigned cpu, void *data) {
  if (cpu < THREADS) ((struct block *)data)->runs[cpu]++;
}

/* qemu translates under a lock. */
static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  size_t count = qemu_plugin_tb_n_insns(tb);
  struct block *b = calloc(1, sizeof *b + count * sizeof *b->words);
  if (!b) abort();
  for (size_t i = 0; i < count; i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    memcpy(&b->words[i], qemu_plugin_insn_data(insn), sizeof *b->words);
    if (i == 0) b->address = qemu_plugin_insn_vaddr(insn);
    if (b->words[i] == MARK) qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, 0, NULL);
  }
  b->count = count;
  b->next = blocks;
  blocks = b;
  qemu_plugin_register_vcpu_tb_exec_cb(tb, entered, 0, b);
}

static void end(plugin_id id, void *data) {
  char line[64];
  for (struct block *b = blocks; b; b = b->next) {
    for (int thread = 0; thread < THREADS; thread++) {
      if (!b->measured[thread]) continue;
      for (size_t i = 0; i < b->count; i++) {
        snprintf(line, sizeof line, "%d %llx %x %llu\n", thread, (unsigned long long)(b->address + 4 * i), b->words[i],
                 (unsigned long long)b->measured[thread]);
        qemu_plugin_outs(line);
      }
    }
  }
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, end, NULL);
  return 0;
}
