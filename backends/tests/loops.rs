//! Loop nests on the host and on emulated ARM CPUs, against the functions of the standard library in binary64.

use edgecc_backends::cpu::isa::{Architecture, CpuTarget};
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::{BinaryOp, DType, Expr, UnaryOp};

mod support;
use support::{Buffer, Machine, run};

fn target(machine: Machine) -> CpuTarget {
    let architecture = match machine {
        Machine::Host => Architecture::host().expect("tests run where code can be emitted"),
        Machine::CortexA72 | Machine::MaximalAarch64 => Architecture::Aarch64,
    };
    CpuTarget::new(architecture).expect("a target")
}

fn unary(op: UnaryOp) -> Expr {
    let mut expr = Expr::new();
    let a = expr.arg(0, DType::F32);
    let root = expr.unary(op, a);
    expr.with_root(root)
}

fn buffer(dtype: DType, elements: usize, access: Access) -> BufferType {
    BufferType { dtype, elements, access }
}

fn inner(extent: usize, mode: LoopMode, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var: Var(1), begin: Index::Constant(0), end: Index::Constant(extent as i64), mode, body }
}

fn load(local: u16, buffer: usize, index: Index) -> Stmt {
    Stmt::Set { local: Local(local), value: Value::Load { buffer, index } }
}

fn apply(local: u16, expr: Expr, arguments: &[u16]) -> Stmt {
    let arguments = arguments.iter().map(|&argument| Local(argument)).collect();
    Stmt::Set { local: Local(local), value: Value::Apply { expr, arguments } }
}

/// `out[i] = expr(in[i])` over `count` elements, lanes and tail.
fn elementwise(expr: Expr, count: usize) -> LoopKernel {
    let at = || Index::Var(Var(1));
    let store = Stmt::Store { buffer: 1, index: at(), local: Local(1) };
    LoopKernel {
        buffers: vec![buffer(DType::F32, count, Access::Read), buffer(expr.dtype(), count, Access::Write)],
        locals: vec![DType::F32, expr.dtype()],
        vars: 2,
        range: 1,
        body: vec![inner(count, LoopMode::Lanes, vec![load(0, 0, at()), apply(1, expr, &[0]), store])],
    }
}

fn results(machine: Machine, kernel: &LoopKernel, input: &[f32]) -> Option<Vec<f32>> {
    let code = emit(&target(machine), "test", kernel).expect("a kernel");
    let outputs = kernel.buffers[1].elements;
    let buffers = [Buffer::of_floats(input), Buffer::unwritten(outputs)];
    Some(run(machine, &code.code, &buffers, &[0, kernel.range as u32])?[1].floats())
}

/// The largest error in units of `|reference| + floor`, over samples of an interval and special values.
fn worst(machine: Machine, op: UnaryOp, reference: fn(f64) -> f64, low: f32, high: f32) -> Option<f64> {
    let mut samples: Vec<f32> = (0..=2001).map(|i| low + (high - low) * i as f32 / 2001.0).collect();
    samples.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-30, -1e-30, 1.0, -1.0]);
    let actual = results(machine, &elementwise(unary(op), samples.len()), &samples)?;
    let mut worst = 0f64;
    for (&x, &y) in samples.iter().zip(&actual) {
        let expected = reference(x as f64);
        if expected.is_nan() || expected.is_infinite() || (expected as f32).is_infinite() {
            let same = y.is_nan() && expected.is_nan() || y as f64 == expected || y == expected as f32;
            assert!(same, "{op:?}({x}) = {y}, expected {expected} on {machine:?}");
            continue;
        }
        worst = worst.max((y as f64 - expected).abs() / (expected.abs() + 1e-7));
    }
    Some(worst)
}

#[test]
fn functions_are_as_exact_as_stated() {
    let cases: [(UnaryOp, fn(f64) -> f64, f32, f32, f64); 11] = [
        (UnaryOp::Exp, f64::exp, -86.0, 88.0, 2e-7),
        (UnaryOp::Log, f64::ln, 1e-6, 1e6, 2e-7),
        (UnaryOp::Tanh, f64::tanh, -10.0, 10.0, 4e-7),
        (UnaryOp::Sigmoid, |x| 1.0 / (1.0 + (-x).exp()), -20.0, 20.0, 4e-7),
        (UnaryOp::Sqrt, f64::sqrt, 0.0, 1e4, 1e-7),
        (UnaryOp::Round, f64::round_ties_even, -9.0, 9.0, 0.0),
        (UnaryOp::Floor, f64::floor, -9.0, 9.0, 0.0),
        (UnaryOp::Ceil, f64::ceil, -9.0, 9.0, 0.0),
        (UnaryOp::Abs, f64::abs, -9.0, 9.0, 0.0),
        (UnaryOp::Neg, |x| -x, -9.0, 9.0, 0.0),
        (UnaryOp::Reciprocal, |x| 1.0 / x, 0.5, 9.0, 1e-7),
    ];
    for machine in [Machine::Host, Machine::CortexA72, Machine::MaximalAarch64] {
        for (op, reference, low, high, bound) in cases {
            let Some(error) = worst(machine, op, reference, low, high) else { return };
            println!("{machine:?} {op:?}: {error:.1e}");
            assert!(error <= bound, "{op:?} errs by {error} on {machine:?}");
        }
    }
}

/// erf at points from the tables of Abramowitz and Stegun (7.1).
#[test]
fn erf_meets_its_table() {
    let table = [
        (0.1f32, 0.112_462_916_f32),
        (0.5, 0.520_499_88),
        (1.0, 0.842_700_8),
        (1.5, 0.966_105_1),
        (2.0, 0.995_322_3),
        (-1.0, -0.842_700_8),
    ];
    let inputs: Vec<f32> = table.iter().map(|(x, _)| *x).collect();
    let actual =
        results(Machine::Host, &elementwise(unary(UnaryOp::Erf), inputs.len()), &inputs).expect("the host runs");
    for ((x, expected), y) in table.into_iter().zip(actual) {
        assert!((y - expected).abs() < 5e-7, "erf({x}) = {y}, the table says {expected}");
    }
}

#[test]
fn powers_follow_ieee() {
    let mut expr = Expr::new();
    let (x, y) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let root = expr.binary(BinaryOp::Pow, x, y);
    let expr = expr.with_root(root);
    let cases = [
        (2.0f32, 3.0f32),
        (-2.0, 3.0),
        (-2.0, 2.0),
        (0.0, 0.0),
        (-8.0, 0.5),
        (9.0, -0.5),
        (1.0, f32::INFINITY),
        (0.0, 2.0),
    ];
    let flat: Vec<f32> = cases.iter().flat_map(|&(x, y)| [x, y]).collect();
    let at = |offset: i64| Index::Var(Var(1)).times(2).plus(Index::Constant(offset));
    let store = Stmt::Store { buffer: 1, index: Index::Var(Var(1)), local: Local(2) };
    let kernel = LoopKernel {
        buffers: vec![buffer(DType::F32, flat.len(), Access::Read), buffer(DType::F32, cases.len(), Access::Write)],
        locals: vec![DType::F32; 3],
        vars: 2,
        range: 1,
        body: vec![inner(
            cases.len(),
            LoopMode::Lanes,
            vec![load(0, 0, at(0)), load(1, 0, at(1)), apply(2, expr, &[0, 1]), store],
        )],
    };
    for machine in [Machine::Host, Machine::CortexA72] {
        let Some(actual) = results(machine, &kernel, &flat) else { return };
        for (&(x, y), z) in cases.iter().zip(actual) {
            let expected = x.powf(y);
            let same = z.is_nan() && expected.is_nan() || (z - expected).abs() <= 1e-6 * expected.abs();
            assert!(same, "pow({x}, {y}) = {z}, expected {expected} on {machine:?}");
        }
    }
}

/// Row sums and row maxima: lanes keep partial results, the tail joins them, for every length around a vector.
#[test]
fn folds_join_lanes_and_tail() {
    for op in [BinaryOp::Add, BinaryOp::Max] {
        for length in 1..=13usize {
            let mut expr = Expr::new();
            let (a, b) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
            let root = expr.binary(op, a, b);
            let expr = expr.with_root(root);
            let at = Index::Var(Var(0)).times(length as i64).plus(Index::Var(Var(1)));
            let start = Expr::new();
            let mut start = start;
            let first = start.constant(edgecc_ir::Scalar::f32(-1.0));
            let start = start.with_root(first);
            let fold = LoopMode::Fold(vec![Fold { local: Local(1), op }]);
            let kernel = LoopKernel {
                buffers: vec![buffer(DType::F32, 3 * length, Access::Read), buffer(DType::F32, 3, Access::Write)],
                locals: vec![DType::F32; 2],
                vars: 2,
                range: 3,
                body: vec![
                    apply(1, start, &[]),
                    inner(length, fold, vec![load(0, 0, at), apply(1, expr, &[1, 0])]),
                    Stmt::Store { buffer: 1, index: Index::Var(Var(0)), local: Local(1) },
                ],
            };
            let values: Vec<f32> = (0..3 * length).map(|i| ((i * 7) % 11) as f32 - 5.0).collect();
            let expected: Vec<f32> = values
                .chunks_exact(length)
                .map(|row| match op {
                    BinaryOp::Add => row.iter().sum::<f32>() - 1.0,
                    _ => row.iter().copied().fold(-1.0, f32::max),
                })
                .collect();
            for machine in [Machine::Host, Machine::CortexA72] {
                let Some(actual) = results(machine, &kernel, &values) else { return };
                assert_eq!(actual, expected, "{op:?} of {length} on {machine:?}");
            }
        }
    }
}

/// binary16 to f32 and back leaves every bit pattern but the payload of NaN.
#[test]
fn half_precision_round_trips() {
    let count = 1 << 16;
    let at = || Index::Var(Var(1));
    let kernel = LoopKernel {
        buffers: vec![buffer(DType::F16, count, Access::Read), buffer(DType::F32, count, Access::Write)],
        locals: vec![DType::F16, DType::F32],
        vars: 2,
        range: 1,
        body: vec![inner(
            count,
            LoopMode::Lanes,
            vec![
                load(0, 0, at()),
                apply(1, cast(DType::F16, DType::F32), &[0]),
                Stmt::Store { buffer: 1, index: at(), local: Local(1) },
            ],
        )],
    };
    let back = LoopKernel {
        buffers: vec![buffer(DType::F32, count, Access::Read), buffer(DType::F16, count, Access::Write)],
        locals: vec![DType::F32, DType::F16],
        body: vec![inner(
            count,
            LoopMode::Lanes,
            vec![
                load(0, 0, at()),
                apply(1, cast(DType::F32, DType::F16), &[0]),
                Stmt::Store { buffer: 1, index: at(), local: Local(1) },
            ],
        )],
        ..kernel.clone()
    };
    let patterns: Vec<u8> = (0..count as u32).flat_map(|bits| (bits as u16).to_le_bytes()).collect();
    let host = target(Machine::Host);
    let widened = run(
        Machine::Host,
        &emit(&host, "widen", &kernel).expect("a kernel").code,
        &[Buffer::new(&patterns), Buffer::unwritten(count)],
        &[0, 1],
    )
    .expect("the host runs");
    for (bits, value) in widened[1].floats().into_iter().enumerate() {
        let expected = half::f16::from_bits(bits as u16).to_f32();
        assert!(value == expected || value.is_nan() && expected.is_nan(), "{bits:#06x} is {expected}, not {value}");
    }
    let narrowed = run(
        Machine::Host,
        &emit(&host, "narrow", &back).expect("a kernel").code,
        &[widened[1].clone(), Buffer::new(&vec![0; count * 2])],
        &[0, 1],
    )
    .expect("the host runs");
    for (bits, word) in narrowed[1].content().chunks_exact(2).enumerate() {
        let stored = u16::from_le_bytes([word[0], word[1]]);
        let nan = half::f16::from_bits(bits as u16).is_nan();
        assert!(
            stored == bits as u16 || nan && half::f16::from_bits(stored).is_nan(),
            "{bits:#06x} came back as {stored:#06x}"
        );
    }
}

fn cast(from: DType, to: DType) -> Expr {
    let mut expr = Expr::new();
    let a = expr.arg(0, from);
    let root = expr.cast(to, a);
    expr.with_root(root)
}
