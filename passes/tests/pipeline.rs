//! The passes together.

mod support;

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, Origin, Shape, Tensor, UnaryOp};
use edgecc_passes::{FINISH, Options, PREPARE, finish, prepare};
use support::*;

const TO_NCHW: [usize; 4] = [0, 3, 1, 2];
const TO_NHWC: [usize; 4] = [0, 2, 3, 1];

/// The axis order in which a network was exported.
#[derive(Clone, Copy, PartialEq)]
enum Export {
    /// Images are N,C,H,W throughout; batch normalization is one operator.
    ChannelsFirst,
    /// Images are N,H,W,C but for convolutions, between transposes; batch normalization is a product and a sum.
    ChannelsLast,
}

struct Network {
    graph: Graph,
    export: Export,
    seed: u64,
}

impl Network {
    fn new(export: Export) -> (Self, NodeId) {
        let mut network = Network { graph: Graph::new("network"), export, seed: 1 };
        let x = input(&mut network.graph, &[1, 3, 32, 32]);
        let x = network.leave(x);
        (network, x)
    }

    fn seed(&mut self) -> u64 {
        self.seed += 1;
        self.seed
    }

    /// From the order of convolutions to that of the other operators.
    fn leave(&mut self, x: NodeId) -> NodeId {
        if self.export == Export::ChannelsFirst { x } else { transpose(&mut self.graph, x, &TO_NHWC) }
    }

    /// From the order of the other operators to that of convolutions.
    fn enter(&mut self, x: NodeId) -> NodeId {
        if self.export == Export::ChannelsFirst { x } else { transpose(&mut self.graph, x, &TO_NCHW) }
    }

    fn per_channel(&mut self, channels: usize, around: f32) -> NodeId {
        let extents: &[usize] = if self.export == Export::ChannelsFirst { &[channels, 1, 1] } else { &[channels] };
        let values: Vec<f32> = numbers(channels, self.seed()).iter().map(|x| around + x / 2.0).collect();
        constant(&mut self.graph, extents, &values)
    }

    fn conv(&mut self, x: NodeId, filters: [usize; 4], stride: usize, groups: usize) -> NodeId {
        let x = self.enter(x);
        let seed = self.seed();
        let weights = weights(&mut self.graph, &filters, seed);
        let window = window(&filters[2..], stride, filters[2] / 2);
        let y = add(&mut self.graph, Op::Conv { window, groups, epilogue: plain() }, &[x, weights]);
        let y = self.leave(y);
        self.batch_norm(y, filters[0])
    }

    fn batch_norm(&mut self, x: NodeId, channels: usize) -> NodeId {
        let (scale, shift) = (self.per_channel(channels, 1.0), self.per_channel(channels, 0.0));
        if self.export == Export::ChannelsLast {
            let scaled = binary(&mut self.graph, BinaryOp::Mul, x, scale);
            return binary(&mut self.graph, BinaryOp::Add, scaled, shift);
        }
        let mut expr = Expr::new();
        let [a, b, c] = [0, 1, 2].map(|n| expr.arg(n, DType::F32));
        let scaled = expr.binary(BinaryOp::Mul, a, b);
        let root = expr.binary(BinaryOp::Add, scaled, c);
        add(&mut self.graph, Op::Map(expr.with_root(root)), &[x, scale, shift])
    }

    fn relu6(&mut self, x: NodeId) -> NodeId {
        let six = self.graph.constant(Tensor::scalar(edgecc_ir::Scalar::f32(6.0)), Origin::default());
        let y = relu(&mut self.graph, x);
        binary(&mut self.graph, BinaryOp::Min, y, six)
    }

    /// An inverted residual block of a MobileNetV2.
    fn block(&mut self, x: NodeId, [from, wide, to]: [usize; 3], stride: usize) -> NodeId {
        let y = self.conv(x, [wide, from, 1, 1], 1, 1);
        let y = self.relu6(y);
        let y = self.conv(y, [wide, 1, 3, 3], stride, wide);
        let y = self.relu6(y);
        let y = self.conv(y, [to, wide, 1, 1], 1, 1);
        if stride == 1 && from == to { binary(&mut self.graph, BinaryOp::Add, x, y) } else { y }
    }

    /// Squeeze and excitation.
    fn gate(&mut self, x: NodeId, channels: usize) -> NodeId {
        let axes: &[usize] = if self.export == Export::ChannelsFirst { &[2, 3] } else { &[1, 2] };
        let pooled = mean(&mut self.graph, x, axes);
        let squeezed = self.conv(pooled, [4, channels, 1, 1], 1, 1);
        let squeezed = relu(&mut self.graph, squeezed);
        let gate = self.conv(squeezed, [channels, 4, 1, 1], 1, 1);
        let gate = unary(&mut self.graph, UnaryOp::Sigmoid, gate);
        binary(&mut self.graph, BinaryOp::Mul, x, gate)
    }

    fn classifier(mut self, x: NodeId, channels: usize) -> Graph {
        let axes: &[usize] = if self.export == Export::ChannelsFirst { &[2, 3] } else { &[1, 2] };
        let pooled = mean(&mut self.graph, x, axes);
        let rows = reshape(&mut self.graph, pooled, &[1, channels]);
        let seed = self.seed();
        let weights = weights(&mut self.graph, &[channels, 10], seed);
        let scores = matmul(&mut self.graph, rows, weights);
        let bias = constant(&mut self.graph, &[10], &numbers(10, seed + 100));
        let scores = binary(&mut self.graph, BinaryOp::Add, scores, bias);
        self.graph.output("scores", scores);
        self.graph
    }
}

fn mobile_network(export: Export) -> Graph {
    let (mut network, x) = Network::new(export);
    let y = network.conv(x, [8, 3, 3, 3], 2, 1);
    let y = network.relu6(y);
    let y = network.block(y, [8, 16, 8], 1);
    let y = network.block(y, [8, 16, 12], 2);
    let y = network.gate(y, 12);
    let y = network.block(y, [12, 24, 12], 1);
    network.classifier(y, 12)
}

fn compiled(mut graph: Graph) -> Graph {
    let before = graph.clone();
    for half in [prepare, finish] {
        half(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    }
    same_values(&before, &graph);
    graph
}

#[test]
fn a_mobile_network_is_convolutions_with_one_relayout_at_the_input() {
    let graph = compiled(mobile_network(Export::ChannelsFirst));
    let steps = operators(&graph);
    let count = |name: &str| steps.iter().filter(|&&step| step == name).count();
    assert_eq!(count("relayout"), 1, "{steps:?}");
    assert_eq!(steps[0], "relayout");
    assert_eq!(count("conv"), 12, "{steps:?}");
    assert_eq!(count("map"), 1, "the gate's product alone: {steps:?}");
    assert_eq!(steps.len(), 1 + 12 + 1 + 2 + 1 + 1, "means, reshape and product besides: {steps:?}");
}

#[test]
fn a_network_exported_with_channels_last_ends_with_the_same_nodes() {
    let [first, last] = [Export::ChannelsFirst, Export::ChannelsLast].map(|export| compiled(mobile_network(export)));
    assert_eq!(operators(&first), operators(&last));
    let types = |graph: &Graph| graph.order().iter().map(|&id| graph.ty(id).clone()).collect::<Vec<_>>();
    assert_eq!(types(&first), types(&last));
}

#[test]
fn phases_have_distinct_names_and_a_sentence() {
    let phases: Vec<_> = PREPARE.iter().chain(FINISH).flat_map(|group| group.phases).collect();
    for (place, phase) in phases.iter().enumerate() {
        assert!(phases[..place].iter().all(|other| other.name != phase.name), "{} twice", phase.name);
        assert!(phase.sentence.ends_with('.'), "{}", phase.sentence);
    }
}

#[test]
fn a_finished_graph_stays_as_it_is_but_for_layouts() {
    let mut graph = mobile_network(Export::ChannelsLast);
    prepare(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    let again = prepare(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    assert_eq!(again.total(), 0, "{again:?}");
}

#[test]
fn the_observer_sees_each_phase_that_rewrites() {
    let mut graph = mobile_network(Export::ChannelsLast);
    let mut seen = Vec::new();
    let report = prepare(&mut graph, &Options::default(), &mut |name, _| seen.push(name)).expect("sound passes");
    for (name, count) in report.rewrites {
        assert_eq!(seen.contains(&name), count > 0, "{name}");
    }
}

#[test]
fn long_chains_and_values_with_many_users_take_little_time() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2]);
    let hub = unary(&mut graph, UnaryOp::Exp, x);
    let mut y = hub;
    for step in 0..20_000 {
        y = match step % 3 {
            0 => binary(&mut graph, BinaryOp::Add, y, hub),
            1 => unary(&mut graph, UnaryOp::Tanh, y),
            _ => reshape(&mut graph, y, &[2]),
        };
    }
    graph.output("y", y);
    let start = std::time::Instant::now();
    for half in [prepare, finish] {
        half(&mut graph, &Options::default(), &mut |_, _| {}).expect("sound passes");
    }
    let seconds = start.elapsed().as_secs_f64();
    assert!(seconds < 10.0, "{seconds} s");
}
#[test]
fn shape_arithmetic_folds_away() {
    let mut graph = Graph::new("case");
    let x = input(&mut graph, &[2, 6]);
    let shape = graph.constant(Tensor::from_i64(Shape::new(&[2]), &[2, 6]), Origin::default());
    let index = graph.constant(Tensor::from_i64(Shape::new(&[1]), &[1]), Origin::default());
    let extent = add(&mut graph, Op::Gather { axis: 0 }, &[shape, index]);
    let wide = add(&mut graph, Op::Map(cast(DType::I64, DType::F32)), &[extent]);
    let y = binary(&mut graph, BinaryOp::Mul, x, wide);
    graph.output("y", y);
    let graph = compiled(graph);
    assert_eq!(operators(&graph), ["map"]);
    assert_eq!(graph.operands(graph.outputs()[0].node), [x]);
}
