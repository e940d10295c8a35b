//! The location's database: what it knows of users' images, in SQLite.
//!
//! Several processes may have it open at once (each `tf` without a configured location runs its own), so every write is
//! one short transaction. Queries run on blocking threads, never on those that carry connections.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::ids::{Digest, UserId};
use crate::protocol::image::Description;

/// How long a write waits for another process's.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Steps that bring the schema from one version to the next; the database records how many are done. Steps are only
/// ever added.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE images (
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        description TEXT NOT NULL,
        kept INTEGER NOT NULL,
        last_used INTEGER NOT NULL,
        PRIMARY KEY (user, id)
    ) STRICT;
    CREATE TABLE image_layers (
        user TEXT NOT NULL,
        id TEXT NOT NULL,
        layer TEXT NOT NULL,
        PRIMARY KEY (user, id, layer),
        FOREIGN KEY (user, id) REFERENCES images ON DELETE CASCADE
    ) STRICT;
    CREATE INDEX image_layers_by_layer ON image_layers (layer);
    CREATE TABLE names (
        user TEXT NOT NULL,
        name TEXT NOT NULL,
        id TEXT NOT NULL,
        PRIMARY KEY (user, name),
        FOREIGN KEY (user, id) REFERENCES images ON DELETE CASCADE
    ) STRICT;
    CREATE TABLE layer_owners (
        user TEXT NOT NULL,
        layer TEXT NOT NULL,
        PRIMARY KEY (user, layer)
    ) STRICT;
",
    "
    CREATE TABLE accounts (
        key TEXT PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        node INTEGER NOT NULL,
        name TEXT NOT NULL,
        joined INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE invitations (
        token TEXT PRIMARY KEY,
        node INTEGER NOT NULL,
        name TEXT NOT NULL,
        expires INTEGER NOT NULL
    ) STRICT;
",
    "
    CREATE TABLE containers (
        id TEXT PRIMARY KEY,
        session TEXT NOT NULL,
        user TEXT NOT NULL,
        node TEXT NOT NULL,
        image TEXT NOT NULL,
        since INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX containers_by_session ON containers (session);
",
];

/// Failure of the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// It cannot be opened or queried.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// It was written by a newer version of this program.
    #[error(
        "database: schema version {found} is newer than this program's {known}: use the newer program"
    )]
    TooNew {
        /// Version of the file.
        found: usize,
        /// Newest version that this program knows.
        known: usize,
    },
    /// A row holds what this program cannot read.
    #[error("database: row cannot be read: {0}")]
    Row(String),
}

/// The database. Clones share one connection.
#[derive(Clone)]
pub(super) struct Db {
    connection: Arc<Mutex<Connection>>,
}

/// An image as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageRow {
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
    /// Opens the database, making it or bringing it up to date as needed.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written, or is newer than this program.
    pub(super) fn open(path: &Path) -> Result<Self, DbError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // A power cut may lose the last writes, never the database: all it holds can be sent again.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "normal")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // Otherwise each `tf` would move the log into the database at its end, waiting for the disk, and begin a new one
        // at its next write, waiting again. As it is, that happens once in a thousand pages.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        migrate(&mut connection)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Runs `work`, which changes something, in a transaction on a blocking thread.
    pub(super) async fn run<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T, DbError> + Send + 'static,
    {
        self.transact(TransactionBehavior::Immediate, work).await
    }

    /// Runs `work`, which changes nothing, in a transaction on a blocking thread. Waits for nobody.
    pub(super) async fn read<T, F>(&self, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T, DbError> + Send + 'static,
    {
        self.transact(TransactionBehavior::Deferred, work).await
    }

    async fn transact<T, F>(&self, behavior: TransactionBehavior, work: F) -> Result<T, DbError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction) -> Result<T, DbError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        tokio::task::spawn_blocking(move || {
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(behavior)?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
        .await
        .map_err(|panic| DbError::Row(panic.to_string()))?
    }

    /// Records that the user has the image, used now, under these further names. A name moves from the image that had it.
    pub(super) async fn put_image(
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
    pub(super) async fn image(
        &self,
        user: UserId,
        id: Digest,
    ) -> Result<Option<ImageRow>, DbError> {
        self.read(move |db| read_image(db, &user, &id.to_string()))
            .await
    }

    /// The user's images whose name is `name`, or whose id begins with the hexadecimal digits `name`; ids first looked
    /// up by name, since a name is what the user chose.
    pub(super) async fn find_images(
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
    pub(super) async fn images(&self, user: UserId) -> Result<Vec<ImageRow>, DbError> {
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
    pub(super) async fn layer_uses(
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
    pub(super) async fn remove_image(
        &self,
        user: UserId,
        id: Digest,
        freed: Vec<Digest>,
    ) -> Result<(), DbError> {
        self.run(move |db| {
            db.execute(
                "DELETE FROM images WHERE user = ?1 AND id = ?2",
                params![user.as_str(), id.to_string()],
            )?;
            for layer in freed {
                db.execute(
                    "DELETE FROM layer_owners WHERE layer = ?1",
                    [layer.to_string()],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Records that the user has shown to possess the layer.
    pub(super) async fn own_layer(&self, user: UserId, layer: Digest) -> Result<(), DbError> {
        self.run(move |db| {
            db.execute(
                "INSERT OR IGNORE INTO layer_owners (user, layer) VALUES (?1, ?2)",
                params![user.as_str(), layer.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// Which of these layers the user has shown to possess.
    pub(super) async fn owned_layers(
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

fn migrate(connection: &mut Connection) -> Result<(), DbError> {
    let version =
        |db: &Connection| db.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0));
    if usize::try_from(version(connection)?) == Ok(MIGRATIONS.len()) {
        return Ok(());
    }
    // Another process may be doing the same: look again under the lock.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let found = usize::try_from(version(&transaction)?).unwrap_or(0);
    let Some(steps) = MIGRATIONS.get(found..) else {
        return Err(DbError::TooNew {
            found,
            known: MIGRATIONS.len(),
        });
    };
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.execute_batch(&format!("PRAGMA user_version = {}", MIGRATIONS.len()))?;
    transaction.commit()?;
    Ok(())
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

    #[test]
    fn a_newer_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        drop(Db::open(&path).unwrap());
        Connection::open(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        assert!(matches!(
            Db::open(&path),
            Err(DbError::TooNew { found: 99, .. })
        ));
    }

    #[test]
    fn two_processes_open_one_database() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| Db::open(&path).map(drop)))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    }
}
