//! Loops in lanes: several vectors of four iterations side by side, then what is left.

use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::Value;
use edgecc_ir::{BinaryOp, DType, Expr, Scalar};

use super::{Emitter, Lanes, LocalState, body};
use crate::cpu::expr::{Width, emit_constant, emit_items, fits_lanes, has_lanes, machine_type};
use crate::cpu::function::EmitError;
use crate::cpu::memory::{LANES, Memory};
use crate::kernel::linear::{Linear, mentions, reads_any, reads_local};
use crate::kernel::{Fold, Index, Local, LoopMode, Stmt, Value as KernelValue, Var};

impl Emitter<'_, '_> {
    /// Runs iterations `begin..end` in lanes, as far as they fill vectors, and the others one by one.
    pub(super) fn in_lanes(
        &mut self,
        var: Var,
        (begin, end): (i64, i64),
        folds: &[Fold],
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        let vectors = (end - begin) / LANES;
        let items = body::side_by_side(body).min(vectors as usize);
        let (rounds, rest) = (vectors / items as i64, vectors as usize % items);
        let scalars = self.locals.clone();
        self.start_folds(folds, items);
        self.spread_reads(body, folds);
        let step = items as i64 * LANES;
        self.group(var, items, (begin, rounds, step), body)?;
        self.group(var, rest, (begin + rounds * step, i64::from(rest > 0), rest as i64 * LANES), body)?;
        let partial = std::mem::replace(&mut self.locals, scalars);
        for fold in folds {
            if let Some(lanes) = &partial[fold.local.0 as usize] {
                let vectors = lanes.variables.iter().map(|&variable| self.b.use_var(variable)).collect();
                self.join(fold, vectors)?;
            }
        }
        let last = begin + vectors * LANES;
        let extent = self.known_extent(last, end - last, 1);
        self.counted(var, extent, body)
    }

    /// Rounds of `items` vectors side by side.
    fn group(
        &mut self,
        var: Var,
        items: usize,
        (begin, rounds, step): (i64, i64, i64),
        body: &[Stmt],
    ) -> Result<(), EmitError> {
        if rounds == 0 {
            return Ok(());
        }
        let extent = self.known_extent(begin, rounds, step);
        self.lanes = Some(Lanes { var, items });
        self.counted(var, extent, body)?;
        self.lanes = None;
        Ok(())
    }

    /// Gives each accumulator a partial result per vector.
    fn start_folds(&mut self, folds: &[Fold], items: usize) {
        for fold in folds {
            let dtype = self.kernel.locals[fold.local.0 as usize];
            let start = emit_constant(self.b, &mut self.shared, neutral(fold.op, dtype), Width::Four);
            self.define(fold.local, &vec![start; items], Width::Four);
        }
    }

    /// `local = op(local, lanes)`: vectors are joined in pairs, and so are the lanes of the last one.
    fn join(&mut self, fold: &Fold, vectors: Vec<Value>) -> Result<(), EmitError> {
        let dtype = self.kernel.locals[fold.local.0 as usize];
        let vector = self.join_pairs(fold.op, dtype, vectors, Width::Four)?;
        let lanes = (0..LANES as u8).map(|lane| {
            let value = self.b.ins().extractlane(vector, lane);
            Memory { b: self.b, shared: &mut self.shared, dtype }.element_of(value)
        });
        let lanes = lanes.collect();
        let joined = self.join_pairs(fold.op, dtype, lanes, Width::One)?;
        let before = self.read(fold.local)?[0];
        let after = self.combine(fold.op, dtype, before, joined, Width::One)?;
        self.define(fold.local, &[after], Width::One);
        Ok(())
    }

    fn join_pairs(
        &mut self,
        op: BinaryOp,
        dtype: DType,
        mut values: Vec<Value>,
        width: Width,
    ) -> Result<Value, EmitError> {
        while values.len() > 1 {
            let pairs = values.chunks(2).map(|pair| match *pair {
                [x, y] => self.combine(op, dtype, x, y, width),
                _ => Ok(pair[0]),
            });
            values = pairs.collect::<Result<_, _>>()?;
        }
        Ok(values[0])
    }

    fn combine(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value, width: Width) -> Result<Value, EmitError> {
        let mut expr = Expr::new();
        let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
        let root = expr.binary(op, a, b);
        let values = emit_items(self.b, &mut self.shared, &expr.with_root(root), &[&[x], &[y]], width)?;
        Ok(values[0])
    }

    /// Locals that the body reads but does not set first become four equal lanes before the loop.
    fn spread_reads(&mut self, body: &[Stmt], folds: &[Fold]) {
        for local in body::reads_from_outside(body) {
            let is_fold = folds.iter().any(|fold| fold.local == local);
            let scalar = self.locals[local.0 as usize].as_ref().filter(|state| state.width == Width::One);
            let Some(variable) = scalar.map(|state| state.variables[0]).filter(|_| !is_fold) else { continue };
            let dtype = self.kernel.locals[local.0 as usize];
            let scalar = self.b.use_var(variable);
            let vector = Memory { b: self.b, shared: &mut self.shared, dtype }.spread(scalar);
            let variable = self.b.declare_var(machine_type(dtype, Width::Four));
            self.b.def_var(variable, vector);
            self.locals[local.0 as usize] = Some(LocalState { variables: vec![variable], width: Width::Four });
        }
    }

    /// Whether the whole body can be emitted four lanes wide.
    pub(super) fn can_run_in_lanes(&self, var: Var, body: &[Stmt], folds: &[Fold]) -> bool {
        let has_lanes_of = |local: Local| has_lanes(self.kernel.locals[local.0 as usize]);
        let touched = body::touched(body);
        folds.iter().all(|fold| has_lanes_of(fold.local))
            && body.iter().all(|statement| self.fits(var, statement, &touched))
            && body::reads_from_outside(body).into_iter().all(has_lanes_of)
    }

    fn fits(&self, var: Var, statement: &Stmt, touched: &[Local]) -> bool {
        let is_even = |index: &Index| Linear::of(index).factor(var).is_some() && !reads_any(index, touched);
        match statement {
            Stmt::For { begin, end, mode, body, .. } => {
                let is_same = |bound: &Index| !mentions(bound, var) && !reads_local(bound);
                *mode == LoopMode::Serial
                    && is_same(begin)
                    && is_same(end)
                    && body.iter().all(|inner| self.fits(var, inner, touched))
            }
            Stmt::Set { local, value } => {
                has_lanes(self.kernel.locals[local.0 as usize])
                    && match value {
                        KernelValue::Load { index, .. } => is_even(index),
                        KernelValue::Index(_) => false,
                        KernelValue::Apply { expr, .. } => fits_lanes(expr),
                    }
            }
            Stmt::Store { index, local, .. } => has_lanes(self.kernel.locals[local.0 as usize]) && is_even(index),
        }
    }
}

/// The value that leaves any other as it is.
fn neutral(op: BinaryOp, dtype: DType) -> Scalar {
    match op {
        BinaryOp::Mul => Scalar::from_f64(dtype, 1.0),
        BinaryOp::Max => Scalar::from_f64(dtype, f64::NEG_INFINITY),
        BinaryOp::Min => Scalar::from_f64(dtype, f64::INFINITY),
        BinaryOp::And if dtype == DType::Bool => Scalar::bool(true),
        BinaryOp::And => Scalar::from_bits(dtype, u64::MAX),
        _ => Scalar::from_bits(dtype, 0),
    }
}
