//! What can be said to `tf node`.

use clap::{Args, Subcommand, ValueHint};

use super::Verbs;

/// Run containers for a location on this machine
#[derive(Debug, Args)]
pub(crate) struct Node {
    /// What to do.
    #[command(flatten)]
    pub(crate) verb: Verbs<NodeVerb>,
}

/// What can be done with a node.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Be a node of a location, in the foreground
    ///
    /// The first time, an invitation is needed, which `tf location invite --node` prints; the key that is known from then on
    /// is kept in the state directory. What is in a command line, everybody on the machine can see: --join @FILE reads the
    /// invitation from a file. A node that its location has turned away for five minutes ends with an error. The node connects to the location, again whenever that has gone, and needs root.
    /// SIGTERM and SIGINT end its containers and then the node with the exit status 0. Without the location, or without this
    /// program, containers run on for two minutes, or as long as --linger says: whoever comes back in time, finds them.
    Serve {
        /// The invitation, @FILE, or `-` for standard input; not needed once the node has joined
        #[arg(long, value_name = "INVITATION", value_hint = ValueHint::Other)]
        join: Option<String>,
    },
}
