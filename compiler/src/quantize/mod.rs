//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod attempt;
mod observe;
mod report;
mod sensitivity;

use std::collections::BTreeSet;

use edgecc_ir::{Graph, NodeId, TypeError};
use edgecc_passes::quantize::quantization_points;

use crate::calibrate::capture::CaptureError;
use crate::calibrate::observe::Observed;
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use attempt::{Run, float_outputs, rounded};
use observe::observe;
pub use report::{LayerReport, OutputReport, Report};

/// How a graph is quantised.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// ONNX nodes whose layers keep their numbers.
    pub keep: BTreeSet<String>,
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
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Where a largest drop is given and exceeded, layers go back to f32: first those whose rounding alone disturbs the outputs
/// most for a multiply-add, as many as it takes.
pub fn quantize(
    graph: &mut Graph,
    options: &CompileOptions,
    how: &QuantizeOptions,
    samples: &Samples,
    threads: usize,
    progress: &mut dyn FnMut(String),
) -> Result<Report, QuantizeError> {
    check_names(graph, &how.keep)?;
    let named = |id: NodeId| graph.node(id).origin().0.iter().any(|name| how.keep.contains(name.as_str()));
    progress("calibrating".into());
    let points = quantization_points(graph, named);
    let observed = observe(graph, options, &points, samples, threads)?;
    progress("rounding weights".into());
    let range = |observed: &Observed| if how.plain { observed.extremes() } else { observed.best_range() };
    let ranges = points.values.iter().filter_map(|&id| Some((id, range(observed.get(&id)?)))).collect();
    let rounded = |&layer: &NodeId| Some((layer, rounded(graph, how, &observed, layer)?));
    let layers = points.layers.iter().filter_map(rounded).collect();
    let outputs = float_outputs(graph);
    let run = Run { graph, options, samples, threads, observed: &observed, ranges, layers, outputs };
    progress("running the float model".into());
    let expected = run.answers(graph)?;
    let kept: BTreeSet<NodeId> = points.float.iter().map(|&(id, _)| id).collect();
    progress("running the integers".into());
    let mut best = run.attempt(&kept, &expected)?;
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        best = run.keep_to(most, &points, &kept, &expected, best, progress)?;
    }
    let (quantised, report) = best;
    *graph = quantised;
    Ok(report)
}

fn check_names(graph: &Graph, keep: &BTreeSet<String>) -> Result<(), QuantizeError> {
    let known: BTreeSet<&str> = graph
        .ids()
        .filter(|&id| graph.op(id).epilogue().is_some())
        .flat_map(|id| graph.node(id).origin().0.iter().map(String::as_str))
        .collect();
    match keep.iter().find(|name| !known.contains(name.as_str())) {
        Some(unknown) => Err(QuantizeError::Unknown(unknown.clone())),
        None => Ok(()),
    }
}
