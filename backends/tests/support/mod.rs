//! Runs emitted kernels on guarded buffers: here, and on an emulated aarch64.

#![allow(dead_code)]

pub mod data;
pub mod integers;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use edgecc_backends::contraction::Element;
use edgecc_backends::cpu::isa::{Architecture, Core, CpuTarget, Halves, Integers, Vectors};
use half::f16;

/// Bytes on either side of an operand that no kernel may write. As f32 they are NaN, so that reading them shows.
const GUARD: usize = 256;
const CANARY: u8 = 0xff;

/// An operand between guards.
#[derive(Clone, PartialEq)]
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
}

impl Buffer {
    pub fn new(content: &[u8]) -> Self {
        let mut bytes = vec![CANARY; GUARD];
        bytes.extend(content);
        bytes.extend([CANARY; GUARD]);
        Buffer { bytes, length: content.len() }
    }

    pub fn of_floats(values: &[f32]) -> Self {
        Buffer::new(&values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>())
    }

    /// Numbers as elements.
    pub fn of_elements(element: Element, values: &[f32]) -> Self {
        match element {
            Element::F32 => Buffer::of_floats(values),
            Element::F16 => {
                Buffer::new(&values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect::<Vec<u8>>())
            }
            Element::I8 => Buffer::new(&values.iter().map(|&value| value as i8 as u8).collect::<Vec<u8>>()),
        }
    }

    /// `count` floats that are NaN until written.
    pub fn unwritten(count: usize) -> Self {
        Buffer::unwritten_elements(Element::F32, count)
    }

    /// `count` elements that are NaN until written.
    pub fn unwritten_elements(element: Element, count: usize) -> Self {
        Buffer::new(&vec![CANARY; count * element.bytes() as usize])
    }

    pub fn content(&self) -> &[u8] {
        &self.bytes[GUARD..GUARD + self.length]
    }

    pub fn floats(&self) -> Vec<f32> {
        self.content().chunks_exact(4).map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
    }

    pub fn elements(&self, element: Element) -> Vec<f32> {
        match element {
            Element::F32 => self.floats(),
            Element::F16 => {
                let halves = self.content().chunks_exact(2);
                halves.map(|half| f16::from_le_bytes([half[0], half[1]]).to_f32()).collect()
            }
            Element::I8 => self.content().iter().map(|&byte| f32::from(byte as i8)).collect(),
        }
    }

    pub fn assert_guards(&self, what: &str) {
        let (before, after) = (&self.bytes[..GUARD], &self.bytes[GUARD + self.length..]);
        assert!(before.iter().chain(after).all(|&byte| byte == CANARY), "{what}: written outside of the operand");
    }
}

impl Machine {
    /// What kernels for the machine are emitted for. Of the emulated ones the maximal computes with halves.
    pub fn target(self) -> CpuTarget {
        let (halves, vectors) = match self {
            Machine::Host | Machine::CortexA72 => (Halves::Widened, Vectors::Baseline),
            Machine::WideHost => (Halves::Widened, Vectors::Avx512),
            Machine::SummingHost => (Halves::Widened, Vectors::Avx512Vnni),
            Machine::MaximalAarch64 | Machine::InOrderAarch64 => (Halves::Native, Vectors::Baseline),
        };
        let integers = match self {
            Machine::MaximalAarch64 | Machine::InOrderAarch64 => Integers::Matrix,
            Machine::Host | Machine::WideHost | Machine::SummingHost | Machine::CortexA72 => Integers::Plain,
        };
        let core = if self == Machine::InOrderAarch64 { Core::InOrder } else { Core::OutOfOrder };
        let target = CpuTarget::new(self.architecture()).expect("a target");
        target.with_halves(halves).with_integers(integers).with_vectors(vectors).with_core(core)
    }

    /// The machine's instructions.
    pub fn architecture(self) -> Architecture {
        match self {
            Machine::Host => Architecture::host().expect("a host that code is emitted for"),
            Machine::WideHost | Machine::SummingHost => Architecture::X86_64,
            Machine::CortexA72 | Machine::MaximalAarch64 | Machine::InOrderAarch64 => Architecture::Aarch64,
        }
    }
}

/// Where kernels run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    Host,
    /// This machine with AVX-512, where it has that.
    WideHost,
    /// The same with sums of products of bytes.
    SummingHost,
    CortexA72,
    MaximalAarch64,
    /// The same, with instructions in the order of a core that issues in order.
    InOrderAarch64,
}

/// Runs the range once per neighbouring pair of `cuts`. `None`, after a visible line, where the emulator is missing.
pub fn run(machine: Machine, code: &[u8], buffers: &[Buffer], cuts: &[u32]) -> Option<Vec<Buffer>> {
    let result = match machine {
        Machine::WideHost | Machine::SummingHost if !has_wide_vectors(machine) => return None,
        Machine::Host | Machine::WideHost | Machine::SummingHost => run_here(code, buffers, cuts),
        Machine::CortexA72 => run_emulated("cortex-a72", code, buffers, cuts)?,
        Machine::MaximalAarch64 | Machine::InOrderAarch64 => run_emulated("max", code, buffers, cuts)?,
    };
    for (index, buffer) in result.iter().enumerate() {
        buffer.assert_guards(&format!("operand {index} on {machine:?}"));
    }
    Some(result)
}

/// Whether this machine has AVX-512; says so once where it has not.
fn has_wide_vectors(machine: Machine) -> bool {
    static SAID: std::sync::Once = std::sync::Once::new();
    #[cfg(target_arch = "x86_64")]
    let has = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && (machine == Machine::WideHost
            || is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vnni"));
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    if !has {
        SAID.call_once(|| {
            drop(writeln!(std::io::stderr(), "skipped: kernels for {machine:?}, whose AVX-512 this machine lacks"))
        });
    }
    has
}

#[allow(unsafe_code)]
fn run_here(code: &[u8], buffers: &[Buffer], cuts: &[u32]) -> Vec<Buffer> {
    type Kernel = unsafe extern "C" fn(*const *mut u8, *const u32, u32, u32, u32);
    let mut memory = memmap2::MmapMut::map_anon(code.len()).expect("memory for code");
    memory.copy_from_slice(code);
    let memory = memory.make_exec().expect("executable memory");
    let mut buffers = buffers.to_vec();
    let bases: Vec<*mut u8> = buffers.iter_mut().map(|buffer| buffer.bytes[GUARD..].as_mut_ptr()).collect();
    let args = [0u32; 16];
    for (worker, range) in cuts.windows(2).enumerate() {
        // SAFETY: the code is a kernel for this CPU that was emitted with this signature; the operands outlive the call.
        unsafe {
            let kernel: Kernel = std::mem::transmute(memory.as_ptr());
            kernel(bases.as_ptr(), args.as_ptr(), range[0], range[1], worker as u32);
        }
    }
    buffers
}

fn run_emulated(cpu: &str, code: &[u8], buffers: &[Buffer], cuts: &[u32]) -> Option<Vec<Buffer>> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let driver = driver()?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let case = driver.with_extension(format!("{number}.case"));
    let result = driver.with_extension(format!("{number}.result"));
    std::fs::write(&case, encode(code, buffers, cuts)).expect("the case is written");
    let status = Command::new("qemu-aarch64").args(["-cpu", cpu]).arg(driver).args([&case, &result]).status();
    assert!(status.expect("the emulator starts").success(), "the kernel failed on {cpu}");
    let bytes = std::fs::read(&result).expect("the result is read");
    let _ = (std::fs::remove_file(case), std::fs::remove_file(result));
    Some(decode(&bytes, buffers))
}

/// Instructions that a call for all units of a range executes on the maximal emulated processor. `None`, after a visible line,
/// where the emulator is missing.
pub fn executed(code: &[u8], buffers: &[Buffer], units: u32) -> Option<u64> {
    let driver = driver()?;
    let plugin = driver.with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/count.c");
    let built = Command::new("cc").args(["-O2", "-shared", "-fPIC", "-o"]).arg(&plugin).arg(source).status();
    assert!(built.expect("a compiler of C").success(), "the plugin does not compile");
    let (case, result, log) =
        (driver.with_extension("case"), driver.with_extension("result"), driver.with_extension("log"));
    let count = |end: u32| {
        std::fs::write(&case, encode(code, buffers, &[0, end])).expect("the case is written");
        let status = Command::new("qemu-aarch64")
            .args(["-cpu", "max", "-d", "plugin", "-D"])
            .arg(&log)
            .arg("-plugin")
            .args([&plugin, driver])
            .args([&case, &result])
            .status();
        assert!(status.expect("the emulator starts").success(), "the kernel failed");
        let text = std::fs::read_to_string(&log).expect("the log is read");
        text.trim().parse::<u64>().expect("a number")
    };
    Some(count(units) - count(0))
}

fn encode(code: &[u8], buffers: &[Buffer], cuts: &[u32]) -> Vec<u8> {
    let mut case = Vec::new();
    let numbers = [code.len(), cuts.len(), buffers.len()].into_iter().chain(cuts.iter().map(|&cut| cut as usize));
    case.extend(numbers.flat_map(|number| (number as u64).to_le_bytes()));
    case.extend(code);
    for buffer in buffers {
        case.extend((buffer.bytes.len() as u64).to_le_bytes());
        case.extend((GUARD as u64).to_le_bytes());
        case.extend(&buffer.bytes);
    }
    case
}

fn decode(mut bytes: &[u8], buffers: &[Buffer]) -> Vec<Buffer> {
    let take = |buffer: &Buffer| {
        let (own, rest) = bytes.split_at(buffer.bytes.len());
        bytes = rest;
        Buffer { bytes: own.to_vec(), length: buffer.length }
    };
    buffers.iter().map(take).collect()
}

/// The driver, built once per test process.
fn driver() -> Option<&'static Path> {
    static DRIVER: OnceLock<Option<PathBuf>> = OnceLock::new();
    DRIVER.get_or_init(build_driver).as_deref()
}

fn build_driver() -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/driver.c");
    let driver = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("kernel-driver-{}", std::process::id()));
    let compiler =
        Command::new("aarch64-linux-gnu-gcc").args(["-O1", "-static", "-o"]).arg(&driver).arg(source).status();
    let emulator = Command::new("qemu-aarch64").arg("--version").output();
    if emulator.is_ok() && compiler.is_ok_and(|status| status.success()) {
        return Some(driver);
    }
    // Written past the capture of tests, so that it is seen.
    let _ = writeln!(std::io::stderr(), "skipped: aarch64 kernels, without qemu-aarch64 and aarch64-linux-gnu-gcc");
    None
}
