//! Prints how near the hot loops of a network come to the peak of multiply-add units (`edgecc_tests::throughput`), compiled for
//! each core, and the loops that lose most; without a model, of the small networks of `--test throughput`:
//!
//! `cargo run -p edgecc-tests --example peak -- [--core=neoverse-n1] [MODEL.onnx INPUT.f32 1x3x224x224 [--allow-size] [--fp16]]`

use std::path::Path;

use edgecc::compile::{CompileOptions, Compiled, compile_graph};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_passes::precision::Precision;
use edgecc_tests::cycles::has_tools;
use edgecc_tests::executed::{Bench, Trace, code_address};
use edgecc_tests::networks::layers;
use edgecc_tests::throughput::{CORES, Extent, Form, Pipes, Throughput, hot_blocks};
use edgecc_tests::{numbers, run};

/// Loops that are printed.
const MOST_LOOPS: usize = 12;

fn main() {
    let (flags, words): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with("--"));
    let Some(bench) = has_tools().then(Bench::new).flatten() else { return };
    let core = flags.iter().find_map(|flag| flag.strip_prefix("--core="));
    for pipes in CORES.iter().filter(|pipes| core.is_none_or(|core| core == pipes.name)) {
        let networks = match words.as_slice() {
            [] => small(&flags, pipes),
            [model, input, shape] => vec![of_file(Path::new(model), Path::new(input), shape, &flags, pipes)],
            _ => panic!("peak [MODEL.onnx INPUT.f32 SHAPE]"),
        };
        let traces: Vec<_> = networks
            .into_iter()
            .map(|(compiled, input, shape)| {
                let trace = bench.count("cortex-a76", &compiled, &input, &shape).0;
                (compiled, trace)
            })
            .collect();
        for form in [Form::Lanes, Form::Vectors] {
            print(&traces, form, pipes);
        }
    }
}

type Network = (Compiled, Vec<u8>, Vec<usize>);

fn small(flags: &[String], pipes: &Pipes) -> Vec<Network> {
    let precision = if flags.iter().any(|flag| flag == "--fp16") { Precision::F16 } else { Precision::F32 };
    let core = pipes.class().expect("a class");
    let of_graph = |(graph, _)| {
        let options = CompileOptions { precision, core, ..run::options(Architecture::Aarch64, &[]) };
        let input = numbers::inputs(&graph).swap_remove(0);
        (
            compile_graph(graph, &options, &mut |_| {}).expect("compiles"),
            input.bytes().to_vec(),
            input.shape().extents(),
        )
    };
    layers().into_iter().filter(|(_, allow_size)| !allow_size).map(of_graph).collect()
}

fn of_file(model: &Path, input: &Path, shape: &str, flags: &[String], pipes: &Pipes) -> Network {
    let extents: Vec<usize> = shape.split('x').map(|extent| extent.parse().expect("an extent")).collect();
    let flags = [flags, &[format!("--cpu={}", pipes.class)]].concat();
    let compiled = run::compile_for_phone(model, &extents, &flags).expect("the model compiles");
    (compiled, std::fs::read(input).expect("the input"), extents)
}

fn print(networks: &[(Compiled, Trace)], form: Form, pipes: &Pipes) {
    let (mut all, mut whole, mut loops) = (Throughput::default(), Throughput::default(), Vec::new());
    for (compiled, trace) in networks {
        let emitted = &compiled.best.emitted;
        let base = code_address(trace, &emitted.code, &emitted.kernels).expect("the code in the process");
        let code: Trace = trace.range(base..base + emitted.code.len() as u64).map(|(&at, &ran)| (at, ran)).collect();
        whole.add(Throughput::of(&code, (form, Extent::Whole), pipes));
        for (address, block) in hot_blocks(&code, (form, Extent::Products), pipes) {
            all.add(block);
            let offset = (address - base) as usize;
            let kernel =
                emitted.kernels.iter().find(|kernel| (kernel.offset..kernel.offset + kernel.length).contains(&offset));
            let ran = code.get(&address).map_or(0, |ran| ran.executions);
            loops.push((kernel.map_or("", |kernel| &kernel.name), ran, block));
        }
    }
    let [share, with_epilogues] = [all, whole].map(|sum| 100.0 * sum.share(pipes));
    println!("{form:?} on {}: {share:.1} % of the peak, {with_epilogues:.1} % with epilogues", pipes.name);
    loops.sort_by(|(.., a), (.., b)| b.lost(pipes).total_cmp(&a.lost(pipes)));
    for (kernel, ran, block) in loops.into_iter().take(MOST_LOOPS) {
        println!(
            "  {kernel:<20} {ran:>8} times {:>4} multiply-adds, {:>5.1} % of the peak, {:>4.1} % of all multiply-adds, {:>4.2} % of all cycles lost",
            block.products / ran as f64,
            100.0 * block.share(pipes),
            100.0 * block.products / all.products,
            100.0 * block.lost(pipes) / all.cycles
        );
    }
}
