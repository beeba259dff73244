//! The graph with some of its layers in integers, and what its outputs are then.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{DType, Graph, NodeId, Op, Output, TypeError};
use edgecc_passes::quantize::{
    Decisions, Points, QuantizedWeights, bias_correction, insert_quantization, layer_input, quantize_weights,
    weights_axis,
};

use super::agreement::{Form, agreement};
use super::observe::{affine, observe, ranges, unlike_parts, wide_ranges};
use super::report::describe;
use super::{Arithmetic, Kept, QuantizeError, QuantizeOptions, Report, points};
use crate::calibrate::capture::{Captured, capture};
use crate::calibrate::observe::{Observed, Range};
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;

/// A graph with what is known of its values.
#[derive(Clone)]
pub(super) struct Run<'a> {
    pub(super) graph: Graph,
    pub(super) options: &'a CompileOptions,
    pub(super) samples: &'a Samples,
    pub(super) threads: usize,
    /// Where integers can stand.
    pub(super) points: Points,
    pub(super) observed: BTreeMap<NodeId, Observed>,
    /// What the integers of each value cover.
    pub(super) ranges: BTreeMap<NodeId, Range>,
    /// What 16 bits of each value cover that no integers of 8 bits stand for.
    pub(super) wide_ranges: BTreeMap<NodeId, Range>,
    /// Values that keep their numbers since their channels are unlike.
    pub(super) apart: Vec<NodeId>,
    /// Each layer's weights as integers.
    pub(super) layers: BTreeMap<NodeId, QuantizedWeights>,
    /// Whether values that functions are computed of are integers, so that the functions are tables.
    pub(super) tables: bool,
}

/// Samples with what the graph of numbers makes of them, and their classes, where those are known.
pub(super) struct Reference<'a> {
    samples: Cow<'a, Samples>,
    answers: Answers,
    labels: Vec<usize>,
}

impl Reference<'_> {
    /// Up to `most` of the samples, spread evenly.
    pub(super) fn some(&self, most: usize) -> Reference<'static> {
        let apart = self.samples.runs.len().div_ceil(most).max(1);
        let answers = |answers: &Vec<Vec<f32>>| answers.iter().step_by(apart).cloned().collect();
        Reference {
            samples: Cow::Owned(Samples {
                ports: self.samples.ports.clone(),
                runs: self.samples.runs.iter().step_by(apart).cloned().collect(),
            }),
            answers: self.answers.iter().map(answers).collect(),
            labels: self.labels.iter().step_by(apart).copied().collect(),
        }
    }
}

/// Elements of each output, sample by sample.
type Answers = Vec<Vec<Vec<f32>>>;

/// What becomes of the values and layers of a graph.
pub(super) struct Chosen {
    pub(super) points: Points,
    /// Of values of 8 bits.
    pub(super) ranges: BTreeMap<NodeId, Range>,
    pub(super) layers: BTreeMap<NodeId, QuantizedWeights>,
    /// Of what layers read as 16 bits.
    pub(super) wide: BTreeMap<NodeId, Range>,
}

impl Chosen {
    /// `ranges` and `wide_ranges` tell of each value what its integers cover.
    pub(super) fn of(
        graph: &Graph,
        kept: &Kept,
        (ranges, wide_ranges): (&BTreeMap<NodeId, Range>, &BTreeMap<NodeId, Range>),
        tables: bool,
        weights: impl Fn(NodeId) -> Option<QuantizedWeights>,
    ) -> Chosen {
        let points = points(graph, kept);
        let range = |id: &NodeId| ranges.get_key_value(id).map(|(&id, &range)| (id, range));
        let values = points.values.iter().filter(|id| tables || !points.functions.contains_key(id));
        let ranges: BTreeMap<NodeId, Range> = values.filter_map(range).collect();
        let read = |&layer: &NodeId| {
            let input = layer_input(graph, layer);
            ranges.get(&input).or(wide_ranges.get(&input)).map(|&range| (layer, range))
        };
        let can_be = |layer: &NodeId| points.float.iter().all(|(float, _)| float != layer);
        let wide = kept.iter().filter(|(_, form)| **form == Arithmetic::Wide).map(|(layer, _)| layer);
        let wide: BTreeMap<NodeId, Range> = wide.filter(|layer| can_be(layer)).filter_map(read).collect();
        let layers = points.layers.iter().chain(wide.keys());
        let layers = layers.filter_map(|&layer| Some((layer, weights(layer)?))).collect();
        Chosen { points, ranges, layers, wide }
    }

    /// The graph with that.
    pub(super) fn inserted(self, mut graph: Graph) -> Result<Graph, TypeError> {
        let affines = |ranges: BTreeMap<NodeId, Range>| ranges.iter().map(|(&id, range)| (id, affine(range))).collect();
        let Chosen { ranges, layers, wide, .. } = self;
        insert_quantization(&mut graph, &Decisions { values: affines(ranges), layers, wide: affines(wide) })?;
        Ok(graph)
    }
}

impl<'a> Run<'a> {
    /// Ranges as the samples or the options tell, and weights rounded to the nearest, of all layers: also of those that keep their
    /// numbers, which therefore change nothing for the others.
    pub(super) fn of(
        graph: Graph,
        options: &'a CompileOptions,
        how: &QuantizeOptions,
        (samples, threads): (&'a Samples, usize),
    ) -> Result<Run<'a>, QuantizeError> {
        let points = points(&graph, &Kept::new());
        let observed = observe(&graph, options, &points, samples, threads)?;
        let mut ranges = ranges(&graph, how, &points, &observed);
        let wide_ranges = wide_ranges(&graph, how, &points, &observed);
        let apart = match how.choice(None) {
            Some(_) => unlike_parts(&graph, &points, &observed, &ranges),
            None => Vec::new(),
        };
        ranges.retain(|id, _| !apart.contains(id));
        let rounded = |&layer: &NodeId| Some((layer, rounded(&graph, how, &observed, layer)?));
        let layers = points.layers.iter().filter_map(rounded).collect();
        let tables = how.tables != Some(false);
        Ok(Run { options, samples, threads, ranges, wide_ranges, layers, apart, tables, graph, points, observed })
    }

    /// Layers that neither are among some nor keep their numbers.
    pub(super) fn free(&self, fixed: &BTreeSet<NodeId>, kept: &Kept) -> Vec<NodeId> {
        let layers = self.points.layers.iter().copied();
        layers.filter(|layer| !fixed.contains(layer) && !kept.contains_key(layer)).collect()
    }

    /// What the graph of numbers makes of the samples, whose classes may be known.
    pub(super) fn reference(&self, labels: &[usize]) -> Result<Reference<'a>, QuantizeError> {
        Ok(Reference {
            answers: self.answers(&self.graph, self.samples)?,
            samples: Cow::Borrowed(self.samples),
            labels: labels.to_vec(),
        })
    }

    fn chosen(&self, kept: &Kept) -> Chosen {
        let weights = |layer: NodeId| self.layers.get(&layer).cloned();
        Chosen::of(&self.graph, kept, (&self.ranges, &self.wide_ranges), self.tables, weights)
    }

    /// A graph with the same nodes, with quantization but of some layers.
    pub(super) fn integers(&self, graph: &Graph, kept: &Kept) -> Result<Graph, QuantizeError> {
        Ok(self.chosen(kept).inserted(graph.clone())?)
    }

    /// The graph with quantization, but of some layers, and what that costs.
    pub(super) fn attempt(&self, kept: &Kept, reference: &Reference<'_>) -> Result<(Graph, Report), QuantizeError> {
        let chosen = self.chosen(kept);
        let mut report = describe(&self.graph, &chosen, &self.observed);
        let graph = chosen.inserted(self.graph.clone())?;
        report.samples = reference.samples.runs.len();
        let answers = self.answers(&graph, &reference.samples)?;
        let outputs = measured_outputs(&self.graph);
        let pairs = outputs.iter().zip(reference.answers.iter().zip(&answers));
        report.outputs = pairs
            .map(|(&(place, node), (float, integer))| {
                let name = &self.graph.outputs()[place].name;
                agreement(name, Form::of(&self.graph, node), float, integer, &reference.labels)
            })
            .collect();
        Ok((graph, report))
    }

    /// The outputs of a graph for every sample.
    fn answers(&self, graph: &Graph, samples: &Samples) -> Result<Answers, QuantizeError> {
        let nodes: Vec<NodeId> = measured_outputs(graph).into_iter().map(|(_, node)| node).collect();
        let distinct: Vec<NodeId> = nodes.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
        let mut values: BTreeMap<NodeId, Vec<Vec<f32>>> = BTreeMap::new();
        if !distinct.is_empty() {
            capture(graph, self.options, &distinct, samples, self.threads, &mut |captured: Captured<'_>| {
                values.entry(captured.node).or_default().push(captured.elements.to_vec());
            })?;
        }
        Ok(nodes.iter().map(|node| values.get(node).cloned().unwrap_or_default()).collect())
    }
}

/// A layer's weights as integers.
pub(super) fn rounded(
    graph: &Graph,
    how: &QuantizeOptions,
    observed: &BTreeMap<NodeId, Observed>,
    layer: NodeId,
) -> Option<QuantizedWeights> {
    let weights = graph.constant_value(graph.operands(layer)[1])?;
    let mut quantized = quantize_weights(weights, weights_axis(graph.op(layer)));
    if !how.plain && !how.keep_biases {
        let means = observed.get(&graph.operands(layer)[0])?.means();
        quantized.correction = bias_correction(graph, layer, &quantized, &means);
    }
    Some(quantized)
}

/// The places of a graph's outputs that are f32, and of those that are narrowed from it, with the f32 values.
fn measured_outputs(graph: &Graph) -> Vec<(usize, NodeId)> {
    let is_number = |id: NodeId| graph.ty(id).dtype == DType::F32;
    let value = |(place, output): (usize, &Output)| {
        let node = output.node;
        let narrowed = matches!(graph.op(node), Op::Map(_)).then(|| graph.operands(node)[0]);
        is_number(node).then_some(node).or(narrowed.filter(|&id| is_number(id))).map(|node| (place, node))
    };
    graph.outputs().iter().enumerate().filter_map(value).collect()
}
