//! A recipe: what pruning, quantization and precision are to do with a model, or have done, as one file.

mod read;
mod write;

use std::collections::BTreeMap;

use clap::ValueEnum;
use edgecc_ir::Graph;
use serde::{Deserialize, Serialize};

use crate::calibrate::observe::{Observer, Range};
use crate::names::layers;
use crate::quantize::Limit;
pub use read::{Error, Read};

/// What is to become of a model. Layers and values are called by names of ONNX nodes: see [`crate::names`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// The width in which numbers are kept that are no integers.
    pub precision: Width,
    /// What goes; nothing without it.
    pub prune: Option<Prune>,
    /// How layers become integers; none do without it.
    pub quantize: Option<Quantize>,
    /// The samples that decided.
    pub samples: Option<SamplesRule>,
    /// What holds for some layers.
    pub layers: BTreeMap<String, LayerRule>,
    /// What the integers of values cover, where that is decided.
    pub ranges: BTreeMap<String, RangeRule>,
}

impl Recipe {
    /// The rules of layers by the name that each layer of a graph has alone; later names decide where several are of one layer.
    pub fn rules_of_layers(&self, graph: &Graph) -> BTreeMap<String, LayerRule> {
        let names = layers(graph);
        let mut rules: BTreeMap<String, LayerRule> = BTreeMap::new();
        for (name, rule) in &self.layers {
            for &layer in names.nodes(name) {
                let known = rules.entry(names.name(layer)).or_default();
                known.precision = rule.precision.or(known.precision);
                known.prune = rule.prune.or(known.prune);
                known.prune_at_most = rule.prune_at_most.or(known.prune_at_most);
            }
        }
        rules
    }

    /// Whether it cannot be followed without samples.
    pub fn needs_samples(&self) -> bool {
        let prunes = |prune: &Prune| prune.refit || prune.importance == Importance::Samples;
        self.prune.as_ref().is_some_and(prunes)
            || self.quantize.as_ref().is_some_and(|rule| rule.integers.are_of_values() && rule.correct_biases)
    }
}

/// A width of floating-point numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Width {
    /// As they are.
    #[default]
    Fp32,
    /// In half the bytes.
    Fp16,
}

/// Pruning.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Prune {
    /// The share of the multiply-adds that go.
    #[serde(default, deserialize_with = "read::share")]
    pub fraction: f64,
    /// What is compared.
    #[serde(default)]
    pub ranking: Ranking,
    /// What widths are multiples of.
    #[serde(default = "eight", deserialize_with = "read::multiple")]
    pub multiple: usize,
    /// What tells which channels matter.
    #[serde(default)]
    pub importance: Importance,
    /// Whether the weights behind removed channels are fitted to the samples.
    #[serde(default = "yes")]
    pub refit: bool,
}

/// What pruning compares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Ranking {
    /// Importance lost for multiply-adds saved, everywhere.
    #[default]
    Global,
    /// Channels within a layer.
    Local,
}

/// What tells how much a channel matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// The samples.
    #[default]
    Samples,
    /// The weights alone.
    Weights,
}

/// Quantization.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Quantize {
    /// The integers. Of weights alone nothing else of this applies.
    #[serde(default)]
    pub integers: Integers,
    /// Who proposes ranges; without it, for each value whoever loses least.
    pub observer: Option<Observer>,
    /// Whether layers keep their numbers where integers would not be faster by the cost model.
    #[serde(default = "yes")]
    pub only_faster: bool,
    /// Whether biases take in what rounding the weights takes from the mean of each channel of the samples.
    #[serde(default = "yes")]
    pub correct_biases: bool,
    /// Whether channels get factors; without it, if that is measured to lose less. Not without `correct-biases`.
    pub equalize: Option<bool>,
    /// Whether the samples decide how weights are rounded; without it, if that is measured to lose less. Not without
    /// `correct-biases`.
    pub fit_rounding: Option<bool>,
    /// Whether functions between layers are tables of 8 bits; without it, unless the drop demands more.
    pub tables: Option<bool>,
    /// The most that may be lost.
    pub max_drop: Option<Limit>,
}

/// The integers of layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Integers {
    /// Eight bits, of values and weights.
    #[default]
    Int8,
    /// Eight bits, of the weights of matrix products alone.
    WeightsInt8,
    /// Four bits, likewise.
    WeightsInt4,
}

impl Integers {
    /// What flags and recipes call them.
    pub fn name(self) -> &'static str {
        match self {
            Integers::Int8 => "int8",
            Integers::WeightsInt8 => "weights-int8",
            Integers::WeightsInt4 => "weights-int4",
        }
    }

    /// Whether samples decide what integers stand for.
    pub fn are_of_values(self) -> bool {
        match self {
            Integers::Int8 => true,
            Integers::WeightsInt8 | Integers::WeightsInt4 => false,
        }
    }
}

impl Default for Quantize {
    fn default() -> Quantize {
        Quantize {
            integers: Integers::Int8,
            observer: None,
            only_faster: true,
            correct_biases: true,
            equalize: None,
            fit_rounding: None,
            tables: None,
            max_drop: None,
        }
    }
}

/// The samples that a recipe was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SamplesRule {
    /// [`crate::calibrate::samples::Samples::digest`].
    pub digest: String,
}

/// What holds for a layer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerRule {
    /// What it computes with, whatever else would be chosen.
    pub precision: Option<LayerPrecision>,
    /// The share of its channels that go; with 0 its weights stay as they are.
    #[serde(default, deserialize_with = "read::optional_share")]
    pub prune: Option<f64>,
    /// The most of its channels that may go.
    #[serde(default, deserialize_with = "read::optional_share")]
    pub prune_at_most: Option<f64>,
}

/// What a layer computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerPrecision {
    /// Integers of eight bits.
    Int8,
    /// Integers of eight bits as weights, that read integers of sixteen.
    Int16,
    /// Numbers, and weights that are integers of eight bits.
    WeightsInt8,
    /// Numbers, and weights that are integers of four bits.
    WeightsInt4,
    /// Numbers of the recipe's width.
    Float,
    /// Numbers of 16 bits, where that is the recipe's width.
    Fp16,
    /// Numbers of 32 bits, likewise.
    Fp32,
}

impl LayerPrecision {
    /// Of numbers of a width.
    pub fn of(width: Width) -> LayerPrecision {
        match width {
            Width::Fp16 => LayerPrecision::Fp16,
            Width::Fp32 => LayerPrecision::Fp32,
        }
    }
}

/// What the integers of a value cover.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum RangeRule {
    /// A range, with who proposed it.
    Decided(Range),
    /// Whatever an observer of the samples proposes.
    By {
        /// The observer.
        observer: Observer,
    },
}

fn eight() -> usize {
    8
}

fn yes() -> bool {
    true
}
