//! Executed aarch64 instructions of one inference, counted by a plugin of the emulator. The counts do not vary.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use edgecc::compile::Compiled;
use edgecc_backends::cpu::program::PlacedKernel;

use crate::report::skipped;
use crate::{cross, python};

/// What an instruction does, as far as the balance of a kernel asks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Fused multiply-add of floats.
    MultiplyAdd,
    /// Other arithmetic of vectors and floats.
    Vector,
    /// Load of vectors and floats.
    VectorLoad,
    /// Store of vectors and floats.
    VectorStore,
    /// Load or store of integers.
    Memory,
    /// Branch.
    Branch,
    /// Everything else: integers.
    Integer,
}

impl Class {
    /// All, in the order of the tables.
    pub const ALL: [Class; 7] = [
        Class::MultiplyAdd,
        Class::Vector,
        Class::VectorLoad,
        Class::VectorStore,
        Class::Memory,
        Class::Branch,
        Class::Integer,
    ];

    /// The head of its column.
    pub fn name(self) -> &'static str {
        match self {
            Class::MultiplyAdd => "fma",
            Class::Vector => "vector",
            Class::VectorLoad => "vload",
            Class::VectorStore => "vstore",
            Class::Memory => "memory",
            Class::Branch => "branch",
            Class::Integer => "integer",
        }
    }

    /// The class of an instruction word (Arm Architecture Reference Manual, C4.1).
    pub fn of(word: u32) -> Class {
        let group = word >> 25 & 15;
        match group {
            _ if group & 5 == 4 => memory_class(word),
            _ if group & 14 == 10 => Class::Branch,
            _ if group & 7 == 7 => arithmetic_class(word),
            _ => Class::Integer,
        }
    }
}

fn memory_class(word: u32) -> Class {
    let bit = |at: u32| word >> at & 1 == 1;
    let is_literal = word >> 28 & 3 == 1 && !bit(24);
    match (bit(26), is_literal || bit(22)) {
        (false, _) => Class::Memory,
        (true, true) => Class::VectorLoad,
        (true, false) => Class::VectorStore,
    }
}

fn arithmetic_class(word: u32) -> Class {
    let three_same = word & 0x9f20_fc00 == 0x0e20_cc00 || word & 0x9fe0_fc00 == 0x0e40_0c00;
    let scalar = word & 0xff00_0000 == 0x1f00_0000;
    if three_same || is_by_lane(word) || scalar { Class::MultiplyAdd } else { Class::Vector }
}

/// Whether an instruction multiplies a vector with one lane of another and adds.
pub fn is_by_lane(word: u32) -> bool {
    word & 0x9f00_b400 == 0x0f00_1000
}

/// Executions by class.
#[derive(Clone, Copy, Default, Debug)]
pub struct Counts(pub [u64; 7]);

impl Counts {
    /// All classes together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Executions of one class.
    pub fn of(&self, class: Class) -> u64 {
        Class::ALL.iter().position(|&other| other == class).map_or(0, |place| self.0[place])
    }

    fn add(&mut self, word: u32, executions: u64) {
        if let Some(place) = Class::ALL.iter().position(|&class| class == Class::of(word)) {
            self.0[place] += executions;
        }
    }
}

/// What simulated caches did for instructions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Misses {
    /// Loads that miss the first cache and hit the second.
    pub to_l2: u64,
    /// Loads that miss both.
    pub to_memory: u64,
    /// Lines that come from memory while nothing waits for them.
    pub transfers: u64,
}

impl Misses {
    /// Adds others.
    pub fn add(&mut self, other: Misses) {
        self.to_l2 += other.to_l2;
        self.to_memory += other.to_memory;
        self.transfers += other.transfers;
    }
}

/// An instruction that ran.
#[derive(Clone, Copy, Default, Debug)]
pub struct Executed {
    /// The word.
    pub word: u32,
    /// How often.
    pub executions: u64,
    /// What it missed, where the plugin simulates caches.
    pub misses: Misses,
}

/// The instructions of one inference, by address.
pub type Trace = BTreeMap<u64, Executed>;

/// The plugin, compiled once. `None`, after a visible line, without a C compiler.
fn plugin() -> Option<PathBuf> {
    static BUILT: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
        let library = python::generated("executed").join("executed.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("c/executed.c");
        let mut compiler = Command::new("cc");
        let built = compiler.args(["-O2", "-shared", "-fPIC", "-w"]).arg(source).arg("-o").arg(&library).status();
        built.is_ok_and(|status| status.success()).then_some(library)
    });
    if BUILT.is_none() {
        skipped("the counting plugin needs a C compiler");
    }
    BUILT.clone()
}

/// The programs that measure.
#[derive(Debug)]
pub struct Bench {
    /// The plugin.
    pub plugin: PathBuf,
    line: PathBuf,
}

impl Bench {
    /// Builds them. `None`, after a visible line, where that cannot be.
    pub fn new() -> Option<Bench> {
        let line = cross::line_program()?;
        Some(Bench { plugin: plugin()?, line })
    }

    /// What a run of an artifact with one input and one output executes, behind a first one, and the output.
    pub fn count(&self, processor: &str, compiled: &Compiled, input: &[u8], shape: &[usize]) -> (Trace, Vec<u8>) {
        self.trace(&self.plugin, "1\n", processor, compiled, input, shape)
    }

    /// The same with what simulated caches do, which a run before has filled; `plugin` carries their sizes.
    pub fn simulate(
        &self,
        plugin: &Path,
        processor: &str,
        compiled: &Compiled,
        input: &[u8],
        shape: &[usize],
    ) -> (Trace, Vec<u8>) {
        self.trace(plugin, "1\n1\n", processor, compiled, input, shape)
    }

    /// What the last of the runs that `lines` ask for executes. Names and variables, which lie at the end of the stack, are the
    /// same everywhere, so that addresses are, and with them what a simulated cache misses.
    fn trace(
        &self,
        plugin: &Path,
        lines: &str,
        processor: &str,
        compiled: &Compiled,
        input: &[u8],
        shape: &[usize],
    ) -> (Trace, Vec<u8>) {
        let folder = python::generated(&format!("executed/{:?}", std::thread::current().id()));
        std::fs::write(folder.join("model"), compiled.to_bytes().expect("an artifact"))
            .expect("the artifact is written");
        std::fs::write(folder.join("input"), input).expect("the input is written");
        std::fs::copy(&self.line, folder.join("line")).expect("the program is copied");
        let shape: Vec<String> = shape.iter().map(|extent| extent.to_string()).collect();
        let mut running = cross::emulator(processor)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(&folder)
            .args(["-U", "PATH", "-seed", "1", "-d", "plugin", "-D", "counts", "-plugin"])
            .arg(plugin)
            .args(["./line", "model", "input", "output", &shape.join("x"), "1"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("the emulator starts");
        running.stdin.take().expect("a pipe").write_all(lines.as_bytes()).expect("runs");
        assert!(running.wait().expect("it ends").success(), "{}", folder.display());
        let read = |name: &str| std::fs::read(folder.join(name)).expect("what a run leaves");
        (parse(&String::from_utf8_lossy(&read("counts"))), read("output"))
    }
}

/// Reads what the plugin writes.
pub fn parse(text: &str) -> Trace {
    let mut trace = Trace::new();
    for line in text.lines() {
        let mut fields = line.split(' ');
        let mut hexadecimal = || fields.next().and_then(|field| u64::from_str_radix(field, 16).ok());
        let (Some(address), Some(word)) = (hexadecimal(), hexadecimal()) else { continue };
        let mut decimal = || fields.next().and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let ran: &mut Executed = trace.entry(address).or_default();
        ran.word = word as u32;
        ran.executions += decimal();
        ran.misses.add(Misses { to_l2: decimal(), to_memory: decimal(), transfers: decimal() });
    }
    trace
}

/// All instructions.
pub fn total(trace: &Trace) -> Counts {
    let mut counts = Counts::default();
    trace.values().for_each(|executed| counts.add(executed.word, executed.executions));
    counts
}

/// Where a program's code lies in the traced process: the page-aligned address at which its words are those that ran.
pub fn code_address(trace: &Trace, code: &[u8], kernels: &[PlacedKernel]) -> Option<u64> {
    let word = |offset: usize| code[offset..offset + 4].try_into().map(u32::from_le_bytes).ok();
    let agrees = |base: u64| {
        let called = kernels
            .iter()
            .filter_map(|kernel| Some((trace.get(&(base + kernel.offset as u64))?.word, word(kernel.offset)?)));
        called.filter(|(ran, emitted)| ran == emitted).count() * 2 > kernels.len()
    };
    let first = word(kernels.first()?.offset)?;
    let candidates = trace.iter().filter(|(_, executed)| executed.word == first);
    let bases = candidates.filter_map(|(&address, _)| address.checked_sub(kernels.first()?.offset as u64));
    bases.filter(|base| base % 4096 == 0).find(|&base| agrees(base))
}

/// Executions by class of each kernel.
pub fn by_kernel(trace: &Trace, code: &[u8], kernels: &[PlacedKernel]) -> Option<Vec<Counts>> {
    let base = code_address(trace, code, kernels)?;
    let counts = kernels.iter().map(|kernel| {
        let begin = base + kernel.offset as u64;
        let mut counts = Counts::default();
        trace.range(begin..begin + kernel.length as u64).for_each(|(_, ran)| counts.add(ran.word, ran.executions));
        counts
    });
    Some(counts.collect())
}
