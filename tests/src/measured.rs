//! Networks whose inference is counted on aarch64, what others execute for them, and what ours may. Of others the best that
//! there is counts, on cortex-a76: ncnn 1.0.20261020, but MNN 3.6.1 for the encoder in f32. MNN does not convert
//! Inception v3, for which onnxruntime 1.32.0 executes 2022.8 M. From `peers/MEASURED.md` of the shared material, and for
//! Inception v3 from the same tools.

use std::path::{Path, PathBuf};

use edgecc::compile::{CompileOptions, Compiled, compile_prepared, prepare};
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_backends::schedule::cores::CoreClass;
use edgecc_device::agreement::{Bound, agreement};
use edgecc_device::tensor_file::{Array, read_npz};
use edgecc_format::ElementType;
use edgecc_passes::precision::Precision;

use crate::{python, run};

/// Figures of one network in one precision.
#[derive(Debug)]
pub struct Bar {
    /// Instructions of the best of others, in millions.
    pub best_peer: f64,
    /// The most that ours may execute, in millions.
    pub most: f64,
    /// The least cosine between the output and onnxruntime's in f32.
    pub cosine: f64,
}

/// A network and its input.
#[derive(Debug)]
pub struct Network {
    /// The name of its files.
    pub name: &'static str,
    /// The extents of its input.
    pub shape: &'static [usize],
    /// Weights may grow: Winograd's convolution.
    pub allow_size: bool,
    /// In f32.
    pub singles: Bar,
    /// In halves.
    pub halves: Bar,
}

const IMAGE: &[usize] = &[1, 3, 224, 224];

const fn singles(best_peer: f64, most: f64) -> Bar {
    Bar { best_peer, most, cosine: 0.99999 }
}

const fn halves(best_peer: f64, most: f64) -> Bar {
    Bar { best_peer, most, cosine: 0.9995 }
}

const fn image(name: &'static str, singles: Bar, halves: Bar) -> Network {
    Network { name, shape: IMAGE, allow_size: false, singles, halves }
}

const fn large(network: Network) -> Network {
    Network { allow_size: true, ..network }
}

/// The networks. Random weights of many layers amplify what is rounded early: of ResNet-50 activations and weights that are
/// stored as halves, with sums in f32, leave a cosine of 0.99974; ncnn's output in halves has 0.9881, for Inception v3 0.9698.
///
/// What instructions in halves go to beyond multiply-adds, in millions:
///
/// | | ResNet-50 | Inception v3 |
/// |---|---|---|
/// | all, and multiply-adds of them | 400.1, 354.6 | 446.0, 381.1 |
/// | arithmetic of transforms, folded chunks of sums, epilogues | 12.8 | 21.8 |
/// | loads and stores of vectors | 27.5 | 33.0 |
/// | integers and branches | 4.5 | 9.4 |
///
/// No count is over its bar. Cosines of these two are below 0.9995: of Inception v3 0.9821, of ResNet-50 0.9959. Tried for fewer errors and not kept: seven
/// taps at eight points (twice the error of two groups) and at seven and six (2.5 times).
pub const NETWORKS: [Network; 10] = [
    image("mobilenet_v2", singles(101.2, 90.0), halves(54.0, 45.0)),
    image("mobilenet_v3_small", singles(24.1, 20.0), halves(12.8, 9.5)),
    image("mobilenet_v3_large", singles(78.9, 67.0), halves(41.7, 34.0)),
    image("efficientnet_b0", singles(178.1, 150.0), halves(92.2, 73.0)),
    image("shufflenet_v2_x1_0", singles(50.6, 43.0), halves(36.5, 23.0)),
    large(image("squeezenet1_1", singles(75.6, 63.0), halves(43.9, 33.0))),
    Network { shape: &[1, 128, 256], ..image("encoder", singles(136.9, 117.0), halves(197.8, 65.1)) },
    large(image("resnet18", singles(239.4, 182.0), halves(130.1, 97.0))),
    large(image("resnet50", singles(910.0, 740.0), Bar { cosine: 0.995, ..halves(482.1, 402.0) })),
    Network {
        shape: &[1, 3, 299, 299],
        ..large(image("inception_v3", singles(1309.1, 930.0), Bar { cosine: 0.98, ..halves(691.9, 450.0) }))
    },
];

/// Figures of one network of 8-bit integers on processors of one kind.
#[derive(Debug)]
pub struct OfIntegers {
    /// The network's name.
    pub name: &'static str,
    /// The processor as `--cpu` names it.
    pub core: &'static str,
    /// The processor as the emulator names it.
    pub emulated: &'static str,
    /// Instructions and cosine.
    pub bar: Bar,
}

const fn integers(name: &'static str, [core, emulated]: [&'static str; 2], best_peer: f64, most: f64) -> OfIntegers {
    OfIntegers { name, core, emulated, bar: Bar { best_peer, most, cosine: 0.97 } }
}

/// A processor without instructions for sums of integers: as `--cpu` and as the emulator names it.
pub const PLAIN: [&str; 2] = ["a72", "cortex-a72"];
/// One with dot products.
pub const DOT_PRODUCTS: [&str; 2] = ["a76", "cortex-a76"];
/// One with products of matrices.
pub const MATRICES: [&str; 2] = ["generic", "max"];

/// Networks quantised on the input that they are counted on. Of others LiteRT counts for MobileNetV2, onnxruntime for the others. Weights are random, and
/// so are answers: cosines tell of rounding alone.
pub const INTEGERS: [OfIntegers; 8] = [
    integers("mobilenet_v2", PLAIN, 113.9, 86.1),
    integers("mobilenet_v2", DOT_PRODUCTS, 49.5, 37.0),
    integers("mobilenet_v2", MATRICES, 44.4, 30.0),
    integers("mobilenet_v3_large", DOT_PRODUCTS, 70.1, 34.0),
    integers("efficientnet_b0", DOT_PRODUCTS, 134.0, 65.0),
    integers("encoder", DOT_PRODUCTS, 78.4, 48.5),
    integers("resnet50", DOT_PRODUCTS, 450.0, 330.0),
    integers("resnet50", MATRICES, 372.0, 210.0),
];

/// A network with its input and the output of onnxruntime.
#[derive(Debug)]
pub struct Files {
    /// The model.
    pub model: PathBuf,
    /// Little-endian f32.
    pub input: Vec<u8>,
    /// The same.
    pub output: Vec<u8>,
}

/// Networks that take minutes in the emulator; the environment variable `EDGECC_NETWORKS=all` counts them too.
const LARGE: [&str; 2] = ["resnet50", "inception_v3"];

impl Network {
    /// Whether it is counted without being asked for.
    pub fn is_usual(&self) -> bool {
        !LARGE.contains(&self.name) || std::env::var("EDGECC_NETWORKS").is_ok_and(|value| value == "all")
    }

    /// Its files: those of the peers, or what a seeded generator writes. `None`, after a visible line, without Python.
    pub fn files(&self, peers: &Path) -> Option<Files> {
        let of_peers = |ending: &str| peers.join(format!("models/{}.{ending}", self.name));
        let read = |ending: &str| std::fs::read(of_peers(ending)).expect("a file of the peers");
        let (script, flags) = match self.name {
            "resnet18" => ("make_resnet.py", ["--depth", "18"].as_slice()),
            "resnet50" => ("make_resnet.py", [].as_slice()),
            "inception_v3" => ("make_inception.py", [].as_slice()),
            _ => return Some(Files { model: of_peers("onnx"), input: read("x.f32"), output: read("y.f32") }),
        };
        let interpreter = python::python()?;
        let model = python::generated("instructions").join(format!("{}.onnx", self.name));
        let reference = model.with_extension("npz");
        if !reference.exists() {
            let model = model.to_string_lossy();
            python::tool(&interpreter, script, &[&[&*model], flags].concat());
        }
        let mut arrays = read_npz(&reference).expect("a reference");
        let mut take = |name: &str| {
            let place = arrays.iter().position(|(other, _)| other == name).expect("an array");
            arrays.swap_remove(place).1.bytes
        };
        Some(Files { input: take("in_0"), output: take("out_0"), model })
    }

    /// Its figures.
    pub fn bar(&self, precision: Precision) -> &Bar {
        match precision {
            Precision::F32 => &self.singles,
            Precision::F16 => &self.halves,
        }
    }

    /// The artifact for aarch64.
    pub fn compile(&self, files: &Files, precision: Precision, kernels: Kernels) -> Compiled {
        let (element_type, extents) = (ElementType::F32, self.shape.to_vec());
        let input = Array { element_type, extents, bytes: files.input.clone() };
        let adjust = |options| CompileOptions { kernels, precision, allow_size: self.allow_size, ..options };
        run::compile_with(&files.model, Architecture::Aarch64, &[input], adjust).expect("compiles")
    }
}

impl OfIntegers {
    /// Its network.
    pub fn network(&self) -> Option<&'static Network> {
        NETWORKS.iter().find(|network| network.name == self.name)
    }

    /// The artifact for aarch64, quantised on the input.
    pub fn compile(&self, network: &Network, files: &Files) -> Compiled {
        let (element_type, extents) = (ElementType::F32, network.shape.to_vec());
        let input = Array { element_type, extents, bytes: files.input.clone() };
        let shapes = run::shapes(&files.model, std::slice::from_ref(&input)).expect("a model");
        let core = CoreClass::named(self.core).expect("a processor");
        let options = CompileOptions { core, ..run::options(Architecture::Aarch64, &shapes) };
        let (mut graph, _) = prepare(&files.model, &options, &mut |_| {}).expect("a model");
        run::quantized_on(&mut graph, &options, vec![vec![input]]).expect("a quantised network");
        compile_prepared(graph, &options, &mut |_| {}).expect("compiles")
    }
}

impl Files {
    /// The cosine between an output and onnxruntime's.
    pub fn cosine(&self, output: &[u8]) -> f64 {
        let (actual, expected) = (to_f64(output), to_f64(&self.output));
        agreement(&actual, &expected, &[actual.len()], None, Bound::FLOAT).cosine
    }

    /// The bytes of an artifact as a part of the model's.
    pub fn growth(&self, compiled: &Compiled) -> f64 {
        let size = compiled.to_bytes().expect("an artifact").len() as f64;
        size / std::fs::metadata(&self.model).expect("the model").len() as f64
    }
}

fn to_f64(bytes: &[u8]) -> Vec<f64> {
    let array = Array { element_type: ElementType::F32, extents: vec![bytes.len() / 4], bytes: bytes.to_vec() };
    array.to_f64()
}
