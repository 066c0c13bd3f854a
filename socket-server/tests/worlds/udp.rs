//! Handlers of UDP sockets that read all there is.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use socket_server::{Dscp, Ecn, RecvBatch, UdpHandler, UdpSocket};

/// Calls a closure when the socket can be read.
pub(crate) struct OnReadable<F>(pub(crate) F);

impl<F: FnMut(&UdpSocket)> UdpHandler for OnReadable<F> {
    fn on_readable(&mut self, socket: &UdpSocket) {
        (self.0)(socket);
    }
}

/// What has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) data: Vec<u8>,
    pub(crate) source: SocketAddr,
    pub(crate) local_ip: Option<IpAddr>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) dscp: Dscp,
    pub(crate) arrived_at: Option<Instant>,
}

pub(crate) type Inbox = Rc<RefCell<Vec<Got>>>;

/// Reads everything that arrives, in order.
pub(crate) fn collect(socket: &UdpSocket) -> Inbox {
    let inbox = Inbox::default();
    let (to, mut batch) = (inbox.clone(), RecvBatch::new());
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        while socket.recv(&mut batch).is_ok() {
            to.borrow_mut().extend(batch.iter().map(|datagram| Got {
                data: datagram.data.to_vec(),
                source: datagram.source,
                local_ip: datagram.local_ip,
                ecn: datagram.ecn,
                dscp: datagram.dscp,
                arrived_at: socket.arrived_at(&datagram),
            }));
        }
    }));
    inbox
}

/// What has come, as text.
pub(crate) fn texts(inbox: &Inbox) -> Vec<String> {
    let inbox = inbox.borrow();
    let texts = inbox
        .iter()
        .map(|got| String::from_utf8_lossy(&got.data).into_owned());
    texts.collect()
}
