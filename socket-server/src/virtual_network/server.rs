//! A server on a virtual host.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::listener::VirtualListener;
use super::network::{Event, State};
use super::stream::StreamHandle;
use super::topology::VirtualHost;
use super::udp::VirtualUdp;
use crate::registry::{Key, SharedRegistry, dispatch_round};
use crate::resolution::{OnResolved, Resolution};
use crate::server::{MaxWait, ProcessIo, SocketServer, Waiting};
use crate::tcp::{TcpIo, TcpServer, TcpSocket};
use crate::tcp_listener::TcpListener;
use crate::tcp_options::{ListenOptions, TcpOptions};
use crate::udp::UdpSocket;
use crate::udp_options::UdpOptions;
use crate::wake::{Wake, WakeHandle};

/// A server whose sockets are in a [`VirtualNetwork`](super::VirtualNetwork).
///
/// It serves one thread of one host. Its waits take no real time: where nothing is ready, virtual
/// time moves on, to what happens next anywhere in the network, or to the deadline. So a test with
/// one thread needs nothing else. Under a simulation, which moves time for all threads, nobody waits
/// in it; its handlers are called one at a time, as steps of their thread.
///
/// libwebrtc: `VirtualSocketServer`.
pub struct VirtualSocketServer {
    core: Rc<ServerCore>,
}

struct ServerCore {
    host: VirtualHost,
    registry: SharedRegistry,
    bell: Arc<Bell>,
    waiting: Cell<bool>,
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl VirtualSocketServer {
    pub(super) fn new(host: VirtualHost) -> Self {
        Self {
            core: Rc::new(ServerCore {
                host,
                registry: SharedRegistry::default(),
                bell: Arc::default(),
                waiting: Cell::new(false),
            }),
        }
    }

    /// The host that it is on.
    pub fn host(&self) -> &VirtualHost {
        &self.core.host
    }
}

impl ServerCore {
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        let network = &self.host.core;
        loop {
            network.run_due();
            if process_io == ProcessIo::Yes && self.registry.borrow_mut().has_ready() {
                // One, so that whoever schedules decides after each.
                dispatch_round(&self.registry, 1);
                return Ok(());
            }
            if self.bell.0.swap(false, Ordering::Acquire) {
                return Ok(());
            }
            let deadline = match max_wait {
                MaxWait::Poll => return Ok(()),
                MaxWait::Until(deadline) if network.now() >= deadline => return Ok(()),
                // Beyond what virtual time can be.
                MaxWait::Until(deadline) if deadline - network.now() > super::time::FAR => None,
                MaxWait::Until(deadline) => Some(deadline),
                MaxWait::Forever => None,
            };
            match [deadline, network.next_event()].into_iter().flatten().min() {
                Some(next) => network.time.advance_to(next),
                None => {
                    let message = "nothing will happen in the network any more";
                    return Err(io::Error::new(io::ErrorKind::Deadlock, message));
                }
            }
        }
    }
}

impl SocketServer for VirtualSocketServer {
    /// As stated there, and: with nothing ready, no deadline, and nothing that will ever happen in
    /// the network, it is [`ErrorKind::Deadlock`](io::ErrorKind::Deadlock).
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()> {
        let _waiting = Waiting::begin(&self.core.waiting)?;
        self.core.wait(max_wait, process_io)
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(self.core.bell.clone())
    }

    fn now(&self) -> Instant {
        self.core.host.core.now()
    }

    fn has_ready_sockets(&self) -> bool {
        self.core.registry.borrow_mut().has_ready()
    }

    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        let (host, registry) = (&self.core.host, &self.core.registry);
        UdpSocket::open(registry.clone(), |key| {
            let network = host.core.clone();
            let socket = VirtualUdp::bind(network, host.id, registry.clone(), key, options)?;
            Ok(Box::new(socket))
        })
    }

    fn tcp_socket(&self, options: &TcpOptions) -> io::Result<TcpSocket> {
        let registry = self.core.registry.clone();
        Ok(TcpSocket::new(self.core.clone(), registry, options))
    }

    fn listen_tcp(&self, options: &ListenOptions) -> io::Result<TcpListener> {
        let registry = self.core.registry.clone();
        TcpListener::open(registry.clone(), |key| {
            let host = self.core.host.clone();
            let server: Rc<dyn TcpServer> = self.core.clone();
            let listener = VirtualListener::bind(&host, server, registry, key, options)?;
            Ok(Box::new(listener))
        })
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        self.core.resolve(host, port, done)
    }
}

impl TcpServer for ServerCore {
    fn connect(
        self: Rc<Self>,
        to: SocketAddr,
        options: &TcpOptions,
        key: Key,
    ) -> io::Result<Box<dyn TcpIo>> {
        let registry = self.registry.clone();
        Ok(Box::new(StreamHandle::connect(
            &self.host, registry, key, to, options,
        )?))
    }

    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        let (resolution, resolved) = Resolution::new(self.registry.clone(), done);
        self.host.core.with_state(|state, now| {
            let answer = Event::Answer(resolved, addresses_of(state, host, port));
            state.schedule(now + State::resolve_delay(), answer);
        });
        Ok(resolution)
    }
}

fn addresses_of(state: &State, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let ips = match host {
        "localhost" => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        _ => match (host.parse::<IpAddr>(), state.names.get(host)) {
            (Ok(ip), _) => vec![ip],
            (Err(_), Some(ips)) => ips.clone(),
            (Err(_), None) => {
                let message = format!("there is no host named {host:?}");
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
        },
    };
    Ok(ips
        .into_iter()
        .map(|ip| SocketAddr::new(ip, port))
        .collect())
}

impl fmt::Debug for VirtualSocketServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VirtualSocketServer")
            .field("host", &self.core.host)
            .finish_non_exhaustive()
    }
}
