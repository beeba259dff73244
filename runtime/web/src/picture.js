// Pictures as inputs, sample by sample what `edgecc run` makes of them.

import { EdgeccError } from "./error.js";

const single = Math.fround;

/** For each place of a resized line, the first sample that counts there and the weights of those from it on: a triangle over
 * two samples of the coarser of both lines, in single precision as on the command line. */
function weightsOf(from, to) {
  const ratio = single(from / to);
  const support = Math.max(ratio, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = single((place + 0.5) * ratio);
    const first = Math.min(Math.max(Math.floor(single(centre - support)), 0), from - 1);
    const end = Math.min(Math.max(Math.ceil(single(centre + support)), first + 1), from);
    const weights = Float32Array.from({ length: end - first }, (_, n) => {
      const distance = Math.abs(single(single(first + n - single(centre - 0.5)) / support));
      return distance < 1 ? 1 - distance : 0;
    });
    const total = weights.reduce((sum, weight) => single(sum + weight), 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

/** Resamples one axis of `[outer, from, inner]` samples to `[outer, to, inner]`. */
function resample(samples, outer, from, to, inner) {
  const resampled = new Float32Array(outer * to * inner);
  weightsOf(from, to).forEach(({ first, weights }, place) => {
    for (let line = 0; line < outer; line++) {
      for (let n = 0; n < inner; n++) {
        const start = (line * from + first) * inner + n;
        let sum = 0;
        for (let k = 0; k < weights.length; k++) sum = single(sum + single(samples[start + k * inner] * weights[k]));
        resampled[(line * to + place) * inner + n] = sum;
      }
    }
  });
  return resampled;
}

/** Red, green and blue of every pixel, of the picture in another size. */
function resize({ width, height, data }, toWidth, toHeight) {
  const samples = new Uint8Array(width * height * 3);
  for (let n = 0; n < samples.length; n++) samples[n] = data[Math.floor(n / 3) * 4 + (n % 3)];
  if (width === toWidth && height === toHeight) return samples;
  const high = resample(samples, 1, height, toHeight, width * 3);
  return resample(high, toHeight, width, toWidth, 3).map((sample) => Math.floor(Math.min(sample, 255) + 0.5));
}

function geometry({ name, shape }) {
  const [batch, a, b, c] = shape;
  if (shape.length === 4 && batch === 1) {
    if (a === 1 || a === 3) return { isChannelsFirst: true, channels: a, height: b, width: c };
    if (c === 1 || c === 3) return { isChannelsFirst: false, channels: c, height: a, width: b };
  }
  const what = "one of [1,C,H,W] or [1,H,W,C] with 1 or 3 channels does";
  throw new EdgeccError("usage", `input \`${name}\` of shape [${shape.join(", ")}] takes no picture: ${what}`);
}

export function pictureInput(picture, port, { scale = 1 / 255, mean = [0], deviation = [1], bgr = false } = {}) {
  const { isChannelsFirst, channels, height, width } = geometry(port);
  const colours = resize(picture, width, height);
  const sample = (pixel, channel) => {
    if (channels === 3) return colours[pixel * 3 + (bgr ? 2 - channel : channel)];
    const [red, green, blue] = colours.subarray(pixel * 3, pixel * 3 + 3);
    return Math.round(0.2126 * red + 0.7152 * green + 0.0722 * blue);
  };
  const elements = { f32: Float32Array, u8: Uint8Array }[port.type];
  if (!elements) throw new EdgeccError("usage", `input \`${port.name}\` of ${port.type} takes no picture: f32 and u8 do`);
  const figure = (figures, channel) => single(figures[figures.length === 1 ? 0 : channel]);
  const normalised = (value, channel) =>
    single(single(single(value * single(scale)) - figure(mean, channel)) / figure(deviation, channel));
  const input = elements.from({ length: height * width * channels }, (_, place) => {
    const area = height * width;
    const [pixel, channel] = isChannelsFirst
      ? [place % area, Math.floor(place / area)]
      : [Math.floor(place / channels), place % channels];
    const value = sample(pixel, channel);
    return port.type === "u8" ? value : normalised(value, channel);
  });
  return new Uint8Array(input.buffer);
}
