//! Who may connect: users and nodes that have joined, and invitations that have not been used.
//!
//! A key that has joined is let in by itself. An unknown key is let in with the token of an invitation, which makes it
//! known and uses the token up. The database has only digests of tokens, so that reading it lets nobody in.

use rusqlite::{OptionalExtension, Transaction, params};

use super::db::{Db, DbError};
use crate::ids::{Digest, NodeId, UserId};
use crate::keys::PublicKey;
use crate::protocol::messages::AccountInfo;

/// What a key may connect as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Principal {
    /// A client that acts for this user.
    User(UserId),
    /// A node of this name.
    Node(NodeId),
    /// Whoever has the location's own secret key.
    Administrator,
}

/// The accounts of a location.
#[derive(Clone)]
pub(super) struct Accounts {
    db: Db,
}

impl Accounts {
    pub(super) fn new(db: Db) -> Self {
        Self { db }
    }

    /// What `key` may connect as, if it has joined.
    pub(super) async fn find(&self, key: PublicKey) -> Result<Option<Principal>, DbError> {
        self.db.read(move |db| find(db, &key)).await
    }

    /// Whether `token` is that of an invitation that a user, or a node, can use. Changes nothing.
    pub(super) async fn is_invited(
        &self,
        token: String,
        node: bool,
        now: u64,
    ) -> Result<bool, DbError> {
        self.db
            .read(move |db| {
                Ok(invitation(db, &token, now)?.is_some_and(|(for_node, _)| for_node == node))
            })
            .await
    }

    /// Records an invitation.
    pub(super) async fn invite(
        &self,
        token: String,
        node: bool,
        name: String,
        expires: u64,
    ) -> Result<(), DbError> {
        self.db
            .run(move |db| {
                db.execute(
                    "INSERT INTO invitations (token, node, name, expires) VALUES (?1, ?2, ?3, ?4)",
                    params![hidden(&token), node, name, expires.cast_signed()],
                )?;
                Ok(())
            })
            .await
    }

    /// Lets `key` join with an invitation, which is used up by that. None if it cannot be used (any more).
    pub(super) async fn join(
        &self,
        key: PublicKey,
        token: String,
        now: u64,
    ) -> Result<Option<Principal>, DbError> {
        self.db
            .run(move |db| {
                if let Some(known) = find(db, &key)? {
                    return Ok(Some(known));
                }
                let Some((node, name)) = invitation(db, &token, now)? else { return Ok(None) };
                db.execute("DELETE FROM invitations WHERE token = ?1", [hidden(&token)])?;
                let id = UserId::random();
                db.execute(
                    "INSERT INTO accounts (key, id, node, name, joined) VALUES (?1, ?2, ?3, ?4, ?5)",
                    params![key.to_string(), id.as_str(), node, name, now.cast_signed()],
                )?;
                find(db, &key)
            })
            .await
    }

    /// All accounts, users or nodes, in the order in which they joined.
    pub(super) async fn list(&self, nodes: bool) -> Result<Vec<AccountInfo>, DbError> {
        self.db
            .read(move |db| {
                let mut rows = db.prepare(
                    "SELECT id, key, name, joined FROM accounts WHERE node = ?1 ORDER BY joined",
                )?;
                let mut rows = rows.query([nodes])?;
                let mut accounts = Vec::new();
                while let Some(row) = rows.next()? {
                    accounts.push(AccountInfo {
                        id: row.get(0)?,
                        key: row.get(1)?,
                        name: row.get(2)?,
                        joined: row.get::<_, i64>(3)?.cast_unsigned(),
                    });
                }
                Ok(accounts)
            })
            .await
    }

    /// Forgets the accounts with this id or name, and the invitations made out to it. Returns who they were, and how many
    /// invitations.
    pub(super) async fn revoke(&self, who: String) -> Result<(Vec<Principal>, usize), DbError> {
        self.db
            .run(move |db| {
                let mut removed = db.prepare(
                    "DELETE FROM accounts WHERE id = ?1 OR name = ?1 RETURNING id, node",
                )?;
                let rows = removed
                    .query_map([&who], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<Vec<_>, _>>()?;
                let void = db.execute("DELETE FROM invitations WHERE name = ?1", [&who])?;
                for (id, _) in &rows {
                    db.execute("DELETE FROM limits WHERE user = ?1", [id])?;
                }
                let revoked = rows
                    .into_iter()
                    .map(|(id, node): (String, bool)| principal(&id, node))
                    .collect::<Result<_, _>>()?;
                Ok((revoked, void))
            })
            .await
    }
}

fn find(db: &Transaction, key: &PublicKey) -> Result<Option<Principal>, DbError> {
    let row = db
        .query_row(
            "SELECT id, node FROM accounts WHERE key = ?1",
            [key.to_string()],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, bool>(1)?)),
        )
        .optional()?;
    row.map(|(id, node)| principal(&id, node)).transpose()
}

fn principal(id: &str, node: bool) -> Result<Principal, DbError> {
    Ok(if node {
        Principal::Node(parse(id)?)
    } else {
        Principal::User(parse(id)?)
    })
}

/// What the invitation with this token was made out for, if it can still be used.
fn invitation(db: &Transaction, token: &str, now: u64) -> Result<Option<(bool, String)>, DbError> {
    let query = "SELECT node, name FROM invitations WHERE token = ?1 AND expires > ?2";
    let found = db.query_row(query, params![hidden(token), now.cast_signed()], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    Ok(found.optional()?)
}

/// What the database has in place of a token.
fn hidden(token: &str) -> String {
    Digest::of(token.as_bytes()).hex()
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, DbError> {
    text.parse()
        .map_err(|error: T::Err| DbError::Row(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SecretKey;

    fn accounts() -> (tempfile::TempDir, Accounts) {
        let directory = tempfile::tempdir().unwrap();
        let db = Db::open(&directory.path().join("db")).unwrap();
        (directory, Accounts::new(db))
    }

    #[tokio::test]
    async fn a_token_works_once_and_not_after_its_time() {
        let (_directory, accounts) = accounts();
        let (first, second) = (
            SecretKey::generate().public(),
            SecretKey::generate().public(),
        );
        accounts
            .invite("token".into(), false, "ann@example".into(), 100)
            .await
            .unwrap();
        assert!(
            !accounts
                .is_invited("token".into(), false, 100)
                .await
                .unwrap()
        );
        assert_eq!(
            accounts.join(first, "token".into(), 100).await.unwrap(),
            None
        );
        assert!(
            accounts
                .is_invited("token".into(), false, 99)
                .await
                .unwrap()
        );
        assert!(!accounts.is_invited("token".into(), true, 99).await.unwrap());

        let joined = accounts.join(first, "token".into(), 99).await.unwrap();
        assert!(matches!(joined, Some(Principal::User(_))));
        assert_eq!(
            accounts.join(second, "token".into(), 99).await.unwrap(),
            None
        );
        assert_eq!(accounts.find(first).await.unwrap(), joined);
        assert_eq!(accounts.find(second).await.unwrap(), None);
    }

    #[tokio::test]
    async fn users_and_nodes_are_kept_apart() {
        let (_directory, accounts) = accounts();
        let (user, node) = (
            SecretKey::generate().public(),
            SecretKey::generate().public(),
        );
        accounts
            .invite("u".into(), false, "ann@example".into(), 9)
            .await
            .unwrap();
        accounts
            .invite("n".into(), true, "rack1".into(), 9)
            .await
            .unwrap();
        accounts.join(user, "u".into(), 1).await.unwrap();
        assert!(matches!(
            accounts.join(node, "n".into(), 1).await.unwrap(),
            Some(Principal::Node(_))
        ));
        let names = async |nodes| -> Vec<String> {
            accounts
                .list(nodes)
                .await
                .unwrap()
                .into_iter()
                .map(|account| account.name)
                .collect()
        };
        assert_eq!(names(false).await, ["ann@example"]);
        assert_eq!(names(true).await, ["rack1"]);
    }

    #[tokio::test]
    async fn who_is_revoked_is_unknown() {
        let (_directory, accounts) = accounts();
        let key = SecretKey::generate().public();
        accounts
            .invite("a".into(), false, "ann@example".into(), 9)
            .await
            .unwrap();
        accounts
            .invite("b".into(), false, "ann@example".into(), 9)
            .await
            .unwrap();
        let user = accounts.join(key, "a".into(), 1).await.unwrap();
        assert_eq!(
            accounts.revoke("ann@example".into()).await.unwrap(),
            (vec![user.unwrap()], 1)
        );
        assert_eq!(accounts.find(key).await.unwrap(), None);
        assert_eq!(accounts.join(key, "b".into(), 1).await.unwrap(), None);
    }
}
