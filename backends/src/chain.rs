//! Chains: kernels that run one after the other over bands of rows, so that what passes between them stays in the worker's
//! scratch and never reaches the arena.
//!
//! Each stage is an ordinary kernel over whole images whose units are rows. It is called for the units that a band adds, with an
//! address for its result such that the rows at work lie in a *strip* of scratch. A strip begins at a row of the image; after
//! some bands, a *turn*, the rows that are still needed move to its front. A call that begins within an image first computes the
//! rows that the band before would have left behind; so results do not depend on how a range is cut.

mod join;
mod walk;

pub use join::{Limits, join};

use crate::program::KernelSource;

/// Kernels over bands of rows. The range is images by bands.
#[derive(Clone, PartialEq, Debug)]
pub struct Chain {
    /// Images, or matrices of a batch: nothing passes from one to the next.
    pub images: i64,
    /// The kernels, in their order.
    pub stages: Vec<Stage>,
    /// The units of each stage for each band of an image: `[band][stage]`.
    pub bands: Vec<Vec<Span>>,
    /// Where scratch of the stages themselves begins, behind the strips.
    pub stage_scratch: i64,
    /// Bytes of scratch, of the strips and of the stages.
    pub scratch: i64,
}

/// One kernel of a chain.
#[derive(Clone, PartialEq, Debug)]
pub struct Stage {
    /// The kernel, over all images.
    pub source: KernelSource,
    /// Where its operands lie.
    pub operands: Vec<Place>,
    /// Units of its range for each image.
    pub units: i64,
    /// Its result, where that passes to the next stage.
    pub strip: Option<Strip>,
}

/// Where a stage's operand lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// The chain's operand of this number.
    Operand(usize),
    /// The strip of the stage of this number.
    Strip(usize),
    /// The worker's scratch behind the strips.
    Scratch,
}

/// The rows of a value that passes from one stage to the next, as far as they are at work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Strip {
    /// First byte in the worker's scratch.
    pub offset: i64,
    /// Bytes of the rows of a unit.
    pub unit_bytes: i64,
    /// Bytes of all rows of an image, as if it lay whole in memory.
    pub image_bytes: i64,
}

/// Units of a stage for one band.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    /// The unit whose rows lie at the front of the strip.
    pub front: i64,
    /// First unit that the band needs.
    pub first: i64,
    /// First unit that the band before has not computed.
    pub begin: i64,
    /// One past the last.
    pub end: i64,
}

impl Span {
    /// Bytes of a span in the table.
    pub const BYTES: i64 = 16;
    /// Offsets in it.
    pub const FRONT: i64 = 0;
    /// See [`Span::first`].
    pub const FIRST: i64 = 4;
    /// See [`Span::begin`].
    pub const BEGIN: i64 = 8;
    /// See [`Span::end`].
    pub const END: i64 = 12;
}

impl Chain {
    /// The constant that the kernel reads as its last operand: spans of four u32, `[band][stage]`.
    pub fn table(&self) -> Vec<u8> {
        let spans = self.bands.iter().flatten();
        let numbers = spans.flat_map(|span| [span.front, span.first, span.begin, span.end]);
        numbers.flat_map(|number| (number as u32).to_le_bytes()).collect()
    }

    /// The number of the operand that holds the table: the last one before scratch.
    pub fn table_operand(&self) -> usize {
        let places = self.stages.iter().flat_map(|stage| &stage.operands);
        places.filter(|place| matches!(place, Place::Operand(_))).count()
    }

    /// Length of the range.
    pub fn units(&self) -> i64 {
        self.images * self.bands.len() as i64
    }
}
