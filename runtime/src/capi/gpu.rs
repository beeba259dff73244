//! GPUs for C: adapters, devices, and sessions on them.

use std::ffi::{CStr, CString, c_char};
use std::path::{Path, PathBuf};
use std::ptr;

use super::handles::{ModelHandle, Runner, SessionHandle, text};
use super::status::{Failure, Status, guard, keep};
use super::{not_null, path_of};
use crate::error::{LoadError, RunError};
use crate::gpu::{AnySession, Fastest, Gpu, GpuError, GpuOptions, GpuSession, ShaderModel, fastest};
use crate::session::check_sizes;
use crate::{Buffer, CancelFlag, Model, SessionOptions};

/// `edgecc_gpu`: a device, and its adapter's name as C reads it.
pub struct GpuHandle {
    gpu: Gpu,
    name: CString,
}

/// `edgecc_times`: what a run took, in seconds; below 0 where there was none.
#[repr(C)]
pub struct Times {
    /// On the processor.
    pub cpu: f64,
    /// On the GPU, with upload and read-back.
    pub gpu: f64,
}

/// No run.
const NONE: f64 = -1.0;

/// Where an artifact came from.
pub(super) enum Source<'a> {
    File(&'a Path),
    Bytes(&'a [u8]),
}

/// The model of what this machine runs of an artifact: the processor's program, shaders, or both.
pub(super) fn model(loaded: Result<Model, LoadError>, source: Source<'_>) -> Result<ModelHandle, Failure> {
    let shaders = match &loaded {
        Ok(model) => ShaderModel::beside(model),
        Err(LoadError::Architecture { .. } | LoadError::Features { .. }) => match source {
            Source::File(path) => ShaderModel::open(path),
            Source::Bytes(bytes) => ShaderModel::from_bytes(bytes),
        },
        Err(_) => return ModelHandle::of_processor(loaded?),
    };
    match (loaded, shaders) {
        (Ok(model), Ok(shaders)) => Ok(ModelHandle { shaders: Some(shaders), ..ModelHandle::of_processor(model)? }),
        (Err(_), Ok(shaders)) => {
            let ports = ModelHandle::of_ports(shaders.inputs(), shaders.outputs(), shaders.labels())?;
            Ok(ModelHandle { shaders: Some(shaders), ..ports })
        }
        (loaded, Err(GpuError::NoShaders { .. })) => ModelHandle::of_processor(loaded?),
        (_, Err(error)) => Err(error.into()),
    }
}

/// The name of an adapter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_gpu_adapter(index: usize, name: *mut c_char, bytes: usize) -> Status {
    guard(|| {
        not_null("name", name)?;
        let adapters = Gpu::adapters();
        let found = text(adapters.get(index).ok_or(Failure::Index(index))?)?;
        let found = found.to_bytes();
        let length = found.len().min(bytes.checked_sub(1).ok_or(Failure::Null("bytes of name"))?);
        // SAFETY: the caller's memory has this many bytes and one more.
        unsafe {
            ptr::copy_nonoverlapping(found.as_ptr().cast(), name, length);
            name.add(length).write(0);
        }
        Ok(())
    })
}

/// Opens an adapter.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_gpu_open(
    adapter: *const c_char,
    cache: *const c_char,
    gpu: *mut *mut GpuHandle,
) -> Status {
    guard(|| {
        not_null("gpu", gpu)?;
        // SAFETY: each is null or a string that ends with a zero byte.
        let [adapter, cache] = [adapter, cache].map(|text| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }));
        let adapter = adapter.map(|name| name.to_str().map(str::to_owned)).transpose().map_err(|_| Failure::NotText)?;
        let cache: Option<PathBuf> = cache.map(path_of).transpose()?;
        let opened = Gpu::open(&GpuOptions { adapter, cache })?;
        let name = text(opened.adapter())?;
        // SAFETY: the caller's pointer takes a handle.
        unsafe { gpu.write(Box::into_raw(Box::new(GpuHandle { gpu: opened, name }))) };
        Ok(())
    })
}

/// Frees a device.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_gpu_free(gpu: *mut GpuHandle) {
    if !gpu.is_null() {
        // SAFETY: the handle came from an opening and is given up.
        drop(unsafe { Box::from_raw(gpu) });
    }
}

/// The name of a device's adapter, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_gpu_name(gpu: *const GpuHandle) -> *const c_char {
    // SAFETY: the handle is alive or null.
    unsafe { gpu.as_ref() }.map_or(ptr::null(), |gpu| gpu.name.as_ptr())
}

/// Makes a session on a GPU.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_create_on(
    model: *const ModelHandle,
    gpu: *const GpuHandle,
    session: *mut *mut SessionHandle,
) -> Status {
    guard(|| {
        not_null("session", session)?;
        // SAFETY: the handles are alive or null.
        let (model, gpu) = unsafe { (model.as_ref(), gpu.as_ref()) };
        let (model, gpu) = (model.ok_or(Failure::Null("model"))?, gpu.ok_or(Failure::Null("gpu"))?);
        let handle = on_gpu(on(model, gpu)?)?;
        // SAFETY: the caller's pointer takes a handle.
        unsafe { session.write(Box::into_raw(Box::new(handle))) };
        Ok(())
    })
}

/// Makes a session on what answers sooner.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_create_fastest(
    model: *const ModelHandle,
    threads: usize,
    gpu: *const GpuHandle,
    session: *mut *mut SessionHandle,
    times: *mut Times,
) -> Status {
    guard(|| {
        not_null("session", session)?;
        // SAFETY: the handles are alive or null.
        let (model, gpu) = unsafe { (model.as_ref(), gpu.as_ref()) };
        let model = model.ok_or(Failure::Null("model"))?;
        let (handle, timed) = choose(model, threads, gpu)?;
        // SAFETY: the caller's pointers take a handle and, if not null, times.
        unsafe {
            session.write(Box::into_raw(Box::new(handle)));
            if !times.is_null() {
                times.write(timed);
            }
        }
        Ok(())
    })
}

/// `cpu`, or the name of the adapter that a session runs on; null of no session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_device(session: *const SessionHandle) -> *const c_char {
    if session.is_null() {
        return ptr::null();
    }
    // SAFETY: the handle is alive and no other call uses its session.
    match unsafe { &*ptr::addr_of!((*session).runner) } {
        Runner::Processor(_) => c"cpu".as_ptr(),
        Runner::Gpu(_, name) => name.as_ptr(),
    }
}

fn on(model: &ModelHandle, gpu: &GpuHandle) -> Result<GpuSession, GpuError> {
    match &model.shaders {
        Some(shaders) => shaders.session(&gpu.gpu),
        None => Err(GpuError::NoShaders { found: "processors alone".into() }),
    }
}

fn on_gpu(session: GpuSession) -> Result<SessionHandle, Failure> {
    let name = text(session.gpu().adapter())?;
    Ok(SessionHandle { runner: Runner::Gpu(Box::new(session), name), cancel: CancelFlag::default() })
}

/// The faster of both where there are both, else the one that there is. Why there is none on the GPU is kept.
fn choose(model: &ModelHandle, threads: usize, gpu: Option<&GpuHandle>) -> Result<(SessionHandle, Times), Failure> {
    let options = SessionOptions { threads };
    let Some(gpu) = gpu else {
        let session = model.processor()?.session(options)?;
        return Ok((SessionHandle::on_processor(session), Times { cpu: NONE, gpu: NONE }));
    };
    let Some(processor) = &model.processor else {
        return Ok((on_gpu(on(model, gpu)?)?, Times { cpu: NONE, gpu: NONE }));
    };
    let Fastest { session, cpu, gpu } = fastest(processor.session(options)?, on(model, gpu))?;
    let on_gpu_seconds = match gpu {
        Ok(time) => time.as_secs_f64(),
        Err(error) => {
            keep(&error.into());
            NONE
        }
    };
    let times = Times { cpu: cpu.as_secs_f64(), gpu: on_gpu_seconds };
    match session {
        AnySession::Cpu(session) => Ok((SessionHandle::on_processor(*session), times)),
        AnySession::Gpu(session) => Ok((on_gpu(*session)?, times)),
    }
}

/// Runs on the caller's memory, which is copied.
///
/// # Safety
/// Every buffer is valid for its bytes until the call returns: inputs for reads, outputs for writes by this call alone.
pub(super) unsafe fn run(
    session: &mut GpuSession,
    inputs: &[Buffer],
    outputs: &[Buffer],
    cancel: &CancelFlag,
) -> Result<(), Failure> {
    check_sizes("input", session.inputs(), inputs.iter().map(|buffer| buffer.bytes))?;
    check_sizes("output", session.outputs(), outputs.iter().map(|buffer| buffer.bytes))?;
    if cancel.is_raised() {
        return Err(RunError::Cancelled { step: "of all".into() }.into());
    }
    for (index, buffer) in inputs.iter().enumerate().filter(|(_, buffer)| buffer.bytes > 0) {
        // SAFETY: as the caller says.
        let bytes = unsafe { std::slice::from_raw_parts(buffer.data, buffer.bytes) };
        session.input_mut(index).copy_from_slice(bytes);
    }
    session.run()?;
    for (index, buffer) in outputs.iter().enumerate().filter(|(_, buffer)| buffer.bytes > 0) {
        let bytes = session.output(index);
        // SAFETY: as the caller says, and the sizes are the same.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.data, bytes.len()) };
    }
    Ok(())
}
