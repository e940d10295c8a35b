//! Everything that can be said on the command line, as clap types. Nothing is read, opened or judged here.
//!
//! Help, man pages and completions are made from these definitions; what a value means is decided by the module that
//! uses it.

mod account;
mod cache;
mod containers;
mod location;
mod locations;
mod node;
mod run;
mod service;
mod verbs;

pub(crate) use account::{Account, AccountVerb};
pub(crate) use cache::{Cache, CacheVerb};
pub(crate) use containers::{Ps, Resources, Stop};
pub(crate) use location::{Invite, Limits, Location, LocationVerb, Serve};
pub(crate) use locations::{Locations, LocationsVerb};
pub(crate) use node::{Node, NodeVerb};
pub(crate) use run::{Run, Streams};
pub(crate) use service::{ImageService, Install, Installed, Place, Service, ServiceVerb};
pub(crate) use verbs::Verbs;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueHint};

/// The command line of `tf`.
#[derive(Debug, Parser)]
#[command(
    name = "tf",
    version,
    about = "Run a container image somewhere else as if it were here",
    long_about = "Run a container image somewhere else as if it were here.\n\n\
        The container starts on a node of a location, every port that the image exposes appears on localhost, and when \
        tf ends, nothing of it is left anywhere. With no location configured, this machine is both.",
    override_usage = "tf [OPTIONS] IMAGE [COMMAND [ARG]...]\n       tf [OPTIONS] VERB ...",
    after_help = "`tf IMAGE` is short for `tf run IMAGE`; its options are listed by `tf run --help`.\n\n\
        Try:  tf --offset 8000 hello"
)]
pub(crate) struct Tf {
    /// What all verbs understand.
    #[command(flatten)]
    pub(crate) global: Global,

    /// What to do.
    #[command(flatten)]
    pub(crate) verb: Verbs<Verb>,
}

/// The command line of `tfcache`, which is `tf cache` under a name of its own.
#[derive(Debug, Parser)]
#[command(
    name = "tfcache",
    version,
    about = "Make images available to the location",
    long_about = "Make images available to the location, so that a later run sends nothing.\n\n\
        `tfcache` is `tf cache` under a name of its own.",
    override_usage = "tfcache [OPTIONS] IMAGE\n       tfcache [OPTIONS] VERB ..."
)]
pub(crate) struct Tfcache {
    /// What all verbs understand.
    #[command(flatten)]
    pub(crate) global: Global,

    /// What to do with the kept images.
    #[command(flatten)]
    pub(crate) verb: Verbs<CacheVerb>,
}

/// Options that every verb understands, before the verb or after it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Say what is being done; twice: in every detail
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Say nothing but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Use this location, in place of the default one
    #[arg(long, global = true, value_name = "NAME", value_hint = ValueHint::Other)]
    pub(crate) location: Option<String>,

    /// Reach the location at this address
    #[arg(long, global = true, value_name = "ADDR", value_hint = ValueHint::Hostname)]
    pub(crate) location_ip: Option<String>,

    /// How long the location keeps the session while the connection to it is lost, as in 90s, 30m or 0, with which the session
    /// ends at once; 2m if not given, and never longer than the location allows
    #[arg(long, global = true, value_name = "DURATION", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) linger: Option<String>,
}

/// What `tf` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Run(Box<Run>),
    Cache(Cache),
    Describe(Describe),
    LastImage(LastImage),
    Ps(Ps),
    Stop(Stop),
    Resources(Resources),
    Account(Account),
    Locations(Locations),
    Location(Location),
    Node(Node),
    Service(Service),
    Generate(Generate),
    #[command(name = "__complete")]
    Complete(Complete),
}

/// Print an image's description as JSON
///
/// The description says which layers the image has, which machine it was made for and how a container of it starts. It is
/// found like the image of `tf run` and nothing is sent anywhere.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    /// Image: a name, an id, a path, `.` for the most recent one, or `hello`
    #[arg(value_name = "IMAGE", value_hint = ValueHint::Other)]
    pub(crate) image: String,
}

/// Print the id of the most recent image of the local Docker daemon
///
/// The most recent image is the one that was built, loaded, pulled or tagged last, whatever creation date it bears. It is
/// what `tf .` runs.
#[derive(Debug, Args)]
pub(crate) struct LastImage {}

/// Write the man pages and completions
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Generate {
    /// Directory that gets `man/` and `completions/`
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) directory: PathBuf,
}

/// Print candidates for a shell's completion, one a line
#[derive(Debug, Args)]
#[command(hide = true)]
pub(crate) struct Complete {
    /// What to complete
    #[arg(value_enum)]
    pub(crate) what: Completable,

    /// What has been typed so far
    #[arg(default_value = "")]
    pub(crate) prefix: String,
}

/// What completions ask the binary for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Completable {
    /// Names of images.
    Images,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn definitions_are_consistent() {
        Tf::command().debug_assert();
        Tfcache::command().debug_assert();
    }
}
