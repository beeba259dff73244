//! Real models against onnxruntime's outputs, on this machine. Prints a table.

use edgecc_tests::report::say;
use std::path::Path;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::Array;
use edgecc_runtime::ProgramChoice;
use edgecc_tests::models::{MODELS, PICTURES, Row};
use edgecc_tests::{pictures, reference, run};

/// Compiles and runs one model, prints its row, and tells whether its outputs keep to the bound.
fn agrees(folder: &Path, row: &Row) -> bool {
    let name = format!("{}{}", row.name, row.variant);
    let expected = reference::read(&row.reference(folder));
    let host = Architecture::host().expect("a host that code is emitted for");
    let compiled = match run::compile_for(&row.model(folder), host, &expected.inputs) {
        Ok(compiled) => compiled,
        Err(error) => {
            say(&format!("{name:<44} {error}"));
            return false;
        }
    };
    let artifact = compiled.to_bytes().expect("an artifact");
    let single = run::run_here(&artifact, &expected.inputs, 1);
    let double = run::run_here(&artifact, &expected.inputs, 2);
    assert!(single == double, "{name}: results depend on the number of threads");
    let least = run::run_program_here(&artifact, &expected.inputs, 1, ProgramChoice::LeastAble);
    let agreements: Vec<_> = [&single, &least]
        .into_iter()
        .flat_map(|outputs| outputs.iter().zip(&expected.outputs))
        .map(|(actual, reference)| run::agree(actual, reference, row.channel, row.bound()))
        .collect();
    let worst = agreements.iter().max_by(|a, b| a.share_of_bound.total_cmp(&b.share_of_bound)).expect("an output");
    say(&format!(
        "{name:<44} {:>5} {:>10} {:>9} {:>8} {:>9.2e} {:>8.1}% {:>9.6}",
        compiled.best.program.steps.len(),
        compiled.best.program.steps.iter().map(|step| step.macs).sum::<u64>(),
        compiled.best.plan.arena_bytes,
        compiled.best.emitted.code.len(),
        worst.max_absolute,
        worst.share_of_bound * 100.0,
        worst.cosine
    ));
    worst.share_of_bound <= 1.0 && single.len() == expected.outputs.len()
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
