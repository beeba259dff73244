//! Which classes go: the least important ones of each group, as many as a share of the multiply-adds asks for.

use super::groups::{Group, Work};
use super::{Ranking, Recipe};

/// Halvings of the interval in which the share that groups keep is searched.
const HALVINGS: usize = 40;
/// Groups whose narrowest result has fewer channels keep multiples of half as many.
const THIN: usize = 32;

/// How far a group may shrink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Classes.
    pub(crate) all: usize,
    /// The fewest that stay.
    pub(crate) least: usize,
    /// The most that stay, at least as many.
    pub(crate) most: usize,
    /// Classes that go together, so that widths stay multiples.
    pub(crate) unit: usize,
}

impl Bounds {
    /// The bounds of a group of which shares stay, from `least` to `most`.
    pub(crate) fn of(group: &Group, [least, most]: [f64; 2], multiple: usize) -> Bounds {
        let all = group.classes.len();
        let multiple = if all * group.narrowest < THIN { (multiple / 2).max(1) } else { multiple.max(1) };
        let unit = multiple / greatest_common_divisor(multiple, group.narrowest);
        let width = |share: f64| ((all as f64 * share).ceil().max(1.0) as usize).next_multiple_of(unit).min(all);
        let least = width(least);
        Bounds { all, least, most: width(most).max(least), unit }
    }

    /// The width below `kept`.
    fn below(self, kept: usize) -> Option<usize> {
        let next = kept.checked_sub(1)? / self.unit * self.unit;
        (next >= self.least).then_some(next)
    }

    /// The least width that is a share of the whole.
    fn share(self, share: f64) -> usize {
        let wanted = (self.all as f64 * share).ceil() as usize;
        wanted.next_multiple_of(self.unit).clamp(self.least, self.most)
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// For each group the number of classes that go, so that the recipe's share of the multiply-adds does; fewer where bounds
/// forbid it. `importance` is that of each class; the share is of the work of contractions, the time saved of all.
pub(crate) fn select(recipe: &Recipe, bounds: &[Bounds], importance: &[Vec<f64>], work: &[Work]) -> Vec<usize> {
    let none = vec![0; bounds.len()];
    let target = macs(work, &none) * (1.0 - recipe.fraction);
    match recipe.ranking {
        Ranking::Local => local(bounds, work, target),
        Ranking::Global => global(bounds, importance, work, target),
    }
}

/// Multiply-adds of contractions.
fn macs(work: &[Work], removed: &[usize]) -> f64 {
    work.iter().filter(|work| work.is_of_contraction).map(|work| work.amount(removed)).sum()
}

/// Every group keeps the same share of its width, but for rounding.
fn local(bounds: &[Bounds], work: &[Work], target: f64) -> Vec<usize> {
    let removed = |share: f64| -> Vec<usize> { bounds.iter().map(|b| b.all - b.share(share)).collect() };
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = (low + high) / 2.0;
        let is_enough = macs(work, &removed(middle)) <= target;
        (low, high) = if is_enough { (middle, high) } else { (low, middle) };
    }
    removed(low)
}

/// The step that saves most for what it loses, again and again. A step loses the logarithm of what its group's importance
/// shrinks by, so that the more a group has lost, the more its next channels count.
fn global(bounds: &[Bounds], importance: &[Vec<f64>], work: &[Work], target: f64) -> Vec<usize> {
    let lost: Vec<Vec<f64>> = importance.iter().map(|classes| running_losses(classes)).collect();
    let concerned: Vec<Vec<&Work>> =
        (0..bounds.len()).map(|group| work.iter().filter(|work| work.depends_on(group)).collect()).collect();
    let mut removed: Vec<usize> = bounds.iter().map(|bounds| bounds.all - bounds.most).collect();
    let mut left = macs(work, &removed);
    while left > target {
        let step = |group: usize| {
            let bounds = bounds[group];
            let more = bounds.all - bounds.below(bounds.all - removed[group])?;
            let mut after = removed.clone();
            after[group] = more;
            let saved = |of_contractions: bool| -> f64 {
                let work = concerned[group].iter().filter(|work| work.is_of_contraction == of_contractions);
                work.map(|work| work.amount(&removed) - work.amount(&after)).sum()
            };
            let saved_macs = saved(true);
            let saved_time = saved_macs + saved(false);
            let loss = lost[group][more] - lost[group][removed[group]];
            (saved_macs > 0.0).then(|| (loss.max(0.0) / saved_time, group, more, saved_macs))
        };
        let best = (0..bounds.len()).filter_map(step).min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let Some((_, group, more, saved)) = best else { break };
        removed[group] = more;
        left -= saved;
    }
    removed
}

/// What is lost with the `n` least important classes: `-ln` of the share of importance that stays, for every `n`.
fn running_losses(importance: &[f64]) -> Vec<f64> {
    let mut sorted = importance.to_vec();
    sorted.sort_by(f64::total_cmp);
    let all: f64 = sorted.iter().sum();
    let mut gone = 0.0;
    let mut losses = vec![0.0];
    for value in sorted {
        gone += value;
        let share: f64 = if all > 0.0 { (all - gone) / all } else { 1.0 };
        losses.push(-share.max(f64::MIN_POSITIVE).ln());
    }
    losses
}
