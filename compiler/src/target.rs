//! Names of targets: architectures, Rust triples and processors.

use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::cpu::object::{ApplePlatform, System};
use edgecc_backends::schedule::cores::{CLASSES, CoreClass, GENERIC};
use edgecc_backends::schedule::gpu::{self, GpuClass};

/// What to emit for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// The name it was asked for by.
    pub name: &'static str,
    /// The instruction set.
    pub architecture: Architecture,
    /// The system of object files; an artifact runs on any.
    pub system: System,
}

/// The name of the target that is no processor: compute shaders for GPUs.
pub const SHADERS: &str = "wgsl";

/// The names of processors that `--target` takes.
pub const TARGETS: [Target; 9] = [
    Target { name: "aarch64", architecture: Architecture::Aarch64, system: System::Elf },
    Target { name: "x86_64", architecture: Architecture::X86_64, system: System::Elf },
    Target { name: "aarch64-unknown-linux-gnu", architecture: Architecture::Aarch64, system: System::Elf },
    Target { name: "aarch64-linux-android", architecture: Architecture::Aarch64, system: System::Elf },
    Target {
        name: "aarch64-apple-ios",
        architecture: Architecture::Aarch64,
        system: System::MachO(ApplePlatform::Ios),
    },
    Target {
        name: "aarch64-apple-ios-sim",
        architecture: Architecture::Aarch64,
        system: System::MachO(ApplePlatform::IosSimulator),
    },
    Target {
        name: "aarch64-apple-darwin",
        architecture: Architecture::Aarch64,
        system: System::MachO(ApplePlatform::MacOs),
    },
    Target { name: "x86_64-unknown-linux-gnu", architecture: Architecture::X86_64, system: System::Elf },
    Target { name: "x86_64-linux-android", architecture: Architecture::X86_64, system: System::Elf },
];

/// A name that is none of [`TARGETS`] or [`SHADERS`], or no processor's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Nobody knows it.
    #[error("unknown target `{name}`; did you mean `{nearest}`? `edgecc targets` lists them all")]
    Unknown {
        /// The name given.
        name: String,
        /// The known name most like it.
        nearest: &'static str,
    },
    /// Nobody knows the processor.
    #[error("unknown processor `{name}`; did you mean `{nearest}`? known are host, {}", CLASSES.map(|class| class.name).join(", "))]
    Processor {
        /// The name given.
        name: String,
        /// The known name most like it.
        nearest: &'static str,
    },
    /// Nobody knows the kind of GPU.
    #[error("unknown kind of GPU `{name}`; did you mean `{nearest}`? known are {}", gpu::CLASSES.map(|class| class.name).join(", "))]
    Gpu {
        /// The name given.
        name: String,
        /// The known name most like it.
        nearest: &'static str,
    },
    /// This machine is none that code is emitted for.
    #[error("`host` is no target here: code is emitted for aarch64 and x86_64")]
    Host,
}

/// The processor of a name; `host` is this machine.
pub fn target(name: &str) -> Result<Target, TargetError> {
    if name == "host" {
        let host = Architecture::host().ok_or(TargetError::Host)?;
        return TARGETS.into_iter().find(|target| target.architecture == host).ok_or(TargetError::Host);
    }
    let names = || TARGETS.iter().map(|target| target.name).chain([SHADERS]);
    let nearest = || names().min_by_key(|known| distance(known, name)).unwrap_or("");
    TARGETS
        .into_iter()
        .find(|target| target.name == name)
        .ok_or_else(|| TargetError::Unknown { name: name.into(), nearest: nearest() })
}

/// The class of a processor's core; `host` is the fastest core of this machine, where Linux tells which that is.
pub fn processor(name: &str) -> Result<&'static CoreClass, TargetError> {
    if name == "host" {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        return Ok(fastest(&text).unwrap_or(&GENERIC));
    }
    let short = |class: &CoreClass| class.name.split_once('-').map_or(class.name, |(_, short)| short);
    let away = |class: &&CoreClass| distance(class.name, name).min(distance(short(class), name));
    let nearest = || CLASSES.iter().min_by_key(away).map_or("", |class| class.name);
    CoreClass::named(name).ok_or_else(|| TargetError::Processor { name: name.into(), nearest: nearest() })
}

/// The kind of a GPU.
pub fn gpu_class(name: &str) -> Result<&'static GpuClass, TargetError> {
    let nearest = || gpu::CLASSES.iter().min_by_key(|class| distance(class.name, name)).map_or("", |class| class.name);
    GpuClass::named(name).ok_or_else(|| TargetError::Gpu { name: name.into(), nearest: nearest() })
}

/// The core with the most multiply-adds of those that Linux lists, by Arm's part numbers.
fn fastest(cpuinfo: &str) -> Option<&'static CoreClass> {
    let class = |line: &str| {
        let part = line.strip_prefix("CPU part")?.trim_start_matches([' ', '\t', ':']);
        CoreClass::named(match part.trim() {
            "0xd03" => "cortex-a53",
            "0xd05" => "cortex-a55",
            "0xd46" => "cortex-a510",
            "0xd08" => "cortex-a72",
            "0xd0b" => "cortex-a76",
            "0xd41" => "cortex-a78",
            "0xd44" => "cortex-x1",
            "0xd4e" => "cortex-x3",
            "0xd0c" => "neoverse-n1",
            "0xd49" => "neoverse-n2",
            _ => return None,
        })
    };
    let speed = |class: &CoreClass| class.multiply_adds * class.width;
    cpuinfo.lines().filter_map(class).max_by(|a, b| speed(a).total_cmp(&speed(b)))
}

/// Insertions, deletions and replacements that turn one word into the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, other) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(letter != *other);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_a_near_miss() {
        let error = target("arch64").unwrap_err();
        assert_eq!(error, TargetError::Unknown { name: "arch64".into(), nearest: "aarch64" });
    }

    #[test]
    fn names_the_nearest_processor() {
        let nearest = |name| match processor(name) {
            Err(TargetError::Processor { nearest, .. }) => nearest,
            other => panic!("{other:?}"),
        };
        assert_eq!(["cortexa76", "a556", "apple-m2"].map(nearest), ["cortex-a76", "cortex-a55", "apple-m1"]);
    }

    #[test]
    fn the_fastest_listed_core_is_the_host() {
        let listed = |parts: &[&str]| parts.iter().map(|part| format!("CPU part\t: {part}\n\n")).collect::<String>();
        let name = |parts| fastest(&listed(parts)).map(|class| class.name);
        assert_eq!(name(&["0xd05", "0xd44", "0xd41"]), Some("cortex-x1"));
        assert_eq!(name(&["0xfff"]), None);
    }

    #[test]
    fn counts_edits() {
        assert_eq!([distance("", "abc"), distance("kitten", "sitting"), distance("same", "same")], [3, 3, 0]);
    }
}
