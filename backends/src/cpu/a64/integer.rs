//! Instructions over vectors of narrow integers (Arm Architecture Reference Manual for A-profile, C7), and accesses of parts of
//! a register.

use std::fmt;

use super::instruction::{Access, After, Half, V, Width, X};
use super::text::letter;

/// Arithmetic of two vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Two {
    /// Adds to each word the sum of four products of bytes.
    Dot,
    /// Adds to two by two words the sums of eight products of bytes: rows of `n` by rows of `m`.
    MatrixProduct,
    /// Sums of neighbouring words, those of `n` before those of `m`.
    AddPairs,
    /// Sum of halves, saturated.
    AddHalves,
    /// Difference of bytes.
    SubtractBytes,
    /// The larger bytes with sign.
    Maximum,
    /// The smaller bytes with sign.
    Minimum,
    /// The larger bytes without sign.
    MaximumUnsigned,
    /// The smaller bytes without sign.
    MinimumUnsigned,
}

impl Two {
    /// The mnemonic, the lanes of result and operands, and the word without registers.
    const fn row(self) -> (&'static str, &'static str, &'static str, u32) {
        match self {
            Two::Dot => ("sdot", "4s", "16b", 0x4e80_9400),
            Two::MatrixProduct => ("smmla", "4s", "16b", 0x4e80_a400),
            Two::AddPairs => ("addp", "4s", "4s", 0x4ea0_bc00),
            Two::AddHalves => ("sqadd", "8h", "8h", 0x4e60_0c00),
            Two::SubtractBytes => ("sub", "16b", "16b", 0x6e20_8400),
            Two::Maximum => ("smax", "16b", "16b", 0x4e20_6400),
            Two::Minimum => ("smin", "16b", "16b", 0x4e20_6c00),
            Two::MaximumUnsigned => ("umax", "16b", "16b", 0x6e20_6400),
            Two::MinimumUnsigned => ("umin", "16b", "16b", 0x6e20_6c00),
        }
    }

    /// Whether the result is added to what is there.
    pub(super) const fn accumulates(self) -> bool {
        matches!(self, Two::Dot | Two::MatrixProduct)
    }
}

/// Narrower integers of a vector, saturated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Narrowing {
    /// Words to halves.
    Halves,
    /// Halves to bytes.
    Bytes,
    /// Halves to bytes without sign.
    UnsignedBytes,
}

impl Narrowing {
    /// The mnemonic, the lanes of the source, those of the lower result and of both, and the word without registers.
    const fn row(self) -> (&'static str, &'static str, [&'static str; 2], u32) {
        match self {
            Narrowing::Halves => ("sqxtn", "4s", ["4h", "8h"], 0x0e61_4800),
            Narrowing::Bytes => ("sqxtn", "8h", ["8b", "16b"], 0x0e21_4800),
            Narrowing::UnsignedBytes => ("sqxtun", "8h", ["8b", "16b"], 0x2e21_2800),
        }
    }
}

/// Wider integers of one half of a vector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Widening {
    /// Bytes to halves.
    Bytes,
    /// Bytes without sign to halves.
    UnsignedBytes,
    /// Halves to words.
    Halves,
}

impl Widening {
    const fn row(self) -> (&'static str, &'static str, [&'static str; 2], u32) {
        match self {
            Widening::Bytes => ("sshll", "8h", ["8b", "16b"], 0x0f08_a400),
            Widening::UnsignedBytes => ("ushll", "8h", ["8b", "16b"], 0x2f08_a400),
            Widening::Halves => ("sshll", "4s", ["4h", "8h"], 0x0f10_a400),
        }
    }
}

/// One instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Integer {
    /// `d = n <op> m`.
    Two(Two, V, V, V),
    /// Adds to each word of `d` the sum of the products of four bytes of `n` with those of one word of `m`.
    DotByLane(V, V, V, u8),
    /// Halves, each the product of two bytes of one half of `n` and of `m`; where the flag is set, added to those of `d`.
    Product(bool, V, V, V, Half),
    /// Adds to each word of `d` the product of two halves, of one half of `n` and of `m`.
    AddProductOfHalves(V, V, V, Half),
    /// Words, each the sum of two neighbouring halves of `n`; where the flag is set, added to those of `d`.
    PairsOfHalves(bool, V, V),
    /// One element of a width at `base` in all lanes, and `base` moves past it.
    SpreadPost(Width, V, X),
    /// Lanes of a width, of one half of `n` and of `m` in turn.
    Zip(Width, Half, V, V, V),
    /// Narrower lanes in one half of `d`; the lower ones clear the upper.
    Narrow(Narrowing, V, V, Half),
    /// Wider lanes of one half of `n`.
    Widen(Widening, V, V, Half),
    /// Bytes of the four registers from `first` on, with the numbers that the bytes of `n` are; beyond them 0, or where the
    /// flag is set what `d` is: `extends, d, first, n`.
    LookUp(bool, V, V, V),
    /// The lower 64 bits of `n` shifted right by 1 to 64, with zeros above.
    ShiftRight(V, V, u8),
    /// Words of `n` shifted right by 1 to 32, with the sign above.
    ShiftWordsRight(V, V, u8),
    /// Bytes of `n` shifted left by 0 to 7.
    ShiftBytesLeft(V, V, u8),
    /// Two to four streams, sixteen bytes of each, woven at `base`, which then moves past them.
    Structures(Access, V, u8, X),
    /// Two to four streams, one byte of each in the first lane, at `base`, which then moves past them.
    StructureOfBytes(Access, V, u8, X),
    /// The lane of a width with this number, at `base`.
    Part(Access, Width, V, u8, X, After),
}

fn upper(half: Half) -> u32 {
    u32::from(half == Half::Upper)
}

impl Integer {
    pub(super) fn word(&self) -> u32 {
        let registers = |d: V, n: V, m: u32| m << 16 | u32::from(n.0) << 5 | u32::from(d.0);
        match *self {
            Integer::Two(op, d, n, m) => op.row().3 | registers(d, n, u32::from(m.0)),
            Integer::DotByLane(d, n, m, lane) => {
                let lane = u32::from(lane);
                0x4f80_e000 | (lane >> 1) << 11 | (lane & 1) << 21 | registers(d, n, u32::from(m.0))
            }
            Integer::Product(adds, d, n, m, half) => {
                let word = if adds { 0x0e20_8000 } else { 0x0e20_c000 };
                word | upper(half) << 30 | registers(d, n, u32::from(m.0))
            }
            Integer::AddProductOfHalves(d, n, m, half) => {
                0x0e60_8000 | upper(half) << 30 | registers(d, n, u32::from(m.0))
            }
            Integer::PairsOfHalves(adds, d, n) => 0x4e60_2800 | u32::from(adds) << 14 | registers(d, n, 0),
            Integer::SpreadPost(width, t, base) => {
                0x4ddf_c000 | size(width) << 10 | u32::from(base.0) << 5 | u32::from(t.0)
            }
            Integer::Zip(width, half, d, n, m) => {
                0x4e00_3800 | size(width) << 22 | upper(half) << 14 | registers(d, n, u32::from(m.0))
            }
            Integer::Narrow(op, d, n, half) => op.row().3 | upper(half) << 30 | registers(d, n, 0),
            Integer::Widen(op, d, n, half) => op.row().3 | upper(half) << 30 | registers(d, n, 0),
            Integer::LookUp(extends, d, first, n) => {
                0x4e00_6000 | u32::from(extends) << 12 | registers(d, first, u32::from(n.0))
            }
            Integer::ShiftRight(d, n, by) => 0x7f00_0400 | (128 - u32::from(by)) << 16 | registers(d, n, 0),
            Integer::ShiftWordsRight(d, n, by) => 0x4f00_0400 | (64 - u32::from(by)) << 16 | registers(d, n, 0),
            Integer::ShiftBytesLeft(d, n, by) => 0x4f08_5400 | u32::from(by) << 16 | registers(d, n, 0),
            Integer::Structures(access, first, ways, base) => {
                let (opcode, load) = (4 * (4 - u32::from(ways)), u32::from(access == Access::Load) << 22);
                0x4c9f_0000 | load | opcode << 12 | u32::from(base.0) << 5 | u32::from(first.0)
            }
            Integer::StructureOfBytes(access, first, ways, base) => {
                let (odd, more) = (u32::from(ways % 2 == 0), u32::from(ways > 2));
                let load = u32::from(access == Access::Load) << 22;
                0x0d9f_0000 | load | odd << 21 | more << 13 | u32::from(base.0) << 5 | u32::from(first.0)
            }
            Integer::Part(access, width, t, lane, base, after) => {
                let opcode = [0x0d00_0000, 0x0d00_4000, 0x0d00_8000, 0x0d00_8400][size(width) as usize];
                // Q, S and size are the lane's number, which takes fewer bits of wider lanes.
                let place = u32::from(lane) << size(width);
                let number = (place >> 3 & 1) << 30 | (place >> 2 & 1) << 12 | (place & 3) << 10;
                let load = u32::from(access == Access::Load) << 22;
                let post = match after {
                    After::Stay => 0,
                    After::Past => 1 << 23 | 31 << 16,
                    After::By(by) => 1 << 23 | u32::from(by.0) << 16,
                };
                opcode | number | load | post | u32::from(base.0) << 5 | u32::from(t.0)
            }
        }
    }
}

/// The logarithm of a width's bytes.
const fn size(width: Width) -> u32 {
    width.bytes().trailing_zeros()
}

impl fmt::Display for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let second = |half: Half| if half == Half::Upper { "2" } else { "" };
        match *self {
            Integer::Two(op, d, n, m) => {
                let (name, result, of, _) = op.row();
                write!(f, "{name} v{}.{result}, v{}.{of}, v{}.{of}", d.0, n.0, m.0)
            }
            Integer::DotByLane(d, n, m, lane) => write!(f, "sdot v{}.4s, v{}.16b, v{}.4b[{lane}]", d.0, n.0, m.0),
            Integer::Product(adds, d, n, m, half) => {
                let (name, of) = (if adds { "smlal" } else { "smull" }, ["8b", "16b"][upper(half) as usize]);
                write!(f, "{name}{} v{}.8h, v{}.{of}, v{}.{of}", second(half), d.0, n.0, m.0)
            }
            Integer::AddProductOfHalves(d, n, m, half) => {
                let of = ["4h", "8h"][upper(half) as usize];
                write!(f, "smlal{} v{}.4s, v{}.{of}, v{}.{of}", second(half), d.0, n.0, m.0)
            }
            Integer::PairsOfHalves(adds, d, n) => {
                let name = if adds { "sadalp" } else { "saddlp" };
                write!(f, "{name} v{}.4s, v{}.8h", d.0, n.0)
            }
            Integer::SpreadPost(width, t, base) => {
                let (count, of, bytes) = (16 / width.bytes(), letter(width), width.bytes());
                write!(f, "ld1r {{v{}.{count}{of}}}, [{base}], #{bytes}", t.0)
            }
            Integer::Zip(width, half, d, n, m) => {
                let (name, of) = (if half == Half::Lower { "zip1" } else { "zip2" }, letter(width));
                let count = 16 / width.bytes();
                write!(f, "{name} v{}.{count}{of}, v{}.{count}{of}, v{}.{count}{of}", d.0, n.0, m.0)
            }
            Integer::Narrow(op, d, n, half) => {
                let (name, from, to, _) = op.row();
                write!(f, "{name}{} v{}.{}, v{}.{from}", second(half), d.0, to[upper(half) as usize], n.0)
            }
            Integer::Widen(op, d, n, half) => {
                let (name, to, from, _) = op.row();
                write!(f, "{name}{} v{}.{to}, v{}.{}, #0", second(half), d.0, n.0, from[upper(half) as usize])
            }
            Integer::LookUp(extends, d, first, n) => {
                let (name, last) = (if extends { "tbx" } else { "tbl" }, first.0 + 3);
                write!(f, "{name} v{}.16b, {{v{}.16b-v{last}.16b}}, v{}.16b", d.0, first.0, n.0)
            }
            Integer::ShiftRight(d, n, by) => write!(f, "ushr d{}, d{}, #{by}", d.0, n.0),
            Integer::ShiftWordsRight(d, n, by) => write!(f, "sshr v{}.4s, v{}.4s, #{by}", d.0, n.0),
            Integer::ShiftBytesLeft(d, n, by) => write!(f, "shl v{}.16b, v{}.16b, #{by}", d.0, n.0),
            Integer::Structures(access, first, ways, base) | Integer::StructureOfBytes(access, first, ways, base) => {
                let name = if access == Access::Load { "ld" } else { "st" };
                let (lanes, place, bytes) = match self {
                    Integer::Structures(..) => ("16b", "", 16),
                    _ => ("b", "[0]", 1),
                };
                let registers = (0..ways).map(|way| format!("v{}.{lanes}", first.0 + way)).collect::<Vec<_>>();
                write!(f, "{name}{ways} {{{}}}{place}, [{base}], #{}", registers.join(", "), bytes * u32::from(ways))
            }
            Integer::Part(access, width, t, lane, base, after) => {
                let name = if access == Access::Load { "ld1" } else { "st1" };
                let base = if base.0 == 31 { "sp".to_owned() } else { base.to_string() };
                write!(f, "{name} {{v{}.{}}}[{lane}], [{base}]", t.0, letter(width))?;
                match after {
                    After::Stay => Ok(()),
                    After::Past => write!(f, ", #{}", width.bytes()),
                    After::By(by) => write!(f, ", {by}"),
                }
            }
        }
    }
}
