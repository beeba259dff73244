//! Measures schedules of a model's layers on this machine. A trial is the whole model with one more schedule for each of its
//! layers; trials run in turns, one thread, and each step is timed alone, over the operands and caches that it has in the
//! model. Of each step the shortest time counts.

#[cfg(feature = "gpu")]
pub mod gpu;
#[cfg(feature = "gpu")]
pub mod journal;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use edgecc_backends::program::{Decision, KernelSource, Program};
use edgecc_backends::schedule::choices::{Choice, Choices, heading};
use edgecc_backends::schedule::{Schedule, layer};
use edgecc_ir::Graph;
use edgecc_runtime::{LoadError, LoadOptions, Model, RunError, Session, SessionError, SessionOptions};

use crate::compile::{CompileError, CompileOptions, Compiled, Kind, generate, kinds_here};

/// Schedules that are measured for a layer by the cost model's order, the first choice among them.
const BY_COST: usize = 4;
/// What a schedule must take of the first choice's time to replace it: clocks tell no smaller difference.
const BETTER: f64 = 0.98;
/// Rounds of all trials that are run whatever the budget.
const FEWEST_ROUNDS: usize = 3;

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// A trial did not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A trial did not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There was no memory for a trial.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A trial did not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The GPU failed at more than a shader.
    #[cfg(feature = "gpu")]
    #[error(transparent)]
    Gpu(#[from] edgecc_runtime::gpu::GpuError),
    /// The journal.
    #[cfg(feature = "gpu")]
    #[error("the journal of trials cannot be kept: {0}")]
    Journal(#[from] std::io::Error),
    /// Nothing is left of a layer.
    #[cfg(feature = "gpu")]
    #[error("the driver fails at every schedule of {0}")]
    NoShader(String),
}

/// A layer's times: the sums of its steps'.
#[derive(Clone, Debug)]
pub struct Measured {
    /// The layer in words.
    pub layer: String,
    /// The first choice, and its nanoseconds.
    pub first: (Choice, u64),
    /// The best one.
    pub best: (Choice, u64),
}

/// What was measured of the program for one kind of processors.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The kind, as choices have it for a heading.
    pub heading: String,
    /// Layers that have a choice, the slowest first.
    pub layers: Vec<Measured>,
    /// Nanoseconds of the whole model, by the first choices and by the best.
    pub whole: [u64; 2],
}

/// Measures for about `budget`, and chooses for every layer of every program that this machine runs. `say` hears of progress.
pub fn tune(
    graph: &Graph,
    options: &CompileOptions,
    budget: Duration,
    say: &mut dyn FnMut(String),
) -> Result<(Choices, Vec<Tuned>), TuneError> {
    let mut here = kinds_here(graph, options);
    // Programs that share a heading share their choices: the most able one makes them.
    here.dedup_by_key(|kind| kind.vectors);
    let mut choices = options.schedules.clone();
    let mut tuned = Vec::new();
    for &kind in &here {
        let mut tuning = Tuning { graph, options, kind, budget: budget / here.len() as u32, say };
        tuned.push(tuning.run(&mut choices)?);
    }
    Ok((choices, tuned))
}

/// The work on one kind of processors.
struct Tuning<'a> {
    graph: &'a Graph,
    options: &'a CompileOptions,
    kind: Kind,
    budget: Duration,
    say: &'a mut dyn FnMut(String),
}

impl Tuning<'_> {
    fn run(&mut self, choices: &mut Choices) -> Result<Tuned, TuneError> {
        let heading = heading(self.options.architecture, self.options.kernels, self.kind.integers, self.kind.vectors);
        let before = choices.clone();
        let decisions = self.compile(choices)?.best.program.decisions;
        let mut layers = self.choose_algorithms(&heading, &decisions, choices)?;
        layers.extend(self.choose_tiles(&heading, choices)?);
        layers.sort_by_key(|measured| std::cmp::Reverse(measured.first.1));
        let whole = self.confirm(&heading, &before, choices, &mut layers)?;
        Ok(Tuned { heading, layers, whole })
    }

    /// An algorithm such as Winograd's or direct sums, for the contractions that may take either.
    fn choose_algorithms(
        &mut self,
        heading: &str,
        decisions: &BTreeMap<String, Decision>,
        choices: &mut Choices,
    ) -> Result<Vec<Measured>, TuneError> {
        let either = either(decisions);
        if either.is_empty() {
            return Ok(Vec::new());
        }
        let [by_sums, by_algorithms] = both_ways(heading, &either, choices);
        let mut trials = [self.trial(&by_sums)?, self.trial(&by_algorithms)?];
        self.measure(&mut trials, self.budget / 4)?;
        let mut layers = Vec::new();
        for (layer, decision, [sums, algorithm]) in either {
            let origins: Vec<_> = trials[0].of_layer(layer).map(|step| &step.origin).collect();
            let [direct, composed] = [&trials[0], &trials[1]].map(|trial| {
                let of_node = trial.steps.iter().filter(|step| origins.contains(&&step.origin));
                of_node.map(|step| step.nanoseconds).sum()
            });
            let measured = of_both(layer, decision, (sums, direct), (algorithm, composed));
            choices.set(heading, layer, measured.best.0);
            layers.push(measured);
        }
        Ok(layers)
    }

    /// Tiles and blocks of contractions, columns of depthwise convolutions.
    fn choose_tiles(&mut self, heading: &str, choices: &mut Choices) -> Result<Vec<Measured>, TuneError> {
        let first = self.trial(choices)?;
        let decisions = first.decisions.iter().filter(|(_, decision)| !decision.choice.is_algorithm());
        let candidates: BTreeMap<String, Vec<Choice>> =
            decisions.map(|(layer, decision)| (layer.clone(), candidates(decision))).collect();
        let most = candidates.values().map(Vec::len).max().unwrap_or(1);
        let mut trials = vec![first];
        for place in 1..most {
            let mut others = choices.clone();
            for (layer, candidates) in &candidates {
                others.set(heading, layer, candidates[place.min(candidates.len() - 1)]);
            }
            trials.push(self.trial(&others)?);
        }
        self.measure(&mut trials, self.budget / 2)?;
        let mut layers = Vec::new();
        for (layer, candidates) in candidates {
            let timed = |place: usize| (candidates[place], trials[place].nanoseconds(&layer));
            // The same code again would be chosen by chance alone.
            let is_other = |&place: &usize| trials[place].code(&layer) != trials[0].code(&layer);
            let best = (1..candidates.len()).filter(is_other).map(timed).min_by_key(|(_, nanoseconds)| *nanoseconds);
            let first = timed(0);
            let best = best.map_or(first, |best| better(first, best));
            choices.set(heading, &layer, best.0);
            layers.push(Measured { layer, first, best });
        }
        Ok(layers)
    }

    /// Times the choices before and now once more: the fastest of several was so by chance at times. A layer that is not
    /// faster again takes back its first choice. The whole model's times: the sums of its steps'.
    fn confirm(
        &mut self,
        heading: &str,
        before: &Choices,
        choices: &mut Choices,
        layers: &mut [Measured],
    ) -> Result<[u64; 2], TuneError> {
        let mut trials = [self.trial(before)?, self.trial(choices)?];
        self.measure(&mut trials, self.budget / 4)?;
        let mut whole = trials.each_ref().map(|trial| trial.steps.iter().map(|step| step.nanoseconds).sum());
        let is_changed = |measured: &&mut Measured| {
            let (first, best) = (measured.first.0, measured.best.0);
            first != best && !first.is_algorithm() && !best.is_algorithm()
        };
        for measured in layers.iter_mut().filter(is_changed) {
            let [first, best] = trials.each_ref().map(|trial| trial.nanoseconds(&measured.layer));
            // Direct sums that an algorithm stood for before have no time to be held against.
            let is_comparable = first > 0 && best > 0;
            if is_comparable && better((measured.first.0, first), (measured.best.0, best)).0 == measured.first.0 {
                choices.set(heading, &measured.layer, measured.first.0);
                measured.best = measured.first;
                whole[1] = whole[1] - best + first;
            }
        }
        Ok(whole)
    }

    /// Runs trials in turns, at least [`FEWEST_ROUNDS`] times and then until the time is over.
    fn measure(&mut self, trials: &mut [Trial], time: Duration) -> Result<(), TuneError> {
        let started = Instant::now();
        for round in 1.. {
            let seconds = (started.elapsed().as_secs(), time.as_secs());
            (self.say)(format!("timing {} trials, round {round}, {} of {} s", trials.len(), seconds.0, seconds.1));
            trials.iter_mut().try_for_each(Trial::run)?;
            if round >= FEWEST_ROUNDS && started.elapsed() > time {
                break;
            }
        }
        Ok(())
    }

    /// Layers are steps of their own, so that each is timed alone: no chains.
    fn compile(&self, choices: &Choices) -> Result<Compiled, CompileError> {
        let options = CompileOptions { schedules: choices.clone(), chains: None, ..self.options.clone() };
        generate(self.graph.clone(), &options, (self.kind, Vec::new()))
    }

    fn trial(&mut self, choices: &Choices) -> Result<Trial, TuneError> {
        (self.say)("compiling trials".into());
        Trial::of(self.compile(choices)?)
    }
}

/// A layer that may go by direct sums or by an algorithm, with the first choice of each.
type Either<'a> = (&'a String, &'a Decision, [Choice; 2]);

fn either(decisions: &BTreeMap<String, Decision>) -> Vec<Either<'_>> {
    let first = |decision: &Decision, is_algorithm: bool| {
        decision.possible.iter().copied().find(|choice| choice.is_algorithm() == is_algorithm)
    };
    decisions
        .iter()
        .filter_map(|(layer, decision)| Some((layer, decision, [first(decision, false)?, first(decision, true)?])))
        .collect()
}

/// Choices by which all of those layers go by direct sums, and by which all go by their algorithms.
fn both_ways(heading: &str, either: &[Either<'_>], choices: &Choices) -> [Choices; 2] {
    [0, 1].map(|way| {
        let mut changed = choices.clone();
        either.iter().for_each(|(layer, _, ways)| changed.set(heading, layer, ways[way]));
        changed
    })
}

/// What the times of direct sums and of an algorithm come to for a layer.
fn of_both(layer: &str, decision: &Decision, sums: (Choice, u64), algorithm: (Choice, u64)) -> Measured {
    let (first, other) = if decision.choice.is_algorithm() { (algorithm, sums) } else { (sums, algorithm) };
    Measured { layer: layer.to_string(), first, best: better(first, other) }
}

/// What is measured for a layer, its first choice before others: the next ones by cost, and other blocks of the first.
fn candidates(decision: &Decision) -> Vec<Choice> {
    let first = decision.choice;
    let is_tried = |choice: &&Choice| **choice != first && !choice.is_algorithm();
    let mut candidates = vec![first];
    candidates.extend(decision.possible.iter().filter(is_tried).take(BY_COST - 1));
    if let Choice::Contraction(schedule) = first {
        let with = |block_tiles: i64| Choice::Contraction(Schedule { block_tiles: block_tiles.max(1), ..schedule });
        candidates.extend([with(schedule.block_tiles * 2), with(schedule.block_tiles / 2)]);
    }
    candidates
}

/// The other choice where it is faster by more than clocks may err.
fn better(first: (Choice, u64), other: (Choice, u64)) -> (Choice, u64) {
    if (other.1 as f64) < BETTER * first.1 as f64 { other } else { first }
}

/// A model in memory, and its steps' shortest times.
struct Trial {
    decisions: BTreeMap<String, Decision>,
    steps: Vec<TimedStep>,
    /// Machine code by kernel.
    code: Vec<Vec<u8>>,
    session: Session,
}

struct TimedStep {
    kernel: usize,
    /// The layer whose choice decides how it runs.
    layer: Option<String>,
    origin: edgecc_ir::Origin,
    nanoseconds: u64,
}

impl Trial {
    #[allow(unsafe_code)]
    fn of(compiled: Compiled) -> Result<Trial, TuneError> {
        let bytes = compiled.to_bytes().map_err(CompileError::from)?;
        let program = compiled.best.program;
        let steps = program.steps.iter().map(|step| TimedStep {
            kernel: step.kernel,
            layer: layer_of(&program, step.kernel),
            origin: step.origin.clone(),
            nanoseconds: u64::MAX,
        });
        let emitted = &compiled.best.emitted;
        let code = emitted.kernels.iter().map(|kernel| emitted.code[kernel.offset..][..kernel.length].to_vec());
        // SAFETY: the bytes come from the compiler in this process.
        let model = unsafe { Model::from_bytes(&bytes, LoadOptions::default()) }?;
        let (steps, code) = (steps.collect(), code.collect());
        let mut session = model.session(SessionOptions { threads: 1 })?;
        session.run()?;
        Ok(Trial { decisions: program.decisions, steps, code, session })
    }

    fn run(&mut self) -> Result<(), RunError> {
        let steps = &mut self.steps;
        self.session.run_profiled(|step, nanoseconds| {
            steps[step].nanoseconds = steps[step].nanoseconds.min(nanoseconds);
        })
    }

    /// The steps of a layer.
    fn of_layer<'a>(&'a self, layer: &'a str) -> impl Iterator<Item = &'a TimedStep> {
        self.steps.iter().filter(move |step| step.layer.as_deref() == Some(layer))
    }

    fn nanoseconds(&self, layer: &str) -> u64 {
        self.of_layer(layer).map(|step| step.nanoseconds).sum()
    }

    /// The code of a layer's steps.
    fn code(&self, layer: &str) -> Vec<&[u8]> {
        self.of_layer(layer).map(|step| self.code[step.kernel].as_slice()).collect()
    }
}

fn layer_of(program: &Program, kernel: usize) -> Option<String> {
    match &program.kernels[kernel] {
        KernelSource::Contraction(spec, _) => Some(layer::of_contraction(spec)),
        KernelSource::Depthwise(spec, _) => Some(layer::of_depthwise(spec)),
        KernelSource::Loops(_)
        | KernelSource::BlockProduct(_)
        | KernelSource::WinogradInput(_)
        | KernelSource::WinogradOutput(_)
        | KernelSource::Pack(..)
        | KernelSource::Chain(_) => None,
    }
}
