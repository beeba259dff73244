//! Contractions and depthwise windows of i8 against exact sums and the evaluator's epilogue, on the host and on emulated
//! aarch64, compared bit by bit.

mod support;

use edgecc_backends::contraction::{Combination, ContractionSpec, DepthwiseSpec, Strides, Tap, Window};
use edgecc_backends::cpu::contraction::{EmittedKernel, emit_contraction, emit_depthwise, pack_depthwise};
use edgecc_backends::cpu::isa::{Architecture, CpuTarget, Integers, Kernels, Vectors};
use edgecc_backends::pack::{PackedLayout, TapTable, pack_weights};
use edgecc_backends::schedule::{Machine as Scheduled, Schedule, Tile, depthwise_schedule, schedule};
use edgecc_ir::{DType, ExprNode, Scalar};
use support::data::{Random, at, convolution};
use support::integers::{Elements, Epilogue, dense, dense_depthwise, met, results, sum_of};
use support::{Buffer, Machine, run};

const MACHINES: [Machine; 6] = [
    Machine::Host,
    Machine::WideHost,
    Machine::SummingHost,
    Machine::CortexA72,
    Machine::MaximalAarch64,
    Machine::InOrderAarch64,
];

/// Every writer and level of instructions that the machine has.
fn targets(machine: Machine) -> Vec<CpuTarget> {
    let target = machine.target();
    let levels = Integers::ALL.into_iter().filter(|&level| level <= target.integers);
    let encoded: Vec<CpuTarget> = levels.map(|level| target.clone().with_integers(level)).collect();
    encoded.into_iter().chain([target.clone().with_kernels(Kernels::Clif)]).collect()
}

fn further_of(random: &mut Random, kernel: &EmittedKernel, types: &[DType]) -> Vec<Elements> {
    let sized = types.iter().zip(&kernel.footprints).skip(3);
    sized.map(|(&dtype, footprint)| Elements::random(random, dtype, footprint.end / dtype.size() as i64)).collect()
}

/// The output as it was before, `0xff` everywhere, with the results in their places.
fn expected_output(kernel: &EmittedKernel, results: &[(usize, Scalar)]) -> Buffer {
    let mut bytes = vec![0xff; kernel.footprints[2].end as usize];
    for (place, value) in results {
        let size = value.dtype().size();
        bytes[place * size..(place + 1) * size].copy_from_slice(&value.to_le_bytes()[..size]);
    }
    Buffer::new(&bytes)
}

/// Scratch lies behind the operands.
fn compare(
    machine: Machine,
    name: &str,
    kernel: &EmittedKernel,
    buffers: &[Buffer],
    (operands, expected): (usize, &Buffer),
) {
    for (place, (buffer, footprint)) in buffers.iter().zip(&kernel.footprints).enumerate() {
        assert_eq!((0, buffer.content().len() as i64), (footprint.begin.min(0), footprint.end), "{name}: {place}");
    }
    let units = kernel.units as u32;
    let Some(after) = run(machine, &kernel.code, buffers, &[0, units / 3, units]) else { return };
    for (index, (before, after)) in buffers.iter().zip(&after).enumerate().take(operands) {
        let expected = if index == 2 { expected } else { before };
        let wrong = after.content().iter().zip(expected.content()).position(|(got, want)| got != want);
        assert_eq!(wrong, None, "{name} on {machine:?}: operand {index}, first wrong byte");
    }
}

fn check_scheduled(machine: Machine, name: &str, spec: &ContractionSpec, schedule: &Schedule) {
    check_filled(machine, name, spec, schedule, None);
}

/// With every input and weight the same number, where there is one.
fn check_filled(machine: Machine, name: &str, spec: &ContractionSpec, schedule: &Schedule, fill: Option<i64>) {
    check_weights(machine, name, spec, schedule, fill);
    let without_least = ContractionSpec { symmetric_weights: true, ..spec.clone() };
    if fill.is_none() && machine == Machine::CortexA72 {
        check_weights(machine, name, &without_least, schedule, fill);
    }
}

fn check_weights(machine: Machine, name: &str, spec: &ContractionSpec, schedule: &Schedule, fill: Option<i64>) {
    targets(machine).iter().for_each(|target| check_target(machine, target, name, spec, schedule, fill));
}

fn check_target(
    machine: Machine,
    target: &CpuTarget,
    name: &str,
    spec: &ContractionSpec,
    schedule: &Schedule,
    fill: Option<i64>,
) {
    let values = |random: &mut Random, count: i64| match fill {
        Some(number) => Elements(vec![Scalar::from_i64(DType::I8, number); count as usize]),
        None => Elements::random(random, DType::I8, count),
    };
    let kernel = emit_contraction(target, name, spec, schedule).unwrap();
    let is_whole = target.vectors == Vectors::Avx512Vnni || spec.channels % 8 == 0;
    let sums = target.architecture == Architecture::Aarch64 || is_whole && !is_gated(spec);
    let is_written = target.kernels == Kernels::Encoded && sums;
    let is_known = is_written && spec.window.is_interior() && spec.output.channel == 1 && has_rows(spec);
    assert!(kernel.encoded || !is_known, "{name} on {machine:?} by Cranelift");
    let mut random = Random(name.len() as u64 * 77 + 5);
    let layout = PackedLayout::of(spec, schedule);
    let taps = spec.window.taps.len() as i64;
    let input = values(&mut random, kernel.footprints[0].end);
    let count = layout.matrices * taps * spec.depth * spec.channels;
    let mut weights = values(&mut random, count);
    if spec.symmetric_weights {
        let least = Scalar::from_i64(DType::I8, -128);
        weights
            .0
            .iter_mut()
            .filter(|weight| **weight == least)
            .for_each(|weight| *weight = Scalar::from_i64(DType::I8, -127));
    }
    let packed = pack_weights(&layout, |matrix, tap, k, n| {
        let weight = spec.window.taps[tap as usize].weight as i64;
        let place = ((matrix * taps + weight) * spec.depth + k) * spec.channels + n;
        weights.0[place as usize].as_f64() as f32
    });
    let further = further_of(&mut random, &kernel, &spec.types());
    let epilogue = (&spec.epilogue, &spec.output, spec.operands.as_slice());
    let extents = (spec.batch.as_slice(), &spec.window, spec.channels);
    let results =
        results(epilogue, extents, &further, |batch, pixel, n| sum_of(spec, &input, &weights, batch, pixel, n));
    let mut buffers = vec![input.buffer(), bytes_of(&packed), unwritten(&kernel)];
    buffers.extend(further.iter().map(Elements::buffer));
    if TapTable::is_read(spec) {
        buffers.push(Buffer::new(&TapTable::of(spec).bytes));
    }
    if let Some(scratch) = kernel.footprints.get(buffers.len()) {
        buffers.push(Buffer::new(&vec![0; scratch.end as usize]));
    }
    let operands = spec.types().len() + usize::from(TapTable::is_read(spec));
    compare(machine, name, &kernel, &buffers, (operands, &expected_output(&kernel, &results)));
}

/// Whether the taps are rows of columns, and each run's elements can be loaded.
fn has_rows(spec: &ContractionSpec) -> bool {
    let is_list = spec.window.taps.windows(2).any(|pair| pair[1].row < pair[0].row || pair[1].weight < pair[0].weight);
    let run = PackedLayout::run_of(spec) * spec.depth;
    !is_list && (run >= 8 || [1, 2, 4].contains(&run))
}

/// Whether the epilogue asks for a table.
fn is_gated(spec: &ContractionSpec) -> bool {
    spec.epilogue.nodes().iter().any(ExprNode::is_transcendental)
}

fn bytes_of(values: &[f32]) -> Buffer {
    Buffer::new(&values.iter().map(|&value| value as i8 as u8).collect::<Vec<u8>>())
}

fn unwritten(kernel: &EmittedKernel) -> Buffer {
    Buffer::new(&vec![0xff; kernel.footprints[2].end as usize])
}

fn check(name: &str, spec: &ContractionSpec) {
    for machine in MACHINES {
        let vectors = machine.target().vectors;
        let schedule = schedule(spec, &Scheduled { vectors, ..Scheduled::new(machine.architecture()) });
        check_scheduled(machine, name, spec, &schedule);
    }
}

#[test]
fn matrix_products_of_odd_sizes() {
    let sizes = [(1, 1, 1), (8, 4, 8), (13, 7, 10), (49, 16, 24), (31, 5, 3), (9, 33, 17), (30, 12, 40), (4, 2, 5)];
    for (rows, depth, channels) in sizes {
        let name = format!("matrix {rows}x{depth}x{channels}");
        check(&name, &dense(1, Window::matrix(rows), depth, channels, Epilogue::Clamped));
    }
}

#[test]
fn every_epilogue() {
    for epilogue in Epilogue::ALL {
        for channels in [5, 8, 20] {
            let name = format!("{epilogue:?} {channels}");
            check(&name, &dense(2, Window::matrix(17), 19, channels, epilogue));
        }
    }
}

#[test]
fn few_rows_run_over_panels() {
    for rows in 1..4 {
        check(&format!("vector {rows}"), &dense(1, Window::matrix(rows), 37, 203, Epilogue::Plain));
    }
}

/// Products are as large as they get: of -128 and -128.
#[test]
fn products_at_the_limit() {
    for (depth, machine) in [8, 61, 300].into_iter().flat_map(|depth| MACHINES.map(|machine| (depth, machine))) {
        let spec = dense(1, Window::matrix(9), depth, 12, Epilogue::Sum);
        let schedule = schedule(&spec, &Scheduled::new(machine.architecture()));
        check_filled(machine, "limit", &spec, &schedule, Some(-128));
    }
}

#[test]
fn every_tile() {
    for rows in 1..=8 {
        for channels in [8, 13, 27] {
            let spec = dense(1, Window::matrix(29), 27, channels, Epilogue::Residual);
            let tile = Tile { rows, vectors: 2 };
            let schedule = Schedule { block_tiles: 2, block_panels: 2, ..Schedule::of_tile(tile, 4) };
            for machine in MACHINES {
                check_scheduled(machine, "tiles", &spec, &schedule);
            }
        }
    }
}

/// Rows of pairs side by side, which two panels read at once, one panel, and a narrower one.
#[test]
fn packed_rows() {
    let machines = [Machine::MaximalAarch64, Machine::InOrderAarch64];
    let widths = [(4, 40), (8, 16), (19, 21), (45, 27), (100, 36)];
    for (machine, (depth, channels)) in machines.into_iter().flat_map(|machine| widths.map(|width| (machine, width))) {
        for (name, window) in [("flat", Window::matrix(29)), ("grid", convolution([9, 23], [1, 1], 2, 1, [0; 4]))] {
            for (rows, epilogue) in [(6, Epilogue::Residual), (2, Epilogue::Gated)] {
                let spec = dense(2, window.clone(), depth, channels, epilogue);
                let tile = Tile { rows, vectors: 2 };
                let schedule =
                    Schedule { block_tiles: 2, block_panels: 3, packs_rows: true, ..Schedule::of_tile(tile, 4) };
                let target = machine.target();
                check_target(machine, &target, name, &spec, &schedule, None);
            }
        }
    }
}

#[test]
fn convolutions_of_every_window() {
    let windows = [
        ("3x3 within", convolution([15, 23], [3, 3], 1, 1, [0; 4])),
        ("3x3 stride 2 within", convolution([15, 23], [3, 3], 2, 1, [0; 4])),
        ("3x3 dilated within", convolution([15, 23], [3, 3], 1, 2, [0; 4])),
        ("3x2 within", convolution([6, 15], [3, 2], 1, 1, [0; 4])),
        ("1x1 stride 2", convolution([9, 17], [1, 1], 2, 1, [0; 4])),
        ("3x3 pad 1", convolution([9, 13], [3, 3], 1, 1, [1, 1, 1, 1])),
        ("kernel above input", convolution([2, 3], [5, 5], 1, 1, [2, 2, 2, 2])),
    ];
    for (name, window) in windows {
        for (depth, channels) in [(3, 16), (8, 10), (20, 8)] {
            check(&format!("{name} {depth}x{channels}"), &dense(2, window.clone(), depth, channels, Epilogue::Clamped));
        }
    }
}

#[test]
fn groups() {
    let window = convolution([7, 9], [3, 3], 1, 1, [0; 4]);
    let (groups, depth, channels) = (3, 5, 6);
    let mut spec = dense(2, window, depth, channels, Epilogue::Clamped);
    spec.input = Strides { batch: vec![7 * 9 * 15, depth], ..Strides::image(9, groups * depth) };
    spec.output = Strides { batch: vec![5 * 7 * 18, channels], ..Strides::image(7, groups * channels) };
    spec.batch = vec![2, groups];
    spec.weight_batch = vec![0, 1];
    spec.operands = vec![Strides { batch: vec![0, channels], ..Strides::per_channel(2) }; 2];
    check("groups", &spec);
}

/// One phase of a transposed convolution writes every second row and column and meets some taps only.
#[test]
fn strided_outputs_with_a_list_of_taps() {
    let mut window = convolution([6, 10], [1, 1], 1, 1, [0; 4]);
    window.taps = [(0, 1, 2), (-1, 0, 0), (1, 1, 1)].map(|(row, column, weight)| Tap { row, column, weight }).to_vec();
    let mut spec = dense(1, window, 6, 9, Epilogue::Clamped);
    let wide = 2 * 10 * 9;
    spec.output = Strides { base: wide + 9, batch: vec![0], row: 2 * wide, column: 18, channel: 1 };
    check("phase", &spec);
}

#[test]
fn channels_apart() {
    let mut spec = dense(1, Window::matrix(18), 8, 11, Epilogue::Residual);
    spec.output = Strides { base: 0, batch: vec![0], row: 0, column: 1, channel: 18 };
    spec.operands[2] = spec.output.clone();
    check("channels apart", &spec);
}

#[test]
fn random_convolutions_with_random_schedules() {
    let mut random = Random(20);
    for case in 0..90 {
        let mut draw = |low: i64, count: u64| low + random.below(count);
        let kernel = [draw(1, 4), draw(1, 4)];
        let input = [draw(kernel[0] + 1, 9), draw(kernel[1] + 1, 24)];
        let pads = if case % 2 == 0 { [0; 4] } else { [draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)] };
        let window = convolution(input, kernel, draw(1, 2), 1, pads);
        let epilogue = Epilogue::ALL[draw(0, Epilogue::ALL.len() as u64) as usize];
        let spec = dense(draw(1, 2), window, draw(1, 45), draw(1, 30), epilogue);
        let tile = Tile { rows: draw(1, 8), vectors: 2 };
        let schedule = Schedule { block_tiles: draw(1, 4), block_panels: draw(1, 3), ..Schedule::of_tile(tile, 4) };
        let machine = MACHINES[case as usize % MACHINES.len()];
        check_scheduled(machine, &format!("case {case} {:?}", spec.window), &spec, &schedule);
    }
}

fn check_depthwise(name: &str, spec: &DepthwiseSpec) {
    for (machine, target) in
        MACHINES.iter().flat_map(|&machine| targets(machine).into_iter().map(move |target| (machine, target)))
    {
        let schedule = depthwise_schedule(spec, target.architecture);
        let kernel = emit_depthwise(&target, name, spec, &schedule).unwrap();
        let is_written = target.kernels == Kernels::Encoded && target.architecture == Architecture::Aarch64;
        let fits = target.integers != Integers::Plain || !name.contains("5x5");
        let (is_whole, is_gated) = (name.contains("whole"), name.contains("Gated"));
        let fits = fits && !(is_whole && is_gated) && spec.channels >= if is_whole { 16 } else { 8 };
        let is_dense = spec.window.is_interior() && fits && !name.contains("dilated");
        let is_known = is_written && is_dense && spec.combination == Combination::Products && spec.operands.len() < 3;
        // Columns of wide windows may lie beyond offsets.
        let is_host = target.kernels == Kernels::Encoded && target.architecture == Architecture::X86_64;
        let is_whole_vectors = target.vectors != Vectors::Baseline || spec.channels % 8 == 0;
        let is_known = is_known || is_host && is_whole_vectors && !is_gated && spec.window.is_interior();
        let is_largest = is_written && spec.combination == Combination::Maximum && !is_whole;
        let is_known = is_known || is_largest && !name.contains("dilated") && spec.channels >= 8;
        assert!(kernel.encoded || !is_known, "{name} on {machine:?} by Cranelift");
        let mut random = Random(name.len() as u64 * 31 + 7);
        let input = Elements::random(&mut random, DType::I8, kernel.footprints[0].end);
        let weights = Elements::random(&mut random, DType::I8, spec.window.taps.len() as i64 * spec.channels);
        let weight = |tap: usize, channel: i64| weights.0[tap * spec.channels as usize + channel as usize];
        let packed = match spec.combination {
            Combination::Maximum | Combination::Sum => Vec::new(),
            Combination::Products => pack_depthwise(spec, &schedule, |tap, channel| {
                weight(spec.window.taps[tap as usize].weight, channel).as_f64() as f32
            }),
        };
        let further = further_of(&mut random, &kernel, &spec.types());
        let epilogue = (&spec.epilogue, &spec.output, spec.operands.as_slice());
        let extents = (spec.batch.as_slice(), &spec.window, spec.channels);
        let results = results(epilogue, extents, &further, |batch, pixel, channel| {
            let met = met(&spec.window, pixel).map(|(tap, row, column)| {
                let x = input.0[at(&spec.input, batch, row, column, channel)].as_i64() as i32;
                (x, weight(tap, channel).as_i64() as i32)
            });
            match spec.combination {
                Combination::Products => met.map(|(x, weight)| x * weight).sum(),
                Combination::Maximum => met.map(|(x, _)| x).max().unwrap_or(-128),
                Combination::Sum => met.map(|(x, _)| x).sum(),
            }
        });
        let mut buffers = vec![input.buffer(), bytes_of(&packed), unwritten(&kernel)];
        buffers.extend(further.iter().map(Elements::buffer));
        compare(machine, name, &kernel, &buffers, (buffers.len(), &expected_output(&kernel, &results)));
    }
}

#[test]
fn depthwise_windows() {
    let windows = [
        ("3x3 within", convolution([9, 14], [3, 3], 1, 1, [0; 4])),
        ("3x3 stride 2 within", convolution([11, 31], [3, 3], 2, 1, [0; 4])),
        ("5x5 within", convolution([10, 21], [5, 5], 1, 1, [0; 4])),
        ("5x5 stride 2 within", convolution([13, 29], [5, 5], 2, 1, [0; 4])),
        ("3x3 dilated within", convolution([12, 19], [3, 3], 1, 3, [0; 4])),
        ("7x9 whole", convolution([7, 9], [7, 9], 1, 1, [0; 4])),
        ("3x3 pad 1", convolution([9, 14], [3, 3], 1, 1, [1, 1, 1, 1])),
        ("7x7 above input", convolution([2, 3], [7, 7], 1, 1, [3, 3, 3, 3])),
    ];
    for (name, window) in windows {
        for channels in [1, 8, 16, 21, 24, 40] {
            let products = |epilogue| dense_depthwise(window.clone(), channels, Combination::Products, epilogue);
            check_depthwise(&format!("{name} {channels}"), &products(Epilogue::Clamped));
            let largest = dense_depthwise(window.clone(), channels, Combination::Maximum, Epilogue::Copy);
            check_depthwise(&format!("{name} {channels} largest"), &largest);
        }
        for epilogue in Epilogue::ALL {
            let spec = dense_depthwise(window.clone(), 24, Combination::Products, epilogue);
            check_depthwise(&format!("{name} {epilogue:?}"), &spec);
        }
    }
}
