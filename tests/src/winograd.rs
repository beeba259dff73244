//! Convolutions for Winograd's algorithm.

use edgecc_backends::contraction::Element;
use edgecc_backends::winograd::{Axis, best_axes};
use edgecc_ir::Graph;

use crate::networks::{Activation, Network};

/// A convolution behind which a bias, perhaps the input, and zero bound what it sums.
pub struct Case {
    images: usize,
    extents: [usize; 2],
    depth: usize,
    channels: usize,
    kernel: [usize; 2],
    stride: usize,
    pads: [usize; 2],
    residual: bool,
}

const fn case(extents: [usize; 2], depth: usize, channels: usize) -> Case {
    Case { images: 1, extents, depth, channels, kernel: [3, 3], stride: 1, pads: [1, 1], residual: false }
}

/// Whole tiles and last tiles of every size on either axis, no tile inside, no padding, uneven numbers of vectors, several
/// images, a residual sum; kernels of other sizes; a stride of 2.
pub const CASES: [Case; 21] = [
    case([16, 16], 16, 32),
    case([13, 18], 32, 24),
    case([7, 7], 64, 64),
    case([9, 11], 48, 80),
    case([4, 4], 128, 128),
    case([12, 12], 36, 28),
    case([36, 36], 64, 64),
    case([33, 31], 64, 64),
    Case { pads: [0, 0], ..case([14, 11], 24, 40) },
    Case { pads: [2, 2], ..case([9, 9], 32, 32) },
    Case { images: 2, ..case([10, 12], 32, 32) },
    Case { images: 2, residual: true, ..case([14, 14], 32, 32) },
    Case { kernel: [5, 5], pads: [2, 2], ..case([19, 15], 32, 32) },
    Case { kernel: [1, 7], pads: [0, 3], ..case([17, 17], 64, 64) },
    Case { kernel: [7, 1], pads: [3, 0], ..case([5, 17], 64, 64) },
    Case { kernel: [1, 7], pads: [0, 3], ..case([3, 8], 64, 64) },
    Case { stride: 2, ..case([28, 27], 64, 48) },
    Case { stride: 2, pads: [0, 0], ..case([17, 11], 32, 64) },
    Case { stride: 2, ..case([14, 14], 128, 128) },
    Case { stride: 2, images: 2, ..case([6, 13], 32, 32) },
    Case { stride: 2, ..case([11, 11], 128, 128) },
];

impl Case {
    /// The axes that lowering chooses for processors.
    pub fn axes(&self, element: Element) -> Option<[Axis; 2]> {
        let span = |axis: usize| self.extents[axis] + 2 * self.pads[axis] - self.kernel[axis];
        let extents = [0, 1].map(|axis| (span(axis) / self.stride + 1) as i64);
        let taps = (self.kernel.map(|taps| taps as i64), self.stride as i64);
        let channels = (self.depth as i64, self.channels as i64);
        best_axes(element, (self.images as i64, extents), taps, channels)
    }

    /// `max(conv(x) + bias (+ x), 0)`.
    pub fn graph(&self) -> Graph {
        let [height, width] = self.extents;
        let mut network = Network::new("winograd", &[self.images, self.depth, height, width]);
        let x = network.value();
        network.padded_conv(self.channels, self.kernel, self.stride, 1, self.pads);
        if self.residual {
            network.add_value(x);
        }
        network.activate(Activation::Relu);
        network.finish()
    }
}
