//! The text of a unit. Pure: what is known of the machine is given.

use std::fmt::Write as _;

use super::systemd::Scope;

/// Above what only this program reads. systemd ignores sections whose names begin with `X-`.
const OURS: &str = "[X-Tf]";

/// What a service does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Runs an image at a location elsewhere.
    Image,
    /// Runs an image in this process.
    EmbeddedImage,
    /// Serves a location whose containers run elsewhere.
    Location,
    /// Serves a location whose containers run on this machine, too.
    LocationWithNode,
    /// Runs containers for a location.
    Node,
}

/// All that a unit says.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    /// Name of the service.
    pub(super) name: String,
    pub(super) kind: Kind,
    /// The image, or the name of the role.
    pub(super) of: String,
    pub(super) scope: Scope,
    /// Path of the program.
    pub(super) program: String,
    /// Its arguments.
    pub(super) arguments: Vec<String>,
    /// Variables of its environment.
    pub(super) environment: Vec<(&'static str, String)>,
    /// Where it runs; the manager's choice if not given.
    pub(super) directory: Option<String>,
    /// Where a server keeps its state.
    pub(super) state: Option<String>,
    /// Whether it writes a file wherever it was told to.
    pub(super) writes: bool,
}

/// What is read back from a unit that this program has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// `image`, `location` or `node`.
    pub(super) role: String,
    /// The image, or the name of the role.
    pub(super) of: String,
    /// Path of the program.
    pub(super) program: String,
}

/// A word that no unit can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` cannot be written into a unit: line breaks and other control characters have no place there", .0.escape_debug())]
pub(super) struct Unwritable(String);

impl Kind {
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Image | Self::EmbeddedImage => "image",
            Self::Location | Self::LocationWithNode => "location",
            Self::Node => "node",
        }
    }
}

impl Unit {
    /// The unit as systemd reads it.
    ///
    /// # Errors
    ///
    /// When a word of it has a line break in it.
    pub(super) fn text(&self) -> Result<String, Unwritable> {
        let mut text = format!(
            "# Written by `tf service install`; `tf service rm {}` removes it.\n[Unit]\n",
            self.name
        );
        let mut say = |line: std::fmt::Arguments<'_>| {
            writeln!(text, "{line}").expect("writing to memory does not fail");
        };
        say(format_args!("Description=tf: {}", specifiers(&self.of)?));
        if self.scope == Scope::System {
            // A user's manager does not know the machine's targets; tf waits for its location anyway.
            say(format_args!("Wants=network-online.target"));
            say(format_args!("After=network-online.target docker.service"));
        }
        // An unreachable location or registry is no reason to give up for good.
        say(format_args!("StartLimitIntervalSec=0\n\n[Service]"));
        // It says itself when its container answers, or when it serves.
        say(format_args!("Type=notify"));
        let mut command = word(&self.program)?;
        for argument in &self.arguments {
            command.push(' ');
            // `$` is for variables in the arguments of a command line, and nowhere else.
            command.push_str(&word(argument)?.replace('$', "$$"));
        }
        say(format_args!("ExecStart={command}"));
        for (name, value) in &self.environment {
            say(format_args!(
                "Environment={}",
                word(&format!("{name}={value}"))?
            ));
        }
        if let Some(directory) = &self.directory {
            say(format_args!("WorkingDirectory={}", path(directory)?));
        }
        for line in self.lasting() {
            say(format_args!("{line}"));
        }
        for line in self.sandbox() {
            say(format_args!("{line}"));
        }
        let target = match self.scope {
            Scope::User => "default.target",
            Scope::System => "multi-user.target",
        };
        say(format_args!("\n[Install]\nWantedBy={target}\n\n{OURS}"));
        say(format_args!("Role={}\nOf={}", self.kind.role(), self.of));
        say(format_args!("Program={}", self.program));
        Ok(text)
    }

    /// When it ends, and when it is started again.
    fn lasting(&self) -> &'static [&'static str] {
        match self.kind {
            Kind::Image | Kind::EmbeddedImage => &[
                // A program that ends is to be there again, however it has ended.
                "Restart=always",
                "RestartSec=5",
                // Sending a large image takes its time.
                "TimeoutStartSec=infinity",
                // tf ends what it has started; what it leaves behind is killed.
                "KillMode=mixed",
            ],
            Kind::Location => &["Restart=on-failure", "RestartSec=2", "KillMode=mixed"],
            Kind::LocationWithNode | Kind::Node => &[
                "Restart=on-failure",
                "RestartSec=2",
                "# When the server is killed, its containers go on: it takes them back when it is there again. When it is asked to",
                "# stop, it ends them itself. So nothing but the server is systemd's to kill.",
                "KillMode=process",
                "# Their processes are counted and limited by the node.",
                "TasksMax=infinity",
            ],
        }
    }

    /// What it cannot do, as it needs to do none of it.
    fn sandbox(&self) -> Vec<&'static str> {
        let mut lines = Vec::new();
        match (self.kind, self.scope) {
            // What makes containers needs about everything, and what is denied to it is denied to them.
            (Kind::EmbeddedImage | Kind::LocationWithNode | Kind::Node, _) => {}
            // A user's manager has no right to most of it.
            (Kind::Image | Kind::Location, Scope::User) => {
                lines.extend(["NoNewPrivileges=yes", "LockPersonality=yes"]);
            }
            (Kind::Image | Kind::Location, Scope::System) => {
                lines.extend(ALONE.lines());
                lines.extend(
                    match (self.kind, self.state.as_deref()) {
                        // The files of -f may belong to anybody, that of --json may be anywhere.
                        (Kind::Image, _) => IMAGE,
                        (_, Some(DEFAULT_STATE)) => SERVER_IN_DEFAULT_STATE,
                        _ => SERVER,
                    }
                    .lines(),
                );
                if self.kind == Kind::Image && self.writes {
                    // Without it, not even root can in somebody else's directory.
                    lines.push("CapabilityBoundingSet=CAP_DAC_OVERRIDE");
                }
            }
        }
        lines
    }
}

/// For programs that speak to others and run nothing.
const ALONE: &str = "\
NoNewPrivileges=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM";

/// For one that runs an image at a location elsewhere.
const IMAGE: &str = "\
ProtectSystem=full
CapabilityBoundingSet=CAP_NET_BIND_SERVICE CAP_DAC_READ_SEARCH";

/// Where servers of the machine keep their state if they are not told.
const DEFAULT_STATE: &str = "/var/lib/20ft";

/// For a location whose containers run elsewhere.
const SERVER_IN_DEFAULT_STATE: &str = "\
ProtectSystem=strict
StateDirectory=20ft
StateDirectoryMode=0700
ProtectHome=read-only
PrivateTmp=yes
PrivateDevices=yes
UMask=0077
CapabilityBoundingSet=CAP_NET_BIND_SERVICE";

/// The same, with its state somewhere, which need not exist yet.
const SERVER: &str = "\
ProtectSystem=full
UMask=0077
CapabilityBoundingSet=CAP_NET_BIND_SERVICE";

/// What a unit says of itself, if this program has written it.
pub(super) fn read(text: &str) -> Option<Written> {
    let (_, ours) = text.split_once(OURS)?;
    let value = |key: &str| {
        let mut lines = ours.lines();
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    };
    Some(Written {
        role: value("Role")?.to_owned(),
        of: value("Of")?.to_owned(),
        program: value("Program")?.to_owned(),
    })
}

/// A word in quotes, which systemd reads as it is.
fn word(text: &str) -> Result<String, Unwritable> {
    let escaped = specifiers(text)?.replace('\\', r"\\").replace('"', "\\\"");
    Ok(format!("\"{escaped}\""))
}

/// Text in which `%` means nothing.
fn specifiers(text: &str) -> Result<String, Unwritable> {
    if text.contains(char::is_control) {
        return Err(Unwritable(text.to_owned()));
    }
    Ok(text.replace('%', "%%"))
}

/// A path that stands alone: systemd takes no quotes there, a backslash at the end joins lines, and space there is lost.
fn path(text: &str) -> Result<String, Unwritable> {
    if text.ends_with(['\\', ' ']) {
        return Err(Unwritable(text.to_owned()));
    }
    specifiers(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(kind: Kind, scope: Scope) -> Unit {
        Unit {
            name: "web".to_owned(),
            kind,
            of: "nginx".to_owned(),
            scope,
            program: "/usr/local/bin/tf".to_owned(),
            arguments: vec!["run".to_owned(), "--".to_owned(), "nginx".to_owned()],
            environment: vec![("TF_HOME", "/root/.20ft".to_owned())],
            directory: None,
            state: None,
            writes: false,
        }
    }

    #[test]
    fn words_are_quoted_by_systemds_rules() {
        for (plain, quoted) in [
            ("plain", r#""plain""#),
            ("two words", r#""two words""#),
            ("", r#""""#),
            ("100%", r#""100%%""#),
            ("%h", r#""%%h""#),
            (r"C:\dir", r#""C:\\dir""#),
            (r#"say "hi""#, r#""say \"hi\"""#),
            ("it's", r#""it's""#),
            (";", r#"";""#),
            ("ü", r#""ü""#),
        ] {
            assert_eq!(word(plain).as_deref(), Ok(quoted), "{plain}");
        }
    }

    #[test]
    fn variables_are_not_expanded() {
        let mut unit = unit(Kind::Image, Scope::User);
        unit.arguments = vec![
            "sh".to_owned(),
            "-c".to_owned(),
            "echo ${HOME} $1".to_owned(),
        ];
        unit.environment = vec![("TF_HOME", "/srv/$x".to_owned())];
        let text = unit.text().expect("writable");
        assert!(text.contains(r#""sh" "-c" "echo $${HOME} $$1""#), "{text}");
        // Variables do not count there, so a second `$` would be one too many.
        assert!(text.contains(r#"Environment="TF_HOME=/srv/$x""#), "{text}");
    }

    #[test]
    fn a_word_cannot_add_lines_to_the_unit() {
        for bad in ["a\nExecStart=/bin/evil", "a\r", "a\0", "\u{85}"] {
            let with = |change: fn(&mut Unit, String)| {
                let mut unit = unit(Kind::Image, Scope::System);
                change(&mut unit, bad.to_owned());
                unit.text()
            };
            for text in [
                with(|unit, bad| unit.arguments.push(bad)),
                with(|unit, bad| unit.of = bad),
                with(|unit, bad| unit.program = bad),
                with(|unit, bad| unit.environment.push(("TF_LOCATION", bad))),
                with(|unit, bad| unit.directory = Some(bad)),
            ] {
                assert!(text.is_err(), "{bad:?}");
            }
        }
        let mut unit = unit(Kind::Image, Scope::System);
        unit.directory = Some("/srv\\".to_owned());
        assert!(unit.text().is_err());
    }

    #[test]
    fn containers_outlive_a_server_that_is_killed() {
        for (kind, mode) in [
            (Kind::Image, "mixed"),
            (Kind::EmbeddedImage, "mixed"),
            (Kind::Location, "mixed"),
            (Kind::LocationWithNode, "process"),
            (Kind::Node, "process"),
        ] {
            let text = unit(kind, Scope::System).text().expect("writable");
            assert!(text.contains(&format!("\nKillMode={mode}\n")), "{text}");
        }
    }

    #[test]
    fn what_makes_containers_is_not_confined() {
        for kind in [Kind::EmbeddedImage, Kind::LocationWithNode, Kind::Node] {
            let text = unit(kind, Scope::System).text().expect("writable");
            for denied in ["NoNewPrivileges", "Protect", "Restrict", "SystemCall"] {
                assert!(!text.contains(&format!("\n{denied}")), "{denied}: {text}");
            }
        }
        let text = unit(Kind::Location, Scope::System)
            .text()
            .expect("writable");
        assert!(text.contains("\nNoNewPrivileges=yes\n"), "{text}");
    }

    #[test]
    fn only_what_writes_files_may_write_those_of_others() {
        let mut unit = unit(Kind::Image, Scope::System);
        let line = "\nCapabilityBoundingSet=CAP_DAC_OVERRIDE\n";
        assert!(!unit.text().expect("writable").contains(line));
        unit.writes = true;
        assert!(unit.text().expect("writable").contains(line));
        unit.kind = Kind::Location;
        assert!(!unit.text().expect("writable").contains(line));
    }

    #[test]
    fn a_unit_of_ours_is_known_again() {
        let text = unit(Kind::Image, Scope::User).text().expect("writable");
        let written = Written {
            role: "image".to_owned(),
            of: "nginx".to_owned(),
            program: "/usr/local/bin/tf".to_owned(),
        };
        assert_eq!(read(&text), Some(written));
        assert_eq!(read("[Service]\nExecStart=/usr/bin/tf nginx\n"), None);
    }
}
