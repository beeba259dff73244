//! Contractions that are lowered to loop nests, run against the reference evaluator.

mod lower_support;
mod support;

use edgecc_ir::{BinaryOp, DType, Expr, Op, Window};
use lower_support::{Case, binary, window};

fn plain(dtype: DType) -> Expr {
    Op::plain_epilogue(dtype)
}

#[test]
fn convolutions_have_any_window_group_and_number_of_axes() {
    let cases: [(&[usize], &[usize], Window, usize); 7] = [
        (&[2, 3, 6, 5], &[4, 3, 3, 3], window(&[3, 3], 1, 1, 1, 1), 1),
        (&[1, 4, 7, 6], &[6, 2, 3, 2], window(&[3, 2], 2, 1, 1, 0), 2),
        (&[1, 4, 6, 6], &[4, 1, 3, 3], window(&[3, 3], 1, 1, 0, 0), 4),
        (&[1, 2, 8, 9], &[3, 2, 3, 3], window(&[3, 3], 1, 2, 2, 2), 1),
        (&[2, 3, 9], &[2, 3, 4], window(&[4], 3, 1, 2, 1), 1),
        (&[1, 2, 4, 3, 5], &[3, 2, 2, 2, 2], window(&[2, 2, 2], 1, 1, 1, 0), 1),
        (&[1, 2, 1, 1], &[3, 2, 1, 1], window(&[1, 1], 1, 1, 0, 0), 1),
    ];
    for (image, weights, window, groups) in cases {
        for dtype in [DType::F32, DType::F64] {
            let mut case = Case::new();
            let operands = [case.input(dtype, image), case.input(dtype, weights)];
            let op = Op::Conv { window: window.clone(), groups, epilogue: plain(dtype) };
            case.check_within(op, &operands, 1e-5);
        }
    }
}

#[test]
fn convolutions_end_in_an_epilogue() {
    let mut case = Case::new();
    let operands = [case.floats(&[1, 4, 5, 5]), case.floats(&[6, 2, 3, 3]), case.floats(&[6, 1, 1])];
    let epilogue = binary(BinaryOp::Add, DType::F32);
    case.check_within(Op::Conv { window: window(&[3, 3], 1, 1, 1, 1), groups: 2, epilogue }, &operands, 1e-5);
}

#[test]
fn transposed_convolutions_meet_every_input() {
    // Shapes of input and weights, window, padding of the output, groups.
    type Transposed<'a> = (&'a [usize], &'a [usize], Window, usize, usize);
    let cases: [Transposed; 5] = [
        (&[2, 3, 4, 5], &[3, 2, 3, 3], window(&[3, 3], 2, 1, 1, 1), 1, 1),
        (&[1, 4, 3, 4], &[4, 3, 2, 2], window(&[2, 2], 2, 1, 0, 0), 0, 2),
        (&[1, 2, 4, 4], &[2, 3, 2, 2], window(&[2, 2], 3, 1, 0, 0), 2, 1),
        (&[1, 2, 4, 4], &[2, 3, 3, 3], window(&[3, 3], 1, 2, 1, 1), 0, 1),
        (&[1, 2, 5], &[2, 3, 4], window(&[4], 2, 1, 1, 0), 0, 1),
    ];
    for (image, weights, window, padding, groups) in cases {
        for dtype in [DType::F32, DType::F64] {
            let mut case = Case::new();
            let operands = [case.input(dtype, image), case.input(dtype, weights)];
            let output_padding = vec![padding; window.kernel.len()];
            let op = Op::ConvTranspose { window: window.clone(), output_padding, groups, epilogue: plain(dtype) };
            case.check_within(op, &operands, 1e-5);
        }
    }
}

#[test]
fn matrix_products_of_integers_and_doubles_broadcast() {
    let shapes: [(&[usize], &[usize]); 5] = [
        (&[3, 5], &[5, 7]),
        (&[2, 1, 3, 5], &[4, 5, 7]),
        (&[5, 5], &[3, 5, 5]),
        (&[1, 5], &[5, 1]),
        (&[3, 0], &[0, 2]),
    ];
    for (a, b) in shapes {
        for dtype in [DType::I32, DType::I64, DType::U8, DType::F64] {
            for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut case = Case::new();
                let operands =
                    [case.input(dtype, &exchanged(a, transpose_a)), case.input(dtype, &exchanged(b, transpose_b))];
                case.check(Op::MatMul { transpose_a, transpose_b, epilogue: plain(dtype) }, &operands);
            }
        }
    }
}

fn exchanged(extents: &[usize], exchange: bool) -> Vec<usize> {
    let mut extents = extents.to_vec();
    if exchange {
        let rank = extents.len();
        extents.swap(rank - 2, rank - 1);
    }
    extents
}
