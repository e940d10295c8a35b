//! The `tf` command.

use std::process::ExitCode;

use tfnz::cli::{Program, main as run};

fn main() -> ExitCode {
    run(Program::Tf)
}
