//! Large matrix products of f32 with constant weights by one level of Strassen's algorithm, in Winograd's form: seven products
//! of quadrants for eight (Higham, "Accuracy and Stability of Numerical Algorithms", 2nd edition, 23.1).
//!
//! ```text
//! S1 = A22 + A21       S2 = S1 - A11         S3 = A11 - A21       S4 = A12 - S2
//! T3 = B22 - B12       T2 = T3 + B11         T1 = B12 - B11       T4 = B21 - T2
//! M = A11 B11          U = M + S2 T2         V = U + S3 T3        X = U + S1 T1
//! C11 = M + A12 B21    C12 = X + S4 B22      C21 = V + A22 T4     C22 = V + X - U
//! ```
//!
//! Products are added to the sums before them, so that only C22 takes a pass of its own. A bias is added to M and, less that of
//! the left half, to X. Where pixels are odd, those in the middle belong to both halves. T1 to T4 are constants where constants may
//! grow, and are computed from the packed quadrants otherwise.

use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, NodeId};

use super::builder::Builder;
use super::contraction::to_bytes;
use super::nest::Space;
use super::{Call, Lowering, Processor, operand};
use crate::contraction::{ContractionSpec, Element, Strides, Window, divide_up};
use crate::cpu::isa::Architecture;
use crate::kernel::{Access, LoopMode};
use crate::pack::{PackedLayout, pack_weights};
use crate::program::{KernelSource, Operand};
use crate::schedule::{LANES, Machine, Schedule, instructions};
use crate::view::View;
use crate::winograd::PER_WEIGHT;

/// Instructions for a vector of each of four sums of quadrants.
const PER_SUMS: f64 = 9.0;
/// Instructions for a vector of each quadrant of the result, beside those of products.
const PER_RESULT: f64 = 8.0;
/// The part of the instructions of eight products that may not be exceeded.
const MOST: f64 = 0.96;
/// Multiply-adds of a product of quadrants that is worth a step.
const LEAST_PRODUCT: i64 = 1 << 20;

/// Sums of two each of what lies before them: of the quadrants in row-major order, and then of sums. Each reads first what no later
/// one does.
type Sums = [(BinaryOp, usize, usize); 4];
/// S1, S2, S3, S4.
const LEFT: Sums = [(BinaryOp::Add, 3, 2), (BinaryOp::Sub, 4, 0), (BinaryOp::Sub, 0, 2), (BinaryOp::Sub, 1, 5)];
/// T3, T2, T1, T4.
const RIGHT: Sums = [(BinaryOp::Sub, 3, 1), (BinaryOp::Add, 4, 0), (BinaryOp::Sub, 1, 0), (BinaryOp::Sub, 2, 5)];
/// The factors of a product: quadrants and sums by their places.
type Factors = (usize, usize);
const M: Factors = (0, 0);
const C11: Factors = (1, 2);
const U: Factors = (5, 5);
const V: Factors = (6, 4);
const C21: Factors = (3, 7);
const X: Factors = (4, 6);
const C12: Factors = (7, 3);
const PRODUCTS: [Factors; 7] = [M, C11, U, V, C21, X, C12];

/// A matrix product that may go by Strassen's algorithm.
pub(super) struct Candidate {
    /// The product, with one tap over pixels that the input has at the same places.
    spec: ContractionSpec,
    /// Rows and columns of pixels of a half, and the first pixel of the second one.
    half: [i64; 2],
    second: [i64; 2],
    /// Whether it takes fewer instructions than the whole product.
    pub pays: bool,
}

/// Operands and result of a product.
pub(super) struct Operands<'a> {
    pub input: &'a View,
    pub output: &'a View,
    pub further: &'a [View],
}

/// A matrix of pixels by channels within an operand.
#[derive(Clone)]
struct Matrix {
    view: View,
    strides: Strides,
}

/// What is added to each row of sums before anything else.
struct Bias {
    /// The sum with it, in the epilogue.
    node: ExprId,
    /// Of both halves.
    values: Vec<f32>,
}

/// The product as one that may go by Strassen's algorithm: one matrix of rows at one distance or of lines of pixels, all of whose
/// channels can be halved.
pub(super) fn candidate(lowering: &Lowering<'_>, direct: &ContractionSpec) -> Option<Candidate> {
    let window = &direct.window;
    let [tap] = window.taps.as_slice() else { return None };
    let options = &lowering.options;
    let is_matrix = direct.batch.iter().all(|&extent| extent == 1) && window.is_interior();
    let is_known = options.processor == Processor::Cpu
        && options.machine.architecture == Architecture::Aarch64
        && direct.element == Element::F32
        && (direct.output.channel == 1 && direct.operands.iter().all(|strides| matches!(strides.channel, 0 | 1)));
    if !is_matrix || !is_known || direct.depth % (2 * LANES) != 0 || direct.channels % (2 * LANES) != 0 {
        return None;
    }
    let base = direct.input.base + tap.row * direct.input.row + tap.column * direct.input.column;
    let input = Strides { base, ..window.stepped(&direct.input) };
    let all = || [&input, &direct.output].into_iter().chain(&direct.operands);
    let [height, width] = match all().all(|strides| strides.is_flat(window.height, window.width)) {
        true => [1, window.pixels()],
        false => [window.height, window.width],
    };
    if all().any(|strides| strides.row < 0 || strides.column < 0) {
        return None;
    }
    let half = if height == 1 { [1, divide_up(width, 2)] } else { [divide_up(height, 2), width] };
    let second = if height == 1 { [0, width - half[1]] } else { [height - half[0], 0] };
    let plain = |strides: &Strides| Strides { batch: Vec::new(), ..strides.clone() };
    let spec = ContractionSpec {
        batch: Vec::new(),
        weight_batch: Vec::new(),
        window: Window { height, input_height: height, ..Window::matrix(width) },
        input: plain(&input),
        output: plain(&direct.output),
        operands: direct.operands.iter().map(plain).collect(),
        ..direct.clone()
    };
    let mut candidate = Candidate { spec, half, second, pays: false };
    candidate.pays = candidate.product_macs() >= LEAST_PRODUCT
        && candidate.instructions(&options.machine, options.constants_may_grow)
            < MOST * instructions(&candidate.spec, &options.machine);
    Some(candidate)
}

impl Candidate {
    fn pixels(&self) -> i64 {
        self.half[0] * self.half[1]
    }

    fn depth(&self) -> i64 {
        self.spec.depth / 2
    }

    fn channels(&self) -> i64 {
        self.spec.channels / 2
    }

    fn product_macs(&self) -> i64 {
        self.pixels() * self.depth() * self.channels()
    }

    fn instructions(&self, machine: &Machine, constants_may_grow: bool) -> f64 {
        let vectors = |elements: i64| (elements / LANES) as f64;
        let (rows, depth, channels) = (self.pixels(), self.depth(), self.channels());
        let product = self.product(&self.quadrant(&self.spec.input, 0), (&[], Expr::argument(0, DType::F32)));
        // Of seven quadrants where there were four, or written and read beside them.
        let per_weight = if constants_may_grow { 3.0 * PER_WEIGHT } else { PER_SUMS + 4.0 * PER_WEIGHT };
        PRODUCTS.len() as f64 * instructions(&product, machine)
            + PER_SUMS * vectors(rows * depth)
            + PER_RESULT * vectors(rows * channels)
            + per_weight * vectors(depth * channels)
    }

    /// The strides of a quadrant of an operand whose second half of channels is `channels` behind.
    fn part(&self, strides: &Strides, quadrant: usize, channels: i64) -> Strides {
        let pixel = if quadrant / 2 == 1 { self.second } else { [0, 0] };
        let channel = (quadrant % 2) as i64 * channels;
        let base = strides.base + pixel[0] * strides.row + pixel[1] * strides.column + channel * strides.channel;
        Strides { base, ..strides.clone() }
    }

    /// A quadrant of the input.
    fn quadrant(&self, input: &Strides, quadrant: usize) -> Strides {
        self.part(input, quadrant, self.depth())
    }

    /// A quadrant of the output or of a further operand.
    fn result(&self, operand: &Strides, quadrant: usize) -> Strides {
        self.part(operand, quadrant, self.channels())
    }

    /// A product of quadrants, whose output is dense.
    fn product(&self, input: &Strides, (operands, epilogue): (&[Matrix], Expr)) -> ContractionSpec {
        let [height, width] = self.half;
        ContractionSpec {
            window: Window { height, input_height: height, ..Window::matrix(width) },
            depth: self.depth(),
            channels: self.channels(),
            input: input.clone(),
            output: Strides::image(width, self.channels()),
            operands: operands.iter().map(|matrix| matrix.strides.clone()).collect(),
            epilogue,
            ..self.spec.clone()
        }
    }
}

/// The steps of one product.
struct Steps<'a, 'b> {
    lowering: &'a mut Lowering<'b>,
    id: NodeId,
    candidate: &'a Candidate,
    schedule: Schedule,
    /// Quadrants and sums.
    left: Vec<Matrix>,
    /// Packed quadrants and sums; none of what no product reads.
    right: Vec<Option<Operand>>,
}

/// Lowers a product. `weight(k, n)` is a weight.
pub(super) fn lower(
    lowering: &mut Lowering<'_>,
    id: NodeId,
    candidate: &Candidate,
    operands: &Operands<'_>,
    weight: impl Fn(i64, i64) -> f32,
) {
    let first = candidate.quadrant(&candidate.spec.input, 0);
    let product = candidate.product(&first, (&[], Expr::argument(0, DType::F32)));
    let schedule = lowering.schedule(&product);
    let mut steps = Steps { lowering, id, candidate, schedule, left: Vec::new(), right: Vec::new() };
    steps.add_left(operands.input);
    steps.add_right(&PackedLayout::of(&product, &schedule), weight);
    steps.products(operands);
}

impl Steps<'_, '_> {
    /// The left factors, sums in memory of their own.
    fn add_left(&mut self, input: &View) {
        let [height, width] = self.candidate.half;
        let depth = self.candidate.depth();
        let quadrant = |n| self.candidate.quadrant(&self.candidate.spec.input, n);
        self.left = (0..4).map(|n| Matrix { view: input.clone(), strides: quadrant(n) }).collect();
        (0..4).for_each(|_| self.left.push(dense(self.lowering, [height, width, depth])));
        let views: Vec<View> = self.left.iter().map(|matrix| self.view(matrix, depth)).collect();
        self.push_sums(&views, &LEFT);
    }

    /// The right factors, packed.
    fn add_right(&mut self, layout: &PackedLayout, weight: impl Fn(i64, i64) -> f32) {
        let (depth, channels) = (self.candidate.depth(), self.candidate.channels());
        let mut quadrants: Vec<Vec<f32>> = (0..4)
            .map(|n: i64| pack_weights(layout, |_, _, k, c| weight(k + n / 2 * depth, c + n % 2 * channels)))
            .collect();
        let is_read = |n: usize| PRODUCTS.iter().any(|&(_, right)| right == n);
        let constant = |lowering: &mut Lowering<'_>, values: Vec<f32>| {
            let storage = lowering.constant(to_bytes(Element::F32, values));
            lowering.whole(storage, Access::Read)
        };
        if self.lowering.options.constants_may_grow {
            for (op, a, b) in RIGHT {
                let sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
                let sum = quadrants[a].iter().zip(&quadrants[b]).map(|(a, b)| a + sign * b).collect();
                quadrants.push(sum);
            }
            let packed = quadrants.into_iter().enumerate();
            self.right = packed.map(|(n, values)| is_read(n).then(|| constant(self.lowering, values))).collect();
            return;
        }
        let mut packed: Vec<Operand> = quadrants.into_iter().map(|values| constant(self.lowering, values)).collect();
        for _ in 0..4 {
            let storage = self.lowering.untyped(layout.bytes() as usize);
            packed.push(self.lowering.whole(storage, Access::Read));
        }
        let elements = layout.matrix_elements() as usize;
        let flat = |operand: &Operand| View {
            storage: operand.storage,
            dtype: DType::F32,
            extents: vec![elements],
            strides: vec![1],
            offset: 0,
            lead: 0,
        };
        let views: Vec<View> = packed.iter().map(flat).collect();
        self.push_sums(&views, &RIGHT);
        self.right = packed.into_iter().map(Some).collect();
    }

    /// All products, and the quadrant of the result that is none.
    fn products(&mut self, operands: &Operands<'_>) {
        let candidate = self.candidate;
        let bias = Bias::of(self.lowering, &candidate.spec, operands.further);
        let mut epilogue = candidate.spec.epilogue.clone();
        let (mut left, mut step) = (None, None);
        if let Some(bias) = &bias {
            let mut rest = Expr::new();
            let root = rest.inline_but(&epilogue, bias.node, |expr| expr.arg(0, DType::F32));
            epilogue = rest.with_root(root);
            let (first, second) = bias.values.split_at(candidate.channels() as usize);
            left = Some(self.per_channel(first.to_vec()));
            step = Some(self.per_channel(second.iter().zip(first).map(|(b, a)| b - a).collect()));
        }
        let m = self.middle(M, left.into_iter().collect());
        self.last(C11, &m, (&epilogue, operands), 0);
        let u = self.middle(U, vec![m]);
        let v = self.middle(V, vec![u.clone()]);
        self.last(C21, &v, (&epilogue, operands), 2);
        let x = self.middle(X, [u.clone()].into_iter().chain(step).collect());
        self.last(C12, &x, (&epilogue, operands), 1);
        self.without_product([&v, &x, &u], (&epilogue, operands));
    }

    /// A product and the matrices that are added to it, in memory of its own.
    fn middle(&mut self, factors: Factors, added: Vec<Matrix>) -> Matrix {
        let [height, width] = self.candidate.half;
        let output = dense(self.lowering, [height, width, self.candidate.channels()]);
        let epilogue = sum_of(added.len() as u16);
        self.push_product(factors, (&added, epilogue), &output);
        output
    }

    /// A product and the matrix that is added to it: a quadrant of the result.
    fn last(
        &mut self,
        factors: Factors,
        added: &Matrix,
        (epilogue, operands): (&Expr, &Operands<'_>),
        quadrant: usize,
    ) {
        let output = self.result(operands.output, &self.candidate.spec.output, quadrant);
        let mut expr = Expr::new();
        let (a, b) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
        let sum = expr.binary(BinaryOp::Add, a, b);
        let root = expr.inline(epilogue, |expr, n, dtype| Some(if n == 0 { sum } else { expr.arg(n + 1, dtype) }));
        let further = [added.clone()].into_iter().chain(self.further(operands, quadrant)).collect::<Vec<_>>();
        self.push_product(factors, (&further, expr.with_root(root)), &output);
    }

    /// The last quadrant of the result: `a + b - c`.
    fn without_product(&mut self, [a, b, c]: [&Matrix; 3], (epilogue, operands): (&Expr, &Operands<'_>)) {
        let mut expr = Expr::new();
        let [x, y, z] = [0, 1, 2].map(|n| expr.arg(n, DType::F32));
        let sum = expr.binary(BinaryOp::Add, x, y);
        let sum = expr.binary(BinaryOp::Sub, sum, z);
        let root = expr.inline(epilogue, |expr, n, dtype| Some(if n == 0 { sum } else { expr.arg(n + 2, dtype) }));
        let output = self.result(operands.output, &self.candidate.spec.output, 3);
        let read = [a, b, c].into_iter().cloned().chain(self.further(operands, 3));
        let mut views: Vec<View> = read.map(|matrix| self.view(&matrix, self.candidate.channels())).collect();
        let arguments = (0..views.len()).collect();
        views.push(self.view(&output, self.candidate.channels()));
        self.push_loops(&views, vec![(expr.with_root(root), arguments)]);
    }

    fn push_product(&mut self, (left, right): Factors, further: (&[Matrix], Expr), output: &Matrix) {
        let Some(weights) = self.right[right].clone() else { return };
        let added = further.0;
        let factor = &self.left[left];
        let spec = self.candidate.product(&factor.strides, further);
        let spec = ContractionSpec { output: output.strides.clone(), ..spec };
        let mut operands = vec![operand(&factor.view, Access::Read), weights, operand(&output.view, Access::Write)];
        operands.extend(added.iter().map(|matrix| operand(&matrix.view, Access::Read)));
        let macs = (2 * self.candidate.spec.window.pixels() * self.candidate.spec.depth * self.candidate.channels())
            / PRODUCTS.len() as i64;
        let call = Call { macs: macs as u64, scratch: self.schedule.scratch(&spec), part: PART, ..Call::default() };
        self.lowering.push(self.id, KernelSource::Contraction(spec, self.schedule), operands, call);
    }

    /// Four quadrants, and behind them the sums that are written.
    fn push_sums(&mut self, views: &[View], sums: &Sums) {
        let expr = |&(op, a, b): &(BinaryOp, usize, usize)| {
            let mut expr = Expr::new();
            let (x, y) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
            let root = expr.binary(op, x, y);
            (expr.with_root(root), vec![a, b])
        };
        self.push_loops(views, sums.iter().map(expr).collect());
    }

    /// A step that writes the last views, each by an expression over those before it.
    fn push_loops(&mut self, views: &[View], written: Vec<(Expr, Vec<usize>)>) {
        let read = views.len() - written.len();
        let mut builder = Builder::new();
        let all: Vec<&View> = views.iter().collect();
        let mut space = Space::new(&mut builder, &all, &[]);
        space.split(&mut builder);
        let access = |n: usize| if n < read { Access::Read } else { Access::Write };
        views.iter().enumerate().for_each(|(n, view)| _ = builder.operand(view, access(n)));
        let body = builder.block(|b| {
            let mut values: Vec<_> = (0..read).map(|n| b.load(n, space.position(n))).collect();
            for (n, (expr, arguments)) in (read..).zip(written) {
                let arguments: Vec<_> = arguments.into_iter().map(|argument| values[argument]).collect();
                let value = b.apply(expr, &arguments);
                b.store(n, space.position(n), value);
                values.push(value);
            }
        });
        let call = Call { grain: space.grain(1), part: PART, ..Call::default() };
        builder.push(self.lowering, self.id, space.range(), space.wrap(body, LoopMode::Lanes), call);
    }

    fn per_channel(&mut self, values: Vec<f32>) -> Matrix {
        let extents = vec![values.len()];
        let storage = self.lowering.constant(to_bytes(Element::F32, values));
        let view = View { storage, dtype: DType::F32, extents, strides: vec![1], offset: 0, lead: 0 };
        Matrix { view, strides: Strides::per_channel(0) }
    }

    fn result(&self, view: &View, strides: &Strides, quadrant: usize) -> Matrix {
        Matrix { view: view.clone(), strides: self.candidate.result(strides, quadrant) }
    }

    fn further(&self, operands: &Operands<'_>, quadrant: usize) -> Vec<Matrix> {
        let all = operands.further.iter().zip(&self.candidate.spec.operands);
        all.map(|(view, strides)| self.result(view, strides, quadrant)).collect()
    }

    /// The pixels of a half and so many channels.
    fn view(&self, Matrix { view, strides }: &Matrix, channels: i64) -> View {
        let [height, width] = self.candidate.half;
        View {
            extents: [height, width, channels].map(|extent| extent as usize).to_vec(),
            strides: [strides.row, strides.column, strides.channel].map(|stride| stride as isize).to_vec(),
            offset: view.offset + strides.base as usize,
            lead: 0,
            ..view.clone()
        }
    }
}

/// What the names of steps end in.
const PART: Option<&str> = Some("strassen");

impl Bias {
    /// That of an epilogue, where it is a constant for each channel.
    fn of(lowering: &Lowering<'_>, spec: &ContractionSpec, further: &[View]) -> Option<Bias> {
        let epilogue = &spec.epilogue;
        let is_sum = |id: ExprId| matches!(epilogue.node(id), ExprNode::Argument(0, _));
        let uses = epilogue.ids().flat_map(|id| epilogue.node(id).operands()).filter(|&id| is_sum(id)).count();
        let node = epilogue.ids().find_map(|id| match epilogue.node(id) {
            ExprNode::Binary(BinaryOp::Add, a, b) if is_sum(a) != is_sum(b) => {
                Some((id, if is_sum(a) { b } else { a }))
            }
            _ => None,
        });
        let (node, other) = node.filter(|_| uses == 1)?;
        let ExprNode::Argument(number, _) = epilogue.node(other) else { return None };
        let (strides, view) = (&spec.operands[usize::from(number) - 1], &further[usize::from(number) - 1]);
        if (strides.row, strides.column, strides.channel) != (0, 0, 1) {
            return None;
        }
        let bytes = lowering.constant_bytes(view.storage)?;
        let first = (view.offset as i64 + strides.base) as usize * 4;
        let values = bytes.get(first..first + spec.channels as usize * 4)?.chunks_exact(4);
        let number = |bytes: &[u8]| Some(f32::from_le_bytes(bytes.try_into().ok()?));
        Some(Bias { node, values: values.map(number).collect::<Option<_>>()? })
    }
}

/// The sum of a product and of so many further operands.
fn sum_of(added: u16) -> Expr {
    let mut expr = Expr::argument(0, DType::F32);
    let mut sum = expr.root();
    for n in 1..=added {
        let next = expr.arg(n, DType::F32);
        sum = expr.binary(BinaryOp::Add, sum, next);
    }
    expr.with_root(sum)
}

/// A dense matrix of its own.
fn dense(lowering: &mut Lowering<'_>, [height, width, channels]: [i64; 3]) -> Matrix {
    let extents = [height, width, channels].map(|extent| extent as usize);
    let storage = lowering.untyped(extents.iter().product::<usize>() * 4);
    let strides = Strides::image(width, channels);
    let steps = [strides.row, strides.column, strides.channel].map(|stride| stride as isize);
    let view =
        View { storage, dtype: DType::F32, extents: extents.to_vec(), strides: steps.to_vec(), offset: 0, lead: 0 };
    Matrix { view, strides }
}
