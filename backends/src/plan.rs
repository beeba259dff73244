//! The memory plan: where each storage lies in the arena.
//!
//! A storage lives from the first step that touches it to the last. A step that may work in place lets its result take over
//! the memory of an operand that dies there. The rest is placed largest first into the lowest gap that is free for its whole
//! life ("greedy by size", Pisarchyk and Lee, arXiv 2001.03288).

use crate::program::{Program, Step, StorageKind};
use crate::view::StorageId;

/// Alignment of every storage, in bytes.
pub const ALIGNMENT: usize = 64;

/// Where the program's storages lie.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// First byte in the arena by storage; 0 for storages that are not in the arena.
    pub offsets: Vec<usize>,
    /// Size of the arena in bytes.
    pub arena_bytes: usize,
}

/// Storages that share memory, with their joint life as a range of steps, both ends included.
#[derive(Clone, Copy, Debug)]
struct Life {
    bytes: usize,
    first: usize,
    last: usize,
}

/// Places the arena storages of a program. Storages alive at the same time never overlap, but for those that a step works
/// on in place.
pub fn plan(program: &Program) -> Plan {
    plan_aligned(program, ALIGNMENT)
}

/// As [`plan`], every storage at a multiple of `alignment` bytes.
pub fn plan_aligned(program: &Program, alignment: usize) -> Plan {
    let mut lives = lives(program, alignment);
    let leaders = share(program, &mut lives);
    let mut plan = Plan { offsets: vec![0; program.storages.len()], arena_bytes: 0 };
    let mut order: Vec<usize> = (0..lives.len()).filter(|&id| leaders[id] == id && lives[id].is_some()).collect();
    order.sort_by_key(|&id| (std::cmp::Reverse(lives[id].map_or(0, |life| life.bytes)), id));
    let mut placed: Vec<(usize, Life)> = Vec::new();
    for id in order {
        let Some(life) = lives[id] else { continue };
        let offset = lowest_gap(&placed, life);
        plan.offsets[id] = offset;
        plan.arena_bytes = plan.arena_bytes.max(offset + life.bytes);
        placed.push((offset, life));
    }
    plan.offsets = leaders.iter().map(|&leader| plan.offsets[leader]).collect();
    plan
}

/// The lives of the arena storages that a step touches.
fn lives(program: &Program, alignment: usize) -> Vec<Option<Life>> {
    let mut lives: Vec<Option<Life>> = vec![None; program.storages.len()];
    for (number, step) in program.steps.iter().enumerate() {
        for operand in &step.operands {
            let StorageId(id) = operand.storage;
            let storage = &program.storages[id as usize];
            if storage.kind == StorageKind::Arena {
                let bytes = storage.bytes.next_multiple_of(alignment);
                let life = lives[id as usize].get_or_insert(Life { bytes, first: number, last: number });
                life.last = number;
            }
        }
    }
    lives
}

/// Joins storages that steps work on in place. Returns the leader of each storage's group; the leader's life is the group's.
fn share(program: &Program, lives: &mut [Option<Life>]) -> Vec<usize> {
    let mut leaders: Vec<usize> = (0..lives.len()).collect();
    for (number, step) in program.steps.iter().enumerate() {
        for &(written, read) in &step.in_place {
            let (target, source) = (step.operands[written].storage.0 as usize, step.operands[read].storage.0 as usize);
            if leaders[target] != target || !covers_alone(program, step, written, read) {
                continue;
            }
            let leader = leaders[source];
            let (Some(young), Some(old)) = (lives[target], lives[leader]) else { continue };
            if target != leader && young.first == number && old.last == number && young.bytes == old.bytes {
                lives[leader] = Some(Life { last: young.last, ..old });
                leaders[target] = leader;
                break;
            }
        }
    }
    leaders
}

/// Both operands are their whole storage, and no other operand of the step reads or writes either.
fn covers_alone(program: &Program, step: &Step, written: usize, read: usize) -> bool {
    let whole = |place: usize| {
        let operand = &step.operands[place];
        operand.offset == 0 && operand.length == program.storages[operand.storage.0 as usize].bytes
    };
    let pair = [step.operands[written].storage, step.operands[read].storage];
    let others = step.operands.iter().enumerate().filter(|&(place, _)| place != written && place != read);
    whole(written) && whole(read) && others.into_iter().all(|(_, operand)| !pair.contains(&operand.storage))
}

/// The lowest offset at which `life` fits between the storages alive at the same time.
fn lowest_gap(placed: &[(usize, Life)], life: Life) -> usize {
    let together = |other: &Life| other.first <= life.last && life.first <= other.last;
    let mut taken: Vec<(usize, usize)> = placed
        .iter()
        .filter(|(_, other)| together(other))
        .map(|(offset, other)| (*offset, offset + other.bytes))
        .collect();
    taken.sort_unstable();
    let mut offset = 0;
    for (begin, end) in taken {
        if offset + life.bytes <= begin {
            break;
        }
        offset = offset.max(end);
    }
    offset
}
