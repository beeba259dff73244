//! Packing of weights that are known only at run time: attention's keys and values, and products of activations. Operands
//! of the kernel: 0 the weights as they lie, 1 the packed weights. A unit of the range is one panel of one matrix.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

use crate::contraction::{Element, Footprint, RuntimeWeights, bounds, divide_up};
use crate::cpu::function::{
    EmitError, KernelParameters, branch, carried_loop, compile_kernel, constant, counted_loop, load, offset, scale,
    store,
};
use crate::cpu::isa::CpuTarget;
use crate::pack::PackedLayout;

use super::EmittedKernel;
use super::nest::{Unit, batch_offsets, split};

/// Emits the kernel that packs `weights` as `layout` says; padding becomes zero.
pub fn emit_pack(
    target: &CpuTarget,
    name: &str,
    weights: &RuntimeWeights,
    layout: &PackedLayout,
) -> Result<EmittedKernel, EmitError> {
    let matrices: i64 = weights.batch.iter().product();
    let fits = layout.element != Element::I8
        && layout.taps == 1
        && layout.matrices == matrices
        && weights.batch.len() == weights.batch_strides.len();
    if !fits || layout.depth < 1 {
        let reason =
            "run-time weights are of f32 or f16, have one tap, and as many matrices as their batch counts".to_owned();
        return Err(EmitError::Unsupported { kernel: name.to_owned(), reason });
    }
    let code = compile_kernel(target, name, |b, parameters| emit(b, parameters, weights, layout))?;
    let footprints = vec![footprint(weights, layout), Footprint::leading(layout.bytes())];
    Ok(EmittedKernel::new(code, matrices * layout.panels(), footprints))
}

fn footprint(weights: &RuntimeWeights, layout: &PackedLayout) -> Footprint {
    let matrices = weights.batch.iter().zip(&weights.batch_strides).map(|(&extent, &stride)| (extent - 1) * stride);
    let within = [(layout.depth - 1) * weights.depth_stride, (layout.channels - 1) * weights.channel_stride];
    bounds(layout.element.dtype(), weights.base, matrices.chain(within))
}

fn emit(
    b: &mut FunctionBuilder<'_>,
    parameters: KernelParameters,
    weights: &RuntimeWeights,
    layout: &PackedLayout,
) -> Result<(), EmitError> {
    counted_loop(b, parameters.begin, parameters.end, 1, |b, number| {
        let size = layout.element.bytes();
        let (matrix, panel) = split(b, number, layout.panels());
        let panel = panel.unwrap_or_else(|| constant(b, 0));
        let strides = weights.batch_strides.iter().map(|&stride| stride * size).collect();
        let moved = batch_offsets(b, matrix, &weights.batch, &[strides]);
        let unit = Unit::new(parameters.bases, moved);
        let source = unit.address(b, 0);
        let source = offset(b, source, weights.base * size);
        let first = scale(b, panel, layout.panel * weights.channel_stride * size);
        let source = b.ins().iadd(source, first);
        let packed = unit.address(b, 1);
        let to_matrix = scale(b, matrix, layout.matrix_elements() * size);
        let to_panel = scale(b, panel, layout.panel_elements() * size);
        let packed = b.ins().iadd(packed, to_matrix);
        let packed = b.ins().iadd(packed, to_panel);
        either_panel(b, weights, layout, panel, (source, packed));
        Ok(())
    })
}

/// A full panel, or the last one where it is narrower.
fn either_panel(
    b: &mut FunctionBuilder<'_>,
    weights: &RuntimeWeights,
    layout: &PackedLayout,
    panel: Value,
    addresses: (Value, Value),
) {
    let (full, last) = (layout.full_panels(), layout.last_channels());
    if full == 0 || last == 0 {
        let channels = if full == 0 { last } else { layout.panel };
        return copy_panel(b, weights, layout, channels, addresses);
    }
    let (whole, narrow, exit) = (b.create_block(), b.create_block(), b.create_block());
    let is_whole = b.ins().icmp_imm_s(IntCC::SignedLessThan, panel, full);
    branch(b, is_whole, whole, narrow);
    for (block, channels) in [(whole, layout.panel), (narrow, last)] {
        b.switch_to_block(block);
        copy_panel(b, weights, layout, channels, addresses);
        b.ins().jump(exit, &[]);
    }
    b.switch_to_block(exit);
}

/// One row of `channels` values per k.
fn copy_panel(
    b: &mut FunctionBuilder<'_>,
    weights: &RuntimeWeights,
    layout: &PackedLayout,
    channels: i64,
    (source, packed): (Value, Value),
) {
    let (size, lanes) = (layout.element.bytes(), layout.element.lanes());
    let width = divide_up(channels, lanes) * lanes;
    let one = match layout.element {
        Element::F32 => types::I32,
        Element::F16 => types::I16,
        Element::I8 => types::I8,
    };
    carried_loop(b, layout.depth, &[source, packed], |b, addresses| {
        let (from, to) = (addresses[0], addresses[1]);
        let vectors = if weights.channel_stride == 1 { channels / lanes } else { 0 };
        for vector in 0..vectors {
            let value = load(b, types::F32X4, from, vector * 16);
            store(b, value, to, (vector * 16) as i32);
        }
        for channel in vectors * lanes..channels {
            let value = load(b, one, from, channel * weights.channel_stride * size);
            store(b, value, to, (channel * size) as i32);
        }
        for channel in channels..width {
            let zero = b.ins().iconst(one, 0);
            store(b, zero, to, (channel * size) as i32);
        }
        vec![offset(b, from, weights.depth_stride * size), offset(b, to, width * size)]
    });
}
