/* A plugin of qemu (API version 1, without its header): how often each instruction of a program for aarch64 runs between
   the last two marks, `orr x27, x27, x27`, which stand around each timed run of the example `line`.
   Writes one line per instruction: address and word in hexadecimal, executions.

   With the arguments l1=BYTES:WAYS,l2=BYTES:WAYS,ahead=LINES it also passes every access of all timed runs through two
   levels of caches (lines of 64 bytes, least recently used, writes allocate), and adds to the lines of instructions that
   miss: loads that wait for L2, loads that wait for memory, and lines that memory moves while nothing waits for them.
   Those are for stores, ahead of loads, and for loads at most 32 accesses (of 16 bytes) after one that waits, since about
   as many are in flight at once. Two things bring lines ahead: of 16 streams, two misses or first touches of lines side by
   side, upwards, bring the next `ahead`; and an instruction that steps from line to line evenly brings what it touches
   `ahead` steps later. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define MARK 0xaa1b037bu

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int op, void *counter, uint64_t addend);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, void (*)(unsigned, void *), int flags, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, uint32_t, uint64_t, void *), int flags,
                                      int access, void *);
unsigned qemu_plugin_mem_size_shift(uint32_t);
_Bool qemu_plugin_mem_is_store(uint32_t);
void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
void qemu_plugin_outs(const char *);
EXPORT int qemu_plugin_version = 1;

#define LINE 6
#define STREAMS 16
#define PAGE 64 /* lines */
#define IN_FLIGHT 32 /* accesses */
enum { READ_WRITE = 3 };

/* Tags of a set are adjacent, the latest first: a line's number, with the top bit while nothing has touched the line. */
struct cache {
  uint64_t sets, ways, *tags;
};
#define UNTOUCHED (1ull << 63)

static struct cache l1, l2;
static uint64_t ahead, streams[STREAMS], accesses;

/* What the caches did for an instruction, the line that it touched last, and how far that was from the one before. */
struct misses {
  uint64_t to_l2, to_memory, transfers, line, step;
};

/* A translated block: its instructions, and how often it has run, now and when the timed run began. */
struct block {
  struct block *next;
  uint64_t runs, before, measured, address;
  size_t count;
  struct misses *misses;
  uint32_t words[];
};

static struct block *blocks;
static int marks;

static int is_timed(void) { return marks % 2; }

static void mark(unsigned cpu, void *data) {
  marks++;
  for (struct block *b = blocks; b; b = b->next) {
    if (is_timed()) b->before = b->runs;
    else b->measured = b->runs - b->before;
    for (size_t i = 0; is_timed() && b->misses && i < b->count; i++)
      b->misses[i].to_l2 = b->misses[i].to_memory = b->misses[i].transfers = 0;
  }
}

/* Looks a line up, brings it in where it misses, and makes it the latest. Tells whether it was there; `first` whether it was
   brought ahead and is touched only now. */
static int access_line(struct cache *cache, uint64_t line, int is_ahead, int *first) {
  uint64_t *set = cache->tags + (line % cache->sets) * cache->ways, tag = line | (is_ahead ? UNTOUCHED : 0);
  size_t way = 0;
  while (way < cache->ways - 1 && (set[way] & ~UNTOUCHED) != line) way++;
  int is_there = (set[way] & ~UNTOUCHED) == line;
  if (first) *first = is_there && (set[way] & UNTOUCHED);
  if (is_there && is_ahead) tag = set[way];
  memmove(set + 1, set, way * sizeof *set);
  set[0] = tag;
  return is_there;
}

/* Whether the line continues a stream, which it then leads; the latest stream stands first. */
static int follows(uint64_t line) {
  size_t place = 0;
  while (place < STREAMS - 1 && streams[place] + 1 != line) place++;
  int found = streams[place] + 1 == line;
  memmove(streams + 1, streams, place * sizeof *streams);
  streams[0] = line;
  return found;
}

static void bring(uint64_t line, struct misses *misses) {
  if (!access_line(&l1, line, 1, NULL) && !access_line(&l2, line, 1, NULL)) misses->transfers++;
}

/* Whether an instruction steps evenly from line to line, by less than a page. */
static int is_even(uint64_t line, struct misses *misses) {
  uint64_t step = line - misses->line, before = misses->step;
  misses->line = line;
  misses->step = step;
  return step == before && step + PAGE <= 2 * PAGE;
}

static int waits(uint64_t *latest) {
  int long_ago = accesses - *latest > IN_FLIGHT;
  if (long_ago) *latest = accesses;
  return long_ago;
}

static void missed(int in_l2, int is_store, struct misses *misses) {
  static uint64_t for_l2, for_memory;
  if (in_l2) misses->to_l2 += !is_store && waits(&for_l2);
  else if (!is_store && waits(&for_memory)) misses->to_memory++, for_l2 = accesses;
  else misses->transfers++;
}

static void touch(uint64_t line, int is_store, struct misses *misses) {
  int first, hit = access_line(&l1, line, 0, &first), in_l2 = hit || access_line(&l2, line, 0, NULL);
  if (!hit) missed(in_l2, is_store, misses);
  if (!ahead) return;
  if (line != misses->line && is_even(line, misses)) bring(line + ahead * misses->step, misses);
  if ((hit && !first) || !follows(line)) return;
  for (uint64_t next = line + 1; next <= line + ahead; next++) bring(next, misses);
}

static void accessed(unsigned cpu, uint32_t info, uint64_t address, void *data) {
  static uint64_t latest;
  if (!is_timed()) return;
  accesses++;
  uint64_t begin = address >> LINE, end = (address + (1ull << qemu_plugin_mem_size_shift(info)) - 1) >> LINE;
  if (begin == end && begin == latest) return;
  latest = end;
  for (uint64_t line = begin; line <= end; line++) touch(line, qemu_plugin_mem_is_store(info), data);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb) {
  size_t count = qemu_plugin_tb_n_insns(tb);
  struct block *b = calloc(1, sizeof *b + count * sizeof *b->words);
  if (!b) abort();
  if (l1.ways && !(b->misses = calloc(count, sizeof *b->misses))) abort();
  for (size_t i = 0; i < count; i++) {
    struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    memcpy(&b->words[i], qemu_plugin_insn_data(insn), sizeof *b->words);
    if (i == 0) b->address = qemu_plugin_insn_vaddr(insn);
    if (b->words[i] == MARK) qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, 0, NULL);
    if (b->misses) qemu_plugin_register_vcpu_mem_cb(insn, accessed, 0, READ_WRITE, &b->misses[i]);
  }
  b->count = count;
  b->next = blocks;
  blocks = b;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, 0, &b->runs, 1);
}

static void end(plugin_id id, void *data) {
  static const struct misses none;
  char line[128];
  for (struct block *b = blocks; b; b = b->next) {
    if (!b->measured) continue;
    for (size_t i = 0; i < b->count; i++) {
      const struct misses *m = b->misses ? &b->misses[i] : &none;
      int length = snprintf(line, sizeof line, "%" PRIx64 " %x %" PRIu64, b->address + 4 * i, b->words[i], b->measured);
      if (m->to_l2 || m->to_memory || m->transfers)
        length += snprintf(line + length, sizeof line - length, " %" PRIu64 " %" PRIu64 " %" PRIu64, m->to_l2, m->to_memory,
                           m->transfers);
      snprintf(line + length, sizeof line - length, "\n");
      qemu_plugin_outs(line);
    }
  }
}

/* Makes a cache of BYTES:WAYS. */
static int make(struct cache *cache, const char *text) {
  unsigned long long bytes, ways;
  if (sscanf(text, "%llu:%llu", &bytes, &ways) != 2 || !ways || bytes >> LINE < ways) return -1;
  cache->ways = ways;
  cache->sets = (bytes >> LINE) / ways;
  cache->tags = calloc(cache->sets * ways, sizeof *cache->tags);
  return cache->tags ? 0 : -1;
}

static int take(const char *argument) {
  if (!strncmp(argument, "l1=", 3)) return make(&l1, argument + 3);
  if (!strncmp(argument, "l2=", 3)) return make(&l2, argument + 3);
  if (!strncmp(argument, "ahead=", 6)) return ahead = strtoull(argument + 6, NULL, 10), 0;
  return -1;
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
  for (int i = 0; i < argc; i++)
    if (take(argv[i])) return -1;
  if (!l1.ways != !l2.ways) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, end, NULL);
  return 0;
}
