//! Graph to text.

use std::collections::HashSet;
use std::fmt::{self, Write};

use super::attributes::{Value, attributes, expression_arguments};
use super::expression::{self, Arguments};
use super::number::{literal, rounded_literal, typed_literal};
use crate::expr::Expr;
use crate::graph::{Graph, NodeId, Origin};
use crate::op::Op;
use crate::tensor::{Tensor, TensorData};
use crate::types::{DType, Scalar, Type};

/// Constants up to this many elements are written as numbers, longer ones as bytes in hexadecimal.
const MAX_NUMBERS: usize = 16;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rendering {
    Full,
    Snapshot,
}

impl Graph {
    /// The exact text of the nodes that the outputs need, as [`Graph::from_text`] reads it. Nodes are numbered in
    /// [`Graph::order`], so that equal graphs have equal texts whatever the order of their creation.
    pub fn to_text(&self) -> String {
        print(self, Rendering::Full)
    }

    /// The text for snapshot tests: numbers at six digits, of longer constants the first ones and the last; behind
    /// whatever is shortened, `#` and a hash of the exact bits.
    pub fn to_snapshot(&self) -> String {
        print(self, Rendering::Snapshot)
    }
}

/// The snapshot text.
impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_snapshot())
    }
}

fn print(graph: &Graph, rendering: Rendering) -> String {
    let order = graph.order();
    let names = names(graph, &order);
    let inputs: Vec<String> =
        graph.inputs().iter().map(|id| format!("{}: {}", names[id.index()], graph.node(*id).ty())).collect();
    let mut text = format!("graph {}({}) {{\n", bare_or_quoted(graph.name()), inputs.join(", "));
    for &id in &order {
        if let Some(line) = line(graph, id, &names, rendering) {
            text.push_str("  ");
            text.push_str(&line);
            text.push('\n');
        }
    }
    let outputs: Vec<String> = graph
        .outputs()
        .iter()
        .map(|output| format!("{} as {}", names[output.node.index()], bare_or_quoted(&output.name)))
        .collect();
    let _ = writeln!(text, "  return {}\n}}", outputs.join(", "));
    text
}

/// What each node is called, by [`NodeId::index`].
fn names(graph: &Graph, order: &[NodeId]) -> Vec<String> {
    let mut names = vec![String::new(); graph.bound()];
    let (mut values, mut constants) = (0.., 0..);
    let mut taken = HashSet::new();
    for &id in order {
        names[id.index()] = match graph.op(id) {
            Op::Input { name } => format!("%{}", name_of_value(name)),
            Op::Constant(_) => match own_name(graph.node(id).origin()).filter(|&name| taken.insert(name)) {
                Some(name) => format!("@{}", name_of_value(name)),
                None => format!("@{}", next(&mut constants)),
            },
            _ => format!("%{}", next(&mut values)),
        };
    }
    names
}

fn next(numbers: &mut std::ops::RangeFrom<usize>) -> usize {
    numbers.next().unwrap_or(usize::MAX)
}

/// The name by which a constant can be called: the one name of its origin.
fn own_name(origin: &Origin) -> Option<&str> {
    match &origin.0[..] {
        [name] => Some(name),
        _ => None,
    }
}

fn line(graph: &Graph, id: NodeId, names: &[String], rendering: Rendering) -> Option<String> {
    let node = graph.node(id);
    let name = &names[id.index()];
    let mut text = match node.op() {
        Op::Input { .. } => return None,
        Op::Constant(value) => format!("{name} = const {} {}", node.ty(), elements(value, rendering)),
        op => {
            let operands: Vec<&str> = node.operands().iter().map(|operand| names[operand.index()].as_str()).collect();
            let separator = if operands.is_empty() { "" } else { " " };
            let element = node.operands().first().and_then(|&first| match graph.node(first).ty() {
                Type::Tensor(ty) => Some(ty.dtype),
                Type::Tuple(_) => None,
            });
            let attributes = attributes_text(op, element, rendering);
            format!("{name} = {}{separator}{}{attributes} : {}", op.name(), operands.join(", "), node.ty())
        }
    };
    let called_by_origin = own_name(node.origin()).is_some_and(|own| *name == format!("@{}", name_of_value(own)));
    if !node.origin().0.is_empty() && !called_by_origin {
        let origins: Vec<String> = node.origin().0.iter().map(|name| bare_or_quoted(name)).collect();
        let _ = write!(text, "  ; {}", origins.join("+"));
    }
    Some(text)
}

fn attributes_text(op: &Op, element: Option<DType>, rendering: Rendering) -> String {
    let mut text = String::new();
    for (key, value) in attributes(op, element) {
        let _ = match value {
            Value::Flag => write!(text, " {key}"),
            Value::Word(word) => write!(text, " {key}={word}"),
            Value::List(words) => write!(text, " {key}={}", list(&words, rendering)),
            Value::Expression(expr) => {
                let arguments = expression_arguments(key).unwrap_or(Arguments::Map);
                write!(text, " {key}={}", expression_text(&expr, arguments, rendering))
            }
        };
    }
    text
}

fn expression_text(expr: &Expr, arguments: Arguments, rendering: Rendering) -> String {
    let mut rounded = Vec::new();
    let mut print_literal = |value: Scalar| {
        let exact = typed_literal(value);
        if rendering == Rendering::Full || exact == typed_rounded(value) {
            return exact;
        }
        rounded.extend_from_slice(&value.to_le_bytes());
        typed_rounded(value)
    };
    let text = expression::print(expr, arguments, &mut print_literal);
    if rounded.is_empty() { text } else { format!("{text} #{}", hash(&rounded)) }
}

fn typed_rounded(value: Scalar) -> String {
    typed_literal(value).replacen(&literal(value), &rounded_literal(value), 1)
}

fn list(words: &[String], rendering: Rendering) -> String {
    if rendering == Rendering::Full || words.len() <= MAX_NUMBERS {
        return format!("[{}]", words.join(", "));
    }
    let (first, last) = (words[..3].join(", "), &words[words.len() - 1]);
    format!("[{first}, .. {last}] x{} #{}", words.len(), hash(words.join(",").as_bytes()))
}

fn elements(value: &Tensor, rendering: Rendering) -> String {
    match (value.data(), rendering) {
        (TensorData::Splat(element), Rendering::Full) => literal(*element),
        (TensorData::Splat(element), Rendering::Snapshot) => snapshot_splat(*element),
        (TensorData::Dense(bytes), Rendering::Full) if value.elements() > MAX_NUMBERS => {
            format!("hex \"{}\"", hex(bytes))
        }
        (TensorData::Dense(_), Rendering::Full) => braced(value, literal),
        (TensorData::Dense(bytes), Rendering::Snapshot) => snapshot_elements(value, bytes),
    }
}

fn snapshot_splat(element: Scalar) -> String {
    let (exact, rounded) = (literal(element), rounded_literal(element));
    if exact == rounded { exact } else { format!("{rounded} #{}", hash(&element.to_le_bytes())) }
}

fn snapshot_elements(value: &Tensor, bytes: &[u8]) -> String {
    if value.elements() > MAX_NUMBERS {
        let first: Vec<String> = (0..3).map(|index| rounded_literal(value.get(index))).collect();
        let last = rounded_literal(value.get(value.elements() - 1));
        return format!("{{{}, .. {last}}} #{}", first.join(", "), hash(bytes));
    }
    let (exact, rounded) = (braced(value, literal), braced(value, rounded_literal));
    if exact == rounded { exact } else { format!("{rounded} #{}", hash(bytes)) }
}

fn braced(value: &Tensor, print: fn(Scalar) -> String) -> String {
    format!("{{{}}}", value.scalars().map(print).collect::<Vec<_>>().join(", "))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[digit as usize] as char).collect()
}

/// The first 32 bits of the BLAKE3 hash.
fn hash(bytes: &[u8]) -> String {
    hex(&blake3::hash(bytes).as_bytes()[..4])
}

/// Characters that names have without quotes.
pub(super) fn is_name_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

fn bare_or_quoted(name: &str) -> String {
    if !name.is_empty() && name.chars().all(is_name_character) { name.into() } else { quoted(name) }
}

/// A name behind `%` or `@`, where bare digits are numbers.
fn name_of_value(name: &str) -> String {
    if name.chars().all(|c| c.is_ascii_digit()) { quoted(name) } else { bare_or_quoted(name) }
}

fn quoted(name: &str) -> String {
    let mut text = String::from("\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            c if c.is_control() => text.extend(c.escape_unicode()),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
