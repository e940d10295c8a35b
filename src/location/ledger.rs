//! Which containers run where and for whom, written down, so that a location that was killed finds them again.
//!
//! A row is there from before its node is asked for the container until after the container is gone. So what is written
//! may be more than what runs, never less.

use rusqlite::params;

use super::db::{Db, DbError};
use crate::ids::{ContainerId, Digest, NodeId, SessionId, UserId};

/// A container as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) container: ContainerId,
    /// The session that owns it.
    pub(super) session: SessionId,
    /// Whose session that is.
    pub(super) user: UserId,
    pub(super) node: NodeId,
    pub(super) image: Digest,
    /// When it was asked for, in seconds since the epoch.
    pub(super) since: u64,
    /// How much memory it may use, in bytes; 0 if that is not limited.
    pub(super) memory: u64,
}

/// The written list. Clones are the same list; that of a location whose containers end with its process is empty.
#[derive(Clone)]
pub(super) struct Ledger {
    db: Option<Db>,
}

impl Ledger {
    /// The list in a database.
    pub(super) fn new(db: Db) -> Self {
        Self { db: Some(db) }
    }

    /// A list that is not kept.
    pub(super) fn none() -> Self {
        Self { db: None }
    }

    /// Enters a container.
    pub(super) async fn enter(&self, record: Record) -> Result<(), DbError> {
        let Some(db) = &self.db else { return Ok(()) };
        db.run(move |db| {
            db.execute(
                "INSERT INTO containers (id, session, user, node, image, since, memory)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    record.container.as_str(),
                    record.session.as_str(),
                    record.user.as_str(),
                    record.node.as_str(),
                    record.image.to_string(),
                    record.since.cast_signed(),
                    record.memory.cast_signed()
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Strikes out containers. That it fails is no more than a look in vain at the next start.
    pub(super) async fn strike(&self, containers: Vec<ContainerId>) {
        let Some(db) = &self.db else { return };
        let struck = db.run(move |db| {
            let mut delete = db.prepare("DELETE FROM containers WHERE id = ?1")?;
            for container in &containers {
                delete.execute([container.as_str()])?;
            }
            Ok(())
        });
        if let Err(error) = struck.await {
            tracing::warn!("containers that are gone are still written down: {error}");
        }
    }

    /// Gives what one session owns to another one.
    pub(super) async fn hand_over(&self, from: SessionId, to: SessionId) -> Result<(), DbError> {
        let Some(db) = &self.db else { return Ok(()) };
        db.run(move |db| {
            db.execute(
                "UPDATE containers SET session = ?2 WHERE session = ?1",
                [from.as_str(), to.as_str()],
            )?;
            Ok(())
        })
        .await
    }

    /// All that is written down.
    pub(super) async fn records(&self) -> Result<Vec<Record>, DbError> {
        let Some(db) = &self.db else {
            return Ok(Vec::new());
        };
        db.read(|db| {
            let mut select =
                db.prepare("SELECT id, session, user, node, image, since, memory FROM containers")?;
            let mut rows = select.query([])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                let text = |column| row.get::<_, String>(column);
                let malformed = |_| DbError::Row("containers".to_owned());
                records.push(Record {
                    container: text(0)?.parse().map_err(malformed)?,
                    session: text(1)?.parse().map_err(malformed)?,
                    user: text(2)?.parse().map_err(malformed)?,
                    node: text(3)?.parse().map_err(malformed)?,
                    image: text(4)?
                        .parse()
                        .map_err(|_| DbError::Row("containers".to_owned()))?,
                    since: row.get::<_, i64>(5)?.cast_unsigned(),
                    memory: row.get::<_, i64>(6)?.cast_unsigned(),
                });
            }
            Ok(records)
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_entered_is_found_until_it_is_struck_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let ledger = Ledger::new(Db::open(&path).unwrap());
        let record = |session: &SessionId| Record {
            container: ContainerId::random(),
            session: session.clone(),
            user: UserId::random(),
            node: NodeId::random(),
            image: Digest::of(b"image"),
            since: 7,
            memory: 1 << 30,
        };
        let (one, other) = (SessionId::random(), SessionId::random());
        let (first, second) = (record(&one), record(&other));
        ledger.enter(first.clone()).await.unwrap();
        ledger.enter(second.clone()).await.unwrap();

        // As the next process finds it.
        let ledger = Ledger::new(Db::open(&path).unwrap());
        let records = ledger.records().await.unwrap();
        assert_eq!(records.len(), 2);
        assert!(records.contains(&first) && records.contains(&second));

        let heir = SessionId::random();
        ledger.hand_over(one, heir.clone()).await.unwrap();
        ledger.strike(vec![second.container]).await;
        let inherited = Record {
            session: heir,
            ..first
        };
        assert_eq!(ledger.records().await.unwrap(), [inherited]);
    }

    #[tokio::test]
    async fn a_list_that_is_not_kept_is_empty() {
        let ledger = Ledger::none();
        ledger.strike(vec![ContainerId::random()]).await;
        assert_eq!(ledger.records().await.unwrap(), []);
    }
}
