//! Lowering: what each operator computes, as kernels over views. One file per family of operators.

pub(crate) mod block_product;
mod block_weights;
mod builder;
mod choose;
mod contraction;
mod contraction_loops;
mod convolution;
mod depthwise;
mod gather;
mod map;
mod matmul;
mod movement;
mod nest;
mod normalize;
mod pad;
mod placement;
mod pool;
mod reading;
mod reduce;
mod resize;
mod rows;
mod scan;
mod scatter;
mod softmax;
mod strassen;
mod top_k;
mod window;
mod winograd;
mod winograd_weights;

use edgecc_ir::{BlockWeights, DType, Graph, NodeId, Op, Tensor, TensorData, TensorType};

use crate::cpu::isa::Halves;
use crate::kernel::{Access, LoopKernel};
use crate::packings::Packings;
use crate::program::{KernelSource, Operand, Port, Program, Step, Storage, StorageKind};
use crate::schedule::Machine;
use crate::schedule::choices::Choices;
use crate::schedule::gpu::GpuClass;
use crate::view::{StorageId, View};

/// A graph that cannot become a program: the nodes concerned, all of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(|refused| format!("{}: {} {}", refused.origin, refused.op, refused.what)).collect::<Vec<_>>().join("\n"))]
pub struct LowerError(pub Vec<Refused>);

/// A node without a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The model's nodes.
    pub origin: String,
    /// The operator's name.
    pub op: String,
    /// What there is no kernel for.
    pub what: String,
}

/// Why one node was refused.
pub(crate) type Lowered<T> = Result<T, String>;

/// The state of lowering one graph.
pub(crate) struct Lowering<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) options: LowerOptions<'a>,
    program: Program,
    /// What is wrong with a choice that was given for the node at work.
    wrong_choice: Option<String>,
    /// Where results lie, by node index; several for a tuple.
    views: Vec<Vec<View>>,
    /// Where results are wanted, by node index.
    places: Vec<Option<View>>,
}

/// What runs a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Processor {
    /// A CPU: kernels are machine code.
    #[default]
    Cpu,
    /// A GPU: kernels are shaders.
    Gpu,
}

/// What lowering decides by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowerOptions<'a> {
    /// What runs the program.
    pub processor: Processor,
    /// Decides the schedules of contractions on a CPU, and with them how weights are packed.
    pub machine: Machine,
    /// Decides the schedules on a GPU.
    pub gpu: &'static GpuClass,
    /// How halves are computed with.
    pub halves: Halves,
    /// Whether weights may be kept in forms that are larger than the model's, where they make it faster.
    pub constants_may_grow: bool,
    /// Schedules that are given.
    pub choices: Option<&'a Choices>,
    /// How another program packs its weights: a GPU's takes the same, so that an artifact holds them once.
    pub packings: Option<&'a Packings>,
}

/// What a step needs beside kernel and operands.
pub(crate) struct Call {
    /// Fewest iterations of the range worth a worker.
    pub(crate) grain: u32,
    /// Bytes of scratch for each worker, the kernel's last operand if not 0.
    pub(crate) scratch: usize,
    /// See [`Step::in_place`].
    pub(crate) in_place: Vec<(usize, usize)>,
    /// Multiply-adds.
    pub(crate) macs: u64,
    /// What the step's name says behind the operator's.
    pub(crate) part: Option<&'static str>,
}

impl Default for Call {
    fn default() -> Self {
        Call { grain: 1, scratch: 0, in_place: Vec::new(), macs: 0, part: None }
    }
}

/// Lowers a verified graph with layouts chosen. Fails with the list of every node that has no kernel.
pub fn lower(graph: &Graph, options: LowerOptions<'_>) -> Result<Program, LowerError> {
    let mut lowering = Lowering::new(graph, options);
    placement::place(&mut lowering);
    let mut refused = Vec::new();
    for id in graph.order() {
        let lowered = lower_node(&mut lowering, id);
        let wrong = lowering.wrong_choice.take();
        if let Err(what) = lowered.and_then(|()| wrong.map_or(Ok(()), Err)) {
            let node = graph.node(id);
            refused.push(Refused { origin: node.origin().to_string(), op: node.op().name().to_string(), what });
            lowering.give_up(id);
        }
    }
    if !refused.is_empty() {
        return Err(LowerError(refused));
    }
    lowering.copy_outputs();
    Ok(lowering.program)
}

fn lower_node(lowering: &mut Lowering<'_>, id: NodeId) -> Lowered<()> {
    let graph = lowering.graph;
    match graph.op(id) {
        Op::Input { .. } => lowering.bind_input(id),
        Op::Constant(value) => lowering.bind_constant(id, value),
        _ if reading::is_done_by_readers(lowering, id) => {}
        Op::Transpose(_)
        | Op::Slice { .. }
        | Op::Broadcast(_)
        | Op::Reshape(_)
        | Op::Relayout(_)
        | Op::Concat { .. } => {
            return movement::lower(lowering, id);
        }
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::MatMul { .. } => return contraction::lower(lowering, id),
        // Their reader decides what becomes of them.
        Op::Map(_) if BlockWeights::are_made_by(graph, id) => {
            let nothing = lowering.constant(bytes::Bytes::new());
            lowering.set_view(id, View::dense(nothing, graph.ty(id)));
        }
        Op::Map(expr) => return map::lower(lowering, id, expr),
        Op::Pool { kind, window, ceil: _ } => return pool::lower(lowering, id, *kind, window),
        Op::PoolIndices { window, ceil: _, column_major } => {
            return pool::indices(lowering, id, window, *column_major);
        }
        Op::Reduce { .. } if depthwise::is_mean_of_convolution(lowering, id) => {}
        Op::Reduce { kind, axes } => return reduce::lower(lowering, id, *kind, axes),
        Op::ArgReduce { extreme, axis, last } => return reduce::arg(lowering, id, *extreme, *axis, *last),
        Op::Softmax { axis, log } => return softmax::lower(lowering, id, *axis, *log),
        Op::Normalize { axes, epsilon, root_mean_square } => {
            return normalize::lower(lowering, id, axes, f32::from_bits(*epsilon), *root_mean_square);
        }
        Op::LocalResponseNorm { size, alpha, beta, bias } => {
            let [alpha, beta, bias] = [alpha, beta, bias].map(|&bits| f32::from_bits(bits));
            let response = normalize::Response { size: *size, alpha, beta, bias };
            return normalize::local_response(lowering, id, response);
        }
        Op::Pad { mode, before, after: _ } => return pad::lower(lowering, id, *mode, before),
        Op::Tile { repeats } => return pad::tile(lowering, id, repeats),
        Op::Resize { axes } => return resize::lower(lowering, id, axes),
        Op::Gather { axis } => return gather::lower(lowering, id, *axis),
        Op::GatherElements { axis } => return gather::elements(lowering, id, *axis),
        Op::GatherNd { batch_dims } => return gather::nd(lowering, id, *batch_dims),
        Op::ScatterElements { axis, kind } => return scatter::elements(lowering, id, *axis, *kind),
        Op::ScatterNd { kind } => return scatter::nd(lowering, id, *kind),
        Op::CumulativeSum { axis, exclusive, reverse } => {
            return scan::lower(lowering, id, *axis, *exclusive, *reverse);
        }
        Op::TopK { axis, count: _, extreme } => return top_k::lower(lowering, id, *axis, *extreme),
        Op::Project(n) => {
            let view = lowering.component(graph.operands(id)[0], *n).clone();
            lowering.set_view(id, view);
        }
    }
    Ok(())
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, options: LowerOptions<'a>) -> Self {
        let port = |name: &str, id: NodeId| Port { name: name.to_string(), ty: graph.ty(id).clone() };
        let mut program = Program { name: graph.name().to_string(), ..Program::default() };
        for (index, &id) in graph.inputs().iter().enumerate() {
            let Op::Input { name } = graph.op(id) else { continue };
            program.inputs.push(port(name, id));
            program.storages.push(Storage { kind: StorageKind::Input(index), bytes: bytes(graph.ty(id)) });
        }
        for (index, output) in graph.outputs().iter().enumerate() {
            program.outputs.push(port(&output.name, output.node));
            program.storages.push(Storage { kind: StorageKind::Output(index), bytes: bytes(graph.ty(output.node)) });
        }
        let (views, places) = (vec![Vec::new(); graph.bound()], vec![None; graph.bound()]);
        Lowering { graph, options, program, wrong_choice: None, views, places }
    }

    /// Where a node's single result lies.
    pub(crate) fn view(&self, id: NodeId) -> &View {
        &self.views[id.index()][0]
    }

    /// Where component `n` of a node's tuple lies.
    pub(crate) fn component(&self, id: NodeId, n: usize) -> &View {
        &self.views[id.index()][n]
    }

    /// Says that a node's result lies in `view`, without a step.
    pub(crate) fn set_view(&mut self, id: NodeId, view: View) {
        self.views[id.index()] = vec![view];
    }

    /// Says where the components of a node's tuple lie.
    pub(crate) fn set_components(&mut self, id: NodeId, views: Vec<View>) {
        self.views[id.index()] = views;
    }

    /// Where a node's result is to be written: where it is wanted, or a dense storage of its own. Sets its view.
    pub(crate) fn destination(&mut self, id: NodeId) -> View {
        let view = match self.placed(id) {
            Some(view) => view,
            None => {
                let ty = self.graph.ty(id).clone();
                let view = self.temporary(&ty);
                self.set_place(id, view.clone());
                view
            }
        };
        self.set_view(id, view.clone());
        view
    }

    /// A dense arena storage of its own for a tensor of this type.
    pub(crate) fn temporary(&mut self, ty: &TensorType) -> View {
        View::dense(self.storage(StorageKind::Arena, bytes(ty)), ty)
    }

    /// A constant that no node of the graph is, such as packed weights. Equal bytes become one later.
    pub(crate) fn constant(&mut self, value: bytes::Bytes) -> StorageId {
        let length = value.len();
        self.storage(StorageKind::Constant(value), length)
    }

    /// The bytes of a storage that is constant.
    pub(crate) fn constant_bytes(&self, storage: StorageId) -> Option<&bytes::Bytes> {
        match &self.program.storages[storage.0 as usize].kind {
            StorageKind::Constant(value) => Some(value),
            StorageKind::Input(_) | StorageKind::Output(_) | StorageKind::Arena => None,
        }
    }

    /// An arena storage without a tensor's shape, such as run-time packed weights.
    pub(crate) fn untyped(&mut self, bytes: usize) -> StorageId {
        self.storage(StorageKind::Arena, bytes)
    }

    /// A whole storage as an operand.
    pub(crate) fn whole(&self, storage: StorageId, access: Access) -> Operand {
        Operand { storage, offset: 0, length: self.program.storages[storage.0 as usize].bytes, access }
    }

    /// The value of a node that is a constant.
    pub(crate) fn constant_value(&self, id: NodeId) -> Option<&'a Tensor> {
        self.graph.constant_value(id)
    }

    /// Adds a step that calls a loop nest on views, in the order of the kernel's buffers.
    pub(crate) fn push_loops(&mut self, id: NodeId, kernel: LoopKernel, operands: &[&View], call: Call) {
        let operands =
            operands.iter().zip(&kernel.buffers).map(|(view, buffer)| operand(view, buffer.access)).collect();
        self.push(id, KernelSource::Loops(kernel), operands, call);
    }

    /// Adds a step. Equal kernels are shared.
    pub(crate) fn push(&mut self, id: NodeId, source: KernelSource, operands: Vec<Operand>, call: Call) {
        let node = self.graph.node(id);
        let kernels = &mut self.program.kernels;
        let kernel = kernels.iter().position(|other| *other == source).unwrap_or_else(|| {
            kernels.push(source);
            kernels.len() - 1
        });
        self.program.steps.push(Step {
            kernel,
            operands,
            arguments: Vec::new(),
            grain: call.grain,
            scratch: call.scratch,
            in_place: call.in_place,
            name: [Some(node.op().name()), call.part].into_iter().flatten().collect::<Vec<_>>().join("_"),
            origin: reading::origin(self, id),
            macs: call.macs,
        });
    }

    fn placed(&self, id: NodeId) -> Option<View> {
        self.places[id.index()].clone()
    }

    fn set_place(&mut self, id: NodeId, view: View) {
        self.places[id.index()] = Some(view);
    }

    fn output_storage(&self, index: usize) -> StorageId {
        StorageId((self.program.inputs.len() + index) as u32)
    }

    fn storage(&mut self, kind: StorageKind, bytes: usize) -> StorageId {
        self.program.storages.push(Storage { kind, bytes });
        StorageId((self.program.storages.len() - 1) as u32)
    }

    fn bind_input(&mut self, id: NodeId) {
        let index = self.graph.inputs().iter().position(|&input| input == id).unwrap_or(0);
        self.set_view(id, View::dense(StorageId(index as u32), self.graph.ty(id)));
    }

    /// Dense constants lie row-major; a splat is one element that is read again and again.
    pub(crate) fn bind_constant(&mut self, id: NodeId, value: &Tensor) {
        let view = match value.data() {
            TensorData::Splat(scalar) => {
                let element = scalar.to_le_bytes()[..value.dtype().size()].to_vec();
                View::splat(self.constant(element.into()), value.dtype(), value.shape())
            }
            TensorData::Dense(bytes) => View::dense(self.constant(bytes.clone()), &value.ty()),
        };
        self.set_view(id, view);
    }

    /// Gives a refused node views, so that the nodes behind it can be looked at.
    fn give_up(&mut self, id: NodeId) {
        let types = match self.graph.node(id).ty() {
            edgecc_ir::Type::Tensor(ty) => vec![ty.clone()],
            edgecc_ir::Type::Tuple(types) => types.clone(),
        };
        let views = types.iter().map(|ty| self.temporary(ty)).collect();
        self.set_components(id, views);
    }

    /// Outputs that no step wrote in place are copied: inputs and constants passed on, views, and results wanted twice.
    fn copy_outputs(&mut self) {
        for (index, output) in self.graph.outputs().iter().enumerate() {
            let destination = View::dense(self.output_storage(index), self.graph.ty(output.node));
            let source = self.view(output.node).clone();
            if source != destination {
                movement::copy(self, output.node, &source, &destination);
            }
        }
    }
}

/// The operand of a step that a view is.
pub(crate) fn operand(view: &View, access: Access) -> Operand {
    let size = view.dtype.size();
    Operand { storage: view.storage, offset: view.offset * size, length: view.span() * size, access }
}

/// Bytes of a dense tensor. Overflow was excluded by shape inference.
fn bytes(ty: &TensorType) -> usize {
    ty.bytes().unwrap_or(0)
}

/// The unsigned integer type as wide as a type: what a copy moves.
pub(crate) fn bits_of(dtype: DType) -> DType {
    match dtype.size() {
        1 => DType::U8,
        2 => DType::U16,
        4 => DType::U32,
        _ => DType::U64,
    }
}
