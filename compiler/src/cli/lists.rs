//! `edgecc ops` and `edgecc targets`.

use std::collections::BTreeMap;

use super::options::OpsArguments;
use super::{CliError, CliResult};
use crate::compile::CompileError;
use crate::onnx;
use crate::target::{System, TARGETS};

/// Lists the operators that are read, or those of a model with their counts.
pub fn operators(arguments: &OpsArguments) -> CliResult {
    let supported = onnx::supported_operators();
    let Some(path) = &arguments.model else {
        for operator in supported {
            println!("{:<28} since opset {}", operator.name, operator.since);
        }
        return Ok(());
    };
    let model = onnx::read(path).map_err(CompileError::from)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in onnx::operators(&model) {
        *counts.entry(name).or_default() += 1;
    }
    let mut missing = 0;
    for (name, count) in &counts {
        let known = supported.iter().any(|operator| operator.name == name);
        missing += usize::from(!known);
        println!("{name:<28} {count:>5}{}", if known { "" } else { "  not supported" });
    }
    match missing {
        0 => Ok(()),
        _ => Err(CliError::Check(format!("{missing} of {} operators are not supported", counts.len()))),
    }
}

/// Lists the names that `--target` takes.
pub fn targets() -> CliResult {
    println!("{:<28} this machine", "host");
    for target in TARGETS {
        let objects = match target.system {
            System::Elf => "ELF objects",
            System::MachO { .. } => "Mach-O objects",
        };
        println!("{:<28} {} code, {objects}", target.name, target.architecture.name());
    }
    Ok(())
}
