//! The evaluator against values worked out by hand.

use edgecc_ir::eval::evaluate;
use edgecc_ir::{DType, Op, PadMode, PoolKind, Resample, Scalar, Shape, Tensor, TensorData, Window};

fn one(op: Op, operands: &[&Tensor]) -> Tensor {
    evaluate(&op, operands).expect("a value").remove(0)
}

fn sequence(extents: &[usize]) -> Tensor {
    let count: usize = extents.iter().product();
    Tensor::from_f32(Shape::new(extents), &(0..count).map(|i| i as f32).collect::<Vec<_>>())
}

fn window(kernel: usize, stride: usize, pad: usize) -> Window {
    let both = |n: usize| vec![n, n];
    Window {
        kernel: both(kernel),
        strides: both(stride),
        dilations: both(1),
        pads_before: both(pad),
        pads_after: both(pad),
    }
}

#[test]
fn convolves_with_padding() {
    let x = sequence(&[1, 1, 3, 3]);
    let w = Tensor::from_f32(Shape::new(&[1, 1, 3, 3]), &[1.0; 9]);
    let conv = Op::Conv { window: window(3, 1, 1), groups: 1, epilogue: Op::plain_epilogue(DType::F32) };
    assert_eq!(one(conv, &[&x, &w]).to_f32(), [8.0, 15.0, 12.0, 21.0, 36.0, 27.0, 20.0, 33.0, 24.0]);
}

#[test]
fn transposed_convolution_spreads_each_element() {
    let x = Tensor::from_f32(Shape::new(&[1, 1, 2, 2]), &[1.0, 2.0, 3.0, 4.0]);
    let w = Tensor::from_f32(Shape::new(&[1, 1, 2, 2]), &[1.0, 10.0, 100.0, 1000.0]);
    let op = Op::ConvTranspose {
        window: window(2, 1, 0),
        output_padding: vec![0, 0],
        groups: 1,
        epilogue: Op::plain_epilogue(DType::F32),
    };
    assert_eq!(one(op, &[&x, &w]).to_f32(), [1.0, 12.0, 20.0, 103.0, 1234.0, 2040.0, 300.0, 3400.0, 4000.0]);
}

#[test]
fn averages_count_padding_only_if_asked() {
    let x = Tensor::from_f32(Shape::new(&[1, 1, 2, 2]), &[4.0; 4]);
    let average =
        |count_pads| Op::Pool { kind: PoolKind::Average { count_pads }, window: window(2, 1, 1), ceil: false };
    assert_eq!(one(average(true), &[&x]).to_f32()[0], 1.0);
    assert_eq!(one(average(false), &[&x]).to_f32()[0], 4.0);
}

#[test]
fn reflects_without_the_edge() {
    let x = sequence(&[4]);
    let pad = |mode| Op::Pad { mode, before: vec![2], after: vec![3] };
    assert_eq!(one(pad(PadMode::Reflect), &[&x]).to_f32(), [2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]);
    assert_eq!(one(pad(PadMode::Wrap), &[&x]).to_f32(), [2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0]);
}

#[test]
fn gathers_from_the_end_and_clamps() {
    let places = Tensor::from_i64(Shape::new(&[3]), &[-1, 0, 9]);
    assert_eq!(one(Op::Gather { axis: 0 }, &[&sequence(&[3]), &places]).to_f32(), [2.0, 0.0, 2.0]);
}

#[test]
fn resizes_by_weighted_taps() {
    let half = 0.5f32.to_bits();
    let taps = Resample { axis: 0, extent: 1, taps: 2, indices: vec![0, 2], weights: vec![half, half] };
    assert_eq!(one(Op::Resize { axes: vec![taps] }, &[&sequence(&[3])]).to_f32(), [1.0]);
}

#[test]
fn a_repeated_element_takes_no_memory() {
    let huge = Tensor::splat(Shape::new(&[1 << 20, 1 << 20]), Scalar::f32(3.0)).expect("a splat");
    let transposed = one(Op::Transpose(vec![1, 0]), &[&huge]);
    assert_eq!(transposed.data(), &TensorData::Splat(Scalar::f32(3.0)));
}

#[test]
fn sums_run_in_order_from_either_end() {
    let sum = |exclusive, reverse| Op::CumulativeSum { axis: 0, exclusive, reverse };
    assert_eq!(one(sum(false, false), &[&sequence(&[4])]).to_f32(), [0.0, 1.0, 3.0, 6.0]);
    assert_eq!(one(sum(true, true), &[&sequence(&[4])]).to_f32(), [6.0, 5.0, 3.0, 0.0]);
}
