//! What users may take of the location, and what they have taken.
//!
//! The limits are in the database and hold from the moment they are set; what is there already is left alone. What sessions,
//! containers and uploads take is written down here for as long as they last, each by the [`Room`] that it holds, so that two
//! of them that begin at the same time cannot take the same room. What is stored is counted on the disk.

mod meter;

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use self::meter::Meter;
use super::db::{Bound, Db};
use super::layers::Store;
use crate::ids::UserId;
use crate::link::{Inbound, Incoming};
use crate::protocol::limits::{LimitChanges, LimitInfo, LimitsInfo};
use crate::protocol::messages::{AccountInfo, Fault, FaultCode};

/// How long a client that gets no session may take to hear why.
const LAST_WORD: Duration = Duration::from_secs(10);

/// How long what a client has ended may take to be gone.
const PATIENCE: Duration = Duration::from_secs(1);

/// The limits of a location's users. Clones are the same.
#[derive(Clone)]
pub(crate) struct Limits {
    db: Db,
    layers: Store,
    books: Arc<Books>,
    /// Whether there are users to be told apart.
    shared: bool,
    /// How long something may take to be given back.
    patience: Duration,
}

/// What each user has taken.
#[derive(Default)]
struct Books {
    users: Mutex<HashMap<UserId, Taken>>,
    /// Told when something is given back.
    freed: Notify,
}

/// What one user has taken.
#[derive(Debug, Default, PartialEq, Eq)]
struct Taken {
    sessions: u64,
    containers: u64,
    memory: u64,
    uploads: u64,
    /// Bytes that are stored, with what has come of the uploads. Counted when the first of them begins, and again after the
    /// last one has ended.
    stored: Option<u64>,
}

/// What is taken, until it is dropped.
#[must_use = "the room is free again as soon as this is dropped"]
pub(crate) struct Room {
    books: Arc<Books>,
    user: UserId,
    what: What,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Session,
    Container { memory: u64 },
    Upload,
}

impl Limits {
    pub(crate) fn new(db: Db, layers: Store, shared: bool) -> Self {
        Self {
            db,
            layers,
            books: Arc::default(),
            shared,
            patience: PATIENCE,
        }
    }

    /// Room for one more session.
    pub(crate) async fn session(&self, user: &UserId) -> Result<Room, Fault> {
        let bound = self.of(user).await?.sessions;
        self.take_soon(user, What::Session, |taken| {
            one_more("sessions", bound, taken.sessions)
        })
        .await
    }

    /// Room for one more container, which may use so much memory. As with the quotas of Kubernetes, it has to say how much if
    /// the memory of all is limited: it could take all of it otherwise.
    pub(crate) async fn container(
        &self,
        user: &UserId,
        memory: Option<u64>,
    ) -> Result<Room, Fault> {
        let limits = self.of(user).await?;
        let wanted = match (limits.memory.most, memory) {
            (Some(most), None) => {
                let used = self.taken(user, |taken| taken.memory);
                let (used, all) = (Bytes(used), Bytes(most));
                return Err(refused(format_args!(
                    "memory is limited for all your containers together, {used} of {all} are taken, and so each has to say how \
                     much it needs: start it with --memory"
                )));
            }
            (_, memory) => memory.unwrap_or(0),
        };
        self.take_soon(user, What::Container { memory: wanted }, |taken| {
            one_more("containers", limits.containers, taken.containers)?;
            let Some(most) = exceeds(limits.memory, taken.memory, wanted) else {
                return Ok(());
            };
            let (used, all, wanted) = (Bytes(taken.memory), Bytes(most), Bytes(wanted));
            Err(refused(format_args!(
                "the limit of memory is reached, {used} of {all} are taken, and {wanted} more are asked for: end a container, \
                 ask for less with --memory"
            )))
        })
        .await
    }

    /// The room of a container from before the location was started, whether that is more than the user may take by now or not.
    pub(super) fn recovered(&self, user: &UserId, memory: u64) -> Room {
        let mut books = lock(&self.books);
        self.enter(&mut books, user, What::Container { memory })
    }

    /// Checks that something can be stored: that there is room at all, and for `more` bytes in any case.
    pub(crate) async fn check_stored(&self, user: &UserId, more: u64) -> Result<(), Fault> {
        let Some(most) = self.of(user).await?.stored.most else {
            return Ok(());
        };
        self.make_room(user, most, more).await.map(drop)
    }

    /// Reads an upload of the user's for as long as there is room for what comes.
    pub(crate) async fn meter<R>(&self, user: &UserId, inner: R) -> Result<Meter<R>, Fault> {
        let most = self.of(user).await?.stored.most;
        let room = self.take(user, What::Upload, |_| Ok(()))?;
        if let Some(most) = most
            && self.taken(user, |taken| taken.stored).is_none()
        {
            let stored = self.make_room(user, most, 0).await?;
            // Unless another upload has counted meanwhile, and what has come of it since.
            self.taken(user, |taken| *taken.stored.get_or_insert(stored));
        }
        Ok(Meter::new(inner, room, most))
    }

    /// Counts what is stored for the user, and frees what interrupted uploads take if it is too much.
    async fn make_room(&self, user: &UserId, most: u64, more: u64) -> Result<u64, Fault> {
        let fits = |stored: u64| stored < most && stored.saturating_add(more) <= most;
        let mut stored = self.stored(user).await?;
        if !fits(stored) {
            let own = self.layers.of_user(user);
            let _ = spawn_blocking(move || own.drop_parts()).await;
            stored = self.stored(user).await?;
        }
        if fits(stored) {
            Ok(stored)
        } else {
            Err(too_much_stored(most, stored))
        }
    }

    /// Bytes that are stored for the user: layers that they have shown to possess, each once, descriptions of images, and
    /// what interrupted uploads have left.
    async fn stored(&self, user: &UserId) -> Result<u64, Fault> {
        let (owned, descriptions) = self.db.possessions(user.clone()).await?;
        let (layers, own) = (self.layers.clone(), self.layers.of_user(user));
        let counted = spawn_blocking(move || {
            let sizes = owned.iter().map(|layer| layers.size(layer).unwrap_or(0));
            sizes.sum::<u64>() + own.parts_size()
        });
        let counted = counted.await.map_err(|lost| {
            Fault::new(FaultCode::Internal, format!("cannot count layers: {lost}"))
        })?;
        Ok(counted + descriptions)
    }

    async fn of(&self, user: &UserId) -> Result<super::db::Limits, Fault> {
        if self.shared {
            Ok(self.db.limits(Some(user.clone())).await?)
        } else {
            Ok(super::db::Limits::default())
        }
    }

    /// Takes room, or waits for a moment until there is some: what the client has just ended may not be gone yet.
    async fn take_soon(
        &self,
        user: &UserId,
        what: What,
        check: impl Fn(&Taken) -> Result<(), Fault>,
    ) -> Result<Room, Fault> {
        let deadline = Instant::now() + self.patience;
        loop {
            let mut freed = pin!(self.books.freed.notified());
            // From here on, before the look at whether there is room.
            freed.as_mut().enable();
            match self.take(user, what, &check) {
                Err(_) if timeout_at(deadline, freed).await.is_ok() => {}
                taken => return taken,
            }
        }
    }

    fn take(
        &self,
        user: &UserId,
        what: What,
        check: impl FnOnce(&Taken) -> Result<(), Fault>,
    ) -> Result<Room, Fault> {
        let mut books = lock(&self.books);
        check(books.get(user).unwrap_or(&Taken::default()))?;
        Ok(self.enter(&mut books, user, what))
    }

    fn enter(&self, books: &mut HashMap<UserId, Taken>, user: &UserId, what: What) -> Room {
        let taken = books.entry(user.clone()).or_default();
        match what {
            What::Session => taken.sessions += 1,
            What::Container { memory } => {
                taken.containers += 1;
                taken.memory = taken.memory.saturating_add(memory);
            }
            What::Upload => taken.uploads += 1,
        }
        Room {
            books: Arc::clone(&self.books),
            user: user.clone(),
            what,
        }
    }

    /// Looks at what somebody has taken, who has taken something.
    fn taken<T: Default>(&self, user: &UserId, look: impl FnOnce(&mut Taken) -> T) -> T {
        lock(&self.books)
            .get_mut(user)
            .map(look)
            .unwrap_or_default()
    }

    /// Changes limits, and returns how many users that concerns.
    pub(super) async fn set(
        &self,
        who: Option<String>,
        changes: LimitChanges,
    ) -> Result<u32, Fault> {
        Ok(self.db.set_limits(who, changes).await?)
    }

    /// The default limits, and then those of these users, with what they use.
    pub(super) async fn list(&self, users: Vec<AccountInfo>) -> Result<Vec<LimitsInfo>, Fault> {
        let limits = self.db.limits(None).await?;
        let unused = |bound: Bound| limit(bound, 0);
        let mut list = vec![LimitsInfo {
            id: None,
            name: None,
            containers: unused(limits.containers),
            memory: unused(limits.memory),
            stored: unused(limits.stored),
            sessions: unused(limits.sessions),
        }];
        for account in users {
            let Ok(user) = account.id.parse::<UserId>() else {
                continue;
            };
            let limits = self.db.limits(Some(user.clone())).await?;
            let stored = self.stored(&user).await?;
            let (sessions, containers, memory) = self.taken(&user, |taken| {
                (taken.sessions, taken.containers, taken.memory)
            });
            list.push(LimitsInfo {
                id: Some(account.id),
                name: Some(account.name),
                containers: limit(limits.containers, containers),
                memory: limit(limits.memory, memory),
                stored: limit(limits.stored, stored),
                sessions: limit(limits.sessions, sessions),
            });
        }
        Ok(list)
    }
}

fn limit(bound: Bound, used: u64) -> LimitInfo {
    LimitInfo {
        limit: bound.most,
        own: bound.own,
        used,
    }
}

/// The limit, if it does not allow for `more`.
fn exceeds(bound: Bound, used: u64, more: u64) -> Option<u64> {
    bound.most.filter(|most| used.saturating_add(more) > *most)
}

/// Refuses one more of what is counted.
fn one_more(what: &str, bound: Bound, used: u64) -> Result<(), Fault> {
    match exceeds(bound, used, 1) {
        Some(most) => Err(refused(format_args!(
            "the limit of {what} is reached, {used} of {most} are in use: end one"
        ))),
        None => Ok(()),
    }
}

fn refused(what: fmt::Arguments<'_>) -> Fault {
    let text =
        format!("{what}, or ask the location's administrator for more (`tf location limits`)");
    Fault::new(FaultCode::LimitReached, text)
}

fn too_much_stored(most: u64, stored: u64) -> Fault {
    let (most, stored) = (Bytes(most), Bytes(stored));
    refused(format_args!(
        "the limit of stored images is reached, {stored} of {most} are taken: remove some (`tf cache ls`, `tf cache rm`)"
    ))
}

impl Room {
    /// Adds to what is stored for the user, and says how much that is then.
    fn store(&self, more: u64) -> u64 {
        let mut books = lock(&self.books);
        let Some(taken) = books.get_mut(&self.user) else {
            return more;
        };
        let stored = taken.stored.get_or_insert(0);
        *stored = stored.saturating_add(more);
        *stored
    }
}

fn lock(books: &Books) -> MutexGuard<'_, HashMap<UserId, Taken>> {
    // Nothing under the lock panics half-way through a change.
    books.users.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut books = lock(&self.books);
        let Some(taken) = books.get_mut(&self.user) else {
            return;
        };
        match self.what {
            What::Session => taken.sessions -= 1,
            What::Container { memory } => {
                taken.containers -= 1;
                taken.memory = taken.memory.saturating_sub(memory);
            }
            What::Upload => {
                taken.uploads -= 1;
                if taken.uploads == 0 {
                    taken.stored = None;
                }
            }
        }
        if *taken == Taken::default() {
            books.remove(&self.user);
        }
        drop(books);
        self.books.freed.notify_waiters();
    }
}

/// Tells a client that gets no session why, in answer to whatever it asks first.
pub(crate) async fn turn_away(mut incoming: Incoming, why: Fault) {
    tracing::info!("a client got no session: {why}");
    let answering = async {
        while let Some(inbound) = incoming.next().await {
            if let Inbound::Call(call) = inbound {
                call.refuse(why.clone());
            }
        }
    };
    let _ = timeout(LAST_WORD, answering).await;
}

/// A size for people to read.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        for (shift, unit) in UNITS {
            if self.0 >> shift > 0 {
                #[expect(clippy::cast_precision_loss, reason = "two places are shown")]
                let number =
                    self.0 as f64 / f64::from(1_u32 << 10).powi((shift / 10).cast_signed());
                return write!(f, "{number:.2} {unit}");
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests;
