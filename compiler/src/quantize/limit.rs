//! How much may be lost.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Report;
use super::agreement::OutputReport;

/// The most that may be lost against the float model over the samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Of rows of classes this share may become wrong, where the samples' classes are known, or change; of other outputs the cosine may
    /// be less than 1 by as much.
    Share(f64),
    /// Every output has this cosine at least.
    Cosine(f64),
    /// Every channel of every output, and every row of classes, is so many decibels above its difference; scores between 0 and 1
    /// differ by no more than as many below 1.
    Decibels(f64),
}

/// Below this nothing can be told from nothing.
const LEAST: f64 = 1e-12;

impl Limit {
    /// Whether so little is lost.
    pub fn is_kept_by(&self, report: &Report) -> bool {
        let outputs = &report.outputs;
        match *self {
            Limit::Share(most) => outputs.iter().all(|output| output.drop() <= most),
            Limit::Cosine(least) => outputs.iter().all(|output| output.cosine >= least),
            Limit::Decibels(least) => outputs.iter().all(|output| output.worst_channel() >= least),
        }
    }

    /// Energy of the difference of each part of the outputs that the limit looks at.
    pub(super) fn noises(&self, outputs: &[OutputReport]) -> Vec<f64> {
        let of = |output: &OutputReport| match (self, output.classes) {
            (Limit::Decibels(_), _) => output.channels.clone(),
            (Limit::Share(_), Some(classes)) => vec![classes.margin_noise],
            (Limit::Share(_), None) | (Limit::Cosine(_), _) => vec![output.noise()],
        };
        outputs.iter().flat_map(of).collect()
    }

    /// How much of that the limit leaves to each part, by the outputs as they are: what changes classes grows with the deviation, and
    /// a cosine is 1 less half of the noise.
    pub(super) fn allowed(&self, outputs: &[OutputReport]) -> Vec<f64> {
        let of = |output: &OutputReport| match (*self, output.classes) {
            (Limit::Decibels(least), _) => vec![10f64.powf(-least / 10.0); output.channels.len()],
            (Limit::Cosine(least), _) => vec![2.0 * (1.0 - least)],
            (Limit::Share(most), None) => vec![2.0 * most],
            (Limit::Share(most), Some(classes)) => {
                vec![classes.margin_noise * (most / output.drop().max(LEAST)).powi(2)]
            }
        };
        outputs.iter().flat_map(of).map(|noise| noise.max(LEAST)).collect()
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Share(share) => write!(f, "{share}"),
            Limit::Cosine(cosine) => write!(f, "cosine {cosine}"),
            Limit::Decibels(decibels) => write!(f, "{decibels} dB"),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Limit, String> {
        let number = |text: &str| text.trim().parse::<f64>().ok();
        let is_share = |share: &f64| (0.0..=1.0).contains(share);
        let limit = if let Some(decibels) = text.strip_suffix("dB") {
            number(decibels).filter(|decibels| decibels.is_finite()).map(Limit::Decibels)
        } else if let Some(cosine) = text.strip_prefix("cosine") {
            number(cosine.trim_start_matches([' ', '='])).filter(is_share).map(Limit::Cosine)
        } else if let Some(percent) = text.strip_suffix('%') {
            number(percent).map(|percent| percent / 100.0).filter(is_share).map(Limit::Share)
        } else {
            number(text).filter(is_share).map(Limit::Share)
        };
        limit.ok_or_else(|| format!("`{text}` is no largest drop: 0.5%, 0.005, cosine=0.999 or 30dB"))
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Share(share) => serializer.serialize_f64(*share),
            Limit::Cosine(_) | Limit::Decibels(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Limit, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(f64),
            Text(String),
        }
        let text = match Written::deserialize(deserializer)? {
            Written::Number(share) => share.to_string(),
            Written::Text(text) => text,
        };
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_it_is_written() {
        for (text, limit) in [
            ("0.5%", Limit::Share(0.005)),
            ("0.25", Limit::Share(0.25)),
            ("cosine=0.999", Limit::Cosine(0.999)),
            ("30dB", Limit::Decibels(30.0)),
        ] {
            assert_eq!(text.parse(), Ok(limit));
            assert_eq!(limit.to_string().parse(), Ok(limit));
        }
        for text in ["7", "-1%", "cosine 2", "loud dB", ""] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
    }
}
