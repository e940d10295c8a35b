//! The location's database, in SQLite: users' images and limits here, accounts where they belong.
//!
//! Several processes may have it open at once (each `tf` without a configured location runs its own), so every write is
//! one short transaction. Queries run on blocking threads, never on those that carry connections.

mod images;
mod limits;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior};

pub(super) use self::images::ImageRow;
pub(super) use self::limits::{Bound, Limits};

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
    // A user without a row has the default, which is that of the user without a name; `most` is null for no limit.
    "
    CREATE TABLE limits (
        user TEXT NOT NULL,
        what TEXT NOT NULL,
        most INTEGER,
        PRIMARY KEY (user, what)
    ) STRICT;
    ALTER TABLE containers ADD COLUMN memory INTEGER NOT NULL DEFAULT 0;
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

#[cfg(test)]
mod tests {
    use super::*;

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
