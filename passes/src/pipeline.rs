//! The passes in their order. Calibration, tuning and search stand between the two halves.

use edgecc_ir::{Graph, VerifyError, verify};

use crate::precision::Precision;
use crate::{fuse, layout, precision, quantize, simplify};

/// What a caller decides about the passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The most bytes that folding may write into one constant. Tensors of one repeated element take none.
    pub max_constant_bytes: usize,
    /// The width in which f32 values are kept.
    pub precision: Precision,
    /// Whether quantised values become integer arithmetic, rather than arithmetic on the numbers that they stand for.
    pub integers: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { max_constant_bytes: 256 << 20, precision: Precision::F32, integers: true }
    }
}

/// A step of the pipeline.
#[derive(Clone, Copy)]
pub struct Phase {
    /// The name, as a command line gives it.
    pub name: &'static str,
    /// What it does, in one sentence.
    pub sentence: &'static str,
    /// Rewrites the graph and returns how often.
    pub run: fn(&mut Graph, &Options) -> usize,
}

/// Phases that run one after the other, and again while one of them rewrites, at most `rounds` times.
#[derive(Clone, Copy)]
pub struct Group {
    /// The phases, in order.
    pub phases: &'static [Phase],
    /// The most rounds.
    pub rounds: usize,
}

/// Rounds after which a group ends even where it still rewrites: each round costs a walk per phase.
const ROUNDS: usize = 16;

const SIMPLIFY: &[Phase] = &[
    Phase {
        name: "fold-constants",
        sentence: "Evaluates operators whose operands are all constants.",
        run: |graph, options| simplify::fold_constants(graph, options.max_constant_bytes),
    },
    Phase {
        name: "inline-scalars",
        sentence: "Writes constants of one repeated element into the expressions that read them.",
        run: |graph, _| simplify::inline_scalars(graph),
    },
    Phase {
        name: "simplify-expressions",
        sentence: "Removes operations from expressions that do not change their value.",
        run: |graph, _| simplify::simplify_expressions(graph),
    },
    Phase {
        name: "remove-identities",
        sentence: "Removes nodes that change nothing.",
        run: |graph, _| simplify::remove_identities(graph),
    },
    Phase {
        name: "absorb-broadcasts",
        sentence: "Lets maps broadcast their operands themselves.",
        run: |graph, _| simplify::absorb_broadcasts(graph),
    },
    Phase {
        name: "narrow-constants",
        sentence: "Keeps one of the elements that a map's constant repeats along an axis.",
        run: |graph, _| simplify::narrow_constants(graph),
    },
    Phase {
        name: "compose-movements",
        sentence: "Makes one movement of two in a row.",
        run: |graph, _| simplify::compose_movements(graph),
    },
    Phase {
        name: "absorb-transposes",
        sentence: "Lets matrix products and reshapes stand in for transposes.",
        run: |graph, _| simplify::absorb_transposes(graph),
    },
    Phase {
        name: "sink-transposes",
        sentence: "Moves transposes behind operators that can do without them.",
        run: |graph, _| simplify::sink_transposes(graph),
    },
    Phase {
        name: "sink-reshapes",
        sentence: "Moves reshapes behind maps.",
        run: |graph, _| simplify::sink_reshapes(graph),
    },
    Phase {
        name: "fold-pads",
        sentence: "Lets windows pad by themselves.",
        run: |graph, _| simplify::fold_pads(graph),
    },
    Phase {
        name: "common-subexpressions",
        sentence: "Keeps one of equal nodes.",
        run: |graph, _| simplify::common_subexpressions(graph),
    },
    Phase {
        name: "recognize-normalize",
        sentence: "Finds normalizations that are written out.",
        run: |graph, _| simplify::recognize_normalize(graph),
    },
    Phase {
        name: "fold-batchnorm",
        sentence: "Folds scales and shifts behind a contraction into its weights and bias.",
        run: |graph, _| fuse::fold_batchnorm(graph),
    },
    Phase {
        name: "fold-leading-affine",
        sentence: "Folds scales and shifts in front of a contraction into its weights and bias.",
        run: |graph, _| fuse::fold_leading_affine(graph),
    },
];

const FUSE: &[Phase] = &[
    Phase {
        name: "fuse-epilogue",
        sentence: "Makes maps behind a contraction its epilogue.",
        run: |graph, _| fuse::fuse_epilogue(graph),
    },
    Phase {
        name: "fuse-maps",
        sentence: "Makes one map of maps that read each other.",
        run: |graph, _| fuse::fuse_maps(graph),
    },
    Phase {
        name: "fuse-operands",
        sentence: "Moves dequantization of an epilogue's operands into the epilogue.",
        run: |graph, _| fuse::fuse_operands(graph),
    },
    Phase {
        name: "fold-requantize",
        sentence: "Makes one multiplication of the way from sums of integers to integers.",
        run: |graph, _| quantize::fold_requantize(graph),
    },
    Phase {
        name: "fold-sums",
        sentence: "Adds biases to sums of integers as integers.",
        run: |graph, _| quantize::fold_sums(graph),
    },
    Phase {
        name: "inline-fused",
        sentence: "Writes constants of one repeated element into fused expressions, and drops operands that they do not read.",
        run: |graph, _| simplify::inline_scalars(graph),
    },
    Phase {
        name: "simplify-fused",
        sentence: "Removes operations from fused expressions that do not change their value.",
        run: |graph, _| simplify::simplify_expressions(graph),
    },
];

/// Quantised values become integer arithmetic. Weights stay integers until then.
pub const INTEGERS: &[Group] = &[Group {
    phases: &[
        Phase {
            name: "fold-integers",
            sentence: "Evaluates operators on constants, but for the integers that stand for numbers.",
            run: |graph, options| {
                let stays = |graph: &Graph, id| quantize::dequantized(graph, id).is_some();
                simplify::fold_constants_but(graph, options.max_constant_bytes, stays)
            },
        },
        Phase {
            name: "sink-dequantize",
            sentence: "Moves dequantization behind movement.",
            run: |graph, _| quantize::sink_dequantize(graph),
        },
        Phase {
            name: "hoist-quantize",
            sentence: "Moves quantization in front of movement.",
            run: |graph, _| quantize::hoist_quantize(graph),
        },
        Phase {
            name: "cancel-quantize",
            sentence: "Removes quantization of what was just dequantised alike.",
            run: |graph, _| quantize::cancel_quantize(graph),
        },
        Phase {
            name: "sign-integers",
            sentence: "Makes unsigned integers of 8 bits signed.",
            run: |graph, _| quantize::sign_integers(graph),
        },
        Phase {
            name: "integer-contractions",
            sentence: "Makes contractions of dequantised values contractions of the integers.",
            run: |graph, _| quantize::integer_contractions(graph),
        },
        Phase {
            name: "average-integers",
            sentence: "Makes averages of dequantised images sums of the integers.",
            run: |graph, _| quantize::average_integers(graph),
        },
    ],
    rounds: ROUNDS,
}];

/// Before calibration and tuning: the smallest graph, contractions with folded scales, nothing fused.
pub const PREPARE: &[Group] = &[
    Group {
        phases: &[Phase {
            name: "compute-f16-as-f32",
            sentence: "Computes half precision in single precision.",
            run: |graph, _| precision::compute_f16_as_f32(graph),
        }],
        rounds: 1,
    },
    Group { phases: SIMPLIFY, rounds: ROUNDS },
];

/// Behind calibration and tuning: fused, with layouts.
pub const FINISH: &[Group] = &[
    Group { phases: FUSE, rounds: ROUNDS },
    Group {
        phases: &[
            Phase {
                name: "store-f32-as-f16",
                sentence: "Keeps single precision as halves, where that is asked for.",
                run: |graph, options| match options.precision {
                    Precision::F32 => 0,
                    Precision::F16 => precision::store_f32_as_f16(graph),
                },
            },
            Phase {
                name: "separate-outputs",
                sentence: "Gives every output a node of its own.",
                run: |graph, _| layout::separate_outputs(graph),
            },
            Phase {
                name: "choose-layouts",
                sentence: "Sets the memory order of every value.",
                run: |graph, _| layout::choose_layouts(graph),
            },
        ],
        rounds: 1,
    },
];

/// A pass left a graph that is not sound: a mistake of ours, not of the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("internal error: pass {pass} left an unsound graph: {source}")]
pub struct PassError {
    /// The phase's name.
    pub pass: &'static str,
    /// What is wrong with the graph.
    pub source: VerifyError,
}

/// How often each phase rewrote, in order of first run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// (name, rewrites) of each phase.
    pub rewrites: Vec<(&'static str, usize)>,
}

impl Report {
    /// Rewrites of all phases.
    pub fn total(&self) -> usize {
        self.rewrites.iter().map(|(_, count)| count).sum()
    }

    fn add(&mut self, name: &'static str, count: usize) {
        match self.rewrites.iter_mut().find(|(known, _)| *known == name) {
            Some((_, total)) => *total += count,
            None => self.rewrites.push((name, count)),
        }
    }
}

/// Makes integer arithmetic of quantised values, where the options say so.
pub fn integers(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<Report, PassError> {
    match options.integers {
        true => run(INTEGERS, graph, options, observe),
        false => Ok(Report::default()),
    }
}

/// Runs the first half. `observe` sees the graph after every phase that rewrote it.
pub fn prepare(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<Report, PassError> {
    let mut report = integers(graph, options, observe)?;
    for (name, count) in run(PREPARE, graph, options, observe)?.rewrites {
        report.add(name, count);
    }
    Ok(report)
}

/// Runs the second half. `observe` sees the graph after every phase that rewrote it.
pub fn finish(
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<Report, PassError> {
    let mut report = integers(graph, options, observe)?;
    for (name, count) in run(FINISH, graph, options, observe)?.rewrites {
        report.add(name, count);
    }
    Ok(report)
}

fn run(
    groups: &[Group],
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<Report, PassError> {
    let mut report = Report::default();
    for group in groups {
        for _ in 0..group.rounds {
            let before = report.total();
            for phase in group.phases {
                report.add(phase.name, run_phase(phase, graph, options, observe)?);
            }
            if report.total() == before {
                break;
            }
        }
    }
    Ok(report)
}

fn run_phase(
    phase: &Phase,
    graph: &mut Graph,
    options: &Options,
    observe: &mut dyn FnMut(&'static str, &Graph),
) -> Result<usize, PassError> {
    let rewrites = (phase.run)(graph, options);
    if rewrites > 0 {
        verify(graph).map_err(|source| PassError { pass: phase.name, source })?;
        observe(phase.name, graph);
    }
    Ok(rewrites)
}
