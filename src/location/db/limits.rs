//! What the database knows of users' limits.

use rusqlite::{Transaction, params};

use super::{Db, DbError};
use crate::ids::UserId;
use crate::protocol::limits::{Limit, LimitChanges};

/// Whose limits hold for users without their own.
const EVERYBODY: &str = "";

/// The limits of a user as the database has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::location) struct Limits {
    pub(in crate::location) containers: Bound,
    pub(in crate::location) memory: Bound,
    pub(in crate::location) stored: Bound,
    pub(in crate::location) sessions: Bound,
}

/// One limit, if there is one, and whether it was set for this user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::location) struct Bound {
    pub(in crate::location) most: Option<u64>,
    pub(in crate::location) own: bool,
}

impl Limits {
    fn bound(&mut self, what: &str) -> Option<&mut Bound> {
        Some(match what {
            "containers" => &mut self.containers,
            "memory" => &mut self.memory,
            "stored" => &mut self.stored,
            "sessions" => &mut self.sessions,
            // A newer program may have others.
            _ => return None,
        })
    }
}

impl Db {
    /// The limits that hold for a user, or, with none, for users without their own.
    pub(in crate::location) async fn limits(
        &self,
        user: Option<UserId>,
    ) -> Result<Limits, DbError> {
        self.read(move |db| {
            let user = user.as_ref().map_or(EVERYBODY, UserId::as_str);
            // The user's own rows come last, and so they count.
            let mut rows = db.prepare_cached(
                "SELECT what, most, user <> ?2 FROM limits WHERE user IN (?1, ?2) ORDER BY user <> ?2",
            )?;
            let mut rows = rows.query([user, EVERYBODY])?;
            let mut limits = Limits::default();
            while let Some(row) = rows.next()? {
                if let Some(bound) = limits.bound(&row.get::<_, String>(0)?) {
                    let most: Option<i64> = row.get(1)?;
                    *bound = Bound {
                        most: most.map(i64::cast_unsigned),
                        own: row.get(2)?,
                    };
                }
            }
            Ok(limits)
        })
        .await
    }

    /// Changes the limits of the users with this id or name, or, with none, those of users without their own. Returns how
    /// many users that were.
    pub(in crate::location) async fn set_limits(
        &self,
        who: Option<String>,
        changes: LimitChanges,
    ) -> Result<u32, DbError> {
        self.run(move |db| {
            let users = match who {
                Some(who) => db
                    .prepare("SELECT id FROM accounts WHERE node = 0 AND (id = ?1 OR name = ?1)")?
                    .query_map([who], |row| row.get(0))?
                    .collect::<Result<Vec<String>, _>>()?,
                None => vec![EVERYBODY.to_owned()],
            };
            for user in &users {
                let LimitChanges {
                    containers,
                    memory,
                    stored,
                    sessions,
                } = changes;
                set(db, user, "containers", containers)?;
                set(db, user, "memory", memory)?;
                set(db, user, "stored", stored)?;
                set(db, user, "sessions", sessions)?;
            }
            Ok(u32::try_from(users.len()).unwrap_or(u32::MAX))
        })
        .await
    }
}

fn set(db: &Transaction, user: &str, what: &str, limit: Option<Limit>) -> Result<(), DbError> {
    let most = match limit {
        None => return Ok(()),
        Some(Limit::Default) => {
            let delete = "DELETE FROM limits WHERE user = ?1 AND what = ?2";
            db.execute(delete, [user, what])?;
            return Ok(());
        }
        Some(Limit::Unlimited) => None,
        Some(Limit::AtMost(most)) => Some(i64::try_from(most).unwrap_or(i64::MAX)),
    };
    db.execute(
        "INSERT INTO limits (user, what, most) VALUES (?1, ?2, ?3)
         ON CONFLICT (user, what) DO UPDATE SET most = ?3",
        params![user, what, most],
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn add_user(db: &Db, name: &'static str) -> UserId {
        let user = UserId::random();
        let id = user.to_string();
        db.run(move |db| {
            db.execute(
                "INSERT INTO accounts (key, id, node, name, joined) VALUES (?1, ?1, 0, ?2, 0)",
                [&id, name],
            )?;
            Ok(())
        })
        .await
        .unwrap();
        user
    }

    #[tokio::test]
    async fn a_users_own_limits_go_before_the_default_ones() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(&dir.path().join("db")).unwrap();
        let (ann, bob) = (add_user(&db, "ann").await, add_user(&db, "bob").await);
        let containers = |limit| LimitChanges {
            containers: Some(limit),
            ..LimitChanges::default()
        };
        let most = async |user: &UserId| {
            let limits = db.limits(Some(user.clone())).await.unwrap();
            (limits.containers.most, limits.containers.own)
        };
        assert_eq!(most(&ann).await, (None, false));

        let set = db.set_limits(None, containers(Limit::AtMost(5))).await;
        assert_eq!(set.unwrap(), 1);
        assert_eq!(most(&ann).await, (Some(5), false));
        let everybody = db.limits(None).await.unwrap();
        assert_eq!(everybody.containers.most, Some(5));
        assert_eq!(everybody.memory, Bound::default());

        for (limit, expected) in [
            (Limit::AtMost(7), (Some(7), true)),
            (Limit::Unlimited, (None, true)),
            (Limit::Default, (Some(5), false)),
            (Limit::AtMost(0), (Some(0), true)),
            (Limit::AtMost(u64::MAX), (Some(i64::MAX as u64), true)),
        ] {
            let set = db.set_limits(Some("ann".into()), containers(limit)).await;
            assert_eq!(set.unwrap(), 1);
            assert_eq!(most(&ann).await, expected);
            assert_eq!(most(&bob).await, (Some(5), false));
        }
        let set = db.set_limits(Some("eve".into()), containers(Limit::Unlimited));
        assert_eq!(set.await.unwrap(), 0);
    }
}
