//! Calibration: samples of a model's inputs, and the values that its graph computes of them.

pub mod capture;
pub mod observe;
pub mod samples;
pub mod synthetic;
