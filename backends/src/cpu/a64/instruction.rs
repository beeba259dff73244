//! Instructions of aarch64 and their words (Arm Architecture Reference Manual for A-profile, C6 and C7).

use super::assembler::Label;
use super::integer::Integer;
use crate::contraction::Element;

/// A 64-bit register; 31 is the stack pointer in addresses and zero elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct X(pub u8);

/// A vector register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct V(pub u8);

/// The stack pointer.
pub const SP: X = X(31);
/// Zero.
pub const ZERO: X = X(31);

/// The lanes of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrangement {
    /// Four of 32 bits.
    S4,
    /// Eight of 16 bits; arithmetic of them is Armv8.2-A's `fp16`.
    H8,
}

impl Arrangement {
    /// The lanes of elements.
    pub(in crate::cpu) const fn of(element: Element) -> Self {
        match element {
            Element::F32 | Element::I8 => Arrangement::S4,
            Element::F16 => Arrangement::H8,
        }
    }

    /// Bits of a lane.
    pub(super) const fn bits(self) -> u32 {
        match self {
            Arrangement::S4 => 32,
            Arrangement::H8 => 16,
        }
    }

    /// One of two words.
    const fn choose(self, singles: u32, halves: u32) -> u32 {
        match self {
            Arrangement::S4 => singles,
            Arrangement::H8 => halves,
        }
    }
}

/// Arithmetic of two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lanes {
    /// `d + n * m`, rounded once.
    MultiplyAdd,
    /// `d - n * m`, rounded once.
    MultiplySubtract,
    /// Sum.
    Add,
    /// Difference.
    Subtract,
    /// Product.
    Multiply,
    /// Quotient.
    Divide,
    /// The larger; NaN if either is.
    Maximum,
    /// The smaller; NaN if either is.
    Minimum,
    /// Sums of neighbours, those of `n` before those of `m`.
    AddPairs,
    /// The larger of neighbours.
    MaximumPairs,
    /// The smaller of neighbours.
    MinimumPairs,
    /// All ones where `n > m`.
    Greater,
    /// All ones where `n >= m`.
    GreaterEqual,
    /// All ones where equal.
    Equal,
    /// Sum of integers.
    AddIntegers,
    /// Difference of integers.
    SubtractIntegers,
    /// Bits in both.
    And,
    /// Bits in either; a move where both are one register.
    Or,
    /// Bits in one.
    ExclusiveOr,
    /// Bits of `n` where `d` has ones, else of `m`.
    Select,
}

impl Lanes {
    /// The mnemonic, whether its lanes are written as bytes, and the words without registers: of singles, of halves.
    pub(super) const fn row(self) -> (&'static str, bool, u32, u32) {
        match self {
            Lanes::MultiplyAdd => ("fmla", false, 0x4e20_cc00, 0x4e40_0c00),
            Lanes::MultiplySubtract => ("fmls", false, 0x4ea0_cc00, 0x4ec0_0c00),
            Lanes::Add => ("fadd", false, 0x4e20_d400, 0x4e40_1400),
            Lanes::Subtract => ("fsub", false, 0x4ea0_d400, 0x4ec0_1400),
            Lanes::Multiply => ("fmul", false, 0x6e20_dc00, 0x6e40_1c00),
            Lanes::Divide => ("fdiv", false, 0x6e20_fc00, 0x6e40_3c00),
            Lanes::Maximum => ("fmax", false, 0x4e20_f400, 0x4e40_3400),
            Lanes::Minimum => ("fmin", false, 0x4ea0_f400, 0x4ec0_3400),
            Lanes::AddPairs => ("faddp", false, 0x6e20_d400, 0x6e40_1400),
            Lanes::MaximumPairs => ("fmaxp", false, 0x6e20_f400, 0x6e40_3400),
            Lanes::MinimumPairs => ("fminp", false, 0x6ea0_f400, 0x6ec0_3400),
            Lanes::Greater => ("fcmgt", false, 0x6ea0_e400, 0x6ec0_2400),
            Lanes::GreaterEqual => ("fcmge", false, 0x6e20_e400, 0x6e40_2400),
            Lanes::Equal => ("fcmeq", false, 0x4e20_e400, 0x4e40_2400),
            Lanes::AddIntegers => ("add", false, 0x4ea0_8400, 0x4e60_8400),
            Lanes::SubtractIntegers => ("sub", false, 0x6ea0_8400, 0x6e60_8400),
            Lanes::And => ("and", true, 0x4e20_1c00, 0x4e20_1c00),
            Lanes::Or => ("orr", true, 0x4ea0_1c00, 0x4ea0_1c00),
            Lanes::ExclusiveOr => ("eor", true, 0x6e20_1c00, 0x6e20_1c00),
            Lanes::Select => ("bsl", true, 0x6e60_1c00, 0x6e60_1c00),
        }
    }
}

/// Arithmetic of one vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LanesOne {
    /// Magnitude.
    Absolute,
    /// The other sign.
    Negate,
    /// Square root.
    SquareRoot,
    /// The nearest whole number, ties to even.
    RoundNearest,
    /// The whole number below.
    RoundDown,
    /// The whole number above.
    RoundUp,
    /// The whole number towards zero.
    RoundToZero,
    /// The nearest integer, ties to even, saturated.
    ToInteger,
    /// An integer as a number.
    FromInteger,
}

impl LanesOne {
    pub(super) const fn row(self) -> (&'static str, u32, u32) {
        match self {
            LanesOne::Absolute => ("fabs", 0x4ea0_f800, 0x4ef8_f800),
            LanesOne::Negate => ("fneg", 0x6ea0_f800, 0x6ef8_f800),
            LanesOne::SquareRoot => ("fsqrt", 0x6ea1_f800, 0x6ef9_f800),
            LanesOne::RoundNearest => ("frintn", 0x4e21_8800, 0x4e79_8800),
            LanesOne::RoundDown => ("frintm", 0x4e21_9800, 0x4e79_9800),
            LanesOne::RoundUp => ("frintp", 0x4ea1_8800, 0x4ef9_8800),
            LanesOne::RoundToZero => ("frintz", 0x4ea1_9800, 0x4ef9_9800),
            LanesOne::ToInteger => ("fcvtns", 0x4e21_a800, 0x4e79_a800),
            LanesOne::FromInteger => ("scvtf", 0x4e21_d800, 0x4e79_d800),
        }
    }
}

/// Arithmetic of a vector with one lane of another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ByLane {
    /// `d + n * m[lane]`.
    MultiplyAdd,
    /// `d - n * m[lane]`.
    MultiplySubtract,
    /// `n * m[lane]`.
    Multiply,
}

impl ByLane {
    pub(super) const fn row(self) -> (&'static str, u32, u32) {
        match self {
            ByLane::MultiplyAdd => ("fmla", 0x4f80_1000, 0x4f00_1000),
            ByLane::MultiplySubtract => ("fmls", 0x4f80_5000, 0x4f00_5000),
            ByLane::Multiply => ("fmul", 0x4f80_9000, 0x4f00_9000),
        }
    }
}

/// Whether memory is read or written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read.
    Load,
    /// Written.
    Store,
}

/// How much of a vector register an access moves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 8 bits.
    B,
    /// 16 bits.
    H,
    /// 32 bits.
    S,
    /// 64 bits.
    D,
    /// All 128 bits.
    Q,
}

impl Width {
    /// Bytes.
    pub const fn bytes(self) -> i64 {
        match self {
            Width::B => 1,
            Width::H => 2,
            Width::S => 4,
            Width::D => 8,
            Width::Q => 16,
        }
    }

    /// The width of so many bytes.
    pub const fn of_bytes(bytes: i64) -> Option<Width> {
        match bytes {
            1 => Some(Width::B),
            2 => Some(Width::H),
            4 => Some(Width::S),
            8 => Some(Width::D),
            16 => Some(Width::Q),
            _ => None,
        }
    }

    /// Words of `str` with a scaled offset; a load has bit 22 set.
    const fn word(self) -> u32 {
        match self {
            Width::B => 0x3d00_0000,
            Width::H => 0x7d00_0000,
            Width::S => 0xbd00_0000,
            Width::D => 0xfd00_0000,
            Width::Q => 0x3d80_0000,
        }
    }
}

/// What an access of several registers does to its address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Nothing.
    Stay,
    /// It moves on by the bytes of the access.
    Past,
    /// It moves on by a register.
    By(X),
}

/// A condition of the last comparison.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cond {
    /// Equal.
    Equal,
    /// Different.
    NotEqual,
    /// Higher or the same, unsigned.
    HigherSame,
    /// Lower, unsigned.
    Lower,
    /// Less, signed.
    Less,
    /// Greater or equal, signed.
    GreaterEqual,
}

impl Cond {
    pub(super) const fn row(self) -> (&'static str, u32) {
        match self {
            Cond::Equal => ("eq", 0),
            Cond::NotEqual => ("ne", 1),
            Cond::HigherSame => ("hs", 2),
            Cond::Lower => ("lo", 3),
            Cond::Less => ("lt", 11),
            Cond::GreaterEqual => ("ge", 10),
        }
    }
}

/// A number that `fmov` holds: sign, three bits of exponent, four of fraction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Float(u8);

impl Float {
    /// The number as an immediate, if it is one.
    pub fn of(value: f32) -> Option<Float> {
        (0..=255).map(Float).find(|float| float.value().to_bits() == value.to_bits())
    }

    /// The number (`VFPExpandImm`).
    pub fn value(self) -> f32 {
        let bits = u32::from(self.0);
        let exponent = if bits >> 6 & 1 == 1 { 0x7c } else { 0x80 } | bits >> 4 & 3;
        f32::from_bits(bits >> 7 << 31 | exponent << 23 | (bits & 15) << 19)
    }
}

/// One half of a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Half {
    /// Bits 0 to 63.
    Lower,
    /// Bits 64 to 127.
    Upper,
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Instruction {
    /// Landing pad of indirect calls.
    BtiC,
    /// Return.
    Ret,
    /// `d = value << 16 * place`.
    MovZ(X, u16, u8),
    /// 16 bits of `d`.
    MovK(X, u16, u8),
    /// `d = !(value << 16 * place)`.
    MovN(X, u16, u8),
    /// `d = n`; neither is the stack pointer.
    Mov(X, X),
    /// `d = n`, of 32 bits, extended with zeros.
    MovW(X, X),
    /// `d = n + value`, `value < 4096`, shifted by 12 where the flag is set.
    AddImmediate(X, X, u16, bool),
    /// `d = n - value`.
    SubImmediate(X, X, u16, bool),
    /// `d = n - value`, compared with zero.
    SubsImmediate(X, X, u16),
    /// `d = n + m`; none is the stack pointer.
    Add(X, X, X),
    /// `d = n - m`.
    Sub(X, X, X),
    /// `d = a + n * m`.
    MultiplyAdd(X, X, X, X),
    /// `d = a - n * m`.
    MultiplySubtract(X, X, X, X),
    /// `d = n / m`, unsigned.
    Divide(X, X, X),
    /// Compares n with m.
    Compare(X, X),
    /// `d = condition ? n : m`.
    Choose(X, X, X, Cond),
    /// `x` at `base + offset`, a multiple of 8 below 32768.
    Word(Access, X, X, u16),
    /// Two words at `base + offset`, a multiple of 8 within 512.
    Words(Access, X, X, X, i16),
    /// Two halves of vector registers at `base + offset`, a multiple of 8 within 512.
    Doubles(Access, V, V, X, i16),
    /// Jump.
    Branch(Label),
    /// Jump on a condition.
    BranchIf(Cond, Label),
    /// Jump where the register is zero.
    BranchZero(X, Label),
    /// Part of a vector at `base + offset`.
    Vector(Access, Width, V, X, i64),
    /// Part of a vector at `base`, which then moves by -256 to 255 bytes.
    VectorPost(Access, Width, V, X, i16),
    /// Two vectors at `base + offset`, a multiple of 16 within 1024.
    Vectors(Access, V, V, X, i16),
    /// Two vectors at `base`, which then moves by a multiple of 16 within 1024.
    VectorsPost(Access, V, V, X, i16),
    /// One to four consecutive registers at `base`.
    Multiple(Access, V, u8, X, After),
    /// Two to four streams, a register of each, woven at `base`, which then moves past them.
    Structures(Access, Arrangement, V, u8, X),
    /// Two to four streams, one element of each in one lane, at `base`.
    StructureLane(Access, Arrangement, V, u8, u8, X, After),
    /// One lane at `base`.
    Lane(Access, Arrangement, V, u8, X),
    /// One number at `base` for all lanes.
    LoadSpread(Arrangement, V, X, After),
    /// A constant behind the code.
    Literal(V, Label),
    /// The address of a label.
    Address(X, Label),
    /// All zeros.
    Zero(V),
    /// One number for all lanes.
    MovFloat(Arrangement, V, Float),
    /// One lane for all.
    Spread(Arrangement, V, V, u8),
    /// `d = n <op> m`.
    Lanes(Lanes, Arrangement, V, V, V),
    /// `d = <op> n`.
    LanesOne(LanesOne, Arrangement, V, V),
    /// `d = n <op> m[lane]`; of halves `m` is one of the first 16 registers.
    ByLane(ByLane, Arrangement, V, V, V, u8),
    /// Lanes shifted left.
    ShiftLeft(Arrangement, V, V, u8),
    /// Four halves, the lower or upper ones of `n`, as singles.
    Widen(V, V, Half),
    /// Four singles as halves, in the lower or upper lanes of `d`; the lower ones clear the upper.
    Narrow(V, V, Half),
    /// What works on narrow integers.
    Integer(Integer),
}

/// Whether `Vector` can be encoded: a multiple of the width from 0 up, or any offset within 256 bytes.
pub fn fits_offset(width: Width, offset: i64) -> bool {
    (offset >= 0 && offset % width.bytes() == 0 && offset / width.bytes() < 4096) || (-256..256).contains(&offset)
}

const fn x(register: X, at: u32) -> u32 {
    (register.0 as u32) << at
}

const fn v(register: V, at: u32) -> u32 {
    (register.0 as u32) << at
}

fn upper(half: Half) -> u32 {
    u32::from(half == Half::Upper) << 30
}

/// An access of one lane, whose number lies in Q, S and, of halves, in the upper bit of the size.
fn one_lane(access: Access, of: Arrangement, lane: u8) -> u32 {
    let place = u32::from(lane) << of.choose(1, 0);
    let (q, s, size) = (place >> 2 & 1, place >> 1 & 1, place & 1);
    of.choose(0x0d00_8000, 0x0d00_4000) | load_bit(access) | q << 30 | s << 12 | size << 11
}

fn load_bit(access: Access) -> u32 {
    u32::from(access == Access::Load) << 22
}

fn post(after: After) -> u32 {
    match after {
        After::Stay => 0,
        After::Past => 1 << 23 | 31 << 16,
        After::By(by) => 1 << 23 | x(by, 16),
    }
}

/// `value` in `bits` bits at a place, sign included.
fn field(value: i64, bits: u32, at: u32) -> u32 {
    (value as u32 & ((1 << bits) - 1)) << at
}

impl Instruction {
    /// The word; jumps, literals and addresses get `distance`, in instructions, to their label.
    pub fn word(&self, distance: i64) -> u32 {
        match *self {
            Instruction::BtiC => 0xd503_245f,
            Instruction::Ret => 0xd65f_03c0,
            Instruction::MovZ(d, value, place) => {
                0xd280_0000 | u32::from(place) << 21 | u32::from(value) << 5 | x(d, 0)
            }
            Instruction::MovK(d, value, place) => {
                0xf280_0000 | u32::from(place) << 21 | u32::from(value) << 5 | x(d, 0)
            }
            Instruction::MovN(d, value, place) => {
                0x9280_0000 | u32::from(place) << 21 | u32::from(value) << 5 | x(d, 0)
            }
            Instruction::Mov(d, n) => 0xaa00_03e0 | x(n, 16) | x(d, 0),
            Instruction::MovW(d, n) => 0x2a00_03e0 | x(n, 16) | x(d, 0),
            Instruction::AddImmediate(d, n, value, high) => immediate(0x9100_0000, d, n, value, high),
            Instruction::SubImmediate(d, n, value, high) => immediate(0xd100_0000, d, n, value, high),
            Instruction::SubsImmediate(d, n, value) => immediate(0xf100_0000, d, n, value, false),
            Instruction::Add(d, n, m) => 0x8b00_0000 | x(m, 16) | x(n, 5) | x(d, 0),
            Instruction::Sub(d, n, m) => 0xcb00_0000 | x(m, 16) | x(n, 5) | x(d, 0),
            Instruction::MultiplyAdd(d, n, m, a) => 0x9b00_0000 | x(m, 16) | x(a, 10) | x(n, 5) | x(d, 0),
            Instruction::MultiplySubtract(d, n, m, a) => 0x9b00_8000 | x(m, 16) | x(a, 10) | x(n, 5) | x(d, 0),
            Instruction::Divide(d, n, m) => 0x9ac0_0800 | x(m, 16) | x(n, 5) | x(d, 0),
            Instruction::Compare(n, m) => 0xeb00_001f | x(m, 16) | x(n, 5),
            Instruction::Choose(d, n, m, cond) => 0x9a80_0000 | x(m, 16) | cond.row().1 << 12 | x(n, 5) | x(d, 0),
            Instruction::Word(access, t, base, offset) => {
                0xf900_0000 | load_bit(access) | field(i64::from(offset) / 8, 12, 10) | x(base, 5) | x(t, 0)
            }
            Instruction::Words(access, a, b, base, offset) => {
                0xa900_0000 | load_bit(access) | field(i64::from(offset) / 8, 7, 15) | x(b, 10) | x(base, 5) | x(a, 0)
            }
            Instruction::Doubles(access, a, b, base, offset) => {
                0x6d00_0000 | load_bit(access) | field(i64::from(offset) / 8, 7, 15) | v(b, 10) | x(base, 5) | v(a, 0)
            }
            Instruction::Branch(_) => 0x1400_0000 | field(distance, 26, 0),
            Instruction::BranchIf(cond, _) => 0x5400_0000 | field(distance, 19, 5) | cond.row().1,
            Instruction::BranchZero(t, _) => 0xb400_0000 | field(distance, 19, 5) | x(t, 0),
            Instruction::Vector(access, width, t, base, offset) => {
                let registers = load_bit(access) | x(base, 5) | v(t, 0);
                if offset >= 0 && offset % width.bytes() == 0 && offset / width.bytes() < 4096 {
                    width.word() | registers | field(offset / width.bytes(), 12, 10)
                } else {
                    (width.word() & !(1 << 24)) | registers | field(offset, 9, 12)
                }
            }
            Instruction::VectorPost(access, width, t, base, offset) => {
                (width.word() & !(1 << 24))
                    | 0x400
                    | load_bit(access)
                    | field(i64::from(offset), 9, 12)
                    | x(base, 5)
                    | v(t, 0)
            }
            Instruction::Vectors(access, a, b, base, offset) => {
                0xad00_0000 | load_bit(access) | field(i64::from(offset) / 16, 7, 15) | v(b, 10) | x(base, 5) | v(a, 0)
            }
            Instruction::VectorsPost(access, a, b, base, by) => {
                0xac80_0000 | load_bit(access) | field(i64::from(by) / 16, 7, 15) | v(b, 10) | x(base, 5) | v(a, 0)
            }
            Instruction::Multiple(access, first, count, base, after) => {
                let opcode = match count {
                    1 => 7,
                    2 => 10,
                    3 => 6,
                    _ => 2,
                };
                0x4c00_0800 | load_bit(access) | post(after) | opcode << 12 | x(base, 5) | v(first, 0)
            }
            Instruction::Structures(access, of, first, ways, base) => {
                let (opcode, size) = (4 * (4 - u32::from(ways)), of.choose(0x800, 0x400));
                0x4c9f_0000 | size | load_bit(access) | opcode << 12 | x(base, 5) | v(first, 0)
            }
            Instruction::StructureLane(access, of, first, ways, lane, base, after) => {
                let (odd, more) = (u32::from(ways % 2 == 0), u32::from(ways > 2));
                one_lane(access, of, lane) | post(after) | odd << 21 | more << 13 | x(base, 5) | v(first, 0)
            }
            Instruction::Lane(access, of, t, lane, base) => one_lane(access, of, lane) | x(base, 5) | v(t, 0),
            Instruction::LoadSpread(of, t, base, after) => {
                of.choose(0x4d40_c800, 0x4d40_c400) | post(after) | x(base, 5) | v(t, 0)
            }
            Instruction::Literal(t, _) => 0x9c00_0000 | field(distance, 19, 5) | v(t, 0),
            Instruction::Address(d, _) => 0x1000_0000 | field(distance, 19, 5) | x(d, 0),
            Instruction::Zero(d) => 0x4f00_0400 | v(d, 0),
            Instruction::MovFloat(of, d, Float(bits)) => {
                of.choose(0x4f00_f400, 0x4f00_fc00) | u32::from(bits >> 5) << 16 | u32::from(bits & 31) << 5 | v(d, 0)
            }
            Instruction::Spread(of, d, n, lane) => {
                let size = of.bits() / 8;
                0x4e00_0400 | ((u32::from(lane) * 2 + 1) * size) << 16 | v(n, 5) | v(d, 0)
            }
            Instruction::Lanes(op, of, d, n, m) => {
                let (_, _, singles, halves) = op.row();
                of.choose(singles, halves) | v(m, 16) | v(n, 5) | v(d, 0)
            }
            Instruction::LanesOne(op, of, d, n) => {
                let (_, singles, halves) = op.row();
                of.choose(singles, halves) | v(n, 5) | v(d, 0)
            }
            Instruction::ByLane(op, of, d, n, m, lane) => {
                // H, L and, of halves, M hold the lane's number.
                let (_, singles, halves) = op.row();
                let place = u32::from(lane) << of.choose(1, 0);
                let (h, l, m_bit) = (place >> 2 & 1, place >> 1 & 1, place & 1);
                of.choose(singles, halves) | h << 11 | l << 21 | m_bit << 20 | v(m, 16) | v(n, 5) | v(d, 0)
            }
            Instruction::ShiftLeft(of, d, n, by) => 0x4f00_5400 | (of.bits() + u32::from(by)) << 16 | v(n, 5) | v(d, 0),
            Instruction::Widen(d, n, half) => 0x0e21_7800 | upper(half) | v(n, 5) | v(d, 0),
            Instruction::Narrow(d, n, half) => 0x0e21_6800 | upper(half) | v(n, 5) | v(d, 0),
            Instruction::Integer(integer) => integer.word(),
        }
    }

    /// Whether what follows need not run behind the instruction, or what is before it must stay there.
    pub(super) fn ends_block(&self) -> bool {
        matches!(
            self,
            Instruction::BtiC
                | Instruction::Ret
                | Instruction::Branch(_)
                | Instruction::BranchIf(..)
                | Instruction::BranchZero(..)
        )
    }

    /// The label that the instruction refers to.
    pub(super) fn label(&self) -> Option<Label> {
        match *self {
            Instruction::Branch(label)
            | Instruction::BranchIf(_, label)
            | Instruction::BranchZero(_, label)
            | Instruction::Literal(_, label)
            | Instruction::Address(_, label) => Some(label),
            _ => None,
        }
    }
}

fn immediate(word: u32, d: X, n: X, value: u16, high: bool) -> u32 {
    word | u32::from(high) << 22 | u32::from(value) << 10 | x(n, 5) | x(d, 0)
}
