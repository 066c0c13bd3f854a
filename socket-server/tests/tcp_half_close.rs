//! Ends that finish while the other goes on (+).

mod worlds;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use socket_server::{TcpOptions, TcpSocket, TcpState};

use worlds::tcp::{Event, Log, Peer, Record, pair_as};
use worlds::{World, in_every_world, in_virtual_worlds};

const CLOSED: Event = Event::Closed(None);

fn half_open() -> TcpOptions {
    TcpOptions::new().half_open(true)
}

fn half_open_pair(world: &World) -> (Peer, Peer) {
    pair_as(world, &half_open(), &half_open(), Peer::new)
}

#[test]
fn a_peer_that_has_finished_can_still_be_sent_to() {
    in_every_world(|world| {
        let (client, server) = half_open_pair(world);
        client.socket.send(b"a question").unwrap();
        client.socket.finish().unwrap();
        client.socket.finish().unwrap();
        let no_more = client.socket.send(b"x").unwrap_err();
        assert_eq!(ErrorKind::BrokenPipe, no_more.kind());
        world.wait_until("it has come to the end", || server.log.has(Event::Finished));
        assert_eq!(b"a question".to_vec(), server.log.data());
        world.settle();
        assert_eq!(vec![Event::Finished], server.log.events());
        assert_eq!(TcpState::Connected, server.socket.state());
        assert_eq!(
            0,
            server.socket.recv(&mut [0; 10]).unwrap(),
            "the end stays the end"
        );

        // Enough to fill the buffers, so that there is news of room while the end has been read.
        let answer = world.random().bytes(3 << 20);
        let (sent, data) = (Rc::new(RefCell::new(0)), answer.clone());
        let send = move |socket: &TcpSocket| {
            let mut sent = sent.borrow_mut();
            while *sent < data.len() {
                match socket.send(&data[*sent..]) {
                    Ok(length) => *sent += length,
                    Err(_) => return,
                }
            }
        };
        let (log, again) = (Rc::<Log>::default(), send.clone());
        server
            .socket
            .set_handler(Record::with(&log, move |socket, event| {
                if event == Event::Writable {
                    again(socket);
                }
            }));
        send(&server.socket);
        world.wait_until("it is answered", || client.log.received() == answer.len());
        assert!(answer == client.log.data());
        world.settle();
        assert_eq!(
            0,
            log.readable_calls(),
            "there is nothing to be read any more"
        );
        assert!(log.events().iter().all(|event| *event == Event::Writable));
        assert_eq!(vec![Event::Connected], client.log.events());

        server.socket.finish().unwrap();
        world.wait_until("both are over", || {
            client.log.is_closed() && log.is_closed()
        });
        world.settle();
        // Its own end is known, so that it is not told of the other's as such.
        assert_eq!(vec![Event::Connected, CLOSED], client.log.events());
        assert_eq!(vec![CLOSED], log.events().split_off(log.events().len() - 1));
        assert_eq!(TcpState::Closed, server.socket.state());
        assert_eq!(0, log.readable_calls());
    });
}

#[test]
fn both_may_finish_at_once() {
    in_every_world(|world| {
        let (client, server) = half_open_pair(world);
        for peer in [&client, &server] {
            peer.socket.send(b"bye").unwrap();
            peer.socket.finish().unwrap();
        }
        world.wait_until("both are over", || {
            client.log.is_closed() && server.log.is_closed()
        });
        world.settle();
        assert_eq!(vec![Event::Connected, CLOSED], client.log.events());
        assert_eq!(vec![CLOSED], server.log.events());
        assert_eq!(b"bye".to_vec(), client.log.data());
        assert_eq!(b"bye".to_vec(), server.log.data());
    });
}

#[test]
fn a_handler_may_finish_when_it_hears_that_the_peer_has() {
    in_every_world(|world| {
        let finishing = |socket| {
            Peer::with(socket, |socket: &TcpSocket, event| {
                if event == Event::Finished {
                    socket.send(b"me too").unwrap();
                    socket.finish().unwrap();
                }
            })
        };
        let (client, server) = pair_as(world, &half_open(), &half_open(), finishing);
        client.socket.finish().unwrap();
        world.wait_until("both are over", || {
            client.log.is_closed() && server.log.is_closed()
        });
        world.settle();
        assert_eq!(vec![Event::Finished, CLOSED], server.log.events());
        assert_eq!(vec![Event::Connected, CLOSED], client.log.events());
        assert_eq!(b"me too".to_vec(), client.log.data());
    });
}

#[test]
fn a_socket_that_may_not_be_half_open_closes_with_its_peer() {
    in_every_world(|world| {
        let (client, server) = pair_as(world, &half_open(), &TcpOptions::new(), Peer::new);
        client.socket.send(b"the last").unwrap();
        client.socket.finish().unwrap();
        world.wait_until("both are over", || {
            client.log.is_closed() && server.log.is_closed()
        });
        world.settle();
        assert_eq!(b"the last".to_vec(), server.log.data());
        assert_eq!(vec![CLOSED], server.log.events());
        assert_eq!(vec![Event::Connected, CLOSED], client.log.events());
    });
}

#[test]
fn a_half_open_socket_without_a_handler_waits_for_one() {
    in_every_world(|world| {
        let (client, server) = pair_as(world, &half_open(), &half_open(), Peer::idle);
        client.socket.finish().unwrap();
        world.settle();
        let server = Peer::new(server.socket);
        world.wait_until("it is told", || server.log.has(Event::Finished));
        world.settle();
        assert_eq!(vec![Event::Finished], server.log.events());
        let calls = server.log.readable_calls();
        world.settle();
        assert_eq!(calls, server.log.readable_calls());
    });
}

#[test]
fn a_peer_that_finishes_and_then_goes_away_is_noticed() {
    in_every_world(|world| {
        let (client, server) = half_open_pair(world);
        client.socket.finish().unwrap();
        world.wait_until("it has finished", || server.log.has(Event::Finished));
        client.socket.close();
        world.settle();
        // Who has gone can only say so when it is sent something.
        assert_eq!(vec![Event::Finished], server.log.events());
        server.socket.send(b"anybody there?").unwrap();
        world.wait_until("it is noticed", || server.log.is_closed());
        world.settle();
        let broken = Event::Closed(Some(ErrorKind::BrokenPipe));
        assert_eq!(vec![Event::Finished, broken], server.log.events());
    });
}

#[test]
fn an_end_that_has_finished_hears_of_a_reset() {
    in_every_world(|world| {
        let (client, server) = pair_as(world, &half_open(), &half_open(), Peer::idle);
        client.socket.send(b"unread").unwrap();
        client.socket.finish().unwrap();
        world.settle();
        drop(server);
        world.wait_until("it is told", || client.log.is_closed());
        world.settle();
        let reset = Event::Closed(Some(ErrorKind::ConnectionReset));
        assert_eq!(vec![Event::Connected, reset], client.log.events());
    });
}

#[test]
fn a_finished_socket_connects_again_as_a_fresh_one() {
    in_every_world(|world| {
        for _ in 0..2 {
            let (client, server) = half_open_pair(world);
            server.socket.finish().unwrap();
            world.wait_until("it has finished", || client.log.has(Event::Finished));
            client.socket.finish().unwrap();
            world.wait_until("it is over", || client.log.is_closed());
            let listener = worlds::tcp::listen(world);
            let accepted = worlds::tcp::accept_all(&listener);
            client.socket.connect(listener.local_addr()).unwrap();
            world.wait_until("it is accepted", || !accepted.borrow().is_empty());
            world.wait_until("it is connected", || {
                client.socket.state() == TcpState::Connected
            });
            assert_eq!(5, client.socket.send(b"fresh").unwrap());
            let again = accepted.borrow_mut().remove(0);
            world.wait_until("it arrives", || again.log.data() == b"fresh");
            again.socket.send(b"back").unwrap();
            world.wait_until("it arrives", || client.log.data() == b"back");
        }
    });
}

#[test]
fn the_network_forgets_connections_that_are_over() {
    in_virtual_worlds(|world| {
        let (client, server) = half_open_pair(world);
        client.socket.finish().unwrap();
        server.socket.finish().unwrap();
        world.wait_until("both are over", || {
            client.log.is_closed() && server.log.is_closed()
        });
        world.settle();
        assert_eq!(None, world.network().next_event());
    });
}
