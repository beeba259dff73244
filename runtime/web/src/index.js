// Loads an artifact of compute shaders and runs it with WebGPU. The types are in index.d.ts.
export { EdgeccError } from "./error.js";
export { Gpu } from "./gpu.js";
export { Model } from "./model.js";
export { pictureInput } from "./picture.js";
