//! What users call a graph's nodes.

use std::collections::BTreeMap;

use edgecc_ir::{DType, Graph, NodeId, Op, Type};

/// Names of nodes: those of the ONNX nodes that a node stands for, an input's own. Where several nodes share one, `name#2` is
/// the second of them in the graph's order, and `name` all of them.
pub struct Names<'a> {
    graph: &'a Graph,
    sharing: BTreeMap<String, Vec<NodeId>>,
}

/// The names of the contractions of a graph.
pub fn layers(graph: &Graph) -> Names<'_> {
    Names::of(graph, |id| graph.op(id).epilogue().is_some())
}

/// The names of the numbers of a graph that are no constants.
pub fn values(graph: &Graph) -> Names<'_> {
    let is_number = |id| matches!(graph.node(id).ty(), Type::Tensor(ty) if ty.dtype == DType::F32);
    Names::of(graph, |id| is_number(id) && graph.constant_value(id).is_none())
}

impl Names<'_> {
    fn of(graph: &Graph, is_named: impl Fn(NodeId) -> bool) -> Names<'_> {
        let mut sharing: BTreeMap<String, Vec<NodeId>> = BTreeMap::new();
        for id in graph.order().into_iter().filter(|&id| is_named(id)) {
            names(graph, id).into_iter().for_each(|name| sharing.entry(name).or_default().push(id));
        }
        Names { graph, sharing }
    }

    /// The nodes that a name stands for; none where it is unknown.
    pub fn nodes(&self, name: &str) -> &[NodeId] {
        let numbered = || {
            let (name, number) = name.rsplit_once('#')?;
            let place = number.parse::<usize>().ok()?.checked_sub(1)?;
            self.sharing.get(name)?.get(place..=place)
        };
        self.sharing.get(name).map(Vec::as_slice).or_else(numbered).unwrap_or_default()
    }

    /// The name that stands for one of the nodes alone: its first such, or the last one with a number.
    pub fn name(&self, id: NodeId) -> String {
        let names = names(self.graph, id);
        let last = names.last().cloned().unwrap_or_default();
        let number = self.nodes(&last).iter().position(|&other| other == id).map_or(0, |place| place + 1);
        let mut names = names.into_iter();
        names.find(|name| self.nodes(name) == [id]).unwrap_or_else(|| format!("{last}#{number}"))
    }
}

fn names(graph: &Graph, id: NodeId) -> Vec<String> {
    match (graph.op(id), &graph.node(id).origin().0) {
        (Op::Input { name }, _) => vec![name.clone()],
        (op, names) if names.is_empty() => vec![op.name().to_string()],
        (_, names) => names.clone(),
    }
}
