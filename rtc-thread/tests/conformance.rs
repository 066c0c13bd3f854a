//! Threads and tasks: the behaviours that the test suites of libwebrtc check, and ours. The number in
//! a name is that of the list in `docs/conformance.md`.

#[allow(dead_code, reason = "each test file uses its part of this")]
mod worlds;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rtc_thread::{
    BlockingCallPolicy, CallError, CountBlockingCalls, ForbidBlockingCalls, JoinError, PanicPolicy,
    Precision, SpawnError, Task, TaskQueue, TaskQueueExt, Thread, ThreadHandle, current,
    process_all_queued,
};
use worlds::{Due, Kind, in_every_world, in_real_worlds, in_simulation};

/// A list that tasks append to.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<&'static str>>>);

impl Log {
    fn note(&self, what: &'static str) -> impl FnOnce() + Send + use<> {
        let log = self.clone();
        move || log.0.lock().unwrap().push(what)
    }

    fn taken(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Notes on which thread it is dropped.
struct DropNote(mpsc::Sender<Option<String>>);

impl Drop for DropNote {
    fn drop(&mut self) {
        let thread = current().map(|thread| thread.name().to_owned());
        self.0.send(thread).unwrap();
    }
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn item_01_threads_have_names_unique_by_default_and_shown_by_the_system() {
    in_real_worlds(|world| {
        let named = world.thread("a-name");
        assert_eq!("a-name", named.name());
        #[cfg(target_os = "linux")]
        {
            let shown = named.blocking_call(|| std::fs::read_to_string("/proc/thread-self/comm"));
            assert_eq!("a-name\n", shown.unwrap().unwrap());
        }
        let long = world.thread("a name that is longer than the system shows");
        assert_eq!("a name that is longer than the system shows", long.name());
    });
    in_every_world(|world| {
        let [one, two] = [(), ()].map(|()| world.start(Thread::builder()));
        assert_ne!(one.name(), two.name());
        assert!(one.name().starts_with("rtc-thread-"));
    });
}

#[test]
fn item_02_the_current_thread_can_be_wrapped_and_unwrapped() {
    assert!(current().is_none());
    for _ in 0..2 {
        let main = Thread::builder().name("main").wrap_current().unwrap();
        assert_eq!("main", current().unwrap().name());
        assert!(main.is_current());
        let again = Thread::builder().wrap_current();
        assert!(matches!(again, Err(SpawnError::IsOurs)));
        let worker = Thread::builder().spawn().unwrap();
        let (handle, log) = (main.handle(), Log::default());
        let note = log.note("from the worker");
        worker
            .blocking_call(move || handle.post(note).unwrap())
            .unwrap();
        assert_eq!(0, log.len(), "it runs when its owner wants");
        assert!(main.run_for(Duration::ZERO));
        assert_eq!(vec!["from the worker"], log.taken());
        let handle = main.handle();
        drop(main);
        assert!(current().is_none());
        assert!(handle.post(|| {}).is_err());
    }
}

#[test]
fn item_03_inside_a_task_current_is_the_target() {
    assert!(current().is_none());
    in_every_world(|world| {
        let [outer, inner] = ["outer", "inner"].map(|name| world.thread(name));
        let inner_handle = inner.handle();
        let seen = outer.blocking_call(move || {
            let here = || current().unwrap().name().to_owned();
            let before = here();
            let there = inner_handle.blocking_call(here).unwrap();
            (before, there, here())
        });
        let expected = ["outer", "inner", "outer"].map(str::to_owned);
        assert_eq!(
            (
                expected[0].clone(),
                expected[1].clone(),
                expected[2].clone()
            ),
            seen.unwrap()
        );
        assert!(current().is_none());
    });
}

#[test]
fn item_04_a_blocking_call_runs_there_and_returns_its_value_inline_on_its_own_thread() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let mut borrowed = 0;
        let value = thread.blocking_call(|| {
            borrowed += 1;
            current().unwrap().name().len()
        });
        assert_eq!((Ok(6), 1), (value, borrowed));
        let (handle, log) = (thread.handle(), Log::default());
        let first = log.note("posted before");
        let second = log.note("inline");
        thread
            .blocking_call(move || {
                handle.post(first).unwrap();
                handle.blocking_call(second).unwrap();
            })
            .unwrap();
        thread.blocking_call(|| ()).unwrap();
        assert_eq!(vec!["inline", "posted before"], log.taken());
    });
}

#[test]
fn item_05_blocking_calls_are_counted_in_a_scope() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let reports = Rc::new(RefCell::new(Vec::new()));
        let report = |at_least| {
            let reports = reports.clone();
            CountBlockingCalls::enter()
                .report_from(at_least, move |count| reports.borrow_mut().push(count))
        };
        let (one, two) = (report(1), report(2));
        assert_eq!(0, one.so_far().blocking);
        thread.blocking_call(|| std::thread::sleep(MS)).unwrap();
        drop((one, two));
        let [count] = reports.take()[..] else {
            panic!("one of the two reports");
        };
        assert_eq!((1, 0), (count.blocking, count.inline));
        assert!(count.blocked_for >= MS);

        let handle = thread.handle();
        let inline = thread.blocking_call(|| {
            let scope = CountBlockingCalls::enter();
            handle.blocking_call(|| ()).unwrap();
            scope.so_far()
        });
        let inline = inline.unwrap();
        assert_eq!((0, 1), (inline.blocking, inline.inline));
    });
}

#[test]
fn item_06_blocking_calls_can_be_forbidden_in_a_scope_for_good_or_but_for_some() {
    in_every_world(|world| {
        let [caller, listed, other] = ["caller", "listed", "other"].map(|name| world.thread(name));
        let try_both = || {
            let [listed, other] = [&listed, &other].map(|thread| thread.handle());
            caller
                .blocking_call(move || (listed.blocking_call(|| ()), other.blocking_call(|| ())))
                .unwrap()
        };
        assert_eq!((Ok(()), Ok(())), try_both());
        caller.set_blocking_call_policy(BlockingCallPolicy::Only(vec![listed.id()]));
        assert!(caller.may_block_on(&listed) && !caller.may_block_on(&other));
        assert_eq!((Ok(()), Err(CallError::Forbidden)), try_both());
        caller.set_blocking_call_policy(BlockingCallPolicy::Forbidden);
        assert_eq!(
            (Err(CallError::Forbidden), Err(CallError::Forbidden)),
            try_both()
        );
        let own = caller.handle();
        assert_eq!(
            Ok(Ok(())),
            caller.blocking_call(move || own.blocking_call(|| ()))
        );
        caller.set_blocking_call_policy(BlockingCallPolicy::Any);
        assert_eq!((Ok(()), Ok(())), try_both());

        let outer = ForbidBlockingCalls::enter();
        let inner = ForbidBlockingCalls::enter();
        drop(inner);
        assert_eq!(Err(CallError::Forbidden), listed.blocking_call(|| ()));
        let (held, hold) = mpsc::channel::<()>();
        if world.kind != Kind::Simulated {
            listed.post(move || assert!(hold.recv().is_err())).unwrap();
        }
        assert_eq!(Err(CallError::Forbidden), listed.call(|| ()).wait());
        drop(held);
        drop(outer);
        assert_eq!(Ok(()), listed.blocking_call(|| ()));
    });
}

#[test]
fn item_07_rings_of_blocking_calls_are_errors_that_name_them() {
    in_every_world(|world| {
        let [a, b, c] = ["a", "b", "c"].map(|name| world.thread(name));
        let ring = |threads: &[&Thread]| {
            fn call_round(mut rest: Vec<ThreadHandle>) -> Result<(), CallError> {
                match rest.pop() {
                    Some(next) => next.blocking_call(move || call_round(rest))?,
                    None => Ok(()),
                }
            }
            let mut handles: Vec<_> = threads.iter().map(|thread| thread.handle()).collect();
            handles.insert(0, threads[threads.len() - 1].handle());
            call_round(handles)
        };
        for threads in [&[&a, &b][..], &[&a, &b, &c]] {
            let Err(CallError::WouldDeadlock(cycle)) = ring(threads) else {
                panic!("not noticed");
            };
            let mut names: Vec<_> = cycle.names().collect();
            names.sort_unstable();
            // A simulation sees the ring from the thread that is on its stack.
            if world.kind != Kind::Simulated {
                assert_eq!(threads.iter().map(|t| t.name()).collect::<Vec<_>>(), names);
            }
        }
        let log = Log::default();
        let (b, c, note, a_again) = (b.handle(), c.handle(), log.note("a post"), a.handle());
        let value = a.blocking_call(move || {
            b.blocking_call(move || {
                a_again.post(note).unwrap();
                c.blocking_call(|| 3).unwrap()
            })
            .unwrap()
        });
        assert_eq!(Ok(3), value);
        a.blocking_call(|| ()).unwrap();
        assert_eq!(vec!["a post"], log.taken());
    });
}

#[test]
fn item_08_tasks_run_in_posted_order_each_posters_in_its_own() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let log = Log::default();
        let (handle, nested) = (thread.handle(), log.note("posted from the first"));
        let first = log.note("first");
        thread
            .post(move || {
                handle.post(nested).unwrap();
                first();
            })
            .unwrap();
        thread.post(log.note("second")).unwrap();
        world.wait_until(|| log.len() == 3);
        let ran = log.taken();
        let place = |what| ran.iter().position(|ran| *ran == what).unwrap();
        assert!(place("first") < place("second"));
        assert!(place("first") < place("posted from the first"));
        if world.kind == Kind::Simulated {
            assert_eq!(vec!["first", "second", "posted from the first"], ran);
        }

        const POSTERS: usize = 4;
        const EACH: usize = 5_000;
        let last = Arc::new([(); POSTERS].map(|()| AtomicUsize::new(0)));
        let run = Arc::new(AtomicUsize::new(0));
        let posters: Vec<_> = (0..POSTERS).map(|_| world.thread("poster")).collect();
        for (poster, thread_of_poster) in posters.iter().enumerate() {
            let (target, last, run) = (thread.handle(), last.clone(), run.clone());
            let post_all = move || {
                for n in 1..=EACH {
                    let (last, run) = (last.clone(), run.clone());
                    let check = move || {
                        assert_eq!(n - 1, last[poster].swap(n, Ordering::Relaxed));
                        run.fetch_add(1, Ordering::Relaxed);
                    };
                    target.post(check).unwrap();
                }
            };
            thread_of_poster.post(post_all).unwrap();
        }
        world.wait_until(|| run.load(Ordering::Relaxed) == POSTERS * EACH);
    });
}

#[test]
fn item_09_a_closure_is_moved_and_its_captures_dropped_on_the_target_right_after_it_ran() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let (dropped, drops) = mpsc::channel();
        let note = DropNote(dropped);
        let (handle, (ran, order)) = (thread.handle(), mpsc::channel());
        thread
            .post(move || {
                let _moved = &note;
                // Runs after this one: by then the captures are gone.
                handle
                    .post(move || ran.send(drops.try_recv()).unwrap())
                    .unwrap();
            })
            .unwrap();
        thread.blocking_call(|| ()).unwrap();
        world.wait_until(|| order.try_recv() == Ok(Ok(Some("target".to_owned()))));
    });
}

#[test]
fn item_10_captures_that_never_run_are_dropped_on_the_target_or_come_back() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let (dropped, drops) = mpsc::channel();
        let note = DropNote(dropped.clone());
        thread
            .post_delayed(1_000_000 * MS, move || drop(note))
            .unwrap();
        let handle = thread.handle();
        thread.stop().unwrap();
        assert_eq!(Ok(Some("target".to_owned())), drops.try_recv());
        let note = DropNote(dropped);
        let refused = handle.post(move || drop(note)).unwrap_err();
        assert!(drops.try_recv().is_err(), "it is the poster's again");
        drop(refused);
        assert_eq!(Ok(None), drops.try_recv());
    });
}

#[test]
fn item_11_delayed_tasks_run_in_due_order_equal_ones_as_posted_and_none_early() {
    in_every_world(|world| {
        const DELAYED: [(u32, &str); 5] =
            [(11, "11"), (9, "9"), (10, "10 a"), (10, "10 b"), (0, "0")];
        let thread = world.thread("target");
        // Posted from a task, so that in a simulation no time passes in between.
        let handle = thread.handle();
        let ran = Arc::new(Mutex::new(Vec::new()));
        let to = ran.clone();
        let posted = thread.blocking_call(move || {
            let delayed = |(delay, what)| {
                let (clock, to) = (handle.clock().clone(), to.clone());
                Due::of(handle.clock(), delay * MS, || {
                    handle
                        .post_delayed(delay * MS, move || {
                            to.lock().unwrap().push((what, clock.now()));
                        })
                        .unwrap();
                })
            };
            DELAYED.map(delayed)
        });
        let posted = posted.unwrap();
        world.wait_until(|| ran.lock().unwrap().len() == DELAYED.len());
        let ran = ran.lock().unwrap();
        let order: Vec<_> = ran.iter().map(|(what, _)| *what).collect();
        if world.kind == Kind::Simulated {
            assert_eq!(vec!["0", "9", "10 a", "10 b", "11"], order);
        }
        // For real, a moment between two posts may be longer than their delays differ. Of equal ones,
        // the order is certain even so.
        let place = |what: &str| order.iter().position(|ran| *ran == what).unwrap();
        for (n, due) in posted.iter().enumerate() {
            let (delay, what) = DELAYED[n];
            assert!(ran[place(what)].1 >= due.earliest, "{what} was early");
            for (m, other) in posted.iter().enumerate() {
                let is_equal_and_before = DELAYED[m].0 == delay && n < m;
                if is_equal_and_before || due.is_certainly_before(other) {
                    assert!(place(what) < place(DELAYED[m].1), "{order:?} of {posted:?}");
                }
            }
        }

        let log = Log::default();
        let note = log.note("delayed from itself");
        let handle = thread.handle();
        thread
            .post(move || drop(handle.post_delayed(MS, note).unwrap()))
            .unwrap();
        world.wait_until(|| log.len() == 1);
    });
    // Zero delay: after what was posted before it, and not swapped with it.
    in_simulation(|world| {
        let thread = world.thread("target");
        let log = Log::default();
        thread.post(log.note("before")).unwrap();
        thread
            .post_delayed(Duration::ZERO, log.note("zero"))
            .unwrap();
        world.wait_until(|| log.len() == 2);
        assert_eq!(vec!["before", "zero"], log.taken());
    });
}

#[test]
fn item_12_a_delayed_task_that_is_pending_at_the_end_never_runs_and_is_dropped() {
    in_every_world(|world| {
        for precision in [Precision::High, Precision::Low] {
            let thread = world.thread("target");
            let (dropped, drops) = mpsc::channel();
            let note = DropNote(dropped);
            let ran = Arc::new(AtomicBool::new(false));
            let runs = ran.clone();
            let task = Task::new(move || {
                drop(note);
                runs.store(true, Ordering::Relaxed);
            });
            thread
                .post_delayed_task(1_000_000 * MS, precision, task)
                .unwrap();
            drop(thread);
            assert_eq!(Ok(Some("target".to_owned())), drops.try_recv());
            assert!(!ran.load(Ordering::Relaxed));
        }
    });
}

#[test]
fn item_13_high_precision_is_not_coalesced_low_is_late_by_at_most_the_leeway() {
    const LEEWAY: Duration = Duration::from_millis(40);
    in_simulation(|world| {
        let thread = world.start(Thread::builder().leeway(LEEWAY));
        let start = world.now();
        let ran: Arc<Mutex<Vec<(Precision, Duration)>>> = Arc::default();
        for (delay, precision) in [
            (10, Precision::Low),
            (20, Precision::Low),
            (55, Precision::High),
            (60, Precision::High),
            (61, Precision::Low),
        ] {
            let (clock, ran) = (thread.clock().clone(), ran.clone());
            let task = Task::new(move || {
                ran.lock().unwrap().push((precision, clock.now() - start));
            });
            thread
                .post_delayed_task(delay * MS, precision, task)
                .unwrap();
        }
        world.simulation.as_ref().unwrap().run_until_idle();
        let expected = vec![
            // Put off by the leeway, which the second is awake for as well.
            (Precision::Low, 50 * MS),
            (Precision::Low, 50 * MS),
            (Precision::High, 55 * MS),
            (Precision::High, 60 * MS),
            (Precision::Low, 101 * MS),
        ];
        assert_eq!(expected, *ran.lock().unwrap());
    });
    // On real threads: a hundred timers in a row cost a wake-up for each leeway that they are spread
    // over, which is one if the machine lets them be posted in a row.
    in_real_worlds(|world| {
        let thread = world.start(Thread::builder().leeway(LEEWAY));
        let run = Arc::new(AtomicUsize::new(0));
        let waits_before = thread.stats().waits;
        let start = Instant::now();
        let mut last_due = start;
        for n in 0..100 {
            let run = run.clone();
            let delay = 20 * MS + n * MS / 4;
            thread
                .post_delayed_low_precision(delay, move || {
                    run.fetch_add(1, Ordering::Relaxed);
                })
                .unwrap();
            last_due = Instant::now() + delay;
        }
        world.wait_until(|| run.load(Ordering::Relaxed) == 100);
        // What has run is counted by then.
        thread.blocking_call(|| ()).unwrap();
        let stats = thread.stats();
        let waits = stats.waits - waits_before;
        let spread = last_due - (start + 20 * MS);
        // Besides that call, `process_all_queued` of other tests wakes it.
        let others = 1 + u128::from(stats.tasks.saturating_sub(100));
        let wakes = 1 + spread.as_micros() / LEEWAY.as_micros() + others;
        // It falls asleep after each, after the first post to a queue that each has left empty, and in
        // the beginning.
        assert!(
            u128::from(waits) <= 2 + 2 * wakes,
            "{waits} waits for 100 timers over {spread:?}: {stats:?}"
        );
    });
}

#[test]
fn item_14_everything_that_is_queued_is_processed_on_all_threads() {
    let main = Thread::builder().name("main").wrap_current().unwrap();
    in_real_worlds(|world| {
        let [one, two] = ["one", "two"].map(|name| world.thread(name));
        let log = Log::default();
        for thread in [&one.handle(), &two.handle(), &main.handle()] {
            thread.post(log.note("posted")).unwrap();
            thread
                .post_delayed(Duration::ZERO, log.note("due"))
                .unwrap();
        }
        process_all_queued().unwrap();
        assert_eq!(6, log.len());
        // With a thread that is quitting.
        let quitting = world.thread("quitting");
        let handle = quitting.handle();
        quitting.post(move || handle.quit()).unwrap();
        one.post(log.note("posted")).unwrap();
        process_all_queued().unwrap();
        assert_eq!(7, log.len());
        // And not from within a task, whose thread would have to go on for that.
        assert!(one.blocking_call(process_all_queued).unwrap().is_err());
        let within = Rc::new(std::cell::Cell::new(false));
        let bound = rtc_thread::ThreadBound::on_current(within.clone()).unwrap();
        bound
            .post(|within| within.set(process_all_queued().is_err()))
            .unwrap();
        main.run_for(Duration::ZERO);
        assert!(within.get());
    });
}

#[test]
fn item_15_at_quit_what_was_ready_runs_and_a_wrapped_thread_can_be_restarted() {
    in_every_world(|world| {
        let thread = world.thread("target");
        let log = Log::default();
        let (handle, inner) = (thread.handle(), log.clone());
        thread
            .post(move || {
                handle.post(inner.note("ready")).unwrap();
                handle
                    .post_delayed(Duration::ZERO, inner.note("due"))
                    .unwrap();
                handle
                    .post_delayed(1_000_000 * MS, inner.note("not due"))
                    .unwrap();
                handle.quit();
                assert!(handle.is_quitting());
                assert!(handle.post(inner.note("too late")).is_err());
            })
            .unwrap();
        thread.join().unwrap();
        assert_eq!(vec!["ready", "due"], log.taken());
    });
    let main = Thread::builder().wrap_current().unwrap();
    let log = Log::default();
    for _ in 0..2 {
        main.post(log.note("ready")).unwrap();
        main.quit();
        main.run();
        assert!(main.post(|| {}).is_err());
        assert_eq!(vec!["ready"], log.taken());
        main.restart();
    }
    assert!(main.run_for(MS));
}

#[test]
fn item_16_a_task_that_takes_long_is_reported() {
    in_real_worlds(|world| {
        let thread = world.start(Thread::builder().slow_task_threshold(200 * MS));
        let sleep = |millis| Task::new(move || std::thread::sleep(millis * MS));
        let sleeps = [250, 250, 500].map(sleep);
        let location = sleeps[0].location();
        for task in sleeps {
            thread.post_task(task).unwrap();
        }
        thread.post(|| {}).unwrap();
        thread.blocking_call(|| ()).unwrap();
        let stats = thread.stats();
        // Others may be there as well, which the machine made slow.
        let slow = stats.slow_tasks.iter();
        let slow = slow.filter(|slow| slow.location == location);
        let [slow] = &slow.collect::<Vec<_>>()[..] else {
            panic!("{stats:?}");
        };
        assert!(slow.location.file().ends_with("conformance.rs"));
        assert_eq!(3, slow.count);
        assert!(slow.longest >= 490 * MS, "{slow:?}");
        assert!(stats.run_time.count() > 0 && stats.tasks >= 4);
    });
    // What takes less than the threshold is not, nor is anything without one.
    for threshold in [Some(3_600_000 * MS), None] {
        in_real_worlds(|world| {
            let thread = world.start(Thread::builder().slow_task_threshold(threshold));
            thread.post(|| std::thread::sleep(60 * MS)).unwrap();
            thread.blocking_call(|| ()).unwrap();
            assert_eq!(0, thread.stats().slow_tasks.len());
        });
    }
}

#[test]
fn item_17_a_task_sees_what_its_poster_wrote() {
    in_every_world(|world| {
        let [poster, target] = ["poster", "target"].map(|name| world.thread(name));
        let value = Arc::new(AtomicU64::new(0));
        let (done, finished) = mpsc::channel();
        let handle = target.handle();
        poster
            .post(move || {
                for n in 1..=10_000 {
                    // Relaxed: the order comes from the post.
                    value.store(n, Ordering::Relaxed);
                    let (value, done) = (value.clone(), done.clone());
                    let check = move || {
                        assert!(value.load(Ordering::Relaxed) >= n);
                        if n == 10_000 {
                            done.send(()).unwrap();
                        }
                    };
                    handle.post(check).unwrap();
                }
            })
            .unwrap();
        world.wait_until(|| finished.try_recv().is_ok());
    });
}

#[test]
fn item_18_a_panic_is_contained_by_the_threads_policy() {
    in_every_world(|world| {
        let ends = world.thread("ends");
        ends.post(|| panic!("on purpose")).unwrap();
        let handle = ends.handle();
        let Err(JoinError::Panicked(panic)) = ends.join() else {
            panic!("join says nothing");
        };
        assert_eq!("on purpose", panic.message());
        assert_eq!(Err(CallError::Quit), handle.blocking_call(|| ()));
        assert_eq!(Err(CallError::Quit), handle.call(|| ()).wait());

        let goes_on = Thread::builder().panic_policy(PanicPolicy::Continue);
        let goes_on = world.start(goes_on);
        goes_on.post(|| panic!("on purpose")).unwrap();
        assert_eq!(Ok(4), goes_on.blocking_call(|| 4));
        let call = goes_on.call(|| panic!("in a call"));
        assert_eq!(
            Err::<(), _>(CallError::Panicked("in a call".to_owned())),
            call.wait()
        );
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            goes_on.blocking_call(|| panic!("in a blocking call"))
        }));
        assert!(caught.is_err());
        goes_on.stop().unwrap();
    });
}

#[test]
fn item_20_posts_while_a_thread_starts_and_ends_are_safe() {
    in_real_worlds(|world| {
        for _ in 0..50 {
            let thread = world.thread("short-lived");
            let (ran, refused) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..200 {
                            let ran = ran.clone();
                            let posted = thread.post(move || {
                                ran.fetch_add(1, Ordering::Relaxed);
                            });
                            refused.fetch_add(posted.is_err().into(), Ordering::Relaxed);
                        }
                    });
                }
                thread.quit();
            });
            thread.join().unwrap();
            let settled = ran.load(Ordering::Relaxed) + refused.load(Ordering::Relaxed);
            assert_eq!(400, settled);
        }
    });
}

#[test]
fn code_can_be_written_against_a_queue() {
    fn double_later(queue: &dyn TaskQueue, value: u64, to: mpsc::Sender<u64>) {
        queue
            .post_delayed(MS, move || to.send(2 * value).unwrap())
            .unwrap();
    }
    in_every_world(|world| {
        let thread = world.thread("queue");
        let (to, result) = mpsc::channel();
        double_later(&*thread, 21, to);
        let mut doubled = None;
        world.wait_until(|| {
            doubled = doubled.or(result.try_recv().ok());
            doubled.is_some()
        });
        assert_eq!(Some(42), doubled);
    });
}

#[test]
fn a_wrapped_thread_runs_for_as_long_as_it_is_told() {
    let main = Thread::builder().with_sockets().wrap_current().unwrap();
    let start = Instant::now();
    assert!(main.run_for(20 * MS));
    assert!(start.elapsed() >= 20 * MS);
    let log = Log::default();
    main.post_delayed(5 * MS, log.note("later")).unwrap();
    // Once, unless the machine lets the time pass that it was to run in.
    let patience = Instant::now() + 60_000 * MS;
    while log.len() == 0 {
        assert!(main.run_for(20 * MS));
        assert!(Instant::now() < patience, "it never runs");
    }
    assert_eq!(vec!["later"], log.taken());
    let handle = main.handle();
    main.post(move || handle.quit()).unwrap();
    assert!(!main.run_for(60_000 * MS));
}
