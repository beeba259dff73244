//! Emission of indices as i32: every position of a storage fits.

use super::functions::Function;
use super::value::Width;
use super::writer::Writer;
use crate::kernel::Index;
use crate::kernel::linear::Linear;

/// The text of an index. Steps of shaders have no arguments: `None` for an index that asks for one.
pub(super) fn index(out: &mut Writer, index: &Index) -> Option<String> {
    linear(out, &Linear::of(index))
}

/// The text of a sum.
pub(super) fn linear(out: &mut Writer, sum: &Linear) -> Option<String> {
    let mut parts = Vec::new();
    for (term, factor) in &sum.terms {
        let term = atom(out, term)?;
        parts.push(match factor {
            1 => term,
            factor => format!("{term} * {factor}"),
        });
    }
    if sum.constant != 0 || parts.is_empty() {
        parts.push(sum.constant.to_string());
    }
    Some(parts.join(" + "))
}

fn atom(out: &mut Writer, term: &Index) -> Option<String> {
    Some(match term {
        Index::Var(var) => format!("v{}", var.0),
        Index::Argument(_) => return None,
        Index::Clamped { local, low, high } => format!("clamp(l{}, {low}, {high})", local.0),
        Index::FloorDiv(x, divisor) => {
            let x = index(out, x)?;
            out.call(Function::FloorDivide, Width::One, &format!("{x}, {divisor}"))
        }
        Index::Mod(x, divisor) => {
            let x = index(out, x)?;
            out.call(Function::FloorRemainder, Width::One, &format!("{x}, {divisor}"))
        }
        Index::Min(x, y) => format!("min({}, {})", index(out, x)?, index(out, y)?),
        Index::Max(x, y) => format!("max({}, {})", index(out, x)?, index(out, y)?),
        Index::Constant(_) | Index::Add(..) | Index::Mul(..) => format!("({})", index(out, term)?),
    })
}
