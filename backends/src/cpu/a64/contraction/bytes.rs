//! Contractions of i8 by dot products: four elements of the depth of a pixel, one lane of its register, with four of each of
//! four channels. And how bytes are stored and read behind the sums.

use crate::contraction::{ContractionSpec, Element};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::bytes::{GROUP, Narrow, load_step, look_up, narrowed, widened};
use crate::cpu::a64::instruction::{Access, After, Arrangement, Instruction, V, Width, X, fits_offset};
use crate::cpu::a64::integer::Integer;
use crate::pack::PackedLayout;

use super::depth::Run;
use super::tile::{Columns, Shape};
use super::totals::{Begin, Sums};
use super::{Contraction, Further, further_operand, pairs, parts, register};

/// Elements of the depth that weights of a channel hold side by side.
pub(super) const BLOCK: i64 = Element::I8.depth_block();
/// Elements of one turn of the loop.
const TURN: i64 = 64;
/// Elements of a run that stand one behind the other without a loop.
const UNROLLED: i64 = 160;

/// Whether the elements of a run behind its whole blocks can be loaded without any beyond the run.
pub(super) fn knows_tail(spec: &ContractionSpec) -> bool {
    let run = PackedLayout::run_of(spec) * spec.depth;
    run >= BLOCK || Width::of_bytes(run).is_some()
}

/// Elements of the depth that are loaded together for each pixel.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The first, counted from the run's.
    pub at: i64,
    pub size: i64,
}

/// How the pixels of a run are addressed.
pub(super) enum Rows {
    /// By offsets from one register.
    Offsets(X),
    /// By a register each, which move as they are read.
    Each(Vec<X>),
}

impl Contraction<'_> {
    /// Adds the products of a run that begins `offset` bytes behind `base`; returns by how many bytes `base`, where it may be
    /// moved, has been.
    pub(super) fn run_of_bytes(
        &self,
        a: &mut Assembler,
        shape: Shape,
        (run, sums): (Run, Sums),
        (base, offset, may_move): (X, i64, bool),
    ) -> Option<i64> {
        let [scratch, ..] = register::SCRATCH;
        let moves_base = may_move && offset == 0;
        let pieces = |begin: i64, end: i64| match () {
            () if self.by_parts(shape) => parts::pieces(begin, end),
            () if self.by_pairs(shape) => pieces(begin, end, pairs::widest(shape)),
            () => pieces(begin, end, widest(shape)),
        };
        let all = pieces(0, run.depth);
        let fits = |piece: &Piece| (0..shape.rows).all(|row| piece.fits(row * run.pixel_bytes));
        let has_offsets = !self.by_parts(shape) && shape.columns.panels == 1;
        if has_offsets && run.depth <= UNROLLED && all.iter().all(fits) {
            let pointer = if offset == 0 { base } else { register::INPUT };
            a.add(pointer, base, offset, scratch);
            let rows = Rows::Offsets(pointer);
            all.iter().for_each(|&piece| self.piece(a, shape, run, &rows, (piece, Begin::Adding)));
            return Some(0);
        }
        let mut pointers = vec![if moves_base { base } else { register::INPUT }];
        pointers.extend(self.rows.iter().take(shape.rows as usize - 1));
        if pointers.len() < shape.rows as usize {
            return None;
        }
        a.add(pointers[0], base, offset, scratch);
        for pair in pointers.windows(2) {
            a.add(pair[1], pair[0], run.pixel_bytes, scratch);
        }
        let rows = Rows::Each(pointers);
        let turns = if run.depth > UNROLLED { run.depth / TURN } else { 0 };
        let mut begin = if sums == Sums::Whole(Begin::Multiplying) { Begin::Multiplying } else { Begin::Adding };
        let mut stretch = |a: &mut Assembler, pieces: Vec<Piece>| {
            for piece in pieces {
                self.piece(a, shape, run, &rows, (piece, begin));
                begin = Begin::Adding;
            }
        };
        let apart = turns.min(i64::from(sums == Sums::Whole(Begin::Multiplying)));
        (0..apart).for_each(|_| stretch(a, pieces(0, TURN)));
        if turns > apart {
            a.turns(register::DEPTH_LEFT, turns - apart, |a| stretch(a, pieces(0, TURN)));
        }
        stretch(a, pieces(turns * TURN, run.depth));
        let tail = run.depth % BLOCK;
        let read = if Width::of_bytes(tail).is_some() { run.depth } else { run.depth - tail };
        Some(if moves_base { read } else { 0 })
    }

    /// Loads a piece of each pixel, and adds its products.
    fn piece(&self, a: &mut Assembler, shape: Shape, run: Run, rows: &Rows, (piece, begin): (Piece, Begin)) {
        if self.by_parts(shape) {
            return self.piece_of_parts(a, shape, rows, (piece, begin));
        }
        if self.by_pairs(shape) {
            return self.piece_of_pairs(a, shape, run, rows, piece);
        }
        let inputs = if widest(shape) == 32 { 2 } else { 1 };
        let input = |row: i64| V((shape.first_other() + row * inputs) as u8);
        (0..shape.rows).for_each(|row| piece.load_row(a, input(row), rows, (row, run.pixel_bytes)));
        let vectors = shape.columns.vectors;
        let first_free = shape.first_other() + shape.rows * inputs;
        let groups = ((32 - first_free) / 2).clamp(1, 4);
        let quads = (piece.size + 3) / 4;
        for block in 0..(piece.size + BLOCK - 1) / BLOCK {
            for vector in 0..vectors {
                let group = (block * vectors + vector) % groups;
                let weights = V((first_free + 2 * group) as u8);
                a.push(Instruction::Structures(Access::Load, Arrangement::S4, weights, 2, register::WEIGHTS));
                for quad in 2 * block..(2 * block + 2).min(quads) {
                    let factors = V(weights.0 + (quad % 2) as u8);
                    for row in 0..shape.rows {
                        let (sum, lanes) = (shape.sum(row, vector), V(input(row).0 + (quad / 4) as u8));
                        a.push(Instruction::Integer(Integer::DotByLane(sum, factors, lanes, (quad % 4) as u8)));
                    }
                }
            }
        }
    }

    /// With every second row, and the last, narrows words to bytes in the place of sums, and stores them but where a table is
    /// between.
    pub(super) fn finish_bytes(&self, a: &mut Assembler, shape: Shape, row: i64, narrow: &Narrow) {
        let is_second = row % 2 == 1;
        if !is_second && row + 1 < shape.rows {
            return;
        }
        let rows: Vec<V> = (row - i64::from(is_second)..=row).map(|row| shape.sum(row, 0)).collect();
        narrowed(a, narrow, &rows, shape.columns.vectors);
        if self.table.is_none() {
            self.store_rows(a, shape, rows[0], rows.len() as i64);
        }
    }

    /// Stores the bytes of one or two rows.
    fn store_rows(&self, a: &mut Assembler, shape: Shape, bytes: V, rows: i64) {
        let channels = (shape.columns.vectors - 1) * self.lanes() + shape.columns.last_lanes;
        for half in 0..rows {
            move_bytes(a, Access::Store, bytes, 8 * half, channels, (register::OUTPUT, register::OUTPUT_STEP));
        }
    }

    /// Stores for the bytes of all rows, which leave the registers of second rows, those of a table.
    pub(super) fn look_up_bytes(&self, a: &mut Assembler, shape: Shape, table: &[u8; 256]) -> Option<()> {
        let [address, ..] = register::SCRATCH;
        let (found, step, first) = (V(14), V(15), V(16));
        // With as many sums as that, those of the last row are second ones.
        if shape.sums() > i64::from(first.0) {
            return None;
        }
        load_step(a, step);
        let label = a.table(table);
        a.push(Instruction::Address(address, label));
        let group = |number: usize| V(first.0 + (number * GROUP / 16) as u8);
        for number in 0..256 / GROUP {
            a.push(Instruction::Multiple(Access::Load, group(number), 4, address, After::Past));
        }
        for row in (0..shape.rows).step_by(2) {
            look_up(a, [found, shape.sum(row, 0), step], |_, number| group(number));
            self.store_rows(a, shape, found, 2.min(shape.rows - row));
        }
        Some(())
    }

    /// Loads bytes of a pixel as singles, and moves on to the next pixel.
    pub(super) fn load_bytes(&self, a: &mut Assembler, further: &Further, first: V, columns: Columns) {
        let channels = (columns.vectors - 1) * self.lanes() + columns.last_lanes;
        move_bytes(a, Access::Load, first, 0, channels, (further.pointer, further.step));
        widened(a, self.types[further_operand(further.number)], first, columns.vectors);
    }
}

/// Bytes of a row that a tile loads at once: 32 where two registers for each, and two of weights, are left.
fn widest(shape: Shape) -> i64 {
    if shape.sums() + 2 * shape.rows + 4 <= 32 { 32 } else { 16 }
}

/// A run from element `begin` on, in pieces of 32, 16 and 8 elements and what is left.
fn pieces(begin: i64, depth: i64, widest: i64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = begin;
    while at < depth {
        let left = depth - at;
        let size = [32, 16, 8].into_iter().find(|&size| size <= widest && size <= left).unwrap_or(left);
        pieces.push(Piece { at, size });
        at += size;
    }
    pieces
}

impl Piece {
    /// Bytes before the piece that are loaded with it, and by which it is shifted, so that none beyond the run is.
    fn before(&self) -> i64 {
        match self.size {
            32 => 0,
            size if Width::of_bytes(size).is_some() => 0,
            size => BLOCK - size,
        }
    }

    /// Whether the loads of the piece can be written as offsets from where `row` bytes before the run are.
    fn fits(&self, row: i64) -> bool {
        let at = row + self.at - self.before();
        match self.size {
            32 => self.is_pair(at) || (fits_offset(Width::Q, at) && fits_offset(Width::Q, at + 16)),
            size => fits_offset(Width::of_bytes(size).unwrap_or(Width::D), at),
        }
    }

    fn is_pair(&self, at: i64) -> bool {
        at % 16 == 0 && (-1024..1024).contains(&at)
    }

    /// Loads the piece of a row.
    pub fn load_row(&self, a: &mut Assembler, to: V, rows: &Rows, (row, pixel_bytes): (i64, i64)) {
        match rows {
            Rows::Offsets(base) => self.load(a, to, *base, row * pixel_bytes + self.at),
            Rows::Each(pointers) => self.load_and_move(a, to, pointers[row as usize]),
        }
    }

    /// Loads the piece at `base + at`.
    fn load(&self, a: &mut Assembler, to: V, base: X, at: i64) {
        if self.size == 32 {
            let second = V(to.0 + 1);
            if self.is_pair(at) {
                return a.push(Instruction::Vectors(Access::Load, to, second, base, at as i16));
            }
            a.push(Instruction::Vector(Access::Load, Width::Q, to, base, at));
            return a.push(Instruction::Vector(Access::Load, Width::Q, second, base, at + 16));
        }
        let width = Width::of_bytes(self.size).unwrap_or(Width::D);
        a.push(Instruction::Vector(Access::Load, width, to, base, at - self.before()));
        self.shift(a, to);
    }

    /// Loads the piece at `pointer`, which moves behind it but where the run ends with it.
    pub fn load_and_move(&self, a: &mut Assembler, to: V, pointer: X) {
        let by = self.size as i16;
        match (self.size, Width::of_bytes(self.size)) {
            (32, _) => a.push(Instruction::VectorsPost(Access::Load, to, V(to.0 + 1), pointer, by)),
            (_, Some(width)) => a.push(Instruction::VectorPost(Access::Load, width, to, pointer, by)),
            (_, None) => {
                a.push(Instruction::Vector(Access::Load, Width::D, to, pointer, -self.before()));
                self.shift(a, to);
            }
        }
    }

    fn shift(&self, a: &mut Assembler, register: V) {
        let bits = 8 * self.before();
        if bits > 0 {
            a.push(Instruction::Integer(Integer::ShiftRight(register, register, bits as u8)));
        }
    }
}

/// Moves `channels` bytes, up to eight, from byte `at` of a register on; `base` moves on by `step`.
fn move_bytes(a: &mut Assembler, access: Access, register: V, at: i64, channels: i64, (base, step): (X, X)) {
    if channels == 8 {
        let part = Integer::Part(access, Width::D, register, (at / 8) as u8, base, After::By(step));
        return a.push(Instruction::Integer(part));
    }
    let [scratch, ..] = register::SCRATCH;
    let mut done = 0;
    for (size, width) in [(4, Width::S), (2, Width::H), (1, Width::B)] {
        if channels - done < size {
            continue;
        }
        let address = if done == 0 { base } else { scratch };
        a.add(address, base, done, scratch);
        let lane = (at + done) / size;
        a.push(Instruction::Integer(Integer::Part(access, width, register, lane as u8, address, After::Stay)));
        done += size;
    }
    a.push(Instruction::Add(base, base, step));
}
