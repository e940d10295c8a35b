//! The exit status: which there are, and what each means.

use crate::cli::failure::{Failure, Kind};
use crate::protocol::container::Exit;
use crate::shutdown::Signal;

/// How the command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It did what it was asked to.
    Done,
    /// It was tried and did not work.
    Failed,
    /// The command line makes no sense.
    WrongArguments,
    /// The container's program ended by itself, with this status.
    Program(u8),
    /// The container's program was ended by this signal.
    Killed(u8),
    /// The container's program did not come to run, or its end is not known, because of `tf` or what it depends on.
    NotRun,
    /// The container's program cannot be executed.
    NotExecutable,
    /// The container's program does not exist.
    NotFound,
    /// `tf` was asked by a signal to leave.
    Interrupted(Signal),
}

/// Verbs by what their exit status speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speaks {
    /// Of the container's program.
    OfProgram,
    /// Of the verb itself.
    OfItself,
}

/// The table of the man pages: status and meaning. The first part is for verbs that run a program.
pub(crate) const PROGRAM_TABLE: &[(&str, &str)] = &[
    (
        "n",
        "The program in the container ended with the status n, from 0 to 255.",
    ),
    (
        "125",
        "tf itself failed: the arguments are wrong, the image is unknown, a port is taken, the container did not start, \
         or its node was lost.",
    ),
    (
        "126",
        "The program is in the container and cannot be executed.",
    ),
    ("127", "The program is not in the container."),
    (
        "128+n",
        "The program was ended by the signal n, as in 137 for SIGKILL, which is also what a container gets that needs \
         more memory than it may have.",
    ),
    (
        "130",
        "Interrupted: tf got a SIGINT, and the container is gone. In the same way, 143 stands for SIGTERM and 129 for \
         SIGHUP.",
    ),
];

/// The table of the man pages for verbs that run no program.
pub(crate) const VERB_TABLE: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "Failed; standard error says why."),
    ("2", "The arguments are wrong."),
    ("130", "Interrupted by SIGINT (143: SIGTERM, 129: SIGHUP)."),
];

impl Ending {
    /// The exit status.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::WrongArguments => 2,
            Self::Program(status) => status,
            Self::NotRun => 125,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Killed(signal) => 128u8.saturating_add(signal),
            Self::Interrupted(signal) => 128 + signal.number(),
        }
    }

    /// How a verb of this sort ends when it fails.
    pub(crate) fn of_failure(failure: &Failure, speaks: Speaks) -> Self {
        match (speaks, failure.kind()) {
            // The program could have ended with 1 or 2 by itself.
            (Speaks::OfProgram, _) => Self::NotRun,
            (Speaks::OfItself, Kind::Arguments) => Self::WrongArguments,
            (Speaks::OfItself, Kind::Operation) => Self::Failed,
        }
    }

    /// How `tf` ends when the container's program has ended like this.
    pub(crate) fn of_program(exit: &Exit) -> Self {
        match exit {
            Exit::Code(status) => Self::Program(*status),
            Exit::Signal(signal) => Self::Killed(*signal),
            // The kernel sends SIGKILL.
            Exit::OutOfMemory => Self::Killed(9),
            Exit::NotFound(_) => Self::NotFound,
            Exit::NotExecutable(_) => Self::NotExecutable,
            Exit::Lost(_) => Self::NotRun,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_program(exit: &Exit) -> u8 {
        Ending::of_program(exit).status()
    }

    #[test]
    fn done_is_0() {
        assert_eq!(Ending::Done.status(), 0);
    }

    #[test]
    fn a_verb_that_fails_is_1() {
        let failure = Failure::operation("no such image");
        let ending = Ending::of_failure(&failure, Speaks::OfItself);
        assert_eq!(ending.status(), 1);
    }

    #[test]
    fn wrong_arguments_of_a_verb_are_2() {
        let failure = Failure::arguments("what?");
        let ending = Ending::of_failure(&failure, Speaks::OfItself);
        assert_eq!(ending.status(), 2);
    }

    #[test]
    fn the_program_passes_its_status_through() {
        for status in [0, 1, 2, 125, 255] {
            assert_eq!(of_program(&Exit::Code(status)), status);
        }
    }

    #[test]
    fn a_program_ended_by_a_signal_is_128_and_its_number() {
        assert_eq!(of_program(&Exit::Signal(15)), 143);
        assert_eq!(of_program(&Exit::OutOfMemory), 137);
        // A number that no system uses, from a hostile node.
        assert_eq!(of_program(&Exit::Signal(255)), 255);
    }

    #[test]
    fn a_failure_of_tf_in_place_of_the_program_is_125() {
        for failure in [Failure::operation("no root"), Failure::arguments("what?")] {
            let ending = Ending::of_failure(&failure, Speaks::OfProgram);
            assert_eq!(ending.status(), 125);
        }
        assert_eq!(of_program(&Exit::Lost("its node went away".into())), 125);
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_126() {
        assert_eq!(of_program(&Exit::NotExecutable("/etc/passwd".into())), 126);
    }

    #[test]
    fn a_program_that_is_not_there_is_127() {
        assert_eq!(of_program(&Exit::NotFound("bahs".into())), 127);
    }

    #[test]
    fn an_interrupt_is_130_and_other_signals_alike() {
        assert_eq!(Ending::Interrupted(Signal::Interrupt).status(), 130);
        assert_eq!(Ending::Interrupted(Signal::Terminate).status(), 143);
        assert_eq!(Ending::Interrupted(Signal::HangUp).status(), 129);
    }
}
