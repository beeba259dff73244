//! Equal nodes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use edgecc_ir::{Graph, NodeId, Op, Tensor, TensorData, Type};

/// `op(x), op(x) => op(x)`: of two nodes with equal operators and operands only the first stays; equal constants likewise.
///
/// Constants are compared by bits. Inputs stay distinct. Exact.
pub fn common_subexpressions(graph: &mut Graph) -> usize {
    let mut seen: HashMap<u64, Vec<NodeId>> = HashMap::new();
    let mut rewrites = 0;
    for id in graph.order() {
        if matches!(graph.op(id), Op::Input { .. }) {
            continue;
        }
        let alike = seen.entry(fingerprint(graph, id)).or_default();
        match alike.iter().find(|&&other| equal(graph, other, id)) {
            Some(&first) => {
                graph.replace_uses(id, first);
                rewrites += 1;
            }
            None => alike.push(id),
        }
    }
    graph.remove_dead();
    rewrites
}

fn equal(graph: &Graph, a: NodeId, b: NodeId) -> bool {
    let (a, b) = (graph.node(a), graph.node(b));
    a.operands() == b.operands() && a.ty() == b.ty() && a.op() == b.op()
}

/// Equal for equal nodes, and mostly unlike for others: of a large constant only the first bytes count.
fn fingerprint(graph: &Graph, id: NodeId) -> u64 {
    let node = graph.node(id);
    let mut hasher = DefaultHasher::new();
    (node.op().name(), node.operands()).hash(&mut hasher);
    hash_type(node.ty(), &mut hasher);
    match node.op() {
        Op::Constant(value) => hash_constant(value, &mut hasher),
        Op::Map(expr) => expr.hash(&mut hasher),
        _ => {}
    }
    hasher.finish()
}

fn hash_type(ty: &Type, hasher: &mut DefaultHasher) {
    match ty {
        Type::Tensor(ty) => ty.hash(hasher),
        Type::Tuple(types) => types.hash(hasher),
    }
}

fn hash_constant(value: &Tensor, hasher: &mut DefaultHasher) {
    match value.data() {
        TensorData::Splat(scalar) => scalar.hash(hasher),
        TensorData::Dense(bytes) => bytes[..bytes.len().min(256)].hash(hasher),
    }
}
