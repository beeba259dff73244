//! Modelled cycles of one inference, from the instructions that the counting plugin saw and what its caches missed:
//!
//! `sum(cycles of a block x executions) + loads that miss x latency + lines moved while nothing waits x transfer`
//!
//! A block is adjacent instructions that run equally often. Its cycles are those of llvm-mca where it follows itself; the
//! blocks that run least, together at most 2 % of all instructions, get the others' cycles per instruction. Nothing
//! overlaps: neither misses with each other nor transfers with arithmetic. Left out are mispredicted branches, address
//! translation and instruction fetch.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::executed::{Executed, Misses, Trace};
use crate::report::skipped;

/// A core in a system.
#[derive(Debug)]
pub struct Core {
    /// The core.
    pub name: &'static str,
    /// The processor that the emulator knows and that runs the same code.
    pub emulated: &'static str,
    /// The model of llvm-mca that schedules its instructions.
    pub scheduling: &'static str,
    /// Cycles per microsecond.
    pub megahertz: u64,
    /// Bytes and ways of the first two caches for data.
    pub caches: [(u64, u64); 2],
    /// Lines or steps that the prefetcher runs ahead.
    pub ahead: u64,
    /// What a load that hits the second cache takes longer than one that hits the first, in cycles.
    pub l2_latency: u64,
    /// The same for a load from memory.
    pub memory_latency: u64,
    /// Cycles in which memory delivers a line of 64 bytes to this core.
    pub transfer: u64,
}

/// Cores whose systems others have published times for.
///
/// Caches: Arm's technical reference manuals of Cortex-A72 and Cortex-A76, with the sizes of BCM2711 and BCM2712. Latency of
/// the second cache: 9 cycles on Cortex-A76 less 4 of the first (WikiChip), 21 less 4 on Cortex-A72 (pointer chases on
/// BCM2711). Memory: about 150 ns and 4 GB/s for one core of a Raspberry Pi 4 (LPDDR4-3200), 110 ns and 10 GB/s for one of
/// a Raspberry Pi 5 (LPDDR4X-4267), rounded from what lmbench and tinymembench show there. For the Cortex-X4 of a
/// Dimensity 9300 what follows its second cache is a third of 8 MB, 50 GB/s and 20 ns are a guess. llvm-mca schedules
/// Cortex-A72 as its predecessor Cortex-A57, Cortex-A76 as Neoverse N1, which is the same core, and Cortex-X4 here as
/// Neoverse V2, which also has four vector units of 128 bits. For Cortex-A55 nobody's times were compared: caches are those of
/// RK3588, latencies and 6 GB/s for one core a guess; its prefetcher is told by the technical reference manual, not how far it runs.
pub const CORES: [Core; 4] = [
    Core {
        name: "cortex-a55",
        emulated: "cortex-a76",
        scheduling: "cortex-a55",
        megahertz: 1800,
        caches: [(32 << 10, 4), (128 << 10, 4)],
        ahead: 4,
        l2_latency: 8,
        memory_latency: 230,
        transfer: 19,
    },
    Core {
        name: "cortex-a72",
        emulated: "cortex-a72",
        scheduling: "cortex-a72",
        megahertz: 1500,
        caches: [(32 << 10, 2), (1 << 20, 16)],
        ahead: 4,
        l2_latency: 17,
        memory_latency: 225,
        transfer: 24,
    },
    Core {
        name: "cortex-a76",
        emulated: "cortex-a76",
        scheduling: "neoverse-n1",
        megahertz: 2400,
        caches: [(64 << 10, 4), (512 << 10, 8)],
        ahead: 4,
        l2_latency: 5,
        memory_latency: 264,
        transfer: 15,
    },
    Core {
        name: "cortex-x4",
        emulated: "cortex-a76",
        scheduling: "neoverse-v2",
        megahertz: 3250,
        caches: [(64 << 10, 4), (1 << 20, 8)],
        ahead: 8,
        l2_latency: 10,
        memory_latency: 65,
        transfer: 4,
    },
];

impl Core {
    /// The core of this name.
    pub fn named(name: &str) -> Option<&'static Core> {
        CORES.iter().find(|core| core.name == name)
    }

    /// The counting plugin with this core's caches, as the emulator takes it.
    pub fn plugin(&self, plugin: &Path) -> PathBuf {
        let [l1, l2] = self.caches.map(|(bytes, ways)| format!("{bytes}:{ways}"));
        PathBuf::from(format!("{},l1={l1},l2={l2},ahead={}", plugin.display(), self.ahead))
    }
}

const MCA: &str = "llvm-mca-19";
const DISASSEMBLER: &str = "llvm-mc-19";
const ITERATIONS: u64 = 100;
/// The part of all instructions that llvm-mca sees.
const HOT: f64 = 0.98;

/// Whether llvm's tools are there; says so if not.
pub fn has_tools() -> bool {
    let starts = |tool: &&str| Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    let found = [MCA, DISASSEMBLER].iter().all(starts);
    if !found {
        skipped(&format!("modelled cycles need {MCA} and {DISASSEMBLER} (tests/setup/setup.sh)"));
    }
    found
}

/// Adjacent instructions that run equally often.
#[derive(Debug)]
pub struct Block {
    /// The address of the first.
    pub address: u64,
    pub(crate) words: Vec<u32>,
    pub(crate) executions: u64,
    misses: Misses,
    /// Cycles of one execution with all data in the first cache.
    cycles: f64,
}

impl Block {
    fn instructions(&self) -> u64 {
        self.words.len() as u64 * self.executions
    }
}

/// What an inference, or a part of it, costs.
#[derive(Clone, Copy, Default, Debug)]
pub struct Cost {
    /// Executed instructions.
    pub instructions: u64,
    /// What the caches missed.
    pub misses: Misses,
    /// Cycles of the blocks, with all data in the first cache.
    pub blocks: f64,
}

impl Cost {
    /// Cycles that loads wait.
    pub fn waits(&self, core: &Core) -> f64 {
        (self.misses.to_l2 * core.l2_latency + self.misses.to_memory * (core.memory_latency + core.transfer)) as f64
    }

    /// Cycles that memory moves lines for which nothing waits.
    pub fn transfers(&self, core: &Core) -> f64 {
        (self.misses.transfers * core.transfer) as f64
    }

    /// All cycles.
    pub fn cycles(&self, core: &Core) -> f64 {
        self.blocks + self.waits(core) + self.transfers(core)
    }
}

/// The blocks of a trace by address, with their cycles on a core.
pub fn model(trace: &Trace, core: &Core) -> Vec<Block> {
    let mut blocks = blocks(trace);
    let hot = hot(&blocks);
    let words: Vec<&[u32]> = hot.iter().map(|&place| blocks[place].words.as_slice()).collect();
    let cycles = schedule(&words, core.scheduling);
    let (mut all, mut instructions) = (0.0, 0);
    for (&place, &cycles) in hot.iter().zip(&cycles) {
        blocks[place].cycles = cycles;
        all += cycles * blocks[place].executions as f64;
        instructions += blocks[place].instructions();
    }
    let average = all / instructions.max(1) as f64;
    for block in blocks.iter_mut().filter(|block| block.cycles == 0.0) {
        block.cycles = average * block.words.len() as f64;
    }
    blocks
}

/// The cost of the blocks that begin at these addresses.
pub fn cost(blocks: &[Block], addresses: Range<u64>) -> Cost {
    let mut cost = Cost::default();
    for block in blocks.iter().filter(|block| addresses.contains(&block.address)) {
        cost.instructions += block.instructions();
        cost.misses.add(block.misses);
        cost.blocks += block.cycles * block.executions as f64;
    }
    cost
}

/// The blocks of a trace by address, without their cycles.
pub(crate) fn blocks(trace: &Trace) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (&address, &Executed { word, executions, misses }) in trace {
        let follows = |block: &&mut Block| {
            block.address + 4 * block.words.len() as u64 == address && block.executions == executions
        };
        if let Some(block) = blocks.last_mut().filter(follows) {
            block.words.push(word);
            block.misses.add(misses);
        } else {
            blocks.push(Block { address, words: vec![word], executions, misses, cycles: 0.0 });
        }
    }
    blocks
}

/// The places of the blocks that run most.
fn hot(blocks: &[Block]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..blocks.len()).collect();
    places.sort_by_key(|&place| std::cmp::Reverse(blocks[place].instructions()));
    let all: u64 = blocks.iter().map(Block::instructions).sum();
    let mut covered = 0;
    let is_hot = |place: &usize| {
        let needed = (covered as f64) < HOT * all as f64;
        covered += blocks[*place].instructions();
        needed
    };
    places.into_iter().take_while(is_hot).collect()
}

/// Cycles of one execution of each block where it follows itself, by the model of llvm-mca for a processor.
pub(crate) fn schedule(blocks: &[&[u32]], scheduling: &str) -> Vec<f64> {
    let mut lines = disassemble(blocks.iter().copied().flatten()).into_iter();
    let mut text = String::new();
    for (number, words) in blocks.iter().enumerate() {
        let body: Vec<String> = lines.by_ref().take(words.len()).collect();
        text.push_str(&format!("# LLVM-MCA-BEGIN {number}\n{}\n# LLVM-MCA-END {number}\n", body.join("\n")));
    }
    let (processor, iterations) = (format!("-mcpu={scheduling}"), format!("-iterations={ITERATIONS}"));
    let quiet = ["-resource-pressure=false", "-instruction-info=false", "-skip-unsupported-instructions=any"];
    let report = filter(Command::new(MCA).args(["-march=aarch64", &processor, &iterations]).args(quiet), &text);
    let totals = report.lines().filter_map(|line| line.strip_prefix("Total Cycles:"));
    let cycles = totals.map(|total| total.trim().parse::<u64>().expect("cycles") as f64 / ITERATIONS as f64);
    let cycles: Vec<f64> = cycles.collect();
    assert_eq!(cycles.len(), blocks.len(), "{MCA} reports other blocks than it was given");
    cycles
}

/// A line of assembly for each word.
fn disassemble<'a>(words: impl Iterator<Item = &'a u32>) -> Vec<String> {
    let bytes = |word: &u32| word.to_le_bytes().map(|byte| format!("{byte:#04x}")).join(" ");
    let words: Vec<String> = words.map(bytes).collect();
    let mut command = Command::new(DISASSEMBLER);
    let text = filter(command.args(["--disassemble", "-triple=aarch64", "-mattr=+all"]), &words.join("\n"));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('.'));
    let lines: Vec<String> = lines.map(String::from).collect();
    assert_eq!(lines.len(), words.len(), "{DISASSEMBLER} does not know every instruction");
    lines
}

/// What a program writes for this input.
fn filter(command: &mut Command, input: &str) -> String {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = pipes.spawn().expect("a tool of llvm starts");
    let mut stdin = running.stdin.take().expect("a pipe");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        let output = running.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{command:?}", command = output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    })
}
