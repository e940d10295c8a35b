//! Environment variables for the container, as `-e` gives them.

use std::collections::BTreeSet;

use crate::cli::failure::Failure;

/// What the `-e` options say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment {
    /// Variables to set, `NAME=value` each.
    pub(crate) variables: Vec<String>,
    /// Names that were given without a value and have none here either. They stay unset, as with `docker run`.
    pub(crate) unset: Vec<String>,
}

impl Environment {
    /// Reads the values of `-e`. `local` gives the value that a variable has here.
    ///
    /// # Errors
    ///
    /// A name that is empty, has white space in it, or is given twice.
    pub(crate) fn parse(
        options: &[String],
        local: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let mut environment = Self::default();
        let mut names = BTreeSet::new();
        for option in options {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (option.as_str(), local(option)),
            };
            if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(Failure::arguments(format!(
                    "`-e {option}` has no usable name: expected VAR=value, or VAR for the value it has here"
                )));
            }
            if !names.insert(name) {
                return Err(Failure::arguments(format!(
                    "`-e {name}` is given twice: expected each variable once"
                )));
            }
            match value {
                Some(value) => environment.variables.push(format!("{name}={value}")),
                None => environment.unset.push(name.to_owned()),
            }
        }
        Ok(environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(options: &[&str]) -> Result<Environment, String> {
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let local = |name: &str| (name == "HERE").then(|| "a value".to_owned());
        Environment::parse(&options, local).map_err(|failure| failure.to_string())
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let environment = parse(&["A=1", "B=", "C=x=y", "D= two words ", "LANG=ü"]);
        assert_eq!(
            environment.expect("valid").variables,
            ["A=1", "B=", "C=x=y", "D= two words ", "LANG=ü"]
        );
    }

    #[test]
    fn a_bare_name_takes_the_local_value() {
        let environment = parse(&["HERE", "NOT_HERE"]).expect("valid");
        assert_eq!(environment.variables, ["HERE=a value"]);
        assert_eq!(environment.unset, ["NOT_HERE"]);
    }

    #[test]
    fn names_that_make_no_sense_are_refused() {
        for option in ["", "=", "=value", " =x", "A B=x", "A\n=x", "A B"] {
            let message = parse(&[option]).expect_err(option);
            assert!(message.contains("expected VAR=value"), "{message}");
        }
    }

    #[test]
    fn a_name_is_given_once() {
        for options in [["A=1", "A=2"], ["A=1", "A"], ["HERE", "HERE"]] {
            let message = parse(&options).expect_err("twice");
            assert!(message.contains("given twice"), "{message}");
        }
    }
}
