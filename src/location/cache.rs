//! Keeps what is stored within its bound: what was used least recently goes first.
//!
//! First go layers that no image has, then images that nobody asked to keep, then the others, each kind by their last use.
//! What is in use stays, even if that is more than the bound: layers that a container is made of, which hold themselves
//! ([`super::layers::Held`]), and images that a session has just asked for, to upload or to start them ([`Pins`]).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::images::{Images, layer_set};
use super::layers::Store;
use super::now;
use crate::ids::{Digest, UserId};
use crate::protocol::messages::Fault;

/// How often it is looked whether something can go that was in use before.
const INTERVAL: Duration = Duration::from_mins(1);

/// Most images that one session pins, the newest ones.
const MAX_PINS: usize = 64;

/// An image of a user.
type Image = (UserId, Digest);

/// Images that sessions are about to use. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Pinned {
    images: Arc<Mutex<HashMap<Image, usize>>>,
    /// Told when there may be something that can go.
    pub(super) changed: Arc<Notify>,
}

/// The images that one session is about to use, until it is dropped.
pub(crate) struct Pins {
    pinned: Pinned,
    user: UserId,
    images: Mutex<VecDeque<Digest>>,
}

impl Pinned {
    /// Pins of one session of the user's.
    pub(crate) fn of(&self, user: &UserId) -> Pins {
        Pins {
            pinned: self.clone(),
            user: user.clone(),
            images: Mutex::default(),
        }
    }

    fn images(&self) -> MutexGuard<'_, HashMap<Image, usize>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes a pin of each of the images, of all at the same moment: whoever looks for what can go sees either all of what a
    /// session has used, or nothing of it.
    fn remove(&self, user: &UserId, pinned: impl IntoIterator<Item = Digest>) {
        let mut images = self.images();
        for image in pinned {
            let key = (user.clone(), image);
            if let Some(count) = images.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    images.remove(&key);
                }
            }
        }
    }
}

impl Pins {
    /// Keeps an image from being removed for room.
    pub(crate) fn pin(&self, image: Digest) {
        let mut images = self.lock();
        if images.contains(&image) {
            return;
        }
        images.push_back(image);
        *self
            .pinned
            .images()
            .entry((self.user.clone(), image))
            .or_default() += 1;
        if images.len() > MAX_PINS
            && let Some(oldest) = images.pop_front()
        {
            self.pinned.remove(&self.user, [oldest]);
        }
    }

    /// Keeps it no longer: a container does, or will not be.
    pub(crate) fn unpin(&self, image: Digest) {
        let mut images = self.lock();
        if let Some(at) = images.iter().position(|pinned| *pinned == image) {
            images.remove(at);
            self.pinned.remove(&self.user, [image]);
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Digest>> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let images = std::mem::take(&mut *self.lock());
        self.pinned.remove(&self.user, images);
        self.pinned.changed.notify_one();
    }
}

/// Keeps the layers within `most` bytes, as far as they are not in use, until `shutdown`.
pub(super) async fn keep(broker: Broker, most: u64, shutdown: CancellationToken) {
    let images = broker.images();
    let keeping = async {
        loop {
            match images.trim(most).await {
                Ok(freed) if freed.is_empty() => {}
                Ok(freed) => {
                    // A node that is away frees them when it runs short of room.
                    let _ = timeout(INTERVAL, broker.drop_layers(freed)).await;
                }
                Err(fault) => tracing::warn!("the cache was not kept within its bound: {fault}"),
            }
            // Containers end without a word about it.
            let _ = timeout(INTERVAL, images.pinned().changed.notified()).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keeping => {}
    }
}

impl Images {
    /// Removes what can go until the layers take `most` bytes at most. Returns the layers that went.
    pub(super) async fn trim(&self, most: u64) -> Result<Vec<Digest>, Fault> {
        let store = self.layers().clone();
        let counted = spawn_blocking(move || total_size(&store)).await;
        let mut size = counted.unwrap_or(0);
        let mut freed = Vec::new();
        if size <= most {
            return Ok(freed);
        }
        {
            let _alone = self.alone().await;
            let orphans = self
                .unused(self.layers().list().unwrap_or_default(), 0)
                .await?;
            size -= self.free(&orphans).min(size);
            self.db().forget_layers(orphans.clone()).await?;
            freed.extend(orphans);
        }
        // What is unpinned from now on waits for the next time: it is not to go merely because what should go before it was pinned
        // a moment ago.
        let pinned = self.pinned().images().clone();
        for (user, id) in self.db().least_recently_used().await? {
            if size <= most {
                break;
            }
            // Nobody asks for an image between the look at whether somebody has and its removal.
            let _alone = self.alone().await;
            let Some(row) = self.db().image(user.clone(), id).await? else {
                continue;
            };
            let layers: Vec<Digest> = layer_set(&row.description).into_iter().collect();
            let unique = self.unused(layers.clone(), 1).await?;
            let in_use = |layer: &Digest| self.layers().in_use(layer);
            if unique.iter().any(in_use) || (!layers.is_empty() && layers.iter().all(in_use)) {
                self.db().touch_image(user, id, now()).await?;
                continue;
            }
            let image = (user.clone(), id);
            if pinned.contains_key(&image) || self.pinned().images().contains_key(&image) {
                continue;
            }
            self.db().remove_image(user, id, unique.clone()).await?;
            let bytes = self.free(&unique);
            tracing::info!("image {} was removed for room: {bytes} bytes", id.short());
            size -= bytes.min(size);
            freed.extend(unique);
        }
        if size > most {
            tracing::debug!("{size} bytes of layers are in use, more than {most}");
        }
        Ok(freed)
    }

    /// Those of the layers that at most `uses` images have.
    async fn unused(&self, layers: Vec<Digest>, uses: u64) -> Result<Vec<Digest>, Fault> {
        let counted = self.db().layer_uses(layers).await?;
        let unused = counted.into_iter().filter(|(_, count)| *count <= uses);
        Ok(unused.map(|(layer, _)| layer).collect())
    }

    /// Removes layers, and says how many bytes that has freed. One that is in use stays; it is no loss but of space.
    pub(super) fn free(&self, layers: &[Digest]) -> u64 {
        let freed = layers
            .iter()
            .map(|layer| self.layers().remove(layer).unwrap_or(0));
        freed.sum()
    }
}

/// Space that whole layers take, in bytes.
fn total_size(layers: &Store) -> u64 {
    let all = layers.list().unwrap_or_default();
    all.iter()
        .map(|layer| layers.size(layer).unwrap_or(0))
        .sum()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::location::db::Db;
    use crate::protocol::image::{Description, ImageConfig, Layer, Platform};

    /// Size of each layer here.
    const SIZE: u16 = 1000;

    struct Cache {
        dir: tempfile::TempDir,
        images: Images,
        db: Db,
        user: UserId,
    }

    impl Cache {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let db = Db::open(&dir.path().join("db")).unwrap();
            let store = Store::open(dir.path().join("layers")).unwrap();
            Self {
                images: Images::new(db.clone(), store, true, None),
                db,
                user: UserId::random(),
                dir,
            }
        }

        fn layer_path(&self, name: &str) -> std::path::PathBuf {
            Path::new(self.dir.path())
                .join("layers")
                .join(Digest::of(name.as_bytes()).hex())
        }

        fn has(&self, name: &str) -> bool {
            self.layer_path(name).exists()
        }

        /// A complete image, named as its first layer.
        async fn add(&self, layers: &[&str], keep: bool, used: u64) -> Digest {
            let digests = layers.iter().map(|layer| Digest::of(layer.as_bytes()));
            for (name, layer) in layers.iter().zip(digests.clone()) {
                std::fs::write(self.layer_path(name), vec![0; SIZE.into()]).unwrap();
                self.db.own_layer(self.user.clone(), layer).await.unwrap();
            }
            let description = Description {
                id: Digest::of(layers.concat().as_bytes()),
                platform: Platform::host(),
                layers: digests.map(|digest| Layer { digest, size: None }).collect(),
                config: ImageConfig::default(),
            };
            let id = description.id;
            let user = self.user.clone();
            let put = self.db.put_image(user, description, vec![], keep, used);
            put.await.unwrap();
            id
        }

        async fn trim(&self, layers: u64) -> usize {
            self.images
                .trim(layers * u64::from(SIZE))
                .await
                .unwrap()
                .len()
        }
    }

    #[tokio::test]
    async fn what_was_used_least_recently_goes_first() {
        let cache = Cache::new();
        cache.add(&["kept"], true, 1).await;
        cache.add(&["old", "shared"], false, 2).await;
        cache.add(&["new", "shared"], false, 3).await;
        std::fs::write(cache.layer_path("orphan"), vec![0; SIZE.into()]).unwrap();
        assert_eq!(cache.trim(5).await, 0);
        assert_eq!(cache.trim(4).await, 1);
        assert!(!cache.has("orphan") && cache.has("old"));
        assert_eq!(cache.trim(3).await, 1);
        assert!(!cache.has("old") && cache.has("shared"));
        assert_eq!(cache.trim(2).await, 2);
        assert!(!cache.has("new") && !cache.has("shared") && cache.has("kept"));
        assert_eq!(cache.trim(0).await, 1);
        assert!(cache.db.least_recently_used().await.unwrap().is_empty());
        let possessed = cache.db.possessions(cache.user.clone()).await.unwrap();
        assert_eq!(possessed, (vec![], 0));
    }

    #[tokio::test]
    async fn what_is_in_use_stays() {
        let cache = Cache::new();
        let pinned = cache.add(&["pinned"], false, 1).await;
        let held = cache.add(&["held"], false, 2).await;
        cache.add(&["held", "idle"], false, 3).await;
        let pins = cache.images.pinned().of(&cache.user);
        pins.pin(pinned);
        pins.pin(pinned);
        let store = cache.images.layers();
        let hold = store.hold(&[Digest::of(b"held")]).unwrap();
        assert_eq!(cache.trim(0).await, 1);
        assert!(cache.has("pinned") && cache.has("held") && !cache.has("idle"));
        // It counts as used until now, and so goes last.
        let order = cache.db.least_recently_used().await.unwrap();
        let order: Vec<Digest> = order.into_iter().map(|(_, id)| id).collect();
        assert_eq!(order, [pinned, held]);
        pins.unpin(pinned);
        assert_eq!(cache.trim(0).await, 1);
        drop(hold);
        assert_eq!(cache.trim(0).await, 1);
        assert!(!cache.has("pinned") && !cache.has("held"));
    }

    #[tokio::test]
    async fn a_session_pins_its_newest_images_and_lets_go_at_its_end() {
        let pinned = Pinned::default();
        let user = UserId::random();
        let (one, other) = (pinned.of(&user), pinned.of(&user));
        let image = |number: usize| Digest::of(&number.to_le_bytes());
        for number in 0..=MAX_PINS {
            one.pin(image(number));
        }
        other.pin(image(1));
        assert_eq!(pinned.images().len(), MAX_PINS);
        assert!(!pinned.images().contains_key(&(user.clone(), image(0))));
        drop(one);
        assert_eq!(pinned.images().len(), 1);
        other.unpin(image(1));
        other.unpin(image(1));
        assert!(pinned.images().is_empty());
    }
}
