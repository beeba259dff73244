//! Loop nests over halves or bytes: element-wise work, reductions and what is between them, eight lanes at once. Halves are
//! computed with as they are where an expression reads and writes nothing else, and as two registers of f32 otherwise; bytes that
//! are read become f32, and results become bytes as those of contractions do. Of f32 alone, element-wise work.

mod bytes;
mod compute;
mod held;

use edgecc_ir::{BinaryOp, DType};

use crate::contraction::{Element, Footprint};
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::isa::CpuTarget;
use crate::kernel::linear::Linear;
use crate::kernel::{Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};

use super::assembler::Assembler;
use super::instruction::{Access, After, Arrangement, Cond, Instruction, Lanes, V, Width, X};
use super::units::{self, for_each_unit};
use super::vector::{Registers, move_register};
use compute::Prepared;
use held::Held;

const BASES: X = X(0);
const SCRATCH: X = X(1);
/// The unit at work, which is the value of variable 0, and a scratch register beside it.
const UNIT: X = X(2);
const END: X = X(3);
const FREE: [X; 21] = [
    X(4),
    X(5),
    X(6),
    X(7),
    X(8),
    X(9),
    X(10),
    X(11),
    X(12),
    X(13),
    X(14),
    X(15),
    X(19),
    X(20),
    X(21),
    X(22),
    X(23),
    X(24),
    X(25),
    X(26),
    X(27),
];
/// Lanes that run side by side.
const LANES: i64 = 8;

/// Emits a loop nest over halves and singles, or bytes and singles, with affine positions, where every loop has constant bounds
/// and every expression a formula; over singles alone, one whose innermost loops all run in lanes.
pub fn emit_nest(target: &CpuTarget, kernel: &LoopKernel, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    let has = |narrow: &[DType]| kernel.buffers.iter().any(|buffer| narrow.contains(&buffer.dtype));
    let (halves, bytes) = ([DType::F16].as_slice(), [DType::I8, DType::U8].as_slice());
    let has_halves = has(halves);
    let narrow = match (has_halves, has(bytes)) {
        (true, false) if target.encodes_a64_of(Element::F16) => halves,
        (false, true) if bytes::are_known(kernel) => bytes,
        (false, false) if is_element_wise(&kernel.body) => &[],
        _ => return None,
    };
    let is_known = |dtype: DType| dtype == DType::F32 || narrow.contains(&dtype);
    let mut types = kernel.buffers.iter().map(|buffer| buffer.dtype).chain(kernel.locals.iter().copied());
    if !types.all(is_known) {
        return None;
    }
    let mut assembler = Assembler::new(target, units::SLOTS);
    for_each_unit(
        &mut assembler,
        [UNIT, END],
        |_| {},
        |assembler| {
            let mut vars = vec![None; kernel.vars as usize];
            vars[0] = Some(UNIT);
            let mut nest = Nest {
                kernel,
                has_halves,
                a: assembler,
                vars,
                free: FREE.to_vec(),
                registers: Registers::without(0, 0),
                locals: vec![None; kernel.locals.len()],
                lanes: None,
            };
            nest.body(&kernel.body, &mut None)
        },
    )?;
    Some(EmittedKernel::new(assembler.finish(target.listing), kernel.range as i64, footprints))
}

/// A nest while it is written.
struct Nest<'a> {
    kernel: &'a LoopKernel,
    has_halves: bool,
    a: &'a mut Assembler,
    /// The registers of the loop variables at work.
    vars: Vec<Option<X>>,
    free: Vec<X>,
    registers: Registers,
    locals: Vec<Option<Held>>,
    /// The loop that runs in lanes.
    lanes: Option<Var>,
}

/// Where the accesses of an innermost loop are, in the order of its statements.
#[derive(Clone)]
struct Pointers {
    /// The address, and how far it moves behind the access.
    places: Vec<(X, Step)>,
    next: usize,
}

#[derive(Clone, Copy)]
enum Step {
    Bytes(i64),
    Register(X),
}

impl Nest<'_> {
    /// Statements in order. A local that is first set in a body lives no longer than the body.
    fn body(&mut self, statements: &[Stmt], inner: &mut Option<(Pointers, Vec<Prepared>)>) -> Option<()> {
        let before: Vec<bool> = self.locals.iter().map(Option::is_some).collect();
        for (place, statement) in statements.iter().enumerate() {
            let later = &statements[place + 1..];
            match statement {
                Stmt::Set { local, value: Value::Load { buffer, index } } => {
                    self.load(*local, *buffer, index, inner)?
                }
                Stmt::Set { local, value: Value::Apply { expr, arguments } } => {
                    let dies = |other: Local| !before[other.0 as usize] && !later.iter().any(|s| reads(s, other));
                    let prepared = inner.as_mut().map(|(_, prepared)| prepared.remove(0));
                    self.apply(*local, (expr, arguments), prepared, dies)?;
                }
                Stmt::Set { value: Value::Index(_), .. } => return None,
                Stmt::Store { buffer, index, local } => self.store(*buffer, index, *local, inner)?,
                Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(extent), mode, body } => {
                    self.for_loop(*var, *extent, mode, body)?;
                }
                Stmt::For { .. } => return None,
            }
            for (number, &lived) in before.iter().enumerate() {
                let local = Local(number as u16);
                if !lived && !later.iter().any(|statement| reads(statement, local) || sets(statement, local)) {
                    self.release(local);
                }
            }
        }
        Some(())
    }

    fn release(&mut self, local: Local) {
        if let Some(held) = self.locals[local.0 as usize].take() {
            held.registers.into_iter().for_each(|register| self.registers.give(register));
        }
    }

    fn for_loop(&mut self, var: Var, extent: i64, mode: &LoopMode, body: &[Stmt]) -> Option<()> {
        let whole = extent / LANES;
        let folds: &[Fold] = match mode {
            LoopMode::Serial => return self.counted(var, (0, extent, 1), body),
            LoopMode::Lanes => &[],
            LoopMode::Fold(folds) => folds,
        };
        if whole > 0 {
            let before = folds.iter().map(|fold| self.start_fold(fold)).collect::<Option<Vec<Held>>>()?;
            self.lanes = Some(var);
            self.counted(var, (0, whole, LANES), body)?;
            self.lanes = None;
            for (fold, before) in folds.iter().zip(before) {
                self.end_fold(fold, before)?;
            }
        }
        self.counted(var, (whole * LANES, extent - whole * LANES, 1), body)
    }

    /// Partial results for each lane in place of the accumulator, which is returned.
    fn start_fold(&mut self, fold: &Fold) -> Option<Held> {
        let identity = match fold.op {
            BinaryOp::Add => 0.0,
            BinaryOp::Max => f32::NEG_INFINITY,
            BinaryOp::Min => f32::INFINITY,
            _ => return None,
        };
        let before = self.locals[fold.local.0 as usize].take()?;
        if self.dtype(fold.local) != DType::F32 {
            return None;
        }
        let partial = self.hold(fold.local, 2)?;
        for &register in &partial {
            if identity == 0.0 {
                self.a.push(Instruction::Zero(register))
            } else {
                self.a.literal(register, [identity.to_bits(); 4])
            }
        }
        Some(before)
    }

    /// Joins the partial results, and them with what was before.
    fn end_fold(&mut self, fold: &Fold, before: Held) -> Option<()> {
        let (pairs, join) = match fold.op {
            BinaryOp::Add => (Lanes::AddPairs, Lanes::Add),
            BinaryOp::Max => (Lanes::MaximumPairs, Lanes::Maximum),
            BinaryOp::Min => (Lanes::MinimumPairs, Lanes::Minimum),
            _ => return None,
        };
        let partial = self.locals[fold.local.0 as usize].take()?.registers;
        let (&[low, high], &[result]) = (partial.as_slice(), before.registers.as_slice()) else { return None };
        let of = Arrangement::S4;
        self.a.push(Instruction::Lanes(pairs, of, low, low, high));
        self.a.push(Instruction::Lanes(pairs, of, low, low, low));
        self.a.push(Instruction::Lanes(pairs, of, low, low, low));
        self.a.push(Instruction::Lanes(join, of, result, result, low));
        [low, high].into_iter().for_each(|register| self.registers.give(register));
        self.locals[fold.local.0 as usize] = Some(before);
        Some(())
    }

    /// `count` iterations from `start` on, `step` apart.
    fn counted(&mut self, var: Var, (start, count, step): (i64, i64, i64), body: &[Stmt]) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        let is_innermost = !body.iter().any(|statement| matches!(statement, Stmt::For { .. }));
        let left = self.free.pop()?;
        if !is_innermost {
            let value = self.free.pop()?;
            self.a.constant(value, start);
            self.a.constant(left, count);
            self.vars[var.0 as usize] = Some(value);
            let head = self.a.here();
            self.body(body, &mut None)?;
            self.a.add(value, value, step, SCRATCH);
            self.repeat(left, head);
            self.vars[var.0 as usize] = None;
            self.free.extend([value, left]);
            return Some(());
        }
        let kept_free = self.free.clone();
        let kept_registers = self.registers;
        let pointers = self.point(var, (start, step), body)?;
        let prepared = self.prepare(body)?;
        let constants = self.registers;
        // Two iterations a turn where that comes out even.
        let copies = if count % 2 == 0 { 2 } else { 1 };
        self.a.constant(left, count / copies);
        let head = self.a.here();
        for _ in 0..copies {
            self.body(body, &mut Some((pointers.clone(), prepared.clone())))?;
        }
        self.repeat(left, head);
        debug_assert_eq!(self.registers, constants);
        self.registers = kept_registers;
        self.free = kept_free;
        self.free.push(left);
        Some(())
    }

    fn repeat(&mut self, left: X, head: super::assembler::Label) {
        self.a.push(Instruction::SubsImmediate(left, left, 1));
        self.a.push(Instruction::BranchIf(Cond::NotEqual, head));
    }

    /// The addresses of an innermost loop's accesses in its first iteration.
    fn point(&mut self, var: Var, (start, step): (i64, i64), body: &[Stmt]) -> Option<Pointers> {
        let mut places = Vec::new();
        for statement in body {
            let (buffer, index) = match statement {
                Stmt::Set { value: Value::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
                    (*buffer, index)
                }
                Stmt::Set { .. } | Stmt::For { .. } => continue,
            };
            let linear = Linear::of(index);
            let factor = linear.factor(var)?;
            let address = self.free.pop()?;
            let first = linear.without(var);
            self.address(address, buffer, &Linear { constant: first.constant + factor * start, ..first })?;
            let bytes = factor * step * self.size(buffer);
            let is_near = (0..256).contains(&bytes);
            let moved = if is_near {
                Step::Bytes(bytes)
            } else {
                let register = self.free.pop()?;
                self.a.constant(register, bytes);
                Step::Register(register)
            };
            places.push((address, moved));
        }
        Some(Pointers { places, next: 0 })
    }

    /// The address of a position in a buffer.
    fn address(&mut self, address: X, buffer: usize, position: &Linear) -> Option<()> {
        let size = self.size(buffer);
        self.a.push(Instruction::Word(Access::Load, address, BASES, 8 * buffer as u16));
        self.a.add(address, address, position.constant * size, SCRATCH);
        for (atom, factor) in &position.terms {
            let Index::Var(var) = atom else { return None };
            let value = self.vars[var.0 as usize]?;
            self.a.add_product(address, value, factor * size, address, SCRATCH);
        }
        Some(())
    }

    fn size(&self, buffer: usize) -> i64 {
        self.kernel.buffers[buffer].dtype.size() as i64
    }

    fn dtype(&self, local: Local) -> DType {
        self.kernel.locals[local.0 as usize]
    }

    /// The address of an access, how it moves behind it, and whether it goes along the lanes.
    fn place(
        &mut self,
        buffer: usize,
        index: &Index,
        inner: &mut Option<(Pointers, Vec<Prepared>)>,
    ) -> Option<(X, Step, bool)> {
        let linear = Linear::of(index);
        let is_along = match self.lanes {
            Some(var) => match linear.factor(var)? {
                0 => false,
                1 => true,
                _ => return None,
            },
            None => false,
        };
        if let Some((pointers, _)) = inner {
            let (address, step) = *pointers.places.get(pointers.next)?;
            pointers.next += 1;
            return Some((address, step, is_along));
        }
        // Outside of innermost loops the address is made for each access, in a register that nothing holds.
        let address = *self.free.last()?;
        self.address(address, buffer, &linear)?;
        Some((address, Step::Bytes(0), is_along))
    }

    fn load(
        &mut self,
        local: Local,
        buffer: usize,
        index: &Index,
        inner: &mut Option<(Pointers, Vec<Prepared>)>,
    ) -> Option<()> {
        let (address, step, is_along) = self.place(buffer, index, inner)?;
        let dtype = self.dtype(local);
        let count = self.width_of(dtype);
        let registers = self.hold(local, count)?;
        if dtype.size() == 1 {
            self.load_bytes(dtype, &registers, (address, step), is_along);
            return Some(());
        }
        let of = if dtype == DType::F16 { Arrangement::H8 } else { Arrangement::S4 };
        if is_along {
            self.access(Access::Load, &registers, address, step);
            return Some(());
        }
        let after = match step {
            Step::Bytes(0) => After::Stay,
            Step::Bytes(bytes) if bytes == i64::from(of.bits() / 8) => After::Past,
            Step::Bytes(_) => After::Stay,
            Step::Register(by) => After::By(by),
        };
        self.a.push(Instruction::LoadSpread(of, registers[0], address, after));
        if let (Step::Bytes(bytes), After::Stay) = (step, after) {
            self.a.add(address, address, bytes, SCRATCH);
        }
        registers[1..].iter().for_each(|&register| move_register(self.a, register, registers[0]));
        Some(())
    }

    fn store(
        &mut self,
        buffer: usize,
        index: &Index,
        local: Local,
        inner: &mut Option<(Pointers, Vec<Prepared>)>,
    ) -> Option<()> {
        let (address, step, is_along) = self.place(buffer, index, inner)?;
        let registers = self.locals[local.0 as usize].as_ref()?.registers.clone();
        if self.lanes.is_some() != is_along {
            return None;
        }
        if is_along {
            if registers.len() != self.width_of(self.dtype(local)) {
                return None;
            }
            match self.dtype(local).size() {
                1 => self.part(Access::Store, Width::D, registers[0], (address, step)),
                _ => self.access(Access::Store, &registers, address, step),
            }
            return Some(());
        }
        let width = Width::of_bytes(self.dtype(local).size() as i64)?;
        self.part(Access::Store, width, registers[0], (address, step));
        Some(())
    }

    /// Part of a register.
    fn part(&mut self, access: Access, width: Width, register: V, (address, step): (X, Step)) {
        match step {
            Step::Bytes(0) => self.a.push(Instruction::Vector(access, width, register, address, 0)),
            Step::Bytes(bytes) => {
                self.a.push(Instruction::VectorPost(access, width, register, address, bytes as i16));
            }
            Step::Register(by) => {
                self.a.push(Instruction::Vector(access, width, register, address, 0));
                self.a.push(Instruction::Add(address, address, by));
            }
        }
    }

    /// Whole registers, one behind the other.
    fn access(&mut self, access: Access, registers: &[V], address: X, step: Step) {
        let after = match step {
            Step::Register(by) => After::By(by),
            Step::Bytes(bytes) if bytes == 16 * registers.len() as i64 => After::Past,
            Step::Bytes(_) => After::Stay,
        };
        self.a.push(Instruction::Multiple(access, registers[0], registers.len() as u8, address, after));
        if let (Step::Bytes(bytes), After::Stay) = (step, after) {
            self.a.add(address, address, bytes, SCRATCH);
        }
    }
}

/// Whether loops in lanes, and they alone, are innermost.
fn is_element_wise(statements: &[Stmt]) -> bool {
    let has_loops = |body: &[Stmt]| body.iter().any(|statement| matches!(statement, Stmt::For { .. }));
    statements.iter().all(|statement| match statement {
        Stmt::For { mode: LoopMode::Lanes, body, .. } => !has_loops(body),
        Stmt::For { mode: LoopMode::Serial, body, .. } => has_loops(body) && is_element_wise(body),
        Stmt::For { mode: LoopMode::Fold(_), .. } => false,
        Stmt::Set { .. } | Stmt::Store { .. } => true,
    })
}

fn reads(statement: &Stmt, local: Local) -> bool {
    match statement {
        Stmt::Set { value: Value::Apply { arguments, .. }, .. } => arguments.contains(&local),
        Stmt::Set { .. } => false,
        Stmt::Store { local: stored, .. } => *stored == local,
        Stmt::For { body, mode, .. } => {
            let folds = matches!(mode, LoopMode::Fold(folds) if folds.iter().any(|fold| fold.local == local));
            folds || body.iter().any(|statement| reads(statement, local))
        }
    }
}

fn sets(statement: &Stmt, local: Local) -> bool {
    match statement {
        Stmt::Set { local: set, .. } => *set == local,
        Stmt::Store { .. } => false,
        Stmt::For { body, .. } => body.iter().any(|statement| sets(statement, local)),
    }
}
