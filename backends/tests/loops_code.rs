//! Properties of the code of loop nests: what an element costs, and that vectors stay in registers.

use edgecc_backends::cpu::isa::{Architecture, CpuTarget};
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, Scalar, UnaryOp};

const COUNT: usize = 1024;

/// `out[i] = expr(in[0][i], in[1][i], ..)` in rows of [`COUNT`]; the last buffer is the result.
fn map(expr: Expr) -> LoopKernel {
    let arity = expr.arity();
    let at = || Index::Var(Var(0)).times(COUNT as i64).plus(Index::Var(Var(1)));
    let types: Vec<DType> = (0..arity)
        .map(|n| expr.arguments().find(|(m, _)| *m as usize == n).expect("each argument is used").1)
        .chain([expr.dtype()])
        .collect();
    let buffer = |(n, &dtype): (usize, &DType)| BufferType {
        dtype,
        elements: 4 * COUNT,
        access: if n == arity { Access::Write } else { Access::Read },
    };
    let load = |n: usize| Stmt::Set { local: Local(n as u16), value: Value::Load { buffer: n, index: at() } };
    let result = Local(arity as u16);
    let mut body: Vec<Stmt> = (0..arity).map(load).collect();
    let arguments = (0..arity as u16).map(Local).collect();
    body.push(Stmt::Set { local: result, value: Value::Apply { expr, arguments } });
    body.push(Stmt::Store { buffer: arity, index: at(), local: result });
    LoopKernel {
        buffers: types.iter().enumerate().map(buffer).collect(),
        locals: types.clone(),
        vars: 2,
        range: 4,
        body: vec![inner(Var(1), LoopMode::Lanes, body)],
    }
}

fn inner(var: Var, mode: LoopMode, body: Vec<Stmt>) -> Stmt {
    Stmt::For { var, begin: Index::Constant(0), end: Index::Constant(COUNT as i64), mode, body }
}

fn of_one(write: impl FnOnce(&mut Expr, ExprId) -> ExprId) -> Expr {
    let mut expr = Expr::new();
    let x = expr.arg(0, DType::F32);
    let root = write(&mut expr, x);
    expr.with_root(root)
}

fn of_two(op: BinaryOp) -> Expr {
    let mut expr = Expr::new();
    let (x, y) = (expr.arg(0, DType::F32), expr.arg(1, DType::F32));
    let root = expr.binary(op, x, y);
    expr.with_root(root)
}

/// `exp(x - max) / sum(exp(x - max))` over rows of [`COUNT`].
fn softmax() -> LoopKernel {
    let at = |var: u16| Index::Var(Var(0)).times(COUNT as i64).plus(Index::Var(Var(var)));
    let number = |local: u16, value: f32| {
        let mut expr = Expr::new();
        let root = expr.constant(Scalar::f32(value));
        Stmt::Set { local: Local(local), value: Value::Apply { expr: expr.with_root(root), arguments: vec![] } }
    };
    let load = |buffer: usize, var: u16| Stmt::Set { local: Local(0), value: Value::Load { buffer, index: at(var) } };
    let apply = |local: u16, expr: Expr, arguments: &[u16]| {
        let arguments = arguments.iter().map(|&argument| Local(argument)).collect();
        Stmt::Set { local: Local(local), value: Value::Apply { expr, arguments } }
    };
    let store = |local: u16, var: u16| Stmt::Store { buffer: 1, index: at(var), local: Local(local) };
    let mut shifted = of_two(BinaryOp::Sub);
    let root = shifted.unary(UnaryOp::Exp, shifted.root());
    let shifted = shifted.with_root(root);
    let fold = |local: u16, op: BinaryOp| LoopMode::Fold(vec![Fold { local: Local(local), op }]);
    let buffer = |access: Access| BufferType { dtype: DType::F32, elements: 4 * COUNT, access };
    LoopKernel {
        buffers: vec![buffer(Access::Read), buffer(Access::ReadWrite)],
        locals: vec![DType::F32; 4],
        vars: 4,
        range: 4,
        body: vec![
            number(1, f32::NEG_INFINITY),
            inner(Var(1), fold(1, BinaryOp::Max), vec![load(0, 1), apply(1, of_two(BinaryOp::Max), &[1, 0])]),
            number(2, 0.0),
            inner(
                Var(2),
                fold(2, BinaryOp::Add),
                vec![load(0, 2), apply(3, shifted, &[0, 1]), store(3, 2), apply(2, of_two(BinaryOp::Add), &[2, 3])],
            ),
            inner(Var(3), LoopMode::Lanes, vec![load(1, 3), apply(3, of_two(BinaryOp::Div), &[0, 2]), store(3, 3)]),
        ],
    }
}

/// The largest of 3x3 elements at every second position of a 65x65 image of 32 channels, channels innermost.
fn pool() -> LoopKernel {
    let (h, c, i, j) = (Var(0), Var(2), Var(3), Var(4));
    let row = Index::Var(h).times(2).plus(Index::Var(i)).times(65 * 32);
    let column = Index::Var(Var(1)).times(2).plus(Index::Var(j)).times(32);
    let output = Index::Var(h).times(32).plus(Index::Var(Var(1))).times(32).plus(Index::Var(c));
    let looped = |var: Var, end: i64, mode: LoopMode, body: Vec<Stmt>| Stmt::For {
        var,
        begin: Index::Constant(0),
        end: Index::Constant(end),
        mode,
        body,
    };
    let mut start = Expr::new();
    let root = start.constant(Scalar::f32(f32::NEG_INFINITY));
    let taps = vec![
        Stmt::Set { local: Local(1), value: Value::Load { buffer: 0, index: row.plus(column).plus(Index::Var(c)) } },
        Stmt::Set {
            local: Local(0),
            value: Value::Apply { expr: of_two(BinaryOp::Max), arguments: vec![Local(0), Local(1)] },
        },
    ];
    let taps = looped(i, 3, LoopMode::Serial, vec![looped(j, 3, LoopMode::Serial, taps)]);
    let start = Stmt::Set { local: Local(0), value: Value::Apply { expr: start.with_root(root), arguments: vec![] } };
    let store = Stmt::Store { buffer: 1, index: output, local: Local(0) };
    let channels = looped(c, 32, LoopMode::Lanes, vec![start, taps, store]);
    LoopKernel {
        buffers: vec![
            BufferType { dtype: DType::F32, elements: 65 * 65 * 32, access: Access::Read },
            BufferType { dtype: DType::F32, elements: 32 * 32 * 32, access: Access::Write },
        ],
        locals: vec![DType::F32; 2],
        vars: 5,
        range: 32,
        body: vec![looped(Var(1), 32, LoopMode::Serial, vec![channels])],
    }
}

/// For each innermost loop, the elements that a round does and the most instructions that it may take.
type Rounds = Vec<(usize, usize)>;

fn kernels() -> Vec<(&'static str, LoopKernel, Rounds)> {
    let relu = of_one(|expr, x| {
        let zero = expr.number(x, 0.0);
        expr.binary(BinaryOp::Max, x, zero)
    });
    let swish = of_one(|expr, x| {
        let gate = expr.unary(UnaryOp::Sigmoid, x);
        expr.binary(BinaryOp::Mul, x, gate)
    });
    let mut widened = Expr::new();
    let bytes = widened.arg(0, DType::U8);
    let widened_root = widened.cast(DType::F32, bytes);
    let simple = |op: UnaryOp| of_one(|expr, x| expr.unary(op, x));
    vec![
        ("add", map(of_two(BinaryOp::Add)), vec![(16, 12)]),
        ("relu", map(relu), vec![(16, 10)]),
        ("u8 to f32", map(widened.with_root(widened_root)), vec![(16, 29)]),
        ("sigmoid", map(simple(UnaryOp::Sigmoid)), vec![(16, 86)]),
        ("swish", map(swish), vec![(16, 86)]),
        ("exp", map(simple(UnaryOp::Exp)), vec![(8, 70)]),
        ("tanh", map(simple(UnaryOp::Tanh)), vec![(16, 86)]),
        ("erf", map(simple(UnaryOp::Erf)), vec![(16, 90)]),
        ("softmax", softmax(), vec![(16, 12), (8, 74), (16, 16)]),
        ("pool", pool(), vec![(16, 44)]),
    ]
}

fn words(code: &[u8]) -> impl Iterator<Item = u32> + '_ {
    code.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

/// `ldr q, [sp, #n]` and `str q, [sp, #n]`, with scaled and unscaled offsets: spilled vectors.
fn vector_spills(code: &[u8]) -> usize {
    let scaled = |word: u32| matches!(word & 0xffc0_03e0, 0x3dc0_03e0 | 0x3d80_03e0);
    let unscaled = |word: u32| matches!(word & 0xffe0_0fe0, 0x3cc0_03e0 | 0x3c80_03e0);
    words(code).filter(|&word| scaled(word) || unscaled(word)).count()
}

/// Instructions of each innermost loop: from the target of a conditional branch backwards to the branch, `b.cond`.
fn innermost_loops(code: &[u8]) -> Vec<usize> {
    let backward = words(code).enumerate().filter_map(|(place, word)| {
        let distance = ((word << 8) as i32) >> 13;
        (word & 0xff00_0010 == 0x5400_0000 && distance < 0).then(|| (place as i64 + i64::from(distance), place as i64))
    });
    let loops: Vec<(i64, i64)> = backward.collect();
    let is_innermost = |&&(first, last): &&(i64, i64)| {
        !loops.iter().any(|&(other_first, other_last)| first <= other_first && other_last < last)
    };
    loops.iter().filter(is_innermost).map(|&(first, last)| (last - first + 1) as usize).collect()
}

#[test]
fn elements_cost_few_instructions() {
    let target = CpuTarget::new(Architecture::Aarch64).expect("a target");
    for (name, kernel, expected) in kernels() {
        let started = std::time::Instant::now();
        let code = emit(&target, name, &kernel).expect("a kernel").code;
        let elapsed = started.elapsed();
        let loops = innermost_loops(&code);
        let costs: Vec<String> =
            loops.iter().zip(&expected).map(|(length, (elements, _))| format!("{length} for {elements}")).collect();
        println!("{name:<10} {:<36} {:>5} bytes, emitted in {elapsed:.1?}", costs.join(", "), code.len());
        assert_eq!(loops.len(), expected.len(), "{name}: rounds of {loops:?} instructions");
        for (length, (_, most)) in loops.iter().zip(&expected) {
            assert!(length <= most, "{name}: a round takes {length} instructions");
        }
        assert_eq!(vector_spills(&code), 0, "{name}");
    }
}
