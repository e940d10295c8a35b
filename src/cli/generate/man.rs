//! Man pages: what clap knows of a command, and what [`manual`](super::manual) adds.

use std::fmt::Write as _;

use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::json;
use super::manual::{self, Entry, Manual};

/// Date of the pages, which the format asks for: of their last change in substance, not of the build, which would make
/// each build another one.
const DATE: &str = "2026-11-20";

/// A man page of section 1.
#[derive(Debug)]
pub(super) struct Page {
    /// Its name, without the section.
    pub(super) name: String,
    /// Its source.
    pub(super) content: String,
}

/// The page of a built command, and one for each of its verbs, and theirs, that has something to say of its own.
pub(super) fn pages(command: &Command) -> Vec<Page> {
    pages_of(command, command.get_name())
}

fn pages_of(command: &Command, name: &str) -> Vec<Page> {
    let mut pages = vec![page(command, name)];
    for verb in verbs(command) {
        let name = format!("{name}-{}", verb.get_name());
        // The verbs of `tfcache` are in its own page.
        if manual::of(&name).is_some() {
            pages.extend(pages_of(verb, &name));
        }
    }
    pages
}

fn verbs(command: &Command) -> impl Iterator<Item = &Command> {
    command
        .get_subcommands()
        .filter(|verb| !verb.is_hide_set() && verb.get_name() != "help")
}

fn page(command: &Command, name: &str) -> Page {
    let manual = manual::of(name).expect("every page has a manual");
    let mut content = String::new();
    render(command, name, manual, &mut content).expect("writing to memory does not fail");
    Page {
        name: name.to_owned(),
        content: with_bold_code(&content),
    }
}

fn render(
    command: &Command,
    name: &str,
    manual: &Manual,
    content: &mut String,
) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    let man = Man::new(command.clone().display_name(name.to_owned()))
        .title(name.to_uppercase())
        .date(DATE)
        .source(concat!("tf ", env!("CARGO_PKG_VERSION")))
        .manual("tf manual");
    man.render_title(&mut bytes)?;
    man.render_name_section(&mut bytes)?;
    man.render_synopsis_section(&mut bytes)?;
    man.render_description_section(&mut bytes)?;
    let mut roff = Roff::new();
    if command.has_subcommands() {
        verbs_section(&mut roff, command, name);
    }
    roff.to_writer(&mut bytes)?;
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    bytes.extend(as_subsections(&options).into_bytes());

    let mut roff = Roff::new();
    for (heading, paragraphs) in manual.notes {
        roff.control("SH", [*heading]);
        for (index, paragraph) in paragraphs.iter().enumerate() {
            if index > 0 {
                roff.control("PP", []);
            }
            roff.text([roman(*paragraph)]);
        }
    }
    json_section(&mut roff, name);
    examples_section(&mut roff, manual.examples);
    entries_section(&mut roff, "EXIT STATUS", manual.exit_status);
    entries_section(&mut roff, "FILES", manual.files);
    entries_section(&mut roff, "ENVIRONMENT", manual.environment);
    see_also_section(&mut roff, manual.see_also);
    roff.to_writer(&mut bytes)?;
    content.push_str(&String::from_utf8_lossy(&bytes));
    Ok(())
}

/// The verbs: named, where they have pages of their own, or else described in full.
fn verbs_section(roff: &mut Roff, command: &Command, name: &str) {
    roff.control("SH", ["VERBS"]);
    for verb in verbs(command) {
        let page = format!("{name}-{}", verb.get_name());
        roff.control("TP", []);
        if manual::of(&page).is_some() {
            roff.text([bold(page), roman("(1)")]);
            roff.text([roman(text_of(verb.get_about()))]);
            continue;
        }
        let mut header = vec![bold(format!("{} {}", shown(name), verb.get_name()))];
        for operand in verb.get_positionals() {
            let dots = if matches!(operand.get_action(), clap::ArgAction::Append) {
                "..."
            } else {
                ""
            };
            let (open, close) = if operand.is_required_set() {
                (" ", "")
            } else {
                (" [", "]")
            };
            header.extend([
                roman(open),
                italic(value_of(operand)),
                roman(format!("{dots}{close}")),
            ]);
        }
        roff.text(header);
        let about = verb.get_long_about().or_else(|| verb.get_about());
        for (index, paragraph) in text_of(about).split("\n\n").enumerate() {
            if index > 0 {
                roff.control("IP", []);
            }
            roff.text([roman(paragraph)]);
        }
        for argument in verb.get_arguments() {
            let told = argument.is_global_set() || argument.is_hide_set();
            if told || matches!(argument.get_long(), Some("help" | "version")) {
                continue;
            }
            roff.control("RS", []);
            roff.control("TP", []);
            roff.text(match argument.get_long() {
                None => vec![italic(value_of(argument))],
                Some(long) if argument.get_action().takes_values() => {
                    vec![
                        bold(format!("--{long}")),
                        roman(" "),
                        italic(value_of(argument)),
                    ]
                }
                Some(long) => vec![bold(format!("--{long}"))],
            });
            let default = argument.get_default_values().first();
            let default = default.filter(|_| argument.get_action().takes_values());
            let default = default.map(|value| format!("; {} if not given", value.display()));
            let help = text_of(argument.get_help());
            roff.text([roman(help + &default.unwrap_or_default())]);
            roff.control("RE", []);
        }
    }
}

/// What stands for the value of an argument.
fn value_of(argument: &Arg) -> &str {
    let names = argument.get_value_names().and_then(|names| names.first());
    names.map_or(argument.get_id().as_str(), |name| name.as_str())
}

/// The words that a page's command is called by.
fn shown(page: &str) -> String {
    // The only verb of verbs that has a page.
    page.replacen("tf-", "tf ", 1)
        .replacen("service-", "service ", 1)
}

fn examples_section(roff: &mut Roff, examples: &[Entry]) {
    roff.control("SH", ["EXAMPLES"]);
    for (index, (what, line)) in examples.iter().enumerate() {
        if index > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(*what)]);
        roff.control("PP", []);
        roff.control("RS", ["4"]);
        roff.control("nf", []);
        roff.text([bold(*line)]);
        roff.control("fi", []);
        roff.control("RE", []);
    }
}

/// What `--json` prints.
fn json_section(roff: &mut Roff, page: &str) {
    for (index, listing) in json::of(page).enumerate() {
        if index == 0 {
            roff.control("SH", ["JSON"]);
        } else {
            roff.control("PP", []);
        }
        let intro = format!(
            "`{}` prints an array of objects with these members; later versions may add some:",
            listing.command
        );
        roff.text([roman(intro)]);
        for (members, meaning) in listing.members {
            roff.control("TP", []);
            roff.text([bold(*members)]);
            roff.text([roman(*meaning)]);
        }
    }
}

fn entries_section(roff: &mut Roff, heading: &str, entries: &[Entry]) {
    roff.control("SH", [heading]);
    for (term, meaning) in entries {
        roff.control("TP", []);
        roff.text([bold(*term)]);
        roff.text([roman(*meaning)]);
    }
}

fn see_also_section(roff: &mut Roff, pages: &[&str]) {
    roff.control("SH", ["SEE ALSO"]);
    let mut line: Vec<Inline> = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let end = if index + 1 < pages.len() {
            "(1), "
        } else {
            "(1)"
        };
        line.extend([bold(*page), roman(end)]);
    }
    roff.text(line);
}

fn text_of(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// Makes one section of the options: clap_mangen gives every group of them a section of its own.
fn as_subsections(options: &[u8]) -> String {
    let source = String::from_utf8_lossy(options);
    let mut out = String::with_capacity(source.len());
    for line in source.split_inclusive('\n') {
        match line.strip_prefix(".SH ") {
            Some(heading) if heading != "OPTIONS\n" => {
                let heading = heading.to_lowercase();
                let heading = heading.trim_matches(['"', '\n']);
                let (first, rest) = heading.split_at(heading.len().min(1));
                let _ = writeln!(out, ".SS \"{}{rest}\"", first.to_uppercase());
            }
            _ => out.push_str(line),
        }
    }
    out
}

/// Sets in bold what stands between backquotes, which clap prints as they are.
fn with_bold_code(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    for line in source.split_inclusive('\n') {
        let parts: Vec<&str> = line.split('`').collect();
        // An odd number of backquotes is something else.
        if parts.len().is_multiple_of(2) {
            out.push_str(line);
            continue;
        }
        for (index, part) in parts.iter().enumerate() {
            if index % 2 == 1 {
                let _ = write!(out, "\\fB{part}\\fR");
            } else {
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::{Tf, Tfcache};

    #[test]
    fn every_verb_has_a_page() {
        let mut command = Tf::command();
        command.build();
        let names: Vec<String> = pages(&command).into_iter().map(|page| page.name).collect();
        for verb in verbs(&command) {
            let name = format!("tf-{}", verb.get_name());
            assert!(names.contains(&name), "{name}");
        }
        let mut command = Tfcache::command();
        command.build();
        assert_eq!(pages(&command)[0].name, "tfcache");
    }

    #[test]
    fn groups_of_options_are_one_section() {
        assert_eq!(
            as_subsections(b".SH OPTIONS\nx\n.SH \"GLOBAL OPTIONS\"\ny\n"),
            ".SH OPTIONS\nx\n.SS \"Global options\"\ny\n"
        );
    }

    #[test]
    fn code_is_bold() {
        assert_eq!(with_bold_code("a `b` c\n"), "a \\fBb\\fR c\n");
        assert_eq!(with_bold_code("a ` b\n"), "a ` b\n");
    }
}
