//! Nodes in order, names to values, branches and functions in place.

use std::collections::{BTreeMap, HashMap, HashSet};

use edgecc_ir::{Graph, NodeId, Origin, Tensor, TensorType};

use super::Model;
use super::context::{Context, OpError};
use super::error::{ImportError, Unsupported};
use super::inputs::{check_flags, fixed_value, input_type, left_open};
use super::ops;
use super::order::{node_name, order};
use super::proto::{GraphProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
use super::tensor;

/// How a model is read.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// Extents of symbolic dimensions.
    pub dims: BTreeMap<String, usize>,
    /// Shapes of inputs.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of inputs, which are no longer inputs of the graph.
    pub constants: BTreeMap<String, Tensor>,
    /// Largest tensor, in bytes.
    pub max_memory: usize,
}

impl ImportOptions {
    /// Refuses a type of more than `max_memory` bytes, of more elements than kernels count, or of too many axes. Extents of
    /// 0 count as 1, so that the product of any of a tensor's extents is within the limit.
    pub(super) fn check_size(&self, ty: &TensorType, what: impl FnOnce() -> String) -> Result<(), ImportError> {
        let limit = self.max_memory.min(ty.dtype.size().saturating_mul(u32::MAX as usize));
        let extents = ty.shape.dims().iter().map(|dim| dim.get().max(1));
        let bytes = extents.fold(ty.dtype.size(), usize::saturating_mul);
        if bytes > limit {
            return Err(ImportError::Limit { what: what(), ty: ty.clone(), limit });
        }
        if ty.shape.rank() > MOST_AXES {
            return Err(ImportError::Model(format!("{}: {} axes, {MOST_AXES} at most", what(), ty.shape.rank())));
        }
        Ok(())
    }
}

/// An imported model.
pub struct Imported {
    /// Its graph, row-major, with no dead nodes.
    pub graph: Graph,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Most axes of a tensor; NumPy has as many.
const MOST_AXES: usize = 64;
/// Deepest nesting of functions and branches.
const MOST_DEPTH: usize = 64;

/// The newest version of ONNX's operator set (ONNX 1.23).
const NEWEST_OPSET: i64 = 28;

/// What a name stands for. A value that is not there belongs to a node that was reported, or is an initialiser of an
/// element type that is not supported.
pub(super) type Scope = HashMap<String, Option<NodeId>>;

/// The state of importing a model.
pub(super) struct Importer<'m> {
    pub(super) model: &'m Model,
    pub(super) options: &'m ImportOptions,
    pub(super) graph: Graph,
    pub(super) scopes: Vec<Scope>,
    /// Versions of operator sets by domain; those of a function while it is inlined.
    pub(super) opsets: HashMap<String, i64>,
    unsupported: BTreeMap<(String, String), Vec<String>>,
    /// Initialisers of element types that are not supported, with the type's number.
    unread: HashMap<String, i32>,
    /// Initialisers of 4 bits.
    pub(super) four_bits: HashSet<String>,
    pub(super) depth: usize,
}

/// Imports a decoded model.
pub fn import(model: &Model, options: &ImportOptions) -> Result<Imported, ImportError> {
    let Some(graph) = &model.proto.graph else { return Err(ImportError::Model("the model has no graph".into())) };
    let name = if graph.name.is_empty() {
        model.path.file_stem().map_or("model".into(), |stem| stem.to_string_lossy().into_owned())
    } else {
        graph.name.clone()
    };
    let mut importer = Importer {
        model,
        options,
        graph: Graph::new(name),
        scopes: vec![Scope::new()],
        opsets: opsets(&model.proto.opset_import)?,
        unsupported: BTreeMap::new(),
        unread: HashMap::new(),
        four_bits: HashSet::new(),
        depth: 0,
    };
    let mut notes = Vec::new();
    importer.declare_inputs(graph, &mut notes)?;
    importer.body(graph)?;
    importer.refuse()?;
    importer.declare_outputs(graph)?;
    importer.graph.remove_dead();
    Ok(Imported { graph: importer.graph, notes })
}

/// Versions of operator sets by domain.
pub(super) fn opsets(imports: &[OperatorSetIdProto]) -> Result<HashMap<String, i64>, ImportError> {
    let is_newer =
        |opset: &&OperatorSetIdProto| matches!(opset.domain.as_str(), "" | "ai.onnx") && opset.version > NEWEST_OPSET;
    match imports.iter().find(is_newer) {
        Some(opset) => Err(ImportError::NewerOpset { version: opset.version, newest: NEWEST_OPSET }),
        None => Ok(imports.iter().map(|opset| (opset.domain.clone(), opset.version)).collect()),
    }
}

/// The operators outside of the tables, with their counts.
fn unknown_operators(model: &Model) -> Vec<String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let known: Vec<&str> = ops::table().iter().map(|operator| operator.name).collect();
    for name in super::operators(model).into_iter().filter(|name| !known.contains(&name.as_str())) {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| format!("{name} ({count} nodes)")).collect()
}

/// An operator's name with its domain, where that is not ONNX's own.
pub(super) fn qualified(domain: &str, operator: &str) -> String {
    if domain.is_empty() || domain == "ai.onnx" { operator.into() } else { format!("{domain}::{operator}") }
}

impl Importer<'_> {
    fn declare_inputs(&mut self, graph: &GraphProto, notes: &mut Vec<String>) -> Result<(), ImportError> {
        let initialised: std::collections::HashSet<&str> =
            graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        let inputs: Vec<&ValueInfoProto> =
            graph.input.iter().filter(|value| !initialised.contains(value.name.as_str())).collect();
        check_flags(graph, &inputs, self.options)?;
        let open: Vec<String> = inputs.iter().filter_map(|value| left_open(value, self.options)).collect();
        if !open.is_empty() {
            return Err(ImportError::OpenShapes { inputs: open, operators: unknown_operators(self.model) });
        }
        for value in inputs {
            let id = match self.options.constants.get(&value.name) {
                Some(fixed) => self.graph.constant(fixed_value(value, fixed)?, Origin::named(&value.name)),
                None => self.graph.input(&value.name, input_type(value, self.options, notes)?),
            };
            self.define(&value.name, Some(id))?;
        }
        Ok(())
    }

    fn declare_outputs(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        let mut names = std::collections::HashSet::new();
        for value in &graph.output {
            if !names.insert(&value.name) {
                return Err(ImportError::Model(format!("output `{}` is declared twice", value.name)));
            }
            let found = self.scopes.iter().rev().find_map(|scope| scope.get(&value.name)).copied().flatten();
            let id = found.ok_or_else(|| ImportError::Model(format!("nothing computes output `{}`", value.name)))?;
            self.graph.output(&value.name, id);
        }
        if graph.output.is_empty() {
            return Err(ImportError::Model("the model has no output".into()));
        }
        Ok(())
    }

    /// Initialisers and nodes of a graph, in the innermost scope.
    pub(super) fn body(&mut self, graph: &GraphProto) -> Result<(), ImportError> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let tensor = sparse.values.as_ref().map_or(String::new(), |values| values.name.clone());
            return Err(ImportError::Tensor { tensor, what: "sparse initialisers are not supported".into() });
        }
        for initializer in &graph.initializer {
            let value = self.initializer(initializer)?;
            self.define(&initializer.name, value)?;
        }
        let nodes: Vec<&NodeProto> = graph.node.iter().collect();
        self.nodes(&nodes)
    }

    fn initializer(&mut self, proto: &TensorProto) -> Result<Option<NodeId>, ImportError> {
        if tensor::is_of_four_bits(proto.data_type) {
            self.four_bits.insert(proto.name.clone());
        } else if tensor::dtype(proto.data_type).is_none() {
            self.unread.insert(proto.name.clone(), proto.data_type);
            return Ok(None);
        }
        let value = tensor::read(proto, &self.model.folder)?;
        self.options.check_size(&value.ty(), || format!("tensor `{}`", proto.name))?;
        Ok(Some(self.constant(value, Origin::named(&proto.name))))
    }

    pub(super) fn nodes(&mut self, nodes: &[&NodeProto]) -> Result<(), ImportError> {
        for number in order(nodes)? {
            if let Some(node) = nodes.get(number) {
                self.node(node, number)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, node: &NodeProto, number: usize) -> Result<(), ImportError> {
        let name = node_name(node, number);
        let Some(inputs) = self.inputs(node, &name)? else {
            // An operand belongs to a node that was reported, or to nobody.
            self.note_unread(node, &name);
            node.output.iter().filter(|output| !output.is_empty()).try_for_each(|output| self.define(output, None))?;
            self.note_unknown(node, &name);
            return Ok(());
        };
        let function = self
            .model
            .proto
            .functions
            .iter()
            .find(|function| function.name == node.op_type && function.domain == node.domain);
        let results = match function {
            Some(function) => self.call(function, node, &name, &inputs)?,
            None => self.operator(node, &name, inputs)?,
        };
        for (place, output) in node.output.iter().enumerate().filter(|(_, output)| !output.is_empty()) {
            let result = results.as_ref().map(|results| results.get(place).copied());
            match result {
                None => self.define(output, None)?,
                Some(Some(id)) => self.define(output, Some(id))?,
                Some(None) => {
                    self.note(node, &name, format!("its output number {place} is not computed"));
                    self.define(output, None)?;
                }
            }
        }
        Ok(())
    }

    /// The values of a node's inputs; an empty name is an absent one. `None` where one belongs to a reported node.
    fn inputs(&self, node: &NodeProto, name: &str) -> Result<Option<Vec<Option<NodeId>>>, ImportError> {
        let mut inputs = Vec::with_capacity(node.input.len());
        for input in &node.input {
            if input.is_empty() {
                inputs.push(None);
                continue;
            }
            match self.lookup(input) {
                Some(Some(id)) => inputs.push(Some(id)),
                Some(None) => return Ok(None),
                None => {
                    return Err(ImportError::Node {
                        node: name.into(),
                        operator: node.op_type.clone(),
                        what: format!("reads `{input}`, which nothing computes"),
                    });
                }
            }
        }
        Ok(Some(inputs))
    }

    pub(super) fn lookup(&self, name: &str) -> Option<Option<NodeId>> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }

    fn operator(
        &mut self,
        node: &NodeProto,
        name: &str,
        inputs: Vec<Option<NodeId>>,
    ) -> Result<Option<Vec<NodeId>>, ImportError> {
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let version = self.opsets.get(domain).or_else(|| self.opsets.get(&node.domain)).copied().unwrap_or(1);
        let Some(function) = ops::find(domain, &node.op_type) else {
            self.note_unknown(node, name);
            return Ok(None);
        };
        if domain.is_empty() && version < 7 {
            self.note(
                node,
                name,
                format!("opset {version} is older than 7; convert the model with onnx.version_converter"),
            );
            return Ok(None);
        }
        let mut context = Context::new(self, node, name, version, inputs);
        match function(&mut context) {
            Ok(results) => Ok(Some(results)),
            Err(OpError::Unsupported(reason)) => {
                self.note(node, name, reason);
                Ok(None)
            }
            Err(OpError::Invalid(what)) => {
                Err(ImportError::Node { node: name.into(), operator: node.op_type.clone(), what })
            }
            Err(OpError::Import(error)) => Err(error),
        }
    }

    pub(super) fn enter(&mut self, name: &str) -> Result<(), ImportError> {
        self.depth += 1;
        if self.depth > MOST_DEPTH {
            return Err(ImportError::Model(format!(
                "node {name}: functions or branches nest deeper than {MOST_DEPTH}"
            )));
        }
        Ok(())
    }

    pub(super) fn define(&mut self, name: &str, value: Option<NodeId>) -> Result<(), ImportError> {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), value);
        }
        Ok(())
    }

    pub(super) fn constant(&mut self, value: Tensor, origin: Origin) -> NodeId {
        self.graph.constant(value, origin)
    }

    /// Notes an operator that is not in the table, wherever it stands.
    fn note_unknown(&mut self, node: &NodeProto, name: &str) {
        let domain = if node.domain == "ai.onnx" { "" } else { node.domain.as_str() };
        let is_function = self
            .model
            .proto
            .functions
            .iter()
            .any(|function| function.name == node.op_type && function.domain == node.domain);
        if ops::find(domain, &node.op_type).is_none() && !is_function {
            self.note(node, name, ops::hint(domain, &node.op_type));
        }
    }

    /// Notes operands whose element type is not supported.
    fn note_unread(&mut self, node: &NodeProto, name: &str) {
        let unread = |input: &String| {
            let number = self.unread.get(input).filter(|_| self.lookup(input) == Some(None))?;
            Some(format!("elements of {} in `{input}` are not supported", tensor::type_name(*number)))
        };
        if let Some(reason) = node.input.iter().find_map(unread) {
            self.note(node, name, reason);
        }
    }

    fn note(&mut self, node: &NodeProto, name: &str, reason: String) {
        self.unsupported.entry((qualified(&node.domain, &node.op_type), reason)).or_default().push(name.into());
    }

    fn refuse(&mut self) -> Result<(), ImportError> {
        if self.unsupported.is_empty() {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.unsupported);
        Err(ImportError::Unsupported(
            rows.into_iter().map(|((operator, reason), nodes)| Unsupported { operator, reason, nodes }).collect(),
        ))
    }
}
