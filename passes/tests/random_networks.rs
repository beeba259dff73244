//! Networks drawn at random keep their values through every pass and through all of them.

mod support;

use edgecc_passes::{FINISH, Options, PREPARE};
use support::random::network;
use support::*;

#[test]
fn values_stay_through_every_pass() {
    let options = Options::default();
    let mut fired = std::collections::BTreeMap::new();
    for seed in 0..400 {
        let mut graph = network(seed, 28);
        for group in PREPARE.iter().chain(FINISH) {
            for _ in 0..group.rounds {
                let mut rewrites = 0;
                for phase in group.phases {
                    let before = graph.clone();
                    let count = (phase.run)(&mut graph, &options);
                    if count > 0 {
                        let found = std::panic::catch_unwind(|| same_values_within(&before, &graph, 1e-4));
                        assert!(found.is_ok(), "network {seed}, pass {}: {:?}", phase.name, operators(&before));
                    }
                    *fired.entry(phase.name).or_insert(0) += count;
                    rewrites += count;
                }
                if rewrites == 0 {
                    break;
                }
            }
        }
    } // What needs a particular neighbourhood has cases of its own.
    let rare = [
        "compute-f16-as-f32",
        "store-f32-as-f16",
        "absorb-broadcasts",
        "recognize-normalize",
        "fold-requantize",
        "fuse-operands",
        "fold-sums",
        "inline-fused",
    ];
    let idle: Vec<_> = fired.iter().filter(|(name, count)| **count == 0 && !rare.contains(name)).collect();
    assert!(idle.is_empty(), "passes that no network concerns: {idle:?}");
}
