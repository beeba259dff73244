//! How a contraction runs: tables of numbers per instruction set and core class, what a tile costs by them, and choices given.

pub(crate) mod aarch64;
pub mod bytes;
pub mod choices;
pub mod cores;
pub mod cycles;
pub mod gpu;
pub mod layer;
mod x86_64;

use std::collections::BTreeSet;

use crate::contraction::{ContractionSpec, DepthwiseSpec, Element, Strides, Tap, divide_up};
use crate::cpu::isa::{Architecture, Integers, Kernels, Vectors};
use aarch64::LineTiles;
use cores::{CoreClass, GENERIC};
use cycles::{Cost, Step};

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
    /// The register tile.
    pub tile: Tile,
    /// Tiles side by side in a packed panel: one on CPUs.
    pub panel_tiles: i64,
    /// Sums in a register.
    pub lanes: i64,
    /// Tiles of one block.
    pub block_tiles: i64,
    /// Panels of one block.
    pub block_panels: i64,
    /// Rows of whole tiles are first copied to the worker's scratch, `[tile][k][row]`, so that loads bring rows side by side.
    pub packs_rows: bool,
    /// On GPUs: a group computes each tile together, each invocation a part of the depth.
    pub together: bool,
}

impl Schedule {
    /// A tile at a time, in panels of its width, of rows where they are.
    pub const fn of_tile(tile: Tile, lanes: i64) -> Schedule {
        Schedule { tile, lanes, panel_tiles: 1, block_tiles: 1, block_panels: 1, packs_rows: false, together: false }
    }

    /// Channels of a packed panel.
    pub fn panel(&self) -> i64 {
        self.panel_tiles * self.tile.vectors * self.lanes
    }

    /// Bytes of scratch for each worker.
    pub fn scratch(&self, spec: &ContractionSpec) -> usize {
        if self.packs_rows {
            let block = spec.element.depth_block();
            let depth = divide_up(spec.depth, block) * block;
            (self.block_tiles * self.tile.rows * depth * spec.element.bytes()) as usize
        } else {
            0
        }
    }
}

/// Registers of sums that a kernel holds beside what it multiplies.
const MOST_SUMS: i64 = 24;

/// Vectors of a row of a tile whose epilogue has registers for operands of each.
pub(crate) const MOST_TOGETHER: i64 = 8;

impl Schedule {
    /// The same panels for a CPU that does not compute with halves: sums in f32, twice as many registers for each panel.
    pub fn widened(self) -> Schedule {
        let vectors = self.tile.vectors * self.lanes / LANES;
        let rows = (MOST_SUMS / vectors).clamp(1, self.tile.rows);
        Schedule { tile: Tile { rows, vectors }, lanes: LANES, packs_rows: false, ..self }
    }
}

impl Schedule {
    /// The same panels and blocks for Cranelift's kernel, where our encoder has none and its registers are not enough for the tile.
    pub fn of_clif(self, architecture: Architecture, element: Element) -> Schedule {
        self.of_sums(match (architecture, element) {
            (Architecture::Aarch64, Element::F32 | Element::F16) => return self,
            (Architecture::X86_64, Element::F32 | Element::F16) => x86_64::MOST_SUMS,
            (architecture, Element::I8) => bytes::most_clif_sums(architecture),
        })
    }

    /// The same panels and blocks with tiles of fewer sums: as many rows as have at most so many and divide the tile, so that
    /// units stay what they are.
    pub fn of_sums(self, sums: i64) -> Schedule {
        let most = (sums / self.tile.vectors.max(1)).clamp(1, self.tile.rows);
        let rows = (1..=most).rev().find(|rows| self.tile.rows % rows == 0).unwrap_or(1);
        let block_tiles = self.block_tiles * (self.tile.rows / rows);
        Schedule { tile: Tile { rows, ..self.tile }, block_tiles, ..self }
    }
}

/// How a depthwise convolution runs: a unit of the parallel range is one output row of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseSchedule {
    /// Output pixels of one row kept in registers.
    pub columns: i64,
    /// Output rows computed together: 1 on CPUs.
    pub rows: i64,
    /// All input positions of a row of taps stay in registers, so that the products can go tap by tap.
    pub holds_row: bool,
    /// Channels whose packed weights lie together: whole vectors.
    pub block: i64,
}

/// What schedules are chosen for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Machine {
    /// The instruction set.
    pub architecture: Architecture,
    /// Who writes kernels.
    pub kernels: Kernels,
    /// How products of i8 are summed.
    pub integers: Integers,
    /// The vectors that kernels use.
    pub vectors: Vectors,
    /// The core.
    pub core: &'static CoreClass,
    /// Whether kernels may ask for scratch for each worker.
    pub workers_have_scratch: bool,
}

impl Machine {
    /// The baseline of an architecture, with our encoders and with scratch.
    pub fn new(architecture: Architecture) -> Machine {
        Machine {
            architecture,
            kernels: Kernels::Encoded,
            integers: Integers::default(),
            vectors: Vectors::Baseline,
            core: &GENERIC,
            workers_have_scratch: true,
        }
    }

    fn table(&self, element: Element) -> &'static CoreTable {
        match (self.architecture, self.kernels) {
            (Architecture::Aarch64, _) if element == Element::I8 => bytes::table(self.integers),
            (Architecture::X86_64, _) if element == Element::I8 => bytes::host_table(self.vectors),
            (Architecture::Aarch64, Kernels::Encoded) => match element {
                Element::F16 => &aarch64::HALVES_TABLE,
                Element::F32 | Element::I8 => &aarch64::TABLE,
            },
            (Architecture::Aarch64, Kernels::Clif) => &aarch64::CLIF_TABLE,
            (Architecture::X86_64, _) if self.vectors != Vectors::Baseline && element == Element::F32 => {
                &x86_64::WIDE_TABLE
            }
            (Architecture::X86_64, Kernels::Encoded) => &x86_64::AVX2_TABLE,
            (Architecture::X86_64, Kernels::Clif) => &x86_64::TABLE,
        }
    }

    /// Bytes of input rows that stay in the second cache while panels pass.
    fn block_bytes(&self) -> i64 {
        match self.architecture {
            Architecture::Aarch64 => self.core.block_bytes(),
            Architecture::X86_64 => x86_64::BLOCK_BYTES,
        }
    }

    /// Instructions of one step of k beyond those of long runs: what is left of a run comes by powers of two, or rows have addresses.
    fn loads_of_parts(&self, spec: &ContractionSpec, tile: Tile) -> f64 {
        match (self.architecture, self.kernels) {
            _ if spec.element == Element::I8 => 0.0,
            (Architecture::Aarch64, Kernels::Encoded) => aarch64::loads_of_parts(tile, spec.element.lanes(), run(spec)),
            (Architecture::Aarch64, Kernels::Clif) => aarch64::clif_addresses(tile, spec.window.taps.len(), run(spec)),
            (Architecture::X86_64, _) => 0.0,
        }
    }

    /// One step of k in a tile's innermost loop, where its units are known; packed rows have a loop of their own.
    pub fn step(&self, element: Element, tile: Tile, packed: bool) -> Option<Step> {
        let step = if packed { aarch64::packed_step } else { aarch64::direct_step };
        match (self.architecture, self.kernels) {
            _ if element == Element::I8 => None,
            (Architecture::Aarch64, Kernels::Encoded) => Some(step(tile, element.lanes(), self.core.issue)),
            (Architecture::Aarch64, Kernels::Clif) => Some(aarch64::clif_step(tile)),
            (Architecture::X86_64, _) => None,
        }
    }
}

/// Elements of the depth that follow each other in memory: of one tap, or of those of a row that are neighbours.
fn run(spec: &ContractionSpec) -> i64 {
    let taps = &spec.window.taps;
    let is_next = |pair: &[Tap]| pair[1].row == pair[0].row && pair[1].column == pair[0].column + 1;
    let neighbours = 1 + taps.windows(2).take_while(|pair| is_next(pair)).count() as i64;
    if spec.input.column == spec.depth { spec.depth * neighbours } else { spec.depth }
}

/// The numbers that an instruction set gives to choose a tile.
struct CoreTable {
    /// The tiles that fit the registers, best first where their cost is equal.
    tiles: &'static [Tile],
    /// Tiles for one to three rows, widest first; none where `tiles` have such.
    narrow_tiles: &'static [Tile],
    /// Tiles over packed rows, where the core's kernels know them.
    packed_tiles: &'static [Tile],
    /// Instructions of a tile in one step of k.
    along_depth: fn(Tile) -> f64,
    /// The same over packed rows.
    along_packed_depth: fn(Tile) -> f64,
    /// Instructions of a tile around its loop over k, without the arithmetic of the epilogue.
    around_depth: fn(Tile) -> f64,
    /// Whether a tile's rows stay in the first cache while it is computed.
    fits: fn(Tile, &ContractionSpec) -> bool,
    /// Blocks of rows, below which all rows are one block and the range runs over panels alone.
    least_blocks: i64,
}

/// The schedule of a contraction: the first of [`schedules`].
pub fn schedule(spec: &ContractionSpec, machine: &Machine) -> Schedule {
    schedules(spec, machine)[0]
}

/// Instructions of one matrix of a contraction as [`schedule`] has it, without the arithmetic of its epilogue.
pub fn instructions(spec: &ContractionSpec, machine: &Machine) -> f64 {
    let Schedule { tile, packs_rows, .. } = schedule(spec, machine);
    cost(machine, spec, tile, packs_rows).instructions
}

/// Every schedule that there is a kernel for, by cost; the first is the one to take.
pub fn schedules(spec: &ContractionSpec, machine: &Machine) -> Vec<Schedule> {
    let costs: Vec<(Cost, (Tile, bool))> = tiles(spec, machine)
        .into_iter()
        .map(|(tile, packs_rows)| (cost(machine, spec, tile, packs_rows), (tile, packs_rows)))
        .collect();
    let order = cycles::by_cost(costs.iter().map(|(cost, _)| *cost));
    let of = |place: usize| {
        let (tile, packs_rows) = costs[place].1;
        let (block_tiles, block_panels) = blocks(machine, spec, tile);
        Schedule { block_tiles, block_panels, packs_rows, ..Schedule::of_tile(tile, spec.element.lanes()) }
    };
    order.into_iter().map(of).collect()
}

/// Tiles, and whether their rows are packed.
fn tiles(spec: &ContractionSpec, machine: &Machine) -> Vec<(Tile, bool)> {
    let table = machine.table(spec.element);
    let is_narrow = spec.window.pixels() < 4 && !table.narrow_tiles.is_empty();
    let direct = if is_narrow { table.narrow_tiles } else { table.tiles };
    // A row of so many vectors is finished in portions, which only a single one can be.
    let is_finished = |tile: &Tile| tile.vectors <= MOST_TOGETHER || spec.window.pixels() == 1;
    let fits = |tile: &&Tile| (table.fits)(**tile, spec) && is_finished(tile);
    let direct = direct.iter().filter(fits).map(|&tile| (tile, false));
    let rows = packable_rows(spec).filter(|_| machine.workers_have_scratch);
    let packable = |tile: &&Tile| match rows {
        Some(PackableRows::Flat) => spec.window.pixels() >= tile.rows,
        // Rows behind the whole tiles are read where they lie, one behind the other.
        Some(PackableRows::Grid) => spec.window.pixels() % tile.rows == 0,
        None => false,
    };
    direct.chain(table.packed_tiles.iter().filter(packable).map(|&tile| (tile, true))).collect()
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

/// The schedule of a depthwise convolution: the first of [`depthwise_schedules`].
pub fn depthwise_schedule(spec: &DepthwiseSpec, architecture: Architecture) -> DepthwiseSchedule {
    depthwise_schedules(spec, architecture)[0]
}

/// Every tile of columns, by instructions.
pub fn depthwise_schedules(spec: &DepthwiseSpec, architecture: Architecture) -> Vec<DepthwiseSchedule> {
    let lanes = spec.element.depthwise_lanes();
    // Vectors of any width read weights whose channels all lie side by side.
    let all = (divide_up(spec.channels, lanes) * lanes).max(lanes);
    let (candidates, registers, block) = match (architecture, spec.element) {
        (Architecture::Aarch64, Element::F32 | Element::F16) => (4..=8, 30, lanes),
        (Architecture::Aarch64, Element::I8) => (4..=8, 30, all),
        (Architecture::X86_64, _) => (2..=6, 14, all),
    };
    let mut candidates: Vec<i64> = candidates.rev().collect();
    candidates.sort_by_key(|&columns| depthwise_cost(spec, columns));
    let mut schedules: Vec<DepthwiseSchedule> = Vec::new();
    for columns in candidates {
        let columns = columns.min(spec.window.width.max(1));
        let holds_row = widest_row(spec, columns) + columns <= registers;
        let schedule = DepthwiseSchedule { columns, rows: 1, holds_row, block };
        if !schedules.contains(&schedule) {
            schedules.push(schedule);
        }
    }
    schedules
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
pub(crate) fn depthwise_cost(spec: &DepthwiseSpec, columns: i64) -> i64 {
    let (width, taps) = (spec.window.width, spec.window.taps.len() as i64);
    let rows = spec.window.taps.iter().map(|tap| tap.row).collect::<BTreeSet<_>>().len() as i64;
    let tiles = divide_up(width, columns);
    let reach = taps / rows.max(1) - spec.window.step[1].min(taps / rows.max(1));
    let loads = rows * (width * spec.window.step[1] + tiles * reach);
    tiles * (taps + 12) + loads + width * (taps + 5)
}

/// What packing takes for each element of the rows: of numbers, of four rows two vectors each are loaded, and stored k by k, a lane of each
/// row at once; the loop and what is around it take about four instructions more.
pub fn packing(element: Element, core: &CoreClass) -> Cost {
    if element == Element::I8 {
        return Cost::issued(bytes::PACKING, core);
    }
    let steps = 2 * element.lanes();
    let issued = Cost::issued((4 + steps + 4) as f64 / (4 * steps) as f64, core);
    Cost { cycles: issued.cycles.max(core.lanes_store / 4.0), ..issued }
}

/// The cost of the whole contraction, without the arithmetic of its epilogue. Tiles of fewer rows than `tile` are not packed.
pub(crate) fn cost(machine: &Machine, spec: &ContractionSpec, tile: Tile, packs_rows: bool) -> Cost {
    let table = machine.table(spec.element);
    let vectors = divide_up(spec.channels, spec.element.lanes());
    let along = |part: Tile, packed: bool| {
        let along = if packed { table.along_packed_depth } else { table.along_depth };
        let parts = if packed { 0.0 } else { machine.loads_of_parts(spec, part) };
        match machine.step(spec.element, part, packed) {
            Some(step) => Cost { instructions: along(part) + parts, cycles: step.cycles(machine.core) },
            None => Cost::issued(along(part), machine.core),
        }
    };
    let one = |row_tile: &RowTile, vectors: i64| {
        let RowTile { rows, reached, .. } = row_tile;
        let around = Cost::issued((table.around_depth)(Tile { rows: *rows, vectors }), machine.core);
        let packed = packs_rows && *rows == tile.rows;
        reached.iter().fold(around, |sum, &(rows, taps)| {
            sum.plus(along(Tile { rows, vectors }, packed).times((taps * spec.depth) as f64))
        })
    };
    let panels = [(vectors / tile.vectors, tile.vectors), (1, vectors % tile.vectors)];
    let mut sum = Cost { cycles: 0.0, instructions: 0.0 };
    for row_tile in row_tiles(machine, spec, tile, packs_rows) {
        if packs_rows && row_tile.rows == tile.rows {
            let elements = row_tile.count * row_tile.rows * spec.depth;
            sum = sum.plus(packing(spec.element, machine.core).times(elements as f64));
        }
        for (panels, width) in panels.into_iter().filter(|&(_, width)| width > 0) {
            sum = sum.plus(one(&row_tile, width).times((row_tile.count * panels) as f64));
        }
    }
    sum
}

/// Tiles of the same rows.
struct RowTile {
    count: i64,
    rows: i64,
    /// Rows that meet the input, and of how many taps.
    reached: Vec<(i64, i64)>,
}

/// The tiles of a contraction's pixels, as the kernel's writer cuts them.
fn row_tiles(machine: &Machine, spec: &ContractionSpec, tile: Tile, packs_rows: bool) -> Vec<RowTile> {
    let window = &spec.window;
    let taps = window.taps.len() as i64;
    let everywhere = |count: i64, rows: i64| RowTile { count, rows, reached: vec![(rows, taps)] };
    let is_ours = (machine.architecture, machine.kernels) == (Architecture::Aarch64, Kernels::Encoded);
    if !is_ours || spec.element == Element::I8 {
        let (whole, rest) = (window.pixels() / tile.rows, window.pixels() % tile.rows);
        return [(whole, tile.rows), (1, rest)]
            .into_iter()
            .filter(|&(_, rows)| rows > 0)
            .map(|(count, rows)| everywhere(count, rows))
            .collect();
    }
    let is_flat = packs_rows || packable_rows(spec) == Some(PackableRows::Flat);
    if is_flat {
        let block_tiles = blocks(machine, spec, tile).0;
        let LineTiles { whole, rest } = LineTiles::of_flat(window.pixels(), tile, block_tiles, true);
        let rest = rest.into_iter().map(|rows| everywhere(1, rows));
        return std::iter::once(everywhere(whole, tile.rows)).chain(rest).collect();
    }
    let LineTiles { whole, rest } = LineTiles::of(window.width, tile, true, true);
    let mut first = 0;
    let of_line = std::iter::repeat_n(tile.rows, whole as usize).chain(rest).map(|rows| {
        let is_within =
            |pixel: i64, tap: &Tap| (0..window.input_width).contains(&(pixel * window.step[1] + tap.column));
        let meets = |tap: &Tap| (first..first + rows).filter(|&pixel| is_within(pixel, tap)).count() as i64;
        let mut reached: Vec<(i64, i64)> = Vec::new();
        for tap in &window.taps {
            let rows = meets(tap);
            match reached.iter_mut().find(|(other, _)| *other == rows) {
                Some((_, taps)) => *taps += 1,
                None if rows > 0 => reached.push((rows, 1)),
                None => {}
            }
        }
        first += rows;
        RowTile { count: window.height, rows, reached }
    });
    of_line.collect()
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
fn blocks(machine: &Machine, spec: &ContractionSpec, tile: Tile) -> (i64, i64) {
    let least_blocks = machine.table(spec.element).least_blocks;
    let tiles = divide_up(spec.window.pixels(), tile.rows);
    let panels = divide_up(spec.channels, tile.vectors * spec.element.lanes());
    let batches: i64 = spec.batch.iter().product();
    let cached = machine.block_bytes() / (tile.rows * spec.depth * spec.element.bytes()).max(1);
    let spread = tiles * batches / least_blocks;
    let few_rows = tiles * batches < least_blocks && panels > tiles * batches;
    let mut block_tiles = if few_rows { tiles.max(1) } else { cached.min(spread).clamp(1, tiles.max(1)) };
    let work = spec.window.pixels() * spec.window.taps.len() as i64 * spec.depth * spec.channels * batches;
    let units = UNITS.min(work / LEAST_WORK);
    let blocks = |block_tiles| (divide_up(tiles, block_tiles) * batches).max(1);
    if blocks(block_tiles) * panels < units && block_tiles >= 2 * FEWEST_TILES {
        block_tiles = divide_up(block_tiles, 2);
    }
    let parts = divide_up(units, blocks(block_tiles)).clamp(1, panels.max(1));
    let together = if spec.element == Element::I8 { bytes::panels_together(machine) } else { 1 };
    (block_tiles, divide_up(divide_up(panels, parts).max(1), together) * together)
}
