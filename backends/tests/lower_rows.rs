//! Normalizations, running sums and extremes along axes, lowered and run against the reference evaluator.

mod lower_support;
mod support;

use edgecc_ir::{DType, Extreme, Op, Scalar, Shape, Tensor};
use lower_support::Case;

#[test]
fn normalizations_run_along_any_axes() {
    let axes: [&[usize]; 6] = [&[3], &[1], &[2, 3], &[1, 2, 3], &[0], &[0, 2]];
    for axes in axes {
        for root_mean_square in [false, true] {
            let mut case = Case::new();
            let x = case.floats(&[2, 5, 3, 7]);
            let epsilon = 1e-3f32.to_bits();
            case.check_within(Op::Normalize { axes: axes.to_vec(), epsilon, root_mean_square }, &[x], 1e-4);
        }
    }
}

#[test]
fn local_responses_clip_their_windows() {
    for size in [1, 3, 4, 9] {
        for channels in [2, 11] {
            let mut case = Case::new();
            let x = case.floats(&[2, channels, 3, 5]);
            let [alpha, beta, bias] = [0.5f32, 0.75, 2.0].map(f32::to_bits);
            case.check_within(Op::LocalResponseNorm { size, alpha, beta, bias }, &[x], 1e-5);
        }
    }
}

#[test]
fn running_sums_run_both_ways() {
    for axis in 0..3 {
        for exclusive in [false, true] {
            for reverse in [false, true] {
                for dtype in [DType::F32, DType::I64] {
                    let mut case = Case::new();
                    let x = case.input(dtype, &[3, 6, 5]);
                    case.check(Op::CumulativeSum { axis, exclusive, reverse }, &[x]);
                }
            }
        }
    }
}

#[test]
fn extremes_come_in_order_and_equals_by_position() {
    for extreme in [Extreme::Max, Extreme::Min] {
        for axis in 0..3 {
            for (dtype, count) in [(DType::F32, 2), (DType::I32, 3), (DType::F32, 0)] {
                let mut case = Case::new();
                let x = case.input(dtype, &[3, 6, 4]);
                case.check(Op::TopK { axis, count, extreme }, &[x]);
            }
        }
    }
}

#[test]
fn all_extremes_of_numbers_and_nan_are_found_once() {
    let values = [1.0, f64::NAN, -0.5, 3.0, f64::NAN, 3.0, f64::NEG_INFINITY, f64::INFINITY];
    for extreme in [Extreme::Max, Extreme::Min] {
        let mut case = Case::new();
        let scalars = values.map(|value| Scalar::from_f64(DType::F32, value));
        let x = Tensor::from_scalars(DType::F32, Shape::new(&[8]), scalars).expect("eight values");
        let x = case.given(x);
        case.check(Op::TopK { axis: 0, count: 8, extreme }, &[x]);
    }
}
