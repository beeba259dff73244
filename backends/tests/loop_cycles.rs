//! The cost model's cycles of innermost loops beside llvm-mca's, for the classes whose cores llvm-mca models: every tile of
//! the schedules' tables, over rows as they lie and over packed rows. And loops of halves for cores that issue in order beside the
//! best of some written by hand. Says in one line where llvm-mca is missing.

use std::io::Write;
use std::process::{Command, Stdio};

use edgecc_backends::contraction::{ContractionSpec, Element, Strides, Window};
use edgecc_backends::cpu::contraction::emit_contraction;
use edgecc_backends::cpu::isa::{Architecture, CpuTarget, Halves, Listing};
use edgecc_backends::schedule::cores::CoreClass;
use edgecc_backends::schedule::{Machine, Schedule, Tile, packing, schedules};

const MCA: &str = "llvm-mca-19";
const ITERATIONS: usize = 100;
/// Steps of k in one turn of a loop.
const TURN: f64 = 16.0;

/// A class, llvm-mca's name of the same core, and the most that the model may err.
const MODELS: [(&str, &str, f64); 8] = [
    ("cortex-a76", "neoverse-n1", 0.01),
    ("neoverse-n1", "neoverse-n1", 0.01),
    ("cortex-x1", "neoverse-v1", 0.02),
    ("cortex-x3", "neoverse-v2", 0.02),
    ("neoverse-n2", "neoverse-n2", 0.01),
    ("cortex-a72", "cortex-a72", 0.01),
    ("cortex-a55", "cortex-a55", 0.03),
    ("cortex-a510", "cortex-a510", 0.05),
];

/// Whether llvm-mca knows halves of the core. Cores that issue in order are left out.
fn has_halves(class: &str) -> bool {
    !matches!(class, "cortex-a72" | "cortex-a55" | "cortex-a510")
}

/// A product of matrices whose rows and channels are multiples of every tile's.
fn product(element: Element, rows: i64) -> ContractionSpec {
    let (depth, channels) = (256, element.lanes() * 120);
    ContractionSpec {
        element,
        batch: Vec::new(),
        window: Window::matrix(rows),
        depth,
        channels,
        input: Strides::image(rows, depth),
        reading: None,
        symmetric_weights: false,
        weight_batch: Vec::new(),
        output: Strides::image(rows, channels),
        operands: Vec::new(),
        epilogue: element.plain_epilogue(),
    }
}

/// The innermost loop of whole tiles.
fn innermost_loop(machine: &Machine, spec: &ContractionSpec, schedule: &Schedule) -> String {
    let target = CpuTarget::new(Architecture::Aarch64).expect("a target").with_listing(Listing::Assembly);
    let target = target.with_halves(Halves::Native);
    let kernel = emit_contraction(&target.with_core(machine.core.issue), "loop", spec, schedule).expect("a kernel");
    assert!(kernel.encoded, "{schedule:?}");
    let lines: Vec<&str> = kernel.listing.lines().map(str::trim).collect();
    let mut labels: Vec<(usize, &str)> = Vec::new();
    let products = (schedule.tile.rows * schedule.tile.vectors) as usize * TURN as usize;
    for (place, line) in lines.iter().enumerate() {
        if let Some(label) = line.strip_suffix(':') {
            labels.push((place, label));
        }
        let (Some(target), Some(&(begin, label))) = (line.strip_prefix("b.ne "), labels.last()) else { continue };
        let body = &lines[begin + 1..place];
        if target == label && body.iter().filter(|line| line.starts_with("fmla")).count() == products {
            return body.join("\n");
        }
    }
    panic!("no loop of {products} multiply-adds in {schedule:?}:\n{}", kernel.listing)
}

/// The loop that packs two vectors of each of four rows.
fn packing_loop(machine: &Machine, element: Element) -> String {
    let spec = product(element, 840);
    let schedule = schedules(&spec, machine).into_iter().find(|schedule| schedule.packs_rows).expect("packed rows");
    let target = CpuTarget::new(Architecture::Aarch64).expect("a target").with_listing(Listing::Assembly);
    let target = target.with_halves(Halves::Native).with_core(machine.core.issue);
    let listing = emit_contraction(&target, "loop", &spec, &schedule).expect("a kernel").listing;
    let lines: Vec<&str> = listing.lines().map(str::trim).collect();
    let begin_of = |end: usize| lines[..end].iter().rposition(|line| line.ends_with(':')).map_or(0, |label| label + 1);
    let stores = |end: usize| lines[begin_of(end)..end].iter().any(|line| line.starts_with("st4 "));
    let end = (0..lines.len()).find(|&end| lines[end].starts_with("b.ne ") && stores(end)).expect("a packing loop");
    lines[begin_of(end)..end].join("\n")
}

/// What the model of packing may err: it has one figure of a core for singles and halves.
const PACKING_BOUND: f64 = 0.25;

#[test]
fn modelled_cycles_of_packing_are_near_those_of_llvm_mca() {
    if Command::new(MCA).arg("--version").output().is_err() {
        return eprintln!("left out: the cost model's cycles need {MCA}");
    }
    let mut wrong = Vec::new();
    for (class, scheduling, _) in MODELS {
        let core = CoreClass::named(class).expect("a class");
        let machine = Machine { core, ..Machine::new(Architecture::Aarch64) };
        for element in [Element::F32, Element::F16].into_iter().filter(|&of| of == Element::F32 || has_halves(class)) {
            let theirs = by_mca(&[packing_loop(&machine, element)], scheduling).expect("a report")[0] * TURN;
            let elements = 8.0 * element.lanes() as f64;
            let (ours, theirs) = (packing(element, core).cycles, theirs / elements);
            let error = ours / theirs - 1.0;
            eprintln!(
                "{class:<12} {element:?} {ours:>5.2} cycles an element, {scheduling} {theirs:>5.2}, {:+.0} %",
                100.0 * error
            );
            if error.abs() > PACKING_BOUND {
                wrong.push(format!("{class}: {ours:.2} instead of {theirs:.2}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Cycles of one step of k, loop by loop.
fn by_mca(loops: &[String], scheduling: &str) -> Option<Vec<f64>> {
    let region =
        |(number, body): (usize, &String)| format!("# LLVM-MCA-BEGIN {number}\n{body}\n# LLVM-MCA-END {number}\n");
    let text: String = loops.iter().enumerate().map(region).collect();
    let (processor, iterations) = (format!("-mcpu={scheduling}"), format!("-iterations={ITERATIONS}"));
    let quiet = ["-resource-pressure=false", "-instruction-info=false"];
    let mut command = Command::new(MCA);
    command.args(["-march=aarch64", &processor, &iterations]).args(quiet);
    let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    running.stdin.take()?.write_all(text.as_bytes()).ok()?;
    let report = String::from_utf8_lossy(&running.wait_with_output().ok()?.stdout).into_owned();
    let totals = report.lines().filter_map(|line| line.strip_prefix("Total Cycles:")?.trim().parse::<f64>().ok());
    Some(totals.map(|total| total / ITERATIONS as f64 / TURN).collect())
}

#[test]
fn modelled_cycles_of_loops_are_those_of_llvm_mca() {
    if Command::new(MCA).arg("--version").output().is_err() {
        return eprintln!("left out: the cost model's cycles need {MCA}");
    }
    let mut wrong = Vec::new();
    for (class, scheduling, bound) in MODELS {
        let core = CoreClass::named(class).expect("a class");
        // See the class: llvm-mca begins twice as many multiply-adds and loads as the core.
        let modelled = match class {
            "cortex-a55" => CoreClass { multiply_adds: 2.0, loads: 1.0, ..*core },
            _ => CoreClass { ..*core },
        };
        let machine = Machine { core, ..Machine::new(Architecture::Aarch64) };
        let elements = if has_halves(class) { [Element::F32, Element::F16].as_slice() } else { &[Element::F32] };
        let sizes = elements.iter().flat_map(|&element| [1, 2, 3, 840].map(|rows| (element, rows)));
        let specs: Vec<ContractionSpec> = sizes.map(|(element, rows)| product(element, rows)).collect();
        let rows =
            specs.iter().flat_map(|spec| schedules(spec, &machine).into_iter().map(move |schedule| (spec, schedule)));
        let rows: Vec<(&ContractionSpec, Schedule)> = rows
            .filter(|(spec, schedule)| spec.window.pixels() == 840 || spec.window.pixels() == schedule.tile.rows)
            .collect();
        let loops: Vec<String> = rows.iter().map(|(spec, schedule)| innermost_loop(&machine, spec, schedule)).collect();
        let cycles = by_mca(&loops, scheduling).expect("a report");
        assert_eq!(cycles.len(), rows.len(), "{scheduling}");
        let mut most: f64 = 0.0;
        for ((spec, schedule), theirs) in rows.iter().zip(cycles) {
            let ours =
                machine.step(spec.element, schedule.tile, schedule.packs_rows).expect("a step").cycles(&modelled);
            let error = ours / theirs - 1.0;
            most = most.max(error.abs());
            let packed = if schedule.packs_rows { " packed" } else { "" };
            let tile = format!("{:?} {}x{}{packed}", spec.element, schedule.tile.rows, schedule.tile.vectors);
            eprintln!(
                "{class:<12} {tile:<16} {ours:>6.2} cycles a step, {scheduling} {theirs:>6.2}, {:>+6.1} %",
                100.0 * error
            );
        }
        eprintln!("{class:<12} errs by {:.1} % at most", 100.0 * most);
        if most > bound {
            wrong.push(format!("{class}: {:.1} %", 100.0 * most));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Cores that issue in order, and what our loops of halves take at most of the best ones that are written by hand.
const IN_ORDER: [(&str, f64); 2] = [("cortex-a55", 1.0 / 0.95), ("cortex-a510", 1.0 / 0.95)];

/// A turn over packed rows of eight halves, as one writes it by hand: sums never wait, what a step multiplies was loaded in the
/// step before, and loads stand `gap` products apart behind the first `lead`. Addresses move once.
fn by_hand(tile: Tile, lead: usize, gap: usize) -> String {
    let (rows, vectors) = (tile.rows as usize, tile.vectors as usize);
    let first_sum = 32 - rows * vectors;
    let set = |k: usize| k % 2 * (1 + vectors);
    let mut lines = Vec::new();
    for k in 0..TURN as usize {
        let (now, next) = (set(k), set(k + 1));
        let mut loads = vec![format!("ldr q{next}, [x5, #{}]", 16 * k)];
        loads.extend((0..vectors).map(|v| format!("ldr q{}, [x4, #{}]", next + 1 + v, 16 * (k * vectors + v))));
        let mut loads = loads.into_iter();
        for place in 0..rows * vectors {
            let (vector, row) = (place / rows, place % rows);
            let (sum, weights) = (first_sum + row * vectors + vector, now + 1 + vector);
            lines.push(format!("fmla v{sum}.8h, v{weights}.8h, v{now}.h[{row}]"));
            if place >= lead && (place - lead).is_multiple_of(gap) {
                lines.extend(loads.next());
            }
        }
        lines.extend(loads);
    }
    lines.extend([format!("add x5, x5, #{}", 16 * 16), format!("add x4, x4, #{}", 16 * 16 * vectors)]);
    lines.extend(["subs x8, x8, #1".to_string(), "b.ne 0".to_string()]);
    lines.join("\n")
}

#[test]
fn loops_of_halves_in_order_are_near_the_best_by_hand() {
    if Command::new(MCA).arg("--version").output().is_err() {
        return eprintln!("left out: schedules by hand need {MCA}");
    }
    let spec = product(Element::F16, 840);
    let mut wrong = Vec::new();
    for (class, most) in IN_ORDER {
        let machine =
            Machine { core: CoreClass::named(class).expect("a class"), ..Machine::new(Architecture::Aarch64) };
        for schedule in schedules(&spec, &machine).iter().filter(|schedule| schedule.packs_rows) {
            let tile = schedule.tile;
            let forms = (0..4).flat_map(|lead| (1..=6).map(move |gap| (lead, gap)));
            let mut loops = vec![innermost_loop(&machine, &spec, schedule)];
            loops.extend(forms.map(|(lead, gap)| by_hand(tile, lead, gap)));
            let cycles = by_mca(&loops, class).expect("a report");
            assert_eq!(cycles.len(), loops.len());
            let best = cycles[1..].iter().copied().fold(f64::INFINITY, f64::min);
            eprintln!(
                "{class:<12} {}x{} of halves: {:.2} cycles a step, the best by hand {best:.2}",
                tile.rows, tile.vectors, cycles[0]
            );
            if cycles[0] > best * most {
                wrong.push(format!("{class} {tile:?}: {} instead of {best}", cycles[0]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
