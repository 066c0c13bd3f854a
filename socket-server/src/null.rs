//! A server without sockets.

use std::io;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::server::{MaxWait, ProcessIo, SocketServer};
use crate::wake::{Wake, WakeHandle};

/// A server for threads that have no sockets: it parks.
///
/// Deadlines are as exact as the operating system's timed waits, on Linux to some 50 µs.
///
/// libwebrtc: `NullSocketServer`.
#[derive(Debug, Default)]
pub struct NullSocketServer {
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(&self) {
        let was_rung = std::mem::replace(&mut *self.rung.lock(), true);
        // One thread waits here, and whoever rang before has notified it.
        if !was_rung {
            self.changed.notify_one();
        }
    }
}

impl NullSocketServer {
    /// Makes a server.
    pub fn new() -> Self {
        Self::default()
    }
}

impl SocketServer for NullSocketServer {
    fn wait(&self, max_wait: MaxWait, _process_io: ProcessIo) -> io::Result<()> {
        let mut rung = self.bell.rung.lock();
        while !*rung {
            match max_wait {
                MaxWait::Poll => break,
                MaxWait::Forever => self.bell.changed.wait(&mut rung),
                MaxWait::Until(deadline) => {
                    if self
                        .bell
                        .changed
                        .wait_until(&mut rung, deadline)
                        .timed_out()
                    {
                        break;
                    }
                }
            }
        }
        *rung = false;
        Ok(())
    }

    fn wake_handle(&self) -> WakeHandle {
        WakeHandle::new(self.bell.clone())
    }
}
