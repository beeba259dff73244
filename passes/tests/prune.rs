//! Channels that are pruned are gone from every value, and nothing else changes.

mod support;

use std::collections::BTreeMap;

use edgecc_ir::{BinaryOp, Graph, NodeId, Op, ReduceKind, Tensor, UnaryOp};
use edgecc_passes::prune::{Pruned, Ranking, Reason, Recipe, prune};
use support::random::network;
use support::*;

/// Half of the multiply-adds, to any width.
fn halved(ranking: Ranking) -> Recipe {
    Recipe { ranking, multiple: 1, ..Recipe::of(0.5) }
}

fn pruned(graph: &Graph, recipe: &Recipe) -> Pruned {
    let pruned = prune(graph, recipe, &BTreeMap::new()).expect("a sound graph");
    let names = |graph: &Graph| -> Vec<_> {
        graph.outputs().iter().map(|output| (output.name.clone(), graph.ty(output.node).clone())).collect()
    };
    assert_eq!(names(graph), names(&pruned.graph));
    pruned
}

/// The axes of a node's first operand that its result sums up.
fn summed(graph: &Graph, id: NodeId) -> Vec<usize> {
    let rank = |place: usize| graph.ty(graph.operands(id)[place]).shape.rank();
    match graph.op(id) {
        Op::Conv { .. } | Op::ConvTranspose { .. } => vec![1],
        Op::MatMul { transpose_a, .. } => vec![if *transpose_a { rank(0) - 2 } else { rank(0) - 1 }],
        Op::Reduce { kind: ReduceKind::Sum, axes } => axes.clone(),
        _ => Vec::new(),
    }
}

/// The original graph with zeros for the channels that are gone, wherever they are summed up. `None` where a normalisation
/// runs over some that are gone: it is another one afterwards.
fn masked(graph: &Graph, pruned: &Pruned) -> Option<Graph> {
    let mut masked = graph.clone();
    for id in graph.order() {
        if let Op::Normalize { axes, .. } = graph.op(id) {
            let is_whole = |axis: &usize| pruned.kept.axis(id, *axis).len() == graph.ty(id).shape.dim(*axis);
            axes.iter().all(is_whole).then_some(())?;
        }
        for axis in summed(graph, id) {
            let operands = masked.operands(id).to_vec();
            let shape = graph.ty(graph.operands(id)[0]).shape.clone();
            let kept = pruned.kept.axis(graph.operands(id)[0], axis);
            let mask: Vec<f32> = (0..shape.dim(axis)).map(|place| kept.contains(&place) as u8 as f32).collect();
            let extents: Vec<usize> = (0..shape.rank()).map(|a| if a == axis { shape.dim(a) } else { 1 }).collect();
            let mask = constant(&mut masked, &extents, &mask);
            let zeroed = binary(&mut masked, BinaryOp::Mul, operands[0], mask);
            let operands = [&[zeroed], &operands[1..]].concat();
            let (op, origin) = (graph.op(id).clone(), graph.node(id).origin().clone());
            masked.rewrite(id, op, &operands, origin).expect("the same types");
        }
    }
    Some(masked)
}

/// Checks a pruned graph against the original one with zeros.
fn check_pruned(graph: &Graph, recipe: &Recipe) -> Pruned {
    let pruned = pruned(graph, recipe);
    let masked = masked(graph, &pruned).expect("no normalisation over channels");
    same_values_within(&masked, &pruned.graph, 1e-4);
    pruned
}

#[test]
fn random_networks_compute_what_they_do_with_zeros() {
    let (mut compared, mut smaller) = (0, 0);
    for seed in 0..1200 {
        let mut graph = network(seed, 28);
        if seed % 2 == 0 {
            edgecc_passes::prepare(&mut graph, &edgecc_passes::Options::default(), &mut |_, _| {}).expect("passes");
        }
        for ranking in [Ranking::Local, Ranking::Global] {
            let pruned = pruned(&graph, &halved(ranking));
            smaller += (pruned.macs[1] < pruned.macs[0]) as usize;
            if let Some(masked) = masked(&graph, &pruned) {
                let same = std::panic::catch_unwind(|| same_values_within(&masked, &pruned.graph, 1e-4));
                assert!(same.is_ok(), "network {seed}: {:?}", operators(&graph));
                compared += 1;
            }
        }
    }
    assert!(compared > 2000 && smaller > 300, "{compared} compared, {smaller} smaller");
}

fn widths(pruned: &Pruned) -> Vec<[usize; 2]> {
    pruned.groups.iter().map(|group| group.width).collect()
}

fn extents(graph: &Graph, id: NodeId) -> Vec<usize> {
    graph.ty(id).shape.extents()
}

#[test]
fn residual_sums_join_their_channels() {
    let mut graph = Graph::new("residual");
    let x = input(&mut graph, &[1, 3, 8, 8]);
    let entry = conv(&mut graph, x, [32, 3, 3, 3], 1, 1, 1);
    let inner = conv(&mut graph, entry, [48, 32, 1, 1], 1, 0, 1);
    let inner = relu(&mut graph, inner);
    let inner = conv(&mut graph, inner, [48, 1, 3, 3], 1, 1, 48);
    let back = conv(&mut graph, inner, [32, 48, 1, 1], 1, 0, 1);
    let sum = binary(&mut graph, BinaryOp::Add, entry, back);
    let y = conv(&mut graph, sum, [10, 32, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let pruned = check_pruned(&graph, &Recipe::of(0.5));
    assert_eq!(pruned.groups.iter().map(|group| group.names.len()).collect::<Vec<_>>(), [2, 2]);
    assert!(pruned.macs[1] <= pruned.macs[0] / 2.0);
    assert!(widths(&pruned).iter().all(|[before, after]| after % 8 == 0 && after < before));
    assert_eq!(extents(&pruned.graph, entry)[1], extents(&pruned.graph, back)[1]);
    let depthwise = pruned.graph.order().into_iter().find_map(|id| match pruned.graph.op(id) {
        Op::Conv { groups, .. } if *groups > 1 => Some((*groups, extents(&pruned.graph, id)[1])),
        _ => None,
    });
    assert_eq!(depthwise.map(|(groups, channels)| groups == channels), Some(true));
    assert_eq!(pruned.unpruned.len(), 1);
    assert_eq!((pruned.unpruned[0].reason, pruned.unpruned[0].channels), (Reason::Output, 10));
}

#[test]
fn biases_that_are_equal_by_chance_tie_no_layers() {
    let mut graph = Graph::new("equal_biases");
    let bias = constant(&mut graph, &[1, 16, 1, 1], &[0.5; 16]);
    let x = input(&mut graph, &[1, 3, 4, 4]);
    let a = conv(&mut graph, x, [16, 3, 1, 1], 1, 0, 1);
    let a = binary(&mut graph, BinaryOp::Add, a, bias);
    let b = conv(&mut graph, a, [16, 16, 1, 1], 1, 0, 1);
    let b = binary(&mut graph, BinaryOp::Add, b, bias);
    let y = conv(&mut graph, b, [4, 16, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let pruned = check_pruned(&graph, &Recipe::of(0.5));
    assert_eq!(widths(&pruned).iter().map(|[before, _]| *before).collect::<Vec<_>>(), [16, 16]);
}

#[test]
fn shuffled_channels_keep_their_halves_alike() {
    let mut graph = Graph::new("shuffled");
    let x = input(&mut graph, &[1, 3, 4, 4]);
    let a = conv(&mut graph, x, [16, 3, 1, 1], 1, 0, 1);
    let b = conv(&mut graph, x, [16, 3, 1, 1], 1, 0, 1);
    let both = add(&mut graph, Op::Concat { axis: 1 }, &[a, b]);
    let apart = reshape(&mut graph, both, &[1, 2, 16, 4, 4]);
    let dealt = transpose(&mut graph, apart, &[0, 2, 1, 3, 4]);
    let shuffled = reshape(&mut graph, dealt, &[1, 32, 4, 4]);
    let slice = |graph: &mut Graph, start: usize| {
        let counts = vec![1, 16, 4, 4];
        add(graph, Op::Slice { starts: vec![0, start, 0, 0], steps: vec![1; 4], counts }, &[shuffled])
    };
    let (front, back) = (slice(&mut graph, 0), slice(&mut graph, 16));
    let y = conv(&mut graph, front, [4, 16, 1, 1], 1, 0, 1);
    let z = conv(&mut graph, back, [4, 16, 3, 3], 1, 1, 1);
    graph.output("y", y);
    graph.output("z", z);
    let pruned = check_pruned(&graph, &Recipe::of(0.4));
    assert_eq!(extents(&pruned.graph, a), extents(&pruned.graph, b));
    assert!(extents(&pruned.graph, shuffled)[1] < 32);
    // Channels of the front half and of the back half are read by different layers: two groups of eight.
    assert_eq!(pruned.groups.iter().map(|group| group.width[0]).collect::<Vec<_>>(), [8, 8]);
}

#[test]
fn features_behind_a_flattened_image_go_by_channel() {
    let mut graph = Graph::new("flattened");
    let x = input(&mut graph, &[1, 3, 8, 8]);
    let image = conv(&mut graph, x, [16, 3, 3, 3], 1, 1, 1);
    let pooled = max_pool(&mut graph, image, 2, 2, 0);
    let flat = reshape(&mut graph, pooled, &[1, 256]);
    let w = weights(&mut graph, &[256, 32], 3);
    let hidden = matmul(&mut graph, flat, w);
    let hidden = relu(&mut graph, hidden);
    let w = weights(&mut graph, &[32, 5], 4);
    let y = matmul(&mut graph, hidden, w);
    graph.output("y", y);
    let pruned = check_pruned(&graph, &Recipe::of(0.6));
    let channels = extents(&pruned.graph, image)[1];
    assert!(channels < 16 && channels.is_multiple_of(4));
    assert_eq!(extents(&pruned.graph, flat)[1], 16 * channels);
}

#[test]
fn squeezed_gates_lose_their_channels_too() {
    let mut graph = Graph::new("squeezed");
    let x = input(&mut graph, &[1, 3, 6, 6]);
    let image = conv(&mut graph, x, [32, 3, 1, 1], 1, 0, 1);
    let squeezed = mean(&mut graph, image, &[2, 3]);
    let gate = conv(&mut graph, squeezed, [16, 32, 1, 1], 1, 0, 1);
    let gate = relu(&mut graph, gate);
    let gate = conv(&mut graph, gate, [32, 16, 1, 1], 1, 0, 1);
    let gate = unary(&mut graph, UnaryOp::Sigmoid, gate);
    let gated = binary(&mut graph, BinaryOp::Mul, image, gate);
    let y = conv(&mut graph, gated, [6, 32, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let pruned = check_pruned(&graph, &halved(Ranking::Local));
    assert_eq!(extents(&pruned.graph, image)[1], extents(&pruned.graph, gate)[1]);
    assert_eq!(widths(&pruned).iter().map(|[before, _]| *before).collect::<Vec<_>>(), [32, 16]);
}

/// Self-attention over 10 tokens of 32 features by 4 heads, with one product for queries, keys and values.
fn attention(graph: &mut Graph) -> NodeId {
    let x = input(graph, &[1, 10, 32]);
    let w = weights(graph, &[32, 96], 1);
    let all = matmul(graph, x, w);
    let heads = reshape(graph, all, &[1, 10, 3, 4, 8]);
    let heads = transpose(graph, heads, &[2, 0, 3, 1, 4]);
    let [q, k, v] = [0, 1, 2].map(|part| {
        let starts = vec![part, 0, 0, 0, 0];
        let part = add(graph, Op::Slice { starts, steps: vec![1; 5], counts: vec![1, 1, 4, 10, 8] }, &[heads]);
        reshape(graph, part, &[1, 4, 10, 8])
    });
    let op = Op::MatMul { transpose_a: false, transpose_b: true, epilogue: plain() };
    let scores = add(graph, op, &[q, k]);
    let scores = add(graph, Op::Softmax { axis: 3, log: false }, &[scores]);
    let read = matmul(graph, scores, v);
    let read = transpose(graph, read, &[0, 2, 1, 3]);
    let read = reshape(graph, read, &[1, 10, 32]);
    let w = weights(graph, &[32, 32], 2);
    matmul(graph, read, w)
}

#[test]
fn whole_heads_of_attention_go() {
    let mut graph = Graph::new("attention");
    let y = attention(&mut graph);
    graph.output("y", y);
    let pruned = check_pruned(&graph, &halved(Ranking::Local));
    let [group] = &pruned.groups[..] else { panic!("{:?}", pruned.groups) };
    // A head is 8 features of queries, of keys and of values.
    assert_eq!(group.width, [96, 48]);
    let order = pruned.graph.order();
    let product = order.into_iter().filter(|&id| matches!(pruned.graph.op(id), Op::MatMul { transpose_b: true, .. }));
    let products: Vec<NodeId> = product.collect();
    assert_eq!(extents(&pruned.graph, pruned.graph.operands(products[0])[0]), [1, 2, 10, 8]);
}

#[test]
fn what_is_looked_up_or_combined_stays_and_says_why() {
    let mut graph = Graph::new("kept");
    let x = input(&mut graph, &[1, 3, 4, 4]);
    let a = conv(&mut graph, x, [16, 3, 1, 1], 1, 0, 1);
    let a = add(&mut graph, Op::Softmax { axis: 1, log: false }, &[a]);
    let b = conv(&mut graph, a, [16, 16, 1, 1], 1, 0, 1);
    let positions = graph.constant(Tensor::from_i64(edgecc_ir::Shape::new(&[2]), &[3, 5]), Default::default());
    let b = add(&mut graph, Op::Gather { axis: 1 }, &[b, positions]);
    let c = conv(&mut graph, b, [16, 2, 1, 1], 1, 0, 1);
    let y = conv(&mut graph, c, [16, 16, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let layers = vec![edgecc_passes::prune::LayerRule { node: c, least: 1.0, most: 1.0 }];
    let pruned = check_pruned(&graph, &Recipe { layers, ..Recipe::of(0.5) });
    let reasons: Vec<Reason> = pruned.unpruned.iter().map(|layer| layer.reason).collect();
    assert_eq!(reasons, [Reason::Combined, Reason::Positions, Reason::Asked, Reason::Output]);
    assert_eq!(pruned.macs[0], pruned.macs[1]);
}

#[test]
fn a_layer_keeps_the_share_that_its_rule_says() {
    let mut graph = Graph::new("shares");
    let mut x = input(&mut graph, &[1, 3, 4, 4]);
    let layers: Vec<_> = [64, 64, 64]
        .map(|channels| {
            let depth = graph.ty(x).shape.dim(1);
            x = conv(&mut graph, x, [channels, depth, 1, 1], 1, 0, 1);
            x
        })
        .into();
    let y = conv(&mut graph, x, [10, 64, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let rule =
        |place: usize, [least, most]: [f64; 2]| edgecc_passes::prune::LayerRule { node: layers[place], least, most };
    for (fraction, ranking) in [(0.0, Ranking::Global), (0.3, Ranking::Global), (0.3, Ranking::Local)] {
        // A quarter exactly, and at least three quarters.
        let rules = vec![rule(0, [0.25, 0.25]), rule(1, [0.75, 1.0])];
        let pruned = check_pruned(&graph, &Recipe { ranking, layers: rules, ..Recipe::of(fraction) });
        let widths: Vec<usize> = pruned.groups.iter().map(|group| group.width[1]).collect();
        assert!(widths[0] == 16 && widths[1] >= 48 && widths[2] >= 8, "{widths:?}");
        assert!(fraction > 0.0 || widths[1..] == [64, 64], "{widths:?}");
    }
}
