//! Which containers may connect to which.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

use super::nft::{Filter, pair_key};
use super::rules;

/// The pairs that are open, here and in the packet filter of the node's network namespace.
#[derive(Debug)]
pub(super) struct Firewall {
    filter: Filter,
    open: BTreeSet<(Ipv4Addr, Ipv4Addr)>,
}

impl Firewall {
    /// All pairs are closed.
    pub(super) fn new(filter: Filter) -> Self {
        Self {
            filter,
            open: BTreeSet::new(),
        }
    }

    /// Lets `from` connect to `to`.
    pub(super) fn allow(&mut self, from: Ipv4Addr, to: Ipv4Addr) -> io::Result<()> {
        self.filter
            .commit(rules::open_pairs(&[pair_key(from, to)]))?;
        self.open.insert((from, to));
        Ok(())
    }

    /// Keeps `from` from connecting to `to`, and ends the connections that it has.
    pub(super) fn disallow(&mut self, from: Ipv4Addr, to: Ipv4Addr) -> io::Result<()> {
        self.close(&[(from, to)])
    }

    /// Closes all pairs that the address is part of, before another container gets it.
    pub(super) fn forget(&mut self, address: Ipv4Addr) -> io::Result<()> {
        let part = |pair: &&(Ipv4Addr, Ipv4Addr)| pair.0 == address || pair.1 == address;
        let pairs: Vec<_> = self.open.iter().filter(part).copied().collect();
        self.close(&pairs)
    }

    fn close(&mut self, pairs: &[(Ipv4Addr, Ipv4Addr)]) -> io::Result<()> {
        let open: Vec<_> = pairs
            .iter()
            .filter(|pair| self.open.contains(pair))
            .collect();
        let keys: Vec<_> = open.iter().map(|(from, to)| pair_key(*from, *to)).collect();
        self.filter.commit(rules::close_pairs(&keys))?;
        for pair in pairs {
            self.open.remove(pair);
        }
        Ok(())
    }
}
