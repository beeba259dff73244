//! Which layers keep their numbers, so that a drop is kept to.

use std::collections::BTreeSet;

use edgecc_ir::{Graph, NodeId};

use super::attempt::{Answers, Run};
use super::report::macs;
use super::{QuantizeError, Report};

impl Run<'_> {
    /// The graph with layers in f32 beyond those that always are, first those whose rounding alone disturbs the outputs most for a
    /// multiply-add, as many as it takes; `best` is the graph without them.
    pub(super) fn keep_to(
        &self,
        most: f64,
        expected: &Answers,
        mut best: (Graph, Report),
        progress: &mut dyn FnMut(String),
    ) -> Result<(Graph, Report), QuantizeError> {
        let (order, kept) = (self.sensitivity(expected, progress)?, self.kept());
        // As few in f32 as keep to the drop: `fewest` are too few, `enough` are not.
        let (mut fewest, mut enough) = (0, order.len() + 1);
        let mut next = 1;
        while enough - fewest > 1 && next <= order.len() {
            progress(format!("{next} layers in f32"));
            let with: BTreeSet<NodeId> = kept.iter().chain(&order[..next]).copied().collect();
            let attempt = self.attempt(&with, expected)?;
            if attempt.1.drop() <= most {
                (best, enough) = (attempt, next);
            } else {
                (best, fewest) = (if enough > order.len() { attempt } else { best }, next);
            }
            next =
                if enough > order.len() { (next * 2).min(order.len()).max(fewest + 1) } else { (fewest + enough) / 2 };
        }
        Ok(best)
    }

    /// Layers by how much the outputs change for each multiply-add when they alone are rounded, the worst first.
    fn sensitivity(&self, expected: &Answers, progress: &mut dyn FnMut(String)) -> Result<Vec<NodeId>, QuantizeError> {
        let points = &self.points;
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
            costs.push((noise / macs(&self.graph, layer).max(1) as f64, layer));
        }
        costs.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(costs.into_iter().map(|(_, layer)| layer).collect())
    }
}
