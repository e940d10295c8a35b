//! Completion for zsh, with its own `_arguments`.

use std::fmt::Write as _;

use super::model::{Opt, Scope, Value};

/// The script: a function for each scope.
pub(super) fn script(scope: &Scope) -> String {
    let program = &scope.name;
    let mut text = format!(
        "#compdef {program}\n# Completion of {program} for zsh. Made by `tf generate`.\n\n"
    );
    text.push_str(&include_str!("completion.zsh").replace("@FUNCTION@", &scope.path));
    for scope in scope.all().into_iter().rev() {
        text.push('\n');
        text.push_str(&if scope.verbs.is_empty() {
            leaf(scope)
        } else {
            branch(scope)
        });
    }
    let _ = write!(
        text,
        "\nif [[ $funcstack[1] == {function} ]]; then\n    {function} \"$@\"\nelse\n    compdef {function} {program}\nfi\n",
        function = scope.path
    );
    text.replace("@IMAGES@", &format!("{}_images", scope.path))
}

/// A scope without verbs.
fn leaf(scope: &Scope) -> String {
    let mut text = format!("{}() {{\n    _arguments -s -S", scope.path);
    if scope.passes_on {
        // No options behind the first operand.
        text.push_str(" -A '-*'");
    }
    for option in &scope.options {
        let _ = write!(text, " \\\n        {}", spec(option));
    }
    let operand = action(scope.operand);
    match (scope.operand, scope.passes_on) {
        (Value::Unknown, _) => {}
        (_, true) => {
            let _ = write!(
                text,
                " \\\n        '1:image:{operand}' \\\n        '*:: :_message \"command in the container\"'"
            );
        }
        (_, false) => {
            let _ = write!(text, " \\\n        '*:image:{operand}'");
        }
    }
    text.push_str("\n}\n");
    text
}

/// A scope with verbs: finds out which one is named, and hands over to its function.
fn branch(scope: &Scope) -> String {
    let valued: Vec<String> = scope
        .options
        .iter()
        .filter(|option| option.value.is_some())
        .flat_map(Opt::words)
        .collect();
    let own: Vec<String> = scope
        .options
        .iter()
        .flat_map(|option| {
            let with_value = option
                .value
                .is_some()
                .then(|| format!("--{}=*", option.long));
            option.words().into_iter().chain(with_value)
        })
        .collect();
    let mut text = format!(
        "{function}() {{
{remember}    local -i at=2
    while (( at < CURRENT )); do
        case $words[at] in
            ({valued}) (( at += 2 )) ;;
            ({own}) (( at += 1 )) ;;
            (*) break ;;
        esac
    done
    if (( at < CURRENT )); then
        case $words[at] in
",
        function = scope.path,
        // Further down, the words begin with a verb.
        remember = if scope.path.rfind('_') == Some(0) {
            "    local program=tf\n    [[ $words[1] == */* ]] && program=${words[1]:h}/tf\n"
        } else {
            ""
        },
        valued = valued.join("|"),
        own = own.join("|"),
    );
    for verb in &scope.verbs {
        let _ = writeln!(
            text,
            "            ({}) shift $(( at - 1 )) words; (( CURRENT -= at - 1 )); {} ;;",
            verb.name, verb.path
        );
    }
    let implied = scope
        .implied_verb()
        .map_or("_message verb", |verb| verb.path.as_str());
    let _ = write!(
        text,
        "            (*) {implied} ;;
        esac
    elif (( at > CURRENT )) || [[ $words[CURRENT] == -* ]]; then
        {options}
    else
        local -a verbs=(
",
        options = if scope.implied_verb().is_some() {
            format!("{}_options", scope.path)
        } else {
            "_message verb".to_owned()
        }
    );
    for verb in &scope.verbs {
        let _ = writeln!(
            text,
            "            '{}:{}'",
            verb.name,
            quoted(&verb.about).replace(':', "\\:")
        );
    }
    let _ = write!(
        text,
        "        )
        _alternative 'verbs:verb: _describe -t verbs verb verbs' 'images:image:{}'
    fi
}}
",
        action(scope.first_operand())
    );
    // Options before the verb: those of the scope, and those of the verb that may be left out.
    let _ = write!(text, "\n{}_options() {{\n    _arguments -s -S", scope.path);
    for option in scope.all_options() {
        let _ = write!(text, " \\\n        {}", spec(option));
    }
    let _ = write!(
        text,
        " \\\n        '*:image:{}'\n}}\n",
        action(scope.first_operand())
    );
    text
}

/// An option in the language of `_arguments`.
fn spec(option: &Opt) -> String {
    let help = quoted(&option.help).replace('[', "\\[").replace(']', "\\]");
    let (short_mark, long_mark, value) = match &option.value {
        None => ("", "", String::new()),
        Some((name, value)) => (
            "+",
            "=",
            format!(":{}:{}", quoted(name).replace(':', "\\:"), action(*value)),
        ),
    };
    let long = format!("--{}", option.long);
    match (option.short, option.repeats) {
        (None, repeats) => {
            let star = if repeats { "*" } else { "" };
            format!("'{star}{long}{long_mark}[{help}]{value}'")
        }
        (Some(short), true) => {
            format!("'*'{{-{short}{short_mark},{long}{long_mark}}}'[{help}]{value}'")
        }
        (Some(short), false) => format!(
            "'(-{short} {long})'{{-{short}{short_mark},{long}{long_mark}}}'[{help}]{value}'"
        ),
    }
}

fn action(value: Value) -> &'static str {
    match value {
        Value::Image => "@IMAGES@",
        Value::File => "_files",
        Value::Directory => "_files -/",
        Value::Variable => "_parameters -g \"*export*\" -q -S=",
        Value::Host => "_hosts",
        Value::Unknown => " ",
    }
}

/// Text inside single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "'\\''")
}
