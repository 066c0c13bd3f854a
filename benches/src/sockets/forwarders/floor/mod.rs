//! What the machine allows: a loop around epoll and a socket, written by hand for this alone.

mod batched;

use std::mem::MaybeUninit;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;

use rustix::event::epoll;

use self::batched::Batched;
use super::{Forwarder, ThreadInfo};
use crate::sockets::load::any_port;

/// The longest datagram there is.
const BUFFER_BYTES: usize = 1 << 16;

/// The system calls that a loop forwards with.
trait Calls {
    /// Forwards what has arrived, until nothing is left.
    fn forward(&mut self, socket: &UdpSocket);
}

/// One for every datagram in, and one for every datagram out.
struct Plain {
    destinations: Vec<SocketAddr>,
    buffer: Vec<u8>,
}

impl Calls for Plain {
    fn forward(&mut self, socket: &UdpSocket) {
        while let Ok((bytes, _)) = socket.recv_from(&mut self.buffer) {
            for destination in &self.destinations {
                // What there is no room for is lost, as datagrams are.
                let _ = socket.send_to(&self.buffer[..bytes], destination);
            }
        }
    }
}

/// As socket-server's: `recvmmsg`, and `sendmsg` for what goes to one destination.
pub(crate) fn start_batched(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let destinations = destinations.to_vec();
    start(move |socket| Batched::new(socket, &destinations))
}

pub(crate) fn start_plain(destinations: &[SocketAddr]) -> Result<Forwarder, String> {
    let destinations = destinations.to_vec();
    start(|_| {
        Ok(Plain {
            destinations,
            buffer: vec![0; BUFFER_BYTES],
        })
    })
}

struct Running {
    address: SocketAddr,
    quit: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.quit.store(true, Ordering::Relaxed);
        // The loop sees it when it wakes.
        let sent = UdpSocket::bind(any_port()).and_then(|socket| socket.send_to(&[], self.address));
        sent.expect("a socket of this machine can be sent to");
        if let Some(thread) = self.thread.take() {
            let ended = thread.join().expect("it does not panic");
            ended.expect("it does not fail once it has started");
        }
    }
}

fn start<C: Calls>(
    calls: impl FnOnce(&UdpSocket) -> Result<C, String> + Send + 'static,
) -> Result<Forwarder, String> {
    let socket = UdpSocket::bind(any_port()).map_err(|error| error.to_string())?;
    let address = socket.local_addr().map_err(|error| error.to_string())?;
    let quit = Arc::new(AtomicBool::new(false));
    let (started, wait) = sync_channel(1);
    let thread = std::thread::spawn({
        let quit = quit.clone();
        move || {
            let (poll, mut calls) = (poll(&socket)?, calls(&socket)?);
            started
                .send(ThreadInfo::of_this_thread()?)
                .expect("the starter waits");
            let mut events = [MaybeUninit::uninit(); 4];
            while !quit.load(Ordering::Relaxed) {
                // Interrupted by a signal, it finds nothing to forward.
                let _ = epoll::wait(&poll, &mut events[..], None);
                calls.forward(&socket);
            }
            Ok(())
        }
    });
    let Ok(info) = wait.recv() else {
        let ended = thread.join().expect("it does not panic");
        return Err(ended.expect_err("it has not started"));
    };
    let thread = Some(thread);
    Ok(Forwarder {
        address,
        thread: info,
        _running: Box::new(Running {
            address,
            quit,
            thread,
        }),
    })
}

/// Edge-triggered, as mio's.
fn poll(socket: &UdpSocket) -> Result<rustix::fd::OwnedFd, String> {
    let open = || {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&poll, socket, epoll::EventData::new_u64(0), flags)?;
        Ok::<_, rustix::io::Errno>(poll)
    };
    socket
        .set_nonblocking(true)
        .map_err(|error| error.to_string())?;
    open().map_err(|error| error.to_string())
}
