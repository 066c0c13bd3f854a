//! A check, at run time, that something is used on one thread only.

use std::error::Error;
use std::fmt;
use std::thread;

use parking_lot::Mutex;

use crate::current;

/// Where something runs: on one of our threads, or on another OS thread.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sequence {
    Ours { id: crate::ThreadId, name: String },
    Os { id: thread::ThreadId, name: String },
}

impl Sequence {
    fn current() -> Self {
        if let Some(current) = current() {
            return Self::Ours {
                id: current.id(),
                name: current.name().to_owned(),
            };
        }
        let current = thread::current();
        Self::Os {
            id: current.id(),
            name: current.name().unwrap_or("unnamed").to_owned(),
        }
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours { id, name } => write!(f, "thread '{name}' (number {})", id.get()),
            Self::Os { id, name } => write!(f, "OS thread '{name}' ({id:?}), which is not ours"),
        }
    }
}

/// Checks that it is always used on the same thread: real, wrapped or simulated, or one that is not
/// ours.
///
/// In Rust the type system does this for values that are not `Send`, and
/// [`ThreadBound`](crate::ThreadBound) for access from elsewhere. This is for the rest: shared state
/// that by agreement one thread alone touches. It is on in every build, and costs a lock.
///
/// libwebrtc: `SequenceChecker`, which is detached at first since 2025.
///
/// ```
/// use std::sync::Arc;
/// use rtc_thread::{SequenceChecker, Thread};
///
/// let checker = Arc::new(SequenceChecker::detached());
/// let thread = Thread::builder().name("worker").spawn()?;
/// let there = checker.clone();
/// thread.blocking_call(move || there.check())??; // binds it to the worker
/// let error = checker.check().unwrap_err();
/// assert!(error.to_string().contains("'worker'"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SequenceChecker {
    bound_to: Mutex<Option<Sequence>>,
}

impl SequenceChecker {
    /// A checker that is bound to the current thread.
    pub fn new() -> Self {
        Self {
            bound_to: Mutex::new(Some(Sequence::current())),
        }
    }

    /// A checker that binds to the thread that uses it first.
    pub fn detached() -> Self {
        Self {
            bound_to: Mutex::new(None),
        }
    }

    /// Whether the caller is on the right thread. Binds a detached checker to it.
    ///
    /// libwebrtc: `IsCurrent()`.
    pub fn is_current(&self) -> bool {
        self.check().is_ok()
    }

    /// As [`is_current`](Self::is_current), with words.
    ///
    /// libwebrtc: `RTC_DCHECK_RUN_ON`.
    ///
    /// # Errors
    ///
    /// The caller is on another thread; the message names both.
    pub fn check(&self) -> Result<(), WrongSequence> {
        let found = Sequence::current();
        let mut bound_to = self.bound_to.lock();
        let expected = bound_to.get_or_insert_with(|| found.clone());
        if *expected == found {
            Ok(())
        } else {
            Err(WrongSequence {
                expected: expected.clone(),
                found,
            })
        }
    }

    /// Forgets the thread; the next use binds it anew.
    ///
    /// libwebrtc: `Detach()`.
    pub fn detach(&self) {
        *self.bound_to.lock() = None;
    }
}

impl Default for SequenceChecker {
    fn default() -> Self {
        Self::new()
    }
}

/// Something was used on another thread than it is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongSequence {
    expected: Sequence,
    found: Sequence,
}

impl fmt::Display for WrongSequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

impl Error for WrongSequence {}
