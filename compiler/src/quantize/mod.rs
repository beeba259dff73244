//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod attempt;
mod decided;
mod equalize;
mod observe;
mod report;
mod rounding;
mod sensitivity;

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{Graph, NodeId, TypeError};
use edgecc_passes::quantize::{Points, quantization_points};

use crate::calibrate::capture::CaptureError;
use crate::calibrate::observe::Observer;
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use crate::names::{layers, values};
use crate::recipe::RangeRule;
use attempt::{Answers, Run};
pub use decided::{Decided, insert_decided};
pub use equalize::Equalized;
use equalize::equalize;
pub use report::{FloatReport, LayerReport, OutputReport, Report};
use rounding::round_weights;

/// Why layers that could become integers do not: the user said so.
const TOLD: &str = "is told to stay";
/// The outputs would change too much.
const LOSES: &str = "costs too much accuracy";
const CHOICES: [&str; 2] = [TOLD, LOSES];

/// How a graph is quantised.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// Layers that keep their numbers, by name.
    pub keep: BTreeSet<String>,
    /// Layers that become integers whatever that costs, by name.
    pub integers: BTreeSet<String>,
    /// What the integers of values cover, by name.
    pub ranges: BTreeMap<String, RangeRule>,
    /// Who proposes the range of values beside those; without it, for each value whoever loses least.
    pub observer: Option<Observer>,
    /// Leave biases alone.
    pub keep_biases: bool,
    /// Whether channels get factors of their own; without it, where that brings the outputs nearer to the float model's.
    pub equalize: Option<bool>,
    /// Whether weights are rounded by the samples; without it, where that brings the outputs nearer to the float model's.
    pub fit_weights: Option<bool>,
    /// Whether functions of one value between layers, such as sigmoids, are tables of 8 bits; without it, unless the drop demands more.
    pub tables: Option<bool>,
    /// Cover every value from its smallest to its largest element, round weights to the nearest, and change nothing else.
    pub plain: bool,
    /// The largest drop that is allowed: see [`Report::drop`].
    pub max_drop: Option<f64>,
}

/// Why a graph was not quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// Values of the samples could not be computed.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The decisions do not fit the graph: a fault of the compiler.
    #[error("internal error: {0}")]
    Type(#[from] TypeError),
    /// A value without a range.
    #[error(
        "{origin}: holds NaN or an infinity with sample {run}: the float model overflows there, or the sample is not one"
    )]
    NotFinite {
        /// The ONNX nodes.
        origin: String,
        /// The sample.
        run: usize,
    },
    /// A name that no layer has.
    #[error("no layer comes from a node named `{0}`")]
    Unknown(String),
    /// A value whose range samples would tell, without samples.
    #[error("nothing decides the range of `{0}`: give samples, or a range")]
    NoRange(String),
    /// Channels, weights or biases that samples would change, without samples.
    #[error("channels, weights or biases are fitted to samples: give some, or leave them as they are")]
    NoFit,
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Channels get factors of their own, and weights are rounded so that the results of layers stay, each where that brings the
/// outputs nearer to the float model's.
/// Where a largest drop is given and exceeded, functions such as sigmoids are computed of f32 instead of looked up by 8 bits; where
/// it still is, layers go back to f32: first those whose rounding alone disturbs the outputs most for a multiply-add, as many as it
/// takes.
pub fn quantize(
    graph: &mut Graph,
    options: &CompileOptions,
    how: &QuantizeOptions,
    samples: &Samples,
    threads: usize,
    progress: &mut dyn FnMut(String),
) -> Result<Report, QuantizeError> {
    let fixed = named(graph, &how.integers)?;
    progress("calibrating".into());
    let mut run = Run::of(graph.clone(), options, how, (samples, threads))?;
    progress("running the float model".into());
    let expected = run.answers(graph)?;
    progress("running the integers".into());
    let mut best = run.attempt(&run.kept, &expected)?;
    let mut steps = vec![("rounded to the nearest", best.1.quality())];
    if !how.plain && how.equalize != Some(false) {
        progress("equalizing channels".into());
        let (equalized, changes) = equalize(graph, options, &run.points, (samples, threads))?;
        if !changes.is_empty() {
            let other = Run { equalized: changes, ..Run::of(equalized, options, how, (samples, threads))? };
            if take_if_better(&other, how.equalize, "channels equalized", &expected, &mut best, &mut steps)? {
                run = other;
            }
        }
    }
    let mut fits_weights = false;
    if !how.plain && how.fit_weights != Some(false) {
        let nearest = run.layers.clone();
        run.layers.extend(round_weights(&run, progress)?);
        let title = "weights rounded by the samples";
        fits_weights = take_if_better(&run, how.fit_weights, title, &expected, &mut best, &mut steps)?;
        if !fits_weights {
            run.layers = nearest;
        }
    }
    if how.max_drop.is_some_and(|most| best.1.drop() > most) && how.tables.is_none() && !run.points.functions.is_empty()
    {
        progress("functions without tables".into());
        run.tables = false;
        best = run.attempt(&run.kept, &expected)?;
    }
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        let free: Vec<NodeId> = run.points.layers.iter().copied().filter(|layer| !fixed.contains(layer)).collect();
        best = run.keep_to(most, &free, &expected, best, progress)?;
    }
    let (quantised, mut report) = best;
    *graph = quantised;
    let decided = &mut report.decided;
    (decided.equalized, decided.fits_weights, decided.tables) = (!run.equalized.is_empty(), fits_weights, run.tables);
    Ok(Report { equalized: run.equalized, steps, ..report })
}

/// Attempts a step, and takes its graph in place of the best where it is told to or the worst output is nearer to the float model's.
fn take_if_better(
    run: &Run<'_>,
    told: Option<bool>,
    title: &'static str,
    expected: &Answers,
    best: &mut (Graph, Report),
    steps: &mut Vec<(&'static str, f64)>,
) -> Result<bool, QuantizeError> {
    let attempt = run.attempt(&run.kept, expected)?;
    let quality = attempt.1.quality();
    steps.push((title, quality));
    let takes = told.unwrap_or(quality > best.1.quality());
    if takes {
        *best = attempt;
    }
    Ok(takes)
}

/// Layers that keep their numbers, with the reason.
type Kept = BTreeMap<NodeId, &'static str>;

fn points(graph: &Graph, kept: &Kept) -> Points {
    quantization_points(graph, |id| kept.get(&id).copied())
}

impl QuantizeOptions {
    fn kept(&self, graph: &Graph) -> Result<Kept, QuantizeError> {
        Ok(named(graph, &self.keep)?.into_iter().map(|layer| (layer, TOLD)).collect())
    }

    /// What is said of the ranges of values, by node.
    fn rules(&self, graph: &Graph) -> BTreeMap<NodeId, RangeRule> {
        let known = values(graph);
        self.ranges.iter().flat_map(|(name, &rule)| known.nodes(name).iter().map(move |&id| (id, rule))).collect()
    }
}

/// The layers of these names.
fn named(graph: &Graph, names: &BTreeSet<String>) -> Result<BTreeSet<NodeId>, QuantizeError> {
    let known = layers(graph);
    let mut nodes = BTreeSet::new();
    for name in names {
        match known.nodes(name) {
            [] => return Err(QuantizeError::Unknown(name.clone())),
            layers => nodes.extend(layers),
        }
    }
    Ok(nodes)
}
