//! Data and descriptions that contraction tests share. All data are small integers, so that every sum is exact.

#![allow(dead_code)]

use edgecc_backends::contraction::{Element, KernelShape, Strides, Window};
use edgecc_ir::{BinaryOp, DType, Expr};

/// A linear congruential generator of integers in -4..=4.
pub struct Random(pub u64);

impl Random {
    pub fn values(&mut self, count: i64) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> f32 {
        self.below(9) as f32 - 4.0
    }

    /// An integer in 0..limit.
    pub fn below(&mut self, limit: u64) -> i64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % limit) as i64
    }
}

/// `max(min(acc + bias + ..., 90), -60)` over `operands` further operands.
pub fn clamped_sum(operands: usize) -> Expr {
    let mut expr = Expr::new();
    let mut value = expr.arg(0, DType::F32);
    for operand in 1..=operands {
        let further = expr.arg(operand as u16, DType::F32);
        value = expr.binary(BinaryOp::Add, value, further);
    }
    let (low, high) = (expr.number(value, -60.0), expr.number(value, 90.0));
    value = expr.binary(BinaryOp::Min, value, high);
    value = expr.binary(BinaryOp::Max, value, low);
    expr.with_root(value)
}

/// The expression over elements: of halves, one that widens what it reads behind the sum and narrows the result.
pub fn over(element: Element, expr: &Expr) -> Expr {
    if element == Element::F32 {
        return expr.clone();
    }
    let mut result = Expr::new();
    let root = result.inline(expr, |result, n, dtype| {
        (n > 0 && dtype == DType::F32).then(|| {
            let half = result.arg(n, DType::F16);
            result.cast(DType::F32, half)
        })
    });
    let root = result.cast(DType::F16, root);
    result.with_root(root)
}

pub fn clamped(sum: f32) -> f32 {
    sum.clamp(-60.0, 90.0)
}

/// The indices of all batches, row-major.
pub fn batches(extents: &[i64]) -> impl Iterator<Item = Vec<i64>> + '_ {
    let total: i64 = extents.iter().product();
    (0..total).map(|number| {
        let mut rest = number;
        let mut index: Vec<i64> = extents
            .iter()
            .rev()
            .map(|&extent| {
                let i = rest % extent;
                rest /= extent;
                i
            })
            .collect();
        index.reverse();
        index
    })
}

pub fn dot(a: &[i64], b: &[i64]) -> i64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The place of an element in an operand.
pub fn at(strides: &Strides, batch: &[i64], row: i64, column: i64, channel: i64) -> usize {
    let place = strides.base + dot(&strides.batch, batch);
    (place + row * strides.row + column * strides.column + channel * strides.channel) as usize
}

pub fn convolution(input: [i64; 2], kernel: [i64; 2], stride: i64, dilation: i64, pads: [i64; 4]) -> Window {
    let shape = KernelShape { kernel, stride: [stride; 2], dilation: [dilation; 2], pads };
    Window::convolution(input[0], input[1], &shape)
}
