//! Instructions over vectors of eight lanes (AVX2, AVX-512) and of sixteen (AVX-512): the same calls, one table of encodings.

mod narrow;

use iced_x86::code_asm::{AsmRegister64, AsmRegisterK, k1, k2};
use iced_x86::{Code, Instruction, MemoryOperand, Register};

use crate::cpu::isa::{CpuTarget, Vectors};

use super::writer::{Unwritten, Writer, Written};

/// Vectors that kernels are written over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Width {
    /// Eight lanes in sixteen registers: AVX2 with FMA.
    Eight,
    /// Eight lanes in thirty-two registers, with masks: AVX-512VL.
    EightMasked,
    /// Sixteen lanes in thirty-two registers, with masks: AVX-512F.
    Sixteen,
}

impl Width {
    pub fn of_target(target: &CpuTarget) -> Width {
        match target.vectors {
            Vectors::Baseline => Width::Eight,
            Vectors::Avx512 | Vectors::Avx512Vnni => Width::Sixteen,
        }
    }

    /// The vectors for a panel of so many channels, where they are one: the narrower take half the time on cores that halve the
    /// wider ones.
    pub fn of_tail(self, channels: i64) -> Width {
        match self {
            Width::Sixteen if channels <= Width::EightMasked.lanes() => Width::EightMasked,
            _ => self,
        }
    }

    pub const fn lanes(self) -> i64 {
        match self {
            Width::Eight | Width::EightMasked => 8,
            Width::Sixteen => 16,
        }
    }

    pub const fn bytes(self) -> i64 {
        self.lanes() * 4
    }

    pub const fn registers(self) -> usize {
        match self {
            Width::Eight => 16,
            Width::EightMasked | Width::Sixteen => 32,
        }
    }

    /// A vector register.
    fn register(self, number: usize) -> Register {
        match self {
            Width::Eight | Width::EightMasked => Register::YMM0 + number as u32,
            Width::Sixteen => Register::ZMM0 + number as u32,
        }
    }

    fn of(self, [eight, masked, sixteen]: [Code; 3]) -> Code {
        match self {
            Width::Eight => eight,
            Width::EightMasked => masked,
            Width::Sixteen => sixteen,
        }
    }
}

/// Memory so many bytes behind an address.
#[derive(Clone, Copy)]
pub(super) struct Place {
    base: AsmRegister64,
    index: Option<AsmRegister64>,
    bytes: i64,
}

/// The place `bytes` behind an address.
pub(super) fn at(base: AsmRegister64, bytes: i64) -> Place {
    Place { base, index: None, bytes }
}

impl Place {
    /// The same, moved by the bytes in a register.
    pub fn indexed(self, index: AsmRegister64) -> Place {
        Place { index: Some(index), ..self }
    }

    /// The same, so many bytes further on.
    pub fn moved(self, bytes: i64) -> Place {
        Place { bytes: self.bytes + bytes, ..self }
    }

    fn operand(self) -> MemoryOperand {
        let index = self.index.map_or(Register::None, Register::from);
        MemoryOperand::with_base_index_scale_displ_size(self.base.into(), index, 1, self.bytes, 1)
    }
}

/// Eight bytes.
#[derive(Clone, Copy)]
pub(super) enum Eight {
    Memory(Place),
    Register(AsmRegister64),
}

/// The last operand of an instruction.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Register(usize),
    /// Every lane its own.
    Memory(Place),
    /// The same number in every lane, or in every two; AVX-512 alone has it.
    Spread(Place),
}

/// `d = a <op> b`; multiply-adds add to d.
#[derive(Clone, Copy)]
pub(super) enum Two {
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Of a number and NaN, b.
    Maximum,
    /// Of a number and NaN, b.
    Minimum,
    AddIntegers,
    SubtractIntegers,
    And,
    ExclusiveOr,
    /// Of lanes of 64 bits.
    ExclusiveOrLong,
    /// Adds to each lane of d the sum of the products of four bytes of a, without sign, with those of b.
    Dot,
    /// The sums of products of two halves of each lane.
    ProductsOfHalves,
    /// The numbers of `b` that lanes of `a` say; of 64 bits each but with AVX2.
    Permute,
    MultiplyAdd,
    /// `d = d - a * b`.
    MultiplySubtract,
}

impl Two {
    const fn codes(self) -> [Code; 3] {
        match self {
            Two::Add => [
                Code::VEX_Vaddps_ymm_ymm_ymmm256,
                Code::EVEX_Vaddps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er,
            ],
            Two::Subtract => [
                Code::VEX_Vsubps_ymm_ymm_ymmm256,
                Code::EVEX_Vsubps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er,
            ],
            Two::Multiply => [
                Code::VEX_Vmulps_ymm_ymm_ymmm256,
                Code::EVEX_Vmulps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er,
            ],
            Two::Divide => [
                Code::VEX_Vdivps_ymm_ymm_ymmm256,
                Code::EVEX_Vdivps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er,
            ],
            Two::Maximum => [
                Code::VEX_Vmaxps_ymm_ymm_ymmm256,
                Code::EVEX_Vmaxps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae,
            ],
            Two::Minimum => [
                Code::VEX_Vminps_ymm_ymm_ymmm256,
                Code::EVEX_Vminps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae,
            ],
            Two::AddIntegers => [
                Code::VEX_Vpaddd_ymm_ymm_ymmm256,
                Code::EVEX_Vpaddd_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32,
            ],
            Two::SubtractIntegers => [
                Code::VEX_Vpsubd_ymm_ymm_ymmm256,
                Code::EVEX_Vpsubd_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32,
            ],
            Two::And => [
                Code::VEX_Vandps_ymm_ymm_ymmm256,
                Code::EVEX_Vpandd_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32,
            ],
            Two::ExclusiveOr => [
                Code::VEX_Vxorps_ymm_ymm_ymmm256,
                Code::EVEX_Vpxord_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32,
            ],
            Two::ExclusiveOrLong => [
                Code::VEX_Vpxor_ymm_ymm_ymmm256,
                Code::EVEX_Vpxorq_ymm_k1z_ymm_ymmm256b64,
                Code::EVEX_Vpxorq_zmm_k1z_zmm_zmmm512b64,
            ],
            Two::Dot => [
                Code::VEX_Vpdpbusd_ymm_ymm_ymmm256,
                Code::EVEX_Vpdpbusd_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vpdpbusd_zmm_k1z_zmm_zmmm512b32,
            ],
            Two::ProductsOfHalves => [
                Code::VEX_Vpmaddwd_ymm_ymm_ymmm256,
                Code::EVEX_Vpmaddwd_ymm_k1z_ymm_ymmm256,
                Code::EVEX_Vpmaddwd_zmm_k1z_zmm_zmmm512,
            ],
            Two::Permute => [
                Code::VEX_Vpermd_ymm_ymm_ymmm256,
                Code::EVEX_Vpermq_ymm_k1z_ymm_ymmm256b64,
                Code::EVEX_Vpermq_zmm_k1z_zmm_zmmm512b64,
            ],
            Two::MultiplyAdd => [
                Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256,
                Code::EVEX_Vfmadd231ps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
            ],
            Two::MultiplySubtract => [
                Code::VEX_Vfnmadd231ps_ymm_ymm_ymmm256,
                Code::EVEX_Vfnmadd231ps_ymm_k1z_ymm_ymmm256b32,
                Code::EVEX_Vfnmadd231ps_zmm_k1z_zmm_zmmm512b32_er,
            ],
        }
    }
}

/// `d = <op> a`.
#[derive(Clone, Copy)]
pub(super) enum One {
    SquareRoot,
    ToInteger,
    FromInteger,
    /// To an integer, by the instruction's number of the direction.
    Round(u32),
    ShiftLeft(u32),
    /// With the sign above.
    ShiftRight(u32),
}

/// Lanes of a vector that are there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Whole,
    /// The first few: as many channels as the tail has.
    Existing,
    /// The tail's, padded to whole vectors of four: of weights.
    Padded,
}

/// The lanes of a vector that is not whole.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    existing: i64,
    padded: i64,
}

impl Writer {
    /// From here on, vectors that are not whole have so many lanes, and so many with padding.
    pub fn set_tail(&mut self, existing: i64, padded: i64) -> Written {
        self.tail = Tail { existing, padded };
        if self.width != Width::Eight {
            for (mask, lanes) in [(k1, existing), (k2, padded)] {
                self.set_mask(mask, lanes)?;
            }
        }
        Ok(())
    }

    fn set_mask(&mut self, mask: AsmRegisterK, lanes: i64) -> Written {
        self.a.mov(iced_x86::code_asm::eax, ((1i64 << lanes) - 1) as i32)?;
        Ok(self.a.kmovw(mask, iced_x86::code_asm::eax)?)
    }

    pub fn two(&mut self, op: Two, d: usize, a: usize, b: Source) -> Written {
        let (code, [to, first]) = (self.width.of(op.codes()), [d, a].map(|number| self.width.register(number)));
        let instruction = match b {
            Source::Register(b) => Instruction::with3(code, to, first, self.width.register(b))?,
            Source::Memory(place) => Instruction::with3(code, to, first, place.operand())?,
            Source::Spread(place) => {
                let mut instruction = Instruction::with3(code, to, first, place.operand())?;
                instruction.set_is_broadcast(true);
                instruction
            }
        };
        Ok(self.a.add_instruction(instruction)?)
    }

    pub fn one(&mut self, op: One, d: usize, a: usize) -> Written {
        let (to, from) = (self.width.register(d), self.width.register(a));
        let plain = |codes| Instruction::with2(self.width.of(codes), to, from);
        let with_number = |codes, number: u32| Instruction::with3(self.width.of(codes), to, from, number);
        let instruction = match op {
            One::SquareRoot => plain([
                Code::VEX_Vsqrtps_ymm_ymmm256,
                Code::EVEX_Vsqrtps_ymm_k1z_ymmm256b32,
                Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er,
            ]),
            One::ToInteger => plain([
                Code::VEX_Vcvtps2dq_ymm_ymmm256,
                Code::EVEX_Vcvtps2dq_ymm_k1z_ymmm256b32,
                Code::EVEX_Vcvtps2dq_zmm_k1z_zmmm512b32_er,
            ]),
            One::FromInteger => plain([
                Code::VEX_Vcvtdq2ps_ymm_ymmm256,
                Code::EVEX_Vcvtdq2ps_ymm_k1z_ymmm256b32,
                Code::EVEX_Vcvtdq2ps_zmm_k1z_zmmm512b32_er,
            ]),
            One::Round(direction) => with_number(
                [
                    Code::VEX_Vroundps_ymm_ymmm256_imm8,
                    Code::EVEX_Vrndscaleps_ymm_k1z_ymmm256b32_imm8,
                    Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae,
                ],
                direction,
            ),
            One::ShiftLeft(by) => with_number(
                [
                    Code::VEX_Vpslld_ymm_ymm_imm8,
                    Code::EVEX_Vpslld_ymm_k1z_ymmm256b32_imm8,
                    Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8,
                ],
                by,
            ),
            One::ShiftRight(by) => with_number(
                [
                    Code::VEX_Vpsrad_ymm_ymm_imm8,
                    Code::EVEX_Vpsrad_ymm_k1z_ymmm256b32_imm8,
                    Code::EVEX_Vpsrad_zmm_k1z_zmmm512b32_imm8,
                ],
                by,
            ),
        }?;
        Ok(self.a.add_instruction(instruction)?)
    }

    /// In every 128 bits the first and third numbers of `a` and then of `b`, or the second and fourth.
    pub fn every_second(&mut self, d: usize, [a, b]: [usize; 2], first: bool) -> Written {
        let code = self.width.of([
            Code::VEX_Vshufps_ymm_ymm_ymmm256_imm8,
            Code::EVEX_Vshufps_ymm_k1z_ymm_ymmm256b32_imm8,
            Code::EVEX_Vshufps_zmm_k1z_zmm_zmmm512b32_imm8,
        ]);
        let [d, a, b] = [d, a, b].map(|number| self.width.register(number));
        let lanes: u32 = if first { 0x88 } else { 0xdd };
        Ok(self.a.add_instruction(Instruction::with4(code, d, a, b, lanes)?)?)
    }

    /// Loads the lower half of a vector, with zeros above.
    pub fn load_half(&mut self, d: usize, place: Place) -> Written {
        let (code, to) = match self.width {
            Width::Eight | Width::EightMasked => (Code::VEX_Vmovups_xmm_xmmm128, Register::XMM0),
            Width::Sixteen => (Code::EVEX_Vmovups_ymm_k1z_ymmm256, Register::YMM0),
        };
        Ok(self.a.add_instruction(Instruction::with2(code, to + d as u32, place.operand())?)?)
    }

    /// `d = a`.
    pub fn copy(&mut self, d: usize, a: usize) -> Written {
        let codes =
            [Code::VEX_Vmovups_ymm_ymmm256, Code::EVEX_Vmovups_ymm_k1z_ymmm256, Code::EVEX_Vmovups_zmm_k1z_zmmm512];
        let [to, from] = [d, a].map(|number| self.width.register(number));
        Ok(self.a.add_instruction(Instruction::with2(self.width.of(codes), to, from)?)?)
    }

    /// `d = 0`.
    pub fn zero(&mut self, d: usize) -> Written {
        self.two(Two::ExclusiveOr, d, d, Source::Register(d))
    }

    /// Loads a vector; lanes that are not there become zeros, and their memory is not touched.
    pub fn load(&mut self, d: usize, place: Place, part: Part) -> Written {
        let to = self.width.register(d);
        let whole = self.width.of([
            Code::VEX_Vmovups_ymm_ymmm256,
            Code::EVEX_Vmovups_ymm_k1z_ymmm256,
            Code::EVEX_Vmovups_zmm_k1z_zmmm512,
        ]);
        let plain = Instruction::with2(whole, to, place.operand())?;
        let instruction = match (self.width, part) {
            (_, Part::Whole) => plain,
            (Width::EightMasked | Width::Sixteen, Part::Existing | Part::Padded) => masked(plain, part, true),
            (Width::Eight, Part::Padded) if self.tail.padded == 8 => plain,
            (Width::Eight, Part::Padded) => {
                Instruction::with2(Code::VEX_Vmovups_xmm_xmmm128, Register::XMM0 + d as u32, place.operand())?
            }
            (Width::Eight, Part::Existing) => {
                self.load_mask(d)?;
                Instruction::with3(Code::VEX_Vmaskmovps_ymm_ymm_m256, to, to, place.operand())?
            }
        };
        Ok(self.a.add_instruction(instruction)?)
    }

    /// Stores a vector; `spare` may be used up.
    pub fn store(&mut self, place: Place, from: usize, part: Part, spare: Option<usize>) -> Written {
        let register = self.width.register(from);
        let whole = self.width.of([
            Code::VEX_Vmovups_ymmm256_ymm,
            Code::EVEX_Vmovups_ymmm256_k1z_ymm,
            Code::EVEX_Vmovups_zmmm512_k1z_zmm,
        ]);
        let plain = Instruction::with2(whole, place.operand(), register)?;
        let instruction = match (self.width, part) {
            (_, Part::Whole) => plain,
            (Width::EightMasked | Width::Sixteen, Part::Existing | Part::Padded) => masked(plain, part, false),
            (Width::Eight, Part::Existing | Part::Padded) => {
                let mask = spare.ok_or(Unwritten::Registers)?;
                self.load_mask(mask)?;
                let mask = self.width.register(mask);
                Instruction::with3(Code::VEX_Vmaskmovps_m256_ymm_ymm, place.operand(), mask, register)?
            }
        };
        Ok(self.a.add_instruction(instruction)?)
    }

    /// All bits in the lanes of the tail, in a register of eight lanes.
    fn load_mask(&mut self, d: usize) -> Written {
        let existing = self.tail.existing;
        let place =
            self.literal(&std::array::from_fn::<u32, 8, _>(|lane| if (lane as i64) < existing { u32::MAX } else { 0 }));
        self.load(d, place, Part::Whole)
    }

    /// One number of memory in every lane.
    pub fn spread(&mut self, d: usize, place: Place) -> Written {
        let code = self.width.of([
            Code::VEX_Vbroadcastss_ymm_m32,
            Code::EVEX_Vbroadcastss_ymm_k1z_xmmm32,
            Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32,
        ]);
        Ok(self.a.add_instruction(Instruction::with2(code, self.width.register(d), place.operand())?)?)
    }

    /// A number in every lane, as an operand.
    pub fn constant_lanes(&mut self, bits: u32) -> Source {
        match self.width {
            Width::Eight => Source::Memory(self.literal(&[bits; 8])),
            Width::EightMasked | Width::Sixteen => Source::Spread(self.literal(&[bits])),
        }
    }

    /// A number in every lane of a register.
    pub fn fill(&mut self, d: usize, bits: u32) -> Written {
        match self.constant_lanes(bits) {
            Source::Memory(place) => self.load(d, place, Part::Whole),
            Source::Spread(place) => self.spread(d, place),
            Source::Register(from) => self.copy(d, from),
        }
    }

    /// `mask = a <predicate> b`, by the instruction's number of the predicate. The mask is one of k3..k7, or of eight lanes a
    /// vector register.
    pub fn compare(&mut self, predicate: u32, mask: usize, a: usize, b: usize) -> Written {
        let codes = [
            Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8,
            Code::EVEX_Vcmpps_kr_k1_ymm_ymmm256b32_imm8,
            Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae,
        ];
        let to = match self.width {
            Width::Eight => self.width.register(mask),
            Width::EightMasked | Width::Sixteen => Register::K0 + mask as u32,
        };
        let [a, b] = [a, b].map(|number| self.width.register(number));
        Ok(self.a.add_instruction(Instruction::with4(self.width.of(codes), to, a, b, predicate)?)?)
    }

    /// `d = mask ? a : b`.
    pub fn choose(&mut self, d: usize, mask: usize, a: usize, b: usize) -> Written {
        let [to, chosen, otherwise] = [d, a, b].map(|number| self.width.register(number));
        let instruction = match self.width {
            Width::Eight => {
                let code = Code::VEX_Vblendvps_ymm_ymm_ymmm256_ymm;
                Instruction::with4(code, to, otherwise, chosen, self.width.register(mask))?
            }
            Width::EightMasked | Width::Sixteen => {
                let code = match self.width {
                    Width::Sixteen => Code::EVEX_Vblendmps_zmm_k1z_zmm_zmmm512b32,
                    _ => Code::EVEX_Vblendmps_ymm_k1z_ymm_ymmm256b32,
                };
                let mut instruction = Instruction::with3(code, to, otherwise, chosen)?;
                instruction.set_op_mask(Register::K0 + mask as u32);
                instruction
            }
        };
        Ok(self.a.add_instruction(instruction)?)
    }
}

/// The same instruction over the lanes of a tail.
fn masked(mut instruction: Instruction, part: Part, zeroes: bool) -> Instruction {
    instruction.set_op_mask(if part == Part::Padded { Register::K2 } else { Register::K1 });
    instruction.set_zeroing_masking(zeroes);
    instruction
}
