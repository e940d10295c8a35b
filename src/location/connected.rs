//! Connections that can be told to end: those of whoever is shown out, and those that keep others waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::accounts::Principal;

/// Most connections that may be in the middle of their handshake. One more ends the oldest of them: an honest peer is
/// done after a round trip, one that says nothing is the oldest sooner or later.
const MAX_STRANGERS: usize = 2048;

/// Of the file descriptors that the process may have, one in so many is for strangers: what is left is for those who are known,
/// and for files.
const SHARE_OF_STRANGERS: usize = 4;

/// Connections, the oldest first. Clones are the same list.
#[derive(Clone)]
pub(super) struct Connected {
    list: Arc<Mutex<List>>,
    /// Most strangers.
    strangers: usize,
}

impl Default for Connected {
    fn default() -> Self {
        Self {
            list: Arc::default(),
            strangers: MAX_STRANGERS.min(descriptors() / SHARE_OF_STRANGERS).max(1),
        }
    }
}

/// How many files this process may have open.
#[cfg(unix)]
fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit};

    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(limit, _)| limit);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
fn descriptors() -> usize {
    usize::MAX
}

#[derive(Default)]
struct List {
    next: u64,
    members: VecDeque<Member>,
}

struct Member {
    number: u64,
    /// Who it is, once that is known.
    principal: Option<Principal>,
    ending: CancellationToken,
}

/// A connection's place in the list, until it is dropped.
pub(super) struct Place {
    connected: Connected,
    number: u64,
}

impl Connected {
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection of somebody who is known. `ending` is cancelled when they are to go.
    pub(super) fn enter(&self, principal: Principal, ending: CancellationToken) -> Place {
        self.add(Some(principal), ending)
    }

    /// Enters a connection of somebody who has still to say who they are, in the place of the oldest if there are too many.
    pub(super) fn enter_stranger(&self, ending: CancellationToken) -> Place {
        let crowded_out = {
            let mut list = self.list();
            let full = list.members.len() >= self.strangers;
            if full { list.members.pop_front() } else { None }
        };
        if let Some(member) = crowded_out {
            member.ending.cancel();
        }
        self.add(None, ending)
    }

    /// Ends all connections of somebody.
    pub(super) fn expel(&self, principal: &Principal) {
        for member in &self.list().members {
            if member.principal.as_ref() == Some(principal) {
                member.ending.cancel();
            }
        }
    }

    fn add(&self, principal: Option<Principal>, ending: CancellationToken) -> Place {
        let mut list = self.list();
        let number = list.next;
        list.next += 1;
        list.members.push_back(Member {
            number,
            principal,
            ending,
        });
        Place {
            connected: self.clone(),
            number,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = self.connected.list();
        list.members.retain(|member| member.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::UserId;

    #[test]
    fn who_is_expelled_goes_and_nobody_else() {
        let connected = Connected::default();
        let (ann, bob) = (UserId::random(), UserId::random());
        let tokens = [(); 3].map(|()| CancellationToken::new());
        let mut places = Vec::new();
        for (user, token) in [&ann, &bob, &ann].into_iter().zip(&tokens) {
            places.push(connected.enter(Principal::User(user.clone()), token.clone()));
        }
        connected.expel(&Principal::User(ann));
        let ended = tokens.map(|token| token.is_cancelled());
        assert_eq!(ended, [true, false, true]);
        drop(places);
        assert!(connected.list().members.is_empty());
    }

    #[test]
    fn the_oldest_stranger_makes_room() {
        const FEW: usize = 3;
        let connected = Connected {
            strangers: FEW,
            ..Connected::default()
        };
        let first = CancellationToken::new();
        let _first = connected.enter_stranger(first.clone());
        let mut others = Vec::new();
        for _ in 1..FEW {
            others.push(connected.enter_stranger(CancellationToken::new()));
        }
        assert!(!first.is_cancelled());
        let last = CancellationToken::new();
        let _last = connected.enter_stranger(last.clone());
        assert!(first.is_cancelled() && !last.is_cancelled());
        assert_eq!(connected.list().members.len(), FEW);
    }
}
