//! How near the hot loops of kernels come to the peak of a core's multiply-add units, by llvm-mca's model of the core.

use edgecc_backends::schedule::cores::CoreClass;

use crate::cycles::{Block, blocks, schedule};
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

/// The words of a block of products by lanes before its epilogue, whose arithmetic takes the same units: up to the first
/// arithmetic behind products but adding to other sums.
fn without_epilogue(words: &[u32]) -> &[u32] {
    let (mut products, by_lanes) = (0, words.iter().any(|&word| is_by_lane(word)));
    let ends = |&word: &u32| {
        products += usize::from(Class::of(word) == Class::MultiplyAdd);
        by_lanes && products >= LEAST_PRODUCTS && Class::of(word) == Class::Vector && !is_of_sums(word)
    };
    &words[..words.iter().position(ends).unwrap_or(words.len())]
}

/// An addition of vectors, or a product with a lane that begins a sum.
fn is_of_sums(word: u32) -> bool {
    let adds = word & 0xffe0_fc00 == 0x4e20_d400 || word & 0xffe0_fc00 == 0x4e40_1400;
    adds || word & 0x9f00_f400 == 0x0f00_9000
}

/// What of a block of products by lanes counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// All of it.
    Whole,
    /// What stands before its epilogue.
    Products,
}

/// The blocks that multiply and add in a form, by address, each as often as it ran.
pub fn hot_blocks(trace: &Trace, (form, extent): (Form, Extent), pipes: &Pipes) -> Vec<(u64, Throughput)> {
    let products = |words: &[u32]| words.iter().filter(|&&word| Class::of(word) == Class::MultiplyAdd).count();
    let mut hot = blocks(trace);
    hot.retain(|block| products(&block.words) >= LEAST_PRODUCTS && Form::of(&block.words) == form);
    if hot.is_empty() {
        return Vec::new();
    }
    let counted = |block: &'_ Block| match extent {
        Extent::Whole => block.words.len(),
        Extent::Products => without_epilogue(&block.words).len(),
    };
    let words: Vec<&[u32]> = hot.iter().map(|block| &block.words[..counted(block)]).collect();
    let of_block = |((block, words), cycles): ((&Block, &&[u32]), f64)| {
        let executions = block.executions as f64;
        (block.address, Throughput { products: products(words) as f64 * executions, cycles: cycles * executions })
    };
    hot.iter().zip(&words).zip(schedule(&words, pipes.name)).map(of_block).collect()
}

impl Throughput {
    /// Of all blocks of a form.
    pub fn of(trace: &Trace, counted: (Form, Extent), pipes: &Pipes) -> Throughput {
        let mut sum = Throughput::default();
        hot_blocks(trace, counted, pipes).into_iter().for_each(|(_, block)| sum.add(block));
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

    /// Cycles beyond those at the peak.
    pub fn lost(&self, pipes: &Pipes) -> f64 {
        self.cycles - self.products / pipes.peak
    }
}
