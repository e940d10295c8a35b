//! `tf __complete images PREFIX`: what the completions of the shells ask for.

use std::time::Duration;

use tokio::time::timeout;

use super::print_result;
use crate::cli::Context;
use crate::cli::args::{Completable, Complete};
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;

/// How long somebody who has pressed the tabulator key waits.
const PATIENCE: Duration = Duration::from_secs(2);

/// Prints the candidates that begin with the prefix. That there is no daemon means that there are fewer of them: a message
/// would end up in the middle of the command line.
pub(super) async fn run(context: &Context, options: &Complete) -> Result<Ending, Failure> {
    match options.what {
        Completable::Images => {
            let names = timeout(PATIENCE, crate::image::local_names()).await;
            let text = candidates(names.unwrap_or_default(), &options.prefix);
            print_result(&context.printer, &text)
        }
    }
}

/// The names that begin with `prefix`, one a line.
fn candidates(names: Vec<String>, prefix: &str) -> String {
    let mut names: Vec<String> = names
        .into_iter()
        // What is not one word cannot be completed to, and a line break would make two candidates of one.
        .filter(|name| !name.contains(|c: char| c.is_whitespace() || c.is_control()))
        .chain(["hello".to_owned()])
        .filter(|name| name.starts_with(prefix))
        .map(|name| name + "\n")
        .collect();
    names.sort();
    names.dedup();
    names.concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_begin_with_what_has_been_typed() {
        let names = || {
            ["web:2", "web:1", "db:1", "hello:mine", "bad\nname"]
                .map(str::to_owned)
                .to_vec()
        };
        assert_eq!(candidates(names(), "web"), "web:1\nweb:2\n");
        assert_eq!(candidates(names(), "he"), "hello\nhello:mine\n");
        assert_eq!(candidates(names(), "bad"), "");
        assert_eq!(candidates(Vec::new(), ""), "hello\n");
    }
}
