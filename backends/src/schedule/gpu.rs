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

/// Schedules of a contraction, the best first: that of the first tile of which there are enough, else of the smallest. Panels
/// are as wide as tiles, or of as many channels as given; whole tiles make up each, the last one too. Every tile has a plain
/// schedule, without memory that a group shares.
pub fn schedules(spec: &ContractionSpec, panel: Option<i64>) -> Vec<Schedule> {
    let vectors = divide_up(spec.channels, LANES);
    let is_given = panel.is_some();
    let panel = panel.map_or(vectors, |panel| (panel / LANES).min(vectors));
    let is_whole = |tile: &Tile| panel % tile.vectors == 0 && vectors % panel % tile.vectors == 0;
    let fits = |tile: &Tile| is_whole(tile) && tile.rows <= spec.window.pixels().max(1);
    let mut tiles: Vec<Tile> = TILES.into_iter().filter(fits).collect();
    let first = tiles.iter().position(|tile| count(spec, *tile) >= ENOUGH).unwrap_or(tiles.len() - 1);
    tiles[..=first].rotate_right(1);
    let of = |tile: Tile| {
        let panel_tiles = if is_given { panel / tile.vectors } else { 1 };
        let plain = Schedule {
            tile,
            panel_tiles,
            lanes: LANES,
            block_tiles: 1,
            block_panels: 1,
            packs_rows: false,
            together: false,
        };
        let together = sums_together(spec, tile).then_some(Schedule { together: true, ..plain });
        together.into_iter().chain([plain])
    };
    tiles.into_iter().flat_map(of).collect()
}

/// Tiles of all channels of all pixels.
fn count(spec: &ContractionSpec, tile: Tile) -> i64 {
    let batches: i64 = spec.batch.iter().product();
    batches * divide_up(spec.window.pixels(), tile.rows) * (divide_up(spec.channels, LANES) / tile.vectors)
}

/// Invocations of which each has a whole sum, at the most where it takes a group to each.
const FEW: i64 = 1024;
/// Loads of a sum that are worth a group of 64 invocations.
const LONG: i64 = 64;

/// Whether a group computes each tile together, split along the depth: long sums, and few of them, such as a vector times a matrix.
fn sums_together(spec: &ContractionSpec, tile: Tile) -> bool {
    spec.window.taps.len() == 1 && spec.depth / LANES >= LONG && count(spec, tile) <= FEW
}

/// Output columns of a tile, best first.
const COLUMNS: [i64; 5] = [4, 2, 5, 3, 7];

/// Schedules of a depthwise convolution, the best first: as many pixels of a row as divide it, or one or two.
pub fn depthwise_schedules(spec: &DepthwiseSpec) -> Vec<DepthwiseSchedule> {
    let width = spec.window.width;
    let mut columns: Vec<i64> = COLUMNS.into_iter().filter(|columns| width % columns == 0).collect();
    for rest in [width.clamp(1, 2), 1] {
        if !columns.contains(&rest) {
            columns.push(rest);
        }
    }
    let of = |columns| DepthwiseSchedule { columns, holds_row: true, block: LANES };
    columns.into_iter().map(of).collect()
}
