//! What is to become of a model: by flags or by a file, followed, and written down as it was decided.

use std::path::PathBuf;

use edgecc_ir::Graph;

use super::build::write_text;
use super::inputs::normalisation;
use super::options::{BuildArguments, ModelArguments, PruneArguments, QuantizeArguments};
use super::progress::Progress;
use super::prune::prune;
use super::quantize::quantize;
use super::{CliError, CliResult};
use crate::calibrate::samples::Samples;
use crate::compile::CompileOptions;
use crate::recipe::{Importance, LayerPrecision, Prune, Quantize, Read, Recipe, SamplesRule};

/// A recipe, and the file that it is from.
pub struct Given {
    read: Read,
    path: Option<PathBuf>,
}

impl Given {
    /// The recipe of `--recipe`, or what flags ask for.
    pub fn of(arguments: &BuildArguments) -> Result<Given, CliError> {
        let Some(path) = &arguments.recipes.recipe else {
            return Ok(Given { read: of_flags(arguments).into(), path: None });
        };
        let text = std::fs::read_to_string(path).map_err(|source| CliError::Io { path: path.clone(), source })?;
        let read = Read::parse(&text).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?;
        Ok(Given { read, path: Some(path.clone()) })
    }

    /// The recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.read.recipe
    }

    /// How the model is to be read, in the recipe's precision.
    pub fn reading(&self, arguments: &BuildArguments) -> ModelArguments {
        ModelArguments { precision: self.recipe().precision, ..arguments.reading.clone() }
    }

    /// Options for what stands in front of [`Given::follow`]: pruning cuts and fits numbers.
    pub fn preparing(&self, options: &CompileOptions) -> CompileOptions {
        CompileOptions { integers: options.integers && self.recipe().prune.is_none(), ..options.clone() }
    }

    /// Prunes and quantises a graph. Gives with it the recipe as it was decided.
    pub fn follow(
        &self,
        arguments: &BuildArguments,
        graph: Graph,
        options: &CompileOptions,
        progress: &Progress,
    ) -> Result<(Graph, Recipe), CliError> {
        self.read.check_names(&graph).map_err(|error| self.error(&error.to_string()))?;
        let mut recipe = Recipe { layers: self.recipe().rules_of_layers(&graph), ..self.recipe().clone() };
        let data = &arguments.samples;
        let samples = match data.data.is_empty() {
            true => None,
            false => Some(Samples::read(&graph, &data.data, &normalisation(&data.pictures))?),
        };
        let graph = prune(self, &mut recipe, graph, options, samples.as_ref(), progress)?;
        let graph = quantize(self, &mut recipe, arguments, graph, options, samples, progress)?;
        Ok((graph, recipe))
    }

    /// Notes in a recipe the samples that decide, and refuses others than decided before.
    pub fn decide_by(&self, samples: &Samples, recipe: &mut Recipe) -> CliResult {
        let digest = samples.digest();
        match &self.recipe().samples {
            Some(known) if known.digest != digest => Err(self.error(&format!(
                "was decided on other samples, of digest {}, and these have {digest}: give those by --data, or take [samples] out",
                known.digest
            ))),
            _ => {
                recipe.samples = Some(SamplesRule { digest });
                Ok(())
            }
        }
    }

    /// Refuses to do without the samples that decided.
    pub fn do_without_samples(&self) -> CliResult {
        match &self.recipe().samples {
            None => Ok(()),
            Some(samples) => Err(self.error(&format!(
                "needs the samples that it was decided on, of digest {}: give them by --data",
                samples.digest
            ))),
        }
    }

    fn error(&self, message: &str) -> CliError {
        let path = self.path.as_ref().map_or(String::new(), |path| format!("{}: ", path.display()));
        CliError::Usage(format!("{path}{message}"))
    }
}

/// The recipe that flags ask for.
fn of_flags(arguments: &BuildArguments) -> Recipe {
    let BuildArguments { reading, pruning, quantization, .. } = arguments;
    let mut recipe = Recipe {
        precision: reading.precision,
        prune: pruning.prune.map(|fraction| prune_of_flags(pruning, fraction)),
        quantize: quantization.quantize.map(|integers| quantize_of_flags(quantization, integers)),
        ..Recipe::default()
    };
    for name in &pruning.prune_keep {
        recipe.layers.entry(name.clone()).or_default().prune = Some(0.0);
    }
    for name in &quantization.quantize_keep {
        recipe.layers.entry(name.clone()).or_default().precision = Some(LayerPrecision::Float);
    }
    recipe
}

fn prune_of_flags(arguments: &PruneArguments, fraction: f64) -> Prune {
    Prune {
        fraction,
        ranking: arguments.prune_ranking,
        multiple: arguments.prune_multiple,
        importance: Importance::Samples,
        refit: !arguments.no_refit,
    }
}

fn quantize_of_flags(arguments: &QuantizeArguments, integers: crate::recipe::Integers) -> Quantize {
    Quantize { integers, max_drop: arguments.max_drop, ..Quantize::default() }
}

/// Options whose record names the recipe, where it does anything to the model.
pub fn with_record(options: CompileOptions, recipe: &Recipe) -> Result<CompileOptions, CliError> {
    let Recipe { prune, quantize, .. } = recipe;
    if prune.is_none() && quantize.is_none() {
        return Ok(options);
    }
    let mut configuration = options.configuration.clone();
    if let Some(prune) = prune {
        configuration.push_str(&format!("prune = {}\n", prune.fraction));
    }
    if let Some(quantize) = quantize {
        configuration.push_str(&format!("quantize = {}\n", quantize.integers.name()));
    }
    configuration.push_str(&format!("recipe = {}\n", blake3::hash(text(recipe)?.as_bytes())));
    Ok(CompileOptions { configuration, ..options })
}

/// Writes a recipe for `--write-recipe`.
pub fn write_recipe(arguments: &BuildArguments, recipe: &Recipe) -> CliResult {
    let Some(path) = &arguments.recipes.write_recipe else { return Ok(()) };
    let mut heading = "# What edgecc decided. It may be edited; compile it by --recipe.\n".to_string();
    if recipe.needs_samples() {
        heading.push_str("# What it fits to samples is not written here, so that it needs the same ones, by --data.\n");
    }
    write_text(Some(path), &format!("{heading}{}", text(recipe)?))
}

fn text(recipe: &Recipe) -> Result<String, CliError> {
    recipe.to_text().map_err(|error| CliError::Usage(format!("the recipe cannot be written: {error}")))
}
