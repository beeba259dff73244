//! A layer in words: all that its schedule depends on, the same on every machine.

use std::fmt::Write;

use crate::contraction::{Combination, ContractionSpec, DepthwiseSpec, Element, Window, divide_up};

use super::{PackableRows, packable_rows};

/// The words of a contraction's line, in order; each but the rows' is followed by a value.
const CONTRACTION: [&str; 9] = ["batch", "input", "depth", "taps", "step", "output", "channels", "operands", "rows"];
/// The words of a depthwise window's line.
const DEPTHWISE: [&str; 8] = ["batch", "input", "channels", "taps", "step", "output", "operands", "takes"];

/// A contraction: layers of the same words run alike.
pub fn of_contraction(spec: &ContractionSpec) -> String {
    let is_computed = spec.reading.as_ref().is_some_and(|reading| reading.depthwise().is_some());
    let rows = match packable_rows(spec) {
        _ if is_computed => "computed",
        Some(PackableRows::Flat) => "adjacent",
        Some(PackableRows::Grid) => "in-lines",
        None => "apart",
    };
    let window = &spec.window;
    let values = [
        list(&spec.batch),
        format!("{}x{}", window.input_height, window.input_width),
        spec.depth.to_string(),
        taps(window),
        list(&window.step),
        format!("{}x{}", window.height, window.width),
        spec.channels.to_string(),
        spec.operands.len().to_string(),
        rows.into(),
    ];
    line("contraction", spec.element, CONTRACTION.into_iter().zip(values))
}

/// A depthwise convolution or a pool.
pub fn of_depthwise(spec: &DepthwiseSpec) -> String {
    let window = &spec.window;
    let takes = match spec.combination {
        Combination::Products => "products",
        Combination::Maximum => "maximum",
        Combination::Sum => "sum",
    };
    let values = [
        list(&spec.batch),
        format!("{}x{}", window.input_height, window.input_width),
        spec.channels.to_string(),
        taps(window),
        list(&window.step),
        format!("{}x{}", window.height, window.width),
        spec.operands.len().to_string(),
        takes.into(),
    ];
    line("depthwise", spec.element, DEPTHWISE.into_iter().zip(values))
}

/// The element of a layer's words; `None` where they are not words of a layer.
pub(super) fn element(layer: &str) -> Option<Element> {
    let mut words = layer.split(' ');
    let names: &[&str] = match words.next()? {
        "contraction" => &CONTRACTION,
        "depthwise" => &DEPTHWISE,
        _ => return None,
    };
    let element = match words.next()? {
        "f32" => Element::F32,
        "f16" => Element::F16,
        "i8" => Element::I8,
        _ => return None,
    };
    let follow =
        names.iter().all(|name| words.next() == Some(name) && words.next().is_some_and(|word| !word.is_empty()));
    (follow && words.next().is_none()).then_some(element)
}

fn line(kind: &str, element: Element, pairs: impl Iterator<Item = (&'static str, String)>) -> String {
    let element = match element {
        Element::F32 => "f32",
        Element::F16 => "f16",
        Element::I8 => "i8",
    };
    pairs.fold(format!("{kind} {element}"), |mut line, (name, value)| {
        // A string takes all that is written.
        let _ = write!(line, " {name} {value}");
        line
    })
}

/// `2x3`; `1` of nothing.
fn list(extents: &[i64]) -> String {
    match extents {
        [] => "1".into(),
        _ => extents.iter().map(i64::to_string).collect::<Vec<_>>().join("x"),
    }
}

/// Offsets of rows, `:`, and of columns, where every row has the same; otherwise every tap.
fn taps(window: &Window) -> String {
    let taps = &window.taps;
    let width = taps.iter().take_while(|tap| tap.row == taps[0].row).count().max(1);
    let rows: Vec<i64> = taps.iter().step_by(width).map(|tap| tap.row).collect();
    let columns: Vec<i64> = taps.iter().take(width).map(|tap| tap.column).collect();
    let is_product = rows.len() as i64 == divide_up(taps.len() as i64, width as i64)
        && taps.iter().enumerate().all(|(place, tap)| {
            (Some(&tap.row), Some(&tap.column)) == (rows.get(place / width), columns.get(place % width))
        })
        && taps.len() == rows.len() * width;
    if is_product {
        return format!("{}:{}", offsets(&rows), offsets(&columns));
    }
    taps.iter().map(|tap| format!("{}:{}", tap.row, tap.column)).collect::<Vec<_>>().join(";")
}

/// `-1..1`, `-2..2/2` of every second, or a list.
fn offsets(offsets: &[i64]) -> String {
    let [first, .., last] = offsets else { return list_of(offsets) };
    let step = offsets[1] - first;
    if offsets.len() < 3 || step < 1 || offsets.windows(2).any(|pair| pair[1] - pair[0] != step) {
        return list_of(offsets);
    }
    match step {
        1 => format!("{first}..{last}"),
        _ => format!("{first}..{last}/{step}"),
    }
}

fn list_of(offsets: &[i64]) -> String {
    offsets.iter().map(i64::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contraction::{KernelShape, Tap};

    #[test]
    fn taps_are_short() {
        let shape = |kernel, dilation| KernelShape { kernel, stride: [1, 1], dilation, pads: [1; 4] };
        assert_eq!(taps(&Window::matrix(5)), "0:0");
        assert_eq!(taps(&Window::convolution(9, 9, &shape([3, 5], [1, 2]))), "-1..1:-1..7/2");
        assert_eq!(taps(&Window::convolution(9, 9, &shape([2, 1], [1, 1]))), "-1,0:-1");
        let bent = [(0, 0), (0, 1), (1, 3)].map(|(row, column)| Tap { row, column, weight: 0 });
        assert_eq!(taps(&Window { taps: bent.to_vec(), ..Window::matrix(5) }), "0:0;0:1;1:3");
    }

    #[test]
    fn words_tell_the_element() {
        let layer = "depthwise f16 batch 1 input 5x5 channels 8 taps 0:0 step 1x1 output 5x5 operands 0 takes maximum";
        assert_eq!(element(layer), Some(Element::F16));
        for wrong in [layer.replace("taps", "tap"), format!("{layer} more"), layer.replace(" maximum", "")] {
            assert_eq!(element(&wrong), None, "{wrong}");
        }
    }
}
