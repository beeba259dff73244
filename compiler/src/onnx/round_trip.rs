//! Tests: our messages and `onnx-protobuf`'s read each other's files as the same model.

use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use onnx_protobuf as theirs;
use onnx_protobuf::Message as _;
use prost::Message as _;

use super::proto as ours;

fn model(m: &theirs::ModelProto) -> ours::ModelProto {
    ours::ModelProto {
        ir_version: m.ir_version,
        producer_name: m.producer_name.clone(),
        graph: m.graph.as_ref().map(graph),
        opset_import: m.opset_import.iter().map(opset).collect(),
        functions: m.functions.iter().map(function).collect(),
    }
}

fn opset(o: &theirs::OperatorSetIdProto) -> ours::OperatorSetIdProto {
    ours::OperatorSetIdProto { domain: o.domain.clone(), version: o.version }
}

fn graph(g: &theirs::GraphProto) -> ours::GraphProto {
    ours::GraphProto {
        node: g.node.iter().map(node).collect(),
        name: g.name.clone(),
        initializer: g.initializer.iter().map(tensor).collect(),
        input: g.input.iter().map(value_info).collect(),
        output: g.output.iter().map(value_info).collect(),
        sparse_initializer: g.sparse_initializer.iter().map(sparse_tensor).collect(),
    }
}

fn sparse_tensor(t: &theirs::SparseTensorProto) -> ours::SparseTensorProto {
    ours::SparseTensorProto { values: t.values.as_ref().map(tensor) }
}

fn node(n: &theirs::NodeProto) -> ours::NodeProto {
    ours::NodeProto {
        input: n.input.clone(),
        output: n.output.clone(),
        name: n.name.clone(),
        op_type: n.op_type.clone(),
        attribute: n.attribute.iter().map(attribute).collect(),
        domain: n.domain.clone(),
    }
}

fn attribute(a: &theirs::AttributeProto) -> ours::AttributeProto {
    ours::AttributeProto {
        name: a.name.clone(),
        f: a.f,
        i: a.i,
        s: a.s.clone().into(),
        t: a.t.as_ref().map(tensor).map(Box::new),
        g: a.g.as_ref().map(graph).map(Box::new),
        floats: a.floats.clone(),
        ints: a.ints.clone(),
        strings: a.strings.iter().cloned().map(Bytes::from).collect(),
        r#type: a.type_.value(),
        ref_attr_name: a.ref_attr_name.clone(),
    }
}

fn tensor(t: &theirs::TensorProto) -> ours::TensorProto {
    ours::TensorProto {
        dims: t.dims.clone(),
        data_type: t.data_type,
        float_data: t.float_data.clone(),
        int32_data: t.int32_data.clone(),
        string_data: t.string_data.iter().cloned().map(Bytes::from).collect(),
        int64_data: t.int64_data.clone(),
        name: t.name.clone(),
        raw_data: t.raw_data.clone().into(),
        double_data: t.double_data.clone(),
        uint64_data: t.uint64_data.clone(),
        external_data: t.external_data.iter().map(entry).collect(),
        data_location: t.data_location.value(),
    }
}

fn entry(e: &theirs::StringStringEntryProto) -> ours::StringStringEntryProto {
    ours::StringStringEntryProto { key: e.key.clone(), value: e.value.clone() }
}

fn value_info(v: &theirs::ValueInfoProto) -> ours::ValueInfoProto {
    ours::ValueInfoProto { name: v.name.clone(), r#type: v.type_.as_ref().map(type_proto) }
}

fn type_proto(t: &theirs::TypeProto) -> ours::TypeProto {
    let tensor_type = match &t.value {
        Some(theirs::type_proto::Value::TensorType(t)) => {
            Some(ours::TensorTypeProto { elem_type: t.elem_type, shape: t.shape.as_ref().map(shape) })
        }
        _ => None,
    };
    ours::TypeProto { tensor_type }
}

fn shape(s: &theirs::TensorShapeProto) -> ours::TensorShapeProto {
    use theirs::tensor_shape_proto::dimension::Value;
    let dimension = |value: &Option<Value>| match value {
        Some(Value::DimValue(extent)) => ours::DimensionProto { dim_value: Some(*extent), dim_param: None },
        Some(Value::DimParam(symbol)) => ours::DimensionProto { dim_value: None, dim_param: Some(symbol.clone()) },
        _ => ours::DimensionProto::default(),
    };
    ours::TensorShapeProto { dim: s.dim.iter().map(|dim| dimension(&dim.value)).collect() }
}

fn function(f: &theirs::FunctionProto) -> ours::FunctionProto {
    ours::FunctionProto {
        name: f.name.clone(),
        input: f.input.clone(),
        output: f.output.clone(),
        attribute: f.attribute.clone(),
        node: f.node.iter().map(node).collect(),
        opset_import: f.opset_import.iter().map(opset).collect(),
        domain: f.domain.clone(),
        attribute_proto: f.attribute_proto.iter().map(attribute).collect(),
    }
}

/// The models below a folder.
fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    own.chain(folders.iter().flat_map(|folder| models(folder))).collect()
}

/// Compares by encoded bytes, in which NaN equals NaN.
fn check(path: &Path) {
    let file = std::fs::read(path).expect("a model");
    let theirs = theirs::ModelProto::parse_from_bytes(&file).expect("onnx-protobuf reads it");
    let ours = ours::ModelProto::decode(Bytes::from(file)).expect("we read it");
    let expected = model(&theirs).encode_to_vec();
    assert!(ours.encode_to_vec() == expected, "{}: read otherwise", path.display());

    let written = theirs.write_to_bytes().expect("onnx-protobuf writes it");
    let read = ours::ModelProto::decode(Bytes::from(written)).expect("we read what onnx-protobuf writes");
    assert!(read.encode_to_vec() == expected, "{}: what onnx-protobuf writes is read otherwise", path.display());

    let read = theirs::ModelProto::parse_from_bytes(&ours.encode_to_vec()).expect("onnx-protobuf reads what we write");
    assert!(model(&read).encode_to_vec() == expected, "{}: what we write is read otherwise", path.display());
}

#[test]
fn onnx_protobuf_reads_and_writes_the_same_models() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let shared = std::env::var_os("EDGECC_SHARED").map_or(root.join("../shared"), PathBuf::from).join("models");
    let mut paths = [models(&root.join("sample")), models(&root.join("tests/models"))].concat();
    assert!(paths.len() >= 5, "{} models in the repository", paths.len());
    match shared.exists() {
        true => paths.extend(models(&shared)),
        // Written past the capture of tests, so that it is seen.
        false => {
            let _ = writeln!(std::io::stderr(), "skipped: no models in the shared test material (set EDGECC_SHARED)");
        }
    }
    paths.iter().for_each(|path| check(path));
    println!("{} models", paths.len());
}
