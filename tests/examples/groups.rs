//! Prints the groups of channels of a model that can only be pruned together, a line for each: its channels, then the names of
//! the contractions that make them. `tests/tools/against_torch_pruning.py` reads it.
//!
//! `cargo run -p edgecc-tests --example groups -- MODEL.onnx`

use std::collections::BTreeMap;
use std::path::Path;

use edgecc::compile::prepare;
use edgecc_backends::cpu::isa::Architecture;
use edgecc_passes::prune::{Recipe, prune};
use edgecc_tests::run;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("the path of a model is missing")?;
    let (graph, _) = prepare(Path::new(&model), &run::options(Architecture::Aarch64, &[]), &mut |_| {})?;
    for group in prune(&graph, &Recipe::of(0.0), &BTreeMap::new())?.groups {
        println!("{} {}", group.width[0], group.names.join(" "));
    }
    Ok(())
}
