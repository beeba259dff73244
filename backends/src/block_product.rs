//! Products of rows of numbers with weights that are integers of 4 or 8 bits and a scale for each block of the depth.
//!
//! The numbers of a row are integers of 24 bits with one scale for the row, `x = f * scale`, `|f| <= 127 * 2^16`: no farther from x than
//! half a step of f32 is from the row's largest. Each is three digits of i8, `f = h * 2^16 + m * 2^8 + l`, so that dot products
//! of bytes sum a block exactly, once for each digit. The sums become f32 then, and are multiplied by the scale of the block.

use edgecc_ir::Expr;

use crate::contraction::{Footprint, divide_up};

/// Digits of a number.
pub const DIGITS: i64 = 3;
/// The largest integer that is written in digits, each of them within i8.
pub const LARGEST: f64 = 127.0 * 65536.0;
/// Elements of the depth that are loaded together: rows and blocks are whole ones.
pub const PIECE: i64 = 16;
/// Elements of the depth that a dot product sums, and channels of a vector.
pub const QUAD: i64 = 4;

/// Bits of a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bits {
    /// -8 to 7.
    Four,
    /// -128 to 127.
    Eight,
}

impl Bits {
    /// Weights of a byte.
    pub const fn of_byte(self) -> i64 {
        match self {
            Bits::Four => 2,
            Bits::Eight => 1,
        }
    }
}

/// A matrix of the epilogue or the result, in elements of f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// Offset of the first element from the operand's address.
    pub base: i64,
    /// From one row to the next; 0 where all rows share one.
    pub row: i64,
    /// From one channel to the next: 1, or 0 where all channels share one.
    pub channel: i64,
}

impl Rows {
    fn footprint(&self, rows: i64, channels: i64) -> Footprint {
        let last = self.base + (rows - 1) * self.row + (channels - 1) * self.channel;
        Footprint { begin: 4 * self.base, end: 4 * (last + 1) }
    }
}

/// `output[r, n] = epilogue(scale[r] * sum over blocks b of weight_scale[b, n] * (sum over k of the block of f[r, k] * weight[k, n]), ...)`.
/// Operands of a kernel, in order: digits `[row][digit: h, m, l][depth]` of i8, scales of rows, weights, their scales, output,
/// and the further operands of the epilogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockProductSpec {
    /// Rows.
    pub rows: i64,
    /// What is summed over, padded to whole pieces; weights of the padding are 0.
    pub depth: i64,
    /// Columns of the result: whole vectors.
    pub channels: i64,
    /// Neighbours along the depth that share a scale: whole pieces, and the depth is whole blocks.
    pub block: i64,
    /// Bits of a weight.
    pub bits: Bits,
    /// The output.
    pub output: Rows,
    /// Argument `i + 1` of the epilogue is operand `i`.
    pub operands: Vec<Rows>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl BlockProductSpec {
    /// Channels of a panel of weights, of which the channels are whole ones: sums of one row of 16, or of two rows of 8, leave registers for
    /// what they are made of.
    pub fn panel(&self) -> i64 {
        let widest = if self.rows == 1 { 4 * QUAD } else { 2 * QUAD };
        [widest, widest / 2, QUAD].into_iter().find(|&panel| self.channels % panel == 0).unwrap_or(QUAD)
    }

    /// Length of the range: panels.
    pub fn units(&self) -> i64 {
        self.channels / self.panel()
    }

    /// Blocks of a channel.
    pub fn blocks(&self) -> i64 {
        self.depth / self.block
    }

    /// Instructions of aarch64's kernel, but for its epilogue: products and loads of a piece, and what becomes of a block's sums.
    pub fn instructions(&self) -> f64 {
        let (vectors, tiles) = (self.panel() / QUAD, divide_up(self.rows, 2));
        let (rows, bytes) = (self.rows.min(2), self.bits.of_byte());
        let quads = PIECE / QUAD;
        let loads = DIGITS * rows + divide_up(quads * vectors / bytes, 4);
        let halves = if self.bits == Bits::Four { quads * vectors } else { 0 };
        let piece = DIGITS * quads * vectors * rows + loads + halves;
        let block = self.block / PIECE * piece + (3 * DIGITS * vectors * rows) + 3;
        (self.units() * tiles * self.blocks() * block) as f64
    }

    /// Bytes of the digits of a row.
    pub fn row_bytes(&self) -> i64 {
        DIGITS * self.depth
    }

    /// Bytes of a channel's weights.
    pub fn channel_bytes(&self) -> i64 {
        self.depth / self.bits.of_byte()
    }

    /// The bytes that a kernel may touch, per operand.
    pub fn footprints(&self) -> Vec<Footprint> {
        let leading = [
            self.rows * self.row_bytes(),
            4 * self.rows,
            self.channels * self.channel_bytes(),
            4 * self.channels * self.blocks(),
        ];
        let matrices = [&self.output].into_iter().chain(&self.operands);
        let matrices = matrices.map(|matrix| matrix.footprint(self.rows, self.channels));
        leading.map(Footprint::leading).into_iter().chain(matrices).collect()
    }

    /// The channels of each panel.
    fn panels(&self) -> impl Iterator<Item = std::ops::Range<i64>> {
        let panel = self.panel();
        (0..self.units()).map(move |number| number * panel..(number + 1) * panel)
    }

    /// Packed weights: `[panel][four of the depth][channel of the panel][4]`, of four bits `[panel][eight of the depth][channel][4]`
    /// with the first four of the depth in the lower halves of the bytes. `weight(k, channel)` is the value.
    pub fn pack_weights(&self, weight: impl Fn(i64, i64) -> i8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity((self.channels * self.channel_bytes()) as usize);
        let step = QUAD * self.bits.of_byte();
        for (panel, first) in
            self.panels().flat_map(|panel| (0..self.depth).step_by(step as usize).map(move |k| (panel.clone(), k)))
        {
            for (channel, k) in panel.flat_map(|channel| (first..first + QUAD).map(move |k| (channel, k))) {
                bytes.push(match self.bits {
                    Bits::Eight => weight(k, channel) as u8,
                    Bits::Four => weight(k, channel) as u8 & 15 | (weight(k + QUAD, channel) as u8) << 4,
                });
            }
        }
        bytes
    }

    /// Scales as kernels read them: `[panel][block][channel of the panel]`. Weights of four bits are multiplied as 16 times what they
    /// are.
    pub fn pack_scales(&self, scale: impl Fn(i64, i64) -> f32) -> Vec<u8> {
        let factor = match self.bits {
            Bits::Eight => 1.0,
            Bits::Four => 1.0 / 16.0,
        };
        let places = self.panels().flat_map(|panel| {
            (0..self.blocks()).flat_map(move |block| panel.clone().map(move |channel| (block, channel)))
        });
        places.flat_map(|(block, channel)| (factor * scale(block, channel)).to_le_bytes()).collect()
    }
}
