//! ONNX's node tests through the whole road: import, passes, code, artifact, runtime.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use edgecc::array::to_tensor;
use edgecc::compile::{CompileError, CompileOptions, compile};
use edgecc::onnx;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_format::Port;
use edgecc_runtime::gpu::Gpu;

use crate::{gpu, reference, run};

/// A row of the index that `tests/tools/conformance.py` writes.
pub struct Case {
    /// The test's name.
    pub name: String,
    /// Its operators.
    pub operators: Vec<String>,
    /// Why npz files cannot hold its tensors.
    unsupported: Option<String>,
    relative: f64,
    absolute: f64,
}

/// What runs a test.
#[derive(Clone, Copy)]
pub enum On<'a> {
    /// This machine's processor.
    Processor,
    /// A GPU.
    Gpu(&'a Gpu),
}

/// Reads `index.json` of a folder.
pub fn index(folder: &Path) -> Vec<Case> {
    let text = std::fs::read_to_string(folder.join("index.json")).expect("an index");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&text).expect("a list");
    rows.iter().map(case).collect()
}

fn case(row: &serde_json::Value) -> Case {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_string);
    Case {
        name: text(&row["name"]).expect("a name"),
        operators: row["ops"].as_array().expect("operators").iter().filter_map(text).collect(),
        unsupported: text(&row["unsupported"]),
        relative: row["rtol"].as_f64().expect("a tolerance"),
        absolute: row["atol"].as_f64().expect("a tolerance"),
    }
}

/// Runs a test of a folder. `Err` says in one line why it does not pass.
pub fn check(folder: &Path, case: &Case, on: On<'_>) -> Result<(), String> {
    if let Some(what) = &case.unsupported {
        let what = what.split(" is ").nth(1).unwrap_or(what).trim_start_matches("of ");
        return Err(format!("tensors of {what}"));
    }
    let outcome = catch_unwind(AssertUnwindSafe(|| run_case(&folder.join(&case.name), case, on)));
    outcome.unwrap_or_else(|_| Err("panic".into()))
}

fn run_case(folder: &Path, case: &Case, on: On<'_>) -> Result<(), String> {
    let expected = reference::read(&folder.join("io.npz"));
    let path = folder.join("model.onnx");
    let decoded = onnx::read(&path).map_err(|error| one_line(&error.to_string()))?;
    let inputs: Vec<(String, Array)> = onnx::input_names(&decoded).into_iter().zip(expected.inputs).collect();
    let (artifact, given) = compile_with(&path, &inputs, on)?;
    let outputs = on.execute(&artifact, &given);
    if outputs.len() != expected.outputs.len() {
        return Err(format!("{} outputs instead of {}", outputs.len(), expected.outputs.len()));
    }
    for (place, (actual, wanted)) in outputs.iter().zip(&expected.outputs).enumerate() {
        differs(actual, wanted, case).map_or(Ok(()), |what| Err(format!("output {place}: {what}")))?;
    }
    Ok(())
}

/// Compiles with the shapes of the inputs; where a value must be known, with that of small inputs behind the first, and at
/// last with those of all small inputs. Gives the arrays that the program still takes.
fn compile_with(path: &Path, inputs: &[(String, Array)], on: On<'_>) -> Result<(Vec<u8>, Vec<Array>), String> {
    let small = |array: &Array| array.extents.len() <= 1 && array.bytes.len() <= 1 << 12;
    let none = |_: usize, _: &Array| false;
    let parameters = |place: usize, array: &Array| place > 0 && small(array);
    let all = |_: usize, array: &Array| small(array);
    type IsFixed<'a> = &'a dyn Fn(usize, &Array) -> bool;
    let attempts: [IsFixed; 3] = [&none, &parameters, &all];
    let mut first_error = None;
    for is_fixed in attempts {
        let (fixed, given): (Vec<_>, Vec<_>) =
            inputs.iter().enumerate().partition(|(place, (_, array))| is_fixed(*place, array));
        let fixed = fixed.into_iter().map(|(_, input)| input);
        match on.artifact(path, &options(inputs, fixed)?) {
            Ok(artifact) => return Ok((artifact, given.into_iter().map(|(_, (_, array))| array.clone()).collect())),
            // With values known, this is what stands in the way.
            Err(error) if error.to_string().contains(" in shaders") => return Err(one_line(&error.to_string())),
            Err(error) => first_error.get_or_insert(error),
        };
    }
    Err(first_error.map_or(String::new(), |error| one_line(&error.to_string())))
}

fn options<'a>(
    inputs: &[(String, Array)],
    fixed: impl Iterator<Item = &'a (String, Array)>,
) -> Result<CompileOptions, String> {
    let host = Architecture::host().expect("a host that code is emitted for");
    let shapes: Vec<_> = inputs.iter().map(|(name, array)| (name.clone(), array.extents.clone())).collect();
    let mut options = run::options(host, &shapes);
    options.import.constants =
        fixed.map(|(name, array)| Ok((name.clone(), to_tensor(array)?))).collect::<Result<BTreeMap<_, _>, String>>()?;
    Ok(options)
}

impl On<'_> {
    fn artifact(self, path: &Path, options: &CompileOptions) -> Result<Vec<u8>, CompileError> {
        Ok(match self {
            On::Processor => compile(path, options, &mut |_| {})?.to_bytes()?,
            On::Gpu(_) => {
                let options = CompileOptions { integers: false, ..options.clone() };
                edgecc::shaders::compile(path, &options, &mut |_| {})?.to_bytes()?
            }
        })
    }

    /// The outputs of a run as arrays.
    fn execute(self, artifact: &[u8], inputs: &[Array]) -> Vec<Array> {
        let outputs = match self {
            On::Processor => run::run_here(artifact, inputs, 1),
            On::Gpu(device) => {
                gpu::run_on(device, artifact, &inputs.iter().map(|input| &input.bytes[..]).collect::<Vec<_>>())
            }
        };
        let ports = edgecc_format::read(artifact).expect("an artifact").manifest.outputs;
        let output = |(port, bytes): (&Port, Vec<u8>)| Array {
            element_type: port.element_type(),
            extents: port.dims.iter().map(|dim| dim.value as usize).collect(),
            bytes,
        };
        ports.iter().zip(outputs).map(output).collect()
    }
}

/// How an output differs from what the test wants, if it does. NaN equals NaN, as in the tests' own comparison.
fn differs(actual: &Array, wanted: &Array, case: &Case) -> Option<String> {
    if (actual.element_type, &actual.extents) != (wanted.element_type, &wanted.extents) {
        let describe = |array: &Array| format!("{}{:?}", array.element_type.name(), array.extents);
        return Some(format!("{} instead of {}", describe(actual), describe(wanted)));
    }
    let pairs = actual.to_f64().into_iter().zip(wanted.to_f64());
    let mut wrong = pairs.filter(|&(a, b)| {
        let equal = a == b || a.is_nan() && b.is_nan();
        !equal && ((a - b).abs() > case.absolute + case.relative * b.abs() || !(a - b).is_finite())
    });
    let (a, b) = wrong.next()?;
    Some(format!("{} elements differ, {a} instead of {b}", wrong.count() + 1))
}

/// The reason in an error, without the names of files and nodes where it lists them.
fn one_line(error: &str) -> String {
    let lines: Vec<&str> = error.lines().map(str::trim).collect();
    lines.join(" ").trim_start_matches("not supported: ").to_string()
}
