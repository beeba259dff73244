//! The hot loops of some small networks, by llvm-mca's models, against the peak of multiply-add units: each loop as often as
//! it runs, with all data in the first cache. A kernel that becomes slower falls below its floor.

use edgecc::compile::{CompileOptions, compile_graph};
use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::schedule::cores::CoreClass;
use edgecc_passes::precision::Precision;
use edgecc_tests::cycles::has_tools;
use edgecc_tests::executed::{Bench, Trace, code_address};
use edgecc_tests::networks::layers;
use edgecc_tests::report::say;
use edgecc_tests::throughput::{CORES, Extent, Form, Throughput};
use edgecc_tests::{numbers, run};

/// The least parts of the peak that loops of a form reach, on the cores in the order of `CORES`. Epilogues take the same units, and are
/// counted apart.
type Floors = [((Form, Extent), [f64; 5]); 3];

const LANES: (Form, Extent) = (Form::Lanes, Extent::Products);
const LANES_WITH_EPILOGUES: (Form, Extent) = (Form::Lanes, Extent::Whole);
const VECTORS: (Form, Extent) = (Form::Vectors, Extent::Whole);

#[test]
fn hot_loops_come_near_the_peak() {
    hold_to_floors(
        Precision::F32,
        &[
            (LANES, [0.99, 0.96, 0.99, 0.71, 0.94]),
            (LANES_WITH_EPILOGUES, [0.94, 0.915, 0.935, 0.65, 0.85]),
            (VECTORS, [0.80, 0.75, 0.80, 0.46, 0.57]),
        ],
    );
}

#[test]
fn hot_loops_of_halves_come_near_the_peak() {
    hold_to_floors(
        Precision::F16,
        &[
            (LANES, [0.98, 0.95, 0.98, 0.73, 0.92]),
            (LANES_WITH_EPILOGUES, [0.915, 0.90, 0.91, 0.675, 0.85]),
            (VECTORS, [0.795, 0.74, 0.795, 0.46, 0.57]),
        ],
    );
}

fn hold_to_floors(precision: Precision, floors: &Floors) {
    let Some(bench) = has_tools().then(Bench::new).flatten() else { return };
    for (place, pipes) in CORES.iter().enumerate() {
        let traces = traces(&bench, precision, pipes.class().expect("a class"));
        for &(counted, floors) in floors {
            let floor = floors[place];
            let mut sum = Throughput::default();
            traces.iter().for_each(|trace| sum.add(Throughput::of(trace, counted, pipes)));
            let share = sum.share(pipes);
            say(&format!("{precision:?} {counted:?} on {:<12} {:.1} % of the peak", pipes.name, 100.0 * share));
            assert!(share >= floor, "{precision:?} {counted:?} on {}: {share} instead of {floor}", pipes.name);
        }
    }
}

/// What the kernels of each network execute.
fn traces(bench: &Bench, precision: Precision, core: &'static CoreClass) -> Vec<Trace> {
    let of_network = |(graph, allow_size)| {
        let options = CompileOptions { allow_size, precision, core, ..run::options(Architecture::Aarch64, &[]) };
        let input = &numbers::inputs(&graph)[0];
        let compiled = compile_graph(graph, &options, &mut |_| {}).expect("compiles");
        let shape = input.shape().extents();
        let (trace, _) = bench.count("cortex-a76", &compiled, &input.bytes(), &shape);
        let emitted = &compiled.best.emitted;
        let base = code_address(&trace, &emitted.code, &emitted.kernels).expect("the code in the process");
        trace.range(base..base + emitted.code.len() as u64).map(|(&at, &ran)| (at, ran)).collect()
    };
    layers().into_iter().filter(|(_, allow_size)| !allow_size).map(of_network).collect()
}
