//! The `edgecc` command.

fn main() -> std::process::ExitCode {
    edgecc::cli::main()
}
