//! Expressions over locals.

use std::collections::BTreeMap;

use edgecc_ir::{DType, Expr, ExprNode};

use crate::contraction::Element;
use crate::cpu::a64::bytes::{Narrow, narrowed};
use crate::cpu::a64::instruction::{Half, Instruction, V};
use crate::cpu::a64::vector::{Computation, Registers, RowRegisters, move_register};
use crate::cpu::formula::Formula;
use crate::cpu::requantization::{Bytes, Requantization};
use crate::kernel::{Local, Stmt, Value};

use super::Nest;

/// How a statement of an innermost loop is computed; constants lie in registers before the loop.
#[derive(Clone)]
pub(super) enum Prepared {
    /// Halves become singles, or singles halves.
    Cast,
    /// By instructions on every register, and what makes bytes of the results.
    Formula(Computation, Option<Narrow>),
}

/// Registers for values that a computation leaves to others.
const TEMPORARIES: u32 = 6;

impl Nest<'_> {
    /// Plans every expression of an innermost loop, and loads their constants.
    pub(super) fn prepare(&mut self, body: &[Stmt]) -> Option<Vec<Prepared>> {
        let locals: usize = body.iter().map(|statement| self.registers_set(statement)).sum();
        let mut rest = self.registers;
        (0..locals + 2).try_for_each(|_| rest.take_first().map(|_| ()))?;
        let mut prepared = Vec::new();
        for statement in body {
            let Stmt::Set { local, value: Value::Apply { expr, arguments } } = statement else { continue };
            if is_cast(expr) {
                prepared.push(Prepared::Cast);
                continue;
            }
            let (expr, arguments) = distinct(expr, arguments);
            let (formula, bytes) = self.formula(*local, (&expr, &arguments))?;
            let narrow = match bytes {
                Some(bytes) => Some(Narrow::prepare(self.a, bytes, &mut rest)?),
                None => None,
            };
            let computation = self.plan(*local, &formula, rest)?;
            for constant in computation.constants() {
                rest = rest.common(Registers::without(constant.0, 1));
            }
            prepared.push(Prepared::Formula(computation, narrow));
        }
        let mut taken = Registers::without(0, 0);
        for each in &mut prepared {
            if let Prepared::Formula(computation, narrow) = each {
                let constants = computation.constants().chain(narrow.iter().flat_map(Narrow::constants));
                constants.for_each(|constant| taken = taken.common(Registers::without(constant.0, 1)));
                computation.emit_constants(self.a);
                computation.free = rest;
            }
        }
        self.registers = self.registers.common(taken);
        Some(prepared)
    }

    fn registers_set(&self, statement: &Stmt) -> usize {
        match statement {
            Stmt::Set { local, .. } => self.width_of(self.dtype(*local)),
            Stmt::Store { .. } | Stmt::For { .. } => 0,
        }
    }

    /// A computation whose constants leave enough of `free` for values.
    fn plan(&self, local: Local, formula: &Formula, free: Registers) -> Option<Computation> {
        let count = self.width_of(self.dtype(local));
        // Registers outside of `free`, as many as the row has; which ones does not matter to the plan.
        let outside: Vec<V> = (0..32).map(V).filter(|register| !free.has(*register)).collect();
        let place = |number: usize| outside.get(number * count..(number + 1) * count).map(<[V]>::to_vec);
        let sums = place(0)?;
        let numbers: Vec<u16> = formula.operands();
        let operands: BTreeMap<u16, Vec<V>> =
            numbers.iter().enumerate().map(|(at, &n)| Some((n, place(at + 1)?))).collect::<Option<_>>()?;
        let row = RowRegisters { sums: &sums, operands: &operands, kept: &numbers };
        Computation::plan_leaving(formula, free, &row, TEMPORARIES)
    }

    /// Over halves alone, over singles, or over bytes and singles with what makes bytes of the results.
    fn formula(&self, local: Local, (expr, arguments): (&Expr, &[Local])) -> Option<(Formula, Option<Bytes>)> {
        let is = |dtype: DType| move |&each: &Local| self.dtype(each) == dtype;
        let result = self.dtype(local);
        if arguments.iter().all(is(DType::F16)) && result == DType::F16 {
            return Some((Formula::of(Element::F16, expr)?, None));
        }
        let has_bytes = self.kernel.buffers.iter().any(|buffer| buffer.dtype.size() == 1);
        if arguments.iter().all(is(DType::F32)) && result == DType::F32 && !has_bytes {
            return match self.has_halves {
                true => Some((Formula::between_halves(expr)?, None)),
                false => Some((Formula::of(Element::F32, expr)?, None)),
            };
        }
        if arguments.iter().any(is(DType::F16)) || result == DType::F16 {
            return None;
        }
        let Requantization { formula, bytes, table, .. } = Requantization::of(expr, &[])?;
        table.is_none().then_some((formula, bytes))
    }

    pub(super) fn apply(
        &mut self,
        local: Local,
        (expr, arguments): (&Expr, &[Local]),
        prepared: Option<Prepared>,
        dies: impl Fn(Local) -> bool,
    ) -> Option<()> {
        if is_cast(expr) {
            return self.cast(local, arguments[0]);
        }
        let (expr, arguments) = &distinct(expr, arguments);
        let computation = match prepared {
            Some(Prepared::Formula(computation, narrow)) => Some((computation, narrow)),
            Some(Prepared::Cast) => return None,
            None => None,
        };
        let count = self.width_of(self.dtype(local));
        let sums = self.result_of_first(local, arguments.first().copied(), count, dies)?;
        let mut operands: BTreeMap<u16, Vec<V>> = BTreeMap::new();
        for (n, argument) in arguments.iter().enumerate().skip(1) {
            let held = if *argument == local { &sums } else { &self.locals[argument.0 as usize].as_ref()?.registers };
            operands.insert(n as u16, held.clone());
        }
        let kept: Vec<u16> = operands.keys().copied().collect();
        let row = RowRegisters { sums: &sums, operands: &operands, kept: &kept };
        let (computation, narrow) = match computation {
            Some(computation) => computation,
            None => {
                let (formula, None) = self.formula(local, (expr, arguments))? else { return None };
                let computation = Computation::plan(&formula, self.registers, &row)?;
                computation.emit_constants(self.a);
                (computation, None)
            }
        };
        computation.emit_row(self.a, &row)?;
        if let Some(narrow) = narrow {
            narrowed(self.a, &narrow, &sums[..1], sums.len() as i64);
        }
        Some(())
    }

    /// The registers of a result, which hold the first argument: its own where it dies or is the result.
    fn result_of_first(
        &mut self,
        local: Local,
        first: Option<Local>,
        count: usize,
        dies: impl Fn(Local) -> bool,
    ) -> Option<Vec<V>> {
        let Some(first) = first.filter(|&first| first != local) else { return self.hold(local, count) };
        let held = self.locals[first.0 as usize].clone()?;
        let is_new = self.locals[local.0 as usize].is_none();
        if is_new && dies(first) && held.registers.len() == count {
            self.locals[local.0 as usize] = self.locals[first.0 as usize].take();
            return Some(held.registers);
        }
        let registers = self.hold(local, count)?;
        for (place, &register) in registers.iter().enumerate() {
            move_register(self.a, register, *held.registers.get(place).or(held.registers.first())?);
        }
        Some(registers)
    }

    fn cast(&mut self, local: Local, from: Local) -> Option<()> {
        let source = self.locals[from.0 as usize].as_ref()?.registers.clone();
        let count = self.width_of(self.dtype(local));
        let registers = self.hold(local, count)?;
        match (self.dtype(from), self.dtype(local)) {
            (DType::F16, DType::F32) => {
                for (&register, half) in registers.iter().zip([Half::Lower, Half::Upper]) {
                    self.a.push(Instruction::Widen(register, source[0], half));
                }
            }
            (DType::F32, DType::F16) => {
                self.a.push(Instruction::Narrow(registers[0], source[0], Half::Lower));
                let upper = source.get(1).or(source.first())?;
                self.a.push(Instruction::Narrow(registers[0], *upper, Half::Upper));
            }
            _ => return None,
        }
        Some(())
    }
}

/// The expression with each local as one argument.
fn distinct(expr: &Expr, arguments: &[Local]) -> (Expr, Vec<Local>) {
    let mut locals: Vec<Local> = Vec::new();
    let numbers: Vec<u16> = arguments
        .iter()
        .map(|argument| match locals.iter().position(|local| local == argument) {
            Some(place) => place as u16,
            None => {
                locals.push(*argument);
                locals.len() as u16 - 1
            }
        })
        .collect();
    (expr.renumbered(|n| numbers[n as usize]), locals)
}

/// Whether an expression only converts its argument.
fn is_cast(expr: &Expr) -> bool {
    matches!(expr.node(expr.root()), ExprNode::Cast(_, from) if matches!(expr.node(from), ExprNode::Argument(0, _)))
}
