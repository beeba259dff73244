//! Passes that change the width of numbers.

mod compute_f16_as_f32;

pub use compute_f16_as_f32::compute_f16_as_f32;
