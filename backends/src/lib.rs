//! Graph to program to machine code: lowering says what is computed, schedules say how, emission writes it down.

pub mod artifact;
pub mod block_product;
pub mod chain;
pub mod contraction;
pub mod cpu;
pub mod estimate;
pub mod gpu;
pub mod kernel;
pub mod lower;
pub mod pack;
pub mod packings;
pub mod plan;
pub mod program;
pub mod schedule;
pub mod view;
pub mod winograd;
