//! Core classes: what a processor's core does in a cycle, how long it takes, and what its caches hold.

use crate::cpu::isa::{Core, Integers};

/// A core as the cost model sees it. Vectors are of 128 bits.
#[derive(Debug, PartialEq)]
pub struct CoreClass {
    /// The name on the command line; what follows its first dash is a name too.
    pub name: &'static str,
    /// The order in which it issues.
    pub issue: Core,
    /// How it sums products of i8 at best.
    pub integers: Integers,
    /// Instructions that begin in a cycle.
    pub width: f64,
    /// Multiply-adds of vectors that begin in a cycle.
    pub multiply_adds: f64,
    /// Vectors that are loaded in a cycle.
    pub loads: f64,
    /// Cycles of a store of one lane of four registers among loads (llvm-mca-19's models).
    pub lanes_store: f64,
    /// Cycles from one multiply-add to the next that adds to the same sum.
    pub multiply_add_latency: f64,
    /// Cycles from a load of a vector that hits the first cache to its use.
    pub load_latency: f64,
    /// Bytes of the second cache, or of a core's share of it.
    pub l2: i64,
}

const KIB: i64 = 1 << 10;

/// A core that issues out of order, with two vector units: Cortex-A76 (Arm's Software Optimization Guide for Neoverse N1,
/// which is the same core: decode 4, pipelines V0 V1 and L0 L1, FMLA 4 cycles, LDR Q 5). The second cache is that of most
/// systems.
const CORTEX_A76: CoreClass = CoreClass {
    name: "cortex-a76",
    issue: Core::OutOfOrder,
    integers: Integers::Dot,
    width: 4.0,
    multiply_adds: 2.0,
    loads: 2.0,
    lanes_store: 2.0,
    multiply_add_latency: 4.0,
    load_latency: 5.0,
    l2: 512 * KIB,
};

/// Where no core is named: any may run it.
pub const GENERIC: CoreClass = CoreClass { name: "generic", integers: Integers::Matrix, ..CORTEX_A76 };

/// A core that issues in order (Arm's Software Optimization Guide for Cortex-A55): two instructions a cycle, one multiply-add
/// of 128 bits, 4 cycles; 64 bits are loaded a cycle, so that four vectors take 3 + 8. llvm-mca-19's model has these loads
/// and begins two multiply-adds a cycle, which the core does not.
pub const CORTEX_A55: CoreClass = CoreClass {
    name: "cortex-a55",
    issue: Core::InOrder,
    integers: Integers::Dot,
    width: 2.0,
    multiply_adds: 1.0,
    loads: 0.5,
    lanes_store: 5.4,
    multiply_add_latency: 4.0,
    load_latency: 3.0,
    l2: 128 * KIB,
};

/// Every class that `--cpu` names. Where Arm's guides and llvm-mca-19 differ, the row says which it follows; second caches
/// are the smaller ones of common systems, by the technical reference manuals.
pub const CLASSES: [CoreClass; 12] = [
    GENERIC,
    // No guide is public: llvm-mca's model, whose multiply-add takes 10 cycles to the next of its sum.
    CoreClass {
        name: "cortex-a53",
        integers: Integers::Plain,
        multiply_add_latency: 10.0,
        load_latency: 4.0,
        ..CORTEX_A55
    },
    CORTEX_A55,
    // Two units of 128 bits where the vector unit is not shared (guide); llvm-mca's model has the same.
    CoreClass {
        name: "cortex-a510",
        integers: Integers::Matrix,
        width: 3.0,
        multiply_adds: 2.0,
        loads: 2.0,
        lanes_store: 5.0,
        load_latency: 2.0,
        ..CORTEX_A55
    },
    // A multiply-add of 128 bits takes both units (guide: Q-form, 1 a cycle); one load pipeline; 7 cycles, 3 to its own sum.
    CoreClass {
        name: "cortex-a72",
        integers: Integers::Plain,
        width: 3.0,
        multiply_adds: 1.0,
        loads: 1.0,
        lanes_store: 4.0,
        multiply_add_latency: 4.0,
        l2: 1024 * KIB,
        ..CORTEX_A76
    },
    CORTEX_A76,
    // As Cortex-A76 with a third load pipeline.
    CoreClass { name: "cortex-a78", loads: 3.0, ..CORTEX_A76 },
    // Four units and three load pipelines (guide, and Neoverse V1 in llvm-mca); 4 cycles, so that 16 sums fill the units.
    CoreClass {
        name: "cortex-x1",
        width: 5.0,
        multiply_adds: 4.0,
        loads: 3.0,
        lanes_store: 1.4,
        load_latency: 6.0,
        l2: 1024 * KIB,
        ..CORTEX_A76
    },
    // The same units, wider; 2 cycles to the same sum (guide, and Neoverse V2 in llvm-mca).
    CoreClass {
        name: "cortex-x3",
        integers: Integers::Matrix,
        width: 6.0,
        multiply_adds: 4.0,
        loads: 3.0,
        lanes_store: 1.5,
        multiply_add_latency: 2.0,
        load_latency: 6.0,
        l2: 1024 * KIB,
        ..CORTEX_A76
    },
    CoreClass { name: "neoverse-n1", l2: 1024 * KIB, ..CORTEX_A76 },
    // As Cortex-X1 with two vector units: what Cortex-A710 is.
    CoreClass {
        name: "neoverse-n2",
        integers: Integers::Matrix,
        width: 5.0,
        loads: 3.0,
        lanes_store: 1.5,
        load_latency: 6.0,
        l2: 1024 * KIB,
        ..CORTEX_A76
    },
    // Firestorm, as measured by others (dougallj's tables): four units, 4 cycles, three loads; 12 MiB for four cores.
    CoreClass { name: "apple-m1", width: 8.0, multiply_adds: 4.0, loads: 3.0, l2: 3072 * KIB, ..CORTEX_A76 },
];

impl CoreClass {
    /// The class of a processor, by its whole name or what follows the maker's.
    pub fn named(name: &str) -> Option<&'static CoreClass> {
        let is_named = |class: &&CoreClass| {
            class.name == name || class.name.split_once('-').is_some_and(|(_, short)| short == name)
        };
        CLASSES.iter().find(is_named)
    }

    /// Bytes of input rows that stay in the second cache while panels of weights and results pass: an eighth.
    pub fn block_bytes(&self) -> i64 {
        self.l2 / 8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_names() {
        for (short, whole) in [("a55", "cortex-a55"), ("x1", "cortex-x1"), ("n1", "neoverse-n1"), ("m1", "apple-m1")] {
            assert_eq!(CoreClass::named(short).map(|class| class.name), Some(whole));
        }
        assert_eq!(CoreClass::named("generic"), Some(&GENERIC));
        assert_eq!(CoreClass::named("cortex"), None);
    }
}
