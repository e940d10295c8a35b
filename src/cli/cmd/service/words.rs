//! Options back into the words that they were read from, for a command line that somebody else runs later. Pure.

use crate::cli::args::{Global, ImageService, Run, Serve, Streams};

/// Words of options that every verb has.
pub(super) fn global(options: &Global, words: &mut Vec<String>) {
    let Global {
        verbose,
        quiet,
        location,
        location_ip,
        linger,
    } = options;
    words.extend((0..*verbose).map(|_| "--verbose".to_owned()));
    flag(words, "--quiet", *quiet);
    valued(words, "--location", location.as_ref());
    valued(words, "--location-ip", location_ip.as_ref());
    valued(words, "--linger", linger.as_ref());
}

/// Words of `tf service install image`, behind `image`.
pub(super) fn image(options: &ImageService, words: &mut Vec<String>) {
    let ImageService { name, run: options } = options;
    valued(words, "--name", name.as_ref());
    run(options, words);
}

/// Words of `tf run`, behind `run`.
pub(super) fn run(options: &Run, words: &mut Vec<String>) {
    // Every field is named, so that an option that is added cannot be forgotten here.
    let Run {
        image,
        command,
        offset,
        publish,
        public,
        browser,
        domain,
        path,
        env,
        file,
        sleep,
        entrypoint,
        user,
        workdir,
        memory,
        cpus,
        pids,
        streams: Streams { interactive, tty },
        timing,
        json,
    } = options;
    if *offset != 0 {
        words.push(format!("--offset={offset}"));
    }
    valued(words, "--publish", publish);
    flag(words, "--public", *public);
    flag(words, "--browser", *browser);
    valued(words, "--domain", domain.as_ref());
    valued(words, "--path", path.as_ref());
    valued(words, "--env", env);
    valued(words, "--file", file);
    flag(words, "--sleep", *sleep);
    valued(words, "--entrypoint", entrypoint.as_ref());
    valued(words, "--user", user.as_ref());
    valued(words, "--workdir", workdir.as_ref());
    valued(words, "--memory", memory.as_ref());
    valued(words, "--cpus", cpus.as_ref());
    let pids = pids.as_ref().map(u32::to_string);
    valued(words, "--pids", pids.as_ref());
    flag(words, "--interactive", *interactive);
    flag(words, "--tty", *tty);
    flag(words, "--timing", *timing);
    let json = json
        .as_ref()
        .map(|path| path.to_string_lossy().into_owned());
    valued(words, "--json", json.as_ref());
    words.push("--".to_owned());
    words.push(image.clone());
    words.extend_from_slice(command);
}

/// Words of `tf location serve`, behind `serve`.
pub(super) fn location(options: &Serve, words: &mut Vec<String>) {
    let Serve {
        listen,
        name,
        no_node,
        max_linger,
        max_cache,
    } = options;
    valued(words, "--listen", listen.as_ref());
    valued(words, "--name", name.as_ref());
    flag(words, "--no-node", *no_node);
    valued(words, "--max-linger", [max_linger]);
    valued(words, "--max-cache", max_cache);
}

fn flag(words: &mut Vec<String>, name: &str, given: bool) {
    if given {
        words.push(name.to_owned());
    }
}

fn valued<'a>(words: &mut Vec<String>, name: &str, values: impl IntoIterator<Item = &'a String>) {
    // In one word with its name, a value may begin with a dash.
    words.extend(values.into_iter().map(|value| format!("{name}={value}")));
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::args::{Installed, ServiceVerb, Tf, Verb};
    use crate::cli::argv;

    fn parse(words: &[&str]) -> Tf {
        let mut command = Tf::command();
        command.build();
        let words = words.iter().map(OsString::from).collect();
        let words = argv::spell_out(&command, words);
        let words = std::iter::once("tf".into()).chain(words);
        let matches = command.try_get_matches_from_mut(words).expect("valid");
        Tf::from_arg_matches(&matches).expect("valid")
    }

    #[test]
    fn words_of_an_image_are_read_as_what_they_were_made_from() {
        let all = [
            "--offset",
            "-5",
            "-p",
            "1:2",
            "-p",
            "3:4",
            "--public",
            "--browser",
            "--domain",
            "d",
            "--path",
            "/p",
            "-e",
            "A=-x y",
            "-e",
            "B",
            "-f",
            "a:/b",
            "-z",
            "--entrypoint",
            "",
            "-u",
            "u",
            "-w",
            "/w",
            "--memory",
            "1g",
            "--cpus",
            "1.5",
            "--pids",
            "9",
            "-it",
            "--timing",
            "--json",
            "f",
            "image",
            "--flag",
            "-v",
            "--",
            "",
        ];
        for line in [&all[..], &["service"], &["--", "location", "-x"]] {
            let whole = [
                &["-vv", "--location", "l", "service", "install", "image"],
                line,
            ]
            .concat();
            let tf = parse(&whole);
            let Verb::Service(service) = tf.verb.named else {
                panic!("{whole:?}")
            };
            let ServiceVerb::Install(install) = service.verb.named else {
                panic!("{whole:?}")
            };
            let Installed::Image(options) = install.what.named else {
                panic!("{whole:?}")
            };
            let mut words = Vec::new();
            global(&tf.global, &mut words);
            words.push("run".to_owned());
            run(&options.run, &mut words);
            let again: Vec<&str> = words.iter().map(String::as_str).collect();
            let again = parse(&again);
            let Verb::Run(read) = again.verb.named else {
                panic!("{words:?}")
            };
            assert_eq!(format!("{read:?}"), format!("{:?}", options.run));
            assert_eq!(format!("{:?}", again.global), format!("{:?}", tf.global));
        }
    }

    #[test]
    fn the_first_word_decides_what_is_installed() {
        for (line, role) in [
            ("nginx", "image"),
            ("--name web nginx", "image"),
            ("--system --offset 80 nginx location", "image"),
            ("location --no-node", "location"),
            ("--system location --name office", "location"),
            ("location --system", "location"),
            ("--host root@server --print node", "node"),
            ("image location", "image"),
            ("-- node", "image"),
        ] {
            let mut words = vec!["service", "install"];
            words.extend(line.split(' '));
            let Verb::Service(service) = parse(&words).verb.named else {
                panic!("{line}")
            };
            let ServiceVerb::Install(install) = service.verb.named else {
                panic!("{line}")
            };
            let found = match install.what.named {
                Installed::Image(_) => "image",
                Installed::Location(_) => "location",
                Installed::Node { .. } => "node",
            };
            assert_eq!(found, role, "{line}");
            assert_eq!(service.place.system, line.contains("--system"), "{line}");
        }
    }
}
