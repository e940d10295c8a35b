//! Signals that ask the process to leave, and the token that tells everybody.
//!
//! The first signal asks: whoever holds the [`Shutdown`] cleans up and leaves. The second one does not wait for that.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Signals that ask a process to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGTERM`: what `kill` and service managers send.
    Terminate,
    /// `SIGHUP`: the terminal has gone.
    HangUp,
}

impl Signal {
    /// Its number, the same on all systems.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::HangUp => 1,
            Self::Interrupt => 2,
            Self::Terminate => 15,
        }
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HangUp => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        })
    }
}

/// Tells all its clones when it is time to leave.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    cause: Arc<OnceLock<Signal>>,
}

impl Shutdown {
    /// One that nobody has asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks everybody to leave. Returns whether this was the first time.
    #[must_use = "somebody who asks twice does not want to wait"]
    pub fn request(&self, cause: Signal) -> bool {
        let first = self.cause.set(cause).is_ok();
        self.token.cancel();
        first
    }

    /// Waits until somebody asks to leave, and says why.
    pub async fn requested(&self) -> Signal {
        self.token.cancelled().await;
        *self
            .cause
            .get()
            .expect("the cause is set before the token is cancelled")
    }
}

/// Watches for signals until it is dropped.
#[derive(Debug)]
pub struct Watch(JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns signals into requests to leave. `leave_now` is called with the second one, and is expected not to return.
///
/// `SIGHUP` counts unless it was ignored when the process started, which is what `nohup` does.
///
/// # Errors
///
/// When the system refuses to install the handlers.
#[cfg(unix)]
pub fn watch(shutdown: Shutdown, leave_now: impl Fn(Signal) + Send + 'static) -> io::Result<Watch> {
    use tokio::signal::unix::{SignalKind, signal};

    let hang_up_ignored = system::hang_up_is_ignored();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = (!hang_up_ignored)
        .then(|| signal(SignalKind::hangup()))
        .transpose()?;
    Ok(Watch(tokio::spawn(async move {
        loop {
            let cause = tokio::select! {
                Some(()) = interrupt.recv() => Signal::Interrupt,
                Some(()) = terminate.recv() => Signal::Terminate,
                Some(()) = async { hang_up.as_mut()?.recv().await } => Signal::HangUp,
                else => return,
            };
            if !shutdown.request(cause) {
                leave_now(cause);
            }
        }
    })))
}

/// Turns Ctrl-C into a request to leave. `leave_now` is called with the second one, and is expected not to return.
///
/// # Errors
///
/// When the system refuses to install the handler.
#[cfg(not(unix))]
pub fn watch(shutdown: Shutdown, leave_now: impl Fn(Signal) + Send + 'static) -> io::Result<Watch> {
    Ok(Watch(tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if !shutdown.request(Signal::Interrupt) {
                leave_now(Signal::Interrupt);
            }
        }
    })))
}

/// Ends the process by the signal that asked it to leave, once all is cleaned up.
///
/// A shell that runs a script stops it after Ctrl-C only if the command has died of the signal, and a service manager
/// takes an end by `SIGTERM` for an orderly one; an exit status of 130 or 143 tells them neither. Returns if the process
/// lives on, as the first process of a container does.
pub fn die_of(signal: Signal) {
    #[cfg(unix)]
    system::die_of(signal);
    #[cfg(not(unix))]
    let _ = signal;
}

#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "signal dispositions can be asked for and restored by system calls only"
)]
mod system {
    use std::mem::MaybeUninit;
    use std::ptr;

    use nix::sys::signal;

    use super::Signal;

    pub(super) fn hang_up_is_ignored() -> bool {
        let mut action = MaybeUninit::<libc::sigaction>::uninit();
        // SAFETY: with no new action given, the call only writes the present one to `action`, which has room for it.
        let result = unsafe { libc::sigaction(libc::SIGHUP, ptr::null(), action.as_mut_ptr()) };
        if result != 0 {
            return false;
        }
        // SAFETY: the call has succeeded, so it has filled `action`.
        unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
    }

    pub(super) fn die_of(cause: Signal) {
        let number = match cause {
            Signal::Interrupt => signal::Signal::SIGINT,
            Signal::Terminate => signal::Signal::SIGTERM,
            Signal::HangUp => signal::Signal::SIGHUP,
        };
        // SAFETY: the default action runs no code of this process.
        if unsafe { signal::signal(number, signal::SigHandler::SigDfl) }.is_ok() {
            // What remains to do if this fails is to leave by an exit status, which the caller does.
            let _ = signal::raise(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_clones_hear_of_the_first_request() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        assert!(shutdown.request(Signal::Terminate));
        assert!(!other.request(Signal::Interrupt));
        assert_eq!(other.requested().await, Signal::Terminate);
        assert_eq!(shutdown.requested().await, Signal::Terminate);
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn the_second_signal_does_not_wait() {
        use nix::sys::signal::{Signal as Number, kill};
        use nix::unistd::getpid;

        let shutdown = Shutdown::new();
        let (left, mut leaving) = tokio::sync::mpsc::unbounded_channel();
        let _watch = watch(shutdown.clone(), move |signal| {
            left.send(signal).expect("the test still runs");
        })
        .expect("signals can be watched");
        kill(getpid(), Number::SIGTERM).expect("it is this process");
        assert_eq!(shutdown.requested().await, Signal::Terminate);
        assert!(leaving.try_recv().is_err());
        kill(getpid(), Number::SIGINT).expect("it is this process");
        assert_eq!(leaving.recv().await, Some(Signal::Interrupt));
    }
}
