//! How contractions run on GPUs: what one invocation computes, by the kind of GPU.

use edgecc_ir::{Expr, ExprNode};

use super::{DepthwiseSchedule, LANES, Schedule, Tile};
use crate::contraction::{ContractionSpec, DepthwiseSpec, Element, divide_up};
use crate::winograd::{Axis, Tiling, axes_of, transform_steps};

/// A kind of GPU: a row of the table that schedules are chosen by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuClass {
    /// Its name for `--gpu`.
    pub name: &'static str,
    /// Tiles that an invocation may compute; where they cost the same the first is taken.
    pub tiles: &'static [Tile],
    /// Invocations that keep it busy.
    pub enough: i64,
    /// Pixels of a row that an invocation of a depthwise convolution computes, best first.
    pub columns: &'static [i64],
    /// Rows of them.
    pub rows: i64,
    /// Winograd's convolution is for at least as many channels of inputs and of results,
    pub winograd_channels: i64,
    /// and for at least as many tiles.
    pub winograd_tiles: i64,
}

const fn tile(rows: i64, vectors: i64) -> Tile {
    Tile { rows, vectors }
}

/// Tiles for 64 registers of 32 bits: sums of 4x2 vectors take 32 of them. A Mali runs fewer invocations that have more.
const FOR_64_REGISTERS: [Tile; 6] = [tile(4, 2), tile(4, 1), tile(2, 2), tile(2, 1), tile(1, 2), tile(1, 1)];

/// The smallest common measure of phones.
pub const GENERIC: GpuClass = GpuClass {
    name: "generic",
    tiles: &FOR_64_REGISTERS,
    enough: 2048,
    columns: &[4, 2, 5, 3, 7],
    rows: 1,
    winograd_channels: 64,
    winograd_tiles: 32,
};

/// The kinds of GPUs. What is here of phones was read in ML Drift (LiteRT's `conv_generic.cc`, `winograd_util.cc`), which tunes
/// on devices: its largest blocks by vendor and its bounds for Winograd. That of software adapters was measured.
pub const CLASSES: [GpuClass; 7] = [
    GENERIC,
    // Blocks of 2x2 pixels by two vectors; 128 channels and 64 tiles. Four pixels of a depthwise convolution spill: by Mesa's compiler
    // for Adreno 660 they take 2189 instructions, two of them 660 (`tests/tools/adreno`).
    GpuClass { name: "adreno", columns: &[2, 1], winograd_channels: 128, winograd_tiles: 64, ..GENERIC },
    GpuClass { name: "mali", ..GENERIC },
    // Up to four vectors of an invocation, and invocations for 16 waves of each core.
    GpuClass {
        name: "apple",
        tiles: &[tile(4, 2), tile(2, 4), tile(4, 1), tile(2, 2), tile(2, 1), tile(1, 2), tile(1, 1)],
        enough: 4096,
        ..GENERIC
    },
    // Up to eight vectors of an invocation.
    GpuClass {
        name: "powervr",
        tiles: &[tile(2, 4), tile(1, 8), tile(4, 2), tile(2, 2), tile(1, 4), tile(2, 1), tile(1, 2), tile(1, 1)],
        ..GENERIC
    },
    // 128 registers and more: Xclipse and what desktops have.
    GpuClass {
        name: "desktop",
        tiles: &[tile(8, 2), tile(4, 4), tile(4, 2), tile(4, 1), tile(2, 2), tile(2, 1), tile(1, 2), tile(1, 1)],
        enough: 8192,
        rows: 2,
        ..GENERIC
    },
    // Sums lie in memory anyway, so that the fewest loads win: Mesa's lavapipe and SwiftShader.
    GpuClass {
        name: "software",
        tiles: &[
            tile(8, 2),
            tile(7, 2),
            tile(6, 2),
            tile(5, 2),
            tile(4, 2),
            tile(3, 2),
            tile(2, 2),
            tile(8, 1),
            tile(7, 1),
            tile(4, 1),
            tile(2, 1),
            tile(1, 2),
            tile(1, 1),
        ],
        enough: 128,
        rows: 2,
        winograd_channels: 16,
        winograd_tiles: 8,
        ..GENERIC
    },
];

impl GpuClass {
    /// The kind of a name.
    pub fn named(name: &str) -> Option<&'static GpuClass> {
        CLASSES.iter().find(|class| class.name == name)
    }
}

/// What a load of a vector costs beside the product of a vector and a number: on lavapipe and SwiftShader times of ten tiles
/// are those of products and 4.1 and 4.2 times those of loads, within 5 %.
const LOAD: i64 = 4;

/// Loads and products of all channels of all pixels for four steps along the depth, were there enough invocations.
fn cost(class: &GpuClass, spec: &ContractionSpec, tile: Tile) -> i64 {
    count(spec, tile).max(class.enough) * of_four_steps(tile.rows, tile.vectors)
}

/// Loads and products of an invocation for four steps along the depth.
fn of_four_steps(rows: i64, vectors: i64) -> i64 {
    LANES * rows * vectors + LOAD * (rows + LANES * vectors)
}

/// Invocations.
fn count(spec: &ContractionSpec, tile: Tile) -> i64 {
    let batches: i64 = spec.batch.iter().product();
    batches * divide_up(spec.window.pixels(), tile.rows) * (divide_up(spec.channels, LANES) / tile.vectors)
}

/// Schedules of a contraction, the best first: that of the tile that costs least. Panels are as wide as tiles, or of as many
/// channels as given; whole tiles make up each, the last one too. Every tile has a plain schedule, without memory that a group
/// shares.
pub fn schedules(spec: &ContractionSpec, panel: Option<i64>, class: &GpuClass) -> Vec<Schedule> {
    let vectors = divide_up(spec.channels, LANES);
    let is_given = panel.is_some();
    let panel = panel.map_or(vectors, |panel| (panel / LANES).min(vectors));
    let is_whole = |tile: &Tile| panel % tile.vectors == 0 && vectors % panel % tile.vectors == 0;
    let fits = |tile: &Tile| is_whole(tile) && tile.rows <= spec.window.pixels().max(1);
    let mut tiles: Vec<Tile> = class.tiles.iter().copied().filter(fits).collect();
    tiles.sort_by_key(|tile| cost(class, spec, *tile));
    let of = |tile: Tile| {
        let panel_tiles = if is_given { panel / tile.vectors } else { 1 };
        let plain = Schedule { panel_tiles, ..Schedule::of_tile(tile, LANES) };
        let together = sums_together(class, spec, tile).then_some(Schedule { together: true, ..plain });
        together.into_iter().chain([plain])
    };
    tiles.into_iter().flat_map(of).collect()
}

/// Loads of a sum that are worth a group of 64 invocations.
const LONG: i64 = 64;

/// Whether a group computes each tile together, split along the depth: long sums, and few of them, such as a vector times a matrix.
fn sums_together(class: &GpuClass, spec: &ContractionSpec, tile: Tile) -> bool {
    spec.window.taps.len() == 1 && spec.depth / LANES >= LONG && count(spec, tile) <= class.enough / 2
}

/// Functions that take many operations count as so many.
const TRANSCENDENTAL: i64 = 8;

/// Whether a map takes at most a quarter of a contraction's time where the contraction evaluates it for whatever it reads. So many operands
/// of the map are the same for every pixel, and so many are not.
pub fn reads_cheaply(class: &GpuClass, spec: &ContractionSpec, expr: &Expr, [fixed, moving]: [i64; 2]) -> bool {
    let Some(Schedule { tile: Tile { rows, vectors }, .. }) = schedules(spec, None, class).first().copied() else {
        return false;
    };
    let operations: i64 = expr
        .nodes()
        .iter()
        .map(|node| match node {
            ExprNode::Argument(..) | ExprNode::Constant(_) => 0,
            node if node.is_transcendental() => TRANSCENDENTAL,
            ExprNode::Unary(..) | ExprNode::Binary(..) | ExprNode::Select(..) | ExprNode::Cast(..) => 1,
        })
        .sum();
    4 * (rows * operations + LOAD * (fixed + rows * moving)) <= of_four_steps(rows, vectors)
}

/// Schedules of a depthwise convolution, the best first: as many pixels of a row as divide it, or one or two.
pub fn depthwise_schedules(spec: &DepthwiseSpec, class: &GpuClass) -> Vec<DepthwiseSchedule> {
    let width = spec.window.width;
    let mut columns: Vec<i64> = class.columns.iter().copied().filter(|columns| width % columns == 0).collect();
    for rest in [width.clamp(1, 2), 1] {
        if !columns.contains(&rest) {
            columns.push(rest);
        }
    }
    let rows = class.rows.min(spec.window.height.max(1));
    let of = |columns| DepthwiseSchedule { columns, rows, holds_row: true, block: LANES };
    columns.into_iter().map(of).collect()
}

/// What a dispatch costs that waits for another, in products of a vector and a number: 10 µs where 5 of them take a nanosecond.
const DISPATCH: i64 = 50_000;
/// The part of direct sums that Winograd's convolution may not exceed: it moves about twice the bytes, and phones are short of
/// bandwidth before they are short of arithmetic.
const MOST: f64 = 0.5;
/// Points of an axis: an invocation holds all numbers of a tile.
const MOST_POINTS: i64 = 6;

/// The axes of the cheapest of Winograd's convolutions of these outputs, if there are any, and whether it is cheaper than direct
/// sums. `is_packed`: the transformed weights are constants; else each inference transforms them.
pub fn winograd_axes(
    class: &GpuClass,
    element: Element,
    (images, extents): (i64, [i64; 2]),
    taps: [i64; 2],
    (depth, channels): (i64, i64),
    is_packed: bool,
) -> Option<([Axis; 2], bool)> {
    let [inputs, results] = [depth, channels].map(|channels| divide_up(channels, LANES));
    let cost = |axes: &[Axis; 2]| {
        let tiling = Tiling { images, extents, axes: *axes, whole: true };
        let (points, tiles) = (axes[0].points * axes[1].points, images * tiling.tiles()[0] * tiling.tiles()[1]);
        let [input, output] = transform_steps(*axes);
        let outputs = axes[0].outputs() * axes[1].outputs();
        let transforms =
            tiles * (inputs * (2 * points * LOAD + input) + results * ((points + outputs) * LOAD + output));
        // Each point sums the taps' products twice: down the rows, along the columns.
        let weights = depth * results * ((points + taps[0] * taps[1]) * LOAD + points * (taps[0] + taps[1]));
        let once = if is_packed { 0 } else { weights + DISPATCH };
        tiles * points * depth * results + depth * results * points * LOAD + transforms + once + 2 * DISPATCH
    };
    let is_small = |axes: &[Axis; 2]| axes.iter().all(|axis| axis.points <= MOST_POINTS);
    let best = axes_of(element, taps, 1).into_iter().filter(is_small).min_by_key(cost)?;
    let tiling = Tiling { images, extents, axes: best, whole: true };
    let tiles = images * tiling.tiles()[0] * tiling.tiles()[1];
    let is_large = depth.min(channels) >= class.winograd_channels && tiles >= class.winograd_tiles;
    let direct = images * extents[0] * extents[1] * taps[0] * taps[1] * depth * results;
    Some((best, is_large && (cost(&best) as f64) < direct as f64 * MOST))
}
