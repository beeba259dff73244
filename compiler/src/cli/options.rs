//! The command line.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::quantize::Limit;
use crate::recipe::{Integers, Ranking, Width};

/// Compiles ONNX models for phones.
#[derive(Debug, Parser)]
#[command(name = "edgecc", version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct CommandLine {
    #[command(flatten)]
    pub build: BuildArguments,
    #[command(subcommand)]
    pub verb: Option<Verb>,
}

/// What to do beside compiling.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Tell what integers make of a model's layers: ranges, losses, cycles; takes what compiling takes
    #[command(mut_arg("target", |target| target.default_value("aarch64")))]
    Quantize(Box<BuildArguments>),
    /// Run an artifact, or a model compiled for this machine
    Run(RunArguments),
    /// Compare an artifact with the model's meaning, output by output
    Compare(CompareArguments),
    /// Tell what is in an artifact
    Inspect(InspectArguments),
    /// Time an artifact
    Bench(BenchArguments),
    /// Measure schedules of a model's layers on this machine
    Tune(TuneArguments),
    /// List operators, or those of a model
    Ops(OpsArguments),
    /// List targets
    Targets,
}

/// How a model is read.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// Fix a symbolic dimension of the inputs
    #[arg(long = "dim", value_name = "NAME=N", value_parser = parse_dim)]
    pub dims: Vec<(String, usize)>,
    /// Fix the shape of an input
    #[arg(long = "shape", value_name = "INPUT=AxBxC", value_parser = parse_shape)]
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Fix the value of an input, which the program then no longer takes
    #[arg(long = "constant", value_name = "INPUT=FILE.npy", value_parser = parse_constant)]
    pub constants: Vec<(String, PathBuf)>,
    /// Refuse tensors above this size
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    pub max_memory: usize,
    /// Keep weights in larger forms where that makes the model faster
    #[arg(long)]
    pub allow_size: bool,
    /// Run every layer over its whole result, not several together by bands of rows that stay in the cache
    #[arg(long)]
    pub no_chains: bool,
    /// How numbers are kept: fp32 (as they are), fp16 (in half the bytes; computed so where the processor can)
    #[arg(long, value_name = "WIDTH", value_enum, default_value_t = Width::Fp32, hide_possible_values = true)]
    pub precision: Width,
    /// Who writes kernels: encoded (our encoders, and Cranelift where they have none), clif (Cranelift alone)
    #[arg(long, value_name = "WHO", value_enum, default_value_t = KernelWriter::Encoded, hide_possible_values = true)]
    pub kernels: KernelWriter,
    /// Take the schedules of layers from this file, as `edgecc tune` writes it
    #[arg(long, value_name = "FILE")]
    pub schedules: Option<PathBuf>,
}

/// Who writes kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KernelWriter {
    /// Our encoders, and Cranelift where they have none
    Encoded,
    /// Cranelift alone
    Clif,
}

/// What runs an artifact.
#[derive(Debug, Clone, Args)]
pub struct DeviceArguments {
    /// What runs it: cpu, gpu (an artifact for wgsl, or a model), or fastest (one for both)
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Device::Cpu, hide_possible_values = true)]
    pub device: Device,
    /// A part of the GPU adapter's name [default: the fastest]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Keep what the GPU's driver makes of shaders in this folder, so that a later start is faster
    #[arg(long, value_name = "DIR")]
    pub shader_cache: Option<PathBuf>,
    /// Run shaders without checks of their positions, which is faster: of artifacts that you trust, as machine code
    #[arg(long)]
    pub unchecked: bool,
}

/// What runs an artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Device {
    /// This machine's processor
    Cpu,
    /// A GPU
    Gpu,
    /// The one of both that answers sooner
    Fastest,
}

/// Compiling.
#[derive(Debug, Clone, Args)]
pub struct BuildArguments {
    /// The model, an ONNX file
    #[arg(required = true)]
    pub model: Option<PathBuf>,
    /// What to emit for; `edgecc targets` lists the names; a processor and wgsl, with a comma, for one artifact of both
    #[arg(long, default_value = "host")]
    pub target: String,
    /// The processor that schedules are chosen for, such as cortex-a55, or host
    #[arg(long, value_name = "NAME", default_value = "generic")]
    pub cpu: String,
    /// The kind of GPU that shaders are for: adreno, mali, apple, powervr, desktop, software
    #[arg(long, value_name = "NAME", default_value = "generic")]
    pub gpu: String,
    /// With --precision fp16, sum in halves too on GPUs that compute with them, which is less exact
    #[arg(long)]
    pub half_sums: bool,
    /// Where to write
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[command(flatten)]
    pub reading: ModelArguments,
    #[command(flatten)]
    pub pruning: PruneArguments,
    #[command(flatten)]
    pub quantization: QuantizeArguments,
    #[command(flatten)]
    pub recipes: RecipeArguments,
    #[command(flatten)]
    pub samples: DataArguments,
    /// What to write: onnx (the simplified model, pruned or not), graph, kernels, clif, asm, wgsl, header, obj (with header and weights), artifact
    #[arg(long, value_name = "STAGE", value_enum, default_value_t = Stage::Artifact, hide_possible_values = true)]
    pub emit: Stage,
    /// Write the graph behind every phase to this folder
    #[arg(long, value_name = "DIR")]
    pub dump: Option<PathBuf>,
    /// Names of the classes, a line each, to be carried in the artifact
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

/// What `--emit` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    /// The graph that the model was simplified to, and pruned to, as an ONNX model
    Onnx,
    /// The graph behind the last pass, as text
    Graph,
    /// Steps, kernels and memory plan, as text
    Kernels,
    /// Cranelift's intermediate code of every kernel, as text
    Clif,
    /// Machine code of every kernel, as text
    Asm,
    /// Every shader, as text
    Wgsl,
    /// An object file to link into an app, with its header and weights beside it
    Obj,
    /// The C header of the object file
    Header,
    /// The artifact that the runtime loads
    Artifact,
}

/// Inputs given on the command line.
#[derive(Debug, Clone, Args)]
pub struct InputArguments {
    /// FILE.npz with arrays named like inputs, NAME=FILE.npy, or NAME=PICTURE; NAME= may be left out of a single input
    #[arg(long = "input", short, value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    #[command(flatten)]
    pub pictures: PictureArguments,
}

/// How pictures become inputs.
#[derive(Debug, Clone, Args)]
pub struct PictureArguments {
    /// Multiply samples 0..255 of a picture
    #[arg(long, value_name = "F", default_value_t = 1.0 / 255.0)]
    pub scale: f32,
    /// Then subtract, for all channels or each
    #[arg(long, value_name = "F,..", value_delimiter = ',', default_values_t = [0.0], allow_negative_numbers = true)]
    pub mean: Vec<f32>,
    /// Then divide by, for all channels or each
    #[arg(long = "std", value_name = "F,..", value_delimiter = ',', default_values_t = [1.0])]
    pub deviation: Vec<f32>,
    /// Give a picture's channels blue first
    #[arg(long)]
    pub bgr: bool,
}

/// Samples of a model's inputs.
#[derive(Debug, Clone, Args)]
pub struct DataArguments {
    /// Samples of the inputs: an .npz, an .npy, a picture, or a folder of such files; hundreds, of all kinds, are best
    #[arg(long = "data", value_name = "PATH")]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    pub pictures: PictureArguments,
}

/// Pruning.
#[derive(Debug, Clone, Args)]
pub struct PruneArguments {
    /// Remove the least important channels until this fraction of the multiply-adds is removed: of 0.5, half of them are left
    #[arg(long, value_name = "FRACTION", value_parser = parse_fraction)]
    pub prune: Option<f64>,
    /// Leave the weights of a layer alone, by its name in the model
    #[arg(long, value_name = "NAME", requires = "prune")]
    pub prune_keep: Vec<String>,
    /// What to compare: global (importance lost for multiply-adds saved, everywhere), local (channels within a layer)
    #[arg(long, value_name = "HOW", value_enum, default_value_t = Ranking::Global, hide_possible_values = true)]
    pub prune_ranking: Ranking,
    /// What numbers of channels are multiples of; of half as much in thin layers
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub prune_multiple: usize,
    /// Leave the weights behind removed channels as they were, not fitted to the samples
    #[arg(long, requires = "prune")]
    pub no_refit: bool,
}

/// Quantization.
#[derive(Debug, Clone, Args)]
pub struct QuantizeArguments {
    /// Make layers compute with integers, by ranges from the samples (int8), or make integers of the weights of matrix products alone, without samples (weights-int8, of 8 bits with a scale for each channel; weights-int4, of 4 bits with a scale for each block of 32)
    #[arg(long, value_name = "WIDTH", value_enum, hide_possible_values = true)]
    pub quantize: Option<Integers>,
    /// An ONNX node whose layer keeps its numbers
    #[arg(long, value_name = "NODE")]
    pub quantize_keep: Vec<String>,
    /// Give layers back to floating point until no more is lost: 0.5% (of right classes by --labels-of-data, or of first classes that change; of other outputs 1 less the cosine), cosine=0.999, or 30dB in every channel
    #[arg(long, value_name = "MOST")]
    pub max_drop: Option<Limit>,
    /// The class of each sample by its number, a line each, in the order of --data
    #[arg(long, value_name = "FILE", requires = "max_drop")]
    pub labels_of_data: Option<PathBuf>,
    /// Write what became of each layer: text, or JSON to a file that ends in .json; - for standard output
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Recipes.
#[derive(Debug, Clone, Args)]
pub struct RecipeArguments {
    /// Prune, quantise and keep numbers as this file says, instead of flags
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["precision", "prune", "prune_ranking", "prune_multiple", "quantize", "quantize_keep", "max_drop"])]
    pub recipe: Option<PathBuf>,
    /// Write what was decided, as a file that `--recipe` compiles to the same bytes
    #[arg(long, value_name = "FILE.toml")]
    pub write_recipe: Option<PathBuf>,
}

/// `edgecc run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    /// An artifact, or a model to be compiled for this machine
    pub file: PathBuf,
    #[command(flatten)]
    pub inputs: InputArguments,
    /// Write the outputs, in graph order
    #[arg(long, short, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,
    /// Threads that compute [default: one for each fast core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Names of a model's classes, a line each; an artifact carries its own
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    #[command(flatten)]
    pub on: DeviceArguments,
    #[command(flatten)]
    pub reading: ModelArguments,
}

/// `edgecc compare`.
#[derive(Debug, Args)]
pub struct CompareArguments {
    /// The model
    pub model: PathBuf,
    /// The artifact
    pub artifact: PathBuf,
    #[command(flatten)]
    pub inputs: InputArguments,
    /// Allowed difference as a share of the value
    #[arg(long, default_value_t = 1e-3)]
    pub relative: f64,
    /// Allowed difference as a share of the largest value of the channel (the last axis)
    #[arg(long, default_value_t = 1e-4)]
    pub of_channel: f64,
    #[command(flatten)]
    pub on: DeviceArguments,
    /// Machine-readable
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub reading: ModelArguments,
}

/// `edgecc inspect`.
#[derive(Debug, Args)]
pub struct InspectArguments {
    /// The artifact
    pub artifact: PathBuf,
    /// Machine-readable
    #[arg(long)]
    pub json: bool,
}

/// `edgecc bench`.
#[derive(Debug, Args)]
pub struct BenchArguments {
    /// An artifact, or a model to be compiled for this machine
    pub file: PathBuf,
    /// Threads that compute [default: one for each fast core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// Runs that are timed
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub runs: usize,
    #[command(flatten)]
    pub on: DeviceArguments,
    /// Machine-readable
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub reading: ModelArguments,
}

/// What schedules are measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TuneDevice {
    /// This machine's processor
    Cpu,
    /// A GPU
    Gpu,
}

/// `edgecc tune`.
#[derive(Debug, Args)]
pub struct TuneArguments {
    /// The model
    pub model: PathBuf,
    /// What to measure on: cpu, gpu
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = TuneDevice::Cpu, hide_possible_values = true)]
    pub device: TuneDevice,
    /// A part of the GPU adapter's name [default: the fastest]
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// The processor whose schedules are compared with others
    #[arg(long, value_name = "NAME", default_value = "host")]
    pub cpu: String,
    /// The kind of GPU whose schedules are compared with others: adreno, mali, apple, powervr, desktop, software
    #[arg(long, value_name = "NAME", default_value = "generic")]
    pub gpu: String,
    /// Where to write the schedules
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Time to measure for
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub budget: u64,
    #[command(flatten)]
    pub reading: ModelArguments,
}

/// `edgecc ops`.
#[derive(Debug, Args)]
pub struct OpsArguments {
    /// A model
    pub model: Option<PathBuf>,
}

fn parse_dim(text: &str) -> Result<(String, usize), String> {
    let (name, extent) = text.split_once('=').ok_or("write NAME=N")?;
    let extent = extent.parse().ok().filter(|&extent| extent > 0);
    Ok((name.into(), extent.ok_or("the extent is a number above 0")?))
}

fn parse_fraction(text: &str) -> Result<f64, String> {
    let fraction = text.parse().ok().filter(|fraction| (0.0..1.0).contains(fraction));
    fraction.ok_or_else(|| "a fraction is at least 0 and below 1".into())
}

fn parse_shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.split_once('=').ok_or("write INPUT=AxBxC")?;
    if shape.is_empty() {
        return Ok((name.into(), Vec::new()));
    }
    let extents: Option<Vec<usize>> = shape.split('x').map(|extent| extent.parse().ok()).collect();
    Ok((name.into(), extents.ok_or("extents are numbers with an x between them")?))
}

fn parse_constant(text: &str) -> Result<(String, PathBuf), String> {
    let (name, file) = text.split_once('=').ok_or("write INPUT=FILE.npy")?;
    Ok((name.into(), file.into()))
}
