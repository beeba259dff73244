//! Convolutions by Winograd's algorithm: a step for the inputs, one for the matrix products of each region, one for the results.

use edgecc_ir::{Expr, NodeId};

use super::contraction::{Weights, contract_with_macs, further_views, pack};
use super::convolution::{Image, image_strides};
use super::{Call, Lowering, Processor, operand, winograd_weights};
use crate::contraction::{ContractionSpec, Element, Strides, Window};
use crate::kernel::Access;
use crate::program::{KernelSource, Operand};
use crate::view::{StorageId, View};
use crate::winograd::{Axis, Region, Tiling, WeightTransform, WinogradInput, WinogradOutput};

/// A convolution that may be one of Winograd's: one group, no dilation, and the stride of its axes.
pub(super) struct Candidate<'a> {
    pub id: NodeId,
    pub element: Element,
    pub window: &'a Window,
    /// Rows and columns of the kernel.
    pub taps: [i64; 2],
    /// Zeros above, to the left, below, to the right. No tile lies among them alone where they are fewer than taps.
    pub pads: [i64; 4],
    pub input: &'a View,
    pub output: &'a View,
    pub image: &'a Image,
    pub result: &'a Image,
    pub epilogue: &'a Expr,
    /// The axes that take the fewest instructions, and whether they are fewer than those of direct sums.
    pub axes: [Axis; 2],
    pub pays: bool,
}

/// The products of all regions.
struct Products {
    id: NodeId,
    element: Element,
    tiling: Tiling,
    /// Numbers of the inputs, and sums.
    storages: [StorageId; 2],
    depth: i64,
    channels: i64,
}

/// Whether there are kernels for it: whole vectors of channels that lie side by side.
pub(super) fn fits(lowering: &Lowering<'_>, candidate: &Candidate<'_>) -> bool {
    let Candidate { id, element, taps, pads, output, image, result, .. } = *candidate;
    let further = further_views(lowering, id);
    image.extents[1] % element.lanes() == 0
        && result.extents[1] % element.lanes() == 0
        && result.strides(output.lead, 1).channel == 1
        && pads.iter().zip(taps.iter().cycle()).all(|(pad, &taps)| (0..taps).contains(pad))
        && further.iter().map(image_strides).all(|strides| matches!(strides.channel, 0 | 1))
        && lowering.constant_value(lowering.graph.operands(id)[1]).is_some()
}

/// Lowers a convolution whose direct sums would be `direct`.
pub(super) fn lower(lowering: &mut Lowering<'_>, candidate: &Candidate<'_>, direct: &ContractionSpec) {
    let Candidate { id, element, window, pads, input, output, image, result, epilogue, axes, .. } = *candidate;
    let (images, depth, channels) = (image.extents[0], image.extents[1], result.extents[1]);
    let extents = [window.height, window.width];
    let further = further_views(lowering, id);
    let operands: Vec<Strides> = further.iter().map(image_strides).collect();
    let to_images = |strides: Strides| Strides { batch: vec![strides.batch[0]], ..strides };
    let whole = result.strides(output.lead, 1);
    let Some(weights) = lowering.constant_value(lowering.graph.operands(id)[1]) else { return };
    // A GPU would have a dispatch for each region.
    let tiling = Tiling { images, extents, axes, whole: lowering.options.processor == Processor::Gpu };
    let numbers = tiling.numbers() * element.bytes();
    let storages = [depth, channels].map(|channels| lowering.untyped((numbers * channels) as usize));

    let spec = WinogradInput {
        element,
        tiling,
        extents: [window.input_height, window.input_width],
        pads: [pads[0], pads[1]],
        channels: depth,
        input: to_images(image.strides(input.lead, 1)),
    };
    let steps = vec![operand(input, Access::Read), lowering.whole(storages[0], Access::Write)];
    lowering.push(id, KernelSource::WinogradInput(spec), steps, Call::default());
    Products { id, element, tiling, storages, depth, channels }.lower(lowering, &Weights::of(weights), direct);
    let spec = WinogradOutput {
        element,
        tiling,
        channels,
        output: to_images(whole),
        operands: operands.into_iter().map(to_images).collect(),
        epilogue: epilogue.clone(),
    };
    let mut steps = vec![lowering.whole(storages[1], Access::Read), operand(output, Access::Write)];
    steps.extend(further.iter().map(|view| operand(view, Access::Read)));
    lowering.push(id, KernelSource::WinogradOutput(spec), steps, Call::default());
}

impl Products {
    fn lower(&self, lowering: &mut Lowering<'_>, weights: &Weights<'_>, direct: &ContractionSpec) {
        if !lowering.options.constants_may_grow {
            // Whole tiles are one region.
            for region in self.tiling.regions() {
                let spec = self.spec(&region);
                let packed = winograd_weights::transform(lowering, self.id, self.tiling.axes, weights, [direct, &spec]);
                self.of_region(lowering, &region, spec, packed);
            }
            return;
        }
        let taps = self.tiling.taps() as usize;
        let transform = WeightTransform::of(self.tiling.axes);
        let mut filter = vec![0.0; taps];
        // Output channel, input channel, row and column of points.
        let mut matrices: Vec<f32> = Vec::new();
        for place in 0..(self.channels * self.depth) as usize {
            filter.iter_mut().enumerate().for_each(|(tap, to)| *to = f64::from(weights.at(place * taps + tap)));
            transform.append(&filter, &mut matrices);
        }
        for region in self.tiling.regions() {
            let spec = self.spec(&region);
            let (all, depth, columns) = (self.tiling.axes.map(|axis| axis.points), self.depth, region.points[1]);
            let packed = pack(lowering, &spec, &Weights::Numbers(&matrices), |matrix, _, k, n| {
                let (row, column) = (region.first[0] + matrix / columns, region.first[1] + matrix % columns);
                ((n * depth + k) * all[0] * all[1] + row * all[1] + column) as usize
            });
            self.of_region(lowering, &region, spec, packed);
        }
    }

    /// `sums[point][tile][n] = numbers[point][tile][k] * weights[point][k][n]`.
    fn spec(&self, region: &Region) -> ContractionSpec {
        let Products { element, depth, channels, .. } = *self;
        let [rows, columns] = region.points;
        let strides = |channels: i64| Strides {
            batch: vec![columns * region.rows * channels, region.rows * channels],
            row: region.rows * channels,
            column: channels,
            channel: 1,
            ..Strides::default()
        };
        ContractionSpec {
            element,
            batch: vec![rows, columns],
            window: Window::matrix(region.rows),
            depth,
            channels,
            input: strides(depth),
            reading: None,
            symmetric_weights: false,
            weight_batch: vec![columns, 1],
            output: strides(channels),
            operands: Vec::new(),
            epilogue: element.plain_epilogue(),
        }
    }

    fn of_region(&self, lowering: &mut Lowering<'_>, region: &Region, spec: ContractionSpec, packed: Operand) {
        let Products { id, element, tiling, storages, depth, channels } = *self;
        let part = |storage: StorageId, channels: i64, access: Access| Operand {
            storage,
            offset: (region.before * channels * element.bytes()) as usize,
            length: (region.numbers() * channels * element.bytes()) as usize,
            access,
        };
        let operands = vec![part(storages[0], depth, Access::Read), packed, part(storages[1], channels, Access::Write)];
        // Each region stands for its part of the model's multiply-adds.
        let macs = tiling.images * tiling.extents[0] * tiling.extents[1] * tiling.taps() * depth * channels;
        let macs = (macs as f64 * region.numbers() as f64 / tiling.numbers() as f64) as u64;
        contract_with_macs(lowering, id, spec, operands, macs);
    }
}
