//! The text form of a graph: one grammar in two renderings. [`Graph::to_text`] is exact and is read back by
//! [`Graph::from_text`]; [`Graph::to_snapshot`] shortens numbers for tests of what a pass makes, and is never read.
//!
//! ```text
//! graph tiny(%x: f32[1x1x8x8]) {
//!   @w = const f32[1x1x1x1] {0.5}
//!   %0 = conv %x, @w kernel=[1, 1] epilogue=max(acc, 0) : f32[1x1x8x8]  ; conv+relu
//!   return %0 as y
//! }
//! ```
//! A line is `%n = operator operands attributes : type ; origin`. Attributes that have their plain value are left out,
//! and so is what the type says (the shape of a reshape). `#` begins a comment, to the end of the line.
//! An expression reads operands as `a0`, `a1`, ..; in an epilogue they are `acc`, the accumulator, and `e1`, `e2`, ..
//! `wide_epilogue` is an epilogue whose accumulator is f32 over halves.
//! `let t0 = exp(a0) in t0 / (t0 + 1)` names what is used twice. A number in an expression is binary32 unless it says its
//! type: `3_i64`.
//! A constant without a name of its own is called by a number, `@0`, and has its origin behind `;`.

mod attributes;
mod expression;
mod lexer;
mod number;
mod parse;
mod parse_expression;
mod print;
mod read;

pub use lexer::ParseError;

#[cfg(doc)]
use crate::graph::Graph;
