//! Runs a lowered program one scalar at a time, over memory placed by the plan. Loops whose iterations are independent run
//! backwards, so that an order they do not have cannot be relied upon.

use edgecc_backends::cpu::isa::{Architecture, CpuTarget};
use edgecc_backends::cpu::loops::emit;
use edgecc_backends::kernel::{Access, Index, Local, LoopKernel, LoopMode, Stmt, Value};
use edgecc_backends::plan::plan;
use edgecc_backends::program::{KernelSource, Program, StorageKind};
use edgecc_ir::eval::eval_scalar;
use edgecc_ir::{Scalar, Tensor, TensorData};

use crate::support::{Buffer, Machine};

/// How a kernel is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// One scalar at a time.
    Interpreted,
    /// As machine code of this host, its range cut in two.
    Emitted,
}

/// The outputs of a program on inputs given in order.
pub fn run(program: &Program, inputs: &[Tensor], execution: Execution) -> Vec<Tensor> {
    let mut memory = Memory::new(program, inputs);
    for step in &program.steps {
        let KernelSource::Loops(kernel) = &program.kernels[step.kernel] else {
            panic!("{} is no loop nest", step.name)
        };
        assert_eq!(step.operands.len(), kernel.buffers.len(), "{}: an operand for each buffer", step.name);
        let places = step.operands.iter().map(|operand| {
            let (run, start) = memory.place(operand.storage.0 as usize);
            (run, start + operand.offset, operand.length)
        });
        let places: Vec<(usize, usize, usize)> = places.collect();
        match execution {
            Execution::Interpreted => interpret(kernel, &mut memory, places),
            Execution::Emitted => execute(kernel, &mut memory, &places),
        }
    }
    memory.outputs(program)
}

fn interpret(kernel: &LoopKernel, memory: &mut Memory, places: Vec<(usize, usize, usize)>) {
    let locals = kernel.locals.iter().map(|&dtype| Scalar::from_bits(dtype, 0)).collect();
    let mut frame = Frame { kernel, memory, places, vars: vec![0; kernel.vars as usize], locals };
    for position in (0..kernel.range).rev() {
        frame.vars[0] = position as i64;
        frame.run(&kernel.body);
    }
}

fn execute(kernel: &LoopKernel, memory: &mut Memory, places: &[(usize, usize, usize)]) {
    let architecture = Architecture::host().expect("tests run where code can be emitted");
    let target = CpuTarget::new(architecture).expect("a target");
    let emitted = emit(&target, "case", kernel).unwrap_or_else(|error| panic!("{error}: {kernel:#?}"));
    let operands: Vec<Buffer> =
        places.iter().map(|&(run, start, length)| Buffer::new(&memory.runs[run][start..start + length])).collect();
    let cuts = [0, kernel.range as u32 / 2, kernel.range as u32];
    let results = crate::support::run(Machine::Host, &emitted.code, &operands, &cuts).expect("the host is here");
    for ((result, &(run, start, length)), buffer) in results.iter().zip(places).zip(&kernel.buffers) {
        if buffer.access != Access::Read {
            memory.runs[run][start..start + length].copy_from_slice(result.content());
        }
    }
}

/// Runs of bytes: one for each storage outside of the arena, and the arena.
struct Memory {
    runs: Vec<Vec<u8>>,
    offsets: Vec<Option<usize>>,
}

impl Memory {
    fn new(program: &Program, inputs: &[Tensor]) -> Memory {
        let plan = plan(program);
        let mut runs: Vec<Vec<u8>> = Vec::new();
        let mut offsets = Vec::new();
        for (storage, &offset) in program.storages.iter().zip(&plan.offsets) {
            let (run, offset) = match &storage.kind {
                StorageKind::Input(n) => (dense(&inputs[*n]), None),
                StorageKind::Constant(bytes) => (bytes.to_vec(), None),
                StorageKind::Output(_) => (vec![0xff; storage.bytes], None),
                StorageKind::Arena => (Vec::new(), Some(offset)),
            };
            runs.push(run);
            offsets.push(offset);
        }
        runs.push(vec![0xff; plan.arena_bytes]);
        Memory { runs, offsets }
    }

    fn place(&self, storage: usize) -> (usize, usize) {
        self.offsets[storage].map_or((storage, 0), |offset| (self.runs.len() - 1, offset))
    }

    fn outputs(&self, program: &Program) -> Vec<Tensor> {
        let output = |n: usize, port: &edgecc_backends::program::Port| {
            let storage = program.storages.iter().position(|storage| storage.kind == StorageKind::Output(n));
            let bytes = self.runs[storage.expect("each output has a storage")].clone();
            Tensor::dense(port.ty.dtype, port.ty.shape.clone(), bytes.into()).expect("as many bytes as the output has")
        };
        program.outputs.iter().enumerate().map(|(n, port)| output(n, port)).collect()
    }
}

fn dense(tensor: &Tensor) -> Vec<u8> {
    match tensor.data() {
        TensorData::Dense(bytes) => bytes.to_vec(),
        TensorData::Splat(_) => panic!("inputs are dense"),
    }
}

/// One call of a kernel.
struct Frame<'a> {
    kernel: &'a LoopKernel,
    memory: &'a mut Memory,
    /// (run, first byte, bytes) by buffer.
    places: Vec<(usize, usize, usize)>,
    vars: Vec<i64>,
    locals: Vec<Scalar>,
}

impl Frame<'_> {
    fn run(&mut self, body: &[Stmt]) {
        for statement in body {
            match statement {
                Stmt::For { var, begin, end, mode, body } => {
                    let (begin, end) = (self.index(begin), self.index(end));
                    let independent = *mode != LoopMode::Serial;
                    for step in begin..end {
                        self.vars[var.0 as usize] = if independent { begin + end - 1 - step } else { step };
                        self.run(body);
                    }
                }
                Stmt::Set { local, value } => self.locals[local.0 as usize] = self.value(*local, value),
                Stmt::Store { buffer, index, local } => {
                    let value = self.locals[local.0 as usize];
                    let (run, place, size) = self.element(*buffer, index);
                    assert_eq!(value.dtype(), self.kernel.buffers[*buffer].dtype, "a store of the buffer's type");
                    self.memory.runs[run][place..place + size].copy_from_slice(&value.to_le_bytes()[..size]);
                }
            }
        }
    }

    fn value(&self, local: Local, value: &Value) -> Scalar {
        let result = match value {
            Value::Load { buffer, index } => {
                let (run, place, size) = self.element(*buffer, index);
                let mut bits = [0; 8];
                bits[..size].copy_from_slice(&self.memory.runs[run][place..place + size]);
                Scalar::from_bits(self.kernel.buffers[*buffer].dtype, u64::from_le_bytes(bits))
            }
            Value::Index(index) => Scalar::i64(self.index(index)),
            Value::Apply { expr, arguments } => {
                let arguments: Vec<Scalar> = arguments.iter().map(|local| self.locals[local.0 as usize]).collect();
                eval_scalar(expr, &arguments)
            }
        };
        assert_eq!(result.dtype(), self.kernel.locals[local.0 as usize], "a value of the local's type");
        result
    }

    /// (run, first byte, bytes) of an element, inside of its operand.
    fn element(&self, buffer: usize, index: &Index) -> (usize, usize, usize) {
        let ((run, start, length), ty) = (self.places[buffer], &self.kernel.buffers[buffer]);
        let position = self.index(index);
        assert!(position >= 0 && (position as usize) < ty.elements, "element {position} of {} {index:?}", ty.elements);
        let (place, size) = (position as usize * ty.dtype.size(), ty.dtype.size());
        assert!(place + size <= length, "byte {place} of {length}");
        (run, start + place, size)
    }

    fn index(&self, index: &Index) -> i64 {
        match index {
            Index::Constant(number) => *number,
            Index::Var(var) => self.vars[var.0 as usize],
            Index::Argument(n) => panic!("argument {n} of a step without arguments"),
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
