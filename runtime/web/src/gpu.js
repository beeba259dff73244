// The device that runs shaders, shared by sessions and opened anew when it is lost.

import { EdgeccError } from "./error.js";

/** What programs may ask for beyond WebGPU's defaults: a device is opened with those that its adapter has. */
const FEATURES = ["shader-f16"];
const LIMITS = ["maxBufferSize", "maxStorageBufferBindingSize", "maxStorageBuffersPerShaderStage"];

async function openDevice(gpu, powerPreference) {
  if (!gpu) throw new EdgeccError("adapter", "this browser has no WebGPU, or the page is not served securely");
  const adapter = await gpu.requestAdapter({ powerPreference });
  if (!adapter) throw new EdgeccError("adapter", "this browser finds no GPU adapter that it may use");
  const { vendor, architecture, description } = adapter.info ?? {};
  const name = [description || vendor, architecture].filter(Boolean).join(" ") || "an adapter without a name";
  try {
    const device = await adapter.requestDevice({
      requiredFeatures: FEATURES.filter((feature) => adapter.features.has(feature)),
      requiredLimits: Object.fromEntries(LIMITS.map((limit) => [limit, adapter.limits[limit]])),
    });
    const opened = { device, name, lost: undefined };
    device.lost.then(({ reason, message }) => (opened.lost = message || reason));
    return opened;
  } catch (error) {
    throw new EdgeccError("adapter", `adapter ${name} cannot be opened: ${error.message}`);
  }
}

export class Gpu {
  #gpu;
  #powerPreference;
  #opened;
  #isClosed = false;

  static async open({ gpu = globalThis.navigator?.gpu, powerPreference = "high-performance" } = {}) {
    const opened = new Gpu();
    opened.#gpu = gpu;
    opened.#powerPreference = powerPreference;
    opened.#opened = openDevice(gpu, powerPreference);
    await opened.#opened;
    return opened;
  }

  /** The device with its adapter's name, and how it was lost where it was; opened anew where that is known already. */
  async opened() {
    if (this.#isClosed) throw new EdgeccError("lost", "the device was given back");
    const opening = this.#opened;
    const isLost = await opening.then(({ lost }) => lost !== undefined, () => true);
    if (isLost && this.#opened === opening) this.#opened = openDevice(this.#gpu, this.#powerPreference);
    return this.#opened;
  }

  async adapter() {
    return (await this.#opened).name;
  }

  async close() {
    this.#isClosed = true;
    (await this.#opened).device.destroy();
  }
}

/** Fails where the adapter has less than a model needs. */
export function requireLimit({ device, name }, what, needed) {
  const limit = device.limits[what];
  if (needed > limit) {
    throw new EdgeccError("limit", `adapter ${name} has ${what} of ${limit}, the model needs ${needed}`);
  }
}
