//! Passes that make integer arithmetic of quantised values.

mod affine;
mod average_integers;
mod equalize;
mod fold_requantize;
mod fold_sums;
mod function;
mod hoist_quantize;
mod insert;
mod integer_contractions;
mod movement;
mod points;
mod sign_integers;
mod sink_dequantize;
mod weights;

pub use affine::{Affine, dequantized, integer_range, quantized};
pub use average_integers::average_integers;
pub use equalize::{Shift, Site, equalization_sites, placed_weights, scale_channels, shift_channels};
pub use fold_requantize::fold_requantize;
pub use fold_sums::fold_sums;
pub use hoist_quantize::{cancel_quantize, hoist_quantize};
pub use insert::{
    Decisions, QuantizedWeights, bias_correction, insert_quantization, quantize_weights, round_weights, weights_axis,
    with_scales,
};
pub use integer_contractions::integer_contractions;
pub use points::{Points, layer_input, quantization_points};
pub use sign_integers::sign_integers;
pub use sink_dequantize::sink_dequantize;
pub use weights::{RoundingNoise, WeightBits, round_to_bits, weights_stay};
