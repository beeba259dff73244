//! What must hold of a loop nest before it is emitted: names exist, types fit, and no index leaves its buffer.

use edgecc_ir::DType;

use super::footprint::Footprints;
use super::{Access, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};

/// What is wrong with a loop nest: a fault of the compiler, never of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A buffer, local or variable that the kernel does not have.
    #[error("there is no {what} {number}")]
    Unknown {
        /// "buffer", "local" or "variable".
        what: &'static str,
        /// Its place.
        number: usize,
    },
    /// A value of another type than its place.
    #[error("{what} is {found}, not {expected}")]
    Type {
        /// The value.
        what: String,
        /// The type of its place.
        expected: DType,
        /// Its own type.
        found: DType,
    },
    /// A load from a buffer that is only written, or a store to one that is only read.
    #[error("buffer {buffer} is declared for {access:?} only")]
    Access {
        /// The buffer.
        buffer: usize,
        /// What it is declared for.
        access: Access,
    },
    /// A divisor that is not positive, an empty clamp, or an accumulator with an operator that does not fold.
    #[error("{0}")]
    Malformed(String),
    /// An access that may leave its buffer.
    #[error("positions {low}..={high} of buffer {buffer}, which has {elements} elements")]
    OutOfBounds {
        /// The buffer.
        buffer: usize,
        /// The lowest position.
        low: i64,
        /// The highest position.
        high: i64,
        /// The buffer's number of elements.
        elements: usize,
    },
}

/// Checks types, names and bounds of a kernel.
pub fn check(kernel: &LoopKernel) -> Result<(), KernelError> {
    if kernel.vars == 0 {
        return Err(KernelError::Unknown { what: "variable", number: 0 });
    }
    statements(kernel, &kernel.body)?;
    Footprints::new(kernel).check()
}

fn statements(kernel: &LoopKernel, body: &[Stmt]) -> Result<(), KernelError> {
    body.iter().try_for_each(|statement| match statement {
        Stmt::For { var, begin, end, mode, body } => {
            variable(kernel, *var)?;
            index(kernel, begin)?;
            index(kernel, end)?;
            folds(kernel, mode)?;
            statements(kernel, body)
        }
        Stmt::Set { local, value } => set(kernel, *local, value),
        Stmt::Store { buffer, index: place, local } => {
            let found = local_type(kernel, *local)?;
            let expected = buffer_type(kernel, *buffer, Access::Read)?;
            index(kernel, place)?;
            same(|| format!("what is stored to buffer {buffer}"), expected, found)
        }
    })
}

fn set(kernel: &LoopKernel, local: Local, value: &Value) -> Result<(), KernelError> {
    let expected = local_type(kernel, local)?;
    let found = match value {
        Value::Load { buffer, index: place } => {
            index(kernel, place)?;
            buffer_type(kernel, *buffer, Access::Write)?
        }
        Value::Index(place) => {
            index(kernel, place)?;
            DType::I64
        }
        Value::Apply { expr, arguments } => {
            for (n, expected) in expr.arguments() {
                let Some(&argument) = arguments.get(n as usize) else {
                    return Err(KernelError::Unknown { what: "argument", number: n as usize });
                };
                same(|| format!("argument {n}, {argument:?}"), expected, local_type(kernel, argument)?)?;
            }
            arguments.iter().try_for_each(|&argument| local_type(kernel, argument).map(|_| ()))?;
            expr.dtype()
        }
    };
    same(|| format!("what {local:?} is set to"), expected, found)
}

fn folds(kernel: &LoopKernel, mode: &LoopMode) -> Result<(), KernelError> {
    use edgecc_ir::BinaryOp::{Add, And, Max, Min, Mul, Or};
    let folds = match mode {
        LoopMode::Serial | LoopMode::Lanes => return Ok(()),
        LoopMode::Fold(folds) => folds,
    };
    for fold in folds {
        local_type(kernel, fold.local)?;
        if !matches!(fold.op, Add | Mul | Max | Min | And | Or) {
            return Err(KernelError::Malformed(format!("{:?} folds nothing", fold.op)));
        }
    }
    Ok(())
}

fn index(kernel: &LoopKernel, place: &Index) -> Result<(), KernelError> {
    match place {
        Index::Constant(_) | Index::Argument(_) => Ok(()),
        Index::Var(var) => variable(kernel, *var),
        Index::Clamped { local, low, high } => match local_type(kernel, *local)? {
            _ if low > high => Err(KernelError::Malformed(format!("no position is within {low}..={high}"))),
            DType::I32 | DType::I64 => Ok(()),
            found => same(|| format!("position {local:?}"), DType::I64, found),
        },
        Index::Add(x, y) | Index::Min(x, y) | Index::Max(x, y) => {
            index(kernel, x)?;
            index(kernel, y)
        }
        Index::Mul(x, _) => index(kernel, x),
        Index::FloorDiv(x, divisor) | Index::Mod(x, divisor) => {
            if *divisor < 1 {
                return Err(KernelError::Malformed(format!("a division by {divisor}")));
            }
            index(kernel, x)
        }
    }
}

fn variable(kernel: &LoopKernel, var: Var) -> Result<(), KernelError> {
    let unknown = KernelError::Unknown { what: "variable", number: var.0 as usize };
    if var.0 < kernel.vars { Ok(()) } else { Err(unknown) }
}

fn local_type(kernel: &LoopKernel, local: Local) -> Result<DType, KernelError> {
    let number = local.0 as usize;
    kernel.locals.get(number).copied().ok_or(KernelError::Unknown { what: "local", number })
}

/// The type of a buffer's elements, unless it is declared for what is `refused` only.
fn buffer_type(kernel: &LoopKernel, number: usize, refused: Access) -> Result<DType, KernelError> {
    let buffer = kernel.buffers.get(number).ok_or(KernelError::Unknown { what: "buffer", number })?;
    if buffer.access == refused {
        return Err(KernelError::Access { buffer: number, access: refused });
    }
    Ok(buffer.dtype)
}

fn same(what: impl FnOnce() -> String, expected: DType, found: DType) -> Result<(), KernelError> {
    if expected == found { Ok(()) } else { Err(KernelError::Type { what: what(), expected, found }) }
}
