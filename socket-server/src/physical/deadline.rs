//! Ending a poll at a moment.

pub(crate) use imp::Deadline;

/// A timer in the poll set: exact to the nanosecond as far as the kernel is.
#[cfg(target_os = "linux")]
mod imp {
    use std::io;
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::time::{Duration, Instant};

    use mio::unix::SourceFd;
    use mio::{Interest, Registry, Token};
    use rustix::time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    };

    /// mio rounds its timeout up to a millisecond; so the deadline is a timerfd.
    ///
    /// It is registered edge-triggered, and every expiry is an edge: so it need not be read.
    #[derive(Debug)]
    pub(crate) struct Deadline {
        timer: OwnedFd,
        /// When it will fire, so that it is set only when that changes.
        armed: Option<Instant>,
    }

    impl Deadline {
        pub(crate) fn new(registry: &Registry, token: Token) -> io::Result<Self> {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
            let raw = timer.as_raw_fd();
            registry.register(&mut SourceFd(&raw), token, Interest::READABLE)?;
            Ok(Self { timer, armed: None })
        }

        /// Sees to it that a poll with the returned timeout ends at the deadline.
        pub(crate) fn arm(&mut self, deadline: Instant) -> io::Result<Option<Duration>> {
            let left = deadline.saturating_duration_since(Instant::now());
            // A timer set to zero is a timer switched off.
            if left.is_zero() {
                return Ok(Some(Duration::ZERO));
            }
            if self.armed != Some(deadline) {
                let zero = Timespec {
                    tv_sec: 0,
                    tv_nsec: 0,
                };
                let setting = Itimerspec {
                    it_interval: zero,
                    it_value: Timespec {
                        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
                        tv_nsec: left.subsec_nanos().into(),
                    },
                };
                self.armed = None;
                timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting)?;
                self.armed = Some(deadline);
            }
            Ok(None)
        }

        /// The timer has fired.
        pub(crate) fn fired(&mut self) {
            self.armed = None;
        }
    }
}

/// The poll's own timeout, which mio rounds up to a millisecond.
#[cfg(not(target_os = "linux"))]
mod imp {
    use std::io;
    use std::time::{Duration, Instant};

    use mio::{Registry, Token};

    #[derive(Debug)]
    pub(crate) struct Deadline;

    impl Deadline {
        pub(crate) fn new(_registry: &Registry, _token: Token) -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn arm(&mut self, deadline: Instant) -> io::Result<Option<Duration>> {
            Ok(Some(deadline.saturating_duration_since(Instant::now())))
        }

        pub(crate) fn fired(&mut self) {}
    }
}
