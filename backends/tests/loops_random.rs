//! Loop nests drawn at random, as machine code and as an interpreter runs them, one scalar at a time. Numbers are small
//! integers, so that folds are exact in any order.

use edgecc_backends::cpu::isa::CpuTarget;
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, BufferType, Fold, Index, Local, LoopKernel, LoopMode, Stmt, Value, Var};
use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{BinaryOp, DType, Expr, ExprId, Scalar, UnaryOp};

mod support;
use support::data::Random;
use support::{Buffer, Machine, run};

/// A kernel's memory, a list of elements per buffer.
type Memory = Vec<Vec<Scalar>>;

/// One call of a kernel, interpreted.
struct Frame<'a> {
    kernel: &'a LoopKernel,
    memory: Memory,
    vars: Vec<i64>,
    locals: Vec<Scalar>,
}

impl Frame<'_> {
    fn run(&mut self, body: &[Stmt]) {
        for statement in body {
            match statement {
                Stmt::For { var, begin, end, body, .. } => {
                    for position in self.index(begin)..self.index(end) {
                        self.vars[var.0 as usize] = position;
                        self.run(body);
                    }
                }
                Stmt::Set { local, value } => self.locals[local.0 as usize] = self.value(value),
                Stmt::Store { buffer, index, local } => {
                    let place = self.index(index) as usize;
                    self.memory[*buffer][place] = self.locals[local.0 as usize];
                }
            }
        }
    }

    fn value(&self, value: &Value) -> Scalar {
        match value {
            Value::Load { buffer, index } => self.memory[*buffer][self.index(index) as usize],
            Value::Index(index) => Scalar::i64(self.index(index)),
            Value::Apply { expr, arguments } => {
                let arguments: Vec<Scalar> = arguments.iter().map(|local| self.locals[local.0 as usize]).collect();
                eval_scalar(expr, &arguments)
            }
        }
    }

    fn index(&self, index: &Index) -> i64 {
        match index {
            Index::Constant(number) => *number,
            Index::Var(var) => self.vars[var.0 as usize],
            Index::Argument(_) => 0,
            Index::Clamped { local, low, high } => self.locals[local.0 as usize].as_i64().clamp(*low, *high),
            Index::Add(a, b) => self.index(a) + self.index(b),
            Index::Mul(a, factor) => self.index(a) * factor,
            Index::FloorDiv(a, divisor) => self.index(a).div_euclid(*divisor),
            Index::Mod(a, divisor) => self.index(a).rem_euclid(*divisor),
            Index::Min(a, b) => self.index(a).min(self.index(b)),
            Index::Max(a, b) => self.index(a).max(self.index(b)),
        }
    }
}

fn interpreted(kernel: &LoopKernel, memory: &Memory) -> Memory {
    let locals = kernel.locals.iter().map(|&dtype| Scalar::from_bits(dtype, 0)).collect();
    let mut frame = Frame { kernel, memory: memory.clone(), vars: vec![0; kernel.vars as usize], locals };
    for position in 0..frame.kernel.range {
        frame.vars[0] = position as i64;
        frame.run(&kernel.body);
    }
    frame.memory
}

/// As machine code, the range cut in two.
fn emitted(machine: Machine, kernel: &LoopKernel, memory: &Memory) -> Option<Memory> {
    let target = CpuTarget::new(machine.architecture()).expect("a target");
    let code = emit(&target, "random", kernel).unwrap_or_else(|error| panic!("{error}: {kernel:#?}")).code;
    let bytes = |elements: &Vec<Scalar>| -> Vec<u8> {
        elements.iter().flat_map(|element| element.to_le_bytes()[..element.dtype().size()].to_vec()).collect()
    };
    let buffers: Vec<Buffer> = memory.iter().map(|elements| Buffer::new(&bytes(elements))).collect();
    let range = kernel.range as u32;
    let written = run(machine, &code, &buffers, &[0, range / 2, range])?;
    let scalar = |dtype: DType, element: &[u8]| {
        let mut bits = [0; 8];
        bits[..element.len()].copy_from_slice(element);
        Scalar::from_bits(dtype, u64::from_le_bytes(bits))
    };
    let elements = written.iter().zip(&kernel.buffers).map(|(buffer, ty)| {
        buffer.content().chunks_exact(ty.dtype.size()).map(|element| scalar(ty.dtype, element)).collect()
    });
    Some(elements.collect())
}

/// A kernel under construction.
struct Draw {
    random: Random,
    kernel: LoopKernel,
}

/// Where an operand lies: `start + row * Var(0) + column * Var(1) + tap * Var(2)`.
struct Place {
    buffer: usize,
    index: Index,
}

impl Draw {
    fn new(seed: u64) -> Self {
        let kernel = LoopKernel { buffers: vec![], locals: vec![], vars: 3, range: 0, body: vec![] };
        Draw { random: Random(seed), kernel }
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.below(choices.len() as u64) as usize]
    }

    fn dtype(&mut self) -> DType {
        self.one_of(&DType::ALL)
    }

    fn local(&mut self, dtype: DType) -> Local {
        self.kernel.locals.push(dtype);
        Local((self.kernel.locals.len() - 1) as u16)
    }

    /// An operand over `extents` of the variables, each of whose elements is written once if it is `written`.
    fn operand(&mut self, dtype: DType, extents: &[i64], written: bool) -> Place {
        let unit = if written { self.one_of(&[1, 2, -1]) } else { self.one_of(&[1, 1, 0, 2, 3, -1]) };
        let mut strides = vec![0i64; extents.len()];
        let mut distance = 1;
        for axis in (0..extents.len()).rev() {
            let padding = self.random.below(3);
            strides[axis] = if axis == 1.min(extents.len() - 1) { unit * distance } else { distance };
            distance = extents[axis] * strides[axis].abs().max(1) + padding;
        }
        if !written && self.random.below(4) == 0 {
            strides[0] = 0;
        }
        let lowest: i64 = strides.iter().zip(extents).map(|(stride, extent)| (stride * (extent - 1)).min(0)).sum();
        let highest: i64 = strides.iter().zip(extents).map(|(stride, extent)| (stride * (extent - 1)).max(0)).sum();
        let start = self.random.below(4) - lowest;
        let elements = (start + highest + 1) as usize;
        let access = if written { Access::Write } else { Access::Read };
        self.kernel.buffers.push(BufferType { dtype, elements, access });
        let terms = strides.iter().enumerate().map(|(n, &stride)| Index::Var(Var(n as u16)).times(stride));
        Place { buffer: self.kernel.buffers.len() - 1, index: terms.fold(Index::Constant(start), Index::plus) }
    }

    /// An expression of operators that are exact, over arguments of the given types.
    fn expression(&mut self, types: &[DType]) -> Expr {
        let mut expr = Expr::new();
        let mut values: Vec<ExprId> = types.iter().enumerate().map(|(n, &ty)| expr.arg(n as u16, ty)).collect();
        for _ in 0..1 + self.random.below(5) {
            let a = self.one_of(&values);
            let dtype = expr.dtype_of(a);
            let b = self.one_of(&values);
            let b = expr.cast(dtype, b);
            let value = match self.random.below(5) {
                0 => {
                    let to = self.dtype();
                    expr.cast(to, a)
                }
                1 => {
                    let less = expr.binary(BinaryOp::Less, a, b);
                    expr.select(less, b, a)
                }
                2 if dtype != DType::Bool => expr.unary(UnaryOp::Neg, a),
                3 => {
                    let three = expr.constant(Scalar::from_i64(dtype, 3));
                    expr.binary(BinaryOp::Min, a, three)
                }
                _ => {
                    let op =
                        if dtype == DType::Bool { BinaryOp::Xor } else { self.one_of(&[BinaryOp::Add, BinaryOp::Mul]) };
                    expr.binary(op, a, b)
                }
            };
            values.push(value);
        }
        let root = values[values.len() - 1];
        expr.with_root(root)
    }

    fn looped(&self, var: u16, (begin, end): (Index, Index), mode: LoopMode, body: Vec<Stmt>) -> Stmt {
        Stmt::For { var: Var(var), begin, end, mode, body }
    }

    fn numbers(&mut self) -> Memory {
        let types: Vec<(DType, usize)> = self.kernel.buffers.iter().map(|ty| (ty.dtype, ty.elements)).collect();
        let mut of = |(dtype, elements)| {
            (0..elements).map(|_| Scalar::from_i64(dtype, self.random.below(9) - 4)).collect::<Vec<_>>()
        };
        types.into_iter().map(&mut of).collect()
    }

    /// `out = expr(inputs)` over rows and columns.
    fn map(mut self) -> (LoopKernel, Memory) {
        let extents = [1 + self.random.below(4), 1 + self.random.below(45)];
        let types: Vec<DType> = (0..1 + self.random.below(3)).map(|_| self.dtype()).collect();
        let expr = self.expression(&types);
        let mut body = Vec::new();
        let mut arguments = Vec::new();
        for dtype in types {
            let (place, local) = (self.operand(dtype, &extents, false), self.local(dtype));
            body.push(Stmt::Set { local, value: Value::Load { buffer: place.buffer, index: place.index } });
            arguments.push(local);
        }
        let (place, local) = (self.operand(expr.dtype(), &extents, true), self.local(expr.dtype()));
        body.push(Stmt::Set { local, value: Value::Apply { expr, arguments } });
        body.push(Stmt::Store { buffer: place.buffer, index: place.index, local });
        let bounds = (Index::Constant(0), Index::Constant(extents[1]));
        self.kernel.range = extents[0] as usize;
        self.kernel.body = vec![self.looped(1, bounds, LoopMode::Lanes, body)];
        let memory = self.numbers();
        (self.kernel, memory)
    }

    fn fold_of(&mut self) -> (DType, BinaryOp, Scalar) {
        let dtype = self.one_of(&[DType::F32, DType::I32, DType::F16, DType::I8, DType::F64, DType::U16]);
        let op = self.one_of(&[BinaryOp::Add, BinaryOp::Max, BinaryOp::Min]);
        (dtype, op, Scalar::from_i64(dtype, self.random.below(5) - 2))
    }

    fn constant(&self, local: Local, value: Scalar) -> Stmt {
        let mut expr = Expr::new();
        let root = expr.constant(value);
        Stmt::Set { local, value: Value::Apply { expr: expr.with_root(root), arguments: vec![] } }
    }

    fn joined(&self, op: BinaryOp, into: Local, element: Local) -> Stmt {
        let dtype = self.kernel.locals[into.0 as usize];
        let mut expr = Expr::new();
        let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
        let root = expr.binary(op, a, b);
        let value = Value::Apply { expr: expr.with_root(root), arguments: vec![into, element] };
        Stmt::Set { local: into, value }
    }

    /// Each row folded, from a start that is no neutral value.
    fn rows(mut self) -> (LoopKernel, Memory) {
        let extents = [1 + self.random.below(4), 1 + self.random.below(70)];
        let (dtype, op, start) = self.fold_of();
        let (sum, element) = (self.local(dtype), self.local(dtype));
        let (from, to) = (self.operand(dtype, &extents, false), self.operand(dtype, &extents[..1], true));
        let load = Stmt::Set { local: element, value: Value::Load { buffer: from.buffer, index: from.index } };
        let body = vec![load, self.joined(op, sum, element)];
        let bounds = (Index::Constant(0), Index::Constant(extents[1]));
        let folded = self.looped(1, bounds, LoopMode::Fold(vec![Fold { local: sum, op }]), body);
        let store = Stmt::Store { buffer: to.buffer, index: to.index, local: sum };
        self.kernel.range = extents[0] as usize;
        self.kernel.body = vec![self.constant(sum, start), folded, store];
        let memory = self.numbers();
        (self.kernel, memory)
    }

    /// Columns side by side, each folded along taps whose bounds are numbers, or depend on the row.
    fn columns(mut self) -> (LoopKernel, Memory) {
        let extents = [1 + self.random.below(4), 1 + self.random.below(40), 1 + self.random.below(30)];
        let (dtype, op, start) = self.fold_of();
        let (sum, element) = (self.local(dtype), self.local(dtype));
        let (from, to) = (self.operand(dtype, &extents, false), self.operand(dtype, &extents[..2], true));
        let load = Stmt::Set { local: element, value: Value::Load { buffer: from.buffer, index: from.index } };
        let body = vec![load, self.joined(op, sum, element)];
        let begin = if self.random.below(2) == 0 {
            Index::Constant(0)
        } else {
            Index::Var(Var(0)).times(3).plus(Index::Constant(-2)).max(Index::Constant(0))
        };
        let taps = self.looped(2, (begin, Index::Constant(extents[2])), LoopMode::Serial, body);
        let store = Stmt::Store { buffer: to.buffer, index: to.index, local: sum };
        let bounds = (Index::Constant(0), Index::Constant(extents[1]));
        let body = vec![self.constant(sum, start), taps, store];
        self.kernel.range = extents[0] as usize;
        self.kernel.body = vec![self.looped(1, bounds, LoopMode::Lanes, body)];
        let memory = self.numbers();
        (self.kernel, memory)
    }
}

fn agree(machine: Machine, seed: u64, (kernel, memory): (LoopKernel, Memory)) -> bool {
    let expected = interpreted(&kernel, &memory);
    let Some(actual) = emitted(machine, &kernel, &memory) else { return false };
    for (buffer, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
        for (place, (a, e)) in actual.iter().zip(expected).enumerate() {
            let same = a == e || a.dtype().is_float() && a.as_f64() == e.as_f64();
            assert!(
                same,
                "seed {seed} on {machine:?}: element {place} of buffer {buffer} is {a:?}, not {e:?}: {kernel:#?}"
            );
        }
    }
    true
}

fn all_agree(draw: fn(Draw) -> (LoopKernel, Memory)) {
    let aarch64 = [(Machine::CortexA72, 60), (Machine::MaximalAarch64, 20), (Machine::InOrderAarch64, 20)];
    for (machine, cases) in [(Machine::Host, 400)].into_iter().chain(aarch64) {
        for seed in 0..cases {
            if !agree(machine, seed, draw(Draw::new(seed * 77 + 5))) {
                return;
            }
        }
    }
}

#[test]
fn maps_of_every_type_and_stride() {
    all_agree(Draw::map);
}

#[test]
fn folded_rows() {
    all_agree(Draw::rows);
}

#[test]
fn folded_columns_side_by_side() {
    all_agree(Draw::columns);
}
