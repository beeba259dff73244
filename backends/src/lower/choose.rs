//! Schedules of layers: as given, or as the cost model has them. What is decided, and what else could be, goes on record.

use crate::contraction::{ContractionSpec, DepthwiseSpec, Element};
use crate::cpu::isa::Halves;
use crate::program::Decision;
use crate::schedule::choices::{Choice, Given, SHADERS, heading};
use crate::schedule::{DepthwiseSchedule, Schedule, depthwise_schedules, gpu, layer, schedules};

use super::{Lowering, Processor};

impl Lowering<'_> {
    /// How a contraction runs.
    pub(crate) fn schedule(&mut self, spec: &ContractionSpec) -> Schedule {
        let layer = layer::of_contraction(spec);
        let possible = self.schedules(spec);
        let chosen = match self.given(&layer) {
            Some(Given { choice: Choice::Contraction(given), line }) => {
                let found = possible.iter().find(|known| self.is_same(known, &given));
                if found.is_none() {
                    self.refuse_choice(Choice::Contraction(given), line);
                }
                let Schedule { block_tiles, block_panels, .. } = given;
                Schedule { block_tiles, block_panels, ..*found.unwrap_or(&possible[0]) }
            }
            // Where there is no such algorithm, that was refused before.
            Some(Given { choice: Choice::Winograd | Choice::Strassen, .. }) | None => possible[0],
            Some(Given { choice: choice @ Choice::Columns(_), line }) => {
                self.refuse_choice(choice, line);
                possible[0]
            }
        };
        self.decide(layer, Choice::Contraction(chosen), possible.into_iter().map(Choice::Contraction));
        match (self.options.processor, spec.element, self.options.halves) {
            (Processor::Cpu, Element::F16, Halves::Widened) => chosen.widened(),
            (Processor::Cpu, Element::F16, Halves::Native)
            | (Processor::Cpu, Element::F32 | Element::I8, _)
            | (Processor::Gpu, ..) => chosen,
        }
    }

    /// Schedules of direct sums, the best first.
    pub(super) fn schedules(&self, spec: &ContractionSpec) -> Vec<Schedule> {
        let panel = || self.options.packings?.panel(&layer::of_contraction(spec));
        match self.options.processor {
            Processor::Cpu => schedules(spec, &self.options.machine),
            Processor::Gpu => gpu::schedules(spec, panel(), self.options.gpu),
        }
    }

    /// Whether a schedule is the one that was given; blocks are free on CPUs.
    fn is_same(&self, known: &Schedule, given: &Schedule) -> bool {
        let kernel = |one: &Schedule| (one.tile, one.packs_rows, one.together);
        let blocks = |one: &Schedule| (one.block_tiles, one.block_panels);
        kernel(known) == kernel(given) && (self.options.processor == Processor::Cpu || blocks(known) == blocks(given))
    }

    /// How a depthwise convolution or max pool runs.
    pub(crate) fn depthwise_schedule(&mut self, spec: &DepthwiseSpec) -> DepthwiseSchedule {
        let layer = layer::of_depthwise(spec);
        let possible = match self.options.processor {
            Processor::Cpu => depthwise_schedules(spec, self.options.machine.architecture),
            Processor::Gpu => gpu::depthwise_schedules(spec, self.options.gpu),
        };
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
        let sums = self.schedules(direct).into_iter().map(Choice::Contraction);
        let first = sums.clone().next().unwrap_or(algorithm);
        self.decide(layer, if takes { algorithm } else { first }, std::iter::once(algorithm).chain(sums));
        takes
    }

    fn given(&self, layer: &str) -> Option<Given> {
        let machine = &self.options.machine;
        let heading = match self.options.processor {
            Processor::Cpu => heading(machine.architecture, machine.kernels, machine.integers, machine.vectors),
            Processor::Gpu => SHADERS.into(),
        };
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
