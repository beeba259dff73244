//! `--prune`: a smaller graph, and what became of each layer.

use std::fmt::Write;

use edgecc_ir::Graph;
use edgecc_passes::prune::{LayerRule, Pruned, Ranking, Recipe};
use edgecc_runtime::big_cores;

use super::CliError;
use super::inputs::normalisation;
use super::options::{BuildArguments, DataArguments, PruneArguments, PruneRanking};
use super::progress::Progress;
use crate::calibrate::samples::{SampleError, Samples};
use crate::compile::CompileOptions;
use crate::prune::{Calibration, prune as cut, refit};

/// Names that a line of the table has room for.
const NAMES: usize = 3;

/// The graph without what `--prune` removes, and a table of that; the graph as it is without the flag.
pub fn prune(
    arguments: &BuildArguments,
    graph: Graph,
    options: &CompileOptions,
    progress: &Progress,
) -> Result<Graph, CliError> {
    let Some(recipe) = recipe(&arguments.pruning) else { return Ok(graph) };
    let samples = samples(&arguments.samples, &graph)?;
    let calibration = samples.as_ref().map(|samples| Calibration { samples, options, threads: big_cores() });
    let mut say = |work: String| progress.phase(|| work);
    let mut pruned = cut(&graph, &recipe, calibration, &mut say)?;
    if let Some(calibration) = calibration.filter(|_| !arguments.pruning.no_refit) {
        refit(&graph, &mut pruned, calibration, &mut say)?;
    }
    eprint!("{}", table(&pruned));
    if pruned.macs[1] > (1.0 - recipe.fraction) * pruned.macs[0] {
        eprintln!(
            "note: no more can be removed: groups have come to their least widths, and other layers stay as told"
        );
    }
    Ok(pruned.graph)
}

/// Options whose record names the recipe.
pub fn with_record(options: CompileOptions, arguments: &BuildArguments) -> CompileOptions {
    let Some(recipe) = recipe(&arguments.pruning) else { return options };
    let mut configuration = format!("{}prune = {}\n", options.configuration, recipe.fraction);
    for rule in &recipe.layers {
        // A string takes all that is written.
        let _ = writeln!(configuration, "prune-keep = {}", rule.name);
    }
    let usual = Recipe::of(recipe.fraction);
    if recipe.ranking != usual.ranking {
        configuration.push_str("prune-ranking = local\n");
    }
    if recipe.multiple != usual.multiple {
        let _ = writeln!(configuration, "prune-multiple = {}", recipe.multiple);
    }
    if arguments.pruning.no_refit {
        configuration.push_str("no-refit\n");
    }
    CompileOptions { configuration, ..options }
}

fn recipe(arguments: &PruneArguments) -> Option<Recipe> {
    let ranking = match arguments.prune_ranking {
        PruneRanking::Global => Ranking::Global,
        PruneRanking::Local => Ranking::Local,
    };
    let layers = arguments.prune_keep.iter().map(|name| LayerRule { name: name.clone(), least: 1.0 }).collect();
    Some(Recipe { ranking, multiple: arguments.prune_multiple, layers, ..Recipe::of(arguments.prune?) })
}

/// The samples that are given, if any. Made-up ones would favour channels that real ones do not use.
fn samples(arguments: &DataArguments, graph: &Graph) -> Result<Option<Samples>, SampleError> {
    if arguments.data.is_empty() {
        eprintln!(
            "note: pruned by weights alone; samples, by --data, tell what matters, and weights are fitted to them"
        );
        return Ok(None);
    }
    Samples::read(graph, &arguments.data, &normalisation(&arguments.pictures)).map(Some)
}

/// A line for each group, for each layer that is in none, and for the whole.
fn table(pruned: &Pruned) -> String {
    let mut text = format!("{:>14} {:>20}  channels of\n", "width", "M multiply-adds");
    let mut line = |width: [usize; 2], macs: [f64; 2], names: &str| {
        let width = format!("{} -> {}", width[0], width[1]);
        let macs = format!("{:.2} -> {:.2}", macs[0] / 1e6, macs[1] / 1e6);
        // A string takes all that is written.
        let _ = writeln!(text, "{width:>14} {macs:>20}  {names}");
    };
    for group in &pruned.groups {
        line(group.width, group.macs, &shortened(&group.names));
    }
    for layer in &pruned.unpruned {
        let _ = writeln!(
            text,
            "{:>14} {:>20}  {}: {} {}",
            layer.channels,
            "",
            layer.name,
            layer.because_of,
            layer.reason.words()
        );
    }
    let [before, after] = pruned.macs;
    let share = if before > 0.0 { 1.0 - after / before } else { 0.0 };
    let _ = writeln!(
        text,
        "{:.2} of {:.2} M multiply-adds are left: {:.3} of them are removed",
        after / 1e6,
        before / 1e6,
        share
    );
    text
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES).filter(|&more| more > 0) {
        Some(more) => format!("{shown} and {more} more"),
        None => shown,
    }
}
