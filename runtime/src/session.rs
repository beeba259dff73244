//! A session: the memory and the threads of one run at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::time::Instant;

use edgecc_format::{ElementType, Port, step::Action};

use crate::error::{RunError, SessionError};
use crate::execution::Execution;
use crate::memory::{Memory, Region};
use crate::model::LoadedModel;
use crate::plan::{FIRST_INPUT_SLOT, plan};
use crate::pool::Pool;

/// The scratch of two workers never shares a cache line, nor a pair of lines fetched together.
const SCRATCH_ALIGNMENT: u64 = 128;

/// How a session with threads of its own runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Threads that compute, the caller's included. Results do not depend on it.
    pub threads: usize,
}

impl Default for SessionOptions {
    fn default() -> Self {
        SessionOptions { threads: 1 }
    }
}

/// Memory of the caller, for [`Session::run_on`]. Its layout is that of C.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub struct Buffer {
    /// The first byte; only read through for an input.
    pub data: *mut u8,
    /// Number of bytes.
    pub bytes: usize,
}

/// Ends runs early. Clones are the same flag.
#[derive(Debug, Clone, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Makes the current run, and every later one, return [`RunError::Cancelled`] before its next step.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    #[cfg(all(feature = "capi", feature = "gpu"))]
    pub(crate) fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets runs go on again.
    pub fn lower(&self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Runs a model. After the first run, a run neither allocates nor locks.
#[derive(Debug)]
pub struct Session {
    execution: Execution,
    pool: Pool,
    memory: Memory,
    cancel: CancelFlag,
}

impl Session {
    pub(crate) fn new(model: Arc<LoadedModel>, pool: Pool) -> Result<Session, SessionError> {
        let program = model.program();
        let stride = program.scratch_bytes_per_worker.checked_next_multiple_of(SCRATCH_ALIGNMENT).unwrap_or(u64::MAX);
        let ports = model.manifest.inputs.iter().chain(&model.manifest.outputs);
        let fixed = [program.arena_bytes, program.state_bytes, stride.saturating_mul(pool.threads() as u64)];
        let mut memory = Memory::new(fixed, ports.map(|port| port.bytes().unwrap_or(u64::MAX)))?;
        model.map_weights();
        let starts = [model.weights().as_ptr().cast_mut(), memory.start(Region::Arena), memory.start(Region::State)];
        let bound = (0..memory.ports()).map(|_| std::ptr::null_mut());
        let slots = starts.into_iter().chain(bound).map(AtomicPtr::new).collect();
        let steps = plan(&model, &pool);
        let (scratch_start, scratch_stride) = (AtomicPtr::new(memory.start(Region::Scratch)), stride as usize);
        let execution = Execution { model, steps, slots, scratch: scratch_start, scratch_stride };
        let cancel = CancelFlag::default();
        Ok(Session { execution, pool, memory, cancel })
    }

    /// Copies an input. The bytes are those of the dense row-major tensor, in the processor's byte order.
    pub fn set_input(&mut self, name: &str, bytes: &[u8]) -> Result<(), RunError> {
        let index = find("input", &self.model().manifest.inputs, name)?;
        check_size("input", self.port(index)?, bytes.len())?;
        self.input_mut(index).copy_from_slice(bytes);
        Ok(())
    }

    /// Copies an input after comparing its type and shape with the model's.
    pub fn set_tensor(
        &mut self,
        name: &str,
        element_type: ElementType,
        dims: &[u64],
        bytes: &[u8],
    ) -> Result<(), RunError> {
        let index = find("input", &self.model().manifest.inputs, name)?;
        let port = self.port(index)?;
        let same_dims = port.dims.iter().map(|dim| dim.capacity()).eq(dims.iter().copied());
        if !same_dims || port.element_type() != element_type {
            let dims = dims.iter().map(|&value| edgecc_format::Dim::fixed(value)).collect();
            let got = Port { name: String::new(), element_type: element_type as i32, dims }.to_string();
            return Err(RunError::Shape { port: port.to_string(), got });
        }
        self.set_input(name, bytes)
    }

    /// The bytes of an input, to be filled in place; empty if there is no such input.
    pub fn input_mut(&mut self, index: usize) -> &mut [u8] {
        match index < self.model().manifest.inputs.len() {
            true => self.memory.bytes_mut(Region::Port(index)),
            false => &mut [],
        }
    }

    /// The bytes of an output as of the last [`Session::run`]; empty if there is no such output.
    pub fn output(&self, index: usize) -> &[u8] {
        self.memory.bytes(Region::Port(self.model().manifest.inputs.len().saturating_add(index)))
    }

    /// The bytes of an output by name.
    pub fn output_by_name(&self, name: &str) -> Result<&[u8], RunError> {
        Ok(self.output(find("output", &self.model().manifest.outputs, name)?))
    }

    /// The flag that ends this session's runs early.
    pub fn cancel_flag(&self) -> CancelFlag {
        self.cancel.clone()
    }

    /// Sets what persists from run to run back to zeros.
    pub fn reset_state(&mut self) {
        self.memory.bytes_mut(Region::State).fill(0);
    }

    /// Runs on the session's own inputs and outputs.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.bind_own();
        self.run_steps()
    }

    /// Runs on the caller's memory, which is not copied. It may start at any address.
    pub fn run_with(&mut self, inputs: &[&[u8]], outputs: &mut [&mut [u8]]) -> Result<(), RunError> {
        let manifest = &self.model().manifest;
        check_sizes("input", &manifest.inputs, inputs.iter().map(|bytes| bytes.len()))?;
        check_sizes("output", &manifest.outputs, outputs.iter().map(|bytes| bytes.len()))?;
        for (index, input) in inputs.iter().enumerate() {
            self.bind(index, input.as_ptr().cast_mut());
        }
        for (index, output) in outputs.iter_mut().enumerate() {
            self.bind(inputs.len() + index, output.as_mut_ptr());
        }
        self.run_steps()
    }

    /// Runs on memory given by address, as [`Session::run_with`] does.
    ///
    /// # Safety
    /// Every buffer is valid for its bytes until the call returns: inputs for reads, outputs for reads and writes by this
    /// call alone.
    #[allow(unsafe_code)]
    pub unsafe fn run_on(&mut self, inputs: &[Buffer], outputs: &[Buffer]) -> Result<(), RunError> {
        let manifest = &self.model().manifest;
        check_sizes("input", &manifest.inputs, inputs.iter().map(|buffer| buffer.bytes))?;
        check_sizes("output", &manifest.outputs, outputs.iter().map(|buffer| buffer.bytes))?;
        for (index, buffer) in inputs.iter().chain(outputs).enumerate() {
            self.bind(index, buffer.data);
        }
        self.run_steps()
    }

    /// Runs as [`Session::run`] does and reports the nanoseconds of every step.
    pub fn run_profiled(&mut self, mut report: impl FnMut(usize, u64)) -> Result<(), RunError> {
        self.bind_own();
        for index in 0..self.execution.steps.len() {
            self.check_cancelled(index)?;
            let start = Instant::now();
            self.pool.run_step(&self.execution, index);
            report(index, start.elapsed().as_nanos() as u64);
        }
        Ok(())
    }

    fn run_steps(&self) -> Result<(), RunError> {
        for index in 0..self.execution.steps.len() {
            self.check_cancelled(index)?;
            self.pool.run_step(&self.execution, index);
        }
        Ok(())
    }

    fn check_cancelled(&self, index: usize) -> Result<(), RunError> {
        if !self.cancel.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        let action = self.model().program().steps.get(index).and_then(|step| step.action.as_ref());
        let step = action.map(|Action::Call(call)| call.name.clone()).unwrap_or_default();
        Err(RunError::Cancelled { step })
    }

    fn bind_own(&mut self) {
        for index in 0..self.memory.ports() {
            let start = self.memory.start(Region::Port(index));
            self.bind(index, start);
        }
    }

    /// Sets the address of an input, or after them of an output. The workers see it with the next step's cursor.
    fn bind(&self, index: usize, start: *mut u8) {
        self.execution.slots[FIRST_INPUT_SLOT + index].store(start, Ordering::Relaxed);
    }

    fn model(&self) -> &LoadedModel {
        &self.execution.model
    }

    fn port(&self, index: usize) -> Result<&Port, RunError> {
        let inputs = &self.model().manifest.inputs;
        let count = || RunError::Count { direction: "input", expected: inputs.len(), got: format!("number {index}") };
        inputs.get(index).ok_or_else(count)
    }
}

fn find(direction: &'static str, ports: &[Port], name: &str) -> Result<usize, RunError> {
    ports.iter().position(|port| port.name == name).ok_or_else(|| {
        let available: Vec<String> = ports.iter().map(Port::to_string).collect();
        RunError::UnknownName { direction, name: name.to_owned(), available: available.join(", ") }
    })
}

fn check_size(direction: &'static str, port: &Port, got: usize) -> Result<(), RunError> {
    match port.bytes() {
        Some(expected) if expected == got as u64 => Ok(()),
        expected => {
            Err(RunError::Size { direction, port: port.to_string(), expected: expected.unwrap_or(u64::MAX), got })
        }
    }
}

pub(crate) fn check_sizes(
    direction: &'static str,
    ports: &[Port],
    mut sizes: impl ExactSizeIterator<Item = usize>,
) -> Result<(), RunError> {
    if sizes.len() != ports.len() {
        return Err(RunError::Count { direction, expected: ports.len(), got: sizes.len().to_string() });
    }
    ports.iter().zip(&mut sizes).try_for_each(|(port, got)| check_size(direction, port, got))
}
