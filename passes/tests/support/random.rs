//! Networks drawn at random.

#![allow(dead_code, missing_docs)]

use edgecc_ir::{BinaryOp, Graph, NodeId, Op, Origin, PadMode, PoolKind, ReduceKind, Shape, UnaryOp, eval};

use super::*;

/// Draws small numbers from a seed.
struct Draw {
    seed: u64,
    drawn: u64,
}

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        let number = numbers(4, self.seed * 1000 + self.drawn)[3];
        (((number + 1.0) / 2.0 * bound as f32) as usize).min(bound - 1)
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

struct Growing {
    graph: Graph,
    draw: Draw,
    values: Vec<NodeId>,
}

impl Growing {
    fn value(&mut self) -> NodeId {
        let recent = self.values.len().min(4);
        self.values[self.values.len() - 1 - self.draw.below(recent)]
    }

    fn extents(&self, x: NodeId) -> Vec<usize> {
        self.graph.ty(x).shape.extents()
    }

    fn grow(&mut self) {
        let x = self.value();
        let rank = self.extents(x).len();
        let grown = match self.draw.below(12) {
            0 | 1 if rank == 4 => self.window(x),
            2 => self.unary(x),
            3 => self.with_constant(x),
            4 => self.joined(x),
            5 | 6 => self.permuted(x),
            7 => self.reshaped(x),
            8 => self.padded(x),
            9 => self.reduced(x),
            10 => self.sliced(x),
            11 if rank >= 2 => self.product(x),
            _ => self.unary(x),
        };
        self.values.push(grown);
    }

    fn window(&mut self, x: NodeId) -> NodeId {
        let extents = self.extents(x);
        let (kernel, pad) = self.draw.one_of(&[(1, 0), (3, 1), (2, 1)]);
        let stride = self.draw.one_of(&[1, 1, 2]);
        if kernel == 2 && self.draw.below(2) == 0 {
            let kind = self.draw.one_of(&[PoolKind::Max, PoolKind::Average { count_pads: false }]);
            return add(&mut self.graph, Op::Pool { kind, window: window(&[2, 2], stride, pad), ceil: false }, &[x]);
        }
        let depthwise = self.draw.below(3) == 0;
        let filters = if depthwise { extents[1] } else { self.draw.one_of(&[2, 3, 4]) };
        let (groups, depth) = if depthwise { (extents[1], 1) } else { (1, extents[1]) };
        conv(&mut self.graph, x, [filters, depth, kernel, kernel], stride, pad, groups)
    }

    fn unary(&mut self, x: NodeId) -> NodeId {
        match self.draw.below(4) {
            0 => relu(&mut self.graph, x),
            1 => unary(&mut self.graph, UnaryOp::Sigmoid, x),
            2 => unary(&mut self.graph, UnaryOp::Neg, x),
            _ => unary(&mut self.graph, UnaryOp::Tanh, x),
        }
    }

    /// A scale or shift by one number, by numbers along one axis, those written out for every element, or in full.
    fn with_constant(&mut self, x: NodeId) -> NodeId {
        let extents = self.extents(x);
        let axis = self.draw.below(extents.len());
        let along: Vec<usize> = (0..extents.len()).map(|a| if a == axis { extents[a] } else { 1 }).collect();
        let (shape, written_out) = match self.draw.below(5) {
            0 => (Vec::new(), false),
            1 => (extents.clone(), false),
            2 => (along[axis..].to_vec(), false),
            3 => (along, true),
            _ => (along, false),
        };
        let seed = self.graph.len() as u64;
        let mut constant = weights(&mut self.graph, &shape, seed);
        if written_out {
            let value = self.graph.constant_value(constant).expect("weights");
            let wide = eval::evaluate(&Op::Broadcast(Shape::new(&extents)), &[value]).expect("broadcasts").remove(0);
            constant = self.graph.constant(wide, Origin::default());
        }
        let op = self.draw.one_of(&[BinaryOp::Add, BinaryOp::Mul, BinaryOp::Sub]);
        binary(&mut self.graph, op, x, constant)
    }

    /// A sum, product or concatenation with another value of the shape, or else with a transformed copy.
    fn joined(&mut self, x: NodeId) -> NodeId {
        let extents = self.extents(x);
        let alike: Vec<NodeId> = self.values.iter().copied().filter(|&y| self.extents(y) == extents).collect();
        let other = self.draw.one_of(&alike);
        if self.draw.below(4) == 0 {
            let axis = self.draw.below(extents.len());
            return add(&mut self.graph, Op::Concat { axis }, &[x, other]);
        }
        let op = self.draw.one_of(&[BinaryOp::Add, BinaryOp::Mul, BinaryOp::Max]);
        binary(&mut self.graph, op, x, other)
    }

    fn permuted(&mut self, x: NodeId) -> NodeId {
        let perms: &[&[usize]] = match self.extents(x).len() {
            4 => &[&[0, 2, 3, 1], &[0, 3, 1, 2], &[0, 1, 3, 2], &[0, 2, 1, 3]],
            3 => &[&[0, 2, 1], &[1, 0, 2], &[2, 0, 1]],
            2 => &[&[1, 0]],
            _ => return self.unary(x),
        };
        let perm = self.draw.one_of(perms);
        transpose(&mut self.graph, x, perm)
    }

    fn reshaped(&mut self, x: NodeId) -> NodeId {
        let e = self.extents(x);
        let count: usize = e.iter().product();
        let shape: Vec<usize> = match (e.len(), self.draw.below(2)) {
            (4, 0) => vec![e[0], e[1], e[2] * e[3]],
            (4, _) => vec![e[0], e[1] * e[2], e[3], 1],
            (3, 0) => vec![e[0], e[1], 1, e[2]],
            (3, _) => vec![e[0] * e[1], e[2]],
            (2, _) => vec![1, e[0], e[1], 1],
            _ => vec![1, count],
        };
        reshape(&mut self.graph, x, &shape)
    }

    fn padded(&mut self, x: NodeId) -> NodeId {
        let rank = self.extents(x).len();
        let pads = |draw: &mut Draw| (0..rank).map(|_| draw.below(2)).collect::<Vec<_>>();
        let (mut before, mut after) = (pads(&mut self.draw), pads(&mut self.draw));
        if rank == 4 && self.draw.below(2) == 0 {
            before[..2].fill(0);
            after[..2].fill(0);
        }
        let value = self.draw.one_of(&[0.0, 0.5]);
        let value = scalar(&mut self.graph, value);
        add(&mut self.graph, Op::Pad { mode: PadMode::Constant, before, after }, &[x, value])
    }

    fn reduced(&mut self, x: NodeId) -> NodeId {
        let rank = self.extents(x).len();
        let axis = self.draw.below(rank);
        match self.draw.below(3) {
            0 => add(&mut self.graph, Op::Softmax { axis, log: false }, &[x]),
            1 => {
                let op = Op::Normalize { axes: vec![axis], epsilon: 0.1f32.to_bits(), root_mean_square: false };
                add(&mut self.graph, op, &[x])
            }
            _ => {
                let reduced = add(&mut self.graph, Op::Reduce { kind: ReduceKind::Mean, axes: vec![axis] }, &[x]);
                binary(&mut self.graph, BinaryOp::Sub, x, reduced)
            }
        }
    }

    fn sliced(&mut self, x: NodeId) -> NodeId {
        let extents = self.extents(x);
        let axis = self.draw.below(extents.len());
        let mut starts = vec![0; extents.len()];
        let (mut steps, mut counts) = (vec![1; extents.len()], extents.clone());
        match self.draw.below(3) {
            0 => (starts[axis], steps[axis]) = (extents[axis] - 1, -1),
            1 => (steps[axis], counts[axis]) = (2, extents[axis].div_ceil(2)),
            _ if extents[axis] > 1 => (starts[axis], counts[axis]) = (1, extents[axis] - 1),
            _ => {}
        }
        add(&mut self.graph, Op::Slice { starts, steps, counts }, &[x])
    }

    fn product(&mut self, x: NodeId) -> NodeId {
        let extents = self.extents(x);
        let (rows, columns) = (extents[extents.len() - 2], extents[extents.len() - 1]);
        let seed = self.graph.len() as u64;
        let [transpose_a, transpose_b] = [0, 1].map(|_| self.draw.below(2) == 1);
        let depth = if transpose_a { rows } else { columns };
        let shape = if transpose_b { [3, depth] } else { [depth, 3] };
        let weights = weights(&mut self.graph, &shape, seed);
        add(&mut self.graph, Op::MatMul { transpose_a, transpose_b, epilogue: plain() }, &[x, weights])
    }
}

/// A network of `size` operators whose last values are its outputs.
pub fn network(seed: u64, size: usize) -> Graph {
    let mut graph = Graph::new("random");
    let x = input(&mut graph, &[1, 3, 5, 4]);
    let mut growing = Growing { graph, draw: Draw { seed, drawn: 0 }, values: vec![x] };
    while growing.graph.len() < size {
        growing.grow();
    }
    let Growing { mut graph, mut values, .. } = growing;
    let last = values.split_off(values.len().saturating_sub(2));
    for (place, node) in last.into_iter().enumerate() {
        graph.output(format!("y{place}"), node);
    }
    assert!(graph.outputs().iter().all(|output| graph.ty(output.node).shape != Shape::scalar()));
    graph
}
