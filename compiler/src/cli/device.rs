//! What runs an artifact: this machine's processor, or a GPU.

use std::path::Path;

use edgecc_format::Port;
use edgecc_runtime::{Model, Session, SessionOptions, big_cores};

use super::CliError;
use super::loading::{load, open};
use super::options::{Device, DeviceArguments, ModelArguments};

/// A loaded artifact with the memory of a run.
pub enum Runner {
    /// Machine code.
    Cpu(Model, Session),
    /// Shaders.
    #[cfg(feature = "gpu")]
    Gpu(edgecc_runtime::gpu::ShaderModel, Box<edgecc_runtime::gpu::GpuSession>),
}

impl Runner {
    /// Loads an artifact, or compiles a model for what runs it.
    pub fn load(
        path: &Path,
        reading: &ModelArguments,
        labels: Vec<String>,
        on: &DeviceArguments,
        threads: Option<usize>,
    ) -> Result<Runner, CliError> {
        check(on, threads)?;
        match on.device {
            Device::Gpu => gpu(path, reading, labels, on),
            Device::Fastest => {
                let model = load(path, reading, labels.clone())?;
                fastest(model, gpu(path, reading, labels, on), threads.unwrap_or_else(big_cores))
            }
            Device::Cpu => Runner::on_cpu(load(path, reading, labels)?, threads.unwrap_or_else(big_cores)),
        }
    }

    /// Opens an artifact; machine code is run by one thread.
    pub fn open(path: &Path, on: &DeviceArguments) -> Result<Runner, CliError> {
        check(on, None)?;
        match on.device {
            Device::Cpu => Runner::on_cpu(open(path)?, 1),
            Device::Gpu => open_gpu(path, on),
            Device::Fastest => fastest(open(path)?, open_gpu(path, on), 1),
        }
    }

    fn on_cpu(model: Model, threads: usize) -> Result<Runner, CliError> {
        let session = model.session(SessionOptions { threads })?;
        Ok(Runner::Cpu(model, session))
    }

    /// The inputs, in graph order.
    pub fn inputs(&self) -> &[Port] {
        match self {
            Runner::Cpu(model, _) => model.inputs(),
            #[cfg(feature = "gpu")]
            Runner::Gpu(model, _) => model.inputs(),
        }
    }

    /// The outputs, in graph order.
    pub fn outputs(&self) -> &[Port] {
        match self {
            Runner::Cpu(model, _) => model.outputs(),
            #[cfg(feature = "gpu")]
            Runner::Gpu(model, _) => model.outputs(),
        }
    }

    /// The names of the classes.
    pub fn labels(&self) -> &[String] {
        match self {
            Runner::Cpu(model, _) => model.labels(),
            #[cfg(feature = "gpu")]
            Runner::Gpu(model, _) => model.labels(),
        }
    }

    /// The bytes of an input, to be filled.
    pub fn input_mut(&mut self, place: usize) -> &mut [u8] {
        match self {
            Runner::Cpu(_, session) => session.input_mut(place),
            #[cfg(feature = "gpu")]
            Runner::Gpu(_, session) => session.input_mut(place),
        }
    }

    /// The bytes of an output of the last run.
    pub fn output(&self, place: usize) -> &[u8] {
        match self {
            Runner::Cpu(_, session) => session.output(place),
            #[cfg(feature = "gpu")]
            Runner::Gpu(_, session) => session.output(place),
        }
    }

    /// Runs once.
    pub fn run(&mut self) -> Result<(), CliError> {
        match self {
            Runner::Cpu(_, session) => Ok(session.run()?),
            #[cfg(feature = "gpu")]
            Runner::Gpu(_, session) => Ok(session.run()?),
        }
    }
}

/// A flag of what does not run is refused.
fn check(on: &DeviceArguments, threads: Option<usize>) -> Result<(), CliError> {
    match on.device {
        Device::Cpu if on.shader_cache.is_some() => {
            Err(CliError::Usage("--shader-cache belongs to --device gpu".into()))
        }
        Device::Cpu if on.unchecked => Err(CliError::Usage("--unchecked belongs to --device gpu".into())),
        Device::Cpu if on.adapter.is_some() => Err(CliError::Usage("--adapter belongs to --device gpu".into())),
        Device::Gpu if threads.is_some() => Err(CliError::Usage("--threads belongs to --device cpu".into())),
        Device::Cpu | Device::Gpu | Device::Fastest => Ok(()),
    }
}

#[cfg(feature = "gpu")]
fn gpu(path: &Path, reading: &ModelArguments, labels: Vec<String>, on: &DeviceArguments) -> Result<Runner, CliError> {
    on_gpu(shaders(path, reading, labels)?, on)
}

#[cfg(feature = "gpu")]
fn open_gpu(path: &Path, on: &DeviceArguments) -> Result<Runner, CliError> {
    on_gpu(edgecc_runtime::gpu::ShaderModel::open(path)?, on)
}

#[cfg(feature = "gpu")]
#[allow(unsafe_code)]
fn on_gpu(model: edgecc_runtime::gpu::ShaderModel, on: &DeviceArguments) -> Result<Runner, CliError> {
    use edgecc_runtime::gpu::{Gpu, GpuOptions};
    let gpu = Gpu::open(&GpuOptions { adapter: on.adapter.clone(), cache: on.shader_cache.clone() })?;
    eprintln!("note: runs on {}", gpu.adapter());
    // SAFETY: the user asks for this file's shaders to be run as they are, as for any program.
    let model = if on.unchecked { unsafe { model.unchecked() } } else { model };
    let session = model.session(&gpu)?;
    Ok(Runner::Gpu(model, Box::new(session)))
}

#[cfg(feature = "gpu")]
fn shaders(
    path: &Path,
    reading: &ModelArguments,
    labels: Vec<String>,
) -> Result<edgecc_runtime::gpu::ShaderModel, CliError> {
    use super::loading::{compiled_already, fixed, is_artifact, shader_options};
    use super::progress::Progress;
    use edgecc_runtime::gpu::ShaderModel;
    if is_artifact(path)? {
        let open = || Ok(ShaderModel::open(path)?);
        return fixed(reading, &labels).map_or_else(open, |flag| Err(compiled_already(path, flag)));
    }
    let progress = Progress::start("reading the model");
    let options = shader_options(reading, labels)?;
    let observe = &mut |phase: crate::compile::Phase<'_>| progress.phase(|| format!("compiling, past {}", phase.name));
    let compiled = crate::shaders::compile(path, &options, observe)?;
    compiled.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let bytes = compiled.to_bytes().map_err(crate::compile::CompileError::from)?;
    Ok(ShaderModel::from_bytes(&bytes)?)
}

#[cfg(not(feature = "gpu"))]
fn gpu(_: &Path, _: &ModelArguments, _: Vec<String>, _: &DeviceArguments) -> Result<Runner, CliError> {
    Err(without_gpus())
}

#[cfg(not(feature = "gpu"))]
fn open_gpu(_: &Path, _: &DeviceArguments) -> Result<Runner, CliError> {
    Err(without_gpus())
}

/// The faster of both, which is told. A GPU that fails is told too, and is not taken.
#[cfg(feature = "gpu")]
fn fastest(model: Model, gpu: Result<Runner, CliError>, threads: usize) -> Result<Runner, CliError> {
    use edgecc_runtime::gpu::{AnySession, Fastest};
    let (shaders, gpu_session) = match gpu? {
        Runner::Gpu(shaders, session) => (shaders, *session),
        runner @ Runner::Cpu(..) => return Ok(runner),
    };
    let session = model.session(SessionOptions { threads })?;
    let Fastest { session, cpu, gpu } = edgecc_runtime::gpu::fastest(session, Ok(gpu_session))?;
    let milliseconds = |time: std::time::Duration| format!("{:.3} ms", time.as_secs_f64() * 1e3);
    let on_gpu = gpu.map_or_else(|error| error.to_string(), milliseconds);
    let (runner, name) = match session {
        AnySession::Cpu(session) => (Runner::Cpu(model, *session), "cpu"),
        AnySession::Gpu(session) => (Runner::Gpu(shaders, session), "gpu"),
    };
    eprintln!("note: cpu {}, gpu {on_gpu}: runs on {name}", milliseconds(cpu));
    Ok(runner)
}

#[cfg(not(feature = "gpu"))]
fn fastest(_: Model, gpu: Result<Runner, CliError>, _: usize) -> Result<Runner, CliError> {
    gpu
}

#[cfg(not(feature = "gpu"))]
pub(super) fn without_gpus() -> CliError {
    CliError::Usage("this edgecc was built without GPUs: build it with --features gpu".into())
}
