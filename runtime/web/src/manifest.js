// The artifact's manifest, a protobuf message: its schema (runtime/format/src/manifest.rs) as tables, and a decoder of them.

import { EdgeccError } from "./error.js";

const many = (kind) => ({ many: kind });
/** 64 bits; `word` is 32. */
const number = "number";
const word = "word";
const text = "text";
const bytes = "bytes";

const DIM = { 1: ["value", number], 2: ["symbol", text], 3: ["bound", number] };
const PORT = { 1: ["name", text], 2: ["elementType", word], 3: ["dims", many(DIM)] };
const CONSTANT = { 1: ["offset", number], 2: ["length", number], 3: ["hash", bytes] };
const KERNEL = { 1: ["name", text], 2: ["offset", number], 3: ["length", number], 4: ["encoded", word], 5: ["bounded", word] };
const BUFFER = {
  1: ["kind", word],
  2: ["index", word],
  3: ["offset", number],
  4: ["length", number],
  5: ["access", word],
};
const CALL = {
  1: ["kernel", word],
  2: ["buffers", many(BUFFER)],
  3: ["args", many(word)],
  4: ["range", word],
  5: ["grain", word],
  6: ["name", text],
  7: ["origins", many(text)],
  8: ["macs", number],
  9: ["bytes", number],
  10: ["groups", many(word)],
};
const STEP = { 1: ["call", CALL] };
const PROGRAM = {
  1: ["architecture", text],
  2: ["abi", text],
  3: ["requiredFeatures", many(text)],
  4: ["rank", word],
  5: ["codeOffset", number],
  6: ["codeLength", number],
  7: ["arenaBytes", number],
  8: ["scratchBytes", number],
  9: ["stateBytes", number],
  10: ["kernels", many(KERNEL)],
  11: ["steps", many(STEP)],
};
const MANIFEST = {
  1: ["producer", text],
  2: ["modelName", text],
  3: ["config", text],
  4: ["inputs", many(PORT)],
  5: ["outputs", many(PORT)],
  6: ["labels", many(text)],
  7: ["programs", many(PROGRAM)],
  8: ["weightsBytes", number],
  9: ["weightsHash", bytes],
  10: ["constants", many(CONSTANT)],
  11: ["sourceMacs", number],
};

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function broken(problem) {
  return new EdgeccError("format", `the artifact's manifest cannot be decoded: ${problem}`);
}

/** Reads numbers and pieces out of a message. */
class Reader {
  constructor(message) {
    this.message = message;
    this.at = 0;
  }

  get isDone() {
    return this.at === this.message.length;
  }

  /** A number of up to 64 bits, rounded beyond what JavaScript's hold: larger than any size that may stand there. */
  varint() {
    let value = 0;
    this.low = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.message[this.at++];
      if (byte === undefined) throw broken("it ends within a number");
      value += (byte & 0x7f) * 2 ** shift;
      if (shift < 32) this.low |= (byte & 0x7f) << shift;
      if (shift === 63 && byte > 1) break;
      if (byte < 0x80) return value;
    }
    throw broken("a number of more than 64 bits");
  }

  /** The low 32 bits of a number. */
  word() {
    this.varint();
    return this.low >>> 0;
  }

  take(length) {
    const start = this.at;
    if (length > this.message.length - start) throw broken("it ends within a field");
    this.at += length;
    return this.message.subarray(start, this.at);
  }

  skip(wire) {
    if (wire === 0) this.varint();
    else if (wire === 1) this.take(8);
    else if (wire === 2) this.take(this.varint());
    else if (wire === 5) this.take(4);
    else throw broken(`wire type ${wire}`);
  }
}

const isNumber = (kind) => kind === number || kind === word;
const readNumber = (reader, kind) => (kind === word ? reader.word() : reader.varint());

function absent(kind) {
  if (kind.many) return [];
  if (isNumber(kind)) return 0;
  if (kind === text) return "";
  if (kind === bytes) return new Uint8Array();
  return undefined;
}

function decodeValue(reader, kind, wire) {
  if (wire !== (isNumber(kind) ? 0 : 2)) throw broken(`wire type ${wire} where another belongs`);
  if (isNumber(kind)) return readNumber(reader, kind);
  const piece = reader.take(reader.varint());
  if (kind === bytes) return piece;
  if (kind !== text) return decode(piece, kind);
  try {
    return utf8.decode(piece);
  } catch {
    throw broken("a text that is not UTF-8");
  }
}

function decodeMany(reader, kind, wire, values) {
  if (!isNumber(kind) || wire !== 2) return values.push(decodeValue(reader, kind, wire));
  const packed = new Reader(reader.take(reader.varint()));
  while (!packed.isDone) values.push(readNumber(packed, kind));
}

function decode(message, schema) {
  const decoded = {};
  for (const [name, kind] of Object.values(schema)) decoded[name] = absent(kind);
  const reader = new Reader(message);
  while (!reader.isDone) {
    const key = reader.varint();
    const [field, wire] = [Math.floor(key / 8), key % 8];
    if (field === 0) throw broken("a field of number 0");
    const known = schema[field];
    if (!known) reader.skip(wire);
    else if (known[1].many) decodeMany(reader, known[1].many, wire, decoded[known[0]]);
    else decoded[known[0]] = decodeValue(reader, known[1], wire);
  }
  return decoded;
}

/**
 * Decodes a manifest; nothing of it is checked yet.
 * @param {Uint8Array} message
 */
export function decodeManifest(message) {
  return decode(message, MANIFEST);
}
