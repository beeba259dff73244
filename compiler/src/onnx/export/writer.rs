//! A model while it is written: its nodes, its initialisers and their names.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use edgecc_ir::{DType, Graph, NodeId, Op, Output, Shape, Tensor};

use super::super::proto::{AttributeProto, NodeProto, TensorProto};
use super::super::tensor::number;

/// `AttributeProto.AttributeType`.
const FLOAT: i32 = 1;
const INT: i32 = 2;
const STRING: i32 = 3;
const INTS: i32 = 7;

/// What is written so far.
pub(super) struct Writer {
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
    /// Names of values, each of one value.
    values: BTreeSet<String>,
    /// Names of nodes.
    named: BTreeSet<String>,
    /// Values by node, and by component where the node's result is a tuple.
    by_node: BTreeMap<(NodeId, usize), String>,
    /// Names that outputs of the model give to nodes' results.
    promised: BTreeMap<NodeId, String>,
    /// The model's name of the node that is being written.
    origin: String,
    /// Whether a node knows scales for blocks.
    has_blocks: bool,
}

/// `TensorProto.DataType` of integers of 4 bits, two to a byte.
const INT4: i32 = 22;

/// An attribute of whole numbers.
pub(super) fn ints(name: &str, values: impl IntoIterator<Item = i64>) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: INTS, ints: values.into_iter().collect(), ..AttributeProto::default() }
}

/// An attribute of a whole number.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: INT, i: value, ..AttributeProto::default() }
}

/// An attribute of a number.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: FLOAT, f: value, ..AttributeProto::default() }
}

/// An attribute of text.
pub(super) fn text(name: &str, value: &'static str) -> AttributeProto {
    let s = Bytes::from_static(value.as_bytes());
    AttributeProto { name: name.into(), r#type: STRING, s, ..AttributeProto::default() }
}

impl Writer {
    pub(super) fn new(graph: &Graph) -> Writer {
        let inputs = graph.inputs().iter().filter_map(|&id| match graph.op(id) {
            Op::Input { name } => Some(((id, 0), name.clone())),
            _ => None,
        });
        let by_node: BTreeMap<_, _> = inputs.collect();
        let mut values: BTreeSet<String> = by_node.values().cloned().collect();
        let mut promised = BTreeMap::new();
        for output in graph.outputs() {
            let is_computed = !matches!(graph.op(output.node), Op::Input { .. } | Op::Constant(_) | Op::Project(_));
            // A name that an input has as well stays with the input, which no sound model has for another value.
            if values.insert(output.name.clone()) && is_computed {
                promised.entry(output.node).or_insert_with(|| output.name.clone());
            }
        }
        Writer {
            nodes: Vec::new(),
            initializers: Vec::new(),
            values,
            named: BTreeSet::new(),
            by_node,
            promised,
            origin: String::new(),
            has_blocks: false,
        }
    }

    /// Nodes that follow stand for this one.
    pub(super) fn begin(&mut self, origin: String) {
        self.origin = origin;
    }

    /// The value of a node.
    pub(super) fn value(&self, id: NodeId) -> String {
        self.component(id, 0)
    }

    /// A component of a node's tuple.
    pub(super) fn component(&self, id: NodeId, place: usize) -> String {
        self.by_node.get(&(id, place)).cloned().unwrap_or_default()
    }

    /// Sets the value of a node, or a component of its tuple.
    pub(super) fn set(&mut self, id: NodeId, place: usize, value: String) {
        self.by_node.insert((id, place), value);
    }

    /// The name for a node's result: that of an output of the model, or a new one.
    pub(super) fn result_name(&mut self, id: NodeId) -> String {
        match self.promised.get(&id) {
            Some(name) => name.clone(),
            None => self.fresh("value"),
        }
    }

    /// A name that no value has.
    pub(super) fn fresh(&mut self, stem: &str) -> String {
        let name = unused(&self.values, stem, self.values.len());
        self.values.insert(name.clone());
        name
    }

    /// Writes a node with one result; the result's name.
    pub(super) fn node(&mut self, operator: &str, inputs: &[String], attributes: Vec<AttributeProto>) -> String {
        let result = self.fresh("value");
        self.node_to(operator, inputs, vec![result.clone()], attributes);
        result
    }

    /// Writes a node with results of these names.
    pub(super) fn node_to(
        &mut self,
        operator: &str,
        inputs: &[String],
        results: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) {
        let stem = if self.origin.is_empty() { operator } else { &self.origin };
        let name = match self.named.contains(stem) {
            true => unused(&self.named, stem, self.named.len()),
            false => stem.to_string(),
        };
        self.named.insert(name.clone());
        self.nodes.push(NodeProto {
            input: inputs.to_vec(),
            output: results,
            name,
            op_type: operator.into(),
            attribute: attributes,
            domain: String::new(),
        });
    }

    /// Writes a constant; its name.
    pub(super) fn constant(&mut self, value: &Tensor) -> String {
        let name = self.fresh("constant");
        self.initializers.push(TensorProto {
            dims: value.shape().extents().into_iter().map(|extent| extent as i64).collect(),
            data_type: number(value.dtype()),
            name: name.clone(),
            raw_data: value.bytes(),
            ..TensorProto::default()
        });
        name
    }

    /// Writes a constant of integers of 8 bits, or of 4 where that holds them; its name.
    pub(super) fn integers(&mut self, extents: &[usize], values: &[i8]) -> String {
        let is_narrow = values.iter().all(|value| (-8..8).contains(value));
        let byte = |pair: &[i8]| pair[0] as u8 & 15 | pair.get(1).map_or(0, |&upper| (upper as u8) << 4);
        let (data_type, bytes): (i32, Vec<u8>) = match is_narrow {
            true => (INT4, values.chunks(2).map(byte).collect()),
            false => (number(DType::I8), values.iter().map(|&value| value as u8).collect()),
        };
        let name = self.fresh("constant");
        self.initializers.push(TensorProto {
            dims: extents.iter().map(|&extent| extent as i64).collect(),
            data_type,
            name: name.clone(),
            raw_data: bytes.into(),
            ..TensorProto::default()
        });
        name
    }

    /// Writes a node that knows blocks, which takes a later set of operators.
    pub(super) fn node_of_blocks(
        &mut self,
        operator: &str,
        inputs: &[String],
        result: String,
        attributes: Vec<AttributeProto>,
    ) {
        self.has_blocks = true;
        self.node_to(operator, inputs, vec![result], attributes);
    }

    /// Whether a node takes the set of operators that knows blocks.
    pub(super) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    /// Writes a list of whole numbers; its name.
    pub(super) fn list(&mut self, values: impl IntoIterator<Item = i64>) -> String {
        let values: Vec<i64> = values.into_iter().collect();
        self.constant(&Tensor::from_i64(Shape::new(&[values.len()]), &values))
    }

    /// Gives an output its name, by a node of its own where the value has another.
    pub(super) fn output(&mut self, output: &Output) {
        let value = self.value(output.node);
        if value != output.name {
            self.begin(String::new());
            self.node_to("Identity", &[value], vec![output.name.clone()], Vec::new());
        }
    }

    /// The nodes, and the initialisers that they read.
    pub(super) fn finish(mut self) -> (Vec<NodeProto>, Vec<TensorProto>) {
        let read: BTreeSet<&String> = self.nodes.iter().flat_map(|node| &node.input).collect();
        self.initializers.retain(|initializer| read.contains(&initializer.name));
        (self.nodes, self.initializers)
    }
}

/// `stem` with the first number from `start` on that makes a name not in use.
fn unused(names: &BTreeSet<String>, stem: &str, start: usize) -> String {
    let mut number = start;
    loop {
        let name = format!("{stem}_{number}");
        if !names.contains(&name) {
            return name;
        }
        number += 1;
    }
}
