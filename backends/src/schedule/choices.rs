//! Schedules that are given: a text with a line for each layer, under a heading for each kind of program.
//!
//! ```text
//! # a comment
//! [aarch64]
//! contraction f32 batch 1x1 .. rows adjacent = tile 8x3 packed blocks 16x2
//! depthwise f32 batch 1 .. takes products = columns 6
//! [wgsl]
//! contraction f32 batch 1x1 .. rows adjacent = tile 1x1 together blocks 1x1
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{Schedule, Tile, layer};
use crate::cpu::isa::{Architecture, Integers, Kernels, Vectors};

/// How a layer runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// A contraction, by direct sums.
    Contraction(Schedule),
    /// A convolution by Winograd's algorithm; its matrix products are a layer of their own.
    Winograd,
    /// A matrix product by Strassen's algorithm; its products of quadrants are a layer of their own.
    Strassen,
    /// Output columns of a tile of a depthwise convolution.
    Columns(i64),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Contraction(Schedule { tile, packs_rows, together, block_tiles, block_panels, .. }) => {
                let packed = if *packs_rows { " packed" } else { "" };
                let together = if *together { " together" } else { "" };
                write!(f, "tile {}x{}{packed}{together} blocks {block_tiles}x{block_panels}", tile.rows, tile.vectors)
            }
            Choice::Winograd => f.write_str("winograd"),
            Choice::Strassen => f.write_str("strassen"),
            Choice::Columns(columns) => write!(f, "columns {columns}"),
        }
    }
}

impl Choice {
    /// Whether a contraction becomes others.
    pub fn is_algorithm(self) -> bool {
        match self {
            Choice::Winograd | Choice::Strassen => true,
            Choice::Contraction(_) | Choice::Columns(_) => false,
        }
    }

    /// What the words say of sums of `lanes` to a register.
    fn parse(text: &str, lanes: i64) -> Option<Choice> {
        let pair = |text: &str| {
            let (a, b) = text.split_once('x')?;
            Some((count(a)?, count(b)?))
        };
        let words: Vec<&str> = text.split(' ').collect();
        let (tile, [packs_rows, together], blocks) = match *words.as_slice() {
            ["winograd"] => return Some(Choice::Winograd),
            ["strassen"] => return Some(Choice::Strassen),
            ["columns", columns] => return count(columns).map(Choice::Columns),
            ["tile", tile, "blocks", blocks] => (tile, [false, false], blocks),
            ["tile", tile, "packed", "blocks", blocks] => (tile, [true, false], blocks),
            ["tile", tile, "together", "blocks", blocks] => (tile, [false, true], blocks),
            _ => return None,
        };
        let (rows, vectors) = pair(tile)?;
        let (block_tiles, block_panels) = pair(blocks)?;
        Some(Choice::Contraction(Schedule {
            tile: Tile { rows, vectors },
            panel_tiles: 1,
            lanes,
            block_tiles,
            block_panels,
            packs_rows,
            together,
        }))
    }
}

fn count(text: &str) -> Option<i64> {
    text.parse::<u32>().ok().filter(|&count| count > 0).map(i64::from)
}

/// The heading of programs of shaders.
pub const SHADERS: &str = "wgsl";

/// The heading of programs of a kind.
pub fn heading(architecture: Architecture, kernels: Kernels, integers: Integers, vectors: Vectors) -> String {
    let mut heading = architecture.name().to_string();
    let features = integers.required_features().iter().chain(vectors.required_features());
    features.for_each(|feature| heading = format!("{heading} {feature}"));
    match kernels {
        Kernels::Encoded => heading,
        Kernels::Clif => heading + " clif",
    }
}

/// Every heading.
fn headings() -> Vec<String> {
    let aarch64 = Integers::ALL.map(|integers| (Architecture::Aarch64, integers, Vectors::Baseline));
    let x86_64 = Vectors::ALL.map(|vectors| (Architecture::X86_64, Integers::Plain, vectors));
    let of = |(architecture, integers, vectors)| {
        [Kernels::Encoded, Kernels::Clif].map(|kernels| heading(architecture, kernels, integers, vectors))
    };
    aarch64.into_iter().chain(x86_64).flat_map(of).chain([SHADERS.to_string()]).collect()
}

/// A choice and the number of its line, from 1; 0 of one that was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given {
    /// The choice.
    pub choice: Choice,
    /// The line.
    pub line: usize,
}

/// Choices by heading and layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choices(BTreeMap<String, BTreeMap<String, Given>>);

/// A line that is none of a choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct ChoiceError {
    /// The number, from 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

impl Choices {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The choice for a layer in programs of a kind.
    pub fn get(&self, heading: &str, layer: &str) -> Option<Given> {
        self.0.get(heading)?.get(layer).copied()
    }

    /// Every layer under a heading.
    pub fn under(&self, heading: &str) -> impl Iterator<Item = (&str, Given)> {
        self.0.get(heading).into_iter().flatten().map(|(layer, &given)| (layer.as_str(), given))
    }

    /// Chooses for a layer, in place of what was chosen before.
    pub fn set(&mut self, heading: &str, layer: &str, choice: Choice) {
        self.0.entry(heading.into()).or_default().insert(layer.into(), Given { choice, line: 0 });
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (heading, layers) in &self.0 {
            writeln!(f, "[{heading}]")?;
            layers.iter().try_for_each(|(layer, given)| writeln!(f, "{layer} = {}", given.choice))?;
        }
        Ok(())
    }
}

impl FromStr for Choices {
    type Err = ChoiceError;

    fn from_str(text: &str) -> Result<Self, ChoiceError> {
        let mut choices = Choices::default();
        let mut heading: Option<String> = None;
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            let wrong = |what: String| ChoiceError { line, what };
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            if let Some(name) = content.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                let known = headings();
                if !known.iter().any(|other| other == name) {
                    return Err(wrong(format!("`[{name}]` is none of [{}]", known.join("], ["))));
                }
                heading = Some(name.into());
                continue;
            }
            let Some((layer, choice)) = content.split_once(" = ") else {
                return Err(wrong(format!("`{content}` is no `LAYER = CHOICE`")));
            };
            let Some(element) = layer::element(layer) else { return Err(wrong(format!("`{layer}` is no layer"))) };
            let Some(choice) = Choice::parse(choice, element.lanes()) else {
                return Err(wrong(format!("`{choice}` is no choice")));
            };
            let Some(heading) = &heading else { return Err(wrong("a heading such as `[aarch64]` is missing".into())) };
            let given = choices.0.entry(heading.clone()).or_default();
            if let Some(before) = given.insert(layer.into(), Given { choice, line }) {
                return Err(wrong(format!("the layer of line {} again", before.line)));
            }
        }
        Ok(choices)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str =
        "depthwise f32 batch 1 input 5x5 channels 8 taps 0:0 step 1x1 output 5x5 operands 0 takes maximum";
    const CONVOLUTION: &str = "contraction f16 batch 1x1 input 5x5 depth 8 taps -1..1:-1..1 step 1x1 output 5x5 channels 8 operands 1 rows apart";

    fn text() -> String {
        format!(
            "[aarch64]\n{CONVOLUTION} = tile 8x3 packed blocks 16x2\n{POOL} = columns 6\n\
             [wgsl]\n{CONVOLUTION} = tile 1x2 together blocks 1x1\n[x86_64 avx512f avx512vl]\n{CONVOLUTION} = winograd\n"
        )
    }

    #[test]
    fn text_and_choices_are_one() {
        let choices: Choices = text().parse().expect("choices");
        assert_eq!(choices.to_string(), text());
        let given = choices.get("aarch64", CONVOLUTION).expect("a line");
        let tile = Tile { rows: 8, vectors: 3 };
        let schedule = Schedule {
            tile,
            panel_tiles: 1,
            lanes: 8,
            block_tiles: 16,
            block_panels: 2,
            packs_rows: true,
            together: false,
        };
        assert_eq!(given, Given { choice: Choice::Contraction(schedule), line: 2 });
        assert_eq!(choices.get("x86_64", POOL), None);
    }

    #[test]
    fn a_wrong_line_is_named() {
        let failures = [
            (format!("{POOL} = columns 6"), "line 1: a heading such as `[aarch64]` is missing"),
            ("[arm]".into(), "line 1: `[arm]` is none of [aarch64], [aarch64 clif]"),
            ("\n# note\n[x86_64]\nnothing".into(), "line 4: `nothing` is no `LAYER = CHOICE`"),
            ("[x86_64]\npool = columns 6".into(), "line 2: `pool` is no layer"),
            (format!("[x86_64]\n{POOL} = columns 0"), "line 2: `columns 0` is no choice"),
            (format!("[x86_64]\n{POOL} = tile 8x blocks 1x1"), "line 2: `tile 8x blocks 1x1` is no choice"),
            (
                format!("{}{POOL} = columns 6\n[aarch64]\n{POOL} = columns 4", text()),
                "line 10: the layer of line 3 again",
            ),
        ];
        for (text, expected) in failures {
            let error = text.parse::<Choices>().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
