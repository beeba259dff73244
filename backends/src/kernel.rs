//! The kernel IR: loop nests for element-wise, reduction and movement work. Every backend emits it.
//!
//! A kernel is a list of statements over buffers of typed elements, integer indices and typed locals. All computing is done
//! by [`Expr`]s over locals, so that what an element-wise operator means is stated once. Indices are quasi-affine in the
//! loop variables, or a loaded position clamped in place, so that bounds are known before emission.

mod check;
mod footprint;
pub(crate) mod linear;

use edgecc_ir::{BinaryOp, DType, Expr};

pub use check::{KernelError, check};

/// A loop variable. Variable 0 is the kernel's range: it runs over the part of the range that a call is given.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Var(pub u16);

/// A typed local value, by its place in [`LoopKernel::locals`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Local(pub u16);

/// A signed integer computed from loop variables: positions in elements, bounds of loops.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Index {
    /// A number.
    Constant(i64),
    /// A loop variable.
    Var(Var),
    /// Entry `n` of the step's arguments: an extent known when the step is called.
    Argument(u16),
    /// An i32 or i64 local, clamped to `low..=high`.
    Clamped {
        /// The local.
        local: Local,
        /// Smallest value.
        low: i64,
        /// Largest value.
        high: i64,
    },
    /// Sum.
    Add(Box<Index>, Box<Index>),
    /// Product with a number.
    Mul(Box<Index>, i64),
    /// Quotient by a positive number, rounded down.
    FloorDiv(Box<Index>, i64),
    /// Remainder by a positive number, never negative.
    Mod(Box<Index>, i64),
    /// The smaller.
    Min(Box<Index>, Box<Index>),
    /// The larger.
    Max(Box<Index>, Box<Index>),
}

/// How a loop runs its body.
#[derive(Clone, PartialEq, Debug)]
pub enum LoopMode {
    /// One iteration after the other, in order.
    Serial,
    /// Iterations are independent and may run side by side in the lanes of a vector: the loop variable, and every local set
    /// in the body, stand for one value per lane. The body may hold serial loops whose bounds do not depend on the variable.
    /// Bounds are constants. At most one loop on any path is [`LoopMode::Lanes`] or [`LoopMode::Fold`].
    Lanes,
    /// Iterations fold into accumulators: in the body each listed local is only used as `local = op(local, x)`, with an
    /// associative `op`. Lanes keep partial results, joined in a fixed order at the end. Bounds are constants.
    Fold(Vec<Fold>),
}

/// An accumulator of a [`LoopMode::Fold`] loop. It holds a value before the loop.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fold {
    /// The accumulator.
    pub local: Local,
    /// How values are joined: Add, Mul, Max, Min, And or Or.
    pub op: BinaryOp,
}

/// What a local is set to.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// The element of a buffer at a position counted in elements from the operand's first byte.
    Load {
        /// Place in [`LoopKernel::buffers`].
        buffer: usize,
        /// Position in elements.
        index: Index,
    },
    /// An index as i64.
    Index(Index),
    /// An expression; argument `n` is `arguments[n]`.
    Apply {
        /// The expression.
        expr: Expr,
        /// Its arguments.
        arguments: Vec<Local>,
    },
}

/// One statement.
#[derive(Clone, PartialEq, Debug)]
pub enum Stmt {
    /// Runs the body for `begin <= var < end`, upwards by 1. No iteration where `end <= begin`.
    For {
        /// The variable.
        var: Var,
        /// First value.
        begin: Index,
        /// One more than the last value.
        end: Index,
        /// How iterations run.
        mode: LoopMode,
        /// What each does.
        body: Vec<Stmt>,
    },
    /// Gives a local a value. Locals live from their first `Set` on and keep the last value; a local that is read in or
    /// after a loop is set before the loop.
    Set {
        /// The local.
        local: Local,
        /// Its value, of the local's type.
        value: Value,
    },
    /// Writes a local to a buffer.
    Store {
        /// Place in [`LoopKernel::buffers`].
        buffer: usize,
        /// Position in elements.
        index: Index,
        /// The value, of the buffer's type.
        local: Local,
    },
}

/// What a kernel does with a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Reads only.
    Read,
    /// Writes only.
    Write,
    /// Both.
    ReadWrite,
}

/// An operand of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BufferType {
    /// The type of the elements.
    pub dtype: DType,
    /// Every position that the kernel touches is below this number.
    pub elements: usize,
    /// What the kernel does with it.
    pub access: Access,
}

/// A loop nest over buffers. Variable 0 runs over `begin..end` of the call, within `0..range`; iterations of it are
/// independent of each other and may run on several workers.
#[derive(Clone, PartialEq, Debug)]
pub struct LoopKernel {
    /// The operands, in the order of the step's buffer references.
    pub buffers: Vec<BufferType>,
    /// The types of the locals.
    pub locals: Vec<DType>,
    /// Loop variables in use; variable 0 is the range.
    pub vars: u16,
    /// Extent of variable 0.
    pub range: usize,
    /// What one iteration of variable 0 does.
    pub body: Vec<Stmt>,
}

impl Index {
    /// A loop variable.
    pub fn var(var: Var) -> Index {
        Index::Var(var)
    }

    /// `self + other`, folded where both are numbers.
    pub fn plus(self, other: Index) -> Index {
        match (self, other) {
            (Index::Constant(a), Index::Constant(b)) => Index::Constant(a + b),
            (Index::Constant(0), x) | (x, Index::Constant(0)) => x,
            (a, b) => Index::Add(Box::new(a), Box::new(b)),
        }
    }

    /// `self * factor`, folded where possible.
    pub fn times(self, factor: i64) -> Index {
        match (self, factor) {
            (Index::Constant(a), _) => Index::Constant(a * factor),
            (_, 0) => Index::Constant(0),
            (x, 1) => x,
            (Index::Mul(x, n), _) => Index::Mul(x, n * factor),
            (x, _) => Index::Mul(Box::new(x), factor),
        }
    }

    /// `floor(self / divisor)`, for a positive divisor.
    pub fn floor_div(self, divisor: i64) -> Index {
        match (self, divisor) {
            (x, 1) => x,
            (Index::Constant(a), _) => Index::Constant(a.div_euclid(divisor)),
            (x, _) => Index::FloorDiv(Box::new(x), divisor),
        }
    }

    /// `self mod divisor`, never negative, for a positive divisor.
    pub fn modulo(self, divisor: i64) -> Index {
        match (self, divisor) {
            (_, 1) => Index::Constant(0),
            (Index::Constant(a), _) => Index::Constant(a.rem_euclid(divisor)),
            (x, _) => Index::Mod(Box::new(x), divisor),
        }
    }

    /// The smaller of both.
    pub fn min(self, other: Index) -> Index {
        match (self, other) {
            (Index::Constant(a), Index::Constant(b)) => Index::Constant(a.min(b)),
            (a, b) => Index::Min(Box::new(a), Box::new(b)),
        }
    }

    /// The larger of both.
    pub fn max(self, other: Index) -> Index {
        match (self, other) {
            (Index::Constant(a), Index::Constant(b)) => Index::Constant(a.max(b)),
            (a, b) => Index::Max(Box::new(a), Box::new(b)),
        }
    }
}
