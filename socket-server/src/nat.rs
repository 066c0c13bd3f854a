//! Network address translation: who may be reached from outside, and as whom.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::firewall::Protocol;

/// The classic kinds of NAT (RFC 3489), by what they map and what they let in.
///
/// libwebrtc: `NATType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatType {
    /// One outside port for each inside address; whoever knows it may send there.
    FullCone,
    /// One outside port for each inside address; only IP addresses that were sent to may answer.
    AddressRestricted,
    /// One outside port for each inside address; only addresses with ports that were sent to may
    /// answer.
    PortRestricted,
    /// Another outside port for every destination; only that destination may answer.
    Symmetric,
}

impl NatType {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
    ];
}

/// An outside port, and whom it is for.
#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    /// Of a symmetric NAT.
    destination: Option<SocketAddr>,
    /// Who was sent to, and after how many other datagrams that was the last time.
    contacted: BTreeMap<SocketAddr, u64>,
    sent: u64,
    last_used: Instant,
}

/// Which inside address is known as which outside port. Without I/O and without a clock.
///
/// A mapping that nothing is sent through for a while is forgotten. What comes in does not keep it
/// alive, so that nobody outside can (RFC 4787, REQ-6).
#[derive(Debug)]
pub(crate) struct NatTable {
    nat_type: NatType,
    timeout: Duration,
    limit: usize,
    mappings: BTreeMap<(Protocol, u16), Mapping>,
    by_inside: BTreeMap<(Protocol, SocketAddr, Option<SocketAddr>), u16>,
}

/// How many peers one mapping remembers; who was not sent to for longest goes first when there are more.
const MAX_CONTACTED: usize = 1024;

impl NatTable {
    pub(crate) fn new(nat_type: NatType, timeout: Duration, limit: usize) -> Self {
        Self {
            nat_type,
            timeout,
            limit,
            mappings: BTreeMap::new(),
            by_inside: BTreeMap::new(),
        }
    }

    /// Something goes out. Returns the port that it comes from, as seen outside: a known one, or the
    /// one that `new_port` gives. `None` if there are too many mappings, or `new_port` has none.
    pub(crate) fn outbound(
        &mut self,
        now: Instant,
        protocol: Protocol,
        inside: SocketAddr,
        destination: SocketAddr,
        new_port: impl FnOnce(&Self) -> Option<u16>,
    ) -> Option<u16> {
        let to = (self.nat_type == NatType::Symmetric).then_some(destination);
        let known = self.by_inside.get(&(protocol, inside, to)).copied();
        let alive = known.filter(|port| !self.is_stale(now, protocol, *port));
        let port = match alive {
            Some(port) => port,
            None => {
                if self.mappings.len() >= self.limit {
                    self.forget_stale(now);
                }
                if self.mappings.len() >= self.limit {
                    return None;
                }
                if let Some(stale) = known {
                    self.forget(protocol, stale);
                }
                let port = new_port(self)?;
                self.by_inside.insert((protocol, inside, to), port);
                let mapping = Mapping {
                    inside,
                    destination: to,
                    contacted: BTreeMap::new(),
                    sent: 0,
                    last_used: now,
                };
                self.mappings.insert((protocol, port), mapping);
                port
            }
        };
        let mapping = self.mappings.get_mut(&(protocol, port))?;
        mapping.last_used = now;
        mapping.sent += 1;
        mapping.contacted.insert(destination, mapping.sent);
        if mapping.contacted.len() > MAX_CONTACTED {
            let oldest = mapping.contacted.iter().min_by_key(|(_, sent)| **sent);
            if let Some(oldest) = oldest.map(|(peer, _)| *peer) {
                mapping.contacted.remove(&oldest);
            }
        }
        Some(port)
    }

    /// Something comes in to an outside port. Returns whom it is for, if it may.
    pub(crate) fn inbound(
        &self,
        now: Instant,
        protocol: Protocol,
        port: u16,
        source: SocketAddr,
    ) -> Option<SocketAddr> {
        if self.is_stale(now, protocol, port) {
            return None;
        }
        let mapping = self.mappings.get(&(protocol, port))?;
        // A port is mapped for one family, and the NAT may have an address of each.
        if mapping.inside.is_ipv4() != source.is_ipv4() {
            return None;
        }
        let was_contacted = |ip: IpAddr| {
            let from = SocketAddr::new(ip, 0);
            let to = SocketAddr::new(ip, u16::MAX);
            mapping.contacted.range(from..=to).next().is_some()
        };
        let may = match self.nat_type {
            NatType::FullCone => true,
            NatType::AddressRestricted => was_contacted(source.ip()),
            NatType::PortRestricted => mapping.contacted.contains_key(&source),
            NatType::Symmetric => mapping.destination == Some(source),
        };
        may.then_some(mapping.inside)
    }

    /// Whether an outside port is in use.
    pub(crate) fn is_mapped(&self, protocol: Protocol, port: u16) -> bool {
        self.mappings.contains_key(&(protocol, port))
    }

    /// Forgets what an inside address was known as. Returns the ports.
    pub(crate) fn forget_inside(&mut self, protocol: Protocol, inside: SocketAddr) -> Vec<u16> {
        let ports = self.mappings.iter().filter_map(|((of, port), mapping)| {
            (*of == protocol && mapping.inside == inside).then_some(*port)
        });
        let ports: Vec<_> = ports.collect();
        for port in &ports {
            self.forget(protocol, *port);
        }
        ports
    }

    /// Forgets mappings that were not used for too long. Returns their ports.
    pub(crate) fn forget_stale(&mut self, now: Instant) -> Vec<(Protocol, u16)> {
        let keys = self.mappings.keys().copied();
        let stale: Vec<_> = keys
            .filter(|(protocol, port)| self.is_stale(now, *protocol, *port))
            .collect();
        for (protocol, port) in &stale {
            self.forget(*protocol, *port);
        }
        stale
    }

    fn is_stale(&self, now: Instant, protocol: Protocol, port: u16) -> bool {
        self.mappings
            .get(&(protocol, port))
            .is_some_and(|mapping| now.saturating_duration_since(mapping.last_used) > self.timeout)
    }

    fn forget(&mut self, protocol: Protocol, port: u16) {
        if let Some(mapping) = self.mappings.remove(&(protocol, port)) {
            self.by_inside
                .remove(&(protocol, mapping.inside, mapping.destination));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// Sends from one inside address to A and B; returns the ports, and who of A, A at another port,
    /// B and a stranger reaches the inside through the port that A saw.
    fn behaviour(nat_type: NatType) -> (bool, [bool; 4]) {
        let now = Instant::now();
        let mut table = NatTable::new(nat_type, Duration::from_secs(60), 10);
        let inside = address("10.0.0.1:5000");
        let (a, a2, b) = (
            address("1.1.1.1:1"),
            address("1.1.1.1:2"),
            address("2.2.2.2:1"),
        );
        let mut ports = 100..;
        let mut out = |to| {
            table
                .outbound(now, Protocol::Udp, inside, to, |_| ports.next())
                .unwrap()
        };
        let seen_by_a = out(a);
        let seen_by_b = out(b);
        assert_eq!(seen_by_a, out(a));
        let comes_in = [a, a2, b, address("3.3.3.3:1")]
            .map(|source| table.inbound(now, Protocol::Udp, seen_by_a, source) == Some(inside));
        assert_eq!(None, table.inbound(now, Protocol::Tcp, seen_by_a, a));
        let other_family = address("[2001:db8::1]:1");
        let through = table.inbound(now, Protocol::Udp, seen_by_a, other_family);
        assert_eq!(None, through);
        (seen_by_a == seen_by_b, comes_in)
    }

    #[test]
    fn each_type_maps_and_filters_as_defined() {
        let all = [true, true, true, true];
        assert_eq!((true, all), behaviour(NatType::FullCone));
        let addresses = [true, true, true, false];
        assert_eq!((true, addresses), behaviour(NatType::AddressRestricted));
        let ports = [true, false, true, false];
        assert_eq!((true, ports), behaviour(NatType::PortRestricted));
        let one = [true, false, false, false];
        assert_eq!((false, one), behaviour(NatType::Symmetric));
    }

    #[test]
    fn what_is_not_used_is_forgotten_and_there_is_a_limit() {
        let now = Instant::now();
        let mut table = NatTable::new(NatType::FullCone, Duration::from_secs(60), 2);
        let peer = address("1.1.1.1:1");
        let mut ports = 100..;
        let mut out = |table: &mut NatTable, at, inside: &str| {
            table.outbound(at, Protocol::Udp, address(inside), peer, |_| ports.next())
        };
        assert_eq!(Some(100), out(&mut table, now, "10.0.0.1:1"));
        assert_eq!(Some(101), out(&mut table, now, "10.0.0.2:1"));
        assert_eq!(None, out(&mut table, now, "10.0.0.3:1"));
        let later = now + Duration::from_secs(61);
        assert_eq!(None, table.inbound(later, Protocol::Udp, 100, peer));
        assert_eq!(Some(102), out(&mut table, later, "10.0.0.1:1"));
        assert_eq!(Some(103), out(&mut table, later, "10.0.0.3:1"));
        assert_eq!(2, table.mappings.len());
        assert_eq!(2, table.by_inside.len());
        let forgotten = table.forget_inside(Protocol::Udp, address("10.0.0.1:1"));
        assert_eq!(vec![102], forgotten);
        assert!(!table.is_mapped(Protocol::Udp, 102));
    }
}
