//! How near the hot loops of kernels come to the peak of a core's multiply-add units, by llvm-mca's model of the core.

use edgecc_backends::schedule::cores::CoreClass;

use crate::cycles::{blocks, schedule};
use crate::executed::{Class, Trace, is_by_lane};

/// A core that kernels are compiled for.
#[derive(Debug)]
pub struct Pipes {
    /// Its name to llvm-mca.
    pub name: &'static str,
    /// The class that schedules are chosen for.
    pub class: &'static str,
    /// Vectors of multiply-adds in a cycle.
    pub peak: f64,
}

/// Cores of phones and servers, in and out of order.
pub const CORES: [Pipes; 5] = [
    Pipes { name: "neoverse-n1", class: "neoverse-n1", peak: 2.0 },
    Pipes { name: "neoverse-v1", class: "cortex-x1", peak: 4.0 },
    Pipes { name: "neoverse-n2", class: "neoverse-n2", peak: 2.0 },
    Pipes { name: "cortex-a55", class: "cortex-a55", peak: 2.0 },
    Pipes { name: "cortex-a510", class: "cortex-a510", peak: 2.0 },
];

impl Pipes {
    /// The class that schedules are chosen for.
    pub fn class(&self) -> Option<&'static CoreClass> {
        CoreClass::named(self.class)
    }
}

/// Fewest vectors of multiply-adds of a block that counts.
const LEAST_PRODUCTS: usize = 16;

/// Vectors of multiply-adds and the cycles that their blocks take, with all data in the first cache.
#[derive(Clone, Copy, Default, Debug)]
pub struct Throughput {
    /// Executed multiply-adds of vectors.
    pub products: f64,
    /// Cycles.
    pub cycles: f64,
}

/// What a block multiplies its vectors with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Lanes: matrix products, and convolutions over all channels.
    Lanes,
    /// Vectors: depthwise convolutions.
    Vectors,
}

impl Form {
    fn of(words: &[u32]) -> Form {
        if words.iter().any(|&word| is_by_lane(word)) { Form::Lanes } else { Form::Vectors }
    }
}

impl Throughput {
    /// Of the blocks that multiply and add in a form, each as often as it ran.
    pub fn of(trace: &Trace, form: Form, pipes: &Pipes) -> Throughput {
        let products = |words: &[u32]| words.iter().filter(|&&word| Class::of(word) == Class::MultiplyAdd).count();
        let mut hot = blocks(trace);
        hot.retain(|block| products(&block.words) >= LEAST_PRODUCTS && Form::of(&block.words) == form);
        if hot.is_empty() {
            return Throughput::default();
        }
        let words: Vec<&[u32]> = hot.iter().map(|block| block.words.as_slice()).collect();
        let mut sum = Throughput::default();
        for (block, cycles) in hot.iter().zip(schedule(&words, pipes.name)) {
            let executions = block.executions as f64;
            sum.add(Throughput { products: products(&block.words) as f64 * executions, cycles: cycles * executions });
        }
        sum
    }

    /// Adds another.
    pub fn add(&mut self, other: Throughput) {
        self.products += other.products;
        self.cycles += other.cycles;
    }

    /// The part of a core's peak.
    pub fn share(&self, pipes: &Pipes) -> f64 {
        self.products / self.cycles / pipes.peak
    }
}
