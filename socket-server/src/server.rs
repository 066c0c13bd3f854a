//! What a thread waits in.

use std::cell::Cell;
use std::fmt::Debug;
use std::io;
use std::time::Instant;

use crate::resolution::{OnResolved, Resolution};
use crate::signal::{Signal, SignalHandler};
use crate::tcp::TcpSocket;
use crate::tcp_listener::TcpListener;
use crate::tcp_options::{ListenOptions, TcpOptions};
use crate::udp::UdpSocket;
use crate::udp_options::UdpOptions;
use crate::wake::WakeHandle;

/// How long a wait may last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxWait {
    /// Not at all: what is ready is served, and that is it.
    Poll,
    /// Until this moment.
    Until(Instant),
    /// Until something happens.
    Forever,
}

/// Whether a wait serves sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessIo {
    /// Handlers of ready sockets are called.
    Yes,
    /// Sockets that become ready stay so, for the next wait that serves them. They do not end this
    /// one.
    No,
}

/// The one place in which a thread waits: for a wake-up, for a moment, and for its sockets.
///
/// A server belongs to the thread that made it, and so do its sockets; none of them is `Send`. Only
/// the [`WakeHandle`] is for others.
///
/// The trait does not say how sockets get ready or who does their I/O, so that a server may simulate
/// a network, or be built on completion instead of readiness.
///
/// libwebrtc: `SocketServer`.
pub trait SocketServer: Debug {
    /// Sleeps until there is a wake-up, or the time has come, or handlers of sockets have been
    /// called.
    ///
    /// - Wake-ups are sticky: one that comes while nobody waits ends the next wait at once. Any
    ///   number of them that no wait has seen yet count as one.
    /// - It never returns because of the time before that time. How soon after is the server's.
    /// - With [`ProcessIo::Yes`] it returns after one bounded, fair round of handlers, also if there
    ///   is more to do; the next wait then does not sleep.
    /// - Signals do not end it.
    ///
    /// libwebrtc: `Wait`, which goes on serving sockets until it is woken or the time has come.
    ///
    /// # Errors
    ///
    /// The operating system's; the server can be used again. And
    /// [`ErrorKind::ResourceBusy`](io::ErrorKind::ResourceBusy) if called from within a handler.
    fn wait(&self, max_wait: MaxWait, process_io: ProcessIo) -> io::Result<()>;

    /// The means of ending a wait from another thread.
    fn wake_handle(&self) -> WakeHandle;

    /// The present moment, by the clock that deadlines of waits are on.
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// Whether a wait that serves sockets would find something to do at once, as far as can be told
    /// without asking the operating system. For schedulers of virtual time.
    fn has_ready_sockets(&self) -> bool {
        false
    }

    /// Opens a UDP socket that this server serves.
    ///
    /// libwebrtc: `CreateSocket(SOCK_DGRAM)` and `Bind`.
    ///
    /// # Errors
    ///
    /// The operating system's; [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the server
    /// has no sockets.
    fn bind_udp(&self, options: &UdpOptions) -> io::Result<UdpSocket> {
        let _ = options;
        Err(no_sockets())
    }

    /// Makes a TCP socket that this server serves. It is not connected yet.
    ///
    /// libwebrtc: `CreateSocket(SOCK_STREAM)`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the server has no sockets.
    fn tcp_socket(&self, options: &TcpOptions) -> io::Result<TcpSocket> {
        let _ = options;
        Err(no_sockets())
    }

    /// Opens a TCP listener that this server serves.
    ///
    /// libwebrtc: `CreateSocket(SOCK_STREAM)`, `Bind` and `Listen`.
    ///
    /// # Errors
    ///
    /// The operating system's; [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the server
    /// has no sockets.
    fn listen_tcp(&self, options: &ListenOptions) -> io::Result<TcpListener> {
        let _ = options;
        Err(no_sockets())
    }

    /// Finds the addresses of a host, of both families, without blocking. `done` is called in a
    /// wait, unless the [`Resolution`] has been dropped before.
    ///
    /// libwebrtc: `AsyncDnsResolver`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ResourceBusy`](io::ErrorKind::ResourceBusy) if too many names are being
    /// resolved; [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the server cannot.
    fn resolve(&self, host: &str, port: u16, done: OnResolved) -> io::Result<Resolution> {
        let _ = (host, port, done);
        Err(no_sockets())
    }

    /// Calls a handler, in a wait, when the process gets a signal, until the [`SignalHandler`] is
    /// dropped. A signal that is raised many times before the handler is called counts as one, as
    /// usual; one that is raised while it runs leads to another call. What the signal did before,
    /// such as ending the process, it does no longer, also when the handler is dropped.
    ///
    /// libwebrtc: `SetPosixSignalHandler`, which it had until 2020.
    ///
    /// # Errors
    ///
    /// A signal that cannot be caught; [`ErrorKind::Unsupported`](io::ErrorKind::Unsupported) if the
    /// server, or the system, has none.
    fn on_signal(&self, signal: Signal, handler: Box<dyn FnMut()>) -> io::Result<SignalHandler> {
        let _ = (signal, handler);
        Err(no_sockets())
    }
}

fn no_sockets() -> io::Error {
    let message = "this socket server has nothing of the kind";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Keeps waits from nesting, also when a handler panics out of one.
pub(crate) struct Waiting<'a>(&'a Cell<bool>);

impl<'a> Waiting<'a> {
    pub(crate) fn begin(flag: &'a Cell<bool>) -> io::Result<Self> {
        if flag.replace(true) {
            let message = "a wait from within a handler of the same server";
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, message));
        }
        Ok(Self(flag))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}
