//! Where values lie in memory.

mod choose_layouts;
mod orders;
mod preferences;
mod separate_outputs;

pub use choose_layouts::choose_layouts;
pub use separate_outputs::separate_outputs;
