//! Modelled cycles of every kernel of some small networks, held to snapshots.

use std::path::Path;

use edgecc::compile::{CompileOptions, Compiled, compile_graph};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_passes::precision::Precision;
use edgecc_tests::cycles::{Core, Cost, cost, has_tools, model};
use edgecc_tests::executed::{Bench, Trace, code_address};
use edgecc_tests::networks::layers;
use edgecc_tests::{numbers, run};

#[test]
fn kernels_take_as_many_cycles_on_cortex_a72_as_the_snapshot_shows() {
    hold_to_snapshot("cortex-a72", Precision::F32);
}

#[test]
fn kernels_take_as_many_cycles_on_cortex_a76_as_the_snapshot_shows() {
    hold_to_snapshot("cortex-a76", Precision::F32);
}

#[test]
fn kernels_of_halves_take_as_many_cycles_as_the_snapshot_shows() {
    hold_to_snapshot("cortex-a76", Precision::F16);
}

fn hold_to_snapshot(core: &str, precision: Precision) {
    let Some(bench) = has_tools().then(Bench::new).flatten() else { return };
    let core = Core::named(core).expect("a core");
    let mut text = String::new();
    for (graph, allow_size) in layers() {
        let options = CompileOptions { allow_size, precision, ..run::options(Architecture::Aarch64, &[]) };
        let input = &numbers::inputs(&graph)[0];
        let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
        let plugin = core.plugin(&bench.plugin);
        let (trace, _) = bench.simulate(&plugin, core.emulated, &compiled, &input.bytes(), &input.shape().extents());
        text.push_str(&format!("{}{}\n", graph.name(), if allow_size { ", weights may grow" } else { "" }));
        for (kernel, cost) in compiled.best.emitted.kernels.iter().zip(costs(&trace, &compiled, core)) {
            text.push_str(&line(&kernel.name, &cost, core));
        }
    }
    let name = format!("{}-{}", core.name, if precision == Precision::F16 { "halves" } else { "f32" });
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cycles");
    let snapshot = std::fs::read_to_string(folder.join(format!("{name}.snap"))).unwrap_or_default();
    if agree(snapshot.rsplit("---\n").next().unwrap_or_default(), &text, core) {
        return;
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(folder);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// The part by which all cycles may differ, and the loads from memory: what the caches miss depends a little on where the
/// system puts memory. Cycles with all data near do not.
const TOLERANCE: f64 = 0.02;
const TOLERATED_LOADS: u64 = 3;

fn agree(snapshot: &str, text: &str, core: &Core) -> bool {
    let tolerated = (TOLERATED_LOADS * (core.memory_latency + core.transfer)) as f64;
    let near = |(a, b): (&str, &str)| match (figures(a), figures(b)) {
        (Some((kernel, cycles, near)), Some((other, more, nearby))) => {
            (kernel, near) == (other, nearby) && (cycles - more).abs() <= TOLERANCE * cycles + tolerated
        }
        _ => a == b,
    };
    snapshot.lines().count() == text.lines().count() && snapshot.lines().zip(text.lines()).all(near)
}

/// Kernel, cycles, and cycles with all data near, of a line of the snapshot.
fn figures(line: &str) -> Option<(&str, f64, &str)> {
    let (left, right) = line.split_once(" cycles,")?;
    let (kernel, cycles) = left.trim().rsplit_once(' ')?;
    Some((kernel.trim(), cycles.parse().ok()?, right.split_once(" with")?.0.trim()))
}

/// The cost of each kernel; what runs outside of kernels plays no part.
fn costs(trace: &Trace, compiled: &Compiled, core: &Core) -> Vec<Cost> {
    let emitted = &compiled.best.emitted;
    let base = code_address(trace, &emitted.code, &emitted.kernels).expect("the code in the process");
    let of_kernels: Trace = trace.range(base..base + emitted.code.len() as u64).map(|(&at, &ran)| (at, ran)).collect();
    let blocks = model(&of_kernels, core);
    let costs = emitted.kernels.iter().map(|kernel| {
        let begin = base + kernel.offset as u64;
        cost(&blocks, begin..begin + kernel.length as u64)
    });
    costs.collect()
}

fn line(name: &str, cost: &Cost, core: &Core) -> String {
    let (all, blocks, misses) = (cost.cycles(core), cost.blocks, cost.misses);
    format!(
        "  {name:<16} {all:>9.0} cycles, {blocks:>9.0} with all data near; waits for L2 {:>5}, for memory {:>4}; lines {:>5}\n",
        misses.to_l2, misses.to_memory, misses.transfers
    )
}
