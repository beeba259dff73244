//! Contractions against plain loops, on the host and on an emulated aarch64. All data are small integers, so that every
//! sum is exact and results are compared bit by bit.

mod support;

use edgecc_backends::contraction::{ContractionSpec, Element, RuntimeWeights, Strides, Tap, Window};
use edgecc_backends::cpu::contraction::{emit_contraction, emit_pack};
use edgecc_backends::cpu::isa::{Architecture, Core, CpuTarget, Halves, Vectors};
use edgecc_backends::pack::{PackedLayout, TapTable, pack_weights};
use edgecc_backends::schedule::cores::{CORTEX_A55, GENERIC};
use edgecc_backends::schedule::{Machine as Scheduled, Schedule, Tile, schedule};
use edgecc_ir::{BinaryOp, DType, Expr, UnaryOp};
use support::data::{Random, at, batches, clamped, clamped_sum, convolution, dot, over};
use support::{Buffer, Machine, run};

/// A dense contraction with a bias per channel, and a residual as large as the output.
fn dense(batch: i64, window: Window, depth: i64, channels: i64) -> ContractionSpec {
    let mut input = Strides::image(window.input_width, depth);
    input.batch = vec![window.input_height * window.input_width * depth];
    let mut output = Strides::image(window.width, channels);
    output.batch = vec![window.pixels() * channels];
    ContractionSpec {
        element: Element::F32,
        batch: vec![batch],
        operands: vec![Strides::per_channel(1), output.clone()],
        window,
        depth,
        channels,
        input,
        reading: None,
        symmetric_weights: false,
        weight_batch: vec![0],
        output,
        epilogue: clamped_sum(2),
    }
}

/// The spec in plain loops; `weights[matrix][weight index][k][n]`.
fn reference(
    spec: &ContractionSpec,
    input: &[f32],
    weights: &[f32],
    further: &[Vec<f32>],
    finish: &dyn Fn(f32) -> f32,
    output: &mut [f32],
) {
    let window = &spec.window;
    let taps = window.taps.len() as i64;
    for batch in batches(&spec.batch) {
        let matrix = dot(&spec.weight_batch, &batch);
        for pixel in 0..window.pixels() {
            let (y, x) = (pixel / window.width, pixel % window.width);
            for n in 0..spec.channels {
                let mut sum = 0.0;
                for tap in &window.taps {
                    let (row, column) = (y * window.step[0] + tap.row, x * window.step[1] + tap.column);
                    if row < 0 || row >= window.input_height || column < 0 || column >= window.input_width {
                        continue;
                    }
                    for k in 0..spec.depth {
                        let weight = ((matrix * taps + tap.weight as i64) * spec.depth + k) * spec.channels + n;
                        sum += input[at(&spec.input, &batch, row, column, k)] * weights[weight as usize];
                    }
                }
                let operands = spec.operands.iter().zip(further);
                let added: f32 = operands.map(|(strides, values)| values[at(strides, &batch, y, x, n)]).sum();
                output[at(&spec.output, &batch, y, x, n)] = finish(sum + added);
            }
        }
    }
}

/// Runs a spec with a schedule on a machine; `None` where it is missing. Checks guards, footprints and untouched gaps.
fn check_scheduled(machine: Machine, name: &str, spec: &ContractionSpec, schedule: &Schedule) {
    check_finished(machine, name, spec, schedule, (&clamped, 0.0));
}

/// The same with an epilogue that is `finish` of the sum of accumulator and operands, to within a tolerance.
fn check_finished(
    machine: Machine,
    name: &str,
    spec: &ContractionSpec,
    schedule: &Schedule,
    (finish, tolerance): (&dyn Fn(f32) -> f32, f32),
) {
    let target = machine.target();
    let (element, size) = (spec.element, spec.element.bytes());
    let kernel = emit_contraction(&target, name, spec, schedule).unwrap();
    let mut random = Random(name.len() as u64 * 77 + 5);
    let layout = PackedLayout::of(spec, schedule);
    let taps = spec.window.taps.len() as i64;
    let input = random.values(kernel.footprints[0].end / size);
    let weights = random.values(layout.matrices * taps * spec.depth * spec.channels);
    let packed = pack_weights(&layout, |matrix, tap, k, n| {
        let weight = spec.window.taps[tap as usize].weight as i64;
        weights[(((matrix * taps + weight) * spec.depth + k) * spec.channels + n) as usize]
    });
    let further: Vec<Vec<f32>> =
        (0..spec.operands.len()).map(|n| random.values(kernel.footprints[3 + n].end / size)).collect();
    let mut expected = vec![f32::NAN; (kernel.footprints[2].end / size) as usize];
    reference(spec, &input, &weights, &further, finish, &mut expected);

    let mut buffers = vec![
        Buffer::of_elements(element, &input),
        Buffer::of_elements(element, &packed),
        Buffer::unwritten_elements(element, expected.len()),
    ];
    buffers.extend(further.iter().map(|values| Buffer::of_elements(element, values)));
    if TapTable::is_read(spec) {
        buffers.push(Buffer::new(&TapTable::of(spec).bytes));
    }
    let scratch = schedule.scratch(spec);
    if scratch > 0 {
        buffers.push(Buffer::unwritten(scratch / 4));
    }
    let written = |index: usize| index == 2 || scratch > 0 && index + 1 == buffers.len();
    for (buffer, footprint) in buffers.iter().zip(&kernel.footprints) {
        assert_eq!((0, buffer.content().len() as i64), (footprint.begin.min(0), footprint.end), "{name}: footprint");
    }
    let units = kernel.units as u32;
    let Some(after) = run(machine, &kernel.code, &buffers, &[0, units / 3, units]) else { return };
    let result = after[2].elements(element);
    for (place, (got, want)) in result.iter().zip(&expected).enumerate() {
        let same = (got - want).abs() <= tolerance || got.is_nan() && want.is_nan();
        assert!(same, "{name} on {machine:?} with {schedule:?}: element {place} is {got}, not {want}");
    }
    for (index, (before, after)) in buffers.iter().zip(&after).enumerate().filter(|&(index, _)| !written(index)) {
        assert!(before == after, "{name}: operand {index} was written");
    }
}

fn check(name: &str, spec: &ContractionSpec) {
    let wide = Scheduled { vectors: Vectors::Avx512, ..Scheduled::new(Architecture::X86_64) };
    check_scheduled(Machine::WideHost, name, spec, &schedule(spec, &wide));
    for machine in [Machine::Host, Machine::CortexA72, Machine::MaximalAarch64, Machine::InOrderAarch64] {
        let CpuTarget { architecture, halves, core, .. } = machine.target();
        let class = if core == Core::InOrder { &CORTEX_A55 } else { &GENERIC };
        let with_scratch = Scheduled { core: class, ..Scheduled::new(architecture) };
        let without = Scheduled { workers_have_scratch: false, ..with_scratch };
        check_scheduled(machine, name, spec, &schedule(spec, &without));
        check_scheduled(machine, name, spec, &schedule(spec, &with_scratch));
        let spec = in_halves(spec);
        let schedule = schedule(&spec, &without);
        let schedule = if halves == Halves::Native { schedule } else { schedule.widened() };
        check_scheduled(machine, &format!("{name} of halves"), &spec, &schedule);
    }
}

fn in_halves(spec: &ContractionSpec) -> ContractionSpec {
    ContractionSpec { element: Element::F16, epilogue: over(Element::F16, &spec.epilogue), ..spec.clone() }
}

/// Sums of chunks of the depth are exact too, and so are sums of rows of taps.
#[test]
fn deep_sums_of_halves() {
    for (rows, depth, channels) in [(9, 191, 24), (9, 192, 25), (17, 200, 40), (3, 330, 70), (1, 513, 9)] {
        check(&format!("deep {rows}x{depth}x{channels}"), &dense(1, Window::matrix(rows), depth, channels));
    }
    let window = convolution([7, 9], [3, 3], 1, 1, [1, 1, 1, 1]);
    for depth in [21, 22, 64, 70, 150] {
        check(&format!("deep window {depth}"), &dense(1, window.clone(), depth, 27));
    }
    for (kernel, depth) in [([7, 7], 3), ([5, 1], 40), ([1, 5], 40), ([7, 3], 5)] {
        let pads = [kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2];
        for step in [1, 2] {
            let window = convolution([17, 19], kernel, step, 1, pads);
            check(&format!("deep window {kernel:?} of {depth}, step {step}"), &dense(1, window, depth, 27));
        }
    }
}

/// Every tile for halves, with every number of channels that a last register may hold.
#[test]
fn every_tile_of_halves() {
    for (rows, vectors) in [(4, 4), (4, 5), (7, 2), (7, 3), (5, 3), (4, 3), (8, 2), (5, 2), (1, 8), (2, 8), (3, 6)] {
        for channels in 1..=8 {
            let spec = in_halves(&dense(1, Window::matrix(29), 11, vectors * 8 + channels));
            let tile = Tile { rows, vectors };
            let schedule = Schedule { block_tiles: 2, block_panels: 2, ..Schedule::of_tile(tile, 8) };
            for machine in [Machine::MaximalAarch64, Machine::InOrderAarch64] {
                check_scheduled(machine, "tiles of halves", &spec, &schedule);
            }
        }
    }
}

#[test]
fn matrix_products_of_odd_sizes() {
    let sizes = [(1, 1, 1), (8, 4, 8), (13, 7, 10), (49, 16, 24), (31, 5, 3), (9, 33, 17), (100, 6, 40), (4, 2, 5)];
    for (rows, depth, channels) in sizes {
        let name = format!("matrix {rows}x{depth}x{channels}");
        check(&name, &dense(1, Window::matrix(rows), depth, channels));
    }
}

#[test]
fn few_rows_run_over_panels() {
    for rows in 1..4 {
        check(&format!("vector {rows}"), &dense(1, Window::matrix(rows), 37, 203));
    }
}

/// A single row of more vectors than are finished together, with further operands.
#[test]
fn a_row_of_many_vectors() {
    for channels in [203, 128, 70, 24] {
        let spec = dense(2, Window::matrix(1), 37, channels);
        let schedule = |vectors: i64, lanes: i64| {
            let tile = Tile { rows: 1, vectors };
            Schedule { block_panels: 2, ..Schedule::of_tile(tile, lanes) }
        };
        for machine in [Machine::CortexA72, Machine::InOrderAarch64] {
            check_scheduled(machine, "a row", &spec, &schedule(16, 4));
        }
        check_scheduled(Machine::MaximalAarch64, "a row of halves", &in_halves(&spec), &schedule(12, 8));
    }
}

#[test]
fn every_tile_of_the_tables() {
    let spec = dense(1, Window::matrix(29), 11, 45);
    for (rows, vectors) in [(8, 2), (7, 3), (6, 3), (5, 4), (4, 4), (1, 8), (2, 8), (3, 6), (4, 2), (3, 2)] {
        let schedule = Schedule { block_tiles: 2, block_panels: 2, ..Schedule::of_tile(Tile { rows, vectors }, 4) };
        for machine in [Machine::Host, Machine::CortexA72, Machine::InOrderAarch64] {
            check_scheduled(machine, "tiles", &spec, &schedule);
        }
    }
}

#[test]
fn packed_rows_of_every_tile() {
    let tiles = [(8, 3), (12, 2), (8, 2), (4, 4), (8, 1), (12, 1)];
    let sizes = [(29, 11, 45), (24, 16, 24), (59, 39, 20), (12, 64, 7), (8, 5, 36), (100, 17, 50)];
    for ((rows, vectors), (pixels, depth, channels)) in
        tiles.into_iter().flat_map(|tile| sizes.map(|size| (tile, size)))
    {
        for block_panels in [1, 3] {
            let tile = Tile { rows, vectors };
            let schedule = Schedule { block_tiles: 2, block_panels, packs_rows: true, ..Schedule::of_tile(tile, 4) };
            let spec = dense(2, Window::matrix(pixels), depth, channels);
            let alone =
                ContractionSpec { operands: Vec::new(), epilogue: Expr::argument(0, DType::F32), ..spec.clone() };
            for machine in [Machine::CortexA72, Machine::InOrderAarch64] {
                check_scheduled(machine, "packed rows", &spec, &schedule);
                check_finished(machine, "packed rows alone", &alone, &schedule, (&|sum| sum, 0.0));
            }
        }
    }
}

/// Depths with and without chunks, and parts of a vector behind whole ones.
#[test]
fn packed_rows_of_halves() {
    let grid = convolution([15, 15], [1, 1], 2, 1, [0; 4]);
    let windows = [Window::matrix(29), Window::matrix(24), Window::matrix(8), grid];
    for (window, depth) in windows.iter().flat_map(|window| [11, 64, 95, 96, 173, 256].map(|depth| (window, depth))) {
        for (vectors, channels) in [(3, 45), (2, 32), (1, 7)] {
            let tile = Tile { rows: 8, vectors };
            let schedule = Schedule { block_tiles: 2, block_panels: 2, packs_rows: true, ..Schedule::of_tile(tile, 8) };
            let spec = in_halves(&dense(2, window.clone(), depth, channels));
            let epilogue = Element::F16.plain_epilogue();
            let alone = ContractionSpec { operands: Vec::new(), epilogue, ..spec.clone() };
            for machine in [Machine::MaximalAarch64, Machine::InOrderAarch64] {
                check_scheduled(machine, "packed rows of halves", &spec, &schedule);
                check_finished(machine, "packed rows of halves alone", &alone, &schedule, (&|sum| sum, 0.0));
            }
        }
    }
}

#[test]
fn packed_rows_of_a_grid() {
    for ((rows, vectors), extents) in [((8, 3), [9, 15]), ((12, 2), [11, 7]), ((4, 4), [15, 15])] {
        let window = convolution(extents, [1, 1], 2, 1, [0; 4]);
        for depth in [11, 32] {
            let tile = Tile { rows, vectors };
            let schedule = Schedule { block_tiles: 2, block_panels: 2, packs_rows: true, ..Schedule::of_tile(tile, 4) };
            for machine in [Machine::CortexA72, Machine::InOrderAarch64] {
                check_scheduled(machine, "grid", &dense(2, window.clone(), depth, 29), &schedule);
            }
        }
    }
}

#[test]
fn batches_with_weights_of_their_own() {
    let mut spec = dense(1, Window::matrix(11), 9, 14);
    let (input, output) = (11 * 9, 11 * 14);
    spec.batch = vec![2, 3];
    spec.input.batch = vec![3 * input, input];
    spec.output.batch = vec![3 * output, output];
    spec.weight_batch = vec![3, 1];
    spec.operands[0].batch = vec![0, 0];
    spec.operands[1].batch = vec![0, output];
    check("batch", &spec);
}

#[test]
fn pointwise_convolutions_with_a_stride() {
    check("pointwise s2", &dense(2, convolution([9, 7], [1, 1], 2, 1, [0; 4]), 12, 20));
}

#[test]
fn convolutions_of_every_window() {
    let windows = [
        ("3x3 pad 1", convolution([13, 21], [3, 3], 1, 1, [1, 1, 1, 1])),
        ("3x3 stride 2", convolution([14, 23], [3, 3], 2, 1, [0, 1, 1, 0])),
        ("3x3 dilated", convolution([11, 19], [3, 3], 1, 2, [2, 2, 2, 2])),
        ("no pads", convolution([6, 15], [3, 2], 1, 1, [0; 4])),
        ("1d", convolution([1, 40], [1, 5], 1, 1, [0, 4, 0, 0])),
        ("kernel above input", convolution([2, 3], [5, 5], 1, 1, [2, 2, 2, 2])),
        ("small image", convolution([4, 4], [3, 3], 1, 1, [1, 1, 1, 1])),
    ];
    for (name, window) in windows {
        for (depth, channels) in [(3, 16), (8, 10)] {
            check(&format!("{name} {depth}x{channels}"), &dense(2, window.clone(), depth, channels));
        }
    }
}

/// Groups are a batch axis that moves input, weights and output.
#[test]
fn groups() {
    let window = convolution([7, 9], [3, 3], 1, 1, [1, 1, 1, 1]);
    let (groups, depth, channels) = (3, 5, 6);
    let mut spec = dense(2, window, depth, channels);
    spec.input = Strides { batch: vec![7 * 9 * 15, depth], ..Strides::image(9, groups * depth) };
    spec.output = Strides { batch: vec![7 * 9 * 18, channels], ..Strides::image(9, groups * channels) };
    spec.batch = vec![2, groups];
    spec.weight_batch = vec![0, 1];
    spec.operands = vec![Strides { batch: vec![0, channels], ..Strides::per_channel(2) }, spec.output.clone()];
    check("groups", &spec);
}

/// One phase of a transposed convolution writes every second row and column and meets some taps only.
#[test]
fn strided_outputs_with_a_list_of_taps() {
    let taps = vec![Tap { row: 0, column: 1, weight: 2 }, Tap { row: -1, column: 0, weight: 0 }];
    let mut window = convolution([6, 10], [1, 1], 1, 1, [0; 4]);
    window.taps = taps;
    let mut spec = dense(1, window, 6, 9);
    spec.window.taps.push(Tap { row: 1, column: 1, weight: 1 });
    let wide = 2 * 10 * 9;
    spec.output = Strides { base: wide + 9, batch: vec![0], row: 2 * wide, column: 18, channel: 1 };
    check("phase", &spec);
}

/// Output and residual with channels apart from each other; one value per pixel.
#[test]
fn channels_apart() {
    let mut spec = dense(1, Window::matrix(18), 8, 11);
    spec.output = Strides { base: 0, batch: vec![0], row: 0, column: 1, channel: 18 };
    spec.operands = vec![spec.output.clone(), Strides { batch: vec![0], column: 1, ..Strides::default() }];
    check("channels apart", &spec);
}

/// `s * sigmoid(s)` where the sum s is positive, and a tenth of s elsewhere: functions, comparisons and selections.
#[test]
fn epilogues_with_functions() {
    let mut expr = Expr::new();
    let acc = expr.arg(0, DType::F32);
    let (bias, residual) = (expr.arg(1, DType::F32), expr.arg(2, DType::F32));
    let sum = expr.binary(BinaryOp::Add, acc, bias);
    let sum = expr.binary(BinaryOp::Add, sum, residual);
    let (zero, tenth) = (expr.number(sum, 0.0), expr.number(sum, 0.1));
    let gate = expr.unary(UnaryOp::Sigmoid, sum);
    let gated = expr.binary(BinaryOp::Mul, sum, gate);
    let leak = expr.binary(BinaryOp::Mul, sum, tenth);
    let negative = expr.binary(BinaryOp::Less, sum, zero);
    let result = expr.select(negative, leak, gated);
    let spec = ContractionSpec { epilogue: expr.with_root(result), ..dense(2, Window::matrix(10), 3, 11) };
    let finish = |sum: f32| if sum < 0.0 { sum * 0.1 } else { sum / (1.0 + (-sum).exp()) };
    for machine in [Machine::Host, Machine::CortexA72, Machine::InOrderAarch64] {
        let scheduled = schedule(&spec, &Scheduled::new(machine.architecture()));
        check_finished(machine, "functions", &spec, &scheduled, (&finish, 1e-5));
    }
}

/// Functions of one number behind a sum, in tiles that leave few registers and in packed ones.
#[test]
fn epilogues_of_every_function() {
    type Function = (UnaryOp, fn(f32) -> f32);
    let functions: [Function; 9] = [
        (UnaryOp::Tanh, f32::tanh),
        (UnaryOp::Sigmoid, |x| 1.0 / (1.0 + (-x).exp())),
        (UnaryOp::Abs, f32::abs),
        (UnaryOp::Neg, |x| -x),
        (UnaryOp::Floor, f32::floor),
        (UnaryOp::Ceil, f32::ceil),
        (UnaryOp::Round, f32::round_ties_even),
        (UnaryOp::Trunc, f32::trunc),
        (UnaryOp::Reciprocal, f32::recip),
    ];
    for (op, function) in functions {
        let mut expr = Expr::new();
        let sum = expr.arg(0, DType::F32);
        let scale = expr.number(sum, 0.125);
        let scaled = expr.binary(BinaryOp::Mul, sum, scale);
        let half = expr.number(sum, 0.0625);
        let shifted = expr.binary(BinaryOp::Add, scaled, half);
        let root = expr.unary(op, shifted);
        let mut spec = ContractionSpec { epilogue: expr.with_root(root), ..dense(1, Window::matrix(27), 5, 30) };
        spec.operands.clear();
        for (rows, vectors, packs_rows) in [(7, 3, false), (4, 5, false), (8, 3, true), (12, 2, true)] {
            let schedule = Schedule {
                block_tiles: 3,
                block_panels: 2,
                packs_rows,
                ..Schedule::of_tile(Tile { rows, vectors }, 4)
            };
            let target = CpuTarget::new(Architecture::Aarch64).unwrap();
            assert!(emit_contraction(&target, "function", &spec, &schedule).unwrap().encoded, "{op:?} in {schedule:?}");
            let name = format!("{op:?}");
            let finish = |sum: f32| function(sum * 0.125 + 0.0625);
            for machine in [Machine::CortexA72, Machine::InOrderAarch64] {
                check_finished(machine, &name, &spec, &schedule, (&finish, 2e-5));
            }
        }
    }
}

/// Windows, extents, tiles and blocks drawn at random.
#[test]
fn random_convolutions_with_random_schedules() {
    let mut random = Random(20);
    for case in 0..120 {
        let mut draw = |low: i64, count: u64| low + random.below(count);
        let kernel = [draw(1, 4), draw(1, 4)];
        let input = [draw(kernel[0] + 1, 9), draw(kernel[1] + 1, 24)];
        let pads = [draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)];
        let window = convolution(input, kernel, draw(1, 2), 1, pads);
        let spec = dense(draw(1, 2), window, draw(1, 13), draw(1, 30));
        let tile = Tile { rows: draw(1, 8), vectors: draw(1, 4) };
        let schedule = Schedule { block_tiles: draw(1, 4), block_panels: draw(1, 3), ..Schedule::of_tile(tile, 4) };
        let machine = [Machine::CortexA72, Machine::Host, Machine::InOrderAarch64][case as usize % 3];
        check_scheduled(machine, &format!("case {case} {:?}", spec.window), &spec, &schedule);
    }
}

/// Kernels with AVX-512 over every number of rows, and blocks that cut panels and pixels anywhere.
#[test]
fn random_convolutions_with_wide_vectors() {
    let mut random = Random(30);
    for case in 0..200 {
        let mut draw = |low: i64, count: u64| low + random.below(count);
        let (kernel, step) = ([draw(1, 4), draw(1, 4)], draw(1, 2));
        let input = [draw(kernel[0] + 1, 9), draw(kernel[1] + 1, 50)];
        let pads = if case % 3 == 0 { [0; 4] } else { [draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)] };
        let window = convolution(input, kernel, step, 1, pads);
        let window = if case % 4 == 0 { Window::matrix(window.pixels()) } else { window };
        let spec = dense(draw(1, 2), window, draw(1, 21), draw(1, 90));
        let tile = Tile { rows: draw(1, 22), vectors: 4 };
        let schedule = Schedule { block_tiles: draw(1, 9), block_panels: draw(1, 4), ..Schedule::of_tile(tile, 4) };
        check_scheduled(Machine::WideHost, &format!("case {case} {:?}", spec.window), &spec, &schedule);
    }
}

/// Attention's two products: keys as they lie (k is the inner axis) and values (channels are the inner axis), of three heads
/// side by side in one tensor.
#[test]
fn weights_packed_at_run_time() {
    let (heads, positions, size) = (3, 10, 5);
    let keys = RuntimeWeights {
        batch: vec![2, heads],
        base: 0,
        batch_strides: vec![positions * heads * size, size],
        depth_stride: 1,
        channel_stride: heads * size,
    };
    let values = RuntimeWeights { depth_stride: heads * size, channel_stride: 1, ..keys.clone() };
    for (name, weights, depth, channels) in [("keys", keys, size, positions), ("values", values, positions, size)] {
        let layouts = [4, 8, 12].map(|panel| PackedLayout {
            element: Element::F32,
            matrices: 2 * heads,
            taps: 1,
            run: 1,
            depth,
            channels,
            panel,
        });
        for (machine, layout) in [Machine::Host, Machine::CortexA72].iter().flat_map(|&m| layouts.map(|l| (m, l))) {
            check_packing(machine, name, &weights, &layout);
        }
    }
}

fn check_packing(machine: Machine, name: &str, weights: &RuntimeWeights, layout: &PackedLayout) {
    let architecture = if machine == Machine::Host { Architecture::host().unwrap() } else { Architecture::Aarch64 };
    let kernel = emit_pack(&CpuTarget::new(architecture).unwrap(), name, weights, layout).unwrap();
    let source = Random(11).values(kernel.footprints[0].end / 4);
    let indices: Vec<Vec<i64>> = batches(&weights.batch).collect();
    let expected = pack_weights(layout, |matrix, _, k, n| {
        let matrix = weights.base + dot(&weights.batch_strides, &indices[matrix as usize]);
        source[(matrix + k * weights.depth_stride + n * weights.channel_stride) as usize]
    });
    let buffers = [Buffer::of_floats(&source), Buffer::unwritten(expected.len())];
    let units = kernel.units as u32;
    let Some(after) = run(machine, &kernel.code, &buffers, &[0, units / 2, units]) else { return };
    assert_eq!(after[1].floats(), expected, "{name} in panels of {} on {machine:?}", layout.panel);
}
