//! What steps cost by the cost model of schedules, before anything is emitted: so that forms of a network can be compared.

use std::collections::BTreeSet;

use edgecc_ir::Expr;

use crate::contraction::{DepthwiseSpec, Element, Tap, divide_up};
use crate::cpu::isa::{Architecture, Integers, Kernels};
use crate::cpu::loops::operations;
use crate::cpu::table::Table;
use crate::kernel::{Index, LoopKernel, LoopMode, Stmt, Value};
use crate::program::{KernelSource, Program, Step};
use crate::schedule::cores::CoreClass;
use crate::schedule::cycles::Cost;
use crate::schedule::{DepthwiseSchedule, Machine, cost, depthwise_cost};
use crate::winograd::{input_instructions, output_instructions};

/// Bytes of a vector.
const VECTOR: f64 = 16.0;
/// Cycles of an instruction of vectors for each vector unit, beside those that other units take meanwhile: about what the
/// innermost loops of contractions over f32 have.
const OF_VECTORS: f64 = 0.85;
/// Operations of the way from a sum of i32 to i8, which the cost of integer sums holds.
const REQUANTIZATION: f64 = 10.0;
/// Instructions of a table's look-ups for a vector of words.
const LOOK_UP: f64 = 4.0;
/// Instructions of a sum of aarch64's baseline, whose parts are added up at its end.
const PLAIN_SUM: f64 = 2.4;
/// What windows within channels execute of the cost that their columns are chosen by.
const EXECUTED: f64 = 0.65;
/// Operations of an epilogue that are in that cost.
const COUNTED: f64 = 5.0;
/// Instructions of a loop for each turn.
const TURN: f64 = 2.0;
/// Instructions of a load or store in a loop nest, with its address.
const ACCESS: f64 = 1.5;
/// The same of elements that are narrower than what is computed with.
const NARROW_ACCESS: f64 = 4.0;
/// Bytes that are moved one after the other, in elements of a vector loop's turn.
const BYTES: f64 = 2.0;

/// Cycles and instructions of each step of a program, for one inference by one worker, with all data in the first cache.
pub fn costs(program: &Program, machine: &Machine) -> Vec<Cost> {
    program.steps.iter().map(|step| of_step(&program.kernels[step.kernel], step, machine)).collect()
}

/// Instructions that mostly are of vectors.
fn busy(instructions: f64, core: &CoreClass) -> Cost {
    let issued = Cost::issued(instructions, core);
    Cost { cycles: issued.cycles.max(instructions * OF_VECTORS / core.multiply_adds), ..issued }
}

fn of_step(source: &KernelSource, step: &Step, machine: &Machine) -> Cost {
    let busy = |instructions| busy(instructions, machine.core);
    match source {
        KernelSource::Contraction(spec, schedule) => {
            let batches = spec.batch.iter().product::<i64>() as f64;
            let sums = cost(machine, spec, schedule.tile, schedule.packs_rows);
            let sums = match spec.element {
                Element::F32 | Element::F16 => sums,
                Element::I8 => busy(sums.instructions),
            };
            let results = (spec.window.pixels() * spec.channels) as f64;
            let epilogue = epilogue(&spec.epilogue, spec.element, machine) + spec.operands.len() as f64;
            let adding = match (spec.element, machine.integers) {
                (Element::I8, Integers::Plain) => PLAIN_SUM,
                (Element::I8, Integers::Dot | Integers::Matrix) | (Element::F32 | Element::F16, _) => 0.0,
            };
            sums.plus(busy((epilogue / spec.element.lanes() as f64 + adding) * results)).times(batches)
        }
        KernelSource::Depthwise(spec, schedule) => busy(of_windows(spec, schedule, machine)),
        KernelSource::Loops(kernel) => busy(of_loops(kernel, step)),
        KernelSource::BlockProduct(spec) => busy(spec.instructions()),
        KernelSource::WinogradInput(spec) => busy(input_instructions(spec) as f64),
        KernelSource::WinogradOutput(spec) => busy(output_instructions(spec) as f64),
        // A load and a store of each weight, with their addresses.
        KernelSource::Pack(..) => {
            busy(4.0 * step.operands.iter().map(|operand| operand.length as f64 / 8.0).sum::<f64>())
        }
        KernelSource::Chain(chain) => {
            let none = Cost { cycles: 0.0, instructions: 0.0 };
            chain.stages.iter().fold(none, |sum, stage| sum.plus(of_step(&stage.source, step, machine)))
        }
    }
}

/// Instructions of an epilogue for a vector of results, beyond those that the cost of the sums holds.
fn epilogue(expr: &Expr, element: Element, machine: &Machine) -> f64 {
    let has_tables = machine.architecture == Architecture::Aarch64 && machine.kernels == Kernels::Encoded;
    match element {
        Element::F32 | Element::F16 => operations(expr) as f64,
        Element::I8 => {
            let table = Table::of(expr).filter(|_| has_tables);
            let (sums, look_up) = match table {
                Some(table) => (operations(&expr.clone().with_root(table.argument)), LOOK_UP),
                None => (operations(expr), 0.0),
            };
            (sums as f64 - REQUANTIZATION).max(0.0) + look_up
        }
    }
}

/// Instructions of windows within channels.
fn of_windows(spec: &DepthwiseSpec, schedule: &DepthwiseSchedule, machine: &Machine) -> f64 {
    let lanes = spec.element.depthwise_lanes();
    let lines = spec.batch.iter().product::<i64>() * spec.window.height * divide_up(spec.channels, lanes);
    let of_line = match spec.element {
        Element::F32 | Element::F16 => {
            let more = (epilogue(&spec.epilogue, spec.element, machine) - COUNTED).max(0.0);
            EXECUTED * depthwise_cost(spec, schedule.columns) as f64 + more * spec.window.width as f64
        }
        Element::I8 => {
            let vectors = (lanes / spec.element.lanes() * spec.window.width) as f64;
            of_line_of_bytes(spec, machine.integers) + epilogue(&spec.epilogue, spec.element, machine) * vectors
        }
    };
    of_line * lines as f64
}

/// Instructions of 16 channels of a line of results. The numbers are fitted to what the layers of MobileNetV2 execute
/// (`--test integer_instructions`), within 6 %.
fn of_line_of_bytes(spec: &DepthwiseSpec, integers: Integers) -> f64 {
    let taps = &spec.window.taps;
    let distinct = |of: fn(&Tap) -> i64| taps.iter().map(of).collect::<BTreeSet<_>>().len() as i64;
    let (rows, columns, step) = (distinct(|tap| tap.row), distinct(|tap| tap.column), spec.window.step[1] as f64);
    let of_result = match integers {
        // A product for each tap and four channels, and the loads of a column of rows.
        Integers::Plain => 4.0 * taps.len() as f64 + 6.0 * rows as f64 * step,
        // A product for each word of four rows and four channels, and what loads and weaves a column of words.
        Integers::Dot | Integers::Matrix => divide_up(rows, 4) as f64 * (4.0 * columns as f64 + 20.0 * step),
    };
    (of_result + 15.0) * spec.window.width as f64 + 70.0
}

fn of_loops(kernel: &LoopKernel, step: &Step) -> f64 {
    let widest = kernel.locals.iter().map(|dtype| dtype.size()).max().unwrap_or(1);
    let lanes = if widest < 4 { BYTES } else { VECTOR / widest as f64 };
    let nest = Nest { kernel, arguments: &step.arguments, lanes, widest };
    kernel.range as f64 * (nest.body(&kernel.body) + TURN)
}

/// A loop nest whose variables are at the begin of their loops.
struct Nest<'a> {
    kernel: &'a LoopKernel,
    arguments: &'a [u32],
    /// Elements that go through a vector loop at once.
    lanes: f64,
    /// Bytes of the widest local.
    widest: usize,
}

impl Nest<'_> {
    fn body(&self, body: &[Stmt]) -> f64 {
        body.iter().map(|statement| self.statement(statement)).sum()
    }

    fn statement(&self, statement: &Stmt) -> f64 {
        match statement {
            Stmt::For { begin, end, mode, body, .. } => {
                let turns = (self.value(end) - self.value(begin)).max(0) as f64;
                let turns = match mode {
                    LoopMode::Serial => turns,
                    LoopMode::Lanes | LoopMode::Fold(_) => (turns / self.lanes).ceil(),
                };
                turns * (self.body(body) + TURN)
            }
            Stmt::Set { value: Value::Apply { expr, .. }, .. } => operations(expr) as f64,
            Stmt::Set { value: Value::Index(_), .. } => 1.0,
            Stmt::Set { value: Value::Load { buffer, .. }, .. } | Stmt::Store { buffer, .. } => self.access(*buffer),
        }
    }

    fn access(&self, buffer: usize) -> f64 {
        let is_narrow = self.kernel.buffers[buffer].dtype.size() < self.widest;
        if is_narrow { NARROW_ACCESS } else { ACCESS }
    }

    /// An index where every variable and position is 0.
    fn value(&self, index: &Index) -> i64 {
        match index {
            Index::Constant(number) => *number,
            Index::Var(_) => 0,
            Index::Argument(place) => self.arguments.get(*place as usize).map_or(0, |&argument| argument.into()),
            Index::Clamped { low, .. } => *low,
            Index::Add(a, b) => self.value(a) + self.value(b),
            Index::Mul(a, factor) => self.value(a) * factor,
            Index::FloorDiv(a, divisor) => self.value(a).div_euclid(*divisor),
            Index::Mod(a, divisor) => self.value(a).rem_euclid(*divisor),
            Index::Min(a, b) => self.value(a).min(self.value(b)),
            Index::Max(a, b) => self.value(a).max(self.value(b)),
        }
    }
}
