//! Connecting over TCP: conformance item 27. (Names are in `names.rs`.)

mod worlds;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;

use socket_server::{ListenOptions, TcpOptions, TcpState};

use worlds::tcp::{Event, Log, Peer, Record, accept_all, connect, listen, pair, socket};
use worlds::{World, between_virtual_hosts, in_every_world};

/// An address at which nobody listens.
fn deserted(world: &World) -> SocketAddr {
    listen(world).local_addr()
}

#[test]
fn item_27_a_connection_has_two_ends_that_know_each_other() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let client = Peer::new(socket(world));
        assert_eq!(TcpState::Closed, client.socket.state());
        assert_eq!(None, client.socket.peer_addr());
        let no_address = client.socket.local_addr().unwrap_err();
        assert_eq!(ErrorKind::NotConnected, no_address.kind());

        client.socket.connect(listener.local_addr()).unwrap();
        assert_eq!(TcpState::Connecting, client.socket.state());
        let too_early = client.socket.send(b"x").unwrap_err();
        assert_eq!(ErrorKind::NotConnected, too_early.kind());
        let too_early = client.socket.recv(&mut [0]).unwrap_err();
        assert_eq!(ErrorKind::NotConnected, too_early.kind());
        // Nothing is called but in waits.
        assert!(client.log.events().is_empty());
        assert!(accepted.borrow().is_empty());

        world.wait_until("it is accepted", || {
            client.socket.state() == TcpState::Connected && !accepted.borrow().is_empty()
        });
        world.settle();
        assert_eq!(vec![Event::Connected], client.log.events());
        assert_eq!(0, client.log.readable_calls());
        let server = &accepted.borrow()[0];
        assert_eq!(1, accepted.borrow().len());
        assert_eq!(TcpState::Connected, server.socket.state());
        assert!(server.log.events().is_empty());
        assert_eq!(0, server.log.readable_calls());

        assert_eq!(Some(listener.local_addr()), client.socket.peer_addr());
        assert_eq!(listener.local_addr(), server.socket.local_addr().unwrap());
        let client_addr = client.socket.local_addr().unwrap();
        assert_eq!(world.address().ip(), client_addr.ip());
        assert_eq!(Some(client_addr), server.socket.peer_addr());
    });
}

#[test]
fn item_27_what_is_sent_before_it_is_accepted_arrives() {
    in_every_world(|world| {
        let listener = listen(world);
        let client = connect(world, listener.local_addr());
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        assert_eq!(5, client.socket.send(b"early").unwrap());
        world.settle();
        let accepted = accept_all(&listener);
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let server = accepted.borrow_mut().remove(0);
        world.wait_until("it arrives", || server.log.data() == b"early");
    });
}

#[test]
fn item_27_an_address_of_ones_own_can_be_chosen() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let options = TcpOptions::new().local(world.address());
        let client = Peer::new(world.server().tcp_socket(&options).unwrap());
        client.socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let local = client.socket.local_addr().unwrap();
        assert_eq!(world.address().ip(), local.ip());
        assert_ne!(0, local.port());
        assert_eq!(Some(local), accepted.borrow()[0].socket.peer_addr());
    });
}

#[test]
fn item_27_a_port_without_a_listener_refuses() {
    in_every_world(|world| {
        let client = connect(world, deserted(world));
        assert_eq!(TcpState::Connecting, client.socket.state());
        world.wait_until("it is refused", || client.log.is_closed());
        world.settle();
        let refused = Event::Closed(Some(ErrorKind::ConnectionRefused));
        assert_eq!(vec![refused], client.log.events());
        assert_eq!(0, client.log.readable_calls());
        assert_eq!(TcpState::Closed, client.socket.state());
        assert!(client.socket.local_addr().is_err());
    });
}

#[test]
fn item_27_an_address_that_nobody_has_times_out() {
    between_virtual_hosts(|world| {
        let mut nobody = world.other_address();
        nobody.set_ip(match nobody.ip() {
            std::net::IpAddr::V4(_) => [203, 0, 113, 1].into(),
            std::net::IpAddr::V6(_) => [0x2001, 0xdb8, 9, 9, 9, 9, 9, 9].into(),
        });
        nobody.set_port(1000);
        let client = connect(world, nobody);
        world.wait_until("it gives up", || client.log.is_closed());
        let timed_out = Event::Closed(Some(ErrorKind::TimedOut));
        assert_eq!(vec![timed_out], client.log.events());
    });
}

#[test]
fn item_27_what_is_found_out_at_once_is_an_error_and_no_event() {
    in_every_world(|world| {
        // No address of the other family leads there.
        let other_family: SocketAddr = match world.other_address() {
            SocketAddr::V4(_) => "[::1]:0",
            SocketAddr::V6(_) => "127.0.0.1:0",
        }
        .parse()
        .unwrap();
        let listener = listen(world);
        let options = TcpOptions::new().local(other_family);
        let client = Peer::new(world.server().tcp_socket(&options).unwrap());
        assert!(client.socket.connect(listener.local_addr()).is_err());
        assert_eq!(TcpState::Closed, client.socket.state());
        assert_eq!(None, client.socket.peer_addr());
        world.settle();
        assert!(client.log.events().is_empty());
    });
}

#[test]
fn item_27_a_socket_that_was_closed_connects_again() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let client = connect(world, listener.local_addr());
        for round in 1..=3 {
            world.wait_until("it is accepted", || accepted.borrow().len() == round);
            world.wait_until("it is connected", || {
                client.socket.state() == TcpState::Connected
            });
            client.socket.send(&[round as u8]).unwrap();
            world.wait_until("it arrives", || {
                accepted.borrow()[round - 1].log.received() == 1
            });
            client.socket.close();
            assert_eq!(TcpState::Closed, client.socket.state());
            assert_eq!(None, client.socket.peer_addr());
            client.socket.connect(listener.local_addr()).unwrap();
        }
        // And in the midst of connecting, and after having been refused.
        client.socket.close();
        client.socket.connect(deserted(world)).unwrap();
        world.wait_until("it is refused", || client.log.is_closed());
        client.socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is connected", || {
            client.socket.state() == TcpState::Connected
        });
        world.settle();
        let mut expected = vec![Event::Connected; 3];
        expected.push(Event::Closed(Some(ErrorKind::ConnectionRefused)));
        expected.push(Event::Connected);
        assert_eq!(expected, client.log.events());
    });
}

#[test]
fn item_27_a_socket_that_is_not_closed_does_not_connect_and_goes_on() {
    in_every_world(|world| {
        let elsewhere = listen(world);
        let nowhere = accept_all(&elsewhere);
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let client = connect(world, listener.local_addr());
        let port = elsewhere.local_addr().port();
        let refused = |when: &str| {
            let by_address = client.socket.connect(elsewhere.local_addr());
            assert_eq!(
                ErrorKind::AlreadyExists,
                by_address.unwrap_err().kind(),
                "{when}"
            );
            for name in ["localhost", "there", "name.invalid"] {
                let by_name = client.socket.connect((name, port));
                assert_eq!(
                    ErrorKind::AlreadyExists,
                    by_name.unwrap_err().kind(),
                    "{when}"
                );
            }
            assert_eq!(
                Some(listener.local_addr()),
                client.socket.peer_addr(),
                "{when}"
            );
        };
        refused("connecting");
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        refused("connected");
        client.socket.send(b"still here").unwrap();
        let server = accepted.borrow_mut().remove(0);
        refused("sending");
        world.wait_until("it arrives", || server.log.data() == b"still here");
        world.settle();
        assert_eq!(vec![Event::Connected], client.log.events());
        assert!(nowhere.borrow().is_empty());
    });
}

#[test]
fn item_27_what_was_sent_before_closing_still_arrives() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        assert_eq!(8, client.socket.send(b"farewell").unwrap());
        client.socket.close();
        let closed = client.socket.send(b"x").unwrap_err();
        assert_eq!(ErrorKind::NotConnected, closed.kind());
        world.wait_until("it is closed", || server.log.is_closed());
        assert_eq!(b"farewell", &server.log.data()[..]);
        assert_eq!(vec![Event::Closed(None)], server.log.events());
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}

#[test]
fn item_27_an_attempt_that_is_given_up_calls_nothing() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let closed = connect(world, listener.local_addr());
        closed.socket.close();
        let dropped = connect(world, listener.local_addr());
        let log = dropped.log.clone();
        drop(dropped);
        let refused = connect(world, deserted(world));
        refused.socket.close();
        world.settle();
        for log in [&closed.log, &log, &refused.log] {
            assert!(log.events().is_empty());
            assert_eq!(0, log.readable_calls());
        }
        // What has come in of them has ended.
        for server in accepted.borrow().iter() {
            assert_eq!(TcpState::Closed, server.socket.state());
        }
    });
}

#[test]
fn item_27_who_sets_a_handler_late_hears_of_the_connection() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let client = socket(world);
        client.connect(listener.local_addr()).unwrap();
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        accepted.borrow()[0].socket.send(b"hello").unwrap();
        world.settle();
        let client = Peer::new(client);
        assert!(client.log.events().is_empty(), "only in waits");
        world.wait_until("it is told, and reads", || client.log.data() == b"hello");
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}

#[test]
fn item_27_many_connect_at_once() {
    in_every_world(|world| {
        let listener = world
            .other_server()
            .listen_tcp(&ListenOptions::new(world.other_address()).backlog(200))
            .unwrap();
        let accepted = accept_all(&listener);
        let clients: Vec<_> = (0..100)
            .map(|_| connect(world, listener.local_addr()))
            .collect();
        world.wait_until("all are connected", || {
            accepted.borrow().len() == clients.len()
                && clients
                    .iter()
                    .all(|client| client.log.has(Event::Connected))
        });
        for (n, client) in clients.iter().enumerate() {
            client.socket.send(&[n as u8]).unwrap();
        }
        world.wait_until("all have sent", || {
            accepted
                .borrow()
                .iter()
                .all(|server| server.log.received() > 0)
        });
        for server in accepted.borrow().iter() {
            let n = usize::from(server.log.data()[0]);
            let client = clients[n].socket.local_addr().unwrap();
            assert_eq!(Some(client), server.socket.peer_addr());
        }
    });
}

#[test]
fn item_27_an_ipv6_listener_takes_ipv4_unless_it_may_not() {
    in_every_world(|world| {
        let SocketAddr::V6(_) = world.address() else {
            return;
        };
        let any: SocketAddr = "[::]:0".parse().unwrap();
        for only_v6 in [false, true] {
            let options = ListenOptions::new(any).only_v6(only_v6);
            let listener = world.server().listen_tcp(&options).unwrap();
            let accepted = accept_all(&listener);
            let port = listener.local_addr().port();
            let client = connect(world, SocketAddr::from(([127, 0, 0, 1], port)));
            world.wait_until("it is decided", || !client.log.events().is_empty());
            world.settle();
            assert_eq!(only_v6, client.log.is_closed());
            assert_eq!(usize::from(!only_v6), accepted.borrow().len());
            if let Some(server) = accepted.borrow().first() {
                let peer = server.socket.peer_addr().unwrap();
                assert_eq!("::ffff:127.0.0.1", peer.ip().to_string());
            }
        }
    });
}

#[test]
fn item_27_a_handler_may_start_the_next_attempt() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let (log, good) = (Rc::<Log>::default(), listener.local_addr());
        let client = socket(world);
        let said = Rc::new(RefCell::new(Vec::new()));
        let states = said.clone();
        client.set_handler(Record::with(&log, move |socket, event| {
            states.borrow_mut().push(socket.state());
            if let Event::Closed(_) = event {
                socket.connect(good).unwrap();
            }
        }));
        client.connect(deserted(world)).unwrap();
        world.wait_until("the second works", || log.has(Event::Connected));
        world.wait_until("it is accepted", || accepted.borrow().len() == 1);
        let refused = Event::Closed(Some(ErrorKind::ConnectionRefused));
        assert_eq!(vec![refused, Event::Connected], log.events());
        assert_eq!(vec![TcpState::Closed, TcpState::Connected], *said.borrow());
    });
}
