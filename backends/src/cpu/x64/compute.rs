//! Formulas on vector registers: one row of a tile, in place of its sums.

use crate::cpu::a64::{Lanes, LanesOne};
use crate::cpu::formula::{Formula, Id, Op};

use super::vector::{One, Source, Two, Width};
use super::writer::{Unwritten, Writer, Written};

/// Registers that a formula takes beside the sum and its operands; `None` where it cannot be written.
pub(super) fn registers(width: Width, formula: &Formula) -> Option<usize> {
    let operands: Vec<(u16, usize)> = formula.operands().into_iter().map(|number| (number, 1)).collect();
    let fits = |count: &usize| {
        let free = (2..2 + count).collect();
        Writer::new(width, 1).and_then(|mut w| emit(&mut w, formula, 0, &operands, free)).is_ok()
    };
    (0..=width.registers() - 2).find(fits)
}

/// Where a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Register(usize),
    /// Behind the code.
    Literal(u32),
    /// A mask of sixteen lanes, by its number from 3. Those of eight lanes are vector registers.
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
    let masks = match w.width {
        Width::Eight => Vec::new(),
        Width::EightMasked | Width::Sixteen => vec![7, 6, 5, 4, 3],
    };
    let mut emission = Emission { w, places: vec![None; formula.ops.len()], left, free, masks, kept };
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
        Some(Place::Register(register)) => w.copy(sum, register),
        Some(Place::Literal(bits)) => w.fill(sum, bits),
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
                self.w.fill(register, bits)?;
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
                self.w.one(One::ShiftLeft(u32::from(by)), d, from.0)?;
                self.used(op, &[from]);
                Ok(Place::Register(d))
            }
            Op::Two(lanes, a, b) => self.two(op, lanes, a, b),
            Op::Three(lanes, sum, a, b) => self.three(op, lanes, [sum, a, b]),
            Op::Choose(mask, a, b) => {
                let (Some(Place::Mask(mask)) | Some(Place::Register(mask))) = self.places[mask] else {
                    return Err(Unwritten::Registers);
                };
                let (a, b) = (self.read(a)?, self.read(b)?);
                let d = self.take()?;
                self.w.choose(d, mask, a.0, b.0)?;
                self.used(op, &[a, b]);
                Ok(Place::Register(d))
            }
        }
    }

    fn one(&mut self, one: LanesOne, d: usize, from: usize) -> Written {
        let directed = |direction: u32| One::Round(8 | direction);
        let op = match one {
            LanesOne::Absolute => {
                let mask = self.w.constant_lanes(0x7fff_ffff);
                return self.w.two(Two::And, d, from, mask);
            }
            LanesOne::Negate => {
                let sign = self.w.constant_lanes(0x8000_0000);
                return self.w.two(Two::ExclusiveOr, d, from, sign);
            }
            LanesOne::SquareRoot => One::SquareRoot,
            LanesOne::RoundNearest => directed(0),
            LanesOne::RoundDown => directed(1),
            LanesOne::RoundUp => directed(2),
            LanesOne::RoundToZero => directed(3),
            LanesOne::ToInteger => One::ToInteger,
            LanesOne::FromInteger => One::FromInteger,
        };
        self.w.one(op, d, from)
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
        let operation = operation(lanes).ok_or(Unwritten::Registers)?;
        let first = self.read(a)?;
        if let Some(Place::Literal(bits)) = self.places[b].filter(|_| !takes_second) {
            let literal = self.w.constant_lanes(bits);
            let d = self.take()?;
            self.w.two(operation, d, first.0, literal)?;
            self.used(op, &[first]);
            return Ok(Place::Register(d));
        }
        let second = if a == b { (first.0, false) } else { self.read(b)? };
        let d = self.take()?;
        self.w.two(operation, d, first.0, Source::Register(second.0))?;
        self.used(op, &[first, second]);
        Ok(Place::Register(d))
    }

    fn compare(&mut self, op: Op, lanes: Lanes, a: Id, b: Id) -> Written<Place> {
        let (first, second) = (self.read(a)?, self.read(b)?);
        let place = match self.w.width {
            Width::Eight => Place::Register(self.take()?),
            Width::EightMasked | Width::Sixteen => Place::Mask(self.masks.pop().ok_or(Unwritten::Registers)?),
        };
        // Ordered comparisons without signals: equal, greater or equal, greater.
        let predicate = match lanes {
            Lanes::Equal => 0x00u32,
            Lanes::GreaterEqual => 0x1d,
            _ => 0x1e,
        };
        if let Place::Register(mask) | Place::Mask(mask) = place {
            self.w.compare(predicate, mask, first.0, second.0)?;
        }
        self.used(op, &[first, second]);
        Ok(place)
    }

    fn three(&mut self, op: Op, lanes: Lanes, [sum, a, b]: [Id; 3]) -> Written<Place> {
        let d = self.take()?;
        match self.places[sum] {
            Some(Place::Register(register)) => self.w.copy(d, register)?,
            Some(Place::Literal(bits)) => self.w.fill(d, bits)?,
            Some(Place::Mask(_)) | None => return Err(Unwritten::Registers),
        }
        let first = self.read(a)?;
        let operation = operation(lanes).ok_or(Unwritten::Registers)?;
        if let Some(Place::Literal(bits)) = self.places[b] {
            let literal = self.w.constant_lanes(bits);
            self.w.two(operation, d, first.0, literal)?;
            self.used(op, &[first]);
            return Ok(Place::Register(d));
        }
        let second = if a == b { (first.0, false) } else { self.read(b)? };
        self.w.two(operation, d, first.0, Source::Register(second.0))?;
        self.used(op, &[first, second]);
        Ok(Place::Register(d))
    }
}

/// The instruction of an operation, where it is not a comparison.
fn operation(lanes: Lanes) -> Option<Two> {
    Some(match lanes {
        Lanes::Add => Two::Add,
        Lanes::Subtract => Two::Subtract,
        Lanes::Multiply => Two::Multiply,
        Lanes::Divide => Two::Divide,
        Lanes::Maximum => Two::Maximum,
        Lanes::Minimum => Two::Minimum,
        Lanes::AddIntegers => Two::AddIntegers,
        Lanes::SubtractIntegers => Two::SubtractIntegers,
        Lanes::MultiplyAdd => Two::MultiplyAdd,
        Lanes::MultiplySubtract => Two::MultiplySubtract,
        _ => return None,
    })
}
