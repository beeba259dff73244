//! Which layers keep their numbers, so that a drop is kept to.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId};

use super::attempt::{Reference, Run};
use super::cost::Compared;
use super::{Kept, LOSES, QuantizeError, Report, points};
use crate::calibrate::samples::Samples;

/// Samples that tell what a layer loses alone.
const FEW: usize = 32;

/// Energy of what a layer's rounding alone changes in the output that it disturbs most, as a share of that output's.
pub(super) type Losses = BTreeMap<NodeId, f64>;

impl Run<'_> {
    /// The graph with layers in numbers beyond those of `kept`, the first of `order`, as many as it takes; `best` is the graph without them. Tells
    /// all that were kept.
    pub(super) fn keep_to(
        &self,
        most: f64,
        order: &[NodeId],
        kept: &Kept,
        reference: &Reference<'_>,
        best: (Graph, Report),
        progress: &mut dyn FnMut(String),
    ) -> Result<(Kept, (Graph, Report)), QuantizeError> {
        let mut best = (kept.clone(), best);
        // As few in numbers as keep to the drop: `fewest` are too few, `enough` are not.
        let (mut fewest, mut enough) = (0, order.len() + 1);
        let mut next = 1;
        while enough - fewest > 1 && next <= order.len() {
            progress(format!("{next} layers in numbers"));
            let more = order[..next].iter().map(|&layer| (layer, LOSES));
            let with: Kept = kept.clone().into_iter().chain(more).collect();
            let attempt = self.attempt(&with, reference)?;
            if attempt.1.drop() <= most {
                (best, enough) = ((with, attempt), next);
            } else {
                (best, fewest) = (if enough > order.len() { (with, attempt) } else { best }, next);
            }
            next =
                if enough > order.len() { (next * 2).min(order.len()).max(fewest + 1) } else { (fewest + enough) / 2 };
        }
        Ok(best)
    }

    /// What each of some layers loses when it alone is rounded, on up to [`FEW`] of the samples.
    pub(super) fn losses(&self, layers: &[NodeId], progress: &mut dyn FnMut(String)) -> Result<Losses, QuantizeError> {
        let apart = self.samples.runs.len().div_ceil(FEW).max(1);
        let few = Samples {
            ports: self.samples.ports.clone(),
            runs: self.samples.runs.iter().step_by(apart).cloned().collect(),
        };
        let reference = self.reference(&self.graph, &few)?;
        let all: Kept = points(&self.graph, &Kept::new()).layers.into_iter().map(|layer| (layer, LOSES)).collect();
        let mut losses = Losses::new();
        for (number, &layer) in layers.iter().enumerate() {
            progress(format!("measuring layer {} of {}", number + 1, layers.len()));
            let mut others = all.clone();
            others.remove(&layer);
            let (_, report) = self.attempt(&others, &reference)?;
            let noise = report.outputs.iter().map(|output| 10f64.powf(-output.signal_to_noise / 10.0));
            losses.insert(layer, noise.fold(0.0, f64::max));
        }
        Ok(losses)
    }
}

/// Layers by what they lose for what their integers save, the worst first.
pub(super) fn worst_first(graph: &Graph, losses: &Losses, compared: &Compared) -> Vec<NodeId> {
    let mut rates: Vec<(f64, NodeId)> =
        losses.iter().map(|(&layer, loss)| (loss / compared.worth(graph, layer), layer)).collect();
    rates.sort_by(|a, b| b.0.total_cmp(&a.0));
    rates.into_iter().map(|(_, layer)| layer).collect()
}
