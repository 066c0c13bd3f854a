//! How threads end: conformance items 10, 12, 15, 18, 20.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded, unbounded};
use rtc_thread::{JoinError, PanicPolicy, SpawnError, Thread, current};
use socket_server::NullSocketServer;

struct DropReport(Sender<Option<String>>);

impl Drop for DropReport {
    fn drop(&mut self) {
        let name = current().map(|thread| thread.name().to_owned());
        // Nobody may be left to hear it.
        let _ = self.0.send(name);
    }
}

#[test]
fn what_was_ready_at_quit_runs_and_what_was_not_due_does_not() {
    let thread = Thread::builder().name("target").spawn().unwrap();
    let (sender, ran) = unbounded();
    let (reports, dropped) = unbounded();
    let handle = thread.handle();
    thread
        .blocking_call(|| {
            let (ready, due, late) = (sender.clone(), sender.clone(), sender.clone());
            let report = DropReport(reports);
            handle.post(move || ready.send("ready").unwrap()).unwrap();
            handle
                .post_delayed(Duration::ZERO, move || due.send("due").unwrap())
                .unwrap();
            handle
                .post_delayed(Duration::from_secs(3600), move || {
                    let _report = &report;
                    late.send("late").unwrap();
                })
                .unwrap();
            handle.quit();
            assert!(handle.post(|| {}).is_err());
        })
        .unwrap();
    drop(sender);
    thread.join().unwrap();
    assert_eq!(vec!["ready", "due"], ran.iter().collect::<Vec<_>>());
    assert_eq!(Ok(Some("target".to_owned())), dropped.recv());
}

#[test]
fn a_refused_closure_comes_back_to_its_poster() {
    let thread = Thread::builder().spawn().unwrap();
    let handle = thread.handle();
    thread.stop().unwrap();
    let (sender, ran) = unbounded();
    handle
        .post(move || sender.send(1).unwrap())
        .unwrap_err()
        .task
        .run();
    assert_eq!(Ok(1), ran.recv());
}

#[test]
fn every_post_that_races_with_quit_runs_or_comes_back() {
    for _ in 0..200 {
        let thread = Thread::builder().spawn().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let (handle, ran, refused) = (thread.handle(), ran.clone(), refused.clone());
                scope.spawn(move || {
                    for _ in 0..100 {
                        let ran = ran.clone();
                        let post = handle.post(move || {
                            ran.fetch_add(1, Ordering::Relaxed);
                        });
                        if post.is_err() {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
            thread.quit();
        });
        thread.join().unwrap();
        assert_eq!(
            200,
            ran.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed)
        );
    }
}

#[test]
fn join_returns_the_panic_and_the_rest_is_dropped_on_the_thread() {
    let thread = Thread::builder().name("target").spawn().unwrap();
    let (reports, dropped) = unbounded();
    let report = DropReport(reports);
    let (go, wait) = bounded::<()>(1);
    thread
        .post(move || {
            wait.recv().unwrap();
            panic!("on purpose");
        })
        .unwrap();
    thread
        .post(move || {
            let _report = &report;
            unreachable!("the thread has ended");
        })
        .unwrap();
    go.send(()).unwrap();
    match thread.join() {
        Err(JoinError::Panicked(panic)) => assert_eq!("on purpose", panic.message()),
        other => panic!("{other:?}"),
    }
    assert_eq!(Ok(Some("target".to_owned())), dropped.recv());
}

#[test]
fn a_thread_that_continues_after_a_panic_loses_no_other_task() {
    let thread = Thread::builder()
        .panic_policy(PanicPolicy::Continue)
        .spawn()
        .unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    for n in 0..100 {
        let ran = ran.clone();
        thread
            .post(move || {
                assert!(n % 3 != 0, "on purpose");
                ran.fetch_add(1, Ordering::Relaxed);
            })
            .unwrap();
    }
    thread.stop().unwrap();
    assert_eq!(66, ran.load(Ordering::Relaxed));
}

#[test]
fn dropping_the_owner_ends_the_thread() {
    let (reports, dropped) = unbounded();
    let report = DropReport(reports);
    let thread = Thread::builder().name("target").spawn().unwrap();
    thread
        .post_delayed(Duration::from_secs(3600), move || drop(report))
        .unwrap();
    drop(thread);
    assert_eq!(Ok(Some("target".to_owned())), dropped.try_recv());
}

#[test]
fn a_thread_that_owns_itself_can_end() {
    let thread = Thread::builder().spawn().unwrap();
    let handle = thread.handle();
    let (sender, ran) = bounded(1);
    handle
        .post(move || {
            thread.stop().unwrap();
            sender.send(()).unwrap();
        })
        .unwrap();
    ran.recv().unwrap();
    assert!(handle.is_quitting());
}

#[test]
fn a_socket_server_that_cannot_be_made_is_an_error_of_spawn() {
    let failing = || Err::<NullSocketServer, _>(io::Error::other("on purpose"));
    match Thread::builder().socket_server(failing).spawn() {
        Err(SpawnError::SocketServer(error)) => assert_eq!("on purpose", error.to_string()),
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        Thread::builder().name("zero\0byte").spawn(),
        Err(SpawnError::Thread(_))
    ));
}

#[test]
fn names_are_given_unique_by_default_and_shown_by_the_system() {
    let named = Thread::builder().name("network-0").spawn().unwrap();
    assert_eq!("network-0", named.name());
    let shown = named.blocking_call(|| std::thread::current().name().map(str::to_owned));
    assert_eq!(Ok(Some("network-0".to_owned())), shown);
    let (a, b) = (
        Thread::builder().spawn().unwrap(),
        Thread::builder().spawn().unwrap(),
    );
    assert_ne!(a.name(), b.name());
    assert_ne!(a.id(), b.id());
}
