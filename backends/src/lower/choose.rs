//! Schedules of layers: as given, or as the cost model has them. What is decided, and what else could be, goes on record.

use crate::contraction::{ContractionSpec, DepthwiseSpec, Element};
use crate::cpu::isa::Halves;
use crate::program::Decision;
use crate::schedule::choices::{Choice, Given, heading};
use crate::schedule::{DepthwiseSchedule, Schedule, depthwise_schedules, gpu, layer, schedules};

use super::{Lowering, Processor};

impl Lowering<'_> {
    /// How a contraction runs.
    pub(crate) fn schedule(&mut self, spec: &ContractionSpec) -> Schedule {
        if self.options.processor == Processor::Gpu {
            let panel = self.options.packings.and_then(|packings| packings.panel(&layer::of_contraction(spec)));
            return gpu::schedule(spec, panel);
        }
        let layer = layer::of_contraction(spec);
        let possible = schedules(spec, &self.options.machine);
        let chosen = match self.given(&layer) {
            Some(Given { choice: Choice::Contraction(given), line }) => {
                let is_known = |known: &Schedule| (known.tile, known.packs_rows) == (given.tile, given.packs_rows);
                if !possible.iter().any(is_known) {
                    self.refuse_choice(Choice::Contraction(given), line);
                }
                given
            }
            // Where there is no such algorithm, that was refused before.
            Some(Given { choice: Choice::Winograd | Choice::Strassen, .. }) | None => possible[0],
            Some(Given { choice: choice @ Choice::Columns(_), line }) => {
                self.refuse_choice(choice, line);
                possible[0]
            }
        };
        self.decide(layer, Choice::Contraction(chosen), possible.into_iter().map(Choice::Contraction));
        match (spec.element, self.options.halves) {
            (Element::F16, Halves::Widened) => chosen.widened(),
            (Element::F16, Halves::Native) | (Element::F32 | Element::I8, _) => chosen,
        }
    }

    /// How a depthwise convolution or max pool runs.
    pub(crate) fn depthwise_schedule(&mut self, spec: &DepthwiseSpec) -> DepthwiseSchedule {
        if self.options.processor == Processor::Gpu {
            return gpu::depthwise_schedule(spec);
        }
        let layer = layer::of_depthwise(spec);
        let possible = depthwise_schedules(spec, self.options.machine.architecture);
        let chosen = match self.given(&layer) {
            Some(Given { choice, line }) => {
                let found = possible.iter().find(|known| choice == Choice::Columns(known.columns));
                if found.is_none() {
                    self.refuse_choice(choice, line);
                }
                *found.unwrap_or(&possible[0])
            }
            None => possible[0],
        };
        let columns = |schedule: DepthwiseSchedule| Choice::Columns(schedule.columns);
        self.decide(layer, columns(chosen), possible.into_iter().map(columns));
        chosen
    }

    /// Whether a contraction goes by an algorithm instead of direct sums, of which there is at most one for it; `pays` is what the
    /// cost model has.
    pub(super) fn takes_algorithm(&mut self, direct: &ContractionSpec, possible: Option<(Choice, bool)>) -> bool {
        let layer = layer::of_contraction(direct);
        let given = self.given(&layer);
        if let Some(Given { choice, line }) = given.filter(|given| given.choice.is_algorithm())
            && possible.is_none_or(|(algorithm, _)| algorithm != choice)
        {
            self.refuse_choice(choice, line);
        }
        let Some((algorithm, pays)) = possible else { return false };
        let takes = given.map_or(pays, |given| given.choice == algorithm);
        let sums = schedules(direct, &self.options.machine).into_iter().map(Choice::Contraction);
        let first = sums.clone().next().unwrap_or(algorithm);
        self.decide(layer, if takes { algorithm } else { first }, std::iter::once(algorithm).chain(sums));
        takes
    }

    fn given(&self, layer: &str) -> Option<Given> {
        let machine = &self.options.machine;
        let heading = heading(machine.architecture, machine.kernels, machine.integers, machine.vectors);
        self.options.choices?.get(&heading, layer)
    }

    fn refuse_choice(&mut self, choice: Choice, line: usize) {
        self.wrong_choice = Some(format!("`{choice}`, line {line} of its schedules"));
    }

    /// Records a decision. What a convolution could be apart from direct sums is known before those are chosen.
    fn decide(&mut self, layer: String, choice: Choice, possible: impl Iterator<Item = Choice>) {
        let decision = self.program.decisions.entry(layer).or_insert(Decision { choice, possible: Vec::new() });
        decision.choice = choice;
        possible.for_each(|choice| {
            if !decision.possible.contains(&choice) {
                decision.possible.push(choice);
            }
        });
    }
}
