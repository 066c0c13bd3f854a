//! Signals that interrupt waits, and end none: conformance item 35. A test binary of its own, because
//! signals are the process's.

#![cfg(target_os = "linux")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::gettid;
use signal_hook::consts::SIGUSR1;
use socket_server::{
    MaxWait, NullSocketServer, PhysicalSocketServer, ProcessIo, SocketServer, WakeHandle,
};

/// Spent by failures only.
const PATIENCE: Duration = Duration::from_secs(60);
const INTERRUPTIONS: usize = 1000;

/// Sends signals to a thread, one after the other, as long as it wants more.
struct Interrupter {
    handled: Arc<AtomicBool>,
    thread: Pid,
}

impl Interrupter {
    fn of(thread: Pid) -> Self {
        let handled = Arc::new(AtomicBool::new(false));
        // Whatever number of these there are, all are set.
        signal_hook::flag::register(SIGUSR1, handled.clone()).unwrap();
        Self { handled, thread }
    }

    /// Returns when the signal has been handled. By the number of a thread, Linux gives the signal to
    /// that thread if it can.
    fn interrupt(&self) {
        self.handled.store(false, Ordering::SeqCst);
        kill_process(self.thread, Signal::USR1).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.handled.load(Ordering::SeqCst) {
            assert!(Instant::now() < deadline, "the signal was not handled");
            std::thread::yield_now();
        }
    }
}

type Make = fn() -> Box<dyn SocketServer>;

const SERVERS: [Make; 2] = [
    || Box::new(NullSocketServer::new()),
    || Box::new(PhysicalSocketServer::new().unwrap()),
];

/// A thread that waits in a server, and the means to reach it.
struct Waiter {
    thread: Pid,
    wake: WakeHandle,
    /// Says how long it took, and what it should have.
    returned: mpsc::Receiver<(Instant, Option<Instant>)>,
}

fn start(make: Make, max: Option<Duration>, process_io: ProcessIo) -> Waiter {
    let (started, hear_started) = mpsc::channel();
    let (returned, hear_returned) = mpsc::channel();
    std::thread::spawn(move || {
        let server = make();
        started.send((gettid(), server.wake_handle())).unwrap();
        let deadline = max.map(|max| Instant::now() + max);
        let max_wait = deadline.map_or(MaxWait::Forever, MaxWait::Until);
        server.wait(max_wait, process_io).unwrap();
        let _ = returned.send((Instant::now(), deadline));
    });
    let (thread, wake) = hear_started.recv().unwrap();
    Waiter {
        thread,
        wake,
        returned: hear_returned,
    }
}

#[test]
fn item_35_the_signals_of_these_tests_do_interrupt_a_thread_that_waits() {
    let (started, hear_started) = mpsc::channel();
    let (interrupted, hear_interrupted) = mpsc::channel();
    std::thread::spawn(move || {
        let mut poll = mio::Poll::new().unwrap();
        let mut events = mio::Events::with_capacity(1);
        started.send(gettid()).unwrap();
        let outcome = poll.poll(&mut events, Some(PATIENCE));
        interrupted.send(outcome.unwrap_err().kind()).unwrap();
    });
    let interrupter = Interrupter::of(hear_started.recv().unwrap());
    let kind = loop {
        // It may not have begun to wait yet.
        interrupter.interrupt();
        if let Ok(kind) = hear_interrupted.recv_timeout(Duration::from_millis(1)) {
            break kind;
        }
    };
    assert_eq!(std::io::ErrorKind::Interrupted, kind);
}

#[test]
fn item_35_signals_do_not_end_a_wait_that_has_no_end() {
    for make in SERVERS {
        for process_io in [ProcessIo::Yes, ProcessIo::No] {
            let waiter = start(make, None, process_io);
            let interrupter = Interrupter::of(waiter.thread);
            for _ in 0..INTERRUPTIONS {
                interrupter.interrupt();
            }
            assert!(waiter.returned.try_recv().is_err(), "a signal has ended it");
            waiter.wake.wake();
            waiter.returned.recv_timeout(PATIENCE).unwrap();
        }
    }
}

#[test]
fn item_35_signals_do_not_end_a_wait_before_its_time_or_keep_it_from_ending() {
    for make in SERVERS {
        let waiter = start(make, Some(Duration::from_millis(50)), ProcessIo::Yes);
        let interrupter = Interrupter::of(waiter.thread);
        let begun = Instant::now();
        let (returned, deadline) = loop {
            match waiter.returned.try_recv() {
                Ok(returned) => break returned,
                Err(mpsc::TryRecvError::Empty) => interrupter.interrupt_if_there(),
                Err(error) => panic!("{error}"),
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "the signals kept it from ending"
            );
        };
        assert!(returned >= deadline.unwrap());
    }
}

impl Interrupter {
    /// The thread may have ended by then, and nobody else has its number so soon.
    fn interrupt_if_there(&self) {
        let _ = kill_process(self.thread, Signal::USR1);
        std::thread::yield_now();
    }
}
