//! Binding sockets to networks.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{SockRef, Socket};

use crate::address::unspecified_like;

/// Attaches sockets to one of the networks of a device that is in several.
///
/// Some systems (Android) send through the default network whatever address a socket is bound to,
/// and have another way of choosing. A binder is asked for every socket that is bound to a concrete
/// address; sockets bound to the unspecified address are in all networks, and it is not asked.
///
/// libwebrtc: `NetworkBinderInterface`.
pub trait NetworkBinder {
    /// Attaches a socket to the network that has this address. It is an IPv4 one if the socket's is an
    /// IPv4-mapped IPv6 address.
    fn bind_to_network(&self, socket: SockRef<'_>, address: IpAddr) -> NetworkBinding;
}

/// What a [`NetworkBinder`] could do.
///
/// libwebrtc: `NetworkBindingResult`.
#[derive(Debug)]
pub enum NetworkBinding {
    /// It is attached. The socket is then bound to the port, at no particular address.
    Bound,
    /// This system has no such thing: the socket is bound to the address, as usual.
    NotImplemented,
    /// It could not be attached: the bind fails with this error; except on the loopback address,
    /// which is in no network, and where it goes on as usual.
    Failed(io::Error),
}

/// Binds a socket, as the binder says if there is one.
pub(super) fn bind(
    socket: &Socket,
    address: SocketAddr,
    binder: Option<&dyn NetworkBinder>,
) -> io::Result<()> {
    // So that an IPv4-mapped address counts as what it stands for.
    let ip = address.ip().to_canonical();
    let address = match binder {
        Some(binder) if !ip.is_unspecified() => {
            match binder.bind_to_network(SockRef::from(socket), ip) {
                NetworkBinding::Bound => {
                    SocketAddr::new(unspecified_like(address.ip()), address.port())
                }
                NetworkBinding::Failed(error) if !ip.is_loopback() => return Err(error),
                NetworkBinding::NotImplemented | NetworkBinding::Failed(_) => address,
            }
        }
        _ => address,
    };
    socket.bind(&address.into())
}
