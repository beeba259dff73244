//! A function while it is written: instructions, labels, constants behind the code.

use std::fmt::{self, Write};

use super::instruction::{Access, Cond, Instruction, SP, V, X};
use super::order::{Ordering, leading_loads};
use crate::cpu::function::FunctionCode;
use crate::cpu::isa::{Core, CpuTarget, Listing};

/// A place in the code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Label(pub(super) usize);

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ".L{}", self.0)
    }
}

/// The stack frame: ten words and eight halves of vector registers that the caller wants back, then slots.
const SAVED: u16 = 16 * 9 + 16;

/// Instructions in order.
#[derive(Default)]
pub(super) struct Assembler {
    core: Core,
    instructions: Vec<Instruction>,
    /// Registers that hold one number from `keep` on.
    kept: Vec<(X, i64)>,
    /// No load reads what its block has stored, but for the stack.
    reads_apart: bool,
    /// Where each label lies, in instructions.
    labels: Vec<Option<usize>>,
    /// Constants of 16 bytes, and the label of each.
    literals: Vec<([u8; 16], Label)>,
    slots: u16,
}

impl Assembler {
    /// A function that saves every register that its caller wants back, with `slots` words of stack.
    pub fn new(target: &CpuTarget, slots: u16) -> Self {
        let (core, slots) = (target.core, (slots + 1) & !1);
        let mut assembler = Assembler { core, slots, ..Assembler::default() };
        assembler.push(Instruction::BtiC);
        assembler.push(Instruction::SubImmediate(SP, SP, assembler.frame(), false));
        assembler.saved(Access::Store);
        assembler
    }

    fn frame(&self) -> u16 {
        SAVED + 8 * self.slots
    }

    fn saved(&mut self, access: Access) {
        for pair in 0..5u8 {
            self.push(Instruction::Words(access, X(19 + 2 * pair), X(20 + 2 * pair), SP, 16 * i16::from(pair)));
        }
        self.push(Instruction::Words(access, X(29), X(30), SP, 80));
        for pair in 0..4u8 {
            self.push(Instruction::Doubles(access, V(8 + 2 * pair), V(9 + 2 * pair), SP, 96 + 16 * i16::from(pair)));
        }
    }

    pub fn push(&mut self, instruction: Instruction) {
        self.instructions.push(instruction);
    }

    /// A label without a place.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Gives a label its place.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.instructions.len());
    }

    /// A label here.
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.place(label);
        label
    }

    /// Instructions so far.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Loads four lanes from behind the code.
    pub fn literal(&mut self, register: V, lanes: [u32; 4]) {
        let mut bytes = [0; 16];
        for (bytes, lane) in bytes.chunks_mut(4).zip(lanes) {
            bytes.copy_from_slice(&lane.to_le_bytes());
        }
        let label = match self.literals.iter().find(|(other, _)| *other == bytes) {
            Some(&(_, label)) => label,
            None => {
                let label = self.label();
                self.literals.push((bytes, label));
                label
            }
        };
        self.push(Instruction::Literal(register, label));
    }

    /// The label of a table behind the code, at a multiple of 16 bytes from its start.
    pub fn table(&mut self, table: &[u8; 256]) -> Label {
        let parts = || table.chunks_exact(16);
        let is_here = |at: usize| parts().eq(self.literals[at..].iter().take(16).map(|(bytes, _)| bytes.as_slice()));
        if let Some(at) = (0..self.literals.len()).find(|&at| is_here(at)) {
            return self.literals[at].1;
        }
        let first = self.labels.len();
        for part in parts() {
            let label = self.label();
            let mut bytes = [0; 16];
            bytes.copy_from_slice(part);
            self.literals.push((bytes, label));
        }
        Label(first)
    }

    /// The bytes from the stack pointer to a slot.
    pub fn slot_offset(slot: u16) -> u16 {
        SAVED + 8 * slot
    }

    /// Moves a slot of the stack.
    pub fn slot(&mut self, access: Access, register: X, slot: u16) {
        self.push(Instruction::Word(access, register, SP, Self::slot_offset(slot)));
    }

    /// `d = value`.
    pub fn constant(&mut self, d: X, value: i64) {
        if value < 0 && !value < 0x1_0000 {
            return self.push(Instruction::MovN(d, !value as u16, 0));
        }
        let parts = [0u8, 1, 2, 3].map(|place| (place, (value >> (16 * place)) as u16));
        let mut is_first = true;
        for (place, part) in parts {
            if part == 0 && !(value == 0 && place == 0) {
                continue;
            }
            let whole = if is_first { Instruction::MovZ } else { Instruction::MovK };
            self.push(whole(d, part, place));
            is_first = false;
        }
    }

    /// `d = value` for the rest of the function.
    pub fn keep(&mut self, d: X, value: i64) {
        self.constant(d, value);
        self.kept.push((d, value));
    }

    /// Says that no load reads what its block has stored, but for the stack. A result may lie where an operand was: each of
    /// its elements is stored behind the last load of that element.
    pub fn reads_apart(&mut self) {
        self.reads_apart = true;
    }

    /// Runs a body of straight code `turns` times, at least once; `counter` is used up. On a core that issues in order the
    /// loads at the head of the body stand in the turn before, and the last turn apart.
    pub fn turns(&mut self, counter: X, turns: i64, body: impl FnOnce(&mut Self)) {
        let start = self.instructions.len();
        body(self);
        let body = self.instructions.split_off(start);
        let (loads, rest) = match self.core {
            Core::OutOfOrder => ([].as_slice(), body.as_slice()),
            Core::InOrder => body.split_at(leading_loads(&body)),
        };
        let looped = if loads.is_empty() { turns } else { turns - 1 };
        self.instructions.extend(loads);
        if looped > 0 {
            self.constant(counter, looped);
            let head = self.here();
            self.instructions.extend(rest);
            self.instructions.extend(loads);
            self.push(Instruction::SubsImmediate(counter, counter, 1));
            self.push(Instruction::BranchIf(Cond::NotEqual, head));
        }
        if !loads.is_empty() {
            self.instructions.extend(rest);
        }
    }

    /// `d = n + value`; `scratch` may be used up. Neither `d` nor `n` is `scratch` unless they are the same.
    pub fn add(&mut self, d: X, n: X, value: i64, scratch: X) {
        let size = value.unsigned_abs();
        let step = if value < 0 { Instruction::SubImmediate } else { Instruction::AddImmediate };
        match (size & 0xfff, size >> 12) {
            (0, 0) if d == n => {}
            (0, 0) => self.push(Instruction::Mov(d, n)),
            (low, 0) => self.push(step(d, n, low as u16, false)),
            (0, high) if high < 4096 => self.push(step(d, n, high as u16, true)),
            (low, high) if high < 4096 => {
                self.push(step(d, n, high as u16, true));
                self.push(step(d, d, low as u16, false));
            }
            _ => {
                self.constant(scratch, value);
                self.push(Instruction::Add(d, n, scratch));
            }
        }
    }

    /// `d = a + n * factor`; `scratch` is used up.
    pub fn add_product(&mut self, d: X, n: X, factor: i64, a: X, scratch: X) {
        match factor {
            0 => self.add(d, a, 0, scratch),
            1 => self.push(Instruction::Add(d, a, n)),
            _ => {
                self.constant(scratch, factor);
                self.push(Instruction::MultiplyAdd(d, n, scratch, a));
            }
        }
    }

    /// Returns, and lays constants behind the code.
    pub fn finish(mut self, listing: Listing) -> FunctionCode {
        self.saved(Access::Load);
        self.push(Instruction::AddImmediate(SP, SP, self.frame(), false));
        self.push(Instruction::Ret);
        if self.core == Core::InOrder {
            self.order_blocks();
        }
        let literals_at = self.instructions.len().next_multiple_of(4);
        for (place, (_, label)) in self.literals.iter().enumerate() {
            self.labels[label.0] = Some(literals_at + 4 * place);
        }
        let mut bytes = Vec::with_capacity(4 * literals_at + 16 * self.literals.len());
        for (at, instruction) in self.instructions.iter().enumerate() {
            let target = instruction.label().and_then(|label| self.labels[label.0]);
            let distance = target.map_or(0, |target| target as i64 - at as i64);
            bytes.extend(instruction.word(distance).to_le_bytes());
        }
        if !self.literals.is_empty() {
            bytes.resize(4 * literals_at, 0);
        }
        self.literals.iter().for_each(|(literal, _)| bytes.extend(literal));
        let listing = if listing == Listing::Off { String::new() } else { self.listing() };
        FunctionCode { bytes, listing, encoded: true }
    }

    /// Orders the instructions between labels and jumps.
    fn order_blocks(&mut self) {
        let unordered = std::mem::take(&mut self.instructions);
        let ordering = Ordering { kept: &self.kept, reads_apart: self.reads_apart };
        let mut moved = vec![0; unordered.len() + 1];
        let mut begin = 0;
        for at in 0..=unordered.len() {
            let is_jump = unordered.get(at).is_none_or(Instruction::ends_block);
            if is_jump || self.labels.contains(&Some(at)) {
                self.instructions.extend(ordering.order(&unordered[begin..at]));
                begin = at;
            }
            moved[at] = self.instructions.len();
            if is_jump {
                self.instructions.extend(unordered.get(at));
                begin = at + 1;
            }
        }
        self.labels.iter_mut().flatten().for_each(|place| *place = moved[*place]);
    }

    fn listing(&self) -> String {
        let mut text = String::new();
        for (at, instruction) in self.instructions.iter().enumerate() {
            for (number, _) in self.labels.iter().enumerate().filter(|(_, place)| **place == Some(at)) {
                let _ = writeln!(text, "{}:", Label(number));
            }
            let _ = writeln!(text, "  {instruction}");
        }
        for (literal, label) in &self.literals {
            let lanes: Vec<f32> =
                literal.chunks(4).filter_map(|lane| Some(f32::from_le_bytes(lane.try_into().ok()?))).collect();
            let _ = writeln!(text, "{label}: {lanes:?}");
        }
        text
    }
}
