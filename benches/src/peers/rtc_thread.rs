//! rtc-thread itself.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use rtc_thread::{Builder, DelayedTask, Thread, ThreadBound, ThreadHandle, WaitStrategy};
use socket_server::{UdpOptions, UdpSocket};

use super::{Handle, Peer, Timers};

/// How long a thread spins before it parks, if it does.
///
/// Less than the pause of the idle workloads, so that those still find it asleep.
const SPIN: Duration = Duration::from_micros(50);

/// What the thread waits in, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) sockets: bool,
    pub(crate) idle_sockets: usize,
    pub(crate) spins: bool,
}

pub(crate) struct RtcThread {
    // Before the thread, which it needs to be dropped on.
    _idle_sockets: Option<ThreadBound<Vec<UdpSocket>>>,
    thread: Thread,
}

/// The one place that makes a thread spin before it parks.
fn spinning(builder: Builder) -> Builder {
    builder.wait_strategy(WaitStrategy::SpinThenPark(SPIN))
}

pub(crate) fn start(kind: Kind) -> Result<RtcThread, String> {
    let mut builder = Thread::builder();
    if kind.sockets {
        builder = builder.with_sockets();
    }
    if kind.spins {
        builder = spinning(builder);
    }
    let thread = builder.spawn().map_err(|error| error.to_string())?;
    let idle_sockets = (kind.idle_sockets > 0)
        .then(|| bind(&thread, kind.idle_sockets))
        .transpose()?;
    Ok(RtcThread {
        _idle_sockets: idle_sockets,
        thread,
    })
}

fn bind(thread: &ThreadHandle, count: usize) -> Result<ThreadBound<Vec<UdpSocket>>, String> {
    let sockets = ThreadBound::new(thread, Vec::new).map_err(|error| error.to_string())?;
    sockets
        .blocking_call(move |sockets| {
            let server = rtc_thread::socket_server().ok_or("no socket server")?;
            let options = UdpOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
            for _ in 0..count {
                sockets.push(
                    server
                        .bind_udp(&options)
                        .map_err(|error| error.to_string())?,
                );
            }
            Ok::<_, String>(())
        })
        .map_err(|error| error.to_string())??;
    Ok(sockets)
}

impl Peer for RtcThread {
    type Handle = ThreadHandle;

    fn handle(&self) -> ThreadHandle {
        self.thread.handle()
    }
}

impl Handle for ThreadHandle {
    type Timer = DelayedTask;

    const TIMERS: Timers = Timers::Anywhere;
    const CANCELS: bool = true;
    const HAS_BLOCKING_CALL: bool = true;

    #[inline]
    fn post(&self, task: impl FnOnce() + Send + 'static) {
        Self::post(self, task).expect("the thread runs");
    }

    fn blocking_call(&self) {
        Self::blocking_call(self, || ()).expect("the thread runs");
    }

    fn post_delayed(&self, delay: Duration, task: impl FnOnce() + Send + 'static) -> DelayedTask {
        Self::post_delayed(self, delay, task).expect("the thread runs")
    }

    fn cancel(timer: DelayedTask) {
        drop(timer.cancel());
    }
}
