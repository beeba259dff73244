//! What a tile costs: cycles of a core by what is busy longest, and instructions.

use super::cores::CoreClass;
use crate::cpu::isa::Core;

/// What one step of k asks of a core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Multiply-adds of vectors, each of another sum.
    pub multiply_adds: f64,
    /// Vectors that are loaded.
    pub loads: f64,
    /// All instructions.
    pub instructions: f64,
    /// Loads whose use follows at once, or that move their address for a load that does.
    pub waits: f64,
    /// Loads stand so far before their use that multiply-adds go on meanwhile, where instructions issue in order.
    pub loads_ahead: bool,
}

impl Step {
    /// Cycles: those of the unit that is busy longest, of issuing, or of one sum's multiply-adds, which follow each other.
    /// Where a core that issues in order waits for its loads, their time comes on top.
    pub fn cycles(&self, core: &CoreClass) -> f64 {
        let multiply_adds = (self.multiply_adds / core.multiply_adds).max(core.multiply_add_latency);
        let loads = self.loads / core.loads;
        match core.issue {
            Core::InOrder if !self.loads_ahead => {
                self.multiply_adds / core.multiply_adds + loads + self.waits * core.load_latency
            }
            Core::InOrder | Core::OutOfOrder => multiply_adds.max(loads).max(self.instructions / core.width),
        }
    }
}

/// Modelled cycles and executed instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Cycles, with all data in the first cache.
    pub cycles: f64,
    /// Instructions.
    pub instructions: f64,
}

impl Cost {
    /// Of instructions that wait for nothing but their turn.
    pub fn issued(instructions: f64, core: &CoreClass) -> Cost {
        Cost { cycles: instructions / core.width, instructions }
    }

    pub(crate) fn times(self, count: f64) -> Cost {
        Cost { cycles: self.cycles * count, instructions: self.instructions * count }
    }

    pub(crate) fn plus(self, other: Cost) -> Cost {
        Cost { cycles: self.cycles + other.cycles, instructions: self.instructions + other.instructions }
    }
}

/// Cycles nearer to each other than this share are alike: the model leaves out more.
const ALIKE: f64 = 0.05;

/// The order in which to take what costs so much: first the fewest instructions of those whose cycles are alike the fewest,
/// then the others by cycles. Earlier ones come first where costs are equal.
pub(super) fn by_cost(costs: impl Iterator<Item = Cost>) -> Vec<usize> {
    let costs: Vec<Cost> = costs.collect();
    let least = costs.iter().map(|cost| cost.cycles).fold(f64::INFINITY, f64::min);
    let key = |&place: &usize| {
        let Cost { cycles, instructions } = costs[place];
        if cycles <= least * (1.0 + ALIKE) { (0.0, instructions) } else { (cycles, instructions) }
    };
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (key(a), key(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    order
}

#[cfg(test)]
mod tests {
    use super::super::cores::CoreClass;
    use super::*;

    #[test]
    fn too_few_sums_cost_the_latency_of_a_multiply_add() {
        let step = |sums: f64| Step {
            multiply_adds: sums,
            loads: 2.0,
            instructions: sums + 1.0,
            waits: 1.0,
            loads_ahead: false,
        };
        let cycles = |name, sums| step(sums).cycles(CoreClass::named(name).expect("a class"));
        assert_eq!(
            [cycles("cortex-a76", 4.0), cycles("cortex-a76", 8.0), cycles("cortex-a76", 24.0)],
            [4.0, 4.0, 12.0]
        );
        assert_eq!([cycles("cortex-x1", 8.0), cycles("cortex-x1", 24.0)], [4.0, 6.0]);
        assert_eq!(cycles("cortex-a55", 16.0), 23.0);
    }

    #[test]
    fn instructions_decide_where_cycles_are_alike() {
        let cost = |cycles, instructions| Cost { cycles, instructions };
        let costs = [cost(130.0, 1.0), cost(100.0, 9.0), cost(102.0, 5.0), cost(101.0, 5.0), cost(110.0, 2.0)];
        assert_eq!(by_cost(costs.into_iter()), [2, 3, 1, 4, 0]);
    }
}
