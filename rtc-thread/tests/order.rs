//! In which order tasks run, and where: conformance items 3, 8, 9, 11, 17.

#[allow(dead_code, reason = "each test file uses its part of this")]
mod worlds;

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};
use rtc_thread::{Budget, Thread, ThreadHandle, current};
use worlds::Due;

fn with_and_without_sockets(test: impl Fn(Thread)) {
    test(Thread::builder().name("null").spawn().unwrap());
    test(
        Thread::builder()
            .name("physical")
            .with_sockets()
            .spawn()
            .unwrap(),
    );
}

#[test]
fn handles_can_be_sent_and_shared() {
    fn assert_send_sync<T: Send + Sync>() {}
    assert_send_sync::<Thread>();
    assert_send_sync::<ThreadHandle>();
}

#[test]
fn current_is_the_target_inside_a_task_and_nothing_outside() {
    with_and_without_sockets(|thread| {
        assert!(current().is_none());
        assert!(!thread.is_current());
        let handle = thread.handle();
        let (name, is_current) = thread
            .blocking_call(|| (current().unwrap().name().to_owned(), handle.is_current()))
            .unwrap();
        assert_eq!(thread.name(), name);
        assert!(is_current);
    });
}

#[test]
fn tasks_run_in_posted_order() {
    with_and_without_sockets(|thread| {
        let (sender, ran) = unbounded();
        for n in 0..1000 {
            let sender = sender.clone();
            thread.post(move || sender.send(n).unwrap()).unwrap();
        }
        drop(sender);
        assert_eq!(
            (0..1000).collect::<Vec<_>>(),
            ran.iter().collect::<Vec<_>>()
        );
    });
}

#[test]
fn each_posters_tasks_run_in_its_order_and_none_is_lost() {
    const POSTERS: usize = 4;
    const EACH: usize = 20_000;
    with_and_without_sockets(|thread| {
        let (sender, ran) = unbounded();
        std::thread::scope(|scope| {
            for poster in 0..POSTERS {
                let (thread, sender) = (thread.handle(), sender.clone());
                scope.spawn(move || {
                    for n in 0..EACH {
                        let sender = sender.clone();
                        thread
                            .post(move || sender.send((poster, n)).unwrap())
                            .unwrap();
                        // Leaves the owner time to fall asleep now and then.
                        if n % 1000 == 0 {
                            std::thread::yield_now();
                        }
                    }
                });
            }
        });
        drop(sender);
        let mut next = [0; POSTERS];
        for (poster, n) in ran {
            assert_eq!(next[poster], n);
            next[poster] += 1;
        }
        assert_eq!([EACH; POSTERS], next);
    });
}

#[test]
fn a_task_posted_from_a_task_runs_after_what_was_queued_before_it() {
    let thread = Thread::builder().spawn().unwrap();
    let (sender, ran) = unbounded();
    let handle = thread.handle();
    thread
        .blocking_call(|| {
            let (first, second) = (sender.clone(), sender.clone());
            let inner = sender.clone();
            let again = handle.clone();
            handle
                .post(move || {
                    first.send("first").unwrap();
                    again
                        .post(move || inner.send("posted by first").unwrap())
                        .unwrap();
                })
                .unwrap();
            handle.post(move || second.send("second").unwrap()).unwrap();
        })
        .unwrap();
    drop(sender);
    assert_eq!(
        vec!["first", "second", "posted by first"],
        ran.iter().collect::<Vec<_>>()
    );
}

#[test]
fn what_the_poster_wrote_is_visible_to_the_task() {
    let thread = Thread::builder().spawn().unwrap();
    for n in 0..1000 {
        let value = Arc::new(AtomicUsize::new(0));
        value.store(n, Ordering::Relaxed);
        let seen = value.clone();
        let call = thread.call(move || seen.load(Ordering::Relaxed));
        assert_eq!(Ok(n), call.wait());
    }
}

/// Reports the thread on which it is dropped.
struct DropReport(Sender<Option<String>>);

impl Drop for DropReport {
    fn drop(&mut self) {
        let name = current().map(|thread| thread.name().to_owned());
        // Nobody may be left to hear it.
        let _ = self.0.send(name);
    }
}

#[test]
fn captures_are_moved_and_dropped_on_the_target_right_after_the_run() {
    let thread = Thread::builder().name("target").spawn().unwrap();
    let (sender, dropped) = unbounded();
    let report = DropReport(sender);
    // Not `Clone`, not `Sync`: can only be moved.
    let move_only = (report, Cell::new(1));
    thread
        .post(move || {
            let all_of_it = &move_only;
            all_of_it.1.set(2);
        })
        .unwrap();
    let dropped_before_the_next_task = thread.call(move || dropped.try_recv()).wait().unwrap();
    assert_eq!(Ok(Some("target".to_owned())), dropped_before_the_next_task);
}

#[test]
fn delay_zero_runs_after_what_was_posted_before_it() {
    with_and_without_sockets(|thread| {
        let (sender, ran) = unbounded();
        let handle = thread.handle();
        thread
            .blocking_call(|| {
                let (first, second) = (sender.clone(), sender.clone());
                handle.post(move || first.send("posted").unwrap()).unwrap();
                handle
                    .post_delayed(Duration::ZERO, move || {
                        second.send("delayed by zero").unwrap();
                    })
                    .unwrap();
            })
            .unwrap();
        drop(sender);
        assert_eq!(
            vec!["posted", "delayed by zero"],
            ran.iter().collect::<Vec<_>>()
        );
    });
}

#[test]
fn delayed_tasks_run_in_due_order_and_never_early() {
    with_and_without_sockets(|thread| {
        let (sender, ran) = unbounded();
        let handle = thread.handle();
        let posted = thread.blocking_call(|| {
            let post = |(label, delay)| {
                let (delay, sender) = (Duration::from_millis(delay), sender.clone());
                Due::of(handle.clock(), delay, || {
                    handle
                        .post_delayed(delay, move || sender.send((label, Instant::now())).unwrap())
                        .unwrap();
                })
            };
            [11, 9, 10, 0, 3, 5, 4, 9, 2]
                .into_iter()
                .enumerate()
                .map(post)
                .collect()
        });
        let posted: Vec<Due> = posted.unwrap();
        drop(sender);
        let ran: Vec<_> = ran.iter().collect();
        assert_eq!(posted.len(), ran.len());
        // Which of two is due first is certain, unless the machine took a break between the posts.
        for (n, (label, at)) in ran.iter().enumerate() {
            assert!(*at >= posted[*label].earliest, "early");
            for (later, _) in &ran[n..] {
                let is_late = posted[*later].is_certainly_before(&posted[*label]);
                assert!(!is_late, "{later} after {label} of {posted:?}");
            }
        }
    });
}

#[test]
fn a_sub_millisecond_delay_is_not_early() {
    with_and_without_sockets(|thread| {
        for micros in [1, 50, 300, 700, 999, 1001] {
            let delay = Duration::from_micros(micros);
            let (sender, ran) = unbounded();
            let posted = Instant::now();
            thread
                .post_delayed(delay, move || sender.send(Instant::now()).unwrap())
                .unwrap();
            assert!(ran.recv().unwrap() >= posted + delay);
        }
    });
}

#[test]
fn a_cancelled_task_is_handed_back_and_does_not_run() {
    let thread = Thread::builder().spawn().unwrap();
    let (sender, ran) = unbounded();
    let other = sender.clone();
    let kept = Duration::from_millis(2);
    let delayed = thread.post_delayed(Duration::from_millis(1), move || {
        sender.send("cancelled").unwrap();
    });
    thread
        .post_delayed(kept, move || other.send("kept").unwrap())
        .unwrap();
    let delayed = delayed.unwrap();
    if let Some(task) = delayed.cancel() {
        assert!(task.location().file().ends_with("order.rs"));
        drop(task);
        assert_eq!(vec!["kept"], ran.iter().collect::<Vec<_>>());
    } else {
        // The machine took a millisecond to get here.
        assert_eq!(vec!["cancelled", "kept"], ran.iter().collect::<Vec<_>>());
    }
    assert!(delayed.cancel().is_none());
}

#[test]
fn a_far_delay_is_accepted_and_dropped_at_the_end() {
    let thread = Thread::builder().name("target").spawn().unwrap();
    let (sender, dropped) = unbounded();
    let report = DropReport(sender);
    thread
        .post_delayed(Duration::MAX, move || drop(report))
        .unwrap();
    thread.stop().unwrap();
    assert_eq!(Ok(Some("target".to_owned())), dropped.recv());
}

#[test]
fn an_earlier_delayed_post_from_elsewhere_shortens_a_wait() {
    with_and_without_sockets(|thread| {
        let (sender, ran) = unbounded();
        let other = sender.clone();
        let far = thread
            .post_delayed(Duration::from_secs(3600), move || drop(sender))
            .unwrap();
        thread
            .post_delayed(Duration::from_millis(1), move || other.send(()).unwrap())
            .unwrap();
        ran.recv().unwrap();
        assert!(far.cancel().is_some());
    });
}

#[test]
fn item_19_a_flood_of_tasks_delays_a_due_timer_by_what_is_queued_and_no_more() {
    let budget = Budget {
        tasks: 64,
        ..Budget::default()
    };
    let thread = Thread::builder().budget(budget).spawn().unwrap();
    let stop = Arc::new(AtomicUsize::new(0));
    fn flood(thread: ThreadHandle, stop: Arc<AtomicUsize>) {
        if stop.load(Ordering::Relaxed) == 0 {
            let again = thread.clone();
            // Refused only when the test has failed and the thread is quitting.
            let _ = thread.post(move || flood(again, stop));
        }
    }
    flood(thread.handle(), stop.clone());
    let (sender, ran) = unbounded();
    thread
        .post_delayed(Duration::from_millis(1), move || sender.send(()).unwrap())
        .unwrap();
    ran.recv().unwrap();
    stop.store(1, Ordering::Relaxed);
}
