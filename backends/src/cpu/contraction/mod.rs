//! Emission of contractions. Operands of a kernel, in order: 0 input, 1 packed weights, 2 output, 3.. the further operands
//! of the epilogue, and last, where [`TapTable::is_read`], the tap table.

mod depth;
mod depthwise;
mod elements;
mod epilogue;
pub(super) mod geometry;
mod nest;
mod pack;
mod pixels;
mod products;
mod tile;
mod winograd;

pub(crate) use depthwise::depthwise_unit_rows;
pub use depthwise::{emit_depthwise, pack_depthwise};
pub(super) use nest::split;
pub use pack::emit_pack;
pub use winograd::{emit_winograd_input, emit_winograd_output};

use crate::contraction::{ContractionSpec, Element, Footprint, input_footprint, pixel_footprint};
use crate::pack::{PackedLayout, TapTable};
use crate::schedule::Schedule;

use super::a64;
use super::expr::fits_lanes;
use super::function::{EmitError, FunctionCode, compile_kernel};
use super::isa::{CpuTarget, Kernels};
use super::x64;

/// Operand numbers of contraction kernels.
pub(crate) mod operand {
    pub const INPUT: usize = 0;
    pub const WEIGHTS: usize = 1;
    pub const OUTPUT: usize = 2;
    pub const FURTHER: usize = 3;
}

/// A kernel's code and what it may touch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmittedKernel {
    /// Machine code without relocations.
    pub code: Vec<u8>,
    /// The text that the target asks for.
    pub listing: String,
    /// Whether our own encoder wrote it.
    pub encoded: bool,
    /// Length of the parallel range.
    pub units: i64,
    /// The bytes that it may touch, per operand.
    pub footprints: Vec<Footprint>,
}

impl EmittedKernel {
    pub(super) fn new(code: FunctionCode, units: i64, footprints: Vec<Footprint>) -> Self {
        EmittedKernel { code: code.bytes, listing: code.listing, encoded: code.encoded, units, footprints }
    }
}

/// Emits a contraction with weights packed as [`PackedLayout::of`] says.
pub fn emit_contraction(
    target: &CpuTarget,
    name: &str,
    spec: &ContractionSpec,
    schedule: &Schedule,
) -> Result<EmittedKernel, EmitError> {
    check(name, spec)?;
    let with_scratch = |layout: &PackedLayout| {
        let mut footprints = footprints(spec, layout);
        footprints.extend((schedule.packs_rows).then(|| Footprint::leading(schedule.scratch(spec) as i64)));
        footprints
    };
    let encoded = if target.encodes_a64_of(spec.element) {
        a64::emit_contraction(target, spec, schedule, with_scratch)
    } else if target.encodes_x64() {
        x64::emit_contraction(target, spec, schedule, with_scratch)
    } else {
        None
    };
    if let Some(kernel) = encoded {
        return Ok(kernel);
    }
    let schedule = match (spec.element, target.kernels) {
        (Element::F32 | Element::F16, Kernels::Clif) => *schedule,
        (Element::I8, _) | (_, Kernels::Encoded) => schedule.of_clif(target.architecture, spec.element),
    };
    let nest = nest::Nest::new(spec, &schedule, target.architecture);
    let code = compile_kernel(target, name, |b, parameters| nest.emit(b, parameters))?;
    Ok(EmittedKernel::new(code, nest.units(), footprints(spec, &nest.layout)))
}

fn check(name: &str, spec: &ContractionSpec) -> Result<(), EmitError> {
    let refuse = |reason: &str| Err(EmitError::Unsupported { kernel: name.to_owned(), reason: reason.to_owned() });
    let strides = || [&spec.input, &spec.output].into_iter().chain(&spec.operands);
    if spec.input.channel != 1 {
        return refuse("the input's channels must be neighbours");
    }
    if strides().any(|strides| strides.batch.len() != spec.batch.len()) || spec.weight_batch.len() != spec.batch.len() {
        return refuse("each operand has one stride per batch axis");
    }
    if spec.epilogue.arity() > spec.operands.len() + 1 {
        return refuse("the epilogue asks for more operands than there are");
    }
    if !fits_lanes(&spec.epilogue) {
        return refuse("the epilogue computes with at most 32 bits");
    }
    if spec.window.taps.is_empty() || spec.depth < 1 {
        return refuse("a contraction sums over at least one element");
    }
    if spec.window.step.iter().any(|&step| step < 1) {
        return refuse("the window's steps are positive");
    }
    Ok(())
}

fn footprints(spec: &ContractionSpec, layout: &PackedLayout) -> Vec<Footprint> {
    let ContractionSpec { batch, window, .. } = spec;
    let types = spec.types();
    let mut footprints = vec![
        input_footprint(types[operand::INPUT], &spec.input, batch, window, spec.depth),
        Footprint::leading(layout.bytes()),
        pixel_footprint(types[operand::OUTPUT], &spec.output, batch, window, spec.channels),
    ];
    let further = spec.operands.iter().zip(&types[operand::FURTHER..]);
    footprints.extend(further.map(|(strides, &dtype)| pixel_footprint(dtype, strides, batch, window, spec.channels)));
    if TapTable::is_read(spec) {
        footprints.push(Footprint::leading(TapTable::of(spec).bytes.len() as i64));
    }
    footprints
}
