//! How long steps take: by the device's own clock where it has one that the app may read, else by ours around whole dispatches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use edgecc_format::FormatError;

use super::device::{Gpu, HAND_OVER, Opened};
use super::error::GpuError;
use super::memory::Memory;
use super::model::{Checks, Loaded, calls};
use super::pipelines::pipeline;
use super::session::Dispatch;

/// What tells the time of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The device's, in front of and behind each step.
    Device,
    /// The processor's, around dispatches of a step that it submits and waits for.
    Processor,
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Clock::Device => "by the device's clock",
            Clock::Processor => "by the processor's clock, around dispatches",
        })
    }
}

impl Clock {
    pub(super) fn of(gpu: &Opened) -> Clock {
        match gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            true => Clock::Device,
            false => Clock::Processor,
        }
    }
}

/// Steps whose ends fit a set of queries.
const STEPS_OF_A_SET: usize = wgpu::QUERY_SET_MAX_QUERIES as usize / 2;
/// Dispatches of a step alone that are timed together where the clock is not the device's: submitting one takes longer than most.
const DISPATCHES: u32 = 20;
/// Bytes of a time.
const TICK_BYTES: usize = 8;

/// Does steps in order; the nanoseconds of each. Where the clock is the processor's each is done so often, which changes what
/// steps that write over their operands compute.
pub(super) fn nanoseconds(gpu: &Opened, steps: &[&Dispatch], dispatches: u32) -> Result<Vec<u64>, GpuError> {
    match Clock::of(gpu) {
        Clock::Device => {
            let sets: Result<Vec<_>, GpuError> =
                steps.chunks(STEPS_OF_A_SET).map(|steps| by_device(gpu, steps)).collect();
            Ok(sets?.concat())
        }
        Clock::Processor => steps.iter().map(|step| by_processor(gpu, step, dispatches)).collect(),
    }
}

fn by_device(gpu: &Opened, steps: &[&Dispatch]) -> Result<Vec<u64>, GpuError> {
    let count = 2 * steps.len() as u32;
    let bytes = u64::from(count) * TICK_BYTES as u64;
    let queries =
        gpu.device.create_query_set(&wgpu::QuerySetDescriptor { label: None, ty: wgpu::QueryType::Timestamp, count });
    let buffer = |usage: wgpu::BufferUsages| {
        let descriptor = wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false };
        gpu.device.create_buffer(&descriptor)
    };
    let resolved = buffer(wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC);
    let read = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    for (place, step) in (0..).zip(steps) {
        let writes = wgpu::ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: Some(2 * place),
            end_of_pass_write_index: Some(2 * place + 1),
        };
        let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) };
        step.record(&mut encoder.begin_compute_pass(&descriptor));
    }
    encoder.resolve_query_set(&queries, 0..count, &resolved, 0);
    encoder.copy_buffer_to_buffer(&resolved, 0, &read, 0, bytes);
    let submission = gpu.queue.submit([encoder.finish()]);
    let (sender, receiver) = mpsc::channel();
    read.map_async(wgpu::MapMode::Read, .., move |result| {
        // Nobody waits behind a run that failed.
        let _ = sender.send(result);
    });
    gpu.wait(submission)?;
    match receiver.recv_timeout(HAND_OVER) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(gpu.failed(error.to_string())),
        Err(_) => return Err(gpu.failed("the times of steps were not handed back".into())),
    }
    let mapped = read.get_mapped_range(..).map_err(|error| gpu.failed(error.to_string()))?;
    let period = f64::from(gpu.queue.get_timestamp_period());
    let (ticks, _) = mapped.as_chunks::<TICK_BYTES>();
    let (pairs, _) = ticks.as_chunks::<2>();
    let time = |[begin, end]: &[[u8; TICK_BYTES]; 2]| {
        let ticks = u64::from_le_bytes(*end).saturating_sub(u64::from_le_bytes(*begin));
        (ticks as f64 * period) as u64
    };
    Ok(pairs.iter().map(time).collect())
}

fn by_processor(gpu: &Opened, step: &Dispatch, dispatches: u32) -> Result<u64, GpuError> {
    let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
    (0..dispatches).for_each(|_| step.record(&mut pass));
    drop(pass);
    let start = Instant::now();
    let submission = gpu.queue.submit([encoder.finish()]);
    gpu.wait(submission)?;
    Ok(start.elapsed().as_nanos() as u64 / u64::from(dispatches))
}

/// Times single steps over memory like a session's, zeros. Pipelines are made when they are asked for, one by one, so that a
/// driver that fails at a shader fails at this one.
#[derive(Debug)]
pub struct StepTimer {
    model: Arc<Loaded>,
    checks: Checks,
    opened: Arc<Opened>,
    memory: Memory,
    ready: BTreeMap<usize, Dispatch>,
}

impl StepTimer {
    pub(super) fn new(model: Arc<Loaded>, gpu: &Gpu, checks: Checks) -> Result<StepTimer, GpuError> {
        let opened = gpu.opened()?;
        let memory = Memory::new(&model, model.program_for(&opened)?, &opened)?;
        Ok(StepTimer { model, checks, opened, memory, ready: BTreeMap::new() })
    }

    /// Does a step; its nanoseconds.
    pub fn time(&mut self, step: usize) -> Result<u64, GpuError> {
        self.opened.check()?;
        if !self.ready.contains_key(&step) {
            let dispatch = self.dispatch(step)?;
            self.ready.insert(step, dispatch);
        }
        let dispatch: Vec<&Dispatch> = self.ready.get(&step).into_iter().collect();
        Ok(nanoseconds(&self.opened, &dispatch, DISPATCHES)?.into_iter().sum())
    }

    fn dispatch(&self, step: usize) -> Result<Dispatch, GpuError> {
        let none = || FormatError::Invalid { place: format!("step {step}"), problem: "there is none" };
        let program = self.model.program_for(&self.opened)?;
        let call = calls(program).nth(step).ok_or_else(none)?;
        let kernel = program.kernels.get(call.kernel as usize).ok_or_else(none)?;
        let text = self.model.text(program, kernel)?;
        let pipeline = pipeline(&self.opened, None, kernel, (text, self.checks), &call.buffers)?;
        Ok(Dispatch::new(&self.opened, &self.memory, &pipeline, call).ok_or_else(none)?)
    }
}
