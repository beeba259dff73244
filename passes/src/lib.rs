//! Graph to graph rewrites. Passes see no kernel, no instruction set and no model format.

pub mod fuse;
pub mod layout;
pub mod pipeline;
pub mod precision;
pub mod prune;
pub mod quantize;
mod query;
pub mod simplify;

pub use pipeline::{FINISH, Group, INTEGERS, Options, PREPARE, PassError, Phase, Report, finish, integers, prepare};
