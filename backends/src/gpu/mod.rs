//! Emission for GPUs: programs as WGSL compute shaders and dispatches of them.
//!
//! One file per kind of kernel writes what an invocation does; [`binding`](self) decides how it reaches its operands. Nothing
//! goes beyond WebGPU's default limits: 8 storage buffers, groups of 256 invocations, 65535 groups along an axis.

mod binding;
mod bounds;
mod contraction;
mod depthwise;
mod expression;
mod functions;
mod grid;
mod index;
mod nest;
mod pack;
mod parallel;
mod reading;
mod shared;
mod strides;
mod support;
mod together;
mod validate;
mod value;
mod winograd;
mod within;
mod writer;

use std::collections::BTreeSet;

pub use binding::{Binding, MOST_BINDINGS, OFFSET_ALIGNMENT, Region};
pub use grid::{GROUP, MOST_GROUPS};
pub use support::check;

use binding::{Bindings, Bound, Use};
use bounds::Run;
use contraction::Contraction;
use depthwise::Depthwise;
use nest::Nest;
use together::Parts;
use writer::Writer;

use crate::cpu::isa::Halves;
use crate::plan::Plan;
use crate::program::{KernelSource, Program, Step};

/// The shaders of a program.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Shaders {
    /// Distinct modules, each with the entry point `main`.
    pub modules: Vec<Module>,
    /// One for each step of the program.
    pub dispatches: Vec<Dispatch>,
    /// Whether shaders compute in halves, which an adapter has to have (`shader-f16`).
    pub have_halves: bool,
}

/// Alignment of every module in the code, in bytes.
const ALIGNMENT: usize = 64;

impl Shaders {
    /// The texts one behind the other, lines between them, and where each begins.
    pub fn code(&self) -> (Vec<u8>, Vec<usize>) {
        let mut code = Vec::new();
        let offsets = self.modules.iter().map(|module| {
            code.resize(code.len().next_multiple_of(ALIGNMENT), b'\n');
            let offset = code.len();
            code.extend_from_slice(module.text.as_bytes());
            offset
        });
        let offsets = offsets.collect();
        (code, offsets)
    }
}

/// A shader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// A name for people.
    pub name: String,
    /// The text.
    pub text: String,
    /// Why it is not proved to stay within its operands; it then has to be checked while it runs.
    pub unproved: Option<String>,
}

/// A step as a call of a shader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// Place in [`Shaders::modules`].
    pub module: usize,
    /// Groups along each axis.
    pub groups: [u32; 3],
    /// What it binds, in the order of the shader's bindings; disjoint where one is written.
    pub bindings: Vec<Binding>,
}

/// Why a shader could not be emitted: a fault of the compiler, never of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("shader of step `{step}`: {reason}")]
pub struct ShaderError {
    /// The step's name.
    pub step: String,
    /// What is wrong.
    pub reason: String,
}

/// What an invocation does.
struct Body {
    writer: Writer,
    groups: [u32; 3],
    /// What a group shares, where it works on one result together.
    parts: Option<Parts>,
}

/// Emits and validates the shaders of a planned program that [`check`] lets pass. Steps of one text share a module. Products of
/// native halves are summed in halves; widened ones are stored as bits, which every adapter can read.
pub fn emit(program: &Program, plan: &Plan, halves: Halves) -> Result<Shaders, ShaderError> {
    let mut shaders = Shaders::default();
    let mut parsed = Vec::new();
    let mut proved = BTreeSet::new();
    for (number, step) in program.steps.iter().enumerate() {
        let failed = |reason: String| ShaderError { step: format!("{number}.{}", step.name), reason };
        let Emitted { text, groups, bindings, runs } = emit_step(program, plan, step, halves).map_err(failed)?;
        let known = shaders.modules.iter().position(|module| module.text == text);
        let module = match known {
            Some(module) => module,
            None => {
                parsed.push(validate::validate(&text).map_err(failed)?);
                let name = format!("{}_{}", step.name, shaders.modules.len());
                shaders.modules.push(Module { name, text, unproved: None });
                shaders.modules.len() - 1
            }
        };
        if shaders.modules[module].unproved.is_none() && proved.insert((module, groups, runs.clone())) {
            shaders.modules[module].unproved = bounds::prove(&parsed[module], groups, &runs).err();
        }
        shaders.dispatches.push(Dispatch { module, groups, bindings });
    }
    shaders.have_halves = shaders.modules.iter().any(|module| validate::enables_halves(&module.text));
    Ok(shaders)
}

/// A step's shader, and what it is dispatched over.
struct Emitted {
    text: String,
    groups: [u32; 3],
    bindings: Vec<Binding>,
    /// The operands in each binding.
    runs: Vec<Vec<Run>>,
}

fn emit_step(program: &Program, plan: &Plan, step: &Step, halves: Halves) -> Result<Emitted, String> {
    let source = &program.kernels[step.kernel];
    let uses = uses(source);
    if uses.len() != step.operands.len() {
        return Err(format!("{} operands for a kernel of {}", step.operands.len(), uses.len()));
    }
    let bindings = Bindings::of(program, plan, &step.operands, &uses, halves);
    if bindings.list.len() > MOST_BINDINGS {
        return Err(format!("{} bindings, more than {MOST_BINDINGS}", bindings.list.len()));
    }
    let body = body(source, &bindings.operands).ok_or("it asks for what shaders do not have")?;
    let groups = body.groups;
    Ok(Emitted { text: module_text(&bindings, body), groups, runs: bindings.runs, bindings: bindings.list })
}

fn uses(source: &KernelSource) -> Vec<Use> {
    match source {
        KernelSource::Loops(kernel) => Nest::new(kernel).uses(),
        KernelSource::Contraction(spec, schedule) => Contraction::new(spec, schedule).uses(),
        KernelSource::Depthwise(spec, schedule) => Depthwise::new(spec, schedule).uses(),
        KernelSource::Pack(weights, layout) => pack::uses(weights, layout),
        KernelSource::WinogradInput(spec) => winograd::input_uses(spec),
        KernelSource::WinogradOutput(spec) => winograd::output_uses(spec),
        KernelSource::BlockProduct(_) | KernelSource::Chain(_) => Vec::new(),
    }
}

fn body(source: &KernelSource, operands: &[Bound]) -> Option<Body> {
    match source {
        KernelSource::Loops(kernel) => Nest::new(kernel).emit(operands),
        KernelSource::Contraction(spec, schedule) => Contraction::new(spec, schedule).emit(operands),
        KernelSource::Depthwise(spec, schedule) => Depthwise::new(spec, schedule).emit(operands),
        KernelSource::Pack(weights, layout) => pack::emit(weights, layout, operands),
        KernelSource::WinogradInput(spec) => winograd::emit_input(spec, operands),
        KernelSource::WinogradOutput(spec) => winograd::emit_output(spec, operands),
        KernelSource::BlockProduct(_) | KernelSource::Chain(_) => None,
    }
}

fn module_text(bindings: &Bindings, Body { writer, parts, .. }: Body) -> String {
    let mut text = if bindings.have_halves() { validate::ENABLE_HALVES.to_string() } else { String::new() };
    text.push_str(&bindings.text());
    for &bits in &writer.patterns {
        text.push_str(&format!("var<private> {}: u32 = {bits:#x}u;\n", value::pattern(bits)));
    }
    for (function, width) in &writer.functions {
        text.push_str(&function.text(*width));
    }
    text.extend(parts.iter().map(Parts::text));
    text.push_str(&format!("@compute @workgroup_size({GROUP})\n"));
    text.push_str(match parts {
        None => "fn main(@builtin(global_invocation_id) id: vec3<u32>) {\n",
        Some(_) => "fn main(@builtin(workgroup_id) id: vec3<u32>, @builtin(local_invocation_index) place: u32) {\n",
    });
    text.push_str(&writer.into_text());
    text.push_str("}\n");
    text
}
