//! The commands `tf` and `tfcache`: from the words of a command line to an exit status.
//!
//! ```text
//! words ─ argv ─▶ all words ─ args ─▶ options ─ cmd::<verb> ─▶ Ending or Failure ─ exit ─▶ exit status
//! ```
//!
//! What the verbs do is done by `sdk`; here it is decided what to do, and said what happens.

mod address;
mod args;
mod argv;
mod bars;
mod bind;
mod browser;
mod cmd;
mod connect;
mod duration;
mod env;
mod exit;
mod failure;
mod files;
mod generate;
mod idle;
mod invited;
mod limits;
mod link_status;
mod output;
mod publish;
mod state_file;
mod streams;
mod table;
mod terminal;
mod timing;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::time::Instant;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use tokio::runtime;

use self::args::{Global, Tf, Tfcache, Verb};
use self::exit::{Ending, Speaks};
use self::failure::Failure;
use self::output::{Printer, Verbosity};
use crate::shutdown::{self, Shutdown};

/// The programs that are made of this crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `tf`
    Tf,
    /// `tfcache`, which is `tf cache`
    Tfcache,
}

impl Program {
    fn command(self) -> clap::Command {
        match self {
            Self::Tf => Tf::command(),
            Self::Tfcache => Tfcache::command(),
        }
    }

    fn read(self, matches: &clap::ArgMatches) -> Result<(Global, Verb), clap::Error> {
        match self {
            Self::Tf => Tf::from_arg_matches(matches).map(|tf| (tf.global, tf.verb.named)),
            Self::Tfcache => Tfcache::from_arg_matches(matches).map(|tfcache| {
                (
                    tfcache.global,
                    Verb::Cache(args::Cache { verb: tfcache.verb }),
                )
            }),
        }
    }
}

/// What every verb works with.
#[derive(Debug)]
struct Context {
    /// Options that all verbs have.
    global: Global,
    /// Where everything is said.
    printer: Printer,
    /// Says when to leave.
    shutdown: Shutdown,
    /// When the program began.
    began: Instant,
}

/// Runs a program with the arguments of this process, and returns its exit status.
#[must_use]
pub fn main(program: Program) -> ExitCode {
    idle::prepare();
    let words = std::env::args_os().skip(1).collect();
    let ending = run(program, words);
    if let Ending::Interrupted(signal) = ending {
        shutdown::die_of(signal);
    }
    ExitCode::from(ending.status())
}

fn run(program: Program, words: Vec<OsString>) -> Ending {
    let began = Instant::now();
    let (global, verb) = match parse(program, words) {
        Ok(parsed) => parsed,
        Err(ending) => return ending,
    };
    let printer = Printer::new(verbosity(&global, &verb));
    printer.start_log();
    let speaks = speaks(&verb);
    let ended = runtime().and_then(|runtime| {
        let shutdown = Shutdown::new();
        let context = Context {
            global,
            printer: printer.clone(),
            shutdown: shutdown.clone(),
            began,
        };
        let ended = runtime.block_on(async {
            let _watch = shutdown::watch(shutdown, leave_now).map_err(|error| {
                Failure::operation(format!("cannot listen for signals: {error}"))
            })?;
            tokio::select! {
                ended = cmd::dispatch(&context, verb) => ended,
                () = idle::watch() => unreachable!("it never ends"),
            }
        });
        // All that has to be done is done; a read from the terminal, which cannot be interrupted, is not waited for.
        runtime.shutdown_background();
        // Whoever has sent the signal knows; of interest to whoever reads the log of a service.
        if let Ok(Ending::Interrupted(signal)) = &ended {
            printer.info(format_args!("ended, as {signal} asks for"));
        }
        ended
    });
    ended.unwrap_or_else(|failure| {
        printer.error(&failure);
        Ending::of_failure(&failure, speaks)
    })
}

/// Reads the command line. The error is how to end: what there was to say has been said.
fn parse(program: Program, words: Vec<OsString>) -> Result<(Global, Verb), Ending> {
    let mut command = program.command();
    command.build();
    let words = argv::spell_out(&command, words);
    let path = argv::path(&command, &words).join(" ");
    let name = OsString::from(command.get_name());
    command
        .try_get_matches_from_mut(std::iter::once(name).chain(words))
        .and_then(|matches| program.read(&matches))
        .map_err(|said| {
            let printer = Printer::new(Verbosity::Normal);
            match said.kind() {
                ErrorKind::DisplayHelp
                | ErrorKind::DisplayVersion
                | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                    ending_of_write(&printer, printer.help(&said.render()))
                }
                _ => {
                    printer.usage(&said.render(), &path);
                    if path == "tf run" {
                        Ending::NotRun
                    } else {
                        Ending::WrongArguments
                    }
                }
            }
        })
}

fn ending_of_write(printer: &Printer, written: io::Result<()>) -> Ending {
    match written {
        Ok(()) => Ending::Done,
        Err(error) => {
            printer.error(format_args!("cannot write to standard output: {error}"));
            Ending::Failed
        }
    }
}

/// How much is said. What serves others has nothing to show but its log.
fn verbosity(global: &Global, verb: &Verb) -> Verbosity {
    let serves = match verb {
        Verb::Location(options) => matches!(options.verb.named, args::LocationVerb::Serve(_)),
        Verb::Node(options) => matches!(options.verb.named, args::NodeVerb::Serve { .. }),
        _ => false,
    };
    match Verbosity::of(global) {
        Verbosity::Normal if serves => Verbosity::Info,
        asked => asked,
    }
}

/// Whose end the exit status of a verb speaks of.
fn speaks(verb: &Verb) -> Speaks {
    match verb {
        Verb::Run(_) => Speaks::OfProgram,
        _ => Speaks::OfItself,
    }
}

fn runtime() -> Result<runtime::Runtime, Failure> {
    runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::operation(format!("cannot start threads: {error}")))
}

/// Leaves without waiting for anything, because the user asked twice. What runs in this process dies with it.
fn leave_now(signal: shutdown::Signal) {
    terminal::restore();
    state_file::remove_all();
    shutdown::die_of(signal);
    #[allow(
        clippy::exit,
        reason = "the user does not want to wait for anything any more"
    )]
    std::process::exit(Ending::Interrupted(signal).status().into());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that somebody types into a terminal of the README, without the prompt.
    fn typed() -> Vec<&'static str> {
        let readme = include_str!("../../README.md");
        let blocks = readme.split("```console\n").skip(1);
        let lines = blocks.flat_map(|block| block.split("```").next().unwrap_or_default().lines());
        lines
            .filter_map(|line| Some(line.split_once("$ ").or_else(|| line.split_once("# "))?.1))
            .collect()
    }

    #[test]
    fn the_commands_of_the_readme_are_understood() {
        let typed = typed();
        assert!(typed.len() > 8, "{typed:?}");
        for line in typed {
            let mut words = line.split_whitespace().map(OsString::from);
            assert_eq!(words.next(), Some("tf".into()), "{line}");
            let read = parse(Program::Tf, words.collect());
            assert!(read.is_ok(), "{line}: {read:?}");
        }
    }
}
