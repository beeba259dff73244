// The demo page: files from the form, or from the addresses in `?model=..&picture=..`.

import { Gpu, Model, pictureInput } from "../src/index.js";

const form = document.forms[0];
const element = (id) => document.getElementById(id);
const figures = (text) => text.split(",").map(Number);
let session;
let model;
let picture;

/** The samples of a picture as its file holds them, red, green, blue and opacity. */
async function readPicture(file) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

async function useModel(bytes) {
  model = Model.fromBytes(bytes);
  const gpu = await Gpu.open();
  element("state").textContent = `preparing for ${await gpu.adapter()}`;
  const start = performance.now();
  session = await model.session(gpu);
  element("state").textContent = `ready after ${Math.round(performance.now() - start)} ms on ${await gpu.adapter()}`;
}

async function usePicture(file) {
  picture = await readPicture(file);
  element("shown").src = URL.createObjectURL(file);
}

/** The elements of an output as numbers, where a browser has an array of its type. */
function numbers({ type }, bytes) {
  const arrays = { f32: Float32Array, f64: Float64Array, i32: Int32Array, u32: Uint32Array, i8: Int8Array, u8: Uint8Array };
  return arrays[type] && [...new arrays[type](bytes.buffer)];
}

/** The best classes of a classifier, the range of other outputs. */
function summary(port, bytes, labels) {
  const values = numbers(port, bytes);
  const head = `${port.name}: ${port.type} [${port.shape.join(", ")}]\n`;
  if (!values) return `${head}  ${bytes.length} bytes\n`;
  if (!port.shape.includes(values.length)) {
    const [low, high] = values.reduce(([low, high], x) => [Math.min(low, x), Math.max(high, x)], [Infinity, -Infinity]);
    return `${head}  min ${low.toFixed(6)}  max ${high.toFixed(6)}\n`;
  }
  const order = [...values.keys()].sort((a, b) => values[b] - values[a]).slice(0, 5);
  const line = (place) => `  ${String(place).padStart(5)}  ${values[place].toFixed(6)}  ${labels[place] ?? ""}\n`;
  return head + order.map(line).join("");
}

async function answer() {
  if (!session || !picture) return;
  const normalisation = {
    scale: Number(form.scale.value),
    mean: figures(form.mean.value),
    deviation: figures(form.deviation.value),
    bgr: form.bgr.checked,
  };
  session.input(0).set(pictureInput(picture, model.inputs[0], normalisation));
  const start = performance.now();
  await session.run();
  const milliseconds = (performance.now() - start).toFixed(1);
  const texts = model.outputs.map((port, place) => summary(port, session.output(place), model.labels));
  element("answer").textContent = `${texts.join("")}in ${milliseconds} ms`;
}

async function attempt(act) {
  element("error").textContent = "";
  try {
    await act();
    await answer();
  } catch (error) {
    element("error").textContent = error.message;
  }
}

form.model.onchange = () => attempt(async () => useModel(await form.model.files[0].arrayBuffer()));
form.picture.onchange = () => attempt(() => usePicture(form.picture.files[0]));
for (const name of ["scale", "mean", "deviation", "bgr"]) form[name].onchange = () => attempt(() => {});

const given = new URLSearchParams(location.search);
const read = async (name) => (await fetch(given.get(name))).blob();
await attempt(async () => {
  if (given.has("picture")) await usePicture(await read("picture"));
  if (given.has("model")) await useModel(await (await read("model")).arrayBuffer());
});
