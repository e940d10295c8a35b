//! Spells out what a command line leaves out: `tf nginx` is `tf run nginx`, `tf cache nginx` is `tf cache add nginx`.
//!
//! Pure. It knows the options and verbs from the clap definitions, and looks at words, not at their meaning: the first word
//! after the options of the command decides. If it is a verb, that verb is meant; if it is anything else (a plain word, `--`,
//! an option of the implied verb), the implied verb is put in front of it. clap has ways of its own to do this, each with a
//! trap: `tf debian ps` runs a verb `ps`, or `tf -v cache` an image of that name.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// Names of commands, and the verb that is meant where none of theirs is named.
const IMPLIED: &[(&str, &str)] = &[
    ("tf", "run"),
    ("tfcache", "add"),
    ("cache", "add"),
    ("install", "image"),
];

/// Puts in the words that were left out. `words` are the arguments without the program's name; `command` is the
/// program's definition, built.
pub(crate) fn spell_out(command: &Command, words: Vec<OsString>) -> Vec<OsString> {
    let at = skip_options(command, &words);
    let named = words.get(at).and_then(|word| word.to_str());
    let named = named.and_then(|word| command.find_subcommand(word));
    let (verb, name) = match (named, implied(command.get_name())) {
        (Some(verb), _) => (verb, None),
        (None, Some(implied)) if at < words.len() => {
            let verb = command
                .find_subcommand(implied)
                .expect("the implied verb is a verb of the command");
            (verb, Some(implied))
        }
        (None, _) => return set_off_image(command, words),
    };
    let mut spelled = words;
    let rest = spelled.split_off(at + usize::from(name.is_none()));
    spelled.extend(name.map(OsString::from));
    spelled.extend(spell_out(verb, rest));
    spelled
}

/// The verb that is meant where a command of this name is given none.
pub(crate) fn implied(command: &str) -> Option<&'static str> {
    let found = IMPLIED.iter().find(|(name, _)| *name == command);
    found.map(|(_, verb)| *verb)
}

/// The command, and the verbs of it that words name which are spelled out: `tf`, `cache` and `rm`.
pub(crate) fn path<'a>(mut command: &'a Command, mut words: &[OsString]) -> Vec<&'a str> {
    let mut path = vec![command.get_name()];
    loop {
        let at = skip_options(command, words);
        let named = words.get(at).and_then(|word| word.to_str());
        match named.and_then(|word| command.find_subcommand(word)) {
            Some(verb) if verb.get_name() != "help" => {
                path.push(verb.get_name());
                words = &words[at + 1..];
                command = verb;
            }
            _ => return path,
        }
    }
}

/// Puts `--` in front of the first positional argument of a command that passes on all that follows it, so that options
/// of the container's program, and a `--` of its own, are left alone.
fn set_off_image(command: &Command, mut words: Vec<OsString>) -> Vec<OsString> {
    let passes_on = command.get_positionals().any(Arg::is_trailing_var_arg_set);
    let at = skip_options(command, &words);
    if passes_on && words.get(at).is_some_and(|word| !is_option(word)) {
        words.insert(at, "--".into());
    }
    words
}

/// Number of words at the start that are options of `command`, and their values.
fn skip_options(command: &Command, words: &[OsString]) -> usize {
    let mut at = 0;
    while let Some(word) = words.get(at) {
        match option_length(command, word) {
            Some(length) => at += length,
            None => break,
        }
    }
    // An option at the very end may lack its value; clap says so.
    at.min(words.len())
}

/// Number of words that an option of `command` takes, beginning with `word`: 1, or 2 if its value is the next word. None
/// if `word` is not an option of `command`.
fn option_length(command: &Command, word: &OsStr) -> Option<usize> {
    if !is_option(word) || word == "--" {
        return None;
    }
    // An option's name is ASCII. Its value may be anything, but is behind a `=` or the name's letter.
    let text = word.to_string_lossy();
    if let Some(long) = text.strip_prefix("--") {
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_long() == Some(name))?;
        return Some(if takes_value(arg) && value.is_none() {
            2
        } else {
            1
        });
    }
    let mut letters = text.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        let arg = command
            .get_arguments()
            .find(|arg| arg.get_short() == Some(letter))?;
        if takes_value(arg) {
            return Some(if letters.peek().is_none() { 2 } else { 1 });
        }
    }
    Some(1)
}

/// Whether the word has the look of an option. A single `-` has not.
fn is_option(word: &OsStr) -> bool {
    let bytes = word.as_encoded_bytes();
    bytes.len() > 1 && bytes[0] == b'-'
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::args::{Tf, Tfcache};

    fn spelled(mut command: Command, line: &str) -> String {
        command.build();
        let words = line.split_whitespace().map(OsString::from).collect();
        let words: Vec<String> = spell_out(&command, words)
            .into_iter()
            .map(|word| word.into_string().expect("the tests are text"))
            .collect();
        words.join(" ")
    }

    #[test]
    fn run_is_put_in_where_no_verb_is_named() {
        for (typed, meant) in [
            ("nginx", "run -- nginx"),
            (".", "run -- ."),
            ("-", "run -- -"),
            ("./image.tar", "run -- ./image.tar"),
            ("nginx nginx -g daemon", "run -- nginx nginx -g daemon"),
            ("--offset 8000 nginx", "run --offset 8000 -- nginx"),
            ("--offset=8000 nginx", "run --offset=8000 -- nginx"),
            ("--offset -5 nginx", "run --offset -5 -- nginx"),
            ("-it debian bash", "run -it -- debian bash"),
            ("-e A=1 -e B nginx", "run -e A=1 -e B -- nginx"),
            ("-eA=1 nginx", "run -eA=1 -- nginx"),
            ("-itu root debian", "run -itu root -- debian"),
            ("-ituroot debian", "run -ituroot -- debian"),
            ("-v nginx", "-v run -- nginx"),
            ("-vv nginx", "-vv run -- nginx"),
            ("-q -z nginx", "-q run -z -- nginx"),
            ("-vit debian", "run -vit -- debian"),
            ("--location home nginx", "--location home run -- nginx"),
            ("--location=home nginx", "--location=home run -- nginx"),
            ("--location cache nginx", "--location cache run -- nginx"),
            (
                "-v --location-ip ::1 -p 1:2 nginx",
                "-v --location-ip ::1 run -p 1:2 -- nginx",
            ),
            ("-- cache", "run -- cache"),
            ("-v -- cache ls", "-v run -- cache ls"),
            ("-p 1:2 -- cache", "run -p 1:2 -- cache"),
            ("--browser cache ls", "run --browser -- cache ls"),
            ("volumes", "run -- volumes"),
            ("-v volumes", "-v run -- volumes"),
        ] {
            assert_eq!(spelled(Tf::command(), typed), meant, "{typed}");
        }
    }

    #[test]
    fn a_verb_is_a_verb() {
        for line in [
            "last-image",
            "-v last-image",
            "describe nginx",
            "--location home describe nginx",
            "cache ls",
            "-v cache ls --json",
            "cache rm nginx",
            "cache add ls",
            "cache --help",
            "cache",
            "service ls",
            "service --host a rm image",
            "service install",
            "service install location --no-node",
        ] {
            assert_eq!(spelled(Tf::command(), line), line);
        }
    }

    #[test]
    fn run_reaches_images_that_are_called_like_verbs() {
        assert_eq!(spelled(Tf::command(), "run cache"), "run -- cache");
        assert_eq!(spelled(Tf::command(), "run run"), "run -- run");
        assert_eq!(spelled(Tf::command(), "-v run -v run"), "-v run -v -- run");
        assert_eq!(spelled(Tf::command(), "cache add rm"), "cache add rm");
    }

    #[test]
    fn an_image_is_installed_where_nothing_else_is_named() {
        for (typed, meant) in [
            ("nginx -v", "image -- nginx -v"),
            ("--system -p 1:2 nginx", "--system image -p 1:2 -- nginx"),
            ("image node", "image -- node"),
            ("-- node", "image -- node"),
            ("--system node --join x", "--system node --join x"),
        ] {
            let [typed, meant] = [typed, meant].map(|line| format!("service install {line}"));
            assert_eq!(spelled(Tf::command(), &typed), meant);
        }
    }

    #[test]
    fn what_follows_the_image_is_left_alone() {
        for (typed, meant) in [
            ("debian ps aux", "run -- debian ps aux"),
            ("debian -v", "run -- debian -v"),
            ("debian --offset 5", "run -- debian --offset 5"),
            ("debian --help", "run -- debian --help"),
            ("debian -- ls", "run -- debian -- ls"),
            ("run debian -- ls", "run -- debian -- ls"),
            ("run -- debian -- ls", "run -- debian -- ls"),
        ] {
            assert_eq!(spelled(Tf::command(), typed), meant, "{typed}");
        }
    }

    #[test]
    fn mistakes_are_left_for_clap_to_report() {
        for (typed, meant) in [
            ("--ofset 8000 nginx", "run --ofset 8000 nginx"),
            ("run --ofset 8000 nginx", "run --ofset 8000 nginx"),
            ("-x nginx", "run -x nginx"),
            ("--offset", "run --offset"),
            ("--location", "--location"),
            ("run -p", "run -p"),
        ] {
            assert_eq!(spelled(Tf::command(), typed), meant, "{typed}");
        }
    }

    #[test]
    fn help_and_version_are_left_alone() {
        for line in ["", "-h", "--help", "-V", "--version", "-v --help", "run -h"] {
            assert_eq!(spelled(Tf::command(), line), line);
        }
    }

    #[test]
    fn add_is_put_in_where_no_verb_of_the_cache_is_named() {
        for (typed, meant) in [
            ("cache nginx", "cache add nginx"),
            ("-v cache -v nginx", "-v cache -v add nginx"),
            (
                "cache --location home nginx",
                "cache --location home add nginx",
            ),
            ("cache -- ls", "cache add -- ls"),
        ] {
            assert_eq!(spelled(Tf::command(), typed), meant, "{typed}");
        }
        for (typed, meant) in [
            ("nginx", "add nginx"),
            ("-q nginx", "-q add nginx"),
            ("ls --json", "ls --json"),
            ("-- ls", "add -- ls"),
            ("rm a b", "rm a b"),
        ] {
            assert_eq!(spelled(Tfcache::command(), typed), meant, "{typed}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn words_that_are_not_text_pass_through() {
        use std::os::unix::ffi::OsStringExt;

        let mut command = Tf::command();
        command.build();
        let odd = OsString::from_vec(vec![b'-', b'-', 0xff]);
        let image = OsString::from_vec(vec![0xff]);
        assert_eq!(
            spell_out(&command, vec![image.clone(), odd.clone()]),
            [OsString::from("run"), "--".into(), image, odd]
        );
    }
}
