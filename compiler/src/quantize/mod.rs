//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

mod attempt;
mod equalize;
mod observe;
mod report;
mod rounding;
mod sensitivity;

use std::collections::BTreeSet;

use edgecc_ir::{Graph, TypeError};

use crate::calibrate::capture::CaptureError;
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use attempt::Run;
pub use equalize::Equalized;
use equalize::equalize;
pub use report::{LayerReport, OutputReport, Report};
use rounding::round_weights;

/// How a graph is quantised.
#[derive(Clone, Debug, Default)]
pub struct QuantizeOptions {
    /// ONNX nodes whose layers keep their numbers.
    pub keep: BTreeSet<String>,
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
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`]: pairs that round values to integers and back, of which
/// [`edgecc_passes::finish`] makes integer arithmetic.
///
/// Channels get factors of their own, and weights are rounded so that the results of layers stay, each where that brings the
/// outputs nearer to the float model's.
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
    progress("calibrating".into());
    let mut run = Run::of(graph.clone(), options, how, (samples, threads))?;
    progress("running the float model".into());
    let expected = run.answers(graph)?;
    progress("running the integers".into());
    let mut best = run.attempt(&run.kept(), &expected)?;
    let mut steps = vec![("rounded to the nearest", best.1.quality())];
    if !how.plain {
        progress("equalizing channels".into());
        let (equalized, changes) = equalize(graph, options, &run.points, (samples, threads))?;
        if !changes.is_empty() {
            let other = Run::of(equalized, options, how, (samples, threads))?;
            let attempt = other.attempt(&other.kept(), &expected)?;
            steps.push(("channels equalized", attempt.1.quality()));
            if attempt.1.quality() > best.1.quality() {
                (run, best) = (Run { equalized: changes, ..other }, attempt);
            }
        }
        let nearest = run.layers.clone();
        run.layers.extend(round_weights(&run, progress)?);
        let attempt = run.attempt(&run.kept(), &expected)?;
        steps.push(("weights rounded by the samples", attempt.1.quality()));
        if attempt.1.quality() > best.1.quality() {
            best = attempt;
        } else {
            run.layers = nearest;
        }
    }
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        best = run.keep_to(most, &expected, best, progress)?;
    }
    let (quantised, report) = best;
    *graph = quantised;
    Ok(Report { equalized: run.equalized, steps, ..report })
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
