//! `edgecc MODEL`: compiles.

use std::io::Write;
use std::path::{Path, PathBuf};

use edgecc_backends::cpu::isa::Listing;
use edgecc_backends::cpu::program::PlacedKernel;
use edgecc_backends::gpu::Shaders;
use edgecc_backends::plan::Plan;
use edgecc_backends::program::Program;
use edgecc_backends::schedule::cores::GENERIC;
use edgecc_backends::schedule::gpu;
use edgecc_device::files::{Pending, write_whole};
use edgecc_format::WriteError;
use edgecc_ir::Graph;

use super::inputs::check_uses;
use super::loading::{
    compile_options, for_core, for_gpu, make_folder, read_labels, shader_options, with_half_sums,
    without_processor_flags,
};
use super::options::{BuildArguments, Stage};
use super::progress::Progress;
use super::recipe::{Given, with_record, write_recipe};
use super::{CliError, CliResult, print};
use crate::both::CompiledForBoth;
use crate::compile::{CompileOptions, Compiled, ForProcessors, Phase, compile_prepared, prepare};
use crate::link::{identifier, link};
use crate::onnx::export;
use crate::recipe::Integers;
use crate::shaders::CompiledShaders;
use crate::target::{SHADERS, Target, gpu_class, processor, target};

/// Extensions of the files beside an object.
const HEADER: &str = "h";
const WEIGHTS: &str = "weights";

/// `edgecc quantize MODEL`: compiles to integers for the report, which goes to standard output unless another place is named;
/// the artifact is written where one is.
pub fn quantize(arguments: &BuildArguments) -> CliResult {
    let mut arguments = arguments.clone();
    let own = &mut arguments.quantization;
    own.report.get_or_insert_with(|| "-".into());
    if arguments.recipes.recipe.is_none() {
        own.quantize.get_or_insert(Integers::Int8);
    }
    build(&arguments)
}

/// Compiles a model and writes what `--emit` asks for.
pub fn build(arguments: &BuildArguments) -> CliResult {
    let model = arguments.model.as_deref().ok_or_else(|| CliError::Usage("no model given".into()))?;
    let given = Given::of(arguments)?;
    check_uses(arguments, given.recipe())?;
    match arguments.target.split_once(',') {
        None if arguments.target == SHADERS => return shaders(arguments, &given, model),
        None => {}
        Some((processor, SHADERS) | (SHADERS, processor)) => return both(arguments, &given, model, processor),
        Some(_) => {
            let message = format!("--target {}: one processor and {SHADERS} share an artifact", arguments.target);
            return Err(CliError::Usage(message));
        }
    }
    let target = target(&arguments.target).map_err(|error| CliError::Usage(error.to_string()))?;
    let core = processor(&arguments.cpu).map_err(|error| CliError::Usage(error.to_string()))?;
    if arguments.gpu != gpu::GENERIC.name {
        return Err(CliError::Usage("--gpu is for shaders".into()));
    }
    if arguments.half_sums {
        return Err(CliError::Usage("--half-sums is for shaders".into()));
    }
    check_place(arguments)?;
    let labels = read_labels(arguments.labels.as_deref())?;
    let listing = listing(arguments.emit);
    let linked = matches!(arguments.emit, Stage::Obj | Stage::Header);
    let usual = compile_options(&given.reading(arguments), target.architecture, labels)?;
    let options = CompileOptions { listing, linked, ..for_core(usual, core) };
    let mut dump = Dump::new(arguments.dump.as_deref())?;
    let progress = Progress::start("reading the model");
    let mut observe = |phase: Phase<'_>| {
        progress.phase(|| format!("compiling, past {}", phase.name));
        dump.write(phase);
    };
    let (graph, notes) = prepare(model, &given.preparing(&options), &mut observe)?;
    let (graph, recipe) = given.follow(arguments, graph, &options, &progress)?;
    let options = with_record(options, &recipe)?;
    write_recipe(arguments, &recipe)?;
    if is_report_alone(arguments) {
        drop(progress);
        return dump.result;
    }
    if arguments.emit == Stage::Onnx {
        drop(progress);
        dump.result?;
        notes.iter().for_each(|note| eprintln!("note: {note}"));
        return write_onnx(place(arguments.output.as_deref())?, &graph);
    }
    let compiled = compile_prepared(graph, &options, &mut observe)?;
    drop(progress);
    dump.result?;
    notes.iter().chain(&compiled.notes).for_each(|note| eprintln!("note: {note}"));
    write_stage(arguments, target, &compiled)
}

/// Compiles a model to shaders and writes what `--emit` asks for.
fn shaders(arguments: &BuildArguments, given: &Given, model: &Path) -> CliResult {
    check_place(arguments)?;
    if arguments.cpu != GENERIC.name {
        return Err(CliError::Usage("--cpu is not for shaders".into()));
    }
    let usual = shader_options(&given.reading(arguments), read_labels(arguments.labels.as_deref())?)?;
    let class = gpu_class(&arguments.gpu).map_err(|error| CliError::Usage(error.to_string()))?;
    let options = with_half_sums(for_gpu(usual, class), arguments.half_sums)?;
    let mut dump = Dump::new(arguments.dump.as_deref())?;
    let progress = Progress::start("reading the model");
    let mut observe = |phase: Phase<'_>| {
        progress.phase(|| format!("compiling, past {}", phase.name));
        dump.write(phase);
    };
    let (graph, notes) = prepare(model, &given.preparing(&options), &mut observe)?;
    let (graph, recipe) = given.follow(arguments, graph, &options, &progress)?;
    let options = with_record(options, &recipe)?;
    write_recipe(arguments, &recipe)?;
    let compiled = crate::shaders::compile_prepared(graph, &options, None, &mut observe)?;
    drop(progress);
    dump.result?;
    notes.iter().chain(&compiled.notes).for_each(|note| eprintln!("note: {note}"));
    let path = arguments.output.as_deref();
    match arguments.emit {
        Stage::Graph => write_text(path, &compiled.graph.to_text()),
        Stage::Kernels => write_text(path, &format!("{:#?}\n{:?}\n", compiled.program.steps, compiled.plan)),
        Stage::Wgsl => write_text(path, &shader_texts(&compiled)),
        Stage::Clif | Stage::Asm | Stage::Header | Stage::Obj | Stage::Onnx => {
            Err(CliError::Usage("shaders are written as graph, kernels, wgsl or artifact".into()))
        }
        Stage::Artifact => {
            let path = place(path)?;
            let size = write_artifact(path, |out| compiled.write(out))?;
            let Shaders { modules, dispatches, .. } = &compiled.shaders;
            let made = format!("{} dispatches of {} shaders", dispatches.len(), modules.len());
            eprintln!("{}", summary(path, &made, &compiled.program, &compiled.plan, size));
            Ok(())
        }
    }
}

/// Compiles a model for a processor and to shaders, and writes one artifact of both.
fn both(arguments: &BuildArguments, given: &Given, model: &Path, processor_name: &str) -> CliResult {
    let path = place(arguments.output.as_deref())?;
    if arguments.emit != Stage::Artifact {
        return Err(CliError::Usage("of a processor and shaders there is the artifact alone".into()));
    }
    let target = target(processor_name).map_err(|error| CliError::Usage(error.to_string()))?;
    let core = processor(&arguments.cpu).map_err(|error| CliError::Usage(error.to_string()))?;
    let labels = read_labels(arguments.labels.as_deref())?;
    let reading = given.reading(arguments);
    let usual = for_core(compile_options(&reading, target.architecture, labels.clone())?, core);
    let for_processors =
        CompileOptions { configuration: format!("{}beside = {SHADERS}\n", usual.configuration), ..usual };
    let class = gpu_class(&arguments.gpu).map_err(|error| CliError::Usage(error.to_string()))?;
    let for_shaders = for_gpu(shader_options(&without_processor_flags(&reading), labels)?, class);
    let for_shaders = with_half_sums(for_shaders, arguments.half_sums)?;
    let mut dump = Dump::new(arguments.dump.as_deref())?;
    let progress = Progress::start("reading the model");
    let mut observe = |phase: Phase<'_>| {
        progress.phase(|| format!("compiling, past {}", phase.name));
        dump.write(phase);
    };
    let (graph, notes) = prepare(model, &given.preparing(&for_processors), &mut observe)?;
    // One graph for both, as it is best for processors: so weights stay the same bytes.
    let (graph, recipe) = given.follow(arguments, graph, &for_processors, &progress)?;
    let for_processors = with_record(for_processors, &recipe)?;
    write_recipe(arguments, &recipe)?;
    let processors = compile_prepared(graph.clone(), &for_processors, &mut observe)?;
    let shaders = crate::shaders::compile_prepared(graph, &for_shaders, Some(&processors.best.packings), &mut observe)?;
    drop(progress);
    dump.result?;
    notes.iter().chain(&processors.notes).chain(&shaders.notes).for_each(|note| eprintln!("note: {note}"));
    let compiled = CompiledForBoth { processors, shaders };
    let size = write_artifact(path, |out| compiled.write(out))?;
    let Shaders { modules, dispatches, .. } = &compiled.shaders.shaders;
    let made = format!("beside {} dispatches of {} shaders", dispatches.len(), modules.len());
    eprintln!("{}, {made}", code_summary(path, size, &compiled.processors));
    Ok(())
}

/// Whether a report is all that is asked for.
fn is_report_alone(arguments: &BuildArguments) -> bool {
    arguments.emit == Stage::Artifact && arguments.output.is_none() && arguments.quantization.report.is_some()
}

fn shader_texts(compiled: &CompiledShaders) -> String {
    let modules = compiled.programs().flat_map(|shaders| &shaders.modules);
    modules.map(|module| format!("// {}\n{}\n", module.name, module.text)).collect()
}

fn listing(stage: Stage) -> Listing {
    match stage {
        Stage::Clif => Listing::Clif,
        Stage::Asm => Listing::Assembly,
        Stage::Onnx | Stage::Graph | Stage::Kernels | Stage::Wgsl | Stage::Obj | Stage::Header | Stage::Artifact => {
            Listing::Off
        }
    }
}

fn write_stage(arguments: &BuildArguments, target: Target, compiled: &Compiled) -> CliResult {
    let path = arguments.output.as_deref();
    match arguments.emit {
        Stage::Graph => write_text(path, &compiled.graph.to_text()),
        Stage::Kernels => write_text(path, &format!("{:#?}\n{:?}\n", compiled.best.program.steps, compiled.best.plan)),
        Stage::Clif | Stage::Asm => write_text(path, &listings(compiled)),
        Stage::Wgsl => Err(CliError::Usage("--emit wgsl is for --target wgsl".into())),
        // Written before anything is compiled.
        Stage::Onnx => Ok(()),
        Stage::Header => {
            let name = symbol_prefix(path.unwrap_or(Path::new(&compiled.best.program.name)));
            write_text(path, &link(compiled, &name, target.system)?.header)
        }
        Stage::Obj => write_object(place(path)?, target, compiled),
        Stage::Artifact => {
            let path = place(path)?;
            let size = write_artifact(path, |out| compiled.write(out))?;
            eprintln!("{}", code_summary(path, size, compiled));
            Ok(())
        }
    }
}

/// Writes a graph as an ONNX model.
fn write_onnx(path: &Path, graph: &Graph) -> CliResult {
    let bytes = export(graph)?;
    let written = write_whole(path, |out| out.write_all(&bytes).map(|()| bytes.len() as u64));
    let size = written.map_err(|source| CliError::Io { path: path.into(), source })?;
    eprintln!("{}: {size} bytes", path.display());
    Ok(())
}

/// What is wrong with where to write, said before anything is compiled.
fn check_place(arguments: &BuildArguments) -> CliResult {
    match arguments.emit {
        Stage::Graph | Stage::Kernels | Stage::Clif | Stage::Asm | Stage::Wgsl | Stage::Header => Ok(()),
        Stage::Artifact if is_report_alone(arguments) => Ok(()),
        Stage::Artifact | Stage::Onnx => place(arguments.output.as_deref()).map(|_| ()),
        Stage::Obj => {
            let path = place(arguments.output.as_deref())?;
            let taken = [HEADER, WEIGHTS]
                .into_iter()
                .find(|taken| path.extension().is_some_and(|found| found.eq_ignore_ascii_case(taken)));
            taken.map_or(Ok(()), |taken| {
                let message = "is the name of a file that stands beside the object; end the object's name with .o";
                Err(CliError::Usage(format!("-o {}: .{taken} {message}", path.display())))
            })
        }
    }
}

fn place(path: Option<&Path>) -> Result<&Path, CliError> {
    path.ok_or_else(|| CliError::Usage("where to? give -o FILE, or --emit graph for text".into()))
}

fn symbol_prefix(path: &Path) -> String {
    identifier(&path.file_stem().unwrap_or_default().to_string_lossy())
}

fn listings(compiled: &Compiled) -> String {
    let listing = |kernel: &PlacedKernel| format!("; {}, {} bytes\n{}\n", kernel.name, kernel.length, kernel.listing);
    compiled.best.emitted.kernels.iter().map(listing).collect()
}

/// Writes the object, and beside it the header and the weights: all three, or none.
fn write_object(path: &Path, target: Target, compiled: &Compiled) -> CliResult {
    let linked = link(compiled, &symbol_prefix(path), target.system)?;
    let written = |path: PathBuf, write: &dyn Fn(&mut dyn Write) -> std::io::Result<u64>| {
        Pending::write(&path, write).map_err(|source| CliError::Io { path, source })
    };
    let whole = |bytes: &[u8], out: &mut dyn Write| out.write_all(bytes).map(|()| bytes.len() as u64);
    let mut files = vec![written(path.into(), &|out| whole(&linked.object, out))?];
    // A device such as /dev/null has no neighbours.
    if !std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        files.push(written(path.with_extension(WEIGHTS), &|mut out| linked.write_weights(&mut out))?);
        files.push(written(path.with_extension(HEADER), &|out| whole(linked.header.as_bytes(), out))?);
    }
    let size = files.iter().map(|file| file.size).sum();
    for file in files {
        file.keep().map_err(|source| CliError::Io { path: path.into(), source })?;
    }
    eprintln!("{}", code_summary(path, size, compiled));
    Ok(())
}

/// Writes an artifact; its size in bytes.
fn write_artifact(
    path: &Path,
    write: impl Fn(&mut &mut dyn Write) -> Result<u64, WriteError>,
) -> Result<u64, CliError> {
    write_whole(path, |mut out| write(&mut out)).map_err(|error| match error {
        WriteError::Io(source) => CliError::Io { path: path.into(), source },
        error => CliError::Compile(error.into()),
    })
}

fn code_summary(path: &Path, size: u64, compiled: &Compiled) -> String {
    let ForProcessors { program, plan, emitted, .. } = &compiled.best;
    let made = format!("{} bytes of code", emitted.code.len());
    summary(path, &made, program, plan, size)
}

fn summary(path: &Path, made: &str, program: &Program, plan: &Plan, size: u64) -> String {
    let macs: u64 = program.steps.iter().map(|step| step.macs).sum();
    format!(
        "{}: {} steps, {:.1} M multiply-adds, {:.2} MiB of arena, {made}, {size} bytes in all",
        path.display(),
        program.steps.len(),
        macs as f64 / 1e6,
        plan.arena_bytes as f64 / (1 << 20) as f64,
    )
}

pub(super) fn write_text(path: Option<&Path>, text: &str) -> CliResult {
    let failed = |path: &Path, source| CliError::Io { path: path.into(), source };
    match path {
        None => print(text),
        Some(path) => {
            let written = write_whole(path, |out| out.write_all(text.as_bytes()).map(|()| text.len() as u64));
            written.map(|_| ()).map_err(|source| failed(path, source))
        }
    }
}

/// Graphs written phase by phase.
struct Dump<'a> {
    folder: Option<&'a Path>,
    count: usize,
    result: CliResult,
}

impl<'a> Dump<'a> {
    fn new(folder: Option<&'a Path>) -> Result<Self, CliError> {
        folder.map_or(Ok(()), make_folder)?;
        Ok(Dump { folder, count: 0, result: Ok(()) })
    }

    fn write(&mut self, phase: Phase<'_>) {
        let Some(folder) = self.folder else { return };
        let path = folder.join(format!("{:02}-{}.eir", self.count, phase.name));
        self.count += 1;
        if let (Ok(()), Err(source)) = (&self.result, std::fs::write(&path, phase.graph.to_text())) {
            self.result = Err(CliError::Io { path, source });
        }
    }
}
