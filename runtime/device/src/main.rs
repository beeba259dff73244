//! `edgecc-device`: runs, times, compares and profiles artifacts on a device. One file, nothing beside it.

mod arguments;
mod commands;

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use arguments::HELP;
use commands::{DeviceError, execute};

/// The exit code of our own bugs.
const BUG: i32 = 70;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // Not `eprintln`, which panics where standard error cannot be written to.
        let _ = writeln!(std::io::stderr(), "bug: {panic}; please report it with the artifact and the command");
        std::process::exit(BUG)
    }));
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
