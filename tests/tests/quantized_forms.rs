//! Models in the forms that quantization comes in (`tools/quantized_forms.py`): onnxruntime's answers, and integer code.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use edgecc::compile::Compiled;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::program::StorageKind;
use edgecc_backends::view::StorageId;
use edgecc_device::tensor_file::Array;
use edgecc_ir::{DType, Graph};
use edgecc_tests::report::say;
use edgecc_tests::{python, reference, run};

/// A model, the contractions that it has, and those of them that sum numbers; and how far an element may be from
/// onnxruntime's, as a share of the largest.
struct Form {
    name: &'static str,
    contractions: usize,
    of_numbers: usize,
    most: f64,
}

const fn form(name: &'static str, contractions: usize, of_numbers: usize, most: f64) -> Form {
    Form { name, contractions, of_numbers, most }
}

/// Steps of 8 bits are 0.4 % of a range, and rounding at a middle may go either way; numbers of 16 bits have finer ones.
const FORMS: [Form; 29] = [
    form("operators", 4, 0, 0.02),
    form("operators_unsigned", 4, 0, 0.02),
    form("sixteen_bits", 4, 4, 1e-3),
    form("dynamic_images", 4, 1, 0.01),
    form("dynamic_words", 2, 0, 0.01),
    form("dynamic_words_per_channel", 2, 0, 0.01),
    form("int4", 1, 1, 1e-5),
    form("uint4", 1, 1, 1e-5),
    form("blocks_of_4_bits", 0, 0, 1e-5),
    form("blocks_of_4_bits_zeros", 0, 0, 1e-5),
    form("blocks_of_4_bits_rows", 0, 0, 1e-5),
    form("blocks_of_4_bits_rest", 1, 1, 1e-5),
    form("blocks_of_8_bits", 0, 0, 1e-5),
    form("blocks_of_8_bits_zeros", 1, 1, 1e-5),
    form("blocks_of_int8", 0, 0, 1e-5),
    form("select", 0, 0, 0.005),
    form("padded_average", 0, 0, 0.017),
    form("sums_in_scale", 0, 0, 0.01),
    form("dynamic_product", 1, 0, 1e-5),
    form("product_to_float", 1, 0, 1e-5),
    form("gemm", 1, 0, 0.01),
    form("pointwise", 1, 0, 0.0),
    form("windows", 1, 0, 0.0),
    form("windows_beyond", 2, 0, 0.0),
    form("padded", 1, 0, 0.0),
    form("padded_beyond", 2, 0, 0.0),
    form("within_channels", 1, 0, 0.0),
    form("within_channels_padded", 1, 0, 0.0),
    form("within_channels_beyond", 2, 0, 0.0),
];

/// Where the models are, written once. `None`, after a visible line, without Python.
static FOLDER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let interpreter = python::python()?;
    let folder = python::generated("quantized-forms");
    python::tool(&interpreter, "quantized_forms.py", &[&folder.to_string_lossy()]);
    Some(folder)
});

/// Contractions, and those that do not sum integers. An average of integers is one, too.
fn contractions(graph: &Graph) -> [usize; 2] {
    let all: Vec<DType> = graph
        .ids()
        .filter(|&id| graph.op(id).epilogue().is_some() && graph.constant_value(graph.operands(id)[1]).is_some())
        .map(|id| graph.ty(graph.operands(id)[0]).dtype)
        .collect();
    [all.len(), all.iter().filter(|&&dtype| dtype != DType::I8).count()]
}

#[test]
fn every_form_gives_onnxruntimes_answers() {
    let Some(folder) = &*FOLDER else { return };
    let checked = FORMS.iter().map(|form| {
        let file = |extension: &str| folder.join(format!("{}.{extension}", form.name));
        check(&file("onnx"), &file("npz"), form)
    });
    assert_none(checked);
}

/// Bytes of the constants that a program's steps read.
fn constant_bytes(compiled: &Compiled) -> usize {
    let program = &compiled.best.program;
    let read: BTreeSet<StorageId> =
        program.steps.iter().flat_map(|step| &step.operands).map(|operand| operand.storage).collect();
    let storages = read.into_iter().map(|storage| &program.storages[storage.0 as usize]);
    storages.filter(|storage| matches!(storage.kind, StorageKind::Constant(_))).map(|storage| storage.bytes).sum()
}

/// Weights of a block are not written out as numbers: bytes of constants in the program, of weights and scales together.
#[test]
fn weights_of_a_few_bits_stay_so() {
    let Some(folder) = &*FOLDER else { return };
    let weights = |depth: usize, bits: usize, channels: usize| depth * channels * bits / 8;
    let forms = [
        ("blocks_of_4_bits", weights(256, 4, 64), 64 * 8),
        ("blocks_of_4_bits_zeros", weights(208, 4, 64), 2 * 64 * 13),
        ("blocks_of_4_bits_rows", weights(256, 8, 64), 64 * 2),
        ("blocks_of_8_bits", weights(256, 8, 64), 64 * 4),
        ("blocks_of_int8", weights(512, 8, 96), 96 * 8),
    ];
    for architecture in [Architecture::Aarch64, Architecture::X86_64] {
        for (name, weights, scales) in forms {
            let inputs = reference::read(&folder.join(format!("{name}.npz"))).inputs;
            let model = folder.join(format!("{name}.onnx"));
            let compiled = run::compile_for(&model, architecture, &inputs).expect("compiles");
            let (bytes, most) = (constant_bytes(&compiled), weights + 4 * (scales + 96) + 1024);
            say(&format!("{name:<28} {bytes} bytes of constants"));
            assert!(bytes <= most, "{name}: {bytes} bytes, at most {most}");
        }
    }
}

/// Two layers of DynamicQuantizeLSTM and a MatMulInteger, with states in and out.
#[test]
fn a_recurrent_model_of_integers_gives_onnxruntimes_answers() {
    let Some(folder) = reference::shared("models") else { return };
    let form = form("dtln_1_dynq", 5, 0, 1e-3);
    let (model, npz) = (folder.join("models/dtln_1_dynq.onnx"), folder.join("io/dtln_1_dynq.npz"));
    assert_none([check(&model, &npz, &form)].into_iter());
}

fn assert_none(checked: impl Iterator<Item = Result<(), String>>) {
    let wrong: Vec<String> = checked.filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How far an output is from its reference, as a share of the largest element.
fn distance(actual: &[u8], reference: &Array) -> f64 {
    let actual = Array { bytes: actual.to_vec(), ..reference.clone() }.to_f64();
    let values = reference.to_f64();
    let largest = values.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    actual.iter().zip(&values).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) / largest
}

fn check(model: &Path, npz: &Path, form: &Form) -> Result<(), String> {
    let Form { name, contractions: all, of_numbers, most } = *form;
    let expected = reference::read(npz);
    let host = Architecture::host().ok_or("no host that code is emitted for")?;
    let compiled = run::compile_for(model, host, &expected.inputs).map_err(|error| format!("{name}: {error}"))?;
    let outputs = run::run_here(&compiled.to_bytes().map_err(|error| error.to_string())?, &expected.inputs, 1);
    let away = outputs.iter().zip(&expected.outputs).map(|(actual, expected)| distance(actual, expected));
    let away = away.fold(0.0, f64::max);
    let [found, float] = contractions(&compiled.graph);
    say(&format!("{name:<28} {found} contractions, {float} of numbers, at most {away:.5} of the largest element away"));
    match (away <= most, float == of_numbers && found >= all) {
        (true, true) => Ok(()),
        (near, _) => Err(format!("{name}: near: {near}, {away}; {float} of {found} contractions sum numbers")),
    }
}
