//! A thread as its owner sees it: to start, to end, to wait for.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::Rc;
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use socket_server::{NullSocketServer, PhysicalSocketServer, SocketServer};

use crate::current;
use crate::error::{JoinError, SpawnError, ThreadPanic};
use crate::handle::{ThreadHandle, ThreadId};
use crate::run_loop::{Budget, PanicPolicy, RunLoop};
use crate::wait_for;

/// An operating-system thread that runs tasks in order and serves its sockets.
///
/// Its owner's view: it ends, and is waited for, when this value is dropped. Everything that others
/// do with it goes through its [`ThreadHandle`], which this dereferences to.
///
/// libwebrtc: `webrtc::Thread`.
///
/// ```
/// let thread = rtc_thread::Thread::builder().name("worker").spawn()?;
/// let answer = thread.blocking_call(|| 6 * 7)?;
/// assert_eq!(42, answer);
/// thread.stop()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Thread {
    handle: ThreadHandle,
    os_thread: Option<JoinHandle<Result<(), ThreadPanic>>>,
}

impl Thread {
    /// Options for a new thread.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// A way for others to reach the thread.
    pub fn handle(&self) -> ThreadHandle {
        self.handle.clone()
    }

    /// Waits until the thread has ended, without telling it to. Blocks.
    ///
    /// On the thread itself there is nothing to wait for; then it returns at once.
    ///
    /// libwebrtc: `Join()`.
    ///
    /// # Errors
    ///
    /// The panic that ended the thread, if one did; or [`JoinError::WouldDeadlock`] if the thread
    /// waits, directly or through others, for the caller. It goes on without an owner then.
    pub fn join(mut self) -> Result<(), JoinError> {
        self.join_once()
    }

    /// Tells the thread to quit, and waits until it has ended. Blocks.
    ///
    /// libwebrtc: `Stop()`.
    ///
    /// # Errors
    ///
    /// As for [`join`](Self::join).
    pub fn stop(self) -> Result<(), JoinError> {
        self.handle.quit();
        self.join()
    }

    fn join_once(&mut self) -> Result<(), JoinError> {
        let Some(os_thread) = self.os_thread.take() else {
            return Ok(());
        };
        if self.handle.is_current() {
            return Ok(());
        }
        let waiter = current();
        if let Some(waiter) = &waiter {
            wait_for::add(waiter, &self.handle).map_err(JoinError::WouldDeadlock)?;
        }
        let outcome = os_thread.join();
        if let Some(waiter) = &waiter {
            wait_for::remove(waiter);
        }
        match outcome {
            Ok(outcome) => outcome.map_err(JoinError::Panicked),
            Err(payload) => Err(JoinError::Panicked(ThreadPanic {
                thread: self.handle.name().to_owned(),
                payload,
            })),
        }
    }
}

impl Deref for Thread {
    type Target = ThreadHandle;

    fn deref(&self) -> &ThreadHandle {
        &self.handle
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.handle.quit();
        if let Err(error) = self.join_once() {
            tracing::error!(thread = self.handle.name(), %error, "a thread did not end well");
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread")
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

type ServerFactory = Box<dyn FnOnce() -> io::Result<Rc<dyn SocketServer>> + Send>;

/// Options for a new [`Thread`].
#[must_use = "a builder does nothing until `spawn`"]
pub struct Builder {
    name: Option<String>,
    server: ServerFactory,
    budget: Budget,
    panic_policy: PanicPolicy,
}

impl Default for Builder {
    /// A thread without sockets.
    fn default() -> Self {
        Self {
            name: None,
            server: Box::new(|| Ok(Rc::new(NullSocketServer::new()))),
            budget: Budget::default(),
            panic_policy: PanicPolicy::default(),
        }
    }
}

impl Builder {
    /// The thread's name. By default `rtc-thread-` and a number. The operating system may show only
    /// the first 15 bytes; a name with a zero byte in it is refused by `spawn`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The thread serves sockets of the operating system.
    ///
    /// libwebrtc: `Thread::CreateWithSocketServer()`.
    pub fn with_sockets(self) -> Self {
        self.socket_server(PhysicalSocketServer::new)
    }

    /// The thread waits in the socket server that this makes. It is made on the new thread, where
    /// it will be used and dropped.
    pub fn socket_server<F, S>(mut self, make: F) -> Self
    where
        F: FnOnce() -> io::Result<S> + Send + 'static,
        S: SocketServer + 'static,
    {
        self.server = Box::new(move || Ok(Rc::new(make()?)));
        self
    }

    /// How long the thread runs tasks before it looks at its sockets.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }

    /// What the thread does when a task or a socket handler panics.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.panic_policy = policy;
        self
    }

    /// Starts the thread, and waits until it is ready for posts.
    ///
    /// libwebrtc: `Create()` and `Start()`.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread, or the socket server could not be made.
    pub fn spawn(self) -> Result<Thread, SpawnError> {
        let id = ThreadId::next();
        let name = self
            .name
            .unwrap_or_else(|| format!("rtc-thread-{}", id.get()));
        if name.contains('\0') {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a name with a zero byte");
            return Err(SpawnError::Thread(error));
        }
        let (ready, started) = bounded(1);
        let os_thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let server = match (self.server)() {
                    Ok(server) => server,
                    Err(error) => {
                        // The spawner waits for exactly this one message.
                        let _ = ready.send(Err(SpawnError::SocketServer(error)));
                        return Ok(());
                    }
                };
                let handle = ThreadHandle::new(id, name.clone(), server.wake_handle());
                let _ = ready.send(Ok(handle.clone()));
                RunLoop::new(handle, server, self.budget, self.panic_policy)
                    .run()
                    .map_err(|payload| ThreadPanic {
                        thread: name,
                        payload,
                    })
            })
            .map_err(SpawnError::Thread)?;
        let handle = started.recv().unwrap_or_else(|_| {
            let error = io::Error::other("making the socket server panicked");
            Err(SpawnError::SocketServer(error))
        })?;
        Ok(Thread {
            handle,
            os_thread: Some(os_thread),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("budget", &self.budget)
            .field("panic_policy", &self.panic_policy)
            .finish_non_exhaustive()
    }
}
