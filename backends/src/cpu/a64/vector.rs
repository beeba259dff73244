//! Formulas on registers: each row of a tile gets a formula's instructions, in place of the sums where that can be.

use std::collections::BTreeMap;

use half::f16;

use super::assembler::Assembler;
use super::instruction::{Arrangement, ByLane, Float, Instruction, Lanes, V};
use crate::cpu::formula::{Formula, Id, Op};

/// A set of vector registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Registers(pub u32);

impl Registers {
    /// All but `count` from `first` on.
    pub fn without(first: u8, count: u8) -> Self {
        let run = ((1u64 << count) - 1) << first;
        Registers(!run as u32)
    }

    /// The last one that may be a factor by lanes.
    fn take_last_factor(&mut self, of: Arrangement) -> Option<V> {
        let factors = match of {
            Arrangement::S4 => u32::MAX,
            Arrangement::H8 => 0xffff,
        };
        let register = Registers(self.0 & factors).take_last()?;
        self.0 &= !(1 << register.0);
        Some(register)
    }

    fn take_last(&mut self) -> Option<V> {
        let place = 31u32.checked_sub(self.0.leading_zeros())?;
        self.0 &= !(1 << place);
        Some(V(place as u8))
    }

    pub fn take_first(&mut self) -> Option<V> {
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

    /// Those of both sets.
    pub fn common(self, other: Registers) -> Registers {
        Registers(self.0 & other.0)
    }

    pub fn give(&mut self, register: V) {
        self.0 |= 1 << register.0;
    }

    pub fn has(self, register: V) -> bool {
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
    pub free: Registers,
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
        Self::plan_leaving(formula, free, row, 0)
    }

    /// The same, of the plans that leave at least `least` registers for values.
    pub fn plan_leaving(formula: &Formula, free: Registers, row: &RowRegisters<'_>, least: u32) -> Option<Computation> {
        let uses = formula.constant_uses();
        let mut best: Option<(usize, Computation)> = None;
        for together in [row.sums.len(), 1] {
            for lanes in [true, false] {
                for kept in (0..=uses.len()).rev() {
                    let Some((constants, left)) = place_constants(formula, &uses, free, kept, lanes) else { continue };
                    let plan = Computation { formula: formula.clone(), constants, free: left, together };
                    let mut trial = Assembler::default();
                    if left.0.count_ones() < least || plan.emit_row(&mut trial, row).is_none() {
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

    /// Registers of the constants that stay.
    pub fn constants(&self) -> impl Iterator<Item = V> + '_ {
        self.constants.whole.values().copied().chain(self.constants.lane.values().map(|&(register, _)| register))
    }

    /// Loads the constants that stay.
    pub fn emit_constants(&self, assembler: &mut Assembler) {
        for (&id, &register) in &self.constants.whole {
            load_constant(assembler, self.formula.of, register, self.bits(id));
        }
        let mut packed: BTreeMap<V, [u32; 4]> = BTreeMap::new();
        for (&id, &(register, lane)) in &self.constants.lane {
            let lanes = packed.entry(register).or_default();
            match self.formula.of {
                Arrangement::S4 => lanes[lane as usize] = self.bits(id),
                Arrangement::H8 => lanes[lane as usize / 2] |= (self.bits(id) & 0xffff) << (16 * (lane % 2)),
            }
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
                let register = free.take_last_factor(formula.of)?;
                let lanes = (128 / formula.of.bits()) as u8;
                slots = (0..lanes).rev().map(|lane| (register, lane)).collect();
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

fn load_constant(assembler: &mut Assembler, of: Arrangement, register: V, bits: u32) {
    let value = match of {
        Arrangement::S4 => f32::from_bits(bits),
        Arrangement::H8 => f16::from_bits(bits as u16).to_f32(),
    };
    match Float::of(value) {
        _ if bits == 0 => assembler.push(Instruction::Zero(register)),
        Some(float) => assembler.push(Instruction::MovFloat(of, register, float)),
        None => assembler.literal(register, [bits; 4]),
    }
}

/// A register with the bits of another.
pub(super) fn move_register(assembler: &mut Assembler, to: V, from: V) {
    assembler.push(Instruction::Lanes(Lanes::Or, Arrangement::S4, to, from, from));
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
    fn of(&self) -> Arrangement {
        self.plan.formula.of
    }

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
                Some(register) => move_register(self.assembler, own, register),
                None => load_constant(self.assembler, self.of(), own, self.plan.bits(root)),
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
            load_constant(self.assembler, self.of(), register, bits);
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
                    Op::One(one, _) => Instruction::LanesOne(one, self.of(), d, n),
                    Op::Shift(_, by) => Instruction::ShiftLeft(self.of(), d, n, by),
                    _ => return None,
                });
                self.release(&[(a, n, temporary)], op, row, d);
                Some(d)
            }
            Op::Two(lanes, a, b) => self.two(op, lanes, (a, b), item, own, row),
            Op::Three(lanes, sum, a, b) => self.three(op, lanes, [sum, a, b], item, row),
            Op::Choose(mask, a, b) => {
                let d = self.overwritten(mask, op, item, row)?;
                let (x, x_temporary) = self.read(a, item)?;
                let (y, y_temporary) = self.read(b, item)?;
                self.assembler.push(Instruction::Lanes(Lanes::Select, self.of(), d, x, y));
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
            self.assembler.push(Instruction::ByLane(ByLane::Multiply, self.of(), d, n, factor, lane));
            self.release(&[(other, n, temporary)], op, row, d);
            return Some(d);
        }
        let (n, n_temporary) = self.read(a, item)?;
        let (m, m_temporary) = if a == b { (n, false) } else { self.read(b, item)? };
        let d = self.destination(&[(a, n), (b, m)], op, row, own)?;
        self.assembler.push(Instruction::Lanes(lanes, self.of(), d, n, m));
        self.release(&[(a, n, n_temporary), (b, m, m_temporary)], op, row, d);
        Some(d)
    }

    fn three(&mut self, op: Op, lanes: Lanes, [sum, a, b]: [Id; 3], item: usize, row: &RowRegisters<'_>) -> Option<V> {
        let d = self.overwritten(sum, op, item, row)?;
        let (n, n_temporary) = self.read(a, item)?;
        if let Some(&(factor, lane)) = self.plan.constants.lane.get(&b) {
            let by_lane = if lanes == Lanes::MultiplyAdd { ByLane::MultiplyAdd } else { ByLane::MultiplySubtract };
            self.assembler.push(Instruction::ByLane(by_lane, self.of(), d, n, factor, lane));
            self.release(&[(a, n, n_temporary)], op, row, d);
            return Some(d);
        }
        let (m, m_temporary) = if a == b { (n, false) } else { self.read(b, item)? };
        self.assembler.push(Instruction::Lanes(lanes, self.of(), d, n, m));
        self.release(&[(a, n, n_temporary), (b, m, m_temporary)], op, row, d);
        Some(d)
    }

    /// A register that holds a value and may be overwritten by `op`.
    fn overwritten(&mut self, id: Id, op: Op, item: usize, row: &RowRegisters<'_>) -> Option<V> {
        if let Op::Constant(bits) = self.plan.formula.ops[id] {
            let register = self.free.take_first()?;
            load_constant(self.assembler, self.of(), register, bits);
            return Some(register);
        }
        let held = self.values[id][item]?;
        if self.dies(id, op, row) && op.operands().iter().filter(|&&operand| operand == id).count() == 1 {
            return Some(held);
        }
        let register = self.free.take_first()?;
        move_register(self.assembler, register, held);
        Some(register)
    }
}
