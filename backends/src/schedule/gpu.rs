//! How contractions run on GPUs: what one invocation computes, by the kind of GPU.

use std::collections::BTreeSet;

use edgecc_ir::{Expr, ExprNode};

use super::{DepthwiseSchedule, LANES, Schedule, Tile};
use crate::contraction::{ContractionSpec, DepthwiseSpec, Element, Reading, divide_up};
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
    /// Products of a vector and a number in the time in which memory moves a byte.
    pub byte: i64,
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
    byte: 6,
    winograd_channels: 64,
    winograd_tiles: 32,
};

/// The kinds of GPUs. What is here of phones was read in ML Drift (LiteRT's `conv_generic.cc`, `winograd_util.cc`), which tunes
/// on devices: its largest blocks by vendor and its bounds for Winograd. That of software adapters was measured. GPUs of phones and of desktops
/// have about 4 products of vectors for each byte at both peaks (an Adreno 660 1.7 TFLOPS and 51 GB/s); sums reach a third of theirs and memory two
/// thirds, and each product stands for two and a half with the loads that it takes here.
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
        byte: 1,
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
    if let Some(within) = spec.reading.as_ref().and_then(Reading::depthwise) {
        return tiles_within(class, within, spec).into_iter().map(|tile| Schedule::of_tile(tile, LANES)).collect();
    }
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

/// Tiles of a contraction that computes what it sums by a depthwise convolution, the best first: an invocation has all channels of its
/// pixels, so that nothing is computed twice.
fn tiles_within(class: &GpuClass, within: &DepthwiseSpec, spec: &ContractionSpec) -> Vec<Tile> {
    let vectors = divide_up(spec.channels, LANES);
    let most = class.tiles.iter().map(|tile| tile.rows * tile.vectors).max().unwrap_or(0);
    let fits = |rows: &i64| rows * vectors <= most && *rows <= spec.window.pixels();
    let mut tiles: Vec<Tile> = [4, 2, 1].into_iter().filter(fits).map(|rows| tile(rows, vectors)).collect();
    tiles.sort_by_key(|tile| cost_within(class, within, spec, *tile));
    tiles
}

/// Products and loads of such a contraction.
fn cost_within(class: &GpuClass, within: &DepthwiseSpec, spec: &ContractionSpec, tile: Tile) -> i64 {
    let Tile { rows, vectors } = tile;
    let (taps, further) = (within.window.taps.len() as i64, within.operands.len() as i64);
    let windows = rows * taps * (1 + LOAD) + LOAD * (taps + further);
    let sums = LANES * rows * vectors + LOAD * LANES * vectors;
    count(spec, tile).max(class.enough) * divide_up(spec.depth, LANES) * (windows + sums)
}

/// Whether a contraction of one tap computes what it sums by a depthwise convolution in less time than both take one after the other, with
/// all results of the first one written and read again.
pub fn pays_within(class: &GpuClass, within: &DepthwiseSpec, spec: &ContractionSpec) -> bool {
    let Some(tile) = tiles_within(class, within, spec).first().copied() else { return false };
    let apart = ContractionSpec { reading: None, ..spec.clone() };
    let depth = divide_up(spec.depth, LANES);
    let sums = class.tiles.iter().filter(|tile| divide_up(spec.channels, LANES) % tile.vectors == 0);
    let sums = sums.map(|tile| cost(class, &apart, *tile) * depth).min().unwrap_or(0);
    let results = within.batch.iter().product::<i64>() * within.window.pixels() * within.channels;
    let moved = 2 * results * within.element.bytes() * class.byte;
    cost_within(class, within, spec, tile) < cost_of_windows(class, within) + sums + moved + DISPATCH
}

/// Products and loads of a depthwise convolution by itself.
fn cost_of_windows(class: &GpuClass, spec: &DepthwiseSpec) -> i64 {
    let Some(DepthwiseSchedule { rows, columns, .. }) = depthwise_schedules(spec, class).first().copied() else {
        return 0;
    };
    let window = &spec.window;
    let met = |axis: usize, pixels: i64| {
        let offsets = window.taps.iter().map(|tap| [tap.row, tap.column][axis]);
        let met = offsets.flat_map(|offset| (0..pixels).map(move |pixel| pixel * window.step[axis] + offset));
        met.collect::<BTreeSet<i64>>().len() as i64
    };
    let taps = window.taps.len() as i64;
    let each = taps * rows * columns + LOAD * (met(0, rows) * met(1, columns) + taps + rows * columns);
    let tiles = divide_up(window.height, rows) * divide_up(window.width, columns) * divide_up(spec.channels, LANES);
    (spec.batch.iter().product::<i64>() * tiles).max(class.enough) * each
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
/// The part of direct sums' cost that Winograd's convolution may not exceed: it takes more memory and more shaders.
const MOST: f64 = 0.8;
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
    let pixels = images * extents[0] * extents[1];
    // Inputs and results of either way have about as many pixels.
    let image = pixels * (depth + channels);
    let moved = |elements: i64| elements * element.bytes() * class.byte;
    let cost = |axes: &[Axis; 2]| {
        let tiling = Tiling { images, extents, axes: *axes, whole: true };
        let (points, tiles) = (axes[0].points * axes[1].points, images * tiling.tiles()[0] * tiling.tiles()[1]);
        let [input, output] = transform_steps(*axes);
        let outputs = axes[0].outputs() * axes[1].outputs();
        let transforms =
            tiles * (inputs * (2 * points * LOAD + input) + results * ((points + outputs) * LOAD + output));
        // Each point sums the taps' products twice: down the rows, along the columns.
        let weights = depth * results * ((points + taps[0] * taps[1]) * LOAD + points * (taps[0] + taps[1]));
        let once = if is_packed { 0 } else { weights + moved(2 * points * depth * channels) + DISPATCH };
        let products = with_loads(tiles * points * depth * results);
        // Numbers and sums at all points are written and read.
        products + transforms + once + 2 * DISPATCH + moved(image + 2 * tiles * points * (depth + channels))
    };
    let is_small = |axes: &[Axis; 2]| axes.iter().all(|axis| axis.points <= MOST_POINTS);
    let best = axes_of(element, taps, 1).into_iter().filter(is_small).min_by_key(cost)?;
    let tiling = Tiling { images, extents, axes: best, whole: true };
    let tiles = images * tiling.tiles()[0] * tiling.tiles()[1];
    let is_large = depth.min(channels) >= class.winograd_channels && tiles >= class.winograd_tiles;
    let direct = with_loads(pixels * taps[0] * taps[1] * depth * results) + moved(image);
    Some((best, is_large && (cost(&best) as f64) < direct as f64 * MOST))
}

/// Products with the loads that a tile of four pixels by two vectors takes for them.
fn with_loads(products: i64) -> i64 {
    let (rows, vectors) = (4, 2);
    products * of_four_steps(rows, vectors) / (LANES * rows * vectors)
}
