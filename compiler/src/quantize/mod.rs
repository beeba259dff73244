//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod attempt;
mod cost;
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
use crate::compile::{CompileError, CompileOptions};
use crate::names::{layers, values};
use crate::recipe::RangeRule;
use attempt::{Reference, Run};
pub use decided::{Decided, insert_decided};
pub use equalize::Equalized;
use equalize::equalize;
pub use report::{FloatReport, LayerReport, OutputReport, Report, SCHEME};
use rounding::round_weights;
use sensitivity::worst_first;

/// Why layers that could become integers do not: the user said so.
const TOLD: &str = "is told to stay";
/// The outputs would change too much.
const LOSES: &str = "costs too much accuracy";
/// Integers would take as long, with the conversions around them.
const SLOWER: &str = "is not faster in integers";
const CHOICES: [&str; 3] = [TOLD, LOSES, SLOWER];

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
    /// Keep the numbers of layers whose integers would not be faster by the cost model, with the conversions around them.
    pub only_faster: bool,
    /// Tell each layer's share of the loss, and its cycles.
    pub tell_shares: bool,
    /// Whether channels get factors; without it, if the outputs come nearer to the float model's.
    pub equalize: Option<bool>,
    /// Whether weights are rounded so that the results of layers on the samples stay, rather than to the nearest; without it, if the
    /// outputs come nearer to the float model's.
    pub fit_rounding: Option<bool>,
    /// Whether functions of one value between layers, such as sigmoids, are tables of 8 bits; without it, unless the drop demands more.
    pub tables: Option<bool>,
    /// Leave biases alone, and with them channels and the rounding of weights.
    pub keep_biases: bool,
    /// Cover every value from its smallest to its largest element, and leave everything else alone.
    pub plain: bool,
    /// The largest drop that is allowed: see [`Report::drop`].
    pub max_drop: Option<f64>,
}

/// Why a graph was not quantised.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// The graph could not be lowered.
    #[error(transparent)]
    Compile(#[from] CompileError),
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
    /// Biases that samples would correct, without samples.
    #[error("biases are corrected by samples: give some, or leave biases as they are")]
    NoMeans,
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Channels get factors of their own, and weights are rounded so that the results of layers stay, each where that brings the
/// outputs nearer to the float model's. Where a largest drop is given and exceeded, functions such as sigmoids are computed of f32
/// instead of looked up by 8 bits, with factors for the channels of their results; where it still is, layers go back to f32: first those whose rounding alone disturbs the outputs most
/// for the cycles that it saves, as many as it takes.
pub fn quantize(
    graph: &mut Graph,
    options: &CompileOptions,
    how: &QuantizeOptions,
    samples: &Samples,
    threads: usize,
    progress: &mut dyn FnMut(String),
) -> Result<Report, QuantizeError> {
    let mut kept = how.kept(graph)?;
    let fixed = named(graph, &how.integers)?;
    progress("calibrating".into());
    let mut run = Run::of(graph.clone(), options, (how, &kept), (samples, threads))?;
    let compared = run.compared(&kept)?;
    if how.only_faster {
        let slower = run.slower(&run.free(&fixed, &kept), &kept, &compared, progress)?;
        if !slower.is_empty() {
            kept.extend(slower);
            run = Run::of(graph.clone(), options, (how, &kept), (samples, threads))?;
        }
    }
    progress("running the float model".into());
    let reference = run.reference(graph, samples)?;
    let without_tables = (how.tables.is_none() && how.max_drop.is_some()).then(|| Run { tables: false, ..run.clone() });
    let mut fitted = fit(graph, options, (how, &kept), (run, &reference), progress)?;
    // Functions of numbers leave room for factors behind them.
    if let Some(run) = without_tables.filter(|_| how.max_drop.is_some_and(|most| fitted.best.1.drop() > most)) {
        progress("functions without tables".into());
        let how = QuantizeOptions { tables: Some(false), ..how.clone() };
        let other = fit(graph, options, (&how, &kept), (run, &reference), progress)?;
        if other.best.1.quality() > fitted.best.1.quality() {
            fitted = other;
        }
    }
    let Fitted { run, mut best, steps, changes, is_fitted } = fitted;
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        let order = worst_first(graph, &run.losses(&run.free(&fixed, &kept), progress)?, &compared);
        (kept, best) = run.keep_to(most, &order, &kept, &reference, best, progress)?;
        // What stands between layers of numbers may be slower now.
        let slower = match how.only_faster {
            true => run.slower(&run.free(&fixed, &kept), &kept, &run.compared(&kept)?, progress)?,
            false => Kept::new(),
        };
        if !slower.is_empty() {
            kept.extend(slower);
            best = run.attempt(&kept, &reference)?;
        }
    }
    let (quantised, mut report) = best;
    if how.tell_shares {
        let layers = points(graph, &kept).layers;
        report.tell(graph, &layers, &run.losses(&layers, progress)?, &run.compared(&kept)?);
    }
    let decided = &mut report.decided;
    (decided.is_equalized, decided.is_fitted, decided.has_tables) = (!changes.is_empty(), is_fitted, run.tables);
    *graph = quantised;
    let apart = run.apart.iter().map(|&id| run.graph.node(id).origin().to_string()).collect();
    Ok(Report { equalized: changes, apart, steps, ..report })
}

/// A quantised graph with its report, before layers go back to numbers.
struct Fitted<'a> {
    run: Run<'a>,
    best: (Graph, Report),
    steps: Vec<(&'static str, f64)>,
    changes: Vec<Equalized>,
    is_fitted: bool,
}

/// Equalizes channels and rounds weights by the samples, each where the outputs come nearer to the float model's.
fn fit<'a>(
    graph: &Graph,
    options: &'a CompileOptions,
    (how, kept): (&QuantizeOptions, &Kept),
    (mut run, reference): (Run<'a>, &Reference<'_>),
    progress: &mut dyn FnMut(String),
) -> Result<Fitted<'a>, QuantizeError> {
    progress("running the integers".into());
    let (samples, threads) = (run.samples, run.threads);
    let mut best = run.attempt(kept, reference)?;
    let mut steps = vec![("rounded to the nearest", best.1.quality())];
    let mut changes = Vec::new();
    if let Some(wanted) = how.choice(how.equalize) {
        progress("equalizing channels".into());
        // Layers that keep their numbers are no reason for other factors: they may be those of a recipe that was made with them.
        let all = points(graph, &Kept::new());
        let (equalized, found) = equalize(graph, options, (&all, !run.tables), (samples, threads))?;
        let other = Run::of(equalized, options, (how, kept), (samples, threads))?;
        let attempt = other.attempt(kept, reference)?;
        steps.push(("channels equalized", attempt.1.quality()));
        if wanted.unwrap_or(attempt.1.quality() > best.1.quality()) {
            (run, best, changes) = (other, attempt, found);
        }
    }
    let mut is_fitted = false;
    if let Some(wanted) = how.choice(how.fit_rounding) {
        let nearest = run.layers.clone();
        run.layers.extend(round_weights(&run, progress)?);
        let attempt = run.attempt(kept, reference)?;
        steps.push(("weights rounded by the samples", attempt.1.quality()));
        is_fitted = wanted.unwrap_or(attempt.1.quality() > best.1.quality());
        match is_fitted {
            true => best = attempt,
            false => run.layers = nearest,
        }
    }
    Ok(Fitted { run, best, steps, changes, is_fitted })
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

    /// What is said of a step that takes samples: `None` where it is not to be tried, `Some(None)` where measurement decides.
    fn choice(&self, step: Option<bool>) -> Option<Option<bool>> {
        (!self.plain && !self.keep_biases && step != Some(false)).then_some(step)
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
