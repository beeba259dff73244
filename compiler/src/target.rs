//! Names of targets: architectures, Rust triples and processors.

use edgecc_backends::cpu::isa::Architecture;
use edgecc_backends::cpu::object::{ApplePlatform, System};

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

/// A name that is none of [`TARGETS`] or [`SHADERS`].
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
    fn counts_edits() {
        assert_eq!([distance("", "abc"), distance("kitten", "sitting"), distance("same", "same")], [3, 3, 0]);
    }
}
