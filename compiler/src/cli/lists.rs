//! `edgecc ops` and `edgecc targets`.

use std::collections::BTreeMap;

use edgecc_backends::cpu::object::System;

use super::options::OpsArguments;
use super::{CliError, CliResult, print};
use crate::compile::CompileError;
use crate::onnx;
use crate::target::{SHADERS, TARGETS};

/// Lists the operators that are read, or those of a model with their counts.
pub fn operators(arguments: &OpsArguments) -> CliResult {
    let supported = onnx::supported_operators();
    let Some(path) = &arguments.model else {
        let row = |operator: onnx::Operator| format!("{:<28} since opset {}\n", operator.name, operator.since);
        return print(&supported.into_iter().map(row).collect::<String>());
    };
    let model = onnx::read(path).map_err(CompileError::from)?;
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for name in onnx::operators(&model) {
        *counts.entry(name).or_default() += 1;
    }
    let (mut text, mut missing) = (String::new(), 0);
    for (name, count) in &counts {
        let known = supported.iter().any(|operator| operator.name == name);
        missing += usize::from(!known);
        text.push_str(&format!("{name:<28} {count:>5}{}\n", if known { "" } else { "  not supported" }));
    }
    print(&text)?;
    match missing {
        0 => Ok(()),
        _ => Err(CliError::Check(format!("{missing} of {} operators are not supported", counts.len()))),
    }
}

/// Lists the names that `--target` takes.
pub fn targets() -> CliResult {
    let mut text = format!("{:<28} this machine\n", "host");
    for target in TARGETS {
        let objects = match target.system {
            System::Elf => "ELF objects",
            System::MachO(_) => "Mach-O objects",
        };
        text.push_str(&format!("{:<28} {} code, {objects}\n", target.name, target.architecture.name()));
    }
    text.push_str(&format!("{SHADERS:<28} compute shaders, for GPUs\n"));
    print(&text)
}
