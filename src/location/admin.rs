//! The front end for administrators: invitations, accounts, sessions. Whoever has the location's secret key is one.

use tokio::task::JoinSet;

use super::accounts::{Accounts, Principal};
use super::broker::Broker;
use super::connected::Connected;
use super::now;
use crate::invitation::Invitation;
use crate::link::{Inbound, Incoming, PendingCall, answer};
use crate::protocol::messages::{
    Call, Fault, FaultCode, Invite, Invited, ListAccounts, ListLimits, ListNodes, ListSessions,
    Revoke, SetLimits, ShowOut, ShownOut,
};

/// Longest name that an invitation is made out to, in bytes.
const MAX_NAME: usize = 254;

/// What an administrator works with.
#[derive(Clone)]
pub(super) struct Office {
    pub(super) accounts: Accounts,
    pub(super) broker: Broker,
    pub(super) connected: Connected,
}

/// Serves an administrator until the link ends.
pub(super) async fn serve(mut incoming: Incoming, office: Office) {
    let mut tasks = JoinSet::new();
    while let Some(inbound) = incoming.next().await {
        while tasks.try_join_next().is_some() {}
        if let Inbound::Call(call) = inbound {
            let office = office.clone();
            tasks.spawn(async move { handle(call, &office).await });
        }
    }
    tasks.shutdown().await;
}

async fn handle(call: PendingCall, office: &Office) {
    let Office {
        accounts, broker, ..
    } = office;
    match call.kind() {
        Invite::KIND => {
            answer(call, async |message: Invite| {
                invite(message, accounts).await
            })
            .await;
        }
        ListAccounts::KIND => {
            answer(call, async |list: ListAccounts| {
                Ok(accounts.list(list.nodes).await?)
            })
            .await;
        }
        ListNodes::KIND => answer(call, async |_: ListNodes| Ok(broker.ranked_nodes())).await,
        ListSessions::KIND => answer(call, async |_: ListSessions| Ok(broker.sessions())).await,
        Revoke::KIND => {
            answer(call, async |message: Revoke| {
                Ok(show_out(message.who, office).await?.accounts)
            })
            .await;
        }
        ShowOut::KIND => {
            answer(call, async |message: ShowOut| {
                show_out(message.who, office).await
            })
            .await;
        }
        SetLimits::KIND => {
            answer(call, async |message: SetLimits| {
                let limits = broker.images().limits();
                limits.set(message.who, message.limits).await
            })
            .await;
        }
        ListLimits::KIND => {
            answer(call, async |_: ListLimits| {
                let users = accounts.list(false).await?;
                broker.images().limits().list(users).await
            })
            .await;
        }
        _ => call.unknown(),
    }
}

async fn invite(message: Invite, accounts: &Accounts) -> Result<Invited, Fault> {
    let Invite {
        node,
        name,
        expires,
    } = message;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let text = format!(
            "`{}` is not a name: expected 1 to {MAX_NAME} printable characters",
            name.escape_debug()
        );
        return Err(Fault::new(FaultCode::Malformed, text));
    }
    let token = Invitation::new_token();
    accounts
        .invite(
            token.clone(),
            node,
            name,
            now().saturating_add(expires.as_secs()),
        )
        .await?;
    Ok(Invited { token })
}

async fn show_out(who: String, office: &Office) -> Result<ShownOut, Fault> {
    let (revoked, invitations) = office.accounts.revoke(who).await?;
    for principal in &revoked {
        office.connected.expel(principal);
        if let Principal::User(user) = principal {
            office.broker.free_orphans_of(user).await;
        }
    }
    Ok(ShownOut {
        accounts: u32::try_from(revoked.len()).unwrap_or(u32::MAX),
        invitations: u32::try_from(invitations).unwrap_or(u32::MAX),
    })
}
