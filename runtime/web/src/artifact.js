// Header, section table and hash of an artifact (runtime/format/src/header.rs and read.rs).

import { blake3 } from "./blake3.js";
import { check } from "./check.js";
import { EdgeccError } from "./error.js";
import { decodeManifest } from "./manifest.js";

const MAGIC = new TextEncoder().encode("EDGECC\0\0");
const MAJOR = 1;
const HEADER_BYTES = 64;
const PREFIX_BYTES = 32;
const ROW_BYTES = 32;
const SECTIONS = 3;
const TABLE_END = HEADER_BYTES + SECTIONS * ROW_BYTES;
const SECTION_ALIGNMENT = 16 * 1024;
const MOST_MANIFEST_BYTES = 32 << 20;
const AGAIN = "copy or compile it again";

const fail = (problem) => new EdgeccError("format", problem);
const brokenTable = (problem) => fail(`the artifact's section table is broken, ${problem}: ${AGAIN}`);
const truncated = (expected, actual) =>
  fail(`the artifact is truncated, ${actual} of ${expected} bytes are there: ${AGAIN}`);

const isEqual = (a, b) => a.length === b.length && a.every((byte, place) => byte === b[place]);

/** Checks the header and the table; where manifest, code and weights lie, each as `[start, end]`. */
function readSections(bytes, view) {
  if (bytes.length === 0 || !isEqual(bytes.subarray(0, MAGIC.length), MAGIC.subarray(0, bytes.length))) {
    throw fail("not an edgecc artifact: the file does not start with its magic number");
  }
  if (bytes.length < HEADER_BYTES) throw truncated(HEADER_BYTES, bytes.length);
  const u64 = (at) => Number(view.getBigUint64(at, true));
  const major = view.getUint16(8, true);
  if (major !== MAJOR) {
    const version = `${major}.${view.getUint16(10, true)}`;
    throw fail(`artifact format ${version} cannot be read by this runtime, which reads ${MAJOR}.x: compile again`);
  }
  if (view.getUint32(12, true) !== SECTIONS) throw brokenTable("there must be three sections");
  if (u64(16) !== HEADER_BYTES) throw brokenTable("it does not follow the header");
  const expected = u64(24);
  if (bytes.length < expected) throw truncated(expected, bytes.length);
  if (bytes.length > expected) throw fail(`the artifact has ${bytes.length - expected} bytes after its end: ${AGAIN}`);
  if (bytes.length < TABLE_END) throw truncated(TABLE_END, bytes.length);
  const rows = Array.from({ length: SECTIONS }, (_, index) => {
    const row = HEADER_BYTES + index * ROW_BYTES;
    if (u64(row) === index + 1 && u64(row + 24) === 0) return { offset: u64(row + 8), length: u64(row + 16) };
    throw brokenTable("the sections must be manifest, code and weights, in this order");
  });
  let end = TABLE_END;
  const sections = rows.map(({ offset, length }) => {
    const start = Math.ceil(end / SECTION_ALIGNMENT) * SECTION_ALIGNMENT;
    if (offset !== start) throw brokenTable("a section is not at the next multiple of 16 KiB");
    end = start + length;
    return [start, end];
  });
  if (end !== expected) throw brokenTable("the last section does not end with the file");
  return sections;
}

function checkGap(bytes, start, end) {
  if (bytes.subarray(start, end).some((byte) => byte !== 0)) {
    throw fail(`the artifact is corrupt, the gap before offset ${end} is not zero: ${AGAIN}`);
  }
}

/** The bytes that every load verifies, one behind the other. */
function join(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/**
 * Reads an artifact, and verifies it: header, manifest and code always, weights where they are to be.
 * @param {Uint8Array} bytes
 * @param {boolean} verifyWeights
 */
export function readArtifact(bytes, verifyWeights) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [[start, end], [codeStart, codeEnd], [weightsStart, weightsEnd]] = readSections(bytes, view);
  if (end - start > MOST_MANIFEST_BYTES) {
    const most = `at most ${MOST_MANIFEST_BYTES} are read`;
    throw fail(`the artifact's manifest has ${end - start} bytes; ${most}`);
  }
  checkGap(bytes, TABLE_END, start);
  checkGap(bytes, end, codeStart);
  checkGap(bytes, codeEnd, weightsStart);
  const code = bytes.subarray(codeStart, codeEnd);
  const weights = bytes.subarray(weightsStart, weightsEnd);
  const covered = [bytes.subarray(0, PREFIX_BYTES), bytes.subarray(HEADER_BYTES, TABLE_END), bytes.subarray(start, end)];
  if (!isEqual(blake3(join([...covered, code])), bytes.subarray(PREFIX_BYTES, HEADER_BYTES))) {
    throw fail(`the artifact is corrupt, header, manifest or code do not have the recorded hash: ${AGAIN}`);
  }
  const manifest = decodeManifest(bytes.subarray(start, end));
  check(manifest, code.length, weights.length);
  if (verifyWeights && !isEqual(blake3(weights), manifest.weightsHash)) {
    throw fail(`the artifact is corrupt, its weights do not have the recorded hash: ${AGAIN}`);
  }
  return { manifest, code, weights };
}
