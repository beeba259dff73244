//! Samples that are made up where none are given. Statistics of real inputs differ: what is calibrated on these is worse.

use edgecc_device::tensor_file::Array;
use edgecc_format::Port;
use edgecc_ir::{DType, Graph, Scalar};

use super::samples::{SampleError, Samples, ports};
use crate::picture::Normalisation;

/// Knots along each side of a made-up picture, between which it is interpolated: neighbouring pixels are alike.
const KNOTS: usize = 9;
/// Share of a made-up picture that is noise of single pixels.
const GRAIN: f32 = 0.15;

/// `count` samples from a seed: pictures for inputs that look like pictures, normalised as read ones are, normally
/// distributed numbers for others.
pub fn synthetic(
    graph: &Graph,
    normalisation: &Normalisation,
    count: usize,
    seed: u64,
) -> Result<Samples, SampleError> {
    let ports = ports(graph);
    let mut draw = Draw { state: seed };
    let mut runs = Vec::with_capacity(count);
    for _ in 0..count {
        runs.push(ports.iter().map(|port| array(port, normalisation, &mut draw)).collect::<Result<_, _>>()?);
    }
    Ok(Samples { ports, runs })
}

fn array(port: &Port, normalisation: &Normalisation, draw: &mut Draw) -> Result<Array, SampleError> {
    let Some(dtype) = DType::from_name(port.element_type().name()).filter(|dtype| dtype.is_float()) else {
        return Err(SampleError::NotSynthetic { name: port.name.clone(), ty: edgecc_device::inputs::describe(port) });
    };
    let extents: Vec<usize> = port.dims.iter().map(|dim| dim.capacity() as usize).collect();
    let values = match extents[..] {
        [n, c @ (1 | 3), h, w] => pictures(n, [c, h, w], false, normalisation, draw),
        [n, h, w, c @ (1 | 3)] => pictures(n, [c, h, w], true, normalisation, draw),
        _ => (0..extents.iter().product()).map(|_| draw.normal()).collect(),
    };
    let element = |value: f32| Scalar::from_f64(dtype, value as f64).to_le_bytes().into_iter().take(dtype.size());
    Ok(Array { element_type: port.element_type(), extents, bytes: values.into_iter().flat_map(element).collect() })
}

/// `n` pictures, row-major, with the channels before or behind the pixels.
fn pictures(
    n: usize,
    [channels, height, width]: [usize; 3],
    channels_last: bool,
    normalisation: &Normalisation,
    draw: &mut Draw,
) -> Vec<f32> {
    let pixels = height * width;
    let mut values = vec![0.0; n * channels * pixels];
    let figure = |list: &[f32], channel: usize| list.get(channel).or(list.first()).copied();
    for image in values.chunks_exact_mut((channels * pixels).max(1)) {
        for channel in 0..channels {
            let knots: Vec<f32> = (0..KNOTS * KNOTS).map(|_| draw.unit()).collect();
            let mean = figure(&normalisation.mean, channel).unwrap_or(0.0);
            let deviation = figure(&normalisation.deviation, channel).unwrap_or(1.0);
            for pixel in 0..pixels {
                let smooth = between(&knots, pixel / width, height, pixel % width, width);
                let sample = 255.0 * ((1.0 - GRAIN) * smooth + GRAIN * draw.unit());
                let place = if channels_last { pixel * channels + channel } else { channel * pixels + pixel };
                image[place] = (sample * normalisation.scale - mean) / deviation;
            }
        }
    }
    values
}

/// Linear interpolation between the knots around a pixel.
fn between(knots: &[f32], y: usize, height: usize, x: usize, width: usize) -> f32 {
    let place = |position: usize, extent: usize| {
        let scaled = position as f32 / extent as f32 * (KNOTS - 1) as f32;
        (scaled as usize, scaled.fract())
    };
    let ((row, down), (column, right)) = (place(y, height), place(x, width));
    let at = |row: usize, column: usize| knots[row * KNOTS + column];
    let line = |row: usize| at(row, column) * (1.0 - right) + at(row, column + 1) * right;
    line(row) * (1.0 - down) + line(row + 1) * down
}

/// Random numbers: SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
struct Draw {
    state: u64,
}

impl Draw {
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to 1.
    fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// Mean 0, variance 1, by Box and Muller's method.
    fn normal(&mut self) -> f32 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f32::consts::TAU * self.unit()).cos()
    }
}
