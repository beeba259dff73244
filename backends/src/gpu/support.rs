//! What of a program a shader cannot compute. Programs are looked through whole before anything is emitted, so that a model
//! is refused by one complete list.

use std::collections::BTreeMap;

use edgecc_ir::{DType, Expr, ExprId, ExprNode};

use super::binding::{MOST_BINDINGS, fewest_bindings};
use super::expression;
use super::value::kind;
use crate::contraction::{DepthwiseSpec, Element, Reading};
use crate::kernel::{Local, LoopKernel, Stmt, Value};
use crate::lower::{LowerError, Refused};
use crate::program::{KernelSource, Operand, Program, Step, StorageKind};

/// Fails with every step that shaders cannot compute.
pub fn check(program: &Program) -> Result<(), LowerError> {
    let refuse = |step: &Step| {
        let what = kernel_refused(program, step).or_else(|| bindings_refused(program, step))?;
        Some(Refused { origin: step.origin.to_string(), op: step.name.clone(), what: format!("{what} in shaders") })
    };
    let refused: Vec<Refused> = program.steps.iter().filter_map(refuse).collect();
    if refused.is_empty() { Ok(()) } else { Err(LowerError(refused)) }
}

fn bindings_refused(program: &Program, step: &Step) -> Option<String> {
    let count = fewest_bindings(program, &step.operands);
    (count > MOST_BINDINGS).then(|| format!("over {count} tensors outside of the arena, more than {MOST_BINDINGS}"))
}

fn kernel_refused(program: &Program, step: &Step) -> Option<String> {
    let other = |element: Element| match element {
        Element::F32 | Element::F16 => None,
        Element::I8 => Some(format!("on {}", element.dtype())),
    };
    match &program.kernels[step.kernel] {
        KernelSource::Loops(kernel) => nest_refused(program, step, kernel),
        KernelSource::Contraction(spec, _) => {
            let reading = match &spec.reading {
                None => None,
                Some(Reading::Elements(elements)) => expression::refused(&elements.expr),
                Some(Reading::Depthwise(within)) => windows_refused(within),
            };
            reading.or_else(|| expression::refused(&spec.epilogue))
        }
        KernelSource::Depthwise(spec, _) => windows_refused(spec),
        KernelSource::Pack(_, layout) => other(layout.element),
        KernelSource::WinogradInput(spec) => other(spec.element),
        KernelSource::WinogradOutput(spec) => other(spec.element).or_else(|| expression::refused(&spec.epilogue)),
        KernelSource::BlockProduct(_) => Some("by dot products of digits".into()),
        KernelSource::Chain(_) => Some("by bands of rows".into()),
    }
}

fn windows_refused(spec: &DepthwiseSpec) -> Option<String> {
    expression::refused(&spec.epilogue).or_else(|| expression::refused(&spec.reading.as_ref()?.expr))
}

fn nest_refused(program: &Program, step: &Step, kernel: &LoopKernel) -> Option<String> {
    let strange = kernel.buffers.iter().map(|buffer| buffer.dtype).find(|&dtype| kind(dtype).is_none());
    let mut positions = Positions {
        locals: BTreeMap::new(),
        exact: step.operands.iter().map(|operand| fits_in_32_bits(program, operand)).collect(),
    };
    strange.map(|dtype| format!("on {dtype}")).or_else(|| positions.refused(kernel, &kernel.body))
}

/// Whether an operand of i64 is a constant whose every number is an i32.
fn fits_in_32_bits(program: &Program, operand: &Operand) -> bool {
    let StorageKind::Constant(bytes) = &program.storages[operand.storage.0 as usize].kind else { return false };
    let numbers = bytes.get(operand.offset..operand.offset + operand.length).unwrap_or(&[]).as_chunks().0;
    numbers.iter().all(|&number| i32::try_from(i64::from_le_bytes(number)).is_ok())
}

/// How an i64 that comes from memory relates to the i32 that stands for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stands {
    /// Saturated: it compares with smaller numbers as the i64 does.
    Saturated,
    /// A number added to it, or one of two such: it is in its place where the i64 is a position.
    Moved,
}

/// The i64 locals that come from memory. Clamping them to positions gives what clamping the i64 would; what else is computed
/// from them may not.
struct Positions {
    locals: BTreeMap<Local, Stands>,
    /// The buffers whose numbers all fit 32 bits.
    exact: Vec<bool>,
}

impl Positions {
    fn refused(&mut self, kernel: &LoopKernel, body: &[Stmt]) -> Option<String> {
        let no_position = || "on i64 that are no positions".to_string();
        body.iter().find_map(|statement| match statement {
            Stmt::For { body, .. } => self.refused(kernel, body),
            Stmt::Set { local, value: Value::Load { buffer, .. } } => {
                if kernel.buffers[*buffer].dtype == DType::I64 && !self.exact[*buffer] {
                    self.locals.insert(*local, Stands::Saturated);
                }
                None
            }
            Stmt::Set { value: Value::Index(_), .. } => None,
            Stmt::Set { local, value: Value::Apply { expr, arguments } } => {
                let result = self.result(expr, arguments);
                if let Ok(Some(stands)) = result {
                    self.locals.insert(*local, stands);
                }
                expression::refused(expr).or_else(|| result.is_err().then(no_position))
            }
            Stmt::Store { local, .. } => self.locals.contains_key(local).then(no_position),
        })
    }

    /// What the result of an expression is; an error where it makes other numbers of such i64 than positions and comparisons
    /// with numbers that do not come from memory.
    fn result(&self, expr: &Expr, arguments: &[Local]) -> Result<Option<Stands>, ()> {
        use edgecc_ir::BinaryOp::{Add, Equal, Less, LessEqual};
        let mut nodes: Vec<Option<Stands>> = Vec::with_capacity(expr.nodes().len());
        for node in expr.nodes() {
            let at = |id: ExprId| nodes[id.index()];
            let stands = match *node {
                ExprNode::Argument(n, _) => arguments.get(n as usize).and_then(|local| self.locals.get(local)).copied(),
                ExprNode::Constant(_) => None,
                // Sums of what is widened may leave 32 bits.
                ExprNode::Cast(DType::I64, a) if at(a).is_none() => Some(Stands::Saturated),
                ExprNode::Unary(_, a) | ExprNode::Cast(_, a) if at(a).is_some() => return Err(()),
                ExprNode::Unary(..) | ExprNode::Cast(..) => None,
                ExprNode::Select(_, a, b) => at(a).max(at(b)),
                ExprNode::Binary(op, a, b) => match (op, at(a).max(at(b)), at(a).min(at(b))) {
                    (_, None, _) => None,
                    (Add, Some(_), None) => Some(Stands::Moved),
                    (Less | LessEqual | Equal, Some(Stands::Saturated), None) => None,
                    (..) => return Err(()),
                },
            };
            nodes.push(stands);
        }
        Ok(nodes[expr.root().index()])
    }
}
