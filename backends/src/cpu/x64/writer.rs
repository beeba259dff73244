//! A function while it is written: what an assembler takes, slots of the stack, constants behind the code.

use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister64, CodeAssembler, CodeLabel, ptr, qword_ptr, r12, r13, r14, r15, rbp, rbx, rdi, rsp,
};
use iced_x86::{Formatter, IcedError, IntelFormatter};

use super::vector::{Place, Tail, Width, at};
use crate::cpu::function::FunctionCode;
use crate::cpu::isa::Listing;

/// Why a kernel is left to Cranelift.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// A formula asks for more registers than there are.
    Registers,
    /// An instruction has no encoding.
    Encoding,
}

impl From<IcedError> for Unwritten {
    fn from(_: IcedError) -> Self {
        Unwritten::Encoding
    }
}

pub(super) type Written<T = ()> = Result<T, Unwritten>;

/// Registers that the caller wants back.
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];

/// The operands' addresses as they come in; from the first instruction on they are in the first slot.
const BASES: AsmRegister64 = rdi;
/// Numbers behind the code, while the kernel runs.
const LITERALS: AsmRegister64 = rdi;

/// Instructions in order.
pub(super) struct Writer {
    pub a: CodeAssembler,
    pub width: Width,
    pub tail: Tail,
    /// Bytes of the stack.
    frame: i32,
    behind: CodeLabel,
    literals: Vec<u32>,
}

impl Writer {
    /// A function with `slots` words of stack, the first of which holds the table of operands' addresses.
    pub fn new(width: Width, slots: usize) -> Written<Self> {
        let mut a = CodeAssembler::new(64)?;
        let behind = a.create_label();
        let mut writer =
            Writer { a, width, tail: Tail::default(), frame: slots as i32 * 8, behind, literals: Vec::new() };
        SAVED.into_iter().try_for_each(|register| writer.a.push(register))?;
        writer.a.sub(rsp, writer.frame)?;
        writer.a.mov(writer.slot(0), BASES)?;
        writer.a.lea(LITERALS, ptr(behind))?;
        Ok(writer)
    }

    /// The address of an operand.
    pub fn operand(&mut self, d: AsmRegister64, index: usize) -> Written {
        self.a.mov(d, self.slot(0))?;
        Ok(self.a.mov(d, qword_ptr(d + 8 * index))?)
    }

    /// A word of the stack.
    pub fn slot(&self, slot: usize) -> AsmMemoryOperand {
        qword_ptr(rsp + slot as i32 * 8)
    }

    /// `d = value`.
    pub fn constant(&mut self, d: AsmRegister64, value: i64) -> Written {
        match i32::try_from(value) {
            Ok(near) => Ok(self.a.mov(d, i64::from(near))?),
            Err(_) => Ok(self.a.mov(d, value)?),
        }
    }

    /// `d += value`; `scratch` may be used up.
    pub fn add(&mut self, d: AsmRegister64, value: i64, scratch: AsmRegister64) -> Written {
        match i32::try_from(value) {
            Ok(0) => Ok(()),
            Ok(near) => Ok(self.a.add(d, near)?),
            Err(_) => {
                self.constant(scratch, value)?;
                Ok(self.a.add(d, scratch)?)
            }
        }
    }

    /// `d += n * factor`; `scratch` is used up.
    pub fn add_product(&mut self, d: AsmRegister64, n: AsmRegister64, factor: i64, scratch: AsmRegister64) -> Written {
        if factor == 0 {
            return Ok(());
        }
        match i32::try_from(factor) {
            Ok(near) => self.a.imul_3(scratch, n, near)?,
            Err(_) => {
                self.constant(scratch, factor)?;
                self.a.imul_2(scratch, n)?;
            }
        }
        Ok(self.a.add(d, scratch)?)
    }

    /// Numbers behind the code.
    pub fn literal(&mut self, words: &[u32]) -> Place {
        let found = self.literals.windows(words.len()).position(|those| those == words);
        let place = found.unwrap_or_else(|| {
            self.literals.extend(words);
            self.literals.len() - words.len()
        });
        at(LITERALS, place as i64 * 4)
    }

    /// Bytes of the stack behind its words.
    pub fn stack(&self, word: usize) -> Place {
        at(rsp, word as i64 * 8)
    }

    /// Returns, and lays numbers behind the code.
    pub fn finish(mut self, listing: Listing) -> Written<FunctionCode> {
        self.a.vzeroupper()?;
        self.a.add(rsp, self.frame)?;
        SAVED.into_iter().rev().try_for_each(|register| self.a.pop(register))?;
        self.a.ret()?;
        let text = if listing == Listing::Off { String::new() } else { self.listing() };
        self.a.set_label(&mut self.behind)?;
        self.a.dd(if self.literals.is_empty() { &[0] } else { &self.literals })?;
        Ok(FunctionCode { bytes: self.a.assemble(0)?, listing: text, encoded: true })
    }

    fn listing(&self) -> String {
        let mut formatter = IntelFormatter::new();
        let mut text = String::new();
        for instruction in self.a.instructions() {
            text.push_str("  ");
            formatter.format(instruction, &mut text);
            text.push('\n');
        }
        text
    }

    /// `rax, rdx = rax / parts, rax % parts`; rbx is used up.
    pub fn split(&mut self, parts: i64) -> Written {
        self.a.xor(iced_x86::code_asm::edx, iced_x86::code_asm::edx)?;
        if parts > 1 {
            self.constant(rbx, parts)?;
            self.a.div(rbx)?;
        }
        Ok(())
    }
}
