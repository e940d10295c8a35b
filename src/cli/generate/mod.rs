//! Man pages and completions, made from the clap definitions.
//!
//! They are kept in the repository, so that a package needs no build step for them; a test compares the files with what
//! this module makes.

mod bash;
mod fish;
mod json;
mod man;
mod manual;
mod model;
mod zsh;

use std::path::PathBuf;

use clap::CommandFactory as _;

use self::model::Scope;
use crate::cli::args::{Tf, Tfcache};

/// A file that is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct File {
    /// Where it belongs, from the top of the repository.
    pub(crate) path: PathBuf,
    /// Content.
    pub(crate) content: String,
}

/// All files that are made.
pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    for mut command in [Tf::command(), Tfcache::command()] {
        command.build();
        for page in man::pages(&command) {
            files.push(File {
                path: format!("man/{}.1", page.name).into(),
                content: page.content,
            });
        }
        let name = command.get_name();
        let scope = Scope::of(&command);
        for (path, content) in [
            (format!("completions/{name}.bash"), bash::script(&scope)),
            (format!("completions/_{name}"), zsh::script(&scope)),
            (format!("completions/{name}.fish"), fish::script(&scope)),
        ] {
            files.push(File {
                path: path.into(),
                content,
            });
        }
    }
    files
}
