//! Models with flipped bits, other bytes, or cut short: each compiles or is refused, in time and without a panic.

use edgecc_tests::report::say;
use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use edgecc::compile::{CompileError, compile};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_tests::{python, run};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// Most time that one model may take.
const PATIENCE: Duration = Duration::from_secs(2);

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What happens to a file. Places are taken modulo its length.
#[derive(Clone, Debug)]
enum Damage {
    FlippedBit { place: usize, bit: u32 },
    OtherByte { place: usize, byte: u8 },
    CutShort { length: usize },
}

impl Damage {
    fn apply(&self, mut file: Vec<u8>) -> Vec<u8> {
        let length = file.len().max(1);
        match *self {
            Damage::FlippedBit { place, bit } => {
                file.iter_mut().skip(place % length).take(1).for_each(|b| *b ^= 1 << bit)
            }
            Damage::OtherByte { place, byte } => file.iter_mut().skip(place % length).take(1).for_each(|b| *b = byte),
            Damage::CutShort { length: kept } => file.truncate(kept % length),
        }
        file
    }
}

/// Half of the places lie in `structure`, the part that holds names, attributes and shapes rather than weights.
fn damages(structure: usize) -> impl Strategy<Value = Damage> {
    let place = || prop_oneof![0..structure, any::<usize>()];
    prop_oneof![
        4 => (place(), 0..8u32).prop_map(|(place, bit)| Damage::FlippedBit { place, bit }),
        2 => (place(), any::<u8>()).prop_map(|(place, byte)| Damage::OtherByte { place, byte }),
        1 => place().prop_map(|length| Damage::CutShort { length }),
    ]
}

/// Compiles a file. `true` if that succeeds; what fails must be found in the model, not in a pass or in emission.
fn survives(copy: &Path) -> bool {
    let host = Architecture::host().expect("a host that code is emitted for");
    let start = Instant::now();
    let compiled = compile(copy, &run::options(host, &[]), &mut |_| {});
    let took = start.elapsed();
    assert!(took < PATIENCE, "takes {took:?}");
    match compiled {
        Ok(_) => true,
        Err(CompileError::Import(_) | CompileError::Lower(_)) => false,
        Err(other) => panic!("a fault of the compiler: {other}"),
    }
}

/// Damages copies of a model, the same ones in every run.
fn check(model: &str, structure: usize, cases: u32) {
    let original = std::fs::read(repository().join(model)).expect("a model");
    let copy = python::generated("damaged_models").join(Path::new(model).file_name().expect("a name"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let compiled = Cell::new(0);
    let outcome = runner.run(&proptest::collection::vec(damages(structure), 1..4), |damages| {
        let file = damages.iter().fold(original.clone(), |file, damage| damage.apply(file));
        std::fs::write(&copy, file).expect("the copy is written");
        compiled.set(compiled.get() + u32::from(survives(&copy)));
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let compiled = compiled.get();
    say(&format!("{model}: {cases} damaged copies, {compiled} of them compile"));
    assert!((1..cases).contains(&compiled));
}

#[test]
fn damaged_copies_of_the_sample_end_in_order() {
    check("sample/digits.onnx", 2048, 600);
}

#[test]
fn damaged_copies_of_a_model_with_functions_end_in_order() {
    let data = "functions.data";
    let beside = repository().join("tests/models/mobilenet_small").join(data);
    std::fs::copy(beside, python::generated("damaged_models").join(data)).expect("its weights");
    check("tests/models/mobilenet_small/functions.onnx", 4096, 150);
}
