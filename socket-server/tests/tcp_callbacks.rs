//! What handlers of TCP sockets and listeners may do while they run: conformance item 28.

mod worlds;

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use socket_server::{TcpListener, TcpSocket, TcpState};

use worlds::in_every_world;
use worlds::tcp::{
    Event, Log, OnIncoming, Peer, Record, accept_all, connect, listen, pair, socket,
};

const CLOSED: Event = Event::Closed(None);

/// Something that a handler may drop.
type Kept<T> = Rc<RefCell<Option<T>>>;

#[test]
fn item_28_a_socket_may_be_closed_when_it_hears_that_it_is() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        let log = Rc::<Log>::default();
        client
            .socket
            .set_handler(Record::with(&log, |socket, event| {
                if let Event::Closed(_) = event {
                    socket.close();
                    assert_eq!(TcpState::Closed, socket.state());
                    assert_eq!(None, socket.peer_addr());
                }
            }));
        server.socket.close();
        world.wait_until("it is closed", || log.is_closed());
        world.settle();
        assert_eq!(vec![CLOSED], log.events());
    });
}

#[test]
fn item_28_a_socket_may_connect_again_when_it_hears_that_it_is_closed() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let address = listener.local_addr();
        for by_name in [false, true] {
            let client = Peer::with(socket(world), move |socket, event| {
                if let Event::Closed(_) = event {
                    match by_name {
                        // A literal, because not all systems have names for both families.
                        true => socket.connect((&*address.ip().to_string(), address.port())),
                        false => socket.connect(address),
                    }
                    .unwrap();
                }
            });
            client.socket.connect(address).unwrap();
            for round in 1..=3 {
                world.wait_until("it is accepted", || !accepted.borrow().is_empty());
                let server = accepted.borrow_mut().remove(0);
                server.socket.send(&[round]).unwrap();
                drop(server);
                world.wait_until("it arrives", || client.log.received() == usize::from(round));
            }
            world.wait_until("it is connected again", || client.log.events().len() == 7);
            world.settle();
            let mut expected = [Event::Connected, CLOSED].repeat(3);
            expected.push(Event::Connected);
            assert_eq!(expected, client.log.events());
            assert_eq!(vec![1, 2, 3], client.log.data());
            drop(client);
            world.settle();
            accepted.borrow_mut().clear();
        }
    });
}

#[test]
fn item_28_a_socket_may_be_dropped_in_any_of_its_callbacks_and_hears_no_more() {
    in_every_world(|world| {
        for drop_at in [Event::Connected, Event::Readable, CLOSED] {
            let listener = listen(world);
            let accepted = accept_all(&listener);
            let (kept, log) = (Kept::<TcpSocket>::default(), Rc::<Log>::default());
            let own = kept.clone();
            let client = socket(world);
            client.set_handler(Record::with(&log, move |socket, event| {
                if event == drop_at {
                    own.replace(None);
                    assert_eq!(TcpState::Closed, socket.state());
                    assert!(socket.send(b"x").is_err());
                }
            }));
            client.connect(listener.local_addr()).unwrap();
            kept.replace(Some(client));
            world.wait_until("it is accepted", || !accepted.borrow().is_empty());
            let server = accepted.borrow_mut().remove(0);
            // The end comes with the data, and there would be much to tell.
            let _ = server.socket.send(b"x");
            server.socket.close();
            world.wait_until("it is dropped", || kept.borrow().is_none());
            world.settle();
            let expected = match drop_at {
                CLOSED => vec![Event::Connected, CLOSED],
                _ => vec![Event::Connected],
            };
            assert_eq!(expected, log.events(), "{drop_at:?}");
        }
    });
}

#[test]
fn item_28_another_socket_that_is_ready_may_be_dropped_in_a_callback() {
    in_every_world(|world| {
        let (one, one_there) = pair(world);
        let (two, two_there) = pair(world);
        let [one, two] = [one, two].map(|peer| {
            let log = Rc::<Log>::default();
            (Rc::new(RefCell::new(Some(peer.socket))), log)
        });
        // Whoever is first drops the other.
        for (own, other) in [(&one, &two), (&two, &one)] {
            let victim = other.0.clone();
            let record = Record::with(&own.1, move |_, _| {
                victim.replace(None);
            });
            own.0.borrow().as_ref().unwrap().set_handler(record);
        }
        one_there.socket.send(b"1").unwrap();
        two_there.socket.send(b"2").unwrap();
        world.wait_until("one of them is gone", || {
            one.0.borrow().is_none() || two.0.borrow().is_none()
        });
        world.settle();
        assert_eq!(1, one.1.received() + two.1.received());
    });
}

#[test]
fn item_28_a_listener_may_be_dropped_in_callbacks_of_its_own_and_of_others() {
    in_every_world(|world| {
        let listener = listen(world);
        let address = listener.local_addr();
        let kept: Kept<TcpListener> = Rc::new(RefCell::new(None));
        let accepted = Rc::new(RefCell::new(Vec::new()));
        let (own, to) = (kept.clone(), accepted.clone());
        listener.set_handler(OnIncoming(move |listener: &TcpListener| {
            if let Ok(socket) = listener.accept() {
                to.borrow_mut().push(Peer::new(socket));
            }
            own.replace(None);
            // It is closed from here on, not from when its handler is done.
            let refused = listener.accept().unwrap_err();
            assert_eq!(ErrorKind::NotConnected, refused.kind());
        }));
        kept.replace(Some(listener));
        let client = connect(world, address);
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        world.wait_until("it is connected", || client.log.has(Event::Connected));
        client.socket.send(b"x").unwrap();
        world.wait_until("it goes on", || accepted.borrow()[0].log.received() == 1);
        let late = connect(world, address);
        world.wait_until("it is refused", || late.log.is_closed());

        // In the callback of a socket, which the listener had accepted.
        let listener = listen(world);
        let address = listener.local_addr();
        let accepted = accept_all(&listener);
        kept.replace(Some(listener));
        let client = connect(world, address);
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let (log, own) = (Rc::<Log>::default(), kept.clone());
        accepted.borrow()[0]
            .socket
            .set_handler(Record::with(&log, move |_, _| {
                own.replace(None);
            }));
        client.socket.send(b"x").unwrap();
        world.wait_until("it is dropped", || kept.borrow().is_none());
        let late = connect(world, address);
        world.wait_until("it is refused", || late.log.is_closed());
        assert!(!client.log.is_closed());
    });
}

#[test]
fn item_28_sockets_may_be_dropped_in_the_callback_of_a_listener() {
    in_every_world(|world| {
        let listener = listen(world);
        let clients: Rc<RefCell<Vec<Peer>>> = Rc::default();
        let (own, count) = (clients.clone(), Rc::new(RefCell::new(0)));
        let counted = count.clone();
        listener.set_handler(OnIncoming(move |listener: &TcpListener| {
            while let Ok(socket) = listener.accept() {
                drop(socket);
                own.borrow_mut().clear();
                *counted.borrow_mut() += 1;
            }
        }));
        let first = connect(world, listener.local_addr());
        clients.borrow_mut().push(first);
        world.wait_until("one is accepted", || *count.borrow() == 1);
        world.settle();
        assert!(clients.borrow().is_empty());
    });
}

#[test]
fn item_28_a_handler_may_replace_itself_and_the_next_hears_the_rest() {
    in_every_world(|world| {
        let listener = listen(world);
        let accepted = accept_all(&listener);
        let (first, second, third) = <(Rc<Log>, Rc<Log>, Rc<Log>)>::default();
        let client = socket(world);
        let (to_second, to_third) = (second.clone(), third.clone());
        client.set_handler(Record::with(&first, move |socket, _| {
            let to_third = to_third.clone();
            // Reads everything, the end too, and leaves it to the third to hear of that.
            socket.set_handler(Record::with(&to_second, move |socket, _| {
                socket.set_handler(Record::new(&to_third));
            }));
        }));
        client.connect(listener.local_addr()).unwrap();
        world.wait_until("it is accepted", || !accepted.borrow().is_empty());
        let server = accepted.borrow_mut().remove(0);
        server.socket.send(b"for the second").unwrap();
        drop(server);
        world.wait_until("the third hears of the end", || third.is_closed());
        world.settle();
        assert_eq!(vec![Event::Connected], first.events());
        assert_eq!(
            b"for the second".to_vec(),
            [second.data(), third.data()].concat()
        );
        assert!(second.events().is_empty());
        assert_eq!(vec![CLOSED], third.events());
    });
}

#[test]
fn item_28_a_handler_may_clear_itself_and_what_follows_is_kept() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        let log = Rc::<Log>::default();
        client
            .socket
            .set_handler(Record::with(&log, |socket, _| socket.clear_handler()));
        server.socket.send(b"x").unwrap();
        world.wait_until("it arrives", || log.received() == 1);
        server.socket.send(b"y").unwrap();
        drop(server);
        world.settle();
        assert_eq!(1, log.received());
        let next = Rc::<Log>::default();
        client.socket.set_handler(Record::new(&next));
        world.wait_until("it is closed", || next.is_closed());
        assert_eq!(b"y".to_vec(), next.data());
        assert!(log.events().is_empty());
        assert_eq!(1, Rc::strong_count(&log), "the handler has been dropped");
    });
}
