//! Executed aarch64 instructions of one inference on several threads, counted by a plugin of the emulator. Those of kernels
//! do not vary where threads compute fixed shares; those outside of kernels do, for they wait there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use edgecc_backends::cpu::program::PlacedKernel;

use crate::executed::{Executed, Misses, Trace, code_address};
use crate::report::skipped;
use crate::{cross, python};

/// What a thread executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OfThread {
    /// Instructions of kernels.
    pub kernels: u64,
    /// Those of the runtime and the system's libraries, waiting included.
    pub outside: u64,
}

/// The plugin, compiled. `None`, after a visible line, without a C compiler.
pub fn plugin() -> Option<PathBuf> {
    let library = python::generated("executed").join("executed_by_thread.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/executed_by_thread.c");
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-w"]).arg(source).arg("-o").arg(&library).status();
    if built.is_ok_and(|status| status.success()) {
        return Some(library);
    }
    skipped("the counting plugin needs a C compiler");
    None
}

/// What each instruction's word is and how often each thread executes it, by address.
type Traces = BTreeMap<u64, (u32, BTreeMap<usize, u64>)>;

/// Runs an artifact of one input and one output twice on the emulated processor, every thread on its own share, and returns
/// what the threads execute in the second run, the caller's first. `files` are the artifact, the input as raw f32 and where
/// the output goes.
pub fn shares(
    [plugin, line]: [&Path; 2],
    files: [&Path; 3],
    shape: &str,
    threads: usize,
    (code, kernels): (&[u8], &[PlacedKernel]),
) -> Option<Vec<OfThread>> {
    let counts = files[2].with_extension("counts");
    let mut running = cross::emulator("cortex-a76")
        .args(["-d", "plugin", "-plugin"])
        .args([plugin, Path::new("-D"), &counts, line])
        .args(files)
        .args([shape, &threads.to_string(), "fixed"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("the emulator starts");
    running.stdin.take().expect("a pipe").write_all(b"1\n1\n").expect("two runs");
    assert!(running.wait().expect("it ends").success(), "{}", files[0].display());
    let traces = parse(&std::fs::read_to_string(counts).expect("counts"));
    let all = |(&address, (word, by_thread)): (&u64, &(u32, BTreeMap<usize, u64>))| {
        (address, Executed { word: *word, executions: by_thread.values().sum(), misses: Misses::default() })
    };
    let base = code_address(&traces.iter().map(all).collect::<Trace>(), code, kernels)?;
    let mut shares = vec![OfThread::default(); threads];
    for (&address, (_, by_thread)) in &traces {
        let is_kernel = (base..base + code.len() as u64).contains(&address);
        for (&thread, executions) in by_thread {
            let share = shares.get_mut(thread)?;
            *if is_kernel { &mut share.kernels } else { &mut share.outside } += executions;
        }
    }
    Some(shares)
}

fn parse(text: &str) -> Traces {
    let mut traces = Traces::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [thread, address, word, executions] = fields.as_slice() else { continue };
        let (Ok(thread), Ok(executions)) = (thread.parse(), executions.parse::<u64>()) else { continue };
        let (Ok(address), Ok(word)) = (u64::from_str_radix(address, 16), u32::from_str_radix(word, 16)) else {
            continue;
        };
        *traces.entry(address).or_insert((word, BTreeMap::new())).1.entry(thread).or_insert(0) += executions;
    }
    traces
}
