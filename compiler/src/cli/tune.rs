//! `edgecc tune`: measures schedules and writes the best.

use std::fmt::Write;
use std::time::Duration;

use edgecc_backends::schedule::choices::Choices;
use edgecc_device::files::write_whole;

use super::loading::{compile_options, for_core};
use super::options::TuneArguments;
use super::progress::Progress;
use super::{CliError, CliResult, print};
use crate::compile::{finish, prepare};
use crate::target::{processor, target};
use crate::tune::{Tuned, tune as measure};

/// Times schedules of every layer on this machine and writes the best ones.
pub fn tune(arguments: &TuneArguments) -> CliResult {
    let usage = |error: crate::target::TargetError| CliError::Usage(error.to_string());
    let host = target("host").map_err(usage)?;
    let core = processor(&arguments.cpu).map_err(usage)?;
    let options = for_core(compile_options(&arguments.reading, host.architecture, Vec::new())?, core);
    let progress = Progress::start("reading the model");
    let mut phase = |phase: crate::compile::Phase<'_>| progress.phase(|| format!("compiling, past {}", phase.name));
    let (mut graph, notes) = prepare(&arguments.model, &options, &mut phase)?;
    finish(&mut graph, &options, &mut phase)?;
    let budget = Duration::from_secs(arguments.budget);
    let (choices, tuned) = measure(&graph, &options, budget, &mut |work| progress.phase(|| work))?;
    drop(progress);
    notes.iter().for_each(|note| eprintln!("note: {note}"));
    let text = file(&choices, core.name);
    write_whole(&arguments.output, |out| out.write_all(text.as_bytes()).map(|()| text.len() as u64))
        .map_err(|source| CliError::Io { path: arguments.output.clone(), source })?;
    print(&tuned.iter().map(table).collect::<String>())
}

fn file(choices: &Choices, cpu: &str) -> String {
    format!("# Measured by `edgecc tune`; compile with --cpu {cpu} --schedules THIS FILE.\n{choices}")
}

/// A line for each layer and one for the whole model.
fn table(tuned: &Tuned) -> String {
    let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let ratio = |[before, after]: [u64; 2]| after as f64 / before.max(1) as f64;
    let mut text = format!("[{}]\n{:>10} {:>10} {:>6}\n", tuned.heading, "first us", "best us", "ratio");
    for measured in &tuned.layers {
        let ((first, before), (best, after)) = (measured.first, measured.best);
        let chosen = if first == best { first.to_string() } else { format!("{first} -> {best}") };
        let (before_us, after_us) = (microseconds(before), microseconds(after));
        // A string takes all that is written.
        let _ = writeln!(
            text,
            "{before_us:>10.1} {after_us:>10.1} {:>6.3}  {}: {chosen}",
            ratio([before, after]),
            measured.layer
        );
    }
    let [before, after] = tuned.whole.map(microseconds);
    let _ = writeln!(text, "{before:>10.1} {after:>10.1} {:>6.3}  the whole model", ratio(tuned.whole));
    text
}
