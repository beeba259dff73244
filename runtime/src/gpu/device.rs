//! The device that runs shaders.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::error::GpuError;

/// Which adapter to open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// A part of the adapter's name; the fastest one where it is not given.
    pub adapter: Option<String>,
    /// A folder for what drivers make of shaders, so that later sessions start sooner. Whoever can write there can do what the
    /// driver lets such files do; nothing is kept where it is not given.
    pub cache: Option<PathBuf>,
}

/// A device, shared by any number of sessions, and opened anew when it is lost. Clones share.
#[derive(Debug, Clone)]
pub struct Gpu {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: GpuOptions,
    name: String,
    /// The device of now; `None` once it was given back.
    current: Mutex<Option<Arc<Opened>>>,
}

/// A device from its opening to its loss.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) info: wgpu::AdapterInfo,
    /// Where what the driver makes of shaders is kept.
    pub(super) cache: Option<PathBuf>,
    name: String,
    faults: Faults,
}

/// What the driver said went wrong, from whatever thread.
#[derive(Debug, Clone, Default)]
struct Faults {
    lost: Arc<Mutex<Option<String>>>,
    other: Arc<Mutex<Option<String>>>,
}

/// What a device is opened with where its adapter has it: what programs may ask for, by WebGPU's names.
const FEATURES: [(&str, wgpu::Features); 2] =
    [("shader-f16", wgpu::Features::SHADER_F16), ("subgroups", wgpu::Features::SUBGROUP)];
/// The same for what the runtime uses itself: a clock of steps, and a cache of pipelines.
const OWN_FEATURES: wgpu::Features = wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::PIPELINE_CACHE);

/// How long a run may take before it counts as hung.
const LONGEST_RUN: Duration = Duration::from_secs(300);
/// How long after a run its outputs may still be on their way: the thread that polls for another session hands them over.
pub(super) const HAND_OVER: Duration = Duration::from_secs(10);

impl Gpu {
    /// The names of the adapters that there are, as [`Gpu::adapter`] has them.
    pub fn adapters() -> Vec<String> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapters = block_on(instance.enumerate_adapters(wgpu::Backends::all()));
        adapters.iter().map(|adapter| name(&adapter.get_info())).collect()
    }

    /// Opens an adapter, with all that it offers in size and nothing that it offers to shaders beyond WebGPU.
    pub fn open(options: &GpuOptions) -> Result<Gpu, GpuError> {
        let opened = Opened::new(options)?;
        let (options, name) = (options.clone(), opened.name.clone());
        Ok(Gpu { shared: Arc::new(Shared { options, name, current: Mutex::new(Some(Arc::new(opened))) }) })
    }

    /// The adapter's name, driver and interface.
    pub fn adapter(&self) -> &str {
        &self.shared.name
    }

    /// Gives the device back. Every later run of its sessions fails.
    pub fn close(&self) {
        if let Some(opened) = lock(&self.shared.current).take() {
            opened.lose("it was given back");
        }
    }

    /// Loses the device, as a driver that resets does: sessions open it anew. For tests of that.
    pub fn lose(&self) {
        if let Some(opened) = lock(&self.shared.current).as_ref() {
            opened.lose("it was lost on purpose");
        }
    }

    /// The device of now, opened anew where that was lost.
    pub(super) fn opened(&self) -> Result<Arc<Opened>, GpuError> {
        let mut current = lock(&self.shared.current);
        let given_back = || GpuError::Lost { adapter: self.shared.name.clone(), reason: "it was given back".into() };
        let opened = current.as_ref().ok_or_else(given_back)?;
        if !opened.is_lost() {
            return Ok(Arc::clone(opened));
        }
        let anew = Arc::new(Opened::new(&self.shared.options)?);
        *current = Some(Arc::clone(&anew));
        Ok(anew)
    }
}

impl Opened {
    fn new(options: &GpuOptions) -> Result<Opened, GpuError> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = choose(&instance, options)?;
        let info = adapter.get_info();
        let name = name(&info);
        let descriptor = wgpu::DeviceDescriptor {
            label: None,
            required_features: FEATURES.iter().fold(OWN_FEATURES, |all, (_, feature)| all | *feature)
                & adapter.features(),
            required_limits: adapter.limits(),
            ..wgpu::DeviceDescriptor::default()
        };
        let opened = block_on(adapter.request_device(&descriptor));
        let (device, queue) =
            opened.map_err(|error| GpuError::Open { adapter: name.clone(), reason: error.to_string() })?;
        let faults = Faults::default();
        let (lost, other) = (Arc::clone(&faults.lost), Arc::clone(&faults.other));
        device.set_device_lost_callback(move |reason, message| note(&lost, format!("{reason:?}: {message}")));
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| note(&other, error.to_string())));
        Ok(Opened { device, queue, info, cache: options.cache.clone(), name, faults })
    }

    /// The adapter's name, driver and interface.
    pub(super) fn adapter(&self) -> &str {
        &self.name
    }

    fn lose(&self, reason: &str) {
        self.device.destroy();
        // The driver tells of the loss while it is polled; what it says does not matter here.
        let _ = self.device.poll(wgpu::PollType::Poll);
        note(&self.faults.lost, reason.into());
    }

    /// Whether the driver has told that the device is gone.
    pub(super) fn is_lost(&self) -> bool {
        let _ = self.device.poll(wgpu::PollType::Poll);
        lock(&self.faults.lost).is_some()
    }

    /// Waits until a submission is done.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> Result<(), GpuError> {
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: Some(LONGEST_RUN) };
        let polled = self.device.poll(wait);
        self.check()?;
        match polled {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => {
                Err(GpuError::Timeout { adapter: self.name.clone(), seconds: LONGEST_RUN.as_secs() })
            }
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    /// Fails if the driver said that something went wrong since this was asked last. A lost device stays lost.
    pub(super) fn check(&self) -> Result<(), GpuError> {
        if let Some(reason) = lock(&self.faults.lost).clone() {
            return Err(GpuError::Lost { adapter: self.name.clone(), reason });
        }
        lock(&self.faults.other).take().map_or(Ok(()), |reason| Err(self.failed(reason)))
    }

    pub(super) fn failed(&self, reason: String) -> GpuError {
        GpuError::Driver { adapter: self.name.clone(), reason }
    }

    /// Whether the device has a feature, by WebGPU's name of it.
    pub(super) fn has_feature(&self, wanted: &str) -> bool {
        let known = FEATURES.iter().find(|(name, _)| *name == wanted);
        known.is_some_and(|(_, feature)| self.device.features().contains(*feature))
    }

    /// Fails where the adapter offers less than a model needs.
    pub(super) fn require(&self, what: &'static str, limit: u64, needed: u64) -> Result<(), GpuError> {
        let adapter = self.name.clone();
        if needed <= limit { Ok(()) } else { Err(GpuError::Limit { adapter, what, limit, needed }) }
    }
}

/// The adapter of a name; without one the fastest.
fn choose(instance: &wgpu::Instance, options: &GpuOptions) -> Result<wgpu::Adapter, GpuError> {
    let adapters = || block_on(instance.enumerate_adapters(wgpu::Backends::all()));
    let missing = |wanted: String| {
        let found: Vec<String> = adapters().iter().map(|adapter| name(&adapter.get_info())).collect();
        let found = if found.is_empty() { "none".into() } else { found.join(", ") };
        GpuError::NoAdapter { wanted, found }
    };
    match &options.adapter {
        Some(wanted) => {
            let named = |adapter: &wgpu::Adapter| name(&adapter.get_info()).contains(wanted.as_str());
            adapters().into_iter().find(named).ok_or_else(|| missing(format!("is named `{wanted}`")))
        }
        None => {
            let fastest = wgpu::RequestAdapterOptions {
                power_preference: wgpu::PowerPreference::HighPerformance,
                ..wgpu::RequestAdapterOptions::default()
            };
            block_on(instance.request_adapter(&fastest)).map_err(|_| missing("is usable".into()))
        }
    }
}

fn name(info: &wgpu::AdapterInfo) -> String {
    format!("{} ({}, {:?})", info.name, info.driver_info, info.backend)
}

fn note(place: &Mutex<Option<String>>, what: String) {
    lock(place).get_or_insert(what);
}

fn lock<T>(place: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for what is ready at once outside of browsers.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}
