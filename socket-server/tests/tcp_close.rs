//! How TCP connections end: conformance item 28, and resets (+). (What handlers may do meanwhile is in
//! `tcp_callbacks.rs`.)

mod worlds;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{Delay, LinkOptions, ListenOptions, TcpState};

use worlds::tcp::{Event, Log, Peer, Record, accept_all, connect, listen, pair, pair_as, socket};
use worlds::{Kind, PATIENCE, in_every_world, in_physical_worlds};

const CLOSED: Event = Event::Closed(None);
const RESET: Event = Event::Closed(Some(ErrorKind::ConnectionReset));

#[test]
fn item_28_what_is_pending_is_read_before_the_end_which_is_told_once() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        let data = world.random().bytes(30_000);
        assert_eq!(data.len(), server.socket.send(&data).unwrap());
        server.socket.close();
        world.wait_until("it is closed", || client.log.is_closed());
        // By the time it was told, it had read everything.
        assert_eq!(data, client.log.data());
        assert_eq!(TcpState::Closed, client.socket.state());
        world.settle();
        assert_eq!(vec![Event::Connected, CLOSED], client.log.events());
        assert!(server.log.events().is_empty(), "who closes is not told");
        assert_eq!(0, server.log.readable_calls());
        // Nothing is left that could be read or told.
        let calls = client.log.readable_calls();
        world.settle();
        assert_eq!(calls, client.log.readable_calls());
        let over = client.socket.recv(&mut [0]).unwrap_err();
        assert_eq!(ErrorKind::NotConnected, over.kind());
    });
}

#[test]
fn item_28_pending_data_are_read_though_the_reader_takes_its_time() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        let read = Rc::new(RefCell::new(Vec::new()));
        let (log, to) = (Rc::<Log>::default(), read.clone());
        client.socket.set_handler(
            // A byte for every call, and so the end long after it has come.
            Record::with(&log, move |socket, event| {
                let mut byte = [0];
                if event == Event::Readable && socket.recv(&mut byte).is_ok_and(|n| n > 0) {
                    to.borrow_mut().push(byte[0]);
                }
            })
            .without_reading(),
        );
        server.socket.send(b"slowly").unwrap();
        server.socket.close();
        world.wait_until("it is closed", || log.is_closed());
        assert_eq!(b"slowly".to_vec(), *read.borrow());
        assert_eq!(vec![CLOSED], log.events());
    });
}

#[test]
fn item_28_the_address_of_the_peer_is_known_until_the_socket_is_closed() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let told = Rc::new(RefCell::new(None));
        let to = told.clone();
        let client = Peer::with(socket(world), move |socket, event| {
            if event == CLOSED {
                to.replace(socket.peer_addr());
            }
        });
        client.socket.connect(listener.local_addr()).unwrap();
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        accepted.borrow_mut().clear();
        world.wait_until("it is closed", || client.log.is_closed());
        assert_eq!(Some(listener.local_addr()), *told.borrow());
        assert_eq!(Some(listener.local_addr()), client.socket.peer_addr());
        assert!(client.socket.local_addr().is_err());
        client.socket.close();
        assert_eq!(None, client.socket.peer_addr());
    });
}

#[test]
fn item_28_a_handler_that_comes_late_hears_of_the_end() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        client.socket.clear_handler();
        server.socket.send(b"the end").unwrap();
        server.socket.close();
        world.settle();
        assert_eq!(
            TcpState::Connected,
            client.socket.state(),
            "as far as anybody was told"
        );
        let late = Rc::<Log>::default();
        client.socket.set_handler(Record::new(&late));
        assert!(late.events().is_empty(), "only in waits");
        world.wait_until("it is closed", || late.is_closed());
        assert_eq!(b"the end".to_vec(), late.data());
        assert_eq!(vec![Event::Connected], client.log.events());
    });
}

#[test]
fn item_28_a_client_that_goes_before_it_is_accepted_has_been_there() {
    in_every_world(|world| {
        let listener = listen(world);
        let client = connect(world, listener.local_addr());
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        let client_addr = client.socket.local_addr().unwrap();
        client.socket.send(b"was here").unwrap();
        client.socket.close();
        world.settle();
        let accepted = accept_all(&listener);
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let server = accepted.borrow_mut().remove(0);
        assert_eq!(Some(client_addr), server.socket.peer_addr());
        world.wait_until("it is closed", || server.log.is_closed());
        assert_eq!(b"was here".to_vec(), server.log.data());
        assert_eq!(vec![CLOSED], server.log.events());
        world.settle();
        assert!(accepted.borrow().is_empty());
    });
}

#[test]
fn item_28_a_client_that_resets_before_it_is_accepted_has_an_address_all_the_same() {
    in_physical_worlds(|world| {
        let listener = listen(world);
        let client = TcpStream::connect(listener.local_addr()).unwrap();
        let client_addr = client.local_addr().unwrap();
        socket2::SockRef::from(&client)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let accepted = accept_all(&listener);
        // Other systems than Linux keep such connections to themselves.
        if cfg!(target_os = "linux") {
            world.wait_until("it is accepted", || !accepted.borrow().is_empty());
            let server = accepted.borrow_mut().remove(0);
            assert_eq!(Some(client_addr), server.socket.peer_addr());
            world.wait_until("it is closed", || server.log.is_closed());
            assert_eq!(vec![RESET], server.log.events());
        }
        // The listener goes on.
        let next = connect(world, listener.local_addr());
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        assert!(!next.log.is_closed());
    });
}

#[test]
fn item_28_a_client_that_gives_up_during_the_handshake_hurts_nobody() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        for _ in 0..3 {
            let client = connect(world, listener.local_addr());
            client.socket.close();
            let late = Rc::new(client);
            world.settle();
            assert!(late.log.events().is_empty());
        }
        accepted.borrow_mut().clear();
        let good = connect(world, listener.local_addr());
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        world.wait_until("it is connected", || good.log.has(Event::Connected));
    });
}

#[test]
fn item_28_a_listener_that_is_closed_refuses_those_who_wait() {
    in_every_world(|world| {
        let listener = listen(world);
        let address = listener.local_addr();
        let waits = connect(world, address);
        world.wait_until("it waits", || waits.log.has(Event::Connected));
        world.settle();
        // And this one has not come yet.
        let comes = connect(world, address);
        drop(listener);
        world.wait_until("both are told", || {
            waits.log.is_closed() && comes.log.is_closed()
        });
        world.settle();
        assert_eq!(vec![Event::Connected, RESET], waits.log.events());
        assert_eq!(
            1,
            comes
                .log
                .events()
                .iter()
                .filter(|event| **event != Event::Connected)
                .count()
        );
        // The port is free for the next one, which is asked nothing about the past.
        let options = ListenOptions::new(address);
        let next = world.other_server().listen_tcp(&options).unwrap();
        let accepted = accept_all(&next);
        world.settle();
        assert!(accepted.borrow().is_empty());
        waits.socket.connect(address).unwrap();
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
    });
}

#[test]
fn item_28_a_listener_that_closes_amid_handshakes_leaves_nobody_in_doubt() {
    in_every_world(|world| {
        if world.kind == Kind::Hosts {
            // The handshake takes so long that a client is connected before the listener knows.
            let slow = LinkOptions::new().delay(Delay::Constant(Duration::from_millis(30)));
            for host in world.hosts() {
                host.uplink().set_options(slow.clone());
            }
        }
        let listener = listen(world);
        let clients: Vec<_> = (0..10)
            .map(|_| connect(world, listener.local_addr()))
            .collect();
        // As soon as the first one is there, when the others may be on their way.
        let closes = Rc::new(RefCell::new(Some(listener)));
        let log = clients[0].log.clone();
        clients[0]
            .socket
            .set_handler(Record::with(&log, move |_, event| {
                if event == Event::Connected {
                    closes.replace(None);
                }
            }));
        world.wait_until("all are told", || {
            clients.iter().all(|client| client.log.is_closed())
        });
        for client in &clients {
            assert_eq!(TcpState::Closed, client.socket.state());
        }
    });
}

#[test]
fn item_28_a_peer_that_drops_what_it_was_sent_is_an_error() {
    in_every_world(|world| {
        let (client, server) = pair_as(world, &<_>::default(), &<_>::default(), Peer::idle);
        client.socket.send(b"important").unwrap();
        world.settle();
        drop(server);
        world.wait_until("it is told", || client.log.is_closed());
        world.settle();
        assert_eq!(vec![Event::Connected, RESET], client.log.events());
        assert_eq!(TcpState::Closed, client.socket.state());
    });
}

#[test]
fn item_28_what_was_answered_before_a_reset_is_read_before_it_is_told() {
    in_every_world(|world| {
        let (client, server) = pair_as(world, &<_>::default(), &<_>::default(), Peer::idle);
        server.socket.send(b"the answer").unwrap();
        client.socket.clear_handler();
        client.socket.send(b"a question too late").unwrap();
        world.settle();
        drop(server);
        world.settle();
        let late = Rc::<Log>::default();
        client.socket.set_handler(Record::new(&late));
        world.wait_until("it is told", || late.is_closed());
        assert_eq!(b"the answer".to_vec(), late.data());
        assert_eq!(vec![RESET], late.events());
    });
}

#[test]
fn item_28_an_error_of_a_send_ends_the_connection_once_all_is_read() {
    in_every_world(|world| {
        for answer in ["", "the answer"] {
            let (client, server) = pair_as(world, &<_>::default(), &<_>::default(), Peer::idle);
            client.socket.clear_handler();
            if !answer.is_empty() {
                server.socket.send(answer.as_bytes()).unwrap();
            }
            client.socket.send(b"never read").unwrap();
            world.settle();
            server.socket.close();
            world.settle();
            let error = client.socket.send(b"y").unwrap_err();
            assert!(
                [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset].contains(&error.kind()),
                "{error}"
            );
            let again = client.socket.send(b"z").unwrap_err();
            assert_eq!(ErrorKind::BrokenPipe, again.kind());
            let late = Rc::<Log>::default();
            client.socket.set_handler(Record::new(&late));
            world.wait_until("it is told", || late.is_closed());
            world.settle();
            assert_eq!(answer.as_bytes(), late.data());
            assert_eq!(vec![Event::Closed(Some(error.kind()))], late.events());
            assert_eq!(TcpState::Closed, client.socket.state());
        }
    });
}

#[test]
fn item_28_a_plain_socket_of_the_system_sees_the_same_end() {
    in_physical_worlds(|world| {
        use std::io::{Read, Write};

        let listener = std::net::TcpListener::bind(world.other_address()).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let plain = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"hello").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            all
        });
        let client = connect(world, address);
        world.wait_until("it arrives", || client.log.data() == b"hello");
        client.socket.send(b"and goodbye").unwrap();
        client.socket.close();
        assert_eq!(b"and goodbye".to_vec(), plain.join().unwrap());
    });
}
