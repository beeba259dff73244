//! Models and graphs as shaders, on whatever adapter there is.

use std::path::Path;
use std::sync::OnceLock;

use edgecc::compile::{CompileOptions, prepare};
use edgecc::shaders::{CompiledShaders, compile, compile_graph, compile_prepared};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::packings::Packings;
use edgecc_backends::schedule::choices::Choices;
use edgecc_device::tensor_file::Array;
use edgecc_ir::{Graph, NodeId, Op, Tensor, Type};
use edgecc_passes::precision::Precision;
use edgecc_runtime::gpu::{Gpu, GpuOptions, ShaderModel};

use crate::report::{say, skipped};
use crate::run;

/// The device that tests run on, opened once: the adapter named by `EDGECC_ADAPTER`, or the fastest. `None`, after a visible
/// line, where there is none.
pub fn device() -> Option<&'static Gpu> {
    static DEVICE: OnceLock<Option<Gpu>> = OnceLock::new();
    let open = || match Gpu::open(&GpuOptions { adapter: std::env::var("EDGECC_ADAPTER").ok(), cache: None }) {
        Ok(gpu) => {
            say(&format!("shaders run on {}", gpu.adapter()));
            Some(gpu)
        }
        Err(error) => {
            skipped(&format!("shaders: {error}"));
            None
        }
    };
    DEVICE.get_or_init(open).as_ref()
}

/// The options of a compile of a graph to shaders.
pub fn options_of_graph() -> CompileOptions {
    options(&[])
}

/// The options of a compile to shaders.
fn options(shapes: &[(String, Vec<usize>)]) -> CompileOptions {
    run::options(Architecture::X86_64, shapes)
}

/// Compiles a model with the shapes of the inputs that it will be given, in graph order.
pub fn compile_for(model: &Path, inputs: &[Array]) -> Result<CompiledShaders, String> {
    let shapes = run::shapes(model, inputs)?;
    compile(model, &options(&shapes), &mut |_| {}).map_err(|error| error.to_string())
}

/// The same, with values and weights kept in halves.
pub fn compile_in_halves(model: &Path, inputs: &[Array]) -> Result<CompiledShaders, String> {
    let options = CompileOptions { precision: Precision::F16, ..options(&run::shapes(model, inputs)?) };
    compile(model, &options, &mut |_| {}).map_err(|error| error.to_string())
}

/// The same, with sums of products in halves too where the adapter can.
pub fn compile_with_half_sums(model: &Path, inputs: &[Array]) -> Result<CompiledShaders, String> {
    let precision = Precision::F16;
    let options = CompileOptions { precision, half_sums: true, ..options(&run::shapes(model, inputs)?) };
    compile(model, &options, &mut |_| {}).map_err(|error| error.to_string())
}

/// The same, by schedules that are given.
pub fn compile_with(model: &Path, inputs: &[Array], schedules: Choices) -> Result<CompiledShaders, String> {
    let options = CompileOptions { schedules, ..options(&run::shapes(model, inputs)?) };
    compile(model, &options, &mut |_| {}).map_err(|error| error.to_string())
}

/// The same, over weights packed as another program packs them.
pub fn compile_beside(model: &Path, inputs: &[Array], packings: &Packings) -> Result<CompiledShaders, String> {
    let options = options(&run::shapes(model, inputs)?);
    let (graph, _) = prepare(model, &options, &mut |_| {}).map_err(|error| error.to_string())?;
    compile_prepared(graph, &options, Some(packings), &mut |_| {}).map_err(|error| error.to_string())
}

/// Runs an artifact on inputs in graph order.
pub fn run_on(gpu: &Gpu, artifact: &[u8], inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    run_model(gpu, &ShaderModel::from_bytes(artifact).expect("an artifact of shaders"), inputs)
}

/// The same without checks while it runs.
#[allow(unsafe_code)]
pub fn run_unchecked(gpu: &Gpu, artifact: &[u8], inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    let model = ShaderModel::from_bytes(artifact).expect("an artifact of shaders");
    // SAFETY: the compiler in this process wrote it.
    run_model(gpu, &unsafe { model.unchecked() }, inputs)
}

fn run_model(gpu: &Gpu, model: &ShaderModel, inputs: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut session = model.session(gpu).expect("a session");
    for (place, input) in inputs.iter().enumerate() {
        session.input_mut(place).copy_from_slice(input);
    }
    session.run().expect("a run");
    (0..model.outputs().len()).map(|place| session.output(place).to_vec()).collect()
}

/// Outputs of a compiled graph, of the types of those that are expected.
pub fn outputs(gpu: &Gpu, compiled: &CompiledShaders, inputs: &[Tensor], expected: &[Tensor]) -> Vec<Tensor> {
    let artifact = compiled.to_bytes().expect("an artifact");
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|input| input.bytes().to_vec()).collect();
    let bytes = run_on(gpu, &artifact, &inputs.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let tensor = |(expected, bytes): (&Tensor, Vec<u8>)| {
        Tensor::dense(expected.dtype(), expected.shape().clone(), bytes.into()).expect("a tensor")
    };
    expected.iter().zip(bytes).map(tensor).collect()
}

/// Compiles a graph to shaders.
pub fn compiled(graph: &Graph) -> Result<CompiledShaders, String> {
    compiled_in(graph, Precision::F32)
}

/// The same, with values and weights kept in that width.
pub fn compiled_in(graph: &Graph, precision: Precision) -> Result<CompiledShaders, String> {
    compiled_with(graph, |options| CompileOptions { precision, ..options })
}

/// The same, with other options than usual.
pub fn compiled_with(
    graph: &Graph,
    adjust: impl FnOnce(CompileOptions) -> CompileOptions,
) -> Result<CompiledShaders, String> {
    compile_graph(graph.clone(), &adjust(options(&[])), &mut |_| {}).map_err(|error| error.to_string())
}

/// Bytes that a network moves where every convolution, product, pool and the like reads its operands and writes its result once, and
/// nothing else is moved: maps are done on the way.
pub fn bytes_once(graph: &Graph) -> usize {
    let bytes = |id: NodeId| match graph.node(id).ty() {
        Type::Tensor(ty) => ty.bytes().unwrap_or(0),
        Type::Tuple(types) => types.iter().filter_map(|ty| ty.bytes().ok()).sum(),
    };
    let is_counted = |id: &NodeId| {
        let op = graph.op(*id);
        let moves = matches!(
            op,
            Op::Transpose(_)
                | Op::Slice { .. }
                | Op::Broadcast(_)
                | Op::Reshape(_)
                | Op::Relayout(_)
                | Op::Concat { .. }
                | Op::Pad { .. }
                | Op::Tile { .. }
        );
        !moves && !matches!(op, Op::Input { .. } | Op::Constant(_) | Op::Map(_) | Op::Project(_))
    };
    let of_node = |id: NodeId| graph.operands(id).iter().map(|&operand| bytes(operand)).sum::<usize>() + bytes(id);
    graph.ids().filter(is_counted).map(of_node).sum()
}
