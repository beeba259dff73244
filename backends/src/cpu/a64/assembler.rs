//! A function while it is written: instructions, labels, constants behind the code.

use std::fmt::{self, Write};

use super::instruction::{Access, Instruction, SP, V, X};
use crate::cpu::function::FunctionCode;
use crate::cpu::isa::Listing;

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
    instructions: Vec<Instruction>,
    /// Where each label lies, in instructions.
    labels: Vec<Option<usize>>,
    /// Constants of 16 bytes, and the label of each.
    literals: Vec<([u8; 16], Label)>,
    slots: u16,
}

impl Assembler {
    /// A function that saves every register that its caller wants back, with `slots` words of stack.
    pub fn new(slots: u16) -> Self {
        let mut assembler = Assembler { slots: (slots + 1) & !1, ..Assembler::default() };
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
