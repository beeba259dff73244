//! Reads a model, makes it small and fast, and writes an artifact.

pub mod array;
pub mod both;
pub mod calibrate;
pub mod cli;
pub mod compile;
mod least_squares;
pub mod link;
pub mod names;
pub mod onnx;
pub mod picture;
pub mod prune;
pub mod quantize;
pub mod recipe;
mod rows;
pub mod shaders;
pub mod target;
pub mod tune;
