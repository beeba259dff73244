//! Which layers keep their numbers, so that a drop is kept to.

use edgecc_ir::{Graph, NodeId};

use super::attempt::{Answers, Run};
use super::report::macs;
use super::{Kept, LOSES, QuantizeError, Report, points};

impl Run<'_> {
    /// The graph with layers of `free` in f32 beyond those of `kept`, first those whose rounding alone disturbs the outputs most
    /// for a multiply-add, as many as it takes; `best` is the graph without them.
    pub(super) fn keep_to(
        &self,
        most: f64,
        free: &[NodeId],
        kept: &Kept,
        expected: &Answers,
        mut best: (Graph, Report),
        progress: &mut dyn FnMut(String),
    ) -> Result<(Graph, Report), QuantizeError> {
        let order = self.sensitivity(free, expected, progress)?;
        // As few in f32 as keep to the drop: `fewest` are too few, `enough` are not.
        let (mut fewest, mut enough) = (0, order.len() + 1);
        let mut next = 1;
        while enough - fewest > 1 && next <= order.len() {
            progress(format!("{next} layers in f32"));
            let more = order[..next].iter().map(|&layer| (layer, LOSES));
            let with: Kept = kept.clone().into_iter().chain(more).collect();
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
    fn sensitivity(
        &self,
        free: &[NodeId],
        expected: &Answers,
        progress: &mut dyn FnMut(String),
    ) -> Result<Vec<NodeId>, QuantizeError> {
        let all: Kept = points(&self.graph, &Kept::new()).layers.into_iter().map(|layer| (layer, LOSES)).collect();
        let mut costs = Vec::with_capacity(free.len());
        for (number, &layer) in free.iter().enumerate() {
            progress(format!("measuring layer {} of {}", number + 1, free.len()));
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
