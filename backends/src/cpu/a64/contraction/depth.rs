//! The innermost loops: multiply-adds of the rows of a tile with panels of weights, along a run of the depth.

use crate::contraction::Element;
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Arrangement, Instruction, V, Width, X, fits_offset};

use super::tile::Shape;
use super::totals::{Begin, Stretch, Sums};
use super::{Contraction, register};

/// Elements of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 16;
/// Elements of one turn of the loop.
const TURN: i64 = 16;

/// Elements that lie side by side in memory for each of some pixels of a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub element: Element,
    /// The tile's pixels, a half-open range.
    pub pixels: [i64; 2],
    /// Elements.
    pub depth: i64,
    /// Input bytes from one pixel to the next.
    pub pixel_bytes: i64,
}

/// Consecutive elements that one load of each row brings.
struct Part {
    /// The first element: of the run, or of a turn of its loop.
    at: i64,
    size: i64,
    /// Whether the address by which rows are read moves on to the next turn.
    moves: bool,
    begin: Begin,
}

/// How the rows of a run are addressed.
enum Rows {
    /// By offsets from one register, which has been moved by this many bytes.
    Offsets(X, i64),
    /// By a register each, which move as they are read.
    Each(Vec<X>),
}

impl Contraction<'_> {
    /// Adds the products of a run that begins `offset` bytes behind `base`; returns by how many bytes `base`, where it may
    /// be moved, has been.
    pub(super) fn run(
        &self,
        a: &mut Assembler,
        shape: Shape,
        (run, sums): (Run, Sums),
        (base, offset, may_move): (X, i64, bool),
    ) -> Option<i64> {
        if run.element == Element::I8 {
            return self.run_of_bytes(a, shape, (run, sums), (base, offset, may_move));
        }
        let count = run.pixels[1] - run.pixels[0];
        let loops = run.depth > UNROLLED;
        let [scratch, ..] = register::SCRATCH;
        let moves_base = may_move && offset == 0;
        let pairs = pairs_of_blocks(shape) && run.depth >= 2 * self.lanes();
        if !pairs && run.offsets_fit(loops) {
            let pointer = if moves_base || (!loops && offset == 0) { base } else { register::INPUT };
            if pointer != base {
                a.add(pointer, base, offset, scratch);
            }
            let mut rows = Rows::Offsets(pointer, 0);
            self.along_depth(a, shape, (run, sums), self.lanes(), &mut rows);
            return Some(match rows {
                Rows::Offsets(_, moved) if moves_base => moved,
                _ => 0,
            });
        }
        let mut pointers: Vec<X> = if moves_base { vec![base] } else { vec![register::INPUT] };
        pointers.extend(self.rows.iter().take(count as usize - 1));
        if pointers.len() < count as usize {
            return None;
        }
        if !moves_base {
            a.add(pointers[0], base, offset, scratch);
        }
        for pair in pointers.windows(2) {
            a.add(pair[1], pair[0], run.pixel_bytes, scratch);
        }
        let block = if pairs { 2 * self.lanes() } else { self.lanes() };
        self.along_depth(a, shape, (run, sums), block, &mut Rows::Each(pointers));
        Some(if moves_base { run.depth * self.size() } else { 0 })
    }

    /// The whole run, `block` elements with each load of a row.
    fn along_depth(&self, a: &mut Assembler, shape: Shape, (run, sums): (Run, Sums), block: i64, rows: &mut Rows) {
        self.in_chunks(a, shape, run.depth, sums, |a, stretch| self.stretch(a, shape, run, block, rows, stretch));
    }

    /// Consecutive elements of a run, `block` with each load of a row.
    fn stretch(&self, a: &mut Assembler, shape: Shape, run: Run, block: i64, rows: &mut Rows, stretch: Stretch) {
        let Stretch { first, elements, mut begin } = stretch;
        let (mut done, end) = (first, first + elements);
        let loops = run.depth > UNROLLED;
        if begin == Begin::Multiplying && elements >= TURN && loops {
            self.turn(a, shape, run, block, rows, begin);
            begin = Begin::Adding;
            done += TURN;
        }
        let turns = (end - done) / TURN;
        if turns > 0 && loops {
            self.turns(a, shape, run, (block, turns), rows);
            done += turns * TURN;
        }
        if let Rows::Offsets(_, moved) = rows {
            *moved = done * self.size();
        }
        let mut size = block;
        while size > 0 {
            while end - done >= size {
                self.part(a, shape, run, rows, Part { at: done, size, moves: false, begin });
                begin = Begin::Adding;
                done += size;
            }
            size /= 2;
        }
    }

    /// A loop of `turns` turns.
    fn turns(&self, a: &mut Assembler, shape: Shape, run: Run, (block, turns): (i64, i64), rows: &mut Rows) {
        a.turns(register::DEPTH_LEFT, turns, |a| self.turn(a, shape, run, block, rows, Begin::Adding));
    }

    fn turn(&self, a: &mut Assembler, shape: Shape, run: Run, block: i64, rows: &mut Rows, begin: Begin) {
        for at in (0..TURN).step_by(block as usize) {
            let begin = if at == 0 { begin } else { Begin::Adding };
            self.part(a, shape, run, rows, Part { at, size: block, moves: at == 0, begin });
        }
    }

    /// Some elements of the depth: one load of each row, and their products.
    fn part(&self, a: &mut Assembler, shape: Shape, run: Run, rows: &mut Rows, part: Part) {
        let Part { at, size, moves, begin: how } = part;
        let [begin, end] = run.pixels;
        let registers = inputs_of(shape);
        let input = |pixel: i64, block: i64| V((shape.first_other() + pixel * registers + block) as u8);
        let (bytes, lanes) = (size * self.size(), self.lanes());
        let width = Width::of_bytes(bytes).unwrap_or(Width::Q);
        for pixel in begin..end {
            let (row, first) = (pixel - begin, input(pixel, 0));
            match rows {
                Rows::Each(pointers) if size > lanes => {
                    let (pointer, second) = (pointers[row as usize], input(pixel, 1));
                    a.push(Instruction::VectorsPost(Access::Load, first, second, pointer, bytes as i16));
                }
                Rows::Each(pointers) => {
                    let pointer = pointers[row as usize];
                    a.push(Instruction::VectorPost(Access::Load, width, first, pointer, bytes as i16));
                }
                Rows::Offsets(pointer, moved) if moves && row == 0 => {
                    *moved = TURN * self.size();
                    a.push(Instruction::VectorPost(Access::Load, width, first, *pointer, *moved as i16));
                }
                Rows::Offsets(pointer, moved) => {
                    let offset = row * run.pixel_bytes + at * self.size() - *moved;
                    a.push(Instruction::Vector(Access::Load, width, first, *pointer, offset));
                }
            }
        }
        let vectors = shape.columns.vectors;
        let (inputs, of) = (shape.rows * registers, Arrangement::of(shape.element));
        let (first_free, free) = (shape.first_other() + inputs, 32 - shape.sums() - inputs);
        let chunk = free.clamp(1, 4);
        let groups = (free / chunk).clamp(1, 2);
        for place in 0..size * vectors {
            let group = place / chunk % groups;
            let weights = V((first_free + group * chunk + place % chunk) as u8);
            if place % chunk == 0 {
                let count = chunk.min(size * vectors - place) as u8;
                a.push(Instruction::Multiple(Access::Load, weights, count, register::WEIGHTS, After::Past));
            }
            let (k, vector) = (place / vectors, place % vectors);
            for pixel in begin..end {
                let (sum, input) = (shape.sum(pixel, vector), input(pixel, k / lanes));
                a.push(Instruction::ByLane(how.of(k), of, sum, weights, input, (k % lanes) as u8));
            }
        }
    }
}

/// Whether a tile has the registers to load two blocks of a row at once, and four vectors of weights.
fn pairs_of_blocks(shape: Shape) -> bool {
    shape.sums() + 2 * shape.rows + 4 <= 32
}

/// Registers for each row of the input.
fn inputs_of(shape: Shape) -> i64 {
    if pairs_of_blocks(shape) { 2 } else { 1 }
}

impl Run {
    /// Whether every load of a block of the run can be written as an offset from one register.
    fn offsets_fit(&self, loops: bool) -> bool {
        let rows = self.pixels[1] - self.pixels[0];
        let (size, block) = (self.element.bytes(), self.element.lanes());
        let looped = if loops { self.depth / TURN * TURN } else { 0 };
        let turn = if loops { TURN } else { 0 };
        let in_turn = (0..turn).step_by(block as usize).map(|at| (at - TURN, Width::Q));
        let whole = self.depth / block * block;
        let behind = (looped..whole).step_by(block as usize).map(|at| (at - looped, Width::Q));
        let mut rest = Vec::new();
        let mut done = whole;
        for part in [block / 2, block / 4, block / 8].into_iter().filter(|&part| part > 0) {
            if self.depth - done >= part {
                rest.extend(Width::of_bytes(part * size).map(|width| (done - looped, width)));
                done += part;
            }
        }
        let mut loads = in_turn.chain(behind).chain(rest);
        loads.all(|(at, width)| {
            let is_moving = |row: i64| row == 0 && at == -TURN;
            (0..rows).all(|row| is_moving(row) || fits_offset(width, row * self.pixel_bytes + at * size))
        })
    }
}
