//! Contractions of i8 by products of halves (AVX2): eight elements of the depth of a pixel, in both 128 bits of a register, meet those
//! of two channels. A sum is four words, of two products each, until the depth is over.

use iced_x86::code_asm::rax;

use super::bytes::{BLOCK, PANEL};
use super::contraction::{Contraction, register};
use super::tile::{Extent, Run};
use super::vector::{Eight, Part, Source, Two, at};
use super::writer::{Writer, Written};

/// Pixels of a tile, at most.
pub(super) const MOST_ROWS: i64 = 2;
/// Registers of a pixel's sums: two channels each.
const PAIRS: i64 = PANEL / 2;
/// An input of each pixel, behind the sums.
const INPUTS: usize = (MOST_ROWS * PAIRS) as usize;
/// Weights in turn, and products.
const WEIGHTS: [usize; 2] = [INPUTS + 2, INPUTS + 3];
const PRODUCTS: [usize; 2] = [INPUTS + 4, INPUTS + 5];
/// Of sums that are joined: the order of their channels.
const ORDER: usize = 15;
/// What is left to formulas meanwhile.
const EPILOGUE: [usize; 7] = [8, 9, 10, 11, 12, 13, 14];

impl Contraction<'_> {
    /// Whether the epilogue needs no more registers than it gets, and no vector of bytes is read or written in part.
    pub(super) fn halves_fit_registers(&self) -> bool {
        self.schedule.tile.rows <= MOST_ROWS
            && self.epilogue_registers <= EPILOGUE.len()
            && self.spec.channels % PANEL == 0
    }

    fn sum_of_pair(&self, row: i64, pair: i64) -> usize {
        (row * PAIRS + pair) as usize
    }

    pub(super) fn start_sums_of_halves(&self, w: &mut Writer, extent: Extent) -> Written {
        (0..extent.rows * PAIRS).try_for_each(|sum| w.zero(sum as usize))
    }

    /// The products of a block of the depth, of which so many elements are there.
    pub(super) fn block_of_halves(
        &self,
        w: &mut Writer,
        extent: Extent,
        run: Run,
        (block, size): (i64, Option<i64>),
    ) -> Written {
        for row in 0..extent.rows {
            let from = match size {
                None => Eight::Memory(at(register::INPUT, row * run.pixel_bytes + block * BLOCK)),
                Some(size) => {
                    self.load_tail(w, run, row, (block, size))?;
                    Eight::Register(rax)
                }
            };
            w.spread_halves(INPUTS + row as usize, from)?;
        }
        for pair in 0..PAIRS {
            let weights = WEIGHTS[pair as usize % 2];
            w.load_halves(weights, at(register::WEIGHTS, block * PANEL * BLOCK + pair * 2 * BLOCK))?;
            for row in 0..extent.rows {
                let (sum, products) = (self.sum_of_pair(row, pair), PRODUCTS[row as usize % 2]);
                w.two(Two::ProductsOfHalves, products, INPUTS + row as usize, Source::Register(weights))?;
                w.two(Two::AddIntegers, sum, sum, Source::Register(products))?;
            }
        }
        Ok(())
    }

    /// The epilogue: the parts of each pixel's sums become a vector of eight channels, and that its results.
    pub(super) fn finish_halves(&self, w: &mut Writer, extent: Extent) -> Written {
        let order = w.literal(&[0, 4, 1, 5, 2, 6, 3, 7]);
        w.load(ORDER, order, Part::Whole)?;
        for row in 0..extent.rows {
            let [one, two, three, four] = [0, 1, 2, 3].map(|pair| self.sum_of_pair(row, pair));
            w.add_pairs(one, [one, two])?;
            w.add_pairs(three, [three, four])?;
            w.add_pairs(one, [one, three])?;
            w.two(Two::Permute, one, ORDER, Source::Register(one))?;
            if let Some(start) = &self.start {
                w.two(Two::AddIntegers, one, one, Source::Memory(at(start.pointer, 0)))?;
            }
            self.result(w, extent, (row, 0), one, EPILOGUE.to_vec())?;
        }
        Ok(())
    }
}
