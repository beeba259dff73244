//! What layers are, so that no more is lost than is allowed.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{Graph, NodeId};

use super::agreement::OutputReport;
use super::attempt::{Reference, Run};
use super::cost::Compared;
use super::{Arithmetic, Kept, LOSES, Limit, QuantizeError, Report};

/// Samples that tell what a layer loses alone.
const FEW: usize = 32;

/// How outputs agree with the float model's where one layer alone is rounded.
pub(super) type Losses = BTreeMap<NodeId, Vec<OutputReport>>;

/// A graph with integers but for some layers, and what is lost.
pub(super) type Attempt = (Kept, (Graph, Report));

/// What a layer can be.
pub(super) struct Step {
    /// Nothing for integers of 8 bits.
    form: Option<Arithmetic>,
    cycles: f64,
    /// What is lost where it alone is so; nothing in numbers.
    outputs: Vec<OutputReport>,
}

/// What layers can be, each from the fewest cycles on: integers of 8 bits, of 16 where that is faster than numbers, and numbers.
pub(super) type Steps = BTreeMap<NodeId, Vec<Step>>;

/// Moves of layers to what takes more cycles, in their order.
pub(super) struct Order<'a> {
    steps: &'a Steps,
    /// Layers, and which of their steps they go to.
    moves: Vec<(NodeId, usize)>,
    /// How many are expected to be enough.
    expected: usize,
    /// What each step of a layer adds to the parts that the limit looks at, as shares of what is allowed.
    alone: BTreeMap<NodeId, Vec<Vec<f64>>>,
}

impl Order<'_> {
    /// First what takes most of the noise beyond the limit for the cycles that it costs, until nothing is expected to be left
    /// beyond; then what takes most of all noise. Noise adds up, as far as it does in the graph that has it all.
    pub(super) fn of<'a>(limit: Limit, steps: &'a Steps, outputs: &[OutputReport]) -> Order<'a> {
        let allowed = limit.allowed(outputs);
        let shares = |noises: Vec<f64>| -> Vec<f64> {
            noises.iter().zip(&allowed).map(|(noise, allowed)| noise / allowed).collect()
        };
        let mut left = shares(limit.noises(outputs));
        let noises = |step: &Step| match step.outputs.is_empty() {
            true => vec![0.0; allowed.len()],
            false => shares(limit.noises(&step.outputs)),
        };
        let of_layer = |(&layer, steps): (&NodeId, &Vec<Step>)| (layer, steps.iter().map(noises).collect());
        let mut alone: BTreeMap<NodeId, Vec<Vec<f64>>> = steps.iter().map(of_layer).collect();
        for (part, there) in left.iter().enumerate() {
            let sum: f64 = alone.values().map(|noises| noises[0][part]).sum();
            let factor = if sum > 0.0 { there / sum } else { 0.0 };
            alone.values_mut().flatten().for_each(|noises| noises[part] *= factor);
        }
        let mut order = Order { steps, moves: Vec::new(), expected: 0, alone };
        let mut places: BTreeMap<NodeId, usize> = steps.keys().map(|&layer| (layer, 0)).collect();
        loop {
            let is_beyond = left.iter().any(|&share| share > 1.0);
            let open = places
                .iter()
                .flat_map(|(&layer, &from)| (from + 1..steps[&layer].len()).map(move |to| (layer, from, to)));
            let rate = |&(layer, from, to): &(NodeId, usize, usize)| {
                let of_part = |(taken, left): (f64, &f64)| match is_beyond {
                    true => taken.min((left - 1.0).max(0.0)),
                    false => taken,
                };
                let taken: f64 = order.taken(layer, from, to).zip(&left).map(of_part).sum();
                taken / (steps[&layer][to].cycles - steps[&layer][from].cycles).max(1.0)
            };
            let best =
                open.map(|step| (rate(&step), step)).reduce(|best, other| if other.0 > best.0 { other } else { best });
            let Some((_, (layer, from, to))) = best else { break };
            left.iter_mut().zip(order.taken(layer, from, to)).for_each(|(left, taken)| *left -= taken);
            places.insert(layer, to);
            order.moves.push((layer, to));
            order.expected += is_beyond as usize;
        }
        order
    }

    /// What a layer takes from each part when it goes from one step to another.
    fn taken(&self, layer: NodeId, from: usize, to: usize) -> impl Iterator<Item = f64> {
        let noises = &self.alone[&layer];
        noises[from].iter().zip(&noises[to]).map(|(before, after)| before - after)
    }

    /// Layers where the first moves brought them.
    fn places(&self, count: usize) -> BTreeMap<NodeId, usize> {
        self.moves[..count].iter().copied().collect()
    }

    /// `kept` with a layer at one of its steps.
    fn with(&self, kept: &Kept, layer: NodeId, place: usize) -> Kept {
        let mut with = kept.clone();
        match self.steps[&layer][place].form {
            Some(form) => with.insert(layer, form),
            None => with.remove(&layer),
        };
        with
    }
}

impl Run<'_> {
    /// What some layers can be.
    pub(super) fn steps(
        &self,
        layers: &[NodeId],
        (reference, compared): (&Reference<'_>, &Compared),
        progress: &mut dyn FnMut(String),
    ) -> Result<Steps, QuantizeError> {
        let wide = self.faster_wide(layers, compared)?;
        let forms: Vec<_> = wide.keys().map(|&layer| (layer, Some(Arithmetic::Wide))).collect();
        let mut of_wide = self.losses(&forms, reference, progress)?;
        let forms: Vec<_> = layers.iter().map(|&layer| (layer, None)).collect();
        let narrow = self.losses(&forms, reference, progress)?;
        let of_layer = |(layer, outputs): (NodeId, Vec<OutputReport>)| {
            let [numbers, integers] = compared.or_macs(&self.graph, layer);
            let wide = wide.get(&layer).zip(of_wide.remove(&layer));
            let wide = wide.map(|(&cycles, outputs)| Step { form: Some(Arithmetic::Wide), cycles, outputs });
            let narrow = Step { form: None, cycles: integers, outputs };
            let numbers = Step { form: Some(Arithmetic::Numbers(LOSES)), cycles: numbers, outputs: Vec::new() };
            (layer, [narrow].into_iter().chain(wide).chain([numbers]).collect())
        };
        Ok(narrow.into_iter().map(of_layer).collect())
    }

    /// The graph with layers beyond those of `start` moved, the first moves of an order, as many as it takes; all of them where that is
    /// not enough.
    pub(super) fn keep_to(
        &self,
        limit: Limit,
        order: &Order<'_>,
        start: Attempt,
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Attempt, QuantizeError> {
        let kept = start.0.clone();
        let mut best = start;
        let mut is_enough = |count: usize| {
            let places = order.places(count);
            progress(format!("{} layers of more bits", places.len()));
            let with = places.into_iter().fold(kept.clone(), |with, (layer, place)| order.with(&with, layer, place));
            let attempt = self.attempt(&with, reference)?;
            let is_enough = limit.is_kept_by(&attempt.1);
            if is_enough || count == order.moves.len() {
                best = (with, attempt);
            }
            Ok::<bool, QuantizeError>(is_enough)
        };
        match fewest(order.moves.len(), order.expected, &mut is_enough)? {
            Some(count) => self.give_back(limit, (order, count), best, reference, progress),
            None => Ok(best),
        }
    }

    /// Moves those of the layers of the first `count` moves back that did not need them, in the same order, where what they add is
    /// expected to stay below the limit.
    fn give_back(
        &self,
        limit: Limit,
        (order, count): (&Order<'_>, usize),
        mut best: Attempt,
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Attempt, QuantizeError> {
        let places = order.places(count);
        let mut seen = BTreeSet::new();
        // The last one was needed a moment ago.
        for &(layer, _) in order.moves[..count.saturating_sub(1)].iter().filter(|(layer, _)| seen.insert(*layer)) {
            for place in 0..places[&layer] {
                let outputs = &best.1.1.outputs;
                let shares = limit.noises(outputs).into_iter().zip(limit.allowed(outputs));
                let more = order.taken(layer, place, places[&layer]);
                if shares.zip(more).any(|((noise, allowed), more)| noise / allowed + more > 1.0) {
                    continue;
                }
                progress(format!("trying {} layers of more bits", best.0.len()));
                let with = order.with(&best.0, layer, place);
                let attempt = self.attempt(&with, reference)?;
                if limit.is_kept_by(&attempt.1) {
                    best = (with, attempt);
                    break;
                }
            }
        }
        Ok(best)
    }

    /// What each of some layers loses when it alone is rounded, to 8 bits or in another form, on up to [`FEW`] of the samples.
    pub(super) fn losses(
        &self,
        forms: &[(NodeId, Option<Arithmetic>)],
        reference: &Reference<'_>,
        progress: &mut dyn FnMut(String),
    ) -> Result<Losses, QuantizeError> {
        let few = reference.some(FEW);
        let all: Kept = self.points.layers.iter().map(|&layer| (layer, Arithmetic::Numbers(LOSES))).collect();
        let mut losses = Losses::new();
        for (number, &(layer, form)) in forms.iter().enumerate() {
            progress(format!("measuring layer {} of {}", number + 1, forms.len()));
            let mut others = all.clone();
            match form {
                Some(form) => others.insert(layer, form),
                None => others.remove(&layer),
            };
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
