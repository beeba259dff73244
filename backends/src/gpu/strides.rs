//! Positions of contractions' operands as text.

use super::binding::{Bound, Use};
use super::writer::Writer;
use crate::contraction::Strides;
use edgecc_ir::DType;

/// Neighbours of a vector.
pub(super) const LANES: i64 = 4;

/// `constant + factor * name + ..`, without what adds nothing.
pub(super) fn sum(constant: i64, terms: &[(&str, i64)]) -> String {
    let moving = terms.iter().filter(|(name, factor)| *factor != 0 && *name != "0");
    let mut parts: Vec<String> = moving
        .map(|(name, factor)| if *factor == 1 { (*name).to_string() } else { format!("{name} * {factor}") })
        .collect();
    if constant != 0 || parts.is_empty() {
        parts.push(constant.to_string());
    }
    parts.join(" + ")
}

/// The batch axes as coordinates of an invocation.
pub(super) fn batch_axes(batch: &[i64]) -> Vec<(String, i64)> {
    batch.iter().enumerate().map(|(place, &extent)| (format!("n{place}"), extent)).collect()
}

/// `constant + step * coordinate + ..` over the batch axes that have more than one place, and `further` terms.
pub(super) fn batch_sum(constant: i64, batch: &[i64], steps: &[i64], further: &[(&str, i64)]) -> String {
    let names: Vec<String> = (0..batch.len()).map(|place| format!("n{place}")).collect();
    let moves = names.iter().zip(steps).zip(batch).filter(|(_, extent)| **extent > 1);
    let mut terms: Vec<(&str, i64)> = moves.map(|((name, &step), _)| (name.as_str(), step)).collect();
    terms.extend(further);
    sum(constant, &terms)
}

/// An operand that is read or written four channels at a time. Its positions are counted in fours where four channels always
/// lie at a multiple of four, else in elements.
#[derive(Clone)]
pub(super) struct Channels {
    strides: Strides,
    /// Extents of the batch axes.
    batch: Vec<i64>,
    /// Channels in all.
    count: i64,
    pub(super) quads: bool,
}

impl Channels {
    pub(super) fn of(strides: &Strides, batch: &[i64], count: i64) -> Channels {
        let Strides { base, row, column, channel, .. } = *strides;
        let mut moves = strides.batch.iter().chain([&base, &row, &column]);
        let quads = channel == 1 && count % LANES == 0 && moves.all(|by| by % LANES == 0);
        let unit = if quads { LANES } else { 1 };
        let by_batch = strides.batch.iter().map(|by| by / unit).collect();
        let (base, row, column) = (base / unit, row / unit, column / unit);
        let strides = Strides { base, batch: by_batch, row, column, channel };
        Channels { strides, batch: batch.to_vec(), count, quads }
    }

    /// The same where elements are read one by one.
    pub(super) fn one_by_one(strides: &Strides, batch: &[i64], count: i64) -> Channels {
        Channels { strides: strides.clone(), batch: batch.to_vec(), count, quads: false }
    }

    /// Whether all pixels have the same elements, such as a bias.
    pub(super) fn is_fixed(&self) -> bool {
        (self.strides.row, self.strides.column) == (0, 0)
    }

    pub(super) fn read(&self, dtype: DType) -> Use {
        Use::read(dtype, self.quads)
    }

    pub(super) fn write(&self, dtype: DType) -> Use {
        Use::write(dtype, self.quads)
    }

    /// Four channels that all pixels have in common, where they do.
    pub(super) fn load_fixed(&self, out: &mut Writer, operand: &Bound, vector: &str) -> Option<String> {
        self.is_fixed().then(|| {
            let at = out.value(self.at("0", "0"));
            self.load(out, operand, &at, vector)
        })
    }

    /// The position of a batch's first element.
    pub(super) fn start(&self) -> String {
        batch_sum(self.strides.base, &self.batch, &self.strides.batch, &[])
    }

    /// The position of the pixel in row `y` and column `x` from its batch's start; nothing moves it where both stand still.
    pub(super) fn pixel(&self, y: &str, x: &str) -> String {
        sum(0, &[(y, self.strides.row), (x, self.strides.column)])
    }

    /// From a pixel to the one so many rows and columns behind it.
    pub(super) fn distance(&self, rows: i64, columns: i64) -> i64 {
        rows * self.strides.row + columns * self.strides.column
    }

    /// The position of a pixel.
    pub(super) fn at(&self, y: &str, x: &str) -> String {
        let Strides { base, batch, row, column, .. } = &self.strides;
        batch_sum(*base, &self.batch, batch, &[(y, *row), (x, *column)])
    }

    /// The position of a channel of the pixel at `at`, counted in elements.
    pub(super) fn element(&self, at: &str, channel: &str) -> String {
        sum(0, &[(at, 1), (channel, self.strides.channel)])
    }

    /// One channel of the pixel at `at`, of channels that are read one by one.
    pub(super) fn load_one(&self, out: &mut Writer, operand: &Bound, at: &str, channel: &str) -> String {
        operand.load(out, &self.element(at, channel))
    }

    /// Channels `4 * vector` to `4 * vector + 3` of the pixel at `at`. Behind the last channel that one is read again.
    pub(super) fn load(&self, out: &mut Writer, operand: &Bound, at: &str, vector: &str) -> String {
        if self.strides.channel == 0 {
            return operand.load_splat(out, at);
        }
        if self.quads {
            return operand.load_quad(out, &sum(0, &[(at, 1), (vector, 1)]));
        }
        let channel = out.value(sum(0, &[(vector, LANES)]));
        let place = |n: i64| {
            let channel = sum(n, &[(&channel, 1)]);
            let within = if self.count % LANES == 0 { channel } else { format!("min({channel}, {})", self.count - 1) };
            sum(0, &[(at, 1), (&format!("({within})"), self.strides.channel)])
        };
        operand.load_four(out, [0, 1, 2, 3].map(place))
    }

    /// Writes four channels, but those behind the last one.
    pub(super) fn store(&self, out: &mut Writer, operand: &Bound, at: &str, vector: &str, value: &str) {
        if self.quads {
            return operand.store_quad(out, &sum(0, &[(at, 1), (vector, 1)]), value);
        }
        let channel = out.value(sum(0, &[(vector, LANES)]));
        for n in 0..LANES {
            let channel = sum(n, &[(&channel, 1)]);
            let at = sum(0, &[(at, 1), (&format!("({channel})"), self.strides.channel)]);
            let store = |out: &mut Writer| operand.store(out, &at, &format!("{value}[{n}]"));
            match self.count % LANES {
                0 => store(out),
                _ => out.block(format!("if {channel} < {}", self.count), store),
            }
        }
    }
}
