//! Where an invitation is read from: it lets its bearer in, so it should not be in a command line, which everybody on the
//! machine can see.

use std::fs::File;
use std::io::{self, BufRead as _, IsTerminal as _, Read};

use tokio::task::spawn_blocking;

use crate::cli::failure::Failure;
use crate::cli::output::Printer;
use crate::invitation::Invitation;

/// Most that is read for an invitation, in bytes.
const MOST: u64 = 64 << 10;

/// The invitation that `given` says: itself, `@FILE`, or `-` for standard input, which is also meant by nothing at all. On a
/// terminal it is asked for.
///
/// # Errors
///
/// When it cannot be read, or is none.
pub(crate) async fn read(printer: &Printer, given: Option<&str>) -> Result<Invitation, Failure> {
    let text = match given {
        None | Some("-") => {
            if io::stdin().is_terminal() {
                printer.note("paste the invitation, and press Enter:");
            }
            let read = spawn_blocking(|| read_standard_input(io::stdin().is_terminal()));
            let read = read
                .await
                .unwrap_or_else(|lost| Err(io::Error::other(lost)));
            read.map_err(|error| {
                Failure::operation(format!(
                    "cannot read the invitation from standard input: {error}"
                ))
            })?
        }
        Some("@") => {
            return Err(Failure::arguments(
                "`@` names no file: expected @FILE, FILE being where the invitation is",
            ));
        }
        Some(given) => match given.strip_prefix('@') {
            Some(path) => read_file(path).map_err(|error| {
                Failure::operation(format!("cannot read the invitation from {path}: {error}"))
            })?,
            None => given.to_owned(),
        },
    };
    text.parse().map_err(Failure::arguments)
}

/// One line from a terminal, all from anything else.
fn read_standard_input(terminal: bool) -> io::Result<String> {
    let mut text = String::new();
    let mut input = io::stdin().lock().take(MOST);
    if terminal {
        input.read_line(&mut text)?;
    } else {
        input.read_to_string(&mut text)?;
    }
    Ok(text)
}

fn read_file(path: &str) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MOST).read_to_string(&mut text)?;
    Ok(text)
}
