//! Padding, resizing, gathering and scattering, lowered and run against the reference evaluator.

mod lower_support;
mod support;

use edgecc_ir::{DType, NodeId, Op, PadMode, Resample, Scalar, ScatterKind, Shape, Tensor};
use lower_support::Case;

fn scalar(case: &mut Case, value: f64) -> NodeId {
    let shape = Shape::scalar();
    case.given(Tensor::from_scalars(DType::F32, shape, [Scalar::from_f64(DType::F32, value)]).expect("one value"))
}

fn positions(case: &mut Case, dtype: DType, extents: &[usize], values: &[i64]) -> NodeId {
    let values = values.iter().map(|&value| Scalar::from_i64(dtype, value));
    case.given(Tensor::from_scalars(dtype, Shape::new(extents), values).expect("as many values as elements"))
}

#[test]
fn pads_stand_around_the_operand() {
    for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
        for (before, after) in [([0, 0, 2, 1], [0, 0, 1, 3]), ([1, 0, 0, 2], [0, 2, 0, 0]), ([0; 4], [0; 4])] {
            let mut case = Case::new();
            let mut operands = vec![case.floats(&[2, 3, 4, 5])];
            if mode == PadMode::Constant {
                operands.push(scalar(&mut case, 7.5));
            }
            case.check(Op::Pad { mode, before: before.to_vec(), after: after.to_vec() }, &operands);
        }
    }
}

#[test]
fn tiles_repeat_every_axis() {
    for repeats in [[1, 2, 3, 1], [2, 1, 1, 3], [1, 0, 1, 1]] {
        let mut case = Case::new();
        let x = case.floats(&[2, 3, 1, 5]);
        case.check(Op::Tile { repeats: repeats.to_vec() }, &[x]);
    }
}

fn nearest(axis: usize, indices: &[u32]) -> Resample {
    Resample { axis, extent: indices.len(), taps: 1, indices: indices.to_vec(), weights: Vec::new() }
}

/// Taps spread over `input` elements, with weights that sum to 1.
fn weighted(axis: usize, input: usize, extent: usize, taps: usize) -> Resample {
    let index = |i: usize, tap: usize| ((i * input / extent + tap).min(input - 1)) as u32;
    let weight = |i: usize, tap: usize| ((i + tap) % taps + 1) as f32 * 2.0 / (taps * (taps + 1)) as f32;
    let entries = || (0..extent).flat_map(|i| (0..taps).map(move |tap| (i, tap)));
    Resample {
        axis,
        extent,
        taps,
        indices: entries().map(|(i, tap)| index(i, tap)).collect(),
        weights: entries().map(|(i, tap)| weight(i, tap).to_bits()).collect(),
    }
}

#[test]
fn resizing_repeats_skips_selects_and_interpolates() {
    let cases = [
        vec![nearest(2, &[0, 0, 1, 1, 2, 2, 3, 3]), nearest(3, &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4])],
        vec![nearest(2, &[0, 2]), nearest(3, &[1, 3])],
        vec![nearest(2, &[0, 0, 1, 2, 3]), nearest(3, &[0, 1, 1, 4])],
        vec![weighted(2, 4, 7, 2), weighted(3, 5, 9, 2)],
        vec![weighted(2, 4, 6, 4), weighted(3, 5, 3, 4)],
        vec![weighted(1, 3, 5, 2), weighted(2, 4, 7, 2), weighted(3, 5, 9, 2)],
        vec![nearest(2, &[0, 0, 1, 1, 2, 2, 3, 3]), weighted(3, 5, 9, 2)],
        vec![],
    ];
    for axes in cases {
        let mut case = Case::new();
        let x = case.floats(&[2, 6, 4, 5]);
        case.check_within(Op::Resize { axes }, &[x], 1e-5);
    }
}

#[test]
fn gather_takes_slices_counts_from_the_end_and_clamps() {
    let indices: [(&[usize], &[i64]); 3] = [(&[], &[-1]), (&[3], &[2, -3, 9]), (&[2, 2], &[0, 1, -9, 2])];
    for axis in 0..4 {
        for (extents, values) in indices {
            for dtype in [DType::I32, DType::I64] {
                let mut case = Case::new();
                let x = case.floats(&[3, 4, 3, 5]);
                let indices = positions(&mut case, dtype, extents, values);
                case.check(Op::Gather { axis }, &[x, indices]);
            }
        }
    }
}

#[test]
fn gather_takes_rows_of_a_matrix_and_elements_of_a_vector() {
    for shape in [vec![9, 130], vec![9]] {
        let mut case = Case::new();
        let x = case.input(DType::U8, &shape);
        let indices = positions(&mut case, DType::I64, &[4], &[8, 0, -2, 3]);
        case.check(Op::Gather { axis: 0 }, &[x, indices]);
    }
}

#[test]
fn gather_elements_moves_along_one_axis() {
    for axis in 0..3 {
        let mut case = Case::new();
        let x = case.floats(&[3, 4, 5]);
        let indices = case.input(DType::I64, &[2, 3, 4]);
        case.check(Op::GatherElements { axis }, &[x, indices]);
    }
}

#[test]
fn gather_nd_takes_points_and_slices() {
    let cases: [(usize, &[usize], &[usize]); 5] = [
        (0, &[3, 4, 5], &[2, 3]),
        (0, &[3, 4, 5], &[2, 2, 2]),
        (0, &[3, 4, 5], &[1]),
        (1, &[3, 4, 5], &[3, 2, 1]),
        (2, &[3, 4, 5], &[3, 4, 1]),
    ];
    for (batch_dims, data, indices) in cases {
        let mut case = Case::new();
        let operands = [case.floats(data), case.input(DType::I64, indices)];
        case.check(Op::GatherNd { batch_dims }, &operands);
    }
}

const KINDS: [ScatterKind; 5] =
    [ScatterKind::Replace, ScatterKind::Add, ScatterKind::Multiply, ScatterKind::Max, ScatterKind::Min];

#[test]
fn scattered_elements_meet_in_order() {
    for kind in KINDS {
        for axis in 0..3 {
            let mut case = Case::new();
            let operands = [case.floats(&[3, 4, 5]), case.input(DType::I64, &[3, 2, 4]), case.floats(&[3, 2, 4])];
            case.check_within(Op::ScatterElements { axis, kind }, &operands, 1e-6);
        }
    }
}

#[test]
fn scattered_points_and_slices_meet_in_order() {
    for kind in KINDS {
        for (indices, updates) in [(vec![6, 3], vec![6]), (vec![6, 1], vec![6, 4, 5]), (vec![2, 3, 2], vec![2, 3, 5])] {
            let mut case = Case::new();
            let operands = [case.floats(&[3, 4, 5]), case.input(DType::I64, &indices), case.floats(&updates)];
            case.check_within(Op::ScatterNd { kind }, &operands, 1e-6);
        }
    }
}

#[test]
fn of_replacements_of_one_element_the_last_stays() {
    let mut case = Case::new();
    let x = case.floats(&[3, 4]);
    let indices = positions(&mut case, DType::I64, &[5, 2], &[1, 2, 0, 0, 1, 2, -2, -2, 0, 0]);
    let updates = case.floats(&[5]);
    case.check(Op::ScatterNd { kind: ScatterKind::Replace }, &[x, indices, updates]);
}

#[test]
fn scatters_without_updates_copy() {
    let mut case = Case::new();
    let operands = [case.floats(&[3, 4]), case.input(DType::I64, &[0, 4]), case.floats(&[0, 4])];
    case.check(Op::ScatterElements { axis: 0, kind: ScatterKind::Replace }, &operands);
}
