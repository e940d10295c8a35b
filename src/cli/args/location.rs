//! What can be said to `tf location`.

use clap::{Args, Subcommand, ValueHint};

use super::Verbs;

/// Serve a location, and let people and machines in
///
/// All verbs but `serve` are for whoever can read the location's state directory. They work while the location serves, and
/// also when it does not.
#[derive(Debug, Args)]
pub(crate) struct Location {
    /// What to do.
    #[command(flatten)]
    pub(crate) verb: Verbs<LocationVerb>,
}

/// What can be done with a location of one's own.
#[derive(Debug, Subcommand)]
pub(crate) enum LocationVerb {
    Serve(Serve),
    Invite(Invite),

    /// List the users who have joined
    Users {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },

    /// List the nodes that have joined, and those that are connected
    Nodes {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },

    /// List the clients that are connected
    Sessions {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },

    Limits(Limits),

    /// Forget users or nodes, end their sessions and void their invitations
    Revoke {
        /// Users or nodes: ids, or the names that they were invited by
        #[arg(value_name = "WHO", required = true, value_hint = ValueHint::Other)]
        who: Vec<String>,
    },
}

/// Serve a location in the foreground
///
/// Keys and state are made at the first start. This machine is a node of the location, too, which needs root, unless
/// --no-node is given. The log goes to standard error. SIGTERM and SIGINT end all sessions, free what they own, and end the
/// server with the exit status 0.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Address to listen on; all addresses of this machine and port 5555 if not given
    #[arg(long, value_name = "ADDR:PORT", value_hint = ValueHint::Other)]
    pub(crate) listen: Option<String>,

    /// Name of the location for its users; at first that of the machine, later the one it has
    #[arg(long, value_name = "NAME", value_hint = ValueHint::Other)]
    pub(crate) name: Option<String>,

    /// Run no containers on this machine
    #[arg(long)]
    pub(crate) no_node: bool,

    /// Longest time that a session is kept while its client has no connection, whatever --linger asks for there, as in 90s, 1h
    /// or 0, with which sessions end at once
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "2m", value_hint = ValueHint::Other)]
    pub(crate) max_linger: String,

    /// Most space for images: beyond it, what was used least recently is removed, and nothing that is in use
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) max_cache: Option<String>,
}

/// Print an invitation for a user, or for a machine that is to be a node
///
/// It is one line to hand over like a password: whoever has it first can join with it, once. It holds the address and the
/// public key of the location.
#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Whom it is for: an e-mail address, a name, the name of a machine; for a machine, one is made up if it is not given
    #[arg(value_name = "NAME", required_unless_present = "node", value_hint = ValueHint::Other)]
    pub(crate) name: Option<String>,

    /// For a machine that is to be a node
    #[arg(long)]
    pub(crate) node: bool,

    /// How long it can be used, as in 30m, 24h or 7d
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, default_value = "24h", value_hint = ValueHint::Other)]
    pub(crate) expires: String,

    /// Address at which the location is reached from there, if not the one it knows itself
    #[arg(long, value_name = "HOST:PORT", value_hint = ValueHint::Hostname)]
    pub(crate) address: Option<String>,
}

/// Set what users may take of the location, or show it
///
/// Without an option, the limits are listed with what is used of them. The limits of no USER hold for all users without their
/// own. A limit is a number or a size; `none` means no limit, and `default` that the user has no limit of their own. It holds
/// from now on, also while the location serves; what is there already is left alone.
#[derive(Debug, Args)]
pub(crate) struct Limits {
    /// User: the id, or the name of the invitation
    #[arg(value_name = "USER", value_hint = ValueHint::Other)]
    pub(crate) user: Option<String>,

    /// Most containers at once, over all sessions of the user
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) containers: Option<String>,

    /// Most memory of these containers together, each of which then needs a --memory of its own
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) memory: Option<String>,

    /// Most space for images, as `tf cache ls` shows it
    #[arg(long, value_name = "SIZE", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) stored: Option<String>,

    /// Most sessions at once: each running tf is one
    #[arg(long, value_name = "N", allow_hyphen_values = true, value_hint = ValueHint::Other)]
    pub(crate) sessions: Option<String>,

    /// Print JSON in place of a table
    #[arg(long)]
    pub(crate) json: bool,
}
