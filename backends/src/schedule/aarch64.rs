//! Cores with 32 vector registers.

use super::cycles::Step;
use super::{CoreTable, LANES, MOST_SUMS, Tile};
use crate::contraction::{Element, divide_up};
use crate::cpu::isa::Core;

/// The widest tiles with the fewest loads: sums, two vectors of each row and four of weights fit the registers in all but
/// 7x3 and 8x2, which hold one vector of each row. Instructions per multiply-add of long runs: 4x5 1.09, 5x3 1.09, 4x4
/// 1.09, 7x2 1.10, 4x3 1.10, 7x3 1.12, 8x2 1.16; over
/// packed rows 8x3 1.06, 12x2 1.07. Image sizes are often multiples of 7 or of 4.
pub(super) const TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 4, vectors: 4 },
        Tile { rows: 4, vectors: 5 },
        Tile { rows: 7, vectors: 2 },
        Tile { rows: 7, vectors: 3 },
        Tile { rows: 5, vectors: 3 },
        Tile { rows: 4, vectors: 3 },
        Tile { rows: 8, vectors: 2 },
        Tile { rows: 5, vectors: 2 },
    ],
    narrow_tiles: &[
        Tile { rows: 1, vectors: 8 },
        Tile { rows: 1, vectors: 16 },
        Tile { rows: 2, vectors: 8 },
        Tile { rows: 3, vectors: 6 },
    ],
    packed_tiles: &[
        Tile { rows: 8, vectors: 3 },
        Tile { rows: 12, vectors: 2 },
        Tile { rows: 8, vectors: 2 },
        Tile { rows: 4, vectors: 4 },
    ],
    along_depth: |tile| along_depth(tile, LANES),
    along_packed_depth: |tile| along_packed_depth(tile, LANES),
    around_depth,
    fits: |_, _| true,
    least_blocks: 8,
};

/// The same for halves. Over packed rows 8x3 takes 1.05 instructions per multiply-add. Processors without them sum panels in
/// twice as many registers.
pub(super) const HALVES_TABLE: CoreTable = CoreTable {
    narrow_tiles: &[
        Tile { rows: 1, vectors: 8 },
        Tile { rows: 1, vectors: 12 },
        Tile { rows: 2, vectors: 8 },
        Tile { rows: 3, vectors: 6 },
    ],
    packed_tiles: &[Tile { rows: 8, vectors: 3 }, Tile { rows: 8, vectors: 2 }],
    along_depth: |tile| along_depth(tile, LANES_OF_HALVES),
    along_packed_depth: |tile| along_packed_depth(tile, LANES_OF_HALVES),
    ..TABLE
};

const LANES_OF_HALVES: i64 = Element::F16.lanes();

const REGISTERS: i64 = 32;

/// Sums of a tile below which multiply-adds wait for each other on every core.
const FEWEST_SUMS: i64 = 8;
/// Rows of a tile that have registers for their addresses beside those of operands.
const MOST_ROWS: i64 = 7;

/// Tiles of a line of pixels from left to right: whole ones, and the rows of those behind them, alike within one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LineTiles {
    pub whole: i64,
    pub rest: Vec<i64>,
}

impl LineTiles {
    /// All pixels as one line, in blocks of so many tiles. Pixels behind the whole tiles join the last of these only where it is of their
    /// block.
    pub fn of_flat(pixels: i64, tile: Tile, block_tiles: i64, joins: bool) -> LineTiles {
        let is_of_block = pixels / tile.rows % block_tiles.max(1) > 0;
        LineTiles::of(pixels, tile, joins && is_of_block, false)
    }

    /// A line of `width` pixels. Where `joins`, pixels behind the whole tiles go with the last of them, if they would be too few
    /// sums for the multiply-add units, or if tiles are of lines that may meet a border (`has_lines`) and one tile holds both.
    pub fn of(width: i64, tile: Tile, joins: bool, has_lines: bool) -> LineTiles {
        let (whole, rest) = (width / tile.rows, width % tile.rows);
        let fits = |rows: i64| rows * tile.vectors <= MOST_SUMS && rows * (tile.vectors + 1) < REGISTERS;
        let most = (1..=MOST_ROWS).rev().find(|&rows| fits(rows)).unwrap_or(1);
        let is_short = rest * tile.vectors < FEWEST_SUMS || has_lines && rest + tile.rows <= most;
        let joined = if joins && whole > 0 && rest > 0 && is_short { 1 } else { 0 };
        let left = rest + joined * tile.rows;
        let parts = divide_up(left, most);
        let rest = (0..parts).map(|part| (left + part) / parts).rev().collect();
        LineTiles { whole: whole - joined, rest }
    }
}

/// Elements of one turn of a loop, which has two instructions of its own.
const TURN: f64 = 16.0;

/// Two vectors of each row are loaded at once where the registers allow, and up to four of weights.
struct Loads {
    pairs_of_blocks: bool,
    weights: f64,
}

fn loads(Tile { rows, vectors }: Tile) -> Loads {
    let sums = rows * vectors;
    let pairs_of_blocks = sums + 2 * rows + 4 <= REGISTERS;
    let inputs = if pairs_of_blocks { 2 * rows } else { rows };
    Loads { pairs_of_blocks, weights: (REGISTERS - sums - inputs).clamp(1, 4) as f64 }
}

/// One multiply-add per sum and step; each load of a row brings one vector of steps, or two; each load of weights up to four
/// vectors.
fn along_depth(tile: Tile, lanes: i64) -> f64 {
    let Loads { pairs_of_blocks, weights } = loads(tile);
    let block = if pairs_of_blocks { 2 * lanes } else { lanes };
    (tile.rows * tile.vectors) as f64 + tile.rows as f64 / block as f64 + tile.vectors as f64 / weights + 2.0 / TURN
}

/// What is left of a run behind whole blocks is loaded by powers of two.
pub(super) fn loads_of_parts(tile: Tile, lanes: i64, run: i64) -> f64 {
    let block = if loads(tile).pairs_of_blocks { 2 * lanes } else { lanes };
    let left = run % block;
    let more = f64::from(left.count_ones()) - left as f64 / block as f64;
    tile.rows as f64 * more / run as f64
}

/// In order, vectors are loaded one by one, a turn before their use.
fn step(tile: Tile, loads: f64, together: f64, issue: Core) -> Step {
    let multiply_adds = (tile.rows * tile.vectors) as f64;
    let instructions = match issue {
        Core::OutOfOrder => together,
        Core::InOrder => multiply_adds + loads + 4.0 / TURN,
    };
    Step { multiply_adds, loads, instructions, waits: 0.0, loads_ahead: true }
}

/// Rows as they lie: each load of one brings a vector of steps.
pub(super) fn direct_step(tile: Tile, lanes: i64, issue: Core) -> Step {
    step(tile, tile.rows as f64 / lanes as f64 + tile.vectors as f64, along_depth(tile, lanes), issue)
}

/// Loads of rows and of weights bring up to four vectors each.
fn along_packed_depth(tile: Tile, lanes: i64) -> f64 {
    let Tile { rows, vectors } = tile;
    let groups = rows / lanes;
    let row_loads = if groups == 3 { 1.0 } else { groups as f64 / 4.0 };
    (rows * vectors) as f64 + row_loads + vectors as f64 / 4.0 + 2.0 / TURN
}

/// Packed rows: a load brings one step of a vector of rows.
pub(super) fn packed_step(tile: Tile, lanes: i64, issue: Core) -> Step {
    step(tile, (tile.rows / lanes + tile.vectors) as f64, along_packed_depth(tile, lanes), issue)
}

/// Loads of the sums' start and stores of up to four vectors at once, an address per row, and a few of the loop.
fn around_depth(tile: Tile) -> f64 {
    let accesses = if tile.vectors <= 4 { 1 } else { (tile.vectors + 1) / 2 };
    (tile.rows * (2 * accesses + 1) + 8) as f64
}

/// The same cores where Cranelift writes the kernels: one load for each vector, and an input vector for each row.
pub(super) const CLIF_TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 8, vectors: 2 },
        Tile { rows: 7, vectors: 3 },
        Tile { rows: 6, vectors: 3 },
        Tile { rows: 7, vectors: 2 },
        Tile { rows: 5, vectors: 4 },
        Tile { rows: 4, vectors: 4 },
    ],
    narrow_tiles: &[Tile { rows: 1, vectors: 8 }, Tile { rows: 2, vectors: 8 }, Tile { rows: 3, vectors: 6 }],
    packed_tiles: &[],
    along_depth: along_clif_depth,
    along_packed_depth: along_clif_depth,
    around_depth: around_clif_depth,
    ..TABLE
};

fn along_clif_depth(tile: Tile) -> f64 {
    (tile.rows * tile.vectors + tile.vectors) as f64 + tile.rows as f64 / 4.0 + 0.75
}

/// The address of each row in each run, which has to be asked whether it meets the input where there are several taps.
pub(super) fn clif_addresses(tile: Tile, taps: usize, run: i64) -> f64 {
    let of_row = if taps > 1 { 8 } else { 4 };
    (of_row * tile.rows) as f64 / run as f64
}

/// The weights of a step are loaded together, before its products.
pub(super) fn clif_step(tile: Tile) -> Step {
    let multiply_adds = (tile.rows * tile.vectors) as f64;
    let loads = tile.vectors as f64 + tile.rows as f64 / 4.0;
    Step { multiply_adds, loads, instructions: along_clif_depth(tile), waits: 1.0, loads_ahead: false }
}

/// About five instructions per sum.
fn around_clif_depth(tile: Tile) -> f64 {
    (5 * tile.rows * tile.vectors) as f64
}
