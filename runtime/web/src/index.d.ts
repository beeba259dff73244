/** `format`: no artifact, or a damaged one; `adapter`: no WebGPU or no adapter; `limit`, `feature`: the adapter has less than
 * the model needs; `shader`, `driver`: the driver refuses; `lost`: the device is gone; `usage`: the call makes no sense. */
export type ErrorKind = "format" | "adapter" | "limit" | "feature" | "shader" | "driver" | "lost" | "usage";

/** What goes wrong while a model is loaded or run. */
export class EdgeccError extends Error {
  readonly kind: ErrorKind;
}

/** An input or an output: a dense row-major tensor, little-endian. */
export interface Port {
  readonly name: string;
  readonly type:
    "bool" | "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "u64" | "i64" | "f16" | "bf16" | "f32" | "f64";
  readonly shape: readonly number[];
  readonly bytes: number;
}

export interface GpuOptions {
  /** What implements WebGPU; the browser's where it is not given. */
  gpu?: GPU;
  powerPreference?: "high-performance" | "low-power";
}

/** A device, shared by any number of sessions; opened anew when it is lost. */
export class Gpu {
  static open(options?: GpuOptions): Promise<Gpu>;
  /** The adapter's name. */
  adapter(): Promise<string>;
  /** Gives the device back. Every later run of its sessions fails. */
  close(): Promise<void>;
}

export interface LoadOptions {
  /** Whether the weights are hashed too; all else always is. `true` where it is not given. */
  verifyWeights?: boolean;
}

/** A loaded model. */
export class Model {
  /** Loads an artifact from memory, which must not change while the model lives. */
  static fromBytes(bytes: ArrayBuffer | Uint8Array, options?: LoadOptions): Model;
  /** Loads an artifact from an address. */
  static fetch(url: string | URL, options?: LoadOptions): Promise<Model>;
  readonly name: string;
  /** In graph order. */
  readonly inputs: readonly Port[];
  /** In graph order. */
  readonly outputs: readonly Port[];
  /** The names of the classes; empty if the artifact has none. */
  readonly labels: readonly string[];
  /** Makes a session on a device; on one of its own where none is given. */
  session(gpu?: Gpu): Promise<Session>;
}

/** The memory and the pipelines of one run at a time. */
export class Session {
  /** How often the device was lost and opened anew. */
  readonly losses: number;
  /** The bytes of an input, to be filled in place. */
  input(index: number): Uint8Array;
  /** The bytes of an output as of the last run. */
  output(index: number): Uint8Array;
  /** Runs once. A device that is lost meanwhile is opened anew, once, for another try. */
  run(): Promise<void>;
}

/** How samples 0..255 become elements: `(sample * scale - mean) / deviation`, with a figure for all channels or for each. */
export interface Normalisation {
  /** 1/255 where it is not given. */
  scale?: number;
  mean?: readonly number[];
  deviation?: readonly number[];
  /** Blue first. */
  bgr?: boolean;
}

/** The bytes of an input of one or three channels from a picture of any size. */
export function pictureInput(
  picture: Pick<ImageData, "width" | "height" | "data">,
  port: Port,
  normalisation?: Normalisation,
): Uint8Array;
