//! The innermost loops: multiply-adds of one tile over the depth.

use cranelift_codegen::ir::{BlockArg, ConstantData, InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::cpu::function::{access, constant, jump, lanes, load, offset};
use crate::cpu::isa::Architecture;

/// Elements of the depth that one load of an input row brings.
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
    pub vectors: i64,
    pub depth: i64,
}

impl Depth {
    /// Bytes of the depth covered by whole blocks. Row addresses come moved forward by it, because the loop's offset runs
    /// up to zero and is its own count.
    pub fn block_bytes(&self) -> i64 {
        self.depth / BLOCK * BLOCK * 4
    }

    /// Adds the products of `depth` elements of every row with as many rows of weights.
    pub fn emit(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], sums: Sums) -> Sums {
        let blocks = self.depth / BLOCK;
        let sums = match blocks {
            0 => sums,
            1 => {
                let start = constant(b, -BLOCK * 4);
                self.block(b, rows, start, sums, 0..BLOCK)
            }
            _ => self.blocks(b, rows, blocks, sums),
        };
        self.rest(b, rows, sums)
    }

    fn blocks(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], blocks: i64, sums: Sums) -> Sums {
        let (head, exit) = (b.create_block(), b.create_block());
        let start = constant(b, -blocks * BLOCK * 4);
        let mut entering = vec![start, sums.weights];
        entering.extend(&sums.values);
        let position = b.append_block_param(head, types::I64);
        let weights = b.append_block_param(head, types::I64);
        let values = sums.values.iter().map(|_| b.append_block_param(head, types::F32X4)).collect();
        jump(b, head, &entering);
        b.switch_to_block(head);
        let sums = self.block(b, rows, position, Sums { weights, values }, 0..BLOCK);
        let next = b.ins().iadd_imm_s(position, BLOCK * 4);
        let mut repeating = vec![next, sums.weights];
        repeating.extend(&sums.values);
        let arguments: Vec<BlockArg> = repeating.iter().map(|&value| BlockArg::Value(value)).collect();
        b.ins().brif(next, head, &arguments, exit, &[]);
        b.switch_to_block(exit);
        sums
    }

    /// One block of the depth: one vector of each row, of which the named lanes count.
    fn block(
        &self,
        b: &mut FunctionBuilder<'_>,
        rows: &[Value],
        position: Value,
        mut sums: Sums,
        used: std::ops::Range<i64>,
    ) -> Sums {
        let inputs: Vec<Value> = rows
            .iter()
            .map(|&row| {
                let address = b.ins().iadd(row, position);
                load(b, types::F32X4, address, 0)
            })
            .collect();
        for (step, lane) in used.clone().enumerate() {
            self.step(b, &mut sums, step as i64, |b, row| spread_lane(b, inputs[row], lane as u8));
        }
        sums.weights = offset(b, sums.weights, (used.end - used.start) * self.vectors * 16);
        sums
    }

    /// The elements after the last whole block: lanes of a vector that ends with the row, or scalars of a short row.
    fn rest(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], mut sums: Sums) -> Sums {
        let rest = self.depth % BLOCK;
        if rest == 0 {
            return sums;
        }
        if self.depth > BLOCK {
            let position = constant(b, (rest - BLOCK) * 4);
            return self.block(b, rows, position, sums, BLOCK - rest..BLOCK);
        }
        for step in 0..rest {
            self.step(b, &mut sums, step, |b, row| {
                let scalar = load(b, types::F32, rows[row], step * 4);
                b.ins().splat(types::F32X4, scalar)
            });
        }
        sums.weights = offset(b, sums.weights, rest * self.vectors * 16);
        sums
    }

    /// One element of the depth. On aarch64 a lane is part of the multiply-add, so each vector of weights meets all rows;
    /// elsewhere the lane is spread once, so each row meets all vectors.
    fn step(
        &self,
        b: &mut FunctionBuilder<'_>,
        sums: &mut Sums,
        step: i64,
        spread: impl Fn(&mut FunctionBuilder<'_>, usize) -> Value,
    ) {
        let vectors = self.vectors as usize;
        let rows = sums.values.len() / vectors;
        let weight = |b: &mut FunctionBuilder<'_>, vector: usize| {
            load(b, types::F32X4, sums.weights, (step * self.vectors + vector as i64) * 16)
        };
        match self.architecture {
            Architecture::Aarch64 => {
                let spreads: Vec<Value> = (0..rows).map(|row| spread(b, row)).collect();
                for vector in 0..vectors {
                    let weight = weight(b, vector);
                    for (row, &spread) in spreads.iter().enumerate() {
                        let sum = &mut sums.values[row * vectors + vector];
                        *sum = b.ins().fma(weight, spread, *sum);
                    }
                }
            }
            Architecture::X86_64 => {
                let weights: Vec<Value> = (0..vectors).map(|vector| weight(b, vector)).collect();
                for row in 0..rows {
                    let spread = spread(b, row);
                    for (vector, &weight) in weights.iter().enumerate() {
                        let sum = &mut sums.values[row * vectors + vector];
                        *sum = b.ins().fma(spread, weight, *sum);
                    }
                }
            }
        }
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

/// Sums that start at zero.
pub(super) fn zeros(b: &mut FunctionBuilder<'_>, count: i64) -> Vec<Value> {
    (0..count)
        .map(|_| {
            let zero = b.func.dfg.constants.insert(ConstantData::from(vec![0u8; 16]));
            b.ins().vconst(types::F32X4, zero)
        })
        .collect()
}

/// Reads a 64-bit table entry.
pub(super) fn entry(b: &mut FunctionBuilder<'_>, address: Value) -> Value {
    b.ins().load(types::I64, access(), address, 0)
}
