//! Passes that change the width of numbers.

mod compute_f16_as_f32;
mod store_f32_as_f16;

pub use compute_f16_as_f32::compute_f16_as_f32;
pub use store_f32_as_f16::store_f32_as_f16;

/// The width in which f32 values are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Precision {
    /// As they are.
    #[default]
    F32,
    /// As halves, where operators have a form for them.
    F16,
}
