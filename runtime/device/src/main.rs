//! `edgecc-device`: runs, times, compares and profiles artifacts on a device. One file, nothing beside it.

mod arguments;
mod commands;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use arguments::HELP;
use commands::{DeviceError, execute};

fn main() -> ExitCode {
    let outcome = match arguments::parse(lexopt::Parser::from_env()) {
        Ok(Some(command)) => execute(&command),
        Ok(None) => Ok(HELP.into()),
        Err(error) => Err(DeviceError::Usage(error.to_string())),
    };
    match outcome.and_then(|text| print(&text)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let DeviceError::Check { report, .. } = &error {
                // The table is the result even where it is a bad one.
                let _ = print(report);
            }
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// Nobody reads on behind a closed pipe, which is no error.
fn print(text: &str) -> Result<(), DeviceError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(DeviceError::Output(error)),
        _ => Ok(()),
    }
}
