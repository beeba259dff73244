//! Weights of matrix products as integers of few bits.

mod support;

use edgecc_ir::{BlockWeights, DType, Graph, NodeId, Op, eval};
use edgecc_passes::quantize::{WeightBits, round_to_bits, weights_stay};
use support::*;

fn product(rows: usize, [depth, channels]: [usize; 2], transpose_b: bool) -> (Graph, NodeId) {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[rows, depth]);
    let extents = if transpose_b { [channels, depth] } else { [depth, channels] };
    let w = weights(&mut graph, &extents, 1);
    let op = Op::MatMul { transpose_a: false, transpose_b, epilogue: Op::plain_epilogue(DType::F32) };
    let y = add(&mut graph, op, &[x, w]);
    graph.output("y", y);
    (graph, y)
}

/// The largest difference between the results before and behind, as a share of the largest result.
fn changed(before: &Graph, after: &Graph) -> f64 {
    let inputs = before.inputs().iter().map(|&id| {
        let shape = before.ty(id).shape.clone();
        edgecc_ir::Tensor::from_f32(shape.clone(), &numbers(shape.elements().expect("a size"), 7))
    });
    let inputs: Vec<_> = inputs.collect();
    let [one, other] = [before, after].map(|graph| eval::run(graph, &inputs).expect("values")[0].to_f32());
    assert_eq!(one.len(), other.len());
    let largest = one.iter().fold(0f32, |most, value| most.max(value.abs()));
    let most = one.iter().zip(&other).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    f64::from(most / largest)
}

#[test]
fn weights_of_products_become_integers_with_scales() {
    for (bits, block, loss, decibels) in [(WeightBits::Eight, 128, 0.01, 40.0), (WeightBits::Four, 32, 0.15, 18.0)] {
        for transposed in [true, false] {
            let (before, layer) = product(3, [128, 64], transposed);
            assert_eq!(weights_stay(&before, layer, bits), None);
            let mut after = before.clone();
            let noise = round_to_bits(&mut after, layer, bits).expect("a sound graph");
            assert!(edgecc_ir::verify(&after).is_ok());
            let found = BlockWeights::of(&after, after.outputs()[0].node).expect("weights in blocks");
            assert_eq!((found.block, found.depth, found.channels), (block, 128, 64));
            let quality = 10.0 * (noise.signal / noise.noise).log10();
            assert!(quality > decibels, "{quality}");
            let away = changed(&before, &after);
            assert!(away < loss, "{away}");
        }
    }
}

#[test]
fn a_convolution_of_one_pixel_becomes_a_product() {
    let mut before = Graph::new("case");
    let x = input(&mut before, &[2, 96, 1, 1]);
    let y = conv(&mut before, x, [64, 96, 1, 1], 1, 0, 1);
    before.output("y", y);
    let mut after = before.clone();
    round_to_bits(&mut after, y, WeightBits::Eight).expect("a sound graph");
    assert!(edgecc_ir::verify(&after).is_ok());
    let product = after.ids().find(|&id| matches!(after.op(id), Op::MatMul { .. })).expect("a product");
    assert!(BlockWeights::of(&after, product).is_some());
    assert!(changed(&before, &after) < 0.01);
}

#[test]
fn what_would_not_gain_keeps_its_numbers() {
    let (graph, few) = product(1, [32, 64], true);
    assert_eq!(weights_stay(&graph, few, WeightBits::Eight), Some("has few weights"));
    let (graph, uneven) = product(1, [200, 64], true);
    assert_eq!(weights_stay(&graph, uneven, WeightBits::Four), Some("has a depth that blocks do not divide"));
    assert_eq!(weights_stay(&graph, uneven, WeightBits::Eight), None);
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 96, 8, 8]);
    let y = conv(&mut graph, x, [64, 96, 1, 1], 1, 0, 1);
    let reason = weights_stay(&graph, y, WeightBits::Eight);
    assert_eq!(reason, Some("has many pixels, for each of which its weights would become numbers again"));
}
