//! Emission of element-wise expressions: of one element of any type, or of four lanes of any type up to 32 bits.
//!
//! Several values ("items") of one machine type go through an expression side by side, instruction by instruction, because
//! one step after another of a single item would wait for each other.

mod cast;
mod float;
mod integer;
mod per_lane;
mod table;

use std::collections::HashMap;

use cranelift_codegen::cursor::{Cursor, FuncCursor};
use cranelift_codegen::ir::{ConstantData, Inst, InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Scalar, UnaryOp};

use super::function::EmitError;
use super::isa::Architecture;
use super::math::{Floats, Format};
use super::table::Table;

/// How many elements a value holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One element.
    One,
    /// Four lanes of 32 bits: narrower integers are extended by their signs or zeros, truth values are masks.
    Four,
}

/// Whether four lanes of this type can be computed with.
pub fn has_lanes(dtype: DType) -> bool {
    dtype.size() <= 4
}

/// Whether an expression can be emitted for four lanes.
pub fn fits_lanes(expr: &Expr) -> bool {
    // Every other node has the type of one of these, or bool.
    expr.nodes().iter().all(|node| match *node {
        ExprNode::Argument(_, dtype) | ExprNode::Cast(dtype, _) => has_lanes(dtype),
        ExprNode::Constant(value) => has_lanes(value.dtype()),
        ExprNode::Unary(..) | ExprNode::Binary(..) | ExprNode::Select(..) => true,
    })
}

/// The machine type that holds elements of `dtype`. binary16 and bfloat16 are held as f32.
pub fn machine_type(dtype: DType, width: Width) -> Type {
    match (width, dtype) {
        (Width::Four, DType::F32 | DType::F16 | DType::BF16) => types::F32X4,
        (Width::Four, _) => types::I32X4,
        (Width::One, DType::Bool | DType::U8 | DType::I8) => types::I8,
        (Width::One, DType::U16 | DType::I16) => types::I16,
        (Width::One, DType::U32 | DType::I32) => types::I32,
        (Width::One, DType::U64 | DType::I64) => types::I64,
        (Width::One, DType::F16 | DType::BF16 | DType::F32) => types::F32,
        (Width::One, DType::F64) => types::F64,
    }
}

/// What the expressions of one piece of straight code share: the CPU they run on, and their constants.
#[derive(Clone)]
pub struct Shared {
    pub(super) architecture: Architecture,
    /// The instruction before which constants are made; without it they are made in place.
    anchor: Option<Inst>,
    constants: HashMap<(Type, u64), Value>,
}

impl Shared {
    /// Constants are made where they are used first; later uses must come behind.
    pub fn here(architecture: Architecture) -> Self {
        Shared { architecture, anchor: None, constants: HashMap::new() }
    }

    /// Constants are made before `anchor`, such as the jump into a loop.
    pub fn before(architecture: Architecture, anchor: Inst) -> Self {
        Shared { anchor: Some(anchor), ..Shared::here(architecture) }
    }

    /// Whether constants have a place of their own.
    pub fn has_anchor(&self) -> bool {
        self.anchor.is_some()
    }

    /// A number of machine type `kind`, from the bits of one lane.
    pub(super) fn constant(&mut self, b: &mut FunctionBuilder<'_>, kind: Type, bits: u64) -> Value {
        let anchor = self.anchor;
        *self.constants.entry((kind, bits)).or_insert_with(|| match anchor {
            None => {
                let lanes = vector_constant(b, kind, bits);
                make_constant(b.ins(), kind, bits, lanes)
            }
            Some(anchor) => {
                let lanes = vector_constant(b, kind, bits);
                make_constant(FuncCursor::new(b.func).at_inst(anchor).ins(), kind, bits, lanes)
            }
        })
    }
}

fn vector_constant(b: &mut FunctionBuilder<'_>, kind: Type, bits: u64) -> Option<cranelift_codegen::ir::Constant> {
    kind.is_vector().then(|| {
        let bytes = (bits as u32).to_le_bytes().repeat(kind.lane_count() as usize);
        b.func.dfg.constants.insert(ConstantData::from(bytes))
    })
}

fn make_constant<'f>(
    ins: impl InstBuilder<'f>,
    kind: Type,
    bits: u64,
    lanes: Option<cranelift_codegen::ir::Constant>,
) -> Value {
    match (lanes, kind) {
        (Some(lanes), _) => ins.vconst(kind, lanes),
        (None, types::F32) => ins.f32const(f32::from_bits(bits as u32)),
        (None, types::F64) => ins.f64const(f64::from_bits(bits)),
        (None, _) => ins.iconst(kind, bits as i64),
    }
}

/// The values of an expression, one per item. `arguments[n]` has an item for each, or one that all share.
pub fn emit_items(
    b: &mut FunctionBuilder<'_>,
    shared: &mut Shared,
    expr: &Expr,
    arguments: &[&[Value]],
    width: Width,
) -> Result<Vec<Value>, EmitError> {
    let items = arguments.iter().map(|items| items.len()).max().unwrap_or(1);
    let table = Table::of(expr).filter(|table| table.approximates);
    let mut emission = Emission { b, shared, width };
    let mut values: Vec<Vec<Value>> = Vec::with_capacity(expr.nodes().len());
    for &node in expr.nodes() {
        let value = match node {
            ExprNode::Argument(n, _) => spread(arguments[n as usize], items),
            ExprNode::Constant(value) => vec![emission.scalar(value); items],
            _ => emission.node(expr, node, |id| &values[id.index()])?,
        };
        values.push(value);
        if let Some(table) = table.as_ref().filter(|table| table.argument.index() + 1 == values.len()) {
            let numbers = &values[table.argument.index()];
            return Ok(emission.look_up(expr.dtype(), &table.bytes, numbers));
        }
    }
    Ok(values.swap_remove(expr.root().index()))
}

fn spread(values: &[Value], items: usize) -> Vec<Value> {
    if values.len() == 1 { vec![values[0]; items] } else { values.to_vec() }
}

/// A constant of the machine type of its element type.
pub fn emit_constant(b: &mut FunctionBuilder<'_>, shared: &mut Shared, value: Scalar, width: Width) -> Value {
    Emission { b, shared, width }.scalar(value)
}

/// Stored bits of binary16 or bfloat16, extended to 32 bits, as f32: exactly.
pub fn emit_widen(
    b: &mut FunctionBuilder<'_>,
    shared: &mut Shared,
    dtype: DType,
    bits: &[Value],
    width: Width,
) -> Vec<Value> {
    Emission { b, shared, width }.floats(DType::F32).widen(dtype, bits)
}

/// An f32 as the bits of the nearest binary16 or bfloat16, ties to even, in 32 bits.
pub fn emit_narrow(
    b: &mut FunctionBuilder<'_>,
    shared: &mut Shared,
    dtype: DType,
    values: &[Value],
    width: Width,
) -> Vec<Value> {
    Emission { b, shared, width }.floats(DType::F32).narrow(dtype, values)
}

/// Writes expressions into a function.
struct Emission<'a, 'b> {
    b: &'a mut FunctionBuilder<'b>,
    shared: &'a mut Shared,
    width: Width,
}

fn unsupported(what: String) -> EmitError {
    EmitError::Unsupported { kernel: "expression".into(), reason: format!("{what} is not emitted") }
}

impl<'b> Emission<'_, 'b> {
    /// Arithmetic of a floating type; binary16 and bfloat16 are computed as f32.
    fn floats(&mut self, dtype: DType) -> Floats<'_, 'b> {
        let format = match (dtype, self.width) {
            (DType::F64, _) => Format::DOUBLE,
            (_, Width::One) => Format::SINGLE,
            (_, Width::Four) => Format::LANES,
        };
        Floats::new(self.b, self.shared, format)
    }

    fn kind(&self, dtype: DType) -> Type {
        machine_type(dtype, self.width)
    }

    /// An integer of machine type `kind`.
    fn integer(&mut self, kind: Type, value: i64) -> Value {
        let mask = if kind.lane_bits() == 64 { u64::MAX } else { (1 << kind.lane_bits()) - 1 };
        self.shared.constant(self.b, kind, value as u64 & mask)
    }

    fn scalar(&mut self, value: Scalar) -> Value {
        let kind = self.kind(value.dtype());
        match (value.dtype(), self.width) {
            (DType::F32 | DType::F16 | DType::BF16, _) => {
                self.shared.constant(self.b, kind, u64::from((value.as_f64() as f32).to_bits()))
            }
            (DType::Bool, Width::Four) => self.integer(kind, -(value.bits() as i64)),
            (_, Width::Four) => self.integer(kind, value.as_i64()),
            (_, Width::One) => self.shared.constant(self.b, kind, value.bits()),
        }
    }

    /// The values of a node that has operands.
    fn node<'v>(
        &mut self,
        expr: &Expr,
        node: ExprNode,
        at: impl Fn(ExprId) -> &'v Vec<Value>,
    ) -> Result<Vec<Value>, EmitError> {
        match node {
            ExprNode::Argument(n, _) => Err(unsupported(format!("argument {n} as an operator"))),
            ExprNode::Constant(value) => Ok(vec![self.scalar(value)]),
            ExprNode::Unary(op, a) => self.unary(op, expr.dtype_of(a), at(a)),
            ExprNode::Binary(op, x, y) => self.binary(op, expr.dtype_of(x), at(x), at(y)),
            ExprNode::Select(c, x, y) => Ok(self.select(expr.dtype_of(x), at(c), at(x), at(y))),
            ExprNode::Cast(to, a) => self.cast(expr.dtype_of(a), to, at(a)),
        }
    }

    fn unary(&mut self, op: UnaryOp, dtype: DType, a: &[Value]) -> Result<Vec<Value>, EmitError> {
        match (op, dtype) {
            (UnaryOp::IsNan | UnaryOp::IsInf, _) => Ok(self.classify(op, dtype, a)),
            (UnaryOp::Not, DType::Bool) => Ok(self.not(a)),
            (_, DType::Bool) => Err(unsupported(format!("{op:?} of bool"))),
            _ if dtype.is_float() => {
                let values = self.float_unary(op, dtype, a)?;
                Ok(self.rounded(dtype, values))
            }
            _ => self.integer_unary(op, dtype, a),
        }
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, x: &[Value], y: &[Value]) -> Result<Vec<Value>, EmitError> {
        let is_comparison = matches!(op, BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual);
        match (is_comparison, dtype.is_float()) {
            (true, true) => Ok(self.float_compare(op, x, y)),
            (false, true) => {
                let values = self.float_binary(op, dtype, x, y)?;
                Ok(self.rounded(dtype, values))
            }
            (_, false) => self.integer_binary(op, dtype, x, y),
        }
    }

    /// binary16 and bfloat16 are computed in f32 and rounded behind every operator.
    fn rounded(&mut self, dtype: DType, values: Vec<Value>) -> Vec<Value> {
        if !matches!(dtype, DType::F16 | DType::BF16) {
            return values;
        }
        let mut floats = self.floats(DType::F32);
        let bits = floats.narrow(dtype, &values);
        floats.widen(dtype, &bits)
    }

    fn not(&mut self, a: &[Value]) -> Vec<Value> {
        let width = self.width;
        self.map(a, |b, a| if width == Width::Four { b.ins().bnot(a) } else { b.ins().bxor_imm_u(a, 1) })
    }

    fn select(&mut self, dtype: DType, condition: &[Value], x: &[Value], y: &[Value]) -> Vec<Value> {
        let kind = self.kind(dtype);
        let items = condition.iter().zip(x).zip(y);
        items.map(|((&condition, &x), &y)| select(self.b, kind, condition, x, y)).collect()
    }

    fn map(&mut self, a: &[Value], mut each: impl FnMut(&mut FunctionBuilder<'b>, Value) -> Value) -> Vec<Value> {
        a.iter().map(|&a| each(self.b, a)).collect()
    }

    fn zip(
        &mut self,
        x: &[Value],
        y: &[Value],
        mut each: impl FnMut(&mut FunctionBuilder<'b>, Value, Value) -> Value,
    ) -> Vec<Value> {
        x.iter().zip(y).map(|(&x, &y)| each(self.b, x, y)).collect()
    }
}

/// `condition ? x : y`, by a truth value or by a mask of lanes.
pub(super) fn select(b: &mut FunctionBuilder<'_>, kind: Type, condition: Value, x: Value, y: Value) -> Value {
    if !kind.is_vector() {
        return b.ins().select(condition, x, y);
    }
    let mask = if b.func.dfg.value_type(condition) == kind {
        condition
    } else {
        b.ins().bitcast(kind, super::function::lanes(), condition)
    };
    b.ins().bitselect(mask, x, y)
}
