//! Contractions of i8. Panels are of eight channels on every processor, so that all programs of an artifact read the same
//! packed weights.

use super::{CoreTable, Machine, Schedule, Tile};
use crate::contraction::{ContractionSpec, Element};
use crate::cpu::isa::{Architecture, Integers, Vectors};

/// Two vectors of sums for each row.
const VECTORS: i64 = 2;

/// The numbers of processors that sum products in a way. All have the same tiles.
pub(super) fn table(integers: Integers) -> &'static CoreTable {
    match integers {
        Integers::Plain => &PLAIN_TABLE,
        Integers::Dot => &TABLE,
        Integers::Matrix => &MATRIX_TABLE,
    }
}

/// The same of x86-64.
pub(super) fn host_table(vectors: Vectors) -> &'static CoreTable {
    match vectors {
        Vectors::Baseline | Vectors::Avx512 => &PLAIN_TABLE,
        Vectors::Avx512Vnni => &VNNI_TABLE,
    }
}

/// Four panels at once: a register of sums of each for every row.
const VNNI_TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 6, vectors: VECTORS },
        Tile { rows: 5, vectors: VECTORS },
        Tile { rows: 4, vectors: VECTORS },
    ],
    along_depth: along_vnni_depth,
    along_packed_depth: along_vnni_depth,
    around_depth: around_vnni_depth,
    least_blocks: 16,
    ..TABLE
};

/// For each eight elements of the depth a product for each row and a load of weights, and a quarter of each row's input.
fn along_vnni_depth(tile: Tile) -> f64 {
    let rows = tile.rows as f64;
    (rows + 1.0 + rows / 4.0) / 8.0
}

/// About fourteen instructions for sixteen sums until they are stored, and a few of the loop.
fn around_vnni_depth(tile: Tile) -> f64 {
    (7 * tile.rows + 4) as f64
}

/// Tiles by instructions for each product of four: 7x2 1.15, 8x2 1.19, 6x2 1.16, 4x2 1.22.
const TABLE: CoreTable = CoreTable {
    tiles: &[
        Tile { rows: 7, vectors: VECTORS },
        Tile { rows: 8, vectors: VECTORS },
        Tile { rows: 6, vectors: VECTORS },
        Tile { rows: 4, vectors: VECTORS },
    ],
    narrow_tiles: &[
        Tile { rows: 1, vectors: VECTORS },
        Tile { rows: 2, vectors: VECTORS },
        Tile { rows: 3, vectors: VECTORS },
    ],
    packed_tiles: &[],
    along_depth,
    along_packed_depth: along_depth,
    around_depth,
    fits: |_, _| true,
    least_blocks: 8,
};

/// For each element of the depth a quarter of a product for each sum, and of the loads.
fn along_depth(tile: Tile) -> f64 {
    let row_loads = if tile.rows <= 7 { 8.0 } else { 4.0 };
    ((tile.rows * tile.vectors) as f64 + tile.rows as f64 / row_loads + tile.vectors as f64 / 2.0 + 0.25) / 4.0
}

/// Pairs of pixels by pairs of channels.
const MATRIX_TABLE: CoreTable = CoreTable {
    packed_tiles: &[Tile { rows: MOST_ROWS_OF_TWO_PANELS, vectors: VECTORS }],
    along_depth: along_matrix_depth,
    along_packed_depth: along_packed_matrix_depth,
    ..TABLE
};

/// Pixels of a tile by products of matrices that goes over two panels at once: 24 registers of sums.
pub const MOST_ROWS_OF_TWO_PANELS: i64 = 6;

/// Panels that go together in units.
pub(super) fn panels_together(machine: &Machine) -> i64 {
    match (machine.architecture, machine.integers, machine.vectors) {
        (Architecture::Aarch64, integers, _) => most_panels_at_once(integers),
        (Architecture::X86_64, _, Vectors::Avx512Vnni) => 4,
        (Architecture::X86_64, _, Vectors::Baseline | Vectors::Avx512) => 1,
    }
}

const fn most_panels_at_once(integers: Integers) -> i64 {
    match integers {
        Integers::Plain | Integers::Dot => 1,
        Integers::Matrix => 2,
    }
}

/// Panels that our kernel of aarch64 goes over at once.
pub fn panels_at_once(spec: &ContractionSpec, schedule: &Schedule, integers: Integers) -> i64 {
    let pairs = spec.element == Element::I8 && schedule.tile.rows <= MOST_ROWS_OF_TWO_PANELS;
    let panels = spec.channels / schedule.panel();
    if pairs { most_panels_at_once(integers).min(panels).max(1) } else { 1 }
}

/// For each element of the depth an eighth of a product for each pair of pixels and two channels, of its load and of weaving it.
/// Of two panels at once each has half of the loads.
fn along_matrix_depth(tile: Tile) -> f64 {
    let pairs = (tile.rows + 1) / 2;
    let products = (pairs * 2 * tile.vectors) as f64;
    match tile.rows {
        1..=MOST_ROWS_OF_TWO_PANELS => (products + tile.rows as f64 / 2.0 + 1.25) / 8.0,
        rows => (products + (pairs + 1) as f64 + rows as f64 / 2.0 + 0.25) / 8.0,
    }
}

/// The same where pairs of pixels lie side by side: two loads of three pairs.
fn along_packed_matrix_depth(tile: Tile) -> f64 {
    let pairs = (tile.rows + 1) / 2;
    ((pairs * 2 * tile.vectors) as f64 + pairs as f64 / 3.0 + 1.25) / 8.0
}

/// Instructions that lay an element side by side with those of its pair: ten for 64.
pub(super) const PACKING: f64 = 10.0 / 64.0;

/// Products of the baseline: parts of a tile of one or two pixels.
const PLAIN_TABLE: CoreTable =
    CoreTable { along_depth: along_plain_depth, along_packed_depth: along_plain_depth, ..TABLE };

/// For each sixteen elements of the depth three instructions for each pixel and channel, two loads for each pixel and two of weights.
fn along_plain_depth(tile: Tile) -> f64 {
    let parts = if tile.rows % 2 == 0 { tile.rows / 2 } else { tile.rows };
    (tile.rows * (12 * tile.vectors + 2) + 2 * parts) as f64 / 16.0
}

/// About six instructions for each sum until it is stored, and a few of the loop.
fn around_depth(tile: Tile) -> f64 {
    (6 * tile.rows * tile.vectors + 8) as f64
}

/// Vectors of sums for whose parts, one of each channel, our kernel of aarch64's baseline has registers.
pub const MOST_PLAIN_SUMS: i64 = 4;

/// The same of Cranelift's kernel.
pub(super) const fn most_clif_sums(architecture: Architecture) -> i64 {
    match architecture {
        Architecture::Aarch64 => 4,
        Architecture::X86_64 => 2,
    }
}
