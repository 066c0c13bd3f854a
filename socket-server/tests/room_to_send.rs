//! When there is no room to send, and when there is again: conformance item 32.
//!
//! On the physical server this cannot be brought about over loopback: the kernel takes a datagram off
//! the sender's account within the call that sends it (`skb_orphan` in its loopback driver), whatever
//! the receiver does with it. What follows a send that blocked is tested beside the code, in `udp.rs`,
//! and here on the virtual server, which shares that code.

mod worlds;

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use socket_server::{HostOptions, LinkOptions, Loss, SendBatch, UdpHandler, UdpSocket};
use worlds::udp::collect;
use worlds::{Place, World, between_virtual_hosts, in_physical_worlds};

const COUNT: u8 = 40;

/// Goes on sending a batch whenever there is room.
struct Sender {
    batch: Rc<RefCell<SendBatch>>,
    writable: Rc<Cell<usize>>,
    blocked: Rc<Cell<usize>>,
}

impl UdpHandler for Sender {
    fn on_readable(&mut self, _socket: &UdpSocket) {}

    fn on_writable(&mut self, socket: &UdpSocket) {
        self.writable.set(self.writable.get() + 1);
        let report = socket.send_batch(&mut self.batch.borrow_mut());
        assert_eq!(0, report.failed);
        assert!(report.datagrams > 0, "there was no room");
        self.blocked
            .set(self.blocked.get() + usize::from(report.blocked));
    }
}

/// Counts when it is told of room.
struct Counter(Rc<Cell<usize>>);

impl UdpHandler for Counter {
    fn on_readable(&mut self, _socket: &UdpSocket) {}

    fn on_writable(&mut self, _socket: &UdpSocket) {
        self.0.set(self.0.get() + 1);
    }
}

fn count_room(socket: &UdpSocket) -> Rc<Cell<usize>> {
    let count = Rc::new(Cell::new(0));
    socket.set_handler(Counter(count.clone()));
    count
}

fn batch_to(to: SocketAddr) -> SendBatch {
    let mut batch = SendBatch::new();
    for n in 0..COUNT {
        // Sizes that differ, so that they do not leave as one.
        let data = vec![n; 900 + usize::from(n % 2)];
        batch.push(to, &data).unwrap();
    }
    batch
}

/// A host whose datagrams leave slowly.
fn slow_host(world: &World) -> Place {
    let slow = LinkOptions::new().bandwidth(10_000).queue_bytes(1 << 20);
    world.host(HostOptions::new("slow").uplink(slow))
}

#[test]
fn item_32_a_batch_goes_on_where_it_stopped_when_there_is_room() {
    between_virtual_hosts(|world| {
        let (socket, other) = (slow_host(world).bind(), world.place().bind());
        socket.set_send_buffer_bytes(4000).unwrap();
        let inbox = collect(&other);
        let batch = Rc::new(RefCell::new(batch_to(other.local_addr())));
        let (writable, blocked) = (Rc::<Cell<usize>>::default(), Rc::<Cell<usize>>::default());
        socket.set_handler(Sender {
            batch: batch.clone(),
            writable: writable.clone(),
            blocked: blocked.clone(),
        });
        let report = socket.send_batch(&mut batch.borrow_mut());
        assert!(report.blocked && report.datagrams > 0 && report.failed == 0);
        blocked.set(1);
        world.wait_until("all arrive", || inbox.borrow().len() == usize::from(COUNT));
        world.settle();
        assert!(blocked.get() > 2);
        assert_eq!(blocked.get(), writable.get());
        let seen: Vec<_> = inbox.borrow().iter().map(|got| got.data[0]).collect();
        assert_eq!((0..COUNT).collect::<Vec<_>>(), seen);
        assert!(batch.borrow().is_empty());
    });
}

#[test]
fn item_32_a_single_send_that_blocked_was_not_sent_and_is_told_once_of_room() {
    between_virtual_hosts(|world| {
        let (socket, other) = (slow_host(world).bind(), world.place().bind());
        let (inbox, room) = (collect(&other), count_room(&socket));
        socket.set_send_buffer_bytes(4000).unwrap();
        let mut sent = 0;
        let error = loop {
            match socket.send_to(other.local_addr(), &[sent; 1000]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(ErrorKind::WouldBlock, error.kind());
        assert!(socket.send_to(other.local_addr(), b"neither").is_err());
        world.settle();
        assert_eq!((usize::from(sent), 1), (inbox.borrow().len(), room.get()));
        socket.send_to(other.local_addr(), b"again").unwrap();
        world.settle();
        // Nothing blocked this time.
        assert_eq!(1, room.get());
    });
}

#[test]
fn item_32_a_host_that_cannot_send_says_so_until_it_can() {
    between_virtual_hosts(|world| {
        let (place, other) = (world.place(), world.place().bind());
        let (socket, idle) = (place.bind(), place.bind());
        let (inbox, room, none) = (collect(&other), count_room(&socket), count_room(&idle));
        let host = place.host.as_ref().unwrap();
        host.set_sending_blocked(true);
        let mut batch = batch_to(other.local_addr());
        let report = socket.send_batch(&mut batch);
        assert_eq!((true, 0), (report.blocked, report.datagrams));
        world.pass(Duration::from_secs(60));
        assert_eq!((0, usize::from(COUNT)), (room.get(), batch.len()));
        host.set_sending_blocked(false);
        world.settle();
        // Only who has tried hears of it.
        assert_eq!((1, 0), (room.get(), none.get()));
        assert_eq!(usize::from(COUNT), socket.send_batch(&mut batch).datagrams);
        world.settle();
        assert_eq!(usize::from(COUNT), inbox.borrow().len());
        assert_eq!(1, room.get());
    });
}

#[test]
fn item_32_room_is_told_of_only_when_neither_buffer_nor_host_is_in_the_way() {
    between_virtual_hosts(|world| {
        let (place, other) = (slow_host(world), world.place().bind());
        let socket = place.bind();
        let (room, host) = (count_room(&socket), place.host.as_ref().unwrap());
        socket.set_send_buffer_bytes(4000).unwrap();
        let fill = || while socket.send_to(other.local_addr(), &[0; 1000]).is_ok() {};
        // The buffer drains while the host is blocked.
        fill();
        host.set_sending_blocked(true);
        world.pass(Duration::from_secs(10));
        assert_eq!(0, room.get());
        host.set_sending_blocked(false);
        world.settle();
        assert_eq!(1, room.get());
        // The host is unblocked while the buffer is full.
        fill();
        host.set_sending_blocked(true);
        host.set_sending_blocked(false);
        world.pass(Duration::ZERO);
        assert_eq!(1, room.get());
        world.settle();
        assert_eq!(2, room.get());
    });
}

/// What the network loses has left the host like anything else: a sender that goes on until there is no
/// room comes to an end, also if nothing ever arrives.
#[test]
fn item_32_what_is_lost_on_its_way_has_taken_its_room() {
    between_virtual_hosts(|world| {
        let slow = LinkOptions::new().bandwidth(10_000).loss(Loss::Random(1.0));
        let place = world.host(HostOptions::new("lossy").uplink(slow));
        let (socket, other) = (place.bind(), world.place().bind());
        let (inbox, room) = (collect(&other), count_room(&socket));
        for times in 1..=3 {
            let sent =
                (0..1000).take_while(|_| socket.send_to(other.local_addr(), &[0; 900]).is_ok());
            let sent = sent.count();
            assert!((100..1000).contains(&sent), "{sent} were sent");
            assert_eq!(times - 1, room.get());
            world.settle();
            assert_eq!(times, room.get());
        }
        assert!(inbox.borrow().is_empty());
    });
}

#[test]
fn item_32_on_loopback_no_send_of_the_operating_system_blocks() {
    in_physical_worlds(|world| {
        let (socket, other) = (world.place().bind(), world.place().bind());
        socket.set_send_buffer_bytes(0).unwrap();
        let room = count_room(&socket);
        for _ in 0..50 {
            let mut batch = batch_to(other.local_addr());
            let report = socket.send_batch(&mut batch);
            assert_eq!(
                (usize::from(COUNT), false),
                (report.datagrams, report.blocked)
            );
        }
        world.settle();
        assert_eq!(0, room.get());
    });
}
