//! A session: memory and pipelines of one run at a time.

use std::sync::{Arc, mpsc};

use edgecc_format::Call;

use super::device::{Gpu, Opened};
use super::error::GpuError;
use super::memory::{Memory, staged_bytes, write};
use super::model::Loaded;
use super::pipelines::{Pipeline, pipelines};

/// Runs a model on a device. Everything is recorded when it is made; a run copies the inputs, submits once, and reads the
/// outputs back. Where the device is lost meanwhile it is opened anew, once, and the run begins again.
#[derive(Debug)]
pub struct GpuSession {
    model: Arc<Loaded>,
    gpu: Gpu,
    prepared: Prepared,
    losses: usize,
    inputs: Vec<Vec<u8>>,
    outputs: Vec<Vec<u8>>,
}

/// What a session has on a device.
#[derive(Debug)]
struct Prepared {
    opened: Arc<Opened>,
    memory: Memory,
    dispatches: Vec<Dispatch>,
    /// Bytes of each output in the staging buffer.
    staged: Vec<u64>,
}

/// A step.
#[derive(Debug)]
struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
    groups: [u32; 3],
}

impl GpuSession {
    pub(super) fn new(model: Arc<Loaded>, gpu: Gpu) -> Result<GpuSession, GpuError> {
        let prepared = Prepared::new(&model, gpu.opened()?)?;
        let zeros = |ports: &[edgecc_format::Port]| -> Vec<Vec<u8>> {
            ports.iter().map(|port| vec![0; port.bytes().unwrap_or(0) as usize]).collect()
        };
        let (inputs, outputs) = (zeros(&model.manifest.inputs), zeros(&model.manifest.outputs));
        Ok(GpuSession { model, gpu, prepared, losses: 0, inputs, outputs })
    }

    /// The device that it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// How often the device was lost and opened anew.
    pub fn losses(&self) -> usize {
        self.losses
    }

    /// The bytes of an input, a dense row-major tensor, to be filled in place; empty if there is no such input.
    pub fn input_mut(&mut self, index: usize) -> &mut [u8] {
        self.inputs.get_mut(index).map_or(&mut [], |input| input.as_mut_slice())
    }

    /// The bytes of an output as of the last run; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        self.outputs.get(index).map_or(&[], |output| output.as_slice())
    }

    /// Runs once, and waits for the outputs.
    pub fn run(&mut self) -> Result<(), GpuError> {
        match self.prepared.run(&self.inputs, &mut self.outputs) {
            Err(_) if self.prepared.opened.is_lost() => {
                self.prepared = Prepared::new(&self.model, self.gpu.opened()?)?;
                self.losses += 1;
                self.prepared.run(&self.inputs, &mut self.outputs)
            }
            result => result,
        }
    }
}

impl Prepared {
    fn new(model: &Loaded, opened: Arc<Opened>) -> Result<Prepared, GpuError> {
        opened.check()?;
        let memory = Memory::new(model, &opened)?;
        let pipelines = pipelines(model, &opened)?;
        let dispatches = model.calls().filter_map(|call| dispatch(&opened, &memory, &pipelines, call)).collect();
        opened.check()?;
        let staged = model.manifest.outputs.iter().map(staged_bytes).collect();
        Ok(Prepared { opened, memory, dispatches, staged })
    }

    fn run(&self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        self.opened.check()?;
        for (bytes, buffer) in inputs.iter().zip(&self.memory.inputs) {
            write(&self.opened, buffer, 0, bytes);
        }
        let submission = self.opened.queue.submit([self.record()]);
        let (sender, receiver) = mpsc::channel();
        self.memory.staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody waits behind a run that failed.
            let _ = sender.send(result);
        });
        self.opened.wait(submission)?;
        match receiver.try_recv() {
            Ok(Ok(())) => self.read_back(outputs),
            Ok(Err(error)) => Err(self.opened.failed(error.to_string())),
            Err(_) => Err(self.opened.failed("the outputs were not handed back".into())),
        }
    }

    /// The commands of a run.
    fn record(&self) -> wgpu::CommandBuffer {
        let mut encoder = self.opened.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        for dispatch in &self.dispatches {
            let [x, y, z] = dispatch.groups;
            pass.set_pipeline(&dispatch.pipeline);
            pass.set_bind_group(0, &dispatch.buffers, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
        drop(pass);
        let mut at = 0;
        for (buffer, &bytes) in self.memory.outputs.iter().zip(&self.staged) {
            encoder.copy_buffer_to_buffer(buffer, 0, &self.memory.staging, at, bytes);
            at += bytes;
        }
        encoder.finish()
    }

    fn read_back(&self, outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        let mapped = self.memory.staging.get_mapped_range(..).map_err(|error| self.opened.failed(error.to_string()))?;
        let mut at = 0;
        for (output, &bytes) in outputs.iter_mut().zip(&self.staged) {
            let from = mapped.get(at..at + output.len()).unwrap_or(&[]);
            output.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            at += bytes as usize;
        }
        drop(mapped);
        self.memory.staging.unmap();
        Ok(())
    }
}

/// A checked call with its buffers bound.
fn dispatch(gpu: &Opened, memory: &Memory, pipelines: &[Option<Pipeline>], call: &Call) -> Option<Dispatch> {
    let Pipeline { layout, pipeline } = pipelines.get(call.kernel as usize)?.as_ref()?;
    let entries: Option<Vec<wgpu::BindGroupEntry<'_>>> = call
        .buffers
        .iter()
        .enumerate()
        .map(|(place, buffer)| {
            let resource = wgpu::BindingResource::Buffer(memory.binding(buffer)?);
            Some(wgpu::BindGroupEntry { binding: place as u32, resource })
        })
        .collect();
    let buffers = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries? });
    let groups = call.groups.first_chunk().copied()?;
    Some(Dispatch { pipeline: pipeline.clone(), buffers, groups })
}
