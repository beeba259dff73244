//! What of a program a shader cannot compute. Programs are looked through whole before anything is emitted, so that a model
//! is refused by one complete list.

use std::collections::BTreeSet;

use edgecc_ir::{DType, Expr, ExprNode};

use super::binding::{MOST_BINDINGS, fewest_bindings};
use super::expression;
use super::value::kind;
use crate::contraction::Element;
use crate::kernel::{Local, LoopKernel, Stmt, Value};
use crate::lower::{LowerError, Refused};
use crate::program::{KernelSource, Program, Step};

/// Fails with every step that shaders cannot compute.
pub fn check(program: &Program) -> Result<(), LowerError> {
    let refuse = |step: &Step| {
        let what = kernel_refused(&program.kernels[step.kernel]).or_else(|| bindings_refused(program, step))?;
        Some(Refused { origin: step.origin.to_string(), op: step.name.clone(), what: format!("{what} in shaders") })
    };
    let refused: Vec<Refused> = program.steps.iter().filter_map(refuse).collect();
    if refused.is_empty() { Ok(()) } else { Err(LowerError(refused)) }
}

fn bindings_refused(program: &Program, step: &Step) -> Option<String> {
    let count = fewest_bindings(program, &step.operands);
    (count > MOST_BINDINGS).then(|| format!("over {count} tensors outside of the arena, more than {MOST_BINDINGS}"))
}

fn kernel_refused(source: &KernelSource) -> Option<String> {
    let halves = |element: Element| (element == Element::F16).then(|| "on f16".to_string());
    match source {
        KernelSource::Loops(kernel) => nest_refused(kernel),
        KernelSource::Contraction(spec, _) => halves(spec.element).or_else(|| expression::refused(&spec.epilogue)),
        KernelSource::Depthwise(spec, _) => halves(spec.element).or_else(|| expression::refused(&spec.epilogue)),
        KernelSource::Pack(_, layout) => halves(layout.element),
        KernelSource::WinogradInput(_) | KernelSource::WinogradOutput(_) => Some("by Winograd's transforms".into()),
        KernelSource::Chain(_) => Some("by bands of rows".into()),
    }
}

fn nest_refused(kernel: &LoopKernel) -> Option<String> {
    let strange = kernel.buffers.iter().map(|buffer| buffer.dtype).find(|&dtype| kind(dtype).is_none());
    strange.map(|dtype| format!("on {dtype}")).or_else(|| {
        let mut wide = BTreeSet::new();
        statements_refused(kernel, &kernel.body, &mut wide)
    })
}

/// `wide` are the i64 locals that come from memory. Loads saturate them to 32 bits, which positions to be clamped do not
/// notice; what else is computed from them may.
fn statements_refused(kernel: &LoopKernel, body: &[Stmt], wide: &mut BTreeSet<Local>) -> Option<String> {
    body.iter().find_map(|statement| match statement {
        Stmt::For { body, .. } => statements_refused(kernel, body, wide),
        Stmt::Set { local, value: Value::Load { buffer, .. } } => {
            if kernel.buffers[*buffer].dtype == DType::I64 {
                wide.insert(*local);
            }
            None
        }
        Stmt::Set { value: Value::Index(_), .. } => None,
        Stmt::Set { local, value: Value::Apply { expr, arguments } } => {
            let is_wide = arguments.iter().any(|argument| wide.contains(argument));
            if is_wide && expr.dtype() == DType::I64 {
                wide.insert(*local);
            }
            let leaves = is_wide && narrows(expr);
            expression::refused(expr).or_else(|| leaves.then(|| "on i64 that are no positions".into()))
        }
        Stmt::Store { local, .. } => wide.contains(local).then(|| "on i64 that are no positions".into()),
    })
}

/// Whether an expression makes other numbers of its i64 arguments, rather than other positions or an answer to a comparison.
fn narrows(expr: &Expr) -> bool {
    use edgecc_ir::BinaryOp::{Add, Equal, Less, LessEqual};
    expr.nodes().iter().any(|node| match *node {
        ExprNode::Binary(op, a, _) => expr.dtype_of(a) == DType::I64 && !matches!(op, Add | Less | LessEqual | Equal),
        ExprNode::Unary(_, a) => expr.dtype_of(a) == DType::I64,
        ExprNode::Cast(_, a) => expr.dtype_of(a) == DType::I64,
        ExprNode::Argument(..) | ExprNode::Constant(_) | ExprNode::Select(..) => false,
    })
}
