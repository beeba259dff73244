//! Values inside of a graph, as compiled code computes them of samples.

use std::collections::BTreeSet;

use edgecc_backends::cpu::isa::{Architecture, Kernels, Listing};
use edgecc_backends::schedule::choices::Choices;
use edgecc_backends::schedule::cores::GENERIC;
use edgecc_backends::schedule::gpu;
use edgecc_ir::{DType, Graph, NodeId, Shape};
use edgecc_passes::precision::Precision;
use edgecc_runtime::{LoadError, LoadOptions, Model, RunError, Session, SessionError, SessionOptions};

use super::samples::Samples;
use crate::compile::{CompileError, CompileOptions, finish, generate, kinds_here};

/// Bytes of captured values that one program keeps: more are captured by several programs, one after the other.
const LARGEST_GROUP: usize = 256 << 20;

/// A value of one run.
#[derive(Clone, Copy, Debug)]
pub struct Captured<'a> {
    /// The node that computes it.
    pub node: NodeId,
    /// The run, by its place in [`Samples::runs`].
    pub run: usize,
    /// Its extents.
    pub shape: &'a Shape,
    /// Its elements, row-major.
    pub elements: &'a [f32],
}

/// Why nothing was captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// Code cannot be emitted for this machine.
    #[error("calibration runs the model, and no code is emitted for this machine's processor")]
    Host,
    /// A value that is not of f32.
    #[error("internal error: value {node:?} is {dtype}, and f32 alone is captured")]
    Element {
        /// The node.
        node: NodeId,
        /// Its type.
        dtype: DType,
    },
    /// The graph did not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The code did not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There was no memory for a run.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A run failed.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs every sample through the code of a graph behind [`edgecc_passes::prepare`], and shows `visit` each of the values: for
/// one group of values after the other, run by run, in the order given. The graph's own outputs are left out.
pub fn capture(
    graph: &Graph,
    options: &CompileOptions,
    values: &[NodeId],
    samples: &Samples,
    threads: usize,
    visit: &mut dyn FnMut(Captured<'_>),
) -> Result<(), CaptureError> {
    if let Some((&node, ty)) = values.iter().map(|id| (id, graph.ty(*id))).find(|(_, ty)| ty.dtype != DType::F32) {
        return Err(CaptureError::Element { node, dtype: ty.dtype });
    }
    let mut elements = Vec::new();
    for group in groups(graph, values) {
        let mut session = session(graph, options, group, threads)?;
        for (run, inputs) in samples.runs.iter().enumerate() {
            for (place, input) in inputs.iter().enumerate() {
                session.input_mut(place).copy_from_slice(&input.bytes);
            }
            session.run()?;
            for (place, &node) in group.iter().enumerate() {
                let bytes = session.output(output_place(graph, place)).chunks_exact(4);
                elements.clear();
                elements.extend(bytes.map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
                visit(Captured { node, run, shape: &graph.ty(node).shape, elements: &elements });
            }
        }
    }
    Ok(())
}

/// Values in turn, as many together as [`LARGEST_GROUP`] holds, at least one.
fn groups<'a>(graph: &Graph, values: &'a [NodeId]) -> Vec<&'a [NodeId]> {
    let bytes = |id: NodeId| graph.ty(id).shape.elements().unwrap_or(usize::MAX).saturating_mul(4);
    let (mut groups, mut start, mut held) = (Vec::new(), 0, 0usize);
    for (place, &id) in values.iter().enumerate() {
        let larger = held.saturating_add(bytes(id));
        held = if larger > LARGEST_GROUP && place > start {
            groups.push(&values[start..place]);
            start = place;
            bytes(id)
        } else {
            larger
        };
    }
    groups.extend((start < values.len()).then(|| &values[start..]));
    groups
}

/// Outputs of the model come first: those are values of the group as well, so that nothing else is computed.
fn output_place(graph: &Graph, place: usize) -> usize {
    graph.outputs().len() + place
}

/// A program for this machine whose further outputs are the values.
#[allow(unsafe_code)]
fn session(
    graph: &Graph,
    options: &CompileOptions,
    values: &[NodeId],
    threads: usize,
) -> Result<Session, CaptureError> {
    let options = for_host(options).ok_or(CaptureError::Host)?;
    let mut graph = graph.clone();
    for place in 0..graph.outputs().len() {
        graph.set_output(place, values[0]);
    }
    let names: BTreeSet<String> = graph.outputs().iter().map(|output| output.name.clone()).collect();
    for (place, &value) in values.iter().enumerate() {
        let mut name = format!("value_{place}");
        while names.contains(&name) {
            name.push('_');
        }
        graph.output(name, value);
    }
    graph.remove_dead();
    finish(&mut graph, &options, &mut |_| {})?;
    // Every machine of this architecture has the least able kind's program, whose sums are the same wherever it runs.
    let kind = kinds_here(&graph, &options).pop().ok_or(CaptureError::Host)?;
    let compiled = generate(graph, &options, (kind, Vec::new()))?;
    let bytes = compiled.to_bytes().map_err(CompileError::from)?;
    // SAFETY: the bytes come from the compiler in this process.
    let model = unsafe { Model::from_bytes(&bytes, LoadOptions::default()) }?;
    Ok(model.session(SessionOptions { threads })?)
}

/// Options for running on this machine what is to be compiled by `options`: in full precision.
fn for_host(options: &CompileOptions) -> Option<CompileOptions> {
    Some(CompileOptions {
        architecture: Architecture::host()?,
        kernels: Kernels::default(),
        core: &GENERIC,
        gpu: &gpu::GENERIC,
        schedules: Choices::default(),
        precision: Precision::F32,
        half_sums: false,
        integers: true,
        allow_size: false,
        linked: false,
        listing: Listing::Off,
        labels: Vec::new(),
        configuration: String::new(),
        ..options.clone()
    })
}
