//! What a thread asks of the operating system for itself.

use std::error::Error;
use std::time::Duration;
use std::{fmt, io};

/// How a thread competes with others for a core.
///
/// On Linux these are nice values; raising the priority takes a privilege (`CAP_SYS_NICE` or a
/// limit). libwebrtc's `HIGH` is a real-time priority, with which a thread that spins can hang a
/// machine; give a thread that yourself where it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Priority {
    /// After the others: nice 10.
    Low,
    /// As the process.
    #[default]
    Normal,
    /// Before the others: nice -10.
    High,
}

/// What was asked of the operating system for a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Setting {
    /// [`Builder::priority`](crate::Builder::priority)
    Priority,
    /// [`Builder::affinity`](crate::Builder::affinity)
    Affinity,
    /// [`Builder::timer_slack`](crate::Builder::timer_slack)
    TimerSlack,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Priority => "priority",
            Self::Affinity => "affinity",
            Self::TimerSlack => "timer slack",
        })
    }
}

/// A setting that the operating system refused. The thread runs without it.
#[derive(Debug)]
pub struct RefusedSetting {
    /// Which.
    pub setting: Setting,
    /// Why.
    pub error: io::Error,
}

impl fmt::Display for RefusedSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of the thread could not be set", self.setting)
    }
}

impl Error for RefusedSetting {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// What is to be asked for.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    pub(crate) priority: Priority,
    pub(crate) affinity: Option<Vec<usize>>,
    pub(crate) timer_slack: Option<Duration>,
}

impl Wishes {
    /// Asks for the current thread, and returns what was refused.
    pub(crate) fn apply(&self) -> Vec<RefusedSetting> {
        let mut refused = Vec::new();
        let mut note = |setting, outcome: io::Result<()>| {
            if let Err(error) = outcome {
                refused.push(RefusedSetting { setting, error });
            }
        };
        if self.priority != Priority::Normal {
            note(Setting::Priority, set_priority(self.priority));
        }
        if let Some(cores) = &self.affinity {
            note(Setting::Affinity, set_affinity(cores));
        }
        if let Some(slack) = self.timer_slack {
            note(Setting::TimerSlack, set_timer_slack(slack));
        }
        refused
    }
}

#[cfg(target_os = "linux")]
fn set_priority(priority: Priority) -> io::Result<()> {
    let nice = match priority {
        Priority::Low => 10,
        Priority::Normal => 0,
        Priority::High => -10,
    };
    // On Linux a nice value is a thread's, not a process's.
    Ok(rustix::process::setpriority_process(
        Some(rustix::thread::gettid()),
        nice,
    )?)
}

#[cfg(target_os = "linux")]
fn set_affinity(cores: &[usize]) -> io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    for core in cores {
        if *core >= rustix::thread::CpuSet::MAX_CPU {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no such core"));
        }
        set.set(*core);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(target_os = "linux")]
fn set_timer_slack(slack: Duration) -> io::Result<()> {
    use std::num::NonZeroU64;

    // To the system, zero means the default of the process.
    let nanos = u64::try_from(slack.as_nanos()).unwrap_or(u64::MAX).max(1);
    Ok(rustix::thread::set_current_timer_slack(NonZeroU64::new(
        nanos,
    ))?)
}

#[cfg(not(target_os = "linux"))]
fn set_priority(_priority: Priority) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn set_affinity(_cores: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn set_timer_slack(_slack: Duration) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
