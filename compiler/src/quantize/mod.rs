//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod attempt;
mod decided;
mod observe;
mod report;
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
use attempt::{Run, float_outputs, rounded};
pub use decided::{Decided, insert_decided};
use observe::{observe, ranges};
pub use report::{FloatReport, LayerReport, OutputReport, Report};

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
    /// Cover every value from its smallest to its largest element, and leave biases alone.
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
    /// Biases that samples would correct, without samples.
    #[error("biases are corrected by samples: give some, or leave biases as they are")]
    NoMeans,
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Where a largest drop is given and exceeded, functions such as sigmoids are computed of f32 instead of looked up by 8 bits; where
/// it still is, layers go back to f32: first those whose rounding alone disturbs the outputs
/// most for a multiply-add, as many as it takes.
pub fn quantize(
    graph: &mut Graph,
    options: &CompileOptions,
    how: &QuantizeOptions,
    samples: &Samples,
    threads: usize,
    progress: &mut dyn FnMut(String),
) -> Result<Report, QuantizeError> {
    let kept = how.kept(graph)?;
    let fixed = named(graph, &how.integers)?;
    progress("calibrating".into());
    let points = points(graph, &kept);
    let observed = observe(graph, options, &points, samples, threads)?;
    progress("rounding weights".into());
    let ranges = ranges(graph, how, &points, &observed);
    let rounded = |&layer: &NodeId| Some((layer, rounded(graph, how, &observed, layer)?));
    let layers = points.layers.iter().filter_map(rounded).collect();
    let outputs = float_outputs(graph);
    let tables = true;
    let mut run = Run { graph, options, samples, threads, observed: &observed, ranges, layers, outputs, tables };
    progress("running the float model".into());
    let expected = run.answers(graph)?;
    progress("running the integers".into());
    let mut best = run.attempt(&kept, &expected)?;
    if how.max_drop.is_some_and(|most| best.1.drop() > most) && !points.functions.is_empty() {
        progress("functions without tables".into());
        run.tables = false;
        best = run.attempt(&kept, &expected)?;
    }
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        let free: Vec<NodeId> = points.layers.iter().copied().filter(|layer| !fixed.contains(layer)).collect();
        best = run.keep_to(most, &free, &kept, &expected, best, progress)?;
    }
    let (quantised, report) = best;
    *graph = quantised;
    Ok(report)
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
