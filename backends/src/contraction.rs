//! What a contraction computes, apart from how: matrix products and convolutions over f32, f16 and i8.

use edgecc_ir::{DType, Expr, Scalar};

/// The elements of a contraction's input and weights. Epilogues over f32 and f16 are of f32: they widen halves that they read,
/// and narrow their result. Over i8 they begin with the exact sum as an i32; what they read further and what they give is of any
/// type, and each operation rounds as [`edgecc_ir::eval`] does it, so that results are the same bits everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Element {
    /// IEEE 754 binary32.
    #[default]
    F32,
    /// IEEE 754 binary16. Sums may be rounded to it.
    F16,
    /// Integers, whose products are summed in i32 modulo 2^32.
    I8,
}

impl Element {
    /// The element of a tensor's type, where contractions have it.
    pub fn of(dtype: DType) -> Option<Element> {
        match dtype {
            DType::F32 => Some(Element::F32),
            DType::F16 => Some(Element::F16),
            DType::I8 => Some(Element::I8),
            _ => None,
        }
    }

    /// The type of a tensor.
    pub const fn dtype(self) -> DType {
        match self {
            Element::F32 => DType::F32,
            Element::F16 => DType::F16,
            Element::I8 => DType::I8,
        }
    }

    /// The type of a sum: of an epilogue's argument 0.
    pub const fn sum_dtype(self) -> DType {
        match self {
            Element::F32 | Element::F16 => DType::F32,
            Element::I8 => DType::I32,
        }
    }

    /// Bytes of one.
    pub const fn bytes(self) -> i64 {
        match self {
            Element::F32 => 4,
            Element::F16 => 2,
            Element::I8 => 1,
        }
    }

    /// Sums of a register of 128 bits: the channels of a vector, to which packed weights are padded.
    pub const fn lanes(self) -> i64 {
        match self {
            Element::F32 | Element::I8 => 4,
            Element::F16 => 8,
        }
    }

    /// Channels to which packed weights of depthwise convolutions are padded: a register of 128 bits.
    pub const fn depthwise_lanes(self) -> i64 {
        16 / self.bytes()
    }

    /// Elements of the depth that lie side by side for each channel of packed weights, to which runs of the depth are padded.
    pub const fn depth_block(self) -> i64 {
        match self {
            Element::F32 | Element::F16 => 1,
            Element::I8 => 8,
        }
    }

    /// The expression that makes an element of a sum.
    pub fn plain_epilogue(self) -> Expr {
        let mut expr = Expr::argument(0, self.sum_dtype());
        match self {
            Element::F32 => expr,
            Element::F16 | Element::I8 => {
                let root = expr.cast(self.dtype(), expr.root());
                expr.with_root(root)
            }
        }
    }
}

/// Distances between neighbours of one operand along the axes of a contraction, in elements. 0 broadcasts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Strides {
    /// Offset of the first element from the operand's address.
    pub base: i64,
    /// One per batch axis, outermost first.
    pub batch: Vec<i64>,
    /// From one row of pixels to the next.
    pub row: i64,
    /// From one pixel of a row to the next.
    pub column: i64,
    /// From one channel of a pixel to the next.
    pub channel: i64,
}

impl Strides {
    /// A dense image of `width` pixels a row and `channels` a pixel, without batch axes.
    pub fn image(width: i64, channels: i64) -> Self {
        Strides { row: width * channels, column: channels, channel: 1, ..Strides::default() }
    }

    /// One value per channel, the same for every pixel.
    pub fn per_channel(batch_axes: usize) -> Self {
        Strides { batch: vec![0; batch_axes], channel: 1, ..Strides::default() }
    }

    /// Whether pixel `(y, x)` lies at `(y * width + x) * column`.
    pub fn is_flat(&self, height: i64, width: i64) -> bool {
        height == 1 || self.row == width * self.column
    }
}

/// One position of the window: output pixel `(y, x)` meets input pixel `(y * step[0] + row, x * step[1] + column)`; outside
/// of the input it meets zeros. Padding and dilation are in the offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tap {
    /// Offset in input rows.
    pub row: i64,
    /// Offset in input columns.
    pub column: i64,
    /// Which matrix (or row of depthwise weights) of the unpacked weights belongs to it.
    pub weight: usize,
}

/// Where the window lies: what contractions and depthwise convolutions have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Window {
    /// Output rows.
    pub height: i64,
    /// Output pixels a row.
    pub width: i64,
    /// Input rows.
    pub input_height: i64,
    /// Input pixels a row.
    pub input_width: i64,
    /// Input rows and columns from one output pixel to the next.
    pub step: [i64; 2],
    /// The positions, in the order of summation.
    pub taps: Vec<Tap>,
}

/// A rectangular kernel over an image: how the ordinary convolution describes its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelShape {
    /// Rows and columns of the kernel.
    pub kernel: [i64; 2],
    /// Input rows and columns from one output pixel to the next.
    pub stride: [i64; 2],
    /// Input rows and columns from one tap to the next.
    pub dilation: [i64; 2],
    /// Rows and columns of zeros: top, left, bottom, right.
    pub pads: [i64; 4],
}

impl Window {
    /// The window of a matrix product of `rows` rows: one tap, one image row.
    pub fn matrix(rows: i64) -> Self {
        let taps = vec![Tap { row: 0, column: 0, weight: 0 }];
        Window { height: 1, width: rows, input_height: 1, input_width: rows, step: [1, 1], taps }
    }

    /// The window of an ordinary convolution; taps in row-major order of the kernel.
    pub fn convolution(input_height: i64, input_width: i64, shape: &KernelShape) -> Self {
        let [top, left, bottom, right] = shape.pads;
        let extent = |input: i64, pads: i64, axis: usize| {
            let reach = shape.dilation[axis] * (shape.kernel[axis] - 1) + 1;
            ((input + pads - reach) / shape.stride[axis] + 1).max(0)
        };
        let taps = (0..shape.kernel[0] * shape.kernel[1]).map(|tap| Tap {
            row: tap / shape.kernel[1] * shape.dilation[0] - top,
            column: tap % shape.kernel[1] * shape.dilation[1] - left,
            weight: tap as usize,
        });
        Window {
            height: extent(input_height, top + bottom, 0),
            width: extent(input_width, left + right, 1),
            input_height,
            input_width,
            step: shape.stride,
            taps: taps.collect(),
        }
    }

    /// Output pixels.
    pub fn pixels(&self) -> i64 {
        self.height * self.width
    }

    /// Output rows for which every tap lies within the input's rows, as a half-open range; empty ranges are `0..0`.
    pub fn interior_rows(&self) -> [i64; 2] {
        interior(self.taps.iter().map(|tap| tap.row), self.step[0], self.input_height, self.height)
    }

    /// Output columns for which every tap lies within the input's columns.
    pub fn interior_columns(&self) -> [i64; 2] {
        interior(self.taps.iter().map(|tap| tap.column), self.step[1], self.input_width, self.width)
    }

    /// Whether no pixel meets a tap outside of the input.
    pub fn is_interior(&self) -> bool {
        self.interior_rows() == [0, self.height] && self.interior_columns() == [0, self.width]
    }

    /// The strides with which an output pixel moves through the input.
    pub fn stepped(&self, input: &Strides) -> Strides {
        Strides { row: input.row * self.step[0], column: input.column * self.step[1], ..input.clone() }
    }

    /// Smallest and largest input coordinates that any tap of any pixel meets within the input: rows, then columns.
    fn reached(&self) -> Option<[[i64; 2]; 2]> {
        let rows = reached(self.taps.iter().map(|tap| tap.row), self.step[0], self.input_height, self.height)?;
        let columns = reached(self.taps.iter().map(|tap| tap.column), self.step[1], self.input_width, self.width)?;
        Some([rows, columns])
    }
}

fn interior(offsets: impl Iterator<Item = i64> + Clone, step: i64, input: i64, output: i64) -> [i64; 2] {
    let lowest = offsets.clone().min().unwrap_or(0);
    let highest = offsets.max().unwrap_or(0);
    let begin = divide_up((-lowest).max(0), step);
    let end = ((input - 1 - highest).div_euclid(step) + 1).min(output);
    if begin < end { [begin, end] } else { [0, 0] }
}

fn reached(offsets: impl Iterator<Item = i64>, step: i64, input: i64, output: i64) -> Option<[i64; 2]> {
    let within = offsets.flat_map(|offset| {
        let first = divide_up((-offset).max(0), step);
        let last = (input - 1 - offset).div_euclid(step).min(output - 1);
        (first <= last).then_some([first * step + offset, last * step + offset])
    });
    within.reduce(|a, b| [a[0].min(b[0]), a[1].max(b[1])])
}

/// The quotient, rounded up.
pub(crate) fn divide_up(dividend: i64, divisor: i64) -> i64 {
    -(-dividend).div_euclid(divisor)
}

/// The largest number that divides both; 0 of zeros.
pub(crate) fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a.abs() } else { greatest_common_divisor(b, a % b) }
}

/// The parts of `size` that lie wholly within a half-open range, as such a range themselves; empty ones are `0..0`.
pub(crate) fn whole_parts([begin, end]: [i64; 2], size: i64) -> [i64; 2] {
    let (first, last) = (divide_up(begin, size), end / size);
    if first < last { [first, last] } else { [0, 0] }
}

/// What a shader makes of the elements that it reads: the map and the pad in front of a window, which it does on the way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Elements {
    /// What a tap meets within the input, from the input's element (argument 0) and those of the operands at its place.
    pub expr: Expr,
    /// The operands: argument `i + 1` is operand `i`. Their pixels are the input's, their channels the depth.
    pub operands: Vec<Strides>,
    /// What a tap meets outside of the input.
    pub outside: Scalar,
}

/// What a contraction in a shader sums where that is not the input as it lies.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// What is made of the input's elements.
    Elements(Elements),
    /// Results of a depthwise convolution of the input, each computed where it is summed. There is one tap, and pixels are those results.
    Depthwise(Box<DepthwiseSpec>),
}

impl Reading {
    /// What is made of elements.
    pub fn elements(&self) -> Option<&Elements> {
        match self {
            Reading::Elements(elements) => Some(elements),
            Reading::Depthwise(_) => None,
        }
    }

    /// The depthwise convolution.
    pub fn depthwise(&self) -> Option<&DepthwiseSpec> {
        match self {
            Reading::Elements(_) => None,
            Reading::Depthwise(spec) => Some(spec),
        }
    }
}

/// `output[b, y, x, n] = epilogue(sum over taps t and k of input[b, y*s+t.row, x*s+t.column, k] * weight[b, t, k, n], ...)`.
/// The sum runs over taps in their order and over k upwards, by fused multiply-add from zero; of i8 it is exact. A plain matrix product is
/// [`Window::matrix`]; groups of a convolution are a batch axis that moves input, weights and output alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ContractionSpec {
    /// The type of the elements of input and weights.
    pub element: Element,
    /// Extents of the batch axes, outermost first.
    pub batch: Vec<i64>,
    /// Output pixels and their taps.
    pub window: Window,
    /// Input channels summed per tap: K.
    pub depth: i64,
    /// Output channels: N.
    pub channels: i64,
    /// The input; its channel stride is 1, but in shaders.
    pub input: Strides,
    /// What is summed, where that is not the input: in shaders alone.
    pub reading: Option<Reading>,
    /// Every weight is known to be above -128 where they are i8: sums of two products fit 16 bits.
    pub symmetric_weights: bool,
    /// Distance between weight matrices along each batch axis, in matrices of all taps; 0 shares them.
    pub weight_batch: Vec<i64>,
    /// The output.
    pub output: Strides,
    /// The further operands of the epilogue: argument `i + 1` is operand `i`.
    pub operands: Vec<Strides>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl ContractionSpec {
    /// The types of the kernel's operands: input, weights, output, the further ones, and those of the reading: of a depthwise convolution
    /// its weights, then its further ones.
    pub fn types(&self) -> Vec<DType> {
        let further = (&self.epilogue, self.operands.len());
        match &self.reading {
            None => operand_types(self.element, further, None),
            Some(Reading::Elements(elements)) => operand_types(self.element, further, Some(elements)),
            Some(Reading::Depthwise(within)) => {
                let mut types = operand_types(self.element, further, None);
                let [input, weights, _, rest @ ..] = &within.types()[..] else { return types };
                types[0] = *input;
                types.push(*weights);
                types.extend(rest);
                types
            }
        }
    }
}

/// The types of input, weights, output, further operands and those of what is made of elements. The expressions say them: each operand
/// has the type of the argument that reads it.
fn operand_types(element: Element, (epilogue, further): (&Expr, usize), elements: Option<&Elements>) -> Vec<DType> {
    let argument = |expr: &Expr, number: usize| {
        let found = expr.arguments().find(|&(n, _)| usize::from(n) == number);
        found.map_or(element.dtype(), |(_, dtype)| dtype)
    };
    let input = elements.map_or(element.dtype(), |elements| argument(&elements.expr, 0));
    let mut types = vec![input, element.dtype(), epilogue.dtype_of(epilogue.root())];
    types.extend((1..=further).map(|number| argument(epilogue, number)));
    let of_elements = |elements: &Elements| {
        (1..=elements.operands.len()).map(|number| argument(&elements.expr, number)).collect::<Vec<_>>()
    };
    types.extend(elements.map(of_elements).unwrap_or_default());
    types
}

/// Where run-time weights lie, in elements. Their matrices have one tap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RuntimeWeights {
    /// Extents of the axes that count matrices, outermost first: packed matrices follow in row-major order.
    pub batch: Vec<i64>,
    /// Offset of the first element.
    pub base: i64,
    /// From one matrix to the next along each batch axis.
    pub batch_strides: Vec<i64>,
    /// From one k to the next.
    pub depth_stride: i64,
    /// From one output channel to the next.
    pub channel_stride: i64,
}

/// How a window of one channel becomes one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combination {
    /// The sum of products with weights.
    Products,
    /// The largest: a max pool. There are no weights, and taps outside of the input do not count.
    Maximum,
    /// The sum: what a mean pool divides. There are no weights, and taps outside of the input are zeros.
    Sum,
}

/// Depthwise convolution: `output[b, y, x, c] = epilogue(sum over taps t of input[.., c] * weight[t, c], ...)`. The sum runs
/// over the rows of taps in their order, and within a row by ascending column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DepthwiseSpec {
    /// The type of the elements of input and weights.
    pub element: Element,
    /// Extents of the batch axes, outermost first.
    pub batch: Vec<i64>,
    /// Output pixels and their taps.
    pub window: Window,
    /// Channels of input and output.
    pub channels: i64,
    /// What becomes of the taps.
    pub combination: Combination,
    /// The input; its channel stride is 1.
    pub input: Strides,
    /// What is summed, where that is not the input: in shaders alone.
    pub reading: Option<Elements>,
    /// The output; its channel stride is 1.
    pub output: Strides,
    /// Where the mean of each channel's results goes, if it is wanted: in shaders alone.
    pub mean: Option<Strides>,
    /// The further operands of the epilogue: argument `i + 1` is operand `i`.
    pub operands: Vec<Strides>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl DepthwiseSpec {
    /// The types of the kernel's operands: input, weights, output, the further ones, those of the reading, and the mean.
    pub fn types(&self) -> Vec<DType> {
        let mut types = operand_types(self.element, (&self.epilogue, self.operands.len()), self.reading.as_ref());
        types.extend(self.mean.is_some().then_some(self.element.dtype()));
        types
    }

    /// Multiply-adds.
    pub fn macs(&self) -> i64 {
        self.batch.iter().product::<i64>() * self.window.pixels() * self.channels * self.window.taps.len() as i64
    }
}

/// The bytes of an operand that a kernel may touch, relative to the operand's address: `begin..end`, empty where equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Footprint {
    /// First byte.
    pub begin: i64,
    /// One past the last byte.
    pub end: i64,
}

impl Footprint {
    /// `bytes` from the operand's address.
    pub fn leading(bytes: i64) -> Self {
        Footprint { begin: 0, end: bytes }
    }

    /// From lowest and highest element.
    fn elements(lowest: i64, highest: i64, dtype: DType) -> Self {
        let size = dtype.size() as i64;
        Footprint { begin: lowest * size, end: (highest + 1) * size }
    }
}

/// The footprint of an operand read or written at every output pixel and channel.
pub fn pixel_footprint(dtype: DType, strides: &Strides, batch: &[i64], window: &Window, channels: i64) -> Footprint {
    if window.pixels() == 0 || channels == 0 || batch.contains(&0) {
        return Footprint::default();
    }
    let moves = strides.batch.iter().zip(batch).map(|(&stride, &extent)| stride * (extent - 1));
    let pixels = [strides.row * (window.height - 1), strides.column * (window.width - 1)];
    bounds(dtype, strides.base, moves.chain(pixels).chain([strides.channel * (channels - 1)]))
}

/// The footprint of the input under the window's taps.
pub fn input_footprint(dtype: DType, strides: &Strides, batch: &[i64], window: &Window, depth: i64) -> Footprint {
    let Some([rows, columns]) = window.reached().filter(|_| depth > 0 && !batch.contains(&0)) else {
        return Footprint::default();
    };
    let moves = strides.batch.iter().zip(batch).map(|(&stride, &extent)| stride * (extent - 1));
    let pixels = [(rows[1] - rows[0]) * strides.row, (columns[1] - columns[0]) * strides.column];
    let first = strides.base + rows[0] * strides.row + columns[0] * strides.column;
    bounds(dtype, first, moves.chain(pixels).chain([(depth - 1) * strides.channel]))
}

/// From the first element and the farthest move along each axis.
pub(crate) fn bounds(dtype: DType, first: i64, moves: impl Iterator<Item = i64>) -> Footprint {
    let (lowest, highest) = moves.fold((first, first), |(low, high), reach| (low + reach.min(0), high + reach.max(0)));
    Footprint::elements(lowest, highest, dtype)
}
