//! Takes positions out of a graph: constants are sliced, shapes follow.

use edgecc_ir::{Graph, NodeId, Op, Shape, Tensor, TensorData, TensorError, Type, TypeError};

/// The positions of every axis of every value that stay.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// By [`NodeId::index`] and axis, ascending.
    positions: Vec<Vec<Vec<usize>>>,
}

impl Kept {
    pub(crate) fn new(bound: usize) -> Kept {
        Kept { positions: vec![Vec::new(); bound] }
    }

    pub(crate) fn set(&mut self, id: NodeId, axes: Vec<Vec<usize>>) {
        self.positions[id.index()] = axes;
    }

    /// The positions along an axis that stay; none for values that no output depends on.
    pub fn axis(&self, id: NodeId, axis: usize) -> &[usize] {
        self.positions.get(id.index()).and_then(|axes| axes.get(axis)).map_or(&[], Vec::as_slice)
    }

    /// The number of axes of a value; none for values that no output depends on.
    pub fn rank(&self, id: NodeId) -> usize {
        self.positions.get(id.index()).map_or(0, Vec::len)
    }

    /// The extents that stay.
    fn shape(&self, id: NodeId) -> Shape {
        self.positions[id.index()].iter().map(Vec::len).collect()
    }
}

/// A cut that does not fit the graph: a fault of the compiler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// Operator and cut operands do not agree.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// A constant's elements.
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Leaves of every value the positions that stay. Nodes keep their ids.
pub(crate) fn cut(graph: &mut Graph, kept: &Kept) -> Result<(), CutError> {
    for id in graph.order() {
        if matches!(graph.op(id), Op::Input { .. }) {
            continue;
        }
        let node = graph.node(id).clone();
        let op = match node.op() {
            Op::Constant(value) => Op::Constant(slice(value, kept, id)?),
            op => narrowed(op, kept, id, node.operands()),
        };
        let is_concerned = |ty: &Type| matches!(ty, Type::Tensor(ty) if ty.shape != kept.shape(id));
        if op != *node.op() || is_concerned(node.ty()) {
            graph.rewrite(id, op, node.operands(), node.origin().clone())?;
        }
    }
    Ok(())
}

/// The operator for operands that are cut.
fn narrowed(op: &Op, kept: &Kept, id: NodeId, operands: &[NodeId]) -> Op {
    let before = |axis: usize, position: usize| kept.axis(operands[0], axis).partition_point(|&other| other < position);
    let mut op = op.clone();
    match &mut op {
        Op::Reshape(shape) | Op::Broadcast(shape) => *shape = kept.shape(id),
        Op::Conv { groups, .. } => *groups = kept.axis(operands[0], 1).len() / kept.axis(operands[1], 1).len().max(1),
        Op::ConvTranspose { groups, .. } => *groups = kept.axis(id, 1).len() / kept.axis(operands[1], 1).len().max(1),
        Op::Slice { starts, counts, .. } => {
            starts.iter_mut().enumerate().for_each(|(axis, start)| *start = before(axis, *start));
            *counts = kept.shape(id).extents();
        }
        Op::Pad { before, after, .. } => {
            for axis in 0..before.len() {
                let positions = kept.axis(id, axis);
                let front = positions.partition_point(|&position| position < before[axis]);
                after[axis] = positions.len() - front - kept.axis(operands[0], axis).len();
                before[axis] = front;
            }
        }
        _ => {}
    }
    op
}

/// A constant's elements at the positions that stay.
fn slice(value: &Tensor, kept: &Kept, id: NodeId) -> Result<Tensor, TensorError> {
    let shape = kept.shape(id);
    if shape == *value.shape() {
        return Ok(value.clone());
    }
    if let TensorData::Splat(scalar) = value.data() {
        return Tensor::splat(shape, *scalar);
    }
    let (bytes, size) = (value.bytes(), value.dtype().size());
    let mut offsets = vec![0];
    for (axis, stride) in value.shape().strides().into_iter().enumerate() {
        let along = kept.axis(id, axis);
        offsets =
            offsets.iter().flat_map(|&offset| along.iter().map(move |&position| offset + position * stride)).collect();
    }
    let elements: Vec<u8> = offsets.iter().flat_map(|&offset| &bytes[offset * size..][..size]).copied().collect();
    Tensor::dense(value.dtype(), shape, elements.into())
}
