//! Formulas on registers of sixteen lanes: one row of a tile, in place of its sums.

use iced_x86::code_asm::{k3, k4, k5, k6, k7};

use crate::cpu::a64::{Lanes, LanesOne};
use crate::cpu::formula::{Formula, Id, Op};

use super::writer::{Unwritten, Writer, Written, zmm};

/// Registers for values that every formula finds.
const VALUES: usize = 8;

/// Registers that a formula takes beside the sums: one for each further operand, and for values.
pub(super) fn registers(formula: &Formula) -> usize {
    formula.operands().len() + VALUES.min(2 + formula.ops.len())
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Register(usize),
    /// Behind the code.
    Literal(u32),
    /// A mask, by its number from 3.
    Mask(usize),
}

struct Emission<'a> {
    w: &'a mut Writer,
    places: Vec<Option<Place>>,
    left: Vec<usize>,
    free: Vec<usize>,
    masks: Vec<usize>,
    /// Registers that may not be given back: further operands.
    kept: Vec<usize>,
}

/// Computes a formula over the sum in register `sum`, which the result replaces. `operands` are numbers and registers.
pub(super) fn emit(
    w: &mut Writer,
    formula: &Formula,
    sum: usize,
    operands: &[(u16, usize)],
    free: Vec<usize>,
) -> Written {
    let mut left = formula.uses();
    left[formula.root] += 1;
    let kept = operands.iter().map(|&(_, register)| register).collect();
    let mut emission =
        Emission { w, places: vec![None; formula.ops.len()], left, free, masks: vec![7, 6, 5, 4, 3], kept };
    for (id, &op) in formula.ops.iter().enumerate() {
        let place = match op {
            Op::Operand(0) => Place::Register(sum),
            Op::Operand(n) => match operands.iter().find(|(number, _)| *number == n) {
                Some(&(_, register)) => Place::Register(register),
                None => return Err(Unwritten::Registers),
            },
            Op::Constant(bits) => Place::Literal(bits),
            op => emission.compute(op)?,
        };
        emission.places[id] = Some(place);
    }
    match emission.places[formula.root] {
        Some(Place::Register(register)) if register == sum => Ok(()),
        Some(Place::Register(register)) => Ok(w.a.vmovaps(zmm(sum), zmm(register))?),
        Some(Place::Literal(bits)) => {
            let literal = w.one_literal(bits);
            Ok(w.a.vbroadcastss(zmm(sum), literal)?)
        }
        Some(Place::Mask(_)) | None => Err(Unwritten::Registers),
    }
}

impl Emission<'_> {
    /// The register of a value, loaded where it is a literal; whether it is to be given back behind the instruction.
    fn read(&mut self, id: Id) -> Written<(usize, bool)> {
        match self.places[id] {
            Some(Place::Register(register)) => Ok((register, false)),
            Some(Place::Literal(bits)) => {
                let register = self.free.pop().ok_or(Unwritten::Registers)?;
                let literal = self.w.one_literal(bits);
                self.w.a.vbroadcastss(zmm(register), literal)?;
                Ok((register, true))
            }
            Some(Place::Mask(_)) | None => Err(Unwritten::Registers),
        }
    }

    /// Counts the uses of an instruction's operands, and gives back the registers of those that die.
    fn used(&mut self, op: Op, temporaries: &[(usize, bool)]) {
        for id in op.operands() {
            self.left[id] -= 1;
            if self.left[id] > 0 {
                continue;
            }
            match self.places[id] {
                Some(Place::Register(register)) if !self.kept.contains(&register) => self.free.push(register),
                Some(Place::Mask(mask)) => self.masks.push(mask),
                _ => {}
            }
        }
        self.free.extend(temporaries.iter().filter(|(_, is_temporary)| *is_temporary).map(|(register, _)| *register));
        self.free.sort_unstable();
        self.free.dedup();
    }

    fn take(&mut self) -> Written<usize> {
        self.free.pop().ok_or(Unwritten::Registers)
    }

    fn compute(&mut self, op: Op) -> Written<Place> {
        match op {
            Op::Operand(_) | Op::Constant(_) => Err(Unwritten::Registers),
            Op::One(one, a) => {
                let from = self.read(a)?;
                let d = self.take()?;
                self.one(one, d, from.0)?;
                self.used(op, &[from]);
                Ok(Place::Register(d))
            }
            Op::Shift(a, by) => {
                let from = self.read(a)?;
                let d = self.take()?;
                self.w.a.vpslld(zmm(d), zmm(from.0), i32::from(by))?;
                self.used(op, &[from]);
                Ok(Place::Register(d))
            }
            Op::Two(lanes, a, b) => self.two(op, lanes, a, b),
            Op::Three(lanes, sum, a, b) => self.three(op, lanes, [sum, a, b]),
            Op::Choose(mask, a, b) => {
                let Some(Place::Mask(mask)) = self.places[mask] else { return Err(Unwritten::Registers) };
                let (a, b) = (self.read(a)?, self.read(b)?);
                let d = self.take()?;
                let (to, otherwise, chosen) = (zmm(d), zmm(b.0), zmm(a.0));
                let a64 = &mut self.w.a;
                match mask {
                    3 => a64.vblendmps(to.k3(), otherwise, chosen)?,
                    4 => a64.vblendmps(to.k4(), otherwise, chosen)?,
                    5 => a64.vblendmps(to.k5(), otherwise, chosen)?,
                    6 => a64.vblendmps(to.k6(), otherwise, chosen)?,
                    _ => a64.vblendmps(to.k7(), otherwise, chosen)?,
                }
                self.used(op, &[a, b]);
                Ok(Place::Register(d))
            }
        }
    }

    fn one(&mut self, one: LanesOne, d: usize, from: usize) -> Written {
        let (d, from) = (zmm(d), zmm(from));
        match one {
            LanesOne::Absolute => {
                let mask = self.w.spread_literal(0x7fff_ffff);
                Ok(self.w.a.vpandd(d, from, mask)?)
            }
            LanesOne::Negate => {
                let sign = self.w.spread_literal(0x8000_0000);
                Ok(self.w.a.vpxord(d, from, sign)?)
            }
            LanesOne::SquareRoot => Ok(self.w.a.vsqrtps(d, from)?),
            LanesOne::RoundNearest => Ok(self.w.a.vrndscaleps(d, from, 8)?),
            LanesOne::RoundDown => Ok(self.w.a.vrndscaleps(d, from, 9)?),
            LanesOne::RoundUp => Ok(self.w.a.vrndscaleps(d, from, 10)?),
            LanesOne::RoundToZero => Ok(self.w.a.vrndscaleps(d, from, 11)?),
            LanesOne::ToInteger => Ok(self.w.a.vcvtps2dq(d, from)?),
            LanesOne::FromInteger => Ok(self.w.a.vcvtdq2ps(d, from)?),
        }
    }

    fn two(&mut self, op: Op, lanes: Lanes, a: Id, b: Id) -> Written<Place> {
        if let Lanes::Greater | Lanes::GreaterEqual | Lanes::Equal = lanes {
            return self.compare(op, lanes, a, b);
        }
        // Of a number and NaN, `vmaxps` and `vminps` give the second: the value, where the first is a constant.
        let takes_second = matches!(lanes, Lanes::Maximum | Lanes::Minimum);
        let is_literal = |id: Id| matches!(self.places[id], Some(Place::Literal(_)));
        let (a, b) = match lanes {
            Lanes::Maximum | Lanes::Minimum if is_literal(b) => (b, a),
            Lanes::Add | Lanes::Multiply if is_literal(a) => (b, a),
            _ => (a, b),
        };
        let first = self.read(a)?;
        if let Some(Place::Literal(bits)) = self.places[b].filter(|_| !takes_second) {
            let literal = self.w.spread_literal(bits);
            let d = self.take()?;
            let (to, first_register) = (zmm(d), zmm(first.0));
            match lanes {
                Lanes::Add => self.w.a.vaddps(to, first_register, literal)?,
                Lanes::Subtract => self.w.a.vsubps(to, first_register, literal)?,
                Lanes::Multiply => self.w.a.vmulps(to, first_register, literal)?,
                Lanes::Divide => self.w.a.vdivps(to, first_register, literal)?,
                Lanes::AddIntegers => self.w.a.vpaddd(to, first_register, literal)?,
                _ => return Err(Unwritten::Registers),
            }
            self.used(op, &[first]);
            return Ok(Place::Register(d));
        }
        let second = if a == b { (first.0, false) } else { self.read(b)? };
        let d = self.take()?;
        let (to, x, y) = (zmm(d), zmm(first.0), zmm(second.0));
        match lanes {
            Lanes::Add => self.w.a.vaddps(to, x, y)?,
            Lanes::Subtract => self.w.a.vsubps(to, x, y)?,
            Lanes::Multiply => self.w.a.vmulps(to, x, y)?,
            Lanes::Divide => self.w.a.vdivps(to, x, y)?,
            Lanes::Maximum => self.w.a.vmaxps(to, x, y)?,
            Lanes::Minimum => self.w.a.vminps(to, x, y)?,
            Lanes::AddIntegers => self.w.a.vpaddd(to, x, y)?,
            Lanes::SubtractIntegers => self.w.a.vpsubd(to, x, y)?,
            _ => return Err(Unwritten::Registers),
        }
        self.used(op, &[first, second]);
        Ok(Place::Register(d))
    }

    fn compare(&mut self, op: Op, lanes: Lanes, a: Id, b: Id) -> Written<Place> {
        let (first, second) = (self.read(a)?, self.read(b)?);
        let mask = self.masks.pop().ok_or(Unwritten::Registers)?;
        // Ordered comparisons without signals: equal, greater or equal, greater.
        let predicate = match lanes {
            Lanes::Equal => 0x00,
            Lanes::GreaterEqual => 0x1d,
            _ => 0x1e,
        };
        let to = [k3, k4, k5, k6, k7][mask - 3];
        self.w.a.vcmpps(to, zmm(first.0), zmm(second.0), predicate)?;
        self.used(op, &[first, second]);
        Ok(Place::Mask(mask))
    }

    fn three(&mut self, op: Op, lanes: Lanes, [sum, a, b]: [Id; 3]) -> Written<Place> {
        let d = self.take()?;
        match self.places[sum] {
            Some(Place::Register(register)) => self.w.a.vmovaps(zmm(d), zmm(register))?,
            Some(Place::Literal(bits)) => {
                let literal = self.w.one_literal(bits);
                self.w.a.vbroadcastss(zmm(d), literal)?;
            }
            Some(Place::Mask(_)) | None => return Err(Unwritten::Registers),
        }
        let first = self.read(a)?;
        let adds = lanes == Lanes::MultiplyAdd;
        if let Some(Place::Literal(bits)) = self.places[b] {
            let literal = self.w.spread_literal(bits);
            match adds {
                true => self.w.a.vfmadd231ps(zmm(d), zmm(first.0), literal)?,
                false => self.w.a.vfnmadd231ps(zmm(d), zmm(first.0), literal)?,
            }
            self.used(op, &[first]);
            return Ok(Place::Register(d));
        }
        let second = if a == b { (first.0, false) } else { self.read(b)? };
        match adds {
            true => self.w.a.vfmadd231ps(zmm(d), zmm(first.0), zmm(second.0))?,
            false => self.w.a.vfnmadd231ps(zmm(d), zmm(first.0), zmm(second.0))?,
        }
        self.used(op, &[first, second]);
        Ok(Place::Register(d))
    }
}
