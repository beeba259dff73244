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

/// The position of a batch's first element.
pub(super) fn batch_start(strides: &Strides) -> String {
    let names: Vec<String> = (0..strides.batch.len()).map(|place| format!("n{place}")).collect();
    let terms: Vec<(&str, i64)> = names.iter().map(String::as_str).zip(strides.batch.iter().copied()).collect();
    sum(strides.base, &terms)
}

/// An operand that is read or written four channels at a time.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    /// Channels in all.
    count: i64,
    /// From one to the next.
    step: i64,
    /// Whether four lie at a multiple of four.
    pub(super) quads: bool,
}

impl Channels {
    pub(super) fn of(strides: &Strides, count: i64) -> Channels {
        let moves = strides.batch.iter().chain([&strides.base, &strides.row, &strides.column]);
        let quads = strides.channel == 1 && count % LANES == 0 && moves.into_iter().all(|by| by % LANES == 0);
        Channels { count, step: strides.channel, quads }
    }

    pub(super) fn read(self) -> Use {
        Use::read(DType::F32, self.quads)
    }

    pub(super) fn write(self) -> Use {
        Use::write(DType::F32, self.quads)
    }

    /// Four channels from channel `channel` on, of the pixel at `at`. Behind the last channel that one is read again.
    pub(super) fn load(self, out: &mut Writer, operand: &Bound, at: &str, channel: &str) -> String {
        if self.step == 0 {
            let single = operand.load(out, at);
            return out.value(format!("vec4<f32>({single})"));
        }
        if self.quads {
            return operand.load_quad(out, &format!("{at} + {channel}"));
        }
        let place = |n: i64| {
            let channel = match self.count % LANES {
                0 => format!("({channel} + {n})"),
                _ => format!("min({channel} + {n}, {})", self.count - 1),
            };
            format!("{at} + {channel} * {}", self.step)
        };
        operand.load_four(out, [0, 1, 2, 3].map(place))
    }

    /// Writes four channels, but those behind the last one.
    pub(super) fn store(self, out: &mut Writer, operand: &Bound, at: &str, channel: &str, value: &str) {
        if self.quads {
            return operand.store_quad(out, &format!("{at} + {channel}"), value);
        }
        for n in 0..LANES {
            let at = format!("{at} + ({channel} + {n}) * {}", self.step);
            let store = |out: &mut Writer| operand.store(out, &at, &format!("{value}[{n}]"));
            match self.count % LANES {
                0 => store(out),
                _ => out.block(format!("if {channel} + {n} < {}", self.count), store),
            }
        }
    }
}
