//! What NATs map and filter: conformance item 39. A NAT is a part of a virtual network, or a server
//! that is put in front of another one; what peers see of it has to be the same.

mod worlds;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket as Plain};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{
    Dscp, Ecn, Envelope, HostOptions, ListenOptions, NatOptions, NatSocketServer, NatType,
    PhysicalSocketServer, SocketServer, TcpOptions, UdpOptions, UdpSocket,
};
use worlds::tcp::{accept_all, follow};
use worlds::udp::{Inbox, collect, texts};
use worlds::{Family, Kind, World};

/// Where the NAT is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a virtual network.
    OnTheWay,
    /// In front of a server.
    InFront,
}

/// A server behind a NAT, and peers outside.
struct Setup {
    world: World,
    inside: Rc<dyn SocketServer>,
    inside_ip: IpAddr,
    outside_ip: IpAddr,
    /// Addresses of others. Where the system has but one, all are the same.
    peer_ips: [IpAddr; 3],
}

/// Somebody outside.
enum Peer {
    Ours(UdpSocket, Inbox),
    /// One who does not even know this crate.
    Plain(Plain),
}

impl Setup {
    fn new(kind: Kind, family: Family, place: Place, nat_type: NatType) -> Self {
        let ip = |v4: &str, v6: &str| -> IpAddr {
            let text = if family == Family::V4 { v4 } else { v6 };
            text.parse().unwrap()
        };
        let inside_ip = ip("10.1.2.3", "fd00::1:2:3");
        if kind == Kind::Physical {
            let world = World::new(Kind::Physical, family);
            let inner = Rc::new(PhysicalSocketServer::new().unwrap());
            let outside_ip = ip("127.0.0.1", "::1");
            let nat = NatSocketServer::new(inner, nat_type, inside_ip, outside_ip);
            return Self {
                inside: world.serve(nat),
                world,
                inside_ip,
                outside_ip,
                peer_ips: ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|v4| ip(v4, "::1")),
            };
        }
        let world = World::new(Kind::Hosts, family);
        let peer_ips = [1, 2, 3].map(|_| world.place().ip);
        let (inside, inside_ip, outside_ip) = match place {
            Place::OnTheWay => {
                let nat = world.network().add_nat(NatOptions::new(nat_type)).unwrap();
                let host = nat.add_host(HostOptions::new("inside")).unwrap();
                let own = world.on(host);
                let outside = nat.outside_ips();
                let is_same = |ip: &IpAddr| ip.is_ipv4() == own.ip.is_ipv4();
                let outside_ip = outside.into_iter().find(is_same).unwrap();
                (own.server, own.ip, outside_ip)
            }
            Place::InFront => {
                let host = world.network().add_host(HostOptions::new("nat")).unwrap();
                let outside_ip = if family == Family::V4 {
                    host.v4()
                } else {
                    host.v6()
                };
                let inner = Rc::new(host.server());
                let nat = NatSocketServer::new(inner, nat_type, inside_ip, outside_ip);
                (world.serve(nat), inside_ip, outside_ip)
            }
        };
        Self {
            world,
            inside,
            inside_ip,
            outside_ip,
            peer_ips,
        }
    }

    fn bind(&self) -> UdpSocket {
        let address = SocketAddr::new(self.inside_ip, 0);
        self.inside.bind_udp(&UdpOptions::new(address)).unwrap()
    }

    /// A peer at one of the addresses.
    fn peer(&self, which: usize) -> Peer {
        let ip = self.peer_ips[which];
        let address = SocketAddr::new(ip, 0);
        if self.world.is_physical() {
            let plain = Plain::bind(address).unwrap();
            plain.set_nonblocking(true).unwrap();
            return Peer::Plain(plain);
        }
        // The server of the host that has the address.
        let server = self.world.server_at(ip);
        let socket = server.bind_udp(&UdpOptions::new(address)).unwrap();
        let inbox = collect(&socket);
        Peer::Ours(socket, inbox)
    }

    /// Sends from the inside to a peer; returns whom the peer sees.
    #[track_caller]
    fn seen_by(&self, from: &UdpSocket, peer: &Peer) -> SocketAddr {
        from.send_to(peer.addr(), b"out").unwrap();
        let mut seen = None;
        self.world.wait_until("the peer gets it", || {
            seen = peer.take();
            seen.is_some()
        });
        let (data, source) = seen.unwrap();
        assert_eq!(b"out", &data[..]);
        source
    }

    /// Sees to it that a datagram that is sent meanwhile arrives from there, or does not.
    #[track_caller]
    fn assert_arrives(&self, from: Option<SocketAddr>, at: &Inbox, send: impl FnOnce()) {
        send();
        match from {
            Some(_) => self
                .world
                .wait_until("it arrives", || !at.borrow().is_empty()),
            None => self.world.settle_soon(|| !at.borrow().is_empty()),
        }
        let got = at.borrow_mut().pop();
        assert!(at.borrow().is_empty());
        assert_eq!(from, got.map(|got| got.source));
    }
}

impl Peer {
    fn addr(&self) -> SocketAddr {
        match self {
            Self::Ours(socket, _) => socket.local_addr(),
            Self::Plain(plain) => plain.local_addr().unwrap(),
        }
    }

    #[track_caller]
    fn send(&self, to: SocketAddr) {
        match self {
            Self::Ours(socket, _) => socket.send_to(to, b"in").unwrap(),
            Self::Plain(plain) => drop(plain.send_to(b"in", to).unwrap()),
        }
    }

    /// What it got, and from whom.
    fn take(&self) -> Option<(Vec<u8>, SocketAddr)> {
        match self {
            Self::Ours(_, inbox) => inbox.borrow_mut().pop().map(|got| (got.data, got.source)),
            Self::Plain(plain) => {
                let mut buffer = [0; 100];
                let (length, source) = plain.recv_from(&mut buffer).ok()?;
                Some((buffer[..length].to_vec(), source))
            }
        }
    }
}

/// Runs a test behind NATs of all types, in all places, over both families.
fn behind_every_nat(test: impl Fn(&Setup, NatType)) {
    for nat_type in NatType::ALL {
        for family in [Family::V4, Family::V6] {
            for (kind, place) in [
                (Kind::Hosts, Place::OnTheWay),
                (Kind::Hosts, Place::InFront),
                (Kind::Physical, Place::InFront),
            ] {
                println!("{nat_type:?} {family:?} {kind:?} {place:?}");
                test(&Setup::new(kind, family, place, nat_type), nat_type);
            }
        }
    }
}

#[test]
fn item_39_each_type_of_nat_maps_as_defined() {
    behind_every_nat(|setup, nat_type| {
        let (one, other) = (setup.bind(), setup.bind());
        let (a, b) = (setup.peer(0), setup.peer(1));
        let seen = [setup.seen_by(&one, &a), setup.seen_by(&one, &b)];
        assert_eq!(seen[0], setup.seen_by(&one, &a));
        assert_eq!(nat_type == NatType::Symmetric, seen[0] != seen[1]);
        let others = setup.seen_by(&other, &a);
        assert!(!seen.contains(&others), "two sockets seen as one");
        for seen in [seen[0], seen[1], others] {
            assert_eq!(setup.outside_ip, seen.ip());
        }
        // One of the other ports of the same peer is another destination, too.
        let a2 = setup.peer(0);
        let again = setup.seen_by(&one, &a2);
        assert_eq!(nat_type == NatType::Symmetric, again != seen[0]);
    });
}

#[test]
fn item_39_each_type_of_nat_filters_as_defined() {
    behind_every_nat(|setup, nat_type| {
        let (one, other) = (setup.bind(), setup.bind());
        let (inbox, others) = (collect(&one), collect(&other));
        let (a, a2, b, stranger) = (setup.peer(0), setup.peer(0), setup.peer(1), setup.peer(2));
        let mapped = setup.seen_by(&one, &a);
        setup.seen_by(&one, &b);
        // Its mapping does not open the first one's.
        setup.seen_by(&other, &stranger);
        let is_one_ip = setup.peer_ips[0] == setup.peer_ips[2];
        let expected = match nat_type {
            NatType::FullCone => [true; 4],
            NatType::AddressRestricted => [true, true, true, is_one_ip],
            NatType::PortRestricted => [true, false, true, false],
            NatType::Symmetric => [true, false, false, false],
        };
        for (peer, expected) in [a, a2, b, stranger].iter().zip(expected) {
            let source = expected.then_some(peer.addr());
            setup.assert_arrives(source, &inbox, || peer.send(mapped));
        }
        assert!(others.borrow().is_empty());
    });
}

#[test]
fn item_39_two_behind_one_nat_reach_each_other_by_their_outside_addresses() {
    behind_every_nat(|setup, nat_type| {
        let (one, other) = (setup.bind(), setup.bind());
        let (inbox, others) = (collect(&one), collect(&other));
        let a = setup.peer(0);
        let (mapped, others_mapped) = (setup.seen_by(&one, &a), setup.seen_by(&other, &a));
        let is_own_ip = setup.peer_ips[0] == setup.outside_ip;
        let is_open = match nat_type {
            NatType::FullCone => true,
            // Who has talked to a peer at the NAT's own address, has talked to the NAT's address.
            NatType::AddressRestricted => is_own_ip,
            _ => false,
        };
        let there = || one.send_to(others_mapped, b"x").unwrap();
        setup.assert_arrives(is_open.then_some(mapped), &others, there);
        // The first has sent to the second now, and is sent to in turn, which opens both.
        let is_open = nat_type != NatType::Symmetric;
        let back = || other.send_to(mapped, b"x").unwrap();
        setup.assert_arrives(is_open.then_some(others_mapped), &inbox, back);
        setup.assert_arrives(is_open.then_some(mapped), &others, there);
    });
}

#[test]
fn item_39_a_closed_socket_leaves_no_way_in() {
    for (kind, family) in [(Kind::Physical, Family::V4), (Kind::Physical, Family::V6)] {
        let setup = Setup::new(kind, family, Place::InFront, NatType::FullCone);
        let a = setup.peer(0);
        let mut mapped = a.addr();
        let leaves_its_port = |_| {
            let socket = setup.bind();
            mapped = setup.seen_by(&socket, &a);
            assert!(Plain::bind(mapped).is_err());
            drop(socket);
            Plain::bind(mapped).is_ok()
        };
        // A port that is free may be a stranger's at once, but not each time.
        assert!((0..20).any(leaves_its_port));
        // And the next one inside gets nothing of what was for the one before.
        let next = setup.bind();
        let inbox = collect(&next);
        a.send(mapped);
        setup.world.settle_soon(|| false);
        assert!(inbox.borrow().is_empty());
    }
}

#[test]
fn item_39_inside_of_a_nat_all_is_as_without_it() {
    for place in [Place::OnTheWay, Place::InFront] {
        for family in [Family::V4, Family::V6] {
            let setup = Setup::new(Kind::Hosts, family, place, NatType::Symmetric);
            let (one, other) = (setup.bind(), setup.bind());
            let inbox = collect(&other);
            let to = Envelope::to(other.local_addr())
                .dscp(Dscp::EF)
                .ecn(Ecn::Ect1);
            one.send_to(to, b"neighbour").unwrap();
            setup.world.settle();
            let got = inbox.borrow_mut().pop().unwrap();
            assert_eq!(
                (one.local_addr(), &b"neighbour"[..]),
                (got.source, &got.data[..])
            );
            assert_eq!((Dscp::EF, Some(Ecn::Ect1)), (got.dscp, got.ecn));
        }
    }
}

#[test]
fn item_39_marks_pass_a_nat_both_ways() {
    for place in [Place::OnTheWay, Place::InFront] {
        let setup = Setup::new(Kind::Hosts, Family::V4, place, NatType::PortRestricted);
        let (socket, peer) = (setup.bind(), setup.peer(0));
        let inbox = collect(&socket);
        let Peer::Ours(peer, theirs) = &peer else {
            unreachable!("peers in a virtual network are ours");
        };
        let marked = |to| Envelope::to(to).dscp(Dscp::AF41).ecn(Ecn::Ect0);
        socket.send_to(marked(peer.local_addr()), b"x").unwrap();
        setup.world.settle();
        let got = theirs.borrow_mut().pop().unwrap();
        assert_eq!((Dscp::AF41, Some(Ecn::Ect0)), (got.dscp, got.ecn));
        peer.send_to(marked(got.source), b"x").unwrap();
        setup.world.settle();
        let got = inbox.borrow_mut().pop().unwrap();
        assert_eq!((Dscp::AF41, Some(Ecn::Ect0)), (got.dscp, got.ecn));
        assert_eq!(Some(setup.inside_ip), got.local_ip);
    }
}

/// A host behind two NATs, one in the other, and a peer outside.
#[test]
fn item_39_behind_two_nats_the_stricter_one_decides() {
    worlds::between_virtual_hosts(|world| {
        let (peer, stranger) = (world.place().bind(), world.place().bind());
        let (heard, _) = (collect(&peer), collect(&stranger));
        for outer in NatType::ALL {
            for inner in NatType::ALL {
                let network = world.network();
                let outer_nat = network.add_nat(NatOptions::new(outer)).unwrap();
                let inner_nat = outer_nat.add_nat(NatOptions::new(inner)).unwrap();
                let host = inner_nat.add_host(HostOptions::new("inside")).unwrap();
                let socket = world.on(host).bind();
                let inbox = collect(&socket);
                socket.send_to(peer.local_addr(), b"out").unwrap();
                world.settle();
                let mapped = heard.borrow_mut().pop().unwrap().source;
                assert!(outer_nat.outside_ips().contains(&mapped.ip()));
                peer.send_to(mapped, b"answer").unwrap();
                stranger.send_to(mapped, b"strange").unwrap();
                world.settle();
                let is_open = outer == NatType::FullCone && inner == NatType::FullCone;
                let expected: &[_] = if is_open {
                    &["answer", "strange"]
                } else {
                    &["answer"]
                };
                assert_eq!(expected, texts(&inbox));
            }
        }
    });
}

#[test]
fn item_39_a_mapping_is_forgotten_when_nothing_goes_out_for_long() {
    worlds::between_virtual_hosts(|world| {
        let peer = world.place().bind();
        let heard = collect(&peer);
        let options = NatOptions::new(NatType::FullCone).timeout(Duration::from_secs(30));
        let nat = world.network().add_nat(options).unwrap();
        let socket = world
            .on(nat.add_host(HostOptions::new("inside")).unwrap())
            .bind();
        let inbox = collect(&socket);
        let seen = || {
            socket.send_to(peer.local_addr(), b"out").unwrap();
            world.pass(Duration::ZERO);
            heard.borrow_mut().pop().unwrap().source
        };
        let mapped = seen();
        world.pass(Duration::from_secs(20));
        assert_eq!(mapped, seen(), "what goes out keeps it");
        for _ in 0..3 {
            world.pass(Duration::from_secs(10));
            peer.send_to(mapped, b"in").unwrap();
        }
        world.pass(Duration::from_secs(1));
        assert_eq!(3, inbox.borrow().len());
        // What came in has not kept it.
        peer.send_to(mapped, b"in").unwrap();
        world.pass(Duration::from_secs(1));
        assert_eq!(3, inbox.borrow().len());
        assert_ne!(mapped, seen());
    });
}

#[test]
fn item_39_a_mapping_of_one_family_lets_nothing_of_the_other_in() {
    let world = World::new(Kind::Hosts, Family::V4);
    let nat = NatOptions::new(NatType::FullCone);
    let nat = world.network().add_nat(nat).unwrap();
    let socket = world
        .on(nat.add_host(HostOptions::new("inside")).unwrap())
        .bind();
    let (inbox, peer) = (collect(&socket), world.place());
    let v4 = peer.bind();
    let heard = collect(&v4);
    socket.send_to(v4.local_addr(), b"out").unwrap();
    world.settle();
    let port = heard.borrow()[0].source.port();
    let own_v6 = peer.host.as_ref().unwrap().v6();
    let v6 = peer.bind_at(SocketAddr::new(own_v6, 0));
    let outside = nat.outside_ips().into_iter().find(IpAddr::is_ipv6).unwrap();
    v6.send_to(SocketAddr::new(outside, port), b"in").unwrap();
    world.settle();
    assert!(inbox.borrow().is_empty());
}

#[test]
fn item_39_a_connection_goes_out_through_a_nat_and_none_comes_in() {
    for family in [Family::V4, Family::V6] {
        for nat_type in NatType::ALL {
            let setup = Setup::new(Kind::Hosts, family, Place::OnTheWay, nat_type);
            let outside = setup.world.place();
            let listener = outside.listen();
            let accepted = accept_all(&listener);
            let socket = setup.inside.tcp_socket(&TcpOptions::new()).unwrap();
            let told = follow(&socket);
            socket.connect(listener.local_addr()).unwrap();
            setup
                .world
                .wait_until("it is accepted", || !accepted.borrow().is_empty());
            setup
                .world
                .wait_until("it is connected", || told.is_connected());
            let peer = accepted.borrow_mut().pop().unwrap();
            let heard = &peer.log;
            assert_eq!(
                Some(setup.outside_ip),
                peer.socket.peer_addr().map(|peer| peer.ip())
            );
            peer.socket.send(b"down").unwrap();
            socket.send(b"up").unwrap();
            setup.world.wait_until("both arrive", || {
                told.data() == b"down" && heard.data() == b"up"
            });
            // A listener inside is not reached by the address outside, nor by its own.
            let address = SocketAddr::new(setup.inside_ip, 80);
            let options = ListenOptions::new(address);
            let _hidden = setup.inside.listen_tcp(&options).unwrap();
            for ip in [setup.outside_ip, setup.inside_ip] {
                let intruder = outside.server.tcp_socket(&TcpOptions::new()).unwrap();
                let told = follow(&intruder);
                intruder.connect(SocketAddr::new(ip, 80)).unwrap();
                setup.world.wait_until("it gives up", || told.is_closed());
                assert!(!told.is_connected());
            }
        }
    }
}

#[test]
fn item_39_a_connection_from_behind_a_server_of_a_nat_leaves_from_its_outside_address() {
    for family in [Family::V4, Family::V6] {
        let world = World::new(Kind::Physical, family);
        let outside_ip: IpAddr = match family {
            Family::V4 => [127, 0, 0, 9].into(),
            Family::V6 => family.loopback(),
        };
        let inside_ip = if outside_ip.is_ipv4() {
            "10.0.0.1"
        } else {
            "fd00::1"
        };
        let inside_ip = inside_ip.parse().unwrap();
        let inner = Rc::new(PhysicalSocketServer::new().unwrap());
        let nat = NatSocketServer::new(inner, NatType::Symmetric, inside_ip, outside_ip);
        let nat = world.serve(nat);
        let listener = world.place().listen();
        let accepted = accept_all(&listener);
        let socket = nat.tcp_socket(&TcpOptions::new()).unwrap();
        let told = follow(&socket);
        socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is connected", || told.is_connected());
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let peer = accepted.borrow_mut().pop().unwrap();
        assert_eq!(
            Some(outside_ip),
            peer.socket.peer_addr().map(|peer| peer.ip())
        );
        let heard = &peer.log;
        socket.send(b"out").unwrap();
        world.wait_until("it arrives", || heard.data() == b"out");
        let options = ListenOptions::new(SocketAddr::new(inside_ip, 0));
        let refused = nat.listen_tcp(&options).unwrap_err();
        assert_eq!(ErrorKind::Unsupported, refused.kind());
    }
}

#[test]
fn item_39_sockets_behind_a_server_of_a_nat_have_inside_addresses_only() {
    for kind in [Kind::Hosts, Kind::Physical] {
        let setup = Setup::new(kind, Family::V4, Place::InFront, NatType::FullCone);
        let bind = |address: SocketAddr| setup.inside.bind_udp(&UdpOptions::new(address));
        let at = |ip, port| SocketAddr::new(ip, port);
        let socket = bind(at(setup.inside_ip, 5000)).unwrap();
        assert_eq!(at(setup.inside_ip, 5000), socket.local_addr());
        let kind_of = |address| bind(address).unwrap_err().kind();
        assert_eq!(ErrorKind::AddrInUse, kind_of(at(setup.inside_ip, 5000)));
        assert_eq!(ErrorKind::AddrInUse, kind_of(at(Family::V4.any(), 5000)));
        let foreign = kind_of(at(setup.outside_ip, 0));
        assert_eq!(ErrorKind::AddrNotAvailable, foreign);
        assert!(bind(at(Family::V6.any(), 0)).is_err());
        drop(socket);
        bind(at(Family::V4.any(), 5000)).unwrap();
    }
}
