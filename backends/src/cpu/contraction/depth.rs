//! The innermost loops: multiply-adds of one tile over the depth.

use std::ops::Range;

use cranelift_codegen::ir::{BlockArg, ConstantData, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::Element;
use crate::cpu::expr::{Width, machine_type};
use crate::cpu::function::{access, constant, jump, lanes, offset};
use crate::cpu::isa::Architecture;

use super::elements::load_elements;

/// Elements of the depth that one load of an input row brings, of f32 and f16.
const BLOCK: i64 = 4;

/// The sums of a tile, `[row][vector]` in row-major order, and the address of the next weights.
pub(super) struct Sums {
    pub weights: Value,
    pub values: Vec<Value>,
}

/// The extent of the innermost loop.
#[derive(Clone, Copy)]
pub(super) struct Depth {
    pub architecture: Architecture,
    pub element: Element,
    pub vectors: i64,
    pub depth: i64,
}

impl Depth {
    /// Bytes of the depth covered by whole blocks. Row addresses come moved forward by it, because the loop's offset runs
    /// up to zero and is its own count.
    pub fn block_bytes(&self) -> i64 {
        let block = match self.element {
            Element::F32 | Element::F16 => BLOCK,
            Element::I8 => Element::I8.depth_block(),
        };
        self.depth / block * block * self.element.bytes()
    }

    /// Bytes of a block.
    fn block_size(&self) -> i64 {
        BLOCK * self.element.bytes()
    }

    /// Four elements as f32.
    fn load(&self, b: &mut FunctionBuilder<'_>, address: Value, place: i64) -> Value {
        load_elements(b, (self.architecture, self.element.dtype()), Width::Four, address, place * self.block_size())
    }

    /// Adds the products of `depth` elements of every row with as many rows of weights.
    pub fn emit(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], sums: Sums) -> Sums {
        if self.element == Element::I8 {
            return self.products_of_bytes(b, rows, sums);
        }
        let blocks = self.depth / BLOCK;
        let sums = match blocks {
            0 => sums,
            1 => {
                let start = constant(b, -self.block_size());
                self.block(b, rows, start, sums, 0..BLOCK)
            }
            _ => self.blocks(b, rows, blocks, sums),
        };
        self.rest(b, rows, sums)
    }

    fn blocks(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], blocks: i64, sums: Sums) -> Sums {
        let (head, exit) = (b.create_block(), b.create_block());
        let start = constant(b, -blocks * self.block_size());
        let mut entering = vec![start, sums.weights];
        entering.extend(&sums.values);
        let position = b.append_block_param(head, types::I64);
        let weights = b.append_block_param(head, types::I64);
        let values = sums.values.iter().map(|_| b.append_block_param(head, types::F32X4)).collect();
        jump(b, head, &entering);
        b.switch_to_block(head);
        let sums = self.block(b, rows, position, Sums { weights, values }, 0..BLOCK);
        let next = b.ins().iadd_imm_s(position, self.block_size());
        let mut repeating = vec![next, sums.weights];
        repeating.extend(&sums.values);
        let arguments: Vec<BlockArg> = repeating.iter().map(|&value| BlockArg::Value(value)).collect();
        b.ins().brif(next, head, &arguments, exit, &[]);
        b.switch_to_block(exit);
        sums
    }

    /// Some elements of one block of the depth, which begins at `position` in every row.
    fn block(
        &self,
        b: &mut FunctionBuilder<'_>,
        rows: &[Value],
        position: Value,
        sums: Sums,
        used: Range<i64>,
    ) -> Sums {
        match self.architecture {
            Architecture::Aarch64 => self.block_by_lanes(b, rows, position, sums, used),
            Architecture::X86_64 => self.block_by_scalars(b, rows, position, sums, used),
        }
    }

    /// One vector of each row, whose lanes are operands of the multiply-adds. Each vector of weights meets all rows, and is
    /// loaded while the one before is in use.
    fn block_by_lanes(
        &self,
        b: &mut FunctionBuilder<'_>,
        rows: &[Value],
        position: Value,
        mut sums: Sums,
        used: Range<i64>,
    ) -> Sums {
        let base = sums.weights;
        let weight = |b: &mut FunctionBuilder<'_>, place: i64| self.load(b, base, place);
        let mut next = weight(b, 0);
        let mut inputs = Vec::with_capacity(rows.len());
        for &row in rows {
            let address = b.ins().iadd(row, position);
            inputs.push(self.load(b, address, 0));
        }
        let count = (used.end - used.start) * self.vectors;
        for place in 0..count {
            let (weights, lane) = (next, used.start + place / self.vectors);
            if place + 1 < count {
                next = weight(b, place + 1);
            }
            for (row, &input) in inputs.iter().enumerate() {
                let sum = &mut sums.values[row * self.vectors as usize + (place % self.vectors) as usize];
                let spread = spread_lane(b, input, lane as u8);
                *sum = b.ins().fma(weights, spread, *sum);
            }
        }
        sums.weights = offset(b, base, count * self.block_size());
        sums
    }

    /// Each element of a row is spread from memory and meets all vectors of weights: fewer registers than by lanes.
    fn block_by_scalars(
        &self,
        b: &mut FunctionBuilder<'_>,
        rows: &[Value],
        position: Value,
        mut sums: Sums,
        used: Range<i64>,
    ) -> Sums {
        let vectors = self.vectors as usize;
        for k in used.clone() {
            let weights: Vec<Value> = (0..self.vectors)
                .map(|vector| self.load(b, sums.weights, (k - used.start) * self.vectors + vector))
                .collect();
            for (row, &address) in rows.iter().enumerate() {
                let address = b.ins().iadd(address, position);
                let size = self.element.bytes();
                let scalar = load_elements(b, (self.architecture, self.element.dtype()), Width::One, address, k * size);
                let spread = b.ins().splat(types::F32X4, scalar);
                for (sum, &weights) in sums.values[row * vectors..].iter_mut().zip(&weights) {
                    *sum = b.ins().fma(spread, weights, *sum);
                }
            }
        }
        sums.weights = offset(b, sums.weights, (used.end - used.start) * self.vectors * self.block_size());
        sums
    }

    /// The elements after the last whole block: lanes of a vector that ends with the row, or scalars of a short row.
    fn rest(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], sums: Sums) -> Sums {
        let rest = self.depth % BLOCK;
        if rest == 0 {
            return sums;
        }
        if self.depth > BLOCK {
            let position = constant(b, (rest - BLOCK) * self.element.bytes());
            return self.block(b, rows, position, sums, BLOCK - rest..BLOCK);
        }
        let position = constant(b, 0);
        self.block_by_scalars(b, rows, position, sums, 0..rest)
    }
}

/// A vector with one lane in all four: the form that Cranelift folds into `fmla` by element.
fn spread_lane(b: &mut FunctionBuilder<'_>, vector: Value, lane: u8) -> Value {
    let bytes = b.ins().bitcast(types::I8X16, lanes(), vector);
    let mask: Vec<u8> = (0..16).map(|byte| lane * 4 + byte % 4).collect();
    let mask = b.func.dfg.immediates.push(ConstantData::from(mask));
    let spread = b.ins().shuffle(bytes, bytes, mask);
    b.ins().bitcast(types::F32X4, lanes(), spread)
}

/// Vectors of sums that start at zero.
pub(super) fn zeros(b: &mut FunctionBuilder<'_>, element: Element, count: i64) -> Vec<Value> {
    (0..count)
        .map(|_| {
            let zero = b.func.dfg.constants.insert(ConstantData::from(vec![0u8; 16]));
            b.ins().vconst(machine_type(element.sum_dtype(), Width::Four), zero)
        })
        .collect()
}

/// Reads a 64-bit table entry.
pub(super) fn entry(b: &mut FunctionBuilder<'_>, address: Value) -> Value {
    b.ins().load(types::I64, access(), address, 0)
}
