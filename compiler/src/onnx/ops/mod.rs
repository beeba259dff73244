//! The operators, one function each, in tables by family.

mod contraction;
mod elementwise;
mod experimental;
mod index;
mod lstm;
mod microsoft;
mod movement;
mod normalization;
mod pooling;
mod quantization;
mod recurrence;
mod reduction;
mod resize;
mod structure;

use super::context::{Context, Results};
use super::import::qualified;

/// Imports one node: its results, in the order of the node's outputs.
pub(super) type Import = fn(&mut Context<'_, '_>) -> Results;

/// A row of a table: name, first version, function.
pub(super) type Row = (&'static str, u32, Import);

/// An operator that is imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operator {
    /// Its name, behind its domain where that is not ONNX's own.
    pub name: &'static str,
    /// The oldest operator set that has it; of ONNX's own at least 7.
    pub since: u32,
}

const FAMILIES: [&[Row]; 14] = [
    contraction::TABLE,
    elementwise::TABLE,
    experimental::TABLE,
    index::TABLE,
    lstm::TABLE,
    microsoft::TABLE,
    movement::TABLE,
    normalization::TABLE,
    pooling::TABLE,
    quantization::TABLE,
    recurrence::TABLE,
    reduction::TABLE,
    resize::TABLE,
    structure::TABLE,
];

/// Every operator, by name.
pub(super) fn table() -> Vec<Operator> {
    let rows = FAMILIES.iter().flat_map(|family| family.iter());
    // Of other domains every version is read.
    let oldest = |name: &str| if name.contains("::") { 1 } else { 7 };
    let mut operators: Vec<Operator> =
        rows.map(|&(name, since, _)| Operator { name, since: since.max(oldest(name)) }).collect();
    operators.sort_by_key(|operator| operator.name);
    operators
}

/// The function of an operator.
pub(super) fn find(domain: &str, name: &str) -> Option<Import> {
    let name = qualified(domain, name);
    let mut rows = FAMILIES.iter().flat_map(|family| family.iter());
    rows.find(|(known, _, _)| *known == name).map(|&(_, _, function)| function)
}

/// What would help with an operator that is not in the tables.
pub(super) fn hint(domain: &str, name: &str) -> String {
    match (domain, name) {
        ("", "GRU" | "RNN" | "Loop") => {
            "recurrence and loops are not supported; unroll the model for a fixed length".into()
        }
        ("", "NonMaxSuppression" | "NonZero" | "Unique" | "Compress") => {
            "its size depends on data; cut the model before it and do this step in the app".into()
        }
        ("", _) => "is not in the table of operators; `edgecc ops` lists them".into(),
        _ => format!(
            "domain `{domain}` is unknown; export with ONNX's own operators, or with the function's body in the model"
        ),
    }
}
