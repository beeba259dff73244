//! Every operator on every element type, one element and four lanes at a time, against the evaluator; and how far
//! transcendental functions are from binary64's.

use edgecc_backends::cpu::isa::CpuTarget;
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{BinaryOp, DType, Expr, Scalar, UnaryOp};

mod support;
use support::{Buffer, Machine, run};

const UNARY: [UnaryOp; 28] = [
    UnaryOp::Neg,
    UnaryOp::Abs,
    UnaryOp::Sign,
    UnaryOp::Floor,
    UnaryOp::Ceil,
    UnaryOp::Round,
    UnaryOp::Trunc,
    UnaryOp::Sqrt,
    UnaryOp::Reciprocal,
    UnaryOp::Exp,
    UnaryOp::Log,
    UnaryOp::Tanh,
    UnaryOp::Sigmoid,
    UnaryOp::Erf,
    UnaryOp::Sin,
    UnaryOp::Cos,
    UnaryOp::Tan,
    UnaryOp::Asin,
    UnaryOp::Acos,
    UnaryOp::Atan,
    UnaryOp::Sinh,
    UnaryOp::Cosh,
    UnaryOp::Asinh,
    UnaryOp::Acosh,
    UnaryOp::Atanh,
    UnaryOp::Not,
    UnaryOp::IsNan,
    UnaryOp::IsInf,
];

const BINARY: [BinaryOp; 17] = [
    BinaryOp::Add,
    BinaryOp::Sub,
    BinaryOp::Mul,
    BinaryOp::Div,
    BinaryOp::Rem,
    BinaryOp::Mod,
    BinaryOp::Pow,
    BinaryOp::Max,
    BinaryOp::Min,
    BinaryOp::And,
    BinaryOp::Or,
    BinaryOp::Xor,
    BinaryOp::ShiftLeft,
    BinaryOp::ShiftRight,
    BinaryOp::Equal,
    BinaryOp::Less,
    BinaryOp::LessEqual,
];

fn unary(op: UnaryOp, dtype: DType) -> Expr {
    let mut expr = Expr::new();
    let a = expr.arg(0, dtype);
    let root = expr.unary(op, a);
    expr.with_root(root)
}

fn binary(op: BinaryOp, dtype: DType) -> Expr {
    let mut expr = Expr::new();
    let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
    let root = expr.binary(op, a, b);
    expr.with_root(root)
}

/// The operators that mean something for a type.
fn expressions(dtype: DType) -> Vec<(String, Expr)> {
    let exact = |op| matches!(op, UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign | UnaryOp::Floor | UnaryOp::Trunc);
    let of_one = UNARY.into_iter().filter(|&op| match op {
        UnaryOp::IsNan | UnaryOp::IsInf => true,
        UnaryOp::Not => !dtype.is_float(),
        _ => dtype.is_float() || dtype.is_integer() && exact(op),
    });
    let of_two = BINARY.into_iter().filter(|&op| match op {
        BinaryOp::And | BinaryOp::Or | BinaryOp::Xor => !dtype.is_float(),
        BinaryOp::ShiftLeft | BinaryOp::ShiftRight => dtype.is_integer(),
        BinaryOp::Max | BinaryOp::Min | BinaryOp::Equal | BinaryOp::Less | BinaryOp::LessEqual => true,
        _ => dtype != DType::Bool,
    });
    let one = of_one.map(|op| (format!("{op:?}"), unary(op, dtype)));
    let two = of_two.map(|op| (format!("{op:?}"), binary(op, dtype)));
    let casts = DType::ALL.into_iter().filter(|&to| to != dtype).map(|to| {
        let mut expr = Expr::new();
        let a = expr.arg(0, dtype);
        let root = expr.cast(to, a);
        (format!("Cast to {to}"), expr.with_root(root))
    });
    one.chain(two).chain(casts).collect()
}

fn edges(dtype: DType) -> Vec<Scalar> {
    if dtype.is_float() {
        let numbers = [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            1.5,
            2.5,
            -2.5,
            3.0,
            3.7,
            -7.3,
            0.01,
            90.0,
            -110.0,
            257.0,
            70000.5,
            -3e9,
            1e-39,
            6e-8,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        return numbers.into_iter().map(|number| Scalar::from_f64(dtype, number)).collect();
    }
    let width = dtype.size() as i64 * 8;
    let numbers =
        [0, 1, 2, 3, 5, 7, 100, -1, -2, -7, width - 1, width, i64::MAX >> (64 - width), i64::MIN >> (64 - width)];
    let own = |number: i64| if dtype == DType::Bool { number & 1 } else { number };
    numbers.into_iter().map(|number| Scalar::from_bits(dtype, own(number) as u64)).collect()
}

/// `out[k][i] = expressions[k](a[i], b[i])`, each in a loop of its own. Buffers: a, b, then the results.
fn kernel(expressions: &[(String, Expr)], dtype: DType, count: usize, mode: &LoopMode) -> LoopKernel {
    let operand = BufferType { dtype, elements: count, access: Access::Read };
    let mut kernel = LoopKernel {
        buffers: vec![operand.clone(), operand],
        locals: vec![dtype, dtype],
        vars: 2,
        range: 1,
        body: vec![],
    };
    let at = || Index::Var(Var(1));
    for (_, expr) in expressions {
        let (buffer, result) = (kernel.buffers.len(), Local(kernel.locals.len() as u16));
        kernel.buffers.push(BufferType { dtype: expr.dtype(), elements: count, access: Access::Write });
        kernel.locals.push(expr.dtype());
        let arguments = (0..expr.arity() as u16).map(Local).collect();
        let body = vec![
            Stmt::Set { local: Local(0), value: Value::Load { buffer: 0, index: at() } },
            Stmt::Set { local: Local(1), value: Value::Load { buffer: 1, index: at() } },
            Stmt::Set { local: result, value: Value::Apply { expr: expr.clone(), arguments } },
            Stmt::Store { buffer, index: at(), local: result },
        ];
        let (begin, end) = (Index::Constant(0), Index::Constant(count as i64));
        kernel.body.push(Stmt::For { var: Var(1), begin, end, mode: mode.clone(), body });
    }
    kernel
}

fn bytes_of(values: &[Scalar]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()[..value.dtype().size()].to_vec()).collect()
}

fn scalars_of(dtype: DType, bytes: &[u8]) -> Vec<Scalar> {
    let scalar = |element: &[u8]| {
        let mut bits = [0; 8];
        bits[..element.len()].copy_from_slice(element);
        Scalar::from_bits(dtype, u64::from_le_bytes(bits))
    };
    bytes.chunks_exact(dtype.size()).map(scalar).collect()
}

/// The results of each expression for each pair of arguments.
fn results(
    machine: Machine,
    expressions: &[(String, Expr)],
    arguments: &[Vec<Scalar>; 2],
    mode: LoopMode,
) -> Option<Vec<Vec<Scalar>>> {
    let (dtype, count) = (arguments[0][0].dtype(), arguments[0].len());
    let kernel = kernel(expressions, dtype, count, &mode);
    let target = CpuTarget::new(machine.architecture()).expect("a target");
    let code = emit(&target, "expressions", &kernel).unwrap_or_else(|error| panic!("{dtype}: {error}")).code;
    let mut buffers = arguments.each_ref().map(|values| Buffer::new(&bytes_of(values))).to_vec();
    let outputs = &kernel.buffers[2..];
    buffers.extend(outputs.iter().map(|buffer| Buffer::new(&vec![0xcc; count * buffer.dtype.size()])));
    let written = run(machine, &code, &buffers, &[0, 1])?;
    Some(outputs.iter().zip(&written[2..]).map(|(ty, buffer)| scalars_of(ty.dtype, buffer.content())).collect())
}

fn pairs(values: &[Scalar]) -> [Vec<Scalar>; 2] {
    let pair = |n: usize| (values[n / values.len()], values[n % values.len()]);
    (0..values.len() * values.len()).map(pair).unzip::<_, _, Vec<_>, Vec<_>>().into()
}

/// Units in the last place of its type that a result may be away; nothing for exact operators.
fn tolerance(name: &str) -> f64 {
    match name {
        "Exp" | "Log" | "Tanh" | "Sigmoid" | "Sin" | "Cos" | "Tan" | "Asin" | "Acos" | "Atan" | "Sinh" | "Cosh"
        | "Asinh" | "Acosh" | "Atanh" | "Pow" => 8.0,
        "Erf" => 16.0,
        _ => 0.0,
    }
}

fn agrees(name: &str, actual: Scalar, expected: Scalar) -> bool {
    let (a, e) = (actual.as_f64(), expected.as_f64());
    if !expected.dtype().is_float() || a == e || a.is_nan() || e.is_nan() {
        return actual == expected || a == e && expected.dtype().is_float() || a.is_nan() && e.is_nan();
    }
    let unit = match expected.dtype() {
        DType::F16 => 2f64.powi(-10) / 8.0,
        DType::BF16 => 2f64.powi(-7) / 8.0,
        _ => 2f64.powi(-23),
    };
    (a - e).abs() <= tolerance(name) * unit * e.abs().max(1e-37)
}

/// Quotients beyond 2^28 have remainders that only a loop of subtractions finds, and large angles need many digits of pi.
fn is_within_reach(name: &str, a: Scalar, b: Scalar) -> bool {
    let (size, quotient) = (a.as_f64().abs(), (a.as_f64() / b.as_f64()).abs());
    match name {
        "Rem" | "Mod" => !a.dtype().is_float() || quotient.is_nan() || quotient < 2f64.powi(28),
        "Sin" | "Cos" | "Tan" => size.is_infinite() || size.is_nan() || size < 1e5,
        _ => true,
    }
}

#[test]
fn every_operator_does_what_the_evaluator_does() {
    for machine in [Machine::Host, Machine::CortexA72] {
        for dtype in DType::ALL {
            let (expressions, arguments) = (expressions(dtype), pairs(&edges(dtype)));
            for mode in [LoopMode::Serial, LoopMode::Lanes] {
                let Some(actual) = results(machine, &expressions, &arguments, mode.clone()) else { return };
                for ((name, expr), actual) in expressions.iter().zip(actual) {
                    for (n, (&a, &b)) in arguments[0].iter().zip(&arguments[1]).enumerate() {
                        let expected = eval_scalar(expr, &[a, b]);
                        let same = agrees(name, actual[n], expected) || !is_within_reach(name, a, b);
                        assert!(
                            same,
                            "{name} of {a:?}, {b:?} is {:?}, the evaluator says {expected:?}: {machine:?} {mode:?}",
                            actual[n]
                        );
                    }
                }
            }
        }
    }
}

/// Samples of an interval: evenly spaced, and of every size.
fn samples(low: f64, high: f64) -> Vec<f64> {
    let even = (0..=4000).map(move |i| low + (high - low) * f64::from(i) / 4000.0);
    let sizes = (0..2000).flat_map(|i| {
        let size = 10f64.powf(-12.0 + 24.0 * f64::from(i) / 2000.0);
        [size, -size]
    });
    even.chain(sizes.filter(move |size| (low..=high).contains(size))).collect()
}

/// The largest relative error of functions of f32 and f64, against binary64.
#[test]
fn functions_err_as_little_as_stated() {
    let cases = [
        (UnaryOp::Exp, -87.0, 88.7, 2e-7),
        (UnaryOp::Log, 1e-12, 1e12, 2e-7),
        (UnaryOp::Tanh, -12.0, 12.0, 4e-7),
        (UnaryOp::Sigmoid, -80.0, 80.0, 2.5e-7),
        (UnaryOp::Erf, -4.5, 4.5, 8e-7),
        (UnaryOp::Sin, -100.0, 100.0, 2e-7),
        (UnaryOp::Cos, -100.0, 100.0, 2e-7),
        (UnaryOp::Tan, -100.0, 100.0, 3e-7),
        (UnaryOp::Asin, -1.0, 1.0, 3e-7),
        (UnaryOp::Acos, -1.0, 1.0, 3e-7),
        (UnaryOp::Atan, -1e12, 1e12, 2e-7),
        (UnaryOp::Sinh, -89.0, 89.0, 3e-7),
        (UnaryOp::Cosh, -89.0, 89.0, 3e-7),
        (UnaryOp::Asinh, -1e12, 1e12, 3e-7),
        (UnaryOp::Acosh, 1.0, 1e12, 3e-7),
        (UnaryOp::Atanh, -0.9999, 0.9999, 3e-7),
    ];
    for machine in [Machine::Host, Machine::CortexA72] {
        for (op, low, high, bound) in cases {
            let mut errors = Vec::new();
            for (dtype, mode) in
                [(DType::F32, LoopMode::Lanes), (DType::F32, LoopMode::Serial), (DType::F64, LoopMode::Serial)]
            {
                let values: Vec<Scalar> =
                    samples(low, high).into_iter().map(|value| Scalar::from_f64(dtype, value)).collect();
                let expressions = [(format!("{op:?}"), unary(op, dtype))];
                let arguments = [values.clone(), values.clone()];
                let Some(actual) = results(machine, &expressions, &arguments, mode) else { return };
                errors.push(values.iter().zip(&actual[0]).map(|(&value, y)| error(op, value, *y)).fold(0f64, f64::max));
            }
            println!("{machine:?} {op:?}: f32x4 {:.1e}, f32 {:.1e}, f64 {:.1e}", errors[0], errors[1], errors[2]);
            assert!(errors.iter().all(|&error| error <= bound), "{op:?} errs by {errors:?} on {machine:?}");
        }
    }
}

/// Relative to the exact result, and to the step between neighbours at the smallest normal numbers.
fn error(op: UnaryOp, x: Scalar, y: Scalar) -> f64 {
    let exact = eval_scalar(&unary(op, DType::F64), &[Scalar::from_f64(DType::F64, x.as_f64())]).as_f64();
    let error = (y.as_f64() - exact).abs() / exact.abs().max(1e-37);
    if y.as_f64() == exact { 0.0 } else { error }
}

/// Powers of every size, whose relative error must not grow with the exponent.
#[test]
fn powers_err_as_little_as_stated() {
    let mut arguments = [Vec::new(), Vec::new()];
    for i in 0..200 {
        for j in 0..60 {
            arguments[0].push(Scalar::f32(10f32.powf(-3.0 + 6.0 * i as f32 / 200.0)));
            arguments[1].push(Scalar::f32(-12.3 + 0.41 * j as f32));
        }
    }
    let exprs = [("Pow".to_owned(), binary(BinaryOp::Pow, DType::F32))];
    for machine in [Machine::Host, Machine::CortexA72] {
        let Some(actual) = results(machine, &exprs, &arguments, LoopMode::Lanes) else { return };
        let mut worst = 0f64;
        for ((x, y), z) in arguments[0].iter().zip(&arguments[1]).zip(&actual[0]) {
            let exact = x.as_f64().powf(y.as_f64());
            worst = worst.max((z.as_f64() - exact).abs() / exact);
        }
        println!("{machine:?} Pow: {worst:.1e}");
        assert!(worst <= 2e-7, "powers err by {worst} on {machine:?}");
    }
}
