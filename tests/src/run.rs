//! Compiling and running models in tests.

use std::collections::BTreeMap;
use std::path::Path;

use edgecc::calibrate::samples::{Samples, ports};
use edgecc::calibrate::synthetic::synthetic;
use edgecc::compile::{CompileError, CompileOptions, Compiled, compile, compile_prepared, prepare};
use edgecc::onnx::ImportOptions;
use edgecc::picture::Normalisation;
use edgecc::quantize::{QuantizeOptions, Report, quantize};
use edgecc_backends::chain::Limits;
use edgecc_backends::cpu::isa::{Architecture, Kernels, Listing};
use edgecc_backends::schedule::choices::Choices;
use edgecc_backends::schedule::cores::{CoreClass, GENERIC};
use edgecc_backends::schedule::gpu;
use edgecc_device::agreement::{Agreement, Bound, agreement};
use edgecc_device::tensor_file::Array;
use edgecc_format::{ElementType, Port};
use edgecc_ir::Graph;
use edgecc_passes::precision::Precision;
use edgecc_passes::prune::{Recipe, prune};
use edgecc_runtime::{LoadOptions, Model, ProgramChoice, Session, SessionOptions};

/// Options for a model whose inputs have these shapes.
pub fn options(architecture: Architecture, shapes: &[(String, Vec<usize>)]) -> CompileOptions {
    let max_memory = 2 << 30;
    CompileOptions {
        import: ImportOptions { shapes: shapes.iter().cloned().collect(), max_memory, ..ImportOptions::default() },
        architecture,
        kernels: Kernels::default(),
        core: &GENERIC,
        gpu: &gpu::GENERIC,
        schedules: Choices::default(),
        precision: Precision::F32,
        half_sums: false,
        integers: true,
        allow_size: false,
        chains: Some(Limits::USUAL),
        linked: false,
        listing: Listing::Off,
        max_memory,
        labels: Vec::new(),
        configuration: String::new(),
    }
}

/// Compiles a model with the shapes of the inputs that it will be given, in graph order.
pub fn compile_for(model: &Path, architecture: Architecture, inputs: &[Array]) -> Result<Compiled, String> {
    compile_with(model, architecture, inputs, |options| options)
}

/// Compiles a model with the shapes of its inputs, and with other options than usual.
pub fn compile_with(
    model: &Path,
    architecture: Architecture,
    inputs: &[Array],
    adjust: impl FnOnce(CompileOptions) -> CompileOptions,
) -> Result<Compiled, String> {
    let shapes = shapes(model, inputs)?;
    compile(model, &adjust(options(architecture, &shapes)), &mut |_| {}).map_err(|error| error.to_string())
}

/// The shapes of a model's inputs by name, from tensors in graph order.
pub fn shapes(model: &Path, inputs: &[Array]) -> Result<Vec<(String, Vec<usize>)>, String> {
    let decoded = edgecc::onnx::read(model).map_err(|error| error.to_string())?;
    let names = edgecc::onnx::input_names(&decoded);
    Ok(names.into_iter().zip(inputs.iter().map(|input| input.extents.clone())).collect())
}

/// Compiles a model of one input for aarch64 as words of a command line say: `--allow-size`, `--clif`, `--fp16`, `--int8`
/// (quantised on made-up samples), `--no-chains`, `--cpu=x1`, `--prune=0.5` (by weights alone).
pub fn compile_for_phone(model: &Path, extents: &[usize], flags: &[String]) -> Result<Compiled, String> {
    let has = |flag: &str| flags.iter().any(|other| other == flag);
    let kernels = if has("--clif") { Kernels::Clif } else { Kernels::Encoded };
    let precision = if has("--fp16") { Precision::F16 } else { Precision::F32 };
    let chains = (!has("--no-chains")).then_some(Limits::USUAL);
    let cpu = flags.iter().find_map(|flag| flag.strip_prefix("--cpu=")).unwrap_or(GENERIC.name);
    let core = CoreClass::named(cpu).ok_or_else(|| format!("no processor is {cpu}"))?;
    let allow_size = has("--allow-size");
    let adjust = |options| CompileOptions { allow_size, chains, kernels, precision, core, ..options };
    let input = Array { element_type: ElementType::F32, extents: extents.to_vec(), bytes: Vec::new() };
    let options = adjust(options(Architecture::Aarch64, &shapes(model, &[input])?));
    let text = |error: CompileError| error.to_string();
    let (mut graph, _) = prepare(model, &options, &mut |_| {}).map_err(text)?;
    if let Some(fraction) = flags.iter().find_map(|flag| flag.strip_prefix("--prune=")) {
        let fraction = fraction.parse().map_err(|_| format!("{fraction} is no fraction"))?;
        graph = prune(&graph, &Recipe::of(fraction), &BTreeMap::new()).map_err(|error| error.to_string())?.graph;
    }
    if has("--int8") {
        quantized(&mut graph, &options)?;
    }
    compile_prepared(graph, &options, &mut |_| {}).map_err(text)
}

/// Samples that networks are quantised on in tests.
const SAMPLES: usize = 4;

/// Quantises a graph on made-up samples.
pub fn quantized(graph: &mut Graph, options: &CompileOptions) -> Result<Report, String> {
    let samples = synthetic(graph, &Normalisation::default(), SAMPLES, 1).map_err(|error| error.to_string())?;
    quantized_on(graph, options, samples.runs)
}

/// Quantises a graph on inputs in graph order, run by run.
pub fn quantized_on(graph: &mut Graph, options: &CompileOptions, runs: Vec<Vec<Array>>) -> Result<Report, String> {
    let samples = Samples { ports: ports(graph), runs };
    let how = QuantizeOptions::default();
    quantize(graph, options, &how, &samples, 2, &mut |_| {}).map_err(|error| error.to_string())
}

/// Runs an artifact of this machine on inputs in graph order.
pub fn run_here(artifact: &[u8], inputs: &[Array], threads: usize) -> Vec<Vec<u8>> {
    run_program_here(artifact, inputs, threads, ProgramChoice::MostAble)
}

/// A session of an artifact on this machine, on one thread.
#[allow(unsafe_code)]
pub fn session_here(artifact: &[u8]) -> Session {
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(artifact, LoadOptions::default()) }.expect("an artifact of this machine");
    model.session(SessionOptions { threads: 1 }).expect("a session")
}

/// The same, by one of the programs that the artifact holds.
#[allow(unsafe_code)]
pub fn run_program_here(artifact: &[u8], inputs: &[Array], threads: usize, program: ProgramChoice) -> Vec<Vec<u8>> {
    let options = LoadOptions { program, ..LoadOptions::default() };
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(artifact, options) }.expect("an artifact of this machine");
    let mut session = model.session(SessionOptions { threads }).expect("a session");
    for (place, input) in inputs.iter().enumerate() {
        session.input_mut(place).copy_from_slice(&input.bytes);
    }
    session.run().expect("a run");
    (0..model.outputs().len()).map(|place| session.output(place).to_vec()).collect()
}

/// The outputs of a graph behind [`prepare`] for each of some runs, as compiled code of this machine computes them.
#[allow(unsafe_code)]
pub fn answers(graph: &Graph, options: &CompileOptions, runs: &[Vec<Array>]) -> Vec<Vec<Array>> {
    let compiled = compile_prepared(graph.clone(), options, &mut |_| {}).expect("the graph compiles");
    let artifact = compiled.to_bytes().expect("an artifact");
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(&artifact, LoadOptions::default()) }.expect("an artifact of this machine");
    let mut session = model.session(SessionOptions { threads: 2 }).expect("a session");
    let answer = |inputs: &Vec<Array>| {
        inputs.iter().enumerate().for_each(|(place, input)| session.input_mut(place).copy_from_slice(&input.bytes));
        session.run().expect("a run");
        let output = |(place, port): (usize, &Port)| Array {
            element_type: port.element_type(),
            extents: port.dims.iter().map(|dim| dim.capacity() as usize).collect(),
            bytes: session.output(place).to_vec(),
        };
        model.outputs().iter().enumerate().map(output).collect()
    };
    runs.iter().map(answer).collect()
}

/// How far a result agrees with its reference; channels lie along the last axis if none is named.
pub fn agree(actual: &[u8], reference: &Array, channel: Option<usize>, bound: Bound) -> Agreement {
    let actual = Array { bytes: actual.to_vec(), ..reference.clone() };
    let channel = channel.or(reference.extents.len().checked_sub(1));
    agreement(&actual.to_f64(), &reference.to_f64(), &reference.extents, channel, bound)
}
