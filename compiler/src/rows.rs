//! Rows of what a layer sums over, taken from the samples.

use edgecc_ir::{BinaryOp, DType, Expr, Graph, NodeId, Op, Shape, Tensor, Window};

use crate::calibrate::capture::Captured;

/// Rows for each feature: with fewer, weights would follow the samples' noise.
const ROWS_PER_FEATURE: usize = 2;
/// The fewest rows, where the samples have so many.
const FEWEST_ROWS: usize = 2048;
/// The most numbers that are held of a layer's inputs.
const MOST_NUMBERS: usize = 48 << 20;
/// A layer whose weights samples can choose: a contraction with constant weights and at most a bias.
pub(crate) struct Layer<'a> {
    pub(crate) id: NodeId,
    pub(crate) weights: &'a Tensor,
    pub(crate) bias: bool,
    pub(crate) form: Form<'a>,
}

/// How a layer's rows lie in its operand, and its weights in their tensor.
pub(crate) enum Form<'a> {
    /// Weights `[O,C/groups,kernel..]`.
    Conv { window: &'a Window, groups: usize },
    /// Weights `[K,N]`, or `[N,K]`.
    MatMul { transposed: bool },
}

impl<'a> Layer<'a> {
    pub(crate) fn of(graph: &'a Graph, id: NodeId) -> Option<Layer<'a>> {
        let operands = graph.operands(id);
        let bias = match operands.len() {
            2 => graph.op(id).epilogue()?.is_argument(0).then_some(false)?,
            3 => (*graph.op(id).epilogue()? == sum() && graph.constant_value(operands[2]).is_some()).then_some(true)?,
            _ => return None,
        };
        let weights = graph.constant_value(operands[1]).filter(|weights| weights.dtype() == DType::F32)?;
        let form = match graph.op(id) {
            Op::Conv { window, groups, .. } => Form::Conv { window, groups: *groups },
            Op::MatMul { transpose_a: false, transpose_b, .. } if weights.shape().rank() == 2 => {
                Form::MatMul { transposed: *transpose_b }
            }
            _ => return None,
        };
        graph.constant_value(operands[0]).is_none().then_some(Layer { id, weights, bias, form })
    }

    pub(crate) fn groups(&self) -> usize {
        match self.form {
            Form::Conv { groups, .. } => groups,
            Form::MatMul { .. } => 1,
        }
    }

    /// Features of one group, without the bias.
    pub(crate) fn features(&self) -> usize {
        let extents = self.weights.shape().extents();
        match self.form {
            Form::Conv { .. } => extents[1..].iter().product(),
            Form::MatMul { transposed } => extents[transposed as usize],
        }
    }

    pub(crate) fn results(&self) -> usize {
        let extents = self.weights.shape().extents();
        match self.form {
            Form::Conv { .. } | Form::MatMul { transposed: true } => extents[0],
            Form::MatMul { transposed: false } => extents[1],
        }
    }

    /// The place of the weight of a feature of the result's group.
    pub(crate) fn place(&self, feature: usize, result: usize) -> usize {
        match self.form {
            Form::Conv { .. } | Form::MatMul { transposed: true } => result * self.features() + feature,
            Form::MatMul { transposed: false } => feature * self.results() + result,
        }
    }

    /// The features of one row, group after group, behind those that are there.
    pub(crate) fn gather(&self, value: &Captured<'_>, shape: &Shape, row: usize, features: &mut Vec<f32>) {
        match self.form {
            Form::MatMul { .. } => {
                features.extend_from_slice(&value.elements[row * self.features()..][..self.features()]);
            }
            Form::Conv { window, .. } => patch(value, window, &shape.extents(), row, features),
        }
    }
}

/// What a window sees of every channel, at pixel `row` of the images of `result`: `[C,kernel..]`.
fn patch(value: &Captured<'_>, window: &Window, result: &[usize], row: usize, features: &mut Vec<f32>) {
    let (extents, strides) = (value.shape.extents(), value.shape.strides());
    let axes = window.kernel.len();
    let pixels: usize = result[2..].iter().product();
    let mut corner = vec![0isize; axes];
    let mut left = row % pixels;
    for axis in (0..axes).rev() {
        let position = left % result[2 + axis];
        left /= result[2 + axis];
        corner[axis] = (position * window.strides[axis]) as isize - window.pads_before[axis] as isize;
    }
    let taps: usize = window.kernel.iter().product();
    let offset = |tap: usize| {
        let (mut left, mut offset) = (tap, 0);
        for axis in (0..axes).rev() {
            let position = corner[axis] + (left % window.kernel[axis] * window.dilations[axis]) as isize;
            left /= window.kernel[axis];
            let position = usize::try_from(position).ok().filter(|&position| position < extents[2 + axis])?;
            offset += position * strides[2 + axis];
        }
        Some(offset)
    };
    let offsets: Vec<Option<usize>> = (0..taps).map(offset).collect();
    let image = &value.elements[row / pixels * strides[0]..];
    for channel in 0..extents[1] {
        let channel = &image[channel * strides[1]..];
        features.extend(offsets.iter().map(|offset| offset.map_or(0.0, |offset| channel[offset])));
    }
}

/// `acc + bias`.
fn sum() -> Expr {
    let mut expr = Expr::new();
    let (acc, bias) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let root = expr.binary(BinaryOp::Add, acc, bias);
    expr.with_root(root)
}

/// The rows of a layer's result, and where the samples' rows are taken.
pub(crate) struct Rows {
    /// In one run: pixels of all images, or vectors.
    all: usize,
    /// Taken of each run.
    pub(crate) taken: usize,
}

impl Rows {
    pub(crate) fn of(layer: &Layer<'_>, shape: &Shape, runs: usize) -> Rows {
        let all = shape.elements().unwrap_or(0) / layer.results().max(1);
        let features = layer.features() + 1;
        let held = MOST_NUMBERS / (features * layer.groups()).max(1);
        let wanted = (ROWS_PER_FEATURE * features).max(FEWEST_ROWS).min(held);
        Rows { all, taken: wanted.div_ceil(runs.max(1)).min(all) }
    }

    /// Spread evenly, elsewhere in each run.
    pub(crate) fn of_run(&self, run: usize) -> impl Iterator<Item = usize> + use<> {
        let (all, taken) = (self.all, self.taken);
        (0..taken).map(move |place| (place * all / taken + run * 7919) % all)
    }
}
