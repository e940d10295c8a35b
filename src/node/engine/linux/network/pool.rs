//! The addresses of the containers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::survey::Subnet;

/// Place of the first container's address in the subnet: the one before it is the gateway's.
const FIRST: u32 = 2;

/// Hands out the addresses of a subnet. One that was given back comes last again, so that packets that are still on their way
/// to its previous owner rarely reach another.
#[derive(Debug)]
pub(super) struct Pool {
    subnet: Subnet,
    next: u32,
    taken: BTreeSet<Ipv4Addr>,
}

impl Pool {
    /// All addresses of the subnet but the gateway's are free.
    pub(super) fn new(subnet: Subnet) -> Self {
        Self {
            subnet,
            next: FIRST,
            taken: BTreeSet::new(),
        }
    }

    /// The address of the gateway.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        self.subnet.at(1)
    }

    /// An address that nobody has; `None` if there is none left.
    pub(super) fn take(&mut self) -> Option<Ipv4Addr> {
        for _ in FIRST..=self.subnet.hosts() {
            let address = self.subnet.at(self.next);
            self.next = if self.next < self.subnet.hosts() {
                self.next + 1
            } else {
                FIRST
            };
            if self.taken.insert(address) {
                return Some(address);
            }
        }
        None
    }

    /// Takes this address; false if it is none of the subnet's, or somebody has it.
    pub(super) fn take_again(&mut self, address: Ipv4Addr) -> bool {
        let place = address.to_bits().wrapping_sub(self.subnet.first.to_bits());
        if !(FIRST..=self.subnet.hosts()).contains(&place) || !self.taken.insert(address) {
            return false;
        }
        // Those behind the last one were used least recently.
        self.next = self.next.max(place + 1);
        if self.next > self.subnet.hosts() {
            self.next = FIRST;
        }
        true
    }

    /// Whether somebody has the address.
    pub(super) fn is_taken(&self, address: Ipv4Addr) -> bool {
        self.taken.contains(&address)
    }

    /// The address is nobody's any more.
    pub(super) fn give_back(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Pool {
        Pool::new(Subnet::new(Ipv4Addr::new(10, 0, 0, 0), 29))
    }

    #[test]
    fn every_address_once() {
        let mut pool = pool();
        let all: Vec<_> = std::iter::from_fn(|| pool.take())
            .map(|ip| ip.octets()[3])
            .collect();
        assert_eq!(all, [2, 3, 4, 5, 6]);
        assert_eq!(pool.gateway(), Ipv4Addr::new(10, 0, 0, 1));
        pool.give_back(Ipv4Addr::new(10, 0, 0, 4));
        assert_eq!(pool.take(), Some(Ipv4Addr::new(10, 0, 0, 4)));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn an_address_is_taken_again_once_and_only_where_it_belongs() {
        let mut pool = pool();
        let last = |octet| Ipv4Addr::new(10, 0, 0, octet);
        assert!(pool.take_again(last(3)));
        assert!(!pool.take_again(last(3)));
        for elsewhere in [last(1), last(7), last(9), Ipv4Addr::new(9, 255, 255, 255)] {
            assert!(!pool.take_again(elsewhere), "{elsewhere}");
        }
        assert_eq!(pool.take(), Some(last(4)));
        assert!(pool.take_again(last(6)));
        assert_eq!(pool.take(), Some(last(2)));
    }

    #[test]
    fn what_is_given_back_comes_last() {
        let mut pool = pool();
        let first = pool.take().expect("a free address");
        pool.give_back(first);
        assert_ne!(pool.take(), Some(first));
    }
}
