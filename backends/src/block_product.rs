//! Products of rows of numbers with weights that are integers of 4 or 8 bits and a scale for each block of the depth.
//!
//! Where processors have dot products of bytes, the numbers of a row are integers of 24 bits with one scale for the row, `x = f * scale`, `|f| <= 127 * 2^16`: no farther from x than
//! half a step of f32 is from the row's largest. Each is three digits of i8, `f = h * 2^16 + m * 2^8 + l`, so that dot products
//! of bytes sum a block exactly, once for each digit. The sums become f32 then, and are multiplied by the scale of the block.
//! Elsewhere weights become numbers in registers.

use edgecc_ir::Expr;

use crate::contraction::{Footprint, divide_up};
use crate::kernel::Index;

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

/// How packed weights follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Order {
    /// `[panel][four of the depth][channel of the panel][4]`, of four bits `[panel][eight of the depth][channel][4]` with the first
    /// four of the depth in the lower halves of the bytes: as dot products of aarch64 take them.
    Quads,
    /// `[panel][depth][channel of the panel]`, of four bits two neighbours of the depth to a byte, the first in the lower half.
    Lines,
}

/// What weights are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// Digits of i8, `[row][digit: h, m, l][depth]`. The scales of the rows are a further operand, the kernel's last; of weights of four
    /// bits they are a sixteenth of what they are, since such weights are taken 16 times.
    Digits,
    /// f32, the channels of a row side by side.
    Numbers(Rows),
}

/// A matrix in elements of f32.
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

/// `output[r, n] = epilogue(sum over blocks b of scale[b, n] * (sum over k of the block of input[r, k] * weight[k, n]), ...)`.
/// Operands of a kernel, in order: input, weights, their scales, output, and the further operands of the epilogue.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BlockProductSpec {
    /// Rows.
    pub rows: i64,
    /// What is summed over.
    pub summed: i64,
    /// The same, padded to whole pieces; weights of the padding are 0.
    pub depth: i64,
    /// Columns of the result: whole vectors.
    pub channels: i64,
    /// Neighbours along the depth that share a scale: whole pieces, and the depth is whole blocks.
    pub block: i64,
    /// Bits of a weight.
    pub bits: Bits,
    /// How weights are packed.
    pub order: Order,
    /// The input.
    pub input: Input,
    /// The output.
    pub output: Rows,
    /// Argument `i + 1` of the epilogue is operand `i`.
    pub operands: Vec<Rows>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl BlockProductSpec {
    /// Channels of a panel of weights, of which the channels are whole ones. On aarch64 sums of one row of 16, or of two rows of 8, leave
    /// registers for what they are made of.
    pub fn panel(&self) -> i64 {
        let widest = match self.order {
            Order::Quads if self.rows > 1 => 2 * QUAD,
            Order::Quads | Order::Lines => 4 * QUAD,
        };
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

    /// How many times what they are dot products take weights for: of four bits they stand in the upper half of a byte.
    pub fn stored_times(&self) -> f64 {
        match self.bits {
            Bits::Four => 16.0,
            Bits::Eight => 1.0,
        }
    }

    /// Rows of a tile of aarch64's kernel.
    pub fn tile_rows(&self) -> i64 {
        match self.input {
            Input::Digits => self.rows.min(2),
            Input::Numbers(_) => self.rows.min(4),
        }
    }

    /// Instructions of aarch64's kernel, but for its epilogue: products and loads of a piece, and what becomes of a block's sums.
    pub fn instructions(&self) -> f64 {
        let (vectors, rows, quads) = (self.panel() / QUAD, self.tile_rows(), PIECE / QUAD);
        let loads = divide_up(quads * vectors / self.bits.of_byte(), 4);
        let (piece, sums) = match self.input {
            Input::Digits => {
                let halves = if self.bits == Bits::Four { quads * vectors } else { 0 };
                (DIGITS * (quads * vectors * rows + rows) + loads + halves, 3 * DIGITS)
            }
            // A byte becomes a number by three instructions, the last of a word by two.
            Input::Numbers(_) => (quads * (vectors * (11 + 4 * rows) + rows) + loads, 2),
        };
        let block = self.block / PIECE * piece + sums * vectors * rows + 3;
        (self.units() * divide_up(self.rows, rows) * self.blocks() * block) as f64
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
        let input = match self.input {
            Input::Digits => Footprint::leading(self.rows * self.row_bytes()),
            // The padding of the depth is not read.
            Input::Numbers(rows) => rows.footprint(self.rows, self.summed),
        };
        let scales = 4 * self.channels * self.blocks();
        let mut footprints = vec![input, Footprint::leading(self.weight_bytes()), Footprint::leading(scales)];
        let matrices = [&self.output].into_iter().chain(&self.operands);
        footprints.extend(matrices.map(|matrix| matrix.footprint(self.rows, self.channels)));
        footprints.extend((self.input == Input::Digits).then(|| Footprint::leading(4 * self.rows)));
        footprints
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> i64 {
        self.channels * self.channel_bytes()
    }

    /// The channels of each panel.
    fn panels(&self) -> impl Iterator<Item = std::ops::Range<i64>> {
        let panel = self.panel();
        (0..self.units()).map(move |number| number * panel..(number + 1) * panel)
    }

    /// Packed weights, where `weight(k, channel)` is the value.
    pub fn pack_weights(&self, weight: impl Fn(i64, i64) -> i8) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.weight_bytes() as usize);
        // Elements of the depth side by side for each channel, and from those of lower halves to those of upper ones.
        let (together, apart) = match self.order {
            Order::Quads => (QUAD, QUAD),
            Order::Lines => (1, 1),
        };
        let step = together * self.bits.of_byte();
        let steps = |panel: std::ops::Range<i64>| {
            (0..self.depth).step_by(step as usize).map(move |first| (panel.clone(), first))
        };
        for (panel, first) in self.panels().flat_map(steps) {
            for (channel, k) in panel.flat_map(|channel| (first..first + together).map(move |k| (channel, k))) {
                bytes.push(match self.bits {
                    Bits::Eight => weight(k, channel) as u8,
                    Bits::Four => weight(k, channel) as u8 & 15 | (weight(k + apart, channel) as u8) << 4,
                });
            }
        }
        bytes
    }

    /// The byte of a weight, counted from the first of all, and the half of it, as quotients and remainders of its places say: of a panel, a
    /// channel of it and a place of the depth.
    pub fn place(&self, [panel, channel, k]: [Index; 3]) -> (Index, Index) {
        let of_byte = self.bits.of_byte();
        let (together, step) = match self.order {
            Order::Quads => (QUAD, QUAD * of_byte),
            Order::Lines => (1, of_byte),
        };
        let line = panel.times(self.depth / step).plus(k.clone().floor_div(step));
        let byte = line.times(self.panel()).plus(channel).times(together).plus(k.clone().modulo(together));
        (byte, k.floor_div(together).modulo(of_byte))
    }

    /// Scales as kernels read them: `[panel][block][channel of the panel]`.
    pub fn pack_scales(&self, scale: impl Fn(i64, i64) -> f32) -> Vec<u8> {
        let places = self.panels().flat_map(|panel| {
            (0..self.blocks()).flat_map(move |block| panel.clone().map(move |channel| (block, channel)))
        });
        places.flat_map(|(block, channel)| scale(block, channel).to_le_bytes()).collect()
    }
}
