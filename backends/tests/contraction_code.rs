//! Properties of the emitted aarch64 code: accumulators stay in registers, kernels stay small, bytes do not vary.

mod support;

use edgecc_backends::contraction::{Combination, ContractionSpec, DepthwiseSpec, Element, Strides, Window};
use edgecc_backends::cpu::contraction::{emit_contraction, emit_depthwise};
use edgecc_backends::cpu::isa::{Architecture, CpuTarget};
use edgecc_backends::schedule::{Machine, Schedule, Tile, depthwise_schedule, schedule};
use support::data::{clamped_sum, convolution};

fn contraction(window: Window, depth: i64, channels: i64) -> Vec<u8> {
    let spec = spec(window, depth, channels);
    emit(&spec, &schedule(&spec, &Machine { workers_have_scratch: false, ..Machine::new(Architecture::Aarch64) }))
}

fn emit(spec: &ContractionSpec, schedule: &Schedule) -> Vec<u8> {
    let target = CpuTarget::new(Architecture::Aarch64).unwrap();
    emit_contraction(&target, "contraction", spec, schedule).unwrap().code
}

fn spec(window: Window, depth: i64, channels: i64) -> ContractionSpec {
    ContractionSpec {
        element: Element::F32,
        batch: Vec::new(),
        depth,
        channels,
        input: Strides::image(window.input_width, depth),
        reading: None,
        symmetric_weights: false,
        weight_batch: Vec::new(),
        output: Strides::image(window.width, channels),
        operands: vec![Strides::per_channel(0)],
        epilogue: clamped_sum(1),
        window,
    }
}

fn depthwise(window: Window, channels: i64) -> Vec<u8> {
    let spec = DepthwiseSpec {
        element: Element::F32,
        batch: Vec::new(),
        channels,
        combination: Combination::Products,
        reading: None,
        mean: None,
        input: Strides::image(window.input_width, channels),
        output: Strides::image(window.width, channels),
        operands: vec![Strides::per_channel(0)],
        epilogue: clamped_sum(1),
        window,
    };
    let target = CpuTarget::new(Architecture::Aarch64).unwrap();
    emit_depthwise(&target, "depthwise", &spec, &depthwise_schedule(&spec, Architecture::Aarch64)).unwrap().code
}

/// `ldr q, [sp, #n]` and `str q, [sp, #n]`, with scaled and unscaled offsets: spilled vectors. (Callee-saved registers are
/// saved as `d`.)
fn vector_spills(code: &[u8]) -> usize {
    let words = code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
    let scaled = |word: u32| matches!(word & 0xffc0_03e0, 0x3dc0_03e0 | 0x3d80_03e0);
    let unscaled = |word: u32| matches!(word & 0xffe0_0fe0, 0x3cc0_03e0 | 0x3c80_03e0);
    words.filter(|&word| scaled(word) || unscaled(word)).count()
}

fn kernels() -> Vec<(String, Vec<u8>)> {
    let matrices = [(12544, 32, 16), (12544, 16, 96), (3136, 144, 24), (196, 576, 96), (49, 960, 320), (1, 1280, 1000)];
    let matrices = matrices.map(|(m, k, n)| (format!("{m}x{k}x{n}"), contraction(Window::matrix(m), k, n)));
    let same = [1, 1, 1, 1];
    let dense = [
        ("first layer", convolution([224, 224], [3, 3], 2, 1, same), 3, 32),
        ("3x3", convolution([56, 56], [3, 3], 1, 1, same), 64, 64),
        ("7x7", convolution([224, 224], [7, 7], 2, 1, [3, 3, 3, 3]), 3, 64),
    ];
    let dense = dense.map(|(name, window, k, n)| (name.to_owned(), contraction(window, k, n)));
    let thin = [
        ("depthwise 112", convolution([112, 112], [3, 3], 1, 1, same), 32),
        ("depthwise 112 s2", convolution([112, 112], [3, 3], 2, 1, same), 96),
        ("depthwise 7", convolution([7, 7], [3, 3], 1, 1, same), 960),
        ("depthwise 5x5", convolution([28, 28], [5, 5], 1, 1, [2, 2, 2, 2]), 120),
    ];
    let thin = thin.map(|(name, window, channels)| (name.to_owned(), depthwise(window, channels)));
    matrices.into_iter().chain(dense).chain(thin).collect()
}

#[test]
fn no_vector_is_spilled() {
    for (name, code) in kernels() {
        assert_eq!(vector_spills(&code), 0, "{name}");
    }
}

/// The scan sees what it looks for: a tile with more sums than there are registers.
#[test]
fn an_oversized_tile_spills() {
    let schedule = Schedule::of_tile(Tile { rows: 8, vectors: 4 }, 4);
    assert!(vector_spills(&emit(&spec(Window::matrix(64), 64, 64), &schedule)) > 0);
}

#[test]
fn kernels_are_small() {
    for (name, code) in kernels() {
        assert!(code.len() <= 13 << 10, "{name} takes {} bytes", code.len());
    }
}

#[test]
fn the_same_spec_gives_the_same_bytes() {
    assert!(kernels() == kernels());
}
