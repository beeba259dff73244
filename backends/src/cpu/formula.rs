//! Element-wise expressions as formulas: values in the order of their computation, each one vector instruction. Over halves
//! every value is one: expressions that widen them, compute, and narrow the result are rounded at each instruction. Behind sums of
//! integers a formula is exact: each operation of the expression is one instruction that rounds as the evaluator does, so that
//! integers made of it are the same everywhere; products and sums are never joined. Functions by polynomials are
//! approximate there as everywhere.

mod approximate;

use std::collections::BTreeMap;

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, UnaryOp};
use half::f16;

use super::a64::{Arrangement, Lanes, LanesOne};
use crate::contraction::{Element, Strides};
use crate::cpu::math::{ERF, TANH};

/// A value of a formula, by its place.
pub(super) type Id = usize;

/// One value of a formula.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Op {
    /// Operand `n`; 0 is the sum.
    Operand(u16),
    /// Equal lanes: the bits of one, of halves those of two.
    Constant(u32),
    /// `a <op> b`.
    Two(Lanes, Id, Id),
    /// `a + b * c`, or `a - b * c`.
    Three(Lanes, Id, Id, Id),
    /// `<op> a`.
    One(LanesOne, Id),
    /// Lanes shifted left.
    Shift(Id, u8),
    /// `mask ? a : b`.
    Choose(Id, Id, Id),
}

impl Op {
    /// The values that it is made of.
    pub fn operands(self) -> Vec<Id> {
        match self {
            Op::Operand(_) | Op::Constant(_) => vec![],
            Op::One(_, a) | Op::Shift(a, _) => vec![a],
            Op::Two(_, a, b) => vec![a, b],
            Op::Three(_, a, b, c) | Op::Choose(a, b, c) => vec![a, b, c],
        }
    }

    /// The same of other values.
    fn renamed(self, renamed: impl Fn(Id) -> Id) -> Op {
        match self {
            Op::Operand(_) | Op::Constant(_) => self,
            Op::Two(op, a, b) => Op::Two(op, renamed(a), renamed(b)),
            Op::Three(op, a, b, c) => Op::Three(op, renamed(a), renamed(b), renamed(c)),
            Op::One(op, a) => Op::One(op, renamed(a)),
            Op::Shift(a, by) => Op::Shift(renamed(a), by),
            Op::Choose(a, b, c) => Op::Choose(renamed(a), renamed(b), renamed(c)),
        }
    }
}

/// Whether an operand has one value for each channel.
pub(super) fn is_per_channel(strides: &Strides) -> bool {
    (strides.row, strides.column, strides.channel) == (0, 0, 1)
}

/// Whether an operand has a value for each pixel and channel, whose channels are neighbours.
pub(super) fn is_per_element(strides: &Strides) -> bool {
    (strides.row, strides.column) != (0, 0) && strides.channel == 1
}

/// What a formula's results are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// Singles.
    Singles,
    /// They become halves, so that numbers beyond their range need not be told apart.
    Halves,
    /// They may become integers: every operation is as the evaluator's.
    Integers,
}

/// An expression as vector instructions, in the order of their execution.
#[derive(Clone, Debug)]
pub(super) struct Formula {
    /// The lanes of every value.
    pub(super) of: Arrangement,
    purpose: Purpose,
    pub(super) ops: Vec<Op>,
    pub(super) root: Id,
}

impl Formula {
    /// The formula of an expression over f32, or one that widens and narrows halves; `None` where it has operators that are not
    /// written here.
    pub fn of(element: Element, expr: &Expr) -> Option<Formula> {
        let purpose = match element {
            Element::F32 => Purpose::Singles,
            Element::F16 => Purpose::Halves,
            Element::I8 => return None,
        };
        Formula { of: Arrangement::of(element), purpose, ops: Vec::new(), root: 0 }.with(expr)
    }

    /// The formula of an expression over f32 between halves that are widened and halves that it is narrowed to.
    pub fn between_halves(expr: &Expr) -> Option<Formula> {
        Formula { of: Arrangement::S4, purpose: Purpose::Halves, ops: Vec::new(), root: 0 }.with(expr)
    }

    /// The formula of a part of an expression over an i32 sum, words and singles. Operands of bytes are read as singles.
    pub fn of_integers(expr: &Expr, root: ExprId) -> Option<Formula> {
        let mut formula = Formula { of: Arrangement::S4, purpose: Purpose::Integers, ops: Vec::new(), root: 0 };
        formula.root = formula.exact(expr, root)?;
        Some(formula)
    }

    fn exact(&mut self, expr: &Expr, id: ExprId) -> Option<Id> {
        let node = expr.node(id);
        match node {
            ExprNode::Argument(n, DType::F32 | DType::I32) => Some(self.push(Op::Operand(n))),
            ExprNode::Constant(value) if value.dtype() == DType::F32 => Some(self.number(value.as_f64())),
            ExprNode::Cast(DType::F32, a) => match byte_operand(expr, a) {
                Some(n) => Some(self.push(Op::Operand(n))),
                None if expr.dtype_of(a) == DType::I32 => {
                    let a = self.exact(expr, a)?;
                    Some(self.push(Op::One(LanesOne::FromInteger, a)))
                }
                None => self.saturated(expr, a),
            },
            ExprNode::Constant(value) if value.dtype() == DType::I32 => {
                Some(self.push(Op::Constant(value.bits() as u32)))
            }
            ExprNode::Binary(op @ (BinaryOp::Add | BinaryOp::Sub), a, b) if expr.dtype_of(a) == DType::I32 => {
                let (a, b) = (self.exact(expr, a)?, self.exact(expr, b)?);
                Some(self.two(if op == BinaryOp::Add { Lanes::AddIntegers } else { Lanes::SubtractIntegers }, a, b))
            }
            ExprNode::Unary(op, a) if expr.dtype_of(a) == DType::F32 => {
                let a = self.exact(expr, a)?;
                self.unary(op, a)
            }
            ExprNode::Binary(op, a, b) if expr.dtype_of(a) == DType::F32 => {
                let (x, y) = (self.exact(expr, a)?, self.exact(expr, b)?);
                self.two_singles(op, x, y)
            }
            ExprNode::Select(mask, a, b) if expr.dtype_of(a) == DType::F32 => {
                let (mask, a, b) = (self.exact(expr, mask)?, self.exact(expr, a)?, self.exact(expr, b)?);
                Some(self.push(Op::Choose(mask, a, b)))
            }
            _ => None,
        }
    }

    /// A byte of a whole number, as a number.
    fn saturated(&mut self, expr: &Expr, id: ExprId) -> Option<Id> {
        let ExprNode::Cast(dtype, steps) = expr.node(id) else { return None };
        let range = match dtype {
            DType::I8 => [-128.0, 127.0],
            DType::U8 => [0.0, 255.0],
            _ => return None,
        };
        if expr.dtype_of(steps) != DType::F32 || !is_whole(expr, steps) {
            return None;
        }
        let steps = self.exact(expr, steps)?;
        let [low, high] = range.map(|limit| self.number(limit));
        let above = self.two(Lanes::Maximum, steps, low);
        Some(self.two(Lanes::Minimum, above, high))
    }

    /// The same formula with its result as the nearest integer, ties to even, saturated.
    pub fn rounded(mut self) -> Formula {
        self.root = self.push(Op::One(LanesOne::ToInteger, self.root));
        self
    }

    /// The same formula with the number that is rounded kept within whole bounds: the integer is what one saturated to them is.
    pub fn bounded(mut self, bounds: [f64; 2]) -> Formula {
        let Op::One(LanesOne::ToInteger, number) = self.ops[self.root] else { return self };
        let [low, high] = bounds.map(|bound| self.number(bound));
        let above = self.two(Lanes::Maximum, number, low);
        let within = self.two(Lanes::Minimum, above, high);
        self.root = self.push(Op::One(LanesOne::ToInteger, within));
        self.keep_used();
        self
    }

    fn with(self, expr: &Expr) -> Option<Formula> {
        let mut formula = self;
        let mut values: Vec<Id> = Vec::new();
        for &node in expr.nodes() {
            // Only values that the result needs are kept below.
            let value = formula.node(expr, node, &values)?;
            values.push(value);
        }
        formula.root = values[expr.root().index()];
        formula.keep_used();
        Some(formula)
    }

    /// The formula of an epilogue, and the operand that starts the sums: one that is added to the sum before anything else but
    /// others, which the formula then leaves out. The first of `kinds` that an operand's strides are of decides.
    pub fn with_start(
        element: Element,
        epilogue: &Expr,
        operands: &[Strides],
        kinds: &[fn(&Strides) -> bool],
    ) -> Option<(Option<u16>, Formula)> {
        Some(Formula::of(element, epilogue)?.without_start(operands, kinds))
    }

    /// Takes off the operand that starts the sums.
    pub fn without_start(self, operands: &[Strides], kinds: &[fn(&Strides) -> bool]) -> (Option<u16>, Formula) {
        let added = self.added();
        let is = |number: u16, kind: fn(&Strides) -> bool| operands.get(usize::from(number) - 1).is_some_and(kind);
        let found = kinds.iter().find_map(|&kind| added.iter().find(|&&(_, _, number)| is(number, kind)));
        let Some(&(place, sum, number)) = found else { return (None, self) };
        let mut rest = self;
        let renamed = |id: Id| if id == place { sum } else { id };
        rest.ops.iter_mut().for_each(|op| *op = op.renamed(renamed));
        rest.root = renamed(rest.root);
        rest.keep_used();
        (Some(number), rest)
    }

    /// The operands that are added to the sum before anything else, with the value that each makes and the sum before it.
    fn added(&self) -> Vec<(Id, Id, u16)> {
        let uses = self.uses();
        let mut added = Vec::new();
        let mut sum = self.ops.iter().position(|&op| op == Op::Operand(0));
        while let Some(before) = sum.filter(|&sum| uses[sum] == 1) {
            let next = self.ops.iter().enumerate().find_map(|(place, &op)| match op {
                Op::Two(Lanes::Add | Lanes::AddIntegers, a, b) if (a == before) != (b == before) => {
                    Some((place, if a == before { b } else { a }))
                }
                _ => None,
            });
            sum = next.map(|(place, other)| {
                if let Op::Operand(number) = self.ops[other] {
                    added.push((place, before, number));
                }
                place
            });
        }
        added
    }

    /// The operands that it reads, without the sum.
    pub fn operands(&self) -> Vec<u16> {
        let numbers = self.ops.iter().filter_map(|&op| match op {
            Op::Operand(n) if n > 0 => Some(n),
            _ => None,
        });
        numbers.collect()
    }

    fn push(&mut self, op: Op) -> Id {
        // Equal values are one, and so are operands.
        self.ops.iter().position(|&other| other == op).unwrap_or_else(|| {
            self.ops.push(op);
            self.ops.len() - 1
        })
    }

    fn number(&mut self, value: f64) -> Id {
        let half = || u32::from(f16::from_f64(value).to_bits());
        self.push(Op::Constant(match self.of {
            Arrangement::S4 => (value as f32).to_bits(),
            Arrangement::H8 => half() << 16 | half(),
        }))
    }

    fn two(&mut self, op: Lanes, a: Id, b: Id) -> Id {
        self.push(Op::Two(op, a, b))
    }

    fn multiply_add(&mut self, sum: Id, a: Id, b: Id) -> Id {
        self.push(Op::Three(Lanes::MultiplyAdd, sum, a, b))
    }

    fn node(&mut self, expr: &Expr, node: ExprNode, values: &[Id]) -> Option<Id> {
        let at = |id: ExprId| values[id.index()];
        match node {
            ExprNode::Argument(n, DType::F32) => Some(self.push(Op::Operand(n))),
            ExprNode::Argument(n, DType::F16) if self.of == Arrangement::H8 => Some(self.push(Op::Operand(n))),
            ExprNode::Cast(to, a) if self.of == Arrangement::H8 => {
                let is_float = |dtype| matches!(dtype, DType::F16 | DType::F32);
                (is_float(to) && is_float(expr.dtype_of(a))).then(|| at(a))
            }
            ExprNode::Constant(value) if value.dtype() == DType::F32 => Some(self.number(value.as_f64())),
            ExprNode::Unary(op, a) if expr.dtype_of(a) == DType::F32 => self.unary(op, at(a)),
            ExprNode::Binary(op, a, b) if expr.dtype_of(a) == DType::F32 => self.binary(expr, op, (a, b), values),
            ExprNode::Select(mask, a, b) if expr.dtype_of(a) == DType::F32 => {
                Some(self.push(Op::Choose(at(mask), at(a), at(b))))
            }
            _ => None,
        }
    }

    fn unary(&mut self, op: UnaryOp, a: Id) -> Option<Id> {
        let one = |op: LanesOne| Op::One(op, a);
        Some(match op {
            UnaryOp::Neg => self.push(one(LanesOne::Negate)),
            UnaryOp::Abs => self.push(one(LanesOne::Absolute)),
            UnaryOp::Sqrt => self.push(one(LanesOne::SquareRoot)),
            UnaryOp::Floor => self.push(one(LanesOne::RoundDown)),
            UnaryOp::Ceil => self.push(one(LanesOne::RoundUp)),
            UnaryOp::Round => self.push(one(LanesOne::RoundNearest)),
            UnaryOp::Trunc => self.push(one(LanesOne::RoundToZero)),
            UnaryOp::Reciprocal => {
                let unit = self.number(1.0);
                self.two(Lanes::Divide, unit, a)
            }
            // Of the functions those that end in a division: their values are approximate wherever they are computed.
            _ if self.purpose == Purpose::Integers
                && !matches!(op, UnaryOp::Sigmoid | UnaryOp::Tanh | UnaryOp::Erf) =>
            {
                return None;
            }
            UnaryOp::Sigmoid => {
                let unit = self.number(1.0);
                let divisor = self.sigmoid_divisor(a);
                self.two(Lanes::Divide, unit, divisor)
            }
            UnaryOp::Exp if self.purpose == Purpose::Halves => {
                let flipped = match self.ops[a] {
                    Op::Two(Lanes::Subtract, x, y) => self.two(Lanes::Subtract, y, x),
                    _ => self.push(one(LanesOne::Negate)),
                };
                self.exponential_of_negative(flipped)
            }
            UnaryOp::Tanh if self.of == Arrangement::H8 => self.half_tanh(a),
            UnaryOp::Tanh => self.rational(a, 7.905_311_107_635_498, &TANH.0, &TANH.1),
            UnaryOp::Erf if self.of == Arrangement::H8 => self.half_erf(a),
            UnaryOp::Erf => self.rational(a, 4.0, &ERF.0, &ERF.1),
            _ => return None,
        })
    }

    fn binary(&mut self, expr: &Expr, op: BinaryOp, (a, b): (ExprId, ExprId), values: &[Id]) -> Option<Id> {
        let (x, y) = (values[a.index()], values[b.index()]);
        let gate = |id: ExprId| match expr.node(id) {
            ExprNode::Unary(UnaryOp::Sigmoid, inner) => Some(values[inner.index()]),
            _ => None,
        };
        match (op, gate(b), gate(a)) {
            (BinaryOp::Mul, Some(z), _) => Some(self.gated(x, z)),
            (BinaryOp::Mul, None, Some(z)) => Some(self.gated(y, z)),
            _ => self.two_singles(op, x, y),
        }
    }

    /// An operator as one instruction.
    fn two_singles(&mut self, op: BinaryOp, x: Id, y: Id) -> Option<Id> {
        Some(match op {
            BinaryOp::Mul => self.two(Lanes::Multiply, x, y),
            BinaryOp::Add => self.two(Lanes::Add, x, y),
            BinaryOp::Sub => self.two(Lanes::Subtract, x, y),
            BinaryOp::Div => self.two(Lanes::Divide, x, y),
            BinaryOp::Max => self.two(Lanes::Maximum, x, y),
            BinaryOp::Min => self.two(Lanes::Minimum, x, y),
            BinaryOp::Less => self.two(Lanes::Greater, y, x),
            BinaryOp::LessEqual => self.two(Lanes::GreaterEqual, y, x),
            BinaryOp::Equal => self.two(Lanes::Equal, x, y),
            _ => return None,
        })
    }

    /// How often each value is read.
    pub fn uses(&self) -> Vec<usize> {
        let mut uses = vec![0; self.ops.len()];
        self.ops.iter().flat_map(|op| op.operands()).for_each(|id| uses[id] += 1);
        uses
    }

    /// Leaves out what the result does not need.
    fn keep_used(&mut self) {
        let mut is_used = vec![false; self.ops.len()];
        is_used[self.root] = true;
        for id in (0..self.ops.len()).rev().filter(|&id| id <= self.root) {
            if is_used[id] {
                self.ops[id].operands().into_iter().for_each(|operand| is_used[operand] = true);
            }
        }
        let mut renamed = vec![0; self.ops.len()];
        let mut kept: Vec<Op> = Vec::new();
        for (id, &op) in self.ops.iter().enumerate().filter(|&(id, _)| is_used[id]) {
            renamed[id] = kept.len();
            kept.push(op.renamed(|id| renamed[id]));
        }
        self.root = renamed[self.root];
        self.ops = kept;
    }

    /// How often each constant is read as a whole vector where the instruction does not overwrite it, and as a factor of
    /// which one lane will do.
    pub fn constant_uses(&self) -> BTreeMap<Id, (usize, usize)> {
        let mut uses: BTreeMap<Id, (usize, usize)> = BTreeMap::new();
        let is_constant = |id: Id| matches!(self.ops[id], Op::Constant(_));
        for &op in &self.ops {
            let (factor, others): (Option<Id>, Vec<Id>) = match op {
                Op::Two(Lanes::Multiply, a, b) if is_constant(b) && !is_constant(a) => (Some(b), vec![]),
                Op::Two(Lanes::Multiply, a, b) if is_constant(a) && !is_constant(b) => (Some(a), vec![]),
                // The sum is overwritten, so that a constant is loaded into its place.
                Op::Three(_, _, a, b) if is_constant(b) && !is_constant(a) => (Some(b), vec![]),
                Op::Three(_, _, a, b) => (None, vec![a, b]),
                op => (None, op.operands()),
            };
            factor.into_iter().for_each(|id| uses.entry(id).or_default().1 += 1);
            others.into_iter().filter(|&id| is_constant(id)).for_each(|id| uses.entry(id).or_default().0 += 1);
        }
        uses
    }
}

/// Whether a number has no fraction.
fn is_whole(expr: &Expr, id: ExprId) -> bool {
    match expr.node(id) {
        ExprNode::Unary(UnaryOp::Round, _) => true,
        ExprNode::Constant(value) => value.as_f64().fract() == 0.0,
        ExprNode::Binary(BinaryOp::Add | BinaryOp::Sub | BinaryOp::Max | BinaryOp::Min, a, b) => {
            is_whole(expr, a) && is_whole(expr, b)
        }
        _ => false,
    }
}

/// The number of an operand of bytes that a value is, perhaps as an i32.
fn byte_operand(expr: &Expr, id: ExprId) -> Option<u16> {
    match expr.node(id) {
        ExprNode::Argument(n, DType::I8 | DType::U8) => Some(n),
        ExprNode::Cast(DType::I32, a) => byte_operand(expr, a),
        _ => None,
    }
}
