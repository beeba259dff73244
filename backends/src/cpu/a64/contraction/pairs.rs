//! Contractions of i8 by products of matrices: two pixels by two channels, of eight elements of the depth each. Sums of a pair
//! of pixels lie in a register for every two channels, `[pixel][channel]`, as many registers behind their places as a pixel has
//! vectors: so they are parted into pixels without another register. Tiles of up to six pixels go over two panels at once, whose
//! sums lie one behind the other. A single pixel goes by dot products, but over two panels.

use crate::contraction::{Element, divide_up};
use crate::cpu::a64::assembler::Assembler;
use crate::cpu::a64::instruction::{Access, After, Half, Instruction, V, Width, X};
use crate::cpu::a64::integer::{Integer, Two};
use crate::cpu::a64::vector::Registers;
use crate::cpu::isa::Integers;

use super::bytes::{BLOCK, Piece, Rows};
use super::depth::Run;
use super::tile::{Columns, Shape};
use super::{Contraction, register};

/// Elements of the depth of a pixel that a register holds.
const WIDEST: i64 = 2 * BLOCK;

/// Elements of the depth of a pixel that are loaded at once; where sums of two panels leave few registers a block.
pub(super) fn widest(shape: Shape) -> i64 {
    if shape.columns.panels > 1 { BLOCK } else { WIDEST }
}

/// The registers of a block of one panel's weights, the last ones.
const LAST_WEIGHTS: V = V(28);

/// Lanes of 64 bits of one half of two registers.
fn zip(a: &mut Assembler, half: Half, d: V, n: V, m: V) {
    a.push(Instruction::Integer(Integer::Zip(Width::D, half, d, n, m)));
}

impl Contraction<'_> {
    /// Whether a tile's pixels go in pairs; of an odd number the last is the second of its pair too.
    pub(super) fn by_pairs(&self, shape: Shape) -> bool {
        self.integers == Integers::Matrix
            && shape.element == Element::I8
            && (shape.rows > 1 || shape.columns.panels > 1)
    }

    /// Zeros, or what starts the sums.
    pub(super) fn start_pairs(&self, a: &mut Assembler, shape: Shape) {
        let (vectors, panels) = (shape.columns.vectors, shape.columns.panels);
        let Some(start) = &self.start else {
            return (0..panels * panel_sums(shape)).for_each(|place| a.push(Instruction::Zero(sum_at(shape, place))));
        };
        let first = V(first_other(shape) as u8);
        for panel in 0..panels {
            let address = self.in_panel(a, start, panel);
            self.move_vectors(a, Access::Load, first, shape.columns, address, After::Stay);
            for pair in 0..pairs(shape) {
                for place in 0..2 * vectors {
                    let (half, of) =
                        (if place % 2 == 0 { Half::Lower } else { Half::Upper }, V(first.0 + (place / 2) as u8));
                    zip(a, half, sum_at(shape, panel * panel_sums(shape) + pair * 2 * vectors + place), of, of);
                }
            }
        }
    }

    /// Loads a piece of each pixel, and adds its products.
    pub(super) fn piece_of_pairs(&self, a: &mut Assembler, shape: Shape, run: Run, rows: &Rows, piece: Piece) {
        if shape.columns.panels > 1 {
            return self.block_of_panels(a, shape, rows, piece);
        }
        let (vectors, first) = (shape.columns.vectors, first_other(shape));
        // One register is free while pairs are made, and then behind them.
        let mut free = V(first as u8);
        let blocks = (piece.size + BLOCK - 1) / BLOCK;
        let mut inputs: Vec<[V; 2]> = Vec::new();
        for pair in 0..pairs(shape) {
            let [one, two] = [0, 1].map(|row| V((first + 1 + 2 * pair + row) as u8));
            let last = (2 * pair + 1).min(shape.rows - 1);
            piece.load_row(a, one, rows, (2 * pair, run.pixel_bytes));
            let other = if last > 2 * pair { two } else { one };
            if other == two {
                piece.load_row(a, two, rows, (last, run.pixel_bytes));
            }
            zip(a, Half::Lower, free, one, other);
            if blocks > 1 {
                zip(a, Half::Upper, two, one, other);
            }
            inputs.push([free, two]);
            free = one;
        }
        let weights = V((first + 1 + 2 * pairs(shape)) as u8);
        for block in 0..blocks {
            let count = 2 * vectors as u8;
            a.push(Instruction::Multiple(Access::Load, weights, count, register::WEIGHTS, After::Past));
            for place in 0..2 * vectors {
                for (pair, input) in (0..).zip(&inputs) {
                    let (sum, factors) = (sum_at(shape, pair * 2 * vectors + place), V(weights.0 + place as u8));
                    let product = Integer::Two(Two::MatrixProduct, sum, input[block as usize], factors);
                    a.push(Instruction::Integer(product));
                }
            }
        }
    }

    /// Loads a block of each pixel, two pixels to a register, and adds its products with a block of each panel.
    fn block_of_panels(&self, a: &mut Assembler, shape: Shape, rows: &Rows, piece: Piece) {
        let Rows::Each(pointers) = rows else { return };
        let behind = first_other(shape) as u8;
        // Sums begin behind as many registers as a pixel has vectors.
        let inputs: Vec<V> = [V(0), V(1), V(behind)].into_iter().take(pairs(shape) as usize).collect();
        for (&input, pair) in inputs.iter().zip(pointers.chunks(2)) {
            load_pair(a, piece, (input, V(behind + 1)), pair);
        }
        self.products_of_block(a, shape, &inputs);
    }

    /// Loads a block of each panel's weights, and adds its products with one of each pair of pixels.
    fn products_of_block(&self, a: &mut Assembler, shape: Shape, inputs: &[V]) {
        let count = 2 * shape.columns.vectors;
        let bases = [Some(register::WEIGHTS), self.second_weights];
        for (panel, base) in (0..shape.columns.panels).zip(bases.into_iter().flatten()) {
            a.push(Instruction::Multiple(Access::Load, LAST_WEIGHTS, count as u8, base, After::Past));
            for place in 0..count {
                for (pair, &input) in (0..).zip(inputs) {
                    let sum = sum_at(shape, panel * panel_sums(shape) + pair * count + place);
                    let factors = V(LAST_WEIGHTS.0 + place as u8);
                    a.push(Instruction::Integer(Integer::Two(Two::MatrixProduct, sum, input, factors)));
                }
            }
        }
    }

    /// Lays two rows side by side, block by block, at `packed`, which moves on by the register `step` with each.
    pub(super) fn pack_pair(&self, a: &mut Assembler, rows: &[X], counter: X, (packed, step): (X, X)) {
        const TURN: i64 = 32;
        let [one, two, woven] = [V(0), V(2), V(4)];
        let store = |a: &mut Assembler, register: V| {
            a.push(Instruction::Multiple(Access::Store, register, 1, packed, After::By(step)));
        };
        let blocks = |a: &mut Assembler, size: i64| {
            let piece = Piece { at: 0, size };
            [one, two].into_iter().zip(rows).for_each(|(to, &row)| piece.load_and_move(a, to, row));
            for part in 0..(size / WIDEST) as u8 {
                for half in [Half::Lower, Half::Upper] {
                    zip(a, half, woven, V(one.0 + part), V(two.0 + part));
                    store(a, woven);
                }
            }
        };
        let depth = self.spec.depth;
        if depth >= TURN {
            a.turns(counter, depth / TURN, |a| blocks(a, TURN));
        }
        if depth % TURN >= WIDEST {
            blocks(a, WIDEST);
        }
        let rest = depth % WIDEST;
        for size in [rest / BLOCK * BLOCK, rest % BLOCK].into_iter().filter(|&size| size > 0) {
            load_pair(a, Piece { at: 0, size }, (one, two), rows);
            store(a, one);
        }
    }

    /// Adds the products of a tile's packed rows.
    pub(super) fn packed_pairs(&self, a: &mut Assembler, shape: Shape) {
        const TURN: i64 = 8;
        let behind = first_other(shape) as u8;
        let inputs: Vec<V> = match shape.columns.panels {
            1 => (0..pairs(shape) as u8).map(|pair| V(behind + pair)).collect(),
            _ => [V(0), V(1), V(behind)].into_iter().take(pairs(shape) as usize).collect(),
        };
        let block = |a: &mut Assembler| {
            for pair in inputs.chunks(2) {
                a.push(match *pair {
                    [one, two] => Instruction::VectorsPost(Access::Load, one, two, register::TILE, 32),
                    _ => Instruction::VectorPost(Access::Load, Width::Q, pair[0], register::TILE, 16),
                });
            }
            self.products_of_block(a, shape, &inputs);
        };
        let blocks = divide_up(self.spec.depth, BLOCK);
        if blocks >= TURN {
            a.turns(register::DEPTH_LEFT, blocks / TURN, |a| (0..TURN).for_each(|_| block(a)));
        }
        (0..blocks % TURN).for_each(|_| block(a));
    }

    /// The epilogue of every panel, behind which come the next pixels.
    pub(super) fn finish_pairs(&self, a: &mut Assembler, shape: Shape) -> Option<()> {
        let panels = shape.columns.panels;
        for panel in 0..panels {
            let columns = Columns { panels: 1, ..shape.columns };
            let part = Shape { columns, first: panel * panel_sums(shape), ..shape };
            self.part_pairs(a, part);
            let mut free = Registers::without(part.first as u8, part.sums() as u8);
            if panel + 1 < panels {
                let waiting = sum_at(shape, (panel + 1) * panel_sums(shape)).0;
                free = free.common(Registers::without(waiting, first_other(shape) as u8 - waiting));
            }
            self.finish_panel(a, part, panel, free)?;
            if panels > 1 {
                self.next_panel(a, shape, panel);
            }
        }
        Some(())
    }

    /// Puts the sums of each pixel into their places.
    fn part_pairs(&self, a: &mut Assembler, shape: Shape) {
        let vectors = shape.columns.vectors;
        for pair in 0..pairs(shape) {
            for (row, half) in [(2 * pair, Half::Lower), (2 * pair + 1, Half::Upper)] {
                for vector in (0..vectors).filter(|_| row < shape.rows) {
                    let of = [0, 1].map(|place| sum_at(shape, pair * 2 * vectors + 2 * vector + place));
                    zip(a, half, shape.sum(row, vector), of[0], of[1]);
                }
            }
        }
    }
}

/// Loads a block of one or two pixels, of one to both halves of the register.
fn load_pair(a: &mut Assembler, piece: Piece, (to, spare): (V, V), pointers: &[X]) {
    let width = Width::of_bytes(piece.size);
    match (pointers, width) {
        // What repeats behind elements that are fewer than a block meets weights of zero.
        (&[one], Some(width)) => a.push(Instruction::Integer(Integer::SpreadPost(width, to, one))),
        (&[one, two], Some(width)) => {
            piece.load_and_move(a, to, one);
            let upper = (BLOCK / piece.size) as u8;
            a.push(Instruction::Integer(Integer::Part(Access::Load, width, to, upper, two, After::Past)));
        }
        (&[one, ref others @ ..], None) => {
            piece.load_and_move(a, to, one);
            others.iter().for_each(|&two| piece.load_and_move(a, spare, two));
            zip(a, Half::Lower, to, to, if others.is_empty() { to } else { spare });
        }
        _ => {}
    }
}

/// Pairs of a tile's pixels.
fn pairs(shape: Shape) -> i64 {
    (shape.rows + 1) / 2
}

/// Registers of the sums of a panel's pairs.
fn panel_sums(shape: Shape) -> i64 {
    pairs(shape) * 2 * shape.columns.vectors
}

/// The register of a pair's sums for two channels; the panels' lie one behind the other.
fn sum_at(shape: Shape, place: i64) -> V {
    V((shape.first + shape.columns.vectors + place) as u8)
}

/// The first register behind sums.
fn first_other(shape: Shape) -> i64 {
    shape.columns.vectors + shape.columns.panels * panel_sums(shape)
}
