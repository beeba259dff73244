//! Loops as naga has them, and the variables that they change.

use std::collections::HashSet;

use naga::{BinaryOperator, Block, Expression, Function, Handle, Literal, LocalVariable, Statement};

/// What a loop counts.
pub(super) struct Counter<'a> {
    pub(super) variable: Handle<LocalVariable>,
    pub(super) end: Handle<Expression>,
    pub(super) step: i64,
    /// The statement that ends the loop.
    pub(super) ends: &'a Statement,
}

/// What a loop counts that begins with `if v < end {} else { break; }` and ends with `v += step`.
pub(super) fn counter<'a>(function: &Function, body: &'a Block, continuing: &Block) -> Option<Counter<'a>> {
    let of = |handle: Handle<Expression>| &function.expressions[handle];
    let variable_of = |handle: Handle<Expression>| match of(handle) {
        Expression::Load { pointer } => match of(*pointer) {
            Expression::LocalVariable(variable) => Some(*variable),
            _ => None,
        },
        _ => None,
    };
    let no_emission = |statement: &&Statement| !matches!(statement, Statement::Emit(_));
    let first = body.iter().find(no_emission)?;
    let Statement::If { condition, accept, reject } = first else { return None };
    let Expression::Binary { op: BinaryOperator::Less, left, right: end } = *of(*condition) else { return None };
    let ends = accept.is_empty() && matches!(reject.first(), Some(Statement::Break)) && reject.len() == 1;
    let variable = variable_of(left).filter(|_| ends)?;
    let last: Vec<&Statement> = continuing.iter().filter(no_emission).collect();
    let [Statement::Store { pointer, value }] = last[..] else { return None };
    let Expression::Binary { op: BinaryOperator::Add, left, right } = *of(*value) else { return None };
    let is_counted = matches!(of(*pointer), Expression::LocalVariable(stored) if *stored == variable);
    let step = match *of(right) {
        Expression::Literal(Literal::I32(step)) if step > 0 => i64::from(step),
        _ => return None,
    };
    (is_counted && variable_of(left) == Some(variable)).then_some(Counter { variable, end, step, ends: first })
}

/// The variables that statements give values.
pub(super) fn variables_stored<const N: usize>(
    function: &Function,
    blocks: [&Block; N],
) -> HashSet<Handle<LocalVariable>> {
    let of_statement = |statement: &Statement| match statement {
        Statement::Store { pointer, .. } => match function.expressions[*pointer] {
            Expression::LocalVariable(variable) => HashSet::from([variable]),
            _ => HashSet::new(),
        },
        Statement::Block(block) => variables_stored(function, [block]),
        Statement::If { accept, reject, .. } => variables_stored(function, [accept, reject]),
        Statement::Loop { body, continuing, .. } => variables_stored(function, [body, continuing]),
        _ => HashSet::new(),
    };
    blocks.into_iter().flat_map(|block| block.iter()).flat_map(of_statement).collect()
}
