//! How the steps of real networks are shared out among threads.

use std::path::PathBuf;

use edgecc_backends::cpu::isa::Architecture;
use edgecc_format::step::Action;
use edgecc_format::{Envelope, decode_manifest};
use edgecc_runtime::sharing::{Claims, Load, Partition, Sharing};
use edgecc_tests::report::say;
use edgecc_tests::{by_thread, cross, light, python, run};

/// Relative speeds of a phone's cores: one prime core, three big and four little ones.
const PHONE: [f32; 8] = [1.0, 0.75, 0.75, 0.75, 0.35, 0.35, 0.35, 0.35];

/// What workers of these speeds make of steps.
struct Simulated {
    /// Time until the last step is done.
    time: f64,
    /// Time that each worker computes.
    busy: Vec<f64>,
}

/// Runs steps one after the other: whoever is free first takes the next piece, as the pool's workers do. A piece takes
/// its part of the step's work, divided by the worker's speed; handing over takes no time.
fn simulate(loads: &[Load], assumed: &[f32], speeds: &[f32], sharing: Sharing) -> Simulated {
    let claims = Claims::new(assumed, sharing);
    let mut simulated = Simulated { time: 0.0, busy: vec![0.0; speeds.len()] };
    for load in loads {
        let partition = Partition::new(*load, assumed, sharing);
        claims.offer(&partition);
        let mut clocks = vec![0.0; speeds.len()];
        let mut idle = vec![false; speeds.len()];
        while let Some(worker) = first_free(&clocks, &idle) {
            match claims.take(worker) {
                None => idle[worker] = true,
                Some(piece) => {
                    let indices = partition.piece(piece).len() as f64;
                    clocks[worker] += load.work as f64 * indices / f64::from(load.range) / f64::from(speeds[worker]);
                }
            }
        }
        simulated.time += clocks.iter().copied().fold(0.0, f64::max);
        simulated.busy.iter_mut().zip(&clocks).for_each(|(busy, clock)| *busy += clock);
    }
    simulated
}

fn first_free(clocks: &[f64], idle: &[bool]) -> Option<usize> {
    (0..clocks.len()).filter(|&worker| !idle[worker]).min_by(|&a, &b| clocks[a].total_cmp(&clocks[b]))
}

impl Simulated {
    /// The part of the time that the workers compute, all alike.
    fn busy(&self) -> f64 {
        self.busy.iter().sum::<f64>() / self.time / self.busy.len() as f64
    }

    /// The work done as a part of what cores of these speeds could do in the time.
    fn efficiency(&self, speeds: &[f32]) -> f64 {
        let done: f64 = self.busy.iter().zip(speeds).map(|(busy, &speed)| busy * f64::from(speed)).sum();
        done / self.time / speeds.iter().copied().map(f64::from).sum::<f64>()
    }
}

fn mobilenet() -> Option<PathBuf> {
    let interpreter = python::python()?;
    let model = python::generated("mobilenet").join("opset17.onnx");
    if !model.exists() {
        python::tool(&interpreter, "make_mobilenet.py", &[&python::generated("mobilenet").to_string_lossy()]);
    }
    Some(model)
}

fn resnet() -> Option<PathBuf> {
    let interpreter = python::python()?;
    let model = python::generated("cost").join("resnet50.onnx");
    if !model.exists() {
        python::tool(&interpreter, "make_resnet.py", &[&model.to_string_lossy()]);
    }
    Some(model)
}

/// What the steps of an artifact's first program cost.
fn loads(artifact: &[u8]) -> Vec<Load> {
    let envelope = Envelope::read(artifact).expect("an artifact");
    let [code, weights] = [envelope.code(), envelope.weights()].map(|range| range.len() as u64);
    let manifest = decode_manifest(&artifact[envelope.manifest()], code, weights).expect("a manifest");
    let calls = manifest.programs[0].steps.iter().filter_map(|step| step.action.as_ref());
    calls.map(|Action::Call(call)| Load::of(call)).collect()
}

#[test]
fn unequal_cores_stay_busy() {
    for model in [mobilenet(), resnet()] {
        let Some(model) = model else { return };
        let compiled = run::compile_for(&model, Architecture::Aarch64, &[]).expect("compiles");
        let loads = loads(&compiled.to_bytes().expect("an artifact"));
        let known = simulate(&loads, &PHONE, &PHONE, Sharing::Stealing);
        let unknown = [Sharing::Stealing, Sharing::Fixed].map(|sharing| simulate(&loads, &[1.0; 8], &PHONE, sharing));
        say(&format!(
            "{}: 1+3+4 cores of speeds 1, 0.75 and 0.35 are {:.1} % busy (of time alone {:.1} %); if their speeds were \
             unknown {:.1} %, and without stealing {:.1} %",
            model.file_stem().unwrap_or_default().to_string_lossy(),
            known.efficiency(&PHONE) * 100.0,
            known.busy() * 100.0,
            unknown[0].efficiency(&PHONE) * 100.0,
            unknown[1].efficiency(&PHONE) * 100.0
        ));
        assert!(known.efficiency(&PHONE) >= 0.9);
        assert!(unknown[0].efficiency(&PHONE) > unknown[1].efficiency(&PHONE));
    }
}

/// Instructions of the runtime are left out: threads wait there for as long as the machine below the emulator likes.
#[test]
fn four_threads_execute_nearly_equal_shares() {
    let (Some(model), Some(line), Some(plugin)) = (mobilenet(), cross::line_program(), by_thread::plugin()) else {
        return;
    };
    let compiled = run::compile_for(&model, Architecture::Aarch64, &[]).expect("compiles");
    let folder = python::generated("threads");
    let [artifact, input, output] = ["model.bin", "input.f32", "output.f32"].map(|name| folder.join(name));
    std::fs::write(&artifact, compiled.to_bytes().expect("an artifact")).expect("the artifact is written");
    std::fs::write(&input, light::image().bytes).expect("the input is written");
    let code = (compiled.best.emitted.code.as_slice(), compiled.best.emitted.kernels.as_slice());
    let run = |threads| {
        let files = [artifact.as_path(), &input, &output];
        let shares = by_thread::shares([&plugin, &line], files, "1x3x224x224", threads, code).expect("the kernels ran");
        (shares, std::fs::read(&output).expect("an output"))
    };
    let ((alone, expected), (shares, actual)) = (run(1), run(4));
    assert!(actual == expected, "results depend on the number of threads");
    let total: u64 = shares.iter().map(|share| share.kernels).sum();
    let part = |share: &by_thread::OfThread| share.kernels as f64 / total as f64;
    let longest = shares.iter().map(part).fold(0.0, f64::max);
    let parts: Vec<String> = shares.iter().map(|share| format!("{:.4}", part(share))).collect();
    let outside: Vec<String> = shares.iter().map(|share| format!("{:.1}", share.outside as f64 / 1e6)).collect();
    say(&format!(
        "MobileNetV2 on 4 emulated threads: kernels' instructions {:.1} M ({:.1} M alone), by thread {}; outside of kernels, \
         waiting included, {} M",
        total as f64 / 1e6,
        alone[0].kernels as f64 / 1e6,
        parts.join(" "),
        outside.join(" ")
    ));
    assert!(longest <= 0.32, "{longest}");
}
