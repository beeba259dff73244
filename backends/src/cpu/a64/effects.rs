//! What an instruction reads and writes, and how long its results take on a core that issues in order.

use super::instruction::{Access, After, ByLane, Half, Instruction, Lanes, LanesOne, SP, V, X};
use super::integer::Integer;

/// What instructions share, one bit each: registers of integers, with the stack pointer as the last, registers of vectors, flags,
/// the stack, and all other memory.
pub(super) type Shared = u128;

/// How many things instructions share.
pub(super) const SHARED: usize = 67;
const FLAGS: Shared = 1 << 64;
/// Words reached through the stack pointer; an address into the stack in another register is for other words.
const STACK: Shared = 1 << 65;
/// All memory but the stack.
pub(super) const MEMORY: Shared = 1 << 66;

/// What executes an instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Integers,
    Loads,
    Stores,
    /// Multiply-adds of vectors.
    Products,
    /// Other arithmetic of vectors.
    Lanes,
}

/// What an instruction does to what others see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effects {
    pub reads: Shared,
    pub writes: Shared,
    /// The address that the instruction moves, which is known at once.
    moves: Shared,
    pub unit: Unit,
    /// Cycles until the results may be read.
    latency: u32,
}

/// Cycles of a load, of arithmetic of vectors, and of divisions and square roots (Arm Cortex-A55 Software Optimization Guide,
/// 3.10 to 3.15; Cortex-A510 takes no longer).
const LOAD: u32 = 4;
const LANES: u32 = 4;
const DIVISION: u32 = 13;
const PRODUCT_OF_INTEGERS: u32 = 3;

impl Effects {
    fn integers(reads: Shared, writes: Shared) -> Effects {
        Effects { reads, writes, moves: 0, unit: Unit::Integers, latency: 1 }
    }

    fn slow_integers(reads: Shared, writes: Shared, latency: u32) -> Effects {
        Effects { latency, ..Effects::integers(reads, writes) }
    }

    fn lanes(reads: Shared, writes: Shared) -> Effects {
        Effects { reads, writes, moves: 0, unit: Unit::Lanes, latency: LANES }
    }

    /// An access of registers at `base`, which `after` may move.
    fn access(access: Access, registers: Shared, base: X, after: After) -> Effects {
        let memory = if base == SP { STACK } else { MEMORY };
        let by = match after {
            After::By(by) => integer(by),
            After::Stay | After::Past => 0,
        };
        let moves = if after == After::Stay { 0 } else { address(base) };
        let address = address(base) | by;
        match access {
            Access::Load => {
                Effects { reads: memory | address, writes: registers | moves, moves, unit: Unit::Loads, latency: LOAD }
            }
            Access::Store => {
                Effects { reads: registers | address, writes: memory | moves, moves, unit: Unit::Stores, latency: 1 }
            }
        }
    }

    /// A load into a part of registers, which keep the rest.
    fn keeping(self, registers: Shared) -> Effects {
        Effects { reads: self.reads | registers, ..self }
    }

    /// The effects of an instruction. Jumps end blocks, and have none within them.
    pub fn of(instruction: &Instruction) -> Effects {
        match *instruction {
            Instruction::BtiC
            | Instruction::Ret
            | Instruction::Branch(_)
            | Instruction::BranchIf(..)
            | Instruction::BranchZero(..) => Effects::integers(0, 0),
            Instruction::MovZ(d, ..) | Instruction::MovN(d, ..) => Effects::integers(0, integer(d)),
            Instruction::MovK(d, ..) => Effects::integers(integer(d), integer(d)),
            Instruction::Mov(d, n) | Instruction::MovW(d, n) => Effects::integers(integer(n), integer(d)),
            Instruction::AddImmediate(d, n, ..) | Instruction::SubImmediate(d, n, ..) => {
                Effects::integers(address(n), address(d))
            }
            Instruction::SubsImmediate(d, n, _) => Effects::integers(integer(n), integer(d) | FLAGS),
            Instruction::Add(d, n, m) | Instruction::Sub(d, n, m) => {
                Effects::integers(integer(n) | integer(m), integer(d))
            }
            Instruction::MultiplyAdd(d, n, m, a) | Instruction::MultiplySubtract(d, n, m, a) => {
                Effects::slow_integers(integer(n) | integer(m) | integer(a), integer(d), PRODUCT_OF_INTEGERS)
            }
            Instruction::Divide(d, n, m) => Effects::slow_integers(integer(n) | integer(m), integer(d), DIVISION),
            Instruction::Compare(n, m) => Effects::integers(integer(n) | integer(m), FLAGS),
            Instruction::Choose(d, n, m, _) => Effects::integers(integer(n) | integer(m) | FLAGS, integer(d)),
            Instruction::Word(access, t, base, _) => Effects::access(access, integer(t), base, After::Stay),
            Instruction::Words(access, a, b, base, _) => {
                Effects::access(access, integer(a) | integer(b), base, After::Stay)
            }
            Instruction::Doubles(access, a, b, base, _) | Instruction::Vectors(access, a, b, base, _) => {
                Effects::access(access, vector(a) | vector(b), base, After::Stay)
            }
            Instruction::Vector(access, _, t, base, _) => Effects::access(access, vector(t), base, After::Stay),
            Instruction::VectorPost(access, _, t, base, _) => Effects::access(access, vector(t), base, After::Past),
            Instruction::VectorsPost(access, a, b, base, _) => {
                Effects::access(access, vector(a) | vector(b), base, After::Past)
            }
            Instruction::Multiple(access, first, count, base, after) => {
                Effects::access(access, vectors(first, count), base, after)
            }
            Instruction::Structures(access, _, first, ways, base) => {
                Effects::access(access, vectors(first, ways), base, After::Past)
            }
            Instruction::StructureLane(access, _, first, ways, _, base, after) => {
                Effects::access(access, vectors(first, ways), base, after).keeping(vectors(first, ways))
            }
            Instruction::Lane(access, _, t, _, base) => {
                Effects::access(access, vector(t), base, After::Stay).keeping(vector(t))
            }
            Instruction::LoadSpread(_, t, base, after) => Effects::access(Access::Load, vector(t), base, after),
            Instruction::Address(d, _) => Effects::integers(0, integer(d)),
            Instruction::Literal(t, _) => {
                Effects { unit: Unit::Loads, latency: LOAD, ..Effects::integers(0, vector(t)) }
            }
            Instruction::Zero(d) | Instruction::MovFloat(_, d, _) => Effects::lanes(0, vector(d)),
            Instruction::Spread(_, d, n, _)
            | Instruction::ShiftLeft(_, d, n, _)
            | Instruction::Widen(d, n, _)
            | Instruction::Narrow(d, n, Half::Lower) => Effects::lanes(vector(n), vector(d)),
            Instruction::Narrow(d, n, Half::Upper) => Effects::lanes(vector(n) | vector(d), vector(d)),
            Instruction::Lanes(op, _, d, n, m) => {
                let (kept, unit, latency) = match op {
                    Lanes::MultiplyAdd | Lanes::MultiplySubtract => (vector(d), Unit::Products, LANES),
                    Lanes::Multiply => (0, Unit::Products, LANES),
                    Lanes::Select => (vector(d), Unit::Lanes, LANES),
                    Lanes::Divide => (0, Unit::Lanes, DIVISION),
                    Lanes::Add
                    | Lanes::Subtract
                    | Lanes::Maximum
                    | Lanes::Minimum
                    | Lanes::AddPairs
                    | Lanes::MaximumPairs
                    | Lanes::MinimumPairs
                    | Lanes::Greater
                    | Lanes::GreaterEqual
                    | Lanes::Equal
                    | Lanes::AddIntegers
                    | Lanes::SubtractIntegers
                    | Lanes::And
                    | Lanes::Or
                    | Lanes::ExclusiveOr => (0, Unit::Lanes, LANES),
                };
                Effects { unit, latency, ..Effects::lanes(vector(n) | vector(m) | kept, vector(d)) }
            }
            Instruction::LanesOne(op, _, d, n) => {
                let latency = if op == LanesOne::SquareRoot { DIVISION } else { LANES };
                Effects { latency, ..Effects::lanes(vector(n), vector(d)) }
            }
            Instruction::ByLane(op, _, d, n, m, _) => {
                let kept = match op {
                    ByLane::MultiplyAdd | ByLane::MultiplySubtract => vector(d),
                    ByLane::Multiply => 0,
                };
                let reads = vector(n) | vector(m) | kept;
                Effects { unit: Unit::Products, ..Effects::lanes(reads, vector(d)) }
            }
            Instruction::Integer(integer) => Effects::of_integers(integer),
        }
    }

    fn of_integers(integer: Integer) -> Effects {
        match integer {
            Integer::Two(op, d, n, m) => {
                let kept = if op.accumulates() { vector(d) } else { 0 };
                let unit = if op.accumulates() { Unit::Products } else { Unit::Lanes };
                Effects { unit, ..Effects::lanes(vector(n) | vector(m) | kept, vector(d)) }
            }
            Integer::DotByLane(d, n, m, _) => {
                let reads = vector(d) | vector(n) | vector(m);
                Effects { unit: Unit::Products, ..Effects::lanes(reads, vector(d)) }
            }
            Integer::Product(adds, d, n, m, _) => {
                let kept = if adds { vector(d) } else { 0 };
                Effects { unit: Unit::Products, ..Effects::lanes(vector(n) | vector(m) | kept, vector(d)) }
            }
            Integer::AddProductOfHalves(d, n, m, _) => {
                let reads = vector(d) | vector(n) | vector(m);
                Effects { unit: Unit::Products, ..Effects::lanes(reads, vector(d)) }
            }
            Integer::LookUp(extends, d, first, n) => {
                let kept = if extends { vector(d) } else { 0 };
                Effects::lanes(vectors(first, 4) | vector(n) | kept, vector(d))
            }
            Integer::PairsOfHalves(true, d, n) => Effects::lanes(vector(n) | vector(d), vector(d)),
            Integer::PairsOfHalves(false, d, n) => Effects::lanes(vector(n), vector(d)),
            Integer::SpreadPost(_, t, base) => Effects::access(Access::Load, vector(t), base, After::Past),
            Integer::Zip(_, _, d, n, m) => Effects::lanes(vector(n) | vector(m), vector(d)),
            Integer::Narrow(_, d, n, Half::Upper) => Effects::lanes(vector(n) | vector(d), vector(d)),
            Integer::Narrow(_, d, n, Half::Lower)
            | Integer::Widen(_, d, n, _)
            | Integer::ShiftRight(d, n, _)
            | Integer::ShiftWordsRight(d, n, _)
            | Integer::ShiftBytesLeft(d, n, _) => Effects::lanes(vector(n), vector(d)),
            Integer::Structures(access, first, ways, base) => {
                Effects::access(access, vectors(first, ways), base, After::Past)
            }
            Integer::StructureOfBytes(access, first, ways, base) => {
                Effects::access(access, vectors(first, ways), base, After::Past).keeping(vectors(first, ways))
            }
            Integer::Part(access, _, t, _, base, after) => {
                let effects = Effects::access(access, vector(t), base, after);
                if access == Access::Load { effects.keeping(vector(t)) } else { effects }
            }
        }
    }

    /// Cycles until what an instruction writes may be read.
    pub fn latency(&self, written: usize) -> u32 {
        if self.moves >> written & 1 == 1 { 1 } else { self.latency }
    }

    /// Whether the instruction reads or writes an address.
    pub fn touches(&self, register: X) -> bool {
        (self.reads | self.writes) & address(register) != 0
    }
}

/// A register whose last number stands for zero.
fn integer(register: X) -> Shared {
    if register.0 == 31 { 0 } else { 1 << register.0 }
}

/// A register whose last number stands for the stack pointer.
fn address(register: X) -> Shared {
    1 << register.0
}

fn vector(register: V) -> Shared {
    1 << (32 + register.0 % 32)
}

fn vectors(first: V, count: u8) -> Shared {
    (0..count).map(|place| vector(V(first.0 + place))).fold(0, |all, each| all | each)
}
