//! What an inference moves and about what energy that takes, from the steps of a program alone.

use std::collections::HashMap;

use edgecc_format::{BufferRef, Call, Program};

/// Sizes of the first two caches for data, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Caches {
    /// The first.
    pub l1: u64,
    /// The second.
    pub l2: u64,
}

impl Caches {
    /// Common sizes: of cores that issue in order (Cortex-A55), or of others (Cortex-A76).
    pub fn of(is_in_order: bool) -> Caches {
        match is_in_order {
            true => Caches { l1: 32 << 10, l2: 128 << 10 },
            false => Caches { l1: 64 << 10, l2: 512 << 10 },
        }
    }
}

/// Bytes by where they lie when a step needs them.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Moved {
    /// In the first cache.
    pub l1: u64,
    /// In the second.
    pub l2: u64,
    /// Beyond.
    pub memory: u64,
}

impl Moved {
    /// All bytes.
    pub fn total(&self) -> u64 {
        self.l1 + self.l2 + self.memory
    }

    fn add(self, other: Moved) -> Moved {
        Moved { l1: self.l1 + other.l1, l2: self.l2 + other.l2, memory: self.memory + other.memory }
    }
}

/// What each step moves, in the second of two inferences. A step touches every operand once, from its begin to its end, and
/// bytes are in a cache while no more than its size has been touched since.
pub fn moved(calls: &[&Call], caches: Caches) -> Vec<Moved> {
    let mut touched = Touched { clock: 0, latest: HashMap::new() };
    let mut inference = || -> Vec<Moved> {
        let step = |call: &&Call| {
            call.buffers.iter().fold(Moved::default(), |sum, buffer| sum.add(touched.touch(buffer, caches)))
        };
        calls.iter().map(step).collect()
    };
    inference();
    inference()
}

/// All steps together.
pub fn total(moved: &[Moved]) -> Moved {
    moved.iter().fold(Moved::default(), |sum, &step| sum.add(step))
}

const BLOCK: u64 = 1 << 10;

/// Bytes touched so far, and how many they were when each block of a memory was touched last.
struct Touched {
    clock: u64,
    latest: HashMap<(i32, u32, u64), u64>,
}

impl Touched {
    fn touch(&mut self, buffer: &BufferRef, caches: Caches) -> Moved {
        let end = buffer.offset.saturating_add(buffer.length);
        let mut moved = Moved::default();
        for block in buffer.offset / BLOCK..end.div_ceil(BLOCK) {
            let bytes = end.min((block + 1) * BLOCK) - buffer.offset.max(block * BLOCK);
            self.clock += bytes;
            let before = self.latest.insert((buffer.kind, buffer.index, block), self.clock);
            match before.map(|before| self.clock - before) {
                Some(age) if age <= caches.l1 => moved.l1 += bytes,
                Some(age) if age <= caches.l2 => moved.l2 += bytes,
                _ => moved.memory += bytes,
            }
        }
        moved
    }
}

/// An estimate of energy, in millijoules.
#[derive(Clone, Copy, Debug)]
pub struct Energy {
    /// Multiply-adds.
    pub arithmetic: f64,
    /// Fetching, decoding and issuing them, one instruction for a vector of 128 bits.
    pub instructions: f64,
    /// Moving bytes.
    pub memory: f64,
}

impl Energy {
    /// All together.
    pub fn total(&self) -> f64 {
        self.arithmetic + self.instructions + self.memory
    }
}

/// Where the constants come from: Jouppi et al., "Ten Lessons From Three Generations Shaped Google's TPUv4i", table 2, and
/// Horowitz, "Computing's Energy Problem (and what we can do about it)".
pub const SOURCES: &str = "constants for 7 nm: Jouppi et al., ISCA 2021; Horowitz, ISSCC 2014";

/// Picojoules. A multiplication and an addition of f32, of f16:
const MULTIPLY_ADD: f64 = 1.31 + 0.38;
const MULTIPLY_ADD_OF_HALVES: f64 = 0.34 + 0.16;
/// An instruction beside what it computes: Horowitz's 70 at 45 nm, scaled as a multiplication of f32, 3.7 to 1.31.
const INSTRUCTION: f64 = 70.0 * 1.31 / 3.7;
/// A byte from 32 KB and from 1 MB of static memory, and from DDR4 (1.3 nJ for 8 bytes; a phone's memory takes less).
const BYTE: PerByte = PerByte { l1: 8.5 / 8.0, l2: 14.0 / 8.0, memory: 1300.0 / 8.0 };

struct PerByte {
    l1: f64,
    l2: f64,
    memory: f64,
}

/// What multiply-adds and moved bytes take. Bytes that come from further away also pass what is nearer.
pub fn energy(program: &Program, macs: u64, moved: Moved) -> Energy {
    let of_halves = program.required_features.iter().any(|feature| feature == "fp16");
    let (each, lanes) = if of_halves { (MULTIPLY_ADD_OF_HALVES, 8.0) } else { (MULTIPLY_ADD, 4.0) };
    let memory =
        BYTE.l1 * moved.total() as f64 + BYTE.l2 * (moved.l2 + moved.memory) as f64 + BYTE.memory * moved.memory as f64;
    let millijoules = |picojoules: f64| picojoules / 1e9;
    Energy {
        arithmetic: millijoules(macs as f64 * each),
        instructions: millijoules(macs as f64 / lanes * INSTRUCTION),
        memory: millijoules(memory),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(buffers: &[(u64, u64)]) -> Call {
        let buffers =
            buffers.iter().map(|&(offset, length)| BufferRef { kind: 2, offset, length, ..BufferRef::default() });
        Call { buffers: buffers.collect(), ..Call::default() }
    }

    #[test]
    fn bytes_are_near_while_little_else_is_touched() {
        let (kib, caches) = (1 << 10, Caches { l1: 4 << 10, l2: 16 << 10 });
        // A step reads what the one before wrote; then 10 KiB pass, then 40 KiB.
        let calls = [
            call(&[(0, 2 * kib)]),
            call(&[(0, 2 * kib), (100 * kib, 10 * kib)]),
            call(&[(0, 2 * kib), (200 * kib, 40 * kib)]),
        ];
        let moved = moved(&calls.iter().collect::<Vec<_>>(), caches);
        assert_eq!(moved[0], Moved { memory: 2 * kib, ..Moved::default() });
        assert_eq!(moved[1], Moved { l1: 2 * kib, memory: 10 * kib, ..Moved::default() });
        assert_eq!(moved[2], Moved { l2: 2 * kib, memory: 40 * kib, ..Moved::default() });
    }

    #[test]
    fn energy_is_the_sum_of_its_constants() {
        let moved = Moved { l1: 1000, l2: 0, memory: 1000 };
        let energy = energy(&Program::default(), 4000, moved);
        // 4000 x 1.69 pJ; 1000 x 24.78 pJ; 2000 x 1.0625 + 1000 x 1.75 + 1000 x 162.5 pJ.
        assert!((energy.arithmetic - 6760e-9).abs() < 1e-12);
        assert!((energy.instructions - 24784e-9).abs() < 1e-9);
        assert!((energy.memory - 166_375e-9).abs() < 1e-12);
    }
}
