//! Functions of the model and branches in place of the nodes that name them.

use edgecc_ir::NodeId;

use super::error::ImportError;
use super::import::{Importer, Scope, opsets};
use super::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto};

impl Importer<'_> {
    /// A function of the model, its body in place of the call.
    pub(super) fn call(
        &mut self,
        function: &FunctionProto,
        node: &NodeProto,
        name: &str,
        inputs: &[Option<NodeId>],
    ) -> Result<Option<Vec<NodeId>>, ImportError> {
        self.enter(name)?;
        let mut scope = Scope::new();
        for (parameter, value) in function.input.iter().zip(inputs) {
            if let Some(id) = value {
                scope.insert(parameter.clone(), Some(*id));
            }
        }
        let body: Vec<NodeProto> =
            function.node.iter().map(|inner| with_attributes(inner, function, node, inputs.len())).collect();
        let scopes = std::mem::replace(&mut self.scopes, vec![scope]);
        let own = opsets(&function.opset_import)?;
        let opsets = if own.is_empty() { self.opsets.clone() } else { std::mem::replace(&mut self.opsets, own) };
        self.nodes(&body.iter().collect::<Vec<_>>())?;
        let results: Vec<Option<Option<NodeId>>> = function.output.iter().map(|output| self.lookup(output)).collect();
        self.scopes = scopes;
        self.opsets = opsets;
        self.depth -= 1;
        if results.iter().any(|result| matches!(result, Some(None))) {
            return Ok(None);
        }
        let results: Option<Vec<NodeId>> = results.into_iter().map(Option::flatten).collect();
        let missing = || ImportError::Node {
            node: name.into(),
            operator: node.op_type.clone(),
            what: "the function computes not all of its outputs".into(),
        };
        results.ok_or_else(missing).map(Some)
    }

    /// A branch or a loop's body, with the names around it in view: its outputs for these inputs.
    pub(super) fn branch(
        &mut self,
        graph: &GraphProto,
        name: &str,
        inputs: &[NodeId],
    ) -> Result<Option<Vec<NodeId>>, ImportError> {
        self.enter(name)?;
        let parameters = graph.input.iter().zip(inputs);
        self.scopes.push(parameters.map(|(parameter, &id)| (parameter.name.clone(), Some(id))).collect());
        self.body(graph)?;
        let results: Vec<Option<Option<NodeId>>> =
            graph.output.iter().map(|output| self.lookup(&output.name)).collect();
        self.scopes.pop();
        self.depth -= 1;
        if results.iter().any(|result| matches!(result, Some(None))) {
            return Ok(None);
        }
        let results: Option<Vec<NodeId>> = results.into_iter().map(Option::flatten).collect();
        results
            .map(Some)
            .ok_or_else(|| ImportError::Model(format!("a branch of node {name} has an output that nothing computes")))
    }
}

/// A node of a function's body with the call's attributes in place of references, and names of absent inputs emptied.
fn with_attributes(inner: &NodeProto, function: &FunctionProto, call: &NodeProto, given: usize) -> NodeProto {
    let mut node = inner.clone();
    let defaults = &function.attribute_proto;
    node.attribute = inner
        .attribute
        .iter()
        .filter_map(|attribute| {
            if attribute.ref_attr_name.is_empty() {
                return Some(attribute.clone());
            }
            let named = |other: &&AttributeProto| other.name == attribute.ref_attr_name;
            let value = call.attribute.iter().find(named).or_else(|| defaults.iter().find(named))?;
            Some(AttributeProto { name: attribute.name.clone(), ref_attr_name: String::new(), ..value.clone() })
        })
        .collect();
    let absent: Vec<&String> = function
        .input
        .iter()
        .enumerate()
        .filter(|(place, _)| *place >= given || call.input.get(*place).is_none_or(String::is_empty))
        .map(|(_, name)| name)
        .collect();
    for input in node.input.iter_mut().filter(|input| absent.iter().any(|name| **name == **input)) {
        input.clear();
    }
    node
}
