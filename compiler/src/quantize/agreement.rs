//! How outputs agree with those of the float model over the samples.

use std::fmt;

use edgecc_ir::{Graph, NodeId, Op};

/// How an output agrees with the float model's.
#[derive(Clone, Debug)]
pub struct OutputReport {
    /// Its name.
    pub name: String,
    /// Cosine of all elements of all samples.
    pub cosine: f64,
    /// Decibels of the float output over the difference.
    pub signal_to_noise: f64,
    /// Of each channel that is not 0, and of a row of classes as a whole, the energy of the difference as a share of the float output's;
    /// of a channel of scores between 0 and 1, of which few matter, the square of the largest difference.
    pub channels: Vec<f64>,
    /// Of an output that is one row of classes.
    pub classes: Option<ClassReport>,
}

/// How a row of classes agrees with the float model's.
#[derive(Clone, Copy, Debug)]
pub struct ClassReport {
    /// Share of the samples whose first class is the same.
    pub same: f64,
    /// Share of samples like these whose first class is expected to be another, of those whose class is no tie: by how far the
    /// logarithms of the first two are apart, and what rounding changes in that. It tells small shares by few samples.
    pub changes: f64,
    /// Mean square of what rounding changes in that distance.
    pub margin_noise: f64,
    /// Share of the samples whose class is right, by the float model and now, where the classes are known.
    pub right: Option<[f64; 2]>,
}

impl OutputReport {
    /// Decibels of the channel that has the fewest over its difference.
    pub fn worst_channel(&self) -> f64 {
        self.channels.iter().map(|&noise| decibels(1.0, noise)).fold(f64::INFINITY, f64::min)
    }

    /// Energy of the difference as a share of the float output's.
    pub(super) fn noise(&self) -> f64 {
        10f64.powf(-self.signal_to_noise / 10.0)
    }

    /// Of classes the share of right ones that is lost, where they are known, or of first ones that change; of other outputs 1 less the
    /// cosine.
    pub fn drop(&self) -> f64 {
        let of_classes = |classes: ClassReport| classes.right.map_or(classes.changes, |[before, now]| before - now);
        self.classes.map_or(1.0 - self.cosine, of_classes)
    }
}

impl fmt::Display for OutputReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cosine {:.6}, {:.1} dB over the difference", self.cosine, self.signal_to_noise)?;
        if self.channels.len() > 1 {
            write!(f, ", {:.1} dB in the worst channel", self.worst_channel())?;
        }
        if let Some(ClassReport { same, changes, right, .. }) = self.classes {
            write!(f, ", same first class {:.1} %, {:.1} % expected to change", same * 100.0, changes * 100.0)?;
            if let Some([before, now]) = right {
                write!(f, ", {:.1} % right, {:.1} % before", now * 100.0, before * 100.0)?;
            }
        }
        Ok(())
    }
}

/// What scores may be apart. Where the first two of a row are no further from each other than twice that, its class is a tie.
const APART: f64 = 0.02;

/// What an output's elements are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// A row of classes: `[classes]`, `[1,classes]` or `[1,classes,1,1]`.
    Classes,
    /// Channels that change every `inner` elements; of images where `are_images`.
    Channels { channels: usize, inner: usize, are_images: bool },
}

/// A channel of an output over the samples.
#[derive(Clone, Copy)]
struct Channel {
    signal: f64,
    noise: f64,
    low: f64,
    high: f64,
    /// The largest difference.
    most: f64,
}

impl Channel {
    const EMPTY: Channel = Channel { signal: 0.0, noise: 0.0, low: 0.0, high: 0.0, most: 0.0 };

    fn add(&mut self, x: f64, y: f64) {
        let apart = (x - y).abs();
        (self.signal, self.noise) = (self.signal + x * x, self.noise + apart * apart);
        (self.low, self.high, self.most) = (self.low.min(x), self.high.max(x), self.most.max(apart));
    }

    fn is_of_scores(&self) -> bool {
        self.low >= 0.0 && self.high <= 1.0
    }
}

impl Form {
    pub(super) fn of(graph: &Graph, output: NodeId) -> Form {
        let extents = graph.ty(output).shape.extents();
        let classes = match extents[..] {
            [classes] | [1, classes] | [1, classes, 1, 1] => classes,
            _ => 1,
        };
        if classes > 1 {
            return Form::Classes;
        }
        let axis = channel_axis(graph, output);
        Form::Channels {
            channels: extents.get(axis).map_or(1, |&channels| channels.max(1)),
            inner: extents.iter().skip(axis + 1).product::<usize>().max(1),
            are_images: extents.len() == 4,
        }
    }
}

/// The axis of an output's channels: of images as contractions make them, the last one of other tensors.
fn channel_axis(graph: &Graph, id: NodeId) -> usize {
    let shape = &graph.ty(id).shape;
    let first = graph.operands(id).first().copied();
    match (graph.op(id), first) {
        (Op::Transpose(axes), Some(first)) => {
            let axis = channel_axis(graph, first);
            axes.iter().position(|&from| from == axis).unwrap_or(axis)
        }
        (op, Some(first)) if op.epilogue().is_none() && graph.ty(first).shape == *shape => channel_axis(graph, first),
        _ if shape.rank() == 4 => 1,
        _ => shape.rank().saturating_sub(1),
    }
}

/// Of an output's elements, sample by sample; `labels` are the samples' classes, where they are known.
pub(super) fn agreement(
    name: &str,
    form: Form,
    float: &[Vec<f32>],
    integer: &[Vec<f32>],
    labels: &[usize],
) -> OutputReport {
    let (channels, inner, may_be_scores) = match form {
        Form::Classes => (1, 1, false),
        Form::Channels { channels, inner, are_images } => (channels, inner, !are_images),
    };
    let (mut product, mut of_integer) = (0.0, 0.0);
    let mut channels = vec![Channel::EMPTY; channels];
    let count = channels.len();
    for (a, b) in float.iter().zip(integer) {
        for (place, (&x, &y)) in a.iter().zip(b).enumerate() {
            let (x, y) = (x as f64, y as f64);
            product += x * y;
            of_integer += y * y;
            channels[place / inner % count].add(x, y);
        }
    }
    let sum = |of: fn(&Channel) -> f64| channels.iter().map(of).sum::<f64>();
    let (of_float, noise) = (sum(|channel| channel.signal), sum(|channel| channel.noise));
    let of_channel = |channel: &Channel| match may_be_scores && channel.is_of_scores() {
        true => channel.most * channel.most,
        false => channel.noise / channel.signal,
    };
    OutputReport {
        name: name.to_string(),
        cosine: product / (of_float * of_integer).sqrt().max(1e-30),
        signal_to_noise: decibels(of_float, noise),
        channels: channels.iter().filter(|channel| channel.signal > 0.0).map(of_channel).collect(),
        classes: matches!(form, Form::Classes).then(|| classes(float, integer, labels)),
    }
}

fn classes(float: &[Vec<f32>], integer: &[Vec<f32>], labels: &[usize]) -> ClassReport {
    let count = float.len().max(1) as f64;
    let pairs = || float.iter().zip(integer);
    let same = pairs().filter(|(a, b)| largest(a) == largest(b)).count() as f64 / count;
    // How far the logarithms of the first two are apart, in each, of rows whose class is no tie.
    let mut margins: Vec<[f64; 2]> = Vec::new();
    for (a, b) in pairs() {
        let (first, second) = first_two(a);
        let [a, b] = [a, b].map(|row| scores(row));
        if a[first] - a[second] > 2.0 * APART {
            margins.push([a, b].map(|row| (row[first].max(LEAST) / row[second].max(LEAST)).ln()));
        }
    }
    let sure = margins.len().max(1) as f64;
    let margin_noise = margins.iter().map(|[a, b]| (a - b).powi(2)).sum::<f64>() / sure;
    let changes = |&[margin, _]: &[f64; 2]| beyond(margin / margin_noise.sqrt().max(1e-30));
    let right = |rows: &[Vec<f32>]| {
        rows.iter().zip(labels).filter(|(row, label)| largest(row) == **label).count() as f64 / count
    };
    ClassReport {
        same,
        changes: margins.iter().map(changes).fold(0.0, |sum, share| sum + share) / sure,
        margin_noise,
        right: (!labels.is_empty()).then(|| [right(float), right(integer)]),
    }
}

/// The least score whose logarithm is told from that of less.
const LEAST: f64 = 1e-9;

/// A row as a distribution: as it is where it is one, or else by its exponentials.
fn scores(row: &[f32]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|&x| x as f64).collect();
    if row.iter().all(|&x| x >= 0.0) && (row.iter().sum::<f64>() - 1.0).abs() < 0.01 {
        return row;
    }
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = row.iter().map(|x| (x - most).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// The share of a normal distribution beyond so many deviations, at least 0 (Abramowitz and Stegun, 26.2.17: within 7.5e-8).
fn beyond(deviations: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.2316419 * deviations);
    let series = [1.330274429, -1.821255978, 1.781477937, -0.356563782, 0.319381530];
    let sum = series.into_iter().fold(0.0, |sum, factor| (sum + factor) * t);
    sum * (-deviations * deviations / 2.0).exp() / std::f64::consts::TAU.sqrt()
}

fn largest(elements: &[f32]) -> usize {
    elements.iter().enumerate().fold(0, |best, (place, x)| if *x > elements[best] { place } else { best })
}

fn first_two(row: &[f32]) -> (usize, usize) {
    let first = largest(row);
    let others = (0..row.len()).filter(|&place| place != first);
    (first, others.max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap_or(first))
}

pub(super) fn decibels(signal: f64, noise: f64) -> f64 {
    10.0 * (signal.max(1e-30) / noise.max(1e-30)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_samples_tell_how_many_classes_change() {
        // Logarithms 0.2, 0.4, .. 4 apart, which rounding changes by 0.4, up or down; and a tie.
        let row = |margin: f32| vec![0.0, margin, -30.0];
        let margins = |n: i32| n as f32 / 5.0;
        let float: Vec<Vec<f32>> = (1..=20).map(|n| row(margins(n))).chain([row(0.01)]).collect();
        let shifted = |n: i32| margins(n) + if n % 2 == 0 { 0.4 } else { -0.4 };
        let integer: Vec<Vec<f32>> = (1..=20).map(|n| row(shifted(n))).chain([row(-9.0)]).collect();
        let report = agreement("y", Form::Classes, &float, &integer, &[1; 21]).classes.expect("classes");
        assert_eq!((report.same, report.right), (19.0 / 21.0, Some([1.0, 19.0 / 21.0])));
        assert!((report.margin_noise - 0.16).abs() < 1e-3, "{report:?}");
        // Normal tails at 0.5, 1, 1.5, 2, 2.5 and 3 deviations.
        let tails = [0.30854, 0.15866, 0.06681, 0.02275, 0.00621, 0.00135];
        assert!((report.changes * 20.0 - tails.iter().sum::<f64>()).abs() < 1e-2, "{report:?}");
    }

    #[test]
    fn channels_are_told_apart() {
        let form = Form::Channels { channels: 3, inner: 1, are_images: false };
        let float = vec![10.0, 100.0, 0.9, -10.0, 100.0, 0.0];
        let report = agreement("y", form, &[float], &[vec![11.0, 100.0, 0.89, -9.0, 101.0, 0.0]], &[]);
        let decibels: Vec<f64> = report.channels.iter().map(|noise| -10.0 * noise.log10()).collect();
        // Numbers by their energy, scores by the largest difference.
        for (actual, expected) in decibels.iter().zip([20.0, 43.0, 40.0]) {
            assert!((actual - expected).abs() < 0.1, "{decibels:?}");
        }
        assert!((report.worst_channel() - 20.0).abs() < 1e-6);
    }
}
