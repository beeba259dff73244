//! The graph: nodes with ordered operands, over petgraph, which no other file names.
//!
//! Incoming edges of petgraph come back in reverse order of insertion and two edges between one pair cannot be told apart,
//! so the ordered operand list lives on the node and edges mirror it; iteration order is our own depth-first walk from the
//! outputs, and no index is kept across a removal.

use std::fmt;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};

use crate::infer::{TypeError, infer};
use crate::op::Op;
use crate::tensor::Tensor;
use crate::types::{TensorType, Type};

/// A node of a graph. Valid until the node is removed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NodeIndex);

impl NodeId {
    /// A number unique within the graph, below [`Graph::bound`]; freed numbers are used again.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0.index())
    }
}

/// Names of the model's nodes that a node stands for, in the order in which fusion joined them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin(pub Vec<String>);

impl Origin {
    /// The origin of one node of the model.
    pub fn named(name: impl Into<String>) -> Self {
        Origin(vec![name.into()])
    }

    /// Both origins, without repetition.
    pub fn joined(&self, other: &Origin) -> Origin {
        let mut names = self.0.clone();
        names.extend(other.0.iter().filter(|name| !self.0.contains(name)).cloned());
        Origin(names)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("+"))
    }
}

/// One operator with its operands and the type of its result.
#[derive(Clone, Debug)]
pub struct Node {
    op: Op,
    operands: Vec<NodeId>,
    ty: Type,
    origin: Origin,
}

impl Node {
    /// What the node computes.
    pub fn op(&self) -> &Op {
        &self.op
    }

    /// Its operands, in order.
    pub fn operands(&self) -> &[NodeId] {
        &self.operands
    }

    /// The type of its result.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The nodes of the model that it stands for.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// A named result of the graph.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// The name in the model.
    pub name: String,
    /// The node that computes it.
    pub node: NodeId,
}

/// A directed acyclic graph of operators with ordered inputs and outputs.
#[derive(Clone, Default)]
pub struct Graph {
    name: String,
    nodes: StableDiGraph<Node, ()>,
    inputs: Vec<NodeId>,
    outputs: Vec<Output>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// The graph's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds an input behind the others.
    pub fn input(&mut self, name: impl Into<String>, ty: TensorType) -> NodeId {
        let name = name.into();
        let origin = Origin::default();
        let node = Node { op: Op::Input { name }, operands: Vec::new(), ty: Type::Tensor(ty), origin };
        let id = NodeId(self.nodes.add_node(node));
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn constant(&mut self, value: Tensor, origin: Origin) -> NodeId {
        let ty = Type::Tensor(value.ty());
        NodeId(self.nodes.add_node(Node { op: Op::Constant(value), operands: Vec::new(), ty, origin }))
    }

    /// Adds a node whose type follows from operator and operands. Fails, without a change, where they do not agree.
    pub fn add(&mut self, op: Op, operands: &[NodeId], origin: Origin) -> Result<NodeId, TypeError> {
        let types: Vec<&Type> = operands.iter().map(|&id| self.node(id).ty()).collect();
        let ty = infer(&op, &types)?;
        let id = NodeId(self.nodes.add_node(Node { op, operands: operands.to_vec(), ty, origin }));
        for operand in operands {
            self.nodes.add_edge(operand.0, id.0, ());
        }
        Ok(id)
    }

    /// Replaces operator and operands of a node, keeping its users. Fails, without a change, where operator and operands do
    /// not agree. The result may have another type; the verifier finds users that this breaks.
    pub fn rewrite(&mut self, id: NodeId, op: Op, operands: &[NodeId], origin: Origin) -> Result<(), TypeError> {
        let types: Vec<&Type> = operands.iter().map(|&id| self.node(id).ty()).collect();
        let ty = infer(&op, &types)?;
        self.disconnect_operands(id);
        for operand in operands {
            self.nodes.add_edge(operand.0, id.0, ());
        }
        self.nodes[id.0] = Node { op, operands: operands.to_vec(), ty, origin };
        Ok(())
    }

    /// Sets a node's layout; its dtype and shape stay. For the layout pass.
    pub fn set_type(&mut self, id: NodeId, ty: Type) {
        self.nodes[id.0].ty = ty;
    }

    /// Makes every use of `old`, as operand or output, a use of `new`. `old` stays, unused.
    pub fn replace_uses(&mut self, old: NodeId, new: NodeId) {
        for user in self.users(old) {
            self.replace_operand(user, old, new);
        }
        for output in self.outputs.iter_mut().filter(|output| output.node == old) {
            output.node = new;
        }
    }

    /// Makes every use of `old` among the operands of `user` a use of `new`.
    pub fn replace_operand(&mut self, user: NodeId, old: NodeId, new: NodeId) {
        let operands: Vec<NodeId> =
            self.node(user).operands.iter().map(|&id| if id == old { new } else { id }).collect();
        self.disconnect_operands(user);
        for operand in &operands {
            self.nodes.add_edge(operand.0, user.0, ());
        }
        self.nodes[user.0].operands = operands;
    }

    /// Adds an output behind the others.
    pub fn output(&mut self, name: impl Into<String>, node: NodeId) {
        self.outputs.push(Output { name: name.into(), node });
    }

    /// Makes output number `place` another node's result.
    pub fn set_output(&mut self, place: usize, node: NodeId) {
        self.outputs[place].node = node;
    }

    /// The inputs, in order. They stay even where nothing reads them.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The node at an id. Panics on a removed node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// What a node computes.
    pub fn op(&self, id: NodeId) -> &Op {
        &self.node(id).op
    }

    /// A node's operands.
    pub fn operands(&self, id: NodeId) -> &[NodeId] {
        &self.node(id).operands
    }

    /// The type of a node that has one tensor for its result. Panics on a tuple, which only projections may read.
    pub fn ty(&self, id: NodeId) -> &TensorType {
        match &self.node(id).ty {
            Type::Tensor(ty) => ty,
            Type::Tuple(_) => panic!("{id:?} is a tuple"),
        }
    }

    /// The value of a constant node.
    pub fn constant_value(&self, id: NodeId) -> Option<&Tensor> {
        match self.op(id) {
            Op::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The distinct nodes that have `id` among their operands, ascending by index.
    pub fn users(&self, id: NodeId) -> Vec<NodeId> {
        let mut users: Vec<NodeId> = self.nodes.neighbors_directed(id.0, Direction::Outgoing).map(NodeId).collect();
        users.sort_unstable();
        users.dedup();
        users
    }

    /// The one node that reads `id`, if no other node and no output does. Takes no longer where many do.
    pub fn only_user(&self, id: NodeId) -> Option<NodeId> {
        let mut users = self.nodes.neighbors_directed(id.0, Direction::Outgoing);
        let user = users.next()?;
        let alone = users.all(|other| other == user) && self.outputs.iter().all(|output| output.node != id);
        alone.then_some(NodeId(user))
    }

    /// How often a node is used: as operand of any node, and as output.
    pub fn use_count(&self, id: NodeId) -> usize {
        let as_operand = self.nodes.neighbors_directed(id.0, Direction::Outgoing).count();
        as_operand + self.outputs.iter().filter(|output| output.node == id).count()
    }

    /// One more than the largest [`NodeId::index`].
    pub fn bound(&self) -> usize {
        self.nodes.node_indices().map(|index| index.index() + 1).max().unwrap_or(0)
    }

    /// The number of nodes, used or not.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether the graph has no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every node, used or not, ascending by index.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().map(NodeId)
    }

    /// The inputs and then every node that an output depends on, operands before users: depth-first from the outputs in
    /// order, operands in order. Dead nodes and creation order do not touch it.
    pub fn order(&self) -> Vec<NodeId> {
        let mut order = Vec::with_capacity(self.len());
        let mut visited = vec![false; self.bound()];
        for &input in &self.inputs {
            visited[input.index()] = true;
            order.push(input);
        }
        for output in &self.outputs {
            self.walk(output.node, &mut visited, &mut order);
        }
        order
    }

    fn walk(&self, root: NodeId, visited: &mut [bool], order: &mut Vec<NodeId>) {
        let mut stack = vec![(root, 0)];
        while let Some((id, next)) = stack.pop() {
            if next == 0 && std::mem::replace(&mut visited[id.index()], true) {
                continue;
            }
            match self.operands(id).get(next) {
                Some(&operand) => {
                    stack.push((id, next + 1));
                    if !visited[operand.index()] {
                        stack.push((operand, 0));
                    }
                }
                None => order.push(id),
            }
        }
    }

    /// Removes every node that no output depends on, but keeps inputs. Returns how many.
    pub fn remove_dead(&mut self) -> usize {
        let mut live = vec![false; self.bound()];
        for id in self.order() {
            live[id.index()] = true;
        }
        let before = self.len();
        self.nodes.retain_nodes(|_, index| live[index.index()]);
        before - self.len()
    }

    fn disconnect_operands(&mut self, id: NodeId) {
        let edges: Vec<_> = self
            .nodes
            .edges_directed(id.0, Direction::Incoming)
            .map(|edge| petgraph::visit::EdgeRef::id(&edge))
            .collect();
        for edge in edges {
            self.nodes.remove_edge(edge);
        }
    }
}
