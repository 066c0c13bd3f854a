//! Options, marks and times of UDP sockets, on both servers: conformance items 33 and 34.

mod worlds;

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket_server::{
    Delay, Dscp, Ecn, Envelope, HostOptions, LinkOptions, SendBatch, UdpOptions, UdpSocket,
};
use worlds::udp::{Got, Inbox, collect};
use worlds::{World, between_virtual_hosts, in_every_world};

const ECN_MARKS: [Option<Ecn>; 4] = [None, Some(Ecn::Ect0), Some(Ecn::Ect1), Some(Ecn::Ce)];

/// Waits for so many datagrams, and takes them.
#[track_caller]
fn take(world: &World, inbox: &Inbox, count: usize) -> Vec<Got> {
    world.wait_until("all arrive", || inbox.borrow().len() >= count);
    std::mem::take(&mut *inbox.borrow_mut())
}

#[track_caller]
fn assert_marks(got: &Got, ecn: Option<Ecn>, dscp: Dscp) {
    assert_eq!((ecn, dscp), (got.ecn, got.dscp), "of {got:?}");
}

#[test]
fn item_33_options_are_set_and_read_back() {
    in_every_world(|world| {
        let place = world.place();
        let options = UdpOptions::new(SocketAddr::new(place.ip, 0))
            .recv_buffer_bytes(50_000)
            .send_buffer_bytes(60_000);
        let socket = place.server.bind_udp(&options).unwrap();
        // Linux, and what imitates it, doubles what it is given.
        assert_eq!(100_000, socket.recv_buffer_bytes().unwrap());
        assert_eq!(120_000, socket.send_buffer_bytes().unwrap());
        socket.set_recv_buffer_bytes(30_000).unwrap();
        socket.set_send_buffer_bytes(40_000).unwrap();
        assert_eq!(60_000, socket.recv_buffer_bytes().unwrap());
        assert_eq!(80_000, socket.send_buffer_bytes().unwrap());
        assert!(!socket.dont_fragment().unwrap());
        for dont in [true, false] {
            socket.set_dont_fragment(dont).unwrap();
            assert_eq!(dont, socket.dont_fragment().unwrap());
        }
        assert_eq!((None, Dscp::DEFAULT), (socket.ecn(), socket.dscp()));
        socket.set_ecn(Some(Ecn::Ect1));
        socket.set_dscp(Dscp::EF).unwrap();
        assert_eq!((Some(Ecn::Ect1), Dscp::EF), (socket.ecn(), socket.dscp()));
        match place.ip.is_ipv4() {
            true => assert!(socket.only_v6().is_err()),
            // At a particular address, it cannot take part in IPv4 in any case.
            false => assert!(socket.only_v6().unwrap()),
        }
    });
}

#[test]
fn item_33_buffers_that_are_asked_to_be_nothing_still_take_a_datagram() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        one.set_send_buffer_bytes(0).unwrap();
        other.set_recv_buffer_bytes(0).unwrap();
        let inbox = collect(&other);
        for size in [100, 5000] {
            one.send_to(other.local_addr(), &vec![1; size]).unwrap();
            assert_eq!(size, take(world, &inbox, 1)[0].data.len());
        }
    });
}

#[test]
fn item_33_keeping_out_of_ipv4_is_read_back() {
    in_every_world(|world| {
        if world.family.loopback().is_ipv4() {
            return;
        }
        let (server, any) = (world.place().server, SocketAddr::new(world.family.any(), 0));
        for only_v6 in [false, true] {
            let options = UdpOptions::new(any).only_v6(only_v6);
            let socket = server.bind_udp(&options).unwrap();
            assert_eq!(only_v6, socket.only_v6().unwrap());
        }
    });
}

#[test]
fn item_33_marks_arrive_alone_and_together() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let inbox = collect(&other);
        for dscp in [Dscp::DEFAULT, Dscp::CS1, Dscp::AF41, Dscp::EF] {
            for ecn in ECN_MARKS {
                let to = Envelope::to(other.local_addr()).ecn(ecn).dscp(dscp);
                one.send_to(to, b"x").unwrap();
                assert_marks(&take(world, &inbox, 1)[0], ecn, dscp);
            }
        }
    });
}

#[test]
fn item_33_every_code_point_there_is_arrives() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let inbox = collect(&other);
        for bits in 0..64 {
            let dscp = Dscp::new(bits).unwrap();
            one.set_dscp(dscp).unwrap();
            one.send_to(other.local_addr(), b"x").unwrap();
            assert_marks(&take(world, &inbox, 1)[0], None, dscp);
        }
        assert_eq!(None, Dscp::new(64));
    });
}

#[test]
fn item_33_an_envelopes_marks_go_before_the_sockets() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let (inbox, to) = (collect(&other), Envelope::to(other.local_addr()));
        one.set_dscp(Dscp::AF41).unwrap();
        one.set_ecn(Some(Ecn::Ect0));
        let mut batch = SendBatch::new();
        for envelope in [
            to,
            to.dscp(Dscp::EF),
            to.ecn(Ecn::Ect1),
            // The default code point is one, too, and not the absence of a wish.
            to.dscp(Dscp::DEFAULT),
        ] {
            batch.push(envelope, b"x").unwrap();
        }
        assert_eq!(4, one.send_batch(&mut batch).datagrams);
        let got = take(world, &inbox, 4);
        assert_marks(&got[0], Some(Ecn::Ect0), Dscp::AF41);
        assert_marks(&got[1], Some(Ecn::Ect0), Dscp::EF);
        assert_marks(&got[2], Some(Ecn::Ect1), Dscp::AF41);
        assert_marks(&got[3], Some(Ecn::Ect0), Dscp::DEFAULT);
    });
}

/// Several datagrams of one size to one receiver leave as one, and arrive as one, where the kernel
/// can do it: each has to have its own marks and its time all the same.
#[test]
fn item_33_marks_and_times_survive_segmentation_and_coalescing() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let inbox = collect(&other);
        for (dscp, ecn) in [
            (Dscp::EF, None),
            (Dscp::DEFAULT, Some(Ecn::Ect0)),
            (Dscp::AF42, Some(Ecn::Ect1)),
            (Dscp::CS1, Some(Ecn::Ce)),
        ] {
            let mut batch = SendBatch::new();
            let to = Envelope::to(other.local_addr()).dscp(dscp).ecn(ecn);
            for n in 0..20_u8 {
                let size = if n == 19 { 500 } else { 1000 };
                batch.push(to, &vec![n; size]).unwrap();
            }
            let before = world.now();
            assert_eq!(20, one.send_batch(&mut batch).datagrams);
            let got = take(world, &inbox, 20);
            for (n, got) in got.iter().enumerate() {
                assert_eq!((n as u8, one.local_addr()), (got.data[0], got.source));
                assert_eq!(if n == 19 { 500 } else { 1000 }, got.data.len());
                assert_marks(got, ecn, dscp);
                let arrived_at = got.arrived_at.unwrap();
                assert!(arrived_at <= world.now());
                let early = before.saturating_duration_since(arrived_at);
                assert!(early < Duration::from_millis(1), "{early:?} too early");
            }
        }
    });
}

/// The kernel's wall clock and the monotonic one are not read at the same moment, nor with the same
/// rate when the wall clock is being adjusted: a millisecond between them is no lie.
#[test]
fn item_34_arrival_is_between_sending_and_reading_and_never_goes_back() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        let inbox = collect(&other);
        let mut last = None;
        for _ in 0..50 {
            let before = world.now();
            one.send_to(other.local_addr(), b"x").unwrap();
            let got = take(world, &inbox, 1);
            let (after, arrived_at) = (world.now(), got[0].arrived_at.unwrap());
            assert!(arrived_at <= after, "{:?} ahead", arrived_at - after);
            let early = before.saturating_duration_since(arrived_at);
            assert!(early < Duration::from_millis(1), "{early:?} too early");
            assert!(Some(arrived_at) >= last);
            last = Some(arrived_at);
        }
    });
}

#[test]
fn item_34_a_datagram_that_waits_to_be_read_keeps_its_time() {
    in_every_world(|world| {
        let (one, other) = (world.place().bind(), world.place().bind());
        one.send_to(other.local_addr(), b"x").unwrap();
        world.settle();
        let arrived_before = world.now();
        world.pass(Duration::from_millis(100));
        let got = take(world, &collect(&other), 1);
        let arrived_at = got[0].arrived_at.unwrap();
        let tolerance = Duration::from_millis(1);
        assert!(arrived_at <= arrived_before + tolerance);
    });
}

#[test]
fn item_34_arrival_in_virtual_time_is_exact() {
    between_virtual_hosts(|world| {
        let way = Delay::Constant(Duration::from_nanos(12_345_678));
        let links = LinkOptions::new().delay(way);
        let one = world.host(HostOptions::new("one").uplink(links)).bind();
        let other = world.place().bind();
        let mut expected = Vec::new();
        for n in 0..5 {
            world.pass(Duration::from_nanos(1_000_001 * n));
            one.send_to(other.local_addr(), b"x").unwrap();
            expected.push(world.now() + Duration::from_nanos(12_345_678));
        }
        world.pass(Duration::from_secs(1));
        let got = take(world, &collect(&other), 5);
        let times: Vec<Instant> = got.iter().map(|got| got.arrived_at.unwrap()).collect();
        assert_eq!(expected, times);
    });
}

/// Sends datagrams with this mark faster than the link takes them; returns the marks that arrive.
fn marks_through_congestion(world: &World, ecn: Option<Ecn>) -> Vec<(Option<Ecn>, Dscp)> {
    let narrow = LinkOptions::new().bandwidth(10_000).mark_above_bytes(3_000);
    let name = format!("narrow for {ecn:?}");
    let one = world.host(HostOptions::new(name).uplink(narrow)).bind();
    let other = world.place().bind();
    let inbox = collect(&other);
    for _ in 0..10 {
        let to = Envelope::to(other.local_addr()).ecn(ecn).dscp(Dscp::AF41);
        one.send_to(to, &[0; 972]).unwrap();
    }
    let got = take(world, &inbox, 10);
    got.iter().map(|got| (got.ecn, got.dscp)).collect()
}

#[test]
fn item_34_a_congested_link_marks_what_can_be_marked() {
    between_virtual_hosts(|world| {
        for ecn in ECN_MARKS {
            let marks = marks_through_congestion(world, ecn);
            // Of packets of a thousand bytes or a little more, a fourth or fifth has more than three
            // thousand in front of it.
            assert!(marks.iter().all(|(_, dscp)| *dscp == Dscp::AF41));
            assert!(marks[..3].iter().all(|(mark, _)| *mark == ecn), "{marks:?}");
            let late = if ecn.is_some() { Some(Ecn::Ce) } else { None };
            assert!(
                marks[5..].iter().all(|(mark, _)| *mark == late),
                "{marks:?}"
            );
        }
    });
}

#[test]
fn item_33_what_may_not_be_fragmented_is_an_error_above_the_mtu_and_else_passes() {
    between_virtual_hosts(|world| {
        let links = LinkOptions::new().mtu(1500);
        let one = world.host(HostOptions::new("one").uplink(links)).bind();
        let other = world.place().bind();
        let inbox = collect(&other);
        let most = if world.family.any().is_ipv4() {
            1472
        } else {
            1452
        };
        one.set_dont_fragment(true).unwrap();
        let send = |size: usize| one.send_to(other.local_addr(), &vec![1; size]);
        send(most).unwrap();
        assert!(send(most + 1).is_err());
        assert_eq!(1, take(world, &inbox, 1).len());
        one.set_dont_fragment(false).unwrap();
        send(most + 1).unwrap();
        send(9000).unwrap();
        assert_eq!(2, take(world, &inbox, 2).len());
    });
}

/// A link further on cannot tell the sender.
#[test]
fn item_33_what_may_not_be_fragmented_is_lost_at_a_narrower_link_on_its_way() {
    between_virtual_hosts(|world| {
        let (one, narrow) = (world.place().bind(), LinkOptions::new().mtu(1300));
        let other = world.host(HostOptions::new("narrow").downlink(narrow));
        let stats = || other.host.as_ref().unwrap().downlink().stats();
        let socket = other.bind();
        let inbox = collect(&socket);
        let headers = if other.ip.is_ipv4() { 28 } else { 48 };
        one.set_dont_fragment(true).unwrap();
        let send = |size: usize| one.send_to(socket.local_addr(), &vec![1; size]).unwrap();
        send(1300 - headers + 1);
        world.settle();
        assert_eq!((1, 0), (stats().too_long, inbox.borrow().len()));
        send(1300 - headers);
        assert_eq!(1, take(world, &inbox, 1).len());
        one.set_dont_fragment(false).unwrap();
        send(9000);
        assert_eq!(1, take(world, &inbox, 1).len());
    });
}

#[test]
fn item_33_an_ipv4_socket_has_no_ipv6_option() {
    in_every_world(|world| {
        if world.family.loopback().is_ipv6() {
            return;
        }
        let socket: UdpSocket = world.place().bind();
        let refused = socket.only_v6().unwrap_err().kind();
        // The operating system has no word for it; what imitates it has.
        match world.is_physical() {
            false => assert_eq!(ErrorKind::Unsupported, refused),
            true => assert_ne!(ErrorKind::WouldBlock, refused),
        }
    });
}
