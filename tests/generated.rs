//! The man pages and completions in the repository are what the generator makes, and their readers take them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{Done, Program, installed, tf};

/// Directories that hold nothing but generated files.
const DIRECTORIES: [&str; 2] = ["man", "completions"];

/// What each shell is asked to complete, and what the answer is: the words at the end of the line, the last of them as far
/// as it has been typed, and the candidates for that one.
const LINES: &[(&str, &[&str])] = &[
    ("tf la", &["last-image"]),
    ("tf -v cac", &["cache"]),
    ("tf --location cache la", &["last-image"]),
    ("tf --offs", &["--offset"]),
    ("tf -p 1:2 --brow", &["--browser"]),
    ("tf run --brow", &["--browser"]),
    ("tf cache r", &["rm"]),
    ("tf cache ls --js", &["--json"]),
    ("tf service install --repl", &["--replace"]),
    ("tf service install he", &["hello"]),
    ("tf service install --offs", &["--offset"]),
    ("tf service install no", &["node"]),
    // Names of images, wherever an image is meant.
    ("tf he", &["hello"]),
    ("tf -it he", &["hello"]),
    ("tf --offset 8000 he", &["hello"]),
    ("tf run he", &["hello"]),
    ("tf cache he", &["hello"]),
    ("tf cache rm he", &["hello"]),
    ("tf -- he", &["hello"]),
    ("tfcache he", &["hello"]),
    ("tfcache l", &["ls"]),
    // Paths, where an image may be one, and for options.
    ("tf ./man/tf-ru", &["./man/tf-run.1"]),
    ("tf -f man/tf-ru", &["man/tf-run.1"]),
    ("tf -itf man/tf-ru", &["man/tf-run.1"]),
    ("tf --json man/tf-ru", &["man/tf-run.1"]),
    // No verbs after options of `run`, and nothing of ours after the image.
    ("tf --offset 8000 cac", &[]),
    ("tf hello --offs", &[]),
    ("tf run cac", &[]),
];

/// The command lines of [`LINES`], one a line.
fn typed() -> String {
    LINES.iter().flat_map(|(line, _)| [line, "\n"]).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files of the generated directories below `directory`, with their content.
fn files(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    for name in DIRECTORIES {
        let Ok(entries) = fs::read_dir(directory.join(name)) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("the directory can be read").path();
            let content = fs::read_to_string(&path).expect("generated files are text");
            let relative = path.strip_prefix(directory).expect("it is below");
            files.insert(relative.to_owned(), content);
        }
    }
    files
}

/// The generated files of one sort.
fn committed(start: &str) -> Vec<PathBuf> {
    let files = files(root());
    let found: Vec<PathBuf> = files
        .into_keys()
        .filter(|path| path.to_string_lossy().starts_with(start))
        .collect();
    assert!(!found.is_empty(), "there is no {start}");
    found
}

#[track_caller]
fn succeeds(command: &mut Command) -> Output {
    let output = command.output().expect("it can be started");
    assert!(output.status.success(), "{command:?}: {output:#?}");
    output
}

#[test]
fn files_are_what_the_generator_makes() {
    if std::env::var_os("TF_BLESS").is_some() {
        tf().args(["generate".as_ref(), root().as_os_str()])
            .run()
            .code(0);
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = tf().args(["generate".as_ref(), directory.path().as_os_str()]);
    program.run().code(0).no_stdout().no_stderr();
    let (made, kept) = (files(directory.path()), files(root()));
    let names = |files: &BTreeMap<PathBuf, String>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(&made),
        names(&kept),
        "TF_BLESS=1 adds what is missing"
    );
    for (path, content) in &made {
        assert!(
            kept[path] == *content,
            "{} is out of date: run the test with TF_BLESS=1",
            path.display()
        );
    }
}

#[test]
fn man_pages_have_no_mistakes() {
    if !installed("mandoc") {
        return;
    }
    let output = Command::new("mandoc")
        .args(["-T", "lint", "-W", "warning"])
        .args(committed("man/"))
        .current_dir(root())
        .output()
        .expect("mandoc runs");
    assert!(output.status.success(), "{output:#?}");
}

#[test]
fn man_pages_say_more_than_the_help() {
    for path in committed("man/") {
        let content = fs::read_to_string(root().join(&path)).expect("it is there");
        for section in [
            "EXAMPLES",
            "EXIT STATUS",
            "FILES",
            "ENVIRONMENT",
            "SEE ALSO",
        ] {
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(
                heading.iter().any(|heading| content.contains(heading)),
                "{}: no {section}",
                path.display()
            );
        }
    }
}

#[test]
fn shells_load_the_completions() {
    for (shell, options, start) in [
        ("bash", &["-n"][..], "completions/tf.bash"),
        ("bash", &["-n"], "completions/tfcache.bash"),
        ("zsh", &["-n"], "completions/_"),
        ("fish", &["-n"], "completions/tf.fish"),
        ("fish", &["-n"], "completions/tfcache.fish"),
    ] {
        if !installed(shell) {
            continue;
        }
        for path in committed(start) {
            let path = root().join(path);
            succeeds(Command::new(shell).args(options).arg(path));
        }
    }
}

/// A shell that finds the programs under test, in the directory of the repository.
fn shell(program: &str) -> Program {
    let binaries = Path::new(env!("CARGO_BIN_EXE_tf"))
        .parent()
        .expect("it has a directory");
    let path = format!(
        "{}:{}",
        binaries.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut shell = Program::new(program).env("PATH", path).env("TERM", "dumb");
    shell.command().current_dir(root());
    shell
}

/// What a shell's script makes of the lines that are typed.
#[track_caller]
fn answers(program: &str, options: &[&str], script: &str) -> Done {
    let shell = shell(program).args(options).args(["-c", script]);
    shell.input(typed().as_bytes()).run().code(0)
}

/// What shells show that show all candidates.
fn all(_line: &str, candidates: &[&str]) -> Vec<String> {
    candidates.iter().map(ToString::to_string).collect()
}

/// Compares what a shell has completed, a line for each of [`LINES`] with words between spaces, with what was expected.
#[track_caller]
fn compare(answers: &str, expected: impl Fn(&str, &[&str]) -> Vec<String>) {
    let answers: Vec<&str> = answers.lines().collect();
    assert_eq!(answers.len(), LINES.len(), "{answers:#?}");
    for ((line, candidates), answer) in LINES.iter().zip(answers) {
        let found: Vec<&str> = answer.split_whitespace().collect();
        assert_eq!(found, expected(line, candidates), "{line}");
    }
}

#[test]
fn bash_completes() {
    if !installed("bash") {
        return;
    }
    let script = r#"
        source completions/tf.bash
        source completions/tfcache.bash
        while read -r line; do
            COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
            # As readline takes the line apart.
            read -ra COMP_WORDS <<<"${line//:/ : }"
            COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
            COMPREPLY=()
            "_${COMP_WORDS[0]}"
            echo "${COMPREPLY[*]}"
        done
    "#;
    let answers = answers("bash", &["--norc"], script).no_stderr();
    compare(&answers.stdout, all);
}

#[test]
fn bash_completes_what_stands_behind_a_colon() {
    if !installed("bash") {
        return;
    }
    // A `tf` that knows images with tags.
    let fake = tempfile::tempdir().expect("a directory");
    let program = fake.path().join("tf");
    fs::write(&program, "#!/bin/sh\nprintf 'web:one\\nweb:two\\n'\n").expect("it is writable");
    succeeds(Command::new("chmod").arg("+x").arg(&program));
    let script = format!(
        r#"
        source completions/tf.bash
        COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
        COMP_WORDS=({} web : o)
        COMP_CWORD=3
        _tf
        echo "${{COMPREPLY[*]}}"
    "#,
        program.display()
    );
    let done = shell("bash").args(["--norc", "-c", &script]).run().code(0);
    // Readline replaces the word behind the colon only; `web:` is in a word of its own.
    assert_eq!(done.no_stderr().stdout, "one two\n");
}

#[test]
fn fish_completes() {
    if !installed("fish") {
        return;
    }
    let script = r"
        source completions/tf.fish
        source completions/tfcache.fish
        while read -l line
            echo (complete -C $line | string replace -r '\t.*' '')
        end
    ";
    let answers = answers("fish", &["--no-config"], script).no_stderr();
    compare(&answers.stdout, all);
}

#[test]
fn zsh_completes() {
    if !installed("zsh") {
        return;
    }
    // zsh completes on a terminal only. The line that it makes of what was typed is the answer.
    let script = r#"
        zmodload zsh/zpty || exit 1
        answers=$HOME/answers
        : > $answers
        zpty shell zsh -f -i
        zpty -w shell "PS1=; fpath=($PWD/completions \$fpath)"
        zpty -w shell "autoload -Uz compinit && compinit -u -D"
        zpty -w shell "bindkey '^I' complete-word; setopt no_beep no_list_beep"
        zpty -w shell "answer() { print -r -- \$BUFFER >> $answers; BUFFER=; }"
        zpty -w shell "zle -N answer; bindkey '^X' answer"
        typeset -i number=0
        while read -r line; do
            number+=1
            zpty -w -n shell $line$'\t\x18'
            for (( look = 0; look < 2000; look++ )); do
                (( $(wc -l < $answers) >= number )) && break
                zpty -r -t shell output
                sleep 0.01
            done
        done
        zpty -d shell
        cat $answers
    "#;
    let answers = answers("zsh", &["-f"], script);
    compare(&answers.stdout, |line, candidates| {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if let [candidate] = candidates {
            let last = words.last_mut().expect("a line has words");
            // An option with a value gets its `=` at once.
            *last = match *candidate {
                "--offset" => "--offset=".to_owned(),
                other => other.to_owned(),
            };
        }
        words
    });
}
