//! How contractions run on GPUs: what one invocation computes.

use super::{DepthwiseSchedule, LANES, Schedule, Tile};
use crate::contraction::{ContractionSpec, DepthwiseSpec, divide_up};

/// Tiles, best first where there is enough to do: each loads the least for its products. Sums of 4x2 vectors take 32 of the
/// 64 registers that a Mali has for an invocation before it runs fewer of them.
const TILES: [Tile; 6] = [
    Tile { rows: 4, vectors: 2 },
    Tile { rows: 4, vectors: 1 },
    Tile { rows: 2, vectors: 2 },
    Tile { rows: 2, vectors: 1 },
    Tile { rows: 1, vectors: 2 },
    Tile { rows: 1, vectors: 1 },
];

/// Invocations that keep a phone's GPU busy.
const ENOUGH: i64 = 2048;

/// The schedule of a contraction: the first tile of which there are enough, else the smallest. Panels are as wide as tiles, or
/// of as many channels as given; whole tiles make up each, the last one too.
pub fn schedule(spec: &ContractionSpec, panel: Option<i64>) -> Schedule {
    let vectors = divide_up(spec.channels, LANES);
    let is_given = panel.is_some();
    let panel = panel.map_or(vectors, |panel| (panel / LANES).min(vectors));
    let batches: i64 = spec.batch.iter().product();
    let count = |tile: &Tile| batches * divide_up(spec.window.pixels(), tile.rows) * (vectors / tile.vectors);
    let is_whole = |tile: &Tile| panel % tile.vectors == 0 && vectors % panel % tile.vectors == 0;
    let fits = |tile: &&Tile| is_whole(tile) && tile.rows <= spec.window.pixels().max(1);
    let fitting: Vec<Tile> = TILES.iter().filter(fits).copied().collect();
    let smallest = Tile { rows: 1, vectors: 1 };
    let tile = fitting.iter().find(|tile| count(tile) >= ENOUGH).copied().unwrap_or(smallest);
    let panel_tiles = if is_given { panel / tile.vectors } else { 1 };
    Schedule { tile, panel_tiles, lanes: LANES, block_tiles: 1, block_panels: 1, packs_rows: false }
}

/// Invocations of which each has a whole sum, at the most where it takes a group to each.
const FEW: i64 = 1024;
/// Loads of a sum that are worth a group of 64 invocations.
const LONG: i64 = 64;

/// Whether a group computes each tile together, split along the depth: long sums, and few of them, such as a vector times a matrix.
pub fn sums_together(spec: &ContractionSpec, tile: Tile) -> bool {
    let batches: i64 = spec.batch.iter().product();
    let columns = divide_up(spec.channels, LANES) / tile.vectors;
    let units = batches * divide_up(spec.window.pixels(), tile.rows) * columns;
    spec.window.taps.len() == 1 && spec.depth / LANES >= LONG && units <= FEW
}

/// The schedule of a depthwise convolution: as many pixels of a row as divide it.
pub fn depthwise_schedule(spec: &DepthwiseSpec) -> DepthwiseSchedule {
    let columns = [4, 2, 5, 3, 7].into_iter().find(|columns| spec.window.width % columns == 0);
    DepthwiseSchedule { columns: columns.unwrap_or(spec.window.width.clamp(1, 2)), holds_row: true, block: LANES }
}
