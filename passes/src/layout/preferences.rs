//! What the users of a value would have its layout be.

use edgecc_ir::{Graph, Layout, NodeId, Op, Type};

/// Layouts that all users of a value ask for alike.
pub(crate) struct Preferences {
    by_index: Vec<Option<Layout>>,
}

impl Preferences {
    /// The layout that every user of the value asks for.
    pub(crate) fn of(&self, id: NodeId) -> Option<&Layout> {
        self.by_index.get(id.index())?.as_ref()
    }
}

/// Windows ask for channels-last, outputs for row-major; operators that work in any layout pass on what is asked of them.
pub(crate) fn preferences(graph: &Graph) -> Preferences {
    let mut asked: Vec<Vec<Option<Layout>>> = vec![Vec::new(); graph.bound()];
    for output in graph.outputs() {
        asked[output.node.index()].push(rank(graph, output.node).map(Layout::row_major));
    }
    let mut preferences = Preferences { by_index: vec![None; graph.bound()] };
    for id in graph.order().into_iter().rev() {
        let preference = unanimous(&asked[id.index()]);
        for (place, &operand) in graph.operands(id).iter().enumerate() {
            asked[operand.index()].push(passed_on(graph, id, place, preference.as_ref()));
        }
        preferences.by_index[id.index()] = preference;
    }
    preferences
}

fn unanimous(asked: &[Option<Layout>]) -> Option<Layout> {
    let (first, rest) = asked.split_first()?;
    rest.iter().all(|other| other == first).then(|| first.clone()).flatten()
}

fn rank(graph: &Graph, id: NodeId) -> Option<usize> {
    match graph.node(id).ty() {
        Type::Tensor(ty) => Some(ty.shape.rank()),
        Type::Tuple(_) => None,
    }
}

/// What node `id` asks of its operand number `place`.
fn passed_on(graph: &Graph, id: NodeId, place: usize, preference: Option<&Layout>) -> Option<Layout> {
    let rank = rank(graph, graph.operands(id)[place])?;
    let agreed = || preference.filter(|layout| layout.rank() == rank).cloned();
    match graph.op(id) {
        Op::Conv { .. } | Op::ConvTranspose { .. } => (place != 1).then(|| Layout::channels_last(rank)),
        Op::Pool { .. } | Op::PoolIndices { .. } | Op::LocalResponseNorm { .. } => Some(Layout::channels_last(rank)),
        Op::Map(_) | Op::Concat { .. } | Op::Slice { .. } | Op::Pad { .. } | Op::Tile { .. } => agreed(),
        // These run along channels; in row-major order they would run across them.
        Op::Softmax { .. } | Op::Normalize { .. } | Op::Resize { .. } => {
            agreed().filter(|layout| !layout.is_row_major())
        }
        Op::Input { .. }
        | Op::Constant(_)
        | Op::MatMul { .. }
        | Op::Reduce { .. }
        | Op::ArgReduce { .. }
        | Op::Reshape(_)
        | Op::Transpose(_)
        | Op::Broadcast(_)
        | Op::Gather { .. }
        | Op::GatherElements { .. }
        | Op::GatherNd { .. }
        | Op::ScatterElements { .. }
        | Op::ScatterNd { .. }
        | Op::CumulativeSum { .. }
        | Op::TopK { .. }
        | Op::Project(_)
        | Op::Relayout(_) => None,
    }
}
