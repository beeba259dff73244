//! What a run answered.

use edgecc_format::{ElementType, Port};

use crate::inputs::describe;
use crate::tensor_file::Array;

/// The outputs of a run, named, in graph order; `bytes` gives those of output `n`.
pub fn outputs<'a>(ports: &[Port], bytes: impl Fn(usize) -> &'a [u8]) -> Vec<(String, Array)> {
    let array = |(index, port): (usize, &Port)| {
        let element_type = ElementType::try_from(port.element_type).unwrap_or(ElementType::Unspecified);
        let extents = port.dims.iter().map(|dim| dim.capacity() as usize).collect();
        (port.name.clone(), Array { element_type, extents, bytes: bytes(index).to_vec() })
    };
    ports.iter().enumerate().map(array).collect()
}

/// Most classes that are named.
const TOP: usize = 5;

/// A summary for people: the best classes of a classifier with their labels, the range of other outputs.
pub fn summary(ports: &[Port], labels: &[String], outputs: &[(String, Array)]) -> String {
    let mut text = String::new();
    for ((name, array), port) in outputs.iter().zip(ports) {
        let values = array.to_f64();
        text.push_str(&format!("{name}: {}\n", describe(port)));
        match classes(&array.extents) {
            Some(count) => text.push_str(&top(&values, count, labels)),
            None => text.push_str(&spread(&values)),
        }
    }
    text
}

/// The number of classes, where all elements lie along one axis.
fn classes(extents: &[usize]) -> Option<usize> {
    let elements: usize = extents.iter().product();
    (elements > 1 && extents.contains(&elements)).then_some(elements)
}

fn top(values: &[f64], count: usize, labels: &[String]) -> String {
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let line = |&class: &usize| {
        let label = labels.get(class).map_or(String::new(), |label| format!("  {label}"));
        format!("  {class:5}  {:10.6}{label}\n", values[class])
    };
    order.iter().take(TOP).map(line).collect()
}

fn spread(values: &[f64]) -> String {
    let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    if finite.is_empty() {
        return format!("  {} elements, none finite\n", values.len());
    }
    let smallest = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let largest = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mean = finite.iter().sum::<f64>() / finite.len() as f64;
    format!("  min {smallest:.6}  mean {mean:.6}  max {largest:.6}\n")
}
