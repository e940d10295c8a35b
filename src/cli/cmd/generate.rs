//! `tf generate DIR`: writes the man pages and completions that are kept in the repository.

use std::fs;

use crate::cli::args::Generate;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::generate;

pub(super) fn run(options: &Generate) -> Result<Ending, Failure> {
    for file in generate::files() {
        let path = options.directory.join(&file.path);
        let directory = path.parent().expect("the path has a directory");
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&path, &file.content))
            .map_err(|error| {
                Failure::operation(format!("cannot write `{}`: {error}", path.display()))
            })?;
    }
    Ok(Ending::Done)
}
