//! Weights rounded so that the results of layers stay: what the rounding of one weight does to a layer's results on the samples,
//! those that are rounded behind it make good.
//!
//! With the products `H = X^T X = U^T U` of what a layer sums over, the error of weights `e` is `|U e|^2`. From the last row of `U`
//! on, each weight becomes the integer nearest to what is best for those already rounded (Babai: On Lovász' lattice reduction and
//! the nearest lattice point problem, 1986; as Frantar et al. do it in GPTQ, 2022). The bias comes last and takes any number.

use std::collections::BTreeMap;

use edgecc_ir::{DType, Graph, NodeId, Scalar, Tensor};
use edgecc_passes::quantize::{QuantizedWeights, layer_input, weights_axis, with_scales};

use super::QuantizeError;
use super::attempt::Run;
use crate::calibrate::capture::capture;
use crate::least_squares::{Normal, factorise};
use crate::rows::{Layer, Rows};

/// Features of a group from which on weights are rounded to the nearest: the factors take the cube of their number.
const MOST_FEATURES: usize = 2304;
/// Multiplications of a group, above which one scale is tried and not several.
const FEW_MULTIPLICATIONS: usize = 1 << 24;
/// Shares of the largest magnitude that 127 steps reach.
const SHARES: [f64; 6] = [1.0, 0.98, 0.96, 0.93, 0.9, 0.86];
/// The largest magnitude of an integer.
const MOST: f64 = 127.0;

/// Sums over the rows of a layer, group by group; a feature that is always 1 comes first.
struct Sums<'a> {
    layer: Layer<'a>,
    rows: Rows,
    groups: Vec<Normal>,
}

/// The weights of those of some layers whose inputs the samples tell enough of.
pub(super) fn round_weights(
    run: &Run<'_>,
    layers: &[NodeId],
    progress: &mut dyn FnMut(String),
) -> Result<BTreeMap<NodeId, QuantizedWeights>, QuantizeError> {
    let Run { graph, options, samples, threads, ranges, .. } = run;
    let threads = *threads;
    let mut sums: BTreeMap<NodeId, Vec<Sums<'_>>> = BTreeMap::new();
    for &id in layers {
        let Some(layer) = Layer::of(graph, id).filter(|layer| layer.features() <= MOST_FEATURES) else { continue };
        let rows = Rows::of(&layer, &graph.ty(id).shape, samples.runs.len());
        let groups = (0..layer.groups()).map(|_| Normal::new(layer.features() + 1, 0)).collect();
        sums.entry(graph.operands(id)[0]).or_default().push(Sums { layer, rows, groups });
    }
    let values: Vec<NodeId> = sums.keys().copied().collect();
    if values.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut features = Vec::new();
    capture(graph, options, &values, samples, threads, &mut |value| {
        for Sums { layer, rows, groups } in sums.get_mut(&value.node).into_iter().flatten() {
            for row in rows.of_run(value.run) {
                features.clear();
                layer.gather(&value, &graph.ty(layer.id).shape, row, &mut features);
                for (normal, features) in groups.iter_mut().zip(features.chunks(layer.features().max(1))) {
                    normal.add(std::iter::once(1.0).chain(features.iter().copied()), threads);
                }
            }
        }
    })?;
    let (mut rounded, all) = (BTreeMap::new(), layers.len());
    for sums in sums.into_values().flatten() {
        progress(format!("rounding weights, {} of {all} layers", rounded.len() + 1));
        let id = sums.layer.id;
        let range = ranges.get(&layer_input(graph, id));
        let noise = range.map_or(0.0, |range| ((range.high - range.low) / 255.0).powi(2) / 12.0);
        if let Some(weights) = of_layer(graph, sums, noise, threads) {
            rounded.insert(id, weights);
        }
    }
    Ok(rounded)
}

/// One layer's weights; `noise` is the energy that the rounding of its input adds to each feature.
fn of_layer(graph: &Graph, sums: Sums<'_>, noise: f64, threads: usize) -> Option<QuantizedWeights> {
    let Sums { layer, groups, .. } = sums;
    let values = layer.weights.to_f32();
    let (features, results) = (layer.features(), layer.results());
    let of_group = results / groups.len().max(1);
    let mut scales = vec![0f32; results];
    let mut integers = vec![0i8; values.len()];
    let mut correction = vec![0.0; results];
    for (group, normal) in groups.into_iter().enumerate() {
        let factor = Factor::of(normal.products(threads), features + 1, noise)?;
        let shares = if of_group * features * features < FEW_MULTIPLICATIONS { &SHARES[..] } else { &SHARES[..1] };
        let round = |result: usize| {
            let weights: Vec<f64> = (0..features).map(|f| values[layer.place(f, result)] as f64).collect();
            let tries = shares.iter().map(|share| factor.round(&weights, *share));
            tries.reduce(|best, other| if other.loss < best.loss { other } else { best })
        };
        let first = group * of_group;
        let rounded = in_parallel(first, of_group, threads, &round);
        for (result, rounded) in (first..).zip(rounded) {
            let rounded = rounded?;
            (scales[result], correction[result]) = (rounded.scale, rounded.bias);
            for (feature, integer) in rounded.integers.iter().enumerate() {
                integers[layer.place(feature, result)] = *integer;
            }
        }
    }
    let scalars = integers.into_iter().map(|integer| Scalar::from_i64(DType::I8, integer as i64));
    let integers = Tensor::from_scalars(DType::I8, layer.weights.shape().clone(), scalars).ok()?;
    let affine = with_scales(layer.weights, weights_axis(graph.op(layer.id)), scales).affine;
    Some(QuantizedWeights { integers, affine, correction })
}

/// `work` of `count` numbers from `first` on, in their order.
fn in_parallel<T: Send>(first: usize, count: usize, threads: usize, work: &(dyn Fn(usize) -> T + Sync)) -> Vec<T> {
    let part = count.div_ceil(threads.max(1)).max(1);
    std::thread::scope(|scope| {
        let start = |begin: usize| {
            let end = (begin + part).min(count);
            scope.spawn(move || (begin..end).map(|place| work(first + place)).collect::<Vec<T>>())
        };
        let workers: Vec<_> = (0..count).step_by(part).map(start).collect();
        let results = workers.into_iter().map(|worker| worker.join().unwrap_or_default());
        results.flatten().collect()
    })
}

/// `U` of a group, and the features in the order of its rows; the first is the bias.
struct Factor {
    upper: Vec<f64>,
    order: Vec<usize>,
}

/// A result's weights as integers.
struct Rounded {
    integers: Vec<i8>,
    scale: f32,
    /// Added to the bias.
    bias: f64,
    loss: f64,
}

impl Factor {
    /// Of the upper half of `X^T X`. Features that vary most are rounded first: the others make good more of their error.
    fn of(products: Vec<f64>, count: usize, noise: f64) -> Option<Factor> {
        let at = |i: usize, j: usize| products[i.min(j) * count + i.max(j)];
        let rows = at(0, 0);
        let trace: f64 = (1..count).map(|feature| at(feature, feature)).sum();
        let ridge = rows * noise + 1e-7 * trace / count as f64 + f64::MIN_POSITIVE;
        let mut order: Vec<usize> = (0..count).collect();
        order[1..].sort_by(|&a, &b| at(a, a).total_cmp(&at(b, b)));
        let mut upper = vec![0.0; count * count];
        for i in 0..count {
            for j in i..count {
                upper[i * count + j] = at(order[i], order[j]);
            }
            upper[i * count + i] += if i == 0 { 0.0 } else { ridge };
        }
        factorise(&mut upper, count, count)?;
        Some(Factor { upper, order })
    }

    /// Weights of one result, with 127 steps for a share of the largest.
    fn round(&self, weights: &[f64], share: f64) -> Rounded {
        let count = self.order.len();
        let largest = weights.iter().fold(0.0, |most: f64, weight| most.max(weight.abs()));
        let scale = if largest < f32::MIN_POSITIVE as f64 * 1e6 { 1.0 } else { (largest * share / MOST) as f32 };
        let mut integers = vec![0i8; weights.len()];
        let mut errors = vec![0.0; count];
        let mut loss = 0.0;
        for i in (1..count).rev() {
            let row = &self.upper[i * count + i..(i + 1) * count];
            let carried: f64 = row[1..].iter().zip(&errors[i + 1..]).map(|(a, b)| a * b).sum();
            let weight = weights[self.order[i] - 1];
            let wanted = weight + carried / row[0];
            let integer = (wanted / scale as f64).round_ties_even().clamp(-MOST, MOST);
            integers[self.order[i] - 1] = integer as i8;
            errors[i] = weight - integer * scale as f64;
            loss += (row[0] * (wanted - integer * scale as f64)).powi(2);
        }
        let row = &self.upper[..count];
        let carried: f64 = row[1..].iter().zip(&errors[1..]).map(|(a, b)| a * b).sum();
        Rounded { integers, scale, bias: carried / row[0], loss }
    }
}
