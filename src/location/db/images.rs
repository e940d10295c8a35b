//! What the database knows of users' images, and of the layers that they are made of.

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Db, DbError};
use crate::ids::{Digest, UserId};
use crate::protocol::image::Description;

/// An image as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::location) struct ImageRow {
    /// The image.
    pub description: Description,
    /// Names it is found under.
    pub names: Vec<String>,
    /// Asked to be kept.
    pub kept: bool,
    /// Last use, in seconds since the epoch.
    pub last_used: u64,
}

impl Db {
    /// Records that the user has the image, used now, under these further names. A name moves from the image that had it.
    pub(in crate::location) async fn put_image(
        &self,
        user: UserId,
        description: Description,
        names: Vec<String>,
        keep: bool,
        now: u64,
    ) -> Result<(), DbError> {
        self.run(move |db| {
            let id = description.id.to_string();
            let json = serde_json::to_string(&description).map_err(|error| DbError::Row(error.to_string()))?;
            db.execute(
                "INSERT INTO images (user, id, description, kept, last_used) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (user, id) DO UPDATE SET
                     description = ?3, kept = max(kept, ?4), last_used = ?5",
                params![user.as_str(), id, json, keep, now.cast_signed()],
            )?;
            db.execute("DELETE FROM image_layers WHERE user = ?1 AND id = ?2", params![user.as_str(), id])?;
            for layer in &description.layers {
                db.execute(
                    "INSERT OR IGNORE INTO image_layers (user, id, layer) VALUES (?1, ?2, ?3)",
                    params![user.as_str(), id, layer.digest.to_string()],
                )?;
            }
            for name in &names {
                db.execute(
                    "INSERT INTO names (user, name, id) VALUES (?1, ?2, ?3)
                     ON CONFLICT (user, name) DO UPDATE SET id = ?3",
                    params![user.as_str(), name, id],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// The user's image with this id.
    pub(in crate::location) async fn image(
        &self,
        user: UserId,
        id: Digest,
    ) -> Result<Option<ImageRow>, DbError> {
        self.read(move |db| read_image(db, &user, &id.to_string()))
            .await
    }

    /// The user's images whose name is `name`, or whose id begins with the hexadecimal digits `name`; ids first looked
    /// up by name, since a name is what the user chose.
    pub(in crate::location) async fn find_images(
        &self,
        user: UserId,
        name: String,
    ) -> Result<Vec<ImageRow>, DbError> {
        self.read(move |db| {
            let named = db
                .query_row(
                    "SELECT id FROM names WHERE user = ?1 AND name = ?2",
                    params![user.as_str(), name],
                    |row| row.get::<_, String>(0),
                )
                .optional()?;
            let ids = match named {
                Some(id) => vec![id],
                None => ids_with_prefix(db, &user, &name)?,
            };
            ids.iter()
                .filter_map(|id| read_image(db, &user, id).transpose())
                .collect()
        })
        .await
    }

    /// All images of the user, the last used first.
    pub(in crate::location) async fn images(&self, user: UserId) -> Result<Vec<ImageRow>, DbError> {
        self.read(move |db| {
            let ids = db
                .prepare("SELECT id FROM images WHERE user = ?1 ORDER BY last_used DESC, id")?
                .query_map([user.as_str()], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()?;
            ids.iter()
                .filter_map(|id| read_image(db, &user, id).transpose())
                .collect()
        })
        .await
    }

    /// How many images, of whichever user, have each of these layers.
    pub(in crate::location) async fn layer_uses(
        &self,
        layers: Vec<Digest>,
    ) -> Result<Vec<(Digest, u64)>, DbError> {
        self.read(move |db| {
            let mut count = db.prepare("SELECT count(*) FROM image_layers WHERE layer = ?1")?;
            layers
                .into_iter()
                .map(|layer| {
                    let uses: i64 = count.query_row([layer.to_string()], |row| row.get(0))?;
                    Ok((layer, uses.cast_unsigned()))
                })
                .collect()
        })
        .await
    }

    /// Forgets the user's image, and which layers of `freed` belong to whom.
    pub(in crate::location) async fn remove_image(
        &self,
        user: UserId,
        id: Digest,
        freed: Vec<Digest>,
    ) -> Result<(), DbError> {
        self.run(move |db| {
            let id = id.to_string();
            // Of the user's layers, too, what no other image of theirs has: it would count as theirs for good.
            db.execute(
                "DELETE FROM layer_owners WHERE user = ?1
                     AND layer IN (SELECT layer FROM image_layers WHERE user = ?1 AND id = ?2)
                     AND layer NOT IN (SELECT layer FROM image_layers WHERE user = ?1 AND id <> ?2)",
                params![user.as_str(), id],
            )?;
            db.execute(
                "DELETE FROM images WHERE user = ?1 AND id = ?2",
                params![user.as_str(), id],
            )?;
            forget_layers(db, &freed)
        })
        .await
    }

    /// All images of all users, in the order in which they can be done without: those that nobody asked to keep first, of
    /// each kind the one that was used least recently.
    pub(in crate::location) async fn least_recently_used(
        &self,
    ) -> Result<Vec<(UserId, Digest)>, DbError> {
        self.read(move |db| {
            // Of the same second, the first that came.
            let mut rows =
                db.prepare("SELECT user, id FROM images ORDER BY kept, last_used, rowid")?;
            let mut rows = rows.query([])?;
            let mut images = Vec::new();
            while let Some(row) = rows.next()? {
                let user: String = row.get(0)?;
                let user = user.parse::<UserId>();
                let user = user.map_err(|error| DbError::Row(error.to_string()))?;
                images.push((user, digest(&row.get::<_, String>(1)?)?));
            }
            Ok(images)
        })
        .await
    }

    /// Records that the user's image is used now.
    pub(in crate::location) async fn touch_image(
        &self,
        user: UserId,
        id: Digest,
        now: u64,
    ) -> Result<(), DbError> {
        self.run(move |db| {
            db.execute(
                "UPDATE images SET last_used = ?3 WHERE user = ?1 AND id = ?2",
                params![user.as_str(), id.to_string(), now.cast_signed()],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets whose these layers are.
    pub(in crate::location) async fn forget_layers(
        &self,
        layers: Vec<Digest>,
    ) -> Result<(), DbError> {
        self.run(move |db| forget_layers(db, &layers)).await
    }

    /// Records that the user has shown to possess the layer.
    pub(in crate::location) async fn own_layer(
        &self,
        user: UserId,
        layer: Digest,
    ) -> Result<(), DbError> {
        self.run(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO layer_owners (user, layer) VALUES (?1, ?2)",
                params![user.as_str(), layer.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// All layers that the user has shown to possess, and the length of the descriptions of their images, in bytes.
    pub(in crate::location) async fn possessions(
        &self,
        user: UserId,
    ) -> Result<(Vec<Digest>, u64), DbError> {
        self.read(move |db| {
            let layers = db
                .prepare("SELECT layer FROM layer_owners WHERE user = ?1")?
                .query_map([user.as_str()], |row| row.get::<_, String>(0))?
                .map(|layer| digest(&layer?))
                .collect::<Result<_, DbError>>()?;
            let length = db.query_row(
                "SELECT coalesce(sum(length(description)), 0) FROM images WHERE user = ?1",
                [user.as_str()],
                |row| row.get::<_, i64>(0),
            )?;
            Ok((layers, length.cast_unsigned()))
        })
        .await
    }

    /// Whether an image of the user's, complete or not, has this layer.
    pub(in crate::location) async fn expects_layer(
        &self,
        user: UserId,
        layer: Digest,
    ) -> Result<bool, DbError> {
        self.read(move |db| {
            let mut uses =
                db.prepare("SELECT 1 FROM image_layers WHERE user = ?1 AND layer = ?2")?;
            Ok(uses.exists(params![user.as_str(), layer.to_string()])?)
        })
        .await
    }

    /// Which of these layers the user has shown to possess.
    pub(in crate::location) async fn owned_layers(
        &self,
        user: UserId,
        layers: Vec<Digest>,
    ) -> Result<Vec<Digest>, DbError> {
        self.read(move |db| {
            let mut owned =
                db.prepare("SELECT 1 FROM layer_owners WHERE user = ?1 AND layer = ?2")?;
            let mut found = Vec::new();
            for layer in layers {
                if owned.exists(params![user.as_str(), layer.to_string()])? {
                    found.push(layer);
                }
            }
            Ok(found)
        })
        .await
    }
}

fn forget_layers(db: &Transaction, layers: &[Digest]) -> Result<(), DbError> {
    let mut forget = db.prepare_cached("DELETE FROM layer_owners WHERE layer = ?1")?;
    for layer in layers {
        forget.execute([layer.to_string()])?;
    }
    Ok(())
}

fn digest(text: &str) -> Result<Digest, DbError> {
    let digest: Result<Digest, _> = text.parse();
    digest.map_err(|error| DbError::Row(error.to_string()))
}

fn ids_with_prefix(db: &Transaction, user: &UserId, prefix: &str) -> Result<Vec<String>, DbError> {
    let hex = prefix.strip_prefix("sha256:").unwrap_or(prefix);
    if hex.is_empty() || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Vec::new());
    }
    let pattern = format!("sha256:{}%", hex.to_ascii_lowercase());
    let mut ids = db.prepare("SELECT id FROM images WHERE user = ?1 AND id LIKE ?2 LIMIT 2")?;
    let ids = ids.query_map(params![user.as_str(), pattern], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn read_image(db: &Transaction, user: &UserId, id: &str) -> Result<Option<ImageRow>, DbError> {
    let row = db
        .query_row(
            "SELECT description, kept, last_used FROM images WHERE user = ?1 AND id = ?2",
            params![user.as_str(), id],
            |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, bool>(1)?,
                    row.get::<_, i64>(2)?,
                ))
            },
        )
        .optional()?;
    let Some((json, kept, last_used)) = row else {
        return Ok(None);
    };
    let description =
        serde_json::from_str(&json).map_err(|error| DbError::Row(error.to_string()))?;
    let names = db
        .prepare("SELECT name FROM names WHERE user = ?1 AND id = ?2 ORDER BY name")?
        .query_map(params![user.as_str(), id], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    Ok(Some(ImageRow {
        description,
        names,
        kept,
        last_used: last_used.cast_unsigned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::image::{ImageConfig, Layer, Platform};

    fn image(content: &str, layers: &[&str]) -> Description {
        Description {
            id: Digest::of(content.as_bytes()),
            platform: Platform::host(),
            layers: layers
                .iter()
                .map(|layer| Layer {
                    digest: Digest::of(layer.as_bytes()),
                    size: None,
                })
                .collect(),
            config: ImageConfig::default(),
        }
    }

    #[tokio::test]
    async fn images_are_found_by_name_and_by_the_start_of_their_id() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).unwrap();
        let (user, other) = (UserId::random(), UserId::random());
        let web = image("web", &["a", "b", "b"]);
        db.put_image(
            user.clone(),
            web.clone(),
            vec!["docker.io/library/web:latest".into()],
            false,
            7,
        )
        .await
        .unwrap();

        for name in [
            "docker.io/library/web:latest",
            &web.id.to_string(),
            &web.id.hex()[..6],
        ] {
            let found = db.find_images(user.clone(), name.to_owned()).await.unwrap();
            assert_eq!(found.len(), 1, "{name}");
            assert_eq!(found[0].description, web);
            assert!(
                db.find_images(other.clone(), name.to_owned())
                    .await
                    .unwrap()
                    .is_empty(),
                "{name}"
            );
        }
        assert!(
            db.find_images(user, "%".to_owned())
                .await
                .unwrap()
                .is_empty()
        );
    }

    #[tokio::test]
    async fn a_name_moves_to_the_newer_image_and_keeping_is_not_undone() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).unwrap();
        let user = UserId::random();
        let (old, new) = (image("old", &["a"]), image("new", &["a"]));
        db.put_image(user.clone(), old.clone(), vec!["web".into()], true, 1)
            .await
            .unwrap();
        db.put_image(user.clone(), new.clone(), vec!["web".into()], false, 2)
            .await
            .unwrap();
        db.put_image(user.clone(), old.clone(), vec![], false, 3)
            .await
            .unwrap();

        let rows = db.images(user.clone()).await.unwrap();
        assert_eq!(rows[0].description, old);
        assert_eq!(
            (rows[0].names.len(), rows[0].kept, rows[0].last_used),
            (0, true, 3)
        );
        assert_eq!(
            (rows[1].names.as_slice(), rows[1].kept),
            (&["web".to_owned()][..], false)
        );
        assert_eq!(
            db.layer_uses(vec![Digest::of(b"a")]).await.unwrap(),
            [(Digest::of(b"a"), 2)]
        );
    }

    #[tokio::test]
    async fn layers_belong_to_the_users_who_showed_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).unwrap();
        let (user, other) = (UserId::random(), UserId::random());
        let layer = Digest::of(b"secret");
        db.own_layer(user.clone(), layer).await.unwrap();
        assert_eq!(db.owned_layers(user, vec![layer]).await.unwrap(), [layer]);
        assert!(
            db.owned_layers(other, vec![layer])
                .await
                .unwrap()
                .is_empty()
        );
    }
}
