//! Instructions as an assembler reads them.

use std::fmt;

use super::instruction::{Access, After, Arrangement, Half, Instruction, V, Width, X};

struct Base(X);

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.0 == 31 { f.write_str("sp") } else { write!(f, "x{}", self.0.0) }
    }
}

impl fmt::Display for X {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 31 { f.write_str("xzr") } else { write!(f, "x{}", self.0) }
    }
}

/// A vector by its lanes.
struct Of(Arrangement, V);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}", self.1.0, kind(self.0))
    }
}

fn kind(of: Arrangement) -> &'static str {
    match of {
        Arrangement::S4 => "4s",
        Arrangement::H8 => "8h",
    }
}

/// The letter of one lane.
fn lane_letter(of: Arrangement) -> char {
    match of {
        Arrangement::S4 => 's',
        Arrangement::H8 => 'h',
    }
}

pub(super) fn letter(width: Width) -> char {
    match width {
        Width::B => 'b',
        Width::H => 'h',
        Width::S => 's',
        Width::D => 'd',
        Width::Q => 'q',
    }
}

/// One of two mnemonics.
fn either(access: Access, load: &'static str, store: &'static str) -> &'static str {
    if access == Access::Load { load } else { store }
}

fn consecutive(first: V, count: u8, kind: &str) -> String {
    let registers: Vec<String> = (0..count).map(|n| format!("v{}.{kind}", (first.0 + n) % 32)).collect();
    registers.join(", ")
}

fn after(after: After, bytes: i64) -> String {
    match after {
        After::Stay => String::new(),
        After::Past => format!(", #{bytes}"),
        After::By(by) => format!(", {by}"),
    }
}

impl fmt::Display for Instruction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shift = |place: u8| 16 * place;
        let twelve = |high: bool| if high { ", lsl #12" } else { "" };
        match *self {
            Instruction::BtiC => write!(f, "bti c"),
            Instruction::Ret => write!(f, "ret"),
            Instruction::MovZ(d, value, place) => write!(f, "movz {d}, #{value}, lsl #{}", shift(place)),
            Instruction::MovK(d, value, place) => write!(f, "movk {d}, #{value}, lsl #{}", shift(place)),
            Instruction::MovN(d, value, place) => write!(f, "movn {d}, #{value}, lsl #{}", shift(place)),
            Instruction::Mov(d, n) => write!(f, "mov {d}, {n}"),
            Instruction::MovW(d, n) => write!(f, "mov w{}, w{}", d.0, n.0),
            Instruction::AddImmediate(d, n, value, high) => {
                write!(f, "add {}, {}, #{value}{}", Base(d), Base(n), twelve(high))
            }
            Instruction::SubImmediate(d, n, value, high) => {
                write!(f, "sub {}, {}, #{value}{}", Base(d), Base(n), twelve(high))
            }
            Instruction::SubsImmediate(d, n, value) => write!(f, "subs {d}, {}, #{value}", Base(n)),
            Instruction::Add(d, n, m) => write!(f, "add {d}, {n}, {m}"),
            Instruction::Sub(d, n, m) => write!(f, "sub {d}, {n}, {m}"),
            Instruction::MultiplyAdd(d, n, m, a) => write!(f, "madd {d}, {n}, {m}, {a}"),
            Instruction::MultiplySubtract(d, n, m, a) => write!(f, "msub {d}, {n}, {m}, {a}"),
            Instruction::Divide(d, n, m) => write!(f, "udiv {d}, {n}, {m}"),
            Instruction::Compare(n, m) => write!(f, "cmp {n}, {m}"),
            Instruction::Choose(d, n, m, cond) => write!(f, "csel {d}, {n}, {m}, {}", cond.row().0),
            Instruction::Word(access, t, base, offset) => {
                write!(f, "{} {t}, [{}, #{offset}]", either(access, "ldr", "str"), Base(base))
            }
            Instruction::Words(access, a, b, base, offset) => {
                write!(f, "{} {a}, {b}, [{}, #{offset}]", either(access, "ldp", "stp"), Base(base))
            }
            Instruction::Doubles(access, a, b, base, offset) => {
                write!(f, "{} d{}, d{}, [{}, #{offset}]", either(access, "ldp", "stp"), a.0, b.0, Base(base))
            }
            Instruction::Branch(label) => write!(f, "b {label}"),
            Instruction::BranchIf(cond, label) => write!(f, "b.{} {label}", cond.row().0),
            Instruction::BranchZero(t, label) => write!(f, "cbz {t}, {label}"),
            Instruction::Vector(access, width, t, base, offset) => {
                write!(f, "{} {}{}, [{}, #{offset}]", either(access, "ldr", "str"), letter(width), t.0, Base(base))
            }
            Instruction::VectorPost(access, width, t, base, offset) => {
                write!(f, "{} {}{}, [{}], #{offset}", either(access, "ldr", "str"), letter(width), t.0, Base(base))
            }
            Instruction::Vectors(access, a, b, base, offset) => {
                write!(f, "{} q{}, q{}, [{}, #{offset}]", either(access, "ldp", "stp"), a.0, b.0, Base(base))
            }
            Instruction::VectorsPost(access, a, b, base, by) => {
                write!(f, "{} q{}, q{}, [{}], #{by}", either(access, "ldp", "stp"), a.0, b.0, Base(base))
            }
            Instruction::Multiple(access, first, count, base, then) => {
                let registers = consecutive(first, count, "4s");
                let then = after(then, 16 * i64::from(count));
                write!(f, "{} {{{}}}, [{}]{then}", either(access, "ld1", "st1"), registers, Base(base))
            }
            Instruction::Structures(access, of, first, ways, base) => {
                let registers = consecutive(first, ways, kind(of));
                write!(f, "{}{ways} {{{registers}}}, [{}], #{}", either(access, "ld", "st"), Base(base), 16 * ways)
            }
            Instruction::StructureLane(access, of, first, ways, lane, base, then) => {
                let registers = consecutive(first, ways, &lane_letter(of).to_string());
                let then = after(then, i64::from(of.bits() / 8) * i64::from(ways));
                write!(f, "{}{ways} {{{registers}}}[{lane}], [{}]{then}", either(access, "ld", "st"), Base(base))
            }
            Instruction::Lane(access, of, t, lane, base) => {
                let (name, letter) = (either(access, "ld1", "st1"), lane_letter(of));
                write!(f, "{name} {{v{}.{letter}}}[{lane}], [{}]", t.0, Base(base))
            }
            Instruction::LoadSpread(of, t, base, then) => {
                write!(f, "ld1r {{{}}}, [{}]{}", Of(of, t), Base(base), after(then, i64::from(of.bits() / 8)))
            }
            Instruction::Address(d, label) => write!(f, "adr {d}, {label}"),
            Instruction::Literal(t, label) => write!(f, "ldr q{}, {label}", t.0),
            Instruction::Zero(d) => write!(f, "movi v{}.4s, #0", d.0),
            Instruction::MovFloat(of, d, value) => write!(f, "fmov {}, #{:?}", Of(of, d), value.value()),
            Instruction::Spread(of, d, n, lane) => {
                write!(f, "dup {}, v{}.{}[{lane}]", Of(of, d), n.0, lane_letter(of))
            }
            Instruction::Lanes(op, of, d, n, m) => {
                let (name, is_bytes, ..) = op.row();
                let kind = if is_bytes { "16b" } else { kind(of) };
                write!(f, "{name} v{}.{kind}, v{}.{kind}, v{}.{kind}", d.0, n.0, m.0)
            }
            Instruction::LanesOne(op, of, d, n) => write!(f, "{} {}, {}", op.row().0, Of(of, d), Of(of, n)),
            Instruction::ByLane(op, of, d, n, m, lane) => {
                write!(f, "{} {}, {}, v{}.{}[{lane}]", op.row().0, Of(of, d), Of(of, n), m.0, lane_letter(of))
            }
            Instruction::ShiftLeft(of, d, n, by) => write!(f, "shl {}, {}, #{by}", Of(of, d), Of(of, n)),
            Instruction::Widen(d, n, Half::Lower) => write!(f, "fcvtl v{}.4s, v{}.4h", d.0, n.0),
            Instruction::Widen(d, n, Half::Upper) => write!(f, "fcvtl2 v{}.4s, v{}.8h", d.0, n.0),
            Instruction::Narrow(d, n, Half::Lower) => write!(f, "fcvtn v{}.4h, v{}.4s", d.0, n.0),
            Instruction::Narrow(d, n, Half::Upper) => write!(f, "fcvtn2 v{}.8h, v{}.4s", d.0, n.0),
            Instruction::Integer(integer) => integer.fmt(f),
        }
    }
}
