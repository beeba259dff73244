//! Emission of loop nests.

mod address;
mod body;
mod counted;
mod expand;
mod lanes;

use cranelift_codegen::ir::Value;
use cranelift_frontend::{FunctionBuilder, Variable};

use super::memory::{LANES, Memory};
use address::Pointer;
pub(crate) use body::operations;
use counted::Extent;

use super::a64;
use super::contraction::EmittedKernel;
use super::expr::{Shared, Width, emit_items, machine_type};
use super::function::{EmitError, KernelParameters, compile_kernel, operand_base};
use super::isa::{Architecture, CpuTarget};
use crate::contraction::Footprint;
use crate::kernel::linear::Linear;
use crate::kernel::{BufferType, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value as KernelValue, Var, check};

/// Emits a loop nest. Fails on one that [`check`] refuses.
pub fn emit(target: &CpuTarget, name: &str, kernel: &LoopKernel) -> Result<EmittedKernel, EmitError> {
    check(kernel).map_err(|error| EmitError::Kernel { kernel: name.into(), error })?;
    let bytes = |buffer: &BufferType| Footprint::leading((buffer.elements * buffer.dtype.size()) as i64);
    let footprints: Vec<Footprint> = kernel.buffers.iter().map(bytes).collect();
    if target.encodes_a64()
        && let Some(kernel) = a64::emit_permutation(target, kernel, footprints.clone())
    {
        return Ok(kernel);
    }
    if target.encodes_a64()
        && let Some(kernel) = a64::emit_nest(target, kernel, footprints.clone())
    {
        return Ok(kernel);
    }
    let body = expand::expanded(&kernel.body, false);
    let code = compile_kernel(target, name, |b, parameters| {
        let mut emitter = Emitter::new(b, target.architecture, kernel, parameters);
        let extent = Extent { begin: parameters.begin, end: parameters.end, step: 1, count: None };
        emitter.counted(Var(0), extent, &body)
    })
    .map_err(|error| named(error, name))?;
    Ok(EmittedKernel::new(code, kernel.range as i64, footprints))
}

/// The expression emitter does not know whose expression it is.
fn named(error: EmitError, name: &str) -> EmitError {
    match error {
        EmitError::Unsupported { reason, .. } => EmitError::Unsupported { kernel: name.into(), reason },
        other => other,
    }
}

/// A local as it stands: one value, or one for each vector that goes through a loop side by side.
#[derive(Clone)]
struct LocalState {
    variables: Vec<Variable>,
    width: Width,
}

/// The loop that runs in lanes.
#[derive(Clone, Copy)]
struct Lanes {
    var: Var,
    /// Vectors side by side.
    items: usize,
}

/// The state of emitting one kernel.
struct Emitter<'a, 'b> {
    b: &'a mut FunctionBuilder<'b>,
    architecture: Architecture,
    kernel: &'a LoopKernel,
    args: Value,
    bases: Vec<Value>,
    vars: Vec<Option<Value>>,
    locals: Vec<Option<LocalState>>,
    lanes: Option<Lanes>,
    /// The loops around, outermost first, with their pointers.
    loops: Vec<(Var, Vec<Pointer>)>,
    shared: Shared,
}

impl<'a, 'b> Emitter<'a, 'b> {
    fn new(
        b: &'a mut FunctionBuilder<'b>,
        architecture: Architecture,
        kernel: &'a LoopKernel,
        parameters: KernelParameters,
    ) -> Self {
        let bases = (0..kernel.buffers.len()).map(|index| operand_base(b, parameters.bases, index)).collect();
        Emitter {
            b,
            architecture,
            kernel,
            args: parameters.args,
            bases,
            vars: vec![None; kernel.vars as usize],
            locals: vec![None; kernel.locals.len()],
            lanes: None,
            loops: Vec::new(),
            shared: Shared::here(architecture),
        }
    }

    fn statements(&mut self, body: &[Stmt]) -> Result<(), EmitError> {
        body.iter().try_for_each(|statement| match statement {
            Stmt::For { var, begin, end, mode, body } => self.looped(*var, begin, end, mode, body),
            Stmt::Set { local, value } => self.set(*local, value),
            Stmt::Store { buffer, index, local } => self.store(*buffer, index, *local),
        })
    }

    fn looped(
        &mut self,
        var: Var,
        begin: &Index,
        end: &Index,
        mode: &LoopMode,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let folds: Option<&[Fold]> = match mode {
            LoopMode::Serial => None,
            LoopMode::Lanes => Some(&[]),
            LoopMode::Fold(folds) => Some(folds),
        };
        if let (Index::Constant(begin), Index::Constant(end)) = (begin, end) {
            let folds = folds.filter(|folds| {
                *end - *begin >= LANES && self.lanes.is_none() && self.can_run_in_lanes(var, body, folds)
            });
            if let Some(folds) = folds {
                return self.in_lanes(var, (*begin, *end), folds, body);
            }
            let extent = self.known_extent(*begin, *end - *begin, 1);
            return self.counted(var, extent, body);
        }
        let (begin, end) = (self.index(begin), self.index(end));
        self.counted(var, Extent { begin, end, step: 1, count: None }, body)
    }

    fn set(&mut self, local: Local, value: &KernelValue) -> Result<(), EmitError> {
        let width = self.width();
        let values = match value {
            KernelValue::Load { buffer, index } => self.load(*buffer, index),
            KernelValue::Index(index) => vec![self.index(index)],
            KernelValue::Apply { expr, arguments } => {
                let arguments = arguments.iter().map(|&argument| self.read(argument)).collect::<Result<Vec<_>, _>>()?;
                let arguments: Vec<&[Value]> = arguments.iter().map(Vec::as_slice).collect();
                emit_items(self.b, &mut self.shared, expr, &arguments, width)?
            }
        };
        let values = if values.len() == 1 { vec![values[0]; self.items()] } else { values };
        self.define(local, &values, width);
        Ok(())
    }

    /// Loads an element, or four for each vector.
    fn load(&mut self, buffer: usize, index: &Index) -> Vec<Value> {
        let (address, at) = self.address(buffer, index);
        let (width, distance, items) = (self.width(), self.lane_distance(index), self.items());
        let mut memory = Memory { b: self.b, shared: &mut self.shared, dtype: self.kernel.buffers[buffer].dtype };
        let bytes = LANES * distance * memory.dtype.size() as i64;
        match (width, distance) {
            (Width::One, _) => vec![memory.load(address, at)],
            (Width::Four, 0) => vec![memory.load_lanes(address, at, 0)],
            (Width::Four, _) => {
                (0..items as i64).map(|item| memory.load_lanes(address, at + item * bytes, distance)).collect()
            }
        }
    }

    fn store(&mut self, buffer: usize, index: &Index, local: Local) -> Result<(), EmitError> {
        let values = self.read(local)?;
        let (address, at) = self.address(buffer, index);
        let (width, distance, items) = (self.width(), self.lane_distance(index), self.items());
        let mut memory = Memory { b: self.b, shared: &mut self.shared, dtype: self.kernel.buffers[buffer].dtype };
        let bytes = LANES * distance * memory.dtype.size() as i64;
        match width {
            Width::One => memory.store(values[0], address, at),
            Width::Four => {
                for (item, &value) in values.iter().cycle().take(items).enumerate() {
                    memory.store_lanes(value, address, at + item as i64 * bytes, distance);
                }
            }
        }
        Ok(())
    }

    /// Elements between neighbouring lanes.
    fn lane_distance(&self, index: &Index) -> i64 {
        self.lanes.and_then(|lanes| Linear::of(index).factor(lanes.var)).unwrap_or(0)
    }

    /// The width of values at this place.
    fn width(&self) -> Width {
        if self.lanes.is_some() { Width::Four } else { Width::One }
    }

    /// Values side by side at this place.
    fn items(&self) -> usize {
        self.lanes.map_or(1, |lanes| lanes.items)
    }

    fn define(&mut self, local: Local, values: &[Value], width: Width) {
        let kind = machine_type(self.kernel.locals[local.0 as usize], width);
        let known = self.locals[local.0 as usize].take();
        let state = known.filter(|state| state.width == width && state.variables.len() >= values.len());
        let state = state.unwrap_or_else(|| {
            let variables = values.iter().map(|_| self.b.declare_var(kind)).collect();
            LocalState { variables, width }
        });
        for (&variable, &value) in state.variables.iter().zip(values) {
            self.b.def_var(variable, value);
        }
        self.locals[local.0 as usize] = Some(state);
    }

    /// The values of a local: one, or one per vector.
    fn read(&mut self, local: Local) -> Result<Vec<Value>, EmitError> {
        let items = self.items();
        match &self.locals[local.0 as usize] {
            Some(state) => Ok(state.variables.iter().take(items).map(|&variable| self.b.use_var(variable)).collect()),
            None => Err(EmitError::Unsupported {
                kernel: String::new(),
                reason: format!("{local:?} is read before it is set"),
            }),
        }
    }
}
