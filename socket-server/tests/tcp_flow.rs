//! Data through TCP: partial writes and what follows them, conformance item 29; and much of it both
//! ways, item 30.

mod worlds;

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::time::Duration;

use socket_server::{Delay, LinkOptions, Loss, TcpHandler, TcpOptions, TcpSocket};

use worlds::random::Random;
use worlds::tcp::{Event, Peer, pair, pair_as};
use worlds::{World, between_virtual_hosts, in_every_world};

fn small_buffers() -> TcpOptions {
    TcpOptions::new()
        .send_buffer_bytes(8 * 1024)
        .recv_buffer_bytes(8 * 1024)
}

/// Sends until there is no more room. Says how much that was.
fn fill(socket: &TcpSocket) -> usize {
    let mut total = 0;
    loop {
        match socket.send(&[7; 5000]) {
            Ok(sent) => {
                assert!(sent > 0);
                total += sent;
            }
            Err(error) => {
                assert_eq!(ErrorKind::WouldBlock, error.kind());
                return total;
            }
        }
    }
}

fn writable_calls(peer: &Peer) -> usize {
    peer.log.count(Event::Writable)
}

#[test]
fn item_29_writable_comes_once_after_a_send_was_cut_short() {
    in_every_world(|world| {
        let options = small_buffers();
        let (client, server) = pair_as(world, &options, &options, Peer::idle);
        world.settle();
        assert_eq!(0, writable_calls(&client), "nobody has waited for it");
        let (mut sent, mut blocked) = (0, 0);
        // Until the buffers of both ends are full, between which data move on their own.
        loop {
            sent += fill(&client.socket);
            blocked += 1;
            world.settle();
            if writable_calls(&client) < blocked {
                break;
            }
            assert_eq!(blocked, writable_calls(&client), "called more than once");
        }
        assert_eq!(blocked - 1, writable_calls(&client));

        // The peer begins to read.
        let server = Peer::new(server.socket);
        world.wait_until("there is room", || writable_calls(&client) == blocked);
        world.wait_until("all arrives", || server.log.received() == sent);
        world.settle();
        assert_eq!(blocked, writable_calls(&client), "called again in quiet");
        let reads = server.log.readable_calls();
        world.settle();
        assert_eq!(reads, server.log.readable_calls(), "nothing was to be read");

        // A send that takes everything is followed by nothing, one that does not by one more.
        assert_eq!(100, client.socket.send(&[7; 100]).unwrap());
        world.settle();
        assert_eq!(blocked, writable_calls(&client));
        let sent = sent + 100 + fill(&client.socket);
        world.wait_until("there is room", || writable_calls(&client) == blocked + 1);
        world.wait_until("all arrives", || server.log.received() == sent);
        world.settle();
        assert_eq!(blocked + 1, writable_calls(&client));
        assert_eq!(0, writable_calls(&server));
    });
}

#[test]
fn item_29_who_never_ran_out_of_room_hears_nothing_of_it() {
    in_every_world(|world| {
        let (client, server) = pair(world);
        for _ in 0..50 {
            let received = server.log.received();
            assert_eq!(100, client.socket.send(&[1; 100]).unwrap());
            world.wait_until("it arrives", || server.log.received() == received + 100);
            assert_eq!(100, server.socket.send(&[1; 100]).unwrap());
        }
        world.wait_until("all arrives", || client.log.received() == 5000);
        world.settle();
        assert_eq!(vec![Event::Connected], client.log.events());
        assert!(server.log.events().is_empty());
    });
}

#[test]
fn item_29_a_handler_that_comes_late_hears_that_there_is_room() {
    in_every_world(|world| {
        let options = small_buffers();
        let (client, server) = pair_as(world, &options, &options, Peer::idle);
        client.socket.clear_handler();
        loop {
            let sent = fill(&client.socket);
            world.settle();
            if sent == 0 {
                break;
            }
        }
        let _server = Peer::new(server.socket);
        world.settle();
        let client = Peer::new(client.socket);
        world.wait_until("it is told", || writable_calls(&client) == 1);
        world.settle();
        assert_eq!(vec![Event::Writable], client.log.events());
    });
}

#[test]
fn item_29_a_blocked_virtual_host_fills_its_buffers_and_goes_on() {
    between_virtual_hosts(|world| {
        let options = small_buffers();
        let (client, server) = pair_as(world, &options, &options, Peer::new);
        let [host, _] = world.hosts();
        host.set_sending_blocked(true);
        let sent = fill(&client.socket);
        assert_eq!(16 * 1024, sent);
        world.pass(Duration::from_secs(5));
        assert_eq!(0, writable_calls(&client) + server.log.received());
        host.set_sending_blocked(false);
        world.wait_until("there is room", || writable_calls(&client) == 1);
        world.wait_until("it arrives", || server.log.received() == sent);
    });
}

/// Sends all it has as fast as it can, in pieces of random size, and checks what it is sent.
struct Pump {
    outgoing: Rc<Vec<u8>>,
    sent: usize,
    expected: Rc<Vec<u8>>,
    received: usize,
    random: Random,
    progress: Rc<RefCell<Progress>>,
}

#[derive(Default)]
struct Progress {
    received: usize,
    is_closed: bool,
}

impl Pump {
    fn send(&mut self, socket: &TcpSocket) {
        while self.sent < self.outgoing.len() {
            let end = self
                .outgoing
                .len()
                .min(self.sent + self.random.up_to(40_000));
            match socket.send(&self.outgoing[self.sent..end]) {
                Ok(sent) => self.sent += sent,
                Err(error) => {
                    assert_eq!(ErrorKind::WouldBlock, error.kind());
                    return;
                }
            }
        }
        socket.finish().unwrap();
    }
}

impl TcpHandler for Pump {
    fn on_connected(&mut self, socket: &TcpSocket) {
        self.send(socket);
    }

    fn on_writable(&mut self, socket: &TcpSocket) {
        self.send(socket);
    }

    fn on_readable(&mut self, socket: &TcpSocket) {
        let mut buffer = vec![0; self.random.up_to(30_000)];
        // Often leaves something behind, for the next call.
        for _ in 0..self.random.up_to(4) {
            let Ok(length) = socket.recv(&mut buffer) else {
                return;
            };
            let from = self.received;
            assert!(
                self.expected.get(from..from + length) == Some(&buffer[..length]),
                "something else arrived at {from}"
            );
            self.received += length;
        }
        self.progress.borrow_mut().received = self.received;
    }

    fn on_closed(&mut self, _socket: &TcpSocket, error: Option<io::Error>) {
        assert!(error.is_none(), "{error:?}");
        assert_eq!(self.expected.len(), self.received);
        self.progress.borrow_mut().is_closed = true;
    }
}

/// Each end sends so many bytes to the other.
#[track_caller]
fn transfer(world: &World, options: TcpOptions, bytes: usize) {
    let mut random = world.random();
    let options = options.half_open(true);
    let (client, server) = pair_as(world, &options, &options, Peer::idle);
    let up = Rc::new(random.bytes(bytes));
    let down = Rc::new(random.bytes(bytes));
    let sockets = [(&client, &up, &down), (&server, &down, &up)];
    let progress = sockets.map(|(peer, outgoing, expected)| {
        let progress = Rc::<RefCell<Progress>>::default();
        let mut pump = Pump {
            outgoing: outgoing.clone(),
            sent: 0,
            expected: expected.clone(),
            received: 0,
            random: Random::new(random.next()),
            progress: progress.clone(),
        };
        pump.send(&peer.socket);
        peer.socket.set_handler(pump);
        progress
    });
    world.wait_until("both have everything", || {
        progress.iter().all(|progress| progress.borrow().is_closed)
    });
}

#[test]
fn item_30_megabytes_go_both_ways_in_order() {
    in_every_world(|world| transfer(world, TcpOptions::new(), 4 << 20));
}

#[test]
fn item_30_small_buffers_only_make_it_slower() {
    in_every_world(|world| transfer(world, small_buffers(), 200_000));
}

#[test]
fn item_30_bad_links_only_make_it_slower() {
    let ms = Duration::from_millis;
    let bad = LinkOptions::new()
        .delay(Delay::Normal {
            mean: ms(20),
            deviation: ms(5),
        })
        .loss(Loss::Random(0.02))
        .duplicate(0.01)
        .reorder(0.02, ms(15));
    let narrow = LinkOptions::new()
        .delay(Delay::Constant(ms(40)))
        .bandwidth(500_000)
        .queue_bytes(30_000);
    let bursts = LinkOptions::new()
        .delay(Delay::Uniform(ms(1), ms(30)))
        .loss(Loss::Bursty {
            to_bad: 0.01,
            to_good: 0.3,
            good: 0.0,
            bad: 0.5,
        });
    for options in [bad, narrow, bursts] {
        between_virtual_hosts(|world| {
            for host in world.hosts() {
                host.uplink().set_options(options.clone());
            }
            transfer(world, TcpOptions::new(), 1 << 20);
            let [one, other] = world.hosts().map(|host| host.uplink().stats());
            let lost = one.lost + one.overflowed + other.lost + other.overflowed;
            assert!(lost > 0, "nothing was lost, and so nothing was shown");
        });
    }
}
