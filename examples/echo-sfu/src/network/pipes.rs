//! Links to other processes: a TCP connection for what is said, and a plain transport for media.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use rtc_thread::DelayedTask;
use socket_server::{
    KeepAlive, ListenHandler, ListenOptions, TcpHandler, TcpListener, TcpOptions, TcpSocket,
};

use super::pipe_talk::Backlog;
use super::plain::OpenPlain;
use super::plain_transport::PlainRemote;
use super::{Network, State, canonical};
use crate::objects::{DataProducerId, RouterAddress, TransportId};
use crate::pipe_link::{Message, PipeSecret, Protocol, Role};
use crate::rtp::srtp::{SrtpKey, SrtpReceiver, SrtpSender};

/// Who has not shown by then that it has the secret will not.
const TIME_TO_AGREE: Duration = Duration::from_secs(5);
/// Links that one listener may have, those being agreed on included.
const MAX_LINKS: usize = 64;
/// Read at a time, and so many times before others have their turn.
const READ_BYTES: usize = 16 * 1024;
const READS_PER_TURN: usize = 8;

/// What is told of how a link came about, or did not.
pub(crate) type LinkOpened = Box<dyn FnOnce(Result<(), String>) + Send>;

/// A link to be made to another process.
pub(crate) struct ConnectPipe {
    pub(crate) id: TransportId,
    pub(crate) owner: RouterAddress,
    pub(crate) remote: SocketAddr,
    pub(crate) secret: PipeSecret,
    pub(crate) opened: LinkOpened,
}

/// A place where other processes may connect.
pub(crate) struct ListenForPipes {
    pub(crate) id: TransportId,
    pub(crate) owner: RouterAddress,
    pub(crate) bind: SocketAddr,
    pub(crate) secret: PipeSecret,
}

/// The links of a network thread.
#[derive(Debug, Default)]
pub(super) struct Pipes {
    links: HashMap<TransportId, Link>,
    listeners: HashMap<TransportId, Listener>,
}

#[derive(Debug)]
struct Listener {
    owner: RouterAddress,
    secret: PipeSecret,
    _socket: TcpListener,
}

/// A link to another process.
pub(super) struct Link {
    pub(super) socket: TcpSocket,
    pub(super) protocol: Protocol,
    pub(super) owner: RouterAddress,
    /// Where it came from, if it was not us who connected.
    pub(super) listener: Option<TransportId>,
    pub(super) backlog: Backlog,
    /// How many bytes of messages its router has not got to.
    pub(super) unheard: Arc<AtomicUsize>,
    /// Data producers that have come by it, by what the other end calls them.
    pub(super) data: HashMap<u64, DataProducerId>,
    /// Until both ends are known to have the secret: who is waiting for that.
    opened: Option<LinkOpened>,
    /// Until then: when it is given up.
    deadline: Option<DelayedTask>,
    /// Until there is a port for media: what it will be encrypted and decrypted with.
    keys: Option<(SrtpKey, SrtpKey)>,
}

impl Link {
    fn new(
        socket: TcpSocket,
        protocol: Protocol,
        owner: RouterAddress,
        listener: Option<TransportId>,
        opened: LinkOpened,
    ) -> Self {
        let mut backlog = Backlog::default();
        // It has said hello.
        backlog.wrote(protocol.outgoing.len());
        Self {
            socket,
            protocol,
            owner,
            listener,
            backlog,
            unheard: Arc::default(),
            data: HashMap::new(),
            opened: Some(opened),
            deadline: None,
            keys: None,
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.cancel_deadline();
    }
}

impl Link {
    /// Whoever connects and goes again must not leave a timer behind each time.
    fn cancel_deadline(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            deadline.cancel();
        }
    }
}

impl Pipes {
    pub(super) fn link(&mut self, id: TransportId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Ends what there is of that name. Those whom a listener has accepted stay, unless they are
    /// still to show that they have the secret.
    pub(super) fn close(&mut self, id: TransportId) {
        self.links.remove(&id);
        if self.listeners.remove(&id).is_some() {
            self.links
                .retain(|_, link| link.listener != Some(id) || link.opened.is_none());
        }
    }
}

fn tcp_options() -> TcpOptions {
    TcpOptions::new()
        .nodelay(true)
        // A peer whose machine has vanished says nothing of it.
        .keep_alive(KeepAlive {
            idle: Duration::from_secs(5),
            interval: Duration::from_secs(2),
            count: 3,
        })
        .user_timeout(Duration::from_secs(10))
}

impl Network {
    /// Connects to another process.
    pub(crate) fn connect_pipe(&mut self, order: ConnectPipe) {
        let ConnectPipe {
            id,
            owner,
            remote,
            secret,
            opened,
        } = order;
        let own = Rc::downgrade(&self.0);
        let made = make_socket(remote)
            .map_err(|error| error.to_string())
            .and_then(|socket| {
                let protocol = Protocol::new(Role::Connects, secret);
                let protocol = protocol.map_err(|error| error.to_string())?;
                Ok((socket, protocol))
            });
        let (socket, protocol) = match made {
            Ok(made) => made,
            Err(error) => return opened(Err(error)),
        };
        let link = Link::new(socket, protocol, owner, None, opened);
        self.0.borrow_mut().add_link(own, id, link);
    }

    /// Lets other processes connect. Returns where.
    pub(crate) fn listen_for_pipes(&mut self, order: ListenForPipes) -> io::Result<SocketAddr> {
        let server = rtc_thread::socket_server()
            .ok_or_else(|| io::Error::other("not on a thread with sockets"))?;
        let options = ListenOptions::new(order.bind).accepted(tcp_options());
        let socket = server.listen_tcp(&options)?;
        let local = socket.local_addr();
        socket.set_handler(Incoming {
            network: Rc::downgrade(&self.0),
            id: order.id,
        });
        let listener = Listener {
            owner: order.owner,
            secret: order.secret,
            _socket: socket,
        };
        let mut state = self.0.borrow_mut();
        state.pipes.listeners.insert(order.id, listener);
        Ok(local)
    }

    fn give_up_link(&mut self, id: TransportId) {
        self.act(|state, _| {
            let link = state.pipes.links.get(&id);
            if link.is_some_and(|link| link.opened.is_some()) {
                state.break_link(id, "the other end does not answer");
            }
        });
    }
}

fn make_socket(remote: SocketAddr) -> io::Result<TcpSocket> {
    let server = rtc_thread::socket_server()
        .ok_or_else(|| io::Error::other("not on a thread with sockets"))?;
    let socket = server.tcp_socket(&tcp_options())?;
    socket.connect(remote)?;
    Ok(socket)
}

/// The handler of a listener's socket.
struct Incoming {
    network: Weak<RefCell<State>>,
    id: TransportId,
}

impl ListenHandler for Incoming {
    fn on_incoming(&mut self, listener: &TcpListener) {
        let Some(state) = self.network.upgrade() else {
            return;
        };
        match listener.accept() {
            Ok(socket) => state
                .borrow_mut()
                .accept_link(self.network.clone(), self.id, socket),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => tracing::debug!(%error, "accepting failed"),
        }
    }
}

/// The handler of a link's socket.
struct LinkHandler {
    network: Weak<RefCell<State>>,
    id: TransportId,
}

impl TcpHandler for LinkHandler {
    fn on_connected(&mut self, _socket: &TcpSocket) {
        self.act(|state, id, _| state.flush_link(id));
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        let mut buffer = [0; READ_BYTES];
        for _ in 0..READS_PER_TURN {
            match socket.recv(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let (own, bytes) = (self.network.clone(), &buffer[..count]);
                    self.act(|state, id, now| state.link_heard(&own, id, bytes, now));
                }
            }
        }
    }

    fn on_writable(&mut self, _socket: &TcpSocket) {
        self.act(|state, id, _| state.flush_link(id));
    }

    fn on_closed(&mut self, _socket: &TcpSocket, error: Option<io::Error>) {
        let reason = error.map_or_else(
            || "the other end has hung up".to_owned(),
            |error| error.to_string(),
        );
        self.act(|state, id, _| state.break_link(id, &reason));
    }
}

impl LinkHandler {
    fn act(&self, act: impl FnOnce(&mut State, TransportId, Instant)) {
        if let Some(state) = self.network.upgrade() {
            let now = rtc_thread::now();
            let mut state = state.borrow_mut();
            act(&mut state, self.id, now);
            state.settle(now);
        }
    }
}

impl State {
    fn add_link(&mut self, network: Weak<RefCell<Self>>, id: TransportId, mut link: Link) {
        link.socket.set_handler(LinkHandler { network, id });
        if let Some(own) = self.peers.get(self.index.0) {
            // Refused only when the thread is quitting, and with it all its links.
            let deadline = own.post_delayed(TIME_TO_AGREE, move |network| network.give_up_link(id));
            link.deadline = deadline.ok();
        }
        self.pipes.links.insert(id, link);
    }

    fn accept_link(&mut self, own: Weak<RefCell<Self>>, listener: TransportId, socket: TcpSocket) {
        let links = self.pipes.links.values();
        let count = links.filter(|link| link.listener == Some(listener)).count();
        if count >= MAX_LINKS {
            // Whoever has shown nothing for longest makes room: one with the secret needs a moment only.
            let strangers = self
                .pipes
                .links
                .iter()
                .filter(|(_, link)| link.listener == Some(listener) && link.opened.is_some());
            let Some(oldest) = strangers.map(|(id, _)| *id).min() else {
                tracing::warn!("too many links: one more was refused");
                return;
            };
            self.break_link(oldest, "others want to connect");
        }
        let Some(known) = self.pipes.listeners.get(&listener) else {
            return;
        };
        let Ok(protocol) = Protocol::new(Role::Listens, known.secret.clone()) else {
            return;
        };
        let id = TransportId::next();
        let (owner, network) = (known.owner.clone(), self.peers.get(self.index.0).cloned());
        let opened: LinkOpened = Box::new(move |outcome| match (outcome, network) {
            (Ok(()), Some(network)) => owner.accept_pipe(listener, id, network),
            (outcome, _) => tracing::info!(?outcome, "a link was not agreed on"),
        });
        let owner = known.owner.clone();
        let link = Link::new(socket, protocol, owner, Some(listener), opened);
        self.add_link(own, id, link);
        self.flush_link(id);
    }

    /// Who connects is ready first. Who listens does not know yet whether the other end has the secret,
    /// and opens nothing for a stranger.
    pub(super) fn keys_known(
        &mut self,
        own: &Weak<RefCell<Self>>,
        id: TransportId,
        keys: (SrtpKey, SrtpKey),
        now: Instant,
    ) -> Result<(), String> {
        let Some(link) = self.pipes.links.get_mut(&id) else {
            return Ok(());
        };
        if link.listener.is_none() {
            self.open_media(own, id, &keys.0, now)?;
        }
        if let Some(link) = self.pipes.links.get_mut(&id) {
            link.keys = Some(keys);
        }
        Ok(())
    }

    /// Opens the port for media, and says where it is.
    fn open_media(
        &mut self,
        own: &Weak<RefCell<Self>>,
        id: TransportId,
        ours: &SrtpKey,
        now: Instant,
    ) -> Result<(), String> {
        let Some(link) = self.pipes.links.get_mut(&id) else {
            return Ok(());
        };
        let local = link.socket.local_addr();
        let local = local.map_err(|error| error.to_string())?;
        let order = OpenPlain {
            id,
            owner: link.owner.clone(),
            ip: media_address(local, 0).ip(),
            ports: None,
            with_rtcp_port: false,
            learns: false,
            silence_limit: None,
            sender: Some(SrtpSender::new(ours)),
            ssrc: id.number() as u32,
        };
        let opened = self.open_plain(own, order, now);
        let opened = opened.map_err(|error| error.to_string())?;
        let udp_port = opened.rtp.port();
        self.say_on_pipe(id, &Message::Ready { udp_port });
        Ok(())
    }

    /// The other end has the secret, and takes media at that port.
    pub(super) fn link_ready(
        &mut self,
        own: &Weak<RefCell<Self>>,
        id: TransportId,
        udp_port: u16,
        now: Instant,
    ) -> Result<(), String> {
        let Some(link) = self.pipes.links.get_mut(&id) else {
            return Ok(());
        };
        let is_asked = link.listener.is_some();
        let peer = link.socket.peer_addr().zip(link.keys.take());
        let (peer, (ours, theirs)) = peer.ok_or("the other end is nowhere")?;
        if is_asked {
            self.open_media(own, id, &ours, now)?;
        }
        let remote = PlainRemote {
            rtp: Some(media_address(peer, udp_port)),
            rtcp: None,
            receiver: Some(Box::new(SrtpReceiver::of_many(&theirs))),
        };
        self.with_plain(id, now, |plain, outbox| {
            plain.connect(remote, outbox);
            None
        });
        let link = self.pipes.links.get_mut(&id);
        let opened = link.and_then(|link| {
            link.cancel_deadline();
            link.opened.take()
        });
        if let Some(opened) = opened {
            tracing::info!(transport = ?id, %peer, "linked to another process");
            opened(Ok(()));
        }
        Ok(())
    }

    /// Nothing more is to be had of a link, nor of what is on it.
    pub(super) fn break_link(&mut self, id: TransportId, reason: &str) {
        let Some(mut link) = self.pipes.links.remove(&id) else {
            return;
        };
        tracing::info!(transport = ?id, reason, "a link to another process has ended");
        if let Some(opened) = link.opened.take() {
            opened(Err(reason.to_owned()));
        }
        self.outbox.ended.push(id);
    }
}

/// Where media is of an end of a connection. Who is connected to by IPv4 at a socket of IPv6 has an
/// address of that, from which nothing gets to one of IPv4, nor the other way round.
fn media_address(of_connection: SocketAddr, port: u16) -> SocketAddr {
    let mut address = canonical(of_connection);
    address.set_port(port);
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_goes_by_the_protocol_that_both_ends_speak() {
        let of = |address: &str| media_address(address.parse().unwrap(), 9).to_string();
        assert_eq!("10.0.0.1:9", of("10.0.0.1:5100"));
        assert_eq!("10.0.0.1:9", of("[::ffff:10.0.0.1]:5100"));
        assert_eq!("[2001:db8::1]:9", of("[2001:db8::1]:5100"));
    }
}
