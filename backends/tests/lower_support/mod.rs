//! Checks a lowered operator against the reference evaluator, in every combination of axis orders.

#![allow(dead_code)]

pub mod interpreter;

use edgecc_backends::cpu::isa::{Architecture, Halves, Kernels};
use edgecc_backends::lower::{LowerOptions, Processor, lower};
use edgecc_backends::schedule::Machine;
use edgecc_ir::{
    BinaryOp, DType, Expr, Graph, Layout, NodeId, Op, Origin, Scalar, Shape, Tensor, TensorType, Type, Window,
};

use interpreter::{Execution, run};

/// A graph of one operator under test, with its inputs.
pub struct Case {
    pub graph: Graph,
    pub inputs: Vec<Tensor>,
    seed: u64,
}

impl Case {
    pub fn new() -> Case {
        Case { graph: Graph::new("case"), inputs: Vec::new(), seed: 1 }
    }

    /// An input of random numbers: eighths in -4..4, so that sums of them are exact, or integers in 0..9.
    pub fn input(&mut self, dtype: DType, extents: &[usize]) -> NodeId {
        let shape = Shape::new(extents);
        let count = shape.elements().expect("few elements");
        let values: Vec<Scalar> = (0..count).map(|_| self.number(dtype)).collect();
        self.given(Tensor::from_scalars(dtype, shape, values).expect("as many values as elements"))
    }

    pub fn floats(&mut self, extents: &[usize]) -> NodeId {
        self.input(DType::F32, extents)
    }

    /// An input of given numbers.
    pub fn given(&mut self, value: Tensor) -> NodeId {
        let name = format!("input{}", self.inputs.len());
        let id = self.graph.input(name, value.ty());
        self.inputs.push(value);
        id
    }

    pub fn add(&mut self, op: Op, operands: &[NodeId]) -> NodeId {
        self.graph.add(op, operands, Origin::named("case")).expect("operator and operands agree")
    }

    fn number(&mut self, dtype: DType) -> Scalar {
        self.seed = self.seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let random = (self.seed >> 40) as i64;
        match dtype {
            DType::Bool => Scalar::bool(random % 2 == 1),
            dtype if dtype.is_float() => Scalar::from_f64(dtype, (random % 64 - 32) as f64 / 8.0),
            dtype => Scalar::from_i64(dtype, random % 9),
        }
    }

    /// The operator's results agree with the evaluator's, whatever the order of the axes of operands and result.
    pub fn check(self, op: Op, operands: &[NodeId]) {
        self.check_within(op, operands, 0.0);
    }

    /// As [`Case::check`], results being off by at most `tolerance`, relative beyond 1.
    pub fn check_within(mut self, op: Op, operands: &[NodeId], tolerance: f64) {
        let plain = self.add(op.clone(), operands);
        let components = match self.graph.node(plain).ty() {
            Type::Tensor(_) => 1,
            Type::Tuple(types) => types.len(),
        };
        for operand_last in [false, true] {
            for result_last in [false, true] {
                let graph = self.arranged(&op, operands, components, operand_last, result_last);
                let what = format!("{} (operands last {operand_last}, result last {result_last})", op.name());
                self.compare(&graph, tolerance, &what);
            }
        }
    }

    /// The operator over relayouts of the inputs, with a result of another layout.
    fn arranged(
        &self,
        op: &Op,
        operands: &[NodeId],
        components: usize,
        operand_last: bool,
        result_last: bool,
    ) -> Graph {
        let mut graph = Graph::new("arranged");
        let order = |rank: usize, last: bool| if last { channels_last(rank) } else { Layout::row_major(rank) };
        let inputs: Vec<NodeId> = self.inputs.iter().map(|input| graph.input("x", input.ty())).collect();
        let add = |graph: &mut Graph, op: Op, operands: &[NodeId]| {
            graph.add(op, operands, Origin::named("case")).expect("operator and operands agree")
        };
        let arranged: Vec<NodeId> = operands
            .iter()
            .map(|operand| {
                let place = self.graph.inputs().iter().position(|input| input == operand).expect("an input");
                let layout = order(self.inputs[place].shape().rank(), operand_last);
                add(&mut graph, Op::Relayout(layout), &[inputs[place]])
            })
            .collect();
        let result = add(&mut graph, op.clone(), &arranged);
        for component in 0..components {
            let value = match graph.node(result).ty() {
                Type::Tensor(_) => result,
                Type::Tuple(_) => add(&mut graph, Op::Project(component), &[result]),
            };
            let ty: TensorType = graph.ty(value).clone();
            let layout = order(ty.shape.rank(), result_last && value == result);
            graph.set_type(value, Type::Tensor(ty.with_layout(layout)));
            let output = add(&mut graph, Op::Relayout(Layout::row_major(ty.shape.rank())), &[value]);
            graph.output("y", output);
        }
        graph
    }

    fn compare(&self, graph: &Graph, tolerance: f64, what: &str) {
        let architecture = Architecture::host().expect("tests run where code can be emitted");
        let program = lower(
            graph,
            LowerOptions {
                processor: Processor::Cpu,
                machine: Machine { kernels: Kernels::Clif, workers_have_scratch: false, ..Machine::new(architecture) },
                gpu: &edgecc_backends::schedule::gpu::GENERIC,
                halves: Halves::Widened,
                constants_may_grow: false,
                choices: None,
                packings: None,
            },
        )
        .unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = edgecc_ir::eval::run(graph, &self.inputs).expect("the graph has a value");
        for execution in [Execution::Interpreted, Execution::Emitted] {
            let actual = run(&program, &self.inputs, execution);
            for (actual, expected) in actual.iter().zip(&expected) {
                agree(actual, expected, tolerance, &format!("{what}, {execution:?}"));
            }
        }
    }
}

fn agree(actual: &Tensor, expected: &Tensor, tolerance: f64, what: &str) {
    assert_eq!(actual.ty(), expected.ty(), "{what}");
    let pairs = actual.scalars().map(Scalar::as_f64).zip(expected.scalars().map(Scalar::as_f64));
    for (place, (got, wanted)) in pairs.enumerate() {
        let close = got == wanted || (got - wanted).abs() <= tolerance * wanted.abs().max(1.0);
        assert!(close || (got.is_nan() && wanted.is_nan()), "{what}: element {place} is {got}, not {wanted}");
    }
}

/// Axis 1 innermost; for matrices the columns.
fn channels_last(rank: usize) -> Layout {
    if rank == 2 {
        return Layout::from_order(&[1, 0]).expect("a permutation");
    }
    Layout::channels_last(rank)
}

pub fn window(kernel: &[usize], stride: usize, dilation: usize, before: usize, after: usize) -> Window {
    let each = |n: usize| vec![n; kernel.len()];
    Window {
        kernel: kernel.to_vec(),
        strides: each(stride),
        dilations: each(dilation),
        pads_before: each(before),
        pads_after: each(after),
    }
}

/// `a op b`.
pub fn binary(op: BinaryOp, dtype: DType) -> Expr {
    let mut expr = Expr::new();
    let (a, b) = (expr.arg(0, dtype), expr.arg(1, dtype));
    let root = expr.binary(op, a, b);
    expr.with_root(root)
}
