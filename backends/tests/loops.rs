//! Loop nests against tables, sums in plain loops, and every bit pattern of binary16.

use edgecc_backends::cpu::isa::CpuTarget;
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::{BinaryOp, DType, Expr, UnaryOp};

mod support;
use support::{Buffer, Machine, run};

fn target(machine: Machine) -> CpuTarget {
    CpuTarget::new(machine.architecture()).expect("a target")
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

/// erf at points from the tables of Abramowitz and Stegun (7.1).
#[test]
fn erf_meets_its_table() {
    let table = [
        (0.1f32, 0.112_462_916_f32),
        (0.5, 0.520_499_9),
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
