//! Which layers keep their numbers, so that no more is lost than is allowed.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId};

use super::agreement::OutputReport;
use super::attempt::{Reference, Run};
use super::cost::Compared;
use super::{Kept, LOSES, Limit, QuantizeError, Report};

/// Samples that tell what a layer loses alone.
const FEW: usize = 32;

/// How outputs agree with the float model's where one layer alone is rounded.
pub(super) type Losses = BTreeMap<NodeId, Vec<OutputReport>>;

/// A graph with integers but for some layers, and what is lost.
pub(super) type Attempt = (Kept, (Graph, Report));

/// Layers in the order in which they go back to numbers.
pub(super) struct Order {
    layers: Vec<NodeId>,
    /// How many are expected to be enough.
    expected: usize,
    /// What each adds to the parts that the limit looks at, as shares of what is allowed.
    alone: BTreeMap<NodeId, Vec<f64>>,
}

impl Order {
    /// First what takes most of the noise beyond the limit for the cycles that its integers save, until nothing is expected to be left
    /// beyond; then what takes most of all noise. Noise adds up, as far as it does in the graph that has it all.
    pub(super) fn of(
        graph: &Graph,
        limit: Limit,
        losses: &Losses,
        outputs: &[OutputReport],
        compared: &Compared,
    ) -> Order {
        let allowed = limit.allowed(outputs);
        let shares = |noises: Vec<f64>| -> Vec<f64> {
            noises.iter().zip(&allowed).map(|(noise, allowed)| noise / allowed).collect()
        };
        let mut left = shares(limit.noises(outputs));
        let mut alone: BTreeMap<NodeId, Vec<f64>> =
            losses.iter().map(|(&layer, outputs)| (layer, shares(limit.noises(outputs)))).collect();
        for (part, there) in left.iter().enumerate() {
            let sum: f64 = alone.values().map(|noises| noises[part]).sum();
            let factor = if sum > 0.0 { there / sum } else { 0.0 };
            alone.values_mut().for_each(|noises| noises[part] *= factor);
        }
        let mut order = Order { layers: Vec::new(), expected: 0, alone };
        let mut open: Vec<NodeId> = order.alone.keys().copied().collect();
        while !open.is_empty() {
            let is_beyond = left.iter().any(|&share| share > 1.0);
            let taken = |layer: NodeId| -> f64 {
                let of_part = |(noise, left): (&f64, &f64)| match is_beyond {
                    true => noise.min((left - 1.0).max(0.0)),
                    false => *noise,
                };
                order.alone[&layer].iter().zip(&left).map(of_part).sum::<f64>() / compared.worth(graph, layer)
            };
            let rates = open.iter().enumerate().map(|(place, &layer)| (taken(layer), place));
            let Some((_, place)) = rates.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1))) else { break };
            let layer = open.remove(place);
            left.iter_mut().zip(&order.alone[&layer]).for_each(|(left, noise)| *left -= noise);
            order.layers.push(layer);
            order.expected += is_beyond as usize;
        }
        order
    }
}

impl Run<'_> {
    /// The graph with layers in numbers beyond those of `start`, the first of an order, as many as it takes; all of them where that is not
    /// enough.
    pub(super) fn keep_to(
        &self,
        limit: Limit,
        order: &Order,
        start: Attempt,
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Attempt, QuantizeError> {
        let kept = start.0.clone();
        let mut best = start;
        let mut is_enough = |count: usize| {
            progress(format!("{count} layers in numbers"));
            let more = order.layers[..count].iter().map(|&layer| (layer, LOSES));
            let with: Kept = kept.clone().into_iter().chain(more).collect();
            let attempt = self.attempt(&with, reference)?;
            let is_enough = limit.is_kept_by(&attempt.1);
            if is_enough || count == order.layers.len() {
                best = (with, attempt);
            }
            Ok::<bool, QuantizeError>(is_enough)
        };
        match fewest(order.layers.len(), order.expected, &mut is_enough)? {
            Some(count) => self.give_back(limit, (order, count), best, reference, progress),
            None => Ok(best),
        }
    }

    /// Makes integers again of those of the first `count` layers that are not needed: those that save most first, where what they add is
    /// expected to stay below the limit.
    fn give_back(
        &self,
        limit: Limit,
        (order, count): (&Order, usize),
        mut best: Attempt,
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Attempt, QuantizeError> {
        // The last one was needed a moment ago.
        for layer in &order.layers[..count.saturating_sub(1)] {
            let outputs = &best.1.1.outputs;
            let shares = limit.noises(outputs).into_iter().zip(limit.allowed(outputs)).zip(&order.alone[layer]);
            if shares.into_iter().any(|((noise, allowed), more)| noise / allowed + more > 1.0) {
                continue;
            }
            progress(format!("{} layers in numbers", best.0.len() - 1));
            let mut with = best.0.clone();
            with.remove(layer);
            let attempt = self.attempt(&with, reference)?;
            if limit.is_kept_by(&attempt.1) {
                best = (with, attempt);
            }
        }
        Ok(best)
    }

    /// What each of some layers loses when it alone is rounded, on up to [`FEW`] of the samples.
    pub(super) fn losses(
        &self,
        layers: &[NodeId],
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Losses, QuantizeError> {
        let few = reference.some(FEW);
        let all: Kept = self.points.layers.iter().map(|&layer| (layer, LOSES)).collect();
        let mut losses = Losses::new();
        for (number, &layer) in layers.iter().enumerate() {
            progress(format!("measuring layer {} of {}", number + 1, layers.len()));
            let mut others = all.clone();
            others.remove(&layer);
            losses.insert(layer, self.attempt(&others, &few)?.1.outputs);
        }
        Ok(losses)
    }
}

/// The smallest of the numbers up to `all` that is enough, where larger ones are too: looked for around `guess`. None where `all` is not.
fn fewest<E>(
    all: usize,
    guess: usize,
    is_enough: &mut dyn FnMut(usize) -> Result<bool, E>,
) -> Result<Option<usize>, E> {
    // What is too few, and what is enough, or beyond all.
    let (mut few, mut enough) = (0, all + 1);
    let (mut next, mut step) = (guess.clamp(1, all.max(1)), 1);
    while enough - few > 1 {
        if is_enough(next)? {
            enough = next;
        } else {
            few = next;
        }
        next = match (few, enough) {
            (few, enough) if enough > all => (few + step).min(all),
            (0, enough) => enough.saturating_sub(step).max(1),
            (few, enough) => (few + enough) / 2,
        };
        step *= 2;
    }
    Ok((enough <= all).then_some(enough))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_are_found_around_a_guess() {
        for all in [1, 2, 7, 60] {
            for (guess, least) in (1..=all).flat_map(|guess| (1..=all + 1).map(move |least| (guess, least))) {
                let mut asked = Vec::new();
                let found = fewest(all, guess, &mut |count| {
                    asked.push(count);
                    Ok::<bool, ()>(count >= least)
                });
                assert_eq!(found, Ok((least <= all).then_some(least)), "{guess} {least}");
                let most = 3 + 2 * (guess.abs_diff(least) + 1).ilog2() as usize;
                assert!(asked.len() <= most, "{guess} {least}: {asked:?}");
            }
        }
    }
}
