//! Executed aarch64 instructions of one inference, counted by a plugin of the emulator; they do not vary. Prints a table
//! beside what others execute, and holds every kernel of some small networks to a snapshot.

use std::path::Path;

use edgecc::compile::{CompileOptions, Compiled, compile_graph};
use edgecc_backends::cpu::isa::{Architecture, Kernels};
use edgecc_backends::schedule::cores::CoreClass;
use edgecc_ir::Graph;
use edgecc_passes as passes;
use edgecc_passes::precision::Precision;
use edgecc_tests::block_weights::{Behind, Product};
use edgecc_tests::executed::{Bench, Class, by_kernel, total};
use edgecc_tests::measured::{Bar, DOT_PRODUCTS, Files, INTEGERS, MATRICES, NETWORKS, Network, OfIntegers, PLAIN};
use edgecc_tests::networks::layers;
use edgecc_tests::report::say;
use edgecc_tests::{numbers, reference, run};

/// What Cranelift alone may take of what our encoders do.
const MOST_CLIF: f64 = 1.3;

/// Millions of instructions of the second of two runs, and the output.
fn count(bench: &Bench, compiled: &Compiled, input: &[u8], shape: &[usize]) -> (f64, Vec<u8>) {
    let (trace, output) = bench.count("cortex-a76", compiled, input, shape);
    (total(&trace).total() as f64 / 1e6, output)
}

#[test]
fn networks_execute_few_instructions() {
    hold_to_bars(Precision::F32, |bench, network, files, millions| {
        // The residual networks take long in the emulator.
        if millions < 200.0 {
            let clif = network.compile(files, Precision::F32, Kernels::Clif);
            let clif = count(bench, &clif, &files.input, network.shape).0;
            let ratio = clif / millions;
            say(&format!("{:<20} {clif:>9.1} by Cranelift alone, {ratio:.2} of ours", ""));
            assert!(ratio <= MOST_CLIF, "{}: Cranelift alone takes {ratio}", network.name);
        }
    });
}

#[test]
fn networks_of_halves_execute_few_instructions() {
    hold_to_bars(Precision::F16, |_, _, _, _| {});
}

#[test]
fn networks_of_integers_execute_few_instructions() {
    let Some(peers) = reference::shared("peers") else { return };
    let Some(bench) = Bench::new() else { return };
    say(&format!(
        "{:<20} {:<10} {:>9} {:>9} {:>6} {:>10} {:>9}",
        "of integers", "core", "edgecc M", "peer M", "ratio", "cosine", "weights"
    ));
    for integers in &INTEGERS {
        let OfIntegers { name, core, emulated, bar: Bar { best_peer, most, cosine: least } } = integers;
        let network = integers.network().expect("a network");
        if !network.is_usual() {
            continue;
        }
        let Some(files) = network.files(&peers) else { continue };
        let compiled = integers.compile(network, &files);
        let (trace, output) = bench.count(emulated, &compiled, &files.input, network.shape);
        let millions = total(&trace).total() as f64 / 1e6;
        let (cosine, growth) = (files.cosine(&output), files.growth(&compiled));
        let ratio = millions / best_peer;
        say(&format!(
            "{name:<20} {core:<10} {millions:>9.1} {best_peer:>9.1} {ratio:>6.2} {cosine:>10.6} {growth:>8.2}x"
        ));
        assert!(cosine >= *least, "{name}: {cosine}");
        assert!(millions <= *most, "{name}: {millions} M instead of {most}");
    }
}

/// What small models of integers may take of those in f32 on processors without sums of products: layers of one or three channels
/// fill half of a block.
const MOST_PLAIN: f64 = 1.25;

/// Models that came quantised, beside the same ones in f32.
const TWINS: [[&str; 2]; 2] =
    [["mlperftiny_kws_dscnn_int8", "mlperftiny_kws_dscnn_fp32"], ["mlperftiny_vww96_int8", "mlperftiny_vww96_fp32"]];

#[test]
fn models_that_come_quantised_execute_few_instructions_beside_f32() {
    let Some(folder) = reference::shared("models") else { return };
    let Some(bench) = Bench::new() else { return };
    for [core, emulated] in [PLAIN, DOT_PRODUCTS, MATRICES] {
        for twins in TWINS {
            let [integers, singles] = twins.map(|name| {
                let inputs = reference::read(&folder.join(format!("io/{name}.npz"))).inputs;
                let core = CoreClass::named(core).expect("a processor");
                let adjust = |options| CompileOptions { core, ..options };
                let model = folder.join(format!("models/{name}.onnx"));
                let compiled = run::compile_with(&model, Architecture::Aarch64, &inputs, adjust).expect("compiles");
                let input = &inputs[0];
                let trace = bench.count(emulated, &compiled, &input.bytes, &input.extents).0;
                total(&trace).total() as f64 / 1e6
            });
            say(&format!("{:<28} {emulated:<10} {integers:>8.2} M, {singles:>8.2} M in f32", twins[0]));
            let most = if [core, emulated] == PLAIN { MOST_PLAIN } else { 1.0 };
            assert!(integers < most * singles, "{}: {integers} M, {singles} M in f32", twins[0]);
        }
    }
}

/// Counts every network, and holds the figures to its bar; `further` gets the millions of instructions too.
fn hold_to_bars(precision: Precision, further: impl Fn(&Bench, &Network, &Files, f64)) {
    let Some(peers) = reference::shared("peers") else { return };
    let Some(bench) = Bench::new() else { return };
    let (head, most_growth) = match precision {
        Precision::F32 => ("network", 1.05),
        Precision::F16 => ("of halves", 0.65),
    };
    say(&format!("{head:<20} {:>9} {:>9} {:>6} {:>10} {:>9}", "edgecc M", "peer M", "ratio", "cosine", "weights"));
    for network in NETWORKS.iter().filter(|network| network.is_usual()) {
        let (name, Bar { best_peer, most, cosine: least }) = (network.name, network.bar(precision));
        let Some(files) = network.files(&peers) else { continue };
        let compiled = network.compile(&files, precision, Kernels::Encoded);
        let (millions, output) = count(&bench, &compiled, &files.input, network.shape);
        let (cosine, growth) = (files.cosine(&output), files.growth(&compiled));
        let ratio = millions / best_peer;
        say(&format!("{name:<20} {millions:>9.1} {best_peer:>9.1} {ratio:>6.2} {cosine:>10.6} {growth:>8.2}x"));
        assert!(cosine >= *least, "{name}: {cosine}");
        assert!(millions <= *most, "{name}: {millions} M instead of {most}");
        assert!(network.allow_size || growth <= most_growth, "{name}: the artifact is {growth} of the model");
        further(&bench, network, &files, millions);
    }
}

#[test]
fn kernels_execute_as_many_instructions_as_the_snapshot_shows() {
    hold_to_snapshot("kernels", Precision::F32);
}

#[test]
fn kernels_of_halves_execute_as_many_instructions_as_the_snapshot_shows() {
    hold_to_snapshot("halves", Precision::F16);
}

#[test]
fn kernels_of_integers_execute_as_many_instructions_as_the_snapshot_shows() {
    let Some(bench) = Bench::new() else { return };
    let mut text = String::new();
    for (core, emulated) in [PLAIN, DOT_PRODUCTS, MATRICES].map(|[core, emulated]| (core, emulated)) {
        text.push_str(&format!("for {core} on {emulated}\n"));
        for (mut graph, _) in layers().into_iter().filter(|(_, allow_size)| !allow_size) {
            let core = CoreClass::named(core).expect("a processor");
            let options = CompileOptions { core, ..run::options(Architecture::Aarch64, &[]) };
            passes::prepare(&mut graph, &passes::Options::default(), &mut |_, _| {}).expect("sound passes");
            run::quantized(&mut graph, &options).expect("a quantised network");
            text.push_str(&kernels_of(&bench, emulated, &graph, &options, ""));
        }
    }
    hold_text_to_snapshot("integers", text);
}

/// Products of one row and of 64 with weights as numbers and in blocks of 32: of 8 bits a row takes no more than of numbers.
#[test]
fn products_with_weights_in_blocks_execute_as_many_instructions_as_the_snapshot_shows() {
    let Some(bench) = Bench::new() else { return };
    let mut text = String::new();
    for [core, emulated] in [PLAIN, DOT_PRODUCTS] {
        for rows in [1, 64] {
            let mut of_numbers = 0;
            for (name, integers) in [("numbers", None), ("8 bits", Some((8, 32))), ("4 bits", Some((4, 32)))] {
                let graph =
                    Product { rows, depth: 1024, channels: 1024, integers, has_zeros: false, behind: Behind::Nothing }
                        .graph();
                let core = CoreClass::named(core).expect("a processor");
                let options = CompileOptions { core, ..run::options(Architecture::Aarch64, &[]) };
                let compiled = compile_graph(graph.clone(), &options, &mut |_| {}).expect("compiles");
                let bytes = compiled.to_bytes().expect("an artifact").len();
                let remark = format!(" of {rows} x 1024 x 1024 with {name} for {emulated}, {bytes} bytes");
                text.push_str(&kernels_of(&bench, emulated, &graph, &options, &remark));
                let inputs = numbers::inputs(&graph);
                let trace = bench.count(emulated, &compiled, &inputs[0].bytes(), &inputs[0].shape().extents()).0;
                let instructions = total(&trace).total();
                match integers {
                    None => of_numbers = instructions,
                    Some((8, _)) if rows == 1 && emulated != PLAIN[1] => {
                        assert!(instructions <= of_numbers, "{instructions} instead of {of_numbers}");
                    }
                    Some(_) => {}
                }
            }
        }
    }
    hold_text_to_snapshot("weights", text);
}

fn hold_to_snapshot(name: &str, precision: Precision) {
    let Some(bench) = Bench::new() else { return };
    let mut text = String::new();
    for (graph, allow_size) in layers() {
        let options = CompileOptions { allow_size, precision, ..run::options(Architecture::Aarch64, &[]) };
        let remark = if allow_size { ", weights may grow" } else { "" };
        text.push_str(&kernels_of(&bench, "cortex-a76", &graph, &options, remark));
    }
    hold_text_to_snapshot(name, text);
}

/// A line for each kernel of a network.
fn kernels_of(bench: &Bench, processor: &str, graph: &Graph, options: &CompileOptions, remark: &str) -> String {
    let inputs = numbers::inputs(graph);
    let compiled = compile_graph(graph.clone(), options, &mut |_| {}).expect("compiles");
    let shape = inputs[0].shape().extents();
    let trace = bench.count(processor, &compiled, &inputs[0].bytes(), &shape).0;
    let kernels = &compiled.best.emitted.kernels;
    let counts = by_kernel(&trace, &compiled.best.emitted.code, kernels).expect("the code in the process");
    let mut text = format!("{}{remark}\n", graph.name());
    for (kernel, counts) in kernels.iter().zip(&counts) {
        let (name, all, products) = (&kernel.name, counts.total(), counts.of(Class::MultiplyAdd));
        let writer = if kernel.encoded { "encoded" } else { "clif" };
        text.push_str(&format!("  {name:<16} {writer:<8} {all:>9} instructions, {products:>9} multiply-adds\n"));
    }
    text
}

fn hold_text_to_snapshot(name: &str, text: String) {
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_snapshot_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions"));
    settings.bind(|| insta::assert_snapshot!(name, text));
}
