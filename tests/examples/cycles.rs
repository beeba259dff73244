//! Prints modelled cycles of one inference (`edgecc_tests::cycles`), of what the counting plugin wrote with a core's caches
//! (`tests/c/executed.c`), whoever's code ran, beside the milliseconds that it is known to take:
//!
//! `cargo run --release -p edgecc-tests --example cycles -- COUNTS cortex-a76 [MILLISECONDS]`
//!
//! or of a model, on every core:
//!
//! `cargo run --release -p edgecc-tests --example cycles -- MODEL.onnx INPUT.f32 1x3x224x224 [--allow-size] [--fp16] [--cpu=x1] [--on=cortex-a55] [--ahead=0]`
//!
//! `--on` names one core; `--ahead` is how many lines its prefetcher runs ahead.

use std::path::Path;

use edgecc_tests::cycles::{CORES, Core, cost, has_tools, model};
use edgecc_tests::executed::{Bench, Trace, parse};
use edgecc_tests::run;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if !has_tools() {
        return;
    }
    if let [counts, core, measured @ ..] = arguments.as_slice()
        && let Some(core) = Core::named(core)
    {
        let trace = parse(&std::fs::read_to_string(counts).expect("counts"));
        print(&trace, core, measured.first().map(|measured| measured.parse().expect("milliseconds")));
    } else if let [network, input, shape, flags @ ..] = arguments.as_slice() {
        print_network(Path::new(network), Path::new(input), shape, flags);
    } else {
        eprintln!(
            "usage: cycles COUNTS CORE [MILLISECONDS], or cycles MODEL.onnx INPUT.f32 SHAPE [--allow-size] [--fp16] [--cpu=x1] [--on=cortex-a55] [--ahead=0]"
        );
        std::process::exit(2);
    }
}

fn print_network(network: &Path, input: &Path, shape: &str, flags: &[String]) {
    let Some(bench) = Bench::new() else { return };
    let extents: Vec<usize> = shape.split('x').map(|extent| extent.parse().expect("an extent")).collect();
    let compiled = run::compile_for_phone(network, &extents, flags).expect("the model compiles");
    let input = std::fs::read(input).expect("the input");
    let given = |flag: &str| flags.iter().find_map(|other| other.strip_prefix(flag));
    let ahead = given("--ahead=").map(|lines| lines.parse().expect("lines"));
    for core in CORES.iter().filter(|core| given("--on=").is_none_or(|name| name == core.name)) {
        let core = Core { ahead: ahead.unwrap_or(core.ahead), ..*core };
        let (trace, _) = bench.simulate(&core.plugin(&bench.plugin), core.emulated, &compiled, &input, &extents);
        print(&trace, &core, None);
    }
}

fn print(trace: &Trace, core: &Core, measured: Option<f64>) {
    let cost = cost(&model(trace, core), 0..u64::MAX);
    let milliseconds = cost.cycles(core) / core.megahertz as f64 / 1e3;
    let against = measured.map(|measured| format!(", {:+.0} %", (milliseconds / measured - 1.0) * 100.0));
    let millions = [cost.instructions as f64, cost.blocks, cost.waits(core), cost.transfers(core), cost.cycles(core)]
        .map(|count| count / 1e6);
    let [instructions, blocks, waits, transfers, all] = millions;
    println!(
        "{:<10} {instructions:.1} M instructions; M cycles: {blocks:.1} blocks + {waits:.1} waits + {transfers:.1} \
         transfers = {all:.1}; {milliseconds:.2} ms at {} MHz{}",
        core.name,
        core.megahertz,
        against.unwrap_or_default()
    );
}
