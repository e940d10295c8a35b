//! What `tf` costs, side by side with what one would use in its place: `cargo bench --bench table`.
//!
//! ```text
//! rows ─▶ contest ─▶ report        what is measured, how, and how it is shown
//!  │
//!  ├─ tf, remote, embedded         `tf` as a program, its location as another one, and both as a library
//!  ├─ docker, registry, runc, ssh  its peers, each private to this run
//!  └─ wire, netns                  a long line, and the machines at its ends
//! ```
//!
//! Nothing here passes or fails. Times say little on a machine that others use, so each is shown beside a peer's that was
//! measured in the same run, in turns. A peer that the machine lacks is a line that says so.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is the result, and what is being measured is said meanwhile"
)]

mod archive;
mod args;
mod bench;
mod contest;
mod delay;
mod docker;
mod embedded;
mod far_end;
mod guarded;
mod http;
mod leftovers;
mod machine;
mod memory;
mod netns;
mod patience;
mod ports;
mod registry;
mod remote;
mod report;
mod rootfs;
mod rows;
mod runc;
mod sample;
mod ssh;
mod sys;
mod tf;
mod wire;

use std::io::IsTerminal as _;

use clap::Parser as _;

use crate::args::Args;
use crate::bench::Bench;

fn main() -> anyhow::Result<()> {
    tfnz::init_if_asked();
    far_end::serve_if_asked();

    let args = Args::parse();
    if args.list {
        for row in rows::ALL {
            println!("{:8} {}", row.name, row.what);
        }
        return Ok(());
    }
    let chosen = rows::choose(&args.rows)?;
    let bench = Bench::new(&args)?;
    println!("{}", machine::describe());
    println!("{}", report::header());
    for row in chosen {
        if std::io::stderr().is_terminal() {
            eprintln!("measuring {} …", row.name);
        }
        for section in row.run(&bench) {
            println!("\n{section}");
        }
    }
    println!("\n{}", machine::load());
    Ok(())
}
