// BLAKE3, which no browser has: the hash of a byte array (https://github.com/BLAKE3-team/BLAKE3-specs).

const IV = Int32Array.of(
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
);
const PERMUTATION = [2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8];
/** Which word of the block comes at each of the 16 places of each of the seven rounds. */
const ROUNDS = new Uint8Array(7 * 16);
for (let n = 0; n < 16; n++) ROUNDS[n] = n;
for (let n = 16; n < ROUNDS.length; n++) ROUNDS[n] = ROUNDS[(n & ~15) - 16 + PERMUTATION[n & 15]];

const CHUNK_BYTES = 1024;
const BLOCK_BYTES = 64;
const CHUNK_START = 1;
const CHUNK_END = 2;
const PARENT = 4;
const ROOT = 8;

const state = new Int32Array(16);

/** Mixes two words into a column or a diagonal of the state. */
function mix(a, b, c, d, x, y) {
  let p = state[a];
  let q = state[b];
  let r = state[c];
  let s = state[d];
  p = (p + q + x) | 0;
  s ^= p;
  s = (s >>> 16) | (s << 16);
  r = (r + s) | 0;
  q ^= r;
  q = (q >>> 12) | (q << 20);
  p = (p + q + y) | 0;
  s ^= p;
  s = (s >>> 8) | (s << 24);
  r = (r + s) | 0;
  q ^= r;
  q = (q >>> 7) | (q << 25);
  state[a] = p;
  state[b] = q;
  state[c] = r;
  state[d] = s;
}

/** The chaining value behind a block of 16 words. */
function compress(chaining, words, counter, length, flags) {
  for (let n = 0; n < 8; n++) state[n] = chaining[n];
  for (let n = 0; n < 4; n++) state[8 + n] = IV[n];
  state[12] = counter | 0;
  state[13] = (counter / 2 ** 32) | 0;
  state[14] = length;
  state[15] = flags;
  for (let round = 0; round < ROUNDS.length; round += 16) {
    for (let n = 0; n < 4; n++) {
      mix(n, 4 + n, 8 + n, 12 + n, words[ROUNDS[round + 2 * n]], words[ROUNDS[round + 2 * n + 1]]);
    }
    for (let n = 0; n < 4; n++) {
      const [x, y] = [words[ROUNDS[round + 8 + 2 * n]], words[ROUNDS[round + 9 + 2 * n]]];
      mix(n, 4 + ((n + 1) & 3), 8 + ((n + 2) & 3), 12 + ((n + 3) & 3), x, y);
    }
  }
  for (let n = 0; n < 8; n++) state[n] ^= state[8 + n];
  return state.slice(0, 8);
}

function hashChunk(bytes, index, root) {
  const start = index * CHUNK_BYTES;
  const end = Math.min(start + CHUNK_BYTES, bytes.length);
  const words = new Int32Array(16);
  let chaining = IV;
  let at = start;
  do {
    const length = Math.min(BLOCK_BYTES, end - at);
    words.fill(0);
    for (let n = 0; n < length; n++) words[n >> 2] |= bytes[at + n] << (8 * (n & 3));
    const isLast = at + length === end;
    const flags = (at === start ? CHUNK_START : 0) | (isLast ? CHUNK_END | root : 0);
    chaining = compress(chaining, words, index, length, flags);
    at += length;
  } while (at < end);
  return chaining;
}

function hashParent(left, right, root) {
  return compress(IV, Int32Array.of(...left, ...right), 0, BLOCK_BYTES, PARENT | root);
}

/**
 * The 32 bytes of the hash.
 * @param {Uint8Array} bytes
 */
export function blake3(bytes) {
  const last = Math.max(Math.ceil(bytes.length / CHUNK_BYTES), 1) - 1;
  const stack = [];
  for (let index = 0; index < last; index++) {
    let node = hashChunk(bytes, index, 0);
    for (let count = index + 1; count % 2 === 0; count /= 2) node = hashParent(stack.pop(), node, 0);
    stack.push(node);
  }
  let node = hashChunk(bytes, last, last === 0 ? ROOT : 0);
  while (stack.length > 0) node = hashParent(stack.pop(), node, stack.length === 0 ? ROOT : 0);
  return Uint8Array.from({ length: 32 }, (_, place) => node[place >> 2] >>> (8 * (place & 3)));
}
