//! Calls between threads: conformance items 4, 7, 18.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crossbeam_channel::{bounded, unbounded};
use rtc_thread::{Call, CallError, Thread, reply};

fn thread(name: &str) -> Thread {
    Thread::builder().name(name).spawn().unwrap()
}

#[test]
fn a_blocking_call_runs_on_the_target_borrows_and_returns() {
    let target = thread("target");
    let text = String::from("borrowed");
    let length = target.blocking_call(|| {
        assert!(target.is_current());
        text.len()
    });
    assert_eq!(Ok(8), length);
}

#[test]
fn a_blocking_call_runs_after_what_was_posted_before_it() {
    let target = thread("target");
    let (sender, ran) = unbounded();
    for n in 0..100 {
        let sender = sender.clone();
        target.post(move || sender.send(n).unwrap()).unwrap();
    }
    assert_eq!(Ok(100), target.blocking_call(|| ran.len()));
}

#[test]
fn a_blocking_call_to_oneself_runs_inline_before_what_is_queued() {
    let target = thread("target");
    let (sender, ran) = unbounded();
    let (handle, first, second) = (target.handle(), sender.clone(), sender);
    target
        .blocking_call(|| {
            handle.post(move || second.send("posted").unwrap()).unwrap();
            handle
                .blocking_call(|| first.send("called").unwrap())
                .unwrap();
        })
        .unwrap();
    assert_eq!(Ok("called"), ran.recv());
    assert_eq!(Ok("posted"), ran.recv());
}

#[test]
fn a_panic_in_a_blocking_call_goes_on_in_the_caller_only() {
    let target = thread("target");
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _ = target.blocking_call(|| panic!("on purpose"));
    }));
    assert_eq!(Some(&"on purpose"), caught.unwrap_err().downcast_ref());
    assert_eq!(Ok(1), target.blocking_call(|| 1));
}

#[test]
fn calls_to_a_thread_that_has_quit_are_errors() {
    let target = thread("target");
    let handle = target.handle();
    target.stop().unwrap();
    assert_eq!(Err(CallError::Quit), handle.blocking_call(|| 1));
    assert_eq!(Err(CallError::Quit), handle.call(|| 1).wait());
    let refused = handle.post(|| {}).unwrap_err();
    assert!(refused.task.location().file().ends_with("calls.rs"));
    assert!(handle.is_quitting());
}

#[test]
fn a_caller_that_is_blocked_when_the_thread_dies_gets_an_error() {
    let target = thread("target");
    let (entered_sender, entered) = bounded(1);
    let (go, wait) = bounded::<()>(1);
    target
        .post(move || {
            entered_sender.send(()).unwrap();
            wait.recv().unwrap();
            panic!("on purpose");
        })
        .unwrap();
    entered.recv().unwrap();
    let eager = target.call(|| 1);
    std::thread::scope(|scope| {
        let blocked = scope.spawn(|| target.blocking_call(|| 1));
        go.send(()).unwrap();
        assert_eq!(Err(CallError::Quit), blocked.join().unwrap());
    });
    assert_eq!(Err(CallError::Quit), eager.wait());
    assert!(
        target
            .join()
            .unwrap_err()
            .to_string()
            .contains("on purpose")
    );
}

#[test]
fn two_threads_calling_each_other_are_an_error_that_names_them() {
    let (a, b) = (thread("a"), thread("b"));
    let (to_a, to_b) = (a.handle(), b.handle());
    let inner = a.blocking_call(|| to_b.blocking_call(|| to_a.blocking_call(|| 1)));
    let Ok(Ok(Err(CallError::WouldDeadlock(cycle)))) = inner else {
        panic!("not a deadlock error: {inner:?}");
    };
    assert_eq!(vec!["b", "a"], cycle.names().collect::<Vec<_>>());
    assert_eq!("'b' waits for 'a' waits for 'b'", cycle.to_string());
    // Once the calls are over, the other way round is as good.
    assert_eq!(Ok(Ok(2)), b.blocking_call(|| a.blocking_call(|| 2)));
}

#[test]
fn three_threads_in_a_ring_are_an_error() {
    let (a, b, c) = (thread("a"), thread("b"), thread("c"));
    let inner = a.blocking_call(|| b.blocking_call(|| c.blocking_call(|| a.call(|| 1).wait())));
    let Ok(Ok(Ok(Err(CallError::WouldDeadlock(cycle))))) = inner else {
        panic!("not a deadlock error: {inner:?}");
    };
    assert_eq!(vec!["c", "a", "b"], cycle.names().collect::<Vec<_>>());
}

#[test]
fn a_legal_chain_works_while_the_first_thread_gets_posts() {
    let (a, b, c) = (thread("a"), thread("b"), thread("c"));
    let (sender, ran) = unbounded();
    let sum = a.blocking_call(|| {
        b.blocking_call(|| {
            let sender = sender.clone();
            a.post(move || sender.send("posted").unwrap()).unwrap();
            c.blocking_call(|| 3).map(|n| n + 2)
        })
    });
    assert_eq!(Ok(Ok(Ok(5))), sum);
    assert_eq!(Ok("posted"), ran.recv());
}

#[test]
fn a_target_may_call_its_former_caller_at_once() {
    // The edge of the first call must be gone before the caller has woken up.
    let (a, b) = (thread("a"), thread("b"));
    for _ in 0..1000 {
        let (sender, back) = bounded(1);
        let (to_a, to_b) = (a.handle(), b.handle());
        a.call(move || {
            to_b.blocking_call(|| {
                let again = to_b.clone();
                again
                    .post(move || sender.send(to_a.blocking_call(|| 1)).unwrap())
                    .unwrap();
            })
        })
        .wait()
        .unwrap()
        .unwrap();
        assert_eq!(Ok(Ok(1)), back.recv());
    }
}

#[test]
fn joining_a_thread_that_waits_for_the_joiner_is_an_error() {
    let (a, b) = (thread("a"), thread("b"));
    let (to_a, (entered_sender, entered)) = (a.handle(), bounded(1));
    let outcome = a
        .call(move || {
            let call = b.call(move || {
                entered_sender.send(()).unwrap();
                to_a.blocking_call(|| 1)
            });
            entered.recv().unwrap();
            let joined = b.stop();
            (joined.map_err(|error| error.to_string()), call)
        })
        .wait()
        .unwrap();
    // Either b was blocked on a when a wanted to join it, or it met the joining a.
    match (outcome.0, outcome.1.wait()) {
        (Err(message), Ok(Ok(1))) => assert!(message.contains("never end"), "{message}"),
        (Ok(()), Ok(Err(CallError::WouldDeadlock(_)))) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_is_eager_and_dropping_its_handle_cancels_nothing() {
    let target = thread("target");
    let (sender, ran) = unbounded();
    for n in 0..10 {
        let sender = sender.clone();
        drop(target.call(move || sender.send(n).unwrap()));
    }
    drop(sender);
    assert_eq!((0..10).collect::<Vec<_>>(), ran.iter().collect::<Vec<_>>());
}

#[test]
fn a_panic_in_a_call_is_its_handles_business() {
    let target = thread("target");
    let outcome = target.call(|| panic!("on purpose")).wait();
    assert_eq!(Err(CallError::Panicked("on purpose".into())), outcome);
    assert_eq!(Ok(1), target.blocking_call(|| 1));
}

#[test]
fn waiting_on_ones_own_unfinished_call_is_an_error() {
    let target = thread("target");
    let handle = target.handle();
    let outcome = target.blocking_call(|| handle.call(|| 1).wait()).unwrap();
    assert!(
        matches!(outcome, Err(CallError::WouldDeadlock(_))),
        "{outcome:?}"
    );
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_call_is_a_future_for_any_executor() {
    let target = thread("target");
    assert_eq!(Ok(3), block_on(target.call(|| 3)));
    let (reply_sender, call) = reply();
    target.post(move || reply_sender.send("later")).unwrap();
    assert_eq!(Ok("later"), block_on(call));
    let (dropped, call): (_, Call<()>) = reply();
    drop(dropped);
    assert_eq!(Err(CallError::Quit), block_on(call));
    assert_eq!(Ok(1), block_on(Call::ready(Ok(1))));
}
