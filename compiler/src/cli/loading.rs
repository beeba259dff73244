//! From the arguments to compile options, and from a file to a loaded model.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use edgecc_backends::chain::Limits;
use edgecc_backends::cpu::isa::{Architecture, Kernels, Listing};
use edgecc_backends::schedule::choices::Choices;
use edgecc_backends::schedule::cores::{CoreClass, GENERIC};
use edgecc_backends::schedule::gpu::{self, GpuClass};
use edgecc_device::tensor_file::read_npy;
use edgecc_ir::Tensor;
use edgecc_passes::precision::Precision;
use edgecc_runtime::{LoadOptions, Model, Verify};

use super::options::{KernelWriter, ModelArguments};
use super::progress::Progress;
use super::{CliError, CliResult};
use crate::array::to_tensor;
use crate::compile::{CompileOptions, compile};
use crate::onnx::ImportOptions;
use crate::recipe::Width;
use crate::target::{SHADERS, target};

/// Compile options of a verb.
pub fn compile_options(
    reading: &ModelArguments,
    architecture: Architecture,
    labels: Vec<String>,
) -> Result<CompileOptions, CliError> {
    let max_memory = reading.max_memory.saturating_mul(1 << 20);
    let schedules = schedules(reading.schedules.as_deref())?;
    Ok(CompileOptions {
        import: ImportOptions {
            dims: each_once("--dim", &reading.dims)?,
            shapes: each_once("--shape", &reading.shapes)?,
            constants: constants(reading)?,
            max_memory,
        },
        architecture,
        kernels: match reading.kernels {
            KernelWriter::Encoded => Kernels::Encoded,
            KernelWriter::Clif => Kernels::Clif,
        },
        core: &GENERIC,
        gpu: &gpu::GENERIC,
        precision: match reading.precision {
            Width::Fp32 => Precision::F32,
            Width::Fp16 => Precision::F16,
        },
        half_sums: false,
        integers: true,
        allow_size: reading.allow_size,
        chains: (!reading.no_chains).then_some(Limits::USUAL),
        linked: false,
        listing: Listing::Off,
        max_memory,
        labels,
        configuration: configuration(reading, architecture.name(), &schedules),
        schedules,
    })
}

/// The same options for a core, which the artifact's record names.
pub fn for_core(options: CompileOptions, core: &'static CoreClass) -> CompileOptions {
    let configuration = match core.name == GENERIC.name {
        true => options.configuration,
        false => format!("{}cpu = {}\n", options.configuration, core.name),
    };
    CompileOptions { core, configuration, ..options }
}

/// The same options for a kind of GPU, which the artifact's record names.
pub fn for_gpu(options: CompileOptions, gpu: &'static GpuClass) -> CompileOptions {
    let configuration = match gpu.name == gpu::GENERIC.name {
        true => options.configuration,
        false => format!("{}gpu = {}\n", options.configuration, gpu.name),
    };
    CompileOptions { gpu, configuration, ..options }
}

/// The same options with sums in halves where that is asked for, which the artifact's record tells.
pub fn with_half_sums(options: CompileOptions, half_sums: bool) -> Result<CompileOptions, CliError> {
    match (half_sums, options.precision) {
        (false, _) => Ok(options),
        (true, Precision::F32) => Err(CliError::Usage("--half-sums is for --precision fp16".into())),
        (true, Precision::F16) => {
            let configuration = format!("{}half-sums\n", options.configuration);
            Ok(CompileOptions { half_sums, configuration, ..options })
        }
    }
}

/// The schedules of a file.
fn schedules(path: Option<&Path>) -> Result<Choices, CliError> {
    let Some(path) = path else { return Ok(Choices::default()) };
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Io { path: path.into(), source })?;
    text.parse().map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

/// Compile options of a verb that makes shaders.
pub fn shader_options(reading: &ModelArguments, labels: Vec<String>) -> Result<CompileOptions, CliError> {
    let refused = [("--kernels clif", reading.kernels == KernelWriter::Clif), ("--no-chains", reading.no_chains)];
    if let Some((flag, _)) = refused.into_iter().find(|(_, given)| *given) {
        return Err(CliError::Usage(format!("{flag} is not for shaders")));
    }
    // Shaders are of no processor, in particular of none whose integers have a cost model.
    let usual = compile_options(reading, Architecture::X86_64, labels)?;
    let configuration = configuration(reading, SHADERS, &usual.schedules);
    Ok(CompileOptions { configuration, ..usual })
}

/// The same without what decides about machine code alone.
pub fn without_processor_flags(reading: &ModelArguments) -> ModelArguments {
    ModelArguments { kernels: KernelWriter::Encoded, no_chains: false, ..reading.clone() }
}

fn constants(reading: &ModelArguments) -> Result<BTreeMap<String, Tensor>, CliError> {
    let value = |(name, file): (String, PathBuf)| {
        let tensor = to_tensor(&read_npy(&file)?).map_err(CliError::Usage)?;
        Ok((name, tensor))
    };
    each_once("--constant", &reading.constants)?.into_iter().map(value).collect()
}

/// What a flag gives by name. A name given twice is refused.
fn each_once<T: Clone>(flag: &str, given: &[(String, T)]) -> Result<BTreeMap<String, T>, CliError> {
    let mut values = BTreeMap::new();
    for (name, value) in given {
        if values.insert(name.clone(), value.clone()).is_some() {
            return Err(CliError::Usage(format!("{flag} gives `{name}` twice")));
        }
    }
    Ok(values)
}

/// The flags that decide the bytes of the artifact, in a fixed order.
fn configuration(reading: &ModelArguments, architecture: &str, schedules: &Choices) -> String {
    let mut text = format!("architecture = {architecture}\n");
    for (name, extent) in &reading.dims {
        text.push_str(&format!("dim {name} = {extent}\n"));
    }
    for (name, extents) in &reading.shapes {
        let extents: Vec<String> = extents.iter().map(|extent| extent.to_string()).collect();
        text.push_str(&format!("shape {name} = {}\n", extents.join("x")));
    }
    for (name, file) in &reading.constants {
        text.push_str(&format!("constant {name} = {}\n", file.file_name().unwrap_or_default().to_string_lossy()));
    }
    if reading.allow_size {
        text.push_str("allow-size\n");
    }
    if reading.no_chains {
        text.push_str("no-chains\n");
    }
    if reading.precision == Width::Fp16 {
        text.push_str("precision = fp16\n");
    }
    if reading.kernels == KernelWriter::Clif {
        text.push_str("kernels = clif\n");
    }
    if !schedules.is_empty() {
        text.push_str(&format!("schedules = {}\n", blake3::hash(schedules.to_string().as_bytes())));
    }
    text
}

/// Loads an artifact, or compiles a model for this machine and loads that.
pub fn load(path: &Path, reading: &ModelArguments, labels: Vec<String>) -> Result<Model, CliError> {
    if is_artifact(path)? {
        return fixed(reading, &labels).map_or_else(|| open(path), |flag| Err(compiled_already(path, flag)));
    }
    let host = target("host").map_err(|error| CliError::Usage(error.to_string()))?;
    let progress = Progress::start("reading the model");
    let options = compile_options(reading, host.architecture, labels)?;
    let compiled = compile(path, &options, &mut |phase| progress.phase(|| format!("compiling, past {}", phase.name)))?;
    drop(progress);
    compiled.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let bytes = compiled.to_bytes().map_err(crate::compile::CompileError::from)?;
    from_compiler(path, &bytes)
}

/// A given flag that says how a model is to be compiled.
pub(super) fn fixed(reading: &ModelArguments, labels: &[String]) -> Option<&'static str> {
    let given = [
        ("--dim", !reading.dims.is_empty()),
        ("--shape", !reading.shapes.is_empty()),
        ("--constant", !reading.constants.is_empty()),
        ("--labels", !labels.is_empty()),
        ("--allow-size", reading.allow_size),
        ("--no-chains", reading.no_chains),
        ("--precision", reading.precision == Width::Fp16),
        ("--kernels", reading.kernels == KernelWriter::Clif),
        ("--schedules", reading.schedules.is_some()),
    ];
    given.into_iter().find_map(|(flag, given)| given.then_some(flag))
}

pub(super) fn compiled_already(path: &Path, flag: &str) -> CliError {
    let path = path.display();
    CliError::Usage(format!("{path} is compiled already: {flag} belongs to the command that compiles the model"))
}

/// Maps an artifact that the user named, and verifies all of it.
#[allow(unsafe_code)]
pub fn open(path: &Path) -> Result<Model, CliError> {
    // SAFETY: the user asks for this file's code to be run, as for any program; integrity is checked by hash.
    unsafe { Model::open(path, LoadOptions { verify: Verify::Full, ..LoadOptions::default() }) }
        .map_err(|source| CliError::Load { path: path.into(), source })
}

#[allow(unsafe_code)]
fn from_compiler(path: &Path, bytes: &[u8]) -> Result<Model, CliError> {
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(bytes, LoadOptions::default()) };
    model.map_err(|source| CliError::Load { path: path.into(), source })
}

pub(super) fn is_artifact(path: &Path) -> Result<bool, CliError> {
    let failed = |source| CliError::Io { path: path.into(), source };
    let mut start = Vec::new();
    let magic = edgecc_format::MAGIC;
    std::fs::File::open(path).and_then(|file| file.take(magic.len() as u64).read_to_end(&mut start)).map_err(failed)?;
    Ok(start == magic)
}

/// The lines of a file of class names.
pub fn read_labels(path: Option<&Path>) -> Result<Vec<String>, CliError> {
    let Some(path) = path else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|source| CliError::Io { path: path.into(), source })?;
    Ok(text.lines().map(|line| line.trim().to_string()).collect())
}

/// A folder that exists afterwards.
pub fn make_folder(path: &Path) -> CliResult {
    std::fs::create_dir_all(path).map_err(|source| CliError::Io { path: path.into(), source })
}
