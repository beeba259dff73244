//! A second compiler of WGSL, Tint through Dawn for Node, takes every shader that is emitted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use edgecc::compile::CompileOptions;
use edgecc_passes::precision::Precision;
use edgecc_tests::graphs::cases;
use edgecc_tests::kernels::random_kernel;
use edgecc_tests::models::MODELS;
use edgecc_tests::networks::{Activation, Network, layers};
use edgecc_tests::report::{say, skipped};
use edgecc_tests::{gpu, python, reference};

/// Kernels that are drawn.
const KERNELS: u64 = 60;
/// Models whose shaders are looked at beside those of graphs.
const LOOKED_AT: [&str; 5] = ["mnist_cntk", "super_resolution_10", "dtln_2", "magika_v3_3", "mlperftiny_vww96_fp32"];

/// The folder of Node's modules with Dawn: `EDGECC_NODE_MODULES`, or `target/node/node_modules`. `None`, after a visible line,
/// where there is none.
fn modules() -> Option<PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node/node_modules");
    let folder = std::env::var_os("EDGECC_NODE_MODULES").map_or(local, PathBuf::from);
    let has_node = Command::new("node").arg("--version").output().is_ok();
    let found = folder.join("webgpu").exists() && has_node;
    if !found {
        skipped("Tint: no Node with Dawn (tests/setup/setup.sh makes target/node)");
    }
    found.then_some(folder)
}

#[test]
fn every_shader_is_one_to_tint() {
    let Some(modules) = modules() else { return };
    let mut texts = BTreeSet::new();
    let mut vector = Network::new("vector", &[1, 512]);
    vector.dense(40, Activation::Silu);
    let graphs = cases()
        .into_iter()
        .map(|(_, graph)| graph)
        .chain(layers().into_iter().map(|(graph, _)| graph))
        .chain([vector.finish()]);
    for graph in graphs.chain((0..KERNELS).map(random_kernel)) {
        for precision in [Precision::F32, Precision::F16] {
            // What shaders cannot compute is refused.
            let options = |usual| CompileOptions { precision, half_sums: true, ..usual };
            let Ok(compiled) = gpu::compiled_with(&graph, options) else { continue };
            let shaders = std::iter::once(compiled.shaders).chain(compiled.in_halves);
            texts.extend(shaders.flat_map(|shaders| shaders.modules).map(|module| module.text));
        }
    }
    let models = reference::shared("models");
    for row in MODELS.iter().filter(|row| LOOKED_AT.contains(&row.name)) {
        let Some(folder) = &models else { break };
        let inputs = reference::read(&row.reference(folder)).inputs;
        for compile in [gpu::compile_for, gpu::compile_in_halves] {
            let compiled = compile(&row.model(folder), &inputs).expect("compiles");
            texts.extend(compiled.shaders.modules.into_iter().map(|module| module.text));
        }
    }
    let folder = python::generated("tint");
    std::fs::remove_dir_all(&folder).expect("an empty folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (number, text) in texts.iter().enumerate() {
        std::fs::write(folder.join(format!("{number}.wgsl")), text).expect("a shader");
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/tint.mjs");
    let output = Command::new("node").arg(tool).arg(modules).arg(&folder).output().expect("node starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    say(&format!("{} shaders are taken by Tint", texts.len()));
}
