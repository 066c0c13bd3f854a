//! Datagrams between sockets, on both servers: conformance item 31.

mod worlds;

use std::net::SocketAddr;
use std::thread;

use socket_server::{Packet, RecvBatch, SendBatch, UdpSocket};
use worlds::udp::{collect, texts};
use worlds::{World, in_every_world};

/// Reads one datagram, as soon as there is one.
#[track_caller]
fn read_one(world: &World, socket: &UdpSocket, buffer: &mut [u8]) -> (usize, usize, SocketAddr) {
    let mut read = None;
    world.wait_until("there is something to read", || {
        read = socket.recv_from(buffer).ok();
        read.is_some()
    });
    let read = read.unwrap();
    (read.len, read.datagram_len, read.source)
}

#[test]
fn item_31_a_socket_talks_to_ten_others_and_knows_who_is_who() {
    in_every_world(|world| {
        let socket = world.place().bind();
        let inbox = collect(&socket);
        for n in 0..10_u8 {
            let client = world.place().bind();
            let answers = collect(&client);
            client.send_to(socket.local_addr(), &[n]).unwrap();
            world.wait_until("it arrives", || inbox.borrow().len() == 1);
            let got = inbox.borrow_mut().remove(0);
            assert_eq!((vec![n], client.local_addr()), (got.data, got.source));
            assert_eq!(Some(socket.local_addr().ip()), got.local_ip);
            socket.send_to(got.source, &[n, n]).unwrap();
            world.wait_until("it is answered", || answers.borrow().len() == 1);
            let got = answers.borrow_mut().remove(0);
            assert_eq!((vec![n, n], socket.local_addr()), (got.data, got.source));
        }
    });
}

#[test]
fn item_31_a_socket_can_send_to_itself() {
    in_every_world(|world| {
        let socket = world.place().bind();
        let inbox = collect(&socket);
        socket.send_to(socket.local_addr(), b"me").unwrap();
        world.wait_until("it arrives", || !inbox.borrow().is_empty());
        assert_eq!(socket.local_addr(), inbox.borrow()[0].source);
    });
}

#[test]
fn item_31_datagrams_of_all_sizes_arrive_whole() {
    in_every_world(|world| {
        let loopback = SocketAddr::new(world.family.loopback(), 0);
        let place = world.place();
        let (one, other) = (place.bind_at(loopback), place.bind_at(loopback));
        let inbox = collect(&other);
        one.set_dont_fragment(true).unwrap();
        // What fits an unfragmented packet on loopback, of 65,536 bytes or what the header can say.
        let most = if loopback.is_ipv4() { 65_507 } else { 65_488 };
        for size in [0, 1, 1200, 1472, 9000, most] {
            let data: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            one.send_to(other.local_addr(), &data).unwrap();
            world.wait_until("it arrives", || !inbox.borrow().is_empty());
            let got = inbox.borrow_mut().remove(0);
            assert!(
                data == got.data,
                "{size} bytes, and {} came",
                got.data.len()
            );
        }
        assert!(one.send_to(other.local_addr(), &vec![0; most + 1]).is_err());
    });
}

#[test]
fn item_31_the_longest_datagram_there_is_may_have_to_be_fragmented() {
    in_every_world(|world| {
        let loopback = SocketAddr::new(world.family.loopback(), 0);
        let place = world.place();
        let (one, other) = (place.bind_at(loopback), place.bind_at(loopback));
        let inbox = collect(&other);
        let most = if loopback.is_ipv4() { 65_507 } else { 65_527 };
        one.send_to(other.local_addr(), &vec![7; most]).unwrap();
        world.wait_until("it arrives", || !inbox.borrow().is_empty());
        assert!(inbox.borrow()[0].data == vec![7; most]);
        assert!(one.send_to(other.local_addr(), &vec![7; most + 1]).is_err());
    });
}

#[test]
fn item_31_what_is_too_long_is_an_error_and_the_socket_goes_on() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let (to, inbox) = (other.local_addr(), collect(&other));
        // One byte more than there is room for, and more than a header can say.
        let too_long = [if to.is_ipv4() { 65_508 } else { 65_528 }, 66_000];
        let too_long = too_long.map(|size| vec![0; size]);
        for data in &too_long {
            assert!(one.send_to(to, data).is_err());
        }
        let mut batch = SendBatch::new();
        batch.push(to, b"before").unwrap();
        for data in &too_long {
            batch.push(to, data).unwrap();
        }
        batch.push(to, b"after").unwrap();
        let report = one.send_batch(&mut batch);
        assert_eq!((2, 2), (report.datagrams, report.failed));
        assert!(report.last_error.is_some() && !report.blocked);
        assert!(batch.is_empty());
        one.send_to(to, b"at last").unwrap();
        world.wait_until("the others arrive", || inbox.borrow().len() == 3);
        assert_eq!(["before", "after", "at last"], *texts(&inbox));
    });
}

#[test]
fn item_31_a_buffer_that_is_too_short_is_told_and_the_rest_is_lost() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let to = other.local_addr();
        one.send_to(to, b"0123456789").unwrap();
        one.send_to(to, b"next").unwrap();
        one.send_to(to, b"").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(
            (4, 10, one.local_addr()),
            read_one(world, &other, &mut buffer)
        );
        assert_eq!(b"0123", &buffer);
        assert_eq!(
            (4, 4, one.local_addr()),
            read_one(world, &other, &mut buffer)
        );
        assert_eq!(b"next", &buffer);
        assert_eq!(
            (0, 0, one.local_addr()),
            read_one(world, &other, &mut buffer)
        );
    });
}

/// Sends runs that the kernel coalesces, and reads them one by one and many at a time by turns.
#[test]
fn item_31_single_and_batched_reads_by_turns_lose_nothing_and_keep_the_order() {
    const COUNT: usize = 60;
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let mut batch = SendBatch::new();
        for n in 0..COUNT {
            batch.push(other.local_addr(), &[n as u8; 100]).unwrap();
        }
        assert_eq!(COUNT, one.send_batch(&mut batch).datagrams);
        let mut seen = Vec::new();
        let (mut buffer, mut batch) = ([0; 200], RecvBatch::new());
        let mut turn = 0;
        world.wait_until("all are read", || {
            loop {
                turn += 1;
                if turn % 3 != 0 {
                    if other.recv_from(&mut buffer).is_err() {
                        break;
                    }
                    seen.push(buffer[0]);
                } else if other.recv(&mut batch).is_err() {
                    break;
                } else {
                    seen.extend(batch.iter().map(|datagram| datagram.data[0]));
                }
            }
            seen.len() >= COUNT
        });
        assert_eq!((0..COUNT as u8).collect::<Vec<_>>(), seen);
    });
}

/// A handler that reads one datagram with one method hears of those that are left, whichever method
/// the next call uses.
#[test]
fn item_31_a_handler_may_mix_single_and_batched_reads() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let seen = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let (note, mut turn, mut batch) = (seen.clone(), 0, RecvBatch::new());
        other.set_handler(worlds::udp::OnReadable(move |socket: &UdpSocket| {
            turn += 1;
            let mut buffer = [0; 200];
            if turn % 2 == 1 {
                if socket.recv_from(&mut buffer).is_ok() {
                    note.borrow_mut().push(buffer[0]);
                }
            } else if socket.recv(&mut batch).is_ok() {
                let data = batch.iter().map(|datagram| datagram.data[0]);
                note.borrow_mut().extend(data);
            }
        }));
        for round in 0..5 {
            let mut batch = SendBatch::new();
            for n in 0..10 {
                batch
                    .push(other.local_addr(), &[round * 10 + n; 100])
                    .unwrap();
            }
            assert_eq!(10, one.send_batch(&mut batch).datagrams);
            world.wait_until("all are read", || {
                seen.borrow().len() == usize::from(round + 1) * 10
            });
        }
        assert_eq!((0..50).collect::<Vec<u8>>(), *seen.borrow());
    });
}

#[test]
fn item_31_what_is_shared_can_be_kept_and_read_by_another_thread() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let (to_thread, from_here) = std::sync::mpsc::channel::<Packet>();
        let reader = thread::spawn(move || {
            let lengths = from_here.iter().map(|packet| {
                assert!(packet.iter().all(|byte| *byte == packet[0]));
                (packet[0], packet.len())
            });
            lengths.collect::<Vec<_>>()
        });
        let mut batch = RecvBatch::new();
        for n in 1..=100_u8 {
            one.send_to(other.local_addr(), &vec![n; usize::from(n) * 10])
                .unwrap();
            world.wait_until("it is read", || other.recv(&mut batch).is_ok());
            let packet = batch.iter().next().unwrap().share();
            to_thread.send(packet).unwrap();
        }
        drop(to_thread);
        let expected: Vec<_> = (1..=100_u8).map(|n| (n, usize::from(n) * 10)).collect();
        assert_eq!(expected, reader.join().unwrap());
    });
}
