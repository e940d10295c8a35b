//! The `tfcache` command: `tf cache` under a name of its own.

use std::process::ExitCode;

use tfnz::cli::{self, Program};

fn main() -> ExitCode {
    tfnz::init_if_asked();
    cli::main(Program::Tfcache)
}
