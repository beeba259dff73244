//! The ONNX front end: from a file to a graph, and back. Protobuf types stay in here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod attributes;
mod context;
mod error;
// Graphs of our own are sound: lists have an entry for each axis.
#[allow(clippy::indexing_slicing)]
mod export;
mod external;
mod import;
mod inline;
mod inputs;
mod map;
mod ops;
mod order;
#[allow(missing_docs)]
mod proto;
#[cfg(test)]
mod round_trip;
mod scan;
mod tensor;

use std::path::{Path, PathBuf};

use prost::Message;

pub use error::{ImportError, Unsupported};
pub use export::{ExportError, export};
pub use import::{ImportOptions, Imported, import};
pub use ops::Operator;
pub use scan::ScanError;

/// A decoded model with its folder.
#[derive(Debug)]
pub struct Model {
    proto: proto::ModelProto,
    mapping: map::Mapping,
    folder: external::Folder,
    path: PathBuf,
}

impl Model {
    /// Takes the pages of the model's files out of memory, until they are read again: of use where their weights were
    /// folded into others.
    pub fn let_go(&self) {
        self.mapping.let_go();
        self.folder.let_go();
    }
}

/// Maps and decodes a model. Weights stay in the mapped file.
pub fn read(path: &Path) -> Result<Model, ImportError> {
    let mapping = map::Mapping::of(path).map_err(|source| ImportError::Io { path: path.into(), source })?;
    let file = mapping.bytes();
    scan::scan(&file).map_err(|source| ImportError::Scan { path: path.into(), source })?;
    let decoded = proto::ModelProto::decode(file).map_err(|error| {
        let what = error.to_string();
        // Nested messages put their whole path before the cause.
        let cause = what.rsplit(": ").next().unwrap_or("").to_string();
        ImportError::Decode { path: path.into(), what: cause }
    })?;
    if decoded.graph.is_none() {
        return Err(ImportError::Decode { path: path.into(), what: "it has no graph".into() });
    }
    Ok(Model { proto: decoded, mapping, folder: external::Folder::of(path), path: path.into() })
}

/// The operators that are imported, by name.
pub fn supported_operators() -> Vec<Operator> {
    ops::table()
}

/// Reads a file that holds one tensor (`TensorProto`), as ONNX's tests come with.
pub fn read_tensor(path: &Path) -> Result<edgecc_ir::Tensor, ImportError> {
    let mapping = map::Mapping::of(path).map_err(|source| ImportError::Io { path: path.into(), source })?;
    let proto = proto::TensorProto::decode(mapping.bytes())
        .map_err(|error| ImportError::Decode { path: path.into(), what: error.to_string() })?;
    tensor::read(&proto, &external::Folder::of(path))
}

/// The names of a model's inputs, initialisers left out, in order.
pub fn input_names(model: &Model) -> Vec<String> {
    let Some(graph) = &model.proto.graph else { return Vec::new() };
    let initialised = |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name);
    graph.input.iter().map(|value| &value.name).filter(|name| !initialised(name)).cloned().collect()
}

/// The operators of all nodes of a model, those of branches and functions included, with their domain where it is not ONNX's.
pub fn operators(model: &Model) -> Vec<String> {
    let mut names = Vec::new();
    let mut stack: Vec<&[proto::NodeProto]> = model.proto.graph.iter().map(|graph| graph.node.as_slice()).collect();
    stack.extend(model.proto.functions.iter().map(|function| function.node.as_slice()));
    while let Some(nodes) = stack.pop() {
        for node in nodes {
            let is_call = model
                .proto
                .functions
                .iter()
                .any(|function| function.name == node.op_type && function.domain == node.domain);
            if !is_call {
                names.push(import::qualified(&node.domain, &node.op_type));
            }
            stack.extend(
                node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).map(|graph| graph.node.as_slice()),
            );
        }
    }
    names
}
