//! Writes loop nests: statements go to the block that is open, operands and locals are numbered as they appear.

use edgecc_ir::{BinaryOp, DType, Expr, NodeId, Scalar, UnaryOp};

use super::{Call, Lowering};
use crate::kernel::{Access, BufferType, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use crate::view::View;

/// A loop nest under construction. Variable 0 is the range.
pub(crate) struct Builder {
    views: Vec<View>,
    buffers: Vec<BufferType>,
    locals: Vec<DType>,
    vars: u16,
    open: Vec<Stmt>,
}

/// The type in which elements of `dtype` are computed with.
pub(crate) fn computed(dtype: DType) -> DType {
    if matches!(dtype, DType::F16 | DType::BF16) { DType::F32 } else { dtype }
}

impl Builder {
    pub(crate) fn new() -> Self {
        Builder { views: Vec::new(), buffers: Vec::new(), locals: Vec::new(), vars: 1, open: Vec::new() }
    }

    /// An operand, by its place among the kernel's buffers.
    pub(crate) fn operand(&mut self, view: &View, access: Access) -> usize {
        self.buffers.push(BufferType { dtype: view.dtype, elements: view.span(), access });
        self.views.push(view.clone());
        self.views.len() - 1
    }

    pub(crate) fn reads(&mut self, view: &View) -> usize {
        self.operand(view, Access::Read)
    }

    pub(crate) fn writes(&mut self, view: &View) -> usize {
        self.operand(view, Access::Write)
    }

    /// A loop variable of its own.
    pub(crate) fn var(&mut self) -> Var {
        self.vars += 1;
        Var(self.vars - 1)
    }

    /// The statements that `write` adds.
    pub(crate) fn block(&mut self, write: impl FnOnce(&mut Builder)) -> Vec<Stmt> {
        let outer = std::mem::take(&mut self.open);
        write(self);
        std::mem::replace(&mut self.open, outer)
    }

    pub(crate) fn emit(&mut self, statements: impl IntoIterator<Item = Stmt>) {
        self.open.extend(statements);
    }

    /// A loop over `begin..end` around what `write` adds.
    pub(crate) fn serial(&mut self, var: Var, begin: Index, end: Index, write: impl FnOnce(&mut Builder)) {
        let body = self.block(write);
        self.emit([Stmt::For { var, begin, end, mode: LoopMode::Serial, body }]);
    }

    /// Loads an element; halves become f32.
    pub(crate) fn load(&mut self, buffer: usize, index: Index) -> Local {
        let local = self.load_stored(buffer, index);
        let dtype = self.dtype(local);
        if computed(dtype) == dtype { local } else { self.cast(computed(dtype), local) }
    }

    /// Loads an element as it is stored.
    pub(crate) fn load_stored(&mut self, buffer: usize, index: Index) -> Local {
        let local = self.local(self.buffers[buffer].dtype);
        self.emit([Stmt::Set { local, value: Value::Load { buffer, index } }]);
        local
    }

    /// Stores an element, narrowed where the buffer is.
    pub(crate) fn store(&mut self, buffer: usize, index: Index, local: Local) {
        let dtype = self.buffers[buffer].dtype;
        let local = if self.dtype(local) == dtype { local } else { self.cast(dtype, local) };
        self.emit([Stmt::Store { buffer, index, local }]);
    }

    /// An index as an i64 value.
    pub(crate) fn index(&mut self, index: Index) -> Local {
        let local = self.local(DType::I64);
        self.emit([Stmt::Set { local, value: Value::Index(index) }]);
        local
    }

    pub(crate) fn apply(&mut self, expr: Expr, arguments: &[Local]) -> Local {
        let local = self.local(expr.dtype());
        self.assign(local, expr, arguments);
        local
    }

    pub(crate) fn constant(&mut self, value: Scalar) -> Local {
        let mut expr = Expr::new();
        let root = expr.constant(value);
        self.apply(expr.with_root(root), &[])
    }

    /// The number of type `dtype` nearest to `value`.
    pub(crate) fn number(&mut self, dtype: DType, value: f64) -> Local {
        self.constant(Scalar::from_f64(dtype, value))
    }

    pub(crate) fn unary(&mut self, op: UnaryOp, a: Local) -> Local {
        let mut expr = Expr::argument(0, self.dtype(a));
        let root = expr.unary(op, expr.root());
        self.apply(expr.with_root(root), &[a])
    }

    pub(crate) fn binary(&mut self, op: BinaryOp, a: Local, b: Local) -> Local {
        self.apply(self.binary_expr(op, a, b), &[a, b])
    }

    pub(crate) fn select(&mut self, condition: Local, then: Local, otherwise: Local) -> Local {
        self.apply(self.select_expr(then), &[condition, then, otherwise])
    }

    pub(crate) fn cast(&mut self, dtype: DType, a: Local) -> Local {
        let mut expr = Expr::argument(0, self.dtype(a));
        let root = expr.cast(dtype, expr.root());
        self.apply(expr.with_root(root), &[a])
    }

    /// A copy that later assignments may change.
    pub(crate) fn copy(&mut self, a: Local) -> Local {
        self.apply(Expr::argument(0, self.dtype(a)), &[a])
    }

    /// `local = op(local, x)`.
    pub(crate) fn fold(&mut self, local: Local, op: BinaryOp, x: Local) {
        self.assign(local, self.binary_expr(op, local, x), &[local, x]);
    }

    /// `local = condition ? x : local`.
    pub(crate) fn replace(&mut self, local: Local, condition: Local, x: Local) {
        self.assign(local, self.select_expr(local), &[condition, x, local]);
    }

    /// `local = x`.
    pub(crate) fn assign_from(&mut self, local: Local, x: Local) {
        self.assign(local, Expr::argument(0, self.dtype(x)), &[x]);
    }

    pub(crate) fn dtype(&self, local: Local) -> DType {
        self.locals[local.0 as usize]
    }

    /// Adds the finished kernel as a step of node `id`.
    pub(crate) fn push(self, lowering: &mut Lowering<'_>, id: NodeId, range: usize, body: Vec<Stmt>, call: Call) {
        let views = self.views.clone();
        let operands: Vec<&View> = views.iter().collect();
        lowering.push_loops(id, self.kernel(range, body), &operands, call);
    }

    /// The finished kernel, of operands of its own.
    pub(crate) fn kernel(self, range: usize, body: Vec<Stmt>) -> LoopKernel {
        let Builder { buffers, locals, vars, .. } = self;
        LoopKernel { buffers, locals, vars, range, body }
    }

    fn local(&mut self, dtype: DType) -> Local {
        self.locals.push(dtype);
        Local((self.locals.len() - 1) as u16)
    }

    fn assign(&mut self, local: Local, expr: Expr, arguments: &[Local]) {
        self.emit([Stmt::Set { local, value: Value::Apply { expr, arguments: arguments.to_vec() } }]);
    }

    fn binary_expr(&self, op: BinaryOp, a: Local, b: Local) -> Expr {
        let mut expr = Expr::new();
        let (a, b) = (expr.arg(0, self.dtype(a)), expr.arg(1, self.dtype(b)));
        let root = expr.binary(op, a, b);
        expr.with_root(root)
    }

    fn select_expr(&self, value: Local) -> Expr {
        let mut expr = Expr::new();
        let dtype = self.dtype(value);
        let (condition, then, otherwise) = (expr.arg(0, DType::Bool), expr.arg(1, dtype), expr.arg(2, dtype));
        let root = expr.select(condition, then, otherwise);
        expr.with_root(root)
    }
}
