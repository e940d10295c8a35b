//! What a shell has to know of a command to complete its words: a tree of scopes, made from a clap definition.
//!
//! ```text
//! tf ─┬─ run (implied)       options, IMAGE, then words of the container's program
//!     ├─ cache ─┬─ add (implied)
//!     │         ├─ ls
//!     │         └─ rm
//!     └─ describe, last-image
//! ```

use clap::{Arg, Command, ValueHint};

use crate::cli::argv;

/// A command or verb.
#[derive(Debug)]
pub(super) struct Scope {
    /// Names of the commands that lead here, with `_` between them: the name of a shell function.
    pub(super) path: String,
    /// The word that leads here.
    pub(super) name: String,
    /// What it does, in a line.
    pub(super) about: String,
    /// Options.
    pub(super) options: Vec<Opt>,
    /// What its operands are, the last one repeated as often as there are more.
    pub(super) operand: Value,
    /// Words behind the first operand are none of its business.
    pub(super) passes_on: bool,
    /// Verbs.
    pub(super) verbs: Vec<Scope>,
    /// Name of the verb that is meant where none is named.
    pub(super) implied: Option<&'static str>,
}

/// An option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opt {
    /// Letter.
    pub(super) short: Option<char>,
    /// Long name, without the dashes.
    pub(super) long: String,
    /// What it does, in a line.
    pub(super) help: String,
    /// Its value, if it has one.
    pub(super) value: Option<(String, Value)>,
    /// It may be given more than once.
    pub(super) repeats: bool,
}

/// Kinds of values, by how they are completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value {
    /// Names of images of the local Docker daemon, and paths.
    Image,
    /// Paths of files.
    File,
    /// Paths of directories.
    Directory,
    /// Names of environment variables.
    Variable,
    /// Names of hosts.
    Host,
    /// Nothing that a shell could know.
    Unknown,
}

impl Scope {
    /// The scope of a built command, with those of its verbs.
    pub(super) fn of(command: &Command) -> Self {
        Self::within(command, "")
    }

    fn within(command: &Command, parent: &str) -> Self {
        let name = command.get_name().to_owned();
        let path = format!("{parent}_{}", name.replace('-', "_"));
        let visible = |arg: &&Arg| !arg.is_hide_set();
        let operand = command.get_positionals().find(visible);
        Self {
            about: plain(command.get_about()),
            options: command
                .get_arguments()
                .filter(visible)
                .filter(|arg| !arg.is_positional())
                .map(Opt::of)
                .collect(),
            operand: operand.map_or(Value::Unknown, Value::of),
            passes_on: command.get_positionals().any(Arg::is_trailing_var_arg_set),
            verbs: command
                .get_subcommands()
                .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
                .map(|verb| Self::within(verb, &path))
                .collect(),
            implied: argv::implied(&name),
            path,
            name,
        }
    }

    /// The scope of the verb that is meant where none is named.
    pub(super) fn implied_verb(&self) -> Option<&Self> {
        let implied = self.implied?;
        self.verbs.iter().find(|verb| verb.name == implied)
    }

    /// Its options and those of the implied verb, each once.
    pub(super) fn all_options(&self) -> Vec<&Opt> {
        let mut all: Vec<&Opt> = self.options.iter().collect();
        for option in self.implied_verb().iter().flat_map(|verb| &verb.options) {
            if !all.iter().any(|other| other.long == option.long) {
                all.push(option);
            }
        }
        all
    }

    /// What the first operand is, in the scope itself or for the implied verb.
    pub(super) fn first_operand(&self) -> Value {
        self.implied_verb()
            .map_or(self.operand, |verb| verb.operand)
    }

    /// It and all scopes below it.
    pub(super) fn all(&self) -> Vec<&Self> {
        let mut all = vec![self];
        for verb in &self.verbs {
            all.extend(verb.all());
        }
        all
    }
}

impl Opt {
    fn of(arg: &Arg) -> Self {
        let value = arg.get_action().takes_values().then(|| {
            let name = arg
                .get_value_names()
                .and_then(|names| names.first())
                .map(ToString::to_string)
                .unwrap_or_default();
            (name, Value::of(arg))
        });
        Self {
            short: arg.get_short(),
            long: arg.get_long().unwrap_or_default().to_owned(),
            help: plain(arg.get_help()),
            value,
            repeats: matches!(
                arg.get_action(),
                clap::ArgAction::Append | clap::ArgAction::Count
            ),
        }
    }

    /// The words that name it.
    pub(super) fn words(&self) -> Vec<String> {
        let short = self.short.map(|short| format!("-{short}"));
        let long = Some(format!("--{}", self.long));
        short.into_iter().chain(long).collect()
    }

    /// Kind of its value, if it has one.
    pub(super) fn kind(&self) -> Option<Value> {
        self.value.as_ref().map(|(_, value)| *value)
    }
}

/// A regular expression for the words that name one of the wanted options: the long name, or the letter, alone or behind
/// letters of options without a value. Empty if no option is wanted.
pub(super) fn pattern(options: &[&Opt], wanted: impl Fn(&Opt) -> bool) -> String {
    let flags = options.iter().filter(|option| option.value.is_none());
    let flags: String = flags.filter_map(|option| option.short).collect();
    let mut alternatives = Vec::new();
    let mut letters = String::new();
    for option in options.iter().filter(|option| wanted(option)) {
        alternatives.push(format!("--{}", option.long));
        letters.extend(option.short);
    }
    if !letters.is_empty() {
        alternatives.push(format!("-[{flags}]*[{letters}]"));
    }
    if alternatives.is_empty() {
        return String::new();
    }
    format!("^({})$", alternatives.join("|"))
}

impl Value {
    fn of(arg: &Arg) -> Self {
        let name = arg
            .get_value_names()
            .and_then(|names| names.first())
            .map_or("", |name| name.as_str());
        match (name, arg.get_value_hint()) {
            ("IMAGE", _) => Self::Image,
            ("VAR[=VALUE]", _) => Self::Variable,
            (_, ValueHint::FilePath | ValueHint::AnyPath) => Self::File,
            (_, ValueHint::DirPath) => Self::Directory,
            (_, ValueHint::Hostname) => Self::Host,
            _ => Self::Unknown,
        }
    }
}

fn plain(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Tf;

    fn scope() -> Scope {
        let mut command = Tf::command();
        command.build();
        Scope::of(&command)
    }

    fn names(scopes: &[Scope]) -> Vec<&str> {
        scopes.iter().map(|scope| scope.name.as_str()).collect()
    }

    #[test]
    fn hidden_verbs_are_not_completed() {
        let scope = scope();
        assert_eq!(
            names(&scope.verbs),
            [
                "run",
                "cache",
                "describe",
                "last-image",
                "ps",
                "stop",
                "resources",
                "account",
                "locations",
                "location",
                "node",
                "service",
            ]
        );
        assert_eq!(names(&scope.verbs[1].verbs), ["add", "ls", "rm"]);
        assert_eq!(scope.verbs[1].verbs[0].path, "_tf_cache_add");
    }

    #[test]
    fn values_have_a_kind() {
        let scope = scope();
        let run = scope.implied_verb().expect("run is implied");
        assert!(run.passes_on);
        assert_eq!(run.operand, Value::Image);
        let kind = |long: &str| {
            let option = run.options.iter().find(|option| option.long == long);
            option
                .expect("an option of that name")
                .value
                .as_ref()
                .map(|(_, value)| *value)
        };
        assert_eq!(kind("file"), Some(Value::File));
        assert_eq!(kind("env"), Some(Value::Variable));
        assert_eq!(kind("domain"), Some(Value::Host));
        assert_eq!(kind("offset"), Some(Value::Unknown));
        assert_eq!(kind("tty"), None);
    }

    #[test]
    fn options_of_the_implied_verb_are_there_too() {
        let scope = scope();
        let long: Vec<&str> = scope
            .all_options()
            .iter()
            .map(|option| option.long.as_str())
            .collect();
        for option in ["verbose", "version", "help", "offset"] {
            let times = long.iter().filter(|name| **name == option).count();
            assert_eq!(times, 1, "{option}");
        }
    }
}
