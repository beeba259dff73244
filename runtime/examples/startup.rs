//! From the load of an artifact to its first answer, in a fresh process: `startup ARTIFACT` prints
//! `first NS steady NS before BYTES after BYTES mapped BYTES arena BYTES`: the time to the first answer on zeros, the
//! shortest of some later runs, and resident memory before the load, after the first answer, and of the mapped artifact
//! in it, as Linux tells.
#![allow(unsafe_code)]

use std::error::Error;
use std::fs::read_to_string;
use std::time::Instant;

use edgecc_runtime::{LoadOptions, Model, Session, SessionOptions};

const LATER_RUNS: usize = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let artifact = std::fs::canonicalize(std::env::args().nth(1).ok_or("usage: startup ARTIFACT")?)?;
    let before = kilobytes(&read_to_string("/proc/self/status")?, "VmRSS:");
    let start = Instant::now();
    // SAFETY: whoever measures an artifact has made it, and does not change it meanwhile.
    let model = unsafe { Model::open(&artifact, LoadOptions::default()) }?;
    let mut session = model.session(SessionOptions { threads: 1 })?;
    for index in 0..model.inputs().len() {
        session.input_mut(index).fill(0);
    }
    session.run()?;
    let first = start.elapsed().as_nanos();
    let after = kilobytes(&read_to_string("/proc/self/status")?, "VmRSS:");
    let mapped = mapped(&read_to_string("/proc/self/smaps")?, &artifact.to_string_lossy());
    let steady = (0..LATER_RUNS).map(|_| time(&mut session)).collect::<Result<Vec<u128>, _>>()?;
    let steady = steady.into_iter().min().unwrap_or(0);
    let arena = model.program().arena_bytes;
    let [before, after, mapped] = [before, after, mapped].map(|kilobytes| kilobytes << 10);
    println!("first {first} steady {steady} before {before} after {after} mapped {mapped} arena {arena}");
    Ok(())
}

fn time(session: &mut Session) -> Result<u128, Box<dyn Error>> {
    let start = Instant::now();
    session.run()?;
    Ok(start.elapsed().as_nanos())
}

/// The sum of a field, in kB.
fn kilobytes(text: &str, field: &str) -> u64 {
    let values =
        text.lines().filter_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    values.sum()
}

/// Resident kB of a file's mappings: each begins with a line that ends with the file's name.
fn mapped(smaps: &str, file: &str) -> u64 {
    let mut sum = 0;
    let mut inside = false;
    for line in smaps.lines() {
        if line.split(' ').next().is_some_and(|range| range.contains('-')) {
            inside = line.ends_with(file);
        } else if inside {
            sum += kilobytes(line, "Rss:");
        }
    }
    sum
}
