//! Maps over bytes, as machine code and as the evaluator computes them, bit by bit.

use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, Scalar, UnaryOp};

mod support;
use support::data::Random;
use support::integers::Elements;
use support::{Buffer, Machine, run};

const ROWS: i64 = 7;
const MACHINES: [Machine; 4] = [Machine::Host, Machine::CortexA72, Machine::MaximalAarch64, Machine::InOrderAarch64];

/// An expression over elements of some types, each with its strides along rows and columns.
struct Map {
    expr: Expr,
    operands: Vec<(DType, [i64; 2])>,
}

/// `(f32(q) - zero) * scale` of argument `n`.
fn number(expr: &mut Expr, n: u16, dtype: DType) -> ExprId {
    let q = expr.arg(n, dtype);
    let q = expr.cast(DType::F32, q);
    let (zero, scale) = (expr.number(q, 11.0), expr.number(q, 0.037));
    let shifted = expr.binary(BinaryOp::Sub, q, zero);
    expr.binary(BinaryOp::Mul, shifted, scale)
}

/// `dtype(round(x / step) + zero)`
fn byte(expr: &mut Expr, x: ExprId, zero: f64, dtype: DType) -> ExprId {
    let step = expr.number(x, 0.029);
    let steps = expr.binary(BinaryOp::Div, x, step);
    let steps = expr.unary(UnaryOp::Round, steps);
    let zero = expr.number(steps, zero);
    let moved = expr.binary(BinaryOp::Add, steps, zero);
    expr.cast(dtype, moved)
}

fn maps(columns: i64) -> Vec<(&'static str, Map)> {
    let dense = [columns, 1];
    let mut gated = Expr::new();
    let (x, gate) = (number(&mut gated, 0, DType::I8), gated.arg(1, DType::F32));
    let product = gated.binary(BinaryOp::Mul, x, gate);
    let gated_root = byte(&mut gated, product, -17.0, DType::I8);
    let mut sum = Expr::new();
    let (a, b) = (number(&mut sum, 0, DType::I8), number(&mut sum, 1, DType::U8));
    let joined = sum.binary(BinaryOp::Add, a, b);
    let sum_root = byte(&mut sum, joined, 100.0, DType::U8);
    let mut quantized = Expr::new();
    let x = quantized.arg(0, DType::F32);
    let quantized_root = byte(&mut quantized, x, 3.0, DType::I8);
    let mut numbers = Expr::new();
    let numbers_root = number(&mut numbers, 0, DType::U8);
    vec![
        ("gated", Map { expr: gated.with_root(gated_root), operands: vec![(DType::I8, dense), (DType::F32, [0, 1])] }),
        (
            "spread",
            Map { expr: sum.clone().with_root(sum_root), operands: vec![(DType::I8, dense), (DType::U8, [1, 0])] },
        ),
        (
            "sum",
            Map { expr: sum.with_root(sum_root), operands: vec![(DType::I8, dense), (DType::U8, [columns + 3, 1])] },
        ),
        ("quantized", Map { expr: quantized.with_root(quantized_root), operands: vec![(DType::F32, dense)] }),
        ("numbers", Map { expr: numbers.with_root(numbers_root), operands: vec![(DType::U8, dense)] }),
    ]
}

/// A kernel over rows, its range, and columns in lanes.
fn kernel(map: &Map, columns: i64) -> LoopKernel {
    let place = |[row, column]: [i64; 2]| Index::Var(Var(0)).times(row).plus(Index::Var(Var(1)).times(column));
    let all = || map.operands.iter().copied().chain([(map.expr.dtype(), [columns, 1])]);
    let count = map.operands.len();
    let span = |[row, column]: [i64; 2]| ((ROWS - 1) * row + (columns - 1) * column + 1) as usize;
    let access = |n: usize| if n < count { Access::Read } else { Access::Write };
    let buffers = all().enumerate();
    let buffers = buffers.map(|(n, (dtype, strides))| BufferType { dtype, elements: span(strides), access: access(n) });
    let load = |(n, (_, strides)): (usize, (DType, [i64; 2]))| Stmt::Set {
        local: Local(n as u16),
        value: Value::Load { buffer: n, index: place(strides) },
    };
    let loads = map.operands.iter().copied().enumerate().map(load);
    let arguments = (0..count as u16).map(Local).collect();
    let result = Local(count as u16);
    let body: Vec<Stmt> = loads
        .chain([
            Stmt::Set { local: result, value: Value::Apply { expr: map.expr.clone(), arguments } },
            Stmt::Store { buffer: count, index: place([columns, 1]), local: result },
        ])
        .collect();
    let (begin, end) = (Index::Constant(0), Index::Constant(columns));
    LoopKernel {
        buffers: buffers.collect(),
        locals: all().map(|(dtype, _)| dtype).collect(),
        vars: 2,
        range: ROWS as usize,
        body: vec![Stmt::For { var: Var(1), begin, end, mode: LoopMode::Lanes, body }],
    }
}

fn check(name: &str, map: &Map, columns: i64) {
    let kernel = kernel(map, columns);
    let mut random = Random(columns as u64 + 3);
    let inputs: Vec<Elements> = kernel.buffers[..map.operands.len()]
        .iter()
        .map(|buffer| match buffer.dtype {
            DType::F32 => {
                Elements((0..buffer.elements).map(|_| Scalar::f32(random.below(2000) as f32 / 140.0 - 7.0)).collect())
            }
            dtype => Elements::random(&mut random, dtype, buffer.elements as i64),
        })
        .collect();
    let result = |row: i64, column: i64| {
        let of = |(values, (_, [by_row, by_column])): (&Elements, &(DType, [i64; 2]))| {
            values.0[(row * by_row + column * by_column) as usize]
        };
        eval_scalar(&map.expr, &inputs.iter().zip(&map.operands).map(of).collect::<Vec<_>>())
    };
    let places = (0..ROWS).flat_map(|row| (0..columns).map(move |column| (row, column)));
    let expected = Elements(places.map(|(row, column)| result(row, column)).collect()).buffer();
    for machine in MACHINES {
        let encoded = machine.target();
        for target in [encoded.clone(), encoded.with_kernels(Kernels::Clif)] {
            let code = emit(&target, name, &kernel).expect("code");
            let is_written = target.kernels == Kernels::Encoded && target.architecture == Architecture::Aarch64;
            assert_eq!(code.encoded, is_written, "{name} on {machine:?}");
            let mut buffers: Vec<Buffer> = inputs.iter().map(Elements::buffer).collect();
            buffers.push(Buffer::new(&vec![0xff; expected.content().len()]));
            let Some(after) = run(machine, &code.code, &buffers, &[0, 2, ROWS as u32]) else { continue };
            for (number, (after, expected)) in
                after.iter().zip(buffers[..inputs.len()].iter().chain([&expected])).enumerate()
            {
                let wrong = after.content().iter().zip(expected.content()).position(|(got, want)| got != want);
                assert_eq!(wrong, None, "{name} of {columns} on {machine:?}: operand {number}, first wrong byte");
            }
        }
    }
}

#[test]
fn maps_of_bytes_are_the_evaluators_on_every_machine() {
    for columns in [1, 7, 8, 24, 61] {
        for (name, map) in maps(columns) {
            check(name, &map, columns);
        }
    }
}
