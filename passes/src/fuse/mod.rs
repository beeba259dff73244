//! Passes that join nodes into one.

pub(crate) mod channels;
mod fold_batchnorm;
mod fold_leading_affine;
mod fuse_epilogue;
mod fuse_maps;
mod fuse_operands;

pub use fold_batchnorm::fold_batchnorm;
pub use fold_leading_affine::fold_leading_affine;
pub use fuse_epilogue::fuse_epilogue;
pub use fuse_maps::fuse_maps;
pub use fuse_operands::fuse_operands;
