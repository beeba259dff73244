// Runs in the browser that the test started: does what its page's address asks for and posts what comes of it.

import { EdgeccError, Gpu, Model, pictureInput } from "/runtime/web/src/index.js";

const bytes = async (path) => new Uint8Array(await (await fetch(path)).arrayBuffer());
const post = (name, body) => fetch(`/report/${name}`, { method: "POST", body });

/** Runs a model on what is served as its inputs, and posts its outputs; loses its device in front of some runs. */
async function run(name, losses) {
  const model = await Model.fetch(`/served/${name}.bin`);
  const { WatchedGpu, lose } = watched();
  const gpu = await Gpu.open({ gpu: WatchedGpu });
  const session = await model.session(gpu);
  const answer = async () => {
    for (let n = 0; n < model.inputs.length; n++) session.input(n).set(await bytes(`/served/${name}.in${n}`));
    await session.run();
  };
  await answer();
  for (let n = 0; n < losses; n++) {
    if (n % 2 === 0) lose();
    const running = answer();
    if (n % 2 === 1) lose();
    await running;
    if (session.losses !== n + 1) throw new Error(`${session.losses} losses after ${n + 1}`);
    // The test waits for signs of life.
    if (n % 10 === 9) await post(`${name}.losses`, `${n + 1}`);
  }
  for (let n = 0; n < model.outputs.length; n++) await post(`${name}.out${n}`, session.output(n));
}

/** The browser's WebGPU, of which the device that was opened last can be lost. */
function watched() {
  let device;
  const requestAdapter = async (options) => {
    const adapter = await navigator.gpu.requestAdapter(options);
    const requestDevice = async (descriptor) => (device = await adapter.requestDevice(descriptor));
    return { info: adapter.info, features: adapter.features, limits: adapter.limits, requestDevice };
  };
  return { WatchedGpu: { requestAdapter }, lose: () => device.destroy() };
}

/** What each of a number of artifacts is refused with; an empty line for those that are not. */
async function verdicts(count) {
  const lines = [];
  for (let n = 0; n < count; n++) {
    try {
      Model.fromBytes(await bytes(`/served/damaged${n}.bin`));
      lines.push("");
    } catch (error) {
      lines.push(error instanceof EdgeccError ? error.message : `not ours: ${error.stack}`);
    }
  }
  await post("verdicts", lines.join("\n"));
}

/** What a model is refused with on adapters that are missing or too small. */
async function refusals(name) {
  const model = await Model.fetch(`/served/${name}.bin`);
  const adapter = await navigator.gpu.requestAdapter();
  const small = (device) =>
    new Proxy(device, {
      get: (target, key) => {
        if (key === "limits") return { ...limitsOf(target), maxStorageBufferBindingSize: 64 };
        const value = target[key];
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  const limitsOf = ({ limits }) => Object.fromEntries(Object.keys(Object.getPrototypeOf(limits)).map((key) => [key, limits[key]]));
  const requestDevice = async () => small(await adapter.requestDevice());
  const smallAdapter = { info: {}, features: new Set(), limits: adapter.limits, requestDevice };
  const adapters = [undefined, { requestAdapter: async () => null }, { requestAdapter: async () => smallAdapter }];
  const lines = [];
  for (const gpu of adapters) {
    const refused = async () => model.session(await Gpu.open({ gpu: gpu ?? null }));
    lines.push(await refused().then(() => "not refused", (error) => `${error.kind}: ${error.message}`));
  }
  const gpu = await Gpu.open();
  const needy = await Model.fetch(`/served/${name}-needy.bin`);
  lines.push(await needy.session(gpu).then(() => "not refused", (error) => `${error.kind}: ${error.message}`));
  const broken = await Model.fetch(`/served/${name}-broken.bin`);
  lines.push(await broken.session(gpu).then(() => "not refused", (error) => `${error.kind}: ${error.message}`));
  const session = await model.session(gpu);
  await gpu.close();
  lines.push(await session.run().then(() => "not refused", (error) => `${error.kind}: ${error.message}`));
  await post("refusals", lines.join("\n"));
}

/** The input that a picture becomes. */
async function picture(file, port, normalisation) {
  const bitmap = await createImageBitmap(await (await fetch(file)).blob(), { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const data = context.getImageData(0, 0, bitmap.width, bitmap.height);
  await post("picture", pictureInput(data, port, normalisation));
}

/** What the demo page answers to a model and a picture in its address. */
async function demo(query) {
  const frame = document.body.appendChild(document.createElement("iframe"));
  frame.src = `/runtime/web/demo/index.html?${query}`;
  const text = (id) => frame.contentDocument?.getElementById(id)?.textContent;
  while (!text("answer") && !text("error")) await new Promise((resolve) => setTimeout(resolve, 50));
  await post("demo", text("answer") + text("error"));
}

const tasks = JSON.parse(decodeURIComponent(location.hash.slice(1)));
try {
  for (const [task, ...values] of tasks) await { run, verdicts, refusals, picture, demo }[task](...values);
  await post("end", "");
} catch (error) {
  await post("end", `${error.message}\n${error.stack}`);
}
