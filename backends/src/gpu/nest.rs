//! Emission of loop nests: one invocation for each iteration of the loops that are independent of each other, or for each
//! four neighbours of the innermost one where everything lies in fours.

use edgecc_ir::{BinaryOp, DType, ExprNode};

use super::Body;
use super::binding::{Bound, Use};
use super::expression;
use super::grid::{Grid, coordinates};
use super::index::{index, linear};
use super::parallel::{Split, split};
use super::value::{Kind, Width, kind};
use super::writer::Writer;
use super::{shared, together};
use crate::kernel::linear::{Linear, mentions};
use crate::kernel::{Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};

/// Neighbours of a vector.
const LANES: i64 = 4;

/// What a loop nest becomes.
pub(super) struct Nest<'k> {
    kernel: &'k LoopKernel,
    split: Split<'k>,
    /// The innermost loop, where each invocation does four neighbours of it.
    lanes: Option<Var>,
    /// Whether a group does each iteration together, see [`shared`].
    is_together: bool,
}

impl<'k> Nest<'k> {
    pub(super) fn new(kernel: &'k LoopKernel) -> Nest<'k> {
        let split = split(kernel);
        let lanes = lanes(kernel, &split);
        let is_together = lanes.is_none() && shared::goes_together(kernel, &split);
        Nest { kernel, split, lanes, is_together }
    }

    fn grid(&self) -> Grid {
        Grid::new(self.units())
    }

    fn units(&self) -> i64 {
        self.axes().iter().map(|(_, extent)| extent).product()
    }

    fn axes(&self) -> Vec<(String, i64)> {
        let axis = |side: &super::parallel::Side<'_>| match self.lanes == Some(side.var) {
            true => (format!("q{}", side.var.0), side.extent / LANES),
            false => (format!("v{}", side.var.0), side.extent),
        };
        self.split.loops.iter().map(axis).collect()
    }

    /// How it uses its operands.
    pub(super) fn uses(&self) -> Vec<Use> {
        let of_buffer = |place: usize| {
            let dtype = self.kernel.buffers[place].dtype;
            let quads = self.lanes.is_some_and(|lanes| has_quads(self.split.body, lanes, place));
            let writes = stores(self.split.body, place);
            Use { dtype, writes, quads, writes_quads: writes && self.lanes.is_some() }
        };
        (0..self.kernel.buffers.len()).map(of_buffer).collect()
    }
}

impl Nest<'_> {
    /// What each invocation does; `None` for a nest that [`super::support`] refuses.
    pub(super) fn emit(&self, operands: &[Bound]) -> Option<Body> {
        let mut out = Writer::default();
        let grid = self.grid();
        match self.is_together {
            true => together::enter(&mut out),
            false => grid.enter(&mut out),
        }
        coordinates(&mut out, &self.axes());
        if let Some(Var(lanes)) = self.lanes {
            out.line(format!("let v{lanes} = q{lanes} * {LANES};"));
        }
        let mut emitter = Emitter { nest: self, operands, wide: vec![false; self.kernel.locals.len()] };
        emitter.declare(&mut out)?;
        for statement in &self.split.prologue {
            emitter.statement(&mut out, statement, false)?;
        }
        if self.is_together {
            self.split.body.iter().try_for_each(|statement| emitter.statement_together(&mut out, statement))?;
            let groups = [u32::try_from(self.units()).ok()?, 1, 1];
            return Some(Body { writer: out, groups, parts: Some(shared::parts(self.split.body)) });
        }
        for statement in self.split.body {
            emitter.statement(&mut out, statement, self.lanes.is_some())?;
        }
        Some(Body { writer: out, groups: grid.groups()?, parts: None })
    }
}

struct Emitter<'a> {
    nest: &'a Nest<'a>,
    operands: &'a [Bound],
    /// The locals that hold four values.
    wide: Vec<bool>,
}

impl Emitter<'_> {
    /// Every local is a variable.
    fn declare(&mut self, out: &mut Writer) -> Option<()> {
        if self.nest.lanes.is_some() {
            mark_wide(self.nest.split.body, &mut self.wide);
        }
        for (place, &dtype) in self.nest.kernel.locals.iter().enumerate() {
            out.line(format!("var l{place}: {};", kind(dtype)?.name(self.width(place))));
        }
        Some(())
    }

    fn width(&self, local: usize) -> Width {
        if self.wide[local] { Width::Four } else { Width::One }
    }

    fn statement(&self, out: &mut Writer, statement: &Stmt, in_lanes: bool) -> Option<()> {
        match statement {
            Stmt::For { begin: Index::Constant(begin), end: Index::Constant(end), .. } if begin >= end => Some(()),
            Stmt::For { var: Var(var), begin, end, body, .. } => {
                let (begin, end) = (index(out, begin)?, index(out, end)?);
                let end = out.value(end);
                let head = format!("for (var v{var} = {begin}; v{var} < {end}; v{var}++)");
                out.block(head, |out| body.iter().try_for_each(|inner| self.statement(out, inner, in_lanes).ok_or(())))
                    .ok()
            }
            Stmt::Set { local, value } => {
                let text = self.value(out, *local, value, in_lanes)?;
                out.line(format!("l{} = {text};", local.0));
                Some(())
            }
            Stmt::Store { buffer, index: place, local } => {
                let value = self.local(*local, if in_lanes { Width::Four } else { Width::One });
                match self.nest.lanes.filter(|_| in_lanes) {
                    Some(lanes) => {
                        let at = quad(out, &Linear::of(place), lanes)?;
                        self.operands[*buffer].store_quad(out, &at, &value);
                    }
                    None => {
                        let at = index(out, place)?;
                        let at = out.value(at);
                        self.operands[*buffer].store(out, &at, &value);
                    }
                }
                Some(())
            }
        }
    }

    /// A statement of the body where a group does it together: loops are shared, other stores are of one invocation.
    fn statement_together(&self, out: &mut Writer, statement: &Stmt) -> Option<()> {
        match statement {
            Stmt::For { var: Var(var), end, mode, body, .. } => {
                let folds: &[Fold] = if let LoopMode::Fold(folds) = mode { folds } else { &[] };
                for Fold { local, op } in folds {
                    // One invocation has what was there before; of others the largest and the smallest may have it too.
                    let neutral = if *op == BinaryOp::Mul { "1.0f" } else { "0.0f" };
                    if matches!(op, BinaryOp::Add | BinaryOp::Mul) {
                        out.line(format!("if lane != 0 {{ l{} = {neutral}; }}", local.0));
                    }
                }
                let end = index(out, end)?;
                let head = together::shared_loop(&format!("v{var}"), end);
                out.block(head, |out| body.iter().try_for_each(|inner| self.statement(out, inner, false)))?;
                if body.iter().any(shared::stores) {
                    out.line("storageBarrier();");
                    out.line("workgroupBarrier();");
                }
                let names: Vec<String> = folds.iter().map(|fold| format!("l{}", fold.local.0)).collect();
                if names.is_empty() {
                    return Some(());
                }
                together::join(out, &names, 1, |out, n, a, b| expression::joined(out, folds[n].op, a, b))
            }
            Stmt::Set { .. } => self.statement(out, statement, false),
            Stmt::Store { .. } => out.block("if lane == 0", |out| self.statement(out, statement, false)),
        }
    }

    fn value(&self, out: &mut Writer, local: Local, value: &Value, in_lanes: bool) -> Option<String> {
        match value {
            Value::Load { buffer, index: place } => {
                let loaded = match self.nest.lanes.filter(|_| in_lanes) {
                    Some(lanes) => self.load_four(out, *buffer, place, lanes)?,
                    None => {
                        let at = index(out, place)?;
                        self.operands[*buffer].load(out, &at)
                    }
                };
                Some(loaded)
            }
            Value::Index(place) => index(out, place),
            Value::Apply { expr, arguments } => {
                let width = self.width(local.0 as usize);
                let arguments: Vec<String> = arguments.iter().map(|&argument| self.local(argument, width)).collect();
                expression::emit(out, expr, &arguments, width)
            }
        }
    }

    /// Four neighbours along `lanes`, or one value four times.
    fn load_four(&self, out: &mut Writer, buffer: usize, place: &Index, lanes: Var) -> Option<String> {
        let (operand, sum) = (&self.operands[buffer], Linear::of(place));
        let step = sum.factor(lanes)?;
        if step == 1 && is_aligned(&sum, lanes) {
            let at = quad(out, &sum, lanes)?;
            return Some(operand.load_quad(out, &at));
        }
        let at = linear(out, &sum)?;
        let at = out.value(at);
        Some(match step {
            0 => operand.load_splat(out, &at),
            step => operand.load_four(out, [0, 1, 2, 3].map(|n| format!("{at} + {}", n * step))),
        })
    }

    fn local(&self, local: Local, width: Width) -> String {
        let (place, own) = (local.0 as usize, self.width(local.0 as usize));
        match kind(self.nest.kernel.locals[place]) {
            Some(kind) if own != width && kind != Kind::Pair => format!("{}(l{place})", kind.name(width)),
            _ => format!("l{place}"),
        }
    }
}

/// Whether four neighbours of memory are one access.
fn lies_by_fours(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::U32 | DType::U16 | DType::I8 | DType::U8)
}

/// The innermost loop if its iterations can go by fours: everything lies so and is written to four neighbours.
fn lanes(kernel: &LoopKernel, split: &Split<'_>) -> Option<Var> {
    let innermost = split.loops.last()?;
    let goes = matches!(innermost.mode, Some(LoopMode::Lanes)) && innermost.extent % LANES == 0;
    (goes && split.body.iter().all(|statement| goes_by_fours(kernel, statement, innermost.var)))
        .then_some(innermost.var)
}

fn goes_by_fours(kernel: &LoopKernel, statement: &Stmt, lanes: Var) -> bool {
    let is_single = |dtype: DType| lies_by_fours(dtype) || matches!(dtype, DType::I32 | DType::Bool);
    match statement {
        Stmt::For { begin, end, body, .. } => {
            !mentions(begin, lanes)
                && !mentions(end, lanes)
                && body.iter().all(|inner| goes_by_fours(kernel, inner, lanes))
        }
        Stmt::Set { value: Value::Load { buffer, index }, .. } => {
            let dtype = kernel.buffers[*buffer].dtype;
            (lies_by_fours(dtype) || dtype == DType::I32) && Linear::of(index).factor(lanes).is_some()
        }
        Stmt::Set { value: Value::Index(_), .. } => false,
        Stmt::Set { value: Value::Apply { expr, .. }, .. } => {
            let node = |node: &ExprNode| match *node {
                ExprNode::Argument(_, dtype) | ExprNode::Cast(dtype, _) => is_single(dtype),
                ExprNode::Constant(value) => is_single(value.dtype()),
                ExprNode::Unary(..) | ExprNode::Binary(..) | ExprNode::Select(..) => true,
            };
            expr.nodes().iter().all(node)
        }
        Stmt::Store { buffer, index, .. } => {
            let sum = Linear::of(index);
            lies_by_fours(kernel.buffers[*buffer].dtype) && sum.factor(lanes) == Some(1) && is_aligned(&sum, lanes)
        }
    }
}

/// The text of an aligned position, counted in fours.
fn quad(out: &mut Writer, sum: &Linear, lanes: Var) -> Option<String> {
    let rest = sum.clone().without(lanes);
    let terms = rest.terms.into_iter().map(|(term, factor)| (term, factor / LANES)).collect();
    let rest = linear(out, &Linear { constant: rest.constant / LANES, terms })?;
    Some(out.value(format!("q{} + {rest}", lanes.0)))
}

/// Whether positions are multiples of four where `lanes` is.
fn is_aligned(sum: &Linear, lanes: Var) -> bool {
    let rest = sum.clone().without(lanes);
    rest.constant % LANES == 0 && rest.terms.iter().all(|(_, factor)| factor % LANES == 0)
}

/// Whether a buffer is accessed by four neighbours.
fn has_quads(body: &[Stmt], lanes: Var, place: usize) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::For { body, .. } => has_quads(body, lanes, place),
        Stmt::Set { value: Value::Load { buffer, index }, .. } | Stmt::Store { buffer, index, .. } => {
            let sum = Linear::of(index);
            *buffer == place && sum.factor(lanes) == Some(1) && is_aligned(&sum, lanes)
        }
        Stmt::Set { .. } => false,
    })
}

fn stores(body: &[Stmt], place: usize) -> bool {
    body.iter().any(|statement| match statement {
        Stmt::For { body, .. } => stores(body, place),
        Stmt::Store { buffer, .. } => *buffer == place,
        Stmt::Set { .. } => false,
    })
}

fn mark_wide(body: &[Stmt], wide: &mut [bool]) {
    for statement in body {
        match statement {
            Stmt::For { body, .. } => mark_wide(body, wide),
            Stmt::Set { local, .. } => wide[local.0 as usize] = true,
            Stmt::Store { .. } => {}
        }
    }
}
