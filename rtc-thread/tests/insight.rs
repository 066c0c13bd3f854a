//! Looking into threads while they run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use rtc_thread::{Thread, threads};

#[test]
fn statistics_tell_what_a_thread_has_done() {
    let [one, two] = ["one", "two"].map(|name| Thread::builder().name(name).spawn().unwrap());
    for _ in 0..1000 {
        one.post(|| {}).unwrap();
    }
    let handle = two.handle();
    one.blocking_call(|| handle.blocking_call(|| ()).unwrap())
        .unwrap();
    one.post_delayed(Duration::from_secs(1000), || {}).unwrap();
    one.blocking_call(|| ()).unwrap();
    // Tasks are counted a little after they have run.
    while one.stats().tasks < 1002 {
        std::thread::yield_now();
    }
    let (one_stats, two_stats) = (one.stats(), two.stats());
    assert_eq!(1002, one_stats.tasks);
    assert_eq!(
        (1, 2),
        (
            one_stats.blocking_calls_made,
            one_stats.blocking_calls_received
        )
    );
    assert_eq!(
        (0, 1),
        (
            two_stats.blocking_calls_made,
            two_stats.blocking_calls_received
        )
    );
    assert_eq!((0, 1), (one_stats.queue_length, one_stats.delayed_length));
    assert!((1..=1002).contains(&one_stats.batches));
    assert!(one_stats.largest_batch >= 1);
    assert!(one_stats.run_time.count() > 0);
}

#[test]
fn samples_show_how_long_tasks_wait() {
    let thread = Thread::builder().spawn().unwrap();
    // Three batches a round, of which another one is measured each time.
    for _ in 0..100 {
        let (entered, has_entered) = bounded(1);
        let (go, wait) = bounded::<()>(1);
        thread
            .post(move || {
                entered.send(()).unwrap();
                wait.recv().unwrap();
            })
            .unwrap();
        has_entered.recv().unwrap();
        // This one waits behind the first for two milliseconds.
        let behind = thread.call(|| ());
        std::thread::sleep(Duration::from_millis(2));
        go.send(()).unwrap();
        behind.wait().unwrap();
        thread.blocking_call(|| ()).unwrap();
    }
    let stats = thread.stats();
    assert!(stats.queue_delay.count() >= 5, "{stats:?}");
    assert!(
        stats.queue_delay.quantile(1.0) >= Duration::from_millis(2),
        "{stats:?}"
    );
    assert!(
        stats.run_time.quantile(1.0) >= Duration::from_millis(2),
        "{stats:?}"
    );
}

#[test]
fn statistics_can_be_read_while_the_thread_is_flooded() {
    let thread = Thread::builder().name("flooded").spawn().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (thread, stop) = (&thread, &stop);
        scope.spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                thread.post(|| {}).unwrap();
            }
        });
        let mut last = 0;
        for _ in 0..1000 {
            let tasks = thread.stats().tasks;
            assert!(tasks >= last);
            last = tasks;
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn every_thread_is_registered_while_it_has_handles() {
    let named = |name: &str| threads().iter().any(|thread| thread.name() == name);
    let thread = Thread::builder().name("listed").spawn().unwrap();
    assert!(named("listed"));
    drop(thread);
    assert!(!named("listed"));
}
