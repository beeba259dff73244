//! Epilogues over sums of integers, as a formula of words and singles and what is done to narrow its results.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, UnaryOp};

use super::formula::{Formula, is_per_channel};
use super::table::Table;
use crate::contraction::Strides;

/// An epilogue of the canonical form: `cast(max(min(round(formula) + zero, high), low))` to bytes, perhaps a function of that
/// byte, or the formula alone.
#[derive(Clone, Debug)]
pub(super) struct Requantization {
    /// The operand that starts the sums: one i32 per channel.
    pub start: Option<u16>,
    /// From a sum, as an i32, to what is stored: an f32 or i32, or an i32 that becomes a byte.
    pub formula: Formula,
    /// How results become bytes; `None` where they are stored as they are.
    pub bytes: Option<Bytes>,
    /// What becomes of the bytes.
    pub table: Option<[u8; 256]>,
}

/// How words become bytes: with `zero` added, saturated, within limits. Multipliers are finite: what a NaN becomes is not said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bytes {
    /// Whether they have signs.
    pub signed: bool,
    /// Added to the rounded number.
    pub zero: i16,
    /// The least and the largest, where those are not the type's own.
    pub limits: [Option<u8>; 2],
}

impl Bytes {
    /// Signed bytes that are the words.
    pub const PLAIN: Bytes = Bytes { signed: true, zero: 0, limits: [None; 2] };

    /// The least and the largest number before the zero point is added.
    pub fn bounds(self) -> [f64; 2] {
        let own = if self.signed { [-128, 127] } else { [0, 255] };
        let number = |limit: u8| if self.signed { i64::from(limit as i8) } else { i64::from(limit) };
        [0, 1].map(|end| (self.limits[end].map_or(own[end], number) - i64::from(self.zero)) as f64)
    }
}

/// Zero points that may be added to halves without a word that saturates being told from one that does not.
const LARGEST_ZERO: f64 = 256.0;

impl Requantization {
    /// The form of an epilogue; `None` where it is another.
    pub fn of(epilogue: &Expr, operands: &[Strides]) -> Option<Requantization> {
        let table = Table::of(epilogue);
        let root = table.as_ref().map_or(epilogue.root(), |table| table.argument);
        let (formula, bytes) = match (epilogue.dtype_of(root), epilogue.node(root)) {
            (DType::F32 | DType::I32, _) => (Formula::of_integers(epilogue, root)?, None),
            (dtype @ (DType::I8 | DType::U8), ExprNode::Cast(_, value)) => {
                let (value, bytes) = bytes(epilogue, value, dtype == DType::I8)?;
                (Formula::of_integers(epilogue, value)?.rounded(), Some(bytes))
            }
            _ => return None,
        };
        let (start, formula) = formula.without_start(operands, &[is_per_channel]);
        Some(Requantization { start, formula, bytes, table: table.map(|table| table.bytes) })
    }
}

impl Requantization {
    /// The operand that starts the sums, the formula with numbers kept within what bytes hold before they are rounded, for processors
    /// whose integers do not saturate, and how results become bytes. `None` where there is a table.
    pub fn within_bounds(self) -> Option<(Option<u16>, Formula, Option<Bytes>)> {
        let Requantization { start, formula, bytes, table } = self;
        let formula = match bytes {
            Some(bytes) => formula.bounded(bytes.bounds()),
            None => formula,
        };
        table.is_none().then_some((start, formula, bytes))
    }
}

/// What is rounded, and what is done to the whole number, from the outside in.
fn bytes(expr: &Expr, mut value: ExprId, signed: bool) -> Option<(ExprId, Bytes)> {
    let least: f64 = if signed { -128.0 } else { 0.0 };
    let (mut low, mut high, mut zero) = (least, least + 255.0, 0f64);
    loop {
        match expr.node(value) {
            ExprNode::Unary(UnaryOp::Round, inner) if expr.dtype_of(inner) == DType::F32 => {
                let limits = [(low, least), (high, least + 255.0)];
                let limits = limits.map(|(limit, own)| (limit != own).then_some(limit as i64 as u8));
                return Some((inner, Bytes { signed, zero: zero as i16, limits }));
            }
            ExprNode::Binary(op @ (BinaryOp::Max | BinaryOp::Min), a, b) if zero == 0.0 => {
                let (limit, inner) = constant_and_other(expr, a, b)?;
                // Limits inside of others have been narrowed by those.
                match op {
                    BinaryOp::Max => low = low.max(limit),
                    _ => high = high.min(limit),
                }
                if low > high {
                    return None;
                }
                value = inner;
            }
            ExprNode::Binary(BinaryOp::Add, a, b) if zero == 0.0 => {
                let (added, inner) = constant_and_other(expr, a, b)?;
                if added.abs() > LARGEST_ZERO {
                    return None;
                }
                (zero, value) = (added, inner);
            }
            _ => return None,
        }
    }
}

/// A whole number, and what stands beside it.
fn constant_and_other(expr: &Expr, a: ExprId, b: ExprId) -> Option<(f64, ExprId)> {
    let number = |id: ExprId| match expr.node(id) {
        ExprNode::Constant(value) => Some(value.as_f64()).filter(|value| value.fract() == 0.0),
        _ => None,
    };
    number(b).map(|value| (value, a)).or_else(|| number(a).map(|value| (value, b)))
}
