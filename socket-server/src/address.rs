//! Relations between addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The unspecified address of the same family.
pub(crate) const fn unspecified_like(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// An IPv4-mapped IPv6 address as the IPv4 address that it stands for.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip if ip == address.ip() => address,
        ip => SocketAddr::new(ip, address.port()),
    }
}

/// Where something goes that a socket sends there, not mapped. The unspecified address is this host,
/// as Linux has it: the address that the socket is bound to, or that of the loopback interface.
pub(crate) fn destination(asked: SocketAddr, bound: IpAddr) -> SocketAddr {
    let mut destination = canonical(asked);
    if destination.ip().is_unspecified() {
        let bound_to = bound.to_canonical();
        destination.set_ip(if destination.is_ipv6() && bound_to.is_ipv6() {
            Ipv6Addr::LOCALHOST.into()
        } else if destination.is_ipv4() && bound_to.is_ipv4() && !bound_to.is_unspecified() {
            bound_to
        } else if destination.is_ipv6() && bound.is_ipv4() {
            // An IPv4 socket cannot; let it find that out.
            destination.ip()
        } else {
            Ipv4Addr::LOCALHOST.into()
        });
    }
    destination
}
