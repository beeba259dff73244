//! Quantization of which everything is decided, so that it needs no samples.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_ir::{Graph, NodeId};
use edgecc_passes::quantize::layer_input;

use super::attempt::{Chosen, rounded};
use super::{Arithmetic, CHOICES, QuantizeError, QuantizeOptions, points};
use crate::calibrate::observe::Range;
use crate::names::{layers, values};
use crate::recipe::RangeRule;

/// What was decided, by the names of [`crate::names`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decided {
    /// Layers of integers that read 8 bits.
    pub integers: BTreeSet<String>,
    /// Layers of integers that read 16 bits.
    pub wide: BTreeSet<String>,
    /// Layers that could be, and keep their numbers.
    pub float: BTreeSet<String>,
    /// What the integers of values cover.
    pub ranges: BTreeMap<String, Range>,
    /// Whether channels have factors.
    pub is_equalized: bool,
    /// Whether weights are rounded by the samples.
    pub is_fitted: bool,
    /// Whether functions between layers are tables.
    pub has_tables: bool,
}

impl Decided {
    pub(super) fn of(graph: &Graph, Chosen { points, ranges, wide, .. }: &Chosen) -> Decided {
        let (layers, values) = (layers(graph), values(graph));
        let read = wide.iter().map(|(&layer, &range)| (layer_input(graph, layer), range));
        let ranges = read.chain(ranges.iter().map(|(&id, &range)| (id, range)));
        let could = points.float.iter().filter(|(_, reason)| CHOICES.contains(reason));
        Decided {
            integers: points.layers.iter().map(|&id| layers.name(id)).collect(),
            float: could.map(|&(id, _)| layers.name(id)).collect(),
            wide: wide.keys().map(|&id| layers.name(id)).collect(),
            ranges: ranges.map(|(id, range)| (values.name(id), range)).collect(),
            ..Decided::default()
        }
    }
}

/// Writes quantization into a graph behind [`edgecc_passes::prepare`] as [`super::quantize`] does where every range is given
/// and biases stay as they are.
pub fn insert_decided(graph: &mut Graph, how: &QuantizeOptions) -> Result<Decided, QuantizeError> {
    if !how.keep_biases {
        return Err(QuantizeError::NoMeans);
    }
    let kept = how.kept(graph)?;
    let points = points(graph, &kept);
    let rules = how.rules(graph);
    let decided = |id| match rules.get(&id) {
        Some(&RangeRule::Decided(range)) => Ok((id, range)),
        Some(RangeRule::By { .. }) | None => Err(QuantizeError::NoRange(values(graph).name(id))),
    };
    let has_tables = how.tables != Some(false);
    let is_kept = |id: &NodeId| has_tables || !points.functions.contains_key(id);
    let wide = kept.iter().filter(|(_, form)| **form == Arithmetic::Wide).map(|(&layer, _)| layer_input(graph, layer));
    let read = points.values.iter().copied().filter(is_kept).chain(wide);
    let ranges = read.map(decided).collect::<Result<_, _>>()?;
    let unobserved = BTreeMap::new();
    let weights = |layer| rounded(graph, how, &unobserved, layer);
    let chosen = Chosen::of(graph, &kept, (&ranges, &ranges), has_tables, weights);
    let decided = Decided { has_tables, ..Decided::of(graph, &chosen) };
    *graph = chosen.inserted(graph.clone())?;
    Ok(decided)
}
