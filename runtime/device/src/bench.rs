//! Timing: whole runs, and the steps of a run.

use std::time::{Duration, Instant};

use edgecc_format::step::Action;
use edgecc_runtime::{Model, Program, RunError, Session};
use serde_json::{Value, json};

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
    /// The tenths of a sustained measurement's time, one after the other, without those that no run began in: how far a
    /// device throttles. None where a number of runs was timed.
    pub tenths: Vec<Latency>,
    /// Steps in order; none where they were not timed one by one.
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

/// Samples that are kept of a long measurement.
const MOST_SAMPLES: usize = 1 << 20;
/// Runs that time single steps.
const PROFILED_RUNS: usize = 5;

/// Times a session on whatever its inputs hold.
pub fn bench(model: &Model, session: &mut Session, options: &BenchOptions) -> Result<BenchResult, RunError> {
    let whole = bench_whole(&mut || session.run(), options)?;
    Ok(BenchResult { steps: profile(model.program(), &mut |report| session.run_profiled(report))?, ..whole })
}

/// Times whole runs, whatever runs.
pub fn bench_whole<E>(run: &mut dyn FnMut() -> Result<(), E>, options: &BenchOptions) -> Result<BenchResult, E> {
    for _ in 0..options.warm_up.max(1) {
        run()?;
    }
    let samples = sample(run, options)?;
    let tenths = if options.sustain.is_some() { tenths(&samples) } else { Vec::new() };
    let none = Latency { runs: 0, min: 0, p50: 0, p90: 0, p99: 0, max: 0, mean: 0 };
    Ok(BenchResult { latency: latency(&samples).unwrap_or(none), tenths, steps: Vec::new() })
}

/// Nanoseconds of the runs, evenly thinned out where there are more than [`MOST_SAMPLES`].
fn sample<E>(run: &mut dyn FnMut() -> Result<(), E>, options: &BenchOptions) -> Result<Vec<u64>, E> {
    let started = Instant::now();
    let (mut samples, mut runs, mut every) = (Vec::new(), 0, 1);
    let more = |runs: usize| match options.sustain {
        Some(duration) => started.elapsed() < duration,
        None => runs < options.runs,
    };
    while runs == 0 || more(runs) {
        let begin = Instant::now();
        run()?;
        if runs % every == 0 {
            samples.push(begin.elapsed().as_nanos() as u64);
        }
        runs += 1;
        if samples.len() == MOST_SAMPLES {
            samples = samples.into_iter().step_by(2).collect();
            every *= 2;
        }
    }
    Ok(samples)
}

/// Splits runs, in order, by the tenth of their time that each begins in.
fn tenths(samples: &[u64]) -> Vec<Latency> {
    let total: u128 = samples.iter().map(|&sample| sample as u128).sum();
    let mut begun: u128 = 0;
    let mut parts = vec![Vec::new(); 10];
    for &sample in samples {
        parts[(begun * 10 / total.max(1)).min(9) as usize].push(sample);
        begun += sample as u128;
    }
    parts.iter().filter_map(|part| latency(part)).collect()
}

/// Takes the number of a step and its nanoseconds.
pub type Report<'a> = &'a mut dyn FnMut(usize, u64);

/// The median time of every step of a program, by runs that report them.
pub fn profile<E>(program: &Program, run: &mut dyn FnMut(Report<'_>) -> Result<(), E>) -> Result<Vec<StepTime>, E> {
    let calls: Vec<_> = program.steps.iter().filter_map(|step| step.action.as_ref()).collect();
    let mut times = vec![Vec::with_capacity(PROFILED_RUNS); calls.len()];
    for _ in 0..PROFILED_RUNS {
        run(&mut |step, nanoseconds| times[step].push(nanoseconds))?;
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
    let BenchResult { latency, tenths, steps } = result;
    if as_json {
        let mut line = latency_json(latency);
        line["schema_version"] = 1.into();
        line["tenths"] = tenths.iter().map(latency_json).collect();
        line["steps"] = steps_json(steps);
        return format!("{line}\n");
    }
    let mut text = latency_line(latency);
    if !tenths.is_empty() {
        text.push_str("by tenths of the time:\n");
        tenths.iter().for_each(|tenth| text.push_str(&format!("  {}", latency_line(tenth))));
    }
    text.push_str(&table(steps));
    text
}

fn latency_json(latency: &Latency) -> Value {
    json!({"runs": latency.runs, "min_ns": latency.min, "p50_ns": latency.p50, "p90_ns": latency.p90,
           "p99_ns": latency.p99, "max_ns": latency.max, "mean_ns": latency.mean})
}

fn latency_line(latency: &Latency) -> String {
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    format!(
        "{} runs: min {:.3} ms, p50 {:.3}, p90 {:.3}, p99 {:.3}, max {:.3}\n",
        latency.runs,
        milliseconds(latency.min),
        milliseconds(latency.p50),
        milliseconds(latency.p90),
        milliseconds(latency.p99),
        milliseconds(latency.max),
    )
}

/// Name, nodes, multiply-adds and nanoseconds of every step, in order.
pub fn steps_json(steps: &[StepTime]) -> Value {
    let row = |step: &StepTime| json!({"name": step.name, "origins": step.origins, "macs": step.macs, "ns": step.nanoseconds});
    steps.iter().map(row).collect()
}

/// A row per step, slowest first.
pub fn table(steps: &[StepTime]) -> String {
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    let mut text = String::new();
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

#[cfg(test)]
mod tests {
    use super::tenths;

    #[test]
    fn tenths_are_of_the_time_and_not_of_the_runs() {
        // 500 ns: 50 runs of 5 ns, then 10 of 25 ns. Each tenth has 50 ns: 10 fast runs, or 2 slow ones.
        let samples = [vec![5; 50], vec![25; 10]].concat();
        let rows: Vec<(usize, u64)> = tenths(&samples).iter().map(|tenth| (tenth.runs, tenth.p50)).collect();
        assert_eq!(rows, [[(10, 5); 5], [(2, 25); 5]].concat());
    }

    #[test]
    fn a_tenth_in_which_no_run_begins_is_left_out() {
        let rows: Vec<usize> = tenths(&[50, 50]).iter().map(|tenth| tenth.runs).collect();
        assert_eq!(rows, [1, 1]);
        assert!(tenths(&[]).is_empty());
    }
}
