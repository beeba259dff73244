//! Prints the executed aarch64 instructions of one inference, by class and kernel, beside what the cost model has, and how near the
//! output is to that of a file:
//!
//! `cargo run --release -p edgecc-tests --example executed -- MODEL.onnx INPUT.f32 1x3x224x224 [--allow-size] [--clif] [--fp16] [--int8] [--prune=0.5] [--on=max] [--expect=OUTPUT.f32]`

use std::path::Path;

use edgecc::compile::Compiled;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::estimate::costs;
use edgecc_backends::program::Step;
use edgecc_backends::schedule::Machine;
use edgecc_tests::executed::{Bench, Class, Counts, by_kernel, total};
use edgecc_tests::measured::Files;
use edgecc_tests::run;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, input, shape, flags @ ..] = arguments.as_slice() else {
        eprintln!(
            "usage: executed MODEL.onnx INPUT.f32 SHAPE [--allow-size] [--clif] [--fp16] [--int8] [--prune=0.5] [--on=max] [--expect=OUTPUT.f32]"
        );
        std::process::exit(2);
    };
    let Some(bench) = Bench::new() else { return };
    let extents: Vec<usize> = shape.split('x').map(|extent| extent.parse().expect("an extent")).collect();
    let compiled = run::compile_for_phone(Path::new(model), &extents, flags).expect("the model compiles");
    let input = std::fs::read(input).expect("the input");
    let processor = flags.iter().find_map(|flag| flag.strip_prefix("--on=")).unwrap_or("cortex-a76");
    let (trace, output) = bench.count(processor, &compiled, &input, &extents);

    let modelled = modelled(&compiled);
    let kernels = &compiled.best.emitted.kernels;
    let counts = by_kernel(&trace, &compiled.best.emitted.code, kernels).expect("the code in the process");
    print!("{:<34} {:>5} {:>9} {:>9} {:>9} {:>6}", "kernel", "calls", "macs/4 k", "model k", "total k", "ratio");
    Class::ALL.iter().for_each(|class| print!(" {:>8}", class.name()));
    println!();
    for (number, (kernel, counts)) in kernels.iter().zip(&counts).enumerate() {
        let steps = compiled.best.program.steps.iter().zip(&modelled).filter(|(step, _)| step.kernel == number);
        let add = |(calls, macs, modelled), (step, cost): (&Step, &f64)| (calls + 1, macs + step.macs, modelled + cost);
        let (calls, macs, modelled) = steps.fold((0, 0, 0.0), add);
        let writer = if kernel.encoded { "" } else { " clif" };
        row(&format!("{}{writer}", kernel.name), calls, macs, modelled, counts);
    }
    let macs = compiled.best.program.steps.iter().map(|step| step.macs).sum();
    row("all", compiled.best.program.steps.len(), macs, modelled.iter().sum(), &total(&trace));
    if let Some(path) = flags.iter().find_map(|flag| flag.strip_prefix("--expect=")) {
        let files = Files { model: model.into(), input, output: std::fs::read(path).expect("the expected output") };
        println!("cosine {:.6}", files.cosine(&output));
    }
}

/// Instructions that the cost model has for each step.
fn modelled(compiled: &Compiled) -> Vec<f64> {
    let machine = Machine { integers: compiled.best.kind.integers, ..Machine::new(Architecture::Aarch64) };
    costs(&compiled.best.program, &machine).iter().map(|cost| cost.instructions).collect()
}

fn row(name: &str, calls: usize, macs: u64, modelled: f64, counts: &Counts) {
    let thousands = |count: u64| count as f64 / 1e3;
    let (floor, total) = (macs as f64 / 4e3, thousands(counts.total()));
    let ratio = if macs > 0 { format!("{:.3}", total / floor) } else { String::new() };
    print!("{name:<34} {calls:>5} {floor:>9.1} {:>9.1} {total:>9.1} {ratio:>6}", modelled / 1e3);
    counts.0.iter().for_each(|&count| print!(" {:>8.1}", thousands(count)));
    println!();
}
