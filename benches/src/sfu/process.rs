//! Another process: what it costs, and its end.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::pin;

/// A process on the second core, with all threads that it will have. It is killed when this is
/// dropped.
#[derive(Debug)]
pub(crate) struct Pinned(pub(crate) Child);

impl Pinned {
    /// The calling thread is on the first core afterwards.
    pub(crate) fn start(command: &mut Command) -> io::Result<Self> {
        // The scheduler shares each core among sessions, by where their threads have work to do. In one
        // with a server of a hundred threads on the other core, the clients would hardly get theirs
        // when somebody else wants it too.
        let new_session = || rustix::process::setsid().map(drop).map_err(io::Error::from);
        // SAFETY: it makes one system call, which is allowed between fork and exec.
        unsafe { command.pre_exec(new_session) };
        // A child is where its parent was.
        pin::to(1);
        let child = command.stdin(Stdio::null()).spawn();
        pin::to(0);
        child.map(Self)
    }

    pub(crate) fn has_ended(&mut self) -> Option<String> {
        let status = self.0.try_wait().ok()??;
        Some(status.to_string())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The processor time of all threads of a process, user and system, in nanoseconds: the scheduler's
/// own account, as `/proc/PID/schedstat` has it of one thread. `/proc/PID/stat` counts ticks of 10
/// milliseconds, too coarse for a server that is hardly busy. On loopback it includes delivery to the
/// receiver's socket.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessClock(libc::clockid_t);

impl ProcessClock {
    pub(crate) fn of(process: u32) -> Result<Self, String> {
        let mut clock = 0;
        // SAFETY: the place to write to is valid.
        let error = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
        match error {
            0 => Ok(Self(clock)),
            _ => Err(io::Error::from_raw_os_error(error).to_string()),
        }
    }

    pub(crate) fn now(self) -> Result<Duration, String> {
        let mut time = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: the place to write to is valid.
        if unsafe { libc::clock_gettime(self.0, &raw mut time) } != 0 {
            return Err(io::Error::last_os_error().to_string());
        }
        Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }
}

/// Memory that a process has and uses, in KiB.
pub(crate) fn resident_kib(process: u32) -> Result<f64, String> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .ok_or_else(|| format!("{path} does not tell"))
}
