//! Which steps become chains: those between which more passes than caches hold.

use std::collections::BTreeMap;

use edgecc_ir::Origin;

use super::walk::{Rows, Walk, most_held, spans};
use super::{Chain, Place, Stage, Strip};
use crate::contraction::divide_up;
use crate::cpu::isa::CpuTarget;
use crate::kernel::Access;
use crate::program::{KernelSource, Operand, Program, Step, Storage, StorageKind};
use crate::view::StorageId;

/// When a chain pays, and how it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Fewest bytes that pass between the steps: more than a core's second cache holds.
    pub least_passed: i64,
    /// Fewest times of the strips that these bytes are.
    pub least_ratio: i64,
    /// Fewest calls that the range can be cut into such that each does four times the work that it does anew.
    pub least_calls: i64,
    /// Most bytes of strips whose turns are longer than a band.
    pub most_strips: i64,
}

impl Limits {
    /// Those of cores with a second cache of half a mebibyte.
    pub const USUAL: Limits =
        Limits { least_passed: 512 << 10, least_ratio: 3, least_calls: 12, most_strips: 256 << 10 };
    /// Everything that can be is a chain.
    pub const ALWAYS: Limits = Limits { least_passed: 0, least_ratio: 0, least_calls: 0, ..Limits::USUAL };
    /// The same with strips that move after every band.
    pub const SHORTEST_TURNS: Limits = Limits { most_strips: 0, ..Limits::ALWAYS };
}

/// Strips are aligned to this, and copied in such pieces: as much room is behind each.
const ALIGNMENT: i64 = 64;
/// Most kernels of a chain: a contraction that widens, what works within channels or rows, a contraction that narrows.
const MOST_STAGES: usize = 3;

/// Joins steps to chains where that pays. The steps must be allowed scratch.
pub fn join(mut program: Program, target: &CpuTarget, limits: &Limits) -> Program {
    let mut last_of: BTreeMap<usize, Joined> = BTreeMap::new();
    let mut taken = vec![false; program.steps.len()];
    let passed = Passed::of(&program);
    for first in 0..program.steps.len() {
        if taken[first] {
            continue;
        }
        let run = passed.run(&program, first);
        let lengths = (2..=run.len().min(MOST_STAGES)).rev();
        if let Some(joined) =
            lengths.into_iter().find_map(|length| Joined::of(&program, target, limits, &run[..length]))
        {
            joined.steps.iter().for_each(|&step| taken[step] = true);
            last_of.extend(joined.steps.last().map(|&last| (last, joined.clone())));
        }
    }
    let mut kernels: Vec<KernelSource> = Vec::new();
    let mut number = |source: KernelSource| {
        kernels.iter().position(|other| *other == source).unwrap_or_else(|| {
            kernels.push(source);
            kernels.len() - 1
        })
    };
    let mut steps = Vec::new();
    for (place, step) in std::mem::take(&mut program.steps).into_iter().enumerate() {
        match last_of.remove(&place) {
            Some(joined) => {
                let table = joined.chain.table();
                program.storages.push(Storage { bytes: table.len(), kind: StorageKind::Constant(table.into()) });
                let table = StorageId((program.storages.len() - 1) as u32);
                steps.push(joined.step(table, &program, &mut number));
            }
            None if taken[place] => {}
            None => steps.push(Step { kernel: number(program.kernels[step.kernel].clone()), ..step }),
        }
    }
    Program { steps, kernels, ..program }
}

/// Storages of the arena that one step writes whole and one other reads whole: by the writer, the reader.
struct Passed(BTreeMap<usize, usize>);

impl Passed {
    fn of(program: &Program) -> Passed {
        let mut uses: BTreeMap<u32, Vec<(usize, &Operand)>> = BTreeMap::new();
        for (number, step) in program.steps.iter().enumerate() {
            for operand in &step.operands {
                uses.entry(operand.storage.0).or_default().push((number, operand));
            }
        }
        let passed = uses.values().filter_map(|uses| {
            let [(writer, written), (reader, read)] = uses.as_slice() else { return None };
            let storage = &program.storages[written.storage.0 as usize];
            let is_whole = |operand: &Operand| operand.offset == 0 && operand.length == storage.bytes;
            let is_passed = storage.kind == StorageKind::Arena
                && (written.access != Access::Read && read.access == Access::Read)
                && is_whole(written)
                && is_whole(read)
                && writer != reader;
            is_passed.then_some((*writer, *reader))
        });
        Passed(passed.collect())
    }

    /// Steps from `first` on, each of which reads what the one before writes: a contraction only at the ends, and of one tap at
    /// the last, since its weights are read for each band.
    fn run(&self, program: &Program, first: usize) -> Vec<usize> {
        let kernel = |step: usize| &program.kernels[program.steps[step].kernel];
        let is_contraction = |step: usize| matches!(kernel(step), KernelSource::Contraction(..));
        let has_taps = |step| matches!(kernel(step), KernelSource::Contraction(spec, _) if spec.window.taps.len() > 1);
        let mut run = vec![first];
        while let Some(&next) = self.0.get(&run[run.len() - 1]) {
            if run.len() == MOST_STAGES
                || has_taps(next)
                || (is_contraction(next) && is_contraction(run[run.len() - 1]))
            {
                break;
            }
            run.push(next);
            if is_contraction(next) {
                break;
            }
        }
        run
    }
}

/// A chain with the steps that it replaces.
#[derive(Clone)]
struct Joined {
    steps: Vec<usize>,
    chain: Chain,
    operands: Vec<Operand>,
    /// Pairs of the last stage that may share memory, by the chain's operands.
    in_place: Vec<(usize, usize)>,
    name: String,
    origin: Origin,
    macs: u64,
}

impl Joined {
    /// The chain of a run of steps, where it pays.
    fn of(program: &Program, target: &CpuTarget, limits: &Limits, run: &[usize]) -> Option<Joined> {
        let steps: Vec<&Step> = run.iter().map(|&step| &program.steps[step]).collect();
        let between: usize = steps[..steps.len() - 1].iter().map(|step| written_bytes(program, step)).sum();
        if (between as i64) < limits.least_passed || steps.iter().any(|step| !step.arguments.is_empty()) {
            return None;
        }
        let walks: Vec<Walk> =
            steps.iter().map(|step| Walk::of(&program.kernels[step.kernel], target)).collect::<Option<_>>()?;
        let storage = |stage: usize, place: usize| steps[stage].operands[place].storage;
        let passes = |stage: usize| {
            storage(stage, walks[stage].output_operand) == storage(stage + 1, walks[stage + 1].input_operand)
        };
        if !(0..walks.len() - 1).all(passes) {
            return None;
        }
        let results = results(&walks)?;
        if results.iter().any(|rows| rows.count == 0) {
            return None;
        }
        let mut chain = schedule(&walks, &results, limits)?;
        let least_work = LEAST_WORK_BY_REPEATED * repeated_work(&chain, &steps);
        let is_worthwhile = between as i64 >= limits.least_ratio * chain.stage_scratch
            && chain.units() as f64 >= limits.least_calls as f64 * least_work;
        if !is_worthwhile {
            return None;
        }
        let mut operands = Vec::new();
        for (stage, (walk, step)) in walks.iter().zip(&steps).enumerate() {
            for (place, operand) in step.operands.iter().enumerate() {
                let place = if place == walk.input_operand && stage > 0 {
                    Place::Strip(stage - 1)
                } else if place == walk.output_operand && stage + 1 < walks.len() {
                    Place::Strip(stage)
                } else {
                    operands.push(operand.clone());
                    Place::Operand(operands.len() - 1)
                };
                chain.stages[stage].operands.push(place);
            }
            if walk.scratch > 0 {
                chain.stages[stage].operands.push(Place::Scratch);
            }
        }
        let last = &chain.stages[walks.len() - 1].operands;
        let number = |place: usize| match last.get(place) {
            Some(&Place::Operand(number)) => Some(number),
            _ => None,
        };
        let in_place = steps[steps.len() - 1].in_place.iter();
        let in_place = in_place.filter_map(|&(written, read)| Some((number(written)?, number(read)?))).collect();
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        Some(Joined {
            steps: run.to_vec(),
            operands,
            in_place,
            name: names.join("+"),
            origin: Origin(steps.iter().flat_map(|step| step.origin.0.clone()).collect()),
            macs: steps.iter().map(|step| step.macs).sum(),
            chain,
        })
    }

    fn step(mut self, table: StorageId, program: &Program, number: &mut impl FnMut(KernelSource) -> usize) -> Step {
        let length = program.storages[table.0 as usize].bytes;
        self.operands.push(Operand { storage: table, offset: 0, length, access: Access::Read });
        Step {
            scratch: self.chain.scratch as usize,
            kernel: number(KernelSource::Chain(self.chain)),
            operands: self.operands,
            arguments: Vec::new(),
            grain: 1,
            in_place: self.in_place,
            name: self.name,
            origin: self.origin,
            macs: self.macs,
        }
    }
}

/// The work of a call that is worth what it does anew, as a multiple of that.
const LEAST_WORK_BY_REPEATED: f64 = 4.0;

/// What a call does anew where it begins within an image, in bands.
fn repeated_work(chain: &Chain, steps: &[&Step]) -> f64 {
    let middle = &chain.bands[chain.bands.len() / 2];
    let of_unit = |stage: usize| steps[stage].macs as f64 / (chain.images * chain.stages[stage].units) as f64;
    let repeated = middle.iter().enumerate().map(|(stage, span)| (span.begin - span.first) as f64 * of_unit(stage));
    let of_band = steps.iter().map(|step| step.macs).sum::<u64>() as f64 / chain.units() as f64;
    repeated.sum::<f64>() / of_band.max(1.0)
}

/// Bytes of the storage that a step passes on.
fn written_bytes(program: &Program, step: &Step) -> usize {
    let written = step.operands.iter().filter(|operand| operand.access != Access::Read);
    written.map(|operand| program.storages[operand.storage.0 as usize].bytes).sum()
}

/// The result of each walk as rows of an image, where each result is the next one's input.
fn results(walks: &[Walk]) -> Option<Vec<Rows>> {
    let images = walks.iter().find_map(|walk| walk.images)?;
    let of_image = |walk: &Walk, rows: Rows| match walk.images {
        Some(own) => (own == images).then_some(rows),
        None => (rows.count % images == 0).then_some(Rows { count: rows.count / images, ..rows }),
    };
    let mut results = Vec::new();
    for pair in walks.windows(2) {
        let [result, input] = [of_image(&pair[0], pair[0].output?)?, of_image(&pair[1], pair[1].input?)?];
        if result != input {
            return None;
        }
        results.push(result);
    }
    let last = walks.last()?;
    results.push(of_image(last, last.output?)?);
    Some(results)
}

/// The chain with bands as small as units allow and turns as long as strips may be, its stages without operands.
fn schedule(walks: &[Walk], results: &[Rows], limits: &Limits) -> Option<Chain> {
    let rows: Vec<i64> = results.iter().map(|rows| rows.count).collect();
    let band_rows = walks.last()?.unit_rows;
    let of_turn = |turn: i64| {
        let bands = spans(walks, &rows, band_rows, turn);
        let mut offset = 0;
        let strips = (0..walks.len() - 1).map(|stage| {
            let unit_bytes = walks[stage].unit_rows * results[stage].bytes;
            let strip = Strip { offset, unit_bytes, image_bytes: results[stage].count * results[stage].bytes };
            offset += divide_up(most_held(&bands, stage) * unit_bytes, ALIGNMENT) * ALIGNMENT + ALIGNMENT;
            strip
        });
        let strips: Vec<Strip> = strips.collect();
        (bands, strips, offset)
    };
    let (mut bands, mut strips, mut bytes) = of_turn(1);
    let mut turn = 1;
    while (turn as usize) < bands.len() {
        let longer = of_turn(turn + 1);
        if longer.2 > limits.most_strips {
            break;
        }
        turn += 1;
        (bands, strips, bytes) = longer;
    }
    let stages = walks.iter().enumerate().map(|(stage, walk)| Stage {
        source: walk.source.clone(),
        operands: Vec::new(),
        units: walk.units(rows[stage]),
        strip: strips.get(stage).copied(),
    });
    Some(Chain {
        images: walks.iter().find_map(|walk| walk.images)?,
        stages: stages.collect(),
        bands,
        stage_scratch: bytes,
        scratch: bytes + walks.iter().map(|walk| walk.scratch).max().unwrap_or(0),
    })
}
