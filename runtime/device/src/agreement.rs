//! How far two tensors agree.

use serde_json::json;

/// Differences between a tensor and its reference, over all elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Largest absolute difference; infinite where one side is not a number and the other is.
    pub max_absolute: f64,
    /// Largest difference relative to the reference's magnitude, where that is not 0.
    pub max_relative: f64,
    /// Cosine of the angle between both as vectors; 1 where both are 0.
    pub cosine: f64,
    /// Largest difference as a share of what [`Bound`] allows; at most 1 where the bound holds.
    pub share_of_bound: f64,
}

/// The difference that is allowed: `relative * |reference| + of_channel * max |reference| over the element's channel`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// Share of the reference's magnitude.
    pub relative: f64,
    /// Share of the largest magnitude in the channel.
    pub of_channel: f64,
}

impl Bound {
    /// What a float model is held to: 1e-3 of the value and 1e-4 of its channel.
    pub const FLOAT: Bound = Bound { relative: 1e-3, of_channel: 1e-4 };
}

/// Compares row-major tensors of one shape. `channel_axis` tells which elements share a channel.
pub fn agreement(
    actual: &[f64],
    reference: &[f64],
    extents: &[usize],
    channel_axis: Option<usize>,
    bound: Bound,
) -> Agreement {
    let channel = channels(extents, channel_axis);
    let count = channel_axis.and_then(|axis| extents.get(axis)).copied().unwrap_or(1).max(1);
    let mut largest = vec![0f64; count];
    for (index, value) in reference.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let most = &mut largest[channel(index)];
        *most = most.max(value.abs());
    }
    let mut result = Agreement { max_absolute: 0.0, max_relative: 0.0, cosine: 1.0, share_of_bound: 0.0 };
    let (mut dot, mut square_a, mut square_b) = (0.0, 0.0, 0.0);
    for (index, (&a, &b)) in actual.iter().zip(reference).enumerate() {
        let difference = distance(a, b);
        result.max_absolute = result.max_absolute.max(difference);
        if b != 0.0 && b.is_finite() {
            result.max_relative = result.max_relative.max(difference / b.abs());
        }
        if difference > 0.0 {
            let allowed = bound.relative * b.abs() + bound.of_channel * largest[channel(index)];
            result.share_of_bound = result.share_of_bound.max(difference / allowed);
        }
        if a.is_finite() && b.is_finite() {
            dot += a * b;
            square_a += a * a;
            square_b += b * b;
        }
    }
    if square_a > 0.0 || square_b > 0.0 {
        result.cosine = dot / (square_a.sqrt() * square_b.sqrt()).max(f64::MIN_POSITIVE);
    }
    result
}

/// 0 for equal values, both NaN, and equal infinities.
fn distance(a: f64, b: f64) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let difference = (a - b).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// The channel of a row-major element index.
fn channels(extents: &[usize], axis: Option<usize>) -> impl Fn(usize) -> usize + use<> {
    let inner: usize = axis.map_or(1, |axis| extents[axis + 1..].iter().product());
    let count = axis.map_or(1, |axis| extents[axis]);
    move |index| index / inner.max(1) % count.max(1)
}

/// A row per output as text, or all of them as one line of JSON.
pub fn report(rows: &[(String, Agreement)], as_json: bool) -> String {
    if as_json {
        let row = |(name, row): &(String, Agreement)| {
            json!({"output": name, "max_absolute": row.max_absolute, "max_relative": row.max_relative,
                   "cosine": row.cosine, "share_of_bound": row.share_of_bound})
        };
        return format!("{}\n", json!({"schema_version": 1, "outputs": rows.iter().map(row).collect::<Vec<_>>()}));
    }
    let mut text =
        format!("{:<32} {:>12} {:>12} {:>12} {:>10}\n", "output", "max abs", "max rel", "cosine", "of bound");
    for (name, row) in rows {
        text.push_str(&format!(
            "{name:<32} {:>12.3e} {:>12.3e} {:>12.8} {:>9.1}%\n",
            row.max_absolute,
            row.max_relative,
            row.cosine,
            row.share_of_bound * 100.0
        ));
    }
    text
}

/// The names of the outputs that left their bound; `None` where all keep to it.
pub fn out_of_bounds(rows: &[(String, Agreement)]) -> Option<String> {
    let failed: Vec<&str> =
        rows.iter().filter(|(_, row)| row.share_of_bound > 1.0).map(|(name, _)| name.as_str()).collect();
    (!failed.is_empty()).then(|| format!("out of bounds: {}", failed.join(", ")))
}
