//! The last steps of a new process of a container, first or further: inside its namespaces, as its root, until the
//! image's program takes over.
//!
//! All paths here come from hostile images. None is resolved before every descriptor is closed that could lead out of the
//! container, and none through a magic link of `/proc`.

#![allow(unsafe_code, reason = "terminals are set up by ioctl")]

use std::ffi::CString;
use std::fs::{File, Permissions};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, umask};

use super::super::control::{self, Problem, Progress, Start, Step, Streams};
use super::super::sys;
use super::beneath;
use super::privileges::{become_user, hide, reset_signals};
use super::seccomp::Filter;
use super::user::User;

/// Docker's default.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Status of a process that ended before it had a program, as `docker run` has it.
pub(super) const NEVER_RAN: i32 = 125;

/// A process that is about to run a program.
pub(super) struct Launch {
    /// What to run.
    pub(super) start: Start,
    /// What it is connected to.
    pub(super) streams: Streams,
    /// What it runs under.
    pub(super) filter: Filter,
    /// Host name of the container.
    pub(super) hostname: String,
}

impl Launch {
    /// Opens the terminal, if there is to be one, and sends the engine its master.
    pub(super) fn open_terminal(&self) -> Result<Option<OwnedFd>, Problem> {
        let Some(size) = self.start.terminal else {
            return Ok(None);
        };
        let master = File::options()
            .read(true)
            .write(true)
            .custom_flags_for_terminal()
            .open("/dev/pts/ptmx")
            .step("open a terminal")?;
        let metadata = master.metadata().step("open a terminal")?;
        // The container may have put something else there.
        if !metadata.file_type().is_char_device() || metadata.rdev() != libc::makedev(5, 2) {
            return Err(Problem::Other(
                "cannot open a terminal: /dev/pts/ptmx of the container is something else"
                    .to_owned(),
            ));
        }
        let unlocked: libc::c_int = 0;
        let window = libc::winsize {
            ws_row: size.rows,
            ws_col: size.columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let fd = master.as_raw_fd();
        // SAFETY: the descriptor is open, and the arguments are of the types that these requests expect.
        let slave = unsafe {
            if libc::ioctl(fd, libc::TIOCSPTLCK, &raw const unlocked) == -1
                || libc::ioctl(fd, libc::TIOCSWINSZ, &raw const window) == -1
            {
                -1
            } else {
                libc::ioctl(
                    fd,
                    libc::TIOCGPTPEER,
                    libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
                )
            }
        };
        let slave = Errno::result(slave).step("open a terminal")?;
        // SAFETY: the kernel has just made this descriptor for us.
        let slave = unsafe { OwnedFd::from_raw_fd(slave) };
        control::send(&self.streams.progress, &Progress::Terminal, &[&master])
            .step("hand over the terminal")?;
        Ok(Some(slave))
    }

    /// Waits for the word to go, and runs the program. Says on the progress socket what keeps it from running.
    pub(super) fn go(&self, terminal: Option<&OwnedFd>) -> ! {
        let mut keep: Vec<RawFd> = self.streams.descriptors().map(AsRawFd::as_raw_fd).collect();
        keep.extend(terminal.map(AsRawFd::as_raw_fd));
        let Err(problem) = sys::close_all_but(&keep)
            .step("close descriptors")
            .and_then(|()| {
                if !self.may_go() {
                    sys::exit_now(NEVER_RAN);
                }
                self.run(terminal)
            });
        let status = match problem {
            Problem::NotFound(_) => 127,
            Problem::NotExecutable(_) => 126,
            _ => NEVER_RAN,
        };
        // Nobody is left to tell if this fails.
        let _ = control::send_plain(&self.streams.progress, &Progress::Failed(problem));
        sys::exit_now(status);
    }

    /// Waits for the word; false if it will never come.
    fn may_go(&self) -> bool {
        // What lives while we wait and is orphaned becomes our child: let the kernel reap it.
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        let mut byte = [0];
        self.streams
            .go
            .try_clone()
            .is_ok_and(|fd| matches!(File::from(fd).read_exact(&mut byte), Ok(())))
    }

    fn run(&self, terminal: Option<&OwnedFd>) -> Result<std::convert::Infallible, Problem> {
        hide().step("hide the memory")?;
        let root = File::open("/").step("open the root directory")?;
        let user = User::find(&root, &self.start.user)?;
        self.enter_working_dir(&root)?;
        drop(root);
        self.connect(terminal, &user)?;
        let environment = c_strings(self.environment(&user).into_iter())?;
        let arguments = c_strings(self.start.args.iter().cloned())?;
        umask(Mode::from_bits_truncate(0o022));
        reset_signals().step("reset the signals")?;
        become_user(&user)?;
        self.filter
            .apply()
            .map_err(|error| Problem::Other(format!("cannot filter system calls: {error}")))?;
        Err(self.execute(&arguments, &environment))
    }

    fn enter_working_dir(&self, root: &File) -> Result<(), Problem> {
        let path = match self.start.working_dir.as_str() {
            "" => "/",
            path => path,
        };
        if !path.starts_with('/') {
            return Err(Problem::BadSpec(format!(
                "the working directory `{path}` is not absolute: it must begin with `/`"
            )));
        }
        let directory = beneath::directory(root, Path::new(path), None).map_err(|error| {
            Problem::BadSpec(format!(
                "the working directory `{path}` cannot be used: {error}"
            ))
        })?;
        nix::unistd::fchdir(directory.as_raw_fd()).step("change to the working directory")
    }

    /// Puts the standard streams where they belong.
    fn connect(&self, terminal: Option<&OwnedFd>, user: &User) -> Result<(), Problem> {
        // A first process leads a session already.
        match nix::unistd::setsid() {
            Ok(_) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno).step("start a session"),
        }
        let streams = match terminal {
            Some(terminal) => {
                std::os::unix::fs::fchown(terminal, Some(user.uid), None)
                    .and_then(|()| {
                        File::from(terminal.try_clone()?)
                            .set_permissions(Permissions::from_mode(0o620))
                    })
                    .step("hand the terminal to the user")?;
                // SAFETY: the descriptor is open, and the request takes an integer.
                Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })
                    .step("make the terminal the controlling one")?;
                [Some(terminal); 3]
            }
            None => self.streams.stdio.each_ref().map(Option::as_ref),
        };
        for (number, stream) in (0..).zip(streams) {
            if let Some(stream) = stream {
                nix::unistd::dup2(stream.as_raw_fd(), number)
                    .step("connect the standard streams")?;
            }
        }
        Ok(())
    }

    fn environment(&self, user: &User) -> Vec<String> {
        let mut environment = self.start.env.clone();
        let mut add = |name: &str, value: &str| {
            if variable(&environment, name).is_none() {
                environment.push(format!("{name}={value}"));
            }
        };
        add("PATH", PATH);
        add("HOSTNAME", &self.hostname);
        add("HOME", &user.home);
        if self.start.terminal.is_some() {
            add("TERM", "xterm");
        }
        environment
    }

    /// Tries the places where the program may be; returns why none of them would do.
    fn execute(&self, arguments: &[CString], environment: &[CString]) -> Problem {
        let Some(program) = self
            .start
            .args
            .first()
            .filter(|program| !program.is_empty())
        else {
            return Problem::BadSpec("there is no program to run: name one".to_owned());
        };
        let path = variable(&self.start.env, "PATH").unwrap_or(PATH);
        let mut refused = None;
        for candidate in candidates(program, path) {
            let Ok(file) = CString::new(candidate.as_str()) else {
                break;
            };
            let errno = sys::execve(&file, arguments, environment);
            let there = || std::fs::metadata(&candidate);
            match errno {
                Errno::ENOENT if there().is_ok() => {
                    return Problem::NotFound(format!(
                        "`{candidate}` is in the container, and the interpreter or loader that it names is not"
                    ));
                }
                Errno::ENOENT | Errno::ENOTDIR => {}
                Errno::EACCES if there().is_ok_and(|metadata| metadata.is_dir()) => {
                    refused = Some(format!("`{candidate}` is a directory, not a program"));
                }
                Errno::EACCES => {
                    refused = Some(format!(
                        "`{candidate}` is not executable for this user: permission denied"
                    ));
                }
                Errno::ENOEXEC => {
                    return Problem::NotExecutable(format!(
                        "`{candidate}` is not a program for this machine, nor a script that names its interpreter \
                         (exec format error)"
                    ));
                }
                errno => {
                    return Problem::NotExecutable(format!(
                        "`{candidate}` cannot be executed: {}",
                        errno.desc()
                    ));
                }
            }
        }
        match refused {
            Some(text) => Problem::NotExecutable(text),
            None if program.contains('/') => {
                Problem::NotFound(format!("`{program}` is not in the container"))
            }
            None => Problem::NotFound(format!(
                "`{program}` is in no directory of the container's PATH ({path})"
            )),
        }
    }
}

/// Value of a variable; the last one counts, as for the C library's `putenv`.
fn variable<'a>(environment: &'a [String], name: &str) -> Option<&'a str> {
    environment
        .iter()
        .rev()
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// Where a program may be: as named if there is a slash in it, else in each directory of `path`.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.contains('/') {
        return vec![program.to_owned()];
    }
    path.split(':')
        .map(|directory| match directory {
            "" => format!("./{program}"),
            directory => format!("{directory}/{program}"),
        })
        .collect()
}

fn c_strings(strings: impl Iterator<Item = String>) -> Result<Vec<CString>, Problem> {
    strings
        .map(|string| {
            CString::new(string).map_err(|error| {
                Problem::BadSpec(format!(
                    "a zero byte in an argument or in the environment: `{}`",
                    String::from_utf8_lossy(&error.into_vec()).escape_debug()
                ))
            })
        })
        .collect()
}

/// Opens as terminals are opened by those that do not want to be controlled by them.
trait TerminalOptions {
    fn custom_flags_for_terminal(&mut self) -> &mut Self;
}

impl TerminalOptions for std::fs::OpenOptions {
    fn custom_flags_for_terminal(&mut self) -> &mut Self {
        use std::os::unix::fs::OpenOptionsExt;
        self.custom_flags(libc::O_NOCTTY | libc::O_NOFOLLOW | libc::O_NONBLOCK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_the_path_unless_they_have_a_slash() {
        assert_eq!(candidates("sh", "/a::/b"), ["/a/sh", "./sh", "/b/sh"]);
        assert_eq!(candidates("./sh", "/a"), ["./sh"]);
        assert_eq!(candidates("/x/sh", "/a"), ["/x/sh"]);
    }

    #[test]
    fn the_last_of_two_variables_counts() {
        let environment = ["A=1", "AB=2", "A=3"].map(str::to_owned);
        assert_eq!(variable(&environment, "A"), Some("3"));
        assert_eq!(variable(&environment, "B"), None);
    }
}
