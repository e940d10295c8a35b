//! Packet filter rules, in the form in which the kernel's `nf_tables` takes them.
//!
//! Tables, chains and sets are here, what a rule says is in [`super::rule`], which rules there are in [`super::rules`].
//! This speaks netlink directly: a machine need not have the `nft` program, and a transaction takes microseconds where a
//! call of the program takes milliseconds. The vocabulary is what the rules of [`super::rules`] need and no more.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;

use nix::sys::socket::SockProtocol;

use super::netlink::{self, Attributes, Message, Socket, attribute};
use super::rule::{INTERFACE_NAME, Rule, Verdict, comment_data, value};

/// Octets of `struct nfgenmsg`.
const HEADER: usize = 4;

/// How many elements go into one message: an attribute holds less than 64 KiB.
const ELEMENTS_AT_ONCE: usize = 1000;

/// Numbers of `linux/netfilter/nf_tables.h` that the libc crate does not have.
mod kernel {
    pub(super) const LIST_ELEM: u16 = 1;

    pub(super) const TABLE_NAME: u16 = 1;
    pub(super) const TABLE_FLAGS: u16 = 2;
    pub(super) const TABLE_OWNER: u32 = 2;

    pub(super) const CHAIN_TABLE: u16 = 1;
    pub(super) const CHAIN_NAME: u16 = 3;
    pub(super) const CHAIN_HOOK: u16 = 4;
    pub(super) const CHAIN_POLICY: u16 = 5;
    pub(super) const CHAIN_TYPE: u16 = 7;
    pub(super) const HOOK_NUMBER: u16 = 1;
    pub(super) const HOOK_PRIORITY: u16 = 2;

    pub(super) const RULE_TABLE: u16 = 1;
    pub(super) const RULE_CHAIN: u16 = 2;
    pub(super) const RULE_HANDLE: u16 = 3;
    pub(super) const RULE_EXPRESSIONS: u16 = 4;
    pub(super) const RULE_USERDATA: u16 = 7;

    pub(super) const SET_TABLE: u16 = 1;
    pub(super) const SET_NAME: u16 = 2;
    pub(super) const SET_FLAGS: u16 = 3;
    pub(super) const SET_KEY_TYPE: u16 = 4;
    pub(super) const SET_KEY_LENGTH: u16 = 5;
    pub(super) const SET_ID: u16 = 10;
    pub(super) const SET_USERDATA: u16 = 13;
    /// `NFTNL_UDATA_SET_KEYBYTEORDER` of libnftnl.
    pub(super) const USERDATA_BYTE_ORDER: u8 = 0;
    pub(super) const ELEMENTS_TABLE: u16 = 1;
    pub(super) const ELEMENTS_SET: u16 = 2;
    pub(super) const ELEMENTS: u16 = 3;
    pub(super) const ELEMENT_KEY: u16 = 1;
}

/// The address families that a table can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ipv4,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ipv4 => 2,
        }
    }
}

/// Where packets pass a chain, and with which priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// Those for this network namespace itself.
    Input,
    /// Those that pass through.
    Forward,
    /// The first ones of connections that leave, where their source is rewritten.
    SourceNat,
}

/// What the elements of a set are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// IPv4 addresses.
    Address,
    /// Pairs of IPv4 addresses.
    AddressPair,
    /// Names of interfaces.
    Interface,
}

impl Key {
    /// What the `nft` program knows of how to print it: its number, and whether its octets are in network byte order. Then its
    /// length in octets.
    fn kind(self) -> (u32, bool, usize) {
        /// `TYPE_IPADDR` and `TYPE_IFNAME` of nftables, and how it joins two of them.
        const ADDRESS: u32 = 7;
        const INTERFACE: u32 = 41;
        const TYPE_BITS: u32 = 6;
        match self {
            Self::Address => (ADDRESS, true, 4),
            Self::AddressPair => (ADDRESS << TYPE_BITS | ADDRESS, true, 8),
            Self::Interface => (INTERFACE, false, INTERFACE_NAME),
        }
    }
}

/// The element of a set of pairs.
pub(super) fn pair_key(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    [from.octets(), to.octets()].concat()
}

fn message(family: Family, kind: libc::c_int, flags: libc::c_int, all: Attributes) -> Message {
    let kind = u16::try_from(libc::NFNL_SUBSYS_NFTABLES << 8 | kind).expect("16 bits");
    Message::new(kind, flags, &[family.number(), 0, 0, 0], all)
}

/// Changes of one table that take effect together.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    family: Family,
    table: String,
    messages: Vec<Message>,
}

impl Batch {
    /// Changes of an existing table.
    pub(super) fn new(family: Family, table: &str) -> Self {
        Self {
            family,
            table: table.to_owned(),
            messages: Vec::new(),
        }
    }

    /// Makes the table. It stays until the network namespace ends.
    pub(super) fn new_table(self) -> Self {
        self.add_table(0)
    }

    /// Makes the table and ties it to the socket that it is sent through: nobody else can change it, and the kernel removes
    /// it when the socket is closed, however its process ends.
    pub(super) fn new_owned_table(self) -> Self {
        self.add_table(kernel::TABLE_OWNER)
    }

    fn add_table(self, flags: u32) -> Self {
        let table = Attributes::new()
            .with_text(kernel::TABLE_NAME, &self.table)
            .with(kernel::TABLE_FLAGS, flags.to_be_bytes());
        self.push(
            libc::NFT_MSG_NEWTABLE,
            libc::NLM_F_CREATE | libc::NLM_F_EXCL,
            table,
        )
    }

    /// Adds a chain that packets pass, and what becomes of those to which no rule of it applies.
    pub(super) fn chain(self, name: &str, hook: Hook, policy: Verdict) -> Self {
        const SOURCE_NAT_PRIORITY: i32 = 100;
        let (kind, number, priority) = match hook {
            Hook::Input => ("filter", libc::NF_INET_LOCAL_IN, 0),
            Hook::Forward => ("filter", libc::NF_INET_FORWARD, 0),
            Hook::SourceNat => ("nat", libc::NF_INET_POST_ROUTING, SOURCE_NAT_PRIORITY),
        };
        let hook = Attributes::new()
            .with(kernel::HOOK_NUMBER, number.to_be_bytes())
            .with(kernel::HOOK_PRIORITY, priority.to_be_bytes());
        let chain = Attributes::new()
            .with_text(kernel::CHAIN_TABLE, &self.table)
            .with_text(kernel::CHAIN_NAME, name)
            .with_nested(kernel::CHAIN_HOOK, hook)
            .with(kernel::CHAIN_POLICY, policy.code().to_be_bytes())
            .with_text(kernel::CHAIN_TYPE, kind);
        self.push(libc::NFT_MSG_NEWCHAIN, libc::NLM_F_CREATE, chain)
    }

    /// Adds a set. `id` is a number of its own within the batch.
    pub(super) fn set(self, name: &str, id: u32, key: Key) -> Self {
        let (kind, network_order, length) = key.kind();
        let length = u32::try_from(length).expect("keys are short");
        let set = Attributes::new()
            .with_text(kernel::SET_TABLE, &self.table)
            .with_text(kernel::SET_NAME, name)
            .with(kernel::SET_FLAGS, 0_u32.to_be_bytes())
            .with(kernel::SET_KEY_TYPE, kind.to_be_bytes())
            .with(kernel::SET_KEY_LENGTH, length.to_be_bytes())
            .with(kernel::SET_ID, id.to_be_bytes())
            .with(kernel::SET_USERDATA, byte_order_data(network_order));
        self.push(libc::NFT_MSG_NEWSET, libc::NLM_F_CREATE, set)
    }

    /// Adds elements to a set. Those that are in it already are no error.
    pub(super) fn add_elements(self, set: &str, keys: &[Vec<u8>]) -> Self {
        self.elements(libc::NFT_MSG_NEWSETELEM, libc::NLM_F_CREATE, set, keys)
    }

    /// Takes elements out of a set. It is an error if one is not in it.
    pub(super) fn remove_elements(self, set: &str, keys: &[Vec<u8>]) -> Self {
        self.elements(libc::NFT_MSG_DELSETELEM, 0, set, keys)
    }

    /// Takes all elements out of a set.
    pub(super) fn empty(self, set: &str) -> Self {
        let all = Attributes::new()
            .with_text(kernel::ELEMENTS_TABLE, &self.table)
            .with_text(kernel::ELEMENTS_SET, set);
        self.push(libc::NFT_MSG_DELSETELEM, 0, all)
    }

    fn elements(
        mut self,
        kind: libc::c_int,
        flags: libc::c_int,
        set: &str,
        keys: &[Vec<u8>],
    ) -> Self {
        for keys in keys.chunks(ELEMENTS_AT_ONCE) {
            let list = keys.iter().fold(Attributes::new(), |list, key| {
                let element = Attributes::new().with_nested(kernel::ELEMENT_KEY, value(key));
                list.with_nested(kernel::LIST_ELEM, element)
            });
            let all = Attributes::new()
                .with_text(kernel::ELEMENTS_TABLE, &self.table)
                .with_text(kernel::ELEMENTS_SET, set)
                .with_nested(kernel::ELEMENTS, list);
            self = self.push(kind, flags, all);
        }
        self
    }

    /// Adds rules after the others of a chain.
    pub(super) fn append<const N: usize>(self, chain: &str, rules: [Rule; N]) -> Self {
        rules.into_iter().fold(self, |batch, rule| {
            batch.add_rule(chain, rule, libc::NLM_F_APPEND)
        })
    }

    /// Adds a rule before the others of a chain.
    pub(super) fn insert(self, chain: &str, rule: Rule) -> Self {
        self.add_rule(chain, rule, 0)
    }

    fn add_rule(self, chain: &str, rule: Rule, flags: libc::c_int) -> Self {
        let mut all = self
            .in_chain(chain)
            .with_nested(kernel::RULE_EXPRESSIONS, rule.expressions);
        if let Some(comment) = &rule.comment {
            all = all.with(kernel::RULE_USERDATA, comment_data(comment));
        }
        self.push(libc::NFT_MSG_NEWRULE, flags | libc::NLM_F_CREATE, all)
    }

    /// Removes a rule.
    pub(super) fn remove_rule(self, chain: &str, handle: RuleHandle) -> Self {
        let all = self.in_chain(chain).with(kernel::RULE_HANDLE, handle.0);
        self.push(libc::NFT_MSG_DELRULE, 0, all)
    }

    fn in_chain(&self, chain: &str) -> Attributes {
        Attributes::new()
            .with_text(kernel::RULE_TABLE, &self.table)
            .with_text(kernel::RULE_CHAIN, chain)
    }

    fn push(mut self, kind: libc::c_int, flags: libc::c_int, all: Attributes) -> Self {
        self.messages.push(message(self.family, kind, flags, all));
        self
    }

    /// Whether there is nothing to change.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}

/// The byte order of a set's keys as the `nft` program writes it: type, length, number.
fn byte_order_data(network_order: bool) -> Vec<u8> {
    let order: u32 = if network_order { 2 } else { 1 };
    [&[kernel::USERDATA_BYTE_ORDER, 4][..], &order.to_ne_bytes()].concat()
}

/// What the kernel calls a rule within its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RuleHandle([u8; 8]);

/// The packet filter of one network namespace.
#[derive(Debug)]
pub(super) struct Filter(Socket);

impl Filter {
    /// Opens the packet filter of the network namespace of the calling thread.
    pub(super) fn open() -> io::Result<Self> {
        Socket::open(SockProtocol::NetlinkNetFilter).map(Self)
    }

    /// Goes on with the one of a process that has died, which the tables that it owns are tied to.
    pub(super) fn resume(fd: OwnedFd) -> io::Result<Self> {
        Socket::resume(fd).map(Self)
    }

    /// What the tables that it owns are tied to, once more.
    pub(super) fn try_clone(&self) -> io::Result<OwnedFd> {
        self.0.try_clone()
    }

    /// Makes all the changes or none.
    pub(super) fn commit(&mut self, batch: Batch) -> io::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let mark = |kind: libc::c_int| {
            let mut header = [0; HEADER];
            let subsystem = u16::try_from(libc::NFNL_SUBSYS_NFTABLES).expect("16 bits");
            header[2..4].copy_from_slice(&subsystem.to_be_bytes());
            let kind = u16::try_from(kind).expect("16 bits");
            Message::new(kind, 0, &header, Attributes::new())
        };
        let (begin, end) = (
            mark(libc::NFNL_MSG_BATCH_BEGIN),
            mark(libc::NFNL_MSG_BATCH_END),
        );
        self.0.transaction(begin, batch.messages, end)
    }

    /// A chain; `None` if there is no such chain.
    pub(super) fn chain(
        &mut self,
        family: Family,
        table: &str,
        name: &str,
    ) -> io::Result<Option<Chain>> {
        let all = Attributes::new()
            .with_text(kernel::CHAIN_TABLE, table)
            .with_text(kernel::CHAIN_NAME, name);
        let found = self
            .0
            .get(message(family, libc::NFT_MSG_GETCHAIN, 0, all))?;
        Ok(found.map(|body| Chain {
            drops_others: is_drop_policy(&body),
        }))
    }

    /// The rules of a chain that have this comment.
    pub(super) fn rules_with_comment(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        comment: &str,
    ) -> io::Result<Vec<RuleHandle>> {
        let all = Attributes::new()
            .with_text(kernel::RULE_TABLE, table)
            .with_text(kernel::RULE_CHAIN, chain);
        let wanted = comment_data(comment);
        let rules = self.0.list(&message(
            family,
            libc::NFT_MSG_GETRULE,
            libc::NLM_F_DUMP,
            all,
        ))?;
        Ok(rules
            .iter()
            .filter_map(|body| {
                let rule = body.get(HEADER..)?;
                // A kernel that ignores the filter lists the rules of other chains, too.
                let is =
                    |kind, text: &str| attribute(rule, kind).and_then(netlink::text) == Some(text);
                let ours = is(kernel::RULE_TABLE, table)
                    && is(kernel::RULE_CHAIN, chain)
                    && attribute(rule, kernel::RULE_USERDATA) == Some(&wanted);
                let handle = attribute(rule, kernel::RULE_HANDLE)?.try_into().ok()?;
                ours.then_some(RuleHandle(handle))
            })
            .collect())
    }
}

/// What is known of a chain that others made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Whether packets pass it by themselves and are dropped if no rule of it accepts them.
    pub(super) drops_others: bool,
}

fn is_drop_policy(body: &[u8]) -> bool {
    let attributes = body.get(HEADER..).unwrap_or_default();
    attribute(attributes, kernel::CHAIN_POLICY) == Some(&Verdict::Drop.code().to_be_bytes())
}
