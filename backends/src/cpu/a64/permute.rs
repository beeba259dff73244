//! Copies that interleave two to four streams of elements of 32, 16 or 8 bits, or take them apart: images with their channels apart, and
//! channel shuffles. A stream is read or written where its elements are neighbours.

use crate::contraction::Footprint;
use crate::cpu::contraction::EmittedKernel;
use crate::cpu::isa::CpuTarget;
use crate::kernel::linear::Linear;
use crate::kernel::{Index, LoopKernel, Stmt, Value, Var};

use super::assembler::Assembler;
use super::instruction::{Access, After, Arrangement, Cond, Instruction, V, Width, X, ZERO};
use super::integer::Integer;

const BASES: X = X(0);
const SCRATCH: X = X(1);
/// First iteration of the range, and one past the last.
const BEGIN: X = X(2);
const END: X = X(3);
const LEFT: X = X(4);
/// Where the streams and the other side lie for the outer loops at work.
const STREAMS_AT: X = X(5);
const WOVEN_AT: X = X(6);
const WOVEN: X = X(7);
const STREAMS: [X; 4] = [X(8), X(9), X(10), X(11)];
const OUTER_LEFT: [X; 4] = [X(12), X(13), X(14), X(15)];

/// A loop of a copy: its extent, and how far a step moves in what is read and what is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Loop {
    extent: i64,
    read: i64,
    written: i64,
    is_range: bool,
}

/// A copy of streams: `woven[outer + ways * i + way] <-> streams[outer + distance * way + i]`, in elements.
struct Weaving {
    /// The width of an element.
    element: Width,
    /// Whether the woven side is written.
    weaves: bool,
    ways: i64,
    /// Between streams.
    distance: i64,
    /// Elements of each stream.
    length: i64,
    /// The streams' elements are the range.
    along_range: bool,
    /// The other loops: extent, steps of the streams and of the woven side, whether it is the range.
    outer: Vec<(i64, i64, i64, bool)>,
    /// First elements of streams and woven side, and their operands.
    starts: [i64; 2],
    operands: [usize; 2],
}

/// Emits a loop nest that is such a copy.
pub fn emit_permutation(target: &CpuTarget, kernel: &LoopKernel, footprints: Vec<Footprint>) -> Option<EmittedKernel> {
    let weaving = Weaving::of(kernel)?;
    let mut assembler = Assembler::new(target, 0);
    weaving.emit(&mut assembler);
    Some(EmittedKernel::new(assembler.finish(target.listing), kernel.range as i64, footprints))
}

/// The width of elements that are alike in all buffers.
fn element(kernel: &LoopKernel) -> Option<Width> {
    let all = |width: &Width| kernel.buffers.iter().all(|buffer| buffer.dtype.size() as i64 == width.bytes());
    [Width::S, Width::H, Width::B].into_iter().find(all)
}

/// The loops of a kernel that only copies, with the operands read and written and their first elements.
fn copy_of(kernel: &LoopKernel) -> Option<(Vec<Loop>, [usize; 2], [i64; 2])> {
    let mut vars = vec![(Var(0), kernel.range as i64)];
    let mut body = kernel.body.as_slice();
    while let [Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(end), body: inner, .. }] = body {
        vars.push((*var, *end));
        body = inner;
    }
    let (from, to, loaded, stored) = match body {
        [
            Stmt::Set { local, value: Value::Load { buffer, index } },
            rest @ ..,
            Stmt::Store { buffer: to, index: at, local: stored },
        ] => {
            let same = match rest {
                [] => local == stored,
                [Stmt::Set { local: applied, value: Value::Apply { expr, arguments } }] => {
                    expr.is_argument(0) && arguments.as_slice() == [*local] && applied == stored
                }
                _ => false,
            };
            (*buffer, *to, Linear::of(index), same.then(|| Linear::of(at))?)
        }
        _ => return None,
    };
    let is_affine = |linear: &Linear| linear.terms.iter().all(|(atom, _)| matches!(atom, Index::Var(_)));
    if !is_affine(&loaded) || !is_affine(&stored) || element(kernel).is_none() {
        return None;
    }
    let loops = vars.into_iter().map(|(var, extent)| {
        Some(Loop { extent, read: loaded.factor(var)?, written: stored.factor(var)?, is_range: var == Var(0) })
    });
    Some((loops.collect::<Option<_>>()?, [from, to], [loaded.constant, stored.constant]))
}

impl Weaving {
    fn of(kernel: &LoopKernel) -> Option<Weaving> {
        let (loops, [from, to], [read, written]) = copy_of(kernel)?;
        let weaves = Weaving::along(&loops, |each| (each.read, each.written));
        let (weaves, (way, stream)) = match weaves {
            Some(places) => (true, places),
            None => (false, Weaving::along(&loops, |each| (each.written, each.read))?),
        };
        let sides = |each: &Loop| if weaves { (each.read, each.written) } else { (each.written, each.read) };
        let others = loops.iter().enumerate().filter(|&(place, _)| place != way && place != stream);
        let outer: Vec<_> =
            others.map(|(_, each)| (each.extent, sides(each).0, sides(each).1, each.is_range)).collect();
        let fits = !loops[way].is_range && outer.len() <= OUTER_LEFT.len();
        let element = element(kernel)?;
        fits.then(|| Weaving {
            element,
            weaves,
            ways: loops[way].extent,
            distance: sides(&loops[way]).0,
            length: loops[stream].extent,
            along_range: loops[stream].is_range,
            outer,
            starts: if weaves { [read, written] } else { [written, read] },
            operands: if weaves { [from, to] } else { [to, from] },
        })
    }

    /// The places of the loop over streams and of the loop along them; `sides` are the steps of streams and woven side.
    fn along(loops: &[Loop], sides: impl Fn(&Loop) -> (i64, i64)) -> Option<(usize, usize)> {
        let way = loops.iter().position(|each| sides(each).1 == 1 && (2..=4).contains(&each.extent))?;
        let stream = loops.iter().position(|each| sides(each) == (1, loops[way].extent))?;
        (way != stream).then_some((way, stream))
    }

    /// Bytes of an element.
    fn size(&self) -> i64 {
        self.element.bytes()
    }

    /// Elements of a register.
    fn lanes(&self) -> i64 {
        16 / self.size()
    }

    /// A register of each stream, or one element, woven.
    fn woven(&self, access: Access, first: V, is_whole: bool) -> Instruction {
        let (ways, after) = (self.ways as u8, After::Past);
        let of = match self.element {
            Width::B => {
                return Instruction::Integer(match is_whole {
                    true => Integer::Structures(access, first, ways, WOVEN),
                    false => Integer::StructureOfBytes(access, first, ways, WOVEN),
                });
            }
            Width::H => Arrangement::H8,
            Width::S | Width::D | Width::Q => Arrangement::S4,
        };
        match is_whole {
            true => Instruction::Structures(access, of, first, ways, WOVEN),
            false => Instruction::StructureLane(access, of, first, ways, 0, WOVEN, after),
        }
    }

    fn emit(&self, a: &mut Assembler) {
        a.push(Instruction::MovW(BEGIN, BEGIN));
        a.push(Instruction::MovW(END, END));
        for (at, place) in [(STREAMS_AT, 0), (WOVEN_AT, 1)] {
            a.push(Instruction::Word(Access::Load, at, BASES, 8 * self.operands[place] as u16));
            a.add(at, at, self.size() * self.starts[place], SCRATCH);
        }
        let range = self.outer.iter().find(|each| each.3).map(|each| (each.1, each.2));
        let (stream, woven) = range.unwrap_or((1, self.ways));
        a.add_product(STREAMS_AT, BEGIN, self.size() * stream, STREAMS_AT, SCRATCH);
        a.add_product(WOVEN_AT, BEGIN, self.size() * woven, WOVEN_AT, SCRATCH);
        a.push(Instruction::Sub(END, END, BEGIN));
        self.loops(a, 0);
    }

    /// The outer loops from `place` on, and the streams within.
    fn loops(&self, a: &mut Assembler, place: usize) {
        let Some(&(extent, stream, woven, is_range)) = self.outer.get(place) else { return self.streams(a) };
        let (left, exit) = (OUTER_LEFT[place], a.label());
        if is_range {
            a.push(Instruction::Mov(left, END));
        } else {
            a.constant(left, extent);
        }
        a.push(Instruction::BranchZero(left, exit));
        let head = a.here();
        self.loops(a, place + 1);
        a.add(STREAMS_AT, STREAMS_AT, self.size() * stream, SCRATCH);
        a.add(WOVEN_AT, WOVEN_AT, self.size() * woven, SCRATCH);
        a.push(Instruction::SubsImmediate(left, left, 1));
        a.push(Instruction::BranchIf(Cond::NotEqual, head));
        if !is_range {
            a.add(STREAMS_AT, STREAMS_AT, -self.size() * stream * extent, SCRATCH);
            a.add(WOVEN_AT, WOVEN_AT, -self.size() * woven * extent, SCRATCH);
        }
        a.place(exit);
    }

    /// All elements of the streams: two registers of each at once, then one, then one by one.
    fn streams(&self, a: &mut Assembler) {
        let ways = self.ways as usize;
        a.push(Instruction::Mov(WOVEN, WOVEN_AT));
        for (way, &stream) in STREAMS.iter().enumerate().take(ways) {
            a.add(stream, STREAMS_AT, self.size() * self.distance * way as i64, SCRATCH);
        }
        if self.along_range {
            a.push(Instruction::Mov(LEFT, END));
        } else {
            a.constant(LEFT, self.length);
        }
        let lanes = self.lanes();
        for size in [2 * lanes, lanes, 1] {
            if !self.along_range && self.length < size {
                continue;
            }
            let (head, exit) = (a.here(), a.label());
            a.push(Instruction::SubsImmediate(ZERO, LEFT, size as u16));
            a.push(Instruction::BranchIf(Cond::Less, exit));
            self.part(a, size);
            a.push(Instruction::SubImmediate(LEFT, LEFT, size as u16, false));
            a.push(Instruction::Branch(head));
            a.place(exit);
        }
    }

    /// `size` elements of each stream.
    fn part(&self, a: &mut Assembler, size: i64) {
        let (streams, woven) = if self.weaves { (Access::Load, Access::Store) } else { (Access::Store, Access::Load) };
        let ways = self.ways as u8;
        let registers = size / self.lanes();
        let weave = |a: &mut Assembler| match registers {
            2 => {
                a.push(self.woven(woven, V(0), true));
                a.push(self.woven(woven, V(ways), true));
            }
            registers => a.push(self.woven(woven, V(0), registers == 1)),
        };
        if !self.weaves {
            weave(a);
        }
        for (way, &stream) in (0..ways).zip(&STREAMS) {
            match registers {
                2 => a.push(Instruction::VectorsPost(streams, V(way), V(ways + way), stream, 32)),
                1 => a.push(Instruction::VectorPost(streams, Width::Q, V(way), stream, 16)),
                _ => a.push(Instruction::VectorPost(streams, self.element, V(way), stream, self.size() as i16)),
            }
        }
        if self.weaves {
            weave(a);
        }
    }
}
