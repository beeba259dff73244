//! A function while it is written: what an assembler takes, slots of the stack, constants behind the code.

use std::collections::BTreeMap;

use iced_x86::code_asm::{
    AsmMemoryOperand, AsmRegister64, AsmRegisterZmm, CodeAssembler, CodeLabel, dword_bcst, dword_ptr, get_zmm,
    qword_ptr, r12, r13, r14, r15, rbp, rbx, rsp,
};
use iced_x86::{Formatter, IcedError, IntelFormatter, Register};

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

/// A vector register.
pub(super) fn zmm(number: usize) -> AsmRegisterZmm {
    get_zmm(Register::ZMM0 + number as u32).unwrap_or(iced_x86::code_asm::zmm0)
}

/// Instructions in order.
pub(super) struct Writer {
    pub a: CodeAssembler,
    slots: i32,
    literals: BTreeMap<u32, CodeLabel>,
}

impl Writer {
    /// A function with `slots` words of stack.
    pub fn new(slots: usize) -> Written<Self> {
        let mut writer = Writer { a: CodeAssembler::new(64)?, slots: slots as i32 * 8, literals: BTreeMap::new() };
        SAVED.into_iter().try_for_each(|register| writer.a.push(register))?;
        writer.a.sub(rsp, writer.slots)?;
        Ok(writer)
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

    fn literal(&mut self, bits: u32) -> CodeLabel {
        let created = self.a.create_label();
        *self.literals.entry(bits).or_insert(created)
    }

    /// A number behind the code, for every lane of an operand.
    pub fn spread_literal(&mut self, bits: u32) -> AsmMemoryOperand {
        dword_bcst(self.literal(bits))
    }

    /// A number behind the code.
    pub fn one_literal(&mut self, bits: u32) -> AsmMemoryOperand {
        dword_ptr(self.literal(bits))
    }

    /// Returns, and lays numbers behind the code.
    pub fn finish(mut self, listing: Listing) -> Written<FunctionCode> {
        self.a.vzeroupper()?;
        self.a.add(rsp, self.slots)?;
        SAVED.into_iter().rev().try_for_each(|register| self.a.pop(register))?;
        self.a.ret()?;
        let text = if listing == Listing::Off { String::new() } else { self.listing() };
        for (bits, mut label) in std::mem::take(&mut self.literals) {
            self.a.set_label(&mut label)?;
            self.a.dd(&[bits])?;
        }
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
