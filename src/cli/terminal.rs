//! The caller's terminal: raw mode, and its size.
//!
//! Raw mode is a property of the terminal, not of the process: whoever leaves without restoring it leaves the user with a
//! shell that shows nothing of what is typed. So it is restored on every way out: when the guard is dropped, when a thread
//! panics, and by [`restore`] from a signal that does not wait.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::protocol::container::WindowSize;

/// Size of a terminal that does not know its own.
const USUAL_SIZE: WindowSize = WindowSize {
    rows: 24,
    columns: 80,
};

/// Whether the terminal is in raw mode now.
static RAW: AtomicBool = AtomicBool::new(false);

/// Keeps the terminal in raw mode: every key goes to the program, none is shown or acted upon on the way.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Puts the terminal on standard input into raw mode.
    ///
    /// # Errors
    ///
    /// When standard input is no terminal.
    pub(crate) fn enter() -> io::Result<Self> {
        system::enter()?;
        RAW.store(true, Ordering::Release);
        // The message of a panic is for reading, and its thread may be the one that would have restored the terminal.
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            previous(panic);
        }));
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back into the mode that it had before [`RawMode::enter`]. Does nothing if it is there.
pub(crate) fn restore() {
    if RAW.swap(false, Ordering::AcqRel) {
        system::restore();
    }
}

/// Whether the terminal is in raw mode, where a line ends in a carriage return and a line feed.
pub(crate) fn is_raw() -> bool {
    RAW.load(Ordering::Acquire)
}

/// Size of the terminal.
pub(crate) fn size() -> WindowSize {
    system::size().unwrap_or(USUAL_SIZE)
}

/// Hears of changes of the terminal's size.
#[derive(Debug)]
pub(crate) struct Resizes {
    #[cfg(unix)]
    signal: tokio::signal::unix::Signal,
}

impl Resizes {
    /// Begins to listen.
    ///
    /// # Errors
    ///
    /// When the system refuses to install the handler.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            #[cfg(unix)]
            signal: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::window_change())?,
        })
    }

    /// Waits for the next change and returns the new size. Cancel-safe.
    pub(crate) async fn next(&mut self) -> WindowSize {
        #[cfg(unix)]
        if self.signal.recv().await.is_some() {
            return size();
        }
        std::future::pending().await
    }
}

#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "the size of a terminal is asked for by an ioctl"
)]
mod system {
    use std::io;
    use std::mem::MaybeUninit;
    use std::sync::Mutex;

    use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

    use crate::protocol::container::WindowSize;

    /// The mode to go back to.
    static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

    pub(super) fn enter() -> io::Result<()> {
        let terminal = io::stdin();
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        *lock() = Some(before);
        tcsetattr(&terminal, SetArg::TCSANOW, &raw)?;
        Ok(())
    }

    pub(super) fn restore() {
        if let Some(before) = lock().take() {
            // A terminal that has gone needs no mode.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, &before);
        }
    }

    fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
        BEFORE
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn size() -> Option<WindowSize> {
        [libc::STDOUT_FILENO, libc::STDIN_FILENO, libc::STDERR_FILENO]
            .into_iter()
            .find_map(size_of)
    }

    fn size_of(descriptor: libc::c_int) -> Option<WindowSize> {
        let mut size = MaybeUninit::<libc::winsize>::uninit();
        // SAFETY: the request writes a `winsize`, for which there is room.
        let result = unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, size.as_mut_ptr()) };
        if result != 0 {
            return None;
        }
        // SAFETY: the request has succeeded, so it has filled `size`.
        let size = unsafe { size.assume_init() };
        (size.ws_row > 0 && size.ws_col > 0).then_some(WindowSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }
}

#[cfg(not(unix))]
mod system {
    use std::io;

    use crate::protocol::container::WindowSize;

    pub(super) fn enter() -> io::Result<()> {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "raw mode is not available on this system",
        ))
    }

    pub(super) fn restore() {}

    pub(super) fn size() -> Option<WindowSize> {
        None
    }
}
