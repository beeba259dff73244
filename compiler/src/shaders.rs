//! The road to shaders: the CPU's up to the graph, then lowering, plan and emission for GPUs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgecc_backends::artifact::describe_shaders;
use edgecc_backends::cpu::isa::{Architecture, Halves, Integers, Kernels, Vectors};
use edgecc_backends::gpu::{OFFSET_ALIGNMENT, Shaders, check, emit};
use edgecc_backends::lower::{LowerOptions, Processor, lower};
use edgecc_backends::packings::Packings;
use edgecc_backends::plan::{Plan, plan_aligned};
use edgecc_backends::program::Program;
use edgecc_backends::schedule::choices::SHADERS;
use edgecc_backends::schedule::cores::GENERIC;
use edgecc_backends::schedule::{Machine, gpu};
use edgecc_format::{ConstantPool, Contents, Manifest, Program as FormatProgram, WriteError};
use edgecc_ir::Graph;

use crate::compile::{CompileError, CompileOptions, Phase, finish, manifest, prepare, simplify, unused};

/// A model compiled to shaders.
pub struct CompiledShaders {
    /// The graph behind the last pass.
    pub graph: Graph,
    /// Steps over storages.
    pub program: Program,
    /// Where storages lie.
    pub plan: Plan,
    /// The shaders and their dispatches.
    pub shaders: Shaders,
    /// Others of the same steps that sum in halves, for adapters that can.
    pub in_halves: Option<Shaders>,
    /// What the user should know, such as dimensions that were chosen for them.
    pub notes: Vec<String>,
    labels: Vec<String>,
    configuration: String,
}

/// Reads a model and compiles it to shaders. `observe` sees the graph after import and after every pass.
pub fn compile(
    model: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<CompiledShaders, CompileError> {
    let (graph, mut notes) = prepare(model, options, observe)?;
    let compiled = compile_prepared(graph, options, None, observe)?;
    notes.extend(compiled.notes);
    Ok(CompiledShaders { notes, ..compiled })
}

/// Compiles a graph to shaders.
pub fn compile_graph(
    mut graph: Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<CompiledShaders, CompileError> {
    simplify(&mut graph, options, observe)?;
    compile_prepared(graph, options, None, observe)
}

/// Compiles a graph behind [`prepare`] to shaders, which read weights that are packed as given where they are.
pub fn compile_prepared(
    mut graph: Graph,
    options: &CompileOptions,
    packings: Option<&Packings>,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<CompiledShaders, CompileError> {
    finish(&mut graph, options, observe)?;
    generate(graph, options, packings)
}

/// Compiles a graph behind every pass to shaders. Notes name given schedules of no layer.
pub fn generate(
    graph: Graph,
    options: &CompileOptions,
    packings: Option<&Packings>,
) -> Result<CompiledShaders, CompileError> {
    let lowering = LowerOptions {
        packings,
        gpu: options.gpu,
        constants_may_grow: options.allow_size,
        choices: Some(&options.schedules),
        ..LOWERING
    };
    let program = lower(&graph, lowering)?;
    check(&program)?;
    let plan = plan_aligned(&program, OFFSET_ALIGNMENT);
    let shaders = emit(&program, &plan, Halves::Widened)?;
    let native = options.half_sums.then(|| emit(&program, &plan, Halves::Native)).transpose()?;
    let in_halves = native.filter(|shaders| shaders.have_halves);
    let (labels, configuration) = (options.labels.clone(), options.configuration.clone());
    let layers: BTreeSet<&str> = program.decisions.keys().map(String::as_str).collect();
    let notes = unused(&options.schedules, &BTreeMap::from([(SHADERS.into(), layers)])).into_iter().collect();
    Ok(CompiledShaders { graph, program, plan, shaders, in_halves, notes, labels, configuration })
}

/// Nothing of the CPU's matters but that there is no scratch.
const LOWERING: LowerOptions<'static> = LowerOptions {
    processor: Processor::Gpu,
    machine: Machine {
        architecture: Architecture::Aarch64,
        kernels: Kernels::Clif,
        integers: Integers::Plain,
        vectors: Vectors::Baseline,
        core: &GENERIC,
        workers_have_scratch: false,
    },
    gpu: &gpu::GENERIC,
    halves: Halves::Widened,
    constants_may_grow: false,
    choices: None,
    packings: None,
};

impl CompiledShaders {
    /// Writes the artifact; its size in bytes.
    pub fn write(&self, out: &mut impl std::io::Write) -> Result<u64, WriteError> {
        let mut pool = ConstantPool::new();
        let programs = self.describe(&mut pool);
        let manifest = Manifest { programs, ..manifest(&self.program, &self.labels, &self.configuration) };
        let code = self.code();
        Contents { manifest, code: code.iter().map(Vec::as_slice).collect(), weights: &pool }.write(out)
    }

    /// The shaders of each program.
    pub fn programs(&self) -> impl Iterator<Item = &Shaders> {
        std::iter::once(&self.shaders).chain(&self.in_halves)
    }

    /// The artifact's records of the programs. Constants that steps read go into the pool.
    pub(crate) fn describe<'a>(&'a self, pool: &mut ConstantPool<'a>) -> Vec<FormatProgram> {
        self.programs().map(|shaders| describe_shaders(&self.program, &self.plan, shaders, pool)).collect()
    }

    /// The texts of the shaders of each program.
    pub(crate) fn code(&self) -> Vec<Vec<u8>> {
        self.programs().map(|shaders| shaders.code().0).collect()
    }

    /// The artifact in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}
