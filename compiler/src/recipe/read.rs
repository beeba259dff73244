//! A recipe's file, read: TOML, with the line of everything that is wrong.

use std::collections::BTreeMap;

use edgecc_ir::Graph;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use toml::Spanned;

use super::{LayerPrecision, LayerRule, Prune, Quantize, RangeRule, Recipe, SamplesRule, Width};
use crate::calibrate::observe::{Observer, Range};
use crate::names::{layers, values};

/// A recipe, with the line of each name where it is of a file.
#[derive(Clone, Debug, Default)]
pub struct Read {
    /// The recipe.
    pub recipe: Recipe,
    lines: BTreeMap<(Table, String), usize>,
}

impl From<Recipe> for Read {
    fn from(recipe: Recipe) -> Read {
        Read { recipe, lines: BTreeMap::new() }
    }
}

/// A table of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Table {
    Layers,
    Ranges,
}

/// What is wrong with a recipe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}", line.map_or(String::new(), |line| format!("line {line}: ")))]
pub struct Error {
    /// The line of a file, from 1.
    pub line: Option<usize>,
    /// What is wrong there.
    pub message: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    precision: Width,
    prune: Option<Prune>,
    quantize: Option<Quantize>,
    samples: Option<SamplesRule>,
    #[serde(default)]
    layers: BTreeMap<Spanned<String>, LayerRule>,
    #[serde(default)]
    ranges: BTreeMap<Spanned<String>, RangeRule>,
}

impl Read {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Read, Error> {
        let file: File = toml::from_str(text).map_err(|error| {
            let line = error.span().map(|span| line(text, span.start));
            Error { line, message: error.message().to_string() }
        })?;
        let mut lines = BTreeMap::new();
        let layers = unspanned(file.layers, Table::Layers, text, &mut lines);
        let ranges = unspanned(file.ranges, Table::Ranges, text, &mut lines);
        let File { precision, prune, quantize, samples, .. } = file;
        let read = Read { recipe: Recipe { precision, prune, quantize, samples, layers, ranges }, lines };
        read.check_tables()?;
        Ok(read)
    }

    /// Refuses rules of what the recipe does not do.
    fn check_tables(&self) -> Result<(), Error> {
        let Recipe { prune, quantize, layers, ranges, .. } = &self.recipe;
        let (no_prune, no_quantize) = (prune.is_none(), quantize.is_none());
        let of_layer = |(name, rule): (_, &LayerRule)| {
            let prunes = rule.prune.is_some() || rule.prune_at_most.is_some();
            let missing = (no_prune && prunes, no_quantize && rule.precision.is_some());
            Some((
                Table::Layers,
                name,
                match missing {
                    (true, _) => "[prune]",
                    (false, true) => "[quantize]",
                    (false, false) => return None,
                },
            ))
        };
        let of_range = |name| no_quantize.then_some((Table::Ranges, name, "[quantize]"));
        let width = LayerPrecision::of(self.recipe.precision);
        let is_of_other_width = |(_, rule): &(&String, &LayerRule)| {
            matches!(rule.precision, Some(LayerPrecision::Fp16 | LayerPrecision::Fp32)) && rule.precision != Some(width)
        };
        if let Some((name, _)) = layers.iter().find(is_of_other_width) {
            let message = format!("`{name}` has another precision than the recipe, which is of all numbers");
            return Err(Error { line: self.line(Table::Layers, name), message });
        }
        let mut wrong = layers.iter().filter_map(of_layer).chain(ranges.keys().filter_map(of_range));
        let error = |(table, name, section): (Table, &String, &str)| {
            let message = format!("the rule of `{name}` is for {section}, which the recipe does not have");
            Err(Error { line: self.line(table, name), message })
        };
        wrong.next().map_or(Ok(()), error)
    }

    /// Refuses names that no layer or value of a graph behind [`crate::compile::prepare`] has.
    pub fn check_names(&self, graph: &Graph) -> Result<(), Error> {
        let (known_layers, known_values) = (layers(graph), values(graph));
        let of_layers = self.recipe.layers.keys().filter(|name| known_layers.nodes(name).is_empty());
        let of_ranges = self.recipe.ranges.keys().filter(|name| known_values.nodes(name).is_empty());
        let of_layers = of_layers.map(|name| (self.line(Table::Layers, name), "layer", name));
        let of_ranges = of_ranges.map(|name| (self.line(Table::Ranges, name), "value of numbers", name));
        // The first in the file.
        let unknown = of_layers.chain(of_ranges).min_by_key(|(line, ..)| *line);
        unknown.map_or(Ok(()), |(line, what, name)| {
            Err(Error { line, message: format!("no {what} comes from a node named `{name}`") })
        })
    }

    fn line(&self, table: Table, name: &str) -> Option<usize> {
        self.lines.get(&(table, name.to_string())).copied()
    }
}

fn unspanned<T>(
    names: BTreeMap<Spanned<String>, T>,
    table: Table,
    text: &str,
    lines: &mut BTreeMap<(Table, String), usize>,
) -> BTreeMap<String, T> {
    let entry = |(name, rule): (Spanned<String>, T)| {
        let line = line(text, name.span().start);
        lines.insert((table, name.get_ref().clone()), line);
        (name.into_inner(), rule)
    };
    names.into_iter().map(entry).collect()
}

/// The line, from 1, of a place in a text.
fn line(text: &str, place: usize) -> usize {
    text.bytes().take(place).filter(|&byte| byte == b'\n').count() + 1
}

/// A number from 0 to 1.
pub(super) fn share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match f64::deserialize(deserializer)? {
        share if (0.0..=1.0).contains(&share) => Ok(share),
        other => Err(D::Error::custom(format!("{other} is no share: a number from 0 to 1"))),
    }
}

pub(super) fn optional_share<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    share(deserializer).map(Some)
}

/// A number above 0.
pub(super) fn multiple<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    match usize::deserialize(deserializer)? {
        0 => Err(D::Error::custom("0 is no multiple: a number above 0")),
        multiple => Ok(multiple),
    }
}

impl<'de> Deserialize<'de> for RangeRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RangeRule, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            low: Option<f64>,
            high: Option<f64>,
            observer: Option<Observer>,
        }
        let Fields { low, high, observer } = Fields::deserialize(deserializer)?;
        match (low, high, observer) {
            (Some(low), Some(high), observer) if low.is_finite() && low <= 0.0 && high.is_finite() && high >= 0.0 => {
                Ok(RangeRule::Decided(Range { low, high, observer: observer.unwrap_or(Observer::Given) }))
            }
            (Some(_), Some(_), _) => Err(D::Error::custom("a range goes from at most 0 to at least 0")),
            (None, None, Some(Observer::Given | Observer::Function)) => {
                Err(D::Error::custom("a range that is given has `low` and `high`"))
            }
            (None, None, Some(observer)) => Ok(RangeRule::By { observer }),
            _ => Err(D::Error::custom("a range is `low` and `high`, or an `observer`")),
        }
    }
}
