//! `edgecc.h` declares what the library exports: the same functions with the same parameters, the same constants.

use std::collections::BTreeMap;

use edgecc_runtime::ElementType;
use edgecc_runtime::capi::{EDGECC_ABI_VERSION, EDGECC_VERIFY_WEIGHTS, Status};

const HEADER: &str = include_str!("../include/edgecc.h");
const LIBRARY: [&str; 2] = [include_str!("../src/capi.rs"), include_str!("../src/capi/gpu.rs")];

/// Function name to return type and parameters, as `type name` in C.
type Declarations = BTreeMap<String, (String, Vec<String>)>;

/// Text without comments, in single spaces.
fn plain(text: &str) -> String {
    let mut rest = text;
    let mut plain = String::new();
    while let Some((before, comment)) = rest.split_once("/*") {
        plain.push_str(before);
        rest = comment.split_once("*/").expect("the comment ends").1;
    }
    plain.push_str(rest);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A C declaration with its stars beside the type: `const char *name` becomes `const char* name`.
fn star_by_type(declaration: &str) -> String {
    let Some((kind, name)) = declaration.trim().rsplit_once(' ') else { return declaration.trim().into() };
    let stars = name.len() - name.trim_start_matches('*').len();
    format!("{kind}{} {}", "*".repeat(stars), name.trim_start_matches('*'))
}

fn declared() -> Declarations {
    let text = plain(HEADER);
    let functions = text.split(';').filter_map(|statement| {
        let (head, parameters) = statement.strip_suffix(')')?.split_once('(')?;
        let start = head.rfind(['}', '{']).map_or(0, |brace| brace + 1);
        let head = star_by_type(&head[start..]);
        let (result, name) = head.rsplit_once(' ')?;
        let parameters = parameters.split(',').filter(|parameter| *parameter != "void").map(star_by_type).collect();
        Some((name.to_owned(), (result.to_owned(), parameters)))
    });
    functions.collect()
}

fn exported() -> Declarations {
    let functions = LIBRARY.iter().flat_map(|file| file.split("extern \"C\" fn ").skip(1)).map(|text| {
        let signature = text.split_once('{').expect("the function has a body").0;
        let (name, rest) = signature.split_once('(').expect("the function has parameters");
        let (parameters, result) = rest.rsplit_once(')').expect("the parameters end");
        let parameters = parameters.split(',').map(str::trim).filter(|parameter| !parameter.is_empty());
        let parameters = parameters.map(|parameter| {
            let (name, kind) = parameter.split_once(": ").expect("the parameter has a type");
            format!("{} {name}", in_c(kind))
        });
        let result = result.trim().strip_prefix("-> ").map_or("void".into(), in_c);
        (name.to_owned(), (result, parameters.collect()))
    });
    functions.collect()
}

/// A Rust type as C writes it.
fn in_c(kind: &str) -> String {
    match kind.trim() {
        "u32" => "uint32_t".into(),
        "usize" => "size_t".into(),
        "bool" => "bool".into(),
        "c_char" => "char".into(),
        "c_void" => "void".into(),
        "Status" => "edgecc_status".into(),
        "ModelHandle" => "edgecc_model".into(),
        "PoolHandle" => "edgecc_pool".into(),
        "SessionHandle" => "edgecc_session".into(),
        "GpuHandle" => "edgecc_gpu".into(),
        "Times" => "edgecc_times".into(),
        "PortInfo" => "edgecc_port".into(),
        "Buffer" => "edgecc_buffer".into(),
        pointer => match (pointer.strip_prefix("*const "), pointer.strip_prefix("*mut ")) {
            (Some(target), _) => format!("const {}*", in_c(target)),
            (None, Some(target)) => format!("{}*", in_c(target)),
            (None, None) => panic!("`{pointer}` has no C type here"),
        },
    }
}

/// The value that the header gives a constant, by `NAME = 1` or `#define NAME 1`.
fn constant(name: &str) -> Option<u32> {
    let header = plain(HEADER);
    let words: Vec<&str> = header.split_whitespace().collect();
    let position = words.iter().position(|word| *word == name)?;
    let value = words[position + 1..].iter().find(|word| **word != "=")?;
    value.trim_end_matches(',').parse().ok()
}

#[test]
fn functions_are_declared_as_they_are_exported() {
    let exported = exported();
    assert!(exported.len() >= 15, "{exported:?}");
    assert_eq!(declared(), exported);
}

#[test]
fn constants_have_the_same_values() {
    let statuses = [
        ("EDGECC_OK", Status::Ok),
        ("EDGECC_INVALID_ARGUMENT", Status::InvalidArgument),
        ("EDGECC_CANNOT_READ", Status::CannotRead),
        ("EDGECC_BAD_ARTIFACT", Status::BadArtifact),
        ("EDGECC_WRONG_VERSION", Status::WrongVersion),
        ("EDGECC_WRONG_PROCESSOR", Status::WrongProcessor),
        ("EDGECC_OUT_OF_RESOURCES", Status::OutOfResources),
        ("EDGECC_CANCELLED", Status::Cancelled),
        ("EDGECC_NO_DEVICE", Status::NoDevice),
        ("EDGECC_DEVICE_FAILED", Status::DeviceFailed),
    ];
    for (name, status) in statuses {
        assert_eq!(constant(name), Some(status as u32), "{name}");
    }
    for value in 1..=13 {
        let element_type = ElementType::try_from(value).expect("an element type");
        let name = format!("EDGECC_{}", element_type.name().to_uppercase());
        assert_eq!(constant(&name), Some(value as u32), "{name}");
    }
    assert!(ElementType::try_from(14).is_err(), "the header lacks a new element type");
    assert_eq!(constant("EDGECC_ABI_VERSION"), Some(EDGECC_ABI_VERSION));
    assert_eq!(constant("EDGECC_VERIFY_WEIGHTS"), Some(EDGECC_VERIFY_WEIGHTS));
}
