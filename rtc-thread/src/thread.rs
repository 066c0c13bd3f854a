//! A thread as its owner sees it: to start, to end, to wait for.

use std::cell::RefCell;
use std::ops::Deref;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::{fmt, io};

use crossbeam_channel::bounded;
use socket_server::{NullSocketServer, PhysicalSocketServer, SocketServer};

use crate::clock::Clock;
use crate::current;
use crate::error::{JoinError, SpawnError, ThreadPanic};
use crate::handle::{ThreadHandle, ThreadId};
use crate::os::{Priority, RefusedSetting, Wishes};
use crate::permissions::BlockingCallPolicy;
use crate::run_loop::{Budget, LoopOptions, PanicPolicy, RunLoop, WaitStrategy};
use crate::simulation::Simulation;
use crate::wait_for;
use crate::wrapped::WrappedThread;

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
    body: Body,
    refused: Vec<RefusedSetting>,
}

/// What runs a thread.
enum Body {
    Os(JoinHandle<Result<(), ThreadPanic>>),
    Simulation,
    Joined,
}

impl Thread {
    /// Options for a new thread.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn simulated(handle: ThreadHandle) -> Self {
        Self {
            handle,
            body: Body::Simulation,
            refused: Vec::new(),
        }
    }

    /// A way for others to reach the thread.
    pub fn handle(&self) -> ThreadHandle {
        self.handle.clone()
    }

    /// What the operating system did not let the thread have of what its builder asked for.
    pub fn refused_settings(&self) -> &[RefusedSetting] {
        &self.refused
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
        let os_thread = match std::mem::replace(&mut self.body, Body::Joined) {
            Body::Os(os_thread) => os_thread,
            Body::Simulation => return Simulation::join(&self.handle),
            Body::Joined => return Ok(()),
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

/// Options for a new [`Thread`], or for [wrapping](Self::wrap_current) the current one.
#[must_use = "a builder does nothing until `spawn`"]
pub struct Builder {
    name: Option<String>,
    server: ServerFactory,
    options: LoopOptions,
    leeway: Duration,
    wishes: Wishes,
    policy: BlockingCallPolicy,
}

impl Default for Builder {
    /// A thread without sockets.
    fn default() -> Self {
        Self {
            name: None,
            server: Box::new(|| Ok(Rc::new(NullSocketServer::new()))),
            options: LoopOptions::default(),
            leeway: Duration::from_millis(16),
            wishes: Wishes::default(),
            policy: BlockingCallPolicy::default(),
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
        self.options.budget = budget;
        self
    }

    /// What the thread does when a task or a socket handler panics.
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.options.panic_policy = policy;
        self
    }

    /// What the thread does when it has nothing to do.
    pub fn wait_strategy(mut self, strategy: WaitStrategy) -> Self {
        self.options.wait_strategy = strategy;
        self
    }

    /// By how much delayed tasks of [low precision](crate::Precision::Low) may be late. By default
    /// 16 ms, about a frame of video.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.leeway = leeway;
        self
    }

    /// A task that takes so long is noted in the thread's [statistics](crate::ThreadStats), and
    /// logged if none has taken longer before. By default 50 ms; `None` turns it off.
    ///
    /// A slow task in a long batch is noted together with up to fifteen that ran beside it; see
    /// [`SlowTask::is_certain`](crate::SlowTask::is_certain).
    ///
    /// libwebrtc: `SetDispatchWarningMs()`.
    pub fn slow_task_threshold(mut self, threshold: impl Into<Option<Duration>>) -> Self {
        self.options.slow_task_threshold = threshold.into();
        self
    }

    /// How the thread competes with others for a core. Not for wrapped threads.
    pub fn priority(mut self, priority: Priority) -> Self {
        self.wishes.priority = priority;
        self
    }

    /// The cores, by number, that the thread may run on. Not for wrapped threads.
    pub fn affinity(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.wishes.affinity = Some(cores.into_iter().collect());
        self
    }

    /// By how much the operating system may put off the thread's timed waits, to join them with
    /// others; on Linux 50 µs unless asked otherwise. It matters for threads without sockets: those
    /// with sockets use a timer that has no slack. Not for wrapped threads.
    pub fn timer_slack(mut self, slack: Duration) -> Self {
        self.wishes.timer_slack = Some(slack);
        self
    }

    /// Which threads the new one may make blocking calls to. By default all.
    pub fn blocking_calls(mut self, policy: BlockingCallPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Starts the thread, and waits until it is ready for posts.
    ///
    /// libwebrtc: `Create()` and `Start()`.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread, or the socket server could not be made. Settings that
    /// it refused are no error; see [`Thread::refused_settings`].
    pub fn spawn(self) -> Result<Thread, SpawnError> {
        let (id, name) = self.identity()?;
        let (ready, started) = bounded(1);
        let os_thread = std::thread::Builder::new()
            .name(name.clone())
            .spawn(move || {
                let refused = self.wishes.apply();
                let server = match (self.server)() {
                    Ok(server) => server,
                    Err(error) => {
                        // The spawner waits for exactly this one message.
                        let _ = ready.send(Err(SpawnError::SocketServer(error)));
                        return Ok(());
                    }
                };
                let wake = server.wake_handle();
                let clock = Clock::system();
                let handle = ThreadHandle::new(id, name.clone(), wake, clock, self.leeway);
                handle.set_blocking_call_policy(self.policy);
                let _ = ready.send(Ok((handle.clone(), refused)));
                let _span = tracing::info_span!("thread", name = handle.name()).entered();
                let mut run_loop = RunLoop::new(handle, server, self.options);
                let outcome = run_loop.run(None);
                run_loop.end();
                match outcome {
                    Ok(_) => Ok(()),
                    Err(payload) => Err(ThreadPanic {
                        thread: name,
                        payload,
                    }),
                }
            })
            .map_err(SpawnError::Thread)?;
        let (handle, refused) = started.recv().unwrap_or_else(|_| {
            let error = io::Error::other("making the socket server panicked");
            Err(SpawnError::SocketServer(error))
        })?;
        for setting in &refused {
            tracing::warn!(thread = handle.name(), error = %setting.error, "{setting}");
        }
        Ok(Thread {
            handle,
            body: Body::Os(os_thread),
            refused,
        })
    }

    /// Makes the current OS thread one of ours: its owner runs the loop, when it suits.
    ///
    /// The operating system's name of the thread stays as it is.
    ///
    /// libwebrtc: `Thread::WrapCurrent()`, `ThreadManager::WrapCurrentThread()`.
    ///
    /// # Errors
    ///
    /// The current OS thread is one of ours already, or the socket server could not be made.
    pub fn wrap_current(self) -> Result<WrappedThread, SpawnError> {
        if current().is_some() {
            return Err(SpawnError::IsOurs);
        }
        let (id, name) = self.identity()?;
        let server = (self.server)().map_err(SpawnError::SocketServer)?;
        let wake = server.wake_handle();
        let handle = ThreadHandle::new(id, name, wake, Clock::system(), self.leeway);
        handle.set_blocking_call_policy(self.policy);
        let run_loop = RunLoop::new(handle.clone(), server, self.options);
        let run_loop = Rc::new(RefCell::new(run_loop));
        run_loop
            .borrow()
            .scope()
            .context()
            .set_wrapped_loop(Rc::downgrade(&run_loop));
        Ok(WrappedThread::new(handle, run_loop))
    }

    /// Adds the thread to a simulation, which runs it in virtual time. Settings of the operating
    /// system, the budget and the wait strategy have no meaning there.
    ///
    /// # Errors
    ///
    /// The socket server could not be made.
    pub fn simulate(mut self, simulation: &Simulation) -> Result<Thread, SpawnError> {
        let make: ServerFactory = Box::new(|| Ok(Rc::new(NullSocketServer::new())));
        let server = std::mem::replace(&mut self.server, make)();
        self.simulate_in(simulation, server.map_err(SpawnError::SocketServer)?)
    }

    /// As [`simulate`](Self::simulate), with this socket server, such as one of a
    /// [`VirtualHost`](socket_server::VirtualHost), behind a
    /// [firewall](socket_server::FirewallSocketServer) perhaps. It need not be `Send`: simulated
    /// threads stay on the OS thread of their simulation.
    ///
    /// # Errors
    ///
    /// A name with a zero byte in it.
    pub fn simulate_with(
        self,
        simulation: &Simulation,
        server: impl SocketServer + 'static,
    ) -> Result<Thread, SpawnError> {
        self.simulate_in(simulation, Rc::new(server))
    }

    fn simulate_in(
        self,
        simulation: &Simulation,
        server: Rc<dyn SocketServer>,
    ) -> Result<Thread, SpawnError> {
        let (id, name) = self.identity()?;
        let wake = server.wake_handle();
        let clock = simulation.clock().clone();
        let handle = ThreadHandle::new(id, name, wake, clock, self.leeway);
        handle.set_blocking_call_policy(self.policy);
        simulation.add(handle.clone(), server, self.options.panic_policy);
        Ok(Thread::simulated(handle))
    }

    fn identity(&self) -> Result<(ThreadId, String), SpawnError> {
        let id = ThreadId::next();
        let name = self.name.clone();
        let name = name.unwrap_or_else(|| format!("rtc-thread-{}", id.get()));
        if name.contains('\0') {
            let error = io::Error::new(io::ErrorKind::InvalidInput, "a name with a zero byte");
            return Err(SpawnError::Thread(error));
        }
        Ok((id, name))
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("options", &self.options)
            .field("leeway", &self.leeway)
            .field("wishes", &self.wishes)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
