//! The road a model takes: import, passes, lowering, plan, emission, artifact.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use edgecc_backends::artifact::{describe, describe_port};
use edgecc_backends::chain::{Limits, join};
use edgecc_backends::cpu::function::EmitError;
use edgecc_backends::cpu::isa::{Architecture, CpuTarget, Halves, Integers, Kernels, Listing, Vectors};
use edgecc_backends::cpu::program::{Emitted, emit};
use edgecc_backends::estimate::costs;
use edgecc_backends::lower::{LowerError, LowerOptions, Processor, lower};
use edgecc_backends::packings::Packings;
use edgecc_backends::plan::{Plan, plan};
use edgecc_backends::program::Program;
use edgecc_backends::schedule::Machine;
use edgecc_backends::schedule::choices::{Choices, heading};
use edgecc_backends::schedule::cores::CoreClass;
use edgecc_backends::schedule::cycles::Cost;
use edgecc_backends::schedule::gpu::GpuClass;
use edgecc_format::{ConstantPool, Contents, Manifest, Program as FormatProgram, WriteError};
use edgecc_ir::{BlockWeights, DType, Graph, Origin};
use edgecc_passes::precision::Precision;
use edgecc_runtime::has_feature;

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
    /// The core that schedules are chosen for, and whose order of instructions kernels take.
    pub core: &'static CoreClass,
    /// The kind of GPU that schedules of shaders are chosen for.
    pub gpu: &'static GpuClass,
    /// Schedules that are given.
    pub schedules: Choices,
    /// The width in which f32 values are kept.
    pub precision: Precision,
    /// Whether shaders sum products of halves in halves where an adapter can.
    pub half_sums: bool,
    /// Whether quantised values become integer arithmetic: shaders compute with the numbers that those stand for.
    pub integers: bool,
    /// Whether weights may be kept in larger forms where they make the model faster.
    pub allow_size: bool,
    /// When steps run together by bands of rows: where nothing says so, never.
    pub chains: Option<Limits>,
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
    /// The kind of processors.
    pub kind: Kind,
    /// Steps over storages.
    pub program: Program,
    /// How it packs its weights.
    pub packings: Packings,
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

/// Processors of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Kind {
    /// How they compute with halves.
    pub halves: Halves,
    /// How they sum products of i8.
    pub integers: Integers,
    /// Their vectors.
    pub vectors: Vectors,
}

impl Kind {
    /// What they have beyond the architecture's baseline, by Rust's names of features.
    pub fn required_features(&self) -> Vec<&'static str> {
        [self.halves.required_features(), self.integers.required_features(), self.vectors.required_features()].concat()
    }
}

/// Reads and compiles a model. `observe` sees the graph after import and after every pass.
pub fn compile(
    model: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<Compiled, CompileError> {
    let (graph, notes) = prepare(model, options, observe)?;
    let compiled = compile_prepared(graph, options, observe)?;
    Ok(Compiled { notes: [notes, compiled.notes].concat(), ..compiled })
}

/// Compiles a graph.
pub fn compile_graph(
    mut graph: Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<Compiled, CompileError> {
    simplify(&mut graph, options, observe)?;
    compile_prepared(graph, options, observe)
}

/// Compiles a graph behind [`prepare`].
pub fn compile_prepared(
    mut graph: Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<Compiled, CompileError> {
    finish(&mut graph, options, observe)?;
    let kinds = kinds(&graph, options);
    generate(graph, options, kinds)
}

/// Reads a model: its graph behind the passes that calibration, pruning and tuning stand behind, and what the user should know.
pub fn prepare(
    model: &Path,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<(Graph, Vec<String>), CompileError> {
    let model = crate::onnx::read(model)?;
    let imported = crate::onnx::import(&model, &options.import)?;
    let mut graph = imported.graph;
    observe(Phase { name: "import", graph: &graph });
    simplify(&mut graph, options, observe)?;
    // Passes have folded most weights into new ones.
    model.let_go();
    Ok((graph, imported.notes))
}

/// The kinds of processors that an artifact has a program for: the most able, and others. Those that sum products of i8 in one
/// way or another are told apart where the graph has such sums, up to what the named core has.
pub fn kinds(graph: &Graph, options: &CompileOptions) -> (Kind, Vec<Kind>) {
    let CompileOptions { architecture, kernels, core, precision, linked, .. } = *options;
    // An object holds one program, which any processor must be able to run.
    let has_others = kernels == Kernels::Encoded && !linked;
    let halves = match precision {
        Precision::F16 => Halves::Native,
        Precision::F32 => Halves::Widened,
    };
    let able = match architecture {
        _ if !has_others => Vec::new(),
        Architecture::Aarch64 => {
            // Weights in blocks are summed by dot products alone.
            let most = match () {
                () if sums_integers(graph) => core.integers,
                () if has_block_weights(graph) => core.integers.min(Integers::Dot),
                () => Integers::Plain,
            };
            let integers = Integers::ALL.into_iter().rev().filter(|&level| level <= most);
            integers.map(|integers| Kind { halves, integers, ..Kind::default() }).collect()
        }
        Architecture::X86_64 => {
            let sums = sums_integers(graph).then_some(Vectors::Avx512Vnni);
            sums.into_iter().chain([Vectors::Avx512]).map(|vectors| Kind { vectors, ..Kind::default() }).collect()
        }
    };
    let mut kinds = able.into_iter().filter(|&kind| kind != Kind::default());
    match kinds.next() {
        Some(best) => (best, kinds.chain([Kind::default()]).collect()),
        None => (Kind::default(), Vec::new()),
    }
}

/// Whether a graph has matrix products or convolutions over i8.
fn sums_integers(graph: &Graph) -> bool {
    let sums = |id| {
        let input = graph.operands(id).first().map(|&input| graph.ty(input).dtype);
        graph.op(id).epilogue().is_some() && input == Some(DType::I8)
    };
    graph.ids().any(sums)
}

/// Whether a graph has products with weights of a few bits in blocks.
fn has_block_weights(graph: &Graph) -> bool {
    graph.ids().any(|id| BlockWeights::of(graph, id).is_some())
}

/// Those of [`kinds`] that this machine's processor is of, the most able first.
pub fn kinds_here(graph: &Graph, options: &CompileOptions) -> Vec<Kind> {
    let (best, others) = kinds(graph, options);
    let runs = |kind: &Kind| {
        let baseline = options.architecture.required_features().iter().copied();
        baseline.chain(kind.required_features()).all(has_feature)
    };
    std::iter::once(best).chain(others).filter(runs).collect()
}

/// A program of a graph behind every pass for the most able kind of processors and for others. Notes name given schedules of no layer.
pub fn generate(
    graph: Graph,
    options: &CompileOptions,
    (best, others): (Kind, Vec<Kind>),
) -> Result<Compiled, CompileError> {
    let others = others.into_iter().map(|kind| generate_for(&graph, options, kind)).collect::<Result<Vec<_>, _>>()?;
    let best = generate_for(&graph, options, best)?;
    let mut layers: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for each in std::iter::once(&best).chain(&others) {
        let heading = heading(options.architecture, options.kernels, each.kind.integers, each.kind.vectors);
        layers.entry(heading).or_default().extend(each.program.decisions.keys().map(String::as_str));
    }
    Ok(Compiled {
        notes: unused(&options.schedules, &layers).into_iter().collect(),
        graph,
        best,
        others,
        architecture: options.architecture,
        labels: options.labels.clone(),
        configuration: options.configuration.clone(),
    })
}

/// Says which given schedules are of no layer, of programs of these kinds with these layers.
pub(crate) fn unused(schedules: &Choices, layers: &BTreeMap<String, BTreeSet<&str>>) -> Option<String> {
    let lines = layers.iter().flat_map(|(heading, layers)| {
        let unused = schedules.under(heading).filter(|(layer, _)| !layers.contains(layer));
        unused.map(|(_, given)| given.line)
    });
    let mut lines: Vec<usize> = lines.collect();
    lines.sort_unstable();
    let lines: Vec<String> = lines.iter().map(usize::to_string).collect();
    (!lines.is_empty()).then(|| format!("schedules of no layer of this model, by line: {}", lines.join(", ")))
}

/// What schedules are chosen for.
fn machine(options: &CompileOptions, kind: Kind) -> Machine {
    let CompileOptions { architecture, kernels, core, linked, .. } = *options;
    let workers_have_scratch = kernels == Kernels::Encoded && !linked;
    Machine { architecture, kernels, integers: kind.integers, vectors: kind.vectors, core, workers_have_scratch }
}

/// Steps over storages.
fn lower_for(graph: &Graph, options: &CompileOptions, kind: Kind) -> Result<Program, CompileError> {
    let machine = machine(options, kind);
    let (constants_may_grow, choices) = (options.allow_size, Some(&options.schedules));
    let options = LowerOptions {
        processor: Processor::Cpu,
        machine,
        gpu: options.gpu,
        halves: kind.halves,
        constants_may_grow,
        choices,
        packings: None,
    };
    Ok(lower(graph, options)?)
}

/// What each step of a graph behind [`prepare`] costs the most able kind of processors, by the cost model, with the model's
/// nodes that it stands for.
pub fn modelled_costs(graph: &Graph, options: &CompileOptions) -> Result<Vec<(Origin, Cost)>, CompileError> {
    let mut graph = graph.clone();
    finish(&mut graph, options, &mut |_| {})?;
    let (kind, _) = kinds(&graph, options);
    let program = lower_for(&graph, options, kind)?;
    let costs = costs(&program, &machine(options, kind));
    Ok(program.steps.into_iter().map(|step| step.origin).zip(costs).collect())
}

/// Lowering, plan and emission.
fn generate_for(graph: &Graph, options: &CompileOptions, kind: Kind) -> Result<ForProcessors, CompileError> {
    let CompileOptions { architecture, kernels, core, listing, chains, linked, .. } = *options;
    let Kind { halves, integers, vectors } = kind;
    let program = lower_for(graph, options, kind)?;
    let packings = Packings::of(&program);
    let target = CpuTarget::new(architecture)?
        .with_listing(listing)
        .with_kernels(kernels)
        .with_core(core.issue)
        .with_halves(halves)
        .with_integers(integers)
        .with_vectors(vectors);
    let program = match chains {
        Some(limits) if !linked => join(program, &target, &limits),
        _ => program,
    };
    let plan = plan(&program);
    let emitted = emit(&program, &target)?;
    Ok(ForProcessors { kind, program, packings, plan, emitted })
}

/// Runs the first half of the passes.
pub(crate) fn simplify(
    graph: &mut Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<(), CompileError> {
    edgecc_passes::prepare(graph, &passes(options), &mut |name, graph| observe(Phase { name, graph }))?;
    Ok(())
}

/// Runs the second half of the passes: a graph behind the first becomes one that backends lower.
pub fn finish(
    graph: &mut Graph,
    options: &CompileOptions,
    observe: &mut dyn FnMut(Phase<'_>),
) -> Result<(), CompileError> {
    edgecc_passes::finish(graph, &passes(options), &mut |name, graph| observe(Phase { name, graph }))?;
    Ok(())
}

fn passes(options: &CompileOptions) -> edgecc_passes::Options {
    let CompileOptions { max_memory, precision, integers, .. } = *options;
    edgecc_passes::Options { max_constant_bytes: max_memory, precision, integers }
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
        let programs = self.describe(&mut pool);
        Contents { manifest: self.manifest(programs), code: self.code(), weights: &pool }.write(out)
    }

    fn all(&self) -> impl Iterator<Item = &ForProcessors> {
        std::iter::once(&self.best).chain(&self.others)
    }

    /// The artifact's records of the programs. Constants that steps read go into the pool.
    pub(crate) fn describe<'a>(&'a self, pool: &mut ConstantPool<'a>) -> Vec<FormatProgram> {
        let mut programs = Vec::new();
        for (place, each) in self.all().enumerate() {
            let described = describe(&each.program, &each.plan, &each.emitted, self.architecture, pool);
            let mut required_features = described.required_features;
            required_features.extend(each.kind.required_features().into_iter().map(str::to_string));
            let rank = (self.others.len() - place) as u32;
            programs.push(FormatProgram { required_features, rank, ..described });
        }
        programs
    }

    /// The code of each program.
    pub(crate) fn code(&self) -> Vec<&[u8]> {
        self.all().map(|each| each.emitted.code.as_slice()).collect()
    }

    /// What the artifact says, with these records of programs.
    pub(crate) fn manifest(&self, programs: Vec<FormatProgram>) -> Manifest {
        Manifest { programs, ..manifest(&self.best.program, &self.labels, &self.configuration) }
    }

    /// The artifact in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(bytes)
    }
}
