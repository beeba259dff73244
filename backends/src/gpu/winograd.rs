//! Emission of Winograd's transforms: an invocation does one tile of four channels, all of whose numbers it holds. Tiles are
//! whole ([`crate::winograd::Tiling::whole`]), so that numbers lie `[row of points][column of points][tile][channel]`.

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{Grid, coordinates};
use super::strides::{Channels, LANES, sum};
use super::value::{Width, float};
use super::writer::Writer;
use crate::contraction::Strides;
use crate::winograd::{Step, Tiling, Transform, WinogradInput, WinogradOutput};

/// An image, whose channels are read or written by fours.
fn image(strides: &Strides, tiling: &Tiling, channels: i64) -> Channels {
    Channels::of(strides, &[tiling.images], channels)
}

/// The numbers of all points: `y` counts points, `x` tiles.
fn numbers(tiling: &Tiling, channels: i64) -> Channels {
    let [rows, columns] = tiling.tiles();
    let strides = Strides { batch: vec![0], ..Strides::image(tiling.images * rows * columns, channels) };
    image(&strides, tiling, channels)
}

/// How the transform of inputs uses its operands: input, numbers.
pub(super) fn input_uses(spec: &WinogradInput) -> Vec<Use> {
    let WinogradInput { element, tiling, channels, input, .. } = spec;
    let dtype = element.dtype();
    vec![image(input, tiling, *channels).read(dtype), numbers(tiling, *channels).write(dtype)]
}

/// How the transform of sums uses its operands: sums, output, further ones.
pub(super) fn output_uses(spec: &WinogradOutput) -> Vec<Use> {
    let WinogradOutput { element, tiling, channels, output, operands, .. } = spec;
    let dtype = element.dtype();
    let mut uses = vec![numbers(tiling, *channels).read(dtype), image(output, tiling, *channels).write(dtype)];
    uses.extend(operands.iter().map(|strides| image(strides, tiling, *channels).read(dtype)));
    uses
}

/// `n0`, `row`, `column`, `group`: the image, the tile and the channels of an invocation; `tile`: the place among all tiles.
fn enter(out: &mut Writer, tiling: &Tiling, channels: i64) -> Grid {
    let [rows, columns] = tiling.tiles();
    let axes = [("n0", tiling.images), ("row", rows), ("column", columns), ("group", channels / LANES)]
        .map(|(name, extent)| (name.to_string(), extent));
    let grid = Grid::new(axes.iter().map(|(_, extent)| extent).product());
    grid.enter(out);
    coordinates(out, &axes);
    let tile = sum(0, &[("n0", rows * columns), ("row", columns), ("column", 1)]);
    out.line(format!("let tile = {tile};"));
    grid
}

/// What each invocation of the transform of inputs does.
pub(super) fn emit_input(spec: &WinogradInput, operands: &[Bound]) -> Option<Body> {
    let WinogradInput { tiling, extents, pads, channels, .. } = spec;
    let mut out = Writer::default();
    let grid = enter(&mut out, tiling, *channels);
    let source = image(&spec.input, tiling, *channels);
    out.line(format!("let input = {};", source.start()));
    let [rows, columns] = [0, 1].map(|axis| {
        let name = ["row", "column"][axis];
        let along = tiling.axes[axis];
        let inputs = along.inputs_of(along.outputs());
        let places = (0..inputs).map(|place| out.value(sum(place - pads[axis], &[(name, along.advance())])));
        let places: Vec<String> = places.collect();
        let reach = (tiling.tiles()[axis] - 1) * along.advance() + inputs - pads[axis];
        let is_inside = |(point, place): (usize, &String)| {
            let is_never_outside = point as i64 >= pads[axis] && reach <= extents[axis];
            (!is_never_outside).then(|| out.value(format!("u32({place}) < {}u", extents[axis])))
        };
        let inside: Vec<Option<String>> = places.iter().enumerate().map(is_inside).collect();
        places.into_iter().zip(inside).collect::<Vec<_>>()
    });
    let mut values = Vec::new();
    for (y, row_inside) in &rows {
        for (x, column_inside) in &columns {
            let at = sum(0, &[("input", 1), (&source.pixel(y, x), 1)]);
            let inside: Vec<&str> = [row_inside, column_inside].into_iter().flatten().map(String::as_str).collect();
            if inside.is_empty() {
                let at = out.value(at);
                values.push(source.load(&mut out, &operands[0], &at, "group"));
                continue;
            }
            let inside = out.value(inside.join(" & "));
            let at = out.value(format!("select(0, {at}, {inside})"));
            let loaded = source.load(&mut out, &operands[0], &at, "group");
            values.push(out.value(format!("select(vec4<f32>(0.0f), {loaded}, {inside})")));
        }
    }
    let outputs = tiling.axes.map(|axis| axis.outputs());
    let results = both_axes(&mut out, &spec.transforms(outputs), values);
    let target = numbers(tiling, *channels);
    for (point, result) in results.iter().enumerate() {
        let at = out.value(target.at(&point.to_string(), "tile"));
        target.store(&mut out, &operands[1], &at, "group", result);
    }
    Some(Body { writer: out, groups: grid.groups()?, parts: None })
}

/// What each invocation of the transform of sums does; `None` for an epilogue that is refused.
pub(super) fn emit_output(spec: &WinogradOutput, operands: &[Bound]) -> Option<Body> {
    let WinogradOutput { tiling, channels, output, operands: further, epilogue, .. } = spec;
    let mut out = Writer::default();
    let grid = enter(&mut out, tiling, *channels);
    let source = numbers(tiling, *channels);
    let points = tiling.axes[0].points * tiling.axes[1].points;
    let sums = (0..points).map(|point| {
        let at = out.value(source.at(&point.to_string(), "tile"));
        source.load(&mut out, &operands[0], &at, "group")
    });
    let sums: Vec<String> = sums.collect();
    let outputs = tiling.axes.map(|axis| axis.outputs());
    let results = both_axes(&mut out, &spec.transforms(outputs), sums);
    let target = image(output, tiling, *channels);
    let further: Vec<Channels> = further.iter().map(|strides| image(strides, tiling, *channels)).collect();
    let fixed: Vec<Option<String>> = further
        .iter()
        .zip(&operands[2..])
        .map(|(channels, operand)| channels.load_fixed(&mut out, operand, "group"))
        .collect();
    for (place, result) in results.iter().enumerate() {
        let place = place as i64;
        let (y, x) = (place / outputs[1], place % outputs[1]);
        let y = out.value(sum(y, &[("row", outputs[0])]));
        let x = out.value(sum(x, &[("column", outputs[1])]));
        let write = |out: &mut Writer| -> Option<()> {
            let mut arguments = vec![result.clone()];
            for (number, channels) in further.iter().enumerate() {
                if let Some(fixed) = &fixed[number] {
                    arguments.push(fixed.clone());
                    continue;
                }
                let from = out.value(channels.at(&y, &x));
                arguments.push(channels.load(out, &operands[2 + number], &from, "group"));
            }
            let value = expression::emit_stored(out, epilogue, &arguments, Width::Four)?;
            let to = out.value(target.at(&y, &x));
            target.store(out, &operands[1], &to, "group", &value);
            Some(())
        };
        let checks: Vec<String> = [(&y, 0), (&x, 1)]
            .into_iter()
            .filter(|&(_, axis)| tiling.extents[axis] % outputs[axis] != 0)
            .map(|(name, axis)| format!("({name} < {})", tiling.extents[axis]))
            .collect();
        match checks.is_empty() {
            true => write(&mut out)?,
            false => out.block(format!("if {}", checks.join(" & ")), write)?,
        }
    }
    Some(Body { writer: out, groups: grid.groups()?, parts: None })
}

/// Row-major values transformed along every row, then down every column.
fn both_axes(out: &mut Writer, [rows, columns]: &[Transform; 2], values: Vec<String>) -> Vec<String> {
    let along: Vec<Vec<String>> = values.chunks(columns.operands).map(|row| one_axis(out, columns, row)).collect();
    let width = columns.results.len();
    let down: Vec<Vec<String>> = (0..width)
        .map(|column| {
            let operands: Vec<String> = along.iter().map(|row| row[column].clone()).collect();
            one_axis(out, rows, &operands)
        })
        .collect();
    (0..rows.results.len()).flat_map(|row| down.iter().map(move |column| column[row].clone())).collect()
}

fn one_axis(out: &mut Writer, transform: &Transform, operands: &[String]) -> Vec<String> {
    let mut slots = operands.to_vec();
    slots.resize(transform.slots, String::new());
    for step in &transform.steps {
        let (to, text) = match *step {
            Step::Add(to, a, b) => (to, format!("{} + {}", slots[a], slots[b])),
            Step::Subtract(to, a, b) => (to, format!("{} - {}", slots[a], slots[b])),
            Step::Scale(to, a, factor) => (to, format!("{} * {}", float(out, factor as f32), slots[a])),
            Step::AddScaled(to, a, factor) => {
                (to, format!("fma(vec4<f32>({}), {}, {})", float(out, factor as f32), slots[a], slots[to]))
            }
            Step::Copy(to, a) => {
                slots[to] = slots[a].clone();
                continue;
            }
        };
        slots[to] = out.value(text);
    }
    transform.results.iter().map(|&slot| slots[slot].clone()).collect()
}
