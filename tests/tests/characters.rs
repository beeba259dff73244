//! A network of mobile shape that reads rendered characters (`tests/characters`), on pictures enough to tell tenths of a point:
//! quantised, with some layers in f32, pruned, and both.
//!
//! `cargo test -p edgecc-tests --test characters -- --nocapture`; with `--ignored` on all 10,000 pictures, against the bars.

use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc::calibrate::samples::{Samples, ports};
use edgecc::compile::{CompileOptions, prepare};
use edgecc::prune::{Calibration, prune, refit};
use edgecc::quantize::{Limit, QuantizeOptions, Report, quantize};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_device::tensor_file::{Array, read_npz};
use edgecc_format::ElementType;
use edgecc_ir::Graph;
use edgecc_passes::prune::Recipe;
use edgecc_tests::python::{generated, python};
use edgecc_tests::report::{say, skipped};
use edgecc_tests::run;

/// Seeds of the pictures that calibrate and of those that test; the network has seen others.
const SEEDS: [usize; 2] = [3, 4];
/// Pictures that calibrate.
const SAMPLES: usize = 512;
/// A share of the classes, beyond which layers go back to f32.
const MAX_DROP: f64 = 0.001;

/// Pictures, each an input of the network, and their classes.
struct Pictures {
    inputs: Vec<Vec<Array>>,
    labels: Vec<usize>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("characters")
}

/// `count` pictures of a seed, rendered once and kept in the build's folder. `None`, after a visible line, without Python or a font.
fn pictures(count: usize, seed: usize) -> Option<Pictures> {
    let file = generated("characters").join(format!("{count}-{seed}.npz"));
    if !file.exists() {
        let words = [count.to_string(), seed.to_string(), file.to_string_lossy().into_owned()];
        let output =
            Command::new(python()?).arg(folder().join("render.py")).args(words).output().expect("Python starts");
        if output.status.code() == Some(3) {
            skipped(String::from_utf8_lossy(&output.stdout).trim());
            return None;
        }
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let arrays = read_npz(&file).expect("pictures");
    let array = |name: &str| &arrays.iter().find(|(found, _)| found == name).expect("an array").1;
    let (images, labels) = (array("images"), array("labels"));
    let input = |bytes: &[u8]| Array {
        element_type: ElementType::F32,
        extents: vec![1, 3, 64, 64],
        bytes: bytes.iter().flat_map(|&sample| (sample as f32 / 255.0).to_le_bytes()).collect(),
    };
    let inputs = images.bytes.chunks(3 * 64 * 64).map(|bytes| vec![input(bytes)]).collect();
    Some(Pictures { inputs, labels: labels.bytes.iter().map(|&label| label as usize).collect() })
}

/// What a network answers, and how often it is right.
struct Answers {
    right: Vec<bool>,
}

impl Answers {
    fn of(graph: &Graph, options: &CompileOptions, pictures: &Pictures) -> Answers {
        let answers = run::answers(graph, options, &pictures.inputs);
        let class = |outputs: &Vec<Array>| {
            let scores = outputs[0].to_f64();
            (0..scores.len()).fold(0, |best, place| if scores[place] > scores[best] { place } else { best })
        };
        Answers {
            right: answers.iter().zip(&pictures.labels).map(|(outputs, label)| class(outputs) == *label).collect(),
        }
    }

    fn accuracy(&self) -> f64 {
        self.right.iter().filter(|right| **right).count() as f64 / self.right.len() as f64
    }

    /// Half of the width of the interval that holds the accuracy in 95 of 100 cases.
    fn interval(&self) -> f64 {
        let accuracy = self.accuracy();
        1.96 * (accuracy * (1.0 - accuracy) / self.right.len() as f64).sqrt()
    }

    /// What is lost against another network on the same pictures, and half of the interval: pictures that both read, or neither, do
    /// not widen it.
    fn loss(&self, before: &Answers) -> [f64; 2] {
        let count = self.right.len() as f64;
        let pairs = || self.right.iter().zip(&before.right);
        let lost = pairs().filter(|(after, before)| !**after && **before).count() as f64 / count;
        let won = pairs().filter(|(after, before)| **after && !**before).count() as f64 / count;
        let loss = lost - won;
        [loss, 1.96 * ((lost + won - loss * loss) / count).sqrt()]
    }
}

/// The network in all its forms, and what each is right about.
struct Forms {
    float: Answers,
    integers: Answers,
    mixed: Answers,
    pruned: Answers,
    refitted: Answers,
    refitted_integers: Answers,
}

fn quantised(graph: &Graph, samples: &Samples, options: &CompileOptions, max_drop: Option<Limit>) -> (Graph, Report) {
    let mut integers = graph.clone();
    let how = QuantizeOptions { max_drop, ..QuantizeOptions::default() };
    let report = quantize(&mut integers, options, &how, samples, 2, &mut |_| {}).expect("a quantised network");
    (integers, report)
}

fn forms(count: usize) -> Option<Forms> {
    let (known, unknown) = (pictures(SAMPLES, SEEDS[0])?, pictures(count, SEEDS[1])?);
    let options = run::options(Architecture::host().expect("a host"), &[("image".into(), vec![1, 3, 64, 64])]);
    let (graph, _) = prepare(&folder().join("characters.onnx"), &options, &mut |_| {}).expect("a model");
    let samples = Samples { ports: ports(&graph), runs: known.inputs };
    let answers = |graph: &Graph| Answers::of(graph, &options, &unknown);
    let float = answers(&graph);
    let shares = [float.accuracy(), float.interval()].map(|share| share * 100.0);
    say(&format!("{:28} {:.2} % ± {:.2} ({count} pictures)", "f32", shares[0], shares[1]));
    let told = |name: &str, answers: Answers| {
        let [loss, interval] = answers.loss(&float).map(|share| share * 100.0);
        let [accuracy, around] = [answers.accuracy(), answers.interval()].map(|share| share * 100.0);
        say(&format!("{name:28} {accuracy:.2} % ± {around:.2}, loss {loss:5.2} ± {interval:.2} points"));
        answers
    };
    let (integers, report) = quantised(&graph, &samples, &options, None);
    let integers = told(&format!("int8, {} layers", report.layers.len()), answers(&integers));
    let (mixed, report) = quantised(&graph, &samples, &options, Some(Limit::Share(MAX_DROP)));
    let mixed = told(&format!("int8 but {} layers", report.float.len()), answers(&mixed));
    let calibration = Calibration { samples: &samples, options: &options, threads: 2 };
    // The network is small: widths of multiples of 8 would take more of some layers than half.
    let recipe = Recipe { multiple: 4, ..Recipe::of(0.5) };
    let mut smaller = prune(&graph, &recipe, Some(calibration), &mut |_| {}).expect("a smaller graph");
    assert!(smaller.macs[1] <= 0.5 * smaller.macs[0]);
    let pruned = told("pruned to half", answers(&smaller.graph));
    refit(&graph, &mut smaller, calibration, &mut |_| {}).expect("fitted weights");
    let refitted = told("pruned and fitted again", answers(&smaller.graph));
    let (both, _) = quantised(&smaller.graph, &samples, &options, None);
    let refitted_integers = told("pruned, fitted again, int8", answers(&both));
    Some(Forms { float, integers, mixed, pruned, refitted, refitted_integers })
}

#[test]
fn little_is_lost_on_some_pictures() {
    let Some(forms) = forms(1000) else { return };
    let loss = |answers: &Answers| answers.loss(&forms.float)[0];
    assert!(forms.float.accuracy() > 0.95);
    assert!(loss(&forms.integers) <= 0.01 && loss(&forms.mixed) <= 0.005);
    assert!(loss(&forms.refitted) <= 0.03 && loss(&forms.refitted) < loss(&forms.pruned));
    assert!(loss(&forms.refitted_integers) <= 0.04);
}

#[test]
#[ignore = "minutes"]
fn ten_thousand_pictures_keep_to_the_bars() {
    let Some(forms) = forms(10_000) else { return };
    let loss = |answers: &Answers| answers.loss(&forms.float)[0];
    assert!(forms.float.accuracy() > 0.95);
    assert!(loss(&forms.integers) <= 0.003 && loss(&forms.mixed) <= 0.001);
    assert!(loss(&forms.refitted) <= 0.015 && loss(&forms.refitted) < loss(&forms.pruned));
}
