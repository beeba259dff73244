//! Shaders as pipelines of a device.

use edgecc_format::{BufferKind, BufferRef, Kernel, Program};

use super::cache::Cache;
use super::device::{Opened, block_on};
use super::error::GpuError;
use super::model::{Checks, Loaded, calls};

/// A shader, ready to be dispatched.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) layout: wgpu::BindGroupLayout,
    pub(super) pipeline: wgpu::ComputePipeline,
}

/// Pipelines of all shaders that a program calls, in the order of its kernels; none for a shader that no step calls. Drivers
/// take their time over each, so that threads share them.
pub(super) fn pipelines(
    model: &Loaded,
    program: &Program,
    gpu: &Opened,
    checks: Checks,
) -> Result<Vec<Option<Pipeline>>, GpuError> {
    let kernels = &program.kernels;
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let share = kernels.len().div_ceil(threads).max(1);
    let cache = Cache::read(model, program, gpu);
    let driver = cache.as_ref().map(|cache| &cache.driver);
    let make = |place: usize, kernel: &Kernel| {
        let call = calls(program).find(|call| call.kernel as usize == place);
        call.map(|call| pipeline(gpu, driver, kernel, (model.text(program, kernel)?, checks), &call.buffers))
            .transpose()
    };
    let shares: Vec<Result<Vec<_>, GpuError>> = std::thread::scope(|scope| {
        let shares = kernels.chunks(share).enumerate().map(|(number, part)| {
            let make = &make;
            scope.spawn(move || {
                part.iter().enumerate().map(|(place, kernel)| make(number * share + place, kernel)).collect()
            })
        });
        let running: Vec<_> = shares.collect();
        let lost = || Err(gpu.failed("a thread that made pipelines ended early".into()));
        running.into_iter().map(|share| share.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut all = Vec::with_capacity(kernels.len());
    for share in shares {
        all.extend(share?);
    }
    gpu.check()?;
    cache.and_then(|cache| cache.write());
    Ok(all)
}

/// The pipeline of a shader, by its text, whose calls bind memory of these kinds.
#[allow(unsafe_code)]
pub(super) fn pipeline(
    gpu: &Opened,
    cache: Option<&wgpu::PipelineCache>,
    kernel: &Kernel,
    (text, checks): (&str, Checks),
    buffers: &[BufferRef],
) -> Result<Pipeline, GpuError> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let entries: Vec<wgpu::BindGroupLayoutEntry> = buffers.iter().enumerate().map(entry).collect();
    let layout =
        gpu.device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries });
    let whole = gpu.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label: None,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let descriptor =
        wgpu::ShaderModuleDescriptor { label: Some(&kernel.name), source: wgpu::ShaderSource::Wgsl(text.into()) };
    let checks = if kernel.bounded { checks } else { Checks::All };
    let module = match checks {
        Checks::All => gpu.device.create_shader_module(descriptor),
        // SAFETY: whoever left out the checks vouches that the shader is the compiler's, which proved its bounds.
        Checks::None => unsafe {
            gpu.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
        },
    };
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(&kernel.name),
        layout: Some(&whole),
        module: &module,
        entry_point: Some("main"),
        compilation_options: wgpu::PipelineCompilationOptions {
            zero_initialize_workgroup_memory: checks == Checks::All,
            ..wgpu::PipelineCompilationOptions::default()
        },
        cache,
    });
    match block_on(scope.pop()) {
        None => Ok(Pipeline { layout, pipeline }),
        Some(error) => {
            let (adapter, shader) = (gpu.adapter().to_owned(), kernel.name.clone());
            Err(GpuError::Shader { adapter, shader, reason: error.to_string() })
        }
    }
}

/// Weights and inputs are bound for reading; what steps hand to each other always for writing, since a buffer has one use in
/// a dispatch.
fn entry((place, buffer): (usize, &BufferRef)) -> wgpu::BindGroupLayoutEntry {
    let read_only = matches!(buffer.kind(), BufferKind::Weights | BufferKind::Input);
    wgpu::BindGroupLayoutEntry {
        binding: place as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
