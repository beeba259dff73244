//! A recipe as the text of a file that reads as the same recipe.

use std::collections::BTreeMap;

use serde::Serialize;
use toml::ser::{Error, ValueSerializer};

use super::Recipe;

impl Recipe {
    /// The text of a file, with a line for each name. Equal recipes are equal texts.
    pub fn to_text(&self) -> Result<String, Error> {
        let Recipe { precision, prune, quantize, samples, layers, ranges } = self;
        let mut text = format!("precision = {}\n", value(precision)?);
        let sections = [
            ("prune", prune.as_ref().map(toml::to_string).transpose()?),
            ("quantize", quantize.as_ref().map(toml::to_string).transpose()?),
            ("samples", samples.as_ref().map(toml::to_string).transpose()?),
            ("layers", lines(layers)?),
            ("ranges", lines(ranges)?),
        ];
        for (title, lines) in sections.iter().filter_map(|(title, lines)| Some((title, lines.as_ref()?))) {
            text.push_str(&format!("\n[{title}]\n{lines}"));
        }
        Ok(text)
    }
}

/// `name = { field = value, .. }` for each rule.
fn lines(rules: &BTreeMap<String, impl Serialize>) -> Result<Option<String>, Error> {
    let line = |(name, rule)| {
        let table = value(&BTreeMap::from([(name, rule)]))?;
        let entry = table.strip_prefix("{ ").and_then(|entry| entry.strip_suffix(" }"));
        Ok(format!("{}\n", entry.unwrap_or(&table)))
    };
    let lines: Result<String, Error> = rules.iter().map(line).collect();
    lines.map(|lines| (!lines.is_empty()).then_some(lines))
}

fn value(value: &impl Serialize) -> Result<String, Error> {
    let mut text = String::new();
    value.serialize(ValueSerializer::new(&mut text))?;
    Ok(text)
}
