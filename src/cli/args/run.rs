//! What can be said to `tf run`, which is also what can be said to `tf` when no verb is named.

use std::path::PathBuf;

use clap::{Args, ValueHint};

/// Run an image, with its ports on localhost
///
/// Every TCP port that the image exposes is bound on 127.0.0.1 before the container starts, and what connects to it comes
/// out inside the container. Everything is gone when tf ends: by the end of the container's program, by Ctrl-C, or by a
/// signal.
///
/// The exit status is that of the container's program.
#[derive(Debug, Clone, Default, Args)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line, independent of the others"
)]
#[command(override_usage = "tf [run] [OPTIONS] IMAGE [COMMAND [ARG]...]")]
pub(crate) struct Run {
    /// Image: a name, an id, a path, `.` for the most recent one, or `hello`
    ///
    /// `hello` is a small web page that is built in. A path names an OCI image layout or an archive of `docker save`.
    /// Names and ids are looked for in the local Docker daemon, then at the location, then in a registry.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::Other)]
    pub(crate) image: String,

    /// Program and arguments, in place of the image's own
    #[arg(
        value_name = "COMMAND",
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_hint = ValueHint::Other
    )]
    pub(crate) command: Vec<String>,

    /// Add N to the local port of each exposed port: with 8000, port 80 appears on 8080
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        allow_hyphen_values = true,
        value_parser = offset,
        value_hint = ValueHint::Other,
        help_heading = "Ports"
    )]
    pub(crate) offset: i64,

    /// Bind LOCAL and connect it to port REMOTE of the container
    ///
    /// In place of the local port that REMOTE would have had otherwise, if the image exposes it. With LOCAL 0 any free
    /// port is taken. ADDR is the local address to bind, 127.0.0.1 if it is not given; IPv6 addresses are put in brackets.
    #[arg(
        short,
        long,
        value_name = "[ADDR:]LOCAL:REMOTE",
        value_hint = ValueHint::Other,
        help_heading = "Ports"
    )]
    pub(crate) publish: Vec<String>,

    /// Bind all addresses of this machine, not only 127.0.0.1
    #[arg(long, help_heading = "Ports")]
    pub(crate) public: bool,

    /// Open the browser once the container has answered an HTTP request with 200
    #[arg(long, help_heading = "Ports")]
    pub(crate) browser: bool,

    /// Host for the browser; has to be a name of this machine
    #[arg(
        long,
        value_name = "HOST",
        requires = "browser",
        value_hint = ValueHint::Hostname,
        help_heading = "Ports"
    )]
    pub(crate) domain: Option<String>,

    /// Path for the browser
    #[arg(
        long,
        value_name = "PATH",
        requires = "browser",
        value_hint = ValueHint::Other,
        help_heading = "Ports"
    )]
    pub(crate) path: Option<String>,

    /// Set a variable in the container; without a value: to the value that it has here
    #[arg(
        short,
        long,
        value_name = "VAR[=VALUE]",
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) env: Vec<String>,

    /// Put a file into the container before it starts
    ///
    /// DEST is an absolute path. If it ends in `/`, the file keeps its name. Permissions are kept, missing directories are
    /// made.
    #[arg(
        short,
        long,
        value_name = "SRC:DEST",
        value_hint = ValueHint::FilePath,
        help_heading = "Container"
    )]
    pub(crate) file: Vec<String>,

    /// Start the container, but no program in it
    #[arg(short = 'z', long, help_heading = "Container")]
    pub(crate) sleep: bool,

    /// Program to run, in place of the image's entrypoint; empty: none
    #[arg(
        long,
        value_name = "PROGRAM",
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) entrypoint: Option<String>,

    /// User to run the program as, by name or number
    #[arg(
        short,
        long,
        value_name = "USER[:GROUP]",
        allow_negative_numbers = true,
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) user: Option<String>,

    /// Directory to run the program in
    #[arg(
        short,
        long,
        value_name = "DIR",
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) workdir: Option<String>,

    /// Memory the container may use, as in 512m or 1g
    #[arg(
        long,
        value_name = "SIZE",
        allow_hyphen_values = true,
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) memory: Option<String>,

    /// Processors the container may use, as in 1.5
    #[arg(
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) cpus: Option<String>,

    /// Processes and threads the container may have
    #[arg(
        long,
        value_name = "NUMBER",
        allow_hyphen_values = true,
        value_parser = pids,
        value_hint = ValueHint::Other,
        help_heading = "Container"
    )]
    pub(crate) pids: Option<u32>,

    /// Which of the caller's streams the program gets.
    #[command(flatten)]
    pub(crate) streams: Streams,

    /// Say where the time went, once the container is ready or when it ends before
    #[arg(long, help_heading = "Report")]
    pub(crate) timing: bool,

    /// Write container, image, node, ip, tunnels and pid to FILE for as long as the container runs
    ///
    /// The file must not exist. It appears with its whole content once the container runs and is removed at the end.
    #[arg(
        long,
        value_name = "FILE",
        value_hint = ValueHint::FilePath,
        help_heading = "Report"
    )]
    pub(crate) json: Option<PathBuf>,
}

/// How the caller's terminal or streams are joined to the program.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct Streams {
    /// Pass standard input to the program
    #[arg(short, long, help_heading = "Container")]
    pub(crate) interactive: bool,

    /// Give the program a terminal
    #[arg(short, long, help_heading = "Container")]
    pub(crate) tty: bool,
}

// What the standard library says of a malformed number does not say what was expected.

fn offset(text: &str) -> Result<i64, &'static str> {
    text.parse()
        .map_err(|_| "expected a number from 0 to 65534, as in 8000")
}

fn pids(text: &str) -> Result<u32, &'static str> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number of processes and threads above 0, as in 100"),
    }
}
