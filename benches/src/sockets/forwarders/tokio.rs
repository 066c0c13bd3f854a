//! tokio's `UdpSocket`, in a task of a current-thread runtime.

use std::io;
use std::net::SocketAddr;

use tokio::net::UdpSocket;

use super::{Forwarder, ThreadInfo};
use crate::peers::{Peer, on_thread, tokio::start_spawn};
use crate::sockets::load::any_port;

/// The longest datagram there is.
const BUFFER_BYTES: usize = 1 << 16;

async fn forward(socket: UdpSocket, destinations: Vec<SocketAddr>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        socket.readable().await?;
        // It fails when nothing is left.
        while let Ok((bytes, _)) = socket.try_recv_from(&mut buffer) {
            for destination in &destinations {
                send(&socket, &buffer[..bytes], *destination).await?;
            }
        }
    }
}

async fn send(socket: &UdpSocket, packet: &[u8], destination: SocketAddr) -> io::Result<()> {
    loop {
        match socket.try_send_to(packet, destination) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            // What cannot be sent for another reason is lost, as datagrams are.
            Ok(_) | Err(_) => return Ok(()),
        }
    }
}

pub(crate) fn start(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let peer = start_spawn()?;
    let destinations = destinations.to_vec();
    // Within a task, as only there sockets can be made.
    let (address, thread) = on_thread(&peer.handle(), move |_| {
        let bind = || {
            let socket = std::net::UdpSocket::bind(any_port())?;
            socket.set_nonblocking(true)?;
            Ok::<_, io::Error>((socket.local_addr()?, UdpSocket::from_std(socket)?))
        };
        let (address, socket) = bind().map_err(|error| error.to_string())?;
        tokio::spawn(forward(socket, destinations));
        Ok::<_, String>((address, ThreadInfo::of_this_thread()?))
    })?;
    Ok(Forwarder {
        address,
        thread,
        _running: Box::new(peer),
    })
}
