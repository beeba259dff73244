//! The memory order of every value.

use std::collections::HashMap;

use edgecc_ir::{Graph, Layout, NodeId, Op, Shape, Type};

use super::orders::{of_operand, through_reshape, transposed, usual, with_leading_axes};
use super::preferences::{Preferences, preferences};
use crate::query::is_constant;

/// Constants up to this many bytes stay row-major under an element-wise operator: kernels read them through strides.
const SMALL_CONSTANT: usize = 4096;

/// `conv(x: nchw) => conv(relayout(x): nhwc): nhwc`: sets the layout of every value, with a relayout where bytes must move.
///
/// Convolutions, pools and local response normalization work on channels-last values. Element-wise and most movement
/// operators take the layout in which the fewest bytes move. A transpose moves no bytes: its result lies as its operand
/// does. A reshape passes every layout that keeps its groups of axes together. The left operand of a matrix product has
/// the summed axis innermost; the right one, and weights, lie anyhow. Positions, graph inputs and outputs are row-major.
/// Returns the number of relayouts and of values that left row-major order. Exact.
pub fn choose_layouts(graph: &mut Graph) -> usize {
    let preferences = preferences(graph);
    let mut layouts = Layouts { graph, preferences, relayouts: HashMap::new(), rewrites: 0 };
    for id in layouts.graph.order() {
        layouts.assign(id);
    }
    for place in 0..layouts.graph.outputs().len() {
        let node = layouts.graph.outputs()[place].node;
        let row_major = layouts.row_major(node);
        let moved = layouts.relayout(node, &row_major);
        layouts.graph.set_output(place, moved);
    }
    let rewrites = layouts.rewrites;
    graph.remove_dead();
    rewrites
}

struct Layouts<'a> {
    graph: &'a mut Graph,
    preferences: Preferences,
    /// The relayout of a value to a layout.
    relayouts: HashMap<(NodeId, Layout), NodeId>,
    rewrites: usize,
}

impl Layouts<'_> {
    fn assign(&mut self, id: NodeId) {
        match self.graph.op(id).clone() {
            Op::Input { .. } | Op::Constant(_) | Op::Relayout(_) | Op::Project(_) => {}
            Op::Conv { .. } | Op::ConvTranspose { .. } => {
                let layout = Layout::channels_last(self.shape(id).rank());
                let operands = self.graph.operands(id).to_vec();
                let images = operands.iter().enumerate().filter(|&(place, _)| place != 1);
                images.for_each(|(_, &operand)| self.want(id, operand, &layout));
                self.set_layout(id, layout);
            }
            Op::Pool { .. } | Op::PoolIndices { .. } | Op::LocalResponseNorm { .. } => {
                let layout = Layout::channels_last(self.shape(id).rank());
                self.want(id, self.graph.operands(id)[0], &layout);
                self.set_layout(id, layout);
            }
            Op::MatMul { transpose_a, .. } => self.matmul(id, transpose_a),
            Op::Map(_) | Op::Concat { .. } => self.agree(id, self.graph.operands(id).to_vec()),
            Op::Reduce { .. }
            | Op::ArgReduce { .. }
            | Op::Softmax { .. }
            | Op::Normalize { .. }
            | Op::Slice { .. }
            | Op::Pad { .. }
            | Op::Tile { .. }
            | Op::Resize { .. } => self.agree(id, vec![self.graph.operands(id)[0]]),
            Op::Broadcast(shape) => {
                let layout = with_leading_axes(self.layout(self.graph.operands(id)[0]), shape.rank());
                self.set_layout(id, layout);
            }
            Op::Transpose(perm) => {
                let layout = transposed(self.layout(self.graph.operands(id)[0]), &perm);
                self.set_layout(id, layout);
            }
            Op::Reshape(shape) => {
                let operand = self.graph.operands(id)[0];
                let (wanted, result) = through_reshape(self.layout(operand), self.shape(operand), &shape);
                self.want(id, operand, &wanted);
                self.set_layout(id, result);
            }
            Op::Gather { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. }
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. }
            | Op::CumulativeSum { .. }
            | Op::TopK { .. } => {
                for operand in self.graph.operands(id).to_vec() {
                    let layout = self.row_major(operand);
                    self.want(id, operand, &layout);
                }
            }
        }
    }

    /// The left operand has the summed axis innermost; its other axes may lie in any order.
    fn matmul(&mut self, id: NodeId, transpose_a: bool) {
        let operands = self.graph.operands(id).to_vec();
        let left = self.shape(operands[0]);
        let mut order: Vec<usize> = (0..left.rank()).collect();
        if transpose_a {
            order.swap(left.rank() - 2, left.rank() - 1);
        }
        let innermost = self.layout(operands[0]).order().rfind(|&axis| left.dim(axis) != 1);
        let summed = order.last().copied();
        let adjacent = innermost == summed || summed.is_some_and(|axis| left.dim(axis) == 1);
        if let Some(layout) = Layout::from_order(&order).filter(|_| !adjacent && !is_constant(self.graph, operands[0]))
        {
            self.want(id, operands[0], &layout);
        }
        let result = self.row_major(id);
        operands[2..].iter().for_each(|&operand| self.want(id, operand, &result));
    }

    /// The operands and the result take the layout for which the fewest bytes move, in the fewest moves.
    fn agree(&mut self, id: NodeId, operands: Vec<NodeId>) {
        let layout = self.cheapest(id, &operands);
        operands.iter().for_each(|&operand| self.want(id, operand, &layout));
        self.set_layout(id, layout);
    }

    fn cheapest(&self, id: NodeId, operands: &[NodeId]) -> Layout {
        let rank = self.shape(id).rank();
        let preferred = self.preferences.of(id).filter(|layout| layout.rank() == rank);
        let running = operands.iter().filter(|&&operand| !is_constant(self.graph, operand));
        let full = running.filter(|&&operand| self.shape(operand).rank() == rank);
        let found = full.map(|&operand| self.layout(operand)).filter(|layout| !layout.is_row_major());
        let row_major = Layout::row_major(rank);
        let candidates: Vec<&Layout> = preferred.into_iter().chain(found).chain([&row_major]).collect();
        let cost = |layout: &Layout| {
            let unlike = preferred.is_some_and(|preferred| !preferred.same_bytes(layout, self.shape(id)));
            let moved = operands.iter().filter(|&&operand| self.moves(operand, layout)).chain(unlike.then_some(&id));
            moved.fold((0, 0), |(bytes, moves), &value| (bytes + self.bytes(value), moves + 1))
        };
        candidates.into_iter().min_by_key(|layout| cost(layout)).unwrap_or(&row_major).clone()
    }

    /// Whether an operand of a value in `layout` has to be moved, and has not been yet.
    fn moves(&self, operand: NodeId, layout: &Layout) -> bool {
        let (ty, wanted) = (self.graph.ty(operand), of_operand(layout, self.shape(operand).rank()));
        let stays = wanted.same_bytes(&ty.layout, &ty.shape) || self.is_small_constant(operand);
        !stays && !self.relayouts.contains_key(&(operand, usual(&wanted, &ty.shape)))
    }

    /// Makes `operand` of `user` lie as an operand of a value in `layout` does.
    fn want(&mut self, user: NodeId, operand: NodeId, layout: &Layout) {
        if self.is_small_constant(operand) {
            return;
        }
        let wanted = of_operand(layout, self.shape(operand).rank());
        let moved = self.relayout(operand, &wanted);
        if moved != operand {
            self.graph.replace_operand(user, operand, moved);
        }
    }

    /// The value in `layout`: itself, what it was before a relayout, or a relayout of it.
    fn relayout(&mut self, value: NodeId, layout: &Layout) -> NodeId {
        let source = match self.graph.op(value) {
            Op::Relayout(_) => self.graph.operands(value)[0],
            _ => value,
        };
        let lies_so = |id: NodeId| layout.same_bytes(self.layout(id), self.shape(id));
        if let Some(same) = [value, source].into_iter().find(|&id| lies_so(id)) {
            return same;
        }
        let layout = usual(layout, self.shape(source));
        if let Some(&known) = self.relayouts.get(&(source, layout.clone())) {
            return known;
        }
        let origin = self.graph.node(source).origin().clone();
        let Ok(moved) = self.graph.add(Op::Relayout(layout.clone()), &[source], origin) else { return value };
        self.relayouts.insert((source, layout), moved);
        self.rewrites += 1;
        moved
    }

    fn set_layout(&mut self, id: NodeId, layout: Layout) {
        let ty = self.graph.ty(id);
        if ty.layout != layout {
            let ty = ty.with_layout(usual(&layout, &ty.shape));
            self.graph.set_type(id, Type::Tensor(ty));
            self.rewrites += 1;
        }
    }

    fn layout(&self, id: NodeId) -> &Layout {
        &self.graph.ty(id).layout
    }

    fn shape(&self, id: NodeId) -> &Shape {
        &self.graph.ty(id).shape
    }

    fn row_major(&self, id: NodeId) -> Layout {
        Layout::row_major(self.shape(id).rank())
    }

    fn bytes(&self, id: NodeId) -> usize {
        // Checked when the type was inferred.
        self.graph.ty(id).bytes().unwrap_or(usize::MAX / 4096)
    }

    fn is_small_constant(&self, id: NodeId) -> bool {
        is_constant(self.graph, id) && self.bytes(id) <= SMALL_CONSTANT
    }
}
