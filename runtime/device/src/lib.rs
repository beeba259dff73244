//! What a device does with an artifact beside shipping it: run it on files, compare it with references, time it; files of results.

pub mod agreement;
pub mod bench;
pub mod files;
pub mod inputs;
pub mod outputs;
pub mod statistics;
pub mod tensor_file;
