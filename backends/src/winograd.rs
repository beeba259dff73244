//! Winograd's convolution: tiles of the input become numbers at points along each axis ([`Axis`]); products over the channels
//! are a matrix product for each pair of points; sums at the points become tiles of outputs.
//!
//! The last tile along an axis may have fewer outputs: it leaves out the last points, and their matrix products leave out the
//! tile. So the numbers of an image lie in up to four regions, each with as many tiles at every pair of its points.

mod axis;
mod transform;

use edgecc_ir::Expr;

use crate::contraction::{Element, Footprint, Strides, Window, divide_up, pixel_footprint};
pub use axis::{Axis, Groups};
pub use transform::{Step, Transform, factors};

/// Images of outputs, cut into tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiling {
    /// Images.
    pub images: i64,
    /// Rows and columns of outputs.
    pub extents: [i64; 2],
    /// Down the rows, along the columns.
    pub axes: [Axis; 2],
    /// Whether the last tile along an axis has as many points as others: outputs beyond the images are left out, and there is
    /// one region.
    pub whole: bool,
}

/// Matrices with equally many tiles: `[row of points][column of points][image][tile row][tile column][channel]`, dense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Whether it is of the points that the last tile leaves out, for rows and columns.
    pub is_rest: [bool; 2],
    /// First points.
    pub first: [i64; 2],
    /// Rows and columns of points.
    pub points: [i64; 2],
    /// Rows and columns of tiles.
    pub tiles: [i64; 2],
    /// Tiles of one matrix, of all images.
    pub rows: i64,
    /// Numbers per channel in front of the region.
    pub before: i64,
}

/// Tiles of a row that one piece of code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows and columns of outputs.
    pub outputs: [i64; 2],
    /// The column of the tile, where it meets the border.
    pub column: Option<i64>,
}

impl Tiling {
    /// Rows and columns of tiles.
    pub fn tiles(&self) -> [i64; 2] {
        [0, 1].map(|axis| divide_up(self.extents[axis], self.axes[axis].outputs()))
    }

    /// Outputs of the last tile along an axis.
    pub fn last_outputs(&self, axis: usize) -> i64 {
        let outputs = self.axes[axis].outputs();
        if self.whole { outputs } else { self.extents[axis] - (self.tiles()[axis] - 1) * outputs }
    }

    /// Whether the last tile along an axis has fewer outputs than others.
    pub fn has_rest(&self, axis: usize) -> bool {
        self.last_outputs(axis) < self.axes[axis].outputs()
    }

    /// The tiles of an axis by their outputs: whole ones, and the last where it has fewer. As half-open ranges and outputs.
    pub fn sizes(&self, axis: usize) -> Vec<([i64; 2], i64)> {
        let (tiles, outputs) = (self.tiles()[axis], self.axes[axis].outputs());
        let whole = tiles - i64::from(self.has_rest(axis));
        let ranges = [([0, whole], outputs), ([whole, tiles], self.last_outputs(axis))];
        ranges.into_iter().filter(|([begin, end], _)| begin < end).collect()
    }

    /// A row of tiles of so many rows of outputs, from the left: shapes and numbers of tiles. Whole tiles in `inside` share code.
    pub fn row(&self, rows: i64, inside: [i64; 2]) -> Vec<(Shape, i64)> {
        let (tiles, outputs) = (self.tiles()[1], self.axes[1].outputs());
        let at_border = |column: i64| {
            let columns = outputs.min(self.extents[1] - column * outputs);
            (Shape { outputs: [rows, columns], column: Some(column) }, 1)
        };
        let [begin, end] = inside;
        let shared = (begin < end).then_some((Shape { outputs: [rows, outputs], column: None }, end - begin));
        (0..begin).map(at_border).chain(shared).chain((end.max(begin)..tiles).map(at_border)).collect()
    }

    /// The regions that a tile of so many outputs takes part in.
    pub fn regions_of(&self, outputs: [i64; 2]) -> Vec<Region> {
        let takes_part =
            |region: &Region| (0..2).all(|axis| region.first[axis] < self.axes[axis].points_of(outputs[axis]));
        self.regions().into_iter().filter(takes_part).collect()
    }

    /// The regions that are not empty, in the order of memory: those of all rows first, of these those of all columns.
    pub fn regions(&self) -> Vec<Region> {
        let parts = [0, 1].map(|axis| {
            let (points, tiles) = (self.axes[axis].points, self.tiles()[axis]);
            let shared = self.axes[axis].points_of(self.last_outputs(axis));
            [(false, 0, shared, tiles), (true, shared, points - shared, tiles - 1)]
        });
        let mut regions = Vec::new();
        let mut before = 0;
        for (rest_row, first_row, point_rows, rows) in parts[0] {
            for (rest_column, first_column, point_columns, columns) in parts[1] {
                let tiles = self.images * rows * columns;
                if point_rows * point_columns * tiles == 0 {
                    continue;
                }
                regions.push(Region {
                    is_rest: [rest_row, rest_column],
                    first: [first_row, first_column],
                    points: [point_rows, point_columns],
                    tiles: [rows, columns],
                    rows: tiles,
                    before,
                });
                before += point_rows * point_columns * tiles;
            }
        }
        regions
    }

    /// Numbers at all points for each channel.
    pub fn numbers(&self) -> i64 {
        self.regions().iter().map(Region::numbers).sum()
    }

    /// Range of the transforms: rows of tiles of all images.
    pub fn units(&self) -> i64 {
        self.images * self.tiles()[0]
    }

    /// Taps of the convolution.
    pub fn taps(&self) -> i64 {
        self.axes[0].taps * self.axes[1].taps
    }
}

impl Region {
    /// Numbers for each channel.
    pub fn numbers(&self) -> i64 {
        self.points[0] * self.points[1] * self.rows
    }
}

/// Inputs to the numbers of each tile and channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradInput {
    /// The type of inputs and numbers.
    pub element: Element,
    /// The tiles.
    pub tiling: Tiling,
    /// Rows and columns of the input.
    pub extents: [i64; 2],
    /// Rows of zeros above the input, columns to its left: fewer than taps.
    pub pads: [i64; 2],
    /// Channels: whole vectors.
    pub channels: i64,
    /// The input, batch axis: images; its channel stride is 1.
    pub input: Strides,
}

/// The sums of each tile and channel to results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradOutput {
    /// The type of every operand.
    pub element: Element,
    /// The tiles.
    pub tiling: Tiling,
    /// Channels: whole vectors.
    pub channels: i64,
    /// The output, batch axis: images; its channel stride is 1.
    pub output: Strides,
    /// The further operands of the epilogue: argument `i + 1` is operand `i`.
    pub operands: Vec<Strides>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl WinogradInput {
    /// The bytes that it may touch: input, numbers.
    pub fn footprints(&self) -> Vec<Footprint> {
        let window = dense_window(self.extents);
        let numbers = self.tiling.numbers() * self.channels * self.element.bytes();
        let images = [self.tiling.images];
        vec![
            pixel_footprint(self.element.dtype(), &self.input, &images, &window, self.channels),
            Footprint::leading(numbers),
        ]
    }

    /// The transforms of a tile of so many outputs, down the rows and along the columns.
    pub fn transforms(&self, outputs: [i64; 2]) -> [Transform; 2] {
        [0, 1].map(|axis| self.tiling.axes[axis].input(outputs[axis]))
    }

    /// Whole tiles of a row all of whose columns lie within the image, as a half-open range.
    pub fn inside(&self) -> [i64; 2] {
        let axis = self.tiling.axes[1];
        let is_inside = |&column: &i64| {
            let first = column * axis.advance() - self.pads[1];
            first >= 0
                && first + axis.inputs_of(axis.outputs()) <= self.extents[1]
                && (column + 1) * axis.outputs() <= self.tiling.extents[1]
        };
        let inside: Vec<i64> = (0..self.tiling.tiles()[1]).filter(is_inside).collect();
        inside.first().zip(inside.last()).map_or([0, 0], |(&first, &last)| [first, last + 1])
    }

    /// The columns of inputs under a tile that lie within the image.
    pub fn columns_of(&self, shape: Shape) -> Vec<usize> {
        let axis = self.tiling.axes[1];
        let first = shape.column.map(|column| column * axis.advance() - self.pads[1]);
        let exists = |&place: &i64| first.is_none_or(|first| (0..self.extents[1]).contains(&(first + place)));
        (0..axis.inputs_of(shape.outputs[1])).filter(exists).map(|place| place as usize).collect()
    }

    /// Whether a row of inputs under any tile may lie outside of the image.
    pub fn has_rows_outside(&self) -> bool {
        let [rows, pad] = [self.tiling.extents[0], self.pads[0]];
        pad > 0 || self.tiling.axes[0].inputs_of(rows) - pad > self.extents[0]
    }
}

impl WinogradOutput {
    /// The bytes that it may touch: sums, output, further operands.
    pub fn footprints(&self) -> Vec<Footprint> {
        let window = dense_window(self.tiling.extents);
        let of =
            |strides| pixel_footprint(self.element.dtype(), strides, &[self.tiling.images], &window, self.channels);
        let sums = self.tiling.numbers() * self.channels * self.element.bytes();
        [Footprint::leading(sums), of(&self.output)].into_iter().chain(self.operands.iter().map(of)).collect()
    }

    /// The transforms of a tile of so many outputs, down the rows and along the columns.
    pub fn transforms(&self, outputs: [i64; 2]) -> [Transform; 2] {
        [0, 1].map(|axis| self.tiling.axes[axis].output(outputs[axis]))
    }
}

/// A window that reaches every pixel of an image once.
fn dense_window([height, width]: [i64; 2]) -> Window {
    Window { height, width, input_height: height, input_width: width, ..Window::matrix(0) }
}

/// `G g G'` of filters, for both axes.
pub struct WeightTransform {
    rows: Vec<Vec<f64>>,
    columns: Vec<Vec<f64>>,
}

impl WeightTransform {
    /// That of axes.
    pub fn of(axes: [Axis; 2]) -> Self {
        WeightTransform { rows: axes[0].weights(), columns: axes[1].weights() }
    }

    /// Appends a filter at all points, row-major, rounded once; `taps` are row-major.
    pub fn append(&self, taps: &[f64], to: &mut Vec<f32>) {
        let width = self.columns[0].len();
        for row in &self.rows {
            // Down the taps' columns.
            let mut middle = [0.0; MOST_TAPS];
            for (factor, taps) in row.iter().zip(taps.chunks(width)) {
                middle.iter_mut().zip(taps).for_each(|(sum, tap)| *sum += factor * tap);
            }
            let along = |column: &Vec<f64>| column.iter().zip(&middle).map(|(a, b)| a * b).sum::<f64>() as f32;
            to.extend(self.columns.iter().map(along));
        }
    }
}

/// Taps of an axis, at most.
const MOST_TAPS: usize = 7;

/// Instructions of a multiply-add of the products, with what it takes beside itself.
const PER_PRODUCT: f64 = 1.1;
/// Instructions that a core executes while a vector of weights comes from memory.
pub(crate) const PER_WEIGHT: f64 = 4.0;
/// The part of direct sums that transforms may not exceed.
const MOST: f64 = 0.9;

/// The axes that take the fewest instructions for images of `extents` outputs, where that is less than direct sums take. Taps
/// come with the stride of both axes.
pub fn best_axes(
    element: Element,
    outputs: (i64, [i64; 2]),
    taps: ([i64; 2], i64),
    channels: (i64, i64),
) -> Option<[Axis; 2]> {
    cheapest_axes(element, outputs, taps, channels).filter(|&(_, pays)| pays).map(|(axes, _)| axes)
}

/// The axes that take the fewest instructions, if there are any, and whether that is less than direct sums take.
pub fn cheapest_axes(
    element: Element,
    (images, extents): (i64, [i64; 2]),
    (taps, stride): ([i64; 2], i64),
    (depth, channels): (i64, i64),
) -> Option<([Axis; 2], bool)> {
    let lanes = element.lanes();
    let cost = |axes: &[Axis; 2]| {
        let tiling = Tiling { images, extents, axes: *axes, whole: false };
        let products = tiling.numbers() * depth * channels / lanes;
        let weights = (axes[0].points * axes[1].points - tiling.taps()) * depth * channels / lanes;
        let transforms = tiling.units() * tiling.tiles()[1];
        let input = transform_cost(axes.map(|axis| axis.input(axis.outputs()))) * depth / lanes;
        // Bias and activation of each output.
        let outputs = 2 * axes[0].outputs() * axes[1].outputs();
        let output = (transform_cost(axes.map(|axis| axis.output(axis.outputs()))) + outputs) * channels / lanes;
        products as f64 * PER_PRODUCT + weights as f64 * PER_WEIGHT + (transforms * (input + output)) as f64
    };
    let best = axes_of(element, taps, stride).into_iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    let direct = images * extents[0] * extents[1] * taps[0] * taps[1] * depth * channels / lanes;
    Some((best, cost(&best) < direct as f64 * PER_PRODUCT * MOST))
}

/// The axes that a convolution with so many taps may have, but for one point on both.
pub(crate) fn axes_of(element: Element, taps: [i64; 2], stride: i64) -> Vec<[Axis; 2]> {
    let choices = taps.map(|taps| choices(element, taps, stride));
    let both = choices[0].iter().flat_map(|&row| choices[1].iter().map(move |&column| [row, column]));
    both.filter(|axes| axes[0].points * axes[1].points > 1).collect()
}

/// What may become of an axis with so many taps. Halves take no more than six points at once: eight lose six bits.
fn choices(element: Element, taps: i64, stride: i64) -> Vec<Axis> {
    let (groups, points): (Groups, &[i64]) = match (taps, stride, element) {
        (1, 1, _) => (Groups::One, &[1]),
        (3, 1, Element::F32) => (Groups::One, &[4, 6, 8]),
        (3, 1, Element::F16) => (Groups::One, &[4, 6]),
        (3, 2, Element::F32 | Element::F16) => (Groups::Strided, &[5, 7]),
        (5, 1, Element::F32) => (Groups::One, &[6, 8]),
        (5, 1, Element::F16) => (Groups::One, &[6]),
        (7, 1, Element::F32) => (Groups::One, &[8]),
        (7, 1, Element::F16) => (Groups::Halved, &[11]),
        _ => (Groups::One, &[]),
    };
    points.iter().map(|&points| Axis { points, taps, groups }).collect()
}

/// Instructions of all inputs.
pub(crate) fn input_instructions(spec: &WinogradInput) -> i64 {
    let each = transform_cost(spec.tiling.axes.map(|axis| axis.input(axis.outputs())));
    spec.tiling.units() * spec.tiling.tiles()[1] * each * divide_up(spec.channels, spec.element.lanes())
}

/// Instructions of all results, without those of the epilogue.
pub(crate) fn output_instructions(spec: &WinogradOutput) -> i64 {
    let each = transform_cost(spec.tiling.axes.map(|axis| axis.output(axis.outputs())));
    spec.tiling.units() * spec.tiling.tiles()[1] * each * divide_up(spec.channels, spec.element.lanes())
}

/// Steps of a tile of one vector of channels: of the inputs, of the results.
pub(crate) fn transform_steps(axes: [Axis; 2]) -> [i64; 2] {
    let input = axes.map(|axis| axis.input(axis.outputs()));
    let output = axes.map(|axis| axis.output(axis.outputs()));
    [steps(&input), steps(&output)]
}

/// Along every row of operands, then down every column of results.
fn steps([row, column]: &[Transform; 2]) -> i64 {
    (column.steps.len() * row.operands + row.steps.len() * column.results.len()) as i64
}

/// Instructions of a tile of one vector of channels; accesses move two to four vectors at once.
fn transform_cost(transforms: [Transform; 2]) -> i64 {
    let [row, column] = &transforms;
    let (inputs, results) = ([row.operands, column.operands], [row.results.len(), column.results.len()]);
    let accesses = inputs[0] * inputs[1] + 2 * inputs[0] * results[1] + results[0] * results[1];
    steps(&transforms) + (accesses / 3 + 8) as i64
}
