//! Signals as events: conformance item 37. A test binary of its own, because signals are the
//! process's.

#![cfg(unix)]

use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::low_level::raise;
use socket_server::{
    Firewall, FirewallSocketServer, MaxWait, NullSocketServer, PhysicalSocketServer, ProcessIo,
    Signal, SignalHandler, SocketServer, VirtualNetwork,
};

/// Spent by failures only.
const PATIENCE: Duration = Duration::from_secs(60);

/// One test at a time: each would hear the others' signals.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn server() -> PhysicalSocketServer {
    PhysicalSocketServer::new().unwrap()
}

fn count(server: &dyn SocketServer, signal: i32) -> (SignalHandler, Rc<Cell<u32>>) {
    let calls = Rc::<Cell<u32>>::default();
    let counted = calls.clone();
    let handler = Box::new(move || counted.set(counted.get() + 1));
    let handler = server.on_signal(Signal::from_raw(signal), handler).unwrap();
    (handler, calls)
}

#[track_caller]
fn wait_until(server: &PhysicalSocketServer, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain");
        server
            .wait(MaxWait::Until(deadline), ProcessIo::Yes)
            .unwrap();
    }
}

/// Waits for a while, which nothing may end.
#[track_caller]
fn is_quiet(server: &PhysicalSocketServer, process_io: ProcessIo) {
    let deadline = Instant::now() + Duration::from_millis(20);
    server.wait(MaxWait::Until(deadline), process_io).unwrap();
    assert!(Instant::now() >= deadline, "something has ended the wait");
}

#[test]
fn item_37_a_signal_that_was_raised_before_the_wait_is_seen_once() {
    let _turn = alone();
    let server = server();
    let (_handler, calls) = count(&server, SIGUSR1);
    for _ in 0..5 {
        raise(SIGUSR1).unwrap();
    }
    assert_eq!(0, calls.get(), "nothing is called but in waits");
    wait_until(&server, || calls.get() > 0);
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(1, calls.get());
}

#[test]
fn item_37_a_signal_that_another_thread_raises_is_seen_by_the_one_that_waits() {
    let _turn = alone();
    let server = server();
    let (_handler, calls) = count(&server, SIGUSR1);
    for n in 1..=20 {
        let raiser = std::thread::spawn(|| raise(SIGUSR1).unwrap());
        server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
        assert_eq!(n, calls.get());
        raiser.join().unwrap();
    }
}

#[test]
fn item_37_of_ten_thousand_none_that_matters_is_lost() {
    let _turn = alone();
    let server = server();
    let (raised, seen) = (Arc::new(AtomicU64::new(0)), Rc::new(Cell::new(0)));
    let (of, to) = (raised.clone(), seen.clone());
    let handler = Box::new(move || to.set(of.load(Ordering::SeqCst)));
    let _handler = server
        .on_signal(Signal::from_raw(SIGUSR1), handler)
        .unwrap();
    let raiser = std::thread::spawn(move || {
        for n in 1..=10_000 {
            raised.store(n, Ordering::SeqCst);
            raise(SIGUSR1).unwrap();
        }
    });
    // Only a call after the last one sees this.
    while seen.get() < 10_000 {
        server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    }
    raiser.join().unwrap();
    // What the last one has left behind is seen, too, and then it is quiet.
    server.wait(MaxWait::Poll, ProcessIo::Yes).unwrap();
    is_quiet(&server, ProcessIo::Yes);
}

#[test]
fn item_37_one_that_is_raised_while_its_handler_runs_leads_to_another_call() {
    let _turn = alone();
    let server = server();
    let calls = Rc::new(Cell::new(0));
    let counted = calls.clone();
    let handler = Box::new(move || {
        counted.set(counted.get() + 1);
        if counted.get() < 5 {
            raise(SIGUSR1).unwrap();
        }
    });
    let _handler = server
        .on_signal(Signal::from_raw(SIGUSR1), handler)
        .unwrap();
    raise(SIGUSR1).unwrap();
    wait_until(&server, || calls.get() == 5);
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(5, calls.get());
}

#[test]
fn item_37_several_kinds_at_once_are_each_seen_and_by_each_who_asked() {
    let _turn = alone();
    let (here, there) = (server(), server());
    let kinds = [SIGUSR1, SIGUSR2, SIGWINCH, Signal::HANGUP.number()];
    let handlers = [&here, &here, &there].map(|server| kinds.map(|kind| count(server, kind)));
    let calls = |of: usize| handlers[of].each_ref().map(|(_, calls)| calls.get());
    for kind in kinds {
        raise(kind).unwrap();
    }
    for server in [&here, &there] {
        wait_until(server, || {
            let own = if std::ptr::eq(server, &here) {
                0..2
            } else {
                2..3
            };
            own.flat_map(calls).all(|calls| calls > 0)
        });
        is_quiet(server, ProcessIo::Yes);
    }
    for of in 0..3 {
        assert_eq!([1; 4], calls(of));
    }
    raise(SIGUSR2).unwrap();
    wait_until(&here, || calls(0)[1] == 2);
    is_quiet(&here, ProcessIo::Yes);
    assert_eq!([1, 2, 1, 1], calls(0));
}

#[test]
fn item_37_a_wait_without_io_is_not_ended_and_the_signal_is_kept() {
    let _turn = alone();
    let server = server();
    let (_handler, calls) = count(&server, SIGUSR1);
    for _ in 0..100 {
        raise(SIGUSR1).unwrap();
        server.wait(MaxWait::Poll, ProcessIo::No).unwrap();
    }
    is_quiet(&server, ProcessIo::No);
    assert_eq!(0, calls.get());
    server.wait(MaxWait::Forever, ProcessIo::Yes).unwrap();
    assert_eq!(1, calls.get());
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(1, calls.get());
}

#[test]
fn item_37_a_dropped_handler_is_not_called_and_the_signal_harms_nobody() {
    let _turn = alone();
    let server = server();
    // It would have ended the process, and still does not.
    let terminate = Signal::TERMINATE.number();
    let (handler, calls) = count(&server, terminate);
    drop(handler);
    assert_eq!(1, Rc::strong_count(&calls));
    raise(terminate).unwrap();
    is_quiet(&server, ProcessIo::Yes);
    // Also when it has been heard of already.
    let (handler, calls) = count(&server, terminate);
    raise(terminate).unwrap();
    server.wait(MaxWait::Poll, ProcessIo::No).unwrap();
    drop(handler);
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(0, calls.get());
    // The next one hears what is raised from then on.
    let (_handler, calls) = count(&server, terminate);
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(0, calls.get());
    raise(terminate).unwrap();
    wait_until(&server, || calls.get() == 1);
}

#[test]
fn item_37_a_handler_may_drop_itself_and_others() {
    let _turn = alone();
    let server = server();
    let handlers = Rc::<RefCell<Vec<SignalHandler>>>::default();
    let calls = Rc::new(Cell::new(0));
    for _ in 0..3 {
        let (own, counted) = (handlers.clone(), calls.clone());
        let drops_all = Box::new(move || {
            counted.set(counted.get() + 1);
            own.borrow_mut().clear();
        });
        let handler = server.on_signal(Signal::from_raw(SIGUSR2), drops_all);
        handlers.borrow_mut().push(handler.unwrap());
    }
    raise(SIGUSR2).unwrap();
    wait_until(&server, || calls.get() > 0);
    is_quiet(&server, ProcessIo::Yes);
    assert_eq!(1, calls.get());
}

#[test]
fn item_37_a_handler_may_outlive_its_server() {
    let _turn = alone();
    let server = server();
    let (handler, calls) = count(&server, SIGUSR1);
    drop(server);
    raise(SIGUSR1).unwrap();
    drop(handler);
    assert_eq!(0, calls.get());
}

#[test]
fn item_37_signals_that_cannot_be_caught_are_errors() {
    let _turn = alone();
    let server = server();
    for number in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        let refused = server.on_signal(Signal::from_raw(number), Box::new(|| {}));
        assert_eq!(ErrorKind::InvalidInput, refused.unwrap_err().kind());
    }
    for number in [0, -1, 10_000] {
        assert!(
            server
                .on_signal(Signal::from_raw(number), Box::new(|| {}))
                .is_err()
        );
    }
    // Nothing is left of the attempts.
    let (_handler, calls) = count(&server, SIGUSR1);
    raise(SIGUSR1).unwrap();
    wait_until(&server, || calls.get() == 1);
}

#[test]
fn item_37_servers_without_signals_say_so_and_a_firewall_lets_them_through() {
    let _turn = alone();
    let host = VirtualNetwork::new(1)
        .add_host(socket_server::HostOptions::new("host"))
        .unwrap();
    let without: [Rc<dyn SocketServer>; 2] =
        [Rc::new(NullSocketServer::new()), Rc::new(host.server())];
    for server in without {
        let refused = server.on_signal(Signal::INTERRUPT, Box::new(|| {}));
        assert_eq!(ErrorKind::Unsupported, refused.unwrap_err().kind());
    }
    let inner = Rc::new(server());
    let behind = FirewallSocketServer::new(inner.clone(), Rc::new(Firewall::new()));
    let (_handler, calls) = count(&behind, SIGUSR1);
    raise(SIGUSR1).unwrap();
    wait_until(&inner, || calls.get() == 1);
}
