//! What is in the node's network namespace: a veth pair to each container, their addresses, and who may reach whom.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use super::firewall::Firewall;
use super::netlink::{Socket, is_absent};
use super::pool::Pool;
use super::rtnl::{self, LOOPBACK, Link, VethEnd};
use super::rules;
use super::uplink::{self, Addresses};
use crate::node::engine::EngineError;

/// Index of the first container's interface. Those below are for what the kernel makes by itself.
const FIRST_INDEX: u32 = 1000;

/// Name of a container's interface, inside it.
const INSIDE: &str = "eth0";

/// The node's network namespace, as containers are attached to it.
#[derive(Debug)]
pub(super) struct Node {
    route: Mutex<Socket>,
    pool: Mutex<Pool>,
    firewall: Option<Mutex<Firewall>>,
    gateway: Ipv4Addr,
    /// Largest packet, in octets.
    mtu: u32,
    next_index: AtomicU32,
    closing: AtomicBool,
}

/// What is left to do in the background: removing an interface takes the kernel tens of milliseconds.
enum Removal {
    /// The interface of a container that has ended, and then its address is free.
    Container { index: u32, address: Ipv4Addr },
    /// Any other interface.
    Link { index: u32 },
}

/// The right to an address and an interface. Dropping it frees both in the background.
#[derive(Debug)]
pub(super) struct Lease {
    /// The address.
    pub(super) address: Ipv4Addr,
    /// Index of the interface, the same on both sides.
    pub(super) index: u32,
    remover: Remover,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.remover.send(Removal::Container {
            index: self.index,
            address: self.address,
        });
    }
}

/// Removes interfaces on a thread of its own, which ends with the last clone of this.
#[derive(Debug, Clone)]
pub(super) struct Remover(mpsc::Sender<Removal>);

impl Remover {
    /// Starts the thread. `route` is a socket of the node's network namespace.
    pub(super) fn start(node: &Arc<Node>, mut route: Socket) -> io::Result<Self> {
        let (removals, inbox) = mpsc::channel();
        let node = Arc::clone(node);
        thread::Builder::new()
            .name("tf-unlink".to_owned())
            .spawn(move || {
                for removal in inbox {
                    node.remove(&mut route, &removal);
                }
            })?;
        Ok(Self(removals))
    }

    /// Removes an interface.
    pub(super) fn remove_link(&self, index: u32) {
        self.send(Removal::Link { index });
    }

    fn send(&self, removal: Removal) {
        // The thread lives as long as this does.
        let _ = self.0.send(removal);
    }
}

/// Poison is ignored: all that is behind these locks is changed in single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Prepares the namespace that `route` was opened in. Without a firewall it must not forward anything.
    pub(super) fn new(
        mut route: Socket,
        pool: Pool,
        firewall: Option<Firewall>,
        mtu: u32,
    ) -> io::Result<Self> {
        let gateway = pool.gateway();
        route.request(vec![
            rtnl::set_up(LOOPBACK),
            rtnl::add_address(LOOPBACK, gateway, 32),
        ])?;
        Ok(Self {
            route: Mutex::new(route),
            pool: Mutex::new(pool),
            firewall: firewall.map(Mutex::new),
            gateway,
            mtu,
            next_index: AtomicU32::new(FIRST_INDEX),
            closing: AtomicBool::new(false),
        })
    }

    /// Goes on with what a process that has died has set up in the namespace that `route` was opened in.
    pub(super) fn resume(
        mut route: Socket,
        pool: Pool,
        firewall: Option<Firewall>,
        mtu: u32,
    ) -> io::Result<Self> {
        let links = links(&mut route)?;
        let highest = links.iter().map(|link| link.index).max().unwrap_or(0);
        Ok(Self {
            route: Mutex::new(route),
            gateway: pool.gateway(),
            pool: Mutex::new(pool),
            firewall: firewall.map(Mutex::new),
            mtu,
            // Above those that are still to go, too.
            next_index: AtomicU32::new(FIRST_INDEX.max(highest + 1)),
            closing: AtomicBool::new(false),
        })
    }

    /// The index of the interface of this name, if there is one.
    pub(super) fn find(&self, name: &str) -> io::Result<Option<u32>> {
        let link = rtnl::find(&mut lock(&self.route), name)?;
        Ok(link.map(|link| link.index))
    }

    /// The lease of an address and an interface that somebody had before; `None` if that cannot be.
    pub(super) fn lease_again(
        &self,
        address: Ipv4Addr,
        index: u32,
        remover: &Remover,
    ) -> Option<Lease> {
        lock(&self.pool).take_again(address).then(|| Lease {
            address,
            index,
            remover: remover.clone(),
        })
    }

    /// Removes the interfaces of containers apart from these.
    pub(super) fn retain(&self, kept: &[u32], remover: &Remover) -> io::Result<()> {
        for link in links(&mut lock(&self.route))? {
            let container = link.index >= FIRST_INDEX && link.name != rules::UPLINK;
            if container && !kept.contains(&link.index) {
                remover.remove_link(link.index);
            }
        }
        Ok(())
    }

    /// Sets up the interface `name` as the node's end of the uplink, and sends through it what is not for containers. Returns
    /// its index.
    pub(super) fn open_uplink(&self, name: &str, addresses: Addresses) -> io::Result<u32> {
        let mut route = lock(&self.route);
        let link = rtnl::find(&mut route, name)?.ok_or(io::ErrorKind::NotFound)?;
        route.request(vec![
            rtnl::add_address(link.index, addresses.node, uplink::PAIR),
            rtnl::set_up(link.index),
            rtnl::default_route(addresses.machine, link.index),
        ])?;
        Ok(link.index)
    }

    /// An address and an interface index; `None` if all addresses are taken.
    pub(super) fn lease(&self, remover: &Remover) -> Option<Lease> {
        let address = lock(&self.pool).take()?;
        let index = self.next_index.fetch_add(1, Ordering::Relaxed);
        Some(Lease {
            address,
            index,
            remover: remover.clone(),
        })
    }

    /// Connects a container. `inside` is a socket of its network namespace.
    pub(super) fn attach(
        &self,
        lease: &Lease,
        netns: BorrowedFd<'_>,
        inside: &mut Socket,
    ) -> io::Result<()> {
        let Lease { address, index, .. } = *lease;
        let end = VethEnd {
            name: &format!("c{index}"),
            index,
            mtu: self.mtu,
        };
        let peer = VethEnd {
            name: INSIDE,
            index,
            mtu: self.mtu,
        };
        lock(&self.route).request(vec![
            rtnl::add_veth(&end, &peer, netns),
            rtnl::set_up(index),
            rtnl::route_to(address, index, self.gateway),
        ])?;
        let without_ipv6 = rtnl::without_ipv6_address(index);
        let rest = [
            rtnl::set_up(LOOPBACK),
            rtnl::unpaced_loopback(),
            // There are no neighbours: all that is not for the container itself goes to the gateway.
            rtnl::add_address(index, address, 32),
            rtnl::set_up(index),
            rtnl::default_route(self.gateway, index),
        ];
        inside.request(without_ipv6.into_iter().chain(rest).collect())?;
        lock(&self.route).request(vec![rtnl::settle(index)])
    }

    /// Whether it has a packet filter.
    pub(super) fn is_filtered(&self) -> bool {
        self.firewall.is_some()
    }

    /// Lets one container connect to another.
    pub(super) fn allow(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), EngineError> {
        // The pool stays locked, so that neither address changes hands in the meantime.
        let pool = lock(&self.pool);
        if !(pool.is_taken(from) && pool.is_taken(to)) {
            return Err(EngineError::Ended);
        }
        self.change_firewall(|firewall| firewall.allow(from, to))
    }

    /// Keeps one container from connecting to another.
    pub(super) fn disallow(&self, from: Ipv4Addr, to: Ipv4Addr) -> Result<(), EngineError> {
        self.change_firewall(|firewall| firewall.disallow(from, to))
    }

    fn change_firewall(
        &self,
        change: impl FnOnce(&mut Firewall) -> io::Result<()>,
    ) -> Result<(), EngineError> {
        let firewall = self.firewall.as_ref().ok_or_else(|| {
            EngineError::Unsupported(
                "connections between containers need a kernel with nf_tables (CONFIG_NF_TABLES)"
                    .to_owned(),
            )
        })?;
        change(&mut lock(firewall)).map_err(|source| EngineError::Failed {
            step: "change the packet filter of the containers".to_owned(),
            source,
        })
    }

    /// Makes an address free, and nothing that its container was allowed passes on to the next one.
    fn give_back(&self, address: Ipv4Addr) -> io::Result<()> {
        let mut pool = lock(&self.pool);
        if let Some(firewall) = &self.firewall {
            lock(firewall).forget(address)?;
        }
        pool.give_back(address);
        Ok(())
    }

    /// The namespace is about to end: removing single interfaces from it is in vain from now on.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Whether it is about to end.
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn remove(&self, route: &mut Socket, removal: &Removal) {
        match *removal {
            Removal::Container { .. } if self.is_closing() => {}
            Removal::Container { index, address } => {
                if let Err(error) = delete_link(route, index).and_then(|()| self.give_back(address))
                {
                    // The address stays taken, so that nobody inherits what it could do.
                    tracing::warn!("cannot detach {address}: {error}");
                }
            }
            Removal::Link { index } => {
                if let Err(error) = delete_link(route, index) {
                    tracing::warn!("cannot remove the interface {index}: {error}");
                }
            }
        }
    }
}

/// The interfaces of the namespace that `route` was opened in.
fn links(route: &mut Socket) -> io::Result<Vec<Link>> {
    let links = route.list(&rtnl::list_links())?;
    Ok(links.iter().filter_map(|body| Link::parse(body)).collect())
}

/// Removes an interface, unless it is gone already, as it is when its peer's namespace has ended.
fn delete_link(route: &mut Socket, index: u32) -> io::Result<()> {
    match route.request(vec![rtnl::delete_link(index)]) {
        Err(error) if is_absent(&error) => Ok(()),
        other => other,
    }
}
