//! The only road to standard output and standard error.
//!
//! Standard output carries results: what a verb was asked for, or what the container's program writes. All talk goes to
//! standard error. Colour and progress bars are for terminals, and nothing is said by colour alone. That the reader of
//! standard output has gone (`tf cache ls | head -1`) is no error.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{MultiProgress, ProgressDrawTarget};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::cli::args::Global;
use crate::cli::terminal;

/// How much is said on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// Errors.
    Quiet,
    /// What the user has to know.
    Normal,
    /// What is being done.
    Info,
    /// Every detail.
    Debug,
}

impl Verbosity {
    /// What the options ask for.
    pub(crate) fn of(options: &Global) -> Self {
        match (options.quiet, options.verbose) {
            (true, _) => Self::Quiet,
            (false, 0) => Self::Normal,
            (false, 1) => Self::Info,
            (false, _) => Self::Debug,
        }
    }
}

/// Prints.
#[derive(Debug, Clone)]
pub(crate) struct Printer {
    verbosity: Verbosity,
    colour: bool,
    /// Whatever is printed goes around the bars that are shown.
    bars: MultiProgress,
}

impl Printer {
    /// A printer for this process's standard streams.
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        let terminal = io::stderr().is_terminal();
        let target = if terminal && verbosity > Verbosity::Quiet {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        Self {
            verbosity,
            colour: terminal && colour_is_welcome(|name| std::env::var_os(name)),
            bars: MultiProgress::with_draw_target(target),
        }
    }

    /// Sends the log of this program to standard error, as far as the verbosity asks for it.
    pub(crate) fn start_log(&self) {
        let level = match self.verbosity {
            Verbosity::Quiet => LevelFilter::ERROR,
            Verbosity::Normal => LevelFilter::WARN,
            Verbosity::Info => LevelFilter::INFO,
            Verbosity::Debug => LevelFilter::DEBUG,
        };
        // Other crates are of interest only where they complain.
        let targets = Targets::new()
            .with_default(level.min(LevelFilter::WARN))
            .with_target(env!("CARGO_PKG_NAME"), level);
        let printer = self.clone();
        let format = tracing_subscriber::fmt::layer()
            .with_ansi(self.colour)
            .with_target(self.verbosity == Verbosity::Debug)
            .with_timer(tracing_subscriber::fmt::time::uptime())
            .with_writer(move || LogWriter(printer.clone()));
        // It fails if a program that uses this crate has a log of its own, which is then the one to use.
        let _ = tracing_subscriber::registry()
            .with(targets)
            .with(format)
            .try_init();
    }

    /// Where bars are drawn.
    pub(crate) fn bars(&self) -> &MultiProgress {
        &self.bars
    }

    /// Prints a result, with the line ends that it has.
    ///
    /// # Errors
    ///
    /// When it cannot be written, for another reason than that its reader has gone.
    pub(crate) fn result(&self, text: &str) -> io::Result<()> {
        self.bars.suspend(|| {
            let mut stdout = io::stdout().lock();
            let written = stdout.write_all(text.as_bytes());
            forgive_closed(written.and_then(|()| stdout.flush()))
        })
    }

    /// Says what the user has to know.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if self.verbosity >= Verbosity::Normal {
            self.talk(&format!("{text}\n"));
        }
    }

    /// Says what is of interest to whoever asks for more.
    pub(crate) fn info(&self, text: impl fmt::Display) {
        if self.verbosity >= Verbosity::Info {
            self.talk(&format!("{text}\n"));
        }
    }

    /// Says that something is not as it should be, and goes on.
    pub(crate) fn warning(&self, text: impl fmt::Display) {
        if self.verbosity >= Verbosity::Normal {
            self.labelled("warning", "33", &text.to_string());
        }
    }

    /// Says what went wrong.
    pub(crate) fn error(&self, error: impl fmt::Display) {
        self.labelled("error", "31", &error.to_string());
    }

    /// Says what is wrong with a command line, in the words of clap. `path` is the command whose help helps: `tf run`.
    pub(crate) fn usage(&self, text: &clap::builder::StyledStr, path: &str) {
        let text = if self.colour {
            text.ansi().to_string()
        } else {
            text.to_string()
        };
        // The last line says to try `--help`. Which one is not plain where the verb is left out: `tf --help` has none of the
        // options of `tf IMAGE`.
        match text.rsplit_once("--help") {
            Some((said, end)) => self.talk(&format!("{said}{path} --help{end}")),
            None => self.talk(&text),
        }
    }

    /// Prints help as a result.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub(crate) fn help(&self, text: &clap::builder::StyledStr) -> io::Result<()> {
        let colour = io::stdout().is_terminal() && colour_is_welcome(|name| std::env::var_os(name));
        if colour {
            self.result(&text.ansi().to_string())
        } else {
            self.result(&text.to_string())
        }
    }

    fn labelled(&self, label: &str, colour: &str, text: &str) {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut out = if self.colour {
            format!("\x1b[1;{colour}m{label}:\x1b[0m {first}\n")
        } else {
            format!("{label}: {first}\n")
        };
        for line in lines {
            let _ = match line.strip_prefix("hint: ") {
                Some(hint) if self.colour => writeln!(out, "\x1b[1;36mhint:\x1b[0m {hint}"),
                _ => writeln!(out, "{line}"),
            };
        }
        self.talk(&out);
    }

    fn talk(&self, text: &str) {
        let raw;
        let text = if terminal::is_raw() {
            raw = text.replace('\n', "\r\n");
            &raw
        } else {
            text
        };
        self.bars.suspend(|| {
            // There is nobody left to tell that standard error is closed.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// Turns the error of a write to a reader that has gone into success.
///
/// # Errors
///
/// All other errors of the result.
pub(crate) fn forgive_closed(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// Whether the user wants colour on a terminal (<https://no-color.org>).
fn colour_is_welcome(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> bool {
    let unwanted = variable("NO_COLOR").is_some_and(|value| !value.is_empty());
    let unable = variable("TERM").is_some_and(|term| term == "dumb");
    !unwanted && !unable
}

/// One line of the log.
struct LogWriter(Printer);

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A whole line at a time comes from the formatter.
        self.0.talk(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_is_forgiven() {
        assert!(forgive_closed(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(forgive_closed(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn no_color_counts_unless_it_is_empty() {
        let with = |name: &'static str, value: &'static str| {
            colour_is_welcome(move |asked| (asked == name).then(|| value.into()))
        };
        assert!(with("TERM", "xterm"));
        assert!(with("NO_COLOR", ""));
        assert!(!with("NO_COLOR", "1"));
        assert!(!with("TERM", "dumb"));
    }

    #[test]
    fn quiet_and_verbose_are_levels() {
        let of = |quiet, verbose| {
            Verbosity::of(&Global {
                verbose,
                quiet,
                ..Global::default()
            })
        };
        assert_eq!(of(true, 0), Verbosity::Quiet);
        assert_eq!(of(false, 0), Verbosity::Normal);
        assert_eq!(of(false, 1), Verbosity::Info);
        assert_eq!(of(false, 7), Verbosity::Debug);
    }
}
