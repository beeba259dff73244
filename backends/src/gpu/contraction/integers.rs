//! Products of i8: a word holds four along the depth, and `dot4I8Packed` adds the products of two words.

use super::Contraction;
use crate::cpu::contraction::operand::{INPUT, WEIGHTS};
use crate::gpu::binding::Bound;
use crate::gpu::strides::sum;
use crate::gpu::writer::Writer;

impl Contraction<'_> {
    /// Adds the products of one run of taps: pixels from `at`, weights from `w`.
    pub(super) fn products_of_integers(&self, out: &mut Writer, operands: &[Bound]) {
        let (length, rows) = (self.layout.run * self.spec.depth, self.layout.run_rows());
        if !self.input.quads {
            // Bytes behind the run meet weights of zero.
            return out.block(format!("for (var k = 0; k < {}; k++)", rows / 8), |out| {
                let word = |out: &mut Writer, pixel: i64, half: i64| {
                    let place = |n: i64| {
                        let within = sum(half * 4 + n, &[("k", 8)]);
                        let within = if rows == length { within } else { format!("min({within}, {})", length - 1) };
                        format!("at{pixel} + {within}")
                    };
                    let four = operands[INPUT].load_four(out, [0, 1, 2, 3].map(place));
                    out.value(format!("pack4xI8({four})"))
                };
                self.block(out, operands, 2, word);
            });
        }
        let packed = |out: &mut Writer, pixel: i64, half: i64| {
            operands[INPUT].load_packed(out, &sum(half, &[(&format!("at{pixel}"), 1), ("k", 2)]))
        };
        if length >= 8 {
            out.block(format!("for (var k = 0; k < {}; k++)", length / 8), |out| self.block(out, operands, 2, packed));
        }
        if length % 8 != 0 {
            out.block("if true", |out| {
                out.line(format!("let k = {};", length / 8));
                self.block(out, operands, 1, packed);
            });
        }
    }

    /// Adds the products of block `k`, of one or two words: `word(out, pixel, n)` is word `n` of a pixel.
    fn block(&self, out: &mut Writer, operands: &[Bound], words: i64, word: impl Fn(&mut Writer, i64, i64) -> String) {
        let is_checked = !self.spec.window.is_interior();
        for pixel in 0..self.rows {
            for half in 0..words {
                let loaded = word(out, pixel, half);
                let value = if is_checked { format!("select(0u, {loaded}, in{pixel})") } else { loaded };
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
    }
}
