//! Cores with 16 vector registers, of which 128 bits are used.

use super::{CoreTable, Tile};

/// Rows x vectors + rows (input) + vectors (weights) + 1 (the lane spread out) <= 16 registers.
pub(super) const TABLE: CoreTable = CoreTable {
    tiles: &[Tile { rows: 4, vectors: 2 }, Tile { rows: 3, vectors: 2 }],
    narrow_tiles: &[Tile { rows: 1, vectors: 6 }, Tile { rows: 2, vectors: 4 }, Tile { rows: 3, vectors: 2 }],
    overhead: 5.0,
    block_bytes: 256 << 10,
    least_units: 16,
};
