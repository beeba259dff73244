//! Quantization after training: ranges from samples, weights rounded channel by channel, and the loss, measured.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{DType, Graph, NodeId, Op, Shape, TypeError};
use edgecc_passes::quantize::{
    Affine, Decisions, Points, QuantizedWeights, bias_correction, insert_quantization, layer_input,
    quantization_points, quantize_weights, weights_axis,
};

use crate::calibrate::capture::{CaptureError, Captured, capture};
use crate::calibrate::observe::{Observed, Range};
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;

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

/// What was done, and what it costs.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A row for each layer of integers, in the graph's order.
    pub layers: Vec<LayerReport>,
    /// Contractions that kept their numbers, with the reason.
    pub float: Vec<(String, &'static str)>,
    /// Multiply-adds outside of integers, as a share of all.
    pub float_share: f64,
    /// For each f32 output how it agrees with the float model's over the samples.
    pub outputs: Vec<OutputReport>,
    /// Samples that were run.
    pub samples: usize,
}

impl Report {
    /// The worst of the outputs: the share of the samples whose first class is another, of outputs that are one row of
    /// classes; of others 1 less the cosine.
    pub fn drop(&self) -> f64 {
        let of = |output: &OutputReport| 1.0 - output.top_1.unwrap_or(output.cosine);
        self.outputs.iter().map(of).fold(0.0, f64::max)
    }

    /// The share of the work that integers do, and a line for each output.
    pub fn summary(&self) -> String {
        let share = (1.0 - self.float_share) * 100.0;
        let mut text = format!("{} layers of integers, {share:.1} % of the multiply-adds\n", self.layers.len());
        for output in &self.outputs {
            let top = output.top_1.map_or(String::new(), |share| format!(", same first class {:.1} %", share * 100.0));
            text.push_str(&format!(
                "output {}: cosine {:.6}, {:.1} dB over the difference{top} ({} samples)\n",
                output.name, output.cosine, output.signal_to_noise, self.samples
            ));
        }
        text
    }
}

/// A layer of integers.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// Its ONNX nodes.
    pub origin: String,
    /// Multiply-adds.
    pub macs: u64,
    /// What its input's integers cover.
    pub input: Range,
    /// Decibels of the input over the noise of its integers.
    pub input_quality: f64,
    /// Decibels of the weights over the noise of theirs.
    pub weights_quality: f64,
}

/// How an output agrees with the float model's.
#[derive(Clone, Debug)]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Cosine of all elements of all samples.
    pub cosine: f64,
    /// Decibels of the float output over the difference.
    pub signal_to_noise: f64,
    /// Share of the samples whose largest element is the same, where the output is one row of classes.
    pub top_1: Option<f64>,
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
    let outputs = outputs(graph);
    let run = Run { graph, options, samples, threads, observed: &observed, ranges, layers, outputs };
    progress("running the float model".into());
    let expected = run.answers(graph)?;
    let kept: BTreeSet<NodeId> = points.float.iter().map(|&(id, _)| id).collect();
    progress("running the integers".into());
    let mut best = run.attempt(&kept, &expected)?;
    if let Some(most) = how.max_drop.filter(|&most| best.1.drop() > most) {
        let order = run.sensitivity(&points, &expected, progress)?;
        // As few in f32 as keep to the drop: `fewest` are too few, `enough` are not.
        let (mut fewest, mut enough) = (0, order.len() + 1);
        let mut next = 1;
        while enough - fewest > 1 && next <= order.len() {
            progress(format!("{next} layers in f32"));
            let with: BTreeSet<NodeId> = kept.iter().chain(&order[..next]).copied().collect();
            let attempt = run.attempt(&with, &expected)?;
            if attempt.1.drop() <= most {
                (best, enough) = (attempt, next);
            } else {
                (best, fewest) = (if enough > order.len() { attempt } else { best }, next);
            }
            next =
                if enough > order.len() { (next * 2).min(order.len()).max(fewest + 1) } else { (fewest + enough) / 2 };
        }
    }
    let (quantised, report) = best;
    *graph = quantised;
    Ok(report)
}

/// A graph with what is known of its values.
struct Run<'a> {
    graph: &'a Graph,
    options: &'a CompileOptions,
    samples: &'a Samples,
    threads: usize,
    observed: &'a BTreeMap<NodeId, Observed>,
    /// What the integers of each value cover.
    ranges: BTreeMap<NodeId, Range>,
    /// Each layer's weights as integers.
    layers: BTreeMap<NodeId, QuantizedWeights>,
    /// The places of its f32 outputs.
    outputs: Vec<usize>,
}

/// Elements of each output, sample by sample.
type Answers = Vec<Vec<Vec<f32>>>;

impl Run<'_> {
    /// The graph with quantization, but of some layers, and what that costs.
    fn attempt(&self, kept: &BTreeSet<NodeId>, expected: &Answers) -> Result<(Graph, Report), QuantizeError> {
        let points = quantization_points(self.graph, |id| kept.contains(&id));
        let ranges: BTreeMap<NodeId, Range> = points
            .values
            .iter()
            .filter_map(|id| self.ranges.get_key_value(id))
            .map(|(&id, &range)| (id, range))
            .collect();
        let layers: BTreeMap<NodeId, QuantizedWeights> =
            points.layers.iter().filter_map(|layer| Some((*layer, self.layers.get(layer)?.clone()))).collect();
        let mut report = describe(self.graph, &points, self.observed, &ranges, &layers);
        let values = ranges.iter().map(|(&id, range)| (id, affine(range))).collect();
        let mut graph = self.graph.clone();
        insert_quantization(&mut graph, &Decisions { values, layers })?;
        report.samples = self.samples.runs.len();
        let answers = self.answers(&graph)?;
        let pairs = self.outputs.iter().zip(expected.iter().zip(&answers));
        report.outputs = pairs
            .map(|(&place, (float, integer))| {
                let output = &self.graph.outputs()[place];
                agreement(&output.name, float, integer, is_row_of_classes(&self.graph.ty(output.node).shape))
            })
            .collect();
        Ok((graph, report))
    }

    /// Layers by how much the outputs change for each multiply-add when they alone are rounded, the worst first.
    fn sensitivity(
        &self,
        points: &Points,
        expected: &Answers,
        progress: &mut dyn FnMut(String),
    ) -> Result<Vec<NodeId>, QuantizeError> {
        let all: BTreeSet<NodeId> =
            points.layers.iter().chain(points.float.iter().map(|(id, _)| id)).copied().collect();
        let mut costs = Vec::with_capacity(points.layers.len());
        for (number, &layer) in points.layers.iter().enumerate() {
            progress(format!("measuring layer {} of {}", number + 1, points.layers.len()));
            let mut others = all.clone();
            others.remove(&layer);
            let (_, report) = self.attempt(&others, expected)?;
            let noise: f64 =
                report.outputs.iter().map(|output| 10f64.powf(-output.signal_to_noise / 10.0)).fold(0.0, f64::max);
            costs.push((noise / macs(self.graph, layer).max(1) as f64, layer));
        }
        costs.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(costs.into_iter().map(|(_, layer)| layer).collect())
    }

    /// The f32 outputs of a graph for every sample.
    fn answers(&self, graph: &Graph) -> Result<Answers, QuantizeError> {
        let nodes: Vec<NodeId> = self.outputs.iter().map(|&place| graph.outputs()[place].node).collect();
        let distinct: Vec<NodeId> = nodes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut values: BTreeMap<NodeId, Vec<Vec<f32>>> = BTreeMap::new();
        if !distinct.is_empty() {
            capture(graph, self.options, &distinct, self.samples, self.threads, &mut |captured: Captured<'_>| {
                values.entry(captured.node).or_default().push(captured.elements.to_vec());
            })?;
        }
        Ok(nodes.iter().map(|node| values.get(node).cloned().unwrap_or_default()).collect())
    }
}

/// A layer's weights as integers.
fn rounded(
    graph: &Graph,
    how: &QuantizeOptions,
    observed: &BTreeMap<NodeId, Observed>,
    layer: NodeId,
) -> Option<QuantizedWeights> {
    let weights = graph.constant_value(graph.operands(layer)[1])?;
    let mut quantized = quantize_weights(weights, weights_axis(graph.op(layer)));
    if !how.plain {
        let means = observed.get(&graph.operands(layer)[0])?.means();
        quantized.correction = bias_correction(graph, layer, &quantized, &means);
    }
    Some(quantized)
}

/// The places of a graph's f32 outputs.
fn outputs(graph: &Graph) -> Vec<usize> {
    (0..graph.outputs().len()).filter(|&place| graph.ty(graph.outputs()[place].node).dtype == DType::F32).collect()
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

/// Statistics of every value that is to be integers.
fn observe(
    graph: &Graph,
    options: &CompileOptions,
    points: &Points,
    samples: &Samples,
    threads: usize,
) -> Result<BTreeMap<NodeId, Observed>, QuantizeError> {
    let mut observed: BTreeMap<NodeId, Observed> = BTreeMap::new();
    let mut not_finite = None;
    // Layers tell the means of what they read as they read it.
    let read = points.layers.iter().map(|&layer| graph.operands(layer)[0]);
    let values: Vec<NodeId> = points.values.iter().copied().chain(read).collect::<BTreeSet<_>>().into_iter().collect();
    capture(graph, options, &values, samples, threads, &mut |captured: Captured<'_>| {
        let (channels, inner) = channels(graph, captured.node, captured.shape);
        let own = observed.entry(captured.node).or_insert_with(|| Observed::new(channels));
        if !own.add(captured.elements, inner) {
            not_finite.get_or_insert((captured.node, captured.run));
        }
    })?;
    match not_finite {
        Some((node, run)) => Err(QuantizeError::NotFinite { origin: graph.node(node).origin().to_string(), run }),
        None => Ok(observed),
    }
}

/// Channels of a value as a layer sums over them, and how many neighbouring elements share one.
fn channels(graph: &Graph, id: NodeId, shape: &Shape) -> (usize, usize) {
    let rank = shape.rank();
    let transposed = graph.users(id).iter().any(|&user| matches!(graph.op(user), Op::MatMul { transpose_a: true, .. }));
    let is_image = graph.users(id).iter().any(|&user| matches!(graph.op(user), Op::Conv { .. }));
    let axis = match (is_image, transposed) {
        (true, _) => 1,
        (false, true) => rank - 2,
        (false, false) => rank - 1,
    };
    (shape.dim(axis).max(1), shape.extents()[axis + 1..].iter().product())
}

/// The integers of 8 bits that cover a range, one of which stands for 0.
fn affine(range: &Range) -> Affine {
    let width = range.high - range.low;
    if width < f32::MIN_POSITIVE as f64 * 1e6 {
        return Affine::per_tensor(DType::I8, 1.0, 0);
    }
    let scale = (width / 255.0) as f32;
    let zero = (-128.0 - range.low / scale as f64).round_ties_even();
    Affine::per_tensor(DType::I8, scale, zero.clamp(-128.0, 127.0) as i64)
}

fn describe(
    graph: &Graph,
    points: &Points,
    observed: &BTreeMap<NodeId, Observed>,
    ranges: &BTreeMap<NodeId, Range>,
    layers: &BTreeMap<NodeId, QuantizedWeights>,
) -> Report {
    let origin = |id: NodeId| graph.node(id).origin().to_string();
    let row = |(&id, weights): (&NodeId, &QuantizedWeights)| {
        let input = layer_input(graph, id);
        LayerReport {
            origin: origin(id),
            macs: macs(graph, id),
            input: ranges[&input],
            input_quality: observed[&input].signal_to_noise(&ranges[&input]),
            weights_quality: weights_quality(graph, id, weights),
        }
    };
    let order = graph.order();
    let in_order = order.iter().filter_map(|id| layers.get_key_value(id));
    let total: u64 = points.layers.iter().chain(points.float.iter().map(|(id, _)| id)).map(|&id| macs(graph, id)).sum();
    let float: u64 = points.float.iter().map(|&(id, _)| macs(graph, id)).sum();
    Report {
        layers: in_order.map(row).collect(),
        float: points.float.iter().map(|&(id, reason)| (origin(id), reason)).collect(),
        float_share: float as f64 / total.max(1) as f64,
        outputs: Vec::new(),
        samples: 0,
    }
}

fn macs(graph: &Graph, id: NodeId) -> u64 {
    let operands = graph.operands(id);
    let elements = graph.ty(id).shape.elements().unwrap_or(0) as u64;
    let depth: usize = match graph.op(id) {
        Op::Conv { .. } => graph.ty(operands[1]).shape.extents()[1..].iter().product(),
        Op::MatMul { transpose_a, .. } => {
            let shape = &graph.ty(operands[0]).shape;
            shape.dim(shape.rank() - if *transpose_a { 2 } else { 1 })
        }
        _ => graph.ty(operands[1]).shape.extents()[1..].iter().product(),
    };
    elements * depth as u64
}

fn weights_quality(graph: &Graph, layer: NodeId, rounded: &QuantizedWeights) -> f64 {
    let Some(weights) = graph.constant_value(graph.operands(layer)[1]) else { return 0.0 };
    let axis = weights_axis(graph.op(layer));
    let inner: usize = weights.shape().extents()[axis + 1..].iter().product::<usize>().max(1);
    let scales = &rounded.affine.scales;
    let (mut signal, mut noise) = (0.0, 0.0);
    for (place, (weight, integer)) in weights.to_f32().into_iter().zip(rounded.integers.to_i64()).enumerate() {
        let value = integer as f64 * scales[place / inner % scales.len()] as f64;
        signal += weight as f64 * weight as f64;
        noise += (weight as f64 - value).powi(2);
    }
    decibels(signal, noise)
}

fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * (signal.max(1e-30) / noise.max(1e-30)).log10()
}

/// `[1, classes]`, whatever further extents of 1 there are.
fn is_row_of_classes(shape: &Shape) -> bool {
    let wide: Vec<usize> = shape.extents().into_iter().filter(|&extent| extent != 1).collect();
    matches!(wide[..], [classes] if classes > 1)
}

fn agreement(name: &str, float: &[Vec<f32>], integer: &[Vec<f32>], is_row: bool) -> OutputReport {
    let (mut product, mut of_float, mut of_integer, mut noise, mut same) = (0.0, 0.0, 0.0, 0.0, 0usize);
    for (a, b) in float.iter().zip(integer) {
        for (&x, &y) in a.iter().zip(b) {
            let (x, y) = (x as f64, y as f64);
            product += x * y;
            of_float += x * x;
            of_integer += y * y;
            noise += (x - y) * (x - y);
        }
        same += (largest(a) == largest(b)) as usize;
    }
    OutputReport {
        name: name.to_string(),
        cosine: product / (of_float * of_integer).sqrt().max(1e-30),
        signal_to_noise: decibels(of_float, noise),
        top_1: is_row.then(|| same as f64 / float.len().max(1) as f64),
    }
}

fn largest(values: &[f32]) -> usize {
    (0..values.len()).fold(0, |best, place| if values[place] > values[best] { place } else { best })
}

impl std::fmt::Display for Report {
    /// Layers with the noisiest inputs first.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut layers: Vec<&LayerReport> = self.layers.iter().collect();
        layers.sort_by(|a, b| a.input_quality.total_cmp(&b.input_quality));
        writeln!(f, "{:>10}  {:>9}  {:>22}  {:>14}  layer", "input dB", "weight dB", "range", "observer")?;
        for layer in layers {
            let range = format!("{:.4} .. {:.4}", layer.input.low, layer.input.high);
            writeln!(
                f,
                "{:>10.1}  {:>9.1}  {range:>22}  {:>14}  {}",
                layer.input_quality, layer.weights_quality, layer.input.observer, layer.origin
            )?;
        }
        for (origin, reason) in &self.float {
            writeln!(f, "kept in f32: {origin} {reason}")?;
        }
        f.write_str(&self.summary())
    }
}
