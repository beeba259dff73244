//! Depthwise convolutions whose results a contraction sums as they come: an invocation computes them four channels at a time, at each of
//! its pixels.

use std::collections::BTreeMap;

use edgecc_ir::DType;

use super::binding::{Bound, Use};
use super::expression;
use super::strides::{Channels, sum};
use super::value::Width;
use super::writer::Writer;
use crate::contraction::{DepthwiseSpec, Strides};
use crate::cpu::contraction::operand::INPUT;

/// A depthwise convolution within a contraction.
pub(super) struct Within<'a> {
    spec: &'a DepthwiseSpec,
    pub(super) input: Channels,
    operands: Vec<Channels>,
    /// Place of its weights among the step's operands; those of its epilogue follow.
    first: usize,
}

/// Where the taps of a pixel lie.
pub(super) struct Place {
    y: String,
    x: String,
    /// The position under a tap of offsets 0.
    base: String,
    /// Whether rows and columns of taps lie within the input, by offset, where some pixels' do not.
    rows: BTreeMap<i64, String>,
    columns: BTreeMap<i64, String>,
}

impl<'a> Within<'a> {
    pub(super) fn new(spec: &'a DepthwiseSpec, first: usize) -> Within<'a> {
        let channels = |strides: &Strides| Channels::of(strides, &spec.batch, spec.channels);
        Within { spec, input: channels(&spec.input), operands: spec.operands.iter().map(channels).collect(), first }
    }

    /// How its operands behind the input are used; `types` are those of all operands of the kernel.
    pub(super) fn uses(&self, types: &[DType]) -> Vec<Use> {
        let weights = Use::read(types[self.first], true);
        let further = self.operands.iter().zip(&types[self.first + 1..]).map(|(channels, &dtype)| channels.read(dtype));
        std::iter::once(weights).chain(further).collect()
    }

    /// Where the result in row `y` and column `x` comes from.
    pub(super) fn place(&self, out: &mut Writer, y: &str, x: &str) -> Place {
        let window = &self.spec.window;
        let [i, j] = [(y, 0), (x, 1)].map(|(name, axis)| out.value(sum(0, &[(name, window.step[axis])])));
        let base = out.value(sum(0, &[(&self.input.start(), 1), (&self.input.pixel(&i, &j), 1)]));
        let mut checked = |name: &str, axis: usize| {
            let (extent, input) =
                ([window.height, window.width][axis], [window.input_height, window.input_width][axis]);
            let offsets = window.taps.iter().map(|tap| [tap.row, tap.column][axis]);
            let leaves = |offset: &i64| *offset < 0 || (extent - 1) * window.step[axis] + offset >= input;
            let mut checks = BTreeMap::new();
            for offset in offsets.filter(leaves) {
                let check = format!("u32({}) < {input}u", sum(offset, &[(name, 1)]));
                checks.entry(offset).or_insert_with(|| out.value(check));
            }
            checks
        };
        let (rows, columns) = (checked(&i, 0), checked(&j, 1));
        Place { y: y.into(), x: x.into(), base, rows, columns }
    }

    /// The weights of four channels, by tap.
    pub(super) fn weights(&self, out: &mut Writer, bound: &[Bound], vector: &str) -> Vec<String> {
        let taps = self.spec.window.taps.len() as i64;
        (0..taps).map(|tap| bound[self.first].load_quad(out, &sum(tap, &[(vector, taps)]))).collect()
    }

    /// Four channels of the result at a place. `None` for an epilogue that is refused.
    pub(super) fn value(
        &self,
        out: &mut Writer,
        bound: &[Bound],
        place: &Place,
        weights: &[String],
        vector: &str,
    ) -> Option<String> {
        let mut total = "vec4<f32>(0.0f)".to_string();
        for (tap, weight) in self.spec.window.taps.iter().zip(weights) {
            let at = sum(self.input.distance(tap.row, tap.column), &[(&place.base, 1)]);
            let checks: Vec<&str> = [place.rows.get(&tap.row), place.columns.get(&tap.column)]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let value = match checks.is_empty() {
                true => {
                    let at = out.value(at);
                    self.input.load(out, &bound[INPUT], &at, vector)
                }
                false => {
                    let inside = out.value(checks.join(" & "));
                    let at = out.value(format!("select(0, {at}, {inside})"));
                    let loaded = self.input.load(out, &bound[INPUT], &at, vector);
                    format!("select(vec4<f32>(0.0f), {loaded}, {inside})")
                }
            };
            total = out.value(format!("fma({value}, {weight}, {total})"));
        }
        let mut arguments = vec![total];
        for (number, channels) in self.operands.iter().enumerate() {
            let at = out.value(channels.at(&place.y, &place.x));
            arguments.push(channels.load(out, &bound[self.first + 1 + number], &at, vector));
        }
        expression::emit_stored(out, &self.spec.epilogue, &arguments, Width::Four)
    }
}
