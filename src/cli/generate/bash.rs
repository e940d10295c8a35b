//! Completion for bash, 3.2 and later.

use std::fmt::Write as _;

use super::model::{Opt, Scope, Value, pattern};

/// The script. It is a walk over the words typed so far, the same for each program, and a table of scopes.
pub(super) fn script(scope: &Scope) -> String {
    let table = scope.all().iter().fold(String::new(), |mut table, scope| {
        table.push_str(&entry(scope));
        table
    });
    include_str!("completion.bash")
        .replace("@PROGRAM@", &scope.name)
        .replace("@FUNCTION@", &scope.path)
        .replace("@TABLE@", table.trim_end())
}

/// What a scope has, as a branch of a `case`.
fn entry(scope: &Scope) -> String {
    let mut text = format!("        {})\n", scope.path);
    let mut set = |name: &str, value: &str| {
        let _ = writeln!(text, "            {name}='{value}'");
    };
    let verbs: Vec<&str> = scope.verbs.iter().map(|verb| verb.name.as_str()).collect();
    set("verbs", &verbs.join(" "));
    let implied = scope.implied_verb().map_or("", |verb| verb.path.as_str());
    set("implied", implied);
    let own: Vec<&Opt> = scope.options.iter().collect();
    set("own", &pattern(&own, |_| true));
    let all = scope.all_options();
    set("valued", &pattern(&all, |option| option.value.is_some()));
    let words: Vec<String> = all.iter().flat_map(|option| option.words()).collect();
    set("options", &words.join(" "));
    for (variable, kind) in [
        ("files", Value::File),
        ("directories", Value::Directory),
        ("variables", Value::Variable),
        ("hosts", Value::Host),
    ] {
        set(
            variable,
            &pattern(&all, |option| option.kind() == Some(kind)),
        );
    }
    let operand = match scope.first_operand() {
        Value::Image => "image",
        Value::File => "file",
        Value::Directory => "directory",
        _ => "",
    };
    set("operand", operand);
    set("passes_on", if scope.passes_on { "yes" } else { "" });
    text.push_str("            ;;\n");
    text
}
