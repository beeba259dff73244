//! The program: kernels and the steps that call them over storages. What lowering makes, the plan places and emission
//! turns into machine code.

use std::collections::BTreeMap;

use bytes::Bytes;
use edgecc_ir::{Origin, TensorType};

use crate::block_product::BlockProductSpec;
use crate::chain::Chain;
use crate::contraction::{ContractionSpec, DepthwiseSpec, RuntimeWeights};
use crate::kernel::{Access, LoopKernel};
use crate::pack::PackedLayout;
use crate::schedule::choices::Choice;
use crate::schedule::{DepthwiseSchedule, Schedule};
use crate::view::StorageId;
use crate::winograd::{WinogradInput, WinogradOutput};

/// What a storage is.
#[derive(Clone, PartialEq, Debug)]
pub enum StorageKind {
    /// Input `n` of the graph.
    Input(usize),
    /// Output `n` of the graph.
    Output(usize),
    /// Constant bytes.
    Constant(Bytes),
    /// Memory that the plan places in the arena.
    Arena,
}

/// A run of memory.
#[derive(Clone, PartialEq, Debug)]
pub struct Storage {
    /// What it is.
    pub kind: StorageKind,
    /// Its size.
    pub bytes: usize,
}

/// The meaning of a kernel, and how it runs where that is chosen apart.
#[derive(Clone, PartialEq, Debug)]
pub enum KernelSource {
    /// A loop nest.
    Loops(LoopKernel),
    /// A matrix product or convolution.
    Contraction(ContractionSpec, Schedule),
    /// A depthwise convolution.
    Depthwise(DepthwiseSpec, DepthwiseSchedule),
    /// A matrix product with weights of a few bits, in blocks.
    BlockProduct(BlockProductSpec),
    /// Inputs of Winograd's convolution.
    WinogradInput(WinogradInput),
    /// Results of Winograd's convolution.
    WinogradOutput(WinogradOutput),
    /// Packs weights that are known only at run time.
    Pack(RuntimeWeights, PackedLayout),
    /// Several of these over bands of rows.
    Chain(Chain),
}

/// An operand of a step: a run of bytes of a storage.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operand {
    /// The storage.
    pub storage: StorageId,
    /// First byte.
    pub offset: usize,
    /// Bytes that the kernel may touch.
    pub length: usize,
    /// What the kernel does with them.
    pub access: Access,
}

/// One call of a kernel.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Place in [`Program::kernels`].
    pub kernel: usize,
    /// The kernel's operands, in its order.
    pub operands: Vec<Operand>,
    /// Extents known when the step is called.
    pub arguments: Vec<u32>,
    /// Fewest iterations worth a worker of their own.
    pub grain: u32,
    /// Bytes of scratch for each worker.
    pub scratch: usize,
    /// Pairs (written operand, read operand) that may share memory: each element is read before it is written, at the same
    /// place, by the same worker.
    pub in_place: Vec<(usize, usize)>,
    /// The operator's name.
    pub name: String,
    /// The model's nodes that it stands for.
    pub origin: Origin,
    /// Multiply-adds.
    pub macs: u64,
}

/// A named input or output.
#[derive(Clone, PartialEq, Debug)]
pub struct Port {
    /// The name in the model.
    pub name: String,
    /// Its type; dense row-major.
    pub ty: TensorType,
}

/// How a layer runs, and how else it could.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// What was chosen.
    pub choice: Choice,
    /// What there are kernels for, best first by the cost model.
    pub possible: Vec<Choice>,
}

/// A whole model as steps over storages.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Program {
    /// The graph's name.
    pub name: String,
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// The memory.
    pub storages: Vec<Storage>,
    /// Distinct kernels.
    pub kernels: Vec<KernelSource>,
    /// Calls, in order.
    pub steps: Vec<Step>,
    /// What was decided for each layer whose schedule is chosen, by its words ([`crate::schedule::layer`]).
    pub decisions: BTreeMap<String, Decision>,
}
