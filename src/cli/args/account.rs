//! What can be said to `tf account`.

use clap::{Args, Subcommand, ValueHint};

use super::Verbs;

/// Join a location, or take an account to another machine
#[derive(Debug, Args)]
pub(crate) struct Account {
    /// What to do.
    #[command(flatten)]
    pub(crate) verb: Verbs<AccountVerb>,
}

/// What can be done with accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountVerb {
    /// Join a location by an invitation
    ///
    /// The invitation is the line that `tf location invite` has printed there. It works once. Without one, or with `-`, it is
    /// read from standard input, and with @FILE from a file: what is in a command line, everybody on the machine can see. The
    /// key of the new account is
    /// kept in ~/.20ft; the first location that is joined becomes the default one. With --location-ip, the location is
    /// reached at another address than that of the invitation, now and later, and with --location it has another name here than
    /// the one it gives itself.
    Join {
        /// The invitation, @FILE, or `-`; asked for if not given
        #[arg(value_name = "INVITATION", value_hint = ValueHint::Other)]
        invitation: Option<String>,
    },

    /// Print a shell script that restores an account on another machine
    ///
    /// The script has the account's secret key in it: keep it as safe as the key itself. It overwrites nothing.
    Backup {
        /// Name of the location, or the start of it; the default one if not given
        #[arg(value_name = "NAME", value_hint = ValueHint::Other)]
        name: Option<String>,
    },
}
