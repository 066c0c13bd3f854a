//! Binding to networks: conformance item 36.
//!
//! The concrete addresses here are for documentation (RFC 5737, RFC 3849), so no machine has them.
//! The binder is asked before that is found out: a bind that it leaves as it is fails, and one that it
//! has taken over works, because it is at no particular address then.

mod worlds;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use socket_server::{
    ListenOptions, MaxWait, NetworkBinder, NetworkBinding, PhysicalSocketServer, ProcessIo,
    SocketServer, TcpOptions, TcpState, UdpOptions,
};
use socket2::SockRef;

use worlds::ports::at_lasting_port;
use worlds::tcp::{Event, Peer, accept_all};

/// Addresses that a binder is asked for, and their loopback and unspecified ones.
const FAMILIES: [[IpAddr; 3]; 2] = [
    [
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    ],
    [
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ],
];

/// Says always the same, and notes what it was asked.
struct Binder {
    answer: fn() -> NetworkBinding,
    asked: Rc<RefCell<Vec<IpAddr>>>,
}

impl NetworkBinder for Binder {
    fn bind_to_network(&self, socket: SockRef<'_>, address: IpAddr) -> NetworkBinding {
        let unbound = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(0, unbound.port(), "asked before the bind");
        self.asked.borrow_mut().push(address);
        (self.answer)()
    }
}

type Asked = Rc<RefCell<Vec<IpAddr>>>;

fn server(answer: fn() -> NetworkBinding) -> (PhysicalSocketServer, Asked) {
    let (server, asked) = (PhysicalSocketServer::new().unwrap(), Asked::default());
    server.set_network_binder(Binder {
        answer,
        asked: asked.clone(),
    });
    (server, asked)
}

fn failed() -> NetworkBinding {
    NetworkBinding::Failed(io::Error::new(ErrorKind::NetworkDown, "no such network"))
}

/// Binds a socket of each kind. Where each is, or why not; and how often a binder was asked.
fn bind(server: &PhysicalSocketServer, ip: IpAddr) -> [Result<IpAddr, ErrorKind>; 3] {
    let address = SocketAddr::new(ip, 0);
    let udp = server.bind_udp(&UdpOptions::new(address));
    let listener = server.listen_tcp(&ListenOptions::new(address));
    // To somebody who is there, of the same family.
    let loopback = match ip.to_canonical() {
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(_) if ip.is_ipv4() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
    };
    let target = PhysicalSocketServer::new().unwrap();
    let target = target
        .listen_tcp(&ListenOptions::new(SocketAddr::new(loopback, 0)))
        .unwrap();
    let options = TcpOptions::new().local(address);
    let stream = server.tcp_socket(&options).unwrap();
    let connected = stream.connect(target.local_addr());
    let kind = |error: io::Error| error.kind();
    [
        udp.map(|socket| socket.local_addr().ip()).map_err(kind),
        listener
            .map(|socket| socket.local_addr().ip())
            .map_err(kind),
        connected
            .map(|()| stream.local_addr().unwrap().ip())
            .map_err(kind),
    ]
}

#[test]
fn item_36_without_a_network_of_its_own_a_bind_is_as_usual() {
    for [concrete, loopback, any] in FAMILIES {
        let (server, asked) = server(|| NetworkBinding::NotImplemented);
        let without = PhysicalSocketServer::new().unwrap();
        for ip in [concrete, loopback, any] {
            assert_eq!(bind(&without, ip), bind(&server, ip));
        }
        assert_eq!([Ok(loopback); 3], bind(&server, loopback));
        let nobody_has_it = Err(ErrorKind::AddrNotAvailable);
        assert_eq!([nobody_has_it; 3], bind(&server, concrete));
        let expected = [[concrete; 3], [loopback; 3], [loopback; 3], [concrete; 3]];
        assert_eq!(expected.concat(), *asked.borrow());
    }
}

#[test]
fn item_36_the_unspecified_address_is_in_all_networks_and_nobody_is_asked() {
    for [_, loopback, any] in FAMILIES {
        for answer in [
            failed,
            || NetworkBinding::Bound,
            || NetworkBinding::NotImplemented,
        ] {
            let (server, asked) = server(answer);
            let [udp, listener, stream] = bind(&server, any);
            assert_eq!((Ok(any), Ok(any), Ok(loopback)), (udp, listener, stream));
            assert!(asked.borrow().is_empty());
        }
        // Nor for a socket that does not say where it is to be.
        let (server, asked) = server(failed);
        let socket = server.tcp_socket(&TcpOptions::new()).unwrap();
        let listener = server
            .listen_tcp(&ListenOptions::new(SocketAddr::new(any, 0)))
            .unwrap();
        let port = listener.local_addr().port();
        socket.connect(SocketAddr::new(loopback, port)).unwrap();
        assert!(asked.borrow().is_empty());
    }
}

#[test]
fn item_36_a_bound_socket_is_at_the_port_but_at_no_particular_address() {
    for [concrete, loopback, any] in FAMILIES {
        let (server, asked) = server(|| NetworkBinding::Bound);
        let [udp, listener, stream] = bind(&server, concrete);
        // To reach the loopback address, the stream has got it from the system.
        assert_eq!((Ok(any), Ok(any), Ok(loopback)), (udp, listener, stream));
        assert_eq!(vec![concrete; 3], *asked.borrow());

        let free =
            at_lasting_port(|port| server.bind_udp(&UdpOptions::new(SocketAddr::new(any, port))));
        let port = free.local_addr().port();
        drop(free);
        let wanted = SocketAddr::new(concrete, port);
        let socket = server.bind_udp(&UdpOptions::new(wanted)).unwrap();
        assert_eq!(SocketAddr::new(any, port), socket.local_addr());
    }
}

#[test]
fn item_36_a_failure_fails_the_bind_but_not_on_loopback() {
    for [concrete, loopback, _] in FAMILIES {
        let (server, asked) = server(failed);
        assert_eq!([Err(ErrorKind::NetworkDown); 3], bind(&server, concrete));
        assert_eq!([Ok(loopback); 3], bind(&server, loopback));
        assert_eq!([[concrete; 3], [loopback; 3]].concat(), *asked.borrow());
    }
}

#[test]
fn item_36_a_mapped_address_counts_as_what_it_stands_for() {
    let mapped = |ip: Ipv4Addr| IpAddr::V6(ip.to_ipv6_mapped());
    let loopback = mapped(Ipv4Addr::LOCALHOST);
    let (failing, asked) = server(failed);
    assert_eq!([Ok(loopback); 3], bind(&failing, loopback));
    let concrete = mapped(Ipv4Addr::new(192, 0, 2, 1));
    assert_eq!([Err(ErrorKind::NetworkDown); 3], bind(&failing, concrete));
    let expected = [[FAMILIES[0][1]; 3], [FAMILIES[0][0]; 3]].concat();
    assert_eq!(expected, *asked.borrow());
    asked.borrow_mut().clear();
    assert!(bind(&failing, mapped(Ipv4Addr::UNSPECIFIED))[0].is_ok());
    assert!(asked.borrow().is_empty());
}

#[test]
fn item_36_a_failure_is_told_to_who_connects_by_name_and_the_socket_goes_on() {
    let world = worlds::World::new(worlds::Kind::Physical, worlds::Family::V4);
    let (server, asked) = server(failed);
    let [concrete, loopback, _] = FAMILIES[0];
    let listener = worlds::tcp::listen(&world);
    let accepted = accept_all(&listener);
    let options = TcpOptions::new().local(SocketAddr::new(concrete, 0));
    let client = Peer::new(server.tcp_socket(&options).unwrap());
    let until = |is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + worlds::PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain");
            let max_wait = MaxWait::Until(deadline);
            server.wait(max_wait, ProcessIo::Yes).unwrap();
        }
    };
    client.socket.connect((&*loopback.to_string(), 9)).unwrap();
    until(&|| client.log.is_closed());
    let down = Event::Closed(Some(ErrorKind::NetworkDown));
    assert_eq!(vec![down], client.log.events());
    assert_eq!(vec![concrete], *asked.borrow());
    // A binder can be replaced, and the next attempt asks the new one.
    server.set_network_binder(Binder {
        answer: || NetworkBinding::Bound,
        asked: asked.clone(),
    });
    client.socket.connect(listener.local_addr()).unwrap();
    until(&|| client.socket.state() == TcpState::Connected);
    world.wait_until("it is accepted", || !accepted.borrow().is_empty());
    assert_eq!(vec![concrete; 2], *asked.borrow());
}
