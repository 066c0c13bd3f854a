//! Whatever strangers' code does from within: handlers, observers of a virtual network, drop code.

mod worlds;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as Plain};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{
    Firewall, FirewallRule, FirewallSocketServer, HostOptions, ListenHandler, ListenOptions,
    MaxWait, NatSocketServer, NatType, PacketFate, PhysicalSocketServer, ProcessIo, RecvBatch,
    SocketServer, TcpHandler, TcpListener, TcpOptions, TcpSocket, UdpHandler, UdpOptions,
    UdpSocket, VirtualNetwork, VirtualSocketServer,
};
use worlds::ports::at_lasting_port;

const INSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Calls a closure when the socket can be read.
struct OnReadable<F>(F);

impl<F: FnMut(&UdpSocket)> UdpHandler for OnReadable<F> {
    fn on_readable(&mut self, socket: &UdpSocket) {
        (self.0)(socket);
    }
}

impl<F: FnMut(&UdpSocket)> TcpHandler for OnReadable<F> {
    fn on_readable(&mut self, _socket: &TcpSocket) {}
}

fn two_hosts() -> (VirtualNetwork, VirtualSocketServer, VirtualSocketServer) {
    let network = VirtualNetwork::new(1);
    let server = |name| network.add_host(HostOptions::new(name)).unwrap().server();
    let (one, other) = (server("one"), server("other"));
    (network, one, other)
}

fn bind(server: &VirtualSocketServer) -> UdpSocket {
    let address = SocketAddr::new(server.host().v4(), 0);
    server.bind_udp(&UdpOptions::new(address)).unwrap()
}

fn behind_nat(
    server: VirtualSocketServer,
) -> (Rc<NatSocketServer<VirtualSocketServer>>, UdpSocket) {
    let outside = server.host().v4();
    let nat = NatSocketServer::new(Rc::new(server), NatType::FullCone, INSIDE, outside);
    let socket = nat.bind_udp(&UdpOptions::new(SocketAddr::new(INSIDE, 0)));
    (Rc::new(nat), socket.unwrap())
}

fn nobody() -> SocketAddr {
    SocketAddr::from(([198, 18, 255, 255], 9))
}

#[test]
fn firewalls_in_front_of_firewalls_add_up() {
    let (network, one, other) = two_hosts();
    let address = SocketAddr::new(one.host().v4(), 0);
    let denies_all = Rc::new(Firewall::new());
    denies_all.add(FirewallRule::deny());
    let inner = FirewallSocketServer::new(Rc::new(one), denies_all);
    let outer = FirewallSocketServer::new(Rc::new(inner), Rc::new(Firewall::new()));
    let (socket, peer) = (
        outer.bind_udp(&UdpOptions::new(address)).unwrap(),
        bind(&other),
    );
    socket.send_to(peer.local_addr(), b"x").unwrap();
    while network.advance() {}
    let nothing = peer.recv_from(&mut [0; 9]).unwrap_err();
    assert_eq!(ErrorKind::WouldBlock, nothing.kind());
    let connection = outer.tcp_socket(&TcpOptions::new()).unwrap();
    let refused = connection.connect(peer.local_addr()).unwrap_err();
    assert_eq!(ErrorKind::HostUnreachable, refused.kind());
}

#[test]
fn a_wait_behind_a_nat_nests_no_more_than_others() {
    let (_network, one, _) = two_hosts();
    let (nat, socket) = behind_nat(one);
    let (again, said) = (nat.clone(), Rc::new(Cell::new(None)));
    let says = said.clone();
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        socket.recv_from(&mut [0; 9]).unwrap();
        let nested = again.wait(MaxWait::Poll, ProcessIo::Yes);
        says.set(nested.err().map(|error| error.kind()));
    }));
    socket.send_to(socket.local_addr(), b"x").unwrap();
    nat.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    assert_eq!(Some(ErrorKind::ResourceBusy), said.get());
}

#[test]
fn a_nat_goes_by_the_clock_of_its_server() {
    let (network, one, other) = two_hosts();
    let (nat, socket) = behind_nat(one);
    let peer = bind(&other);
    socket.send_to(peer.local_addr(), b"x").unwrap();
    while network.advance() {}
    let outside = peer.recv_from(&mut [0; 9]).unwrap().source;
    let answer = |expected: usize| {
        peer.send_to(outside, b"y").unwrap();
        while network.advance() {}
        nat.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
        let mut batch = RecvBatch::new();
        assert_eq!(expected, socket.recv(&mut batch).unwrap_or(0));
        for datagram in batch.iter() {
            assert_eq!(Some(network.time().now()), socket.arrived_at(&datagram));
        }
    };
    answer(1);
    // Longer than a mapping lives.
    let hour = Duration::from_secs(3600);
    network.time().advance_to(network.time().now() + hour);
    answer(0);
}

#[test]
fn an_observer_may_replace_itself_and_drop_what_is_observed() {
    let (network, one, other) = two_hosts();
    let address = SocketAddr::new(other.host().v4(), 0);
    let listener = other.listen_tcp(&ListenOptions::new(address)).unwrap();
    let client = one.tcp_socket(&TcpOptions::new()).unwrap();
    client.set_handler(OnReadable(|_: &UdpSocket| {}));
    client.connect(listener.local_addr()).unwrap();
    while network.advance() {
        one.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    }
    let (own, owned) = (network.clone(), Some(client));
    network.observe(move |_| {
        let _dropped_with_it = &owned;
        own.observe(|_| {});
    });
    bind(&one).send_to(nobody(), b"x").unwrap();
}

#[test]
fn an_observer_hears_of_what_it_does_itself() {
    let (network, one, _) = two_hosts();
    let (_nat, socket) = behind_nat(one);
    let socket = Rc::new(socket);
    let (own, heard) = (socket.clone(), Rc::new(Cell::new(0)));
    let hears = heard.clone();
    network.observe(move |event| {
        if event.what == PacketFate::Sent {
            hears.set(hears.get() + 1);
            if hears.get() < 3 {
                own.send_to(nobody(), b"y").unwrap();
            }
        }
    });
    socket.send_to(nobody(), b"x").unwrap();
    assert_eq!(3, heard.get());
    // It has a socket of the network, which has it.
    network.observe(|_| {});
}

#[test]
fn an_observer_may_read_and_set_options() {
    let (network, one, other) = two_hosts();
    let (sender, reader) = (bind(&one), Rc::new(bind(&other)));
    let client = Rc::new(one.tcp_socket(&TcpOptions::new()).unwrap());
    let (reads, sets) = (reader.clone(), client.clone());
    network.observe(move |_| {
        let _ = reads.recv_from(&mut [0; 9]);
        sets.set_nodelay(true).unwrap();
    });
    sender.send_to(reader.local_addr(), b"x").unwrap();
    let _ = reader.recv_from(&mut [0; 9]);
    client.connect(reader.local_addr()).unwrap();
    while network.advance() {}
    network.observe(|_| {});
}

#[test]
fn what_a_handler_that_panicked_has_left_is_read_in_the_next_wait() {
    let server = PhysicalSocketServer::new().unwrap();
    let socket = server.bind_udp(&UdpOptions::new(LOOPBACK)).unwrap();
    let calls = Rc::new(Cell::new(0));
    let counts = calls.clone();
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        counts.set(counts.get() + 1);
        assert!(counts.get() > 1, "on purpose");
        socket.recv_from(&mut [0; 9]).unwrap();
    }));
    let peer = Plain::bind(LOOPBACK).unwrap();
    peer.send_to(b"x", socket.local_addr()).unwrap();
    let wait = || server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert!(catch_unwind(AssertUnwindSafe(wait)).is_err());
    // Nothing new comes that could be news. Were it lost, this would wait for ever.
    wait();
    assert_eq!(2, calls.get());
}

#[test]
fn a_socket_that_is_dropped_in_its_own_handler_is_closed_at_once() {
    let server = Rc::new(PhysicalSocketServer::new().unwrap());
    let socket = at_lasting_port(|port| {
        server.bind_udp(&UdpOptions::new(SocketAddr::new(LOOPBACK.ip(), port)))
    });
    let address = socket.local_addr();
    let kept = Rc::new(RefCell::new(Some(socket)));
    let (own, again, bound) = (kept.clone(), server.clone(), Rc::new(Cell::new(false)));
    let binds = bound.clone();
    let handler = OnReadable(move |socket: &UdpSocket| {
        drop(own.take());
        binds.set(again.bind_udp(&UdpOptions::new(address)).is_ok());
        let closed = socket.recv_from(&mut [0; 9]).unwrap_err();
        assert_eq!(ErrorKind::NotConnected, closed.kind());
    });
    kept.borrow().as_ref().unwrap().set_handler(handler);
    let peer = Plain::bind(LOOPBACK).unwrap();
    peer.send_to(b"x", address).unwrap();
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert!(bound.get());
}

/// Drops its listener, and opens another one at the same address.
struct Reopens {
    own: Rc<RefCell<Option<TcpListener>>>,
    server: Rc<PhysicalSocketServer>,
    reopened: Rc<Cell<bool>>,
}

impl ListenHandler for Reopens {
    fn on_incoming(&mut self, listener: &TcpListener) {
        let options = ListenOptions::new(listener.local_addr());
        drop(self.own.take());
        self.reopened.set(self.server.listen_tcp(&options).is_ok());
    }
}

#[test]
fn a_listener_that_is_dropped_in_its_own_handler_is_closed_at_once() {
    let server = Rc::new(PhysicalSocketServer::new().unwrap());
    let listener = at_lasting_port(|port| {
        server.listen_tcp(&ListenOptions::new(SocketAddr::new(LOOPBACK.ip(), port)))
    });
    let address = listener.local_addr();
    let kept = Rc::new(RefCell::new(Some(listener)));
    let reopened = Rc::new(Cell::new(false));
    let handler = Reopens {
        own: kept.clone(),
        server: server.clone(),
        reopened: reopened.clone(),
    };
    kept.borrow().as_ref().unwrap().set_handler(handler);
    let _client = std::net::TcpStream::connect(address).unwrap();
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert!(reopened.get());
}

#[test]
fn a_black_out_may_last_for_ever() {
    let (network, one, other) = two_hosts();
    one.host().uplink().black_out(Duration::ZERO, Duration::MAX);
    bind(&one).send_to(bind(&other).local_addr(), b"x").unwrap();
    while network.advance() {}
    assert_eq!(1, one.host().uplink().stats().blacked_out);
}
