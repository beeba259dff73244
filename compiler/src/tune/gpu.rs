//! Measures schedules of a model's layers on a GPU. Each shader is timed alone, in turns with the others, over the operands that
//! its step has; of each the shortest time counts. A shader that the driver fails at is left out, and if it takes the process
//! along, the next one leaves it out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use edgecc_backends::program::{Decision, Program, Step};
use edgecc_backends::schedule::choices::{Choice, Choices, SHADERS};
use edgecc_ir::Graph;
use edgecc_runtime::gpu::{Gpu, ShaderModel, StepTimer};

use super::journal::Journal;
use super::{FEWEST_ROUNDS, Measured, TuneError, Tuned, better, both_ways, either, layer_of, of_both};
use crate::compile::{CompileError, CompileOptions};
use crate::shaders::{CompiledShaders, generate};

/// Schedules that are measured for a layer, the first choice and an algorithm among them.
const MOST: usize = 6;
/// Runs of whole models that are timed in turns.
const WHOLE_RUNS: usize = 5;

/// Measures for about `budget` and chooses for every layer. `say` hears of progress.
pub fn tune(
    graph: &Graph,
    options: &CompileOptions,
    gpu: &Gpu,
    journal: &mut Journal,
    budget: Duration,
    say: &mut dyn FnMut(String),
) -> Result<(Choices, Tuned), TuneError> {
    let mut tuning = Tuning { graph, options, gpu, journal, say, trials: Vec::new(), shaders: BTreeMap::new() };
    let result = tuning.run(budget);
    journal.end()?;
    result
}

/// Names a shader on an adapter.
type Key = String;

struct Tuning<'a> {
    graph: &'a Graph,
    options: &'a CompileOptions,
    gpu: &'a Gpu,
    journal: &'a mut Journal,
    say: &'a mut dyn FnMut(String),
    trials: Vec<Trial>,
    shaders: BTreeMap<Key, Shader>,
}

/// The model with one more schedule for each of its layers.
struct Trial {
    model: ShaderModel,
    timer: StepTimer,
    /// The shader of each step of a layer.
    steps: BTreeMap<String, Vec<Key>>,
}

/// Where a shader is timed: at the first step that it stands for.
struct Shader {
    trial: usize,
    step: usize,
    /// Layer and choice.
    what: String,
}

impl Tuning<'_> {
    fn run(&mut self, budget: Duration) -> Result<(Choices, Tuned), TuneError> {
        let mut choices = self.options.schedules.clone();
        let first = self.compile(&choices)?;
        let mut layers = self.choose_algorithms(&first.program, &mut choices, budget / 4)?;
        layers.extend(self.choose_tiles(&mut choices, budget / 2)?);
        layers.sort_by_key(|measured| std::cmp::Reverse(measured.first.1));
        self.forget();
        let whole = self.whole(first, &choices)?;
        Ok((choices, Tuned { heading: SHADERS.into(), layers, whole }))
    }

    /// Winograd's algorithm or direct sums, for the convolutions that may go by either. Of each what its node's steps take counts.
    fn choose_algorithms(
        &mut self,
        program: &Program,
        choices: &mut Choices,
        time: Duration,
    ) -> Result<Vec<Measured>, TuneError> {
        let either = either(&program.decisions);
        if either.is_empty() {
            return Ok(Vec::new());
        }
        let ways = both_ways(SHADERS, &either, choices);
        let direct = self.compile(&ways[0])?;
        let layer_of_step = |step: &Step| layer_of(&direct.program, step.kernel);
        let is_either = |layer: &String| either.iter().any(|(other, ..)| *other == layer);
        let steps = direct.program.steps.iter();
        let origins: BTreeMap<String, String> =
            steps.filter_map(|step| Some((step.origin.to_string(), layer_of_step(step).filter(is_either)?))).collect();
        let of_origin = |_: &Program, step: &Step| origins.get(&step.origin.to_string()).cloned();
        let composed = self.compile(&ways[1])?;
        self.try_with(&direct, of_origin)?;
        self.try_with(&composed, of_origin)?;
        let times = self.measure(&self.shaders.keys().cloned().collect(), time)?;
        let mut layers = Vec::new();
        for (layer, decision, [sums, algorithm]) in either {
            let [by_sums, by_algorithm] = [0, 1].map(|trial| self.of_layer(trial, layer, &times));
            if by_sums.is_none() && by_algorithm.is_none() {
                return Err(TuneError::NoShader(layer.clone()));
            }
            let never = |time: Option<u64>| time.unwrap_or(u64::MAX);
            let mut measured = of_both(layer, decision, (sums, never(by_sums)), (algorithm, never(by_algorithm)));
            // Of one that the driver fails at there is nothing to tell.
            if measured.first.1 == u64::MAX {
                measured.first = measured.best;
            }
            choices.set(SHADERS, layer, measured.best.0);
            layers.push(measured);
        }
        self.forget();
        Ok(layers)
    }

    /// Tiles of contractions, done alone or by a group together, and columns of depthwise convolutions.
    fn choose_tiles(&mut self, choices: &mut Choices, time: Duration) -> Result<Vec<Measured>, TuneError> {
        let first = self.compile(choices)?;
        let decided = first.program.decisions.iter().filter(|(_, decision)| !decision.choice.is_algorithm());
        let candidates: BTreeMap<String, Vec<Choice>> =
            decided.map(|(layer, decision)| (layer.clone(), candidates(decision))).collect();
        let most = candidates.values().map(Vec::len).max().unwrap_or(1);
        for place in 0..most {
            let mut others = choices.clone();
            for (layer, candidates) in &candidates {
                others.set(SHADERS, layer, candidates[place.min(candidates.len() - 1)]);
            }
            let compiled = self.compile(&others)?;
            self.try_with(&compiled, |program, step| layer_of(program, step.kernel))?;
        }
        let mut layers = self.choose(&candidates, time)?;
        self.confirm(&candidates, &mut layers, time / 2)?;
        layers.iter().for_each(|measured| choices.set(SHADERS, &measured.layer, measured.best.0));
        Ok(layers)
    }

    /// Ends what was tried so far.
    fn forget(&mut self) {
        self.trials.clear();
        self.shaders.clear();
    }

    fn compile(&mut self, choices: &Choices) -> Result<CompiledShaders, TuneError> {
        (self.say)("compiling trials".into());
        let options = CompileOptions { schedules: choices.clone(), ..self.options.clone() };
        Ok(generate(self.graph.clone(), &options, None)?)
    }

    /// Adds a trial, and the shaders that no trial had before; `layer` tells which layer a step is of.
    fn try_with(
        &mut self,
        compiled: &CompiledShaders,
        layer: impl Fn(&Program, &Step) -> Option<String>,
    ) -> Result<(), TuneError> {
        let model = model(compiled)?;
        let mut steps: BTreeMap<String, Vec<Key>> = BTreeMap::new();
        for (number, (step, dispatch)) in compiled.program.steps.iter().zip(&compiled.shaders.dispatches).enumerate() {
            let Some(layer) = layer(&compiled.program, step) else { continue };
            let key = self.key(&compiled.shaders.modules[dispatch.module].text);
            let what = format!("{layer} = {}", compiled.program.decisions[&layer].choice);
            self.shaders.entry(key.clone()).or_insert(Shader { trial: self.trials.len(), step: number, what });
            steps.entry(layer).or_default().push(key);
        }
        let timer = model.step_timer(self.gpu)?;
        self.trials.push(Trial { model, timer, steps });
        Ok(())
    }

    fn key(&self, text: &str) -> Key {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.gpu.adapter().as_bytes()).update(b"\n").update(text.as_bytes());
        hasher.finalize().to_hex().to_string()
    }

    /// For every layer the first choice, and the best of its choices by the sums of its steps' times.
    fn choose(
        &mut self,
        candidates: &BTreeMap<String, Vec<Choice>>,
        time: Duration,
    ) -> Result<Vec<Measured>, TuneError> {
        let all = self.shaders.keys().cloned().collect();
        let times = self.measure(&all, time)?;
        let mut layers = Vec::new();
        for (layer, candidates) in candidates {
            let timed: Vec<Option<(Choice, u64)>> = (0..candidates.len())
                .map(|place| Some((candidates[place], self.of_layer(place, layer, &times)?)))
                .collect();
            let best = timed.iter().skip(1).flatten().min_by_key(|(_, nanoseconds)| *nanoseconds);
            let measured = match (timed[0], best) {
                (Some(first), Some(&best)) => Measured { layer: layer.clone(), first, best: better(first, best) },
                (Some(first), None) => Measured { layer: layer.clone(), first, best: first },
                // The driver fails at the first choice.
                (None, Some(&best)) => Measured { layer: layer.clone(), first: best, best },
                (None, None) => return Err(TuneError::NoShader(layer.clone())),
            };
            layers.push(measured);
        }
        Ok(layers)
    }

    /// Times the first choices and the best ones once more: the fastest of several was so by chance at times.
    fn confirm(
        &mut self,
        candidates: &BTreeMap<String, Vec<Choice>>,
        layers: &mut [Measured],
        time: Duration,
    ) -> Result<(), TuneError> {
        let place = |measured: &Measured, choice: Choice| {
            candidates[&measured.layer].iter().position(|candidate| *candidate == choice).unwrap_or(0)
        };
        let is_changed = |measured: &&mut Measured| measured.first.0 != measured.best.0;
        let mut keys = BTreeSet::new();
        for measured in layers.iter_mut().filter(is_changed) {
            for (choice, _) in [measured.first, measured.best] {
                keys.extend(self.trials[place(measured, choice)].steps[&measured.layer].iter().cloned());
            }
        }
        let times = self.measure(&keys, time)?;
        for measured in layers.iter_mut().filter(is_changed) {
            let [first, best] = [measured.first.0, measured.best.0]
                .map(|choice| self.of_layer(place(measured, choice), &measured.layer, &times));
            // One that the driver failed at now is not taken.
            let Some(best) = best else {
                measured.best = measured.first;
                continue;
            };
            let first = first.unwrap_or(u64::MAX);
            measured.best = better((measured.first.0, first), (measured.best.0, best));
            measured.first.1 = first;
        }
        Ok(())
    }

    /// The sum of a layer's steps in a trial; none where the driver fails at one.
    fn of_layer(&self, trial: usize, layer: &str, times: &BTreeMap<Key, u64>) -> Option<u64> {
        self.trials[trial].steps[layer].iter().map(|key| times.get(key).copied()).sum()
    }

    /// Times shaders in turns, at least [`FEWEST_ROUNDS`] times and then until the time is over; the shortest time of each that
    /// the driver does not fail at.
    fn measure(&mut self, keys: &BTreeSet<Key>, time: Duration) -> Result<BTreeMap<Key, u64>, TuneError> {
        let started = Instant::now();
        let mut times = BTreeMap::new();
        for round in 1.. {
            let seconds = (started.elapsed().as_secs(), time.as_secs());
            (self.say)(format!("timing {} shaders, round {round}, {} of {} s", keys.len(), seconds.0, seconds.1));
            for key in keys {
                if self.journal.excludes(key) {
                    times.remove(key);
                    continue;
                }
                if let Some(nanoseconds) = self.attempt(key)? {
                    let shortest = times.entry(key.clone()).or_insert(u64::MAX);
                    *shortest = nanoseconds.min(*shortest);
                }
            }
            if keys.is_empty() || round >= FEWEST_ROUNDS && started.elapsed() > time {
                break;
            }
        }
        times.retain(|key, _| !self.journal.excludes(key));
        Ok(times)
    }

    /// Times a shader once, on record; none where the driver fails, which excludes it.
    fn attempt(&mut self, key: &Key) -> Result<Option<u64>, TuneError> {
        let Shader { trial, step, what } = &self.shaders[key];
        self.journal.begin(key, what)?;
        match self.trials[*trial].timer.time(*step) {
            Ok(nanoseconds) => Ok(Some(nanoseconds)),
            Err(error) => {
                (self.say)(format!("left out: {what}: {error}"));
                self.journal.exclude(key, what)?;
                // The device may be lost with it.
                for trial in &mut self.trials {
                    trial.timer = trial.model.step_timer(self.gpu)?;
                }
                Ok(None)
            }
        }
    }

    /// Nanoseconds of whole runs by the first choices and by the best, in turns.
    fn whole(&mut self, first: CompiledShaders, choices: &Choices) -> Result<[u64; 2], TuneError> {
        (self.say)("timing the whole model".into());
        let best = self.compile(choices)?;
        let mut shortest = [u64::MAX; 2];
        let mut sessions = [model(&first)?.session(self.gpu)?, model(&best)?.session(self.gpu)?];
        for _ in 0..=WHOLE_RUNS {
            for (session, shortest) in sessions.iter_mut().zip(&mut shortest) {
                let start = Instant::now();
                session.run()?;
                *shortest = (start.elapsed().as_nanos() as u64).min(*shortest);
            }
        }
        Ok(shortest)
    }
}

fn model(compiled: &CompiledShaders) -> Result<ShaderModel, TuneError> {
    let bytes = compiled.to_bytes().map_err(CompileError::from)?;
    Ok(ShaderModel::from_bytes(&bytes)?)
}

/// What is measured for a layer beside an algorithm: its first choice before others.
fn candidates(decision: &Decision) -> Vec<Choice> {
    let algorithms = decision.possible.iter().filter(|choice| choice.is_algorithm()).count();
    let others =
        decision.possible.iter().copied().filter(|choice| *choice != decision.choice && !choice.is_algorithm());
    std::iter::once(decision.choice).chain(others).take(MOST - algorithms).collect()
}
