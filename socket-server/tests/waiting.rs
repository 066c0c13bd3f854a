//! Waiting, being woken, and being on time: conformance item 35.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket_server::{
    MaxWait, NullSocketServer, PhysicalSocketServer, ProcessIo, RecvBatch, SocketServer,
    UdpHandler, UdpOptions, UdpSocket, WakeHandle,
};

fn servers() -> [Rc<dyn SocketServer>; 2] {
    [
        Rc::new(NullSocketServer::new()),
        Rc::new(PhysicalSocketServer::new().unwrap()),
    ]
}

#[test]
fn wake_handles_can_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<WakeHandle>();
}

#[test]
fn a_wake_up_during_a_wait_ends_it() {
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
fn a_wake_up_before_a_wait_ends_it_and_many_are_one() {
    for server in servers() {
        for _ in 0..1000 {
            server.wake_handle().wake();
        }
        server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
        // Were a second one left, this would end before its time.
        let deadline = Instant::now() + Duration::from_millis(20);
        server
            .wait(MaxWait::Until(deadline), ProcessIo::Yes)
            .unwrap();
        assert!(Instant::now() >= deadline);
    }
}

#[test]
fn no_wake_up_is_lost_among_many() {
    for server in servers() {
        let (sent, seen) = (std::sync::atomic::AtomicU64::new(0), 20_000);
        let wake = server.wake_handle();
        std::thread::scope(|scope| {
            let sent = &sent;
            scope.spawn(move || {
                for n in 1..=seen {
                    sent.store(n, std::sync::atomic::Ordering::SeqCst);
                    wake.wake();
                }
            });
            // Hangs if the wake-up of the last value is lost.
            while sent.load(std::sync::atomic::Ordering::SeqCst) < seen {
                server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
            }
        });
    }
}

#[test]
fn waking_a_server_that_is_gone_is_harmless() {
    for server in servers() {
        let wake = server.wake_handle();
        drop(server);
        wake.wake();
    }
}

#[test]
fn a_wait_until_is_never_early() {
    for server in servers() {
        for micros in [0, 1, 20, 150, 400, 999, 1000, 1001, 2500] {
            let deadline = Instant::now() + Duration::from_micros(micros);
            server
                .wait(MaxWait::Until(deadline), ProcessIo::Yes)
                .unwrap();
            assert!(Instant::now() >= deadline, "{micros} µs");
        }
    }
}

#[test]
fn deadlines_may_come_in_any_order() {
    for server in servers() {
        let far = Instant::now() + Duration::from_secs(3600);
        server.wake_handle().wake();
        server.wait(MaxWait::Until(far), ProcessIo::Yes).unwrap();
        let near = Instant::now() + Duration::from_millis(3);
        server.wait(MaxWait::Until(near), ProcessIo::Yes).unwrap();
        assert!(Instant::now() >= near);
        // The timer that was set for an earlier moment must not end a later wait.
        server.wake_handle().wake();
        let soon = Instant::now() + Duration::from_millis(3);
        server.wait(MaxWait::Until(soon), ProcessIo::Yes).unwrap();
        let later = soon + Duration::from_millis(10);
        server.wait(MaxWait::Until(later), ProcessIo::Yes).unwrap();
        assert!(Instant::now() >= later);
    }
}

#[test]
fn a_poll_does_not_wait() {
    for server in servers() {
        server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
        server.wait(MaxWait::Poll, ProcessIo::No).unwrap();
    }
}

#[test]
fn a_server_without_sockets_makes_none() {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let refused = NullSocketServer::new()
        .bind_udp(&UdpOptions::new(any))
        .unwrap_err();
    assert_eq!(std::io::ErrorKind::Unsupported, refused.kind());
}

/// Counts what arrives, and reports what a nested wait says.
struct Nested {
    server: Rc<PhysicalSocketServer>,
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
fn a_wait_without_io_leaves_events_for_the_next_with_it_and_nested_waits_are_errors() {
    let server = Rc::new(PhysicalSocketServer::new().unwrap());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = server.bind_udp(&UdpOptions::new(any)).unwrap();
    let (said, heard) = std::sync::mpsc::channel();
    socket.set_handler(Nested {
        server: server.clone(),
        batch: RecvBatch::new(),
        said,
    });
    let client = std::net::UdpSocket::bind(any).unwrap();
    client.send_to(b"x", socket.local_addr()).unwrap();
    // The event does not end this wait either.
    let deadline = Instant::now() + Duration::from_millis(20);
    server
        .wait(MaxWait::Until(deadline), ProcessIo::No)
        .unwrap();
    assert!(Instant::now() >= deadline);
    assert!(heard.try_recv().is_err());
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert_eq!(Ok((1, std::io::ErrorKind::ResourceBusy)), heard.try_recv());
}
