//! The command line of `edgecc-device`.

use std::path::PathBuf;
use std::time::Duration;

use edgecc_device::agreement::Bound;
use lexopt::{Arg, Error, Parser, ValueExt};

/// What `--help` prints.
pub const HELP: &str = "\
Runs, times, compares and profiles artifacts of edgecc on this device

Usage: edgecc-device run ARTIFACT --input FILE.npz|NAME=FILE.npy [--output FILE.npz]
       edgecc-device bench ARTIFACT [--runs N] [--warm-up N] [--sustain 90s|10m]
       edgecc-device compare ARTIFACT --input FILE.npz [--expected FILE.npz]
       edgecc-device profile ARTIFACT

  --input [NAME=]FILE    Arrays named like inputs or in_0, in_1; zeros for bench and profile without it
  --expected FILE.npz    Arrays named like outputs or out_0, out_1; without it, out_0, out_1 of the input's file
  --relative F           Allowed difference as a share of the value [1e-3]
  --of-channel F         Allowed difference as a share of the channel's largest value [1e-4]
  --channel N            The axis of channels [last]
  --output FILE.npz      Write the outputs
  --threads N            Threads that compute [one for each fast core]
  --runs N               Runs that are timed [50]
  --warm-up N            Runs before the clock starts [3]
  --sustain TIME         Run for this long instead, to see the device get hot
  --json                 Machine-readable

Exit codes: 0 ok, 1 artifact or run failed, 2 usage, 3 a check failed, 4 input or output, 5 a limit hit, 70 our bug
";

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Run,
    Bench,
    Compare,
    Profile,
}

/// A whole command line.
#[derive(Clone, Debug)]
pub struct Command {
    pub verb: Verb,
    pub artifact: PathBuf,
    pub inputs: Vec<String>,
    pub expected: Option<PathBuf>,
    pub output: Option<PathBuf>,
    pub bound: Bound,
    pub channel: Option<usize>,
    pub threads: Option<usize>,
    pub runs: usize,
    pub warm_up: usize,
    pub sustain: Option<Duration>,
    pub json: bool,
}

/// Reads the command line; `None` asks for help.
pub fn parse(mut parser: Parser) -> Result<Option<Command>, Error> {
    let mut verb = None;
    let mut artifact = None;
    let mut command = Command {
        verb: Verb::Run,
        artifact: PathBuf::new(),
        inputs: Vec::new(),
        expected: None,
        output: None,
        bound: Bound::FLOAT,
        channel: None,
        threads: None,
        runs: 50,
        warm_up: 3,
        sustain: None,
        json: false,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(None),
            Arg::Short('i') | Arg::Long("input") => command.inputs.push(parser.value()?.string()?),
            Arg::Long("expected") => command.expected = Some(parser.value()?.into()),
            Arg::Short('o') | Arg::Long("output") => command.output = Some(parser.value()?.into()),
            Arg::Long("relative") => command.bound.relative = parser.value()?.parse()?,
            Arg::Long("of-channel") => command.bound.of_channel = parser.value()?.parse()?,
            Arg::Long("channel") => command.channel = Some(parser.value()?.parse()?),
            Arg::Long("threads") => command.threads = Some(parser.value()?.parse()?),
            Arg::Long("runs") => command.runs = parser.value()?.parse()?,
            Arg::Long("warm-up") => command.warm_up = parser.value()?.parse()?,
            Arg::Long("sustain") => command.sustain = Some(parser.value()?.parse_with(duration)?),
            Arg::Long("json") => command.json = true,
            Arg::Value(value) if verb.is_none() => verb = Some(value.parse_with(verb_named)?),
            Arg::Value(value) if artifact.is_none() => artifact = Some(value.into()),
            other => return Err(other.unexpected()),
        }
    }
    let Some(verb) = verb else { return Ok(None) };
    command.verb = verb;
    command.artifact = artifact.ok_or("no artifact given")?;
    if verb == Verb::Compare && command.expected.is_none() {
        command.expected = Some(file_with_both(&command.inputs).ok_or("compare needs --expected FILE.npz")?);
    }
    Ok(Some(command))
}

/// The archive that a single `--input` names: it may hold the outputs beside the inputs.
fn file_with_both(inputs: &[String]) -> Option<PathBuf> {
    let [file] = inputs else { return None };
    Some(PathBuf::from(file)).filter(|file| file.extension().is_some_and(|extension| extension == "npz"))
}

fn verb_named(name: &str) -> Result<Verb, String> {
    match name {
        "run" => Ok(Verb::Run),
        "bench" => Ok(Verb::Bench),
        "compare" => Ok(Verb::Compare),
        "profile" => Ok(Verb::Profile),
        _ => Err("no such command; there are run, bench, compare and profile".into()),
    }
}

/// A number of seconds, or with `s`, `m` or `h` behind it.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((end, 's')) => (&text[..end], 1.0),
        Some((end, 'm')) => (&text[..end], 60.0),
        Some((end, 'h')) => (&text[..end], 3600.0),
        _ => (text, 1.0),
    };
    let seconds = number.parse::<f64>().ok().map(|number| number * unit);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "write a time such as 90s or 10m".into())
}
