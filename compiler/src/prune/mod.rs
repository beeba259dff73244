//! Pruning with samples: they tell which channels matter, and what the weights behind those that went should be.

mod refit;

use std::collections::BTreeMap;

use edgecc_ir::{DType, Graph, NodeId, TypeError};
use edgecc_passes::prune::{PruneError, Pruned, Recipe, depth_axis, prune as cut};
use edgecc_passes::quantize::round_weights;

use crate::calibrate::capture::{CaptureError, capture};
use crate::calibrate::samples::Samples;
use crate::compile::{CompileError, CompileOptions, simplify};

/// Why a model was not pruned.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe, or a fault of the compiler.
    #[error(transparent)]
    Prune(#[from] PruneError),
    /// The samples did not run.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The passes failed on the pruned graph.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// Fitted weights that do not fit: a fault of the compiler.
    #[error("internal error: fitted weights do not fit: {0}")]
    Fit(#[from] TypeError),
}

/// Samples, and what runs them.
#[derive(Clone, Copy)]
pub struct Calibration<'a> {
    /// The inputs of runs.
    pub samples: &'a Samples,
    /// How the model is to be compiled.
    pub options: &'a CompileOptions,
    /// Threads that compute.
    pub threads: usize,
}

/// Prunes a graph behind [`crate::compile::prepare`]. Samples tell the importance of channels. `say` hears of progress.
pub fn prune(
    graph: &Graph,
    recipe: &Recipe,
    calibration: Option<Calibration<'_>>,
    say: &mut dyn FnMut(String),
) -> Result<Pruned, Error> {
    say("pruning".into());
    let activations = calibration.map_or(Ok(BTreeMap::new()), |calibration| activations(graph, calibration))?;
    Ok(cut(graph, recipe, &activations)?)
}

/// Makes integers again of a pruned graph whose values were quantised and whose integers were numbers meanwhile, behind
/// [`crate::compile::prepare`] without [`CompileOptions::integers`]. Weights, pruned and fitted, are rounded anew, channel by
/// channel; values keep their scales. Leaves others as they are.
pub fn round_again(pruned: &mut Pruned, options: &CompileOptions) -> Result<(), Error> {
    if round_weights(&mut pruned.graph)? > 0 {
        simplify(&mut pruned.graph, options, &mut |_| {})?;
    }
    Ok(())
}

/// Fits the weights behind what was cut, layer by layer, so that each layer's results on the samples are near those that it had
/// in `graph`, the graph before. `say` hears of progress.
pub fn refit(
    graph: &Graph,
    pruned: &mut Pruned,
    calibration: Calibration<'_>,
    say: &mut dyn FnMut(String),
) -> Result<(), Error> {
    refit::refit(graph, pruned, calibration, say)
}

/// For every contraction with weights the standard deviation of each position that its sums run over: what is the same in every
/// sample can stand in a bias.
fn activations(graph: &Graph, calibration: Calibration<'_>) -> Result<BTreeMap<NodeId, Vec<f64>>, CaptureError> {
    let mut moments: BTreeMap<(NodeId, usize), Vec<Moments>> = BTreeMap::new();
    let mut readers = Vec::new();
    for id in graph.order() {
        let Some(axis) = depth_axis(graph, id) else { continue };
        let x = graph.operands(id)[0];
        let is_weighted = graph.constant_value(graph.operands(id)[1]).is_some();
        if is_weighted && graph.ty(x).dtype == DType::F32 && graph.constant_value(x).is_none() {
            readers.push((id, (x, axis)));
            moments.insert((x, axis), vec![Moments::default(); graph.ty(x).shape.dim(axis)]);
        }
    }
    let mut values: Vec<NodeId> = moments.keys().map(|&(x, _)| x).collect();
    values.dedup();
    let Calibration { samples, options, threads } = calibration;
    capture(graph, options, &values, samples, threads, &mut |value| {
        for (&(_, axis), moments) in moments.range_mut((value.node, 0)..=(value.node, usize::MAX)) {
            let inner = value.shape.strides()[axis].max(1);
            for (place, run) in value.elements.chunks(inner).enumerate() {
                moments[place % value.shape.dim(axis)].add(run);
            }
        }
    })?;
    let deviations = |place| moments[&place].iter().map(Moments::deviation).collect();
    Ok(readers.into_iter().map(|(id, place)| (id, deviations(place))).collect())
}

/// Sums over elements.
#[derive(Clone, Default)]
struct Moments {
    count: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, elements: &[f32]) {
        self.count += elements.len() as f64;
        self.sum += elements.iter().map(|&element| element as f64).sum::<f64>();
        self.squares += elements.iter().map(|&element| (element as f64).powi(2)).sum::<f64>();
    }

    fn deviation(&self) -> f64 {
        let mean = self.sum / self.count.max(1.0);
        (self.squares / self.count.max(1.0) - mean * mean).max(0.0).sqrt()
    }
}
