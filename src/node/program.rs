//! What a container's first process, and further ones, are started with: the image's configuration and what the user
//! says instead, as `docker run` combines them.

use crate::node::engine::Program;
use crate::protocol::container::{ContainerSpec, ProcessSpec};
use crate::protocol::image::ImageConfig;
use crate::protocol::messages::{Fault, FaultCode};

/// The first process of a container.
pub(crate) fn first(image: &ImageConfig, spec: &ContainerSpec) -> Result<Program, Fault> {
    let entrypoint = spec.entrypoint.as_ref().unwrap_or(&image.entrypoint);
    let command = match (&spec.command, &spec.entrypoint) {
        (Some(command), _) => command.as_slice(),
        // Arguments that were meant for the image's own entrypoint make no sense to another.
        (None, Some(_)) => &[],
        (None, None) => &image.cmd,
    };
    let args: Vec<String> = entrypoint.iter().chain(command).cloned().collect();
    if args.is_empty() && !spec.sleep {
        let text = "the image does not say what to run: give a command after the image's name";
        return Err(Fault::new(FaultCode::BadImage, text));
    }
    Ok(Program {
        args,
        env: merge(&image.env, &spec.env),
        working_dir: spec
            .working_dir
            .clone()
            .unwrap_or_else(|| image.working_dir.clone()),
        user: spec.user.clone().unwrap_or_else(|| image.user.clone()),
    })
}

/// A further process of a container whose first one was started as `first`.
pub(crate) fn further(first: &Program, spec: &ProcessSpec) -> Result<Program, Fault> {
    if spec.args.is_empty() {
        return Err(Fault::new(
            FaultCode::Malformed,
            "there is no command to run",
        ));
    }
    Ok(Program {
        args: spec.args.clone(),
        env: merge(&first.env, &spec.env),
        working_dir: spec
            .working_dir
            .clone()
            .unwrap_or_else(|| first.working_dir.clone()),
        user: spec.user.clone().unwrap_or_else(|| first.user.clone()),
    })
}

/// `base` with the variables of `over` added or in place of those with the same name; the last of several counts.
fn merge(base: &[String], over: &[String]) -> Vec<String> {
    let mut merged: Vec<String> = Vec::with_capacity(base.len() + over.len());
    for variable in base.iter().chain(over) {
        match merged
            .iter_mut()
            .find(|other| name(other) == name(variable))
        {
            Some(other) => other.clone_from(variable),
            None => merged.push(variable.clone()),
        }
    }
    merged
}

fn name(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn nginx() -> ImageConfig {
        ImageConfig {
            env: strings(&["PATH=/bin", "A=1"]),
            entrypoint: strings(&["/entry"]),
            cmd: strings(&["nginx", "-g"]),
            ..ImageConfig::default()
        }
    }

    #[test]
    fn commands_combine_as_in_docker() {
        let args = |entrypoint: Option<&[&str]>, command: Option<&[&str]>| {
            let spec = ContainerSpec {
                entrypoint: entrypoint.map(strings),
                command: command.map(strings),
                ..ContainerSpec::default()
            };
            first(&nginx(), &spec).map(|program| program.args)
        };
        assert_eq!(args(None, None), Ok(strings(&["/entry", "nginx", "-g"])));
        assert_eq!(args(None, Some(&["sh"])), Ok(strings(&["/entry", "sh"])));
        assert_eq!(args(Some(&["sh"]), None), Ok(strings(&["sh"])));
        assert_eq!(
            args(Some(&[]), Some(&["ls", "/"])),
            Ok(strings(&["ls", "/"]))
        );
        assert_eq!(args(Some(&[]), None).unwrap_err().code, FaultCode::BadImage);
    }

    #[test]
    fn variables_replace_those_of_the_image() {
        let spec = ContainerSpec {
            env: strings(&["A=2", "B=3", "B=4"]),
            ..ContainerSpec::default()
        };
        assert_eq!(
            first(&nginx(), &spec).unwrap().env,
            strings(&["PATH=/bin", "A=2", "B=4"])
        );
    }
}
