//! Products of i8: eight elements of the depth at once, summed for each row and channel, and channels joined to vectors behind
//! the run.

use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::Element;
use crate::cpu::function::{access, carried_loop, lanes, offset};
use crate::schedule::LANES;

use super::depth::{Depth, Sums, zeros};

/// Elements of the depth in one block.
const BLOCK: i64 = Element::I8.depth_block();

impl Depth {
    /// Adds the products of `depth` elements of every row, whose addresses stand behind the whole blocks.
    pub(super) fn products_of_bytes(&self, b: &mut FunctionBuilder<'_>, rows: &[Value], sums: Sums) -> Sums {
        let (blocks, rest) = (self.depth / BLOCK, self.depth % BLOCK);
        let channels = self.vectors * LANES;
        let mut carried = vec![sums.weights];
        carried.extend(zeros(b, Element::I8, rows.len() as i64 * channels));
        if blocks > 0 {
            let firsts: Vec<Value> = rows.iter().map(|&row| offset(b, row, -blocks * BLOCK)).collect();
            let firsts_at = carried.len();
            carried.extend(firsts);
            carried = carried_loop(b, blocks, &carried, |b, values| {
                let (sums, rows) = values.split_at(firsts_at);
                let inputs: Vec<Value> = rows.iter().map(|&row| b.ins().sload8x8(access(), row, 0)).collect();
                let mut next = self.products_of_block(b, &inputs, sums);
                next.extend(rows.iter().map(|&row| offset(b, row, BLOCK)));
                next
            });
            carried.truncate(firsts_at);
        }
        if rest > 0 {
            let inputs: Vec<Value> = rows.iter().map(|&row| self.last_elements(b, row, rest)).collect();
            carried = self.products_of_block(b, &inputs, &carried);
        }
        let totals = carried[1..].chunks(LANES as usize).map(|channels| join(b, channels)).collect::<Vec<_>>();
        let values = sums.values.iter().zip(totals).map(|(&sum, total)| b.ins().iadd(sum, total)).collect();
        Sums { weights: carried[0], values }
    }

    /// Adds the products of a block to `[weights, sums..]`; sums are `[row][channel]`, four parts each.
    fn products_of_block(&self, b: &mut FunctionBuilder<'_>, inputs: &[Value], carried: &[Value]) -> Vec<Value> {
        let channels = self.vectors * LANES;
        let mut next = carried.to_vec();
        for channel in 0..channels {
            let weights = b.ins().sload8x8(access(), carried[0], (channel * BLOCK) as i32);
            for (row, &input) in inputs.iter().enumerate() {
                let products = dot(b, input, weights);
                let sum = &mut next[1 + row * channels as usize + channel as usize];
                *sum = b.ins().iadd(*sum, products);
            }
        }
        next[0] = offset(b, carried[0], channels * BLOCK);
        next
    }

    /// The last `rest` elements of a run, fewer than a block, with zeros behind them: nothing beyond the run is read.
    fn last_elements(&self, b: &mut FunctionBuilder<'_>, row: Value, rest: i64) -> Value {
        let bits = if self.depth > BLOCK {
            let whole = b.ins().load(types::I64, access(), row, (rest - BLOCK) as i32);
            b.ins().ushr_imm_u(whole, (BLOCK - rest) * 8)
        } else {
            let zero = b.ins().iconst(types::I64, 0);
            (0..rest).rev().fold(zero, |bits, place| {
                let moved = b.ins().ishl_imm_u(bits, 8);
                let byte = b.ins().uload8(types::I64, access(), row, place as i32);
                b.ins().bor(moved, byte)
            })
        };
        let vector = b.ins().scalar_to_vector(types::I64X2, bits);
        let vector = b.ins().bitcast(types::I8X16, lanes(), vector);
        b.ins().swiden_low(vector)
    }
}

/// Sums of the products of neighbours.
fn dot(b: &mut FunctionBuilder<'_>, x: Value, y: Value) -> Value {
    let (low_x, low_y) = (b.ins().swiden_low(x), b.ins().swiden_low(y));
    let low = b.ins().imul(low_x, low_y);
    let (high_x, high_y) = (b.ins().swiden_high(x), b.ins().swiden_high(y));
    let high = b.ins().imul(high_x, high_y);
    b.ins().iadd_pairwise(low, high)
}

/// The totals of four channels' parts, as a vector.
fn join(b: &mut FunctionBuilder<'_>, channels: &[Value]) -> Value {
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|channel| channels[channel]);
    let (low, high) = (b.ins().iadd_pairwise(first, second), b.ins().iadd_pairwise(third, fourth));
    b.ins().iadd_pairwise(low, high)
}
