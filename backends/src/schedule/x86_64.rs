//! Cores with 16 vector registers, of which 128 bits are used.

use super::{CoreTable, Tile};

/// Rows x vectors + vectors (weights) + 2 (the spread input, and its copy for a multiply-add that overwrites it) <= 16
/// registers. Measured on Zen 4, 512x512x512: 3x3 48 GFLOP/s, 4x2 45, 3x2 41; 4x3, 5x2 and 6x2 spill (38, 32, 29).
pub(super) const TABLE: CoreTable = CoreTable {
    tiles: &[Tile { rows: 3, vectors: 3 }, Tile { rows: 4, vectors: 2 }, Tile { rows: 3, vectors: 2 }],
    narrow_tiles: &[Tile { rows: 1, vectors: 6 }, Tile { rows: 2, vectors: 4 }, Tile { rows: 3, vectors: 2 }],
    packed_tiles: &[],
    along_depth,
    along_packed_depth: along_depth,
    around_depth,
    fits: |_, _| true,
    least_blocks: 16,
};

/// Bytes of input rows that stay in the second cache, of which cores have 1 MiB and more.
pub(super) const BLOCK_BYTES: i64 = 256 << 10;

/// One multiply-add per sum; per row a load, a spread, and a copy for the multiply-add that overwrites it; the weights.
fn along_depth(tile: Tile) -> f64 {
    (tile.rows * tile.vectors + tile.vectors + 3 * tile.rows) as f64 + 0.75
}

/// About five instructions per sum.
fn around_depth(tile: Tile) -> f64 {
    (5 * tile.rows * tile.vectors) as f64
}

/// Two registers of eight lanes for each row and two of weights, two for inputs in every lane: 16 registers. Weights are
/// packed as for AVX-512.
pub(super) const AVX2_TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 6, vectors: 4 },
        Tile { rows: 5, vectors: 4 },
        Tile { rows: 4, vectors: 4 },
        Tile { rows: 3, vectors: 4 },
        Tile { rows: 2, vectors: 4 },
    ],
    narrow_tiles: &[Tile { rows: 3, vectors: 4 }, Tile { rows: 2, vectors: 4 }, Tile { rows: 1, vectors: 4 }],
    along_depth: along_avx2_depth,
    along_packed_depth: along_avx2_depth,
    around_depth: around_avx2_depth,
    ..TABLE
};

/// A multiply-add a sum, of which eight are under way at least, an input a row, and the weights.
fn along_avx2_depth(tile: Tile) -> f64 {
    let vectors = (tile.vectors + 1) / 2;
    ((tile.rows * vectors).max(8) + tile.rows + vectors) as f64 + 1.0
}

/// A start, an epilogue and a store a sum, and a few of the loops.
fn around_avx2_depth(tile: Tile) -> f64 {
    (4 * tile.rows * ((tile.vectors + 1) / 2) + 10) as f64
}

/// Sums that Cranelift's kernels hold in registers over panels of sixteen channels.
pub(super) const MOST_SUMS: i64 = 8;

/// Lines of a set of the first-level cache, at least; one is left to weights.
const WAYS: i64 = 8;

/// How many of a tile's rows, `row_bytes` apart, lie in one set of the first-level cache at most: rows of 4096 bytes all do, and
/// where they are more than its lines, each is loaded again for every element. Measured on Zen 4, 128x1024x256: 14 rows 15
/// multiply-adds a nanosecond, 7 rows 50.
fn most_of_a_set(row_bytes: i64, rows: i64) -> i64 {
    const LINE: i64 = 64;
    const SETS: i64 = 64;
    let mut lines = [0; SETS as usize];
    for row in 0..rows {
        lines[(row * row_bytes / LINE).rem_euclid(SETS) as usize] += 1;
    }
    lines.into_iter().max().unwrap_or(0)
}

/// One register of sixteen channels for each row. Sums that leave the epilogue too few registers are put aside.
pub(super) const WIDE_TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 14, vectors: 4 },
        Tile { rows: 16, vectors: 4 },
        Tile { rows: 24, vectors: 4 },
        Tile { rows: 20, vectors: 4 },
        Tile { rows: 12, vectors: 4 },
        Tile { rows: 10, vectors: 4 },
        Tile { rows: 8, vectors: 4 },
        Tile { rows: 7, vectors: 4 },
        Tile { rows: 6, vectors: 4 },
        Tile { rows: 4, vectors: 4 },
    ],
    narrow_tiles: &[],
    packed_tiles: &[],
    along_depth: along_wide_depth,
    along_packed_depth: along_wide_depth,
    around_depth: around_wide_depth,
    fits: |tile, spec| {
        let row_bytes = spec.input.column * spec.window.step[1] * spec.element.bytes();
        most_of_a_set(row_bytes, tile.rows) < WAYS
    },
    least_blocks: 16,
};

/// One multiply-add a row, of which four are under way at least, and a load of weights.
fn along_wide_depth(tile: Tile) -> f64 {
    tile.rows.max(4) as f64 + 1.25
}

/// A start, an epilogue and a store a row, and a few of the loops.
fn around_wide_depth(tile: Tile) -> f64 {
    (4 * tile.rows + 10) as f64
}
