//! Products of i8: a word holds four along the depth, and `dot4I8Packed` adds the products of two words.

use super::Contraction;
use crate::cpu::contraction::operand::{INPUT, WEIGHTS};
use crate::gpu::binding::Bound;
use crate::gpu::strides::{LANES, sum};
use crate::gpu::value::{Width, kind};
use crate::gpu::writer::Writer;

impl Contraction<'_> {
    /// Adds the products of one run of taps: pixels from `at`, weights from `w`.
    pub(super) fn products_of_integers(&self, out: &mut Writer, operands: &[Bound]) -> Option<()> {
        let (length, rows) = (self.layout.run * self.spec.depth, self.layout.run_rows());
        if !self.input.quads {
            // Bytes behind the run meet weights of zero.
            return out.block(format!("for (var k = 0; k < {}; k++)", rows / 8), |out| self.block(out, operands, 2));
        }
        if length >= 8 {
            out.block(format!("for (var k = 0; k < {}; k++)", length / 8), |out| self.block(out, operands, 2))?;
        }
        if length % 8 != 0 {
            out.block("if true", |out| {
                out.line(format!("let k = {};", length / 8));
                self.block(out, operands, 1)
            })?;
        }
        Some(())
    }

    /// Word `half` of block `k` of a pixel's run.
    fn word(&self, out: &mut Writer, operands: &[Bound], pixel: i64, half: i64) -> Option<String> {
        let (length, rows) = (self.layout.run * self.spec.depth, self.layout.run_rows());
        let outside = self.reader.packed_outside();
        if self.input.quads {
            let place = out.value(sum(half, &[("k", 2)]));
            let (from, inside) = self.place(out, pixel, &place, self.spec.depth / LANES);
            let from = out.value(chosen("0", &from, inside.as_deref()));
            let word = match self.reader.is_map() {
                false => operands[INPUT].load_packed(out, &from),
                true => {
                    let loaded = operands[INPUT].load_quad(out, &from);
                    self.packed(out, operands, loaded)?
                }
            };
            return Some(chosen(&outside, &word, inside.as_deref()));
        }
        let mut bytes = Vec::new();
        for n in 0..LANES {
            let within = sum(half * LANES + n, &[("k", 8)]);
            let within = if rows == length { within } else { format!("min({within}, {})", length - 1) };
            let within = out.value(within);
            let (place, inside) = self.place(out, pixel, &within, self.spec.depth);
            let loaded = operands[INPUT].load(out, &chosen("0", &place, inside.as_deref()));
            bytes.push((loaded, inside));
        }
        let vector = kind(self.spec.types()[INPUT])?.name(Width::Four);
        let loaded: Vec<&str> = bytes.iter().map(|(loaded, _)| loaded.as_str()).collect();
        let loaded = out.value(format!("{vector}({})", loaded.join(", ")));
        let word = self.packed(out, operands, loaded)?;
        let checks: Vec<String> = bytes
            .into_iter()
            .enumerate()
            .filter_map(|(n, (_, inside))| Some(format!("select(0u, {:#x}u, {})", 0xff_u32 << (8 * n), inside?)))
            .collect();
        if checks.is_empty() {
            return Some(word);
        }
        let kept = out.value(checks.join(" | "));
        Some(format!("({word} & {kept}) | ({outside} & ~{kept})"))
    }

    /// Four numbers of the input as the bytes that are summed.
    fn packed(&self, out: &mut Writer, operands: &[Bound], loaded: String) -> Option<String> {
        // Maps of integers have no operands.
        let value = self.reader.value(out, operands, loaded, &[], ["", "", ""], None)?;
        Some(out.value(format!("pack4xI8({value})")))
    }

    /// Where place `within` of a pixel's run lies, of taps of `depth` places, and whether it lies within the input, where some taps of a run do
    /// and some do not; otherwise the whole run does or does not.
    fn place(&self, out: &mut Writer, pixel: i64, within: &str, depth: i64) -> (String, Option<String>) {
        let at = format!("at{pixel}");
        if self.layout.run == 1 {
            return (self.input.element(&at, within), None);
        }
        if self.spec.window.is_interior() {
            // Channels of a run lie side by side.
            return (format!("{at} + {within}"), None);
        }
        let column = out.value(format!("j{pixel} + {within} / {depth}"));
        let channel = out.value(format!("{within} % {depth}"));
        let inside = out.value(format!("in{pixel} & (u32({column}) < {}u)", self.spec.window.input_width));
        (sum(0, &[(&at, 1), (&self.input.pixel("0", &column), 1), (&channel, 1)]), Some(inside))
    }

    /// Adds the products of block `k`, of one or two words.
    fn block(&self, out: &mut Writer, operands: &[Bound], words: i64) -> Option<()> {
        let is_checked = !self.spec.window.is_interior() && self.layout.run == 1;
        let outside = self.reader.packed_outside();
        for pixel in 0..self.rows {
            for half in 0..words {
                let word = self.word(out, operands, pixel, half)?;
                let value = if is_checked { format!("select({outside}, {word}, in{pixel})") } else { word };
                out.line(format!("let f{pixel}_{half} = {value};"));
            }
        }
        for vector in 0..self.vectors {
            // Two channels each, of eight along the depth.
            let [first, second] = [0, 1].map(|pair| {
                let at = sum(vector * 2 + pair, &[("w", 1), (&self.weight_rows(("k", 1), 0), 1)]);
                operands[WEIGHTS].load_quad(out, &at)
            });
            for (pixel, half) in (0..self.rows).flat_map(|pixel| (0..words).map(move |half| (pixel, half))) {
                let lanes = if half == 0 { ["x", "z"] } else { ["y", "w"] };
                let products =
                    [&first, &second].into_iter().flat_map(|pair| lanes.map(|lane| format!("{pair}.{lane}")));
                let dots: Vec<String> =
                    products.map(|weights| format!("dot4I8Packed(f{pixel}_{half}, {weights})")).collect();
                let name = format!("s{pixel}_{vector}");
                out.line(format!("{name} = {name} + vec4<i32>({});", dots.join(", ")));
            }
        }
        Some(())
    }
}

/// One of two values, where one is to be chosen.
fn chosen(outside: &str, value: &str, inside: Option<&str>) -> String {
    inside.map_or(value.into(), |inside| format!("select({outside}, {value}, {inside})"))
}
