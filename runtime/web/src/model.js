// A loaded program of shaders.

import { readArtifact } from "./artifact.js";
import { extents, portBytes, SHADERS } from "./check.js";
import { EdgeccError } from "./error.js";
import { Gpu } from "./gpu.js";
import { Session } from "./session.js";

const ELEMENTS = "unspecified bool u8 i8 u16 i16 u32 i32 u64 i64 f16 bf16 f32 f64".split(" ");

const describe = (port) => ({
  name: port.name,
  type: ELEMENTS[port.elementType],
  shape: extents(port),
  bytes: portBytes(port),
});

export class Model {
  #manifest;

  constructor({ manifest, code, weights }) {
    this.#manifest = manifest;
    this.code = code;
    this.weights = weights;
    this.inputs = manifest.inputs.map(describe);
    this.outputs = manifest.outputs.map(describe);
    this.name = manifest.modelName;
    this.labels = manifest.labels;
  }

  static fromBytes(bytes, { verifyWeights = true } = {}) {
    const whole = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : bytes;
    const model = new Model(readArtifact(whole, verifyWeights));
    if (model.#programs().length > 0) return model;
    const found = model.#manifest.programs.map((program) => program.architecture).join(", ");
    const problem = `the artifact has programs for ${found}, none of shaders: compile with --target wgsl`;
    throw new EdgeccError("format", problem);
  }

  static async fetch(url, options) {
    const response = await fetch(url);
    if (!response.ok) throw new EdgeccError("format", `cannot read ${url}: ${response.status} ${response.statusText}`);
    return Model.fromBytes(await response.arrayBuffer(), options);
  }

  /** The programs of shaders, the best first. */
  #programs() {
    const programs = this.#manifest.programs.filter((program) => program.architecture === SHADERS);
    return programs.sort((one, other) => other.rank - one.rank);
  }

  /** The best program that a device runs. */
  programFor({ device, name }) {
    const missing = ({ requiredFeatures }) => requiredFeatures.filter((feature) => !device.features.has(feature));
    const programs = this.#programs();
    const found = programs.find((program) => missing(program).length === 0);
    if (found) return found;
    const features = missing(programs.at(-1)).join(", ");
    throw new EdgeccError("feature", `adapter ${name} does not have ${features}, which the model needs`);
  }

  /** The text of a shader. */
  shader(program, kernel) {
    const start = program.codeOffset + kernel.offset;
    return new TextDecoder().decode(this.code.subarray(start, start + kernel.length));
  }

  async session(gpu) {
    const session = new Session(this, gpu ?? (await Gpu.open()));
    await session.prepare();
    return session;
  }
}
