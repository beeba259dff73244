//! What layers cost in integers and in numbers, by the backend's cost model.

use std::collections::BTreeMap;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_ir::{Graph, NodeId, Origin, TypeError};

use super::attempt::Run;
use super::report::macs;
use super::{Arithmetic, Kept, QuantizeError, SLOWER};
use crate::compile::{CompileOptions, modelled_costs};

/// A layer whose integers take less than this share of its numbers' cycles is faster whatever stands around it.
const CLEARLY_FASTER: f64 = 0.5;

/// The share of its cycles that a layer must save to stay in numbers: the model is no more exact.
const LEAST_SAVED: f64 = 0.05;

/// What the name of a layer's own begins with, beside those of the model, which several layers may share.
const OWN: &str = "\u{0}layer ";

/// Modelled cycles of a graph.
struct Cycles {
    /// Of all steps.
    total: f64,
    /// Of the steps that stand for a layer, with what is fused to it, by its own name.
    of_layers: BTreeMap<String, f64>,
}

/// A graph whose layers have names of their own.
fn named(graph: &Graph) -> Result<Graph, TypeError> {
    let mut named = graph.clone();
    for id in graph.ids().filter(|&id| graph.op(id).epilogue().is_some()) {
        let origin = graph.node(id).origin().joined(&Origin::named(own_name(id)));
        named.rewrite(id, graph.op(id).clone(), graph.operands(id), origin)?;
    }
    Ok(named)
}

fn own_name(layer: NodeId) -> String {
    format!("{OWN}{}", layer.index())
}

impl Cycles {
    /// Those of a graph behind [`edgecc_passes::prepare`].
    fn of(graph: &Graph, options: &CompileOptions) -> Result<Cycles, QuantizeError> {
        let mut cycles = Cycles { total: 0.0, of_layers: BTreeMap::new() };
        for (origin, cost) in modelled_costs(graph, options)? {
            cycles.total += cost.cycles;
            for name in origin.0.into_iter().filter(|name| name.starts_with(OWN)) {
                *cycles.of_layers.entry(name).or_default() += cost.cycles;
            }
        }
        Ok(cycles)
    }

    fn of_layer(&self, layer: NodeId) -> f64 {
        self.of_layers.get(&own_name(layer)).copied().unwrap_or(0.0)
    }
}

/// Modelled cycles of a graph in numbers and with all of its layers in integers. None elsewhere than on aarch64, where the model does
/// not know kernels that sum integers.
pub(super) struct Compared(Option<[Cycles; 2]>);

impl Compared {
    /// Cycles of a layer in numbers and in integers; where they are not known, as if integers saved one for each multiply-add.
    pub(super) fn or_macs(&self, graph: &Graph, layer: NodeId) -> [f64; 2] {
        self.of_layer(layer).unwrap_or_else(|| [macs(graph, layer) as f64, 0.0])
    }

    /// Cycles of a layer in numbers and in integers, where they are known.
    pub(super) fn of_layer(&self, layer: NodeId) -> Option<[f64; 2]> {
        self.0.as_ref().map(|both| both.each_ref().map(|cycles| cycles.of_layer(layer)))
    }

    /// Cycles of the network, likewise.
    pub(super) fn total(&self) -> Option<[f64; 2]> {
        self.0.as_ref().map(|both| both.each_ref().map(|cycles| cycles.total))
    }

    /// Cycles of a layer's integers as a share of those of its numbers.
    fn share(&self, layer: NodeId) -> f64 {
        self.of_layer(layer).map_or(0.0, |[numbers, integers]| integers / numbers.max(1.0))
    }
}

impl Run<'_> {
    /// Cycles in numbers, and in integers but for some layers.
    pub(super) fn compared(&self, kept: &Kept) -> Result<Compared, QuantizeError> {
        if self.options.architecture != Architecture::Aarch64 {
            return Ok(Compared(None));
        }
        let named = named(&self.graph)?;
        let numbers = Cycles::of(&named, self.options)?;
        Ok(Compared(Some([numbers, Cycles::of(&self.integers(&named, kept)?, self.options)?])))
    }

    /// Cycles of those of some layers that take fewer reading 16 bits than in numbers.
    pub(super) fn faster_wide(
        &self,
        layers: &[NodeId],
        compared: &Compared,
    ) -> Result<BTreeMap<NodeId, f64>, QuantizeError> {
        let Some([numbers, _]) = &compared.0 else { return Ok(BTreeMap::new()) };
        let all: Kept = layers.iter().map(|&layer| (layer, Arithmetic::Wide)).collect();
        let wide = Cycles::of(&self.integers(&named(&self.graph)?, &all)?, self.options)?;
        let faster = layers.iter().filter(|&&layer| wide.of_layer(layer) < numbers.of_layer(layer));
        Ok(faster.map(|&layer| (layer, wide.of_layer(layer))).collect())
    }

    /// Layers of `free` that are not faster in integers, conversions around them included, beyond those of `kept`.
    ///
    /// Each layer that is not clearly faster is tried alone, first those that gain least; then all of these together, and all
    /// layers. None where the model does not know.
    pub(super) fn slower(
        &self,
        free: &[NodeId],
        kept: &Kept,
        compared: &Compared,
        progress: &mut dyn FnMut(String),
    ) -> Result<Kept, QuantizeError> {
        let mut slower = Kept::new();
        let Some([_, mut least]) = compared.total() else { return Ok(slower) };
        let share = |layer: &NodeId| compared.share(*layer);
        let mut doubtful: Vec<NodeId> = free.iter().copied().filter(|layer| share(layer) > CLEARLY_FASTER).collect();
        doubtful.sort_by(|a, b| share(b).total_cmp(&share(a)));
        let cycles = |more: &Kept| {
            let with: Kept = kept.iter().chain(more).map(|(&layer, &form)| (layer, form)).collect();
            Ok::<f64, QuantizeError>(Cycles::of(&self.integers(&self.graph, &with)?, self.options)?.total)
        };
        for (number, &layer) in doubtful.iter().enumerate() {
            progress(format!("comparing layer {} of {}", number + 1, doubtful.len()));
            let mut tried = slower.clone();
            tried.insert(layer, Arithmetic::Numbers(SLOWER));
            let cycles = cycles(&tried)?;
            let of_numbers = compared.of_layer(layer).map_or(0.0, |[numbers, _]| numbers);
            if cycles <= least - LEAST_SAVED * of_numbers {
                (least, slower) = (cycles, tried);
            }
        }
        for together in [&doubtful[..], free] {
            let tried: Kept = together.iter().map(|&layer| (layer, Arithmetic::Numbers(SLOWER))).collect();
            if tried.len() > slower.len() {
                let cycles = cycles(&tried)?;
                if cycles < least {
                    (least, slower) = (cycles, tried);
                }
            }
        }
        Ok(slower)
    }
}
