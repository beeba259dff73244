//! Passes that make a graph smaller without changing what it computes.

mod absorb_broadcasts;
mod absorb_transposes;
mod common_subexpressions;
mod compose_movements;
mod fold_constants;
mod fold_pads;
mod inline_scalars;
mod narrow_constants;
mod recognize_normalize;
mod remove_identities;
mod simplify_expressions;
mod sink_reshapes;
mod sink_transposes;

pub use absorb_broadcasts::absorb_broadcasts;
pub use absorb_transposes::absorb_transposes;
pub use common_subexpressions::common_subexpressions;
pub use compose_movements::compose_movements;
pub use fold_constants::fold_constants;
pub(crate) use fold_constants::fold_constants_but;
pub use fold_pads::fold_pads;
pub use inline_scalars::inline_scalars;
pub use narrow_constants::narrow_constants;
pub use recognize_normalize::recognize_normalize;
pub use remove_identities::remove_identities;
pub use simplify_expressions::simplify_expressions;
pub use sink_reshapes::sink_reshapes;
pub use sink_transposes::sink_transposes;
