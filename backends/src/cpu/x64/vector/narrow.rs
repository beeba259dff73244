//! Bytes and halves: read as words or halves, spread, and words stored as bytes.

use iced_x86::code_asm::AsmRegister64;
use iced_x86::{Code, Instruction, Register};

use crate::cpu::requantization::Bytes;

use super::super::writer::{Unwritten, Writer, Written};
use super::{Eight, Part, Place, Two, Width, masked};

impl Writer {
    /// Sums of neighbours, in every 128 bits those of `a` and then of `b`; AVX2 alone has it.
    pub fn add_pairs(&mut self, d: usize, [a, b]: [usize; 2]) -> Written {
        let [d, a, b] = [d, a, b].map(|number| Width::Eight.register(number));
        Ok(self.a.add_instruction(Instruction::with3(Code::VEX_Vphaddd_ymm_ymm_ymmm256, d, a, b)?)?)
    }

    /// Sixteen bytes as halves of 256 bits.
    pub fn load_halves(&mut self, d: usize, place: Place) -> Written {
        let to = Width::Eight.register(d);
        Ok(self.a.add_instruction(Instruction::with2(Code::VEX_Vpmovsxbw_ymm_xmmm128, to, place.operand())?)?)
    }

    /// Eight bytes as halves, in both 128 bits of 256.
    pub fn spread_halves(&mut self, d: usize, from: Eight) -> Written {
        let (xmm, whole) = (Register::XMM0 + d as u32, Width::Eight.register(d));
        let spread = match from {
            Eight::Memory(place) => Instruction::with2(Code::VEX_Vpbroadcastq_xmm_xmmm64, xmm, place.operand())?,
            Eight::Register(from) => {
                let moved = Instruction::with2(Code::VEX_Vmovq_xmm_rm64, xmm, Register::from(from))?;
                self.a.add_instruction(moved)?;
                Instruction::with2(Code::VEX_Vpbroadcastq_xmm_xmmm64, xmm, xmm)?
            }
        };
        self.a.add_instruction(spread)?;
        Ok(self.a.add_instruction(Instruction::with2(Code::VEX_Vpmovsxbw_ymm_xmmm128, whole, xmm)?)?)
    }

    /// The 64 bits of an integer register in every lane of as many; AVX-512 alone has it.
    pub fn spread_long(&mut self, d: usize, from: AsmRegister64) -> Written {
        let code = match self.width {
            Width::Sixteen => Code::EVEX_Vpbroadcastq_zmm_k1z_r64,
            Width::Eight | Width::EightMasked => Code::EVEX_Vpbroadcastq_ymm_k1z_r64,
        };
        Ok(self.a.add_instruction(Instruction::with2(code, self.width.register(d), Register::from(from))?)?)
    }

    /// Loads bytes as words; lanes that are not there become zeros, and their memory is not touched. AVX-512 alone has parts.
    pub fn load_bytes(&mut self, d: usize, place: Place, part: Part, signed: bool) -> Written {
        let code = match signed {
            true => self.width.of([
                Code::VEX_Vpmovsxbd_ymm_xmmm64,
                Code::EVEX_Vpmovsxbd_ymm_k1z_xmmm64,
                Code::EVEX_Vpmovsxbd_zmm_k1z_xmmm128,
            ]),
            false => self.width.of([
                Code::VEX_Vpmovzxbd_ymm_xmmm64,
                Code::EVEX_Vpmovzxbd_ymm_k1z_xmmm64,
                Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128,
            ]),
        };
        let plain = Instruction::with2(code, self.width.register(d), place.operand())?;
        let instruction = match (part, self.width) {
            (Part::Whole, _) => plain,
            (_, Width::EightMasked | Width::Sixteen) => masked(plain, part, true),
            (_, Width::Eight) => return Err(Unwritten::Encoding),
        };
        Ok(self.a.add_instruction(instruction)?)
    }

    /// Stores words that bytes hold once the zero point is added, as bytes; `spare` may be used up. AVX-512 alone has parts.
    pub fn requantized(&mut self, place: Place, from: usize, (part, spare): (Part, usize), bytes: Bytes) -> Written {
        if bytes.zero != 0 {
            let zero = self.constant_lanes(i32::from(bytes.zero) as u32);
            self.two(Two::AddIntegers, from, from, zero)?;
        }
        let code = match self.width {
            Width::Eight if part == Part::Whole => return self.pack_eight(place, from, spare, bytes.signed),
            Width::Eight => return Err(Unwritten::Encoding),
            Width::EightMasked => Code::EVEX_Vpmovdb_xmmm64_k1z_ymm,
            Width::Sixteen => Code::EVEX_Vpmovdb_xmmm128_k1z_zmm,
        };
        let plain = Instruction::with2(code, place.operand(), self.width.register(from))?;
        let instruction = if part == Part::Whole { plain } else { masked(plain, part, false) };
        Ok(self.a.add_instruction(instruction)?)
    }

    /// Stores eight words as bytes.
    fn pack_eight(&mut self, place: Place, from: usize, spare: usize, signed: bool) -> Written {
        let xmm = |number: usize| Register::XMM0 + number as u32;
        let to_bytes = match signed {
            true => Code::VEX_Vpacksswb_xmm_xmm_xmmm128,
            false => Code::VEX_Vpackuswb_xmm_xmm_xmmm128,
        };
        let upper =
            Instruction::with3(Code::VEX_Vextracti128_xmmm128_ymm_imm8, xmm(spare), self.width.register(from), 1u32)?;
        let halves = Instruction::with3(Code::VEX_Vpackssdw_xmm_xmm_xmmm128, xmm(from), xmm(from), xmm(spare))?;
        let narrow = Instruction::with3(to_bytes, xmm(from), xmm(from), xmm(from))?;
        let store = Instruction::with2(Code::VEX_Vmovq_xmmm64_xmm, place.operand(), xmm(from))?;
        [upper, halves, narrow, store].into_iter().try_for_each(|each| Ok(self.a.add_instruction(each)?))
    }
}
