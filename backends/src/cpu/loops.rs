//! Emission of loop nests.
//!
//! Cranelift leaves code in the order in which it is written, so that addresses are taken apart here: every access of a
//! loop's body is a pointer that is computed before the loop, plus a multiple of the loop variable, as long as its index is
//! linear in the variable and reads no inner variable.

mod access;
mod body;
mod memory;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};
use edgecc_ir::{BinaryOp, DType, Scalar};

use memory::{LANES, Memory};

use super::contraction::EmittedKernel;
use super::expr::{Shared, Width, emit_constant, emit_items, fits_lanes, has_lanes, machine_type};
use super::function::{EmitError, KernelParameters, compile_kernel, constant, operand_base};
use super::isa::{Architecture, CpuTarget};
use crate::contraction::Footprint;
use crate::kernel::{Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value as KernelValue, Var};

/// Emits a loop nest.
pub fn emit(target: &CpuTarget, name: &str, kernel: &LoopKernel) -> Result<EmittedKernel, EmitError> {
    let code = compile_kernel(target, name, |b, parameters| {
        let mut emitter = Emitter::new(b, target.architecture, kernel, parameters);
        emitter.range(parameters)
    })
    .map_err(|error| named(error, name))?;
    let footprints =
        kernel.buffers.iter().map(|buffer| Footprint::leading((buffer.elements * buffer.dtype.size()) as i64));
    Ok(EmittedKernel { code, units: kernel.range as i64, footprints: footprints.collect() })
}

/// The expression emitter does not know whose expression it is.
fn named(error: EmitError, name: &str) -> EmitError {
    match error {
        EmitError::Unsupported { reason, .. } => EmitError::Unsupported { kernel: name.into(), reason },
        other => other,
    }
}

/// A local as it stands.
#[derive(Clone, Copy)]
struct LocalState {
    variable: Variable,
    width: Width,
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
    /// The variable that runs in lanes, if one does.
    lane_var: Option<Var>,
    /// Pointers of accesses, computed before the innermost loop around them.
    hoisted: Vec<access::Hoisted>,
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
            lane_var: None,
            hoisted: Vec::new(),
        }
    }

    /// The kernel's outermost loop: variable 0 over the call's part of the range.
    fn range(&mut self, parameters: KernelParameters) -> Result<(), EmitError> {
        let body = &self.kernel.body;
        self.counted(Var(0), parameters.begin, parameters.end, 1, body)
    }

    /// `for var in (begin..end).step_by(step)`.
    fn counted(&mut self, var: Var, begin: Value, end: Value, step: i64, body: &[Stmt]) -> Result<(), EmitError> {
        let kept = self.hoisted.len();
        if is_innermost(body) {
            self.hoist(var, body);
        }
        let counter = self.b.declare_var(types::I64);
        self.b.def_var(counter, begin);
        let (head, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let at = self.b.use_var(counter);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, at, end);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        let outer = self.vars[var.0 as usize].replace(at);
        self.statements(body)?;
        let next = self.b.ins().iadd_imm_s(at, step);
        self.b.def_var(counter, next);
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(exit);
        self.vars[var.0 as usize] = outer;
        self.hoisted.truncate(kept);
        Ok(())
    }

    fn statements(&mut self, body: &[Stmt]) -> Result<(), EmitError> {
        body.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Stmt) -> Result<(), EmitError> {
        match statement {
            Stmt::For { var, begin, end, mode, body } => self.looped(*var, begin, end, mode, body),
            Stmt::Set { local, value } => self.set(*local, value),
            Stmt::Store { buffer, index, local } => self.store(*buffer, index, *local),
        }
    }

    fn looped(
        &mut self,
        var: Var,
        begin: &Index,
        end: &Index,
        mode: &LoopMode,
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let folds: &[Fold] = match mode {
            LoopMode::Serial => &[],
            LoopMode::Lanes => &[],
            LoopMode::Fold(folds) => folds,
        };
        let extent = match (mode, begin, end) {
            (LoopMode::Lanes | LoopMode::Fold(_), Index::Constant(0), Index::Constant(extent)) => *extent,
            _ => 0,
        };
        let (from, to) = (self.index(begin), self.index(end));
        if extent < LANES || self.lane_var.is_some() || !self.can_run_in_lanes(var, body, folds) {
            return self.counted(var, from, to, 1, body);
        }
        let whole = extent / LANES * LANES;
        let middle = constant(self.b, whole);
        self.in_lanes(var, from, middle, folds, body)?;
        if whole < extent { self.counted(var, middle, to, 1, body) } else { Ok(()) }
    }

    /// Four iterations at a time. Accumulators keep a partial result per lane and are joined behind the loop.
    fn in_lanes(&mut self, var: Var, from: Value, to: Value, folds: &[Fold], body: &[Stmt]) -> Result<(), EmitError> {
        let scalars = self.locals.clone();
        for fold in folds {
            let dtype = self.kernel.locals[fold.local.0 as usize];
            let mut shared = Shared::here(self.architecture);
            let neutral = emit_constant(self.b, &mut shared, neutral(fold.op, dtype), Width::Four);
            self.define(fold.local, neutral, Width::Four);
        }
        self.spread_reads(body, folds);
        self.lane_var = Some(var);
        self.counted(var, from, to, LANES, body)?;
        self.lane_var = None;
        let partial: Vec<Option<LocalState>> = std::mem::replace(&mut self.locals, scalars);
        for fold in folds {
            let place = fold.local.0 as usize;
            if let Some(lanes) = partial[place] {
                let vector = self.b.use_var(lanes.variable);
                self.join(fold, vector)?;
            }
        }
        Ok(())
    }

    /// `local = op(local, lane 0 + lane 1 + ..)`, pairs first.
    fn join(&mut self, fold: &Fold, vector: Value) -> Result<(), EmitError> {
        let dtype = self.kernel.locals[fold.local.0 as usize];
        let [a, b, c, d] = [0u8, 1, 2, 3].map(|lane| self.b.ins().extractlane(vector, lane));
        let left = self.combine(fold.op, dtype, a, b)?;
        let right = self.combine(fold.op, dtype, c, d)?;
        let joined = self.combine(fold.op, dtype, left, right)?;
        let before = self.read(fold.local)?;
        let after = self.combine(fold.op, dtype, before, joined)?;
        self.define(fold.local, after, Width::One);
        Ok(())
    }

    /// Locals that the body reads but does not set first become four equal lanes before the loop.
    fn spread_reads(&mut self, body: &[Stmt], folds: &[Fold]) {
        for local in body::reads_from_outside(body) {
            let is_fold = folds.iter().any(|fold| fold.local == local);
            if let (false, Some(state)) = (is_fold, self.locals[local.0 as usize]) {
                if state.width == Width::One {
                    let scalar = self.b.use_var(state.variable);
                    let dtype = self.kernel.locals[local.0 as usize];
                    let mut shared = Shared::here(self.architecture);
                    let vector = Memory { b: self.b, shared: &mut shared, dtype }.spread(scalar);
                    self.define(local, vector, Width::Four);
                }
            }
        }
    }

    /// Whether the whole body can be emitted four lanes wide.
    fn can_run_in_lanes(&self, var: Var, body: &[Stmt], folds: &[Fold]) -> bool {
        let known = |op: BinaryOp| matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min);
        let touched = body::touched(body);
        folds.iter().all(|fold| known(fold.op) && self.kernel.locals[fold.local.0 as usize] == DType::F32)
            && body.iter().all(|statement| self.fits(var, statement, &touched))
            && body::reads_from_outside(body).into_iter().all(|local| has_lanes(self.kernel.locals[local.0 as usize]))
    }

    fn fits(&self, var: Var, statement: &Stmt, touched: &[Local]) -> bool {
        match statement {
            Stmt::For { begin, end, mode, body, .. } => {
                *mode == LoopMode::Serial
                    && !access::mentions(begin, var)
                    && !access::mentions(end, var)
                    && !access::reads_local(begin)
                    && !access::reads_local(end)
                    && body.iter().all(|inner| self.fits(var, inner, touched))
            }
            Stmt::Set { local, value } => {
                let dtype = self.kernel.locals[local.0 as usize];
                has_lanes(dtype)
                    && match value {
                        KernelValue::Load { index, .. } => access::is_lane_linear(index, var, touched),
                        KernelValue::Index(_) => false,
                        KernelValue::Apply { expr, .. } => fits_lanes(expr),
                    }
            }
            Stmt::Store { index, local, .. } => {
                has_lanes(self.kernel.locals[local.0 as usize]) && access::is_lane_linear(index, var, touched)
            }
        }
    }

    fn combine(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Result<Value, EmitError> {
        let mut expr = edgecc_ir::Expr::new();
        let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
        let root = expr.binary(op, a, b);
        let mut shared = Shared::here(self.architecture);
        Ok(emit_items(self.b, &mut shared, &expr.with_root(root), &[&[x], &[y]], Width::One)?[0])
    }

    /// The width of values at this place.
    fn width(&self) -> Width {
        if self.lane_var.is_some() { Width::Four } else { Width::One }
    }

    fn define(&mut self, local: Local, value: Value, width: Width) {
        let dtype = self.kernel.locals[local.0 as usize];
        let place = &mut self.locals[local.0 as usize];
        let state = match *place {
            Some(state) if state.width == width => state,
            _ => LocalState { variable: self.b.declare_var(machine_type(dtype, width)), width },
        };
        *place = Some(state);
        self.b.def_var(state.variable, value);
    }

    fn read(&mut self, local: Local) -> Result<Value, EmitError> {
        match self.locals[local.0 as usize] {
            Some(state) => Ok(self.b.use_var(state.variable)),
            None => Err(EmitError::Unsupported {
                kernel: String::new(),
                reason: format!("{local:?} is read before it is set"),
            }),
        }
    }
}

/// No loop inside.
fn is_innermost(body: &[Stmt]) -> bool {
    body.iter().all(|statement| !matches!(statement, Stmt::For { .. }))
}

/// The value that leaves any other as it is.
fn neutral(op: BinaryOp, dtype: DType) -> Scalar {
    let value = match op {
        BinaryOp::Mul => 1.0,
        BinaryOp::Max => f64::NEG_INFINITY,
        BinaryOp::Min => f64::INFINITY,
        _ => 0.0,
    };
    Scalar::from_f64(dtype, value)
}
