//! What can go wrong between threads, as types that lose nothing.

use std::any::Any;
use std::error::Error;
use std::{fmt, io};

use crate::task::Task;

/// The thread has quit; the task is handed back.
///
/// libwebrtc drops such a task silently, on the posting thread.
#[derive(Debug)]
pub struct PostError {
    /// The refused task. Dropping it drops its captures here; [`Task::run`] runs it here.
    pub task: Task,
}

impl fmt::Display for PostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the thread has quit, the task posted at {} was refused",
            self.task.location()
        )
    }
}

impl Error for PostError {}

/// Why a call to another thread has no result.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// The thread had quit, or quit before it came to the call; or whoever owed the reply dropped
    /// it.
    Quit,
    /// The called closure panicked, with this message. (A [`blocking_call`] resumes the panic in
    /// the caller instead.)
    ///
    /// [`blocking_call`]: crate::ThreadHandle::blocking_call
    Panicked(String),
    /// Waiting would never have ended: every thread in the cycle waits for the next.
    WouldDeadlock(WaitCycle),
    /// The calling thread's [`BlockingCallPolicy`](crate::BlockingCallPolicy) or a
    /// [`ForbidBlockingCalls`](crate::ForbidBlockingCalls) scope does not let it wait.
    Forbidden,
    /// The closure would have needed an object that a caller further up the stack is using.
    Reentrant,
    /// The object is gone: its constructor panicked, or its thread has dropped it while quitting.
    Gone,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quit => f.write_str("the thread quit before it ran the call"),
            Self::Panicked(message) => write!(f, "the called closure panicked: {message}"),
            Self::WouldDeadlock(cycle) => write!(f, "waiting would never end: {cycle}"),
            Self::Forbidden => f.write_str("the calling thread may not wait for that thread"),
            Self::Reentrant => f.write_str("the object is in use further up the stack"),
            Self::Gone => f.write_str("the object is gone"),
        }
    }
}

impl Error for CallError {}

/// The threads that would wait for each other, in order; the last waits for the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitCycle {
    names: Vec<String>,
}

impl WaitCycle {
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names }
    }

    /// The names of the threads, starting with the one whose call was refused.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

impl fmt::Display for WaitCycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.names {
            write!(f, "'{name}' waits for ")?;
        }
        write!(f, "'{}'", self.names.first().map_or("", String::as_str))
    }
}

/// Why a thread could not be started.
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The operating system refused a thread.
    Thread(io::Error),
    /// The socket server could not be made.
    SocketServer(io::Error),
    /// The current OS thread is one of our threads already.
    IsOurs,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Thread(_) => f.write_str("the operating system refused a new thread"),
            Self::SocketServer(_) => f.write_str("the thread's socket server could not be made"),
            Self::IsOurs => f.write_str("the current OS thread is one of ours already"),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Thread(error) | Self::SocketServer(error) => Some(error),
            Self::IsOurs => None,
        }
    }
}

/// Why waiting for a thread's end gave no clean end.
#[derive(Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// A panic ended the thread.
    Panicked(ThreadPanic),
    /// The thread waits for the one that wanted to wait for it.
    WouldDeadlock(WaitCycle),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(panic) => panic.fmt(f),
            Self::WouldDeadlock(cycle) => write!(f, "waiting would never end: {cycle}"),
        }
    }
}

impl Error for JoinError {}

/// The panic that ended a thread.
pub struct ThreadPanic {
    pub(crate) thread: String,
    pub(crate) payload: Box<dyn Any + Send>,
}

impl ThreadPanic {
    /// The panic's message, if it was a string.
    pub fn message(&self) -> &str {
        panic_message(&*self.payload)
    }

    /// The panic's payload, for [`std::panic::resume_unwind`].
    pub fn into_payload(self) -> Box<dyn Any + Send> {
        self.payload
    }
}

impl fmt::Debug for ThreadPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ThreadPanic")
            .field("thread", &self.thread)
            .field("message", &self.message())
            .finish()
    }
}

impl fmt::Display for ThreadPanic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "thread '{}' ended by a panic: {}",
            self.thread,
            self.message()
        )
    }
}

impl Error for ThreadPanic {}

pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is not a string")
}
