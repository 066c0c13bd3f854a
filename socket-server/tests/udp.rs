//! UDP sockets on the physical server: conformance items 28, 29, 31, 34, 40. (Item 32, ready to
//! send, is tested beside the code: on loopback no send ever blocks.)

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as Plain};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{
    Ecn, Envelope, MaxWait, PhysicalSocketServer, ProcessIo, RecvBatch, SendBatch, SocketServer,
    UdpHandler, UdpOptions, UdpSocket,
};

const LOCALHOSTS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];
const PATIENCE: Duration = Duration::from_secs(20);

/// Calls a closure when the socket can be read.
struct OnReadable<F>(F);

impl<F: FnMut(&UdpSocket)> UdpHandler for OnReadable<F> {
    fn on_readable(&mut self, socket: &UdpSocket) {
        (self.0)(socket);
    }
}

fn server() -> PhysicalSocketServer {
    PhysicalSocketServer::new().unwrap()
}

fn bind(server: &PhysicalSocketServer, ip: IpAddr) -> UdpSocket {
    server
        .bind_udp(&UdpOptions::new(SocketAddr::new(ip, 0)))
        .unwrap()
}

fn plain(ip: IpAddr) -> Plain {
    let socket = Plain::bind(SocketAddr::new(ip, 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Everything that arrives, in order.
type Inbox = Rc<RefCell<Vec<Vec<u8>>>>;

fn collect(socket: &UdpSocket) -> Inbox {
    let inbox = Inbox::default();
    let (to, mut batch) = (inbox.clone(), RecvBatch::new());
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        while socket.recv(&mut batch).is_ok() {
            to.borrow_mut()
                .extend(batch.iter().map(|datagram| datagram.data.to_vec()));
        }
    }));
    inbox
}

#[track_caller]
fn wait_until(server: &PhysicalSocketServer, what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        server
            .wait(MaxWait::Until(deadline), ProcessIo::Yes)
            .unwrap();
    }
}

#[test]
fn datagrams_of_all_sizes_go_to_and_fro() {
    for ip in LOCALHOSTS {
        let server = server();
        let socket = bind(&server, ip);
        let peer = plain(ip);
        let inbox = collect(&socket);
        for size in [0, 1, 2, 100, 1200, 1472, 9000, 65_000] {
            let data: Vec<u8> = (0..size).map(|n| n as u8).collect();
            peer.send_to(&data, socket.local_addr()).unwrap();
            wait_until(&server, "it arrives", || !inbox.borrow().is_empty());
            assert_eq!(vec![data.clone()], std::mem::take(&mut *inbox.borrow_mut()));
            socket.send_to(peer.local_addr().unwrap(), &data).unwrap();
            let mut buffer = vec![0; 65_536];
            let (length, source) = peer.recv_from(&mut buffer).unwrap();
            assert_eq!(
                (socket.local_addr(), &data[..]),
                (source, &buffer[..length])
            );
        }
    }
}

#[test]
fn what_is_too_long_is_an_error_and_the_socket_goes_on() {
    let server = server();
    let socket = bind(&server, LOCALHOSTS[0]);
    let peer = plain(LOCALHOSTS[0]);
    let to = peer.local_addr().unwrap();
    assert!(socket.send_to(to, &vec![0; 65_508]).is_err());
    let mut batch = SendBatch::new();
    batch.push(to, &vec![0; 65_508]).unwrap();
    batch.push(to, b"after").unwrap();
    let report = socket.send_batch(&mut batch);
    assert_eq!((1, 1), (report.failed, report.datagrams));
    assert!(report.last_error.is_some());
    let mut buffer = [0; 10];
    assert_eq!(5, peer.recv(&mut buffer).unwrap());
}

#[test]
fn a_batch_arrives_as_the_datagrams_it_is_made_of_in_order() {
    for ip in LOCALHOSTS {
        let server = server();
        let (socket, receiver) = (bind(&server, ip), bind(&server, ip));
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
                wait_until(&server, "they arrive", || {
                    inbox.borrow().len() == expected.len()
                });
            }
        }
        assert_eq!(expected, *inbox.borrow());
    }
}

#[test]
fn a_handler_that_leaves_data_behind_is_called_again() {
    let server = server();
    let socket = bind(&server, LOCALHOSTS[0]);
    let peer = plain(LOCALHOSTS[0]);
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
    wait_until(&server, "all are read", || seen.borrow().1 == 100);
    assert!(seen.borrow().0 > 1);
}

#[test]
fn sockets_that_are_flooded_take_turns() {
    let server = server();
    let order = Rc::new(RefCell::new(Vec::new()));
    let sockets: Vec<_> = (0..3)
        .map(|n| {
            let socket = bind(&server, LOCALHOSTS[0]);
            let (order, mut batch) = (order.clone(), RecvBatch::new());
            socket.set_handler(OnReadable(move |socket: &UdpSocket| {
                if socket.recv(&mut batch).is_ok() {
                    order.borrow_mut().push(n);
                }
            }));
            socket
        })
        .collect();
    let peer = plain(LOCALHOSTS[0]);
    for _ in 0..100 {
        for socket in &sockets {
            // Sizes that differ keep the kernel from coalescing them.
            peer.send_to(&[1; 10], socket.local_addr()).unwrap();
            peer.send_to(&[1; 20], socket.local_addr()).unwrap();
        }
    }
    wait_until(&server, "each had three turns", || {
        (0..3).all(|n| order.borrow().iter().filter(|other| **other == n).count() >= 3)
    });
    for turn in order.borrow().chunks_exact(3).take(3) {
        let mut turn = turn.to_vec();
        turn.sort_unstable();
        assert_eq!(vec![0, 1, 2], turn, "{:?}", order.borrow());
    }
}

#[test]
fn a_handler_may_drop_its_own_socket_and_others() {
    let server = server();
    let own: Rc<RefCell<Vec<UdpSocket>>> = Rc::default();
    let called = Rc::new(RefCell::new(0));
    let peer = plain(LOCALHOSTS[0]);
    for _ in 0..10 {
        let socket = bind(&server, LOCALHOSTS[0]);
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
    wait_until(&server, "one is called", || *called.borrow() > 0);
    for _ in 0..10 {
        server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    }
    assert_eq!(1, *called.borrow());
}

#[test]
fn an_event_for_a_closed_socket_does_not_reach_its_successor() {
    let server = Rc::new(server());
    let peer = plain(LOCALHOSTS[0]);
    let old: Rc<RefCell<Vec<UdpSocket>>> = Rc::default();
    let strays = Rc::new(RefCell::new(0));
    let replaced = Rc::new(RefCell::new(Vec::new()));
    let make = {
        let (server, strays) = (server.clone(), strays.clone());
        move || {
            let socket = bind(&server, LOCALHOSTS[0]);
            let strays = strays.clone();
            socket.set_handler(OnReadable(move |_: &UdpSocket| *strays.borrow_mut() += 1));
            socket
        }
    };
    for _ in 0..10 {
        let socket = bind(&server, LOCALHOSTS[0]);
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
    wait_until(&server, "all are replaced", || {
        replaced.borrow().len() == 10
    });
    for _ in 0..10 {
        server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    }
    assert_eq!(0, *strays.borrow());
    peer.send_to(b"x", replaced.borrow()[0].local_addr())
        .unwrap();
    wait_until(&server, "the new ones work", || *strays.borrow() > 0);
}

#[test]
fn ten_thousand_sockets_come_and_go_under_load_without_a_stray_event() {
    let server = server();
    let peer = plain(LOCALHOSTS[0]);
    let mut generation = 0_u64;
    for _ in 0..50 {
        let received = Rc::new(RefCell::new(0));
        let sockets: Vec<_> = (0..200)
            .map(|_| {
                generation += 1;
                let socket = bind(&server, LOCALHOSTS[0]);
                let (own, received, mut batch) = (generation, received.clone(), RecvBatch::new());
                socket.set_handler(OnReadable(move |socket: &UdpSocket| {
                    while socket.recv(&mut batch).is_ok() {
                        for datagram in batch.iter() {
                            assert_eq!(own.to_be_bytes(), datagram.data);
                            *received.borrow_mut() += 1;
                        }
                    }
                }));
                peer.send_to(&generation.to_be_bytes(), socket.local_addr())
                    .unwrap();
                socket
            })
            .collect();
        // Half of them are closed with their datagram unread.
        let kept = sockets.into_iter().skip(100).collect::<Vec<_>>();
        wait_until(&server, "those that are left get theirs", || {
            *received.borrow() == 100
        });
        drop(kept);
    }
}

#[test]
fn a_handler_may_be_replaced_from_within_itself_and_cleared() {
    let server = server();
    let socket = Rc::new(bind(&server, LOCALHOSTS[0]));
    let peer = plain(LOCALHOSTS[0]);
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
    wait_until(
        &server,
        "the new handler gets what the old one left",
        || *second.borrow() == 1,
    );
    socket.clear_handler();
    peer.send_to(b"y", socket.local_addr()).unwrap();
    let deadline = Instant::now() + Duration::from_millis(20);
    while Instant::now() < deadline {
        server
            .wait(MaxWait::Until(deadline), ProcessIo::Yes)
            .unwrap();
    }
    assert_eq!(1, *second.borrow());
    let inbox = collect(&socket);
    wait_until(&server, "it was kept", || !inbox.borrow().is_empty());
}

#[test]
fn a_panic_in_a_handler_leaves_the_server_usable() {
    let server = server();
    let socket = bind(&server, LOCALHOSTS[0]);
    let peer = plain(LOCALHOSTS[0]);
    let calls = Rc::new(RefCell::new(0));
    let (count, mut batch) = (calls.clone(), RecvBatch::new());
    socket.set_handler(OnReadable(move |socket: &UdpSocket| {
        let _ = socket.recv(&mut batch);
        *count.borrow_mut() += 1;
        assert!(*count.borrow() > 1, "on purpose");
    }));
    peer.send_to(b"x", socket.local_addr()).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        server.wait(MaxWait::Forever, ProcessIo::Yes)
    }));
    assert!(panicked.is_err());
    peer.send_to(b"y", socket.local_addr()).unwrap();
    wait_until(&server, "the handler is called again", || {
        *calls.borrow() > 1
    });
}

#[test]
fn an_unreachable_port_does_not_hurt_the_socket() {
    let server = server();
    let socket = bind(&server, LOCALHOSTS[0]);
    let inbox = collect(&socket);
    let gone = plain(LOCALHOSTS[0]).local_addr().unwrap();
    for _ in 0..10 {
        socket.send_to(gone, b"anybody?").unwrap();
        server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    }
    let peer = plain(LOCALHOSTS[0]);
    peer.send_to(b"here", socket.local_addr()).unwrap();
    wait_until(&server, "it still receives", || inbox.borrow().len() == 1);
}

#[test]
fn marks_addresses_and_times_come_along() {
    for ip in LOCALHOSTS {
        let server = server();
        let unspecified = match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = bind(&server, unspecified);
        let sender = bind(&server, ip);
        let to = SocketAddr::new(ip, socket.local_addr().port());
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
        wait_until(&server, "all arrive", || seen.borrow().len() == 4);
        let marks: Vec<_> = seen.borrow().iter().map(|seen| seen.0).collect();
        assert_eq!(
            vec![None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)],
            marks
        );
        for (_, source, local, received_at) in seen.borrow().iter() {
            assert_eq!((sender.local_addr(), Some(ip)), (*source, *local));
            let age = received_at.unwrap().elapsed().unwrap_or_default();
            assert!(age < PATIENCE, "{age:?}");
        }
        let times: Vec<_> = seen.borrow().iter().map(|seen| seen.3).collect();
        assert!(times.is_sorted());
    }
}

#[test]
fn an_answer_can_come_from_the_address_that_was_asked() {
    let server = server();
    let socket = bind(&server, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let peer = plain(LOCALHOSTS[0]);
    let asked = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
    let mut batch = SendBatch::new();
    batch
        .push(
            Envelope::to(peer.local_addr().unwrap()).from_ip(asked),
            b"x",
        )
        .unwrap();
    assert_eq!(1, socket.send_batch(&mut batch).datagrams);
    let (_, source) = peer.recv_from(&mut [0; 10]).unwrap();
    assert_eq!(asked, source.ip());
}

#[test]
fn an_ipv6_socket_takes_part_in_ipv4_unless_told_not_to() -> io::Result<()> {
    let server = server();
    let any = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);
    let peer = plain(LOCALHOSTS[0]);
    let dual = server.bind_udp(&UdpOptions::new(any))?;
    let inbox = collect(&dual);
    peer.send_to(
        b"x",
        SocketAddr::new(LOCALHOSTS[0], dual.local_addr().port()),
    )?;
    wait_until(&server, "it arrives", || inbox.borrow().len() == 1);
    let strict = server.bind_udp(&UdpOptions::new(any).only_v6(true))?;
    // The port is free for IPv4 then.
    Plain::bind(SocketAddr::new(LOCALHOSTS[0], strict.local_addr().port()))?;
    Ok(())
}

#[test]
fn buffer_sizes_are_set_and_read_back() {
    let server = server();
    let any = SocketAddr::new(LOCALHOSTS[0], 0);
    let options = UdpOptions::new(any)
        .recv_buffer_bytes(50_000)
        .send_buffer_bytes(60_000);
    let socket = server.bind_udp(&options).unwrap();
    assert!(socket.recv_buffer_bytes().unwrap() >= 50_000);
    assert!(socket.send_buffer_bytes().unwrap() >= 60_000);
}

#[test]
fn a_port_in_use_is_an_error_of_bind() {
    let server = server();
    let socket = bind(&server, LOCALHOSTS[0]);
    let refused = server
        .bind_udp(&UdpOptions::new(socket.local_addr()))
        .unwrap_err();
    assert_eq!(ErrorKind::AddrInUse, refused.kind());
}
