//! Completion for fish, 3.0 and later.

use std::fmt::Write as _;

use super::model::{Opt, Scope, Value, pattern};

/// The script. It is a walk over the words typed so far, the same for each program, a table of scopes, and a line for each
/// thing that can be completed.
pub(super) fn script(root: &Scope) -> String {
    let scopes = root.all();
    let table: String = scopes.iter().map(|scope| entry(scope)).collect();
    let lines: String = scopes.iter().map(|scope| lines(scope)).collect();
    include_str!("completion.fish")
        .replace("@TABLE@", table.trim_end())
        .replace("@LINES@", lines.trim_end())
        // Functions of one underscore are too easily somebody else's.
        .replace("@FUNCTION@", &format!("_{}", root.path))
        .replace("@SCOPE@", &root.path)
        .replace("@PROGRAM@", &root.name)
}

/// What a scope has, as a branch of a `switch`.
fn entry(scope: &Scope) -> String {
    let verbs: Vec<&str> = scope.verbs.iter().map(|verb| verb.name.as_str()).collect();
    let implied = scope.implied_verb().map_or("", |verb| verb.path.as_str());
    let own: Vec<&Opt> = scope.options.iter().collect();
    let valued = pattern(&scope.all_options(), |option| option.value.is_some());
    let passes_on = if scope.passes_on { "yes" } else { "" };
    format!(
        "        case {}
            set verbs {}
            set implied '{implied}'
            set own '{}'
            set valued '{valued}'
            set passes_on '{passes_on}'
",
        scope.path,
        verbs.join(" "),
        pattern(&own, |_| true),
    )
    .replace("set verbs \n", "set verbs\n")
}

/// The lines for what can be completed in a scope.
fn lines(scope: &Scope) -> String {
    let mut text = String::new();
    let mut line = |kind: &str, what: &str| {
        let _ = writeln!(
            text,
            "complete -c @PROGRAM@ -n '@FUNCTION@_in {} {kind}' {what}",
            scope.path
        );
    };
    for verb in &scope.verbs {
        let what = format!("-a {} -d '{}'", verb.name, quoted(&verb.about));
        line("verb", &what);
    }
    for option in scope.all_options() {
        line("option", &spec(option));
    }
    let operand = values(scope.first_operand());
    if !operand.is_empty() {
        line("operand", operand);
    }
    text
}

fn spec(option: &Opt) -> String {
    let mut text = String::new();
    if let Some(short) = option.short {
        let _ = write!(text, "-s {short} ");
    }
    let _ = write!(text, "-l {}", option.long);
    if let Some(kind) = option.kind() {
        // A file may also be what stands before a colon, so paths are not the only values.
        text.push_str(if kind == Value::File { " -r " } else { " -x " });
        text.push_str(values(kind));
    }
    let help = quoted(&option.help);
    format!("{} -d '{help}'", text.trim_end())
}

fn values(kind: Value) -> &'static str {
    match kind {
        Value::Image => "-a '(@FUNCTION@_images)'",
        Value::File => "-F",
        Value::Directory => "-a '(__fish_complete_directories)'",
        Value::Variable => "-a '(set -nx)'",
        Value::Host => "-a '(__fish_print_hostnames)'",
        Value::Unknown => "",
    }
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
