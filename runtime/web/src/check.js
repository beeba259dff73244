// Checks every number of a manifest that running relies on, as runtime/format/src/check.rs and dispatch.rs do.

import { EdgeccError } from "./error.js";

export const SHADERS = "wgsl";
export const Kind = { weights: 1, arena: 2, input: 3, output: 4, state: 5, scratch: 6 };
/** Buffers of shaders start at multiples of this in the arena, in inputs and in outputs, in bytes. */
export const BINDING_ALIGNMENT = 256;

const CONSTANT_ALIGNMENT = 64;
const KERNEL_ALIGNMENT = 16;
const HASH_BYTES = 32;
const MOST_BUFFERS = 64;
const MOST_BINDINGS = 8;
const MOST_GROUPS = 65535;
const READ = 1;
const READ_WRITE = 3;
/** Bytes of an element by the number of its type: bool, u8, i8, u16, i16, u32, i32, u64, i64, f16, bf16, f32, f64. */
const ELEMENT_BYTES = [0, 1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 2, 4, 8];

export const roundUp = (value, to) => Math.ceil(value / to) * to;

function invalid(place, problem) {
  return new EdgeccError("format", `the artifact's manifest is invalid: ${place}: ${problem}`);
}

function checkBounds(place, target, offset, length, size) {
  if (offset + length <= size) return offset + length;
  throw invalid(place, `bytes ${offset}..+${length} leave the ${size} bytes of ${target}`);
}

/** The extents of a port, those of symbols at their bounds. */
export function extents(port) {
  return port.dims.map((dim) => (dim.symbol === "" ? dim.value : dim.bound));
}

/** Bytes of a port's tensor; NaN or more than any memory where there is no such tensor. */
export function portBytes(port) {
  return extents(port).reduce((bytes, extent) => bytes * extent, ELEMENT_BYTES[port.elementType] || NaN);
}

function portSizes(direction, ports) {
  return ports.map((port) => {
    const bytes = portBytes(port);
    if (Number.isSafeInteger(bytes)) return bytes;
    throw invalid(`${direction} \`${port.name}\``, "its type is unknown or its size overflows");
  });
}

function checkWeights(manifest, weightsBytes) {
  if (manifest.weightsBytes !== weightsBytes) {
    throw invalid("weights", "the section has another size than the manifest says");
  }
  if (manifest.weightsHash.length !== HASH_BYTES) throw invalid("weights", "the hash must have 32 bytes");
  let end = 0;
  manifest.constants.forEach(({ offset, length, hash }, index) => {
    const place = `constant ${index}`;
    if (offset < end || offset % CONSTANT_ALIGNMENT !== 0) {
      throw invalid(place, "it must start at a multiple of 64 after the one before it");
    }
    if (hash.length !== HASH_BYTES) throw invalid(place, "the hash must have 32 bytes");
    end = checkBounds(place, "the weights", offset, length, weightsBytes);
  });
}

function checkBuffer(place, buffer, sizes) {
  const targets = {
    [Kind.weights]: [sizes.weights, "the weights", false],
    [Kind.arena]: [sizes.arena, "the arena", true],
    [Kind.input]: [sizes.inputs[buffer.index], "the input", false],
    [Kind.output]: [sizes.outputs[buffer.index], "the output", true],
    [Kind.state]: [sizes.state, "the state", true],
    [Kind.scratch]: [sizes.scratch, "a worker's scratch", true],
  };
  if (!targets[buffer.kind]) throw invalid(place, "a buffer has no known kind");
  const [size, name, isWritable] = targets[buffer.kind];
  if (size === undefined) throw invalid(place, "it refers to an input or output that does not exist");
  if (!(buffer.access >= READ && buffer.access <= READ_WRITE)) throw invalid(place, "a buffer has no known access");
  if (buffer.access !== READ && !isWritable) throw invalid(place, "it writes to weights or to an input");
  checkBounds(place, name, buffer.offset, buffer.length, size);
}

function checkBinding(place, buffer) {
  if (buffer.kind === Kind.state || buffer.kind === Kind.scratch) throw invalid(place, "shaders have no such memory");
  if (buffer.length === 0) throw invalid(place, "a buffer of a shader is empty");
  if (buffer.kind !== Kind.weights && buffer.offset % BINDING_ALIGNMENT !== 0) {
    throw invalid(place, "a buffer of a shader must start at a multiple of 256");
  }
}

/** Whether two buffers share memory that is bound for writing; gaps up to the next multiple belong to them. */
function overlap(one, other) {
  const end = (buffer) => roundUp(buffer.offset + buffer.length, BINDING_ALIGNMENT);
  const isWritten = one.kind === Kind.arena || one.kind === Kind.output;
  const isSame = one.kind === other.kind && one.index === other.index;
  return isWritten && isSame && one.offset < end(other) && other.offset < end(one);
}

function checkDispatch(place, { groups, buffers }) {
  if (groups.length !== 3 || groups.some((count) => !(count >= 1 && count <= MOST_GROUPS))) {
    throw invalid(place, "it must have 1 to 65535 groups along each of three axes");
  }
  if (buffers.length > MOST_BINDINGS) throw invalid(place, "a shader has at most 8 buffers");
  buffers.forEach((buffer) => checkBinding(place, buffer));
  if (buffers.some((one, at) => buffers.slice(at + 1).some((other) => overlap(one, other)))) {
    throw invalid(place, "it binds twice what is bound for writing");
  }
}

function checkCall(index, call, program, sizes) {
  if (!call) throw invalid(`step ${index}`, "its kind is unknown to this version: update the runtime");
  const place = `step ${index} \`${call.name}\``;
  if (call.kernel >= program.kernels.length) throw invalid(place, "it calls a kernel that does not exist");
  if (call.grain === 0) throw invalid(place, "its grain must be at least 1");
  if (call.buffers.length > MOST_BUFFERS) throw invalid(place, "it has more than 64 buffers");
  call.buffers.forEach((buffer) => checkBuffer(place, buffer, sizes));
  if (program.architecture === SHADERS) checkDispatch(place, call);
  else if (call.groups.length > 0) throw invalid(place, "it has groups, and its kernel is no shader");
}

function checkProgram(index, program, sizes, codeBytes) {
  const place = `program ${index} for ${program.architecture}`;
  if (program.codeOffset % CONSTANT_ALIGNMENT !== 0) throw invalid(place, "its code must start at a multiple of 64");
  checkBounds(place, "the code", program.codeOffset, program.codeLength, codeBytes);
  for (const { name, offset, length } of program.kernels) {
    const kernel = `kernel \`${name}\``;
    if (offset % KERNEL_ALIGNMENT !== 0 || length === 0) {
      throw invalid(kernel, "it must start at a multiple of 16 and not be empty");
    }
    checkBounds(kernel, "the program's code", offset, length, program.codeLength);
  }
  program.steps.forEach(({ call }, number) => checkCall(number, call, program, sizes));
}

/** Checks a decoded manifest against the sizes of the code and weights sections, in bytes. */
export function check(manifest, codeBytes, weightsBytes) {
  checkWeights(manifest, weightsBytes);
  const inputs = portSizes("input", manifest.inputs);
  const outputs = portSizes("output", manifest.outputs);
  manifest.programs.forEach((program, index) => {
    const { arenaBytes: arena, stateBytes: state, scratchBytes: scratch } = program;
    checkProgram(index, program, { weights: weightsBytes, arena, state, scratch, inputs, outputs }, codeBytes);
  });
}
