//! Depthwise convolutions against plain loops, on the host and on an emulated aarch64, compared bit by bit.

mod support;

use edgecc_backends::contraction::{Combination, DepthwiseSpec, Element, Strides, Window};
use edgecc_backends::cpu::contraction::{emit_depthwise, pack_depthwise};
use edgecc_backends::schedule::depthwise_schedule;
use support::data::{Random, at, batches, clamped, clamped_sum, convolution, over};
use support::{Buffer, Machine, run};

/// A dense depthwise convolution of two batches with a bias per channel and a residual as large as the output.
fn dense(window: Window, channels: i64) -> DepthwiseSpec {
    let mut input = Strides::image(window.input_width, channels);
    input.batch = vec![window.input_height * window.input_width * channels];
    let mut output = Strides::image(window.width, channels);
    output.batch = vec![window.pixels() * channels];
    DepthwiseSpec {
        element: Element::F32,
        batch: vec![2],
        operands: vec![Strides::per_channel(1), output.clone()],
        window,
        channels,
        combination: Combination::Products,
        reading: None,
        mean: None,
        input,
        output,
        epilogue: clamped_sum(2),
    }
}

fn reference(spec: &DepthwiseSpec, input: &[f32], weights: &[f32], further: &[Vec<f32>], output: &mut [f32]) {
    let window = &spec.window;
    for batch in batches(&spec.batch) {
        for place in 0..window.pixels() * spec.channels {
            let (pixel, channel) = (place / spec.channels, place % spec.channels);
            let (y, x) = (pixel / window.width, pixel % window.width);
            let mut sum: f32 = if spec.combination == Combination::Maximum { f32::NEG_INFINITY } else { 0.0 };
            for tap in &window.taps {
                let (row, column) = (y * window.step[0] + tap.row, x * window.step[1] + tap.column);
                if (0..window.input_height).contains(&row) && (0..window.input_width).contains(&column) {
                    let weight = weights[tap.weight * spec.channels as usize + channel as usize];
                    let element = input[at(&spec.input, &batch, row, column, channel)];
                    sum = match spec.combination {
                        Combination::Products => sum + element * weight,
                        Combination::Maximum => sum.max(element),
                        Combination::Sum => sum + element,
                    };
                }
            }
            let operands = spec.operands.iter().zip(further);
            let added: f32 = operands.map(|(strides, values)| values[at(strides, &batch, y, x, channel)]).sum();
            output[at(&spec.output, &batch, y, x, channel)] = clamped(sum + added);
        }
    }
}

fn check_on(machine: Machine, name: &str, spec: &DepthwiseSpec) {
    for element in [Element::F32, Element::F16] {
        let spec = DepthwiseSpec { element, epilogue: over(element, &spec.epilogue), ..spec.clone() };
        check_elements(machine, name, &spec);
    }
}

fn check_elements(machine: Machine, name: &str, spec: &DepthwiseSpec) {
    let target = machine.target();
    let (element, size) = (spec.element, spec.element.bytes());
    let schedule = depthwise_schedule(spec, target.architecture);
    let kernel = emit_depthwise(&target, name, spec, &schedule).unwrap();
    let mut random = Random(name.len() as u64 * 31 + 7);
    let taps = spec.window.taps.len() as i64;
    let input = random.values(kernel.footprints[0].end / size);
    let weights = random.values(taps * spec.channels);
    let packed = pack_depthwise(spec, &schedule, |tap, channel| {
        weights[spec.window.taps[tap as usize].weight * spec.channels as usize + channel as usize]
    });
    let further: Vec<Vec<f32>> =
        (0..spec.operands.len()).map(|n| random.values(kernel.footprints[3 + n].end / size)).collect();
    let mut expected = vec![f32::NAN; (kernel.footprints[2].end / size) as usize];
    reference(spec, &input, &weights, &further, &mut expected);
    let packed = if spec.combination == Combination::Products { packed } else { Vec::new() };
    let mut buffers = vec![
        Buffer::of_elements(element, &input),
        Buffer::of_elements(element, &packed),
        Buffer::unwritten_elements(element, expected.len()),
    ];
    buffers.extend(further.iter().map(|values| Buffer::of_elements(element, values)));
    assert_eq!(packed.len() as i64 * size, kernel.footprints[1].end, "{name}: weights");
    let units = kernel.units as u32;
    let Some(after) = run(machine, &kernel.code, &buffers, &[0, units / 3, units]) else { return };
    for (place, (got, want)) in after[2].elements(element).iter().zip(&expected).enumerate() {
        let same = got == want || got.is_nan() && want.is_nan();
        assert!(same, "{name} of {element:?} on {machine:?}: element {place} is {got}, not {want}");
    }
}

const MACHINES: [Machine; 5] =
    [Machine::Host, Machine::WideHost, Machine::CortexA72, Machine::MaximalAarch64, Machine::InOrderAarch64];

fn check(name: &str, spec: &DepthwiseSpec) {
    for machine in MACHINES {
        check_on(machine, name, spec);
    }
}

#[test]
fn windows_of_three_by_three() {
    check_windows(&[
        ("3x3", convolution([9, 14], [3, 3], 1, 1, [1, 1, 1, 1])),
        ("3x3 wide", convolution([4, 41], [3, 3], 1, 1, [1, 1, 1, 1])),
        ("3x3 stride 2", convolution([11, 30], [3, 3], 2, 1, [0, 0, 1, 1])),
        ("3x3 dilated", convolution([12, 19], [3, 3], 1, 3, [3, 3, 3, 3])),
    ]);
}

#[test]
fn windows_of_other_kinds() {
    check_windows(&[
        ("5x5", convolution([8, 17], [5, 5], 1, 1, [2, 2, 2, 2])),
        ("5x5 stride 2", convolution([13, 28], [5, 5], 2, 1, [1, 2, 2, 1])),
        ("no pads", convolution([6, 9], [2, 3], 1, 1, [0; 4])),
        ("1d", convolution([1, 33], [1, 4], 1, 1, [0, 3, 0, 0])),
        ("kernel above input", convolution([2, 3], [7, 7], 1, 1, [3, 3, 3, 3])),
        ("1x1 stride 2", convolution([5, 8], [1, 1], 2, 1, [0; 4])),
    ]);
}

fn check_windows(windows: &[(&str, Window)]) {
    for (name, window) in windows {
        for channels in [4, 7, 16, 3] {
            check(&format!("{name} {channels}"), &dense(window.clone(), channels));
        }
        // The forms that our encoders write: a bias alone, nothing, the largest, the sum.
        for channels in [1, 2, 5, 8, 14, 24, 29, 35] {
            let whole = dense(window.clone(), channels);
            let biased =
                DepthwiseSpec { operands: vec![Strides::per_channel(1)], epilogue: clamped_sum(1), ..whole.clone() };
            let alone = DepthwiseSpec { operands: Vec::new(), epilogue: clamped_sum(0), ..whole };
            let largest = DepthwiseSpec { combination: Combination::Maximum, ..alone.clone() };
            let sum = DepthwiseSpec { combination: Combination::Sum, ..alone.clone() };
            for machine in MACHINES {
                check_on(machine, &format!("{name} {channels} biased"), &biased);
                check_on(machine, &format!("{name} {channels} alone"), &alone);
                check_on(machine, &format!("{name} {channels} largest"), &largest);
                check_on(machine, &format!("{name} {channels} sum"), &sum);
            }
        }
    }
}

/// A slice of a wider tensor on both sides, and a value per pixel.
#[test]
fn slices_of_wider_tensors() {
    let mut spec = dense(convolution([7, 7], [3, 3], 1, 1, [1, 1, 1, 1]), 6);
    spec.input = Strides { base: 2, batch: vec![7 * 7 * 10], ..Strides::image(7, 10) };
    spec.output = Strides { base: 1, batch: vec![7 * 7 * 8], ..Strides::image(7, 8) };
    spec.operands = vec![Strides { batch: vec![0], row: 7, column: 1, ..Strides::default() }];
    spec.epilogue = clamped_sum(1);
    check("slices", &spec);
}
