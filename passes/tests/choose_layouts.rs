//! The memory order of every value.

mod support;

use edgecc_ir::{BinaryOp, DType, Graph, Layout, Op, Shape, TensorType};
use edgecc_passes::layout::choose_layouts;
use support::*;

fn laid_out(graph: Graph) -> Graph {
    let (graph, _) = check(graph, choose_layouts);
    check_layouts(&graph);
    graph
}

fn relayouts(graph: &Graph) -> usize {
    operators(graph).iter().filter(|&&name| name == "relayout").count()
}

fn output_layout(graph: &Graph, through: &str) -> Layout {
    let id = graph.order().into_iter().find(|&id| graph.op(id).name() == through).expect("such an operator");
    graph.ty(id).layout.clone()
}

#[test]
fn images_lie_channels_last_between_row_major_ends() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = max_pool(&mut graph, y, 2, 2, 0);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["relayout", "conv", "max_pool", "relayout"]);
    assert_eq!(output_layout(&graph, "conv"), Layout::channels_last(4));
}

#[test]
fn one_relayout_serves_all_users() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let a = conv(&mut graph, x, [8, 4, 1, 1], 1, 0, 1);
    let b = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = binary(&mut graph, BinaryOp::Add, a, b);
    let y = conv(&mut graph, y, [1, 8, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(relayouts(&graph), 1, "one channel at the end needs none");
}

#[test]
fn transposes_and_reshapes_move_no_bytes_where_groups_stay_together() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = reshape(&mut graph, y, &[1, 8, 36]);
    let y = transpose(&mut graph, y, &[0, 2, 1]);
    graph.output("rows", y);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["relayout", "conv", "reshape", "transpose"]);
    assert_eq!(output_layout(&graph, "reshape"), Layout::channels_last(3));
}

#[test]
fn a_reshape_that_mixes_channels_and_rows_reads_row_major() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = reshape(&mut graph, y, &[1, 288]);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["relayout", "conv", "relayout", "reshape"]);
}

#[test]
fn a_channel_shuffle_moves_bytes_once() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [8, 4, 3, 3], 1, 1, 1);
    let y = reshape(&mut graph, y, &[1, 2, 4, 6, 6]);
    let y = transpose(&mut graph, y, &[0, 2, 1, 3, 4]);
    let y = reshape(&mut graph, y, &[1, 8, 6, 6]);
    let y = conv(&mut graph, y, [1, 8, 1, 1], 1, 0, 1);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(relayouts(&graph), 2, "at the input and in the shuffle: {:?}", operators(&graph));
}

#[test]
fn the_smaller_tensor_is_moved() {
    let mut graph = Graph::new("case");
    let x = graph.input("pixels", TensorType::new(DType::U8, Shape::new(&[1, 3, 8, 8])));
    let y = add(&mut graph, Op::Map(cast(DType::U8, DType::F32)), &[x]);
    let y = conv(&mut graph, y, [1, 3, 3, 3], 1, 1, 1);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["relayout", "map", "conv"], "bytes move before they become floats");
}

#[test]
fn the_left_matrix_has_the_summed_axis_innermost() {
    for (transpose_a, moved) in [(false, 0), (true, 1)] {
        let mut graph = Graph::new("case");
        let (a, b) = (input(&mut graph, &[3, 3]), input(&mut graph, &[3, 3]));
        let y = add(&mut graph, Op::MatMul { transpose_a, transpose_b: true, epilogue: plain() }, &[a, b]);
        graph.output("y", y);
        let graph = laid_out(graph);
        assert_eq!(relayouts(&graph), moved);
    }
}

#[test]
fn a_row_major_network_stays() {
    let mut graph = Graph::new("case");
    let (x, w) = (input(&mut graph, &[2, 3]), weights(&mut graph, &[3, 4], 1));
    let y = matmul(&mut graph, x, w);
    let y = relu(&mut graph, y);
    graph.output("y", y);
    check_unchanged(graph, choose_layouts);
}

#[test]
fn heads_of_attention_are_read_where_they_lie() {
    let mut graph = Graph::new("case");
    let (q, k) = (input(&mut graph, &[1, 7, 2, 4]), input(&mut graph, &[1, 7, 2, 4]));
    let q = transpose(&mut graph, q, &[0, 2, 1, 3]);
    let k = transpose(&mut graph, k, &[0, 2, 3, 1]);
    let scores = matmul(&mut graph, q, k);
    graph.output("scores", scores);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["transpose", "transpose", "matmul"]);
}

#[test]
fn parts_are_joined_before_they_are_moved() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 3, 8, 8]);
    let parts = [0, 1].map(|start| {
        let (starts, counts) = (vec![0, 0, 0, start], vec![1, 3, 8, 4]);
        add(&mut graph, Op::Slice { starts, steps: vec![1, 1, 1, 2], counts }, &[x])
    });
    let y = add(&mut graph, Op::Concat { axis: 1 }, &parts);
    let y = conv(&mut graph, y, [1, 6, 3, 3], 1, 1, 1);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(operators(&graph), ["slice", "slice", "concat", "relayout", "conv"]);
}

#[test]
fn a_value_that_was_moved_is_not_moved_again() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[1, 4, 6, 6]);
    let y = conv(&mut graph, x, [4, 4, 3, 3], 1, 1, 1);
    let y = binary(&mut graph, BinaryOp::Add, x, y);
    let y = conv(&mut graph, y, [1, 4, 3, 3], 1, 1, 1);
    graph.output("y", y);
    let graph = laid_out(graph);
    assert_eq!(relayouts(&graph), 1);
}

/// Every order of the numbers below `rank`.
fn permutations(rank: usize) -> Vec<Vec<usize>> {
    let all = (0..rank.pow(rank as u32)).map(|n| (0..rank as u32).map(|i| n / rank.pow(i) % rank).collect::<Vec<_>>());
    all.filter(|perm| (0..rank).all(|axis| perm.contains(&axis))).collect()
}

#[test]
fn reshapes_of_values_in_every_layout_share_bytes() {
    let shapes: [&[usize]; 8] =
        [&[2, 3, 4, 5], &[6, 4, 5], &[2, 12, 5], &[2, 3, 20], &[120], &[2, 3, 2, 2, 5], &[1, 6, 1, 20], &[4, 30]];
    for perm in permutations(4) {
        for shape in shapes {
            let mut graph = Graph::new("case");
            let places: Vec<usize> = (0..4).map(|axis| perm.iter().position(|&a| a == axis).expect("in it")).collect();
            let extents: Vec<usize> = places.iter().map(|&place| [2, 3, 4, 5][place]).collect();
            let x = input(&mut graph, &extents);
            let y = transpose(&mut graph, x, &perm);
            assert_eq!(graph.ty(y).shape.extents(), [2, 3, 4, 5]);
            let y = reshape(&mut graph, y, shape);
            graph.output("y", y);
            laid_out(graph);
        }
    }
}
