//! Users' images at a location: which layers are missing, what is kept, what can be freed.
//!
//! An image is known from the moment a client describes it, and complete once every one of its layers is in the store
//! *and* has been shown by this user: knowing a layer's digest is no way to get at its content. Incomplete images can be
//! neither found nor run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{RwLock, RwLockWriteGuard};

use super::cache::{Pinned, Pins};
use super::db::{Db, DbError, ImageRow};
use super::layers::{Held, Store};
use super::limits::{Bytes, Limits};
use super::now;
use crate::ids::{Digest, UserId};
use crate::protocol::image::Description;
use crate::protocol::messages::{CachedImage, Fault, FaultCode, MissingLayer, Removed};

/// Most layers that an image may have. Docker stops at 127.
const MAX_LAYERS: usize = 500;

/// Most names that an image is given at once, and the longest of them, in bytes.
const MAX_NAMES: usize = 64;
const MAX_NAME_LENGTH: usize = 512;

/// The images of all users, and the layers they are made of.
#[derive(Clone)]
pub(crate) struct Images {
    db: Db,
    layers: Store,
    limits: Limits,
    pinned: Pinned,
    /// Whoever removes images for room has it for writing, whoever asks for one for reading.
    asking: Arc<RwLock<()>>,
    shared: bool,
    /// Bytes that all layers together may take, as far as they are not in use.
    max_cache: Option<u64>,
}

impl Images {
    /// `shared` says that users are not to profit from each other's layers. Layers that nobody uses are to take at most
    /// `max_cache` bytes.
    pub(crate) fn new(db: Db, layers: Store, shared: bool, max_cache: Option<u64>) -> Self {
        Self {
            limits: Limits::new(db.clone(), layers.clone(), shared),
            pinned: Pinned::default(),
            asking: Arc::default(),
            db,
            layers,
            shared,
            max_cache,
        }
    }

    /// Bytes that all layers together may take, as far as they are not in use.
    pub(super) fn max_cache(&self) -> Option<u64> {
        self.max_cache
    }

    /// What sessions are about to use.
    pub(crate) fn pinned(&self) -> &Pinned {
        &self.pinned
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Until the result is dropped, nobody asks for an image.
    pub(super) async fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.asking.write().await
    }

    /// What users may take.
    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The store that layers are received into and read from.
    pub(crate) fn layers(&self) -> &Store {
        &self.layers
    }

    /// The store as `user` sees it, who may upload to it.
    pub(crate) fn layers_of(&self, user: &UserId) -> Store {
        if self.shared {
            self.layers.of_user(user)
        } else {
            self.layers.clone()
        }
    }

    /// Records that `user` is about to use this image, and says which layers have to be uploaded before. Those that are here
    /// are not removed for room while the image is among `pins`.
    pub(crate) async fn ensure(
        &self,
        user: &UserId,
        pins: &Pins,
        description: Description,
        names: Vec<String>,
        keep: bool,
    ) -> Result<Vec<MissingLayer>, Fault> {
        check(&description, &names)?;
        let _asking = self.asking.read().await;
        pins.pin(description.id);
        let mut missing = self.missing(user, &description).await?;
        self.check_room(user, &description, &missing).await?;
        // Nobody learns how large a layer is that they have not sent.
        if keep && missing.is_empty() {
            self.check_kept(&description)?;
        }
        // What interrupted uploads have left may have made room.
        let own = self.layers_of(user);
        for missing in missing.iter_mut().filter(|missing| missing.offset > 0) {
            missing.offset = own.partial(&missing.layer.digest);
        }
        self.db
            .put_image(user.clone(), description, names, keep, now())
            .await?;
        Ok(missing)
    }

    /// Refuses an image that takes room, where the user has none left. How much a layer takes is seen when it comes.
    async fn check_room(
        &self,
        user: &UserId,
        description: &Description,
        missing: &[MissingLayer],
    ) -> Result<(), Fault> {
        if !self.shared {
            return Ok(());
        }
        let known = self.db.image(user.clone(), description.id).await?;
        if known.is_none() {
            let length = serde_json::to_vec(description).map_or(0, |json| json.len() as u64);
            self.limits.check_stored(user, length).await
        } else if missing.is_empty() {
            Ok(())
        } else {
            self.limits.check_stored(user, 0).await
        }
    }

    /// Refuses to keep an image of which more is here than is ever kept.
    fn check_kept(&self, description: &Description) -> Result<(), Fault> {
        let layers = layer_set(description);
        let sizes = layers.iter().map(|layer| self.layers.size(layer));
        let (size, most) = (sizes.flatten().sum(), self.max_cache.unwrap_or(u64::MAX));
        if size <= most {
            return Ok(());
        }
        let (size, most) = (Bytes(size), Bytes(most));
        let text = format!(
            "the image takes {size} and the location keeps {most} of all images: it can be run and not cached, unless the \
             location's administrator allows for more (`tf location serve --max-cache`)"
        );
        Err(Fault::new(FaultCode::LimitReached, text))
    }

    /// Layers of an image that the user has still to upload, each once.
    async fn missing(
        &self,
        user: &UserId,
        description: &Description,
    ) -> Result<Vec<MissingLayer>, Fault> {
        let wanted: Vec<Digest> = description
            .layers
            .iter()
            .map(|layer| layer.digest)
            .collect();
        let owned: BTreeSet<Digest> = self
            .db
            .owned_layers(user.clone(), wanted)
            .await?
            .into_iter()
            .collect();
        let own = self.layers_of(user);
        let mut seen = BTreeSet::new();
        Ok(description
            .layers
            .iter()
            .filter(|layer| seen.insert(layer.digest))
            .filter(|layer| !(owned.contains(&layer.digest) && self.layers.has(&layer.digest)))
            .map(|layer| MissingLayer {
                layer: layer.clone(),
                offset: own.partial(&layer.digest),
            })
            .collect())
    }

    /// Whether an image that the user has described has this layer: only these may be uploaded.
    pub(crate) async fn expects(&self, user: &UserId, layer: Digest) -> Result<bool, Fault> {
        Ok(self.db.expects_layer(user.clone(), layer).await?)
    }

    /// Whether the layer is here, and the user has shown to possess it.
    pub(crate) async fn has(&self, user: &UserId, layer: Digest) -> Result<bool, Fault> {
        let owned = self.db.owned_layers(user.clone(), vec![layer]).await?;
        Ok(!owned.is_empty() && self.layers.has(&layer))
    }

    /// Records that the user has uploaded a layer, so that images with it become complete.
    pub(crate) async fn uploaded(&self, user: &UserId, layer: Digest) -> Result<(), Fault> {
        self.db.own_layer(user.clone(), layer).await?;
        self.pinned.changed.notify_one();
        Ok(())
    }

    /// The complete image that `name` stands for: a name, an id, or the start of an id that only one has.
    pub(crate) async fn find(
        &self,
        user: &UserId,
        name: &str,
    ) -> Result<Option<Description>, Fault> {
        match self.find_row(user, name).await? {
            Some(row) if self.missing(user, &row.description).await?.is_empty() => {
                Ok(Some(row.description))
            }
            _ => Ok(None),
        }
    }

    async fn find_row(&self, user: &UserId, name: &str) -> Result<Option<ImageRow>, Fault> {
        let mut found = self.db.find_images(user.clone(), name.to_owned()).await?;
        if found.len() > 1 {
            let text =
                format!("`{name}` is the start of more than one image's id: give more of it");
            return Err(Fault::new(FaultCode::Malformed, text));
        }
        Ok(found.pop())
    }

    /// The image with this id, ready to run: its layers stay in the store until the returned hold is dropped.
    pub(crate) async fn take(
        &self,
        user: &UserId,
        id: Digest,
    ) -> Result<(Description, Held), Fault> {
        let unknown = || {
            Fault::new(
                FaultCode::NotFound,
                format!("the location has no image {}: upload it first", id.short()),
            )
        };
        let row = self.db.image(user.clone(), id).await?.ok_or_else(unknown)?;
        // Held before looked at: a layer that is there now cannot be removed between the two.
        let digests: Vec<Digest> = row
            .description
            .layers
            .iter()
            .map(|layer| layer.digest)
            .collect();
        let held = self.layers.hold(&digests).map_err(|_| unknown())?;
        match self.missing(user, &row.description).await?.as_slice() {
            [] => Ok((row.description, held)),
            missing => {
                let text = format!(
                    "not all layers of the image are uploaded yet: {} of {} are missing",
                    missing.len(),
                    digests.len()
                );
                Err(Fault::new(FaultCode::NotFound, text))
            }
        }
    }

    /// A name that the user's image is found under.
    pub(crate) async fn name(&self, user: &UserId, id: Digest) -> Option<String> {
        self.db
            .image(user.clone(), id)
            .await
            .ok()??
            .names
            .into_iter()
            .next()
    }

    /// All complete images of the user, the last used first.
    pub(crate) async fn list(&self, user: &UserId) -> Result<Vec<CachedImage>, Fault> {
        let mut complete = Vec::new();
        for row in self.db.images(user.clone()).await? {
            if self.missing(user, &row.description).await?.is_empty() {
                complete.push(row);
            }
        }
        let all: BTreeSet<Digest> = complete
            .iter()
            .flat_map(|row| layer_set(&row.description))
            .collect();
        let uses: BTreeMap<Digest, u64> = self
            .db
            .layer_uses(all.into_iter().collect())
            .await?
            .into_iter()
            .collect();
        Ok(complete
            .into_iter()
            .map(|row| {
                let layers = layer_set(&row.description);
                let unique = layers.iter().filter(|layer| uses.get(*layer) == Some(&1));
                CachedImage {
                    size: self.size(layers.iter()),
                    unique: self.size(unique),
                    stored: row
                        .description
                        .layers
                        .iter()
                        .map(|layer| self.size(std::iter::once(&layer.digest)))
                        .collect(),
                    names: row.names,
                    kept: row.kept,
                    last_used: row.last_used,
                    description: row.description,
                }
            })
            .collect())
    }

    fn size<'a>(&self, layers: impl Iterator<Item = &'a Digest>) -> u64 {
        layers
            .map(|layer| self.layers.size(layer).unwrap_or(0))
            .sum()
    }

    /// Forgets an image and frees the layers that nothing else needs. Also returns which those are.
    pub(crate) async fn remove(
        &self,
        user: &UserId,
        name: &str,
    ) -> Result<(Removed, Vec<Digest>), Fault> {
        let row = self.find_row(user, name).await?.ok_or_else(|| {
            Fault::new(
                FaultCode::NotFound,
                format!("the location has no image `{name}`: `tf cache ls` shows what it has"),
            )
        })?;
        let id = row.description.id;
        let layers = layer_set(&row.description).into_iter().collect();
        let unique: Vec<Digest> = self
            .db
            .layer_uses(layers)
            .await?
            .into_iter()
            .filter(|(_, uses)| *uses <= 1)
            .map(|(layer, _)| layer)
            .collect();
        if unique.iter().any(|layer| self.layers.in_use(layer)) {
            return Err(Fault::new(
                FaultCode::InUse,
                format!("a container uses the image `{name}`: end it first"),
            ));
        }
        self.db
            .remove_image(user.clone(), id, unique.clone())
            .await?;
        let freed = self.free(&unique);
        Ok((Removed { id, freed }, unique))
    }
}

/// Refuses descriptions that no honest client sends.
fn check(description: &Description, names: &[String]) -> Result<(), Fault> {
    let malformed = |text: String| Err(Fault::new(FaultCode::Malformed, text));
    if description.platform.os != "linux" {
        return malformed(format!(
            "the image is for {}, nodes run linux images only",
            description.platform
        ));
    }
    if description.layers.len() > MAX_LAYERS {
        return malformed(format!(
            "the image has {} layers, the most is {MAX_LAYERS}",
            description.layers.len()
        ));
    }
    if names.len() > MAX_NAMES
        || names
            .iter()
            .any(|name| name.is_empty() || name.len() > MAX_NAME_LENGTH)
    {
        return malformed(format!(
            "an image has at most {MAX_NAMES} names of 1 to {MAX_NAME_LENGTH} bytes"
        ));
    }
    Ok(())
}

pub(super) fn layer_set(description: &Description) -> BTreeSet<Digest> {
    description
        .layers
        .iter()
        .map(|layer| layer.digest)
        .collect()
}

impl From<DbError> for Fault {
    fn from(error: DbError) -> Self {
        tracing::error!("{error}");
        Self::new(FaultCode::Internal, error.to_string())
    }
}
