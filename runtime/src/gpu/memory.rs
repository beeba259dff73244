//! A session's memory on the device: the weights, the arena, and a buffer for each input and output.

use std::collections::BTreeMap;

use edgecc_format::{BINDING_ALIGNMENT, BufferKind, BufferRef, Port, Program};
use wgpu::BufferUsages;

use super::device::Opened;
use super::error::GpuError;
use super::model::{Loaded, calls};

/// Whole vectors of four floats are bound, in bytes.
const GRANULE: u64 = 16;

/// The buffers.
#[derive(Debug)]
pub(super) struct Memory {
    weights: wgpu::Buffer,
    /// Where in `weights` each run of the artifact's weights lies, by offset and length there.
    places: BTreeMap<(u64, u64), u64>,
    arena: wgpu::Buffer,
    pub(super) inputs: Vec<wgpu::Buffer>,
    pub(super) outputs: Vec<wgpu::Buffer>,
    /// All outputs, one behind the other, for the host to read.
    pub(super) staging: wgpu::Buffer,
}

impl Memory {
    /// Allocates everything that a model's program needs and fills the weights.
    pub(super) fn new(model: &Loaded, program: &Program, gpu: &Opened) -> Result<Memory, GpuError> {
        let (places, weights_bytes) = place_weights(program);
        check_limits(model, program, gpu, weights_bytes)?;
        let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let make = |bytes: u64, usage: BufferUsages| {
            gpu.device.create_buffer(&wgpu::BufferDescriptor {
                label: None,
                size: padded(bytes),
                usage,
                mapped_at_creation: false,
            })
        };
        let ports = |ports: &[Port], usage: BufferUsages| -> Vec<wgpu::Buffer> {
            ports.iter().map(|port| make(port.bytes().unwrap_or(0), BufferUsages::STORAGE | usage)).collect()
        };
        let staged: u64 = model.manifest.outputs.iter().map(staged_bytes).sum();
        let memory = Memory {
            weights: make(weights_bytes, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            places,
            arena: make(program.arena_bytes, BufferUsages::STORAGE),
            inputs: ports(&model.manifest.inputs, BufferUsages::COPY_DST),
            outputs: ports(&model.manifest.outputs, BufferUsages::COPY_SRC),
            staging: make(staged, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
        };
        if let Some(error) = super::device::block_on(scope.pop()) {
            return Err(gpu.failed(error.to_string()));
        }
        for (&(offset, length), &place) in &memory.places {
            let bytes = model.weights().get(offset as usize..(offset + length) as usize).unwrap_or(&[]);
            write(gpu, &memory.weights, place, bytes);
        }
        gpu.check()?;
        Ok(memory)
    }

    /// The bound memory of a checked reference.
    pub(super) fn binding(&self, buffer: &BufferRef) -> Option<wgpu::BufferBinding<'_>> {
        let index = buffer.index as usize;
        let (memory, offset) = match buffer.kind() {
            BufferKind::Weights => (&self.weights, *self.places.get(&(buffer.offset, buffer.length))?),
            BufferKind::Arena => (&self.arena, buffer.offset),
            BufferKind::Input => (self.inputs.get(index)?, buffer.offset),
            BufferKind::Output => (self.outputs.get(index)?, buffer.offset),
            BufferKind::State | BufferKind::Scratch | BufferKind::Unspecified => return None,
        };
        Some(wgpu::BufferBinding { buffer: memory, offset, size: wgpu::BufferSize::new(padded(buffer.length)) })
    }
}

/// Bytes of a buffer or a binding: whole vectors, and never none.
fn padded(bytes: u64) -> u64 {
    bytes.max(1).next_multiple_of(GRANULE)
}

/// Bytes of an output in the staging buffer.
pub(super) fn staged_bytes(port: &Port) -> u64 {
    padded(port.bytes().unwrap_or(0))
}

/// Writes bytes of any number to a place of a buffer that has room for whole words.
pub(super) fn write(gpu: &Opened, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
    let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
    gpu.queue.write_buffer(buffer, offset, words);
    if !rest.is_empty() {
        let mut last = [0; 4];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        gpu.queue.write_buffer(buffer, offset + words.len() as u64, &last);
    }
}

/// Gives each run of weights that a step reads a place that can be bound; the bytes of all.
fn place_weights(program: &Program) -> (BTreeMap<(u64, u64), u64>, u64) {
    let buffers = calls(program).flat_map(|call| &call.buffers);
    let mut places = BTreeMap::new();
    for buffer in buffers.filter(|buffer| buffer.kind() == BufferKind::Weights) {
        places.insert((buffer.offset, buffer.length), 0);
    }
    let mut end = 0u64;
    for (&(_, length), place) in &mut places {
        *place = end;
        end = (end + length).next_multiple_of(BINDING_ALIGNMENT);
    }
    (places, end)
}

fn check_limits(model: &Loaded, program: &Program, gpu: &Opened, weights_bytes: u64) -> Result<(), GpuError> {
    let limits = gpu.device.limits();
    let port = |port: &Port| port.bytes().unwrap_or(u64::MAX / 2);
    let ports = model.manifest.inputs.iter().chain(&model.manifest.outputs).map(port).max().unwrap_or(0);
    let largest = weights_bytes.max(program.arena_bytes).max(ports);
    gpu.require("maxBufferSize", limits.max_buffer_size, padded(largest))?;
    let bound = calls(program).flat_map(|call| &call.buffers).map(|buffer| padded(buffer.length)).max().unwrap_or(0);
    gpu.require("maxStorageBufferBindingSize", limits.max_storage_buffer_binding_size, bound)?;
    let bindings = calls(program).map(|call| call.buffers.len()).max().unwrap_or(0);
    let most = u64::from(limits.max_storage_buffers_per_shader_stage);
    gpu.require("maxStorageBuffersPerShaderStage", most, bindings as u64)?;
    let groups = calls(program).flat_map(|call| &call.groups).max().copied().unwrap_or(0);
    let most = u64::from(limits.max_compute_workgroups_per_dimension);
    gpu.require("maxComputeWorkgroupsPerDimension", most, u64::from(groups))
}
