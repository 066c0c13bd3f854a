//! Firewalls in front of both servers: conformance item 39.

mod worlds;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use socket_server::{
    Direction, Envelope, Firewall, FirewallRule, FirewallSocketServer, ListenOptions, Protocol,
    TcpOptions, UdpOptions,
};
use worlds::tcp::{accept_all, follow};
use worlds::udp::{Inbox, collect, texts};
use worlds::{Place, World, in_every_world};

/// A server behind a firewall, and somebody else.
struct Setup {
    firewall: Rc<Firewall>,
    behind: Place,
    other: Place,
}

fn setup(world: &World) -> Setup {
    let (place, other) = (world.place(), world.place());
    let firewall = Rc::new(Firewall::new());
    let server = FirewallSocketServer::new(place.server.clone(), firewall.clone());
    let behind = Place {
        server: Rc::new(server),
        ..place
    };
    Setup {
        firewall,
        behind,
        other,
    }
}

/// Expects a datagram to pass, or not to.
#[track_caller]
fn assert_passes(world: &World, passes: bool, inbox: &Inbox) {
    match passes {
        true => world.wait_until("it arrives", || !inbox.borrow().is_empty()),
        false => world.settle_soon(|| !inbox.borrow().is_empty()),
    }
    assert_eq!(passes, !inbox.borrow().is_empty());
}

/// Sends from behind the firewall to the other, under rules for a source and a destination.
#[track_caller]
fn goes_out(
    world: &World,
    setup: &Setup,
    passes: bool,
    rules: impl FnOnce(SocketAddr, SocketAddr),
) {
    let (socket, other) = (setup.behind.bind(), setup.other.bind());
    let inbox = collect(&other);
    rules(socket.local_addr(), other.local_addr());
    socket
        .send_to(other.local_addr(), b"out")
        .expect("a denied datagram is as good as sent");
    assert_passes(world, passes, &inbox);
    setup.firewall.clear();
}

/// Sends to a socket behind the firewall, under rules for a source and a destination.
#[track_caller]
fn comes_in(
    world: &World,
    setup: &Setup,
    passes: bool,
    rules: impl FnOnce(SocketAddr, SocketAddr),
) {
    let (socket, other) = (setup.behind.bind(), setup.other.bind());
    let inbox = collect(&socket);
    rules(other.local_addr(), socket.local_addr());
    other.send_to(socket.local_addr(), b"in").unwrap();
    assert_passes(world, passes, &inbox);
    setup.firewall.clear();
}

#[test]
fn item_39_without_rules_everything_passes() {
    in_every_world(|world| {
        let setup = setup(world);
        goes_out(world, &setup, true, |_, _| {});
        comes_in(world, &setup, true, |_, _| {});
    });
}

/// Makes a rule, for a source, a destination, and an address that nobody has.
type MakeRule = fn(SocketAddr, SocketAddr, IpAddr) -> FirewallRule;

fn deny() -> FirewallRule {
    FirewallRule::deny()
}

#[test]
fn item_39_a_rule_is_about_what_it_names() {
    in_every_world(|world| {
        let setup = setup(world);
        let nobody: IpAddr = match setup.other.ip {
            IpAddr::V4(_) => [203, 0, 113, 1].into(),
            IpAddr::V6(_) => "2001:db8:77::1".parse().unwrap(),
        };
        // Whether a rule, made for a source and a destination, is about a datagram between them.
        let cases: [(MakeRule, bool); 14] = [
            (|_, _, _| deny(), true),
            (|_, _, _| deny().protocol(Protocol::Udp), true),
            (|_, _, _| deny().protocol(Protocol::Tcp), false),
            (|from, _, _| deny().source(from.ip(), None), true),
            (|_, _, nobody| deny().source(nobody, None), false),
            (|from, _, _| deny().source(None, from.port()), true),
            (|from, _, _| deny().source(None, from.port() ^ 1), false),
            (|from, _, _| deny().source(from.ip(), from.port()), true),
            (|from, _, nobody| deny().source(nobody, from.port()), false),
            (|_, to, _| deny().destination(to.ip(), None), true),
            (|_, _, nobody| deny().destination(nobody, None), false),
            (|_, to, _| deny().destination(None, to.port()), true),
            (|_, to, _| deny().destination(to.ip(), to.port() ^ 1), false),
            (
                |from, to, _| {
                    let from_there = deny().source(from.ip(), from.port());
                    from_there.destination(to.ip(), to.port())
                },
                true,
            ),
        ];
        for (n, (rule, is_about)) in cases.into_iter().enumerate() {
            let firewall = &setup.firewall;
            println!("case {n}, out");
            goes_out(world, &setup, !is_about, |from, to| {
                firewall.add(rule(from, to, nobody));
            });
            println!("case {n}, in");
            comes_in(world, &setup, !is_about, |from, to| {
                firewall.add(rule(from, to, nobody));
            });
        }
        let only_out = deny().direction(Direction::Out);
        goes_out(world, &setup, false, |_, _| setup.firewall.add(only_out));
        comes_in(world, &setup, true, |_, _| setup.firewall.add(only_out));
        let only_in = deny().direction(Direction::In);
        goes_out(world, &setup, true, |_, _| setup.firewall.add(only_in));
        comes_in(world, &setup, false, |_, _| setup.firewall.add(only_in));
    });
}

#[test]
fn item_39_the_first_rule_that_is_about_something_decides() {
    in_every_world(|world| {
        let setup = setup(world);
        let (deny, allow) = (FirewallRule::deny(), FirewallRule::allow());
        let firewall = &setup.firewall;
        goes_out(world, &setup, true, |_, to| {
            firewall.add(allow.destination(None, to.port()));
            firewall.add(deny);
        });
        goes_out(world, &setup, false, |_, to| {
            firewall.add(deny);
            firewall.add(allow.destination(None, to.port()));
        });
        comes_in(world, &setup, false, |from, _| {
            firewall.add(allow.source(None, from.port() ^ 1));
            firewall.add(deny.protocol(Protocol::Udp));
            firewall.add(allow);
        });
    });
}

#[test]
fn item_39_rules_that_change_hold_from_then_on() {
    in_every_world(|world| {
        let setup = setup(world);
        let (socket, other) = (setup.behind.bind(), setup.other.bind());
        let (inbox, theirs) = (collect(&socket), collect(&other));
        for (n, is_denied) in [false, true, false, true, false].into_iter().enumerate() {
            match is_denied {
                true => setup.firewall.add(FirewallRule::deny()),
                false => setup.firewall.clear(),
            }
            let text = format!("{n}");
            socket.send_to(other.local_addr(), text.as_bytes()).unwrap();
            other.send_to(socket.local_addr(), text.as_bytes()).unwrap();
            match is_denied {
                // It is read, and turned away, before the rules change again.
                true => world.settle(),
                false => world.wait_until("they arrive", || {
                    let last = Some(&text);
                    texts(&inbox).last() == last && texts(&theirs).last() == last
                }),
            }
        }
        assert_eq!(["0", "2", "4"], *texts(&inbox));
        assert_eq!(["0", "2", "4"], *texts(&theirs));
    });
}

/// Who reads one datagram at a time, is not told of those that are turned away either.
#[test]
fn item_39_a_single_read_passes_over_what_is_denied() {
    in_every_world(|world| {
        let setup = setup(world);
        let (socket, stranger) = (setup.behind.bind(), setup.other.bind());
        let friend = setup.other.bind();
        let port = stranger.local_addr().port();
        setup.firewall.add(FirewallRule::deny().source(None, port));
        for _ in 0..3 {
            stranger.send_to(socket.local_addr(), b"strange").unwrap();
        }
        friend.send_to(socket.local_addr(), b"friendly").unwrap();
        let (mut buffer, mut read) = ([0; 20], None);
        world.wait_until("there is something to read", || {
            read = socket.recv_from(&mut buffer).ok();
            read.is_some()
        });
        assert_eq!(b"friendly", &buffer[..read.unwrap().len]);
        let nothing = socket.recv_from(&mut buffer).unwrap_err();
        assert_eq!(ErrorKind::WouldBlock, nothing.kind());
    });
}

#[test]
fn item_39_an_address_that_a_sender_chooses_counts_as_the_source() {
    in_every_world(|world| {
        let setup = setup(world);
        let any = SocketAddr::new(world.family.any(), 0);
        let (socket, other) = (setup.behind.bind_at(any), setup.other.bind());
        let inbox = collect(&other);
        setup
            .firewall
            .add(FirewallRule::deny().source(setup.behind.ip, None));
        let to = Envelope::to(other.local_addr());
        socket
            .send_to(to.from_ip(setup.behind.ip), b"denied")
            .unwrap();
        setup.firewall.clear();
        socket
            .send_to(to.from_ip(setup.behind.ip), b"allowed")
            .unwrap();
        world.wait_until("one arrives", || !inbox.borrow().is_empty());
        assert_eq!(["allowed"], *texts(&inbox));
    });
}

#[test]
fn item_39_a_connection_that_may_not_be_made_is_an_error() {
    in_every_world(|world| {
        let setup = setup(world);
        let listener = setup.other.listen();
        let accepted = accept_all(&listener);
        let port = listener.local_addr().port();
        let to_port = FirewallRule::deny().destination(None, port);
        setup
            .firewall
            .add(to_port.protocol(Protocol::Tcp).direction(Direction::Out));
        let socket = setup.behind.server.tcp_socket(&TcpOptions::new()).unwrap();
        let told = follow(&socket);
        let denied = socket.connect(listener.local_addr()).unwrap_err();
        assert_eq!(ErrorKind::HostUnreachable, denied.kind());
        world.settle();
        assert!(accepted.borrow().is_empty());
        setup.firewall.clear();
        socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is connected", || told.is_connected());
        // A rule that comes later is about connections that come later.
        setup.firewall.add(FirewallRule::deny());
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let heard = accepted.borrow()[0].log.clone();
        socket.send(b"still there").unwrap();
        world.wait_until("it arrives", || heard.data() == b"still there");
    });
}

#[test]
fn item_39_a_connection_that_may_not_come_in_is_closed_and_not_accepted() {
    in_every_world(|world| {
        let setup = setup(world);
        let any = SocketAddr::new(world.family.any(), 0);
        let listeners = [SocketAddr::new(setup.behind.ip, 0), any].map(|address| {
            let options = ListenOptions::new(address);
            setup.behind.server.listen_tcp(&options).unwrap()
        });
        for listener in listeners {
            let accepted = accept_all(&listener);
            let to = SocketAddr::new(setup.behind.ip, listener.local_addr().port());
            let incoming = FirewallRule::deny().direction(Direction::In);
            for rule in [incoming, incoming.destination(to.ip(), to.port())] {
                setup.firewall.add(rule);
                let socket = setup.other.server.tcp_socket(&TcpOptions::new()).unwrap();
                let told = follow(&socket);
                socket.connect(to).unwrap();
                world.wait_until("it is closed", || told.is_closed());
                assert!(accepted.borrow().is_empty(), "in spite of: {rule}");
                setup.firewall.clear();
                let socket = setup.other.server.tcp_socket(&TcpOptions::new()).unwrap();
                let _told = follow(&socket);
                socket.connect(to).unwrap();
                world.wait_until("the next is accepted", || {
                    accepted.borrow_mut().pop().is_some()
                });
            }
        }
    });
}

#[test]
fn item_39_kinds_of_sockets_can_be_switched_off() {
    in_every_world(|world| {
        let setup = setup(world);
        let (firewall, server) = (&setup.firewall, &setup.behind.server);
        let address = SocketAddr::new(setup.behind.ip, 0);
        let udp = || server.bind_udp(&UdpOptions::new(address)).map(drop);
        let tcp = || server.tcp_socket(&TcpOptions::new()).map(drop);
        let listen = || server.listen_tcp(&ListenOptions::new(address)).map(drop);
        let works = || [udp().is_ok(), tcp().is_ok(), listen().is_ok()];
        assert_eq!([true, true, true], works());
        firewall.set_udp_enabled(false);
        assert_eq!([false, true, true], works());
        assert_eq!(ErrorKind::PermissionDenied, udp().unwrap_err().kind());
        firewall.set_udp_enabled(true);
        firewall.set_tcp_enabled(false);
        assert_eq!([true, false, false], works());
        firewall.set_tcp_enabled(true);
        firewall.set_listening_enabled(false);
        assert_eq!([true, true, false], works());
        firewall.set_listening_enabled(true);
        assert_eq!([true, true, true], works());
    });
}

#[test]
fn item_39_no_socket_is_bound_to_an_address_that_may_not_be_used() {
    in_every_world(|world| {
        let setup = setup(world);
        let server = &setup.behind.server;
        let at = |ip| {
            let address = SocketAddr::new(ip, 0);
            let options = TcpOptions::new().local(address);
            [
                server.bind_udp(&UdpOptions::new(address)).is_ok(),
                server.tcp_socket(&options).is_ok(),
                server.listen_tcp(&ListenOptions::new(address)).is_ok(),
            ]
        };
        setup.firewall.set_unbindable([setup.behind.ip]);
        assert_eq!([false; 3], at(setup.behind.ip));
        if let IpAddr::V4(ip) = setup.behind.ip {
            assert_eq!([false; 3], at(ip.to_ipv6_mapped().into()));
        }
        assert_eq!([true; 3], at(world.family.any()));
        setup.firewall.set_unbindable([world.family.any()]);
        assert_eq!([true; 3], at(setup.behind.ip));
        assert_eq!([false; 3], at(world.family.any()));
        setup.firewall.set_unbindable([]);
        assert_eq!([true; 3], at(world.family.any()));
    });
}
