//! The runtime for C, declared in `include/edgecc.h`: opaque handles, status codes, buffers of the caller.
//!
//! Every function checks its pointers for null; beyond that C's rules hold, and the header states them.
// Every public function takes raw pointers from C; the contract stands in the header.
#![allow(unsafe_code, clippy::missing_safety_doc)]

#[cfg(feature = "gpu")]
mod gpu;
mod handles;
mod status;

use std::ffi::{CStr, c_char, c_void};
use std::path::PathBuf;
use std::ptr;

use crate::sharing::Sharing;
use crate::{Buffer, LoadOptions, Model, Pool, PoolOptions, SessionOptions, Verify, big_cores};

#[cfg(feature = "gpu")]
pub use gpu::*;
use handles::PortText;
pub use handles::{ModelHandle, PoolHandle, PortInfo, SessionHandle};
pub use status::Status;
use status::{Failure, guard};

/// Changes when a program compiled with an older header would misbehave.
pub const EDGECC_ABI_VERSION: u32 = 1;

/// Verify the hash of the weights too.
pub const EDGECC_VERIFY_WEIGHTS: u32 = 1;

/// The version of this library's interface, to be compared with the header's.
#[unsafe(no_mangle)]
pub extern "C" fn edgecc_abi_version() -> u32 {
    EDGECC_ABI_VERSION
}

/// Why the last call of this thread failed.
#[unsafe(no_mangle)]
pub extern "C" fn edgecc_last_error() -> *const c_char {
    status::last_error()
}

/// Loads an artifact from a file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_open(path: *const c_char, flags: u32, model: *mut *mut ModelHandle) -> Status {
    guard(|| {
        not_null("path", path)?;
        not_null("model", model)?;
        // SAFETY: the path is a string that ends with a zero byte.
        let path = path_of(unsafe { CStr::from_ptr(path) })?;
        // SAFETY: the header passes the artifact's contract on to the caller.
        let loaded = unsafe { Model::open(&path, load_options(flags)?) };
        #[cfg(feature = "gpu")]
        let handle = gpu::model(loaded, gpu::Source::File(&path))?;
        #[cfg(not(feature = "gpu"))]
        let handle = ModelHandle::of_processor(loaded?)?;
        // SAFETY: the caller's pointer takes a handle.
        unsafe { model.write(Box::into_raw(Box::new(handle))) };
        Ok(())
    })
}

/// Loads an artifact from memory.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_from_bytes(
    data: *const c_void,
    bytes: usize,
    flags: u32,
    model: *mut *mut ModelHandle,
) -> Status {
    guard(|| {
        not_null("data", data)?;
        not_null("model", model)?;
        // SAFETY: the caller's memory has this many bytes.
        let artifact = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
        // SAFETY: the header passes the artifact's contract on to the caller.
        let loaded = unsafe { Model::from_bytes(artifact, load_options(flags)?) };
        #[cfg(feature = "gpu")]
        let handle = gpu::model(loaded, gpu::Source::Bytes(artifact))?;
        #[cfg(not(feature = "gpu"))]
        let handle = ModelHandle::of_processor(loaded?)?;
        // SAFETY: the caller's pointer takes a handle.
        unsafe { model.write(Box::into_raw(Box::new(handle))) };
        Ok(())
    })
}

/// Frees a model.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_free(model: *mut ModelHandle) {
    if !model.is_null() {
        // SAFETY: the handle came from a load and is given up.
        drop(unsafe { Box::from_raw(model) });
    }
}

/// Number of inputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_input_count(model: *const ModelHandle) -> usize {
    // SAFETY: the handle is alive or null.
    unsafe { model.as_ref() }.map_or(0, |model| model.inputs.len())
}

/// Number of outputs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_output_count(model: *const ModelHandle) -> usize {
    // SAFETY: the handle is alive or null.
    unsafe { model.as_ref() }.map_or(0, |model| model.outputs.len())
}

/// Describes an input.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_input(model: *const ModelHandle, index: usize, port: *mut PortInfo) -> Status {
    // SAFETY: the handle is alive or null, the port is the caller's or null.
    guard(|| unsafe { describe(model, port, index, |model| &model.inputs) })
}

/// Describes an output.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_output(model: *const ModelHandle, index: usize, port: *mut PortInfo) -> Status {
    // SAFETY: the handle is alive or null, the port is the caller's or null.
    guard(|| unsafe { describe(model, port, index, |model| &model.outputs) })
}

/// The name of a class, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_model_label(model: *const ModelHandle, index: usize) -> *const c_char {
    // SAFETY: the handle is alive or null.
    let label = unsafe { model.as_ref() }.and_then(|model| model.labels.get(index));
    label.map_or(ptr::null(), |label| label.as_ptr())
}

/// The number of fast cores.
#[unsafe(no_mangle)]
pub extern "C" fn edgecc_big_cores() -> usize {
    big_cores()
}

/// Starts threads for sessions.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_pool_create(threads: usize, pool: *mut *mut PoolHandle) -> Status {
    guard(|| {
        not_null("pool", pool)?;
        let created = Pool::new(PoolOptions { threads, sharing: Sharing::default() })?;
        // SAFETY: the caller's pointer takes a handle.
        unsafe { pool.write(Box::into_raw(Box::new(PoolHandle { pool: created }))) };
        Ok(())
    })
}

/// Frees a pool.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_pool_free(pool: *mut PoolHandle) {
    if !pool.is_null() {
        // SAFETY: the handle came from a creation and is given up.
        drop(unsafe { Box::from_raw(pool) });
    }
}

/// Makes a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_create(
    model: *const ModelHandle,
    threads: usize,
    session: *mut *mut SessionHandle,
) -> Status {
    guard(|| {
        not_null("session", session)?;
        // SAFETY: the handle is alive or null.
        let model = unsafe { model.as_ref() }.ok_or(Failure::Null("model"))?;
        let handle = SessionHandle::on_processor(model.processor()?.session(SessionOptions { threads })?);
        // SAFETY: the caller's pointer takes a handle.
        unsafe { session.write(Box::into_raw(Box::new(handle))) };
        Ok(())
    })
}

/// Makes a session that shares threads with others.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_create_in(
    model: *const ModelHandle,
    pool: *const PoolHandle,
    session: *mut *mut SessionHandle,
) -> Status {
    guard(|| {
        not_null("session", session)?;
        // SAFETY: the handles are alive or null.
        let (model, pool) = unsafe { (model.as_ref(), pool.as_ref()) };
        let (model, pool) = (model.ok_or(Failure::Null("model"))?, pool.ok_or(Failure::Null("pool"))?);
        let handle = SessionHandle::on_processor(model.processor()?.session_in(&pool.pool)?);
        // SAFETY: the caller's pointer takes a handle.
        unsafe { session.write(Box::into_raw(Box::new(handle))) };
        Ok(())
    })
}

/// Frees a session.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_free(session: *mut SessionHandle) {
    if !session.is_null() {
        // SAFETY: the handle came from a creation and is given up.
        drop(unsafe { Box::from_raw(session) });
    }
}

/// Runs the model on buffers of the caller.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_run(
    session: *mut SessionHandle,
    inputs: *const Buffer,
    input_count: usize,
    outputs: *const Buffer,
    output_count: usize,
) -> Status {
    guard(|| {
        not_null("session", session)?;
        // SAFETY: the caller's arrays have these lengths.
        let (inputs, outputs) = unsafe { (buffers(inputs, input_count)?, buffers(outputs, output_count)?) };
        // SAFETY: the handle is alive and no other call uses its session; the flag beside it is only ever shared.
        let (runner, cancel) =
            unsafe { (&mut *ptr::addr_of_mut!((*session).runner), &*ptr::addr_of!((*session).cancel)) };
        // SAFETY: the caller's buffers have their lengths, and nobody else uses the outputs meanwhile.
        unsafe { runner.run(inputs, outputs, cancel) }
    })
}

/// Raises or lowers the flag that ends runs; may be called from any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_cancel(session: *const SessionHandle, cancel: bool) {
    if session.is_null() {
        return;
    }
    // SAFETY: the handle is alive, and only its flag is borrowed, never mutably.
    let flag = unsafe { &*ptr::addr_of!((*session).cancel) };
    if cancel { flag.raise() } else { flag.lower() }
}

/// Sets what persists from run to run back to zeros.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn edgecc_session_reset_state(session: *mut SessionHandle) {
    if !session.is_null() {
        // SAFETY: the handle is alive and no other call uses its session.
        unsafe { &mut *ptr::addr_of_mut!((*session).runner) }.reset_state();
    }
}

fn not_null<T>(name: &'static str, pointer: *const T) -> Result<(), Failure> {
    if pointer.is_null() { Err(Failure::Null(name)) } else { Ok(()) }
}

#[cfg(unix)]
fn path_of(path: &CStr) -> Result<PathBuf, Failure> {
    use std::os::unix::ffi::OsStrExt;
    Ok(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())))
}

#[cfg(not(unix))]
fn path_of(path: &CStr) -> Result<PathBuf, Failure> {
    path.to_str().map(PathBuf::from).map_err(|_| Failure::NotText)
}

fn load_options(flags: u32) -> Result<LoadOptions, Failure> {
    match flags {
        0 => Ok(LoadOptions::default()),
        EDGECC_VERIFY_WEIGHTS => Ok(LoadOptions { verify: Verify::Full, ..LoadOptions::default() }),
        _ => Err(Failure::Flags(flags)),
    }
}

/// # Safety
/// `model` is alive or null, `port` may be written or is null.
unsafe fn describe(
    model: *const ModelHandle,
    port: *mut PortInfo,
    index: usize,
    ports: impl Fn(&ModelHandle) -> &Vec<PortText>,
) -> Result<(), Failure> {
    not_null("port", port)?;
    // SAFETY: as the caller says.
    let model = unsafe { model.as_ref() }.ok_or(Failure::Null("model"))?;
    let found = ports(model).get(index).ok_or(Failure::Index(index))?;
    let info = PortInfo {
        name: found.name.as_ptr(),
        element_type: found.element_type,
        rank: found.dims.len() as u32,
        dims: found.dims.as_ptr(),
        bytes: found.bytes,
    };
    // SAFETY: as the caller says.
    unsafe { port.write(info) };
    Ok(())
}

/// # Safety
/// `first` is null or the first of `count` buffers.
unsafe fn buffers<'a>(first: *const Buffer, count: usize) -> Result<&'a [Buffer], Failure> {
    if count == 0 {
        return Ok(&[]);
    }
    not_null("buffers", first)?;
    // SAFETY: as the caller says.
    let buffers = unsafe { std::slice::from_raw_parts(first, count) };
    match buffers.iter().any(|buffer| buffer.data.is_null() && buffer.bytes > 0) {
        true => Err(Failure::Null("data of a buffer")),
        false => Ok(buffers),
    }
}
