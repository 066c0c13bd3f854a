//! What goes with threads: flags, repeating tasks, chains, checks, events, futures, simulation. The
//! number in a name is that of the list in `docs/conformance.md`.

#[allow(dead_code, reason = "each test file uses its part of this")]
mod worlds;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rtc_thread::{
    CallError, Completion, Event, OperationsChain, Precision, Repeat, RepeatingTask, Reset,
    SafetyFlag, ScopedSafety, SequenceChecker, Simulation, Thread, ThreadBound, current, interval,
    sleep, spawn_local,
};
use worlds::{World, in_every_world, in_real_worlds, in_simulation, with_delays_that_suffice};

const MS: Duration = Duration::from_millis(1);

/// Counts how often something happens.
#[derive(Clone, Default)]
struct Tally(Arc<AtomicUsize>);

impl Tally {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn add(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Notes on which thread it is dropped.
struct DropNote(Arc<Mutex<Option<String>>>);

impl Drop for DropNote {
    fn drop(&mut self) {
        let here = current().map_or_else(String::new, |thread| thread.name().to_owned());
        *self.0.lock().unwrap() = Some(here);
    }
}

#[test]
fn item_21_tasks_of_a_safety_flag_run_while_it_is_alive_and_not_after() {
    in_every_world(|world| {
        let thread = world.thread("queue");
        let ran = Tally::default();
        let note = || {
            let ran = ran.clone();
            move || ran.add()
        };
        let flag = SafetyFlag::new();
        thread.post(flag.wrap(note())).unwrap();
        thread.blocking_call(|| ()).unwrap();
        assert_eq!(1, ran.count());
        let (flag_there, handle, again) = (flag.clone(), thread.handle(), note());
        thread
            .post(move || {
                handle.post(flag_there.wrap(again)).unwrap();
                flag_there.set_not_alive();
            })
            .unwrap();
        world.wait_until(|| !flag.is_alive());
        thread.blocking_call(|| ()).unwrap();
        assert_eq!(1, ran.count(), "dropped");

        let not_yet = SafetyFlag::not_alive();
        thread.post(not_yet.wrap(note())).unwrap();
        thread.blocking_call(|| ()).unwrap();
        not_yet.set_alive();
        thread.post(not_yet.wrap(note())).unwrap();
        thread.blocking_call(|| ()).unwrap();
        assert_eq!(2, ran.count());

        let owner = ScopedSafety::new();
        let flag = owner.flag();
        assert!(flag.is_alive());
        drop(owner);
        assert!(!flag.is_alive());
        let owner = ScopedSafety::with(SafetyFlag::not_alive());
        assert!(!owner.flag().is_alive());
    });
}

#[test]
fn item_22_a_repeating_task_stops_when_stopped_by_others_or_itself() {
    in_every_world(|world| {
        let thread = world.thread("queue");
        // By others.
        let ran = Tally::default();
        let runs = ran.clone();
        let task = RepeatingTask::start(&thread, Precision::High, move || {
            runs.add();
            Repeat::After(MS)
        })
        .unwrap();
        world.wait_until(|| ran.count() >= 3);
        task.stop();
        thread.blocking_call(|| ()).unwrap();
        let count = ran.count();
        world.pass(10 * MS);
        assert_eq!(count, ran.count());
        assert!(task.is_stopped());
        task.stop();

        // By itself: with its answer, and with its handle.
        let ran = Tally::default();
        let runs = ran.clone();
        let task = RepeatingTask::start_delayed(&thread, MS, Precision::Low, move || {
            runs.add();
            if runs.count() < 3 {
                Repeat::After(Duration::ZERO)
            } else {
                Repeat::Stop
            }
        })
        .unwrap();
        world.wait_until(|| task.is_stopped());
        assert_eq!(3, ran.count());
        let own: Arc<Mutex<Option<RepeatingTask>>> = Arc::default();
        let (theirs, ran) = (own.clone(), Tally::default());
        let runs = ran.clone();
        // It does not get at its handle before it is there.
        let mut handle = own.lock().unwrap();
        let task = RepeatingTask::start_delayed(&thread, 5 * MS, Precision::High, move || {
            runs.add();
            theirs.lock().unwrap().as_ref().unwrap().stop();
            Repeat::After(Duration::ZERO)
        })
        .unwrap();
        *handle = Some(task.clone());
        drop(handle);
        world.wait_until(|| task.is_stopped());
        world.pass(5 * MS);
        assert_eq!(1, ran.count());
        own.lock().unwrap().take();

        // Before its first run; its closure is dropped on the queue.
        let dropped_on = Arc::new(Mutex::new(None));
        let note = DropNote(dropped_on.clone());
        let task =
            RepeatingTask::start_delayed(&thread, 1_000_000 * MS, Precision::Low, move || {
                let _kept = &note;
                panic!("it was stopped before");
            })
            .unwrap();
        task.stop();
        world.wait_until(|| dropped_on.lock().unwrap().is_some());
        assert_eq!(Some("queue"), dropped_on.lock().unwrap().as_deref());

        // After its queue has ended.
        let runs = Tally::default();
        let task = RepeatingTask::start(&thread, Precision::High, move || {
            runs.add();
            Repeat::After(MS)
        })
        .unwrap();
        drop(thread);
        task.stop();
    });
}

#[test]
fn item_22_a_repeating_task_makes_up_for_the_time_it_ran() {
    in_simulation(|world| {
        let thread = world.thread("queue");
        let clock = thread.clock().clone();
        let start = clock.now();
        let times: Arc<Mutex<Vec<u128>>> = Arc::default();
        let noted = times.clone();
        RepeatingTask::start(&thread, Precision::High, move || {
            let mut times = noted.lock().unwrap();
            times.push((clock.now() - start).as_millis());
            let number = times.len();
            drop(times);
            // Virtual time that passes within a task: a wait for something that does not happen.
            let work = match number {
                1 => 100 * MS,
                2 => 950 * MS,
                _ => Duration::ZERO,
            };
            assert!(!Event::new(Reset::Auto).wait_for(work));
            if number < 6 {
                Repeat::After(300 * MS)
            } else {
                Repeat::Stop
            }
        })
        .unwrap();
        world.simulation.as_ref().unwrap().run_until_idle();
        // After the long run it is behind, and catches up without a delay.
        assert_eq!(vec![0, 300, 1250, 1250, 1250, 1500], *times.lock().unwrap());
    });
}

#[test]
fn item_23_operations_run_one_at_a_time_in_order() {
    let chain = OperationsChain::new();
    let log = Rc::new(RefCell::new(Vec::new()));
    let note = |what: &'static str| {
        let log = log.clone();
        move || log.borrow_mut().push(what)
    };
    // Synchronous ones run at once when nothing is before them.
    let first = note("synchronous");
    chain.chain(move |completion| {
        first();
        completion.complete();
    });
    assert_eq!(vec!["synchronous"], log.take());
    assert!(chain.is_empty());

    // An asynchronous one blocks the next; its state lives until it completes.
    let held: Rc<RefCell<Option<Completion>>> = Rc::default();
    let (holder, begun) = (held.clone(), note("asynchronous"));
    chain.chain(move |completion| {
        begun();
        *holder.borrow_mut() = Some(completion);
    });
    let (second, third) = (note("second"), note("third"));
    chain.chain(move |completion| {
        second();
        completion.complete();
    });
    chain.chain(move |completion| {
        third();
        completion.complete();
    });
    assert_eq!(vec!["asynchronous"], log.take());
    assert!(!chain.is_empty());

    // Safe to let go of the chain while an operation is under way.
    let emptied = Rc::new(Cell::new(0));
    let times = emptied.clone();
    chain.on_empty(move || times.set(times.get() + 1));
    let observer = chain.clone();
    drop(chain);
    held.take().unwrap().complete();
    assert_eq!(vec!["second", "third"], log.take());
    assert_eq!(1, emptied.get());

    // One that is never completed is reported, and does not hold up the rest for ever.
    observer.chain(drop);
    let after = note("after");
    observer.chain(move |completion| {
        after();
        completion.complete();
    });
    assert_eq!(1, observer.abandoned());
    assert_eq!(vec!["after"], log.take());

    // A long chain is not a deep stack.
    let (hold, held_back) = (Rc::new(RefCell::new(None)), Rc::new(Cell::new(0)));
    let holder = hold.clone();
    observer.chain(move |completion| *holder.borrow_mut() = Some(completion));
    for _ in 0..100_000 {
        let count = held_back.clone();
        observer.chain(move |completion| {
            count.set(count.get() + 1);
            completion.complete();
        });
    }
    hold.take().unwrap().complete();
    assert_eq!(100_000, held_back.get());
}

#[test]
fn item_23_operations_may_be_futures() {
    in_every_world(|world| {
        let thread = world.thread("queue");
        let log: Arc<Mutex<Vec<&str>>> = Arc::default();
        let noted = log.clone();
        thread
            .post(move || {
                let chain = OperationsChain::new();
                for (what, time) in [("slow", 10 * MS), ("fast", Duration::ZERO)] {
                    let log = noted.clone();
                    let operation = async move {
                        sleep(time).await;
                        log.lock().unwrap().push(what);
                    };
                    chain.chain_future(operation).unwrap();
                }
            })
            .unwrap();
        world.wait_until(|| log.lock().unwrap().len() == 2);
        assert_eq!(vec!["slow", "fast"], *log.lock().unwrap());
    });
    assert!(OperationsChain::new().chain_future(async {}).is_err());
}

#[test]
fn item_24_a_sequence_checker_tells_one_thread_from_another() {
    in_every_world(|world| {
        let [one, two] = ["one", "two"].map(|name| world.thread(name));
        let here = SequenceChecker::new();
        assert!(here.is_current());
        let message = one
            .blocking_call(|| here.check().unwrap_err().to_string())
            .unwrap();
        assert!(
            message.contains("expected OS thread") && message.contains("'one'"),
            "{message}"
        );

        let checker = SequenceChecker::detached();
        assert!(one.blocking_call(|| checker.is_current()).unwrap());
        assert!(one.blocking_call(|| checker.is_current()).unwrap());
        let message = two
            .blocking_call(|| checker.check().unwrap_err().to_string())
            .unwrap();
        assert!(
            message.contains("expected thread 'one'") && message.contains("found thread 'two'")
        );
        assert!(!checker.is_current());
        checker.detach();
        assert!(two.blocking_call(|| checker.is_current()).unwrap());
        assert!(!one.blocking_call(|| checker.is_current()).unwrap());
        let attached = one.blocking_call(SequenceChecker::new).unwrap();
        assert!(!attached.is_current());
        assert!(one.blocking_call(|| attached.is_current()).unwrap());
    });
    let checker = SequenceChecker::detached();
    std::thread::scope(|scope| {
        scope.spawn(|| assert!(checker.is_current()));
    });
    assert!(!checker.is_current());
}

#[test]
fn item_25_an_event_resets_by_hand_or_by_itself_and_can_be_waited_for_with_a_limit() {
    let event = Event::with_state(Reset::Manual, true);
    event.wait();
    event.wait();
    event.reset();
    let start = Instant::now();
    assert!(!event.wait_for(Duration::from_micros(10_499)));
    assert!(start.elapsed() >= Duration::from_micros(10_499));
    let event = Event::new(Reset::Auto);
    event.set();
    event.set();
    assert!(event.wait_for(Duration::ZERO));
    assert!(!event.wait_for(Duration::ZERO), "one set ends one wait");

    in_every_world(|world| {
        let thread = world.thread("setter");
        let event = Arc::new(Event::new(Reset::Auto));
        let theirs = event.clone();
        thread.post_delayed(5 * MS, move || theirs.set()).unwrap();
        event.wait();
        // Waited for by a thread, set by another.
        let waiter = world.thread("waiter");
        let (first, second) = (event.clone(), event);
        let done = Arc::new(AtomicBool::new(false));
        let is_done = done.clone();
        waiter
            .post(move || {
                first.wait();
                is_done.store(true, Ordering::SeqCst);
            })
            .unwrap();
        thread.post_delayed(5 * MS, move || second.set()).unwrap();
        world.wait_until(|| done.load(Ordering::SeqCst));
    });
    // All that wait, with manual reset.
    let event = Event::new(Reset::Manual);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| event.wait());
        }
        event.set();
    });
}

#[test]
fn item_25_a_wait_in_a_task_warns_after_a_while() {
    use std::fmt;

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event as Logged, Metadata, Subscriber};

    struct Warnings(mpsc::Sender<String>);
    struct Text(String);

    impl Visit for Text {
        fn record_debug(&mut self, _field: &Field, value: &dyn fmt::Debug) {
            self.0 += &format!("{value:?} ");
        }
    }

    impl Subscriber for Warnings {
        fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _span: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _span: &Id, _values: &Record<'_>) {}
        fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
        fn event(&self, event: &Logged<'_>) {
            let mut text = Text(String::new());
            event.record(&mut text);
            let _ = self.0.send(text.0);
        }
        fn enter(&self, _span: &Id) {}
        fn exit(&self, _span: &Id) {}
    }

    let (to, warnings) = mpsc::channel();
    let thread = Thread::builder().name("waits").spawn().unwrap();
    let event = Arc::new(Event::new(Reset::Auto));
    let theirs = event.clone();
    thread
        .post(move || {
            tracing::subscriber::with_default(Warnings(to), || theirs.wait());
        })
        .unwrap();
    let warning = warnings.recv().unwrap();
    assert!(warning.contains("has waited for an event"), "{warning}");
    assert!(warning.contains("waits"), "{warning}");
    event.set();
}

#[test]
fn item_26_simulated_time_skips_the_waiting_but_not_the_tasks() {
    in_simulation(|world| {
        let simulation = world.simulation.as_ref().unwrap();
        let thread = world.thread("queue");
        let (ran, start) = (Tally::default(), world.now());
        for hours in 1..=100u32 {
            let (ran, clock) = (ran.clone(), thread.clock().clone());
            thread
                .post_delayed(3_600_000 * MS * hours, move || {
                    assert_eq!(3_600_000 * MS * hours, clock.now() - start);
                    ran.add();
                })
                .unwrap();
        }
        simulation.run_for(3_600_000 * MS * 50);
        assert_eq!(50, ran.count());
        simulation.run_until_idle();
        assert_eq!(100, ran.count());
    });
}

#[test]
fn item_26_a_blocking_call_lets_the_target_go_on_and_an_event_all_others() {
    in_simulation(|world| {
        let [caller, target, setter] =
            ["caller", "target", "setter"].map(|name| world.thread(name));
        let before = Tally::default();
        for _ in 0..10 {
            let before = before.clone();
            target.post(move || before.add()).unwrap();
        }
        let (target, seen) = (target.handle(), before);
        caller
            .blocking_call(move || {
                target
                    .blocking_call(|| assert_eq!(10, seen.count()))
                    .unwrap();
            })
            .unwrap();
        let event = Arc::new(Event::new(Reset::Manual));
        let (theirs, ours) = (event.clone(), event);
        setter
            .post_delayed(1000 * MS, move || theirs.set())
            .unwrap();
        caller.blocking_call(move || ours.wait()).unwrap();
    });
}

#[test]
fn item_26_real_and_simulated_threads_give_the_same_order() {
    const EXPECTED: [&str; 8] = [
        "posted",
        "blocking call",
        "inline",
        "posted to self",
        "before the event",
        "after the event",
        "delayed",
        "delayed twice as long",
    ];
    // For real, the order is as expected if the machine does all the rest within the shorter delay.
    let run = |world: &World, delay: Duration| {
        let thread = world.thread("queue");
        let log: Arc<Mutex<Vec<&str>>> = Arc::default();
        let note = |what: &'static str| {
            let log = log.clone();
            move || log.lock().unwrap().push(what)
        };
        let (handle, posted, inline) = (thread.handle(), note("posted to self"), note("inline"));
        let start = world.now();
        thread.post(note("posted")).unwrap();
        thread.post_delayed(2 * delay, note(EXPECTED[7])).unwrap();
        thread.post_delayed(delay, note(EXPECTED[6])).unwrap();
        thread.blocking_call(note("blocking call")).unwrap();
        thread
            .blocking_call(move || {
                handle.post(posted).unwrap();
                handle.blocking_call(inline).unwrap();
            })
            .unwrap();
        let event = Arc::new(Event::new(Reset::Auto));
        let (theirs, set) = (event.clone(), note("before the event"));
        thread
            .post(move || {
                set();
                theirs.set();
            })
            .unwrap();
        event.wait();
        note("after the event")();
        let is_in_time = world.now() - start < delay;
        world.wait_until(|| log.lock().unwrap().len() == EXPECTED.len());
        let order = log.lock().unwrap();
        assert!(!is_in_time || *order == EXPECTED, "{order:?}");
        is_in_time
    };
    in_real_worlds(|world| with_delays_that_suffice(20 * MS, |delay| run(world, delay)));
    in_simulation(|world| assert!(run(world, 20 * MS)));
}

#[test]
fn a_seed_reproduces_a_run_and_others_differ() {
    fn run(seed: u64) -> Vec<usize> {
        let simulation = Simulation::new(seed);
        let threads = [0, 1, 2].map(|n| simulation.thread(&format!("thread {n}")).unwrap());
        let order: Arc<Mutex<Vec<usize>>> = Arc::default();
        for _ in 0..10 {
            for (n, thread) in threads.iter().enumerate() {
                let order = order.clone();
                thread.post(move || order.lock().unwrap().push(n)).unwrap();
            }
        }
        simulation.run_until_idle();
        order.lock().unwrap().clone()
    }
    assert_eq!(run(1), run(1));
    assert!((2..10).any(|seed| run(seed) != run(1)));
}

#[test]
fn an_exploration_runs_every_interleaving_once() {
    let mut seen = std::collections::BTreeSet::new();
    let exploration = Simulation::explore(1000, |simulation| {
        let threads = ["a", "b"].map(|name| simulation.thread(name).unwrap());
        let order: Arc<Mutex<String>> = Arc::default();
        for thread in &threads {
            for _ in 0..3 {
                let (order, name) = (order.clone(), thread.name().to_owned());
                thread
                    .post(move || *order.lock().unwrap() += &name)
                    .unwrap();
            }
        }
        simulation.run_until_idle();
        assert!(seen.insert(order.lock().unwrap().clone()), "twice the same");
    });
    // Six tasks, three of each: 6! / (3! 3!).
    assert_eq!((20, true), (exploration.runs, exploration.is_complete));
    assert_eq!(20, seen.len());
    let cut_short = Simulation::explore(5, |simulation| {
        let threads = ["a", "b"].map(|name| simulation.thread(name).unwrap());
        for thread in threads.iter().flat_map(|thread| [thread; 3]) {
            thread.post(|| {}).unwrap();
        }
        simulation.run_until_idle();
    });
    assert_eq!((5, false), (cut_short.runs, cut_short.is_complete));
}

#[test]
fn a_simulation_reports_what_would_hang() {
    let simulation = Simulation::new(1);
    let thread = simulation.thread("lonely").unwrap();
    let (reply, call) = rtc_thread::reply::<()>();
    assert!(matches!(call.wait(), Err(CallError::WouldDeadlock(_))));
    drop(reply);
    assert!(matches!(
        thread.join(),
        Err(rtc_thread::JoinError::WouldDeadlock(_))
    ));
}

#[test]
fn a_future_runs_on_its_thread_need_not_be_send_and_gives_its_result() {
    in_every_world(|world| {
        let thread = world.thread("queue");
        let other = world.thread("other");
        let handle = other.handle();
        let call = thread.spawn(move || async move {
            let not_send = Rc::new(Cell::new(0));
            for n in 1..=10 {
                not_send.set(not_send.get() + handle.call(move || n).await.unwrap());
                sleep(MS / 10).await;
                assert_eq!("queue", current().unwrap().name());
            }
            not_send.get()
        });
        assert_eq!(Ok(55), call.wait());

        let call = thread.spawn(|| async { panic!("on purpose") });
        assert_eq!(
            Err::<(), _>(CallError::Panicked("on purpose".to_owned())),
            call.wait()
        );

        // A thread that ends drops its futures there.
        let dropped_on = Arc::new(Mutex::new(None));
        let note = DropNote(dropped_on.clone());
        let never = thread.spawn(move || async move {
            let _kept = note;
            std::future::pending::<()>().await;
        });
        thread.blocking_call(|| ()).unwrap();
        thread.stop().unwrap();
        assert_eq!(Err(CallError::Quit), never.wait());
        assert_eq!(Some("queue"), dropped_on.lock().unwrap().as_deref());
    });
    assert!(spawn_local(async {}).is_err());
}

#[test]
fn an_interval_ticks_on_time_and_leaves_out_what_it_missed() {
    in_simulation(|world| {
        let thread = world.thread("queue");
        let start = world.now();
        let call = thread.spawn(move || async move {
            let mut ticks = interval(100 * MS);
            let mut due = Vec::new();
            for n in 0..5 {
                due.push((ticks.tick().await - start).as_millis());
                if n == 1 {
                    sleep(250 * MS).await;
                }
            }
            due
        });
        assert_eq!(Ok(vec![0, 100, 200, 400, 500]), call.wait());
    });
}

#[test]
fn a_dropped_sleep_leaves_no_timer_behind() {
    let simulation = Simulation::new(1);
    let thread = simulation.thread("queue").unwrap();
    let waker_thread = thread.handle();
    thread
        .post(move || {
            let mut sleep = Box::pin(sleep(3_600_000 * MS));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            assert!(sleep.as_mut().poll(&mut context).is_pending());
            assert_eq!(1, waker_thread.stats().delayed_length);
            drop(sleep);
            assert_eq!(0, waker_thread.stats().delayed_length);
        })
        .unwrap();
    simulation.run_until_idle();
}

#[test]
fn values_bound_to_simulated_threads_are_used_and_dropped_there() {
    in_simulation(|world| {
        let [a, b] = ["a", "b"].map(|name| world.thread(name));
        let dropped_on = Arc::new(Mutex::new(None));
        let note = DropNote(dropped_on.clone());
        let value = ThreadBound::new(&a, move || (Rc::new(1), note)).unwrap();
        let theirs = value.clone();
        let seen = b.blocking_call(move || {
            theirs.blocking_call(|(number, _)| (**number, current().unwrap().name().to_owned()))
        });
        assert_eq!(Ok(Ok((1, "a".to_owned()))), seen);
        drop(value);
        world.simulation.as_ref().unwrap().run_until_idle();
        assert_eq!(Some("a"), dropped_on.lock().unwrap().as_deref());
    });
}
