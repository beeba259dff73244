//! The closed set of operators. The importer decomposes everything else into these.

use crate::expr::Expr;
use crate::shape::Shape;
use crate::tensor::Tensor;
use crate::types::{DType, Layout};

/// The sliding window of a convolution or a pool over the spatial axes (axes 2.. of the operand), one entry per axis.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// Extent of the window.
    pub kernel: Vec<usize>,
    /// Distance between neighbouring windows.
    pub strides: Vec<usize>,
    /// Distance between neighbouring taps.
    pub dilations: Vec<usize>,
    /// Padding before the first element.
    pub pads_before: Vec<usize>,
    /// Padding behind the last element.
    pub pads_after: Vec<usize>,
}

/// What a pool makes of the elements in its window.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PoolKind {
    /// The largest; padding never wins.
    Max,
    /// The mean; padding counts as zeros in the divisor if `count_pads`. Elements beyond the padding (ceil mode) never count.
    Average {
        /// Whether the divisor counts padding.
        count_pads: bool,
    },
    /// The p-norm: `(sum |x|^p)^(1/p)`.
    Lp {
        /// The exponent, at least 1.
        p: u32,
    },
}

/// What a reduction makes of the elements along its axes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceKind {
    /// The sum.
    Sum,
    /// The arithmetic mean.
    Mean,
    /// The largest element; NaN if one is.
    Max,
    /// The smallest element; NaN if one is.
    Min,
    /// The product.
    Product,
}

/// Which of the extremes an arg-reduction looks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Extreme {
    /// The largest element.
    Max,
    /// The smallest element.
    Min,
}

/// What stands beyond the edge of a padded tensor.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PadMode {
    /// Operand 1, a scalar of the same element type.
    Constant,
    /// The mirror image without the edge element.
    Reflect,
    /// The edge element.
    Edge,
    /// The tensor again from its other end.
    Wrap,
}

/// What a scatter does where an update meets an element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ScatterKind {
    /// The update replaces the element; of two updates to one place the later stays.
    Replace,
    /// Sum of both.
    Add,
    /// Product of both.
    Multiply,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

/// How one axis of a resized tensor is made: output position `i` is the sum over taps `t` of
/// `weights[i * taps + t] * input[indices[i * taps + t]]`. Coordinate modes, rounding modes, antialiasing and excluded
/// borders are resolved into these tables by whoever builds the operator. Weights are f32 bits.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Resample {
    /// The axis that is resized.
    pub axis: usize,
    /// Its new extent.
    pub extent: usize,
    /// Taps of each output position: 1 for nearest, 2 for linear, 4 for cubic.
    pub taps: usize,
    /// Input positions, `extent * taps`, each below the input's extent.
    pub indices: Vec<u32>,
    /// Weights as f32 bits, `extent * taps`; empty where every weight is 1 (nearest).
    pub weights: Vec<u32>,
}

/// An operator: what a node computes of its operands. Logical axes throughout (images N,C,H,W); layouts change no meaning.
///
/// `epilogue` of a contraction is an expression over argument 0, the accumulator in the element type of operand 0 (of halves
/// also f32, of i8 i32), and arguments 1.., the operands behind the first two, each broadcastable to the result.
#[derive(Clone, PartialEq, Debug)]
pub enum Op {
    /// An input of the graph. No operands; the node's type is its own.
    Input {
        /// The name in the model.
        name: String,
    },
    /// A constant.
    Constant(Tensor),
    /// Element-wise: result = expr(operands), operands broadcast by NumPy's rule. Argument `n` is operand `n`.
    Map(Expr),
    /// Convolution of `[N,C,spatial..]` with weights `[O,C/groups,kernel..]` to `[N,O,spatial..]`.
    Conv {
        /// The window.
        window: Window,
        /// Channel groups; `C` and `O` are multiples of it.
        groups: usize,
        /// What happens to the accumulator.
        epilogue: Expr,
    },
    /// Transposed convolution of `[N,C,spatial..]` with weights `[C,O/groups,kernel..]` to `[N,O,spatial..]`; result extent is
    /// `(in - 1) * stride + (kernel - 1) * dilation + 1 + output_padding - pads`. ONNX ConvTranspose.
    ConvTranspose {
        /// The window; pads are cut from the result.
        window: Window,
        /// Additional extent at the end of each spatial axis.
        output_padding: Vec<usize>,
        /// Channel groups.
        groups: usize,
        /// What happens to the accumulator.
        epilogue: Expr,
    },
    /// Matrix product of `[..,M,K]` and `[..,K,N]`, leading axes broadcast, both operands at least of rank 2.
    MatMul {
        /// Operand 0 is stored as `[..,K,M]`.
        transpose_a: bool,
        /// Operand 1 is stored as `[..,N,K]`.
        transpose_b: bool,
        /// What happens to the accumulator.
        epilogue: Expr,
    },
    /// A pool over the spatial axes of `[N,C,spatial..]`; result extents follow from `window` and `ceil`.
    Pool {
        /// What it computes.
        kind: PoolKind,
        /// The window.
        window: Window,
        /// Round extents up: the last window may hang over the padded edge, but starts inside the operand or its front padding.
        ceil: bool,
    },
    /// Positions of the maxima of a max pool: flat row-major index into the whole operand as i64 (`column_major`: the spatial
    /// part of the index counts the first spatial axis fastest).
    PoolIndices {
        /// The window.
        window: Window,
        /// Round extents up, as in [`Op::Pool`].
        ceil: bool,
        /// Order of the spatial part of the index.
        column_major: bool,
    },
    /// A reduction over `axes` (ascending, distinct), which stay as extents of 1.
    Reduce {
        /// What it computes.
        kind: ReduceKind,
        /// The axes that are reduced.
        axes: Vec<usize>,
    },
    /// The position of the extreme along `axis` as i64; the axis stays with extent 1.
    ArgReduce {
        /// Largest or smallest.
        extreme: Extreme,
        /// The axis.
        axis: usize,
        /// Of equal elements, take the last.
        last: bool,
    },
    /// `exp(x - max) / sum(exp(x - max))` along `axis`; `log`: its logarithm.
    Softmax {
        /// The axis that sums to one.
        axis: usize,
        /// The logarithm of it.
        log: bool,
    },
    /// `(x - mean) / sqrt(variance + epsilon)` over `axes` (ascending, distinct), population variance. Scale and bias are maps.
    Normalize {
        /// The axes over which mean and variance are taken.
        axes: Vec<usize>,
        /// Added to the variance; f32 bits.
        epsilon: u32,
        /// Take the mean as 0 (RMS normalization).
        root_mean_square: bool,
    },
    /// Local response normalization across channels (axis 1): `x / (bias + alpha / size * sum(x^2 over the window)) ^ beta`,
    /// the window reaching `floor((size - 1) / 2)` channels back and `ceil((size - 1) / 2)` ahead. Floats are f32 bits.
    LocalResponseNorm {
        /// Channels in the window.
        size: usize,
        /// Scale.
        alpha: u32,
        /// Exponent.
        beta: u32,
        /// Offset.
        bias: u32,
    },
    /// The same elements in row-major order under another shape.
    Reshape(Shape),
    /// Result axis `i` is operand axis `perm[i]`.
    Transpose(Vec<usize>),
    /// Copies along new leading axes and along axes of extent 1 (ONNX Expand with the resolved shape).
    Broadcast(Shape),
    /// Operands one behind the other along `axis`.
    Concat {
        /// The axis that grows.
        axis: usize,
    },
    /// `counts[a]` elements of axis `a` at `starts[a] + i * steps[a]`; one entry per axis, steps not 0.
    Slice {
        /// First position, inside the operand (where the count is not 0).
        starts: Vec<usize>,
        /// Step, negative to run backwards.
        steps: Vec<isize>,
        /// Elements taken.
        counts: Vec<usize>,
    },
    /// Elements added before and behind each axis. Operand 1 is the scalar of [`PadMode::Constant`].
    Pad {
        /// What the added elements are.
        mode: PadMode,
        /// Elements before, per axis.
        before: Vec<usize>,
        /// Elements behind, per axis.
        after: Vec<usize>,
    },
    /// Copies of the whole tensor along each axis.
    Tile {
        /// Copies per axis.
        repeats: Vec<usize>,
    },
    /// Resizing along some axes, applied in the order given, accumulating in f32.
    Resize {
        /// The axes with their taps.
        axes: Vec<Resample>,
    },
    /// Result `[data[..axis], indices.., data[axis+1..]]`: slices of operand 0 at the positions in operand 1 (i32 or i64).
    /// Negative positions count from the end; positions out of range are clamped.
    Gather {
        /// The axis of operand 0.
        axis: usize,
    },
    /// ONNX GatherElements: result has the shape of operand 1. Positions as in [`Op::Gather`].
    GatherElements {
        /// The axis of operand 0.
        axis: usize,
    },
    /// ONNX GatherND. Positions as in [`Op::Gather`].
    GatherNd {
        /// Leading axes shared by both operands.
        batch_dims: usize,
    },
    /// ONNX ScatterElements of (data, indices, updates). Positions as in [`Op::Gather`].
    ScatterElements {
        /// The axis of operand 0.
        axis: usize,
        /// What happens to the element that was there.
        kind: ScatterKind,
    },
    /// ONNX ScatterND of (data, indices, updates). Positions as in [`Op::Gather`].
    ScatterNd {
        /// What happens to the element that was there.
        kind: ScatterKind,
    },
    /// Running sum along `axis`.
    CumulativeSum {
        /// The axis.
        axis: usize,
        /// Leave the element itself out.
        exclusive: bool,
        /// Run from the end.
        reverse: bool,
    },
    /// The `count` extreme elements along `axis` and their positions (i64): a tuple (values, indices). Sorted; of equal
    /// elements the lower position comes first.
    TopK {
        /// The axis.
        axis: usize,
        /// Elements taken.
        count: usize,
        /// Largest or smallest.
        extreme: Extreme,
    },
    /// Component `n` of the operand's tuple.
    Project(usize),
    /// The operand in another memory layout: the same value.
    Relayout(Layout),
}

impl Op {
    /// The operator's name in the text form.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input { .. } => "input",
            Op::Constant(_) => "const",
            Op::Map(_) => "map",
            Op::Conv { .. } => "conv",
            Op::ConvTranspose { .. } => "conv_transpose",
            Op::MatMul { .. } => "matmul",
            Op::Pool { kind: PoolKind::Max, .. } => "max_pool",
            Op::Pool { kind: PoolKind::Average { .. }, .. } => "average_pool",
            Op::Pool { kind: PoolKind::Lp { .. }, .. } => "lp_pool",
            Op::PoolIndices { .. } => "max_pool_indices",
            Op::Reduce { kind: ReduceKind::Sum, .. } => "reduce_sum",
            Op::Reduce { kind: ReduceKind::Mean, .. } => "reduce_mean",
            Op::Reduce { kind: ReduceKind::Max, .. } => "reduce_max",
            Op::Reduce { kind: ReduceKind::Min, .. } => "reduce_min",
            Op::Reduce { kind: ReduceKind::Product, .. } => "reduce_product",
            Op::ArgReduce { extreme: Extreme::Max, .. } => "arg_max",
            Op::ArgReduce { extreme: Extreme::Min, .. } => "arg_min",
            Op::Softmax { log: false, .. } => "softmax",
            Op::Softmax { log: true, .. } => "log_softmax",
            Op::Normalize { .. } => "normalize",
            Op::LocalResponseNorm { .. } => "local_response_norm",
            Op::Reshape(_) => "reshape",
            Op::Transpose(_) => "transpose",
            Op::Broadcast(_) => "broadcast",
            Op::Concat { .. } => "concat",
            Op::Slice { .. } => "slice",
            Op::Pad { .. } => "pad",
            Op::Tile { .. } => "tile",
            Op::Resize { .. } => "resize",
            Op::Gather { .. } => "gather",
            Op::GatherElements { .. } => "gather_elements",
            Op::GatherNd { .. } => "gather_nd",
            Op::ScatterElements { .. } => "scatter_elements",
            Op::ScatterNd { .. } => "scatter_nd",
            Op::CumulativeSum { .. } => "cumulative_sum",
            Op::TopK { .. } => "top_k",
            Op::Project(_) => "project",
            Op::Relayout(_) => "relayout",
        }
    }

    /// The epilogue of a contraction.
    pub fn epilogue(&self) -> Option<&Expr> {
        match self {
            Op::Conv { epilogue, .. } | Op::ConvTranspose { epilogue, .. } | Op::MatMul { epilogue, .. } => {
                Some(epilogue)
            }
            _ => None,
        }
    }

    /// The epilogue of a contraction, to change it.
    pub fn epilogue_mut(&mut self) -> Option<&mut Expr> {
        match self {
            Op::Conv { epilogue, .. } | Op::ConvTranspose { epilogue, .. } | Op::MatMul { epilogue, .. } => {
                Some(epilogue)
            }
            _ => None,
        }
    }

    /// The epilogue that leaves sums over elements of this type as they are.
    pub fn plain_epilogue(dtype: DType) -> Expr {
        Expr::argument(0, if dtype == DType::I8 { DType::I32 } else { dtype })
    }
}
