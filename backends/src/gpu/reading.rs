//! What taps meet: the input's elements, or what a map in front makes of them; outside of the input a constant.

use edgecc_ir::{DType, Scalar};

use super::binding::{Bound, Use};
use super::expression;
use super::strides::Channels;
use super::value::{Width, literal};
use super::writer::Writer;
use crate::contraction::{Element, Elements, Strides};

/// How the elements of an input are read, by fours along the channels or one by one.
pub(super) struct Reader<'a> {
    elements: Option<&'a Elements>,
    operands: Vec<Channels>,
    /// Place of the first of them among the step's operands.
    first: usize,
    width: Width,
}

impl<'a> Reader<'a> {
    /// Of an input with so many channels, by a kernel whose own operands end before `first`.
    pub(super) fn new(
        elements: Option<&'a Elements>,
        batch: &[i64],
        channels: i64,
        first: usize,
        width: Width,
    ) -> Reader<'a> {
        let each = |strides: &Strides| match width {
            Width::One => Channels::one_by_one(strides, batch, channels),
            Width::Four => Channels::of(strides, batch, channels),
        };
        let operands = elements.into_iter().flat_map(|elements| &elements.operands).map(each).collect();
        Reader { elements, operands, first, width }
    }

    /// How its operands are used; `types` are those of all operands of the kernel.
    pub(super) fn uses(&self, types: &[DType]) -> Vec<Use> {
        self.operands.iter().zip(&types[self.first..]).map(|(channels, &dtype)| channels.read(dtype)).collect()
    }

    /// Whether elements are more than loaded.
    pub(super) fn is_map(&self) -> bool {
        self.elements.is_some_and(|elements| !elements.expr.is_argument(0))
    }

    /// The elements of the operands that are the same for every pixel, at a vector of channels or a channel.
    pub(super) fn fixed(&self, out: &mut Writer, bound: &[Bound], channel: &str) -> Vec<Option<String>> {
        let each = |(place, channels): (usize, &Channels)| {
            let at = channels.is_fixed().then(|| channels.at("0", "0"))?;
            Some(self.load(out, &bound[self.first + place], channels, &at, channel))
        };
        self.operands.iter().enumerate().map(each).collect()
    }

    /// What is met in row `y` and column `x`, whose element of the input is `loaded`; where the pixel is `inside` of the input.
    /// `None` for what is refused.
    pub(super) fn value(
        &self,
        out: &mut Writer,
        bound: &[Bound],
        loaded: String,
        fixed: &[Option<String>],
        [y, x, channel]: [&str; 3],
        inside: Option<&str>,
    ) -> Option<String> {
        let Some(elements) = self.elements.filter(|_| self.is_map()) else { return Some(loaded) };
        let mut arguments = vec![loaded];
        for (place, channels) in self.operands.iter().enumerate() {
            arguments.push(match &fixed[place] {
                Some(value) => value.clone(),
                None => {
                    let at = channels.at(y, x);
                    let at = out.value(inside.map_or(at.clone(), |inside| format!("select(0, {at}, {inside})")));
                    self.load(out, &bound[self.first + place], channels, &at, channel)
                }
            });
        }
        expression::emit_stored(out, &elements.expr, &arguments, self.width)
    }

    fn load(&self, out: &mut Writer, bound: &Bound, channels: &Channels, at: &str, channel: &str) -> String {
        match self.width {
            Width::One => channels.load_one(out, bound, at, channel),
            Width::Four => channels.load(out, bound, at, channel),
        }
    }

    /// What is met outside of the input.
    pub(super) fn outside(&self, out: &mut Writer, element: Element) -> Option<String> {
        let zero = Scalar::from_f64(element.dtype(), 0.0);
        literal(out, self.elements.map_or(zero, |elements| elements.outside), self.width)
    }

    /// The same of i8, as they lie in a word.
    pub(super) fn packed_outside(&self) -> String {
        let byte = self.elements.map_or(0, |elements| elements.outside.as_i64()) as i8 as u8;
        format!("{:#x}u", u32::from_le_bytes([byte; 4]))
    }
}
