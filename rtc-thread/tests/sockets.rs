//! Threads that serve sockets: conformance item 19.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket as Plain};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rtc_thread::{Budget, Thread, ThreadBound, ThreadHandle, socket_server};
use socket_server::{RecvBatch, UdpHandler, UdpOptions, UdpSocket};

/// Spent by failures only.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends everything back.
struct Echo(RecvBatch);

impl UdpHandler for Echo {
    fn on_readable(&mut self, socket: &UdpSocket) {
        while socket.recv(&mut self.0).is_ok() {
            for datagram in self.0.iter() {
                let _ = socket.send_to(datagram.source, datagram.data);
            }
        }
    }
}

/// An echo on a thread, and a client of it.
fn echo(thread: &Thread) -> (ThreadBound<UdpSocket>, Plain) {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let (socket, address) = thread
        .blocking_call(|| {
            let server = socket_server().expect("on a thread of ours");
            let socket = server.bind_udp(&UdpOptions::new(any)).unwrap();
            socket.set_handler(Echo(RecvBatch::new()));
            let address = socket.local_addr();
            (ThreadBound::on_current(socket).unwrap(), address)
        })
        .unwrap();
    let client = Plain::bind(any).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.connect(address).unwrap();
    (socket, client)
}

/// A process that is stopped and goes on finds its reads interrupted, and those with a limit are not
/// taken up again by the kernel.
fn recv(client: &Plain, buffer: &mut [u8]) -> usize {
    loop {
        match client.recv(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => return received.unwrap(),
        }
    }
}

fn round_trip(client: &Plain) {
    client.send(b"hello").unwrap();
    assert_eq!(5, recv(client, &mut [0; 10]));
}

/// A task that posts itself again, until told to stop.
fn flood(thread: &ThreadHandle, stop: &Arc<AtomicBool>) {
    if !stop.load(Ordering::Relaxed) {
        let (again, stop) = (thread.clone(), stop.clone());
        // Refused at the thread's end.
        let _ = thread.post(move || flood(&again, &stop));
    }
}

#[test]
fn a_thread_serves_its_sockets_while_it_sleeps() {
    let thread = Thread::builder().with_sockets().spawn().unwrap();
    let (_socket, client) = echo(&thread);
    for _ in 0..100 {
        round_trip(&client);
    }
}

#[test]
fn item_19_a_flood_of_tasks_does_not_starve_sockets_or_timers() {
    let budget = Budget {
        tasks: 100,
        ..Budget::default()
    };
    let thread = Thread::builder()
        .with_sockets()
        .budget(budget)
        .spawn()
        .unwrap();
    let (_socket, client) = echo(&thread);
    let stop = Arc::new(AtomicBool::new(false));
    flood(&thread.handle(), &stop);
    let (sender, ran) = crossbeam_channel::bounded(1);
    thread
        .post_delayed(Duration::from_millis(1), move || sender.send(()).unwrap())
        .unwrap();
    for _ in 0..100 {
        round_trip(&client);
    }
    ran.recv_timeout(PATIENCE).unwrap();
    stop.store(true, Ordering::Relaxed);
}

#[test]
fn item_19_a_flood_of_packets_does_not_starve_tasks() {
    let thread = Thread::builder().with_sockets().spawn().unwrap();
    let (_socket, client) = echo(&thread);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // The echoes are not read; what does not fit the client's buffer is lost.
                let _ = client.send(&[0; 1000]);
            }
        });
        // The flood has begun, and goes on.
        recv(&client, &mut [0; 1000]);
        for n in 0..1000 {
            assert_eq!(Ok(n), thread.blocking_call(|| n));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_socket_closes_on_its_thread_when_its_last_handle_goes() {
    let thread = Thread::builder().with_sockets().spawn().unwrap();
    let leaves_its_port = |_| {
        let (socket, client) = echo(&thread);
        let address = client.peer_addr().unwrap();
        assert!(Plain::bind(address).is_err());
        drop(socket);
        thread.blocking_call(|| ()).unwrap();
        Plain::bind(address).is_ok()
    };
    // A port that is free may be a stranger's at once, but not each time.
    assert!((0..20).any(leaves_its_port));
}

#[test]
fn a_thread_without_sockets_makes_none() {
    let thread = Thread::builder().spawn().unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let refused = thread.blocking_call(|| {
        let server = socket_server().expect("on a thread of ours");
        server.bind_udp(&UdpOptions::new(any)).unwrap_err().kind()
    });
    assert_eq!(Ok(ErrorKind::Unsupported), refused);
}
