//! Timing: whole runs, and the steps of a run.

use std::time::{Duration, Instant};

use edgecc_format::step::Action;
use edgecc_runtime::{Model, RunError, Session};
use serde_json::json;

use crate::statistics::{Latency, latency};

/// How to time.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// Runs before the clock starts.
    pub warm_up: usize,
    /// Runs that are timed, if `sustain` is not set.
    pub runs: usize,
    /// Run for this long instead, to see a device get hot.
    pub sustain: Option<Duration>,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct BenchResult {
    /// Whole runs.
    pub latency: Latency,
    /// Median of the first and of the last tenth of the runs, in nanoseconds: how far a device throttles.
    pub drift: [u64; 2],
    /// Steps in order.
    pub steps: Vec<StepTime>,
}

/// One step's time.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// The step's name.
    pub name: String,
    /// The model's nodes.
    pub origins: String,
    /// Multiply-adds.
    pub macs: u64,
    /// Median nanoseconds.
    pub nanoseconds: u64,
}

/// Runs that time single steps.
const PROFILED_RUNS: usize = 5;

/// Times a session on whatever its inputs hold.
pub fn bench(model: &Model, session: &mut Session, options: &BenchOptions) -> Result<BenchResult, RunError> {
    for _ in 0..options.warm_up.max(1) {
        session.run()?;
    }
    let started = Instant::now();
    let mut samples = Vec::new();
    let more = |count: usize| match options.sustain {
        Some(duration) => started.elapsed() < duration,
        None => count < options.runs.max(1),
    };
    while samples.is_empty() || more(samples.len()) {
        let begin = Instant::now();
        session.run()?;
        samples.push(begin.elapsed().as_nanos() as u64);
    }
    let steps = profile(model, session)?;
    let tenth = (samples.len() / 10).max(1);
    let median = |samples: &[u64]| latency(samples).map_or(0, |latency| latency.p50);
    let drift = [median(&samples[..tenth]), median(&samples[samples.len() - tenth..])];
    let none = Latency { runs: 0, min: 0, p50: 0, p90: 0, p99: 0, max: 0, mean: 0 };
    Ok(BenchResult { latency: latency(&samples).unwrap_or(none), drift, steps })
}

/// The median time of every step.
pub fn profile(model: &Model, session: &mut Session) -> Result<Vec<StepTime>, RunError> {
    let calls: Vec<_> = model.program().steps.iter().filter_map(|step| step.action.as_ref()).collect();
    let mut times = vec![Vec::with_capacity(PROFILED_RUNS); calls.len()];
    for _ in 0..PROFILED_RUNS {
        session.run_profiled(|step, nanoseconds| times[step].push(nanoseconds))?;
    }
    let step = |(action, samples): (&&Action, &Vec<u64>)| match action {
        Action::Call(call) => StepTime {
            name: call.name.clone(),
            origins: call.origins.join("+"),
            macs: call.macs,
            nanoseconds: latency(samples).map_or(0, |latency| latency.p50),
        },
    };
    Ok(calls.iter().zip(&times).map(step).collect())
}

/// The figures as text, slowest steps first, or as one line of JSON.
pub fn report(result: &BenchResult, as_json: bool) -> String {
    let BenchResult { latency, drift, steps } = result;
    if as_json {
        let steps: Vec<_> = steps
            .iter()
            .map(|step| json!({"name": step.name, "origins": step.origins, "macs": step.macs, "ns": step.nanoseconds}))
            .collect();
        let line = json!({"schema_version": 1, "runs": latency.runs, "min_ns": latency.min, "p50_ns": latency.p50,
            "p90_ns": latency.p90, "p99_ns": latency.p99, "max_ns": latency.max, "mean_ns": latency.mean,
            "first_tenth_ns": drift[0], "last_tenth_ns": drift[1], "steps": steps});
        return format!("{line}\n");
    }
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    let mut text = format!(
        "{} runs: min {:.3} ms, p50 {:.3}, p90 {:.3}, p99 {:.3}, max {:.3}; first tenth {:.3}, last tenth {:.3}\n",
        latency.runs,
        milliseconds(latency.min),
        milliseconds(latency.p50),
        milliseconds(latency.p90),
        milliseconds(latency.p99),
        milliseconds(latency.max),
        milliseconds(drift[0]),
        milliseconds(drift[1]),
    );
    let total: u64 = steps.iter().map(|step| step.nanoseconds).sum();
    let mut slowest: Vec<&StepTime> = steps.iter().collect();
    slowest.sort_by_key(|step| std::cmp::Reverse(step.nanoseconds));
    for step in slowest {
        let share = step.nanoseconds as f64 / total.max(1) as f64 * 100.0;
        let rate = step.macs as f64 / step.nanoseconds.max(1) as f64;
        text.push_str(&format!(
            "{:>9.3} ms {share:>5.1}% {rate:>7.2} macs/ns  {:<28} {}\n",
            milliseconds(step.nanoseconds),
            step.name,
            step.origins
        ));
    }
    text
}
