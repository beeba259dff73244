//! Reads a model, makes it small and fast, and writes an artifact.

pub mod array;
pub mod both;
pub mod calibrate;
pub mod cli;
pub mod compile;
pub mod link;
pub mod onnx;
pub mod picture;
pub mod prune;
pub mod quantize;
pub mod shaders;
pub mod target;
pub mod tune;
