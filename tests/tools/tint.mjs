// Has Tint, through Dawn for Node and without any driver, compile each WGSL file of a folder as a compute pipeline, and prints
// what it says of those that it refuses: node tint.mjs FOLDER_OF_NODE_MODULES FOLDER_OF_SHADERS

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [modules, folder] = process.argv.slice(2);
const dawn = createRequire(path.resolve(modules, "here.js")).resolve("webgpu");
const { create, globals } = await import(pathToFileURL(dawn));
Object.assign(globalThis, globals);
// The three are kept alive, since the library lets go of what JavaScript does not hold.
const gpu = create(["backend=null"]);
const adapter = await gpu.requestAdapter();
// Shaders that compute in halves say so themselves.
const device = await adapter.requestDevice({ requiredFeatures: ["shader-f16"] });
const files = fs.readdirSync(folder).filter((name) => name.endsWith(".wgsl"));
for (const name of files) {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code: fs.readFileSync(path.join(folder, name), "utf8") });
  device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const error = await device.popErrorScope();
  if (error) console.log(`${name}: ${error.message.slice(0, 600)}`);
}
console.error(`${files.length} shaders`);
process.exit(0);
