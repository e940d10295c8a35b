//! The front end for administrators: invitations, accounts, sessions. Whoever has the location's secret key is one.

use tokio::task::JoinSet;

use super::accounts::{Accounts, Principal};
use super::broker::Broker;
use super::now;
use crate::invitation::Invitation;
use crate::link::{Inbound, Incoming, PendingCall, answer};
use crate::protocol::messages::{
    Call, Fault, FaultCode, Invite, Invited, ListAccounts, ListSessions, Revoke,
};

/// Longest name that an invitation is made out to, in bytes.
const MAX_NAME: usize = 254;

/// Serves an administrator until the link ends.
pub(crate) async fn serve(mut incoming: Incoming, accounts: Accounts, broker: Broker) {
    let mut tasks = JoinSet::new();
    while let Some(inbound) = incoming.next().await {
        while tasks.try_join_next().is_some() {}
        if let Inbound::Call(call) = inbound {
            let (accounts, broker) = (accounts.clone(), broker.clone());
            tasks.spawn(async move { handle(call, &accounts, &broker).await });
        }
    }
    tasks.shutdown().await;
}

async fn handle(call: PendingCall, accounts: &Accounts, broker: &Broker) {
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
        ListSessions::KIND => answer(call, async |_: ListSessions| Ok(broker.sessions())).await,
        Revoke::KIND => {
            answer(call, async |message: Revoke| {
                revoke(message, accounts, broker).await
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

async fn revoke(message: Revoke, accounts: &Accounts, broker: &Broker) -> Result<u32, Fault> {
    let revoked = accounts.revoke(message.who).await?;
    for principal in &revoked {
        match principal {
            Principal::User(user) => broker.expel_user(user),
            Principal::Node(node) => broker.expel_node(node).await,
            Principal::Administrator => {}
        }
    }
    Ok(u32::try_from(revoked.len()).unwrap_or(u32::MAX))
}
