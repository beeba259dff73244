//! The verifier: what must hold of every graph that a stage hands to the next.

use std::collections::HashSet;

use crate::graph::{Graph, NodeId, Origin};
use crate::infer::{TypeError, infer};
use crate::op::Op;
use crate::types::{TensorType, Type};

/// A graph that no stage may hand on: a mistake of the compiler, not of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A node breaks a rule.
    #[error("{op} #{index} ({origin}): {what}")]
    Node {
        /// The operator's name in the text form.
        op: &'static str,
        /// [`NodeId::index`] of the node.
        index: usize,
        /// The nodes of the model that it stands for.
        origin: Origin,
        /// The rule, with the types concerned.
        what: NodeFault,
    },
    /// Two inputs have one name.
    #[error("two inputs are called {0:?}")]
    InputName(String),
    /// Two outputs have one name.
    #[error("two outputs are called {0:?}")]
    OutputName(String),
}

/// The rule that a node breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeFault {
    /// It depends on itself.
    #[error("depends on itself")]
    Cycle,
    /// It computes an output, but its result is a tuple.
    #[error("output {0:?} is a tuple, which only projections may read")]
    TupleOutput(String),
    /// It is listed as an input without being one.
    #[error("stands among the inputs")]
    NoInput,
    /// It is an input that the graph does not list.
    #[error("is no input of the graph")]
    UnlistedInput,
    /// Operator and operands do not agree.
    #[error(transparent)]
    Types(#[from] TypeError),
    /// Its type is not the one that follows from operator and operands.
    #[error("has type {actual}, its operands give {expected}")]
    Type {
        /// The type that the node has.
        actual: Type,
        /// The type that it should have, but for the layout.
        expected: Type,
    },
    /// A layout has another rank than its tensor.
    #[error("the layout of {0} has another rank")]
    Layout(TensorType),
}

/// Checks every node in [`Graph::order`]: operands come before users; dtype and shape are those that follow from the
/// operands; layouts have their tensor's rank, and a relayout has the one it is for; inputs are listed; tuples are read by
/// projections alone. Names of inputs are distinct, and so are names of outputs.
pub fn verify(graph: &Graph) -> Result<(), VerifyError> {
    verify_names(graph)?;
    let mut seen = vec![false; graph.bound()];
    for id in graph.order() {
        verify_node(graph, id, &seen).map_err(|what| fault(graph, id, what))?;
        seen[id.index()] = true;
    }
    for &id in graph.inputs() {
        let is_input = matches!(graph.op(id), Op::Input { .. });
        if !is_input {
            return Err(fault(graph, id, NodeFault::NoInput));
        }
    }
    for output in graph.outputs() {
        if matches!(graph.node(output.node).ty(), Type::Tuple(_)) {
            return Err(fault(graph, output.node, NodeFault::TupleOutput(output.name.clone())));
        }
    }
    Ok(())
}

fn fault(graph: &Graph, id: NodeId, what: NodeFault) -> VerifyError {
    let node = graph.node(id);
    VerifyError::Node { op: node.op().name(), index: id.index(), origin: node.origin().clone(), what }
}

fn verify_names(graph: &Graph) -> Result<(), VerifyError> {
    let mut inputs = HashSet::new();
    for &id in graph.inputs() {
        if let Op::Input { name } = graph.op(id)
            && !inputs.insert(name)
        {
            return Err(VerifyError::InputName(name.clone()));
        }
    }
    let mut outputs = HashSet::new();
    for output in graph.outputs() {
        if !outputs.insert(&output.name) {
            return Err(VerifyError::OutputName(output.name.clone()));
        }
    }
    Ok(())
}

/// `seen` marks the nodes that come before this one.
fn verify_node(graph: &Graph, id: NodeId, seen: &[bool]) -> Result<(), NodeFault> {
    let node = graph.node(id);
    if node.operands().iter().any(|operand| !seen[operand.index()]) {
        return Err(NodeFault::Cycle);
    }
    verify_layouts(node.ty())?;
    if matches!(node.op(), Op::Input { .. }) {
        return if graph.inputs().contains(&id) { Ok(()) } else { Err(NodeFault::UnlistedInput) };
    }
    let operands: Vec<&Type> = node.operands().iter().map(|&operand| graph.node(operand).ty()).collect();
    let expected = infer(node.op(), &operands)?;
    let fixed_layout = matches!(node.op(), Op::Relayout(_));
    if node.ty().agrees(&expected) && (!fixed_layout || *node.ty() == expected) {
        Ok(())
    } else {
        Err(NodeFault::Type { actual: node.ty().clone(), expected })
    }
}

fn verify_layouts(ty: &Type) -> Result<(), NodeFault> {
    match ty.tensors().iter().find(|ty| ty.layout.rank() != ty.shape.rank()) {
        Some(ty) => Err(NodeFault::Layout(ty.clone())),
        None => Ok(()),
    }
}
