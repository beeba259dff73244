//! What tests that see the whole road share.

pub mod binary;
pub mod block_weights;
pub mod browser;
pub mod by_thread;
pub mod conformance;
pub mod crops;
pub mod cross;
pub mod cycles;
pub mod executed;
pub mod gpu;
pub mod graphs;
pub mod kernels;
pub mod light;
pub mod measured;
pub mod models;
pub mod networks;
pub mod numbers;
pub mod pictures;
pub mod processor;
pub mod python;
pub mod reference;
pub mod report;
pub mod run;
pub mod sample;
pub mod throughput;
pub mod winograd;
