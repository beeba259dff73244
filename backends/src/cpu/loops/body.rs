//! What a loop's body sets and reads.

use super::Emitter;
use crate::cpu::expr::{Shared, emit_items};
use crate::cpu::function::EmitError;
use crate::kernel::{Local, Stmt, Value};

/// Locals that a body reads before it sets them.
pub(super) fn reads_from_outside(body: &[Stmt]) -> Vec<Local> {
    let (mut set, mut outside) = (Vec::new(), Vec::new());
    walk(body, &mut set, &mut outside);
    outside.sort_unstable();
    outside.dedup();
    outside
}

/// Locals that a body sets, computes with or stores: all that it does not only count positions with.
pub(super) fn touched(body: &[Stmt]) -> Vec<Local> {
    let (mut set, mut outside) = (Vec::new(), Vec::new());
    walk(body, &mut set, &mut outside);
    set.append(&mut outside);
    set
}

fn walk(body: &[Stmt], set: &mut Vec<Local>, outside: &mut Vec<Local>) {
    for statement in body {
        match statement {
            Stmt::For { body, .. } => walk(body, set, outside),
            Stmt::Set { local, value } => {
                if let Value::Apply { arguments, .. } = value {
                    outside.extend(arguments.iter().filter(|argument| !set.contains(argument)));
                }
                set.push(*local);
            }
            Stmt::Store { local, .. } => outside.extend(Some(*local).filter(|local| !set.contains(local))),
        }
    }
}

impl Emitter<'_, '_> {
    /// Gives a local its value, as wide as this place is.
    pub(super) fn set(&mut self, local: Local, value: &Value) -> Result<(), EmitError> {
        let width = self.width();
        let result = match value {
            Value::Load { buffer, index } => self.load(*buffer, index),
            Value::Index(index) => self.index(index),
            Value::Apply { expr, arguments } => {
                let arguments = arguments.iter().map(|&argument| self.read(argument)).collect::<Result<Vec<_>, _>>()?;
                let arguments: Vec<&[_]> = arguments.iter().map(std::slice::from_ref).collect();
                emit_items(self.b, &mut Shared::here(self.architecture), expr, &arguments, width)?[0]
            }
        };
        self.define(local, result, width);
        Ok(())
    }
}
