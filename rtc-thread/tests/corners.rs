//! Corners that have been wrong once.

#[allow(dead_code, reason = "each test file uses its part of this")]
mod worlds;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rtc_thread::{
    BlockingCallPolicy, Budget, CallError, CountBlockingCalls, Event, ForbidBlockingCalls,
    OperationsChain, PanicPolicy, Precision, ProcessError, Repeat, RepeatingTask, Reset,
    Simulation, Thread, ThreadBound, ThreadHandle, TraceRecorder, WaitStrategy, WrappedThread,
    current, process_all_queued, reply, spawn_local,
};
use worlds::with_delays_that_suffice;

const MS: Duration = Duration::from_millis(1);

fn flag() -> (Arc<AtomicBool>, impl FnOnce() + Send) {
    let flag = Arc::new(AtomicBool::new(false));
    let theirs = flag.clone();
    (flag, move || theirs.store(true, Ordering::SeqCst))
}

#[test]
fn what_gets_due_while_a_thread_drains_does_not_run() {
    with_delays_that_suffice(80 * MS, |delay| {
        let budget = Budget { tasks: 1, time: MS };
        let thread = Thread::builder().budget(budget).spawn().unwrap();
        let (ran, run) = flag();
        for _ in 0..20 {
            thread.post(move || std::thread::sleep(delay / 10)).unwrap();
        }
        let start = Instant::now();
        thread.post_delayed(delay, run).unwrap();
        thread.quit();
        let was_not_due = start.elapsed() < delay;
        // Goes on for twice the delay.
        thread.stop().unwrap();
        assert!(!was_not_due || !ran.load(Ordering::SeqCst));
        was_not_due
    });
}

#[test]
fn limits_may_be_as_large_as_can_be() {
    let budget = Budget {
        tasks: usize::MAX,
        time: Duration::MAX,
    };
    let thread = Thread::builder()
        .budget(budget)
        .wait_strategy(WaitStrategy::SpinThenPark(Duration::MAX))
        .leeway(Duration::MAX)
        .spawn()
        .unwrap();
    for _ in 0..100 {
        thread.post(|| ()).unwrap();
    }
    let (ran, run) = flag();
    thread
        .post_delayed_low_precision(Duration::ZERO, run)
        .unwrap();
    thread.stop().unwrap();
    assert!(ran.load(Ordering::SeqCst));
}

#[test]
fn a_task_is_not_charged_for_what_was_before_it() {
    // A task that the machine itself makes slow, is; and says nothing then.
    with_delays_that_suffice(100 * MS, |slow| {
        let main = Thread::builder().slow_task_threshold(slow);
        let main = main.wrap_current().unwrap();
        std::thread::sleep(slow + 50 * MS);
        let start = Instant::now();
        main.post(|| ()).unwrap();
        main.run_for(Duration::ZERO);
        let was_fast = start.elapsed() < slow;
        assert!(!was_fast || main.stats().slow_tasks.is_empty());
        was_fast
    });

    with_delays_that_suffice(100 * MS, |slow| {
        let thread = Thread::builder()
            .slow_task_threshold(slow)
            .panic_policy(PanicPolicy::Continue)
            .spawn()
            .unwrap();
        let (before, was_before) = mpsc::channel();
        thread
            .post(move || {
                std::thread::sleep(slow + 50 * MS);
                before.send(Instant::now()).unwrap();
                panic!("on purpose");
            })
            .unwrap();
        thread.post(|| ()).unwrap();
        let innocent = line!() - 1;
        let after = thread.blocking_call(Instant::now).unwrap();
        thread.blocking_call(|| ()).unwrap();
        let was_fast = after - was_before.recv().unwrap() < slow;
        let slow_tasks = thread.stats().slow_tasks;
        let is_charged = slow_tasks
            .iter()
            .any(|slow| slow.location.line() == innocent);
        assert!(!was_fast || !is_charged);
        was_fast
    });
}

#[test]
fn an_operation_that_panics_does_not_hold_up_its_chain() {
    let thread = Thread::builder().spawn().unwrap();
    let chain = ThreadBound::new(&thread, OperationsChain::new).unwrap();
    let panicked = chain.call(|chain| chain.chain(|_completion| panic!("on purpose")));
    assert!(matches!(panicked.wait(), Err(CallError::Panicked(_))));
    let (ran, run) = flag();
    chain
        .blocking_call(|chain| {
            chain.chain(|completion| {
                run();
                completion.complete();
            });
        })
        .unwrap();
    assert!(ran.load(Ordering::SeqCst));
    let state = chain.blocking_call(|chain| (chain.is_empty(), chain.abandoned()));
    assert_eq!(Ok((true, 1)), state);
}

#[test]
fn waiting_for_ones_own_future_is_an_error() {
    let thread = Thread::builder().spawn().unwrap();
    let handle = thread.handle();
    let waits = thread.call(move || handle.spawn(|| async {}).wait());
    assert!(matches!(waits.wait(), Ok(Err(CallError::WouldDeadlock(_)))));
}

#[test]
fn a_future_woken_while_its_thread_was_closed_goes_on_after_a_restart() {
    let main = Thread::builder().wrap_current().unwrap();
    let (answer, question) = reply::<u32>();
    let (done, finish) = flag();
    let spawned = spawn_local(async move {
        question.await.unwrap();
        finish();
    });
    main.run_for(MS);
    main.quit();
    answer.send(1);
    main.run();
    main.restart();
    main.run_for(10 * MS);
    assert!(done.load(Ordering::SeqCst));
    drop(spawned);
}

#[test]
fn a_panic_ends_a_wrapped_thread_and_what_waits_for_it() {
    let main = Thread::builder().wrap_current().unwrap();
    let handle = main.handle();
    main.post(|| panic!("on purpose")).unwrap();
    let call = handle.call(|| 1);
    assert!(catch_unwind(AssertUnwindSafe(|| main.run())).is_err());
    assert!(matches!(call.try_take(), Ok(Err(CallError::Quit))));
    main.run();
}

#[test]
fn a_wrapped_thread_may_go_with_the_thread_locals_of_its_os_thread() {
    thread_local! {
        static KEPT: RefCell<Option<WrappedThread>> = const { RefCell::new(None) };
    }
    std::thread::spawn(|| {
        let wrapped = Thread::builder().wrap_current().unwrap();
        KEPT.set(Some(wrapped));
    })
    .join()
    .unwrap();
}

#[test]
fn processing_everything_serves_those_who_need_the_caller() {
    let main = Thread::builder().wrap_current().unwrap();
    let worker = Thread::builder().spawn().unwrap();
    let handle = main.handle();
    let (ran, run) = flag();
    worker
        .post(move || {
            handle.blocking_call(|| ()).unwrap();
            run();
        })
        .unwrap();
    process_all_queued().unwrap();
    assert!(ran.load(Ordering::SeqCst));
    drop(main);
    let scope = ForbidBlockingCalls::enter();
    assert_eq!(Err(ProcessError::Forbidden), process_all_queued());
    drop(scope);
}

#[test]
fn a_repeating_task_stopped_while_its_thread_drains_is_dropped_there() {
    struct Where(Arc<Mutex<Option<String>>>);
    impl Drop for Where {
        fn drop(&mut self) {
            let here = current().map(|thread| thread.name().to_owned());
            *self.0.lock().unwrap() = here;
        }
    }
    let thread = Thread::builder().name("its own").spawn().unwrap();
    let dropped_on = Arc::new(Mutex::new(None));
    let note = Where(dropped_on.clone());
    let task = RepeatingTask::start_delayed(&thread, 100_000 * MS, Precision::High, move || {
        let _kept = &note;
        Repeat::Stop
    })
    .unwrap();
    thread.post(|| std::thread::sleep(20 * MS)).unwrap();
    thread.quit();
    task.stop();
    thread.stop().unwrap();
    assert_eq!(Some("its own"), dropped_on.lock().unwrap().as_deref());
}

#[test]
fn recorders_do_not_end_each_other() {
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..2_000 {
                    if let Ok(recorder) = TraceRecorder::start(10) {
                        recorder.stop();
                    }
                }
            });
        }
    });
}

#[test]
fn calls_out_of_a_dying_threads_objects_do_not_mix_with_the_one_that_waits_for_it() {
    struct CallOnDrop(ThreadHandle, mpsc::Sender<Result<u32, CallError>>);
    impl Drop for CallOnDrop {
        fn drop(&mut self) {
            let mut borrowed = 41;
            let result = self.0.blocking_call(|| {
                borrowed += 1;
                borrowed
            });
            self.1.send(result).unwrap();
        }
    }
    let simulation = Simulation::new(1);
    let [dying, other] = ["dying", "other"].map(|name| simulation.thread(name).unwrap());
    let (tell, told) = mpsc::channel();
    let handle = other.handle();
    let object = ThreadBound::new(&dying, move || CallOnDrop(handle, tell)).unwrap();
    dying.post(|| panic!("on purpose")).unwrap();
    assert_eq!(Err(CallError::Quit), dying.blocking_call(|| ()));
    assert_eq!(Ok(Ok(42)), told.try_recv());
    drop(object);
}

#[test]
fn a_simulation_keeps_the_rules_of_waiting() {
    let real = Thread::builder().name("real").spawn().unwrap();
    let simulation = Simulation::new(1);
    let strict = Thread::builder()
        .blocking_calls(BlockingCallPolicy::Forbidden)
        .simulate(&simulation)
        .unwrap();
    let [b, c] = ["b", "c"].map(|name| simulation.thread(name).unwrap());
    // A real thread is waited for as ever.
    let five = real.call(|| {
        std::thread::sleep(10 * MS);
        5
    });
    assert_eq!(Ok(5), five.wait());
    // Policies hold for `wait`, and who waits for itself is told so, timers or not.
    let handle = b.handle();
    let forbidden = strict.call(move || handle.call(|| 1).wait());
    assert_eq!(Ok(Err(CallError::Forbidden)), forbidden.wait());
    let ticking = RepeatingTask::start(&c, Precision::High, || Repeat::After(1000 * MS)).unwrap();
    let own = b.handle();
    let endless = b.call(move || own.call(|| 1).wait());
    assert!(matches!(
        endless.wait(),
        Ok(Err(CallError::WouldDeadlock(_)))
    ));
    ticking.stop();
    // A scope counts its own thread's calls.
    let (there, beyond) = (c.handle(), b.handle());
    let a = simulation.thread("a").unwrap();
    let counted = a.blocking_call(move || {
        let scope = CountBlockingCalls::enter();
        there
            .blocking_call(|| beyond.blocking_call(|| ()).unwrap())
            .unwrap();
        scope.so_far().blocking
    });
    assert_eq!(Ok(1), counted);
}

#[test]
fn virtual_time_is_all_that_counts_in_a_simulation() {
    let simulation = Simulation::new(1);
    let thread = simulation.thread("t").unwrap();
    simulation.run_for(3_600_000 * MS);
    let event = Arc::new(Event::new(Reset::Manual));
    let theirs = event.clone();
    thread.post_delayed(500 * MS, move || theirs.set()).unwrap();
    let start = simulation.clock().now();
    assert!(event.wait_for(10_000 * MS));
    assert_eq!(500 * MS, simulation.clock().now() - start);
    // Beyond a century, too.
    thread.post_delayed(Duration::MAX, || ()).unwrap();
    simulation.run_until_idle();
    let start = simulation.clock().now();
    thread.post_delayed(1000 * MS, || ()).unwrap();
    simulation.run_until_idle();
    assert_eq!(1000 * MS, simulation.clock().now() - start);
}

#[test]
fn the_objects_of_a_thread_go_in_the_order_in_which_they_came() {
    struct Note(u32, Arc<Mutex<Vec<u32>>>);
    impl Drop for Note {
        fn drop(&mut self) {
            self.1.lock().unwrap().push(self.0);
        }
    }
    let thread = Thread::builder().spawn().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let objects: Vec<_> = (0..6)
        .map(|n| {
            let order = order.clone();
            ThreadBound::new(&thread, move || Note(n, order)).unwrap()
        })
        .collect();
    thread.stop().unwrap();
    assert_eq!(vec![0, 1, 2, 3, 4, 5], *order.lock().unwrap());
    drop(objects);
}
