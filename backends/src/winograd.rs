//! Winograd's convolution of 3x3 taps, four by four outputs a tile: `Y = A' [(G g G') . (B' d B)] A` (Lavin and Gray, "Fast
//! Algorithms for Convolutional Neural Networks", 2016, F(4x4, 3x3); points 0, 1, -1, 2, -2). A tile of 6x6 inputs becomes
//! 36 numbers per channel; products over the channels are 36 matrix products; 36 sums become 4x4 outputs.

use edgecc_ir::Expr;

use crate::contraction::{Element, Footprint, Strides, Window, divide_up, pixel_footprint};

/// Outputs of a tile along each axis.
pub const OUTPUTS: i64 = 4;
/// Inputs of a tile along each axis.
pub const INPUTS: i64 = 6;
/// Matrix products.
pub const MATRICES: i64 = INPUTS * INPUTS;

/// Inputs to the 36 numbers of each tile and channel: `[image][tile][matrix][channel]`, dense.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradInput {
    /// Images.
    pub images: i64,
    /// Rows and columns of tiles.
    pub tiles: [i64; 2],
    /// Rows and columns of the input.
    pub extents: [i64; 2],
    /// Rows of zeros above the input, columns to its left.
    pub pads: [i64; 2],
    /// Channels: whole vectors.
    pub channels: i64,
    /// The input, batch axis: images; its channel stride is 1.
    pub input: Strides,
}

/// The 36 sums of each tile and channel, `[image][tile][matrix][channel]`, to results.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WinogradOutput {
    /// Images.
    pub images: i64,
    /// Rows and columns of tiles; the last ones may reach beyond the output.
    pub tiles: [i64; 2],
    /// Rows and columns of the output.
    pub extents: [i64; 2],
    /// Channels: whole vectors.
    pub channels: i64,
    /// The output, batch axis: images; its channel stride is 1.
    pub output: Strides,
    /// The further operands of the epilogue: argument `i + 1` is operand `i`. All are f32.
    pub operands: Vec<Strides>,
    /// Result from the sum (argument 0) and the further operands.
    pub epilogue: Expr,
}

impl WinogradInput {
    /// The bytes that it may touch: input, transformed input.
    pub fn footprints(&self) -> Vec<Footprint> {
        let window = dense_window(self.extents);
        let tiles = self.images * self.tiles[0] * self.tiles[1];
        vec![
            pixel_footprint(Element::F32, &self.input, &[self.images], &window, self.channels),
            Footprint::leading(tiles * MATRICES * self.channels * 4),
        ]
    }
}

impl WinogradOutput {
    /// The bytes that it may touch: sums, output, further operands.
    pub fn footprints(&self) -> Vec<Footprint> {
        let window = dense_window(self.extents);
        let tiles = self.images * self.tiles[0] * self.tiles[1];
        let mut footprints = vec![
            Footprint::leading(tiles * MATRICES * self.channels * 4),
            pixel_footprint(Element::F32, &self.output, &[self.images], &window, self.channels),
        ];
        let operands = self.operands.iter();
        footprints.extend(
            operands.map(|strides| pixel_footprint(Element::F32, strides, &[self.images], &window, self.channels)),
        );
        footprints
    }
}

/// A window that reaches every pixel of an image once.
fn dense_window([height, width]: [i64; 2]) -> Window {
    Window { height, width, input_height: height, input_width: width, ..Window::matrix(0) }
}

const G: [[f64; 3]; 6] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// `G g G'` of 3x3 taps, row-major, rounded once.
pub fn transformed_weights(taps: &[f32; 9]) -> [f32; 36] {
    std::array::from_fn(|place| {
        let (row, column) = (place / 6, place % 6);
        let products = (0..9).map(|tap| G[row][tap / 3] * G[column][tap % 3] * f64::from(taps[tap]));
        products.sum::<f64>() as f32
    })
}

/// Whether the transforms cost less than they save: instructions of an inference, with what a multiply-add of the products
/// takes beside itself.
pub fn pays(outputs: [i64; 2], depth: i64, channels: i64) -> bool {
    const PER_PRODUCT: i64 = 115;
    const INPUT: i64 = 330;
    const OUTPUT: i64 = 230;
    let tiles = outputs.iter().map(|&extent| divide_up(extent, OUTPUTS)).product::<i64>();
    let direct = outputs[0] * outputs[1] * 9 * depth * channels / 4 * PER_PRODUCT / 100;
    let products = tiles * MATRICES * depth * channels / 4 * PER_PRODUCT / 100;
    let transforms = tiles * (depth / 4 * INPUT + channels / 4 * OUTPUT);
    products + transforms < direct * 9 / 10
}
