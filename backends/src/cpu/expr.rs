//! Emission of element-wise expressions: of one element of any type, or of four lanes of f32, i32 and u32.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};
use cranelift_frontend::FunctionBuilder;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, ExprNode, Scalar, UnaryOp};

use super::function::{EmitError, lanes as lane_flags};
use super::math::Floats;

/// How many elements a value holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// One element.
    One,
    /// Four lanes; truth values are masks of 32 bits.
    Four,
}

/// Whether four lanes of this type can be computed with.
pub fn has_lanes(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::U32)
}

/// Whether an expression can be emitted for four lanes.
pub fn fits_lanes(expr: &Expr) -> bool {
    expr.nodes().iter().all(|node| {
        let types_fit = match *node {
            ExprNode::Argument(_, dtype) => has_lanes(dtype),
            ExprNode::Constant(value) => has_lanes(value.dtype()) || value.dtype() == DType::Bool,
            ExprNode::Unary(op, a) => {
                expr.dtype_of(a) == DType::F32 && is_lane_function(op)
                    || op == UnaryOp::Not && expr.dtype_of(a) == DType::Bool
            }
            ExprNode::Binary(op, a, _) => match expr.dtype_of(a) {
                DType::F32 => !matches!(op, BinaryOp::Rem | BinaryOp::Mod),
                DType::Bool => matches!(op, BinaryOp::And | BinaryOp::Or | BinaryOp::Xor),
                DType::I32 => {
                    matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min)
                }
                _ => false,
            },
            ExprNode::Select(..) => true,
            ExprNode::Cast(to, a) => matches!((to, expr.dtype_of(a)), (DType::F32, DType::I32)),
        };
        types_fit
    }) && has_lanes(expr.dtype())
}

fn is_lane_function(op: UnaryOp) -> bool {
    use UnaryOp::*;
    match op {
        Neg | Abs | Sign | Floor | Ceil | Round | Trunc | Sqrt | Reciprocal | Exp | Log | Tanh | Sigmoid | Erf
        | Sin | Cos | Tan | IsNan | IsInf => true,
        Asin | Acos | Atan | Sinh | Cosh | Asinh | Acosh | Atanh | Not => false,
    }
}

/// The machine type that holds elements of `dtype`. binary16 and bfloat16 are held as f32.
pub fn machine_type(dtype: DType, width: Width) -> Type {
    let one = match dtype {
        DType::Bool | DType::U8 | DType::I8 => types::I8,
        DType::U16 | DType::I16 => types::I16,
        DType::U32 | DType::I32 => types::I32,
        DType::U64 | DType::I64 => types::I64,
        DType::F16 | DType::BF16 | DType::F32 => types::F32,
        DType::F64 => types::F64,
    };
    match (width, dtype) {
        (Width::One, _) => one,
        (Width::Four, DType::F32 | DType::F16 | DType::BF16) => types::F32X4,
        (Width::Four, _) => types::I32X4,
    }
}

/// The value of an expression for the given arguments.
pub fn emit_expr(
    b: &mut FunctionBuilder<'_>,
    expr: &Expr,
    arguments: &[Value],
    width: Width,
) -> Result<Value, EmitError> {
    let mut values: Vec<Value> = Vec::with_capacity(expr.nodes().len());
    for &node in expr.nodes() {
        let value = match node {
            ExprNode::Argument(n, _) => arguments[n as usize],
            ExprNode::Constant(value) => emit_constant(b, value, width),
            _ => emit_node(b, expr, node, |id| values[id.index()], width)?,
        };
        values.push(value);
    }
    Ok(values[expr.root().index()])
}

/// The value of a node of `expr` that has operands, from `at` their values.
pub fn emit_node(
    b: &mut FunctionBuilder<'_>,
    expr: &Expr,
    node: ExprNode,
    at: impl Fn(ExprId) -> Value,
    width: Width,
) -> Result<Value, EmitError> {
    let mut emission = Emission { b, width };
    Ok(match node {
        ExprNode::Argument(n, _) => return Err(unsupported(format!("argument {n} as an operator"))),
        ExprNode::Constant(value) => emission.constant(value),
        ExprNode::Unary(op, a) => {
            let value = emission.unary(op, expr.dtype_of(a), at(a))?;
            let result = if matches!(op, UnaryOp::IsNan | UnaryOp::IsInf) { DType::Bool } else { expr.dtype_of(a) };
            emission.rounded(result, value)
        }
        ExprNode::Binary(op, x, y) => {
            let dtype = expr.dtype_of(x);
            let value = emission.binary(op, dtype, at(x), at(y))?;
            let comparison = matches!(op, BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual);
            emission.rounded(if comparison { DType::Bool } else { dtype }, value)
        }
        ExprNode::Select(c, x, y) => emission.select(expr.dtype_of(x), at(c), at(x), at(y)),
        ExprNode::Cast(to, a) => emission.cast(expr.dtype_of(a), to, at(a))?,
    })
}

/// A constant of the machine type of its element type.
pub fn emit_constant(b: &mut FunctionBuilder<'_>, value: Scalar, width: Width) -> Value {
    Emission { b, width }.constant(value)
}

/// Stored bits of binary16 or bfloat16 (i16) as f32, exactly.
pub fn widen(b: &mut FunctionBuilder<'_>, dtype: DType, bits: Value) -> Value {
    let bits = b.ins().uextend(types::I32, bits);
    if dtype == DType::BF16 {
        let high = b.ins().ishl_imm_u(bits, 16);
        return b.ins().bitcast(types::F32, lane_flags(), high);
    }
    // Exponent and fraction in place, scaled by 2^112: subnormals come out right. Infinity and NaN get the full exponent.
    let magnitude = b.ins().band_imm_u(bits, 0x7fff);
    let placed = b.ins().ishl_imm_u(magnitude, 13);
    let float = b.ins().bitcast(types::F32, lane_flags(), placed);
    let scale = b.ins().f32const(f32::from_bits(0x7780_0000));
    let scaled = b.ins().fmul(float, scale);
    let scaled = b.ins().bitcast(types::I32, lane_flags(), scaled);
    let special = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, magnitude, 0x7c00);
    let full = b.ins().bor_imm_u(placed, 0x7f80_0000);
    let value = b.ins().select(special, full, scaled);
    let sign = b.ins().band_imm_u(bits, 0x8000);
    let sign = b.ins().ishl_imm_u(sign, 16);
    let value = b.ins().bor(value, sign);
    b.ins().bitcast(types::F32, lane_flags(), value)
}

/// An f32 as the bits (i16) of the nearest binary16 or bfloat16, ties to even.
pub fn narrow(b: &mut FunctionBuilder<'_>, dtype: DType, value: Value) -> Value {
    let bits = b.ins().bitcast(types::I32, lane_flags(), value);
    let nan = b.ins().fcmp(FloatCC::Unordered, value, value);
    let narrowed = if dtype == DType::BF16 { narrow_bf16(b, bits) } else { narrow_f16(b, bits) };
    let quiet = b.ins().iconst(types::I32, if dtype == DType::BF16 { 0x7fc0 } else { 0x7e00 });
    let sign = b.ins().ushr_imm_u(bits, 16);
    let sign = b.ins().band_imm_u(sign, 0x8000);
    let quiet = b.ins().bor(quiet, sign);
    let chosen = b.ins().select(nan, quiet, narrowed);
    b.ins().ireduce(types::I16, chosen)
}

fn narrow_bf16(b: &mut FunctionBuilder<'_>, bits: Value) -> Value {
    let odd = b.ins().ushr_imm_u(bits, 16);
    let odd = b.ins().band_imm_u(odd, 1);
    let rounded = b.ins().iadd_imm_s(bits, 0x7fff);
    let rounded = b.ins().iadd(rounded, odd);
    b.ins().ushr_imm_u(rounded, 16)
}

/// Adding a power of two aligned with the last kept bit rounds to it, ties to even; subnormals of binary16 all share one.
fn narrow_f16(b: &mut FunctionBuilder<'_>, bits: Value) -> Value {
    let magnitude = b.ins().band_imm_u(bits, 0x7fff_ffff);
    // Normal results: round the fraction to 10 bits, rebias the exponent by 127 - 15.
    let odd = b.ins().ushr_imm_u(magnitude, 13);
    let odd = b.ins().band_imm_u(odd, 1);
    let rounded = b.ins().iadd_imm_s(magnitude, 0xfff - (112i64 << 23));
    let rounded = b.ins().iadd(rounded, odd);
    let normal = b.ins().ushr_imm_u(rounded, 13);
    // Subnormal results: adding 0.5 leaves the multiple of 2^-24 in the low bits.
    let float = b.ins().bitcast(types::F32, lane_flags(), magnitude);
    let half = b.ins().f32const(0.5);
    let sum = b.ins().fadd(float, half);
    let sum = b.ins().bitcast(types::I32, lane_flags(), sum);
    let subnormal = b.ins().iadd_imm_s(sum, -0x3f00_0000);
    let tiny = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, magnitude, 0x3880_0000);
    let huge = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, magnitude, 0x4780_0000);
    let infinity = b.ins().iconst(types::I32, 0x7c00);
    let finite = b.ins().select(tiny, subnormal, normal);
    let value = b.ins().select(huge, infinity, finite);
    let sign = b.ins().ushr_imm_u(bits, 16);
    let sign = b.ins().band_imm_u(sign, 0x8000);
    b.ins().bor(value, sign)
}

struct Emission<'a, 'b> {
    b: &'a mut FunctionBuilder<'b>,
    width: Width,
}

fn unsupported(what: String) -> EmitError {
    EmitError::Unsupported { kernel: "expression".into(), reason: what }
}

impl<'b> Emission<'_, 'b> {
    fn floats(&mut self) -> Floats<'_, 'b> {
        let kind = machine_type(DType::F32, self.width);
        Floats::new(self.b, kind)
    }

    fn constant(&mut self, value: Scalar) -> Value {
        let dtype = value.dtype();
        let kind = machine_type(dtype, self.width);
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => self.floats().number(value.as_f64() as f32),
            DType::F64 => self.b.ins().f64const(value.as_f64()),
            DType::Bool if self.width == Width::Four => {
                let mask = self.b.ins().iconst(types::I32, if value.bits() != 0 { 0xffff_ffff } else { 0 });
                self.b.ins().splat(kind, mask)
            }
            _ => {
                let one = self.b.ins().iconst(machine_type(dtype, Width::One), value.bits() as i64);
                if self.width == Width::Four { self.b.ins().splat(kind, one) } else { one }
            }
        }
    }

    /// binary16 and bfloat16 are computed in f32 and rounded behind every operator.
    fn rounded(&mut self, dtype: DType, value: Value) -> Value {
        if !matches!(dtype, DType::F16 | DType::BF16) {
            return value;
        }
        let bits = narrow(self.b, dtype, value);
        widen(self.b, dtype, bits)
    }

    fn unary(&mut self, op: UnaryOp, dtype: DType, a: Value) -> Result<Value, EmitError> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 => self.float_unary(op, a),
            DType::F64 => self.double_unary(op, a),
            DType::Bool => match op {
                UnaryOp::Not if self.width == Width::Four => Ok(self.b.ins().bnot(a)),
                UnaryOp::Not => Ok(self.b.ins().bxor_imm_u(a, 1)),
                _ => Err(unsupported(format!("{op:?} of bool"))),
            },
            _ => self.integer_unary(op, dtype, a),
        }
    }

    fn float_unary(&mut self, op: UnaryOp, a: Value) -> Result<Value, EmitError> {
        use UnaryOp::*;
        let kind = machine_type(DType::F32, self.width);
        let mut floats = Floats::new(self.b, kind);
        Ok(match op {
            Neg => floats.b.ins().fneg(a),
            Abs => floats.b.ins().fabs(a),
            Sign => {
                let [zero, one, minus] = [0.0, 1.0, -1.0].map(|n| floats.number(n));
                let positive = floats.choose(FloatCC::GreaterThan, a, zero, one, a);
                floats.choose(FloatCC::LessThan, a, zero, minus, positive)
            }
            Floor => floats.b.ins().floor(a),
            Ceil => floats.b.ins().ceil(a),
            Round => floats.b.ins().nearest(a),
            Trunc => floats.b.ins().trunc(a),
            Sqrt => floats.b.ins().sqrt(a),
            Reciprocal => {
                let one = floats.number(1.0);
                floats.b.ins().fdiv(one, a)
            }
            Exp => floats.exp(a),
            Log => floats.log(a),
            Tanh => floats.tanh(a),
            Sigmoid => floats.sigmoid(a),
            Erf => floats.erf(a),
            Sin => floats.sine(a, 0),
            Cos => floats.sine(a, 1),
            Tan => {
                let (sine, cosine) = (floats.sine(a, 0), floats.sine(a, 1));
                floats.b.ins().fdiv(sine, cosine)
            }
            IsNan => return Ok(self.float_compare(FloatCC::Unordered, a, a)),
            IsInf => {
                let magnitude = floats.b.ins().fabs(a);
                let infinity = floats.number(f32::INFINITY);
                return Ok(self.float_compare(FloatCC::Equal, magnitude, infinity));
            }
            Sinh | Cosh => {
                let negative = floats.b.ins().fneg(a);
                let (up, down) = (floats.exp(a), floats.exp(negative));
                let sum = if op == Cosh { floats.b.ins().fadd(up, down) } else { floats.b.ins().fsub(up, down) };
                let half = floats.number(0.5);
                floats.b.ins().fmul(sum, half)
            }
            Asin | Acos | Atan | Asinh | Acosh | Atanh | Not => return Err(unsupported(format!("{op:?} of f32"))),
        })
    }

    fn double_unary(&mut self, op: UnaryOp, a: Value) -> Result<Value, EmitError> {
        Ok(match op {
            UnaryOp::Neg => self.b.ins().fneg(a),
            UnaryOp::Abs => self.b.ins().fabs(a),
            UnaryOp::Floor => self.b.ins().floor(a),
            UnaryOp::Ceil => self.b.ins().ceil(a),
            UnaryOp::Round => self.b.ins().nearest(a),
            UnaryOp::Trunc => self.b.ins().trunc(a),
            UnaryOp::Sqrt => self.b.ins().sqrt(a),
            UnaryOp::Reciprocal => {
                let one = self.b.ins().f64const(1.0);
                self.b.ins().fdiv(one, a)
            }
            UnaryOp::IsNan => self.float_compare(FloatCC::Unordered, a, a),
            _ => return Err(unsupported(format!("{op:?} of f64"))),
        })
    }

    fn integer_unary(&mut self, op: UnaryOp, dtype: DType, a: Value) -> Result<Value, EmitError> {
        Ok(match op {
            UnaryOp::Neg => self.b.ins().ineg(a),
            UnaryOp::Abs if dtype.is_signed_integer() => self.b.ins().iabs(a),
            UnaryOp::Not => self.b.ins().bnot(a),
            UnaryOp::Sign if dtype.is_signed_integer() => {
                let kind = machine_type(dtype, Width::One);
                let positive = self.b.ins().icmp_imm_s(IntCC::SignedGreaterThan, a, 0);
                let negative = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0);
                let difference = self.b.ins().isub(positive, negative);
                if kind == types::I8 { difference } else { self.b.ins().sextend(kind, difference) }
            }
            UnaryOp::Sign => {
                let positive = self.b.ins().icmp_imm_u(IntCC::NotEqual, a, 0);
                let kind = machine_type(dtype, Width::One);
                if kind == types::I8 { positive } else { self.b.ins().uextend(kind, positive) }
            }
            UnaryOp::Abs | UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round | UnaryOp::Trunc => a,
            _ => return Err(unsupported(format!("{op:?} of {dtype}"))),
        })
    }

    fn binary(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Result<Value, EmitError> {
        match dtype {
            DType::F32 | DType::F16 | DType::BF16 | DType::F64 => self.float_binary(op, dtype, x, y),
            _ => self.integer_binary(op, dtype, x, y),
        }
    }

    fn float_binary(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Result<Value, EmitError> {
        use BinaryOp::*;
        Ok(match op {
            Add => self.b.ins().fadd(x, y),
            Sub => self.b.ins().fsub(x, y),
            Mul => self.b.ins().fmul(x, y),
            Div => self.b.ins().fdiv(x, y),
            Max => self.b.ins().fmax(x, y),
            Min => self.b.ins().fmin(x, y),
            Equal => self.float_compare(FloatCC::Equal, x, y),
            Less => self.float_compare(FloatCC::LessThan, x, y),
            LessEqual => self.float_compare(FloatCC::LessThanOrEqual, x, y),
            Rem | Mod => {
                let quotient = self.b.ins().fdiv(x, y);
                let whole = if op == Rem { self.b.ins().trunc(quotient) } else { self.b.ins().floor(quotient) };
                let negative = self.b.ins().fneg(whole);
                self.b.ins().fma(negative, y, x)
            }
            Pow if dtype != DType::F64 => self.floats().pow(x, y),
            Pow | And | Or | Xor | ShiftLeft | ShiftRight => return Err(unsupported(format!("{op:?} of {dtype}"))),
        })
    }

    /// A truth value: i8 of 0 or 1, or a mask of lanes.
    fn float_compare(&mut self, condition: FloatCC, x: Value, y: Value) -> Value {
        self.b.ins().fcmp(condition, x, y)
    }

    fn integer_binary(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Result<Value, EmitError> {
        use BinaryOp::*;
        let signed = dtype.is_signed_integer();
        Ok(match op {
            Add => self.b.ins().iadd(x, y),
            Sub => self.b.ins().isub(x, y),
            Mul => self.b.ins().imul(x, y),
            Max if signed => self.b.ins().smax(x, y),
            Max => self.b.ins().umax(x, y),
            Min if signed => self.b.ins().smin(x, y),
            Min => self.b.ins().umin(x, y),
            And => self.b.ins().band(x, y),
            Or => self.b.ins().bor(x, y),
            Xor => self.b.ins().bxor(x, y),
            Equal => self.b.ins().icmp(IntCC::Equal, x, y),
            Less => self.b.ins().icmp(if signed { IntCC::SignedLessThan } else { IntCC::UnsignedLessThan }, x, y),
            LessEqual => {
                let condition = if signed { IntCC::SignedLessThanOrEqual } else { IntCC::UnsignedLessThanOrEqual };
                self.b.ins().icmp(condition, x, y)
            }
            Div | Rem | Mod => self.divide(op, dtype, x, y),
            ShiftLeft | ShiftRight => self.shift(op, dtype, x, y),
            Pow => return Err(unsupported(format!("{op:?} of {dtype}"))),
        })
    }

    /// Division that cannot trap: by 0 it gives 0, and the smallest number by -1 wraps. Computed in 64 bits.
    fn divide(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Value {
        let signed = dtype.is_signed_integer();
        let (wide_x, wide_y) = (self.extend(dtype, x), self.extend(dtype, y));
        let zero = self.b.ins().icmp_imm_u(IntCC::Equal, wide_y, 0);
        let one = self.b.ins().iconst(types::I64, 1);
        let safe = self.b.ins().select(zero, one, wide_y);
        let quotient = if signed {
            let minus = self.b.ins().icmp_imm_s(IntCC::Equal, safe, -1);
            let divisor = self.b.ins().select(minus, one, safe);
            let plain = self.b.ins().sdiv(wide_x, divisor);
            let negated = self.b.ins().ineg(wide_x);
            self.b.ins().select(minus, negated, plain)
        } else {
            self.b.ins().udiv(wide_x, safe)
        };
        let result = match op {
            BinaryOp::Div => quotient,
            _ => {
                let product = self.b.ins().imul(quotient, safe);
                let remainder = self.b.ins().isub(wide_x, product);
                if op == BinaryOp::Mod && signed { self.with_sign_of(remainder, safe) } else { remainder }
            }
        };
        let none = self.b.ins().iconst(types::I64, 0);
        let result = self.b.ins().select(zero, none, result);
        self.reduce(dtype, result)
    }

    /// A remainder moved by the divisor where their signs differ.
    fn with_sign_of(&mut self, remainder: Value, divisor: Value) -> Value {
        let signs = self.b.ins().bxor(remainder, divisor);
        let differ = self.b.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let some = self.b.ins().icmp_imm_s(IntCC::NotEqual, remainder, 0);
        let moved = self.b.ins().iadd(remainder, divisor);
        let both = self.b.ins().band(differ, some);
        self.b.ins().select(both, moved, remainder)
    }

    fn shift(&mut self, op: BinaryOp, dtype: DType, x: Value, y: Value) -> Value {
        let (wide_x, wide_y) = (self.extend(dtype, x), self.extend(dtype, y));
        let shifted = match op {
            BinaryOp::ShiftLeft => self.b.ins().ishl(wide_x, wide_y),
            _ => self.b.ins().ushr(wide_x, wide_y),
        };
        let width = dtype.size() as i64 * 8;
        let within = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, wide_y, width);
        let none = self.b.ins().iconst(types::I64, 0);
        let result = self.b.ins().select(within, shifted, none);
        self.reduce(dtype, result)
    }

    /// To 64 bits.
    fn extend(&mut self, dtype: DType, x: Value) -> Value {
        match dtype.size() {
            8 => x,
            _ if dtype.is_signed_integer() => self.b.ins().sextend(types::I64, x),
            _ => self.b.ins().uextend(types::I64, x),
        }
    }

    /// From 64 bits.
    fn reduce(&mut self, dtype: DType, x: Value) -> Value {
        let kind = machine_type(dtype, Width::One);
        if kind == types::I64 { x } else { self.b.ins().ireduce(kind, x) }
    }

    fn select(&mut self, dtype: DType, condition: Value, x: Value, y: Value) -> Value {
        if self.width == Width::One {
            return self.b.ins().select(condition, x, y);
        }
        let kind = machine_type(dtype, self.width);
        let mask = if kind == types::I32X4 { condition } else { self.b.ins().bitcast(kind, lane_flags(), condition) };
        self.b.ins().bitselect(mask, x, y)
    }

    fn cast(&mut self, from: DType, to: DType, a: Value) -> Result<Value, EmitError> {
        if self.width == Width::Four {
            return Ok(self.b.ins().fcvt_from_sint(types::F32X4, a));
        }
        Ok(match (from.is_float(), to.is_float()) {
            (true, true) => self.float_to_float(from, to, a),
            (true, false) => self.float_to_integer(from, to, a),
            (false, true) => {
                let kind = machine_type(to, Width::One);
                let wide = self.extend(from, a);
                let value = if from == DType::U64 {
                    self.b.ins().fcvt_from_uint(kind, wide)
                } else {
                    self.b.ins().fcvt_from_sint(kind, wide)
                };
                self.rounded(to, value)
            }
            (false, false) if to == DType::Bool => self.b.ins().icmp_imm_u(IntCC::NotEqual, a, 0),
            (false, false) => {
                let wide = self.extend(from, a);
                self.reduce(to, wide)
            }
        })
    }

    fn float_to_float(&mut self, from: DType, to: DType, a: Value) -> Value {
        let value = match (from, to) {
            (DType::F64, DType::F64) => a,
            (DType::F64, _) => self.b.ins().fdemote(types::F32, a),
            (_, DType::F64) => self.b.ins().fpromote(types::F64, a),
            _ => a,
        };
        self.rounded(to, value)
    }

    fn float_to_integer(&mut self, from: DType, to: DType, a: Value) -> Value {
        if to == DType::Bool {
            let zero = if from == DType::F64 { self.b.ins().f64const(0.0) } else { self.b.ins().f32const(0.0) };
            return self.b.ins().fcmp(FloatCC::NotEqual, a, zero);
        }
        if to == DType::U64 {
            return self.b.ins().fcvt_to_uint_sat(types::I64, a);
        }
        let wide = self.b.ins().fcvt_to_sint_sat(types::I64, a);
        let bits = to.size() as u32 * 8;
        let (low, high) = match (bits, to.is_signed_integer()) {
            (64, _) => return wide,
            (_, true) => (-(1i64 << (bits - 1)), (1i64 << (bits - 1)) - 1),
            (_, false) => (0, (1i64 << bits) - 1),
        };
        let (low, high) = (self.b.ins().iconst(types::I64, low), self.b.ins().iconst(types::I64, high));
        let clamped = self.b.ins().smax(wide, low);
        let clamped = self.b.ins().smin(clamped, high);
        self.reduce(to, clamped)
    }
}
