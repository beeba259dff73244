//! The graph of a model: types, operators, element-wise expressions, shape inference, text form,
//! verifier and reference evaluator. Reads no file and names no target.

pub mod block_weights;
pub mod eval;
pub mod expr;
pub mod graph;
pub mod infer;
pub mod op;
pub mod shape;
pub mod tensor;
pub mod text;
pub mod types;
pub mod verify;

pub use block_weights::BlockWeights;
pub use expr::{BinaryOp, Expr, ExprId, ExprNode, UnaryOp};
pub use graph::{Graph, Node, NodeId, Origin, Output};
pub use infer::{TypeError, infer};
pub use op::{Extreme, Op, PadMode, PoolKind, ReduceKind, Resample, ScatterKind, Window};
pub use shape::{Dim, Shape, SizeOverflow};
pub use tensor::{Tensor, TensorData, TensorError};
pub use text::ParseError;
pub use types::{DType, Layout, Scalar, TensorType, Type};
pub use verify::{NodeFault, VerifyError, verify};
