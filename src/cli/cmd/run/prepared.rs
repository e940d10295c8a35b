//! What the options of `tf run` come to, before anything is connected or started.

use std::io::{self, IsTerminal as _};

use crate::cli::args::Run;
use crate::cli::browser::Page;
use crate::cli::env::Environment;
use crate::cli::failure::Failure;
use crate::cli::state_file::Reserved;
use crate::cli::{files, limits, publish, terminal};
use crate::protocol::container::{ContainerSpec, Stdio};

/// Options, understood and checked against this machine.
pub(super) struct Prepared {
    /// Which ports are wanted.
    pub(super) ports: publish::Request,
    /// What the container is to be like.
    pub(super) spec: ContainerSpec,
    /// Variables that were to be taken from here and are not set here.
    pub(super) unset: Vec<String>,
    /// Where the state file goes.
    pub(super) state_file: Option<Reserved>,
    /// What the browser is to show.
    pub(super) page: Option<Page>,
}

impl Prepared {
    /// Checks all that can be checked without a location.
    pub(super) async fn new(options: &Run) -> Result<Self, Failure> {
        let ports = publish::Request::parse(options.offset, &options.publish, options.public)?;
        let environment = Environment::parse(&options.env, |name| std::env::var(name).ok())?;
        let stdio = stdio(options, io::stdin().is_terminal())?;
        let spec = ContainerSpec {
            env: environment.variables,
            entrypoint: options.entrypoint.as_ref().map(|entrypoint| {
                let words = Some(entrypoint).filter(|entrypoint| !entrypoint.is_empty());
                words.cloned().into_iter().collect()
            }),
            command: Some(options.command.clone()).filter(|command| !command.is_empty()),
            user: options.user.clone(),
            working_dir: options.workdir.clone().map(absolute).transpose()?,
            limits: limits::parse(options)?,
            files: files::read(&options.file)?,
            sleep: options.sleep,
            stdio,
        };
        let state_file = options.json.as_deref().map(Reserved::check).transpose()?;
        let page = if options.browser {
            Some(Page::check(options.domain.as_deref(), options.path.as_deref()).await?)
        } else {
            None
        };
        Ok(Self {
            ports,
            spec,
            unset: environment.unset,
            state_file,
            page,
        })
    }
}

fn absolute(directory: String) -> Result<String, Failure> {
    if directory.starts_with('/') {
        return Ok(directory);
    }
    Err(Failure::arguments(format!(
        "`-w {directory}` is not a directory of the container: expected an absolute path"
    )))
}

fn stdio(options: &Run, typed: bool) -> Result<Stdio, Failure> {
    let streams = options.streams;
    if streams.interactive && streams.tty && !typed {
        return Err(
            Failure::arguments("standard input is not a terminal, which -t with -i needs")
                .hint("leave -t out to pass on a file or a pipe"),
        );
    }
    Ok(Stdio {
        stdin: streams.interactive,
        output: true,
        terminal: streams.tty.then(terminal::size),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::Streams;

    async fn spec(options: Run) -> ContainerSpec {
        let prepared = Prepared::new(&options).await;
        prepared
            .map_err(|failure| failure.to_string())
            .expect("valid")
            .spec
    }

    #[tokio::test]
    async fn nothing_said_leaves_all_to_the_image() {
        let spec = spec(Run::default()).await;
        let expected = ContainerSpec {
            stdio: Stdio {
                output: true,
                ..Stdio::default()
            },
            ..ContainerSpec::default()
        };
        assert_eq!(spec, expected);
    }

    #[tokio::test]
    async fn an_entrypoint_is_one_word_and_an_empty_one_is_none() {
        let with = |text: &str| Run {
            entrypoint: Some(text.to_owned()),
            ..Run::default()
        };
        assert_eq!(
            spec(with("/bin/sh -c")).await.entrypoint,
            Some(vec!["/bin/sh -c".to_owned()])
        );
        assert_eq!(spec(with("")).await.entrypoint, Some(Vec::new()));
    }

    #[test]
    fn a_terminal_for_typing_needs_one_to_type_at() {
        let with = |interactive, tty| Run {
            streams: Streams { interactive, tty },
            ..Run::default()
        };
        assert!(stdio(&with(true, true), false).is_err());
        for (interactive, tty, typed) in [
            (true, true, true),
            (true, false, false),
            (false, true, false),
        ] {
            let stdio = stdio(&with(interactive, tty), typed).expect("valid");
            assert_eq!((stdio.stdin, stdio.terminal.is_some()), (interactive, tty));
        }
    }

    #[test]
    fn directories_are_absolute() {
        assert_eq!(absolute("/srv".into()), Ok("/srv".into()));
        for directory in ["", "srv", "./srv"] {
            assert!(absolute(directory.into()).is_err(), "{directory}");
        }
    }
}
