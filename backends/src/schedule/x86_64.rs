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

/// The same where AVX-512 reads the same weights: panels of sixteen channels.
pub(super) const SHARED_TABLE: CoreTable = CoreTable {
    tiles: &[Tile { rows: 2, vectors: 4 }],
    narrow_tiles: &[Tile { rows: 1, vectors: 4 }, Tile { rows: 2, vectors: 4 }],
    ..TABLE
};

/// Registers that an epilogue takes beside sums and operands, at most.
const EPILOGUE_REGISTERS: i64 = 8;

/// One register of sixteen channels for each row; sums, and what the epilogue takes, fit 32 registers.
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
    // The last tile, which is written by Cranelift where even it does not fit, is always there.
    fits: |tile, operands| tile.rows <= 4 || tile.rows + operands as i64 + EPILOGUE_REGISTERS <= 32,
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
