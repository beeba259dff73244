//! The order in which nodes are imported.

use std::collections::{HashMap, VecDeque};

use super::error::ImportError;
use super::proto::{GraphProto, NodeProto};

/// The numbers of nodes, each behind everything they read (Kahn), in file order where that is free.
pub(super) fn order(nodes: &[&NodeProto]) -> Result<Vec<usize>, ImportError> {
    let mut producer: HashMap<&str, usize> = HashMap::new();
    for (number, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            if producer.insert(output, number).is_some() {
                return Err(ImportError::Model(format!("`{output}` is computed by two nodes")));
            }
        }
    }
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    let mut waits: Vec<usize> = vec![0; nodes.len()];
    for (number, node) in nodes.iter().enumerate() {
        for name in reads(node) {
            if let Some(&from) = producer.get(name)
                && let (Some(list), Some(count)) = (users.get_mut(from), waits.get_mut(number))
            {
                list.push(number);
                *count += 1;
            }
        }
    }
    let mut ready: VecDeque<usize> = (0..nodes.len()).filter(|&number| waits.get(number) == Some(&0)).collect();
    let mut order = Vec::with_capacity(nodes.len());
    while let Some(number) = ready.pop_front() {
        order.push(number);
        for &user in users.get(number).map_or(&[][..], Vec::as_slice) {
            if let Some(count) = waits.get_mut(user) {
                *count -= 1;
                if *count == 0 {
                    ready.push_back(user);
                }
            }
        }
    }
    if order.len() < nodes.len() {
        let stuck = nodes.iter().enumerate().filter(|(number, _)| waits.get(*number).is_some_and(|&count| count > 0));
        let names: Vec<String> = stuck.take(5).map(|(number, node)| node_name(node, number)).collect();
        return Err(ImportError::Model(format!("nodes depend on each other in a circle: {}", names.join(", "))));
    }
    Ok(order)
}

/// A node's own name, or its operator and number.
pub(super) fn node_name(node: &NodeProto, number: usize) -> String {
    if node.name.is_empty() { format!("{}_{number}", node.op_type) } else { node.name.clone() }
}

/// The names that a node reads, those of its branches included.
fn reads(node: &NodeProto) -> Vec<&str> {
    let mut names: Vec<&str> = node.input.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    let mut graphs: Vec<&GraphProto> = node.attribute.iter().filter_map(|attribute| attribute.g.as_deref()).collect();
    while let Some(graph) = graphs.pop() {
        for inner in &graph.node {
            names.extend(inner.input.iter().map(String::as_str));
            graphs.extend(inner.attribute.iter().filter_map(|attribute| attribute.g.as_deref()));
        }
        names.extend(graph.output.iter().map(|output| output.name.as_str()));
    }
    names.sort_unstable();
    names.dedup();
    names
}
