//! Real models against onnxruntime's outputs, on this machine. Prints a table.

use std::path::Path;

use edgecc::compile::{CompileOptions, Compiled};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::agreement::Agreement;
use edgecc_device::tensor_file::Array;
use edgecc_passes::precision::Precision;
use edgecc_runtime::ProgramChoice;
use edgecc_tests::models::{LEAST_COSINE_OF_HALVES, MODELS, PICTURES, Row};
use edgecc_tests::report::say;
use edgecc_tests::{pictures, reference, run};

/// Compiles a model and runs both the most and the least able of its programs; the output that is worst by its bound.
fn worst(
    folder: &Path,
    row: &Row,
    adjust: impl FnOnce(CompileOptions) -> CompileOptions,
) -> Result<(Compiled, Agreement), String> {
    let expected = reference::read(&row.reference(folder));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_with(&row.model(folder), host, &expected.inputs, adjust)?;
    let artifact = compiled.to_bytes().expect("an artifact");
    let single = run::run_here(&artifact, &expected.inputs, 1);
    let double = run::run_here(&artifact, &expected.inputs, 2);
    assert!(single == double, "{row:?}: results depend on the number of threads");
    assert_eq!(single.len(), expected.outputs.len(), "{row:?}");
    let least = run::run_program_here(&artifact, &expected.inputs, 1, ProgramChoice::LeastAble);
    let pairs = [&single, &least].into_iter().flat_map(|outputs| outputs.iter().zip(&expected.outputs));
    let agreements = pairs.map(|(actual, reference)| run::agree(actual, reference, row.channel, row.bound()));
    let worst = agreements.max_by(|a, b| a.share_of_bound.total_cmp(&b.share_of_bound)).expect("an output");
    Ok((compiled, worst))
}

/// Prints a model's row, and tells whether its outputs keep to the bound.
fn agrees(folder: &Path, row: &Row) -> bool {
    let (compiled, worst) = match worst(folder, row, |options| options) {
        Ok(found) => found,
        Err(error) => {
            say(&format!("{:<44} {error}", row.title()));
            return false;
        }
    };
    say(&format!(
        "{:<44} {:>5} {:>10} {:>9} {:>8} {:>9.2e} {:>8.1}% {:>9.6}",
        row.title(),
        compiled.best.program.steps.len(),
        compiled.best.program.steps.iter().map(|step| step.macs).sum::<u64>(),
        compiled.best.plan.arena_bytes,
        compiled.best.emitted.code.len(),
        worst.max_absolute,
        worst.share_of_bound * 100.0,
        worst.cosine
    ));
    worst.share_of_bound <= 1.0
}

#[test]
fn models_agree_with_onnxruntime() {
    let Some(folder) = reference::shared("models") else { return };
    say(&format!(
        "{:<44} {:>5} {:>10} {:>9} {:>8} {:>9} {:>9} {:>9}",
        "model", "steps", "macs", "arena", "code", "max abs", "of bound", "cosine"
    ));
    let rows = MODELS.iter().chain(&PICTURES);
    let failed: Vec<&Row> = rows.filter(|row| !agrees(&folder, row)).collect();
    assert!(failed.is_empty(), "out of bounds or not compiled: {failed:?}");
}

/// Winograd's algorithm keeps to the bound of direct sums; halves keep the direction of the answer.
#[test]
fn models_keep_their_answers_by_winograd_and_with_halves() {
    let Some(folder) = reference::shared("models") else { return };
    say(&format!("{:<44} {:>12} {:>19}", "model", "--allow-size", "fp16, cosine"));
    let check = |row: &Row| {
        let [grown, halves] = [(true, Precision::F32), (false, Precision::F16)].map(|(allow_size, precision)| {
            let adjust = |options| CompileOptions { allow_size, precision, ..options };
            worst(&folder, row, adjust).expect("the model compiles").1
        });
        say(&format!("{:<44} {:>11.1}% {:>19.6}", row.title(), grown.share_of_bound * 100.0, halves.cosine));
        grown.share_of_bound <= 1.0 && halves.cosine >= LEAST_COSINE_OF_HALVES
    };
    let failed: Vec<&Row> = MODELS.iter().chain(&PICTURES).filter(|row| !check(row)).collect();
    assert!(failed.is_empty(), "out of bounds: {failed:?}");
}

/// The outputs of a run on this machine.
fn outputs(folder: &Path, row: &Row) -> Vec<Vec<f64>> {
    let expected = reference::read(&row.reference(folder));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = run::compile_for(&row.model(folder), host, &expected.inputs).expect("the model compiles");
    let outputs = run::run_here(&compiled.to_bytes().expect("an artifact"), &expected.inputs, 1);
    let values = |(bytes, array): (Vec<u8>, &Array)| Array { bytes, ..array.clone() }.to_f64();
    outputs.into_iter().zip(&expected.outputs).map(values).collect()
}

#[test]
fn the_cat_and_the_face_are_found() {
    let Some(folder) = reference::shared("models") else { return };
    let [cat, _, _, face, ..] = PICTURES;
    pictures::assert_cat(&outputs(&folder, &cat));
    pictures::assert_face(&outputs(&folder, &face), &folder);
}
