//! Proof that a shader stays within its operands. The module that naga parsed is walked once for each set of operands, and every
//! position is followed back to invocations and loops; nothing is asked of whatever wrote the text.
//!
//! What is proved too, since shaders without checks rely on it: loops count up to an end, and integers are divided by
//! numbers that are positive.

mod loops;
mod terms;

use std::collections::{HashMap, HashSet};

use naga::valid::{FunctionInfo, ModuleInfo};
use naga::{
    AddressSpace, ArraySize, BinaryOperator, Block, BuiltIn, EntryPoint, Expression, Function, GlobalVariable, Handle,
    Literal, LocalVariable, MathFunction, Module, Scalar, ScalarKind, Statement, TypeInner, UnaryOperator,
};

use super::grid::GROUP;
use loops::{counter, variables_stored};
use terms::{Conditions, Id, Interval, Term, Terms};

/// An operand's bytes in a binding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Run {
    pub(super) begin: usize,
    pub(super) end: usize,
    pub(super) is_written: bool,
}

/// A shader as naga knows it.
pub(super) struct Parsed {
    pub(super) module: Module,
    pub(super) info: ModuleInfo,
}

/// Why a shader that is dispatched in so many groups over bindings that hold operands is not proved. What lies in a binding's words
/// beside an operand's first or last bytes counts as its own.
pub(super) fn prove(parsed: &Parsed, groups: [u32; 3], bindings: &[Vec<Run>]) -> Result<(), String> {
    let Parsed { module, info } = parsed;
    let entry = module.entry_points.first().ok_or("there is no entry point")?;
    let functions = module.functions.iter().map(|(handle, function)| (function, &info[handle]));
    functions.into_iter().try_for_each(|(function, info)| touches_nothing(module, function, info))?;
    let mut walk = Walk {
        module,
        entry,
        function: &entry.function,
        info: info.get_entry_point(0),
        groups,
        bindings,
        terms: Terms::default(),
        values: HashMap::new(),
        arguments: HashMap::new(),
        stored: HashMap::new(),
        changed: HashSet::new(),
        counters: HashMap::new(),
        conditions: Conditions::new(),
    };
    walk.block(&entry.function.body)
}

/// Functions that shaders call compute with what they are given. Those that divide are known by name to [`Walk::call`].
fn touches_nothing(module: &Module, function: &Function, info: &FunctionInfo) -> Result<(), String> {
    let name = function.name.as_deref().unwrap_or("");
    function.expressions.iter().try_for_each(|(handle, expression)| match *expression {
        Expression::GlobalVariable(variable) if module.global_variables[variable].space != AddressSpace::Private => {
            Err(format!("`{name}` reaches memory"))
        }
        Expression::Binary { op: BinaryOperator::Divide | BinaryOperator::Modulo, .. }
            if is_integer(info[handle].ty.inner_with(&module.types)) && !DIVISIONS.contains(&name) =>
        {
            Err(format!("`{name}` divides integers"))
        }
        _ => Ok(()),
    })
}

/// Functions of a dividend and a positive divisor: the quotient rounded down, and what is left.
const DIVISIONS: [&str; 2] = ["floor_divide", "floor_remainder"];

struct Walk<'a> {
    module: &'a Module,
    entry: &'a EntryPoint,
    function: &'a Function,
    info: &'a FunctionInfo,
    groups: [u32; 3],
    bindings: &'a [Vec<Run>],
    terms: Terms,
    values: HashMap<Handle<Expression>, Id>,
    /// By argument and component.
    arguments: HashMap<(u32, u32), Id>,
    /// What variables were given last, where that is the same on all ways.
    stored: HashMap<Handle<LocalVariable>, Id>,
    /// Variables that may be something else than they are declared with.
    changed: HashSet<Handle<LocalVariable>>,
    /// The variables that loops around count.
    counters: HashMap<Handle<LocalVariable>, Id>,
    conditions: Conditions,
}

impl Walk<'_> {
    fn block(&mut self, block: &Block) -> Result<(), String> {
        block.iter().try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Result<(), String> {
        match statement {
            Statement::Emit(range) => range.clone().try_for_each(|handle| self.emitted(handle)),
            Statement::Block(block) => self.block(block),
            Statement::If { condition, accept, reject } => self.branch(*condition, accept, reject),
            Statement::Loop { body, continuing, break_if: None } => self.counted(body, continuing),
            Statement::Store { pointer, value } => self.store(*pointer, *value),
            Statement::Atomic { pointer, .. } => self.written(*pointer),
            Statement::Call { function, arguments, result } => self.call(*function, arguments, *result),
            Statement::Return { value: None } | Statement::Break | Statement::Continue => Ok(()),
            Statement::ControlBarrier(_) | Statement::MemoryBarrier(_) => Ok(()),
            _ => Err("it does what shaders of the compiler never do".into()),
        }
    }

    fn branch(&mut self, condition: Handle<Expression>, accept: &Block, reject: &Block) -> Result<(), String> {
        let condition = self.value(condition);
        let (conditions, stored) = (self.conditions.clone(), self.stored.clone());
        for (block, holds) in [(accept, true), (reject, false)] {
            if self.terms.assume(condition, holds, &mut self.conditions) {
                self.block(block)?;
            }
            self.conditions = conditions.clone();
            self.stored = stored.clone();
        }
        self.forget(variables_stored(self.function, [accept, reject]));
        if matches!(accept.last(), Some(Statement::Return { .. })) {
            self.terms.assume(condition, false, &mut self.conditions);
        }
        Ok(())
    }

    /// `for (var v = begin; v < end; v += step)`.
    fn counted(&mut self, body: &Block, continuing: &Block) -> Result<(), String> {
        let counter = counter(self.function, body, continuing).ok_or("a loop does not count up to an end")?;
        let changed = variables_stored(self.function, [body]);
        if changed.contains(&counter.variable) || self.counters.contains_key(&counter.variable) {
            return Err("a loop's variable is changed within the loop".into());
        }
        let declared = !self.changed.contains(&counter.variable);
        let initial = self.function.local_variables[counter.variable].init.filter(|_| declared);
        let begin = match (self.stored.get(&counter.variable), initial) {
            (Some(&begin), _) => begin,
            (None, Some(initial)) => self.value(initial),
            (None, None) => return Err("a loop begins anywhere".into()),
        };
        self.forget(variables_stored(self.function, [body, continuing]));
        let (conditions, stored) = (self.conditions.clone(), self.stored.clone());
        let end = self.value(counter.end);
        let ends = self.terms.interval(begin, &conditions).zip(self.terms.interval(end, &conditions));
        if ends.is_some_and(|(_, (_, most))| most - 1 > I32.1 - counter.step) {
            return Err("a loop may count beyond 32 bits".into());
        }
        if ends.is_some_and(|((first, _), (_, most))| first < most) {
            let place = self.terms.add(Term::Counter { begin, end }, I32, &conditions);
            self.counters.insert(counter.variable, place);
            let is_end = |inner: &&Statement| std::ptr::eq(*inner, counter.ends);
            body.iter().filter(|inner| !is_end(inner)).try_for_each(|inner| self.statement(inner))?;
            let is_emission = |inner: &&Statement| matches!(inner, Statement::Emit(_));
            continuing.iter().filter(is_emission).try_for_each(|inner| self.statement(inner))?;
        }
        self.counters.remove(&counter.variable);
        (self.conditions, self.stored) = (conditions, stored);
        Ok(())
    }

    /// Variables may be anything from here on.
    fn forget(&mut self, variables: HashSet<Handle<LocalVariable>>) {
        self.stored.retain(|variable, _| !variables.contains(variable));
        self.changed.extend(variables);
    }

    fn store(&mut self, pointer: Handle<Expression>, value: Handle<Expression>) -> Result<(), String> {
        match self.function.expressions[pointer] {
            Expression::LocalVariable(variable) if self.counters.contains_key(&variable) => {
                Err("a loop's variable is changed within the loop".into())
            }
            Expression::LocalVariable(variable) => {
                let value = self.value(value);
                self.stored.insert(variable, value);
                self.changed.insert(variable);
                Ok(())
            }
            _ => self.written(pointer),
        }
    }

    /// Memory that is written is an operand's that may be.
    fn written(&mut self, pointer: Handle<Expression>) -> Result<(), String> {
        match self.function.expressions[pointer] {
            Expression::Access { base, index } => match self.function.expressions[base] {
                Expression::GlobalVariable(variable) => {
                    let index = self.value(index);
                    self.within_binding(variable, index, true)
                }
                _ => self.written(base),
            },
            Expression::AccessIndex { base, index } => match self.function.expressions[base] {
                Expression::GlobalVariable(variable) => {
                    let index = self.terms.constant(index.into());
                    self.within_binding(variable, index, true)
                }
                _ => self.written(base),
            },
            _ => Ok(()),
        }
    }

    fn call(
        &mut self,
        function: Handle<Function>,
        arguments: &[Handle<Expression>],
        result: Option<Handle<Expression>>,
    ) -> Result<(), String> {
        let name = self.module.functions[function].name.as_deref().unwrap_or("");
        let (Some(result), true) = (result, DIVISIONS.contains(&name)) else { return Ok(()) };
        let [dividend, divisor] = arguments[..] else { return Err(format!("`{name}` of {}", arguments.len())) };
        let divisor = self.value(divisor);
        let (dividend, by) = (self.value(dividend), self.terms.number(divisor).filter(|&by| by > 0));
        let by = by.ok_or("a divisor is no positive number")?;
        let term =
            if name == DIVISIONS[0] { Term::FloorDivide(dividend, by) } else { Term::FloorRemainder(dividend, by) };
        let place = self.terms.add(term, I32, &self.conditions);
        self.values.insert(result, place);
        Ok(())
    }

    /// What an expression touches lies within what it is of.
    fn emitted(&mut self, handle: Handle<Expression>) -> Result<(), String> {
        match self.function.expressions[handle] {
            Expression::Access { base, index } => {
                let index = self.value(index);
                self.within(base, index)?;
            }
            Expression::AccessIndex { base, index } if self.is_memory(base) => {
                let index = self.terms.constant(index.into());
                self.within(base, index)?;
            }
            Expression::Binary { op: BinaryOperator::Divide | BinaryOperator::Modulo, right, .. }
                if is_integer(self.inner(handle)) =>
            {
                let divisor = self.value(right);
                let least = self.terms.interval(divisor, &self.conditions).map_or(1, |(low, _)| low);
                if self.range(right).is_none() || least < 1 {
                    return Err("a divisor may be 0".into());
                }
            }
            _ => {}
        }
        // Its value is what it is here.
        self.value(handle);
        Ok(())
    }

    fn is_memory(&self, base: Handle<Expression>) -> bool {
        matches!(self.inner(base), TypeInner::Pointer { .. })
    }

    /// A position lies within an array or a vector.
    fn within(&self, base: Handle<Expression>, index: Id) -> Result<(), String> {
        if let Expression::GlobalVariable(variable) = self.function.expressions[base]
            && self.module.global_variables[variable].binding.is_some()
        {
            return self.within_binding(variable, index, false);
        }
        let inner = match *self.inner(base) {
            TypeInner::Pointer { base, .. } => &self.module.types[base].inner,
            ref other => other,
        };
        let count = match *inner {
            TypeInner::Array { size: ArraySize::Constant(count), .. } => i64::from(count.get()),
            TypeInner::Vector { size, .. } | TypeInner::ValuePointer { size: Some(size), .. } => size as i64,
            _ => return Err("it reaches into what has no known size".into()),
        };
        match self.terms.lies_in(index, &[(0, count - 1)], &self.conditions) {
            true => Ok(()),
            false => Err(format!("positions {} of {count}", self.positions(index))),
        }
    }

    fn within_binding(&self, variable: Handle<GlobalVariable>, index: Id, is_written: bool) -> Result<(), String> {
        let GlobalVariable { binding, ty, .. } = &self.module.global_variables[variable];
        let Some(binding) = binding else { return Ok(()) };
        let TypeInner::Array { stride, .. } = self.module.types[*ty].inner else {
            return Err("a binding is no array".into());
        };
        let (number, stride) = (binding.binding as usize, stride as usize);
        let operands = self.bindings.get(number).ok_or("there is no such binding")?;
        let of_elements = |run: &Run| ((run.begin / stride) as i64, run.end.div_ceil(stride) as i64 - 1);
        let runs: Vec<Interval> =
            operands.iter().filter(|run| run.is_written || !is_written).map(of_elements).collect();
        match self.terms.lies_in(index, &runs, &self.conditions) {
            true => Ok(()),
            false => {
                let act = if is_written { "writes" } else { "reads" };
                Err(format!("{act} {} of binding {number}, whose operands are {runs:?}", self.positions(index)))
            }
        }
    }

    fn positions(&self, index: Id) -> String {
        self.terms.interval(index, &self.conditions).map_or("none".into(), |(low, high)| format!("{low}..={high}"))
    }

    fn inner(&self, handle: Handle<Expression>) -> &TypeInner {
        self.info[handle].ty.inner_with(&self.module.types)
    }

    /// The range of an expression's type; `None` where it is no single integer or truth value.
    fn range(&self, handle: Handle<Expression>) -> Option<Interval> {
        range(self.inner(handle))
    }

    /// An expression as a term.
    fn value(&mut self, handle: Handle<Expression>) -> Id {
        if let Some(&known) = self.values.get(&handle) {
            return known;
        }
        let range = self.range(handle).unwrap_or((i64::MIN, i64::MAX));
        let id = match self.term(handle) {
            Some(Value::Same(id)) => id,
            Some(Value::Term(term)) => self.terms.add(term, range, &self.conditions),
            None => self.terms.unknown(range),
        };
        self.values.insert(handle, id);
        id
    }

    fn term(&mut self, handle: Handle<Expression>) -> Option<Value> {
        self.range(handle)?;
        let of = |term| Some(Value::Term(term));
        let function = self.function;
        match function.expressions[handle] {
            Expression::Literal(literal) => {
                let number = match literal {
                    Literal::I32(number) => number.into(),
                    Literal::U32(number) => number.into(),
                    Literal::Bool(truth) => truth.into(),
                    _ => return None,
                };
                Some(Value::Same(self.terms.constant(number)))
            }
            Expression::AccessIndex { base, index } => self.argument(base, index).map(Value::Same),
            Expression::FunctionArgument(_) => self.argument(handle, 0).map(Value::Same),
            Expression::Load { pointer } => match function.expressions[pointer] {
                Expression::LocalVariable(variable) => self.counters.get(&variable).copied().map(Value::Same),
                _ => None,
            },
            Expression::Unary { op, expr } => {
                self.range(expr)?;
                let operand = self.value(expr);
                match op {
                    UnaryOperator::Negate => of(Term::Subtract(self.terms.constant(0), operand)),
                    UnaryOperator::LogicalNot => of(Term::Not(operand)),
                    UnaryOperator::BitwiseNot => None,
                }
            }
            Expression::Binary { op, left, right } => {
                let is_truth = self.range(left).and(self.range(right))? == TRUTH;
                let (left, right) = (self.value(left), self.value(right));
                if is_truth {
                    return matches!(op, BinaryOperator::And | BinaryOperator::LogicalAnd)
                        .then_some(Value::Term(Term::Both(left, right)));
                }
                self.binary(op, left, right)
            }
            Expression::Select { condition, accept, reject } => {
                self.range(condition)?;
                let [condition, accept, reject] = [condition, accept, reject].map(|part| self.value(part));
                of(Term::Select { condition, accept, reject })
            }
            Expression::Math { fun, arg, arg1, arg2, .. } => {
                let arguments: Vec<Id> =
                    [Some(arg), arg1, arg2].into_iter().flatten().map(|part| self.value(part)).collect();
                match (fun, &arguments[..]) {
                    (MathFunction::Min, &[a, b]) => of(Term::Minimum(a, b)),
                    (MathFunction::Max, &[a, b]) => of(Term::Maximum(a, b)),
                    (MathFunction::Clamp, &[x, low, high]) => {
                        let range = self.range(handle)?;
                        let above = self.terms.add(Term::Maximum(x, low), range, &self.conditions);
                        of(Term::Minimum(above, high))
                    }
                    _ => None,
                }
            }
            Expression::As { expr, convert: None | Some(4), .. } => {
                self.range(expr)?;
                of(Term::Convert(self.value(expr)))
            }
            _ => None,
        }
    }

    fn binary(&mut self, op: BinaryOperator, left: Id, right: Id) -> Option<Value> {
        let number = self.terms.number(right);
        let positive = number.filter(|&number| number > 0);
        let mut not = |term: Term| {
            let inner = self.terms.add(term, TRUTH, &self.conditions);
            Term::Not(inner)
        };
        let term = match op {
            BinaryOperator::Add => Term::Add(left, right),
            BinaryOperator::Subtract => Term::Subtract(left, right),
            BinaryOperator::Multiply => Term::Multiply(left, right),
            BinaryOperator::Divide => Term::Divide(left, positive?),
            BinaryOperator::Modulo => Term::Remainder(left, positive?),
            BinaryOperator::ShiftRight => Term::FloorDivide(left, 1 << number.filter(|by| (0..32).contains(by))?),
            BinaryOperator::And => Term::Mask(left, positive?),
            BinaryOperator::Less => Term::Less(left, right),
            BinaryOperator::Greater => Term::Less(right, left),
            BinaryOperator::GreaterEqual => not(Term::Less(left, right)),
            BinaryOperator::LessEqual => not(Term::Less(right, left)),
            _ => return None,
        };
        Some(Value::Term(term))
    }

    /// A component of what an invocation is told of its place.
    fn argument(&mut self, handle: Handle<Expression>, component: u32) -> Option<Id> {
        let Expression::FunctionArgument(number) = self.function.expressions[handle] else { return None };
        let argument = self.entry.function.arguments.get(number as usize)?;
        let Some(naga::Binding::BuiltIn(place)) = argument.binding else { return None };
        let axis = component as usize;
        let (groups, invocations) = (i64::from(*self.groups.get(axis)?), i64::from(self.entry.workgroup_size[axis]));
        let count = match place {
            BuiltIn::GlobalInvocationId => groups * invocations,
            BuiltIn::WorkGroupId => groups,
            BuiltIn::LocalInvocationIndex => GROUP,
            _ => return None,
        };
        let known = self.arguments.entry((number, component));
        Some(*known.or_insert_with(|| self.terms.unknown((0, count - 1))))
    }
}

/// An expression as a term that there is, or as a new one.
enum Value {
    Same(Id),
    Term(Term),
}

const I32: Interval = (i32::MIN as i64, i32::MAX as i64);
const U32: Interval = (0, u32::MAX as i64);
const TRUTH: Interval = (0, 1);

fn range(inner: &TypeInner) -> Option<Interval> {
    match inner {
        TypeInner::Scalar(Scalar { kind: ScalarKind::Sint, width: 4 }) => Some(I32),
        TypeInner::Scalar(Scalar { kind: ScalarKind::Uint, width: 4 }) => Some(U32),
        TypeInner::Scalar(Scalar { kind: ScalarKind::Bool, .. }) => Some(TRUTH),
        _ => None,
    }
}

/// Whether something is an integer, or several of them.
fn is_integer(inner: &TypeInner) -> bool {
    matches!(inner.scalar_kind(), Some(ScalarKind::Sint | ScalarKind::Uint))
}

#[cfg(test)]
mod tests;
