//! What a value was like over the samples, and the range that its integers should cover.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bins of a histogram.
const BINS: usize = 2048;
/// Steps of 8 bits.
const STEPS: f64 = 255.0;
/// Steps of the lower 8 of 16 bits in one of the upper.
const FINER: f64 = 256.0;
/// Share of the elements that a percentile leaves out at each end.
const OUTLIERS: f64 = 1e-4;
/// Ranges that the search by squared error tries.
const TRIED_RANGES: usize = 64;
/// Weight of the newest run in a moving average of the extremes.
const NEWEST: f64 = 0.1;

/// Statistics of a value over the runs.
#[derive(Clone, Debug)]
pub struct Observed {
    /// Smallest element of all.
    pub min: f64,
    /// Largest element of all.
    pub max: f64,
    /// Moving averages of each run's extremes.
    average: [f64; 2],
    /// Elements in `-reach..reach` by magnitude and sign, without those that are 0.
    bins: Vec<f64>,
    reach: f64,
    /// Elements that are not 0.
    count: f64,
    /// Sum of squares.
    power: f64,
    /// Its channels.
    pub channels: Vec<Channel>,
}

/// A channel of a value over the runs.
#[derive(Clone, Copy, Debug)]
pub struct Channel {
    /// Smallest element.
    pub low: f64,
    /// Largest element.
    pub high: f64,
    /// Sum of the elements.
    pub sum: f64,
    /// Sum of their squares.
    pub squares: f64,
    /// How many there are.
    pub count: f64,
}

impl Channel {
    const EMPTY: Channel = Channel { low: f64::INFINITY, high: f64::NEG_INFINITY, sum: 0.0, squares: 0.0, count: 0.0 };

    fn add(&mut self, elements: &[f32]) {
        for &x in elements {
            let x = x as f64;
            (self.low, self.high) = (self.low.min(x), self.high.max(x));
            (self.sum, self.squares) = (self.sum + x, self.squares + x * x);
        }
        self.count += elements.len() as f64;
    }

    /// The same, lower by a shift.
    pub fn lowered(self, shift: f64) -> Channel {
        Channel {
            low: self.low - shift,
            high: self.high - shift,
            sum: self.sum - shift * self.count,
            squares: self.squares - 2.0 * shift * self.sum + shift * shift * self.count,
            count: self.count,
        }
    }

    /// The largest magnitude.
    pub fn reach(&self) -> f64 {
        self.high.max(-self.low).max(0.0)
    }

    /// Of the elements.
    pub fn mean_square(&self) -> f64 {
        self.squares / self.count.max(1.0)
    }
}

/// Who proposes a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Observer {
    /// From the smallest to the largest element.
    MinMax,
    /// Moving averages of each run's smallest and largest.
    MovingAverage,
    /// All but a share of the elements at each end.
    Percentile,
    /// What tells most of the distribution.
    Entropy,
    /// What has the least squared error.
    SquaredError,
    /// What disturbs the function that is computed of the value least.
    Function,
    /// The user.
    Given,
}

impl fmt::Display for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Observer::MinMax => "min-max",
            Observer::MovingAverage => "moving average",
            Observer::Percentile => "percentile",
            Observer::Entropy => "entropy",
            Observer::SquaredError => "squared error",
            Observer::Function => "function",
            Observer::Given => "given",
        })
    }
}

/// A range and who proposed it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// The lower end, at most 0.
    pub low: f64,
    /// The upper end, at least 0.
    pub high: f64,
    /// Who proposed it.
    pub observer: Observer,
}

impl Observed {
    /// Before the first run.
    pub fn new(channels: usize) -> Self {
        Observed {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            average: [0.0; 2],
            bins: vec![0.0; BINS],
            reach: 0.0,
            count: 0.0,
            power: 0.0,
            channels: vec![Channel::EMPTY; channels],
        }
    }

    /// Takes in a run's elements, whose channels change every `inner` elements. Tells whether all were finite.
    pub fn add(&mut self, elements: &[f32], inner: usize) -> bool {
        if elements.is_empty() || !elements.iter().all(|x| x.is_finite()) {
            return elements.is_empty();
        }
        let extremes = elements
            .iter()
            .fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], &x| [low.min(x as f64), high.max(x as f64)]);
        let is_first = self.min > self.max;
        for (average, extreme) in self.average.iter_mut().zip(extremes) {
            *average = if is_first { extreme } else { *average + (extreme - *average) * NEWEST };
        }
        (self.min, self.max) = (self.min.min(extremes[0]), self.max.max(extremes[1]));
        self.reach_to(extremes[0].abs().max(extremes[1].abs()));
        for &x in elements.iter().filter(|&&x| x != 0.0) {
            self.bins[bin(x as f64, self.reach)] += 1.0;
            self.count += 1.0;
            self.power += x as f64 * x as f64;
        }
        let channels = self.channels.len();
        for (row, part) in elements.chunks(inner.max(1)).enumerate() {
            self.channels[row % channels].add(part);
        }
        true
    }

    /// The mean of each channel.
    pub fn means(&self) -> Vec<f64> {
        self.channels.iter().map(|channel| channel.sum / channel.count.max(1.0)).collect()
    }

    /// Decibels over the rounding of a range, of the channel that has the fewest.
    pub fn worst_channel(&self, range: &Range) -> f64 {
        let step = (range.high - range.low) / STEPS;
        let noise = (step * step / 12.0).max(1e-30);
        let decibels = |channel: &Channel| 10.0 * (channel.mean_square() / noise).log10();
        let heard = self.channels.iter().filter(|channel| channel.squares > 0.0);
        heard.map(decibels).fold(f64::INFINITY, f64::min)
    }

    /// Doubles the histogram's reach until it holds a magnitude.
    fn reach_to(&mut self, magnitude: f64) {
        if self.reach == 0.0 {
            self.reach = magnitude;
        }
        while self.reach < magnitude {
            let mut wider = vec![0.0; BINS];
            self.bins.iter().enumerate().for_each(|(place, count)| wider[BINS / 4 + place / 2] += count);
            (self.bins, self.reach) = (wider, self.reach * 2.0);
        }
    }

    fn centre(&self, bin: usize) -> f64 {
        (bin as f64 + 0.5) / BINS as f64 * 2.0 * self.reach - self.reach
    }

    /// Energy of the difference between the elements and their integers, where those cover a range.
    pub fn noise(&self, range: &Range) -> f64 {
        self.noise_of(range, STEPS)
    }

    fn noise_of(&self, range: &Range, steps: f64) -> f64 {
        let step = (range.high - range.low) / steps;
        let rounding = step * step / 12.0;
        let of_bin = |(place, &count): (usize, &f64)| {
            let x = self.centre(place);
            let beyond = (range.low - x).max(x - range.high).max(0.0);
            count * (beyond * beyond).max(rounding)
        };
        self.bins.iter().enumerate().filter(|(_, count)| **count > 0.0).map(of_bin).sum()
    }

    /// Decibels of the elements' energy over the noise of a range that 8 bits or 16 cover.
    pub fn signal_to_noise(&self, range: &Range, bits: usize) -> f64 {
        let noise = self.noise_of(range, if bits > 8 { STEPS * FINER } else { STEPS });
        10.0 * (self.power.max(1e-30) / noise.max(1e-30)).log10()
    }

    /// The range of least noise among those that the observers propose.
    pub fn best_range(&self) -> Range {
        let first = self.extremes();
        [Observer::MovingAverage, Observer::Percentile, Observer::Entropy, Observer::SquaredError]
            .map(|observer| self.proposal(observer))
            .into_iter()
            .fold(first, |best, range| if self.noise(&range) < self.noise(&best) { range } else { best })
    }

    /// What an observer proposes; for [`Observer::Given`] and [`Observer::Function`] the extremes.
    pub fn proposal(&self, observer: Observer) -> Range {
        match observer {
            Observer::MinMax | Observer::Given | Observer::Function => self.extremes(),
            Observer::MovingAverage => self.averaged(),
            Observer::Percentile => self.percentile(),
            Observer::Entropy => self.entropy(),
            Observer::SquaredError => self.least_square(),
        }
    }

    /// The range whose integers disturb a function of the elements least: of parts of the whole range at its lower end first, then
    /// at its upper end.
    pub fn best_range_for(&self, function: impl Fn(f64) -> f64) -> Range {
        let filled = (0..BINS).filter(|&place| self.bins[place] > 0.0);
        let exact: Vec<[f64; 3]> = filled
            .map(|place| {
                let x = self.centre(place);
                [x, function(x), self.bins[place]]
            })
            .collect();
        let noise = |range: &Range| -> f64 {
            let step = ((range.high - range.low) / STEPS).max(1e-30);
            let rounded: Vec<f64> = (0..=STEPS as usize).map(|n| function(range.low + n as f64 * step)).collect();
            let of = |&[x, exact, count]: &[f64; 3]| {
                let nearest = ((x - range.low) / step).round_ties_even().clamp(0.0, STEPS) as usize;
                count * (exact - rounded[nearest]).powi(2)
            };
            exact.iter().map(of).sum()
        };
        let share = |share: usize| share as f64 / TRIED_RANGES as f64;
        let best = |ranges: &mut dyn Iterator<Item = Range>| {
            let tried = ranges.map(|range| (noise(&range), range));
            tried.min_by(|a, b| a.0.total_cmp(&b.0)).map_or_else(|| self.extremes(), |(_, range)| range)
        };
        let lowest =
            best(&mut (1..=TRIED_RANGES).map(|part| range(self.min * share(part), self.max, Observer::Function)));
        best(&mut (1..=TRIED_RANGES).map(|part| range(lowest.low, self.max * share(part), Observer::Function)))
    }

    /// From the smallest to the largest element.
    pub fn extremes(&self) -> Range {
        range(self.min, self.max, Observer::MinMax)
    }

    fn averaged(&self) -> Range {
        range(self.average[0].max(self.min), self.average[1].min(self.max), Observer::MovingAverage)
    }

    /// Leaves out the share [`OUTLIERS`] of the elements at each end.
    fn percentile(&self) -> Range {
        let spare = self.count * OUTLIERS;
        let low = self.first_beyond(spare, 0..BINS).map_or(self.min, |place| self.centre(place));
        let high = self.first_beyond(spare, (0..BINS).rev()).map_or(self.max, |place| self.centre(place));
        range(low.max(self.min), high.min(self.max), Observer::Percentile)
    }

    /// The first bin, in this order, up to which more elements lie than may be left out.
    fn first_beyond(&self, spare: f64, mut order: impl Iterator<Item = usize>) -> Option<usize> {
        let mut seen = 0.0;
        order.find(|&place| {
            seen += self.bins[place];
            seen > spare
        })
    }

    /// The part of the whole range, in equal shares at both ends, with the least squared error.
    fn least_square(&self) -> Range {
        let of_share = |share: usize| {
            let share = share as f64 / TRIED_RANGES as f64;
            range(self.min * share, self.max * share, Observer::SquaredError)
        };
        (TRIED_RANGES / 4..TRIED_RANGES)
            .map(of_share)
            .min_by(|a, b| self.noise(a).total_cmp(&self.noise(b)))
            .unwrap_or_else(|| self.extremes())
    }

    /// The threshold whose 128 steps tell the most of the distribution of magnitudes: least Kullback-Leibler divergence
    /// (Migacz: 8-bit inference with TensorRT, 2017).
    fn entropy(&self) -> Range {
        let half = BINS / 2;
        let magnitudes: Vec<f64> =
            (0..half).map(|place| self.bins[half + place] + self.bins[half - 1 - place]).collect();
        let most = magnitudes.iter().rposition(|&count| count > 0.0).map_or(half, |place| place + 1);
        let divergence = |bins: usize| (bins, kullback_leibler(&magnitudes[..most], bins));
        let best = (LEVELS..=most).step_by(8).map(divergence).min_by(|a, b| a.1.total_cmp(&b.1));
        let threshold = best.map_or(self.reach, |(bins, _)| bins as f64 / half as f64 * self.reach);
        range(self.min.max(-threshold), self.max.min(threshold), Observer::Entropy)
    }
}

/// Steps on each side of 0.
const LEVELS: usize = 128;

/// The divergence of a distribution cut at `bins` and gathered in [`LEVELS`] steps from itself with what lies beyond in its last bin.
fn kullback_leibler(counts: &[f64], bins: usize) -> f64 {
    let beyond: f64 = counts[bins..].iter().sum();
    let mut reference = counts[..bins].to_vec();
    reference[bins - 1] += beyond;
    let mut gathered = vec![0.0; bins];
    for level in 0..LEVELS {
        let (start, end) = (level * bins / LEVELS, (level + 1) * bins / LEVELS);
        let filled = counts[start..end].iter().filter(|&&count| count > 0.0).count();
        let each = counts[start..end].iter().sum::<f64>() / filled.max(1) as f64;
        (start..end).filter(|&place| counts[place] > 0.0).for_each(|place| gathered[place] = each);
    }
    let (total, other): (f64, f64) = (reference.iter().sum(), gathered.iter().sum());
    let term = |(p, q): (&f64, &f64)| match (*p > 0.0, *q > 0.0) {
        (false, _) => 0.0,
        (true, true) => p / total * (p * other / (q * total)).ln(),
        // What no step stands for.
        (true, false) => p / total * 16.0,
    };
    reference.iter().zip(&gathered).map(term).sum()
}

fn bin(x: f64, reach: f64) -> usize {
    (((x + reach) / (2.0 * reach) * BINS as f64) as usize).min(BINS - 1)
}

fn range(low: f64, high: f64, observer: Observer) -> Range {
    Range { low: low.min(0.0), high: high.max(0.0), observer }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observed(runs: &[Vec<f32>]) -> Observed {
        let mut observed = Observed::new(1);
        runs.iter().for_each(|run| assert!(observed.add(run, run.len())));
        observed
    }

    fn ramp(count: usize, low: f32, high: f32) -> Vec<f32> {
        (0..count).map(|place| low + (high - low) * place as f32 / (count - 1) as f32).collect()
    }

    #[test]
    fn an_even_spread_is_covered_whole() {
        let range = observed(&[ramp(10_000, -1.0, 3.0)]).best_range();
        assert!(range.low < -0.98 && range.high > 2.95, "{range:?}");
    }

    #[test]
    fn a_long_tail_is_cut() {
        let observed = observed(&[(1..=100_000).map(|place| -(place as f32 / 100_000.0).ln()).collect()]);
        let range = observed.best_range();
        assert!(range.high < 0.95 * observed.max, "{range:?}");
        assert!(observed.noise(&range) < observed.noise(&observed.extremes()));
    }

    #[test]
    fn a_gate_needs_no_numbers_that_it_closes_for() {
        let observed = observed(&[ramp(20_000, -40.0, 6.0)]);
        let range = observed.best_range_for(|x| x / (1.0 + (-x).exp()));
        assert!((-14.0..-4.0).contains(&range.low) && range.high > 5.8, "{range:?}");
    }

    #[test]
    fn the_reach_grows_with_later_runs() {
        let all = observed(&[ramp(1000, -0.5, 0.5), ramp(1000, -8.0, 2.0)]);
        assert_eq!((all.min, all.max, all.bins.iter().sum::<f64>()), (-8.0, 2.0, all.count));
        assert!(all.signal_to_noise(&all.extremes(), 8) > 30.0);
    }

    #[test]
    fn nothing_but_zeros_has_no_noise() {
        let zeros = observed(&[vec![0.0; 10]]);
        assert_eq!(
            (zeros.best_range().low, zeros.best_range().high, zeros.noise(&zeros.best_range())),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn numbers_that_are_none_are_told() {
        assert!(!Observed::new(1).add(&[1.0, f32::NAN], 2));
    }
}
