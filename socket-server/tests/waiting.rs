//! Waiting, being woken, and being on time: conformance item 35. (Signals that interrupt waits are in
//! `interruptions.rs`.)

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use socket_server::{
    HostOptions, ListenOptions, MaxWait, NullSocketServer, PhysicalSocketServer, ProcessIo,
    RecvBatch, SocketServer, TcpOptions, UdpHandler, UdpOptions, UdpSocket, VirtualNetwork,
    VirtualTime, WakeHandle,
};

/// Those whose waits take real time.
fn servers() -> [Rc<dyn SocketServer>; 2] {
    [
        Rc::new(NullSocketServer::new()),
        Rc::new(PhysicalSocketServer::new().unwrap()),
    ]
}

/// A server and the time that it goes by.
struct Timed {
    server: Rc<dyn SocketServer>,
    time: Option<VirtualTime>,
}

impl Timed {
    fn now(&self) -> Instant {
        let time = self.time.as_ref();
        time.map_or_else(Instant::now, VirtualTime::now)
    }

    #[track_caller]
    fn wait(&self, max_wait: MaxWait) {
        self.server.wait(max_wait, ProcessIo::Yes).unwrap();
    }
}

fn timed_servers() -> [Timed; 3] {
    let [null, physical] = servers();
    let network = VirtualNetwork::new(1);
    let host = network.add_host(HostOptions::new("host")).unwrap();
    let timed = |server, time| Timed { server, time };
    [
        timed(null, None),
        timed(physical, None),
        timed(Rc::new(host.server()), Some(network.time().clone())),
    ]
}

#[test]
fn item_35_wake_handles_can_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<WakeHandle>();
}

#[test]
fn item_35_a_wake_up_during_a_wait_ends_it() {
    for server in servers() {
        for process_io in [ProcessIo::Yes, ProcessIo::No] {
            let wake = server.wake_handle();
            let waker = std::thread::spawn(move || wake.wake());
            server.wait(MaxWait::Forever, process_io).unwrap();
            waker.join().unwrap();
        }
    }
}

#[test]
fn item_35_a_wake_up_before_a_wait_ends_it_and_many_are_one() {
    for timed in timed_servers() {
        for _ in 0..1000 {
            timed.server.wake_handle().wake();
        }
        let before = timed.now();
        timed.wait(MaxWait::Forever);
        if timed.time.is_some() {
            assert_eq!(before, timed.now(), "virtual time has moved on");
        }
        // Were a second one left, this would end before its time.
        let deadline = timed.now() + Duration::from_millis(20);
        timed.wait(MaxWait::Until(deadline));
        assert!(timed.now() >= deadline);
    }
}

#[test]
fn item_35_a_wait_that_is_over_at_once_takes_the_wake_up_with_it() {
    for timed in timed_servers() {
        for past in [MaxWait::Poll, MaxWait::Until(timed.now())] {
            timed.server.wake_handle().wake();
            timed.wait(past);
            let deadline = timed.now() + Duration::from_millis(10);
            timed.wait(MaxWait::Until(deadline));
            assert!(timed.now() >= deadline);
        }
    }
}

#[test]
fn item_35_no_wake_up_is_lost_among_many() {
    for server in servers() {
        let (sent, seen) = (AtomicU64::new(0), 20_000);
        let wake = server.wake_handle();
        std::thread::scope(|scope| {
            let sent = &sent;
            scope.spawn(move || {
                for n in 1..=seen {
                    sent.store(n, Ordering::SeqCst);
                    wake.wake();
                }
            });
            // Hangs if the wake-up of the last value is lost.
            while sent.load(Ordering::SeqCst) < seen {
                server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
            }
        });
    }
}

#[test]
fn item_35_neither_wake_ups_nor_answers_are_lost_among_each_other() {
    let server = PhysicalSocketServer::new().unwrap();
    let (sent, last, answers) = (AtomicU64::new(0), 20_000, 500);
    let answered = Rc::new(Cell::new(0));
    let wake = server.wake_handle();
    std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || {
            for n in 1..=last {
                sent.store(n, Ordering::SeqCst);
                wake.wake();
            }
        });
        let mut asked = Vec::new();
        // Hangs if the wake-up of the last value is lost, or an answer.
        while sent.load(Ordering::SeqCst) < last || answered.get() < answers {
            if asked.len() < answers {
                let counted = answered.clone();
                let done = Box::new(move |_| counted.set(counted.get() + 1));
                asked.push(server.resolve("127.0.0.1", 1, done).unwrap());
            }
            server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
        }
    });
    assert_eq!(answers, answered.get());
}

#[test]
fn item_35_waking_a_server_that_is_gone_is_harmless() {
    for timed in timed_servers() {
        let wake = timed.server.wake_handle();
        drop(timed);
        wake.wake();
    }
}

#[test]
fn item_35_a_wait_until_is_never_early() {
    for timed in timed_servers() {
        for micros in [0, 1, 20, 150, 400, 999, 1000, 1001, 2500] {
            let deadline = timed.now() + Duration::from_micros(micros);
            timed.wait(MaxWait::Until(deadline));
            assert!(timed.now() >= deadline, "{micros} µs");
            if timed.time.is_some() {
                assert_eq!(deadline, timed.now(), "virtual waits are never late either");
            }
        }
    }
}

#[test]
fn item_35_deadlines_may_come_in_any_order() {
    for timed in timed_servers() {
        let far = timed.now() + Duration::from_secs(3600);
        timed.server.wake_handle().wake();
        timed.wait(MaxWait::Until(far));
        let near = timed.now() + Duration::from_millis(3);
        timed.wait(MaxWait::Until(near));
        assert!(timed.now() >= near);
        // The timer that was set for an earlier moment must not end a later wait.
        timed.server.wake_handle().wake();
        let soon = timed.now() + Duration::from_millis(3);
        timed.wait(MaxWait::Until(soon));
        let later = soon + Duration::from_millis(10);
        timed.wait(MaxWait::Until(later));
        assert!(timed.now() >= later);
    }
}

#[test]
fn item_35_a_poll_does_not_wait() {
    for timed in timed_servers() {
        let before = timed.now();
        timed.wait(MaxWait::Poll);
        timed.server.wait(MaxWait::Poll, ProcessIo::No).unwrap();
        if timed.time.is_some() {
            assert_eq!(before, timed.now());
        }
    }
}

#[test]
fn item_35_a_virtual_wait_for_what_can_never_come_is_an_error_and_harms_nothing() {
    let network = VirtualNetwork::new(1);
    let server = network.add_host(HostOptions::new("host")).unwrap().server();
    for process_io in [ProcessIo::Yes, ProcessIo::No] {
        let refused = server.wait(MaxWait::Forever, process_io).unwrap_err();
        assert_eq!(std::io::ErrorKind::Deadlock, refused.kind());
    }
    server.wake_handle().wake();
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    // With something to come it is none.
    let (answered, start) = (Rc::new(Cell::new(false)), network.time().now());
    let said = answered.clone();
    let done = Box::new(move |_| said.set(true));
    let _resolution = server.resolve("host", 1, done).unwrap();
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert!(answered.get());
    assert!(network.time().now() > start);
}

#[test]
fn item_35_a_server_without_sockets_makes_none() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let server = NullSocketServer::new();
    let refused = [
        server.bind_udp(&UdpOptions::new(any)).unwrap_err(),
        server.tcp_socket(&TcpOptions::new()).unwrap_err(),
        server.listen_tcp(&ListenOptions::new(any)).unwrap_err(),
        server
            .resolve("localhost", 1, Box::new(|_| {}))
            .unwrap_err(),
    ];
    for error in refused {
        assert_eq!(std::io::ErrorKind::Unsupported, error.kind());
    }
}

/// Counts what arrives, and reports what a nested wait says.
struct Nested {
    server: Rc<dyn SocketServer>,
    batch: RecvBatch,
    said: std::sync::mpsc::Sender<(usize, std::io::ErrorKind)>,
}

impl UdpHandler for Nested {
    fn on_readable(&mut self, socket: &UdpSocket) {
        let mut received = 0;
        while let Ok(n) = socket.recv(&mut self.batch) {
            received += n;
        }
        if received > 0 {
            let refused = self.server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap_err();
            self.said.send((received, refused.kind())).unwrap();
        }
    }
}

#[test]
fn item_35_a_wait_without_io_leaves_events_for_the_next_with_it_and_nested_waits_are_errors() {
    let [_, physical, virtual_one] = timed_servers();
    for timed in [physical, virtual_one] {
        let server = &timed.server;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = server.bind_udp(&UdpOptions::new(any)).unwrap();
        let (said, heard) = std::sync::mpsc::channel();
        socket.set_handler(Nested {
            server: server.clone(),
            batch: RecvBatch::new(),
            said,
        });
        let client = server.bind_udp(&UdpOptions::new(any)).unwrap();
        client.send_to(socket.local_addr(), b"x").unwrap();
        // The event does not end this wait either.
        let deadline = timed.now() + Duration::from_millis(20);
        server
            .wait(MaxWait::Until(deadline), ProcessIo::No)
            .unwrap();
        assert!(timed.now() >= deadline);
        assert!(heard.try_recv().is_err());
        server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
        assert_eq!(Ok((1, std::io::ErrorKind::ResourceBusy)), heard.try_recv());
        // And one that is not nested is none again.
        timed.wait(MaxWait::Poll);
    }
}
