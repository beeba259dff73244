//! Arithmetic of addresses and numbers of units.

use super::assembler::Assembler;
use super::instruction::{Instruction, X};

/// `(quotient, remainder)` of a register by a number. `value` is neither of them.
pub(super) fn split(a: &mut Assembler, value: X, parts: i64, (quotient, remainder): (X, X), scratch: X) {
    if parts == 1 {
        a.push(Instruction::Mov(quotient, value));
        return a.constant(remainder, 0);
    }
    a.constant(scratch, parts);
    a.push(Instruction::Divide(quotient, value, scratch));
    a.push(Instruction::MultiplySubtract(remainder, quotient, scratch, value));
}

/// Moves an address to the batch of a number, which counts the batch axes row-major; strides in elements of `size` bytes.
pub(super) fn add_batch(
    a: &mut Assembler,
    address: X,
    batch: X,
    (extents, strides, size): (&[i64], &[i64], i64),
    [left, rest, part, scratch]: [X; 4],
) {
    if strides.iter().zip(extents).all(|(&stride, &extent)| stride == 0 || extent == 1) {
        return;
    }
    a.push(Instruction::Mov(left, batch));
    for (&extent, &stride) in extents.iter().zip(strides).rev() {
        split(a, left, extent, (rest, part), scratch);
        a.add_product(address, part, stride * size, address, scratch);
        a.push(Instruction::Mov(left, rest));
    }
}
