//! A UDP echo server: a thread that sleeps until datagrams come, and sends them back.
//!
//! The place to start reading, and to copy from. It is for networks one trusts: whoever forges the
//! source of a datagram chooses who gets the answer.

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Parser;
use rtc_thread::{CallError, JoinError, SpawnError, Thread, ThreadBound};
use socket_server::{Envelope, RecvBatch, SendBatch, UdpHandler, UdpOptions, UdpSocket};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// Receive calls per readiness. What is left is read in the next turn, after the thread's tasks and
/// other sockets have had theirs.
const RECEIVES_PER_TURN: usize = 8;
/// Room for a burst. The system may give less.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// Sends every UDP datagram back to where it came from.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    /// Where to listen. `[::]` takes IPv4 too; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "[::]:7000")]
    listen: SocketAddr,

    /// What to log, to standard error: error, warn, info, debug or trace, for all or for modules.
    #[arg(long, value_name = "FILTER", default_value = "info")]
    log: String,
}

/// Why the program ends.
#[derive(Debug, Error)]
enum Failure {
    #[error("--log: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    #[error("cannot start the network thread: {0}")]
    Spawn(#[from] SpawnError),
    #[error("cannot listen on {0}: {1}; --listen chooses another address")]
    Listen(SocketAddr, io::Error),
    #[error("the network thread does not answer: {0}")]
    Call(#[from] CallError),
    #[error("the network thread did not end well: {0}")]
    End(#[from] JoinError),
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<(), Failure> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&cli.log)?)
        .with_thread_names(true)
        .with_writer(io::stderr)
        .init();
    let network = Thread::builder().name("network").with_sockets().spawn()?;
    let (_socket, address) = network
        .blocking_call(|| open(cli.listen))?
        .map_err(|error| Failure::Listen(cli.listen, error))?;
    println!("Echo on UDP {address}\nCtrl-C ends it.");
    // There is nothing to save, so Ctrl-C may end the process where it stands; the thread ends
    // before that only if it panics.
    Ok(network.join()?)
}

/// Opens the socket on the thread that will serve it. It never leaves that thread; what is returned
/// is a handle, and dropping the handle closes the socket.
fn open(listen: SocketAddr) -> io::Result<(ThreadBound<UdpSocket>, SocketAddr)> {
    let not_ours = || io::Error::other("not on a thread with sockets");
    let server = rtc_thread::socket_server().ok_or_else(not_ours)?;
    let options = UdpOptions::new(listen)
        .recv_buffer_bytes(SOCKET_BUFFER_BYTES)
        .send_buffer_bytes(SOCKET_BUFFER_BYTES);
    let socket = server.bind_udp(&options)?;
    socket.set_handler(Echo::default());
    let address = socket.local_addr();
    let socket = ThreadBound::on_current(socket).ok_or_else(not_ours)?;
    Ok((socket, address))
}

/// What the thread calls when the socket can be used. Both batches keep their memory: once they have
/// grown, an echo allocates nothing.
#[derive(Debug, Default)]
struct Echo {
    arrived: RecvBatch,
    leaving: SendBatch,
}

impl UdpHandler for Echo {
    fn on_readable(&mut self, socket: &UdpSocket) {
        for _ in 0..RECEIVES_PER_TURN {
            match socket.recv(&mut self.arrived) {
                Ok(datagrams) => tracing::trace!(datagrams, "received"),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    tracing::debug!(%error, "receiving failed");
                    break;
                }
            }
            for datagram in self.arrived.iter() {
                // From the address that was asked: a client does not know our others. With the mark
                // it came with: a client that measures congestion sees what the network put there.
                let to = datagram.source;
                let envelope = Envelope::to(to)
                    .from_ip(datagram.local_ip)
                    .ecn(datagram.ecn);
                if self.leaving.push(envelope, datagram.data).is_err() {
                    tracing::debug!(%to, "an echo was dropped: too many wait to leave");
                }
            }
            self.flush(socket);
        }
    }

    fn on_writable(&mut self, socket: &UdpSocket) {
        self.flush(socket);
    }
}

impl Echo {
    /// What there is no room for stays in the batch, and `on_writable` is called when there is room.
    fn flush(&mut self, socket: &UdpSocket) {
        let report = socket.send_batch(&mut self.leaving);
        tracing::trace!(
            datagrams = report.datagrams,
            blocked = report.blocked,
            "sent"
        );
        if let Some(error) = report.last_error {
            tracing::debug!(%error, failed = report.failed, "sending failed");
        }
    }
}
