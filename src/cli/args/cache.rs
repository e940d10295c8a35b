//! What can be said to `tf cache` and `tfcache`.

use clap::{Args, Subcommand, ValueHint};

use super::Verbs;

/// Make images available to the location, so that a later run sends nothing
///
/// A kept image stays at the location when the session has ended, until it is removed. Layers that several images share
/// are kept once.
#[derive(Debug, Args)]
#[command(override_usage = "tf cache [OPTIONS] IMAGE\n       tf cache [OPTIONS] VERB ...")]
pub(crate) struct Cache {
    /// What to do with the kept images.
    #[command(flatten)]
    pub(crate) verb: Verbs<CacheVerb>,
}

/// What can be done with the images that a location keeps.
#[derive(Debug, Subcommand)]
pub(crate) enum CacheVerb {
    /// Send an image and keep it; `add` may be left out
    Add {
        /// Image: a name, an id, a path, `.` for the most recent one, or `hello`
        #[arg(value_name = "IMAGE", value_hint = ValueHint::Other)]
        image: String,
    },

    /// List the images that the location keeps
    ///
    /// SIZE is the space that the layers of an image take; FREES is the part of it that no other image shares, which
    /// removing the image frees. The last line counts each layer once.
    Ls {
        /// Print JSON in place of a table
        #[arg(long)]
        json: bool,
    },

    /// Remove kept images and free their space
    ///
    /// Layers that another image needs stay, and nothing that a container uses is removed.
    Rm {
        /// Images: names, ids, or the start of ids
        #[arg(value_name = "IMAGE", required = true, value_hint = ValueHint::Other)]
        images: Vec<String>,
    },
}
