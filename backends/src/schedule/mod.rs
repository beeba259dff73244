//! How a contraction runs: tables of numbers per core class.

mod aarch64;
pub mod gpu;
mod x86_64;

use std::collections::BTreeSet;

use crate::contraction::{ContractionSpec, DepthwiseSpec, Element, Strides, divide_up};
use crate::cpu::isa::{Architecture, Core, Kernels};

/// Lanes of f32 in a vector register.
pub const LANES: i64 = 4;

/// A register tile: `rows` output pixels by `vectors` vectors of output channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Output pixels.
    pub rows: i64,
    /// Vectors of output channels.
    pub vectors: i64,
}

/// How a contraction runs. One unit of the parallel range is one block of tiles by one block of panels of one batch;
/// inside, panels are the outer loop and tiles the inner one, so that a panel of weights stays in the first-level cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Schedule {
    /// The register tile; `vectors` is also the width of a packed panel.
    pub tile: Tile,
    /// Sums in a register.
    pub lanes: i64,
    /// Tiles of one block.
    pub block_tiles: i64,
    /// Panels of one block.
    pub block_panels: i64,
    /// Rows of whole tiles are first copied to the worker's scratch, `[tile][k][row]`, so that loads bring rows side by side.
    pub packs_rows: bool,
}

impl Schedule {
    /// Bytes of scratch for each worker.
    pub fn scratch(&self, spec: &ContractionSpec) -> usize {
        if self.packs_rows {
            (self.block_tiles * self.tile.rows * spec.depth * spec.element.bytes()) as usize
        } else {
            0
        }
    }
}

/// Registers of sums that a kernel holds beside what it multiplies.
const MOST_SUMS: i64 = 24;

impl Schedule {
    /// The same panels for a CPU that does not compute with halves: sums in f32, twice as many registers for each panel.
    pub fn widened(self) -> Schedule {
        let vectors = self.tile.vectors * self.lanes / LANES;
        let rows = (MOST_SUMS / vectors).clamp(1, self.tile.rows);
        Schedule { tile: Tile { rows, vectors }, lanes: LANES, ..self }
    }
}

/// How a depthwise convolution runs: a unit of the parallel range is one output row of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseSchedule {
    /// Output pixels of one row kept in registers.
    pub columns: i64,
    /// All input positions of a row of taps stay in registers, so that the products can go tap by tap.
    pub holds_row: bool,
}

/// The numbers that a core class gives to choose a tile.
struct CoreTable {
    /// The tiles that fit the registers, best first where their cost is equal.
    tiles: &'static [Tile],
    /// Tiles for one to three rows, widest first.
    narrow_tiles: &'static [Tile],
    /// Tiles over packed rows, where the core's kernels know them.
    packed_tiles: &'static [Tile],
    /// Instructions of a tile in one step of k.
    along_depth: fn(Tile) -> f64,
    /// The same over packed rows.
    along_packed_depth: fn(Tile) -> f64,
    /// Instructions of a tile around its loop over k, without the arithmetic of the epilogue.
    around_depth: fn(Tile) -> f64,
    /// Bytes of input rows that stay in the second-level cache while panels pass.
    block_bytes: i64,
    /// Blocks of rows, below which all rows are one block and the range runs over panels alone.
    least_blocks: i64,
}

impl CoreTable {
    fn of(architecture: Architecture, kernels: Kernels) -> &'static CoreTable {
        match (architecture, kernels) {
            (Architecture::Aarch64, Kernels::Encoded) => &aarch64::TABLE,
            (Architecture::Aarch64, Kernels::Clif) => &aarch64::CLIF_TABLE,
            (Architecture::X86_64, Kernels::Encoded) => &x86_64::SHARED_TABLE,
            (Architecture::X86_64, Kernels::Clif) => &x86_64::TABLE,
        }
    }
}

/// The schedule of a contraction on a core class, for kernels without scratch.
pub fn schedule(spec: &ContractionSpec, architecture: Architecture, kernels: Kernels) -> Schedule {
    let table = CoreTable::of(architecture, kernels);
    let tiles = if spec.window.pixels() < 4 { table.narrow_tiles } else { table.tiles };
    let best = cheapest(tiles, |tile| cost(table.along_depth, table, spec, tile));
    let (block_tiles, block_panels) = blocks(table, spec, best);
    Schedule { tile: best, lanes: spec.element.lanes(), block_tiles, block_panels, packs_rows: false }
}

/// The schedule of a contraction for x86-64 with AVX-512, over the panels of the baseline's.
pub fn wide_schedule(spec: &ContractionSpec) -> Schedule {
    let table = &x86_64::WIDE_TABLE;
    let fits = |tile: &&Tile| tile.rows + spec.operands.len() as i64 + x86_64::EPILOGUE_REGISTERS <= 32;
    let tiles: Vec<Tile> = table.tiles.iter().filter(fits).copied().collect();
    let tile = cheapest(&tiles, |tile| cost(table.along_depth, table, spec, tile));
    let (block_tiles, block_panels) = blocks(table, spec, tile);
    Schedule { tile, lanes: spec.element.lanes(), block_tiles, block_panels, packs_rows: false }
}

/// Instructions that packing takes for each element of the rows.
const PACKING: f64 = 0.5;

/// The schedule of a contraction whose workers have scratch. Rows of halves are not packed.
pub fn schedule_with_scratch(
    spec: &ContractionSpec,
    architecture: Architecture,
    kernels: Kernels,
    core: Core,
) -> Schedule {
    let table = CoreTable::of(architecture, kernels);
    let direct = schedule(spec, architecture, kernels);
    let Some(rows) = packable_rows(spec).filter(|_| spec.element == Element::F32) else { return direct };
    let fits = |tile: &&Tile| match rows {
        PackableRows::Flat => spec.window.pixels() >= tile.rows,
        // Rows behind the whole tiles are read where they lie, one behind the other.
        PackableRows::Grid => spec.window.pixels() % tile.rows == 0,
    };
    let tiles: Vec<Tile> = table.packed_tiles.iter().filter(fits).copied().collect();
    if tiles.is_empty() {
        return direct;
    }
    let along = |tile: Tile, rows: i64| if rows == tile.rows { table.along_packed_depth } else { table.along_depth };
    let cost_of = |tile| cost_by_rows(&along, table, spec, tile);
    let tile = cheapest(&tiles, cost_of);
    let (block_tiles, block_panels) = blocks(table, spec, tile);
    let packing = PACKING * (spec.window.pixels() * spec.depth) as f64;
    let saves = cost_of(tile) + packing < cost(table.along_depth, table, spec, direct.tile);
    // Packed rows are what kernels for cores that issue in order are pipelined over: half the cycles, not a few instructions.
    if !saves && core == Core::OutOfOrder {
        return direct;
    }
    Schedule { tile, lanes: LANES, block_tiles, block_panels, packs_rows: true }
}

/// Where the rows of a contraction with one tap, which never misses the input, lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PackableRows {
    /// At one distance from each other.
    Flat,
    /// In lines with gaps between them.
    Grid,
}

/// The rows of a contraction that may be packed: those of its results lie at one distance from each other.
fn packable_rows(spec: &ContractionSpec) -> Option<PackableRows> {
    let window = &spec.window;
    let is_flat = |each: &Strides| each.is_flat(window.height, window.width);
    if window.taps.len() != 1 || !window.is_interior() || ![&spec.output].into_iter().chain(&spec.operands).all(is_flat)
    {
        return None;
    }
    Some(if is_flat(&window.stepped(&spec.input)) { PackableRows::Flat } else { PackableRows::Grid })
}

fn cheapest(tiles: &[Tile], cost: impl Fn(Tile) -> f64) -> Tile {
    let mut best = tiles[0];
    for &tile in tiles {
        if cost(tile) < cost(best) {
            best = tile;
        }
    }
    best
}

/// The schedule of a depthwise convolution on a core class: the tile of columns with the fewest instructions.
pub fn depthwise_schedule(spec: &DepthwiseSpec, architecture: Architecture) -> DepthwiseSchedule {
    let (candidates, registers) = match architecture {
        Architecture::Aarch64 => (4..=8, 30),
        Architecture::X86_64 => (2..=6, 14),
    };
    let columns = candidates.rev().min_by_key(|&columns| depthwise_cost(spec, columns)).unwrap_or(1);
    let columns = columns.min(spec.window.width.max(1));
    DepthwiseSchedule { columns, holds_row: widest_row(spec, columns) + columns <= registers }
}

/// Registers that the input positions and the weights of one row of taps take.
fn widest_row(spec: &DepthwiseSpec, columns: i64) -> i64 {
    let taps = &spec.window.taps;
    let of_row = |row: i64| {
        let offsets: Vec<i64> = taps.iter().filter(|tap| tap.row == row).map(|tap| tap.column).collect();
        let moved = |offset: &i64| (0..columns).map(|at| at * spec.window.step[1] + offset).collect::<Vec<_>>();
        let positions: BTreeSet<i64> = offsets.iter().flat_map(moved).collect();
        (positions.len() + offsets.len()) as i64
    };
    taps.iter().map(|tap| of_row(tap.row)).max().unwrap_or(0)
}

/// Instructions of one vector of channels of an output row: per tile the weights, a dozen for addresses, and per row of
/// taps the input positions; per column the multiply-adds and about five of the epilogue.
fn depthwise_cost(spec: &DepthwiseSpec, columns: i64) -> i64 {
    let (width, taps) = (spec.window.width, spec.window.taps.len() as i64);
    let rows = spec.window.taps.iter().map(|tap| tap.row).collect::<BTreeSet<_>>().len() as i64;
    let tiles = divide_up(width, columns);
    let reach = taps / rows.max(1) - spec.window.step[1].min(taps / rows.max(1));
    let loads = rows * (width * spec.window.step[1] + tiles * reach);
    tiles * (taps + 12) + loads + width * (taps + 5)
}

/// Instructions of the whole contraction, without the arithmetic of its epilogue.
fn cost(along_depth: fn(Tile) -> f64, table: &CoreTable, spec: &ContractionSpec, tile: Tile) -> f64 {
    cost_by_rows(&|_, _| along_depth, table, spec, tile)
}

/// The same, where the loop over k may differ in tiles of fewer rows.
fn cost_by_rows(
    along_depth: &dyn Fn(Tile, i64) -> fn(Tile) -> f64,
    table: &CoreTable,
    spec: &ContractionSpec,
    tile: Tile,
) -> f64 {
    let (pixels, vectors) = (spec.window.pixels(), divide_up(spec.channels, spec.element.lanes()));
    let depth = (spec.depth * spec.window.taps.len() as i64) as f64;
    let one = |rows: i64, vectors: i64| {
        let part = Tile { rows, vectors };
        depth * along_depth(tile, rows)(part) + (table.around_depth)(part)
    };
    let along = |total: i64, part: i64| [(total / part, part), (i64::from(total % part > 0), total % part)];
    let mut sum = 0.0;
    for (row_tiles, rows) in along(pixels, tile.rows) {
        for (panels, width) in along(vectors, tile.vectors) {
            sum += (row_tiles * panels) as f64 * one(rows, width);
        }
    }
    sum
}

/// Units of the range where there is work for them: enough for the shares of unequal cores to come out even.
const UNITS: i64 = 64;
/// Tiles of one unit that pay for loading a panel of weights.
const FEWEST_TILES: i64 = 3;
/// Multiply-adds that are worth a unit.
const LEAST_WORK: i64 = 1 << 16;

/// Tiles and panels of one unit. Few rows: all of them are one block. Many: blocks of rows as large as the cache holds, but
/// not so large that fewer than `least_blocks` remain. Then panels are divided until there are enough units: whoever
/// computes neighbours walks the same tiles and panels in the same order. Where there are too few panels too, blocks are halved.
fn blocks(table: &CoreTable, spec: &ContractionSpec, tile: Tile) -> (i64, i64) {
    let tiles = divide_up(spec.window.pixels(), tile.rows);
    let panels = divide_up(spec.channels, tile.vectors * spec.element.lanes());
    let batches: i64 = spec.batch.iter().product();
    let cached = table.block_bytes / (tile.rows * spec.depth * spec.element.bytes()).max(1);
    let spread = tiles * batches / table.least_blocks;
    let few_rows = tiles * batches < table.least_blocks && panels > tiles * batches;
    let mut block_tiles = if few_rows { tiles.max(1) } else { cached.min(spread).clamp(1, tiles.max(1)) };
    let work = spec.window.pixels() * spec.window.taps.len() as i64 * spec.depth * spec.channels * batches;
    let units = UNITS.min(work / LEAST_WORK);
    let blocks = |block_tiles| (divide_up(tiles, block_tiles) * batches).max(1);
    if blocks(block_tiles) * panels < units && block_tiles >= 2 * FEWEST_TILES {
        block_tiles = divide_up(block_tiles, 2);
    }
    let parts = divide_up(units, blocks(block_tiles)).clamp(1, panels.max(1));
    (block_tiles, divide_up(panels, parts).max(1))
}
