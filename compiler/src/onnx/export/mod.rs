//! Writes a graph as an ONNX model of standard operators.

mod expression;
mod operators;
mod quantization;
mod writer;

use edgecc_ir::{Graph, Op};
use prost::Message;

use super::proto::{DimensionProto, GraphProto, ModelProto, OperatorSetIdProto};
use super::proto::{TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto};
use super::tensor::number;
use writer::Writer;

/// Version of the operator set: the first with bits of integers, averages over dilated windows and pads that wrap around.
const OPERATOR_SET: i64 = 19;
/// The first with scales for blocks, and integers of 4 bits.
const OPERATOR_SET_OF_BLOCKS: i64 = 21;
/// Versions of the file format that belong to them.
const FORMAT: i64 = 9;
const FORMAT_OF_BLOCKS: i64 = 10;
/// Largest message that readers take, in bytes.
const LARGEST: usize = i32::MAX as usize;

/// A graph that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// Nodes that ONNX has no operators for.
    #[error("no ONNX operators for:\n{}", .0.join("\n"))]
    Unsupported(Vec<String>),
    /// A model beyond protobuf's limit.
    #[error("a model of {0} bytes is above the 2 GiB that ONNX files may have")]
    TooLarge(usize),
}

/// The bytes of an ONNX model that computes what a graph behind [`edgecc_passes::prepare`] does.
pub fn export(graph: &Graph) -> Result<Vec<u8>, ExportError> {
    let mut writer = Writer::new(graph);
    let mut unsupported = Vec::new();
    for id in graph.order() {
        if let Err(what) = operators::write(&mut writer, graph, id) {
            unsupported.push(format!("  {} ({}): {what}", graph.node(id).origin(), graph.op(id).name()));
        }
    }
    if !unsupported.is_empty() {
        return Err(ExportError::Unsupported(unsupported));
    }
    for output in graph.outputs() {
        writer.output(output);
    }
    let input = |&id: &edgecc_ir::NodeId| match graph.op(id) {
        Op::Input { name } => value_info(name, graph.ty(id)),
        _ => ValueInfoProto::default(),
    };
    let (version, format) = match writer.has_blocks() {
        true => (OPERATOR_SET_OF_BLOCKS, FORMAT_OF_BLOCKS),
        false => (OPERATOR_SET, FORMAT),
    };
    let (node, initializer) = writer.finish();
    let message = GraphProto {
        node,
        name: graph.name().into(),
        initializer,
        input: graph.inputs().iter().map(input).collect(),
        output: graph.outputs().iter().map(|output| value_info(&output.name, graph.ty(output.node))).collect(),
        sparse_initializer: Vec::new(),
    };
    let model = ModelProto {
        ir_version: format,
        producer_name: "edgecc".into(),
        graph: Some(message),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version }],
        functions: Vec::new(),
    };
    let length = model.encoded_len();
    if length > LARGEST { Err(ExportError::TooLarge(length)) } else { Ok(model.encode_to_vec()) }
}

fn value_info(name: &str, ty: &edgecc_ir::TensorType) -> ValueInfoProto {
    let extents = ty.shape.extents().into_iter();
    let dim = extents.map(|extent| DimensionProto { dim_value: Some(extent as i64), dim_param: None }).collect();
    let tensor_type = TensorTypeProto { elem_type: number(ty.dtype), shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}
