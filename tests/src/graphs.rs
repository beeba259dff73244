//! Graphs as machine code, here and on emulated aarch64.

use std::path::{Path, PathBuf};

use edgecc::compile::{CompileOptions, compile_graph};
use edgecc_backends::artifact::element_type;
use edgecc_backends::chain::Limits;
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_backends::schedule::cores::{CORTEX_A55, CoreClass, GENERIC};
use edgecc_device::tensor_file::{Array, read_npz, write_npz};
use edgecc_ir::{Graph, Tensor};
use edgecc_passes::precision::Precision;
use edgecc_runtime::ProgramChoice;

use crate::{cross, python, run};

/// Every graph of `graphs/` with the name of its folder and its own.
pub fn cases() -> Vec<(String, Graph)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("graphs");
    let mut cases: Vec<(String, Graph)> =
        entries(&folder).iter().flat_map(|pass| entries(pass)).filter_map(case).collect();
    cases.sort_by(|a, b| a.0.cmp(&b.0));
    cases
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
}

fn case(path: PathBuf) -> Option<(String, Graph)> {
    path.extension().filter(|extension| *extension == "eir")?;
    let text = std::fs::read_to_string(&path).expect("a graph");
    let name =
        [path.parent()?.file_name()?, path.file_stem()?].map(|part| part.to_string_lossy().into_owned()).join("-");
    Some((name, Graph::from_text(&text).expect("a sound graph")))
}

/// How a graph is compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Way {
    /// Who writes kernels.
    pub kernels: Kernels,
    /// Whether weights may grow.
    pub allow_size: bool,
    /// The core that schedules are chosen for.
    pub core: &'static CoreClass,
    /// The width in which f32 values are kept.
    pub precision: Precision,
    /// When steps become chains.
    pub chains: Option<Limits>,
}

impl Way {
    /// As the command line compiles without flags.
    pub const USUAL: Way = Way {
        kernels: Kernels::Encoded,
        allow_size: false,
        core: &GENERIC,
        precision: Precision::F32,
        chains: Some(Limits::USUAL),
    };
    /// Cranelift alone.
    pub const CLIF: Way = Way { kernels: Kernels::Clif, ..Way::USUAL };
    /// With weights that may grow.
    pub const LARGE: Way = Way { allow_size: true, ..Way::USUAL };
    /// For cores that issue in order.
    pub const IN_ORDER: Way = Way { allow_size: true, core: &CORTEX_A55, ..Way::USUAL };
    /// With weights that may grow, by Cranelift alone.
    pub const LARGE_CLIF: Way = Way { kernels: Kernels::Clif, ..Way::LARGE };
    /// With weights that may grow and halves for single precision.
    pub const LARGE_HALVES: Way = Way { precision: Precision::F16, ..Way::LARGE };
    /// With halves for single precision.
    pub const HALVES: Way = Way { precision: Precision::F16, ..Way::USUAL };
    /// The same for cores that issue in order.
    pub const HALVES_IN_ORDER: Way = Way { core: &CORTEX_A55, ..Way::HALVES };
}

/// A tensor as files hold it.
pub fn array(tensor: &Tensor) -> Array {
    Array {
        element_type: element_type(tensor.dtype()),
        extents: tensor.shape().extents(),
        bytes: tensor.bytes().to_vec(),
    }
}

/// The bytes of a compiled graph.
pub fn artifact(graph: &Graph, architecture: Architecture, way: Way) -> Vec<u8> {
    let Way { kernels, allow_size, core, precision, chains } = way;
    let options = CompileOptions { kernels, allow_size, core, precision, chains, ..run::options(architecture, &[]) };
    let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
    compiled.to_bytes().expect("an artifact")
}

/// Outputs of runs on this machine, as numbers: by the program for the most able processors, and for the least able.
pub fn outputs_here(graph: &Graph, inputs: &[Tensor], expected: &[Tensor], way: Way) -> [Vec<Vec<f64>>; 2] {
    let host = Architecture::host().expect("a host that code is emitted for");
    let arrays: Vec<Array> = inputs.iter().map(array).collect();
    let artifact = artifact(graph, host, way);
    [ProgramChoice::MostAble, ProgramChoice::LeastAble].map(|program| {
        let outputs = run::run_program_here(&artifact, &arrays, 2, program);
        expected.iter().zip(outputs).map(|(expected, bytes)| Array { bytes, ..array(expected) }.to_f64()).collect()
    })
}

/// Outputs of runs on emulated processors, one after the other.
pub fn outputs_emulated(
    program: &Path,
    graph: &Graph,
    inputs: &[Tensor],
    way: Way,
    processors: &[&str],
) -> Vec<Vec<Vec<f64>>> {
    let folder = python::generated("everywhere");
    let named = |(place, tensor): (usize, &Tensor)| (format!("in_{place}"), array(tensor));
    let arrays: Vec<(String, Array)> = inputs.iter().enumerate().map(named).collect();
    let unique = format!("{:?}", std::thread::current().id());
    let [model, input, output] = ["model.bin", "in.npz", "out.npz"].map(|file| folder.join(format!("{unique}-{file}")));
    std::fs::write(&model, artifact(graph, Architecture::Aarch64, way)).expect("the artifact is written");
    write_npz(&input, &arrays).expect("the inputs are written");
    let path = |path: &PathBuf| path.to_str().expect("UTF-8").to_string();
    let arguments = ["run".into(), path(&model), "--input".into(), path(&input), "--output".into(), path(&output)];
    let run = |processor: &&str| {
        let ran = cross::emulate(processor, program, &arguments);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        read_npz(&output).expect("outputs").iter().map(|(_, array)| array.to_f64()).collect()
    };
    processors.iter().map(run).collect()
}

/// The largest difference as a part of the largest result.
pub fn difference(expected: &Tensor, actual: &[f64]) -> f64 {
    assert_eq!(expected.elements(), actual.len());
    let expected: Vec<f64> = expected.scalars().map(|value| value.as_f64()).collect();
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    expected.iter().zip(actual).fold(0.0, |most: f64, (a, b)| most.max((a - b).abs())) / largest
}
