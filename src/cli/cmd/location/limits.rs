//! `tf location limits`: what users may take of the location.

use indicatif::BinaryBytes;

use super::manage::with_administrator;
use crate::cli::Context;
use crate::cli::args::Limits;
use crate::cli::cmd::{json, print_result};
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::limits;
use crate::cli::table::table;
use crate::config::Config;
use crate::protocol::limits::{Limit, LimitChanges, LimitInfo, LimitsInfo};

pub(super) async fn run(
    context: &Context,
    config: &Config,
    options: &Limits,
) -> Result<Ending, Failure> {
    let changes = changes(options)?;
    with_administrator(context, config, async |administrator| {
        let user = options.user.clone();
        if changes != LimitChanges::default() {
            let users = administrator.set_limits(user.clone(), changes).await?;
            let whose = match (&user, users) {
                (None, _) => "all users without their own".to_owned(),
                (Some(user), 0) => return Err(unknown(user)),
                (Some(user), 1) => user.clone(),
                (Some(user), users) => format!("{users} users called {user}"),
            };
            context
                .printer
                .note(format_args!("changed the limits of {whose}"));
            if !options.json {
                return Ok(Ending::Done);
            }
        }
        let mut limits = administrator.limits().await?;
        if let Some(user) = user {
            limits.retain(|limits| [&limits.id, &limits.name].contains(&&Some(user.clone())));
            if limits.is_empty() {
                return Err(unknown(&user));
            }
        }
        let text = if options.json {
            json(&limits)
        } else {
            let heading = ["USER", "ID", "CONTAINERS", "MEMORY", "STORED", "SESSIONS"];
            table(heading, limits.into_iter().map(row).collect())
        };
        print_result(&context.printer, &text)
    })
    .await
}

fn unknown(user: &str) -> Failure {
    Failure::operation(format!("there is no user `{user}`"))
        .hint("`tf location users` lists those who have joined")
}

/// What the options change.
fn changes(options: &Limits) -> Result<LimitChanges, Failure> {
    let read = |option: &str, text: &Option<String>, number: Number| {
        let limit = text.as_deref().map(|text| match text {
            "none" => Ok(Limit::Unlimited),
            "default" if options.user.is_some() => Ok(Limit::Default),
            "default" => Err(Failure::arguments(format!(
                "`{option} default` is for a user: without one, it is the default that is set"
            ))),
            text => number(option, text).map(Limit::AtMost),
        });
        limit.transpose()
    };
    Ok(LimitChanges {
        containers: read("--containers", &options.containers, count)?,
        memory: read("--memory", &options.memory, limits::size)?,
        stored: read("--stored", &options.stored, limits::size)?,
        sessions: read("--sessions", &options.sessions, count)?,
    })
}

/// Reads the value of an option.
type Number = fn(&str, &str) -> Result<u64, Failure>;

fn count(option: &str, text: &str) -> Result<u64, Failure> {
    text.parse().map_err(|_| {
        Failure::arguments(format!(
            "`{option} {text}` is not a limit: expected a number, `none` or `default`"
        ))
    })
}

fn row(limits: LimitsInfo) -> [String; 6] {
    let whose_own = limits.id.is_some();
    let number = |limit: LimitInfo| cell(whose_own, limit, |number| number.to_string());
    let size = |limit: LimitInfo| cell(whose_own, limit, |size| BinaryBytes(size).to_string());
    [
        limits.name.unwrap_or_else(|| "(default)".to_owned()),
        limits.id.unwrap_or_default(),
        number(limits.containers),
        size(limits.memory),
        size(limits.stored),
        number(limits.sessions),
    ]
}

/// What is used and the limit, or the limit alone where nobody uses anything.
fn cell(used: bool, limit: LimitInfo, text: impl Fn(u64) -> String) -> String {
    let most = limit.limit.map_or_else(|| "none".to_owned(), &text);
    if used {
        format!("{} / {most}", text(limit.used))
    } else {
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(user: Option<&str>, value: &str) -> Limits {
        Limits {
            user: user.map(str::to_owned),
            containers: None,
            memory: Some(value.to_owned()),
            stored: None,
            sessions: Some(value.to_owned()),
            json: false,
        }
    }

    #[test]
    fn a_limit_is_a_number_or_a_word() {
        for (value, limit) in [
            ("5", Limit::AtMost(5)),
            ("0", Limit::AtMost(0)),
            ("none", Limit::Unlimited),
            ("default", Limit::Default),
        ] {
            let changes = changes(&options(Some("ann"), value)).expect(value);
            assert_eq!(
                (changes.memory, changes.sessions),
                (Some(limit), Some(limit))
            );
            assert_eq!((changes.containers, changes.stored), (None, None));
        }
        for value in ["", "-1", "many", "None", "1.5.1"] {
            assert!(changes(&options(Some("ann"), value)).is_err(), "{value}");
        }
        let failure = changes(&options(None, "default")).expect_err("nobody's");
        assert!(failure.to_string().contains("is for a user"), "{failure}");
    }

    #[test]
    fn use_is_shown_of_users_only() {
        let limit = LimitInfo {
            limit: Some(3),
            own: false,
            used: 1,
        };
        let text = |number: u64| number.to_string();
        assert_eq!(cell(true, limit, text), "1 / 3");
        assert_eq!(cell(false, limit, text), "3");
        assert_eq!(cell(true, LimitInfo::default(), text), "0 / none");
    }
}
