//! Factors and shifts of channels, chosen by the noise that integers are expected to add.

use std::collections::BTreeMap;

use edgecc_ir::{Graph, NodeId};
use edgecc_passes::quantize::{
    Points, Shift, Site, equalization_sites, placed_weights, scale_channels, shift_channels,
};

use super::QuantizeError;
use super::observe::channel_axis;
use crate::calibrate::observe::{Channel, Observed};

/// Steps of an activation, and of a weight from 0 on.
const STEPS: [f64; 2] = [255.0, 127.0];
/// Powers of a channel's range that are tried as its factor.
const POWERS: [f64; 4] = [0.25, 0.5, 0.75, 1.0];
/// The smallest factor beside the largest: what is narrower than that hardly counts.
const LEAST: f64 = 1.0 / 256.0;
/// Decibels that factors must gain where weights take them in, and where the network multiplies by them.
const WORTH: [f64; 2] = [0.1, 1.5];

/// What was done to a value.
#[derive(Clone, Debug)]
pub struct Equalized {
    /// Its ONNX nodes.
    pub origin: String,
    /// The range of its widest channel over that of its narrowest.
    pub spread: f64,
    /// Decibels of noise that this is expected to take from the results of its readers.
    pub gain: f64,
    /// Channels that are 0 in all samples.
    pub dead: usize,
}

/// The graph with factors and shifts where they are worth it, and where those are: in weights alone, or `everywhere`, so that the
/// network multiplies by them too.
pub(super) fn equalize(
    graph: &Graph,
    points: &Points,
    observed: &BTreeMap<NodeId, Observed>,
    everywhere: bool,
) -> Result<(Graph, Vec<Equalized>), QuantizeError> {
    let mut equalized = (graph.clone(), Vec::new());
    for site in equalization_sites(graph, &points.values) {
        let is_observed = channel_axis(graph, site.value) == site.axis && (site.is_free || everywhere);
        let Some(observed) = observed.get(&site.value).filter(|_| is_observed) else { continue };
        let channels = &observed.channels;
        // Factors of sites before have changed the weights.
        let Some(choice) = choose(&equalized.0, &site, channels) else { continue };
        if choice.shifts.iter().any(|&shift| shift != 0.0) {
            shift_channels(&mut equalized.0, &site, &choice.shifts)?;
        }
        scale_channels(&mut equalized.0, &site, &choice.factors)?;
        let reaches = || channels.iter().map(Channel::reach).filter(|&reach| reach > 0.0);
        equalized.1.push(Equalized {
            origin: graph.node(site.value).origin().to_string(),
            spread: reaches().fold(0.0, f64::max) / reaches().fold(f64::INFINITY, f64::min),
            gain: choice.gain,
            dead: channels.iter().filter(|channel| channel.reach() == 0.0).count(),
        });
    }
    Ok(equalized)
}

struct Choice {
    shifts: Vec<f64>,
    factors: Vec<f64>,
    gain: f64,
}

/// The factors of least noise, if they are worth it.
fn choose(graph: &Graph, site: &Site, channels: &[Channel]) -> Option<Choice> {
    let readers: Vec<Vec<(usize, usize, f32)>> =
        site.readers.iter().map(|&reader| placed_weights(graph, reader)).collect();
    let behind = site.behind.iter().flat_map(|&reader| placed_weights(graph, reader)).collect();
    let readers = Readers { readers, behind };
    let ones = vec![1.0; channels.len()];
    let before = readers.noise(channels, &ones);
    let shifts: Vec<f64> = channels.iter().map(|channel| shift(site.shift, channel)).collect();
    let lowered: Vec<Channel> = channels.iter().zip(&shifts).map(|(channel, &shift)| channel.lowered(shift)).collect();
    let mut largest = vec![0f64; channels.len()];
    for &(summed, _, weight) in readers.readers.iter().flatten() {
        largest[summed] = largest[summed].max(weight.abs() as f64);
    }
    let none = vec![0.0; channels.len()];
    let mut best: Option<(f64, Vec<f64>, &[f64])> = None;
    for (shifts, channels) in [(&none, channels), (&shifts, &lowered[..])] {
        let ranges: Vec<f64> = channels.iter().map(Channel::reach).collect();
        let by_range = POWERS.iter().map(|&power| factors(&ranges, &ones, power, site.bound));
        let by_both = POWERS[..3].iter().map(|&power| factors(&ranges, &largest, power, site.bound));
        for factors in by_range.chain(by_both).chain([ones.clone()]) {
            let noise = readers.noise(channels, &factors);
            if best.as_ref().is_none_or(|(least, ..)| noise < *least) {
                best = Some((noise, factors, shifts));
            }
        }
    }
    let (after, factors, shifts) = best?;
    let gain = 10.0 * (before.max(1e-30) / after.max(1e-30)).log10();
    let worth = WORTH[!site.is_free as usize];
    (gain > worth).then(|| Choice { shifts: shifts.to_vec(), factors, gain })
}

/// To the middle of the range, or to 0 from above.
fn shift(kind: Shift, channel: &Channel) -> f64 {
    match kind {
        Shift::None => 0.0,
        Shift::AboveZero => channel.low.max(0.0),
        Shift::Any => (channel.low + channel.high) / 2.0,
    }
}

/// `range^power / weight^(1 - power)` of each channel, the largest 1. Below a bound, channels that reach it have 1, and others as much
/// as keeps them below.
fn factors(ranges: &[f64], weights: &[f64], power: f64, bound: Option<f64>) -> Vec<f64> {
    let raw = |(&range, &weight): (&f64, &f64)| match range > 0.0 && weight > 0.0 {
        true => range.powf(power) / weight.powf(1.0 - power),
        false => 0.0,
    };
    let raw: Vec<f64> = ranges.iter().zip(weights).map(raw).collect();
    let most = bound.map_or_else(
        || raw.iter().copied().fold(0.0, f64::max),
        |bound| {
            raw.iter()
                .zip(ranges)
                .filter(|(_, range)| **range >= bound * 0.99)
                .map(|(raw, _)| *raw)
                .fold(bound.powf(power), f64::max)
        },
    );
    let factor = |(&raw, &range): (&f64, &f64)| match (raw > 0.0 && most > 0.0, bound) {
        (false, _) => 1.0,
        (true, None) => (raw / most).clamp(LEAST, 1.0),
        (true, Some(bound)) => (raw / most).clamp((range / bound).clamp(LEAST, 1.0), 1.0),
    };
    raw.iter().zip(ranges).map(factor).collect()
}

/// The weights that read a value, each with its channel and its result.
struct Readers {
    /// By contraction.
    readers: Vec<Vec<(usize, usize, f32)>>,
    /// Of contractions that read what maps make of it.
    behind: Vec<(usize, usize, f32)>,
}

impl Readers {
    /// Energy that rounding is expected to add to the results: of the value, whose step is one for all channels, and of the weights,
    /// whose steps are one for each result.
    fn noise(&self, channels: &[Channel], factors: &[f64]) -> f64 {
        let scaled = || channels.iter().zip(factors).filter(|(channel, _)| channel.count > 0.0);
        let high = scaled().map(|(channel, factor)| channel.high / factor).fold(0.0, f64::max);
        let low = scaled().map(|(channel, factor)| channel.low / factor).fold(0.0, f64::min);
        let step = (high - low) / STEPS[0];
        let of_step = |&(summed, _, weight): &(usize, usize, f32)| (step * weight as f64 * factors[summed]).powi(2);
        let mut sum: f64 = self.behind.iter().chain(self.readers.iter().flatten()).map(of_step).sum();
        for weights in &self.readers {
            let results = weights.iter().map(|&(_, result, _)| result + 1).max().unwrap_or(0);
            let (mut largest, mut energy) = (vec![0f64; results], vec![0f64; results]);
            for &(summed, result, weight) in weights {
                largest[result] = largest[result].max((weight as f64 * factors[summed]).abs());
                energy[result] += channels[summed].mean_square() / (factors[summed] * factors[summed]);
            }
            let steps = largest.iter().map(|largest| largest / STEPS[1]);
            sum += steps.zip(&energy).map(|(step, energy)| step * step * energy).sum::<f64>();
        }
        sum / 12.0
    }
}
