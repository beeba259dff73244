//! Executed instructions of the kernels of a quantised MobileNetV2 (Sandler et al. 2018, 224x224), layer by layer.

mod support;

use edgecc_backends::contraction::{Combination, ContractionSpec, DepthwiseSpec, Strides, Window};
use edgecc_backends::cpu::contraction::{EmittedKernel, emit_contraction, emit_depthwise};
use edgecc_backends::cpu::isa::{Architecture, CpuTarget, Integers};
use edgecc_backends::pack::TapTable;
use edgecc_backends::schedule::{Machine as Scheduled, depthwise_schedule, schedule};
use support::data::convolution;
use support::integers::{Epilogue, dense, dense_depthwise};
use support::{Buffer, executed};

/// Expansion, channels, repetitions and stride of each group of blocks.
const BLOCKS: [(i64, i64, i64, i64); 7] =
    [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)];

enum Layer {
    Contraction(ContractionSpec),
    Depthwise(DepthwiseSpec),
}

/// The layers of the network. Images that a window of three meets lie within a border of one pixel.
fn layers() -> Vec<(String, Layer)> {
    let mut layers = Vec::new();
    let stem = dense(1, convolution([226, 226], [3, 3], 2, 1, [0; 4]), 3, 32, Epilogue::Rectified);
    layers.push(("stem".to_string(), Layer::Contraction(into_border(stem))));
    let (mut size, mut channels) = (112, 32);
    for (expansion, filters, repetitions, first_stride) in BLOCKS {
        for repetition in 0..repetitions {
            let stride = if repetition == 0 { first_stride } else { 1 };
            let wide = channels * expansion;
            if expansion > 1 {
                let spec = pointwise(size, channels, wide, Epilogue::Rectified);
                layers.push((format!("{size}x{size} {channels} to {wide}"), Layer::Contraction(into_border(spec))));
            }
            let window = convolution([size + 2, size + 2], [3, 3], stride, 1, [0; 4]);
            let spec = dense_depthwise(window, wide, Combination::Products, Epilogue::Rectified);
            let spec = DepthwiseSpec { batch: vec![1], ..spec };
            layers.push((format!("{size}x{size} of {wide} by {stride}"), Layer::Depthwise(spec)));
            size /= stride;
            let epilogue = if repetition == 0 { Epilogue::Clamped } else { Epilogue::Residual };
            let spec = pointwise(size, wide, filters, epilogue);
            layers.push((format!("{size}x{size} {wide} to {filters}"), Layer::Contraction(spec)));
            channels = filters;
        }
    }
    layers.push(("last".to_string(), Layer::Contraction(pointwise(size, channels, 1280, Epilogue::Rectified))));
    layers.push(("classes".to_string(), Layer::Contraction(dense(1, Window::matrix(1), 1280, 1001, Epilogue::Plain))));
    layers
}

fn pointwise(size: i64, depth: i64, channels: i64, epilogue: Epilogue) -> ContractionSpec {
    let spec = dense(1, convolution([size, size], [1, 1], 1, 1, [0; 4]), depth, channels, epilogue);
    ContractionSpec { symmetric_weights: true, ..spec }
}

/// Writes the result within a border of one pixel.
fn into_border(spec: ContractionSpec) -> ContractionSpec {
    let (width, channels) = (spec.window.width + 2, spec.channels);
    let base = (width + 1) * channels;
    ContractionSpec {
        reading: None,
        symmetric_weights: true,
        output: Strides { base, batch: vec![0], ..Strides::image(width, channels) },
        ..spec
    }
}

fn emitted(target: &CpuTarget, layer: &Layer) -> EmittedKernel {
    match layer {
        Layer::Contraction(spec) => {
            assert!(!TapTable::is_read(spec) || spec.window.taps.len() > 1);
            let scheduled = Scheduled { integers: target.integers, ..Scheduled::new(target.architecture) };
            emit_contraction(target, "layer", spec, &schedule(spec, &scheduled)).unwrap()
        }
        Layer::Depthwise(spec) => {
            emit_depthwise(target, "layer", spec, &depthwise_schedule(spec, target.architecture)).unwrap()
        }
    }
}

#[test]
fn instructions_of_every_level() {
    for (integers, most) in [(Integers::Plain, 87.5), (Integers::Dot, 37.0), (Integers::Matrix, 33.0)] {
        let target = CpuTarget::new(Architecture::Aarch64).unwrap().with_integers(integers);
        let mut sums = [0; 2];
        for (name, layer) in layers() {
            let kernel = emitted(&target, &layer);
            let buffers = kernel.footprints.iter().map(|footprint| Buffer::new(&vec![0; footprint.end as usize]));
            let buffers: Vec<Buffer> = buffers.collect();
            let Some(count) = executed(&kernel.code, &buffers, kernel.units as u32) else { return };
            let is_depthwise = matches!(layer, Layer::Depthwise(_));
            sums[usize::from(is_depthwise)] += count;
            let writer = if kernel.encoded { "" } else { " (Cranelift)" };
            println!("{integers:?} {name}: {count}{writer}");
        }
        let [contractions, depthwise] = sums.map(|sum| sum as f64 / 1e6);
        println!("{integers:?}: {contractions:.2} M in contractions, {depthwise:.2} M in depthwise convolutions");
        assert!(contractions + depthwise <= most, "{integers:?}");
    }
}
