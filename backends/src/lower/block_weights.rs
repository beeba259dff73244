//! Products of a few rows with weights of 4 or 8 bits in blocks: the weights are read as they are stored, become numbers, and are
//! multiplied at once; a block's sum is multiplied by its scale.

use edgecc_ir::{BinaryOp, BlockWeights, DType, Expr, NodeId, Op, Shape, TensorType};

use super::builder::Builder;
use super::contraction::further_views;
use super::{Call, Lowering, Processor, block_product};
use crate::block_product::Rows;
use crate::kernel::{Index, Local, LoopMode, Stmt, Var};
use crate::view::View;

/// Rows beyond which weights are made numbers once for all.
const MOST_ROWS: usize = 16;
/// Rows that share the numbers made of weights.
const ROWS: usize = 4;
/// Channels side by side in packed weights and in a vector.
const LANES: usize = 4;
/// Integers that half a byte tells apart.
const HALF: i64 = 16;
/// Multiply-adds worth a worker.
const LEAST_WORK: usize = 1 << 16;

/// How integers are stored.
pub(super) enum Stored {
    /// A byte each.
    Bytes,
    /// Two neighbours of the depth to a byte, the first in the lower half, less the least of all integers.
    Halves(i64),
    /// The same less the least integer of each block, which is a number like a scale: `[channel][block]`.
    HalvesOfBlocks(Vec<i8>),
}

impl Stored {
    /// The smallest form that holds the integers.
    fn of(weights: &BlockWeights<'_>) -> Stored {
        let places = (0..weights.channels).flat_map(|n| (0..weights.blocks()).map(move |block| (block, n)));
        let ranges: Vec<[i8; 2]> = places.map(|(block, n)| range(weights, block, n)).collect();
        let (mut all, mut widest) = ([i8::MAX, i8::MIN], 0);
        for &[low, high] in &ranges {
            all = [all[0].min(low), all[1].max(high)];
            widest = widest.max(i64::from(high) - i64::from(low));
        }
        let [least, most] = all.map(i64::from);
        match (weights.block.is_multiple_of(2), most - least < HALF, widest < HALF) {
            // Halves with a sign where that is enough.
            (true, true, _) if least >= -8 && most < 8 => Stored::Halves(-8),
            (true, true, _) => Stored::Halves(least),
            (true, false, true) => Stored::HalvesOfBlocks(ranges.into_iter().map(|[low, _]| low).collect()),
            _ => Stored::Bytes,
        }
    }

    /// Weights of a byte.
    fn weights_of_byte(&self) -> usize {
        match self {
            Stored::Bytes => 1,
            Stored::Halves(_) | Stored::HalvesOfBlocks(_) => 2,
        }
    }

    /// What is taken from the integers of a block before they are stored.
    pub(super) fn least(&self, weights: &BlockWeights<'_>, block: usize, channel: usize) -> i64 {
        match self {
            Stored::Bytes => 0,
            Stored::Halves(least) => *least,
            Stored::HalvesOfBlocks(least) => i64::from(least[channel * weights.blocks() + block]),
        }
    }
}

/// The least and the largest integer of a block.
fn range(weights: &BlockWeights<'_>, block: usize, channel: usize) -> [i8; 2] {
    let all = (block * weights.block..(block + 1) * weights.block).map(|k| weights.integer(k, channel));
    all.fold([i8::MAX, i8::MIN], |[low, high], value| [low.min(value), high.max(value)])
}

/// A matrix of rows by columns in memory.
#[derive(Clone, Copy)]
pub(super) struct Matrix {
    start: usize,
    row: usize,
    column: usize,
}

impl Matrix {
    /// Leading axes as one axis of rows, where a view has them at one distance.
    fn of(view: &View) -> Option<Matrix> {
        let (&column, leading) = view.strides.split_last()?;
        let mut row = 0;
        let mut rows = 1;
        for (&extent, &stride) in view.extents.iter().zip(leading).rev().filter(|(extent, _)| **extent > 1) {
            if rows == 1 {
                row = stride;
            } else if stride != row * rows as isize {
                return None;
            }
            rows *= extent;
        }
        Some(Matrix { start: view.lead, row: usize::try_from(row).ok()?, column: usize::try_from(column).ok()? })
    }

    fn at(&self, row: usize, column: Index) -> Index {
        self.of_row(Index::Constant(row as i64), column)
    }

    pub(super) fn of_row(&self, row: Index, column: Index) -> Index {
        let start = Index::Constant(self.start as i64).plus(row.times(self.row as i64));
        start.plus(column.times(self.column as i64))
    }

    pub(super) fn rows(&self) -> Rows {
        Rows { base: self.start as i64, row: self.row as i64, channel: self.column as i64 }
    }
}

/// What a product reads beside its weights, and what it writes, as matrices of as many rows.
pub(super) struct Matrices {
    pub rows: usize,
    pub input: View,
    pub left: Matrix,
    pub output: View,
    pub result: Matrix,
    pub views: Vec<View>,
    pub further: Vec<Matrix>,
}

impl Matrices {
    /// Of operands that lie as they must. Sets the view of the result.
    fn of(lowering: &mut Lowering<'_>, id: NodeId, rows: usize) -> Option<Matrices> {
        let input = lowering.view(lowering.graph.operands(id)[0]).clone();
        let (output, views) = (lowering.destination(id), further_views(lowering, id));
        let (left, result) = (Matrix::of(&input)?, Matrix::of(&output)?);
        let further = views.iter().map(Matrix::of).collect::<Option<Vec<_>>>()?;
        let is_known = result.column == 1 && further.iter().all(|matrix| matrix.column <= 1);
        is_known.then_some(Matrices { rows, input, left, output, result, views, further })
    }
}

/// The operands of a product.
struct Product<'a> {
    weights: &'a BlockWeights<'a>,
    stored: Stored,
    rows: usize,
    left: Matrix,
    result: Matrix,
    further: Vec<Matrix>,
    epilogue: &'a Expr,
}

/// Places in the kernel.
const LEFT: usize = 0;
const WEIGHTS: usize = 1;
const SCALES: usize = 2;
const RESULT: usize = 3;
const FURTHER: usize = 4;

/// What has been done for a product.
pub(super) enum Done {
    /// All of it.
    Product,
    /// Its weights are numbers.
    Numbers,
    /// Nothing.
    Nothing,
}

/// Adds the steps of a product, where its operands lie as they must, or the step that makes numbers of its weights.
pub(super) fn lower(lowering: &mut Lowering<'_>, id: NodeId, weights: &BlockWeights<'_>) -> Done {
    let graph = lowering.graph;
    let Some(epilogue) = graph.op(id).epilogue() else { return Done::Nothing };
    let rows = lowering.view(graph.operands(id)[0]).elements() / weights.depth.max(1);
    let Some(mut matrices) = Matrices::of(lowering, id, rows).filter(|_| rows > 0) else { return Done::Nothing };
    let stored = Stored::of(weights);
    let processor = lowering.options.processor;
    let spec = block_product::spec(lowering, epilogue, (weights, &stored), &matrices);
    if let Some(spec) = spec {
        if processor == Processor::Cpu {
            block_product::lower(lowering, id, spec, (weights, &stored), &mut matrices);
            return Done::Product;
        }
        let numbers = block_product::numbers(lowering, id, &spec, (weights, &stored));
        let is_transposed = matches!(graph.op(id), Op::MatMul { transpose_b: true, .. });
        let numbers = if is_transposed { numbers } else { numbers.transposed(&[1, 0]) };
        lowering.set_view(graph.operands(id)[1], numbers);
        return Done::Numbers;
    }
    if rows > MOST_ROWS || !weights.channels.is_multiple_of(LANES) || processor == Processor::Gpu {
        return Done::Nothing;
    }
    let mut constant = |dtype: DType, bytes: Vec<u8>| {
        let ty = TensorType::new(dtype, Shape::new(&[bytes.len() / dtype.size()]));
        View::dense(lowering.constant(bytes.into()), &ty)
    };
    let dtype = if stored.weights_of_byte() == 1 { DType::I8 } else { DType::U8 };
    let packed = constant(dtype, packed(weights, &stored));
    let scales = constant(DType::F32, of_blocks(weights, |block, n| weights.scale(block, n)));
    let least = matches!(stored, Stored::HalvesOfBlocks(_))
        .then(|| constant(DType::F32, of_blocks(weights, |block, n| stored.least(weights, block, n) as f32)));
    let mut builder = Builder::new();
    [&matrices.input, &packed, &scales].into_iter().for_each(|view| _ = builder.reads(view));
    builder.writes(&matrices.output);
    matrices.views.iter().chain(&least).for_each(|view| _ = builder.reads(view));
    let Matrices { left, result, further, .. } = matrices;
    let product = Product { weights, stored, rows, left, result, further, epilogue };
    let body = builder.block(|b| (0..rows).step_by(ROWS).for_each(|first| product.tile(b, first)));
    let macs = rows * weights.depth * weights.channels;
    let grain = (LEAST_WORK / (rows * weights.depth * LANES).max(1)).max(1) as u32;
    let call = Call { macs: macs as u64, grain, part: Some("blocks"), ..Call::default() };
    builder.push(lowering, id, weights.channels / LANES, body, call);
    Done::Product
}

impl Product<'_> {
    /// The rows from `first` on that share weights, for the channels of one step of the range.
    fn tile(&self, b: &mut Builder, first: usize) {
        let rows = first..(first + ROWS).min(self.rows);
        let lane = b.var();
        let body = b.block(|b| {
            let sums: Vec<Local> = rows.clone().map(|_| b.number(DType::F32, 0.0)).collect();
            let halves = self.halves(b);
            let block = b.var();
            let end = Index::Constant(self.weights.blocks() as i64);
            b.serial(block, Index::Constant(0), end, |b| {
                let parts: Vec<Local> = rows.clone().map(|_| b.number(DType::F32, 0.0)).collect();
                self.block(b, (first, &parts), halves, [lane, block]);
                let place = self.block_number(block).times(LANES as i64).plus(Index::Var(lane));
                let scale = b.load(SCALES, place);
                for (&sum, &part) in sums.iter().zip(&parts) {
                    let scaled = b.binary(BinaryOp::Mul, part, scale);
                    b.fold(sum, BinaryOp::Add, scaled);
                }
            });
            let column = || Index::Var(Var(0)).times(LANES as i64).plus(Index::Var(lane));
            for (row, &sum) in rows.clone().zip(&sums) {
                let mut arguments = vec![sum];
                for (number, matrix) in self.further.iter().enumerate() {
                    arguments.push(b.load_stored(FURTHER + number, matrix.at(row, column())));
                }
                let value = b.apply(self.epilogue.clone(), &arguments);
                b.store(RESULT, self.result.at(row, column()), value);
            }
        });
        let (begin, end) = (Index::Constant(0), Index::Constant(LANES as i64));
        b.emit([Stmt::For { var: lane, begin, end, mode: LoopMode::Lanes, body }]);
    }

    /// The number of a block among those of all channels.
    fn block_number(&self, block: Var) -> Index {
        Index::Var(Var(0)).times(self.weights.blocks() as i64).plus(Index::Var(block))
    }

    /// Adds the products of a block.
    fn block(
        &self,
        b: &mut Builder,
        (first, parts): (usize, &[Local]),
        halves: Option<Halves>,
        [lane, block]: [Var; 2],
    ) {
        let step = self.stored.weights_of_byte();
        let (place, steps) = (b.var(), self.weights.block / step);
        let halves = match self.stored {
            Stored::Bytes | Stored::Halves(_) => halves,
            Stored::HalvesOfBlocks(_) => halves.map(|halves| {
                let at = self.block_number(block).times(LANES as i64).plus(Index::Var(lane));
                Halves { least: b.load(FURTHER + self.further.len(), at), ..halves }
            }),
        };
        b.serial(place, Index::Constant(0), Index::Constant(steps as i64), |b| {
            let row_of_weights = self.block_number(block).times(steps as i64).plus(Index::Var(place));
            let stored = b.load_stored(WEIGHTS, row_of_weights.times(LANES as i64).plus(Index::Var(lane)));
            let k = Index::Var(block).times(self.weights.block as i64).plus(Index::Var(place).times(step as i64));
            for (offset, weight) in numbers(b, stored, halves).into_iter().enumerate() {
                for (row, &part) in parts.iter().enumerate() {
                    let at = self.left.at(first + row, k.clone().plus(Index::Constant(offset as i64)));
                    let x = b.load(LEFT, at);
                    let product = b.binary(BinaryOp::Mul, x, weight);
                    b.fold(part, BinaryOp::Add, product);
                }
            }
        });
    }

    /// The constants of halves of bytes.
    fn halves(&self, b: &mut Builder) -> Option<Halves> {
        let least = match self.stored {
            Stored::Bytes => return None,
            Stored::Halves(least) => least,
            Stored::HalvesOfBlocks(_) => 0,
        };
        Some(Halves {
            mask: b.number(DType::I32, 15.0),
            bits: b.number(DType::I32, 4.0),
            least: b.number(DType::F32, least as f64),
        })
    }
}

/// Numbers that halves of bytes are taken apart by.
#[derive(Clone, Copy)]
struct Halves {
    mask: Local,
    bits: Local,
    least: Local,
}

/// The weights of a byte, in the order of the depth.
fn numbers(b: &mut Builder, stored: Local, halves: Option<Halves>) -> Vec<Local> {
    let Some(Halves { mask, bits, least }) = halves else { return vec![b.cast(DType::F32, stored)] };
    let byte = b.cast(DType::I32, stored);
    let both = [b.binary(BinaryOp::And, byte, mask), b.binary(BinaryOp::ShiftRight, byte, bits)];
    let number = |half: Local| {
        let number = b.cast(DType::F32, half);
        b.binary(BinaryOp::Add, number, least)
    };
    both.map(number).to_vec()
}

/// The bytes of all weights: `[channel / 4][block][place][channel % 4]`.
fn packed(weights: &BlockWeights<'_>, stored: &Stored) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(weights.depth * weights.channels);
    let integer = |k: usize, n: usize| i64::from(weights.integer(k, n));
    for first in (0..weights.channels).step_by(LANES) {
        for block in 0..weights.blocks() {
            let least: [i64; LANES] = std::array::from_fn(|lane| stored.least(weights, block, first + lane));
            for k in (block * weights.block..(block + 1) * weights.block).step_by(stored.weights_of_byte()) {
                bytes.extend((0..LANES).map(|lane| {
                    let place = |k: usize| (integer(k, first + lane) - least[lane]) as u8;
                    if stored.weights_of_byte() == 1 { place(k) } else { place(k) | place(k + 1) << 4 }
                }));
            }
        }
    }
    bytes
}

/// A number of each block, in the order of packed weights.
fn of_blocks(weights: &BlockWeights<'_>, number: impl Fn(usize, usize) -> f32) -> Vec<u8> {
    let (mut bytes, number) = (Vec::new(), &number);
    for first in (0..weights.channels).step_by(LANES) {
        let places = (0..weights.blocks()).flat_map(|block| (first..first + LANES).map(move |n| number(block, n)));
        bytes.extend(places.flat_map(f32::to_le_bytes));
    }
    bytes
}
