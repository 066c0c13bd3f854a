//! Who may block on whom, and how often it happens.
//!
//! A blocking call stops everything else on the calling thread. These are the means to find such
//! calls, to keep them out of a piece of code, and to lay down which threads may wait for which.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

use crate::handle::ThreadId;

/// Which threads a thread may make blocking calls to, or wait for in
/// [`Call::wait`](crate::Call::wait). Calls to itself run inline and are always allowed.
///
/// libwebrtc: `AllowInvokesToThread`, `DisallowAllInvokes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BlockingCallPolicy {
    /// To all.
    #[default]
    Any,
    /// To these.
    Only(Vec<ThreadId>),
    /// To none.
    Forbidden,
}

impl BlockingCallPolicy {
    pub(crate) fn allows(&self, target: ThreadId) -> bool {
        match self {
            Self::Any => true,
            Self::Only(targets) => targets.contains(&target),
            Self::Forbidden => false,
        }
    }
}

thread_local! {
    static FORBIDDEN: Cell<usize> = const { Cell::new(0) };
    static COUNTED: Cell<usize> = const { Cell::new(0) };
    static TALLY: Cell<Tally> = const { Cell::new(Tally::NONE) };
}

/// All the blocking calls of an OS thread while anyone counts.
#[derive(Clone, Copy)]
struct Tally {
    blocking: u64,
    inline: u64,
    blocked_for: Duration,
}

impl Tally {
    const NONE: Self = Self {
        blocking: 0,
        inline: 0,
        blocked_for: Duration::ZERO,
    };
}

/// While it lives, blocking calls of the current OS thread to other threads fail with
/// [`CallError::Forbidden`](crate::CallError::Forbidden). Scopes may be nested.
///
/// libwebrtc: `Thread::ScopedDisallowBlockingCalls`.
///
/// ```
/// use rtc_thread::{CallError, ForbidBlockingCalls, Thread};
///
/// let thread = Thread::builder().spawn()?;
/// let scope = ForbidBlockingCalls::enter();
/// assert_eq!(Err(CallError::Forbidden), thread.blocking_call(|| ()));
/// drop(scope);
/// assert_eq!(Ok(()), thread.blocking_call(|| ()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the scope ends where this is dropped"]
pub struct ForbidBlockingCalls {
    not_send: PhantomData<*const ()>,
}

impl ForbidBlockingCalls {
    /// Begins a scope on the current OS thread, which need not be one of ours.
    pub fn enter() -> Self {
        FORBIDDEN.set(FORBIDDEN.get() + 1);
        Self {
            not_send: PhantomData,
        }
    }
}

impl Drop for ForbidBlockingCalls {
    fn drop(&mut self) {
        FORBIDDEN.set(FORBIDDEN.get() - 1);
    }
}

impl fmt::Debug for ForbidBlockingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ForbidBlockingCalls")
    }
}

pub(crate) fn is_forbidden() -> bool {
    FORBIDDEN.get() > 0
}

/// The blocking calls that were made in a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BlockingCallCount {
    /// Calls that blocked: to another thread.
    pub blocking: u64,
    /// Calls that ran inline, and would have blocked on another thread.
    pub inline: u64,
    /// The time spent blocked.
    pub blocked_for: Duration,
}

/// Counts the blocking calls of the current OS thread while it lives. Scopes may be nested.
///
/// libwebrtc: `ScopedCountBlockingCalls`, `RTC_LOG_THREAD_BLOCK_COUNT`.
///
/// ```
/// use rtc_thread::{CountBlockingCalls, Thread};
///
/// let thread = Thread::builder().spawn()?;
/// let scope = CountBlockingCalls::enter();
/// thread.blocking_call(|| ())?;
/// assert_eq!(1, scope.so_far().blocking);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "the scope ends where this is dropped"]
pub struct CountBlockingCalls {
    before: Tally,
    at_least: u64,
    report: Option<Box<dyn FnOnce(BlockingCallCount)>>,
    not_send: PhantomData<*const ()>,
}

impl CountBlockingCalls {
    /// Begins a scope on the current OS thread, which need not be one of ours.
    pub fn enter() -> Self {
        COUNTED.set(COUNTED.get() + 1);
        Self {
            before: TALLY.get(),
            at_least: 0,
            report: None,
            not_send: PhantomData,
        }
    }

    /// At the end of the scope, calls this if there were at least so many calls, blocking and inline
    /// together.
    pub fn report_from(
        mut self,
        at_least: u64,
        report: impl FnOnce(BlockingCallCount) + 'static,
    ) -> Self {
        self.at_least = at_least;
        self.report = Some(Box::new(report));
        self
    }

    /// The calls since the scope began.
    pub fn so_far(&self) -> BlockingCallCount {
        let now = TALLY.get();
        BlockingCallCount {
            blocking: now.blocking - self.before.blocking,
            inline: now.inline - self.before.inline,
            blocked_for: now.blocked_for - self.before.blocked_for,
        }
    }
}

impl Drop for CountBlockingCalls {
    fn drop(&mut self) {
        COUNTED.set(COUNTED.get() - 1);
        let count = self.so_far();
        if count.blocking + count.inline >= self.at_least
            && let Some(report) = self.report.take()
        {
            report(count);
        }
    }
}

impl fmt::Debug for CountBlockingCalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.so_far().fmt(f)
    }
}

/// Notes a call that ran inline.
pub(crate) fn count_inline() {
    if COUNTED.get() > 0 {
        let mut tally = TALLY.get();
        tally.inline += 1;
        TALLY.set(tally);
    }
}

/// Runs a blocking call, and notes it if anyone counts.
pub(crate) fn count_blocking<R>(call: impl FnOnce() -> R) -> R {
    if COUNTED.get() == 0 {
        return call();
    }
    let start = Instant::now();
    let result = call();
    let mut tally = TALLY.get();
    tally.blocking += 1;
    tally.blocked_for += start.elapsed();
    TALLY.set(tally);
    result
}

/// The scopes of one simulated thread out of the way of another's, on the OS thread that runs both.
pub(crate) struct SetAside {
    forbidden: usize,
    counted: usize,
    tally: Tally,
}

impl SetAside {
    /// Sets the scopes aside that there are, until this is dropped.
    pub(crate) fn all() -> Self {
        Self {
            forbidden: FORBIDDEN.replace(0),
            counted: COUNTED.replace(0),
            tally: TALLY.replace(Tally::NONE),
        }
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        FORBIDDEN.set(self.forbidden);
        COUNTED.set(self.counted);
        TALLY.set(self.tally);
    }
}
