//! Products with weights of 4 or 8 bits in blocks by sums of integers: a step writes the numbers of each row in digits, and the next sums
//! products of those.

use edgecc_ir::{BinaryOp, BlockWeights, DType, Expr, NodeId, Scalar, Shape, TensorType, UnaryOp};

use super::block_weights::{Matrices, Stored};
use super::builder::Builder;
use super::contraction::add_further;
use super::{Call, Lowering, operand};
use crate::block_product::{Bits, BlockProductSpec, DIGITS, LARGEST, PIECE, QUAD, Rows};
use crate::contraction::divide_up;
use crate::cpu::a64::knows_block_epilogue;
use crate::cpu::isa::{Architecture, Integers, Kernels};
use crate::kernel::{Access, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Var};
use crate::program::KernelSource;
use crate::view::{StorageId, View};

/// Multiply-adds worth a worker.
const LEAST_WORK: i64 = 1 << 16;
/// Elements of the depth whose digits are within reach of an address.
const DEEPEST: i64 = 1 << 14;
/// What a row's largest number is at least taken for, so that its reciprocal is finite.
const LEAST: f64 = 1e-30;

/// Adds the steps of a product, where the processor sums products of bytes by dot products, the weights are within their bits, and the
/// epilogue is known; says whether.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    (weights, stored): (&BlockWeights<'_>, &Stored),
    matrices: &Matrices,
) -> bool {
    let machine = lowering.options.machine;
    let has_dots = machine.architecture == Architecture::Aarch64
        && machine.kernels == Kernels::Encoded
        && machine.integers != Integers::Plain;
    let bits = match stored {
        Stored::Bytes => Some(Bits::Eight),
        Stored::Halves(-8) => Some(Bits::Four),
        Stored::Halves(_) | Stored::HalvesOfBlocks(_) => None,
    };
    let (Some(bits), true, Some(epilogue)) = (bits, has_dots, lowering.graph.op(id).epilogue()) else { return false };
    let padded = divide_up(weights.depth as i64, PIECE) * PIECE;
    let block = if weights.blocks() == 1 { padded } else { weights.block as i64 };
    let spec = BlockProductSpec {
        rows: matrices.rows as i64,
        depth: padded,
        channels: weights.channels as i64,
        block,
        bits,
        output: matrices.result.rows(),
        operands: matrices.further.iter().map(|matrix| matrix.rows()).collect(),
        epilogue: epilogue.clone(),
    };
    let is_whole = spec.block % PIECE == 0 && spec.channels % QUAD == 0;
    if !is_whole || spec.depth > DEEPEST || !knows_block_epilogue(&spec) {
        return false;
    }
    let [digits, row_scales] = digits(lowering, id, &spec, (weights.depth, matrices));
    let weight = |k: i64, n: i64| if k < weights.depth as i64 { weights.integer(k as usize, n as usize) } else { 0 };
    let packed = lowering.constant(spec.pack_weights(weight).into());
    let scales = lowering.constant(spec.pack_scales(|block, n| weights.scale(block as usize, n as usize)).into());
    let mut operands = vec![
        operand(&digits, Access::Read),
        operand(&row_scales, Access::Read),
        lowering.whole(packed, Access::Read),
        lowering.whole(scales, Access::Read),
        operand(&matrices.output, Access::Write),
    ];
    add_further(&mut operands, &matrices.output, &matrices.views);
    let macs = spec.rows * weights.depth as i64 * spec.channels;
    let grain = (LEAST_WORK / (macs / spec.units()).max(1)).max(1) as u32;
    let call = Call { macs: macs as u64, grain, part: Some("blocks"), ..Call::default() };
    lowering.push(id, KernelSource::BlockProduct(spec), operands, call);
    true
}

/// Adds the step that writes rows in digits, and returns those and the scales of the rows. Digits of the padding are whatever is there.
fn digits(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: &BlockProductSpec,
    (depth, matrices): (usize, &Matrices),
) -> [View; 2] {
    let rows = spec.rows as usize;
    let mut temporary =
        |dtype: DType, elements: usize| lowering.temporary(&TensorType::new(dtype, Shape::new(&[elements])));
    let (digits, scales) = (temporary(DType::I8, rows * spec.row_bytes() as usize), temporary(DType::F32, rows));
    let mut builder = Builder::new();
    let (from, to, of_rows) = (builder.reads(&matrices.input), builder.writes(&digits), builder.writes(&scales));
    let row = || Index::Var(Var(0));
    let element = |k: Index| matrices.left.of_row(row(), k);
    let body = builder.block(|b| {
        let largest = b.number(DType::F32, LEAST);
        let k = b.var();
        let fold = b.block(|b| {
            let x = b.load(from, element(Index::Var(k)));
            let size = b.unary(UnaryOp::Abs, x);
            b.fold(largest, BinaryOp::Max, size);
        });
        let end = Index::Constant(depth as i64);
        let mode = LoopMode::Fold(vec![Fold { local: largest, op: BinaryOp::Max }]);
        b.emit([Stmt::For { var: k, begin: Index::Constant(0), end: end.clone(), mode, body: fold }]);
        let range = b.number(DType::F32, LARGEST);
        let (factor, scale) = (b.binary(BinaryOp::Div, range, largest), b.binary(BinaryOp::Div, largest, range));
        b.store(of_rows, row(), scale);
        let k = b.var();
        let body = b.block(|b| {
            let x = b.load(from, element(Index::Var(k)));
            for (digit, value) in in_digits(b, x, factor).into_iter().enumerate() {
                let first = row().times(spec.row_bytes()).plus(Index::Constant(digit as i64 * spec.depth));
                let byte = b.apply(byte(), &[value]);
                b.store(to, first.plus(Index::Var(k)), byte);
            }
        });
        b.emit([Stmt::For { var: k, begin: Index::Constant(0), end, mode: LoopMode::Lanes, body }]);
    });
    builder.push(lowering, id, rows, body, Call { part: Some("digits"), ..Call::default() });
    [digits, scales]
}

/// The digits of `round(x * factor)`, the highest first. Each number is whole and below 2^24, so that all of it is exact.
fn in_digits(b: &mut Builder, x: Local, factor: Local) -> [Local; DIGITS as usize] {
    let whole = b.apply(
        expression(&[DType::F32; 2], |e, a| {
            let product = e.binary(BinaryOp::Mul, a[0], a[1]);
            e.unary(UnaryOp::Round, product)
        }),
        &[x, factor],
    );
    // What is left has digits of -128 to 127: for the higher two from -(2^15 + 2^7) on.
    let digit = |b: &mut Builder, rest: Local, base: f64, least: f64| {
        let digit = b.apply(
            expression(&[DType::F32], |e, a| {
                let [part, above] =
                    [1.0 / base, least / base].map(|value| e.constant(Scalar::from_f64(DType::F32, value)));
                let part = e.binary(BinaryOp::Mul, a[0], part);
                let sum = e.binary(BinaryOp::Add, part, above);
                e.unary(UnaryOp::Floor, sum)
            }),
            &[rest],
        );
        let rest = b.apply(
            expression(&[DType::F32; 2], |e, a| {
                let base = e.constant(Scalar::from_f64(DType::F32, base));
                let taken = e.binary(BinaryOp::Mul, a[1], base);
                e.binary(BinaryOp::Sub, a[0], taken)
            }),
            &[rest, digit],
        );
        (digit, rest)
    };
    let (high, rest) = digit(b, whole, 65536.0, 32896.0);
    let (middle, low) = digit(b, rest, 256.0, 128.0);
    [high, middle, low]
}

/// An expression over arguments of these types.
fn expression(types: &[DType], root: impl FnOnce(&mut Expr, &[edgecc_ir::ExprId]) -> edgecc_ir::ExprId) -> Expr {
    let mut expr = Expr::new();
    let arguments: Vec<_> = types.iter().enumerate().map(|(n, &dtype)| expr.arg(n as u16, dtype)).collect();
    let root = root(&mut expr, &arguments);
    expr.with_root(root)
}

/// A whole number as a byte.
fn byte() -> Expr {
    expression(&[DType::F32], |e, a| {
        let whole = e.unary(UnaryOp::Round, a[0]);
        e.cast(DType::I8, whole)
    })
}

/// The same product as a loop nest over the same operands.
pub(crate) fn nest(spec: &BlockProductSpec) -> LoopKernel {
    let mut builder = Builder::new();
    let mut buffer = |dtype: DType, bytes: i64, access: Access| {
        let elements = bytes as usize / dtype.size();
        builder.operand(&View::dense(StorageId(0), &TensorType::new(dtype, Shape::new(&[elements]))), access)
    };
    let footprints = spec.footprints();
    let packed = if spec.bits == Bits::Four { DType::U8 } else { DType::I8 };
    let leading = [DType::I8, DType::F32, packed, DType::F32];
    let [digits, row_scales, weights, scales] =
        std::array::from_fn(|place| buffer(leading[place], footprints[place].end, Access::Read));
    let output = buffer(DType::F32, footprints[4].end, Access::Write);
    let further: Vec<usize> =
        footprints[5..].iter().map(|footprint| buffer(DType::F32, footprint.end, Access::Read)).collect();
    let body = builder.block(|b| {
        let (row, channel, block, k, digit) = (b.var(), b.var(), b.var(), b.var(), b.var());
        let [of_row, of_channel] = [Index::Var(row), Index::Var(channel)];
        let panel = || Index::Var(Var(0));
        let to = |number: i64| (Index::Constant(0), Index::Constant(number));
        let mut each = |b: &mut Builder| {
            let sum = b.number(DType::F32, 0.0);
            let base = b.number(DType::F32, 256.0);
            let of_blocks = b.block(|b| {
                let value = b.number(DType::F32, 0.0);
                b.serial(digit, to(DIGITS).0, to(DIGITS).1, |b| {
                    let total = b.number(DType::I32, 0.0);
                    b.serial(k, to(spec.block).0, to(spec.block).1, |b| {
                        let place = Index::Var(block).times(spec.block).plus(Index::Var(k));
                        let first = of_row.clone().times(spec.row_bytes()).plus(Index::Var(digit).times(spec.depth));
                        let x = b.load_stored(digits, first.plus(place.clone()));
                        let weight = stored_weight(b, spec, weights, (panel(), of_channel.clone(), place));
                        let x = b.cast(DType::I32, x);
                        let product = b.binary(BinaryOp::Mul, x, weight);
                        b.fold(total, BinaryOp::Add, product);
                    });
                    let total = b.cast(DType::F32, total);
                    b.fold(value, BinaryOp::Mul, base);
                    b.fold(value, BinaryOp::Add, total);
                });
                let number = panel().times(spec.blocks()).plus(Index::Var(block));
                let scale = b.load(scales, number.times(spec.panel()).plus(of_channel.clone()));
                let scaled = b.binary(BinaryOp::Mul, value, scale);
                b.fold(sum, BinaryOp::Add, scaled);
            });
            let (begin, end) = to(spec.blocks());
            b.emit([Stmt::For { var: block, begin, end, mode: LoopMode::Serial, body: of_blocks }]);
            let of_row_scale = b.load(row_scales, of_row.clone());
            let at = |rows: &Rows| {
                let column = panel().times(spec.panel()).plus(of_channel.clone()).times(rows.channel);
                Index::Constant(rows.base).plus(of_row.clone().times(rows.row)).plus(column)
            };
            let mut arguments = vec![b.binary(BinaryOp::Mul, sum, of_row_scale)];
            arguments.extend(further.iter().zip(&spec.operands).map(|(&place, rows)| b.load(place, at(rows))));
            let value = b.apply(spec.epilogue.clone(), &arguments);
            b.store(output, at(&spec.output), value);
        };
        b.serial(row, to(spec.rows).0, to(spec.rows).1, |b| {
            b.serial(channel, to(spec.panel()).0, to(spec.panel()).1, &mut each);
        });
    });
    builder.kernel(spec.units() as usize, body)
}

/// A weight as the sums have it: of four bits 16 times what it is.
fn stored_weight(
    b: &mut Builder,
    spec: &BlockProductSpec,
    weights: usize,
    (panel, channel, k): (Index, Index, Index),
) -> Local {
    let step = QUAD * spec.bits.of_byte();
    let quad = panel.times(spec.depth / step).plus(k.clone().floor_div(step));
    let place = quad.times(spec.panel()).plus(channel).times(QUAD).plus(k.clone().modulo(QUAD));
    let byte = b.load_stored(weights, place);
    let byte = b.cast(DType::I32, byte);
    match spec.bits {
        Bits::Eight => byte,
        Bits::Four => {
            let is_lower = Index::Constant(1).plus(k.floor_div(QUAD).modulo(2).times(-1));
            let lower = b.index(is_lower);
            let lower = b.cast(DType::I32, lower);
            let bits = b.number(DType::I32, 2.0);
            let by = b.binary(BinaryOp::ShiftLeft, lower, bits);
            let moved = b.binary(BinaryOp::ShiftLeft, byte, by);
            let mask = b.number(DType::I32, 240.0);
            let upper = b.binary(BinaryOp::And, moved, mask);
            // A byte with sign.
            let sign = b.number(DType::I32, 128.0);
            let flipped = b.binary(BinaryOp::Xor, upper, sign);
            b.binary(BinaryOp::Sub, flipped, sign)
        }
    }
}
