//! What an operator's function sees: its inputs, its attributes, and how to add nodes. Nodes of constants fold at once.

use edgecc_ir::{
    BinaryOp, DType, Expr, ExprId, NodeId, Op, Origin, Scalar, Shape, Tensor, TensorType, Type, UnaryOp, eval,
};

use super::error::ImportError;
use super::import::Importer;
use super::proto::{GraphProto, NodeProto};

/// Why a node was not imported.
pub(super) enum OpError {
    /// Goes into the list of what is not supported.
    Unsupported(String),
    /// The model is wrong.
    Invalid(String),
    /// Something else failed on the way.
    Import(ImportError),
}

impl From<ImportError> for OpError {
    fn from(error: ImportError) -> Self {
        OpError::Import(error)
    }
}

pub(super) type Imported<T> = Result<T, OpError>;
pub(super) type Results = Imported<Vec<NodeId>>;

pub(super) fn invalid<T>(what: impl Into<String>) -> Imported<T> {
    Err(OpError::Invalid(what.into()))
}

pub(super) fn unsupported<T>(what: impl Into<String>) -> Imported<T> {
    Err(OpError::Unsupported(what.into()))
}

/// Folded constants up to this size are not worth counting.
const SMALL: usize = 1 << 16;

/// One node being imported.
pub(super) struct Context<'a, 'm> {
    pub(super) importer: &'a mut Importer<'m>,
    pub(super) node: &'a NodeProto,
    name: String,
    pub(super) version: i64,
    inputs: Vec<Option<NodeId>>,
}

impl<'a, 'm> Context<'a, 'm> {
    pub(super) fn new(
        importer: &'a mut Importer<'m>,
        node: &'a NodeProto,
        name: &str,
        version: i64,
        inputs: Vec<Option<NodeId>>,
    ) -> Self {
        Context { importer, node, name: name.into(), version, inputs }
    }

    /// The operator's name.
    pub(super) fn operator(&self) -> &str {
        &self.node.op_type
    }

    /// Names asked for, the absent ones at the end left out.
    pub(super) fn outputs(&self) -> usize {
        self.node.output.iter().rposition(|output| !output.is_empty()).map_or(0, |last| last + 1)
    }

    pub(super) fn optional(&self, place: usize) -> Option<NodeId> {
        self.inputs.get(place).copied().flatten()
    }

    pub(super) fn input(&self, place: usize) -> Imported<NodeId> {
        match self.optional(place) {
            Some(id) => Ok(id),
            None => invalid(format!("input number {place} is missing")),
        }
    }

    /// Every input, all of which must be there.
    pub(super) fn all_inputs(&self) -> Imported<Vec<NodeId>> {
        (0..self.inputs.len()).map(|place| self.input(place)).collect()
    }

    pub(super) fn ty(&self, id: NodeId) -> Imported<TensorType> {
        match self.importer.graph.node(id).ty() {
            Type::Tensor(ty) => Ok(ty.clone()),
            Type::Tuple(_) => invalid("reads a tuple"),
        }
    }

    pub(super) fn shape(&self, id: NodeId) -> Imported<Shape> {
        Ok(self.ty(id)?.shape)
    }

    pub(super) fn rank(&self, id: NodeId) -> Imported<usize> {
        Ok(self.shape(id)?.rank())
    }

    pub(super) fn dtype(&self, id: NodeId) -> Imported<DType> {
        Ok(self.ty(id)?.dtype)
    }

    /// The extent of an axis that may not exist.
    pub(super) fn extent(&self, id: NodeId, axis: usize) -> Imported<usize> {
        let ty = self.ty(id)?;
        match ty.shape.dims().get(axis) {
            Some(dim) => Ok(dim.get()),
            None => invalid(format!("{ty} has no axis {axis}")),
        }
    }

    /// An axis, negative from the end.
    pub(super) fn axis(&self, axis: i64, rank: usize) -> Imported<usize> {
        let from_start = if axis < 0 { axis.checked_add(rank as i64) } else { Some(axis) };
        match from_start.and_then(|axis| usize::try_from(axis).ok()).filter(|&axis| axis < rank) {
            Some(axis) => Ok(axis),
            None => invalid(format!("axis {axis} of a tensor of rank {rank}")),
        }
    }

    /// Distinct axes in ascending order, negative from the end.
    pub(super) fn axes(&self, axes: &[i64], rank: usize) -> Imported<Vec<usize>> {
        let mut list = axes.iter().map(|&axis| self.axis(axis, rank)).collect::<Imported<Vec<usize>>>()?;
        list.sort_unstable();
        let count = list.len();
        list.dedup();
        if list.len() < count { invalid(format!("axes {axes:?} repeat")) } else { Ok(list) }
    }

    /// The value of an input that must be known while compiling.
    pub(super) fn known(&self, place: usize) -> Imported<Tensor> {
        let id = self.input(place)?;
        match self.value(id) {
            Some(value) => Ok(value),
            None => {
                let name = self.node.input.get(place).map_or("", String::as_str);
                unsupported(format!(
                    "input `{name}` is not constant; fix the shapes of the model's inputs or, where it is an input itself, its \
                     value (--constant)"
                ))
            }
        }
    }

    /// The value of a node, if it is a constant.
    pub(super) fn value(&self, id: NodeId) -> Option<Tensor> {
        self.importer.graph.constant_value(id).cloned()
    }

    /// Known integers.
    pub(super) fn known_ints(&self, place: usize) -> Imported<Vec<i64>> {
        let value = self.known(place)?;
        if value.elements() > SMALL { invalid("a list of too many numbers") } else { Ok(value.to_i64()) }
    }

    /// Known integers of an input that may be absent.
    pub(super) fn known_optional_ints(&self, place: usize) -> Imported<Option<Vec<i64>>> {
        self.optional(place).map(|_| self.known_ints(place)).transpose()
    }

    /// What computes a node.
    pub(super) fn operation(&self, id: NodeId) -> (Op, Vec<NodeId>) {
        (self.importer.graph.op(id).clone(), self.importer.graph.operands(id).to_vec())
    }

    /// Whether an input is an initialiser of 4 bits, which is held in 8.
    pub(super) fn is_of_four_bits(&self, place: usize) -> bool {
        self.node.input.get(place).is_some_and(|name| self.importer.four_bits.contains(name))
    }

    /// The outputs of a branch, or of a loop's body for these inputs.
    pub(super) fn inline(&mut self, graph: &GraphProto, inputs: &[NodeId]) -> Results {
        let name = self.name.clone();
        match self.importer.branch(graph, &name, inputs)? {
            Some(results) => Ok(results),
            None => unsupported("its branch holds operators that are not supported"),
        }
    }

    fn origin(&self) -> Origin {
        Origin::named(&self.name)
    }

    pub(super) fn constant(&mut self, value: Tensor) -> NodeId {
        let origin = self.origin();
        self.importer.constant(value, origin)
    }

    pub(super) fn constant_ints(&mut self, values: &[i64]) -> NodeId {
        self.constant(Tensor::from_i64(Shape::new(&[values.len()]), values))
    }

    /// A scalar of an element type.
    pub(super) fn number(&mut self, dtype: DType, value: f64) -> NodeId {
        self.constant(Tensor::scalar(Scalar::from_f64(dtype, value)))
    }

    /// Adds a node, or its value where every operand is a constant.
    pub(super) fn add(&mut self, op: Op, operands: &[NodeId]) -> Imported<NodeId> {
        if let Some(value) = self.folded(&op, operands)? {
            return Ok(self.constant(value));
        }
        self.add_as_is(op, operands)
    }

    /// Adds a node, also over constants alone.
    pub(super) fn add_as_is(&mut self, op: Op, operands: &[NodeId]) -> Imported<NodeId> {
        let origin = self.origin();
        let id = self.importer.graph.add(op, operands, origin).or_else(|error| invalid(error.to_string()))?;
        match self.importer.graph.node(id).ty() {
            Type::Tensor(ty) => self.check_size(ty)?,
            Type::Tuple(parts) => parts.iter().try_for_each(|part| self.check_size(part))?,
        }
        Ok(id)
    }

    /// Refuses a tensor that takes more memory than the user allows.
    pub(super) fn check_size(&self, ty: &TensorType) -> Imported<()> {
        self.importer.options.check_size(ty, || format!("node {}", self.name)).map_err(OpError::Import)
    }

    fn folded(&self, op: &Op, operands: &[NodeId]) -> Imported<Option<Tensor>> {
        let values: Option<Vec<&Tensor>> = operands.iter().map(|&id| self.importer.graph.constant_value(id)).collect();
        let Some(values) = values.filter(|values| !values.is_empty()) else { return Ok(None) };
        let types: Vec<Type> = values.iter().map(|value| Type::Tensor(value.ty())).collect();
        let ty = match edgecc_ir::infer(op, &types.iter().collect::<Vec<_>>()) {
            Ok(Type::Tensor(ty)) => ty,
            Ok(Type::Tuple(_)) => return Ok(None),
            Err(error) => return invalid(error.to_string()),
        };
        self.check_size(&ty)?;
        match eval::evaluate(op, &values) {
            Ok(mut results) if !results.is_empty() => Ok(Some(results.swap_remove(0))),
            Ok(_) => Ok(None),
            Err(error) => invalid(error.to_string()),
        }
    }

    /// An element-wise node: `build` gets the arguments of the expression, in the order of the operands.
    pub(super) fn map<const N: usize>(
        &mut self,
        operands: &[NodeId; N],
        build: impl FnOnce(&mut Expr, [ExprId; N]) -> ExprId,
    ) -> Imported<NodeId> {
        let mut types = [DType::F32; N];
        for (dtype, &operand) in types.iter_mut().zip(operands) {
            *dtype = self.dtype(operand)?;
        }
        let mut expr = Expr::new();
        let mut place = 0;
        let arguments = types.map(|dtype| {
            place += 1;
            expr.arg(place - 1, dtype)
        });
        let root = build(&mut expr, arguments);
        self.add(Op::Map(expr.with_root(root)), operands)
    }

    pub(super) fn unary(&mut self, op: UnaryOp, x: NodeId) -> Imported<NodeId> {
        self.map(&[x], |expr, [x]| expr.unary(op, x))
    }

    pub(super) fn binary(&mut self, op: BinaryOp, x: NodeId, y: NodeId) -> Imported<NodeId> {
        let (left, right) = (self.ty(x)?, self.ty(y)?);
        if left.dtype != right.dtype {
            return invalid(format!("{left} and {right} have unlike element types"));
        }
        self.map(&[x, y], |expr, [x, y]| expr.binary(op, x, y))
    }

    pub(super) fn cast(&mut self, x: NodeId, dtype: DType) -> Imported<NodeId> {
        if self.dtype(x)? == dtype {
            return Ok(x);
        }
        self.map(&[x], |expr, [x]| expr.cast(dtype, x))
    }

    /// Reshapes; a no-operation where the shape is the same.
    pub(super) fn reshape(&mut self, x: NodeId, extents: &[usize]) -> Imported<NodeId> {
        let shape = Shape::new(extents);
        if self.shape(x)? == shape { Ok(x) } else { self.add(Op::Reshape(shape), &[x]) }
    }

    pub(super) fn transpose(&mut self, x: NodeId, perm: &[usize]) -> Imported<NodeId> {
        let identity = perm.iter().copied().eq(0..self.rank(x)?);
        if identity { Ok(x) } else { self.add(Op::Transpose(perm.to_vec()), &[x]) }
    }

    /// A value per channel (axis 1) so that it broadcasts against a tensor of `rank`: `[C,1,1..]`.
    pub(super) fn per_channel(&mut self, x: NodeId, rank: usize) -> Imported<NodeId> {
        let channels = self.shape(x)?.elements().unwrap_or(0);
        let mut extents = vec![1; rank.saturating_sub(1).max(1)];
        if let Some(first) = extents.first_mut() {
            *first = channels;
        }
        self.reshape(x, &extents)
    }
}
