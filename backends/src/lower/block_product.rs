//! Products with weights of 4 or 8 bits in blocks by sums of integers: a step writes the numbers of each row in digits, and the next sums
//! products of those.

use edgecc_ir::{BinaryOp, BlockWeights, DType, Expr, NodeId, Scalar, Shape, TensorType, UnaryOp};

use super::block_weights::{Matrices, Stored};
use super::builder::Builder;
use super::contraction::{Weights, contract_with_macs, pack};
use super::{Call, LowerOptions, Lowering, Processor, operand};
use crate::block_product::{Bits, BlockProductSpec, DIGITS, Input, LARGEST, Order, PIECE, QUAD, Rows};
use crate::contraction::{ContractionSpec, Element, Strides, Window, divide_up};
use crate::cpu::a64::knows_block_epilogue;
use crate::cpu::isa::{Architecture, Integers, Kernels};
use crate::cpu::x64::knows_block_product;
use crate::kernel::{Access, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Var};
use crate::packings::Packings;
use crate::program::KernelSource;
use crate::view::{StorageId, View};

/// Multiply-adds worth a worker.
const LEAST_WORK: i64 = 1 << 16;
/// Elements of the depth whose digits are within reach of an address.
const DEEPEST: i64 = 1 << 14;
/// What a row's largest number is at least taken for, so that its reciprocal is finite.
const LEAST: f64 = 1e-30;

/// How a product may be summed with weights as this kernel packs them, where it has the form for that and the epilogue is known. Any
/// processor of aarch64 takes the same weights.
pub(super) fn spec(
    lowering: &Lowering<'_>,
    epilogue: &Expr,
    (weights, stored): (&BlockWeights<'_>, &Stored),
    matrices: &Matrices,
) -> Option<BlockProductSpec> {
    let bits = match stored {
        Stored::Bytes => Bits::Eight,
        Stored::Halves(_) | Stored::HalvesOfBlocks(_) => Bits::Four,
    };
    let depth = divide_up(weights.depth as i64, PIECE) * PIECE;
    let LowerOptions { processor, machine, packings, .. } = lowering.options;
    let numbers = Input::Numbers(matrices.left.rows());
    let (order, input) = match (processor, machine.architecture, machine.integers) {
        (Processor::Cpu, _, _) if machine.kernels == Kernels::Clif => return None,
        (Processor::Cpu, Architecture::X86_64, _) => (Order::Lines, numbers),
        (Processor::Cpu, Architecture::Aarch64, Integers::Dot | Integers::Matrix) => (Order::Quads, Input::Digits),
        (Processor::Cpu, Architecture::Aarch64, Integers::Plain) => (Order::Quads, numbers),
        (Processor::Gpu, ..) => (packings.and_then(Packings::order_of_blocks).unwrap_or(Order::Quads), numbers),
    };
    let spec = BlockProductSpec {
        rows: matrices.rows as i64,
        summed: weights.depth as i64,
        depth,
        channels: weights.channels as i64,
        block: if weights.blocks() == 1 { depth } else { weights.block as i64 },
        bits,
        order,
        input,
        output: matrices.result.rows(),
        operands: matrices.further.iter().map(|matrix| matrix.rows()).collect(),
        epilogue: epilogue.clone(),
    };
    let with_middles = |input: Input| BlockProductSpec {
        input,
        operands: [spec.operands.as_slice(), &[Rows { base: 0, row: spec.channels, channel: 1 }]].concat(),
        epilogue: added_to_sum(epilogue, spec.operands.len() as u16 + 1),
        ..spec.clone()
    };
    let is_whole = spec.block % PIECE == 0 && spec.channels % QUAD == 0 && spec.depth <= DEEPEST;
    let is_dense = matrices.left.rows().channel == 1;
    let has_middles = processor == Processor::Gpu && middles(weights, stored).is_some();
    // Programs for several kinds of processors share weights, so that all of them have the kernel or none.
    let is_known = || match (processor, spec.order) {
        (Processor::Gpu, _) => true,
        (Processor::Cpu, Order::Quads) => {
            let on = |input: Input| knows_block_epilogue(&with_middles(input));
            on(numbers) && on(Input::Digits)
        }
        (Processor::Cpu, Order::Lines) => knows_block_product(&with_middles(numbers)),
    };
    (is_whole && is_dense && !has_middles && is_known()).then_some(spec)
}

/// Adds the steps of a product. Integers beyond -8 to 7 are stored less the middle of their block, for which the sums of the blocks of each row
/// are multiplied with those middles: a further operand that is added to the sums.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    mut spec: BlockProductSpec,
    (weights, stored): (&BlockWeights<'_>, &Stored),
    matrices: &mut Matrices,
) {
    if let Some(middles) = middles(weights, stored) {
        let sums = sums_of_blocks(lowering, id, &spec, matrices);
        let moved = times_middles(lowering, id, &spec, (&sums, middles));
        spec.epilogue = added_to_sum(&spec.epilogue, spec.operands.len() as u16 + 1);
        spec.operands.push(Rows { base: 0, row: spec.channels, channel: 1 });
        matrices.views.push(moved);
    }
    let digits = (spec.input == Input::Digits).then(|| digits(lowering, id, &spec, matrices));
    let input = digits.as_ref().map_or(&matrices.input, |[digits, _]| digits);
    let mut operands = vec![operand(input, Access::Read)];
    let scales = lowering.constant(spec.pack_scales(|block, n| weights.scale(block as usize, n as usize)).into());
    for constant in [packed(lowering, &spec, (weights, stored)), scales] {
        operands.push(lowering.whole(constant, Access::Read));
    }
    operands.push(operand(&matrices.output, Access::Write));
    operands.extend(matrices.views.iter().map(|view| operand(view, Access::Read)));
    operands.extend(digits.iter().map(|[_, scales]| operand(scales, Access::Read)));
    let macs = spec.rows * spec.summed * spec.channels;
    let grain = (LEAST_WORK / (macs / spec.units()).max(1)).max(1) as u32;
    let call = Call { macs: macs as u64, grain, part: Some("blocks"), ..Call::default() };
    lowering.push(id, KernelSource::BlockProduct(spec), operands, call);
}

fn packed(
    lowering: &mut Lowering<'_>,
    spec: &BlockProductSpec,
    (weights, stored): (&BlockWeights<'_>, &Stored),
) -> StorageId {
    let weight = |k: i64, n: i64| {
        let (k, n) = (k as usize, n as usize);
        if k < weights.depth {
            (i64::from(weights.integer(k, n)) - middle(weights, stored, k / weights.block, n)) as i8
        } else {
            0
        }
    };
    lowering.constant(spec.pack_weights(weight).into())
}

/// What is taken from the integers of a block before they are stored with a sign.
fn middle(weights: &BlockWeights<'_>, stored: &Stored, block: usize, channel: usize) -> i64 {
    match stored {
        Stored::Bytes => 0,
        Stored::Halves(_) | Stored::HalvesOfBlocks(_) => stored.least(weights, block, channel) + 8,
    }
}

/// The numbers that the middles of blocks stand for, `[block][channel]`, where some are not 0.
fn middles(weights: &BlockWeights<'_>, stored: &Stored) -> Option<Vec<f32>> {
    let places = (0..weights.blocks()).flat_map(|block| (0..weights.channels).map(move |channel| (block, channel)));
    let number = |(block, channel)| middle(weights, stored, block, channel) as f32 * weights.scale(block, channel);
    let numbers: Vec<f32> = places.map(number).collect();
    numbers.iter().any(|&number| number != 0.0).then_some(numbers)
}

/// Adds the step that sums each block of each row: `[row][block]`.
fn sums_of_blocks(lowering: &mut Lowering<'_>, id: NodeId, spec: &BlockProductSpec, matrices: &Matrices) -> View {
    let (rows, blocks) = (spec.rows as usize, spec.blocks());
    let sums = lowering.temporary(&TensorType::new(DType::F32, Shape::new(&[rows, blocks as usize])));
    let mut builder = Builder::new();
    let (from, to) = (builder.reads(&matrices.input), builder.writes(&sums));
    let body = builder.block(|b| {
        let (block, k) = (b.var(), b.var());
        let row = || Index::Var(Var(0));
        b.serial(block, Index::Constant(0), Index::Constant(blocks), |b| {
            let sum = b.number(DType::F32, 0.0);
            let body = b.block(|b| {
                let place = Index::Var(block).times(spec.block).plus(Index::Var(k));
                let x = b.load(from, matrices.left.of_row(row(), place));
                b.fold(sum, BinaryOp::Add, x);
            });
            let (begin, end) = (Index::Constant(0), Index::Constant(spec.block.min(spec.summed)));
            let mode = LoopMode::Fold(vec![Fold { local: sum, op: BinaryOp::Add }]);
            b.emit([Stmt::For { var: k, begin, end, mode, body }]);
            b.store(to, row().times(blocks).plus(Index::Var(block)), sum);
        });
    });
    builder.push(lowering, id, rows, body, Call { part: Some("sums"), ..Call::default() });
    sums
}

/// Adds the product of the sums of blocks with their middles, and returns it.
fn times_middles(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: &BlockProductSpec,
    (sums, middles): (&View, Vec<f32>),
) -> View {
    let (rows, blocks, channels) = (spec.rows, spec.blocks(), spec.channels);
    let result = lowering.temporary(&TensorType::new(DType::F32, Shape::new(&[rows as usize, channels as usize])));
    let product = ContractionSpec {
        element: Element::F32,
        batch: Vec::new(),
        window: Window::matrix(rows),
        depth: blocks,
        channels,
        input: Strides::image(rows, blocks),
        reading: None,
        symmetric_weights: false,
        weight_batch: Vec::new(),
        output: Strides::image(rows, channels),
        operands: Vec::new(),
        epilogue: Element::F32.plain_epilogue(),
    };
    let place = |_matrix: i64, _tap: i64, block: i64, channel: i64| (block * channels + channel) as usize;
    let packed = pack(lowering, &product, &Weights::Numbers(&middles), place);
    let operands = vec![operand(sums, Access::Read), packed, operand(&result, Access::Write)];
    contract_with_macs(lowering, id, product, operands, 0);
    result
}

/// An epilogue over the sum and operand `number` together.
fn added_to_sum(epilogue: &Expr, number: u16) -> Expr {
    let mut expr = Expr::new();
    let (sum, other) = (expr.arg(0, DType::F32), expr.arg(number, DType::F32));
    let whole = expr.binary(BinaryOp::Add, sum, other);
    let root = expr.inline(epilogue, |_, argument, _| (argument == 0).then_some(whole));
    expr.with_root(root)
}

/// Adds the step that makes weights numbers, `[channels, depth]`, and returns those.
pub(super) fn numbers(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    spec: &BlockProductSpec,
    (weights, stored): (&BlockWeights<'_>, &Stored),
) -> View {
    let [bytes, scales] = [
        packed(lowering, spec, (weights, stored)),
        lowering.constant(spec.pack_scales(|block, n| weights.scale(block as usize, n as usize)).into()),
    ];
    let one = |dtype: DType, elements: i64| TensorType::new(dtype, Shape::new(&[elements as usize]));
    let dtype = if spec.bits == Bits::Four { DType::U8 } else { DType::I8 };
    let bytes = View::dense(bytes, &one(dtype, spec.weight_bytes()));
    let scales = View::dense(scales, &one(DType::F32, spec.channels * spec.blocks()));
    let result = lowering.temporary(&TensorType::new(DType::F32, Shape::new(&[weights.channels, weights.depth])));
    let mut builder = Builder::new();
    let (from, of_blocks, to) = (builder.reads(&bytes), builder.reads(&scales), builder.writes(&result));
    let body = builder.block(|b| {
        let (block, place) = (b.var(), b.var());
        let channel = || Index::Var(Var(0));
        let panel = || channel().floor_div(spec.panel());
        let within = || channel().modulo(spec.panel());
        let size = spec.block.min(spec.summed);
        b.serial(block, Index::Constant(0), Index::Constant(spec.blocks()), |b| {
            let number = panel().times(spec.blocks()).plus(Index::Var(block)).times(spec.panel()).plus(within());
            let scale = b.load(of_blocks, number);
            let factor = b.number(DType::F32, spec.stored_times().recip());
            let scale = b.binary(BinaryOp::Mul, scale, factor);
            b.serial(place, Index::Constant(0), Index::Constant(size), |b| {
                let k = Index::Var(block).times(spec.block).plus(Index::Var(place));
                let weight = stored_weight(b, spec, from, (panel(), within(), k.clone()));
                let weight = b.cast(DType::F32, weight);
                let value = b.binary(BinaryOp::Mul, weight, scale);
                b.store(to, channel().times(spec.summed).plus(k), value);
            });
        });
    });
    let call = Call { grain: (LEAST_WORK / (4 * spec.summed)).max(1) as u32, part: Some("weights"), ..Call::default() };
    builder.push(lowering, id, weights.channels, body, call);
    result
}

/// Adds the step that writes rows in digits, and returns those and the scales of the rows. Digits of the padding are whatever is there.
fn digits(lowering: &mut Lowering<'_>, id: NodeId, spec: &BlockProductSpec, matrices: &Matrices) -> [View; 2] {
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
        let end = Index::Constant(spec.summed);
        let mode = LoopMode::Fold(vec![Fold { local: largest, op: BinaryOp::Max }]);
        b.emit([Stmt::For { var: k, begin: Index::Constant(0), end: end.clone(), mode, body: fold }]);
        let range = b.number(DType::F32, LARGEST);
        let worth = b.number(DType::F32, LARGEST * spec.stored_times());
        let (factor, scale) = (b.binary(BinaryOp::Div, range, largest), b.binary(BinaryOp::Div, largest, worth));
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
    let read = if spec.input == Input::Digits { DType::I8 } else { DType::F32 };
    let leading = [read, packed, DType::F32];
    let [from, weights, scales] =
        std::array::from_fn(|place| buffer(leading[place], footprints[place].end, Access::Read));
    let output = buffer(DType::F32, footprints[3].end, Access::Write);
    let further: Vec<usize> =
        footprints[4..].iter().map(|footprint| buffer(DType::F32, footprint.end, Access::Read)).collect();
    let body = builder.block(|b| {
        let (row, channel, block, k, digit) = (b.var(), b.var(), b.var(), b.var(), b.var());
        let [of_row, of_channel] = [Index::Var(row), Index::Var(channel)];
        let panel = || Index::Var(Var(0));
        let to = |number: i64| (Index::Constant(0), Index::Constant(number));
        let (digits, sums, size) = match spec.input {
            Input::Digits => (DIGITS, DType::I32, spec.block),
            Input::Numbers(_) => (1, DType::F32, spec.block.min(spec.summed)),
        };
        let each = |b: &mut Builder| {
            let sum = b.number(DType::F32, 0.0);
            let base = b.number(DType::F32, 256.0);
            let of_blocks = b.block(|b| {
                let value = b.number(DType::F32, 0.0);
                b.serial(digit, to(0).0, to(digits).1, |b| {
                    let total = b.number(sums, 0.0);
                    b.serial(k, to(0).0, to(size).1, |b| {
                        let place = Index::Var(block).times(spec.block).plus(Index::Var(k));
                        let at = match spec.input {
                            Input::Digits => {
                                let first = of_row.clone().times(spec.row_bytes());
                                first.plus(Index::Var(digit).times(spec.depth)).plus(place.clone())
                            }
                            Input::Numbers(rows) => {
                                let first = Index::Constant(rows.base).plus(of_row.clone().times(rows.row));
                                first.plus(place.clone())
                            }
                        };
                        let x = b.load_stored(from, at);
                        let weight = stored_weight(b, spec, weights, (panel(), of_channel.clone(), place));
                        let [x, weight] = [x, weight].map(|factor| b.cast(sums, factor));
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
            let of_row_scale = match (spec.input, further.last()) {
                (Input::Digits, Some(&place)) => b.load(place, of_row.clone()),
                _ => b.number(DType::F32, spec.stored_times().recip()),
            };
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
            b.serial(channel, to(spec.panel()).0, to(spec.panel()).1, each);
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
    let (place, half) = spec.place([panel, channel, k]);
    let byte = b.load_stored(weights, place);
    let byte = b.cast(DType::I32, byte);
    match spec.bits {
        Bits::Eight => byte,
        Bits::Four => {
            let lower = b.index(Index::Constant(1).plus(half.times(-1)));
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
