// Memory and pipelines of one run at a time.

import { BINDING_ALIGNMENT, Kind, roundUp } from "./check.js";
import { EdgeccError } from "./error.js";
import { requireLimit } from "./gpu.js";

// The numbers of GPUBufferUsage, GPUMapMode and GPUShaderStage, which only browsers have names for.
const MAP_READ = 1;
const COPY_SRC = 4;
const COPY_DST = 8;
const STORAGE = 128;
const COMPUTE = 4;
/** How long after a failure its reason may be told. */
const LOSS_MILLISECONDS = 100;

/** Whole vectors of four floats are bound, in bytes. */
const padded = (bytes) => roundUp(Math.max(bytes, 1), 16);
const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
const weightsKey = ({ offset, length }) => `${offset}+${length}`;

/** Gives each run of weights that a step reads a place that can be bound; the bytes of all. */
function placeWeights(program) {
  const places = new Map();
  let end = 0;
  for (const buffer of program.steps.flatMap(({ call }) => call.buffers)) {
    if (buffer.kind !== Kind.weights || places.has(weightsKey(buffer))) continue;
    places.set(weightsKey(buffer), { buffer, place: end });
    end = roundUp(end + buffer.length, BINDING_ALIGNMENT);
  }
  return { places, weightsBytes: end };
}

function checkLimits(opened, model, program, weightsBytes) {
  const ports = [...model.inputs, ...model.outputs].map((port) => port.bytes);
  requireLimit(opened, "maxBufferSize", padded(Math.max(weightsBytes, program.arenaBytes, ...ports)));
  for (const { buffers } of program.steps.map(({ call }) => call)) {
    requireLimit(opened, "maxStorageBuffersPerShaderStage", buffers.length);
    for (const { length } of buffers) requireLimit(opened, "maxStorageBufferBindingSize", padded(length));
  }
}

/** Writes bytes of any number into a buffer that has room for whole words. */
function write(device, buffer, place, bytes) {
  const words = bytes.length - (bytes.length % 4);
  device.queue.writeBuffer(buffer, place, bytes, 0, words);
  if (words === bytes.length) return;
  const last = new Uint8Array(4);
  last.set(bytes.subarray(words));
  device.queue.writeBuffer(buffer, place + words, last);
}

function allocate(device, model, program, { places, weightsBytes }) {
  const make = (size, usage) => device.createBuffer({ size: padded(size), usage });
  const weights = make(weightsBytes, STORAGE | COPY_DST);
  for (const { buffer, place } of places.values()) {
    write(device, weights, place, model.weights.subarray(buffer.offset, buffer.offset + buffer.length));
  }
  const arena = make(program.arenaBytes, STORAGE);
  const inputs = model.inputs.map(({ bytes }) => make(bytes, STORAGE | COPY_DST));
  const outputs = model.outputs.map(({ bytes }) => make(bytes, STORAGE | COPY_SRC));
  const staging = make(sum(model.outputs.map(({ bytes }) => padded(bytes))), MAP_READ | COPY_DST);
  const binding = (reference) => {
    const size = padded(reference.length);
    switch (reference.kind) {
      case Kind.weights:
        return { buffer: weights, offset: places.get(weightsKey(reference)).place, size };
      case Kind.input:
        return { buffer: inputs[reference.index], offset: reference.offset, size };
      case Kind.output:
        return { buffer: outputs[reference.index], offset: reference.offset, size };
      default:
        return { buffer: arena, offset: reference.offset, size };
    }
  };
  return { inputs, outputs, staging, binding };
}

/** The pipeline of a shader whose calls bind memory of these kinds: weights and inputs for reading, all else for writing. */
async function makePipeline({ device, name }, kernel, code, buffers) {
  const entries = buffers.map(({ kind }, binding) => {
    const type = kind === Kind.weights || kind === Kind.input ? "read-only-storage" : "storage";
    return { binding, visibility: COMPUTE, buffer: { type } };
  });
  const layout = device.createBindGroupLayout({ entries });
  const module = device.createShaderModule({ label: kernel.name, code });
  try {
    const pipeline = await device.createComputePipelineAsync({
      layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    return { layout, pipeline };
  } catch (error) {
    throw new EdgeccError("shader", `adapter ${name} refuses shader \`${kernel.name}\`: ${error.message}`);
  }
}

/** Everything that a run needs on a device. */
async function prepare(model, opened) {
  const { device } = opened;
  const program = model.programFor(opened);
  const calls = program.steps.map(({ call }) => call);
  const weights = placeWeights(program);
  checkLimits(opened, model, program, weights.weightsBytes);
  device.pushErrorScope("validation");
  device.pushErrorScope("out-of-memory");
  const memory = allocate(device, model, program, weights);
  const making = program.kernels.map((kernel, place) => {
    const call = calls.find((each) => each.kernel === place);
    return call && makePipeline(opened, kernel, model.shader(program, kernel), call.buffers);
  });
  const scopes = [device.popErrorScope(), device.popErrorScope()];
  const [pipelines, ...errors] = await Promise.all([Promise.all(making), ...scopes]);
  const error = errors.find(Boolean);
  if (error) throw new EdgeccError("driver", `adapter ${opened.name}: ${error.message}`);
  const dispatches = calls.map((call) => {
    const { kernel, buffers, groups } = call;
    const { layout, pipeline } = pipelines[kernel];
    const entries = buffers.map((buffer, binding) => ({ binding, resource: memory.binding(buffer) }));
    return { pipeline, group: device.createBindGroup({ layout, entries }), groups, nanoseconds: estimate(call) };
  });
  return { opened, dispatches, ...memory };
}

/** Nanoseconds of a step on a slow phone's GPU: 20 multiply-adds or 5 bytes in each. */
const estimate = ({ macs, bytes }) => Math.max(macs / 20, bytes / 5);
/** Those of a submission: systems reset a GPU that does not answer for some seconds. */
const LONGEST_SUBMISSION = 1e8;

/** Records a run and submits it: together, unless that would keep the GPU from all else for long. */
function submit({ opened, dispatches, outputs, staging }) {
  let encoder = opened.device.createCommandEncoder();
  let pass = encoder.beginComputePass();
  let time = 0;
  for (const { pipeline, group, groups, nanoseconds } of dispatches) {
    if (time > 0 && time + nanoseconds > LONGEST_SUBMISSION) {
      pass.end();
      opened.device.queue.submit([encoder.finish()]);
      encoder = opened.device.createCommandEncoder();
      pass = encoder.beginComputePass();
      time = 0;
    }
    time += nanoseconds;
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...groups);
  }
  pass.end();
  let at = 0;
  for (const output of outputs) {
    encoder.copyBufferToBuffer(output, 0, staging, at, output.size);
    at += output.size;
  }
  opened.device.queue.submit([encoder.finish()]);
}

export class Session {
  #model;
  #gpu;
  #opened;
  #prepared;
  #isRunning = false;
  #losses = 0;
  #inputs;
  #outputs;

  constructor(model, gpu) {
    this.#model = model;
    this.#gpu = gpu;
    this.#inputs = model.inputs.map(({ bytes }) => new Uint8Array(bytes));
    this.#outputs = model.outputs.map(({ bytes }) => new Uint8Array(bytes));
  }

  get losses() {
    return this.#losses;
  }

  input(index) {
    return this.#inputs[index];
  }

  output(index) {
    return this.#outputs[index];
  }

  prepare() {
    return this.#recovering(async () => {});
  }

  async run() {
    if (this.#isRunning) throw new EdgeccError("usage", "the session runs already: wait for that run, or make another");
    this.#isRunning = true;
    try {
      await this.#recovering((prepared) => this.#attempt(prepared));
    } finally {
      this.#isRunning = false;
    }
  }

  /** Does something on the device; where that is lost meanwhile, once more on one that is opened anew. */
  async #recovering(act) {
    for (let isLast = false; ; isLast = true) {
      const opened = await this.#gpu.opened();
      try {
        return await act(await this.#ready(opened));
      } catch (error) {
        // A failure may be heard of before the loss that is its reason.
        await Promise.race([opened.device.lost, new Promise((resolve) => setTimeout(resolve, LOSS_MILLISECONDS))]);
        if (opened.lost === undefined) throw error;
        if (isLast) throw new EdgeccError("lost", `adapter ${opened.name} was lost: ${opened.lost}`);
      }
    }
  }

  async #ready(opened) {
    if (this.#prepared?.opened === opened) return this.#prepared;
    if (this.#opened && this.#opened !== opened) this.#losses++;
    this.#opened = opened;
    this.#prepared = await prepare(this.#model, opened);
    return this.#prepared;
  }

  async #attempt(prepared) {
    const { opened, inputs, outputs, staging } = prepared;
    const { device, name } = opened;
    device.pushErrorScope("validation");
    this.#inputs.forEach((bytes, index) => write(device, inputs[index], 0, bytes));
    submit(prepared);
    const scope = device.popErrorScope();
    const [error] = await Promise.all([scope, staging.mapAsync(MAP_READ)]).catch((reason) => [reason]);
    if (error) throw new EdgeccError("driver", `adapter ${name}: ${error.message}`);
    const mapped = new Uint8Array(staging.getMappedRange());
    let at = 0;
    this.#outputs.forEach((bytes, index) => {
      bytes.set(mapped.subarray(at, at + bytes.length));
      at += outputs[index].size;
    });
    staging.unmap();
  }
}
