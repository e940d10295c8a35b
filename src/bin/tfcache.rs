//! The `tfcache` command: `tf cache` under a name of its own.

use std::process::ExitCode;

use tfnz::cli::{Program, main as run};

fn main() -> ExitCode {
    run(Program::Tfcache)
}
