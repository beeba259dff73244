//! The CPUs that code is emitted for: what they have, and Cranelift's view of them.

use cranelift_codegen::isa::{OwnedTargetIsa, TargetIsa, lookup};
use cranelift_codegen::settings::{self, Configurable};
use target_lexicon::Triple;

use super::function::EmitError;
use crate::contraction::Element;

/// Instruction sets that code is emitted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Armv8.0-A with the mandatory vector unit.
    Aarch64,
    /// x86-64 with AVX2 and FMA (the level x86-64-v3).
    X86_64,
}

impl Architecture {
    /// The architecture that this process runs on, where code is emitted for it.
    pub fn host() -> Option<Self> {
        if cfg!(target_arch = "aarch64") {
            Some(Architecture::Aarch64)
        } else if cfg!(target_arch = "x86_64") {
            Some(Architecture::X86_64)
        } else {
            None
        }
    }

    /// The name in artifacts and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Architecture::Aarch64 => "aarch64",
            Architecture::X86_64 => "x86_64",
        }
    }

    /// What the code needs beyond the architecture's baseline, by Rust's names of features.
    pub const fn required_features(self) -> &'static [&'static str] {
        match self {
            Architecture::Aarch64 => &[],
            Architecture::X86_64 => &["avx2", "fma", "bmi1", "bmi2", "lzcnt", "popcnt"],
        }
    }

    fn triple(self) -> &'static str {
        match self {
            Architecture::Aarch64 => "aarch64-unknown-linux-gnu",
            Architecture::X86_64 => "x86_64-unknown-linux-gnu",
        }
    }

    /// Cranelift's names of the features beyond its baseline.
    fn features(self) -> &'static [&'static str] {
        match self {
            Architecture::Aarch64 => &[],
            Architecture::X86_64 => &[
                "has_sse3",
                "has_ssse3",
                "has_sse41",
                "has_sse42",
                "has_popcnt",
                "has_avx",
                "has_avx2",
                "has_fma",
                "has_bmi1",
                "has_bmi2",
                "has_lzcnt",
            ],
        }
    }
}

/// A CPU to emit for. The same target emits the same bytes on every host.
#[derive(Clone)]
pub struct CpuTarget {
    /// The instruction set.
    pub architecture: Architecture,
    /// The text that each function comes with.
    pub listing: Listing,
    /// Who writes kernels.
    pub kernels: Kernels,
    /// The order of instructions in our own kernels.
    pub core: Core,
    /// How halves are computed with.
    pub halves: Halves,
    /// How products of i8 are summed.
    pub integers: Integers,
    /// The vectors that our own kernels use.
    pub vectors: Vectors,
    isa: OwnedTargetIsa,
}

/// How a core issues instructions, which decides their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Core {
    /// As their operands are ready: the fewest instructions are best.
    #[default]
    OutOfOrder,
    /// In program order: every load stands well before its use.
    InOrder,
}

/// How a CPU computes with halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Halves {
    /// It does not: they are widened to f32.
    #[default]
    Widened,
    /// In vectors of eight (Armv8.2-A's `fp16`).
    Native,
}

impl Halves {
    /// What the code needs beyond the architecture's baseline, by Rust's names of features.
    pub const fn required_features(self) -> &'static [&'static str] {
        match self {
            Halves::Widened => &[],
            Halves::Native => &["fp16"],
        }
    }
}

/// How a CPU of aarch64 sums products of i8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, PartialOrd, Ord)]
pub enum Integers {
    /// By products of the baseline.
    #[default]
    Plain,
    /// Four to a word (Armv8.2-A's `dotprod`).
    Dot,
    /// Two rows by two channels of eight (Armv8.6-A's `i8mm`), and as before.
    Matrix,
}

impl Integers {
    /// All of them, the most able last.
    pub const ALL: [Integers; 3] = [Integers::Plain, Integers::Dot, Integers::Matrix];

    /// What the code needs beyond the architecture's baseline, by Rust's names of features.
    pub const fn required_features(self) -> &'static [&'static str] {
        match self {
            Integers::Plain => &[],
            Integers::Dot => &["dotprod"],
            Integers::Matrix => &["dotprod", "i8mm"],
        }
    }
}

/// The vectors of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Vectors {
    /// Those of the architecture's baseline.
    #[default]
    Baseline,
    /// Sixteen lanes of f32 (AVX-512F, and VL for eight).
    Avx512,
    /// The same, which also sum four products of bytes to a lane (AVX-512VNNI, and BW).
    Avx512Vnni,
}

impl Vectors {
    /// All of them.
    pub const ALL: [Vectors; 3] = [Vectors::Baseline, Vectors::Avx512, Vectors::Avx512Vnni];

    /// What the code needs beyond the architecture's baseline, by Rust's names of features.
    pub const fn required_features(self) -> &'static [&'static str] {
        match self {
            Vectors::Baseline => &[],
            Vectors::Avx512 => &["avx512f", "avx512vl"],
            Vectors::Avx512Vnni => &["avx512f", "avx512vl", "avx512bw", "avx512vnni"],
        }
    }
}

/// Who writes kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kernels {
    /// Our own encoders where they have the kernel, Cranelift otherwise.
    #[default]
    Encoded,
    /// Cranelift alone.
    Clif,
}

/// A text beside a function's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// None.
    Off,
    /// Cranelift's intermediate code.
    Clif,
    /// Machine code as assembly.
    Assembly,
}

impl CpuTarget {
    /// The baseline of an architecture.
    pub fn new(architecture: Architecture) -> Result<Self, EmitError> {
        let isa = build_isa(architecture).map_err(|reason| EmitError::Target { architecture, reason })?;
        Ok(CpuTarget {
            architecture,
            listing: Listing::Off,
            kernels: Kernels::default(),
            core: Core::default(),
            halves: Halves::default(),
            integers: Integers::default(),
            vectors: Vectors::default(),
            isa,
        })
    }

    /// The same target with a text beside each function.
    pub fn with_listing(self, listing: Listing) -> Self {
        CpuTarget { listing, ..self }
    }

    /// The same target with other writers of kernels.
    pub fn with_kernels(self, kernels: Kernels) -> Self {
        CpuTarget { kernels, ..self }
    }

    /// The same target for another core.
    pub fn with_core(self, core: Core) -> Self {
        CpuTarget { core, ..self }
    }

    /// The same target for CPUs that compute with halves in another way.
    pub fn with_halves(self, halves: Halves) -> Self {
        CpuTarget { halves, ..self }
    }

    /// The same target for CPUs that sum products of i8 in another way.
    pub fn with_integers(self, integers: Integers) -> Self {
        CpuTarget { integers, ..self }
    }

    /// The same target for CPUs with other vectors.
    pub fn with_vectors(self, vectors: Vectors) -> Self {
        CpuTarget { vectors, ..self }
    }

    /// Whether our encoder of x86-64 takes part.
    pub(super) fn encodes_x64(&self) -> bool {
        let is_encoded = self.kernels == Kernels::Encoded && self.listing != Listing::Clif;
        self.architecture == Architecture::X86_64 && is_encoded
    }

    /// Whether our encoder of aarch64 writes kernels over such elements.
    pub(super) fn encodes_a64_of(&self, element: Element) -> bool {
        let is_encoded = match element {
            Element::F32 | Element::I8 => true,
            Element::F16 => self.halves == Halves::Native,
        };
        self.encodes_a64() && is_encoded
    }

    /// Whether our encoder of aarch64 takes part.
    pub(super) fn encodes_a64(&self) -> bool {
        self.architecture == Architecture::Aarch64 && self.kernels == Kernels::Encoded && self.listing != Listing::Clif
    }

    /// Cranelift's view of the target.
    pub fn isa(&self) -> &dyn TargetIsa {
        self.isa.as_ref()
    }
}

impl std::fmt::Debug for CpuTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CpuTarget({:?})", self.architecture)
    }
}

/// `opt_level=none` keeps the order of instructions as written: the e-graph pass would re-order multiply-adds and spill.
fn build_isa(architecture: Architecture) -> Result<OwnedTargetIsa, String> {
    let mut flags = settings::builder();
    let verifier = if cfg!(debug_assertions) { "true" } else { "false" };
    let choices = [
        ("opt_level", "none"),
        ("regalloc_algorithm", "backtracking"),
        ("is_pic", "true"),
        ("enable_verifier", verifier),
    ];
    for (name, value) in choices {
        flags.set(name, value).map_err(|error| error.to_string())?;
    }
    let triple: Triple = architecture.triple().parse().map_err(|error| format!("{error}"))?;
    let mut builder = lookup(triple).map_err(|error| error.to_string())?;
    for feature in architecture.features() {
        builder.enable(feature).map_err(|error| error.to_string())?;
    }
    builder.finish(settings::Flags::new(flags)).map_err(|error| error.to_string())
}
