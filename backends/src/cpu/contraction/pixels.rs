//! Addresses of the pixels of a tile.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::Strides;
use crate::cpu::function::{constant, offset, scale};

use super::nest::split;

/// What is known of the coordinates of a tile's output pixels.
pub(super) enum Pixels {
    /// The tile begins at this pixel number, and no operand asks for rows and columns.
    Flat,
    /// All pixels lie in one row: its number and the first column.
    Row(Value, Value),
    /// Row and column of each pixel.
    Grid(Vec<(Value, Value)>),
}

/// Row and column of a pixel number.
pub(super) fn coordinates(b: &mut FunctionBuilder<'_>, pixel: Value, width: i64) -> (Value, Value) {
    match split(b, pixel, width) {
        (row, Some(column)) => (row, column),
        (row, None) => (row, constant(b, 0)),
    }
}

/// Rows and columns of `count` pixels from `first` on, in row-major order.
pub(super) fn grid(b: &mut FunctionBuilder<'_>, first: (Value, Value), count: i64, width: i64) -> Pixels {
    let mut pixels = vec![first];
    let zero = constant(b, 0);
    for _ in 1..count {
        let (row, column) = pixels[pixels.len() - 1];
        let next = b.ins().iadd_imm_s(column, 1);
        let wraps = b.ins().icmp_imm_s(IntCC::Equal, next, width);
        let below = b.ins().iadd_imm_s(row, 1);
        let row = b.ins().select(wraps, below, row);
        let column = b.ins().select(wraps, zero, next);
        pixels.push((row, column));
    }
    Pixels::Grid(pixels)
}

/// An operand of pixels.
pub(super) struct Placed<'a> {
    pub strides: &'a Strides,
    /// Bytes of an element.
    pub size: i64,
    /// Output rows, and pixels of a row.
    pub extents: [i64; 2],
}

/// Addresses of the tile's pixels in an operand, moved by `moved` bytes.
pub(super) fn addresses(
    b: &mut FunctionBuilder<'_>,
    base: Value,
    &Placed { strides, size, extents }: &Placed<'_>,
    pixels: &Pixels,
    (first, count): (Value, i64),
    moved: i64,
) -> Vec<Value> {
    let base = offset(b, base, strides.base * size + moved);
    let (row_bytes, column_bytes) = (strides.row * size, strides.column * size);
    if column_bytes == 0 && (row_bytes == 0 || extents[0] == 1) {
        return vec![base; count as usize];
    }
    if strides.is_flat(extents[0], extents[1]) {
        let start = at(b, base, first, column_bytes);
        return chain(b, start, column_bytes, count);
    }
    match pixels {
        Pixels::Flat => {
            let start = at(b, base, first, column_bytes);
            chain(b, start, column_bytes, count)
        }
        Pixels::Row(row, column) => {
            let start = at(b, base, *row, row_bytes);
            let start = at(b, start, *column, column_bytes);
            chain(b, start, column_bytes, count)
        }
        Pixels::Grid(pixels) => pixels
            .iter()
            .map(|&(row, column)| {
                let start = at(b, base, row, row_bytes);
                at(b, start, column, column_bytes)
            })
            .collect(),
    }
}

fn at(b: &mut FunctionBuilder<'_>, base: Value, index: Value, bytes: i64) -> Value {
    if bytes == 0 {
        return base;
    }
    let moved = scale(b, index, bytes);
    b.ins().iadd(base, moved)
}

fn chain(b: &mut FunctionBuilder<'_>, start: Value, bytes: i64, count: i64) -> Vec<Value> {
    let mut pixels = vec![start];
    for _ in 1..count {
        let next = offset(b, pixels[pixels.len() - 1], bytes);
        pixels.push(next);
    }
    pixels
}
