//! A session: memory and pipelines of one run at a time.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::task::Poll;

use edgecc_format::{Call, Port, Program};

use super::device::{Gpu, HAND_OVER, Opened};
use super::error::GpuError;
use super::memory::{Memory, staged_bytes, write};
use super::model::{Checks, Loaded, calls};
use super::pipelines::{Pipeline, pipelines};
use super::profile::{Clock, nanoseconds};
use super::submissions::submissions;

/// Runs a model on a device. Everything is prepared when it is made; a run copies the inputs, submits once (more often if it takes
/// long), and reads the outputs back. Where the device is lost meanwhile it is opened anew, once, and the run begins again.
#[derive(Debug)]
pub struct GpuSession {
    model: Arc<Loaded>,
    gpu: Gpu,
    checks: Checks,
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
    /// Those of each submission.
    submissions: Vec<Range<usize>>,
    /// Bytes of each output in the staging buffer.
    staged: Vec<u64>,
}

/// A step.
#[derive(Debug)]
pub(super) struct Dispatch {
    pipeline: wgpu::ComputePipeline,
    buffers: wgpu::BindGroup,
    groups: [u32; 3],
}

impl GpuSession {
    pub(super) fn new(model: Arc<Loaded>, gpu: Gpu, checks: Checks) -> Result<GpuSession, GpuError> {
        let prepared = Prepared::new(&model, gpu.opened()?, checks)?;
        let zeros = |ports: &[Port]| -> Vec<Vec<u8>> {
            ports.iter().map(|port| vec![0; port.bytes().unwrap_or(0) as usize]).collect()
        };
        let (inputs, outputs) = (zeros(&model.manifest.inputs), zeros(&model.manifest.outputs));
        Ok(GpuSession { model, gpu, checks, prepared, losses: 0, inputs, outputs })
    }

    /// The device that it runs on.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// The inputs, in graph order.
    pub fn inputs(&self) -> &[Port] {
        &self.model.manifest.inputs
    }

    /// The outputs, in graph order.
    pub fn outputs(&self) -> &[Port] {
        &self.model.manifest.outputs
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

    /// The program that runs: the best that the device has all features for.
    pub fn program(&self) -> Result<&Program, GpuError> {
        self.model.program_for(&self.prepared.opened)
    }

    /// Runs once, and waits for the outputs.
    pub fn run(&mut self) -> Result<(), GpuError> {
        self.attempt(Prepared::run)
    }

    /// Runs as [`GpuSession::run`] does without a thread that waits: whenever the future is polled it asks the driver, and it wants to
    /// be polled again until the outputs are there. A run whose future is dropped leaves the outputs as they were.
    pub async fn run_async(&mut self) -> Result<(), GpuError> {
        match self.prepared.run_async(&self.inputs, &mut self.outputs).await {
            Err(_) if self.prepared.opened.is_lost() => {
                self.open_anew()?;
                self.prepared.run_async(&self.inputs, &mut self.outputs).await
            }
            result => result,
        }
    }

    /// Runs as [`GpuSession::run`] does and reports the nanoseconds of every step.
    pub fn run_profiled(&mut self, mut report: impl FnMut(usize, u64)) -> Result<(), GpuError> {
        let times = self.attempt(Prepared::run_profiled)?;
        times.into_iter().enumerate().for_each(|(step, nanoseconds)| report(step, nanoseconds));
        Ok(())
    }

    /// What tells the time of steps.
    pub fn clock(&self) -> Clock {
        Clock::of(&self.prepared.opened)
    }

    /// Does something on the device; where that is lost meanwhile, once more on one that is opened anew.
    fn attempt<T>(
        &mut self,
        act: impl Fn(&Prepared, &[Vec<u8>], &mut [Vec<u8>]) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        match act(&self.prepared, &self.inputs, &mut self.outputs) {
            Err(_) if self.prepared.opened.is_lost() => {
                self.open_anew()?;
                act(&self.prepared, &self.inputs, &mut self.outputs)
            }
            result => result,
        }
    }

    fn open_anew(&mut self) -> Result<(), GpuError> {
        self.prepared = Prepared::new(&self.model, self.gpu.opened()?, self.checks)?;
        self.losses += 1;
        Ok(())
    }
}

/// The outputs of what was submitted, on their way to the host.
struct Awaited<'a> {
    prepared: &'a Prepared,
    submission: wgpu::SubmissionIndex,
    mapped: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
    /// Whether the staging buffer is mapped or will be.
    is_mapped: Cell<bool>,
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if self.is_mapped.get() {
            self.prepared.memory.staging.unmap();
        }
    }
}

impl Awaited<'_> {
    /// Waits for the outputs.
    fn wait(self, outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        let opened = &self.prepared.opened;
        opened.wait(self.submission.clone())?;
        match self.mapped.recv_timeout(HAND_OVER) {
            Ok(mapped) => self.receive(mapped, outputs),
            Err(_) => Err(opened.failed("the outputs were not handed back".into())),
        }
    }

    /// Takes the outputs if they are there.
    fn take(&self, outputs: &mut [Vec<u8>]) -> Result<bool, GpuError> {
        match self.mapped.try_recv() {
            Ok(mapped) => self.receive(mapped, outputs).map(|()| true),
            Err(_) => self.prepared.opened.check().map(|()| false),
        }
    }

    fn receive(&self, mapped: Result<(), wgpu::BufferAsyncError>, outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        let opened = &self.prepared.opened;
        mapped.map_err(|error| {
            self.is_mapped.set(false);
            opened.check().err().unwrap_or_else(|| opened.failed(error.to_string()))
        })?;
        self.prepared.read_back(outputs)
    }
}

impl Prepared {
    fn new(model: &Loaded, opened: Arc<Opened>, checks: Checks) -> Result<Prepared, GpuError> {
        opened.check()?;
        let program = model.program_for(&opened)?;
        let memory = Memory::new(model, program, &opened)?;
        let pipelines = pipelines(model, program, &opened, checks)?;
        let of_call = |call: &Call| {
            let pipeline = pipelines.get(call.kernel as usize)?.as_ref()?;
            Dispatch::new(&opened, &memory, pipeline, call)
        };
        let dispatches = calls(program).filter_map(of_call).collect();
        let submissions = submissions(calls(program));
        opened.check()?;
        let staged = model.manifest.outputs.iter().map(staged_bytes).collect();
        Ok(Prepared { opened, memory, dispatches, submissions, staged })
    }

    fn run(&self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        self.start(inputs)?.wait(outputs)
    }

    async fn run_async(&self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        let awaited = self.start(inputs)?;
        poll_fn(|context| {
            // The driver tells what is done while it is polled.
            let _ = self.opened.device.poll(wgpu::PollType::Poll);
            match awaited.take(outputs) {
                Ok(true) => Poll::Ready(Ok(())),
                Ok(false) => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Submits a run.
    fn start(&self, inputs: &[Vec<u8>]) -> Result<Awaited<'_>, GpuError> {
        self.write(inputs)?;
        let mut encoder = self.encoder();
        for (number, steps) in self.submissions.iter().enumerate() {
            if number > 0 {
                self.opened.queue.submit([std::mem::replace(&mut encoder, self.encoder()).finish()]);
            }
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let dispatches = self.dispatches.get(steps.clone()).unwrap_or(&[]);
            dispatches.iter().for_each(|dispatch| dispatch.record(&mut pass));
        }
        self.copy_outputs(&mut encoder);
        Ok(self.submit(encoder))
    }

    /// Runs step by step; the nanoseconds of each.
    fn run_profiled(&self, inputs: &[Vec<u8>], outputs: &mut [Vec<u8>]) -> Result<Vec<u64>, GpuError> {
        self.write(inputs)?;
        let times = nanoseconds(&self.opened, &self.dispatches.iter().collect::<Vec<_>>(), 1)?;
        let mut encoder = self.encoder();
        self.copy_outputs(&mut encoder);
        self.submit(encoder).wait(outputs)?;
        Ok(times)
    }

    fn write(&self, inputs: &[Vec<u8>]) -> Result<(), GpuError> {
        self.opened.check()?;
        for (bytes, buffer) in inputs.iter().zip(&self.memory.inputs) {
            write(&self.opened, buffer, 0, bytes);
        }
        Ok(())
    }

    fn encoder(&self) -> wgpu::CommandEncoder {
        self.opened.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default())
    }

    /// Submits what ends with the outputs in the staging buffer.
    fn submit(&self, encoder: wgpu::CommandEncoder) -> Awaited<'_> {
        let submission = self.opened.queue.submit([encoder.finish()]);
        let (sender, mapped) = mpsc::channel();
        self.memory.staging.map_async(wgpu::MapMode::Read, .., move |result| {
            // Nobody waits behind a run that failed.
            let _ = sender.send(result);
        });
        Awaited { prepared: self, submission, mapped, is_mapped: Cell::new(true) }
    }

    fn copy_outputs(&self, encoder: &mut wgpu::CommandEncoder) {
        let mut at = 0;
        for (buffer, &bytes) in self.memory.outputs.iter().zip(&self.staged) {
            encoder.copy_buffer_to_buffer(buffer, 0, &self.memory.staging, at, bytes);
            at += bytes;
        }
    }

    fn read_back(&self, outputs: &mut [Vec<u8>]) -> Result<(), GpuError> {
        let mapped = self.memory.staging.get_mapped_range(..).map_err(|error| self.opened.failed(error.to_string()))?;
        let mut at = 0;
        for (output, &bytes) in outputs.iter_mut().zip(&self.staged) {
            let from = mapped.get(at..at + output.len()).unwrap_or(&[]);
            output.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
            at += bytes as usize;
        }
        Ok(())
    }
}

impl Dispatch {
    /// A checked call with its buffers bound.
    pub(super) fn new(gpu: &Opened, memory: &Memory, pipeline: &Pipeline, call: &Call) -> Option<Dispatch> {
        let Pipeline { layout, pipeline } = pipeline;
        let entries: Option<Vec<wgpu::BindGroupEntry<'_>>> = call
            .buffers
            .iter()
            .enumerate()
            .map(|(place, buffer)| {
                let resource = wgpu::BindingResource::Buffer(memory.binding(buffer)?);
                Some(wgpu::BindGroupEntry { binding: place as u32, resource })
            })
            .collect();
        let entries = entries?;
        let buffers =
            gpu.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout, entries: &entries });
        let groups = call.groups.first_chunk().copied()?;
        Some(Dispatch { pipeline: pipeline.clone(), buffers, groups })
    }

    pub(super) fn record(&self, pass: &mut wgpu::ComputePass<'_>) {
        let [x, y, z] = self.groups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.buffers, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}
