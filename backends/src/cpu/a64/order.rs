//! The order of instructions for a core that issues them in order: within each block of straight code, loads stand well before
//! their use and dependent arithmetic apart (list scheduling: Gibbons and Muchnick 1986). What is due first is issued first: an
//! instruction is due where it was written, or as early as one that waits for it asks.

use super::effects::{Effects, MEMORY, SHARED, Unit};
use super::instruction::{Access, After, Instruction, SP, V, Width, X, fits_offset};

/// Instructions that issue together, as on Cortex-A510: a load beside two products. Where two do, the same order only leaves
/// more time between.
const WIDTH: i64 = 3;
/// Cycles by which loads stand earlier than their latency asks, where registers allow.
const AHEAD: i64 = 4;

/// What the order may rely on.
pub(super) struct Ordering<'a> {
    /// Registers that hold one number wherever they are read.
    pub kept: &'a [(X, i64)],
    /// No load reads what its block has stored, but for the stack.
    pub reads_apart: bool,
}

impl Ordering<'_> {
    /// The instructions of a block in another order, with the same results. Accesses of vectors are at offsets from addresses
    /// that move once, behind them.
    pub fn order(&self, block: &[Instruction]) -> Vec<Instruction> {
        let mut offsets = Offsets { kept: self.kept, moved: Vec::new(), written: Vec::new() };
        block.iter().for_each(|instruction| offsets.push(instruction));
        offsets.settle_all();
        scheduled(&offsets.written, self.reads_apart)
    }
}

/// How many instructions at the head of a loop's body only load for it and move addresses: they may stand behind the body
/// of the iteration before.
pub(super) fn leading_loads(body: &[Instruction]) -> usize {
    let works = |instruction: &Instruction| match Effects::of(instruction).unit {
        Unit::Products | Unit::Lanes | Unit::Stores => true,
        Unit::Integers | Unit::Loads => false,
    };
    body.iter().position(works).unwrap_or(0)
}

/// A block with moves of addresses gathered.
struct Offsets<'a> {
    kept: &'a [(X, i64)],
    /// Bytes by which each address should have moved already.
    moved: Vec<(X, i64)>,
    written: Vec<Instruction>,
}

/// The largest distance that two additions of immediates cover, and more.
const FARTHEST: i64 = 1 << 24;

impl Offsets<'_> {
    fn push(&mut self, instruction: &Instruction) {
        match *instruction {
            Instruction::AddImmediate(d, n, value, high) if d == n && n != SP => {
                self.advance(d, i64::from(value) << if high { 12 } else { 0 });
            }
            Instruction::SubImmediate(d, n, value, high) if d == n && n != SP => {
                self.advance(d, -(i64::from(value) << if high { 12 } else { 0 }));
            }
            Instruction::Add(d, n, m) if d == n && self.kept(m).is_some() => {
                self.advance(d, self.kept(m).unwrap_or(0));
            }
            Instruction::Vector(access, width, t, base, offset) => self.vector(access, width, t, (base, offset)),
            Instruction::VectorPost(access, width, t, base, by) => {
                self.vector(access, width, t, (base, 0));
                self.advance(base, i64::from(by));
            }
            Instruction::Vectors(access, a, b, base, offset) => self.vectors(access, &[a, b], (base, offset.into())),
            Instruction::VectorsPost(access, a, b, base, by) => {
                self.vectors(access, &[a, b], (base, 0));
                self.advance(base, i64::from(by));
            }
            Instruction::Multiple(access, first, count, base, after) => {
                let registers: Vec<V> = (0..count).map(|place| V((first.0 + place) % 32)).collect();
                self.vectors(access, &registers, (base, 0));
                match after {
                    After::Stay => {}
                    After::Past => self.advance(base, 16 * i64::from(count)),
                    After::By(by) => self.push(&Instruction::Add(base, base, by)),
                }
            }
            _ => {
                let effects = Effects::of(instruction);
                let touched = self.moved.iter().map(|&(base, _)| base).filter(|&base| effects.touches(base));
                touched.collect::<Vec<X>>().into_iter().for_each(|base| self.settle(base));
                self.written.push(*instruction);
            }
        }
    }

    fn kept(&self, register: X) -> Option<i64> {
        self.kept.iter().find(|&&(other, _)| other == register).map(|&(_, value)| value)
    }

    fn moved(&self, base: X) -> i64 {
        self.moved.iter().find(|&&(other, _)| other == base).map_or(0, |&(_, moved)| moved)
    }

    fn advance(&mut self, base: X, bytes: i64) {
        if (self.moved(base) + bytes).abs() >= FARTHEST {
            self.settle(base);
        }
        match self.moved.iter_mut().find(|(other, _)| *other == base) {
            Some((_, moved)) => *moved += bytes,
            None => self.moved.push((base, bytes)),
        }
    }

    /// Registers side by side: loads one by one, since two at once keep the units of small cores longer than two do; stores in
    /// pairs.
    fn vectors(&mut self, access: Access, registers: &[V], (base, offset): (X, i64)) {
        let size = if access == Access::Store { 2 } else { 1 };
        for (place, part) in (0..).step_by(size).zip(registers.chunks(size)) {
            let offset = offset + 16 * place;
            let reached = offset + self.moved(base);
            match *part {
                [a, b] if reached % 16 == 0 && (-1024..1024).contains(&reached) => {
                    self.written.push(Instruction::Vectors(access, a, b, base, reached as i16));
                }
                _ => {
                    for (place, &register) in (0..).zip(part) {
                        self.vector(access, Width::Q, register, (base, offset + 16 * place));
                    }
                }
            }
        }
    }

    fn vector(&mut self, access: Access, width: Width, register: V, (base, offset): (X, i64)) {
        if !fits_offset(width, offset + self.moved(base)) {
            self.settle(base);
        }
        self.written.push(Instruction::Vector(access, width, register, base, offset + self.moved(base)));
    }

    /// Moves an address to where it should be.
    fn settle(&mut self, base: X) {
        let Some(place) = self.moved.iter().position(|&(other, _)| other == base) else { return };
        let (_, moved) = self.moved.remove(place);
        let step = if moved < 0 { Instruction::SubImmediate } else { Instruction::AddImmediate };
        let size = moved.unsigned_abs();
        for (part, high) in [((size >> 12) as u16, true), ((size & 0xfff) as u16, false)] {
            if part != 0 {
                self.written.push(step(base, base, part, high));
            }
        }
    }

    fn settle_all(&mut self) {
        let moved: Vec<X> = self.moved.iter().map(|&(base, _)| base).collect();
        moved.into_iter().for_each(|base| self.settle(base));
    }
}

/// An instruction among others.
struct Node {
    effects: Effects,
    /// Instructions that must follow, and the cycles between.
    followers: Vec<(usize, u32)>,
    /// Instructions that must come before and have not.
    awaited: usize,
    /// The first cycle in which the instruction's operands are there.
    ready: u32,
    /// The place where the instruction should stand at the latest.
    due: i64,
}

fn scheduled(block: &[Instruction], reads_apart: bool) -> Vec<Instruction> {
    let mut nodes = graph(block, reads_apart);
    let mut open: Vec<usize> = (0..nodes.len()).filter(|&place| nodes[place].awaited == 0).collect();
    let mut written = Vec::with_capacity(block.len());
    let mut cycle = 0;
    while !open.is_empty() {
        let mut issued: Vec<Unit> = Vec::new();
        while issued.len() < WIDTH as usize {
            let may_issue = |&(_, &place): &(usize, &usize)| {
                nodes[place].ready <= cycle && has_room(&issued, nodes[place].effects.unit)
            };
            let urgency = |&(_, &place): &(usize, &usize)| (nodes[place].due, place);
            let Some((at, _)) = open.iter().enumerate().filter(may_issue).min_by_key(urgency) else { break };
            let place = open.swap_remove(at);
            issued.push(nodes[place].effects.unit);
            written.push(block[place]);
            for (follower, latency) in std::mem::take(&mut nodes[place].followers) {
                let node = &mut nodes[follower];
                node.ready = node.ready.max(cycle + latency);
                node.awaited -= 1;
                if node.awaited == 0 {
                    open.push(follower);
                }
            }
        }
        cycle += 1;
    }
    written
}

/// Whether a unit takes one more instruction in a cycle.
fn has_room(issued: &[Unit], unit: Unit) -> bool {
    let most = match unit {
        Unit::Integers | Unit::Products => 2,
        Unit::Loads | Unit::Stores | Unit::Lanes => 1,
    };
    issued.iter().filter(|&&other| other == unit).count() < most
}

/// What must follow what: readers the last writer, a writer the last writer and all readers since.
fn graph(block: &[Instruction], reads_apart: bool) -> Vec<Node> {
    let node = |instruction| {
        let effects = Effects::of(instruction);
        Node { effects, followers: Vec::new(), awaited: 0, ready: 0, due: 0 }
    };
    let mut nodes: Vec<Node> = block.iter().map(node).collect();
    let mut writer: [Option<usize>; SHARED] = [None; SHARED];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); SHARED];
    for place in 0..nodes.len() {
        let Effects { reads, writes, .. } = nodes[place].effects;
        for shared in (0..SHARED).filter(|shared| (reads | writes) >> shared & 1 == 1) {
            let (is_read, is_written) = (reads >> shared & 1 == 1, writes >> shared & 1 == 1);
            let is_apart = reads_apart && !is_written && 1 << shared == MEMORY;
            if let Some(before) = writer[shared].filter(|_| !is_apart) {
                let latency = if is_read { nodes[before].effects.latency(shared) } else { 1 };
                follow(&mut nodes, before, place, latency);
            }
            if is_written {
                for reader in std::mem::take(&mut readers[shared]) {
                    follow(&mut nodes, reader, place, 0);
                }
                writer[shared] = Some(place);
            } else {
                readers[shared].push(place);
            }
        }
    }
    for place in (0..nodes.len()).rev() {
        let early = if nodes[place].effects.unit == Unit::Loads { AHEAD } else { 0 };
        let awaited = |&(follower, latency): &(usize, u32)| nodes[follower].due - i64::from(latency) * WIDTH;
        let due = nodes[place].followers.iter().map(awaited).fold(place as i64, i64::min);
        nodes[place].due = due - early * WIDTH;
    }
    nodes
}

fn follow(nodes: &mut [Node], before: usize, after: usize, latency: u32) {
    if before != after {
        nodes[before].followers.push((after, latency));
        nodes[after].awaited += 1;
    }
}
