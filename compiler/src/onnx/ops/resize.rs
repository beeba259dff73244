//! Resize and Upsample: coordinates, rounding and weights as tables of taps.

use edgecc_ir::{NodeId, Op, Resample};

use super::Row;
use super::structure::extents;
use crate::onnx::context::{Context, Imported, Results, invalid, unsupported};

pub(super) const TABLE: &[Row] = &[("Resize", 10, resize), ("Upsample", 7, upsample)];

/// Largest table of one axis.
const MOST_TAPS: usize = 1 << 26;

/// What decides the taps of every axis.
struct Rule {
    mode: String,
    coordinates: String,
    rounding: String,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f64,
}

/// One axis: input and result extents, the scale as given, and the region of interest.
#[derive(Clone, Copy)]
struct Axis {
    input: usize,
    output: usize,
    scale: f64,
    region: [f64; 2],
}

/// Opset 7 to 9: scales, rounded down, coordinates `i / scale`.
fn upsample(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let scales = match c.floats("scales")? {
        Some(scales) => scales.into_iter().map(f64::from).collect(),
        None => c.known(1)?.scalars().map(|scale| scale.as_f64()).collect::<Vec<f64>>(),
    };
    let rule = Rule {
        mode: c.text("mode", "nearest")?.replace("bilinear", "linear"),
        coordinates: "asymmetric".into(),
        rounding: "floor".into(),
        cubic: -0.75,
        exclude_outside: false,
        antialias: false,
        extrapolation: 0.0,
    };
    let axes = scaled_axes(c, x, &scales)?;
    apply(c, x, &rule, &axes)
}

fn scaled_axes(c: &Context<'_, '_>, x: NodeId, scales: &[f64]) -> Imported<Vec<Axis>> {
    let shape = c.shape(x)?.extents();
    if scales.len() != shape.len() || scales.iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
        return invalid(format!("scales {scales:?} for {}", c.ty(x)?));
    }
    let axis = |(&input, &scale): (&usize, &f64)| {
        let output = (input as f64 * scale).floor();
        if output > u32::MAX as f64 {
            invalid(format!("{output} elements"))
        } else {
            Ok(Axis { input, output: output as usize, scale, region: [0.0, 1.0] })
        }
    };
    shape.iter().zip(scales).map(axis).collect()
}

fn resize(c: &mut Context<'_, '_>) -> Results {
    let x = c.input(0)?;
    let shape = c.shape(x)?.extents();
    let old = c.version < 11;
    let given = match c.ints("axes")? {
        Some(axes) => axes.iter().map(|&axis| c.axis(axis, shape.len())).collect::<Imported<Vec<usize>>>()?,
        None => (0..shape.len()).collect(),
    };
    let (scales_at, sizes_at, region_at) = if old { (1, None, None) } else { (2, Some(3), Some(1)) };
    let floats = |c: &Context<'_, '_>, place: usize| -> Imported<Option<Vec<f64>>> {
        if c.optional(place).is_none() {
            return Ok(None);
        }
        let value = c.known(place)?;
        Ok(Some(value.scalars().map(|scalar| scalar.as_f64()).collect()).filter(|list: &Vec<f64>| !list.is_empty()))
    };
    let coordinates = if old { "asymmetric".into() } else { c.text("coordinate_transformation_mode", "half_pixel")? };
    let region = match region_at {
        Some(place) if coordinates == "tf_crop_and_resize" => floats(c, place)?,
        _ => None,
    };
    let mut axes: Vec<Axis> =
        shape.iter().map(|&input| Axis { input, output: input, scale: 1.0, region: [0.0, 1.0] }).collect();
    if let Some(region) = region {
        if region.len() != 2 * given.len() {
            return invalid(format!("a region of {} numbers for {} axes", region.len(), given.len()));
        }
        let (starts, ends) = region.split_at(given.len());
        for (&axis, (&start, &end)) in given.iter().zip(starts.iter().zip(ends)) {
            if let Some(axis) = axes.get_mut(axis) {
                axis.region = [start, end];
            }
        }
    }
    match (floats(c, scales_at)?, sizes_at.map(|place| floats(c, place)).transpose()?.flatten()) {
        (_, Some(sizes)) => sized(c, &mut axes, &given, &sizes)?,
        (Some(scales), None) => {
            if scales.len() != given.len() || scales.iter().any(|scale| !scale.is_finite() || *scale <= 0.0) {
                return invalid(format!("scales {scales:?} for {} axes", given.len()));
            }
            for (&place, &scale) in given.iter().zip(&scales) {
                let Some(axis) = axes.get_mut(place) else { continue };
                let [start, end] = axis.region;
                let output = (axis.input as f64 * (end - start) * scale).floor();
                if !(0.0..=u32::MAX as f64).contains(&output) {
                    return invalid(format!("{output} elements along axis {place}"));
                }
                (axis.scale, axis.output) = (scale, output as usize);
            }
        }
        (None, None) => return invalid("has neither scales nor sizes"),
    }
    let rule = Rule {
        mode: c.text("mode", "nearest")?,
        coordinates,
        rounding: if old { "floor".into() } else { c.text("nearest_mode", "round_prefer_floor")? },
        cubic: c.float("cubic_coeff_a", -0.75)? as f64,
        exclude_outside: c.int("exclude_outside", 0)? != 0,
        antialias: c.int("antialias", 0)? != 0,
        extrapolation: c.float("extrapolation_value", 0.0)? as f64,
    };
    apply(c, x, &rule, &axes)
}

/// Sizes, kept in proportion if asked for.
fn sized(c: &Context<'_, '_>, axes: &mut [Axis], given: &[usize], sizes: &[f64]) -> Imported<()> {
    let sizes = extents(&sizes.iter().map(|&size| size as i64).collect::<Vec<_>>())?;
    if sizes.len() != given.len() {
        return invalid(format!("sizes {sizes:?} for {} axes", given.len()));
    }
    let input = |axis: usize| axes.get(axis).map_or(1, |axis| axis.input) as f64;
    let ratios = given.iter().zip(&sizes).map(|(&axis, &size)| size as f64 / input(axis));
    let common = match c.text("keep_aspect_ratio_policy", "stretch")?.as_str() {
        "stretch" => None,
        "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
        "not_smaller" => Some(ratios.fold(0.0, f64::max)),
        other => return invalid(format!("`keep_aspect_ratio_policy` is `{other}`")),
    };
    for (&axis, &size) in given.iter().zip(&sizes) {
        let Some(axis) = axes.get_mut(axis) else { continue };
        let input = axis.input as f64;
        (axis.output, axis.scale) = match common {
            None => (size, size as f64 / input),
            Some(scale) => ((scale * input + 0.5).floor() as usize, scale),
        };
    }
    Ok(())
}

fn apply(c: &mut Context<'_, '_>, x: NodeId, rule: &Rule, axes: &[Axis]) -> Results {
    if !matches!(rule.mode.as_str(), "nearest" | "linear" | "cubic") {
        return invalid(format!("`mode` is `{}`", rule.mode));
    }
    let changed = |axis: &Axis| axis.output != axis.input || axis.scale != 1.0 || axis.region != [0.0, 1.0];
    let mut tables = Vec::new();
    let mut outside: Vec<(usize, Vec<usize>)> = Vec::new();
    for (place, axis) in axes.iter().enumerate().filter(|(_, axis)| changed(axis)) {
        if axis.input == 0 {
            return invalid("resizes an empty axis");
        }
        if axis.output.saturating_mul(taps(axis, rule)) > MOST_TAPS {
            return unsupported(format!("{} positions along axis {place}", axis.output));
        }
        tables.push(table(place, axis, rule));
        let beyond: Vec<usize> = (0..axis.output)
            .filter(|&i| {
                let at = coordinate(i, axis, rule);
                rule.coordinates == "tf_crop_and_resize" && !(0.0..=(axis.input - 1) as f64).contains(&at)
            })
            .collect();
        if !beyond.is_empty() {
            outside.push((place, beyond));
        }
    }
    if tables.is_empty() {
        return Ok(vec![x]);
    }
    let dtype = c.dtype(x)?;
    let weighted = tables.iter().any(|table| !table.weights.is_empty());
    // Integers are interpolated in f32.
    let source = if weighted && !dtype.is_float() { c.cast(x, edgecc_ir::DType::F32)? } else { x };
    let mut result = c.add(Op::Resize { axes: tables }, &[source])?;
    for (place, beyond) in outside {
        result = extrapolated(c, result, place, &beyond, rule.extrapolation)?;
    }
    if c.dtype(result)? != dtype {
        return unsupported("interpolation of integers");
    }
    Ok(vec![result])
}

/// Positions of an axis, in ascending order, that lie outside of the input have the extrapolation value.
fn extrapolated(c: &mut Context<'_, '_>, x: NodeId, axis: usize, beyond: &[usize], value: f64) -> Imported<NodeId> {
    let (rank, extent, dtype) = (c.rank(x)?, c.extent(x, axis)?, c.dtype(x)?);
    let along: Vec<usize> = (0..rank).map(|other| if other == axis { extent } else { 1 }).collect();
    let mask = (0..extent).map(|i| edgecc_ir::Scalar::bool(beyond.binary_search(&i).is_ok()));
    let mask = edgecc_ir::Tensor::from_scalars(edgecc_ir::DType::Bool, edgecc_ir::Shape::new(&along), mask)
        .or_else(|error| invalid(error.to_string()))?;
    let (mask, value) = (c.constant(mask), c.number(dtype, value));
    c.map(&[mask, value, x], |e, [mask, value, x]| e.select(mask, value, x))
}

/// The place in the input of result position `i` (ONNX Resize, `coordinate_transformation_mode`).
fn coordinate(i: usize, axis: &Axis, rule: &Rule) -> f64 {
    let (i, input, output, scale) = (i as f64, axis.input as f64, axis.output as f64, axis.scale);
    match rule.coordinates.as_str() {
        "align_corners" => {
            if output <= 1.0 {
                0.0
            } else {
                i * (input - 1.0) / (output - 1.0)
            }
        }
        "asymmetric" => i / scale,
        "pytorch_half_pixel" => {
            if output > 1.0 {
                (i + 0.5) / scale - 0.5
            } else {
                0.0
            }
        }
        "half_pixel_symmetric" => {
            let adjustment = output / (scale * input);
            input / 2.0 * (1.0 - adjustment) + (i + 0.5) / scale - 0.5
        }
        "tf_half_pixel_for_nn" => (i + 0.5) / scale,
        "tf_crop_and_resize" => {
            let [start, end] = axis.region;
            if output > 1.0 {
                start * (input - 1.0) + i * (end - start) * (input - 1.0) / (output - 1.0)
            } else {
                0.5 * (start + end) * (input - 1.0)
            }
        }
        _ => (i + 0.5) / scale - 0.5,
    }
}

fn nearest(at: f64, rounding: &str) -> f64 {
    match rounding {
        "floor" => at.floor(),
        "ceil" => at.ceil(),
        "round_prefer_ceil" => (at + 0.5).floor(),
        _ => (at - 0.5).ceil(),
    }
}

/// Antialiasing stretches the filter of a shrinking axis over all the elements that one result stands for.
fn stretch(axis: &Axis, rule: &Rule) -> f64 {
    if rule.antialias { axis.scale.min(1.0) } else { 1.0 }
}

/// Half the filter's width.
fn reach(axis: &Axis, rule: &Rule) -> f64 {
    match rule.mode.as_str() {
        "nearest" => 0.5,
        "linear" => 1.0 / stretch(axis, rule),
        _ => 2.0 / stretch(axis, rule),
    }
}

/// Elements that one result takes.
fn taps(axis: &Axis, rule: &Rule) -> usize {
    if rule.mode == "nearest" { 1 } else { (2.0 * reach(axis, rule).ceil()) as usize }
}

fn table(place: usize, axis: &Axis, rule: &Rule) -> Resample {
    let last = (axis.input - 1) as f64;
    if rule.mode == "nearest" {
        let index = |i| nearest(coordinate(i, axis, rule), &rule.rounding).clamp(0.0, last) as u32;
        return Resample {
            axis: place,
            extent: axis.output,
            taps: 1,
            indices: (0..axis.output).map(index).collect(),
            weights: Vec::new(),
        };
    }
    let (stretch, reach, taps) = (stretch(axis, rule), reach(axis, rule), taps(axis, rule));
    let (mut indices, mut weights) = (Vec::new(), Vec::new());
    for i in 0..axis.output {
        let at = coordinate(i, axis, rule);
        let at = if rule.mode == "linear" && !rule.antialias { at.clamp(0.0, last) } else { at };
        let first = at.floor() - reach.ceil() + 1.0;
        let mut own: Vec<f64> = Vec::with_capacity(taps);
        for tap in 0..taps {
            let position = first + tap as f64;
            let weight = kernel((position - at) * stretch, rule);
            let inside = (0.0..=last).contains(&position);
            let excluded = !inside && rule.exclude_outside;
            own.push(if excluded { 0.0 } else { weight });
            indices.push(position.clamp(0.0, last) as u32);
        }
        let total: f64 = own.iter().sum();
        let normal = if (rule.exclude_outside || rule.antialias) && total != 0.0 { total } else { 1.0 };
        weights.extend(own.iter().map(|weight| ((weight / normal) as f32).to_bits()));
    }
    Resample { axis: place, extent: axis.output, taps, indices, weights }
}

/// The filter's weight at a distance: a triangle, or Keys' cubic with parameter `a`.
fn kernel(distance: f64, rule: &Rule) -> f64 {
    let (d, a) = (distance.abs(), rule.cubic);
    if rule.mode == "linear" {
        return (1.0 - d).max(0.0);
    }
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}
