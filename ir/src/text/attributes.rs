//! The attributes of operators as keys and values; what is written and what is read stand side by side.

use super::expression::Arguments;
use super::number::literal;
use crate::expr::Expr;
use crate::infer::accumulator_type;
use crate::op::{Extreme, Op, PadMode, PoolKind, Resample, ScatterKind, Window};
use crate::types::{DType, Scalar};

/// The value of an attribute.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `key`
    Flag,
    /// `key=word`
    Word(String),
    /// `key=[word, ..]`
    List(Vec<String>),
    /// `key=expression`
    Expression(Expr),
}

/// A key with its value.
pub(super) type Attribute = (&'static str, Value);

/// What the operands in an expression under this key are called; `None` where the value is no expression.
pub(super) fn expression_arguments(key: &str) -> Option<Arguments> {
    match key {
        "expr" => Some(Arguments::Map),
        EPILOGUE => Some(Arguments::Epilogue),
        WIDE_EPILOGUE => Some(Arguments::WideEpilogue),
        _ => None,
    }
}

/// An epilogue over sums in the type of the elements.
pub(super) const EPILOGUE: &str = "epilogue";
/// An epilogue over f32 sums of halves.
pub(super) const WIDE_EPILOGUE: &str = "wide_epilogue";

/// The attributes of an operator that neither its name nor its type says and that do not have their plain value. `element` is
/// the element type of operand 0.
pub(super) fn attributes(op: &Op, element: Option<DType>) -> Vec<Attribute> {
    match op {
        Op::Input { .. } | Op::Constant(_) | Op::Reshape(_) | Op::Broadcast(_) | Op::Relayout(_) => Vec::new(),
        Op::Map(expr) => vec![("expr", Value::Expression(expr.clone()))],
        Op::Conv { window, groups, epilogue } => {
            join([of_window(window), unless("groups", *groups, 1), of_epilogue(epilogue, element)])
        }
        Op::ConvTranspose { window, output_padding, groups, epilogue } => join([
            of_window(window),
            unless_all("output_padding", output_padding, 0),
            unless("groups", *groups, 1),
            of_epilogue(epilogue, element),
        ]),
        Op::MatMul { transpose_a, transpose_b, epilogue } => {
            join([flag("transpose_a", *transpose_a), flag("transpose_b", *transpose_b), of_epilogue(epilogue, element)])
        }
        Op::Pool { kind, window, ceil } => join([of_window(window), flag("ceil", *ceil), of_pool(*kind)]),
        Op::PoolIndices { window, ceil, column_major } => {
            join([of_window(window), flag("ceil", *ceil), flag("column_major", *column_major)])
        }
        Op::Reduce { axes, .. } => list("axes", axes),
        Op::ArgReduce { axis, last, .. } => join([word("axis", axis), flag("last", *last)]),
        Op::Softmax { axis, .. } | Op::Concat { axis } | Op::Gather { axis } | Op::GatherElements { axis } => {
            word("axis", axis)
        }
        Op::Normalize { axes, epsilon, root_mean_square } => {
            join([list("axes", axes), float("epsilon", *epsilon), flag("root_mean_square", *root_mean_square)])
        }
        Op::LocalResponseNorm { size, alpha, beta, bias } => {
            join([word("size", size), float("alpha", *alpha), float("beta", *beta), float("bias", *bias)])
        }
        Op::Transpose(perm) => list("perm", perm),
        Op::Slice { starts, steps, .. } => join([list("starts", starts), unless_all("steps", steps, 1)]),
        Op::Pad { mode, before, after } => {
            let mode = named(&PAD_MODES, *mode).filter(|_| *mode != PadMode::Constant);
            join([list("before", before), list("after", after), mode.map_or_else(Vec::new, |mode| word("mode", mode))])
        }
        Op::Tile { repeats } => list("repeats", repeats),
        Op::Resize { axes } => axes.iter().flat_map(of_resample).collect(),
        Op::GatherNd { batch_dims } => unless("batch_dims", *batch_dims, 0),
        Op::ScatterElements { axis, kind } => join([word("axis", axis), of_scatter(*kind)]),
        Op::ScatterNd { kind } => of_scatter(*kind),
        Op::CumulativeSum { axis, exclusive, reverse } => {
            join([word("axis", axis), flag("exclusive", *exclusive), flag("reverse", *reverse)])
        }
        Op::TopK { axis, count, extreme } => {
            join([word("axis", axis), word("count", count), flag("smallest", *extreme == Extreme::Min)])
        }
        Op::Project(index) => word("index", index),
    }
}

pub(super) const PAD_MODES: [(PadMode, &str); 4] =
    [(PadMode::Constant, "constant"), (PadMode::Reflect, "reflect"), (PadMode::Edge, "edge"), (PadMode::Wrap, "wrap")];

pub(super) const SCATTER_KINDS: [(ScatterKind, &str); 5] = [
    (ScatterKind::Replace, "replace"),
    (ScatterKind::Add, "add"),
    (ScatterKind::Multiply, "multiply"),
    (ScatterKind::Max, "max"),
    (ScatterKind::Min, "min"),
];

fn join<const N: usize>(parts: [Vec<Attribute>; N]) -> Vec<Attribute> {
    parts.into_iter().flatten().collect()
}

fn word(key: &'static str, value: impl ToString) -> Vec<Attribute> {
    vec![(key, Value::Word(value.to_string()))]
}

fn list<T: ToString>(key: &'static str, values: &[T]) -> Vec<Attribute> {
    vec![(key, Value::List(values.iter().map(T::to_string).collect()))]
}

fn flag(key: &'static str, value: bool) -> Vec<Attribute> {
    if value { vec![(key, Value::Flag)] } else { Vec::new() }
}

fn unless(key: &'static str, value: usize, plain: usize) -> Vec<Attribute> {
    if value == plain { Vec::new() } else { word(key, value) }
}

fn unless_all<T: ToString + PartialEq>(key: &'static str, values: &[T], plain: T) -> Vec<Attribute> {
    if values.iter().all(|value| *value == plain) { Vec::new() } else { list(key, values) }
}

fn float_literal(bits: u32) -> String {
    literal(Scalar::from_bits(DType::F32, bits as u64))
}

fn float(key: &'static str, bits: u32) -> Vec<Attribute> {
    word(key, float_literal(bits))
}

fn named<T: PartialEq>(names: &[(T, &'static str)], value: T) -> Option<&'static str> {
    names.iter().find(|(known, _)| *known == value).map(|(_, name)| *name)
}

fn of_epilogue(epilogue: &Expr, element: Option<DType>) -> Vec<Attribute> {
    let is_wide = element.is_some_and(|element| element.is_float() && accumulator_type(element, epilogue) != element);
    if epilogue.is_argument(0) && !is_wide {
        return Vec::new();
    }
    vec![(if is_wide { WIDE_EPILOGUE } else { EPILOGUE }, Value::Expression(epilogue.clone()))]
}

fn of_window(window: &Window) -> Vec<Attribute> {
    let pads: Vec<usize> = window.pads_before.iter().chain(&window.pads_after).copied().collect();
    join([
        list("kernel", &window.kernel),
        unless_all("strides", &window.strides, 1),
        unless_all("dilations", &window.dilations, 1),
        unless_all("pads", &pads, 0),
    ])
}

fn of_pool(kind: PoolKind) -> Vec<Attribute> {
    match kind {
        PoolKind::Max => Vec::new(),
        PoolKind::Average { count_pads } => flag("count_pads", count_pads),
        PoolKind::Lp { p } => word("p", p),
    }
}

fn of_scatter(kind: ScatterKind) -> Vec<Attribute> {
    match named(&SCATTER_KINDS, kind) {
        Some(name) if kind != ScatterKind::Replace => word("kind", name),
        _ => Vec::new(),
    }
}

fn of_resample(axis: &Resample) -> Vec<Attribute> {
    let weights: Vec<String> = axis.weights.iter().map(|&bits| float_literal(bits)).collect();
    join([
        word("axis", axis.axis),
        word("extent", axis.extent),
        word("taps", axis.taps),
        list("indices", &axis.indices),
        if weights.is_empty() { Vec::new() } else { list("weights", &weights) },
    ])
}
