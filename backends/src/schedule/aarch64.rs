//! Cores with 32 vector registers.

use super::{CoreTable, Tile};

/// Rows x vectors + rows (input) + 2 (weights in flight) <= 32 registers. 7x3 needs 30 and divides the image sizes
/// 7, 14, 28, 56, 112; wide tiles for few rows read each weight once.
pub(super) const TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 8, vectors: 2 },
        Tile { rows: 7, vectors: 3 },
        Tile { rows: 6, vectors: 3 },
        Tile { rows: 7, vectors: 2 },
        Tile { rows: 5, vectors: 4 },
        Tile { rows: 4, vectors: 4 },
    ],
    narrow_tiles: &[Tile { rows: 1, vectors: 8 }, Tile { rows: 2, vectors: 8 }, Tile { rows: 3, vectors: 6 }],
    // A quarter of a load; the lane is part of the multiply-add.
    per_row: 0.25,
    overhead: 5.0,
    block_bytes: 64 << 10,
    least_units: 16,
};
