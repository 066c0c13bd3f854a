//! How much processor time a thread has used.

use std::time::Duration;

/// The processor time of one thread, user and system; any thread of the process can read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuClock(libc::clockid_t);

impl CpuClock {
    pub(crate) fn of_this_thread() -> Result<Self, String> {
        let mut clock = 0;
        // SAFETY: the calling thread exists, and the place to write to is valid.
        let error = unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) };
        match error {
            0 => Ok(Self(clock)),
            _ => Err(std::io::Error::from_raw_os_error(error).to_string()),
        }
    }

    pub(crate) fn now(self) -> Result<Duration, String> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the place to write to is valid.
        if unsafe { libc::clock_gettime(self.0, &raw mut time) } != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}
