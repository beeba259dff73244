//! What the processor of this process is, and which program suits it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use edgecc_format::{ABI_AAPCS64, ABI_SYSTEM_V, ABI_WINDOWS_X64, Program};

use crate::error::LoadError;
use crate::model::ProgramChoice;

/// The architecture of this process, as programs name it.
pub const ARCHITECTURE: &str = std::env::consts::ARCH;

/// The calling convention of `extern "C"` in this process.
const ABI: &str = if cfg!(target_arch = "aarch64") {
    ABI_AAPCS64
} else if cfg!(windows) {
    ABI_WINDOWS_X64
} else {
    ABI_SYSTEM_V
};

/// Whether the processor has a feature; unknown names count as missing.
#[cfg(target_arch = "aarch64")]
pub fn has_feature(name: &str) -> bool {
    use std::arch::is_aarch64_feature_detected as detected;
    match name {
        "neon" => detected!("neon"),
        "fp16" => detected!("fp16"),
        "fhm" => detected!("fhm"),
        "dotprod" => detected!("dotprod"),
        "i8mm" => detected!("i8mm"),
        "bf16" => detected!("bf16"),
        "lse" => detected!("lse"),
        "sve" => detected!("sve"),
        "sve2" => detected!("sve2"),
        _ => false,
    }
}

/// Whether the processor has a feature; unknown names count as missing.
#[cfg(target_arch = "x86_64")]
pub fn has_feature(name: &str) -> bool {
    use std::arch::is_x86_feature_detected as detected;
    match name {
        "sse3" => detected!("sse3"),
        "ssse3" => detected!("ssse3"),
        "sse4.1" => detected!("sse4.1"),
        "sse4.2" => detected!("sse4.2"),
        "popcnt" => detected!("popcnt"),
        "avx" => detected!("avx"),
        "avx2" => detected!("avx2"),
        "bmi1" => detected!("bmi1"),
        "bmi2" => detected!("bmi2"),
        "lzcnt" => detected!("lzcnt"),
        "fma" => detected!("fma"),
        "f16c" => detected!("f16c"),
        "avx512f" => detected!("avx512f"),
        "avx512bw" => detected!("avx512bw"),
        "avx512dq" => detected!("avx512dq"),
        "avx512vl" => detected!("avx512vl"),
        "avx512vnni" => detected!("avx512vnni"),
        "avxvnni" => detected!("avxvnni"),
        _ => false,
    }
}

/// Whether the processor has a feature: none is known on this architecture.
#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64")))]
pub fn has_feature(_name: &str) -> bool {
    false
}

/// The index of the program to run: of those the processor can run, the one with the highest rank, or the lowest.
pub(crate) fn choose(programs: &[Program], choice: ProgramChoice) -> Result<usize, LoadError> {
    choose_for(ARCHITECTURE, ABI, has_feature, programs, choice)
}

fn choose_for(
    architecture: &'static str,
    abi: &str,
    has_feature: impl Fn(&str) -> bool,
    programs: &[Program],
    choice: ProgramChoice,
) -> Result<usize, LoadError> {
    let native = |program: &Program| program.architecture == architecture && program.abi == abi;
    let runs = |program: &Program| native(program) && program.required_features.iter().all(|name| has_feature(name));
    let running = programs.iter().enumerate().filter(|(_, program)| runs(program));
    let chosen = match choice {
        ProgramChoice::MostAble => running.max_by_key(|(_, program)| program.rank),
        ProgramChoice::LeastAble => running.min_by_key(|(_, program)| program.rank),
    };
    if let Some((index, _)) = chosen {
        return Ok(index);
    }
    let Some(simplest) = programs.iter().filter(|program| native(program)).min_by_key(|program| program.rank) else {
        let found: Vec<String> =
            programs.iter().map(|program| format!("{} ({})", program.architecture, program.abi)).collect();
        return Err(LoadError::Architecture { wanted: architecture, found: found.join(", ") });
    };
    let missing: Vec<&str> =
        simplest.required_features.iter().map(String::as_str).filter(|name| !has_feature(name)).collect();
    Err(LoadError::Features { missing: missing.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(architecture: &str, rank: u32, features: &[&str]) -> Program {
        Program {
            architecture: architecture.into(),
            abi: ABI_AAPCS64.into(),
            rank,
            required_features: features.iter().map(|&name| name.into()).collect(),
            ..Program::default()
        }
    }

    fn choose_on(features: &[&str], programs: &[Program]) -> Result<usize, String> {
        chosen(features, programs, ProgramChoice::MostAble)
    }

    fn chosen(features: &[&str], programs: &[Program], choice: ProgramChoice) -> Result<usize, String> {
        let has_feature = |name: &str| features.contains(&name);
        choose_for("aarch64", ABI_AAPCS64, has_feature, programs, choice).map_err(|error| error.to_string())
    }

    #[test]
    fn the_highest_rank_that_runs_is_chosen() {
        let programs = [
            program("aarch64", 1, &[]),
            program("aarch64", 3, &["dotprod", "i8mm"]),
            program("aarch64", 2, &["dotprod"]),
            program("x86_64", 9, &[]),
        ];
        assert_eq!(choose_on(&[], &programs), Ok(0));
        assert_eq!(choose_on(&["dotprod"], &programs), Ok(2));
        assert_eq!(choose_on(&["i8mm", "dotprod"], &programs), Ok(1));
        assert_eq!(chosen(&["i8mm", "dotprod"], &programs, ProgramChoice::LeastAble), Ok(0));
    }

    #[test]
    fn what_is_missing_is_named() {
        let error = choose_on(&["dotprod"], &[program("aarch64", 1, &["dotprod", "i8mm", "future"])]);
        assert!(error.expect_err("refused").contains("lacks i8mm, future,"));
        let error = choose_on(&[], &[program("x86_64", 1, &[])]);
        assert!(
            error.expect_err("refused").contains("programs for x86_64 (aapcs64), none for this processor, aarch64")
        );
    }
}
