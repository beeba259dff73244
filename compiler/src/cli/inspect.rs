//! `edgecc inspect`: what is in an artifact.

use std::collections::{BTreeMap, BTreeSet};

use edgecc_format::{ARCHITECTURE_WGSL, BufferKind, BufferRef, Call, Manifest, Program, View, step::Action};
use serde_json::{Value, json};

use super::moved::{Caches, Energy, Moved, SOURCES, energy, moved, total};
use super::options::InspectArguments;
use super::{CliError, CliResult, print};
use edgecc_device::inputs::describe;

/// Prints inputs, outputs, sizes and steps. Works for artifacts of any processor.
pub fn inspect(arguments: &InspectArguments) -> CliResult {
    let path = &arguments.artifact;
    let bytes = std::fs::read(path).map_err(|source| CliError::Io { path: path.clone(), source })?;
    let invalid = |source: edgecc_format::FormatError| CliError::Load { path: path.clone(), source: source.into() };
    let View { manifest, weights, .. } = edgecc_format::read(&bytes).map_err(invalid)?;
    edgecc_format::verify_weights(&manifest, weights).map_err(invalid)?;
    if arguments.json {
        print(&format!("{}\n", as_json(&manifest, bytes.len())))
    } else {
        print(&as_text(&manifest, bytes.len()))
    }
}

fn as_text(manifest: &Manifest, size: usize) -> String {
    let mut text = format!("{} ({} bytes, {})\n", manifest.model_name, size, manifest.producer);
    for (title, ports) in [("input", &manifest.inputs), ("output", &manifest.outputs)] {
        for port in ports {
            text.push_str(&format!("{title:<8} {}: {}\n", port.name, describe(port)));
        }
    }
    text.push_str(&format!("weights  {} bytes{}\n", manifest.weights_bytes, shared_text(manifest)));
    for program in &manifest.programs {
        if program.architecture == ARCHITECTURE_WGSL {
            text.push_str(&shaders_text(manifest, program));
            continue;
        }
        text.push_str(&format!(
            "program  {} {}\ncode     {} bytes, {} kernels, {} encoded\narena    {} bytes\n{}macs     {}\n{}steps    {}\n",
            program.architecture,
            program.required_features.join(" "),
            program.code_length,
            program.kernels.len(),
            program.kernels.iter().filter(|kernel| kernel.encoded).count(),
            program.arena_bytes,
            memory_text(program),
            manifest.source_macs,
            cost_text(&Cost::of(manifest, program)),
            program.steps.len(),
        ));
        for call in calls(program) {
            let (name, macs, origins) = (&call.name, call.macs, call.origins.join("+"));
            let writer = if is_encoded(program, call) { "encoded" } else { "clif" };
            text.push_str(&format!("  {name:<28} {macs:>12} macs  {writer:<7}  {origins}\n"));
        }
    }
    text
}

/// What programs of different architectures read of the weights, and what all of them do.
fn shared_text(manifest: &Manifest) -> String {
    let mut readers: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for program in &manifest.programs {
        readers.entry(&program.architecture).or_default().extend(constants_read(manifest, program));
    }
    if readers.len() < 2 {
        return String::new();
    }
    let bytes = |read: &BTreeSet<usize>| read.iter().map(|&index| manifest.constants[index].length).sum::<u64>();
    let mut all = readers.values().cloned();
    let shared = all.next().map(|first| all.fold(first, |shared, read| &shared & &read)).unwrap_or_default();
    let each: Vec<String> = readers.iter().map(|(name, read)| format!("{name} reads {}", bytes(read))).collect();
    format!(": {}, of which {} are the same", each.join(", "), bytes(&shared))
}

/// The places in the manifest's list of the constants that a program's steps read.
fn constants_read(manifest: &Manifest, program: &Program) -> BTreeSet<usize> {
    let weights = calls(program).flat_map(|call| &call.buffers).filter(|buffer| buffer.kind() == BufferKind::Weights);
    let place = |buffer: &BufferRef| {
        let behind = manifest.constants.partition_point(|constant| constant.offset <= buffer.offset);
        behind.checked_sub(1)
    };
    weights.filter_map(place).collect()
}

/// A program of shaders: its dispatches with the bytes that each reads and writes, and its groups.
fn shaders_text(manifest: &Manifest, program: &Program) -> String {
    let bytes: u64 = calls(program).map(|call| call.bytes).sum();
    let mut text = format!(
        "program  {}\ncode     {} bytes, {} shaders, {} proved\narena    {} bytes\nmacs     {}\nmoved    {bytes} bytes\nsteps    {}\n",
        program.architecture,
        program.code_length,
        program.kernels.len(),
        program.kernels.iter().filter(|kernel| kernel.bounded).count(),
        program.arena_bytes,
        manifest.source_macs,
        program.steps.len(),
    );
    for call in calls(program) {
        let groups: Vec<String> = call.groups.iter().map(|groups| groups.to_string()).collect();
        let (name, groups, origins) = (&call.name, groups.join("x"), call.origins.join("+"));
        text.push_str(&format!(
            "  {name:<28} {:>12} macs {:>12} bytes  {groups:<12} {origins}\n",
            call.macs, call.bytes
        ));
    }
    text
}

fn as_json(manifest: &Manifest, size: usize) -> Value {
    let port = |port: &edgecc_format::Port| {
        let dims: Vec<u64> = port.dims.iter().map(|dim| dim.capacity()).collect();
        let element_type = edgecc_format::ElementType::try_from(port.element_type).map_or("unspecified", |t| t.name());
        json!({"name": port.name, "type": element_type, "dims": dims})
    };
    let step = |program: &Program, call: &Call, from: &Moved| {
        let mut step = json!({"name": call.name, "origins": call.origins, "macs": call.macs, "bytes": call.bytes,
               "bytes_from": [from.l1, from.l2, from.memory], "encoded": is_encoded(program, call)});
        if !call.groups.is_empty() {
            step["groups"] = call.groups.clone().into();
        }
        step
    };
    let program = |program: &Program| {
        let cost = Cost::of(manifest, program);
        let steps = calls(program).zip(&cost.steps).map(|(call, from)| step(program, call, from));
        json!({"architecture": program.architecture, "features": program.required_features,
               "code_bytes": program.code_length, "kernels": program.kernels.len(), "arena_bytes": program.arena_bytes,
               "scratch_bytes_per_worker": program.scratch_bytes_per_worker, "memory_bytes_of_workers": memory(program),
               "cache_bytes": [cost.caches.l1, cost.caches.l2],
               "bytes_from": [cost.moved.l1, cost.moved.l2, cost.moved.memory],
               "estimated_millijoules": (cost.energy.total() * 1e6).round() / 1e6, "energy_sources": SOURCES, "steps": steps.collect::<Vec<_>>()})
    };
    json!({
        "schema_version": 1, "model": manifest.model_name, "producer": manifest.producer, "bytes": size,
        "config": manifest.config, "inputs": manifest.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": manifest.outputs.iter().map(port).collect::<Vec<_>>(), "weights_bytes": manifest.weights_bytes,
        "macs": manifest.source_macs, "labels": manifest.labels.len(),
        "programs": manifest.programs.iter().map(program).collect::<Vec<_>>(),
    })
}

/// Numbers of workers that memory is told for.
const WORKERS: [u64; 3] = [1, 2, 4];

/// Bytes of the arena and of all workers' scratch, by number of workers.
fn memory(program: &Program) -> serde_json::Map<String, Value> {
    WORKERS.iter().map(|&workers| (workers.to_string(), memory_bytes(program, workers).into())).collect()
}

fn memory_bytes(program: &Program, workers: u64) -> u64 {
    program.arena_bytes + workers * program.scratch_bytes_per_worker
}

fn memory_text(program: &Program) -> String {
    format!(
        "scratch  {} bytes for each worker: with the arena {} bytes for {} workers\n",
        program.scratch_bytes_per_worker,
        WORKERS.map(|workers| memory_bytes(program, workers).to_string()).join(", "),
        WORKERS.map(|workers| workers.to_string()).join(", ")
    )
}

/// What an inference by a program moves and takes.
struct Cost {
    caches: Caches,
    steps: Vec<Moved>,
    moved: Moved,
    energy: Energy,
}

impl Cost {
    fn of(manifest: &Manifest, program: &Program) -> Cost {
        let caches = Caches::of(manifest.config.lines().any(|line| line == "core = in-order"));
        let calls: Vec<&Call> = calls(program).collect();
        let steps = moved(&calls, caches);
        let moved = total(&steps);
        let macs = calls.iter().map(|call| call.macs).sum();
        Cost { caches, moved, energy: energy(program, macs, moved), steps }
    }
}

fn cost_text(cost: &Cost) -> String {
    let (Moved { l1, l2, memory }, energy) = (cost.moved, cost.energy);
    format!(
        "moved    {} bytes: {l1} from a cache of {} KiB, {l2} from one of {} KiB, {memory} from memory\n\
         energy   {:.4} mJ, an estimate: {:.4} arithmetic, {:.4} instructions, {:.4} memory ({SOURCES})\n",
        cost.moved.total(),
        cost.caches.l1 >> 10,
        cost.caches.l2 >> 10,
        energy.total(),
        energy.arithmetic,
        energy.instructions,
        energy.memory
    )
}

/// Whether our own encoder wrote a call's kernel.
fn is_encoded(program: &Program, call: &Call) -> bool {
    program.kernels.get(call.kernel as usize).is_some_and(|kernel| kernel.encoded)
}

fn calls(program: &Program) -> impl Iterator<Item = &Call> {
    program.steps.iter().filter_map(|step| step.action.as_ref()).map(|Action::Call(call)| call)
}
