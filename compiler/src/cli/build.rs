//! `edgecc MODEL`: compiles.

use std::path::Path;

use edgecc_backends::cpu::isa::Architecture;

use super::loading::{compile_options, make_folder, read_labels};
use super::options::{BuildArguments, Stage};
use super::progress::Progress;
use super::{CliError, CliResult, print};
use crate::compile::{CompileError, Compiled, Phase, compile, write_whole};
use crate::target::{Target, target};

/// Compiles a model and writes what `--emit` asks for.
pub fn build(arguments: &BuildArguments) -> CliResult {
    let model = arguments.model.as_deref().ok_or_else(|| CliError::Usage("no model given".into()))?;
    let target = target(&arguments.target).map_err(|error| CliError::Usage(error.to_string()))?;
    check_cpu(&arguments.cpu)?;
    let labels = read_labels(arguments.labels.as_deref())?;
    let options = compile_options(&arguments.reading, target.architecture, labels)?;
    let mut dump = Dump::new(arguments.dump.as_deref())?;
    let mut progress = Progress::start();
    let compiled = compile(model, &options, &mut |phase| {
        progress.phase(phase.name);
        dump.write(phase);
    })?;
    drop(progress);
    dump.result?;
    compiled.notes.iter().for_each(|note| eprintln!("note: {note}"));
    write_stage(arguments, target, &compiled)
}

fn write_stage(arguments: &BuildArguments, target: Target, compiled: &Compiled) -> CliResult {
    match arguments.emit {
        Stage::Graph => write_text(arguments.output.as_deref(), &compiled.graph.to_text()),
        Stage::Kernels => {
            write_text(arguments.output.as_deref(), &format!("{:#?}\n{:?}\n", compiled.program.steps, compiled.plan))
        }
        Stage::Clif | Stage::Asm | Stage::Obj | Stage::Header => {
            let _ = target;
            Err(CliError::Usage(format!("--emit {:?} is not available", arguments.emit)))
        }
        Stage::Artifact => {
            let path = arguments.output.as_deref();
            let path =
                path.ok_or_else(|| CliError::Usage("where to? give -o FILE, or --emit graph for text".into()))?;
            let size = write_whole(path, |mut out| compiled.write(&mut out)).map_err(CompileError::from)?;
            eprintln!("{}", summary(path, size, compiled));
            Ok(())
        }
    }
}

fn summary(path: &Path, size: u64, compiled: &Compiled) -> String {
    let macs: u64 = compiled.program.steps.iter().map(|step| step.macs).sum();
    format!(
        "{}: {} steps, {:.1} M multiply-adds, {:.2} MiB of arena, {} bytes of code, {} bytes in all",
        path.display(),
        compiled.program.steps.len(),
        macs as f64 / 1e6,
        compiled.plan.arena_bytes as f64 / (1 << 20) as f64,
        compiled.emitted.code.len(),
        size
    )
}

fn write_text(path: Option<&Path>, text: &str) -> CliResult {
    let failed = |path: &Path, source| CliError::Io { path: path.into(), source };
    match path {
        None => print(text),
        Some(path) => {
            let written = write_whole(path, |out| out.write_all(text.as_bytes()).map(|()| text.len() as u64));
            written.map(|_| ()).map_err(|source| failed(path, source))
        }
    }
}

/// One schedule serves every core of an architecture so far.
fn check_cpu(name: &str) -> CliResult {
    let known = Architecture::CORES;
    if known.contains(&name) {
        return Ok(());
    }
    Err(CliError::Usage(format!("unknown processor `{name}`; known are {}", known.join(", "))))
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
