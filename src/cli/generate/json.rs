//! What the man pages say of `--json`: the members of the objects that are printed.

use super::manual::Entry;

/// The objects that one verb prints, in an array.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listing {
    /// Name of the page that tells of it.
    pub(super) page: &'static str,
    /// The command line.
    pub(super) command: &'static str,
    /// Members and what they hold.
    pub(super) members: &'static [Entry],
}

/// What a page tells of.
pub(super) fn of(page: &str) -> impl Iterator<Item = &'static Listing> {
    LISTINGS.iter().filter(move |listing| listing.page == page)
}

const CACHE: &[Entry] = &[
    (
        "description",
        "The image as `tf describe` prints it; its `id` is the image's.",
    ),
    ("names", "Names that it is found under."),
    (
        "size",
        "Space that its layers take at the location, in bytes.",
    ),
    (
        "unique",
        "The part of it that no other image shares: what removing the image frees.",
    ),
    (
        "stored",
        "Space that each layer takes there, in the order of the description.",
    ),
    ("kept", "Whether it was asked to be kept."),
    ("last_used", "In seconds since 1970."),
];

const NODE: &[Entry] = &[
    ("id", "Id of the node."),
    ("hostname", "Name of the machine."),
    ("platform", "What it runs: `os` and `architecture`."),
    ("cpus", "Number of processors."),
    (
        "load",
        "Processors' worth of work that waits or runs, averaged over a minute.",
    ),
    ("memory", "In bytes."),
    ("memory_free", "What is free for containers, in bytes."),
    (
        "disk_free",
        "What is free for layers and containers, in bytes.",
    ),
    ("containers", "Number of containers that run on it."),
    (
        "mean_start",
        "Mean time that its last containers took to start, in seconds; null before the first.",
    ),
];

const LISTINGS: &[Listing] = &[
    Listing {
        page: "tf-cache",
        command: "tf cache ls --json",
        members: CACHE,
    },
    Listing {
        page: "tfcache",
        command: "tfcache ls --json",
        members: CACHE,
    },
    Listing {
        page: "tf-ps",
        command: "tf ps --json",
        members: &[
            ("id", "Id of the container."),
            ("image", "Id of its image."),
            (
                "image_name",
                "A name that the image is found under, or null.",
            ),
            ("node", "Id of the node that it runs on."),
            ("hostname", "Name of that machine."),
            ("session", "Session that it lives and ends with."),
            ("since", "When it was started, in seconds since 1970."),
        ],
    },
    Listing {
        page: "tf-resources",
        command: "tf resources --json",
        members: NODE,
    },
    Listing {
        page: "tf-locations",
        command: "tf locations --json",
        members: &[
            ("name", "Name of the location."),
            ("address", "Where it is, HOST:PORT."),
            (
                "default",
                "Whether it is the one that is used unless another is named.",
            ),
        ],
    },
    Listing {
        page: "tf-location",
        command: "tf location users --json",
        members: &[
            ("id", "Id of the user."),
            ("key", "Public key, in base64."),
            ("name", "What the invitation was made out to."),
            ("joined", "In seconds since 1970."),
        ],
    },
    Listing {
        page: "tf-location",
        command: "tf location nodes --json",
        members: &[
            (
                "name",
                "What the invitation was made out to; null for the node in the location's own process.",
            ),
            ("id", "Id of the node."),
            ("key", "Public key, in base64, or null."),
            ("joined", "In seconds since 1970, or null."),
            ("connected", "Whether it is there now."),
            (
                "info",
                "What `tf resources --json` prints of it; null if it is not there.",
            ),
        ],
    },
    Listing {
        page: "tf-location",
        command: "tf location sessions --json",
        members: &[
            ("id", "Id of the session."),
            ("user", "Id of the user whose it is."),
            (
                "name",
                "What the user's invitation was made out to; null if the account is gone.",
            ),
            (
                "agent",
                "Name and version of the client's program, as it says itself.",
            ),
            ("since", "When it began, in seconds since 1970."),
            ("containers", "Number of containers that it has."),
        ],
    },
    Listing {
        page: "tf-location",
        command: "tf location limits --json",
        members: &[
            ("id", "Id of the user; null for the limits of all others."),
            ("name", "What the invitation was made out to, or null."),
            (
                "containers, memory, stored, sessions",
                "One object each: `limit`, a number or null for none, `own`, whether that was set for this user, and `used`. \
                 Sizes are in bytes.",
            ),
        ],
    },
    Listing {
        page: "tf-service",
        command: "tf service ls --json",
        members: &[
            ("name", "Name of the service."),
            ("role", "`image`, `location` or `node`."),
            ("image", "The image, or null."),
            ("scope", "Whose it is: `user` or `system`."),
            ("state", "What systemd says, as in `active`, or null."),
            ("unit", "Path of the unit."),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use serde::Serialize;

    use super::*;
    use crate::cli::cmd::location::NamedSession;
    use crate::ids::Digest;
    use crate::protocol::image::Platform;
    use crate::protocol::limits::{LimitInfo, LimitsInfo};
    use crate::protocol::messages::{AccountInfo, ContainerInfo, NodeInfo, SessionInfo};

    /// Asserts that what is printed has the members that the page names, and no other.
    fn assert_told(command: &str, printed: &impl Serialize) {
        let printed = serde_json::to_value(printed).expect("it is JSON");
        let printed = printed.as_object().expect("it is an object");
        let printed: BTreeSet<&str> = printed.keys().map(String::as_str).collect();
        let mut listings = LISTINGS.iter();
        let listing = listings.find(|listing| listing.command == command);
        let members = listing.expect("it has a listing").members.iter();
        let told: BTreeSet<&str> = members.flat_map(|(names, _)| names.split(", ")).collect();
        assert_eq!(told, printed, "{command}");
    }

    #[test]
    fn all_members_are_told() {
        let id = || "0123456789abcdefABCDEF";
        let node = || id().parse().expect("it is an id");
        let session = || id().parse().expect("it is an id");
        let text = String::new;
        assert_told(
            "tf ps --json",
            &ContainerInfo {
                id: id().parse().expect("it is an id"),
                image: Digest::of(b""),
                image_name: None,
                node: node(),
                hostname: text(),
                session: session(),
                since: 0,
            },
        );
        assert_told(
            "tf resources --json",
            &NodeInfo {
                id: node(),
                hostname: text(),
                platform: Platform::host(),
                cpus: 1,
                load: 0.0,
                memory: 0,
                memory_free: 0,
                disk_free: 0,
                containers: 0,
                mean_start: Duration::ZERO,
            },
        );
        assert_told(
            "tf location users --json",
            &AccountInfo {
                id: text(),
                key: text(),
                name: text(),
                joined: 0,
            },
        );
        assert_told(
            "tf location sessions --json",
            &NamedSession::new(
                SessionInfo {
                    id: session(),
                    user: id().parse().expect("it is an id"),
                    agent: text(),
                    since: 0,
                    containers: 0,
                },
                &[],
            ),
        );
        let limit = LimitInfo::default();
        assert_told(
            "tf location limits --json",
            &LimitsInfo {
                id: None,
                name: None,
                containers: limit,
                memory: limit,
                stored: limit,
                sessions: limit,
            },
        );
    }
}
