//! socket-server, on a thread of rtc-thread.

use std::net::SocketAddr;

use rtc_thread::{Thread, ThreadBound};
use socket_server::{RecvBatch, SendBatch, UdpHandler, UdpOptions, UdpSocket};

use super::{Forwarder, ThreadInfo};
use crate::sockets::load::any_port;

struct Forward {
    destinations: Vec<SocketAddr>,
    arrivals: RecvBatch,
    departures: SendBatch,
}

impl UdpHandler for Forward {
    fn on_readable(&mut self, socket: &UdpSocket) {
        while socket.recv(&mut self.arrivals).is_ok() {
            // Destination by destination: what goes to one of them can leave in one system call.
            for destination in &self.destinations {
                for datagram in self.arrivals.iter() {
                    // What there is no room for is lost, as datagrams are.
                    let _ = self.departures.push(*destination, datagram.data);
                }
            }
            socket.send_batch(&mut self.departures);
        }
    }

    fn on_writable(&mut self, socket: &UdpSocket) {
        socket.send_batch(&mut self.departures);
    }
}

fn bind(destinations: Vec<SocketAddr>) -> Result<UdpSocket, String> {
    let server = rtc_thread::socket_server().ok_or("no socket server")?;
    let socket = server
        .bind_udp(&UdpOptions::new(any_port()))
        .map_err(|error| error.to_string())?;
    socket.set_handler(Forward {
        destinations,
        arrivals: RecvBatch::new(),
        departures: SendBatch::new(),
    });
    Ok(socket)
}

pub(crate) fn start(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let thread = Thread::builder()
        .with_sockets()
        .spawn()
        .map_err(|error| error.to_string())?;
    let destinations = destinations.to_vec();
    let socket =
        ThreadBound::new(&thread, move || bind(destinations)).map_err(|error| error.to_string())?;
    let (address, info) = socket
        .blocking_call(|socket| {
            let socket = socket.as_ref().map_err(|error| error.clone())?;
            Ok::<_, String>((socket.local_addr(), ThreadInfo::of_this_thread()?))
        })
        .map_err(|error| error.to_string())??;
    Ok(Forwarder {
        address,
        thread: info,
        // The socket first: it needs its thread to be dropped on.
        _running: Box::new((socket, thread)),
    })
}
