//! Structured pruning: whole channels, heads and features go, and the graph is smaller. It sees no samples; what they tell comes
//! as numbers.
//!
//! Every position along every axis of every value belongs to a *class* of positions that can only go together
//! (`propagate.rs`, behind `unshare.rs`). Classes that occur on the same axes are a *group*: the channels of one width (`groups.rs`). Of each group
//! the least important classes (`importance.rs`) go, as many as the recipe asks for (`select.rs`); then the graph is cut
//! (`cut.rs`).

mod classes;
mod cut;
mod groups;
mod heads;
mod importance;
mod propagate;
mod reshape;
mod select;
mod unshare;

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId, VerifyError, verify};

pub use classes::Reason;
pub use cut::{CutError, Kept};
pub use importance::depth_axis;

use classes::Class;
use groups::{Group, Work, groups, work};
use propagate::Channels;
use select::{Bounds, select};
use unshare::unshare_vectors;

/// How the weights of a channel are measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Norm {
    /// The sum of absolute values.
    L1,
    /// The root of the sum of squares.
    L2,
}

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ranking {
    /// Channels within their group: every group keeps the same share.
    Local,
    /// Importance lost for time saved, among all groups: multiply-adds, and approximated functions as multiply-adds.
    Global,
}

/// What holds for a layer.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LayerRule {
    /// The contraction.
    pub node: NodeId,
    /// The least share of its channels that stay; with 1 its weights stay as they are.
    pub least: f64,
    /// The largest share that stay, as far as widths allow and other layers of the same width do not need more.
    pub most: f64,
}

/// What to prune.
#[derive(Clone, PartialEq, Debug)]
pub struct Recipe {
    /// The share of the multiply-adds that go, from 0 to 1.
    pub fraction: f64,
    /// What is compared.
    pub ranking: Ranking,
    /// How weights are measured.
    pub norm: Norm,
    /// What widths are multiples of; thin groups of half as much.
    pub multiple: usize,
    /// The least share of a group that stays.
    pub least: f64,
    /// Layers with rules of their own.
    pub layers: Vec<LayerRule>,
}

impl Recipe {
    /// The usual recipe for a share of the multiply-adds.
    pub fn of(fraction: f64) -> Recipe {
        Recipe { fraction, ranking: Ranking::Global, norm: Norm::L2, multiple: 8, least: 0.1, layers: Vec::new() }
    }
}

/// A group of a pruned graph.
#[derive(Clone, PartialEq, Debug)]
pub struct PrunedGroup {
    /// The model's names of the contractions that make its channels.
    pub names: Vec<String>,
    /// Channels of the narrowest of them, before and after.
    pub width: [usize; 2],
    /// Multiply-adds of all contractions that make or read the channels, before and after.
    pub macs: [f64; 2],
}

/// A contraction whose channels could not be pruned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unpruned {
    /// Its name in the model.
    pub name: String,
    /// Its channels.
    pub channels: usize,
    /// Why.
    pub reason: Reason,
    /// The name of the node that demands it.
    pub because_of: String,
}

/// A pruned graph. Its nodes have the ids that they had.
#[derive(Clone)]
pub struct Pruned {
    /// The smaller graph.
    pub graph: Graph,
    /// What is left of each value.
    pub kept: Kept,
    /// Its groups, in the graph's order.
    pub groups: Vec<PrunedGroup>,
    /// Contractions that are in none.
    pub unpruned: Vec<Unpruned>,
    /// Multiply-adds of the graph, before and after.
    pub macs: [f64; 2],
}

/// Why nothing was pruned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PruneError {
    /// A cut that does not fit: a fault of the compiler.
    #[error("internal error: pruning does not fit the graph: {0}")]
    Cut(#[from] CutError),
    /// The smaller graph is not sound: a fault of the compiler.
    #[error("internal error: pruning left an unsound graph: {0}")]
    Verify(#[from] VerifyError),
}

/// Prunes a graph behind [`crate::prepare`]. `activations` has for contractions the size of what each position along
/// [`depth_axis`] of operand 0 holds, such as its deviation; empty where no samples are known.
pub fn prune(graph: &Graph, recipe: &Recipe, activations: &BTreeMap<NodeId, Vec<f64>>) -> Result<Pruned, PruneError> {
    let graph = &unshare_vectors(graph);
    let is_left_alone = |id: NodeId| least_of(recipe, id) >= 1.0;
    let mut channels = Channels::of(graph, is_left_alone);
    let (groups, unpruned) = groups(graph, &mut channels);
    let work = work(graph, &groups);
    let importance = importance::importance(graph, &mut channels, &groups, recipe.norm, activations);
    let bounds: Vec<Bounds> = groups.iter().map(|group| bounds(recipe, group)).collect();
    let removed = select(recipe, &bounds, &importance, &work);
    let gone = gone(&groups, &importance, &removed);
    let kept = kept(graph, &mut channels, &gone);
    let mut smaller = graph.clone();
    cut::cut(&mut smaller, &kept)?;
    verify(&smaller)?;
    let none = vec![0; groups.len()];
    let macs = |removed: &[usize], is_one: &dyn Fn(&Work) -> bool| -> f64 {
        let work = work.iter().filter(|work| work.is_of_contraction && is_one(work));
        work.map(|work| work.amount(removed)).sum()
    };
    let reported = |(place, group): (usize, &Group)| PrunedGroup {
        names: group.makers.iter().map(|&id| name(graph, id)).collect(),
        width: [group.classes.len(), group.classes.len() - removed[place]].map(|classes| classes * group.channels),
        macs: [&none, &removed].map(|removed| macs(removed, &|work| work.depends_on(place))),
    };
    Ok(Pruned {
        groups: groups.iter().enumerate().map(reported).collect(),
        unpruned: unpruned.iter().map(|kept| describe(graph, kept)).collect(),
        macs: [&none, &removed].map(|removed| macs(removed, &|_| true)),
        graph: smaller,
        kept,
    })
}

/// The least share of a contraction's channels that stay: as its rules say, or as for all.
fn least_of(recipe: &Recipe, id: NodeId) -> f64 {
    rules(recipe, id).map(|rule| rule.least).reduce(f64::max).unwrap_or(recipe.least)
}

fn most_of(recipe: &Recipe, id: NodeId) -> f64 {
    rules(recipe, id).map(|rule| rule.most).fold(1.0, f64::min)
}

fn rules(recipe: &Recipe, id: NodeId) -> impl Iterator<Item = &LayerRule> {
    recipe.layers.iter().filter(move |rule| rule.node == id)
}

fn bounds(recipe: &Recipe, group: &Group) -> Bounds {
    let of_makers = |of: fn(&Recipe, NodeId) -> f64| group.makers.iter().map(move |&id| of(recipe, id));
    let least = of_makers(least_of).reduce(f64::max).unwrap_or(recipe.least);
    Bounds::of(group, [least, of_makers(most_of).fold(1.0, f64::min)], recipe.multiple)
}

/// The least important classes of each group, by number; of equal ones the first.
fn gone(groups: &[Group], importance: &[Vec<f64>], removed: &[usize]) -> Vec<Class> {
    let mut gone = Vec::new();
    for ((group, importance), &count) in groups.iter().zip(importance).zip(removed) {
        let mut places: Vec<usize> = (0..group.classes.len()).collect();
        places.sort_by(|&a, &b| importance[a].total_cmp(&importance[b]).then(a.cmp(&b)));
        gone.extend(places[..count].iter().map(|&place| group.classes[place]));
    }
    gone.sort_unstable();
    gone
}

fn kept(graph: &Graph, channels: &mut Channels, gone: &[Class]) -> Kept {
    let mut kept = Kept::new(graph.bound());
    for id in graph.order() {
        let axes = channels.axes(id).to_vec();
        let stay = |axis: &classes::Axis| -> Vec<usize> {
            let is_kept = |place: &usize| gone.binary_search(&channels.classes.root(axis[*place])).is_err();
            (0..axis.len()).filter(is_kept).collect()
        };
        kept.set(id, axes.iter().map(stay).collect());
    }
    kept
}

fn name(graph: &Graph, id: NodeId) -> String {
    let origin = graph.node(id).origin();
    origin.0.first().cloned().unwrap_or_else(|| graph.op(id).name().into())
}

fn describe(graph: &Graph, kept: &groups::Kept) -> Unpruned {
    let axis = groups::result_axis(graph, kept.node);
    Unpruned {
        name: name(graph, kept.node),
        channels: axis.map_or(0, |axis| graph.ty(kept.node).shape.dim(axis)),
        reason: kept.why.reason,
        because_of: name(graph, kept.why.node),
    }
}
