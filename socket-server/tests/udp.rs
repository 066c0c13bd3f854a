//! UDP sockets on the physical server, and peers that know nothing of this crate: conformance items
//! 28, 29, 31, 34, 40. (Item 32, ready to send, is tested beside the code: on loopback no send ever
//! blocks.)

mod worlds;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket as Plain};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{
    Ecn, Envelope, MaxWait, ProcessIo, RecvBatch, SendBatch, UdpOptions, UdpSocket,
};
use worlds::udp::{OnReadable, collect};
use worlds::{Family, Kind, PATIENCE, World, in_every_world, in_physical_worlds};

fn plain(world: &World) -> Plain {
    let socket = Plain::bind(SocketAddr::new(world.family.loopback(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A process that is stopped and goes on finds its reads interrupted, and those with a limit are not
/// taken up again by the kernel.
#[track_caller]
fn recv_from(socket: &Plain, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            received => return received.unwrap(),
        }
    }
}

#[test]
fn datagrams_of_all_sizes_go_to_and_fro() {
    in_physical_worlds(|world| {
        let place = world.place();
        let socket = place.bind();
        let peer = plain(world);
        let inbox = collect(&socket);
        for size in [0, 1, 2, 100, 1200, 1472, 9000, 65_000] {
            let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
            peer.send_to(&data, socket.local_addr()).unwrap();
            world.wait_until("it arrives", || !inbox.borrow().is_empty());
            assert_eq!(data, inbox.borrow_mut().pop().unwrap().data);
            socket.send_to(peer.local_addr().unwrap(), &data).unwrap();
            let mut buffer = vec![0; 65_536];
            let (length, source) = recv_from(&peer, &mut buffer);
            assert_eq!(
                (socket.local_addr(), &data[..]),
                (source, &buffer[..length])
            );
        }
    });
}

#[test]
fn a_batch_arrives_as_the_datagrams_it_is_made_of_in_order() {
    in_every_world(|world| {
        let place = world.place();
        let (socket, receiver) = (place.bind(), place.bind());
        receiver.set_recv_buffer_bytes(1 << 20).unwrap();
        let inbox = collect(&receiver);
        let mut batch = SendBatch::new();
        let mut expected = Vec::new();
        // Long runs of one size, ends that are shorter, single ones, empty ones.
        for n in 0..500_usize {
            let size = if n % 50 < 40 { 1000 } else { (n * 7) % 50 };
            let data = vec![n as u8; size];
            batch.push(receiver.local_addr(), &data).unwrap();
            expected.push(data);
            if n % 100 == 99 {
                // Less at a time than the receive buffer holds.
                let report = socket.send_batch(&mut batch);
                assert_eq!(
                    (100, 0, false),
                    (report.datagrams, report.failed, report.blocked)
                );
                world.wait_until("they arrive", || inbox.borrow().len() == expected.len());
            }
        }
        let arrived: Vec<_> = inbox.borrow_mut().drain(..).map(|got| got.data).collect();
        assert_eq!(expected, arrived);
    });
}

#[test]
fn a_handler_that_leaves_data_behind_is_called_again() {
    in_physical_worlds(|world| {
        let place = world.place();
        let socket = place.bind();
        let peer = plain(world);
        // A receive call takes 32 at most, so that 100 of different senders are several.
        for n in 0..100_u8 {
            peer.send_to(&vec![n; usize::from(n)], socket.local_addr())
                .unwrap();
        }
        let seen = Rc::new(RefCell::new((0, 0)));
        let (count, mut batch) = (seen.clone(), RecvBatch::new());
        socket.set_handler(OnReadable(move |socket: &UdpSocket| {
            let mut count = count.borrow_mut();
            count.0 += 1;
            // Once only, and no more arrives that could be a new edge.
            if let Ok(received) = socket.recv(&mut batch) {
                count.1 += received;
            }
        }));
        world.wait_until("all are read", || seen.borrow().1 == 100);
        assert!(seen.borrow().0 > 1);
    });
}

#[test]
fn sockets_that_are_flooded_take_turns() {
    in_physical_worlds(|world| {
        let place = world.place();
        let order = Rc::new(RefCell::new(Vec::new()));
        let sockets: Vec<_> = (0..3)
            .map(|n| {
                let socket = place.bind();
                let (order, mut batch) = (order.clone(), RecvBatch::new());
                socket.set_handler(OnReadable(move |socket: &UdpSocket| {
                    if socket.recv(&mut batch).is_ok() {
                        order.borrow_mut().push(n);
                    }
                }));
                socket
            })
            .collect();
        let peer = plain(world);
        for _ in 0..100 {
            for socket in &sockets {
                // Sizes that differ keep the kernel from coalescing them.
                peer.send_to(&[1; 10], socket.local_addr()).unwrap();
                peer.send_to(&[1; 20], socket.local_addr()).unwrap();
            }
        }
        world.wait_until("each had three turns", || {
            (0..3).all(|n| order.borrow().iter().filter(|other| **other == n).count() >= 3)
        });
        for turn in order.borrow().chunks_exact(3).take(3) {
            let mut turn = turn.to_vec();
            turn.sort_unstable();
            assert_eq!(vec![0, 1, 2], turn, "{:?}", order.borrow());
        }
    });
}

#[test]
fn a_handler_may_drop_its_own_socket_and_others() {
    in_physical_worlds(|world| {
        let place = world.place();
        let own: Rc<RefCell<Vec<UdpSocket>>> = Rc::default();
        let called = Rc::new(RefCell::new(0));
        let peer = plain(world);
        for _ in 0..10 {
            let socket = place.bind();
            let (all, called) = (own.clone(), called.clone());
            socket.set_handler(OnReadable(move |_: &UdpSocket| {
                *called.borrow_mut() += 1;
                // All ten are ready in the same batch of events; the first takes the others along.
                let sockets = std::mem::take(&mut *all.borrow_mut());
                drop(sockets);
            }));
            own.borrow_mut().push(socket);
        }
        for socket in own.borrow().iter() {
            peer.send_to(b"x", socket.local_addr()).unwrap();
        }
        world.wait_until("one is called", || *called.borrow() > 0);
        for _ in 0..10 {
            place.server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
        }
        assert_eq!(1, *called.borrow());
    });
}

#[test]
fn an_event_for_a_closed_socket_does_not_reach_its_successor() {
    in_physical_worlds(|world| {
        let place = world.place();
        let peer = plain(world);
        let old: Rc<RefCell<Vec<UdpSocket>>> = Rc::default();
        let strays = Rc::new(RefCell::new(0));
        let replaced = Rc::new(RefCell::new(Vec::new()));
        let make = {
            let (place, strays) = (place.clone(), strays.clone());
            move || {
                let socket = place.bind();
                let strays = strays.clone();
                socket.set_handler(OnReadable(move |_: &UdpSocket| *strays.borrow_mut() += 1));
                socket
            }
        };
        for _ in 0..10 {
            let socket = place.bind();
            let (others, replaced, make) = (old.clone(), replaced.clone(), make.clone());
            socket.set_handler(OnReadable(move |_: &UdpSocket| {
                // The same slots, and the same descriptors, while events for them are under way.
                let count = others.borrow_mut().drain(..).count();
                replaced.borrow_mut().extend((0..count).map(|_| make()));
            }));
            old.borrow_mut().push(socket);
        }
        for socket in old.borrow().iter() {
            peer.send_to(b"x", socket.local_addr()).unwrap();
        }
        world.wait_until("all are replaced", || replaced.borrow().len() == 10);
        for _ in 0..10 {
            place.server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
        }
        assert_eq!(0, *strays.borrow());
        peer.send_to(b"x", replaced.borrow()[0].local_addr())
            .unwrap();
        world.wait_until("the new ones work", || *strays.borrow() > 0);
    });
}

#[test]
fn a_handler_may_be_replaced_from_within_itself_and_cleared() {
    in_physical_worlds(|world| {
        let place = world.place();
        let socket = Rc::new(place.bind());
        let peer = plain(world);
        let second = Rc::new(RefCell::new(0));
        let called = second.clone();
        socket.set_handler(OnReadable(move |socket: &UdpSocket| {
            let (called, mut batch) = (called.clone(), RecvBatch::new());
            socket.set_handler(OnReadable(move |socket: &UdpSocket| {
                while let Ok(received) = socket.recv(&mut batch) {
                    *called.borrow_mut() += received;
                }
            }));
        }));
        peer.send_to(b"x", socket.local_addr()).unwrap();
        world.wait_until("the new handler gets what the old one left", || {
            *second.borrow() == 1
        });
        socket.clear_handler();
        peer.send_to(b"y", socket.local_addr()).unwrap();
        world.pass(Duration::from_millis(20));
        assert_eq!(1, *second.borrow());
        let inbox = collect(&socket);
        world.wait_until("it was kept", || !inbox.borrow().is_empty());
    });
}

#[test]
fn a_panic_in_a_handler_leaves_the_server_usable() {
    in_physical_worlds(|world| {
        let place = world.place();
        let socket = place.bind();
        let peer = plain(world);
        let calls = Rc::new(RefCell::new(0));
        let (count, mut batch) = (calls.clone(), RecvBatch::new());
        socket.set_handler(OnReadable(move |socket: &UdpSocket| {
            let _ = socket.recv(&mut batch);
            *count.borrow_mut() += 1;
            assert!(*count.borrow() > 1, "on purpose");
        }));
        peer.send_to(b"x", socket.local_addr()).unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            place.server.wait(MaxWait::Forever, ProcessIo::Yes)
        }));
        assert!(panicked.is_err());
        peer.send_to(b"y", socket.local_addr()).unwrap();
        world.wait_until("the handler is called again", || *calls.borrow() > 1);
    });
}

#[test]
fn an_unreachable_port_does_not_hurt_the_socket() {
    in_physical_worlds(|world| {
        let place = world.place();
        let socket = place.bind();
        let inbox = collect(&socket);
        // A port that nobody else is given, and that takes in only what its peer sends: itself.
        let closed = plain(world);
        let gone = closed.local_addr().unwrap();
        closed.connect(gone).unwrap();
        for _ in 0..10 {
            socket.send_to(gone, b"anybody?").unwrap();
            place.server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
        }
        let peer = plain(world);
        peer.send_to(b"here", socket.local_addr()).unwrap();
        world.wait_until("it still receives", || inbox.borrow().len() == 1);
    });
}

#[test]
fn marks_addresses_and_times_come_along() {
    in_physical_worlds(|world| {
        let place = world.place();
        let any = SocketAddr::new(world.family.any(), 0);
        let (socket, sender) = (place.bind_at(any), place.bind());
        let to = SocketAddr::new(place.ip, socket.local_addr().port());
        let mut batch = SendBatch::new();
        for ecn in [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)] {
            batch.push(Envelope::to(to).ecn(ecn), b"marked").unwrap();
        }
        assert_eq!(4, sender.send_batch(&mut batch).datagrams);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let (note, mut arrivals) = (seen.clone(), RecvBatch::new());
        socket.set_handler(OnReadable(move |socket: &UdpSocket| {
            while socket.recv(&mut arrivals).is_ok() {
                for datagram in arrivals.iter() {
                    let (source, local) = (datagram.source, datagram.local_ip);
                    note.borrow_mut()
                        .push((datagram.ecn, source, local, datagram.received_at));
                }
            }
        }));
        world.wait_until("all arrive", || seen.borrow().len() == 4);
        let marks: Vec<_> = seen.borrow().iter().map(|seen| seen.0).collect();
        assert_eq!(
            vec![None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)],
            marks
        );
        for (_, source, local, received_at) in seen.borrow().iter() {
            assert_eq!((sender.local_addr(), Some(place.ip)), (*source, *local));
            let age = received_at.unwrap().elapsed().unwrap_or_default();
            assert!(age < PATIENCE, "{age:?}");
        }
        let times: Vec<_> = seen.borrow().iter().map(|seen| seen.3).collect();
        assert!(times.is_sorted());
    });
}

#[test]
fn an_answer_can_come_from_the_address_that_was_asked() {
    let world = World::new(Kind::Physical, Family::V4);
    let socket = world
        .place()
        .bind_at(SocketAddr::new(world.family.any(), 0));
    let peer = plain(&world);
    let asked = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut batch = SendBatch::new();
    batch
        .push(
            Envelope::to(peer.local_addr().unwrap()).from_ip(asked),
            b"x",
        )
        .unwrap();
    assert_eq!(1, socket.send_batch(&mut batch).datagrams);
    let (_, source) = recv_from(&peer, &mut [0; 10]);
    assert_eq!(asked, source.ip());
}

#[test]
fn an_ipv6_socket_takes_part_in_ipv4_unless_told_not_to() -> io::Result<()> {
    let world = World::new(Kind::Physical, Family::V6);
    let (place, any) = (world.place(), SocketAddr::new(world.family.any(), 0));
    let v4 = |port: u16| SocketAddr::new(Family::V4.loopback(), port);
    let peer = Plain::bind(v4(0))?;
    let dual = place.bind_at(any);
    let inbox = collect(&dual);
    peer.send_to(b"x", v4(dual.local_addr().port()))?;
    world.wait_until("it arrives", || inbox.borrow().len() == 1);
    let strict = UdpOptions::new(any).only_v6(true);
    // The port is free for IPv4 then, unless a stranger has it.
    let leaves_v4 = |_| {
        let strict = place.server.bind_udp(&strict).unwrap();
        Plain::bind(v4(strict.local_addr().port())).is_ok()
    };
    assert!((0..20).any(leaves_v4));
    Ok(())
}
