//! Every shader is proved to stay within its operands before it is written, and does.

use edgecc::compile::CompileOptions;
use edgecc::shaders::CompiledShaders;
use edgecc_backends::schedule::gpu::{CLASSES, GENERIC, GpuClass};
use edgecc_ir::Graph;
use edgecc_passes::precision::Precision;
use edgecc_tests::graphs::cases;
use edgecc_tests::kernels::random_kernel;
use edgecc_tests::models::{MODELS, QUANTIZED, Row};
use edgecc_tests::networks::layers;
use edgecc_tests::report::say;
use edgecc_tests::winograd::CASES;
use edgecc_tests::{canaries, gpu, numbers, reference};

/// Kernels that are drawn.
const KERNELS: u64 = 200;
/// Those of them that run, and of the graphs of passes every so many: drivers take their time over each shader.
const RUN: u64 = 20;
const EVERY: usize = 6;

/// The shaders of a compile that are not proved, with the reason.
fn unproved(name: &str, compiled: &CompiledShaders) -> Vec<String> {
    let of_module =
        |module: &edgecc_backends::gpu::Module| Some(format!("{name}, {}: {}", module.name, module.unproved.as_ref()?));
    compiled.shaders.modules.iter().filter_map(of_module).collect()
}

#[test]
fn shaders_of_graphs_stay_within_their_operands() {
    let named = |graph: Graph| (graph.name().to_string(), graph);
    let graphs = cases().into_iter().chain(layers().into_iter().map(|(graph, _)| named(graph)));
    let graphs = graphs.chain((0..KERNELS).map(|seed| (format!("kernel {seed}"), random_kernel(seed))));
    let (mut found, mut shaders) = (Vec::new(), 0);
    for (name, graph) in graphs {
        for precision in [Precision::F32, Precision::F16] {
            // What shaders cannot compute is refused.
            let Ok(compiled) = gpu::compiled_in(&graph, precision) else { continue };
            shaders += compiled.shaders.modules.len();
            found.extend(unproved(&name, &compiled));
        }
    }
    say(&format!("{shaders} shaders of graphs, {} not proved", found.len()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// By all kinds of GPUs, and by Winograd's algorithm.
#[test]
fn shaders_of_all_tiles_stay_within_their_operands() {
    let mut found = Vec::new();
    for class in &CLASSES {
        let graphs = layers().into_iter().map(|(graph, _)| graph).chain(CASES.iter().map(|case| case.graph()));
        for (graph, allow_size) in graphs.flat_map(|graph| [(graph.clone(), false), (graph, true)]) {
            let options = |usual| CompileOptions { gpu: class, allow_size, ..usual };
            let compiled = gpu::compiled_with(&graph, options).expect("compiles");
            found.extend(unproved(&format!("{} on {}", graph.name(), class.name), &compiled));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Beside machine code too, whose panels may be wider than tiles.
#[test]
fn shaders_of_models_stay_within_their_operands() {
    let Some(folder) = reference::shared("models") else { return };
    let (mut found, mut shaders) = (Vec::new(), 0);
    let mut look = |row: &Row, compiled: Result<CompiledShaders, String>| {
        let compiled = compiled.expect("compiles");
        shaders += compiled.shaders.modules.len();
        found.extend(unproved(row.name, &compiled));
    };
    for row in MODELS.iter().chain(QUANTIZED.iter().filter(|row| row.name.starts_with("mlperftiny"))) {
        let inputs = reference::read(&row.reference(&folder)).inputs;
        look(row, gpu::compile_for(&row.model(&folder), &inputs));
        look(row, gpu::compile_in_halves(&row.model(&folder), &inputs));
    }
    say(&format!("{shaders} shaders of models, {} not proved", found.len()));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Shaders of all families over odd shapes, each storage in a place of its own with a pattern around it: without checks they give
/// the bytes that they give with them, and the pattern stays.
#[test]
fn shaders_without_checks_leave_what_is_beside_their_operands() {
    let Some(device) = gpu::device() else { return };
    let software = GpuClass::named("software").expect("a row");
    let (single, both): (&[Precision], &[Precision]) = (&[Precision::F32], &[Precision::F32, Precision::F16]);
    let graphs = cases().into_iter().step_by(EVERY).map(|(_, graph)| (graph, &GENERIC, single));
    let graphs = graphs.chain((0..RUN).map(|seed| (random_kernel(seed), &GENERIC, single)));
    let graphs = graphs.chain(layers().into_iter().map(|(graph, _)| (graph, &GENERIC, both)));
    let graphs = graphs.chain(layers().into_iter().map(|(graph, _)| (graph, software, single)));
    let graphs = graphs.chain(CASES.iter().step_by(2).map(|case| (case.graph(), software, single)));
    let mut runs = 0;
    for (graph, class, precisions) in graphs {
        let inputs: Vec<Vec<u8>> = numbers::inputs(&graph).iter().map(|input| input.bytes().to_vec()).collect();
        let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for &precision in precisions {
            // What shaders cannot compute is refused.
            let options = |usual| CompileOptions { gpu: class, precision, ..usual };
            let Ok(compiled) = gpu::compiled_with(&graph, options) else { continue };
            let checked = gpu::run_on(device, &compiled.to_bytes().expect("an artifact"), &inputs);
            let guarded = canaries::guarded(&compiled);
            let memory = gpu::run_unchecked(device, &guarded.artifact, &inputs).swap_remove(0);
            assert_eq!(guarded.damage(&memory), None, "{} {precision:?} on {}", graph.to_text(), class.name);
            let found: Vec<&[u8]> = guarded.outputs.iter().map(|output| &memory[output.clone()]).collect();
            assert!(found == checked, "{} {precision:?} on {}", graph.to_text(), class.name);
            runs += 1;
        }
    }
    say(&format!("{runs} programs run without checks"));
}
