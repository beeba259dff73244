//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod agreement;
mod attempt;
mod cost;
mod decided;
mod equalize;
mod limit;
mod observe;
mod report;
mod rounding;
mod sensitivity;
mod weights;

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{Graph, NodeId, TypeError};
use edgecc_passes::quantize::{Points, quantization_points};

use crate::calibrate::capture::CaptureError;
use crate::calibrate::observe::Observer;
use crate::calibrate::samples::Samples;
use crate::compile::{CompileError, CompileOptions};
use crate::names::{layers, values};
use crate::recipe::RangeRule;
pub use agreement::{ClassReport, OutputReport};
use attempt::{Reference, Run};
use cost::Compared;
pub use decided::{Decided, insert_decided};
pub use equalize::Equalized;
use equalize::equalize;
pub use limit::Limit;
pub use report::{FloatReport, LayerReport, Report, SCHEME};
use rounding::round_weights;
use sensitivity::{Attempt, Order};
pub use weights::{RoundedLayer, WeightChoices, WeightsReport, quantize_weights, weight_scheme};

/// Why layers that could become integers do not: the user said so.
const TOLD: &str = "is told to stay";
/// The outputs would change too much.
const LOSES: &str = "costs too much accuracy";
/// Integers would take as long, with the conversions around them.
const SLOWER: &str = "is not faster in integers";
const CHOICES: [&str; 3] = [TOLD, LOSES, SLOWER];
/// Layers of integers that read 16 bits.
const WIDE: &str = "reads 16 bits";

/// How a graph is quantised.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// Layers that keep their numbers, by name.
    pub keep: BTreeSet<String>,
    /// Layers that become integers whatever that costs, by name.
    pub integers: BTreeSet<String>,
    /// Layers that become integers and read 16 bits, by name.
    pub wide: BTreeSet<String>,
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
    /// The most that may be lost.
    pub max_drop: Option<Limit>,
    /// The class of each sample, where they are known: what is lost are right ones then.
    pub labels: Vec<usize>,
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
    /// Classes of other samples.
    #[error("{labels} classes are given for {samples} samples")]
    Labels {
        /// How many classes.
        labels: usize,
        /// How many samples.
        samples: usize,
    },
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Channels get factors of their own, and weights are rounded so that the results of layers stay, each where that brings the
/// outputs nearer to the float model's. Where more is lost than is allowed, functions such as sigmoids are computed of f32
/// instead of looked up by 8 bits, with factors for the channels of their results; where it still is, layers read 16 bits, where
/// that is faster than numbers, or go back to numbers: first those whose rounding disturbs what the limit looks at most for the
/// cycles that it saves, as many as it takes.
pub fn quantize(
    graph: &mut Graph,
    options: &CompileOptions,
    how: &QuantizeOptions,
    samples: &Samples,
    threads: usize,
    progress: &mut dyn FnMut(String),
) -> Result<Report, QuantizeError> {
    if !how.labels.is_empty() && how.labels.len() != samples.runs.len() {
        return Err(QuantizeError::Labels { labels: how.labels.len(), samples: samples.runs.len() });
    }
    let (mut kept, fixed) = (how.kept(graph)?, named(graph, &how.integers)?);
    progress("calibrating".into());
    let run = Run::of(graph.clone(), options, how, (samples, threads))?;
    let compared = run.compared(&kept)?;
    if how.only_faster {
        kept.extend(run.slower(&run.free(&fixed, &kept), &kept, &compared, progress)?);
    }
    progress("running the float model".into());
    let reference = run.reference(&how.labels)?;
    let mut fitted = fit(how, kept, run, &reference, progress)?;
    if let Some(limit) = how.max_drop.filter(|limit| !limit.is_kept_by(fitted.report())) {
        fitted = without_layers(limit, (how, &fixed), fitted, (&reference, &compared), progress)?;
    }
    if how.tell_shares {
        fitted.tell_shares(&reference, progress)?;
    }
    let (quantised, report) = fitted.finished();
    *graph = quantised;
    Ok(report)
}

/// A quantised graph, how it came about, and what it loses.
struct Fitted<'a> {
    run: Run<'a>,
    best: Attempt,
    steps: Vec<(&'static str, f64)>,
    changes: Vec<Equalized>,
    is_fitted: bool,
}

impl Fitted<'_> {
    fn report(&self) -> &Report {
        &self.best.1.1
    }

    /// Tells what share each layer has of the loss.
    fn tell_shares(
        &mut self,
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<(), QuantizeError> {
        let Fitted { run, best: (kept, (_, report)), .. } = self;
        let narrow = run.free(&BTreeSet::new(), kept).into_iter().map(|layer| (layer, None));
        let wide =
            kept.iter().filter(|(_, form)| **form == Arithmetic::Wide).map(|(&layer, &form)| (layer, Some(form)));
        let losses = run.losses(&narrow.chain(wide).collect::<Vec<_>>(), reference, progress)?;
        report.tell(&run.graph, &losses, &run.compared(kept)?);
        Ok(())
    }

    fn finished(self) -> (Graph, Report) {
        let Fitted { run, best: (kept, (graph, mut report)), steps, changes, is_fitted } = self;
        let decided = &mut report.decided;
        (decided.is_equalized, decided.is_fitted, decided.has_tables) = (!changes.is_empty(), is_fitted, run.tables);
        let values = points(&run.graph, &kept).values;
        let apart = run.apart.iter().filter(|id| values.contains(id));
        let apart = apart.map(|&id| run.graph.node(id).origin().to_string()).collect();
        (graph, Report { equalized: changes, apart, steps, ..report })
    }
}

/// Equalizes channels and rounds weights by the samples, each where the outputs come nearer to the float model's; where more is lost
/// than is allowed, both again without tables.
fn fit<'a>(
    how: &QuantizeOptions,
    kept: Kept,
    run: Run<'a>,
    reference: &Reference<'_>,
    progress: &mut dyn FnMut(String),
) -> Result<Fitted<'a>, QuantizeError> {
    let exceeds = |fitted: &Fitted<'_>| how.max_drop.is_some_and(|limit| !limit.is_kept_by(fitted.report()));
    let is_open = how.tables.is_none() && how.max_drop.is_some() && !run.points.functions.is_empty();
    let without_tables = is_open.then(|| Run { tables: false, ..run.clone() });
    let fitted = fit_once(how, kept.clone(), run, reference, progress)?;
    let Some(run) = without_tables.filter(|_| exceeds(&fitted)) else { return Ok(fitted) };
    // Functions of numbers leave room for factors behind them.
    progress("functions without tables".into());
    let how = QuantizeOptions { tables: Some(false), ..how.clone() };
    let other = fit_once(&how, kept, run, reference, progress)?;
    Ok(if other.report().quality() > fitted.report().quality() { other } else { fitted })
}

fn fit_once<'a>(
    how: &QuantizeOptions,
    kept: Kept,
    mut run: Run<'a>,
    reference: &Reference<'_>,
    progress: &mut dyn FnMut(String),
) -> Result<Fitted<'a>, QuantizeError> {
    progress("running the integers".into());
    let mut best = run.attempt(&kept, reference)?;
    let mut steps = vec![("rounded to the nearest", best.1.quality())];
    let mut changes = Vec::new();
    if let Some(wanted) = how.choice(how.equalize) {
        progress("equalizing channels".into());
        let (equalized, found) = equalize(&run.graph, &run.points, &run.observed, !run.tables)?;
        let other = Run::of(equalized, run.options, how, (run.samples, run.threads))?;
        let attempt = other.attempt(&kept, reference)?;
        steps.push(("channels equalized", attempt.1.quality()));
        if wanted.unwrap_or(attempt.1.quality() > best.1.quality()) {
            (run, best, changes) = (other, attempt, found);
        }
    }
    let mut is_fitted = false;
    if let Some(wanted) = how.choice(how.fit_rounding) {
        let nearest = run.layers.clone();
        let layers = run.free(&BTreeSet::new(), &kept);
        run.layers.extend(round_weights(&run, &layers, progress)?);
        let attempt = run.attempt(&kept, reference)?;
        steps.push(("weights rounded by the samples", attempt.1.quality()));
        is_fitted = wanted.unwrap_or(attempt.1.quality() > best.1.quality());
        match is_fitted {
            true => best = attempt,
            false => run.layers = nearest,
        }
    }
    Ok(Fitted { run, best: (kept, best), steps, changes, is_fitted })
}

/// Gives layers 16 bits, or back to numbers, until no more is lost than the limit allows.
fn without_layers<'a>(
    limit: Limit,
    (how, fixed): (&QuantizeOptions, &BTreeSet<NodeId>),
    fitted: Fitted<'a>,
    (reference, compared): (&Reference<'_>, &Compared),
    progress: &mut dyn FnMut(String),
) -> Result<Fitted<'a>, QuantizeError> {
    let Fitted { run, best, .. } = &fitted;
    let steps = run.steps(&run.free(fixed, &best.0), (reference, compared), progress)?;
    let order = Order::of(limit, &steps, &fitted.report().outputs);
    let (mut kept, mut attempt) = run.keep_to(limit, &order, best.clone(), reference, progress)?;
    if how.only_faster {
        // What stands between layers of numbers may be slower now.
        let slower = run.slower(&run.free(fixed, &kept), &kept, &run.compared(&kept)?, progress)?;
        if !slower.is_empty() {
            kept.extend(slower);
            attempt = run.attempt(&kept, reference)?;
        }
    }
    Ok(Fitted { best: (kept, attempt), ..fitted })
}

/// What a layer is that does not read integers of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arithmetic {
    /// Numbers, with the reason.
    Numbers(&'static str),
    /// Integers that read 16 bits.
    Wide,
}

/// Layers that do not read integers of 8 bits.
type Kept = BTreeMap<NodeId, Arithmetic>;

/// Where integers of 8 bits can stand, but for some layers.
fn points(graph: &Graph, kept: &Kept) -> Points {
    let reason = |form: &Arithmetic| match form {
        Arithmetic::Numbers(reason) => reason,
        Arithmetic::Wide => WIDE,
    };
    let mut points = quantization_points(graph, |id| kept.get(&id).map(reason));
    points.float.retain(|&(_, reason)| reason != WIDE);
    points
}

impl QuantizeOptions {
    fn kept(&self, graph: &Graph) -> Result<Kept, QuantizeError> {
        let numbers = named(graph, &self.keep)?.into_iter().map(|layer| (layer, Arithmetic::Numbers(TOLD)));
        Ok(numbers.chain(named(graph, &self.wide)?.into_iter().map(|layer| (layer, Arithmetic::Wide))).collect())
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
