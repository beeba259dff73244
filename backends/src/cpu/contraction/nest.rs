//! The loops around the register tile: units of the range, panels of weights, tiles of pixels.

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::DType;

use crate::contraction::{ContractionSpec, Strides, divide_up};
use crate::cpu::function::{EmitError, KernelParameters, branch, constant, counted_loop, offset, operand_base, scale};
use crate::cpu::isa::Architecture;
use crate::pack::{PackedLayout, TapTable};
use crate::schedule::{LANES, Schedule};

use super::operand;
use super::tile::{TileShape, emit_tile};

/// A contraction with everything that emission asks about it.
pub(super) struct Nest<'a> {
    pub spec: &'a ContractionSpec,
    pub schedule: &'a Schedule,
    pub architecture: Architecture,
    pub layout: PackedLayout,
    pub taps: TapTable,
}

/// One unit of the range while it runs: where each operand lies for its batch.
pub(super) struct Unit {
    pub bases: Value,
    /// Bytes to add to each operand's address; `None` where the batch does not move it.
    moved: Vec<Option<Value>>,
}

impl Unit {
    pub fn new(bases: Value, moved: Vec<Option<Value>>) -> Self {
        Unit { bases, moved }
    }

    /// The address of an operand for this unit's batch.
    pub fn address(&self, b: &mut FunctionBuilder<'_>, index: usize) -> Value {
        let base = operand_base(b, self.bases, index);
        match self.moved.get(index).copied().flatten() {
            Some(moved) => b.ins().iadd(base, moved),
            None => base,
        }
    }
}

impl<'a> Nest<'a> {
    pub fn new(spec: &'a ContractionSpec, schedule: &'a Schedule, architecture: Architecture) -> Self {
        let layout = PackedLayout::of(spec, schedule);
        Nest { spec, schedule, architecture, layout, taps: TapTable::of(spec) }
    }

    /// Length of the range: batches x blocks of pixels x blocks of panels.
    pub fn units(&self) -> i64 {
        self.spec.batch.iter().product::<i64>() * self.pixel_blocks() * self.panel_blocks()
    }

    /// The operand number of the tap table.
    pub fn table_operand(&self) -> usize {
        operand::FURTHER + self.spec.operands.len()
    }

    fn block_pixels(&self) -> i64 {
        self.schedule.tile.rows * self.schedule.block_tiles
    }

    fn pixel_blocks(&self) -> i64 {
        divide_up(self.spec.window.pixels(), self.block_pixels())
    }

    fn panel_blocks(&self) -> i64 {
        divide_up(self.layout.panels(), self.schedule.block_panels)
    }

    /// Emits the whole kernel.
    pub fn emit(&self, b: &mut FunctionBuilder<'_>, parameters: KernelParameters) -> Result<(), EmitError> {
        counted_loop(b, parameters.begin, parameters.end, 1, |b, unit| {
            let (rest, panel_block) = split(b, unit, self.panel_blocks());
            let (batch, pixel_block) = split(b, rest, self.pixel_blocks());
            let unit = Unit::new(parameters.bases, self.batch_offsets(b, batch));
            let first_panel = panel_block.map(|block| scale(b, block, self.schedule.block_panels));
            let first_pixel = pixel_block.map(|block| scale(b, block, self.block_pixels()));
            self.panels(b, &unit, first_panel, first_pixel)
        })
    }

    /// Bytes that each operand moves for a batch number.
    fn batch_offsets(&self, b: &mut FunctionBuilder<'_>, batch: Value) -> Vec<Option<Value>> {
        let weights = self.spec.weight_batch.iter().map(|&stride| stride * self.layout.matrix_elements());
        let image = |strides: &Strides| strides.batch.clone();
        let mut strides = vec![image(&self.spec.input), weights.collect(), image(&self.spec.output)];
        strides.extend(self.spec.operands.iter().map(image));
        batch_offsets(b, batch, &self.spec.batch, &in_bytes(strides, &self.spec.types()))
    }

    /// Full panels of the block, then the last narrower one where the block holds it.
    fn panels(
        &self,
        b: &mut FunctionBuilder<'_>,
        unit: &Unit,
        first: Option<Value>,
        first_pixel: Option<Value>,
    ) -> Result<(), EmitError> {
        let (full, size) = (self.layout.full_panels(), self.schedule.block_panels);
        let vectors = self.schedule.tile.vectors;
        if full > 0 {
            let (from, to) = block_range(b, first, size, full);
            counted_loop(b, from, to, 1, |b, panel| {
                let shape = TileShape { rows: 0, vectors, channels: self.layout.panel };
                self.tiles(b, unit, panel, shape, first_pixel)
            })?;
        }
        let channels = self.layout.last_channels();
        if channels == 0 {
            return Ok(());
        }
        when_block_reaches(b, first, size, full, |b| {
            let panel = constant(b, full);
            let shape = TileShape { rows: 0, vectors: self.layout.width(full) / LANES, channels };
            self.tiles(b, unit, panel, shape, first_pixel)
        })
    }

    /// Full tiles of the block, then the last smaller one where the block holds it.
    fn tiles(
        &self,
        b: &mut FunctionBuilder<'_>,
        unit: &Unit,
        panel: Value,
        shape: TileShape,
        first: Option<Value>,
    ) -> Result<(), EmitError> {
        let (pixels, rows) = (self.spec.window.pixels(), self.schedule.tile.rows);
        let full = pixels / rows * rows;
        if full > 0 {
            let (from, to) = block_range(b, first, self.block_pixels(), full);
            counted_loop(b, from, to, rows, |b, pixel| {
                emit_tile(self, b, unit, panel, pixel, TileShape { rows, ..shape })
            })?;
        }
        if full == pixels {
            return Ok(());
        }
        when_block_reaches(b, first, self.block_pixels(), full, |b| {
            let pixel = constant(b, full);
            emit_tile(self, b, unit, panel, pixel, TileShape { rows: pixels - full, ..shape })
        })
    }
}

/// `strides[operand][axis]` of operands of these types, from elements to bytes.
pub(super) fn in_bytes(strides: Vec<Vec<i64>>, types: &[DType]) -> Vec<Vec<i64>> {
    let pairs = strides.into_iter().zip(types);
    pairs.map(|(axes, dtype)| axes.into_iter().map(|stride| stride * dtype.size() as i64).collect()).collect()
}

/// Bytes that each operand moves for a number that counts the batch axes row-major; `strides[operand][axis]` in bytes.
pub(super) fn batch_offsets(
    b: &mut FunctionBuilder<'_>,
    batch: Value,
    extents: &[i64],
    strides: &[Vec<i64>],
) -> Vec<Option<Value>> {
    let mut moved = vec![None; strides.len()];
    let mut rest = batch;
    for (axis, &extent) in extents.iter().enumerate().rev() {
        let index = if axis == 0 { Some(rest) } else { take_axis(b, &mut rest, extent) };
        let Some(index) = index.filter(|_| extent > 1) else { continue };
        for (moved, strides) in moved.iter_mut().zip(strides).filter(|(_, strides)| strides[axis] != 0) {
            let bytes = scale(b, index, strides[axis]);
            *moved = Some(moved.map_or(bytes, |before| b.ins().iadd(before, bytes)));
        }
    }
    moved
}

fn take_axis(b: &mut FunctionBuilder<'_>, rest: &mut Value, extent: i64) -> Option<Value> {
    let (quotient, remainder) = split(b, *rest, extent);
    *rest = quotient;
    remainder
}

/// `(value / parts, value % parts)`; the remainder is `None` where there is one part.
pub(in crate::cpu) fn split(b: &mut FunctionBuilder<'_>, value: Value, parts: i64) -> (Value, Option<Value>) {
    if parts == 1 {
        return (value, None);
    }
    let divisor = constant(b, parts);
    let quotient = b.ins().udiv(value, divisor);
    let product = b.ins().imul(quotient, divisor);
    (quotient, Some(b.ins().isub(value, product)))
}

/// `first .. min(first + size, limit)`; a block that is `None` is the whole.
fn block_range(b: &mut FunctionBuilder<'_>, first: Option<Value>, size: i64, limit: i64) -> (Value, Value) {
    let limit = constant(b, limit);
    match first {
        None => (constant(b, 0), limit),
        Some(first) => {
            let end = offset(b, first, size);
            (first, b.ins().smin(end, limit))
        }
    }
}

/// Runs the body where `first + size > limit`.
fn when_block_reaches(
    b: &mut FunctionBuilder<'_>,
    first: Option<Value>,
    size: i64,
    limit: i64,
    body: impl FnOnce(&mut FunctionBuilder<'_>) -> Result<(), EmitError>,
) -> Result<(), EmitError> {
    let Some(first) = first else { return body(b) };
    let (then, exit) = (b.create_block(), b.create_block());
    let reaches = b.ins().icmp_imm_s(IntCC::SignedGreaterThan, first, limit - size);
    branch(b, reaches, then, exit);
    b.switch_to_block(then);
    body(b)?;
    b.ins().jump(exit, &[]);
    b.switch_to_block(exit);
    Ok(())
}
