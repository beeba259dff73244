//! Groups of classes that occur on the same axes, and the multiply-adds that their widths decide.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId, Op};

use super::classes::{Axis, Class, Fixed, Reason};
use super::propagate::Channels;

/// Multiply-adds that take as long as a function that is approximated, such as a sigmoid.
const TRANSCENDENTAL: f64 = 16.0;

/// Where the classes of a group occur.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slot {
    pub(crate) node: NodeId,
    pub(crate) axis: usize,
    /// Positions of each class along the axis.
    pub(crate) positions: usize,
}

/// Classes that are interchangeable: each occurs on the same axes, equally often.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    /// At least two.
    pub(crate) classes: Vec<Class>,
    pub(crate) slots: Vec<Slot>,
    /// Contractions with constant weights whose results have the classes for channels.
    pub(crate) makers: Vec<NodeId>,
    /// Channels of a class in the result of the narrowest maker.
    pub(crate) channels: usize,
    /// The same in the narrowest result of any contraction, such as one head of attention.
    pub(crate) narrowest: usize,
}

/// A contraction whose channels stay.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) node: NodeId,
    pub(crate) why: Fixed,
}

/// The axis of a contraction's result that its weights, operand 1, make the positions of.
pub(crate) fn result_axis(graph: &Graph, id: NodeId) -> Option<usize> {
    match graph.op(id) {
        Op::Conv { .. } | Op::ConvTranspose { .. } => Some(1),
        Op::MatMul { .. } => graph.ty(id).shape.rank().checked_sub(1),
        _ => None,
    }
}

/// The groups of a graph, in its order, and the contractions that are in none.
pub(crate) fn groups(graph: &Graph, channels: &mut Channels) -> (Vec<Group>, Vec<Kept>) {
    let order = graph.order();
    let mut occurrences: BTreeMap<Class, Vec<Slot>> = BTreeMap::new();
    for &node in &order {
        for (axis, classes) in channels.axes(node).to_vec().iter().enumerate() {
            for (class, positions) in count(channels, classes) {
                occurrences.entry(class).or_default().push(Slot { node, axis, positions });
            }
        }
    }
    let mut alike: BTreeMap<Vec<Slot>, Vec<Class>> = BTreeMap::new();
    for (class, slots) in occurrences {
        alike.entry(slots).or_default().push(class);
    }
    let mut groups: Vec<Group> = alike.into_iter().map(|(slots, classes)| group(graph, slots, classes)).collect();
    groups.retain(|group| group.classes.len() > 1 && !group.makers.is_empty());
    groups.sort_by_key(|group| group.classes[0]);
    let kept = order.iter().filter_map(|&node| kept(graph, channels, &groups, node)).collect();
    (groups, kept)
}

/// How often each class that may be removed occurs along an axis.
fn count(channels: &mut Channels, axis: &Axis) -> BTreeMap<Class, usize> {
    let mut counts = BTreeMap::new();
    for &class in axis.iter() {
        let root = channels.classes.root(class);
        if channels.classes.why(root).is_none() {
            *counts.entry(root).or_default() += 1;
        }
    }
    counts
}

fn group(graph: &Graph, slots: Vec<Slot>, classes: Vec<Class>) -> Group {
    let made: Vec<Slot> =
        slots.iter().filter(|slot| result_axis(graph, slot.node) == Some(slot.axis)).copied().collect();
    let has_weights = |slot: &Slot| graph.constant_value(graph.operands(slot.node)[1]).is_some();
    let makers: Vec<Slot> = made.iter().filter(|slot| has_weights(slot)).copied().collect();
    let narrowest = |slots: &[Slot]| slots.iter().map(|slot| slot.positions).min().unwrap_or(1);
    let (channels, narrowest) = (narrowest(&makers), narrowest(&made));
    Group { makers: makers.iter().map(|slot| slot.node).collect(), channels, narrowest, classes, slots }
}

/// A contraction with constant weights none of whose channels are in a group.
fn kept(graph: &Graph, channels: &mut Channels, groups: &[Group], node: NodeId) -> Option<Kept> {
    let axis = result_axis(graph, node)?;
    graph.constant_value(graph.operands(node)[1])?;
    if groups.iter().any(|group| group.makers.contains(&node)) {
        return None;
    }
    let together = Fixed { reason: Reason::Together, node };
    let first = channels.axis(node, axis).first().copied()?;
    Some(Kept { node, why: channels.classes.why(first).unwrap_or(together) })
}

/// Multiply-adds, or as many as take as long: a product of extents, some of which shrink.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Of a contraction, and not of functions.
    pub(crate) is_of_contraction: bool,
    /// Product of the extents that stay, and of what each position takes.
    constant: f64,
    /// For each extent that may shrink: positions, and the groups among them with positions of a class.
    extents: Vec<(usize, Vec<(usize, usize)>)>,
}

impl Work {
    /// What is left where `removed` classes of each group are gone.
    pub(crate) fn amount(&self, removed: &[usize]) -> f64 {
        let left = |(extent, groups): &(usize, Vec<(usize, usize)>)| {
            let gone: usize = groups.iter().map(|&(group, positions)| removed[group] * positions).sum();
            (extent - gone) as f64
        };
        self.constant * self.extents.iter().map(left).product::<f64>()
    }

    /// Whether a group's width decides this.
    pub(crate) fn depends_on(&self, group: usize) -> bool {
        self.extents.iter().any(|(_, groups)| groups.iter().any(|&(other, _)| other == group))
    }
}

/// The multiply-adds of every contraction, and what functions that are approximated take; other arithmetic of elements is little
/// beside it. In the graph's order.
pub(crate) fn work(graph: &Graph, groups: &[Group]) -> Vec<Work> {
    let of_node = |id: NodeId| match graph.op(id) {
        Op::Map(expr) => {
            let functions = expr.nodes().iter().filter(|node| node.is_transcendental()).count();
            let axes = (0..graph.ty(id).shape.rank()).map(|axis| (id, axis)).collect();
            (functions > 0).then(|| work_of(graph, groups, (id, axes), functions as f64 * TRANSCENDENTAL))
        }
        _ => result_axis(graph, id).map(|_| work_of(graph, groups, (id, factors(graph, id)), 1.0)),
    };
    graph.order().into_iter().filter_map(of_node).collect()
}

fn work_of(graph: &Graph, groups: &[Group], (id, axes): (NodeId, Vec<(NodeId, usize)>), each: f64) -> Work {
    let among = |node: NodeId, axis: usize| -> Vec<(usize, usize)> {
        let of_group = |(place, group): (usize, &Group)| {
            let slot = group.slots.iter().find(|slot| slot.node == node && slot.axis == axis)?;
            Some((place, slot.positions))
        };
        groups.iter().enumerate().filter_map(of_group).collect()
    };
    let is_of_contraction = result_axis(graph, id).is_some();
    let mut work = Work { is_of_contraction, constant: each, extents: Vec::new() };
    for (node, axis) in axes {
        let (extent, groups) = (graph.ty(node).shape.dim(axis), among(node, axis));
        match groups.is_empty() {
            true => work.constant *= extent as f64,
            false => work.extents.push((extent, groups)),
        }
    }
    work
}

/// The axes whose extents' product is the number of a contraction's multiply-adds.
fn factors(graph: &Graph, id: NodeId) -> Vec<(NodeId, usize)> {
    let (a, b) = (graph.operands(id)[0], graph.operands(id)[1]);
    let rank = |node: NodeId| graph.ty(node).shape.rank();
    let all = |node: NodeId| (0..rank(node)).map(move |axis| (node, axis));
    match graph.op(id) {
        Op::Conv { .. } => all(id).chain((1..rank(b)).map(|axis| (b, axis))).collect(),
        Op::ConvTranspose { .. } => all(a).chain((1..rank(b)).map(|axis| (b, axis))).collect(),
        Op::MatMul { transpose_a, .. } => {
            let depth = if *transpose_a { rank(a) - 2 } else { rank(a) - 1 };
            all(id).chain([(a, depth)]).collect()
        }
        _ => Vec::new(),
    }
}
