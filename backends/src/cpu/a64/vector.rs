//! Element-wise expressions of f32 on registers: an expression becomes a formula of vector instructions once, and each row
//! of a tile then gets its instructions, in place of the sums where that can be.

use std::collections::BTreeMap;

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, UnaryOp};

use super::assembler::Assembler;
use super::instruction::{ByLane, Float, Instruction, Lanes, LanesOne, V};
use crate::cpu::math::{ERF, EXP_SHORT, LN_2, TANH};

/// A value of a formula, by its place.
type Id = usize;

/// One value of a formula.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Op {
    /// Operand `n`; 0 is the sum.
    Operand(u16),
    /// Four equal lanes.
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
    fn operands(self) -> Vec<Id> {
        match self {
            Op::Operand(_) | Op::Constant(_) => vec![],
            Op::One(_, a) | Op::Shift(a, _) => vec![a],
            Op::Two(_, a, b) => vec![a, b],
            Op::Three(_, a, b, c) | Op::Choose(a, b, c) => vec![a, b, c],
        }
    }
}

/// An expression as vector instructions, in the order of their execution.
#[derive(Clone, Debug, Default)]
pub(super) struct Formula {
    ops: Vec<Op>,
    root: Id,
}

/// The smallest and largest number whose exponential the formula takes: beyond them its power of two is no exponent.
const EXPONENT: f64 = 87.0;

impl Formula {
    /// The formula of an expression over f32; `None` where it has operators that are not written here.
    pub fn of(expr: &Expr) -> Option<Formula> {
        let mut formula = Formula::default();
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

    /// The operand that is added to the sum before anything else, and the formula of the sum of both. The operand starts
    /// the sum then.
    pub fn without_start(&self, is_start: impl Fn(u16) -> bool) -> Option<(u16, Formula)> {
        let uses = self.uses();
        let of_sum = |id: Id| self.ops[id] == Op::Operand(0) && uses[id] == 1;
        let place = self.ops.iter().position(|&op| match op {
            Op::Two(Lanes::Add, a, b) => of_sum(a) != of_sum(b),
            _ => false,
        })?;
        let Op::Two(_, a, b) = self.ops[place] else { return None };
        let other = if of_sum(a) { b } else { a };
        let Op::Operand(n) = self.ops[other] else { return None };
        if !is_start(n) {
            return None;
        }
        let mut formula = self.clone();
        formula.ops[place] = Op::Operand(0);
        formula.keep_used();
        Some((n, formula))
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
        self.push(Op::Constant((value as f32).to_bits()))
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
            UnaryOp::Sigmoid => {
                let unit = self.number(1.0);
                let divisor = self.sigmoid_divisor(a);
                self.two(Lanes::Divide, unit, divisor)
            }
            UnaryOp::Tanh => self.rational(a, 7.905_311_107_635_498, &TANH.0, &TANH.1),
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
        Some(match op {
            BinaryOp::Mul => match (gate(b), gate(a)) {
                (Some(z), _) => self.gated(x, z),
                (None, Some(z)) => self.gated(y, z),
                (None, None) => self.two(Lanes::Multiply, x, y),
            },
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

    /// `x * sigmoid(z) = x / (1 + exp(-z))`: one division, no product. Where z is x, numbers so small that the quotient is none
    /// to speak of are cut off above the line too: the divisor is finite.
    fn gated(&mut self, x: Id, z: Id) -> Id {
        let divisor = self.sigmoid_divisor(z);
        let low = self.number(-EXPONENT);
        let above = if x == z { self.two(Lanes::Maximum, x, low) } else { x };
        self.two(Lanes::Divide, above, divisor)
    }

    /// `1 + exp(-x)`: `-x = n ln(2) - r`, and `exp(-r)` by a polynomial of degree 5 in Estrin's order.
    fn sigmoid_divisor(&mut self, x: Id) -> Id {
        let (low, high) = (self.number(-EXPONENT), self.number(EXPONENT));
        let x = self.two(Lanes::Maximum, x, low);
        let x = self.two(Lanes::Minimum, x, high);
        let per_octave = self.number(-std::f64::consts::LOG2_E);
        let octaves = self.two(Lanes::Multiply, x, per_octave);
        let n = self.push(Op::One(LanesOne::RoundNearest, octaves));
        let parts = LN_2.map(|part| self.number(part));
        let r = self.multiply_add(x, n, parts[0]);
        let r = self.multiply_add(r, n, parts[1]);
        let n = self.push(Op::One(LanesOne::ToInteger, octaves));
        let n = self.push(Op::Shift(n, 23));
        // Of an odd power of -r, the sign remains.
        let c: [Id; 6] = std::array::from_fn(|power| self.number(EXP_SHORT[power] * (-1f64).powi(power as i32)));
        let square = self.two(Lanes::Multiply, r, r);
        let high = self.multiply_add(c[4], r, c[5]);
        let middle = self.multiply_add(c[2], r, c[3]);
        let middle = self.multiply_add(middle, square, high);
        let p = self.multiply_add(c[0], r, c[1]);
        let p = self.multiply_add(p, square, middle);
        let power = self.two(Lanes::AddIntegers, p, n);
        let unit = self.number(1.0);
        self.two(Lanes::Add, power, unit)
    }

    /// `x P(x^2) / Q(x^2)` of x within `-limit..=limit`.
    fn rational(&mut self, x: Id, limit: f64, numerator: &[f64], denominator: &[f64]) -> Id {
        let (low, high) = (self.number(-limit), self.number(limit));
        let x = self.two(Lanes::Maximum, x, low);
        let x = self.two(Lanes::Minimum, x, high);
        let square = self.two(Lanes::Multiply, x, x);
        let p = self.polynomial(square, numerator);
        let p = self.two(Lanes::Multiply, p, x);
        let q = self.polynomial(square, denominator);
        self.two(Lanes::Divide, p, q)
    }

    /// A polynomial of coefficients by falling power, of which pairs are summed apart (Estrin): half of the coefficients are
    /// factors, which need no register of their own.
    fn polynomial(&mut self, x: Id, coefficients: &[f64]) -> Id {
        let square = self.two(Lanes::Multiply, x, x);
        let rising: Vec<f64> = coefficients.iter().rev().copied().collect();
        let pairs: Vec<&[f64]> = rising.chunks(2).collect();
        let mut sum = None;
        for pair in pairs.into_iter().rev() {
            let constant = self.number(pair[0]);
            sum = Some(match (pair, sum) {
                ([_], _) => constant,
                (_, None) => {
                    let factor = self.number(pair[1]);
                    self.multiply_add(constant, x, factor)
                }
                (_, Some(higher)) => {
                    let factor = self.number(pair[1]);
                    let own = self.multiply_add(constant, x, factor);
                    self.multiply_add(own, square, higher)
                }
            });
        }
        sum.unwrap_or(x)
    }

    fn uses(&self) -> Vec<usize> {
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
            kept.push(match op {
                Op::Operand(_) | Op::Constant(_) => op,
                Op::Two(op, a, b) => Op::Two(op, renamed[a], renamed[b]),
                Op::Three(op, a, b, c) => Op::Three(op, renamed[a], renamed[b], renamed[c]),
                Op::One(op, a) => Op::One(op, renamed[a]),
                Op::Shift(a, by) => Op::Shift(renamed[a], by),
                Op::Choose(a, b, c) => Op::Choose(renamed[a], renamed[b], renamed[c]),
            });
        }
        self.root = renamed[self.root];
        self.ops = kept;
    }

    /// How often each constant is read as a whole vector where the instruction does not overwrite it, and as a factor of
    /// which one lane will do.
    fn constant_uses(&self) -> BTreeMap<Id, (usize, usize)> {
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

/// A set of vector registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registers(pub u32);

impl Registers {
    pub fn all_from(first: u8) -> Self {
        Registers(if first >= 32 { 0 } else { u32::MAX << first })
    }

    fn take_last(&mut self) -> Option<V> {
        let place = 31u32.checked_sub(self.0.leading_zeros())?;
        self.0 &= !(1 << place);
        Some(V(place as u8))
    }

    fn take_first(&mut self) -> Option<V> {
        if self.0 == 0 {
            return None;
        }
        let place = self.0.trailing_zeros();
        self.0 &= !(1 << place);
        Some(V(place as u8))
    }

    /// `count` registers one behind the other.
    pub fn take_run(&mut self, count: u8) -> Option<V> {
        let run = ((1u64 << count) - 1) as u32;
        let first = (0..=32 - count).find(|&first| self.0 >> first & run == run)?;
        self.0 &= !(run << first);
        Some(V(first))
    }

    pub fn give(&mut self, register: V) {
        self.0 |= 1 << register.0;
    }

    fn has(self, register: V) -> bool {
        self.0 >> register.0 & 1 == 1
    }
}

/// Where constants lie while the rows of a tile are computed.
#[derive(Clone, Debug, Default)]
struct Constants {
    whole: BTreeMap<Id, V>,
    lane: BTreeMap<Id, (V, u8)>,
}

/// How a formula is computed for the rows of a tile.
#[derive(Clone, Debug)]
pub(super) struct Computation {
    formula: Formula,
    constants: Constants,
    /// Registers left for values.
    free: Registers,
    /// Vectors that go through the formula side by side.
    together: usize,
}

/// The registers of one row: the sums, which the results replace, and each operand at each vector.
pub(super) struct RowRegisters<'a> {
    /// The sums.
    pub sums: &'a [V],
    /// Per operand number, its registers: one per vector, or one for all.
    pub operands: &'a BTreeMap<u16, Vec<V>>,
    /// Operands whose registers may not be overwritten.
    pub kept: &'a [u16],
}

impl Computation {
    /// Chooses which constants stay in registers, so that everything fits into `free`; `None` where nothing does. `row`
    /// has registers outside of `free`.
    pub fn plan(formula: &Formula, free: Registers, row: &RowRegisters<'_>) -> Option<Computation> {
        let uses = formula.constant_uses();
        let mut best: Option<(usize, Computation)> = None;
        for together in [row.sums.len(), 1] {
            for lanes in [true, false] {
                for kept in (0..=uses.len()).rev() {
                    let Some((constants, left)) = place_constants(formula, &uses, free, kept, lanes) else { continue };
                    let plan = Computation { formula: formula.clone(), constants, free: left, together };
                    let mut trial = Assembler::default();
                    if plan.emit_row(&mut trial, row).is_none() {
                        continue;
                    }
                    let cost = trial.len();
                    if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                        best = Some((cost, plan));
                    }
                    break;
                }
            }
        }
        best.map(|(_, plan)| plan)
    }

    /// Loads the constants that stay.
    pub fn emit_constants(&self, assembler: &mut Assembler) {
        for (&id, &register) in &self.constants.whole {
            load_constant(assembler, register, self.bits(id));
        }
        let mut packed: BTreeMap<V, [u32; 4]> = BTreeMap::new();
        for (&id, &(register, lane)) in &self.constants.lane {
            packed.entry(register).or_default()[lane as usize] = self.bits(id);
        }
        packed.into_iter().for_each(|(register, lanes)| assembler.literal(register, lanes));
    }

    fn bits(&self, id: Id) -> u32 {
        if let Op::Constant(bits) = self.formula.ops[id] { bits } else { 0 }
    }

    /// Computes one row; the results stand in the registers of the sums. `None` where registers run out.
    pub fn emit_row(&self, assembler: &mut Assembler, row: &RowRegisters<'_>) -> Option<()> {
        let vectors: Vec<usize> = (0..row.sums.len()).collect();
        vectors.chunks(self.together.max(1)).try_for_each(|vectors| {
            let mut emission = Emission {
                plan: self,
                assembler,
                free: self.free,
                left: self.formula.uses(),
                values: vec![vec![None; vectors.len()]; self.formula.ops.len()],
            };
            emission.left[self.formula.root] += 1;
            emission.emit(row, vectors)
        })
    }
}

fn place_constants(
    formula: &Formula,
    uses: &BTreeMap<Id, (usize, usize)>,
    mut free: Registers,
    kept: usize,
    lanes: bool,
) -> Option<(Constants, Registers)> {
    let mut constants = Constants::default();
    if lanes {
        let mut slots: Vec<(V, u8)> = Vec::new();
        for (&id, _) in uses.iter().filter(|(_, (whole, factor))| *whole == 0 && *factor > 0) {
            if slots.is_empty() {
                let register = free.take_last()?;
                slots = (0..4).rev().map(|lane| (register, lane)).collect();
            }
            constants.lane.insert(id, slots.pop()?);
        }
    }
    let mut order: Vec<(usize, Id)> = uses
        .iter()
        .filter(|(id, _)| !constants.lane.contains_key(id))
        .map(|(&id, &(whole, factor))| (whole + factor, id))
        .filter(|&(count, id)| count > 0 && matches!(formula.ops[id], Op::Constant(_)))
        .collect();
    order.sort_by(|a, b| b.cmp(a));
    for &(_, id) in order.iter().take(kept) {
        constants.whole.insert(id, free.take_last()?);
    }
    Some((constants, free))
}

fn load_constant(assembler: &mut Assembler, register: V, bits: u32) {
    match Float::of(f32::from_bits(bits)) {
        _ if bits == 0 => assembler.push(Instruction::Zero(register)),
        Some(float) => assembler.push(Instruction::MovFloat(register, float)),
        None => assembler.literal(register, [bits; 4]),
    }
}

/// One group of vectors on its way through the formula.
struct Emission<'a, 'b> {
    plan: &'a Computation,
    assembler: &'b mut Assembler,
    free: Registers,
    /// Uses of each value that are still to come.
    left: Vec<usize>,
    /// The register of each value, per vector of the group.
    values: Vec<Vec<Option<V>>>,
}

impl Emission<'_, '_> {
    fn emit(&mut self, row: &RowRegisters<'_>, vectors: &[usize]) -> Option<()> {
        let ops = &self.plan.formula.ops;
        let root = self.plan.formula.root;
        for (id, &op) in ops.iter().enumerate() {
            for (item, &vector) in vectors.iter().enumerate() {
                match op {
                    Op::Operand(0) => self.values[id][item] = Some(row.sums[vector]),
                    Op::Operand(n) => {
                        let registers = row.operands.get(&n)?;
                        self.values[id][item] = registers.get(vector).or(registers.first()).copied();
                    }
                    Op::Constant(_) => {}
                    op => {
                        let own = row.sums[vector];
                        let register = self.compute(op, item, (id == root).then_some(own), row)?;
                        self.values[id][item] = Some(register);
                    }
                }
            }
            if !matches!(op, Op::Operand(_) | Op::Constant(_)) {
                op.operands().into_iter().for_each(|operand| self.left[operand] -= 1);
            }
        }
        for (item, &vector) in vectors.iter().enumerate() {
            let own = row.sums[vector];
            match self.values[root][item] {
                Some(register) if register == own => {}
                Some(register) => self.assembler.push(Instruction::Lanes(Lanes::Or, own, register, register)),
                None => load_constant(self.assembler, own, self.plan.bits(root)),
            }
        }
        Some(())
    }

    /// Whether the registers of a value may be overwritten by `op`, the last to use it.
    fn dies(&self, id: Id, op: Op, row: &RowRegisters<'_>) -> bool {
        let here = op.operands().iter().filter(|&&operand| operand == id).count();
        match self.plan.formula.ops[id] {
            Op::Constant(_) => false,
            Op::Operand(n) if n > 0 && row.kept.contains(&n) => false,
            _ => self.left[id] == here,
        }
    }

    /// The register of a value for one instruction, and whether it is to be given back behind it.
    fn read(&mut self, id: Id, item: usize) -> Option<(V, bool)> {
        if let Op::Constant(bits) = self.plan.formula.ops[id] {
            if let Some(&register) = self.plan.constants.whole.get(&id) {
                return Some((register, false));
            }
            let register = self.free.take_first()?;
            load_constant(self.assembler, register, bits);
            return Some((register, true));
        }
        self.values[id][item].map(|register| (register, false))
    }

    /// A register for a result that overwrites nothing that is still needed.
    fn destination(&mut self, candidates: &[(Id, V)], op: Op, row: &RowRegisters<'_>, own: Option<V>) -> Option<V> {
        let dying = candidates.iter().filter(|&&(id, _)| self.dies(id, op, row)).map(|&(_, register)| register);
        let dying: Vec<V> = dying.collect();
        if let Some(own) = own
            && (dying.contains(&own) || self.free.has(own))
        {
            self.free.0 &= !(1 << own.0);
            return Some(own);
        }
        dying.first().copied().or_else(|| self.free.take_first())
    }

    /// Gives back what dies with an instruction, but its result.
    fn release(&mut self, read: &[(Id, V, bool)], op: Op, row: &RowRegisters<'_>, result: V) {
        for &(id, register, is_temporary) in read {
            if register != result && (is_temporary || self.dies(id, op, row)) {
                self.free.give(register);
            }
        }
    }

    fn compute(&mut self, op: Op, item: usize, own: Option<V>, row: &RowRegisters<'_>) -> Option<V> {
        match op {
            Op::Operand(_) | Op::Constant(_) => None,
            Op::One(_, a) | Op::Shift(a, _) => {
                let (n, temporary) = self.read(a, item)?;
                let d = self.destination(&[(a, n)], op, row, own)?;
                self.assembler.push(match op {
                    Op::One(one, _) => Instruction::LanesOne(one, d, n),
                    Op::Shift(_, by) => Instruction::ShiftLeft(d, n, by),
                    _ => return None,
                });
                self.release(&[(a, n, temporary)], op, row, d);
                Some(d)
            }
            Op::Two(lanes, a, b) => self.two(op, lanes, (a, b), item, own, row),
            Op::Three(lanes, sum, a, b) => self.three(op, lanes, [sum, a, b], item, own, row),
            Op::Choose(mask, a, b) => {
                let d = self.overwritten(mask, op, item, row)?;
                let (x, x_temporary) = self.read(a, item)?;
                let (y, y_temporary) = self.read(b, item)?;
                self.assembler.push(Instruction::Lanes(Lanes::Select, d, x, y));
                self.release(&[(a, x, x_temporary), (b, y, y_temporary)], op, row, d);
                Some(d)
            }
        }
    }

    fn two(
        &mut self,
        op: Op,
        lanes: Lanes,
        (a, b): (Id, Id),
        item: usize,
        own: Option<V>,
        row: &RowRegisters<'_>,
    ) -> Option<V> {
        let lane_of = |id: Id| self.plan.constants.lane.get(&id).copied();
        let by_lane = match (lane_of(b), lane_of(a)) {
            (Some(factor), None) => Some((a, factor)),
            (None, Some(factor)) => Some((b, factor)),
            _ => None,
        };
        if let Some((other, (factor, lane))) = by_lane.filter(|_| lanes == Lanes::Multiply) {
            let (n, temporary) = self.read(other, item)?;
            let d = self.destination(&[(other, n)], op, row, own)?;
            self.assembler.push(Instruction::ByLane(ByLane::Multiply, d, n, factor, lane));
            self.release(&[(other, n, temporary)], op, row, d);
            return Some(d);
        }
        let (n, n_temporary) = self.read(a, item)?;
        let (m, m_temporary) = if a == b { (n, false) } else { self.read(b, item)? };
        let d = self.destination(&[(a, n), (b, m)], op, row, own)?;
        self.assembler.push(Instruction::Lanes(lanes, d, n, m));
        self.release(&[(a, n, n_temporary), (b, m, m_temporary)], op, row, d);
        Some(d)
    }

    fn three(
        &mut self,
        op: Op,
        lanes: Lanes,
        [sum, a, b]: [Id; 3],
        item: usize,
        own: Option<V>,
        row: &RowRegisters<'_>,
    ) -> Option<V> {
        let d = self.overwritten(sum, op, item, row)?;
        let (n, n_temporary) = self.read(a, item)?;
        if let Some(&(factor, lane)) = self.plan.constants.lane.get(&b) {
            let by_lane = if lanes == Lanes::MultiplyAdd { ByLane::MultiplyAdd } else { ByLane::MultiplySubtract };
            self.assembler.push(Instruction::ByLane(by_lane, d, n, factor, lane));
            self.release(&[(a, n, n_temporary)], op, row, d);
            return Some(d);
        }
        let (m, m_temporary) = if a == b { (n, false) } else { self.read(b, item)? };
        self.assembler.push(Instruction::Lanes(lanes, d, n, m));
        self.release(&[(a, n, n_temporary), (b, m, m_temporary)], op, row, d);
        // The result may be wanted elsewhere, which the caller sees to.
        let _ = own;
        Some(d)
    }

    /// A register that holds a value and may be overwritten by `op`.
    fn overwritten(&mut self, id: Id, op: Op, item: usize, row: &RowRegisters<'_>) -> Option<V> {
        if let Op::Constant(bits) = self.plan.formula.ops[id] {
            let register = self.free.take_first()?;
            load_constant(self.assembler, register, bits);
            return Some(register);
        }
        let held = self.values[id][item]?;
        if self.dies(id, op, row) && op.operands().iter().filter(|&&operand| operand == id).count() == 1 {
            return Some(held);
        }
        let register = self.free.take_first()?;
        self.assembler.push(Instruction::Lanes(Lanes::Or, register, held, held));
        Some(register)
    }
}
