//! What can be said to `tf service`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueHint};

use super::{Run, Serve, Verbs};

/// Keep an image, a location or a node running as a systemd service
///
/// A service is a unit of the calling user's systemd, or with --system one of the machine's, which starts it again when it
/// ends and when the machine starts. Its log is in the journal.
#[derive(Debug, Args)]
pub(crate) struct Service {
    /// Whose systemd it is.
    #[command(flatten)]
    pub(crate) place: Place,

    /// What to do.
    #[command(flatten)]
    pub(crate) verb: Verbs<ServiceVerb>,
}

/// Where services are.
#[derive(Debug, Clone, Args)]
pub(crate) struct Place {
    /// Services of the machine, which need root, in place of the calling user's
    #[arg(long, global = true)]
    pub(crate) system: bool,

    /// Do it on this server, over ssh
    ///
    /// tf is copied there if this version of it is not there yet. Keys and the host's identity are ssh's business: it must get
    /// in without asking.
    #[arg(long, global = true, value_name = "USER@SERVER", value_hint = ValueHint::Hostname)]
    pub(crate) host: Option<String>,

    /// File with the key for ssh
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) identity: Option<PathBuf>,
}

/// What can be done with services.
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceVerb {
    Install(Install),

    /// Stop services and remove all that installing them has put there
    ///
    /// What a location or a node has stored is kept.
    Rm {
        /// Names of services
        #[arg(value_name = "NAME", required = true, value_hint = ValueHint::Other)]
        names: Vec<String>,
    },

    /// List services, the user's and the machine's
    Ls {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },
}

/// Write the unit of a service, enable it and start it
///
/// `tf service install IMAGE` is short for `tf service install image IMAGE`, which reaches images that are called like one of
/// the other verbs, too.
#[derive(Debug, Args)]
#[command(
    override_usage = "tf service install [OPTIONS] IMAGE [COMMAND [ARG]...]\n       \
        tf service install [OPTIONS] location|node ..."
)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line, independent of the others"
)]
pub(crate) struct Install {
    /// Print the unit, and change nothing
    #[arg(long, global = true)]
    pub(crate) print: bool,

    /// Take the place of the service of this name, if there is one
    #[arg(long, global = true)]
    pub(crate) replace: bool,

    /// With --host, give the service a copy of the account that is used here
    ///
    /// The account's secret key goes to the server: whoever is root there can use it. An account of the server's own, by an
    /// invitation, can be revoked alone.
    #[arg(long, global = true)]
    pub(crate) with_account: bool,

    /// Read an account for the service from standard input.
    #[arg(long, global = true, hide = true)]
    pub(crate) account_from_stdin: bool,

    /// What is to run.
    #[command(flatten)]
    pub(crate) what: Verbs<Installed>,
}

/// What can be a service.
#[derive(Debug, Subcommand)]
pub(crate) enum Installed {
    /// Run an image, as `tf run` does with the same options
    ///
    /// It is looked for where the service runs. Paths mean the same as when they are typed there; with --host they begin at
    /// the user's home directory.
    #[command(override_usage = "tf service install [OPTIONS] IMAGE [COMMAND [ARG]...]")]
    Image(Box<ImageService>),

    /// Serve a location, as `tf location serve` does with the same options
    Location(Serve),

    /// Be a node of a location, as `tf node serve` does
    Node {
        /// The invitation, which is used at once: itself, @FILE, or - for standard input; not needed once the node has joined
        #[arg(long, value_name = "INVITATION", value_hint = ValueHint::Other)]
        join: Option<String>,
    },
}

/// An image as a service.
#[derive(Debug, Args)]
pub(crate) struct ImageService {
    /// Name of the service; that of the image if not given
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub(crate) name: Option<String>,

    /// How it is run.
    #[command(flatten)]
    pub(crate) run: Run,
}
