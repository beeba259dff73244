//! Prints, for each network that is counted ([`NETWORKS`]) or for those named, in each precision: executed instructions beside
//! those of the best of others, modelled cycles and milliseconds, the cosine to onnxruntime's output in f32, and the bytes of
//! the artifact over those of the model. All networks take half an hour.
//!
//! `cargo run --release -p edgecc-tests --example table -- [NETWORK...]`

use edgecc_backends::cpu::isa::Kernels;
use edgecc_passes::precision::Precision;
use edgecc_tests::cycles::{Core, cost, has_tools, model};
use edgecc_tests::executed::{Bench, total};
use edgecc_tests::measured::{NETWORKS, Network};
use edgecc_tests::reference;

const CORE: &str = "cortex-a76";

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let Some(peers) = reference::shared("peers").filter(|_| has_tools()) else { return };
    let Some(bench) = Bench::new() else { return };
    let (core, is_named) = (Core::named(CORE).expect("a core"), |network: &&Network| {
        names.is_empty() || names.iter().any(|name| name == network.name)
    });
    println!("| network | precision | M instructions | bar | best of others | ratio | M cycles | ms | cosine | size |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for network in NETWORKS.iter().filter(is_named) {
        let Some(files) = network.files(&peers) else { continue };
        for precision in [Precision::F32, Precision::F16] {
            let compiled = network.compile(&files, precision, Kernels::Encoded);
            let plugin = core.plugin(&bench.plugin);
            let (trace, output) = bench.simulate(&plugin, core.emulated, &compiled, &files.input, network.shape);
            let (bar, millions) = (network.bar(precision), total(&trace).total() as f64 / 1e6);
            let cycles = cost(&model(&trace, core), 0..u64::MAX).cycles(core);
            println!(
                "| {} | {precision:?} | {millions:.1} | {:.1} | {:.1} | {:.2} | {:.1} | {:.1} | {:.6} | {:.2} |",
                network.name,
                bar.most,
                bar.best_peer,
                millions / bar.best_peer,
                cycles / 1e6,
                cycles / core.megahertz as f64 / 1e3,
                files.cosine(&output),
                files.growth(&compiled)
            );
        }
    }
}
