//! The road a model takes: import, passes, lowering, plan, emission, artifact.

use std::path::Path;

use edgecc_backends::artifact::{describe, describe_port};
use edgecc_backends::cpu::function::EmitError;
use edgecc_backends::cpu::isa::{Architecture, Core, CpuTarget, Halves, Kernels, Listing, Vectors};
use edgecc_backends::cpu::program::{Emitted, emit};
use edgecc_backends::lower::{LowerError, LowerOptions, Processor, lower};
use edgecc_backends::plan::{Plan, plan};
use edgecc_backends::program::Program;
use edgecc_format::{ConstantPool, Contents, Manifest, Program as FormatProgram, WriteError};
use edgecc_ir::Graph;
use edgecc_passes::precision::Precision;

use crate::onnx::{ImportError, ImportOptions};

/// What to make of a model.
#[derive(Clone, Debug)]
pub struct CompileOptions {
    /// How the model is read.
    pub import: ImportOptions,
    /// The instruction set to emit for.
    pub architecture: Architecture,
    /// Who writes kernels.
    pub kernels: Kernels,
    /// The core whose order of instructions they take.
    pub core: Core,
    /// The width in which f32 values are kept.
    pub precision: Precision,
    /// Whether weights may be kept in larger forms where they make the model faster.
    pub allow_size: bool,
    /// Whether the code is for an object file: an app's workers have no scratch.
    pub linked: bool,
    /// The text that each kernel comes with.
    pub listing: Listing,
    /// Largest tensor, in bytes.
    pub max_memory: usize,
    /// Names of the classes that the artifact carries.
    pub labels: Vec<String>,
    /// The command's words, for the artifact's record.
    pub configuration: String,
}

/// Why a model did not compile.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The model is not one that can be read.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// A pass failed: a fault of the compiler.
    #[error(transparent)]
    Pass(#[from] edgecc_passes::PassError),
    /// Nodes without a kernel.
    #[error("no kernel for:\n{0}")]
    Lower(#[from] LowerError),
    /// Emission failed: a fault of the compiler.
    #[error(transparent)]
    Emit(#[from] EmitError),
    /// A shader that is none: a fault of the compiler.
    #[error(transparent)]
    Shader(#[from] edgecc_backends::gpu::ShaderError),
    /// The artifact could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// A phase of the road, as `--dump` numbers and names it.
pub struct Phase<'a> {
    /// The phase's name.
    pub name: &'a str,
    /// The graph behind it.
    pub graph: &'a Graph,
}

/// A graph compiled for processors of one kind.
pub struct ForProcessors {
    /// How they compute with halves.
    pub halves: Halves,
    /// Their vectors.
    pub vectors: Vectors,
    /// Steps over storages.
    pub program: Program,
    /// Where storages lie.
    pub plan: Plan,
    /// Machine code.
    pub emitted: Emitted,
}

/// A compiled model.
pub struct Compiled {
    /// The graph behind the last pass.
    pub graph: Graph,
    /// The program for the most able processors.
    pub best: ForProcessors,
    /// Those for others, over the same weights; the most able first.
    pub others: Vec<ForProcessors>,
    /// What the user should know, such as dimensions that were chosen for them.
    pub notes: Vec<String>,
    /// The instruction set of the code.
    pub architecture: Architecture,
    labels: Vec<String>,
    configuration: String,
}

/// Reads and compiles a model. `observe` sees the graph after import and after every pass.
pub fn compile(
    model: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<Compiled, CompileError> {
    let model = crate::onnx::read(model)?;
    let imported = crate::onnx::import(&model, &options.import)?;
    let mut graph = imported.graph;
    observe(Phase { name: "import", graph: &graph });
    optimise(&mut graph, options, observe)?;
    // Passes have folded most weights into new ones.
    model.let_go();
    let compiled = generate(graph, options)?;
    Ok(Compiled { notes: imported.notes, ..compiled })
}

/// Compiles a graph.
pub fn compile_graph(
    mut graph: Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<Compiled, CompileError> {
    optimise(&mut graph, options, observe)?;
    generate(graph, options)
}

/// A program for each kind of processor.
fn generate(graph: Graph, options: &CompileOptions) -> Result<Compiled, CompileError> {
    let CompileOptions { architecture, kernels, precision, linked, .. } = *options;
    // An object holds one program, which any processor must be able to run.
    let has_others = kernels == Kernels::Encoded && !linked;
    let baseline = (Halves::Widened, Vectors::Baseline);
    let able = match (architecture, precision) {
        _ if !has_others => None,
        (Architecture::Aarch64, Precision::F16) => Some((Halves::Native, Vectors::Baseline)),
        (Architecture::Aarch64, Precision::F32) => None,
        (Architecture::X86_64, _) => Some((Halves::Widened, Vectors::Avx512)),
    };
    let others = able.map(|_| generate_for(&graph, options, baseline)).transpose()?;
    Ok(Compiled {
        best: generate_for(&graph, options, able.unwrap_or(baseline))?,
        others: others.into_iter().collect(),
        graph,
        notes: Vec::new(),
        architecture: options.architecture,
        labels: options.labels.clone(),
        configuration: options.configuration.clone(),
    })
}

/// Lowering, plan and emission.
fn generate_for(
    graph: &Graph,
    options: &CompileOptions,
    (halves, vectors): (Halves, Vectors),
) -> Result<ForProcessors, CompileError> {
    let CompileOptions { architecture, kernels, core, listing, allow_size, linked, .. } = *options;
    let workers_have_scratch = kernels == Kernels::Encoded && !linked;
    let constants_may_grow = allow_size;
    let program = lower(
        graph,
        LowerOptions {
            processor: Processor::Cpu,
            architecture,
            kernels,
            core,
            halves,
            vectors,
            constants_may_grow,
            workers_have_scratch,
        },
    )?;
    let plan = plan(&program);
    let target = CpuTarget::new(architecture)?
        .with_listing(listing)
        .with_kernels(kernels)
        .with_core(core)
        .with_halves(halves)
        .with_vectors(vectors);
    let emitted = emit(&program, &target)?;
    Ok(ForProcessors { halves, vectors, program, plan, emitted })
}

/// Runs every pass: the graph becomes one that backends lower.
pub(crate) fn optimise(
    graph: &mut Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<(), CompileError> {
    let passes = edgecc_passes::Options { max_constant_bytes: options.max_memory, precision: options.precision };
    let mut report = |name: &str, graph: &Graph| observe(Phase { name, graph });
    edgecc_passes::prepare(graph, &passes, &mut report)?;
    edgecc_passes::finish(graph, &passes, &mut report)?;
    Ok(())
}

/// Reads a model: its graph as it was exported, and what the user should know.
pub fn import(model: &Path, options: &CompileOptions) -> Result<(Graph, Vec<String>), CompileError> {
    let model = crate::onnx::read(model)?;
    let imported = crate::onnx::import(&model, &options.import)?;
    Ok((imported.graph, imported.notes))
}

/// What an artifact says of a model but for its programs.
pub(crate) fn manifest(program: &Program, labels: &[String], configuration: &str) -> Manifest {
    Manifest {
        producer: concat!("edgecc ", env!("CARGO_PKG_VERSION")).into(),
        model_name: program.name.clone(),
        config: configuration.into(),
        inputs: program.inputs.iter().map(describe_port).collect(),
        outputs: program.outputs.iter().map(describe_port).collect(),
        labels: labels.to_vec(),
        source_macs: program.steps.iter().map(|step| step.macs).sum(),
        ..Manifest::default()
    }
}

impl Compiled {
    /// Writes the artifact; its size in bytes.
    pub fn write(&self, out: &mut impl std::io::Write) -> Result<u64, WriteError> {
        let mut pool = ConstantPool::new();
        let all = || std::iter::once(&self.best).chain(&self.others);
        let mut programs = Vec::new();
        for (place, each) in all().enumerate() {
            let described = describe(&each.program, &each.plan, &each.emitted, self.architecture, &mut pool);
            let mut required_features = described.required_features;
            let further = each.halves.required_features().iter().chain(each.vectors.required_features());
            required_features.extend(further.map(|feature| feature.to_string()));
            let rank = (self.others.len() - place) as u32;
            programs.push(FormatProgram { required_features, rank, ..described });
        }
        let manifest = Manifest { programs, ..manifest(&self.best.program, &self.labels, &self.configuration) };
        let code = all().map(|each| each.emitted.code.as_slice()).collect();
        Contents { manifest, code, weights: &pool }.write(out)
    }

    /// The artifact in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}
