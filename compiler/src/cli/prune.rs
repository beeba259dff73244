//! Pruning: a smaller graph, and what became of each layer.

use std::fmt::Write;

use edgecc_ir::Graph;
use edgecc_passes::prune::{LayerRule as PassRule, Pruned};
use edgecc_runtime::big_cores;

use super::CliError;
use super::progress::Progress;
use super::recipe::Given;
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use crate::names::layers;
use crate::prune::{Calibration, prune as cut, refit, round_again};
use crate::recipe::{Importance, LayerRule, Prune, Ranking, Recipe};

/// Names that a line of the table has room for.
const NAMES: usize = 3;

/// The graph without what a recipe removes, and a table of that; the graph as it is where it removes nothing.
pub fn prune(
    given: &Given,
    recipe: &mut Recipe,
    graph: Graph,
    options: &CompileOptions,
    samples: Option<&Samples>,
    progress: &Progress,
) -> Result<Graph, CliError> {
    let Some(rule) = &mut recipe.prune else { return Ok(graph) };
    // Made-up samples would favour channels that real ones do not use.
    if samples.is_none() && (rule.refit || rule.importance == Importance::Samples) {
        given.do_without_samples()?;
        eprintln!(
            "note: pruned by weights alone; samples, by --data, tell what matters, and weights are fitted to them"
        );
        (rule.refit, rule.importance) = (false, Importance::Weights);
    }
    let rule = rule.clone();
    let how = of_passes(&rule, recipe, &graph);
    let calibration = samples.map(|samples| Calibration { samples, options, threads: big_cores() });
    if let Some(calibration) = calibration.filter(|_| rule.refit || rule.importance == Importance::Samples) {
        given.decide_by(calibration.samples, recipe)?;
    }
    let mut say = |work: String| progress.phase(|| work);
    let by_samples = calibration.filter(|_| rule.importance == Importance::Samples);
    let mut pruned = cut(&graph, &how, by_samples, &mut say)?;
    if let Some(calibration) = calibration.filter(|_| rule.refit) {
        refit(&graph, &mut pruned, calibration, &mut say)?;
    }
    eprint!("{}", table(&pruned));
    round_again(&mut pruned, options)?;
    if pruned.macs[1] > (1.0 - rule.fraction) * pruned.macs[0] {
        eprintln!(
            "note: no more can be removed: groups have come to their least widths, and other layers stay as told"
        );
    }
    Ok(pruned.graph)
}

/// The recipe as the pass takes it; names of layers are those that each has alone.
fn of_passes(rule: &Prune, recipe: &Recipe, graph: &Graph) -> edgecc_passes::prune::Recipe {
    let names = layers(graph);
    let usual = edgecc_passes::prune::Recipe::of(rule.fraction);
    let of_layer = |(name, rule): (&String, &LayerRule)| {
        let shares = match (rule.prune, rule.prune_at_most) {
            (Some(share), _) => [1.0 - share; 2],
            (None, Some(share)) => [1.0 - share, 1.0],
            (None, None) => return None,
        };
        names.nodes(name).first().map(|&node| PassRule { node, least: shares[0], most: shares[1] })
    };
    edgecc_passes::prune::Recipe {
        ranking: match rule.ranking {
            Ranking::Global => edgecc_passes::prune::Ranking::Global,
            Ranking::Local => edgecc_passes::prune::Ranking::Local,
        },
        multiple: rule.multiple,
        layers: recipe.layers.iter().filter_map(of_layer).collect(),
        ..usual
    }
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
