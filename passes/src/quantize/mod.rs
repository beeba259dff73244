//! Passes that make integer arithmetic of quantised values.

mod affine;
mod fold_requantize;
mod hoist_quantize;
mod integer_contractions;
mod movement;
mod sign_integers;
mod sink_dequantize;

pub(crate) use affine::dequantized;
pub use affine::{Affine, integer_range};
pub use fold_requantize::fold_requantize;
pub use hoist_quantize::{cancel_quantize, hoist_quantize};
pub use integer_contractions::integer_contractions;
pub use sign_integers::sign_integers;
pub use sink_dequantize::sink_dequantize;
