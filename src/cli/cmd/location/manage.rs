//! The verbs of administrators.

use std::time::SystemTime;

use serde::Serialize;

use crate::cli::Context;
use crate::cli::address;
use crate::cli::args::Invite;
use crate::cli::cmd::{json, node_value, print_result};
use crate::cli::duration;
use crate::cli::exit::Ending;
use crate::cli::failure::Failure;
use crate::cli::table::{ago, table};
use crate::config::Config;
use crate::ids::NodeId;
use crate::protocol::messages::{AccountInfo, NodeInfo, SessionInfo, ShownOut};
use crate::serve::Administrator;

/// Connects to the location of this machine, works with it, and disconnects whatever happens.
pub(super) async fn with_administrator(
    context: &Context,
    config: &Config,
    work: impl AsyncFnOnce(&Administrator) -> Result<Ending, Failure>,
) -> Result<Ending, Failure> {
    let administrator = tokio::select! {
        connected = Administrator::connect(&config.state) => connected?,
        signal = context.shutdown.requested() => return Ok(Ending::Interrupted(signal)),
    };
    let ended = tokio::select! {
        ended = work(&administrator) => ended,
        signal = context.shutdown.requested() => Ok(Ending::Interrupted(signal)),
    };
    administrator.close().await;
    ended
}

pub(super) async fn invite(
    context: &Context,
    config: &Config,
    options: &Invite,
) -> Result<Ending, Failure> {
    let expires = duration::parse("--expires", &options.expires)?;
    let address = options.address.as_deref();
    let address = address
        .map(|text| address::parse("--address", text))
        .transpose()?;
    with_administrator(context, config, async |administrator| {
        let mut profile = administrator.profile()?.ok_or_else(|| {
            Failure::operation("the location does not know its name and address yet")
                .hint("start it once with `tf location serve`")
        })?;
        if let Some(address) = address {
            profile.address = address;
        }
        let address = profile.address.clone();
        let name = match &options.name {
            Some(name) => name.clone(),
            None => format!("node-{}", &NodeId::random().as_str()[..6]),
        };
        let invitation = administrator
            .invite(&name, options.node, expires, profile)
            .await?;
        let verb = if options.node {
            "tf node serve --join"
        } else {
            "tf account join"
        };
        context.printer.note(format_args!(
            "for {name} and `{verb}`, once, within {}; it leads to {address}",
            options.expires
        ));
        print_result(&context.printer, &format!("{invitation}\n"))
    })
    .await
}

pub(super) async fn users(
    context: &Context,
    config: &Config,
    as_json: bool,
) -> Result<Ending, Failure> {
    with_administrator(context, config, async |administrator| {
        let users = administrator.accounts(false).await?;
        let text = if as_json {
            json(&users)
        } else {
            let now = SystemTime::now();
            let row = |user: AccountInfo| [user.name, user.id, ago(now, user.joined)];
            let rows = users.into_iter().map(row);
            table(["USER", "ID", "JOINED"], rows.collect())
        };
        print_result(&context.printer, &text)
    })
    .await
}

/// A node in the list.
#[derive(Debug, Serialize)]
struct Node {
    /// What it was invited by; none for the one in the location's own process.
    name: Option<String>,
    id: String,
    /// Public key.
    key: Option<String>,
    /// In seconds since the epoch.
    joined: Option<u64>,
    connected: bool,
    /// Its host, if it is connected.
    #[serde(skip)]
    hostname: Option<String>,
    /// What it is, if it is connected.
    info: Option<serde_json::Value>,
}

pub(super) async fn nodes(
    context: &Context,
    config: &Config,
    as_json: bool,
) -> Result<Ending, Failure> {
    with_administrator(context, config, async |administrator| {
        let accounts = administrator.accounts(true).await?;
        let nodes = merge(accounts, administrator.nodes().await?);
        let text = if as_json {
            json(&nodes)
        } else {
            let now = SystemTime::now();
            let rows = nodes.into_iter().map(|node| {
                [
                    node.name
                        .unwrap_or_else(|| "(of the location itself)".to_owned()),
                    node.id,
                    node.hostname.unwrap_or_default(),
                    if node.connected { "yes" } else { "no" }.to_owned(),
                    node.joined.map(|time| ago(now, time)).unwrap_or_default(),
                ]
            });
            table(
                ["NODE", "ID", "HOST", "CONNECTED", "JOINED"],
                rows.collect(),
            )
        };
        print_result(&context.printer, &text)
    })
    .await
}

/// Nodes that have joined, with what those that are connected say of themselves, and then connected ones that need no account.
fn merge(accounts: Vec<AccountInfo>, mut connected: Vec<NodeInfo>) -> Vec<Node> {
    let mut nodes = Vec::new();
    for account in accounts {
        let at = connected
            .iter()
            .position(|node| node.id.as_str() == account.id);
        let info = at.map(|at| connected.remove(at));
        nodes.push(Node {
            name: Some(account.name),
            id: account.id,
            key: Some(account.key),
            joined: Some(account.joined),
            connected: info.is_some(),
            info: info.as_ref().map(node_value),
            hostname: info.map(|info| info.hostname),
        });
    }
    nodes.extend(connected.into_iter().map(|info| Node {
        name: None,
        id: info.id.to_string(),
        key: None,
        joined: None,
        connected: true,
        info: Some(node_value(&info)),
        hostname: Some(info.hostname),
    }));
    nodes
}

/// A session in the list.
#[derive(Debug, Serialize)]
pub(crate) struct NamedSession {
    /// What its user was invited by; none if the account is gone.
    name: Option<String>,
    #[serde(flatten)]
    info: SessionInfo,
}

impl NamedSession {
    /// A session of one of these users.
    pub(crate) fn new(info: SessionInfo, users: &[AccountInfo]) -> Self {
        let mut users = users.iter();
        let user = users.find(|user| user.id == info.user.as_str());
        Self {
            name: user.map(|user| user.name.clone()),
            info,
        }
    }
}

pub(super) async fn sessions(
    context: &Context,
    config: &Config,
    as_json: bool,
) -> Result<Ending, Failure> {
    with_administrator(context, config, async |administrator| {
        let users = administrator.accounts(false).await?;
        let sessions = administrator.sessions().await?.into_iter();
        let sessions: Vec<_> = sessions
            .map(|info| NamedSession::new(info, &users))
            .collect();
        let text = if as_json {
            json(&sessions)
        } else {
            let now = SystemTime::now();
            let row = |NamedSession { name, info }| {
                [
                    info.id.to_string(),
                    name.unwrap_or_else(|| info.user.to_string()),
                    info.agent,
                    ago(now, info.since),
                    info.containers.to_string(),
                ]
            };
            let rows = sessions.into_iter().map(row);
            let heading = ["SESSION", "USER", "CLIENT", "BEGAN", "CONTAINERS"];
            table(heading, rows.collect())
        };
        print_result(&context.printer, &text)
    })
    .await
}

pub(super) async fn revoke(
    context: &Context,
    config: &Config,
    names: &[String],
) -> Result<Ending, Failure> {
    with_administrator(context, config, async |administrator| {
        let mut ending = Ending::Done;
        for who in names {
            let ShownOut {
                accounts,
                invitations,
            } = administrator.revoke(who).await?;
            let done = match (accounts, invitations) {
                (0, 0) => {
                    context.printer.error(format_args!(
                        "nobody has joined or been invited as `{who}`: nothing has changed"
                    ));
                    ending = Ending::Failed;
                    continue;
                }
                (0, _) => format!("{who} had not joined: the invitation is void"),
                (1, _) => format!("revoked {who}"),
                _ => format!("revoked {accounts} accounts of {who}"),
            };
            context.printer.note(done);
        }
        Ok(ending)
    })
    .await
}
