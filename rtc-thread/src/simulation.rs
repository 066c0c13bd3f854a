//! A system of threads in virtual time, under one scheduler that decides everything.
//!
//! All the threads of a simulation run on the OS thread that made it, one task at a time. Where
//! several could go on, a seeded generator, or an [explorer](Simulation::explore), chooses; where
//! none can, time jumps to when the next one can. The threads are the real thing in every other
//! respect: the same [`ThreadHandle`], the same queues, [`ThreadBound`](crate::ThreadBound)s, calls
//! and rules. What a run does depends on its choices alone, so a seed reproduces it exactly.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::time::{Duration, Instant};

use socket_server::{MaxWait, ProcessIo, SocketServer, VirtualHost, VirtualNetwork, VirtualTime};

use crate::clock::Clock;
use crate::current::{Context, CurrentScope};
use crate::delayed::due_after;
use crate::error::{JoinError, SpawnError, ThreadPanic, WaitCycle, panic_message};
use crate::handle::ThreadHandle;
use crate::permissions::SetAside;
use crate::run_loop::PanicPolicy;
use crate::thread::{Builder, Thread};

thread_local! {
    static CURRENT: RefCell<Weak<Inner>> = const { RefCell::new(Weak::new()) };
}

/// A simulated system of threads.
///
/// Belongs to the OS thread that made it, which can have one at a time. Threads are added with
/// [`thread`](Self::thread) or [`Builder::simulate`](crate::Builder::simulate); then the simulation
/// is [run](Self::run_until_idle).
///
/// All its threads share one stack, and that limits what happens while one of them waits. A blocking
/// call runs the target, and nothing else, until it has run the call: what others do in between is
/// not explored. Other waits (for a [`Call`](crate::Call), an [`Event`](crate::Event)) let all the
/// threads go on that are not themselves waiting; a wait that began later has to end earlier. What
/// leads nowhere is reported: what would hang on real threads, and waits that would have to end in
/// another order. Code that is to be explored in full posts and calls, and does not block.
///
/// When it is dropped in a panic, it prints what replays the run.
///
/// libwebrtc: `GlobalSimulatedTimeController`.
///
/// ```
/// use std::time::Duration;
/// use rtc_thread::Simulation;
///
/// let simulation = Simulation::new(7);
/// let worker = simulation.thread("worker")?;
/// let start = simulation.clock().now();
/// worker.post_delayed(Duration::from_secs(3600), || println!("an hour later"))?;
/// simulation.run_until_idle();
/// assert_eq!(Duration::from_secs(3600), simulation.clock().now() - start);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Simulation {
    inner: Rc<Inner>,
}

struct Inner {
    clock: Clock,
    time: VirtualTime,
    threads: RefCell<Vec<Rc<SimulatedThread>>>,
    networks: RefCell<Vec<VirtualNetwork>>,
    chooser: RefCell<Chooser>,
    /// Where the seed can be given from outside.
    variable: RefCell<Option<String>>,
    steps: Cell<u64>,
}

struct SimulatedThread {
    handle: ThreadHandle,
    context: Rc<Context>,
    panic_policy: PanicPolicy,
    /// One of its tasks is running, or waiting further down the stack.
    is_busy: Cell<bool>,
    has_ended: Cell<bool>,
    panic: RefCell<Option<Box<dyn Any + Send>>>,
}

/// Which of several threads goes on.
#[derive(Debug)]
enum Chooser {
    Random {
        seed: u64,
        state: u64,
    },
    /// The first choices as given, the first option after that.
    Given {
        given: Vec<usize>,
        /// Among how many options the given ones were chosen, where that is known.
        options: Vec<usize>,
        made: Vec<Choice>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    chosen: usize,
    options: usize,
}

impl Chooser {
    fn choose(&mut self, options: usize) -> usize {
        if options == 1 {
            return 0;
        }
        match self {
            Self::Random { state, .. } => {
                // SplitMix64.
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut mixed = *state;
                mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                ((mixed ^ (mixed >> 31)) % options as u64) as usize
            }
            Self::Given {
                given,
                options: known,
                made,
            } => {
                if let Some(before) = known.get(made.len()) {
                    assert_eq!(
                        *before, options,
                        "the same choices lead elsewhere: the scenario depends on something else"
                    );
                }
                let chosen = given.get(made.len()).copied().unwrap_or(0).min(options - 1);
                made.push(Choice { chosen, options });
                chosen
            }
        }
    }
}

/// How a part of a simulation has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    TimeUp,
    /// Nothing can happen any more.
    Stuck,
}

/// How an exploration has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exploration {
    /// How many different interleavings were run.
    pub runs: u64,
    /// Whether these were all that a simulation can run; see there what it cannot.
    pub is_complete: bool,
}

impl Simulation {
    /// A simulation whose choices come from a seed.
    ///
    /// # Panics
    ///
    /// If the OS thread has a simulation already.
    pub fn new(seed: u64) -> Self {
        Self::with(Chooser::Random { seed, state: seed })
    }

    /// A simulation with a seed from the environment variable, if it is set, or a new one.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new); and if the variable is not a number.
    pub fn from_env(variable: &str) -> Self {
        let seed = match std::env::var(variable) {
            Ok(seed) => seed.parse().expect("the seed is a number"),
            Err(_) => {
                let since_epoch = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
                since_epoch.as_nanos() as u64
            }
        };
        let simulation = Self::new(seed);
        *simulation.inner.variable.borrow_mut() = Some(variable.to_owned());
        simulation
    }

    /// A simulation that makes these choices, as printed by a run that failed.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    pub fn replay(choices: &[usize]) -> Self {
        Self::with_choices(choices.to_vec(), Vec::new())
    }

    fn with_choices(given: Vec<usize>, options: Vec<usize>) -> Self {
        Self::with(Chooser::Given {
            given,
            options,
            made: Vec::new(),
        })
    }

    fn with(chooser: Chooser) -> Self {
        let time = VirtualTime::new();
        let inner = Rc::new(Inner {
            clock: Clock::simulated(time.clone()),
            time,
            threads: RefCell::default(),
            networks: RefCell::default(),
            chooser: RefCell::new(chooser),
            variable: RefCell::default(),
            steps: Cell::new(0),
        });
        CURRENT.with_borrow_mut(|current| {
            assert!(
                current.strong_count() == 0,
                "this OS thread has a simulation already"
            );
            *current = Rc::downgrade(&inner);
        });
        Self { inner }
    }

    /// Runs a scenario again and again, each time in another interleaving, until all have been run
    /// or `limit` is reached. Systematic: the first choice is varied last.
    ///
    /// # Panics
    ///
    /// With the scenario, after printing what replays the run. And if the same choices lead elsewhere
    /// in another run: a scenario must depend on nothing else.
    pub fn explore(limit: u64, mut scenario: impl FnMut(&Self)) -> Exploration {
        let (mut given, mut options) = (Vec::new(), Vec::new());
        for runs in 1..=limit {
            let simulation = Self::with_choices(given, options);
            scenario(&simulation);
            let mut made = simulation.inner.choices();
            drop(simulation);
            // The last choice that has an option left takes it; those after it start anew.
            while made
                .pop_if(|last| last.chosen + 1 == last.options)
                .is_some()
            {}
            let Some(last) = made.last_mut() else {
                return Exploration {
                    runs,
                    is_complete: true,
                };
            };
            last.chosen += 1;
            given = made.iter().map(|choice| choice.chosen).collect();
            options = made.iter().map(|choice| choice.options).collect();
        }
        Exploration {
            runs: limit,
            is_complete: false,
        }
    }

    /// Adds a thread without sockets.
    ///
    /// # Errors
    ///
    /// A name with a zero byte in it.
    pub fn thread(&self, name: &str) -> Result<Thread, SpawnError> {
        Builder::default().name(name).simulate(self)
    }

    /// Adds a thread whose sockets are those of a virtual host. A host can have several.
    ///
    /// # Errors
    ///
    /// A name with a zero byte in it.
    pub fn thread_on(&self, host: &VirtualHost, name: &str) -> Result<Thread, SpawnError> {
        Builder::default()
            .name(name)
            .simulate_with(self, host.server())
    }

    /// Adds a network, in the simulation's time, and with its seed: hosts, links, NATs. What happens
    /// in it are steps of the simulation: packets move when their time has come, and handlers of
    /// sockets run as their threads' tasks do, in the order that is chosen.
    ///
    /// Where choices are [given](Self::replay) or [explored](Self::explore), chance in the network
    /// is the same in every run.
    pub fn network(&self) -> VirtualNetwork {
        let mut networks = self.inner.networks.borrow_mut();
        let number = networks.len() as u64;
        let seed = self.seed().unwrap_or(0).wrapping_add(number);
        let network = VirtualNetwork::in_time(self.inner.time.clone(), seed);
        networks.push(network.clone());
        network
    }

    pub(crate) fn add(
        &self,
        handle: ThreadHandle,
        server: Rc<dyn SocketServer>,
        panic_policy: PanicPolicy,
    ) {
        let context = Rc::new(Context::new(handle.clone(), server));
        self.inner
            .threads
            .borrow_mut()
            .push(Rc::new(SimulatedThread {
                handle,
                context,
                panic_policy,
                is_busy: Cell::new(false),
                has_ended: Cell::new(false),
                panic: RefCell::new(None),
            }));
    }

    /// The virtual clock.
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The seed, if the choices come from one.
    pub fn seed(&self) -> Option<u64> {
        match &*self.inner.chooser.borrow() {
            Chooser::Random { seed, .. } => Some(*seed),
            Chooser::Given { .. } => None,
        }
    }

    /// How many tasks and handlers of sockets have been run.
    pub fn steps(&self) -> u64 {
        self.inner.steps.get()
    }

    /// Runs everything that can run without time moving on.
    pub fn run_ready(&self) {
        while self.inner.step(None) {}
    }

    /// Runs until nothing is left to be run, however far in the future. Does not come back if a
    /// thread posts to itself for ever.
    pub fn run_until_idle(&self) {
        self.inner.run(None, &mut || false);
    }

    /// Runs for so long in virtual time.
    pub fn run_for(&self, duration: Duration) {
        let deadline = due_after(self.inner.time.now(), duration);
        self.inner.run(Some(deadline), &mut || false);
        self.inner.time.advance_to(deadline);
    }

    /// Runs until something is the case, or nothing is left to be run; tells which. Asks after every
    /// task.
    pub fn run_until(&self, mut is_so: impl FnMut() -> bool) -> bool {
        self.inner.run(None, &mut is_so) == Outcome::Done
    }

    /// Waits for the end of a simulated thread.
    pub(crate) fn join(thread: &ThreadHandle) -> Result<(), JoinError> {
        let Some(inner) = Inner::current() else {
            // The simulation is over, and its threads with it.
            return Ok(());
        };
        let Some(simulated) = inner.find(thread) else {
            return Ok(());
        };
        let outcome = if thread.is_quitting() {
            inner.run_only(&simulated, &mut || simulated.has_ended.get())
        } else {
            inner.run(None, &mut || simulated.has_ended.get())
        };
        if outcome == Outcome::Stuck && !thread.is_current() {
            let cycle = WaitCycle::new(vec![thread.name().to_owned()]);
            return Err(JoinError::WouldDeadlock(cycle));
        }
        match simulated.panic.take() {
            None => Ok(()),
            Some(payload) => Err(JoinError::Panicked(ThreadPanic {
                thread: thread.name().to_owned(),
                payload,
            })),
        }
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            match &*self.inner.chooser.borrow() {
                Chooser::Random { seed, .. } => match &*self.inner.variable.borrow() {
                    Some(variable) => {
                        // Tests run on threads that have their names.
                        let test = std::thread::current();
                        let test = test.name().unwrap_or_default();
                        eprintln!("replay with: {variable}={seed} cargo test {test}");
                    }
                    None => eprintln!("replay with Simulation::new({seed})"),
                },
                Chooser::Given { made, .. } => {
                    let choices: Vec<_> = made.iter().map(|choice| choice.chosen).collect();
                    eprintln!("replay with Simulation::replay(&{choices:?})");
                }
            }
        }
        let threads = self.inner.threads.take();
        for thread in &threads {
            thread.handle.quit();
        }
        for thread in &threads {
            // What waits on the stack in a panic keeps its thread until it is unwound.
            if !thread.is_busy.get() {
                thread.end();
            }
        }
    }
}

impl fmt::Debug for Simulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Simulation")
            .field("elapsed", &self.inner.time.elapsed())
            .field("steps", &self.steps())
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn current() -> Option<Rc<Self>> {
        CURRENT
            .try_with(|current| current.borrow().upgrade())
            .ok()
            .flatten()
    }

    fn find(&self, handle: &ThreadHandle) -> Option<Rc<SimulatedThread>> {
        let threads = self.threads.borrow();
        let thread = threads.iter().find(|own| own.handle.id() == handle.id());
        thread.cloned()
    }

    fn choices(&self) -> Vec<Choice> {
        match &*self.chooser.borrow() {
            Chooser::Given { made, .. } => made.clone(),
            Chooser::Random { .. } => Vec::new(),
        }
    }

    /// Runs one task, or serves one socket, of one of the threads that can go on. Says whether there
    /// was one.
    fn step(&self, only: Option<&Rc<SimulatedThread>>) -> bool {
        let networks = self.networks.borrow().len();
        for number in 0..networks {
            // Not borrowed while it runs: an observer may add another one.
            let network = self.networks.borrow()[number].clone();
            network.run_due();
        }
        let now = self.time.now();
        let next = match only {
            Some(only) => only.has_task(now).then(|| (only.clone(), Step::Task)),
            None => self.choose(now),
        };
        let Some((thread, step)) = next else {
            return false;
        };
        self.steps.set(self.steps.get() + 1);
        thread.step(now, step);
        if thread.has_ended.get() {
            let mut threads = self.threads.borrow_mut();
            // Kept while anyone may want to know how it ended: its owner, by joining it.
            if thread.panic.borrow().is_none() {
                threads.retain(|own| !Rc::ptr_eq(own, &thread));
            }
        }
        true
    }

    fn choose(&self, now: Instant) -> Option<(Rc<SimulatedThread>, Step)> {
        let threads = self.threads.borrow();
        // A thread that has both to do is there twice: real ones take turns in either order.
        let steps = || {
            threads.iter().flat_map(|thread| {
                let task = thread.has_task(now).then_some((thread, Step::Task));
                let socket = thread.has_socket().then_some((thread, Step::Socket));
                task.into_iter().chain(socket)
            })
        };
        let options = steps().count();
        if options == 0 {
            return None;
        }
        let chosen = self.chooser.borrow_mut().choose(options);
        let (thread, step) = steps().nth(chosen)?;
        Some((thread.clone(), step))
    }

    fn run(&self, deadline: Option<Instant>, is_done: &mut dyn FnMut() -> bool) -> Outcome {
        loop {
            if is_done() {
                return Outcome::Done;
            }
            if self.step(None) {
                continue;
            }
            let threads = self.threads.borrow();
            let sleeping = threads.iter().filter(|thread| !thread.is_busy.get());
            let wake_ups = sleeping.filter_map(|thread| thread.handle.inbox().wake_at());
            let networks = self.networks.borrow();
            let events = networks.iter().filter_map(VirtualNetwork::next_event);
            let next = wake_ups.chain(events).min();
            drop(networks);
            match (next, deadline) {
                (Some(next), Some(deadline)) if next > deadline => {
                    self.time.advance_to(deadline);
                    return Outcome::TimeUp;
                }
                (Some(next), _) => self.time.advance_to(next),
                (None, Some(deadline)) => {
                    self.time.advance_to(deadline);
                    return Outcome::TimeUp;
                }
                (None, None) => return Outcome::Stuck,
            }
        }
    }

    fn run_only(&self, thread: &Rc<SimulatedThread>, is_done: &mut dyn FnMut() -> bool) -> Outcome {
        loop {
            if is_done() {
                return Outcome::Done;
            }
            if !self.step(Some(thread)) {
                return Outcome::Stuck;
            }
        }
    }
}

/// What a thread can do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Task,
    Socket,
}

impl SimulatedThread {
    fn has_socket(&self) -> bool {
        let can = !self.is_busy.get() && !self.has_ended.get();
        can && self.context.server().has_ready_sockets()
    }

    fn has_task(&self, now: Instant) -> bool {
        !self.is_busy.get()
            && !self.has_ended.get()
            && (self.handle.is_quitting() || self.handle.inbox().is_ready(now))
    }

    fn step(&self, now: Instant, step: Step) {
        match step {
            Step::Socket => self.run(|| {
                let served = self.context.server().wait(MaxWait::Poll, ProcessIo::Yes);
                if let Err(error) = served {
                    tracing::error!(thread = self.handle.name(), %error, "waiting failed");
                }
            }),
            Step::Task => match self.handle.inbox().take_one(now) {
                Some(task) => {
                    self.run(|| task.run());
                    self.handle.counters().tasks.add(1);
                }
                // Or somebody has taken the only one back.
                None if self.handle.is_quitting() => self.end(),
                None => {}
            },
        }
    }

    fn run(&self, work: impl FnOnce()) {
        self.is_busy.set(true);
        let set_aside = SetAside::all();
        let scope = CurrentScope::enter_context(self.context.clone());
        let outcome = catch_unwind(AssertUnwindSafe(work));
        drop(scope);
        drop(set_aside);
        self.is_busy.set(false);
        let Err(payload) = outcome else {
            return;
        };
        let message = panic_message(&*payload);
        tracing::error!(thread = self.handle.name(), message, "a task panicked");
        match self.panic_policy {
            PanicPolicy::End => {
                *self.panic.borrow_mut() = Some(payload);
                self.end();
            }
            PanicPolicy::Continue => {}
            PanicPolicy::Abort => std::process::abort(),
        }
    }

    fn end(&self) {
        self.handle.quit();
        self.has_ended.set(true);
        let scope = CurrentScope::enter_context(self.context.clone());
        scope.context().drop_everything();
    }
}

/// Whether a simulated thread is in the middle of a task further down this very stack: waiting for
/// it would never end.
pub(crate) fn is_busy(target: &ThreadHandle) -> bool {
    target.clock().is_simulated()
        && Inner::current()
            .and_then(|inner| inner.find(target))
            .is_some_and(|thread| thread.is_busy.get())
}

/// If the target is simulated, runs it until something is the case.
pub(crate) fn run_until(target: &ThreadHandle, mut is_done: impl FnMut() -> bool) {
    if target.clock().is_simulated()
        && let Some(inner) = Inner::current()
        && let Some(thread) = inner.find(target)
    {
        inner.run_only(&thread, &mut is_done);
    }
}

/// If the OS thread has a simulation, runs all that can go on until something is the case, or so
/// much virtual time has passed.
pub(crate) fn run_until_any(
    timeout: Option<Duration>,
    mut is_done: impl FnMut() -> bool,
) -> Option<Outcome> {
    let inner = Inner::current()?;
    let deadline = timeout.map(|timeout| due_after(inner.time.now(), timeout));
    Some(inner.run(deadline, &mut is_done))
}
