//! The objects: conformance items 41, 43, 44, 46 and 49, as far as they are about who is connected to
//! whom; on real threads and on simulated ones.

use echo_sfu::objects::{
    CloseReason, Consumer, ConsumerEvent, ConsumerOptions, DirectTransport, ObjectError, Piped,
    Producer, ProducerEvent, ProducerOptions, Router, RouterEvent, TransportEvent, Worker,
};
use rtc_thread::{Simulation, Thread, process_all_queued};

/// Where the threads of a test are.
enum World {
    Real,
    Simulated(Simulation),
}

fn in_every_world(test: impl Fn(&World)) {
    test(&World::Real);
    for _ in 0..10 {
        test(&World::Simulated(Simulation::from_env("RTC_SEED")));
    }
}

impl World {
    fn thread(&self, name: &str) -> Thread {
        let builder = Thread::builder().name(name);
        match self {
            Self::Real => builder.spawn(),
            Self::Simulated(simulation) => builder.simulate(simulation),
        }
        .unwrap()
    }

    /// Lets everything happen that is under way.
    fn settle(&self) {
        match self {
            // What is under way may have to go to and fro.
            Self::Real => (0..4).for_each(|_| process_all_queued().unwrap()),
            Self::Simulated(simulation) => simulation.run_until_idle(),
        }
    }
}

/// A worker with a router and a transport.
struct Place {
    thread: Thread,
    worker: Worker,
    router: Router,
    transport: DirectTransport,
}

fn place(world: &World, name: &str) -> Place {
    let thread = world.thread(name);
    let worker = Worker::new(&thread).unwrap();
    let router = worker.create_router().wait().unwrap();
    let transport = router.create_direct_transport().wait().unwrap();
    Place {
        thread,
        worker,
        router,
        transport,
    }
}

impl Place {
    fn produce(&self) -> Producer {
        self.transport
            .produce(ProducerOptions::new())
            .wait()
            .unwrap()
    }

    fn consume(&self, producer: &Producer) -> Consumer {
        let options = ConsumerOptions::new();
        self.transport
            .consume(producer.id(), options)
            .wait()
            .unwrap()
    }

    fn pipe(&self, producer: &Producer, to: &Self) -> Piped {
        self.router.pipe(producer.id(), &to.router).wait().unwrap()
    }
}

#[test]
fn item_41_closing_a_router_closes_what_is_in_it_with_the_event_of_each_level() {
    in_every_world(|world| {
        let mut here = place(world, "worker");
        let mut producer = here.produce();
        let mut consumer = here.consume(&producer);
        here.router.close().wait().unwrap();
        let closed = CloseReason::RouterClosed;
        assert_eq!(
            vec![ProducerEvent::Closed(closed)],
            producer.events().drain()
        );
        assert_eq!(
            vec![ConsumerEvent::Closed(closed)],
            consumer.events().drain()
        );
        let events = here.transport.events().drain();
        assert_eq!(vec![TransportEvent::Closed(closed)], events);
        let events = here.router.events().drain();
        assert_eq!(vec![RouterEvent::Closed(CloseReason::Called)], events);
    });
}

#[test]
fn item_41_closing_a_worker_closes_its_routers_and_nothing_else() {
    in_every_world(|world| {
        let mut here = place(world, "worker");
        let other = place(world, "other worker");
        let mut producer = here.produce();
        let unhurt = other.produce();
        here.worker.close().wait().unwrap();
        let closed = CloseReason::WorkerClosed;
        assert_eq!(
            vec![RouterEvent::Closed(closed)],
            here.router.events().drain()
        );
        assert_eq!(
            vec![ProducerEvent::Closed(closed)],
            producer.events().drain()
        );
        let refused = here.worker.create_router().wait().unwrap_err();
        assert_eq!(ObjectError::WorkerClosed, refused);
        assert!(unhurt.status().wait().is_ok());
    });
}

#[test]
fn item_41_methods_of_a_closed_object_are_refused() {
    in_every_world(|world| {
        let here = place(world, "worker");
        let producer = here.produce();
        let consumer = here.consume(&producer);
        consumer.close().wait().unwrap();
        let gone = ObjectError::ConsumerClosed(consumer.id());
        assert_eq!(Err(gone.clone()), consumer.pause().wait());
        assert_eq!(Err(gone), consumer.close().wait());
        producer.close().wait().unwrap();
        let gone = ObjectError::ProducerClosed(producer.id());
        assert_eq!(Err(gone.clone()), producer.resume().wait());
        assert_eq!(gone, producer.status().wait().unwrap_err());
        let refused = here
            .transport
            .consume(producer.id(), ConsumerOptions::new())
            .wait();
        assert_eq!(gone_of(&producer), refused.unwrap_err());
        here.transport.close().wait().unwrap();
        let refused = here.transport.produce(ProducerOptions::new()).wait();
        assert_eq!(
            ObjectError::TransportClosed(here.transport.id()),
            refused.unwrap_err()
        );
        here.router.close().wait().unwrap();
        let refused = here.router.create_direct_transport().wait();
        assert_eq!(
            ObjectError::RouterClosed(here.router.id()),
            refused.unwrap_err()
        );
        assert!(here.router.close().wait().is_err());
    });
}

fn gone_of(producer: &Producer) -> ObjectError {
    ObjectError::ProducerClosed(producer.id())
}

#[test]
fn item_41_a_worker_whose_thread_panics_takes_its_routers_along_and_nothing_else() {
    in_every_world(|world| {
        let near = place(world, "near");
        let far = place(world, "far");
        let mut producer = near.produce();
        let unhurt = far.produce();
        let mut piped = near.pipe(&producer, &far);
        let mut consumer = far.consume(&piped.producer);
        near.thread.post(|| panic!("on purpose")).unwrap();
        // What the thread had is gone when it is.
        world.settle();
        let closed = CloseReason::WorkerClosed;
        assert_eq!(
            vec![ProducerEvent::Closed(closed)],
            producer.events().drain()
        );
        assert_eq!(
            vec![ConsumerEvent::Closed(closed)],
            piped.consumer.events().drain()
        );
        let closed = CloseReason::ProducerClosed;
        assert_eq!(
            vec![ProducerEvent::Closed(closed)],
            piped.producer.events().drain()
        );
        assert_eq!(
            vec![ConsumerEvent::Closed(closed)],
            consumer.events().drain()
        );
        assert_eq!(Err(ObjectError::WorkerClosed), producer.pause().wait());
        assert!(unhurt.status().wait().is_ok());
        assert!(near.thread.join().is_err());
    });
}

#[test]
fn items_43_and_44_pausing_a_producer_reaches_its_consumers_once_each_time() {
    in_every_world(|world| {
        let here = place(world, "worker");
        let mut producer = here.produce();
        let mut consumer = here.consume(&producer);
        for paused in [true, true, false, false, true] {
            let called = match paused {
                true => producer.pause(),
                false => producer.resume(),
            };
            called.wait().unwrap();
        }
        use ConsumerEvent::{ProducerPaused, ProducerResumed};
        use ProducerEvent::{Paused, Resumed};
        assert_eq!(vec![Paused, Resumed, Paused], producer.events().drain());
        let seen = consumer.events().drain();
        assert_eq!(vec![ProducerPaused, ProducerResumed, ProducerPaused], seen);
        let late = here.consume(&producer);
        assert!(late.producer_was_paused());
        let status = consumer.status().wait().unwrap();
        assert!(status.producer_paused && !status.paused);
        assert_eq!(3, status.producer_changes);
    });
}

#[test]
fn items_43_and_44_one_may_begin_paused_and_a_consumer_may_be_paused_itself() {
    in_every_world(|world| {
        let here = place(world, "worker");
        let options = ProducerOptions::new().paused(true);
        let producer = here.transport.produce(options).wait().unwrap();
        assert!(producer.status().wait().unwrap().paused);
        let options = ConsumerOptions::new().paused(true);
        let consumer = here.transport.consume(producer.id(), options);
        let mut consumer = consumer.wait().unwrap();
        consumer.resume().wait().unwrap();
        let status = consumer.status().wait().unwrap();
        assert!(!status.paused && status.producer_paused);
        assert_eq!(Vec::<ConsumerEvent>::new(), consumer.events().drain());
    });
}

#[test]
fn item_46_pause_resume_and_close_reach_the_far_side() {
    in_every_world(|world| {
        let (near, far) = (place(world, "near"), place(world, "far"));
        let producer = near.produce();
        producer.pause().wait().unwrap();
        let mut piped = near.pipe(&producer, &far);
        assert!(piped.producer.status().wait().unwrap().paused);
        let mut consumer = far.consume(&piped.producer);
        drop(producer.resume());
        world.settle();
        assert!(!piped.producer.status().wait().unwrap().paused);
        assert_eq!(
            vec![ConsumerEvent::ProducerResumed],
            consumer.events().drain()
        );
        drop(producer.close());
        world.settle();
        let closed = CloseReason::ProducerClosed;
        let events = piped.producer.events().drain();
        assert_eq!(Some(&ProducerEvent::Closed(closed)), events.last());
        assert_eq!(
            vec![ConsumerEvent::Closed(closed)],
            consumer.events().drain()
        );
    });
}

#[test]
fn item_46_within_one_worker_as_well_as_between_two() {
    in_every_world(|world| {
        let here = place(world, "worker");
        let router = here.worker.create_router().wait().unwrap();
        let producer = here.produce();
        let piped = here.router.pipe(producer.id(), &router).wait().unwrap();
        producer.pause().wait().unwrap();
        world.settle();
        assert!(piped.producer.status().wait().unwrap().paused);
        let refused = here.router.pipe(producer.id(), &here.router).wait();
        assert_eq!(ObjectError::SameRouter, refused.unwrap_err());
    });
}

#[test]
fn item_46_closing_the_far_end_closes_the_near_one() {
    in_every_world(|world| {
        let (near, far) = (place(world, "near"), place(world, "far"));
        let producer = near.produce();
        let mut piped = near.pipe(&producer, &far);
        assert_eq!(1, producer.status().wait().unwrap().consumers);
        far.router.close().wait().unwrap();
        world.settle();
        let closed = CloseReason::FarEndClosed;
        let events = piped.consumer.events().drain();
        assert_eq!(vec![ConsumerEvent::Closed(closed)], events);
        assert_eq!(0, producer.status().wait().unwrap().consumers);
        let refused = near.router.pipe(producer.id(), &far.router).wait();
        assert_eq!(
            ObjectError::RouterClosed(far.router.id()),
            refused.unwrap_err()
        );
        world.settle();
        assert_eq!(0, producer.status().wait().unwrap().consumers);
    });
}

#[test]
fn item_46_the_same_pipe_twice_is_one_also_when_both_ask_at_once() {
    in_every_world(|world| {
        let (near, far) = (place(world, "near"), place(world, "far"));
        let producer = near.produce();
        let once = near.router.pipe(producer.id(), &far.router);
        let again = near.router.pipe(producer.id(), &far.router);
        let (once, again) = (once.wait().unwrap(), again.wait().unwrap());
        assert_eq!(once.producer.id(), again.producer.id());
        assert_eq!(once.consumer.id(), again.consumer.id());
        assert_eq!(1, producer.status().wait().unwrap().consumers);
        // And the other way, at the same time.
        let back = far.produce();
        let forth = near.produce();
        let (one, other) = (
            near.router.pipe(forth.id(), &far.router),
            far.router.pipe(back.id(), &near.router),
        );
        one.wait().unwrap();
        other.wait().unwrap();
    });
}

#[test]
fn item_46_a_pipe_that_is_closed_at_the_far_end_can_be_made_again() {
    in_every_world(|world| {
        let (near, far) = (place(world, "near"), place(world, "far"));
        let producer = near.produce();
        let piped = near.pipe(&producer, &far);
        // The near end may or may not have heard of it when it is asked for another one.
        drop(piped.producer.close());
        let again = near.router.pipe(producer.id(), &far.router).wait();
        if let Err(error) = again {
            assert_eq!(gone_of(&piped.producer), error);
        }
        world.settle();
        let again = near.pipe(&producer, &far);
        producer.pause().wait().unwrap();
        world.settle();
        assert!(again.producer.status().wait().unwrap().paused);
        assert!(piped.producer.status().wait().is_err());
    });
}

#[test]
fn item_46_piping_to_a_worker_that_is_gone_is_an_error_and_leaves_nothing() {
    in_every_world(|world| {
        let (near, far) = (place(world, "near"), place(world, "far"));
        let producer = near.produce();
        far.thread.stop().unwrap();
        let refused = near.router.pipe(producer.id(), &far.router).wait();
        assert_eq!(ObjectError::WorkerClosed, refused.unwrap_err());
        world.settle();
        assert_eq!(0, producer.status().wait().unwrap().consumers);
    });
}

#[test]
fn item_49_consuming_and_closing_in_any_order_leaves_no_consumer_without_producer() {
    let mut refused = 0;
    let mut closed = 0;
    let explored = Simulation::explore(10_000, |simulation| {
        let worker = simulation.thread("worker").unwrap();
        let people = ["viewer", "closer"].map(|name| simulation.thread(name).unwrap());
        let worker = Worker::new(&worker).unwrap();
        let router = worker.create_router().wait().unwrap();
        let transport = router.create_direct_transport().wait().unwrap();
        let producer = transport.produce(ProducerOptions::new()).wait().unwrap();
        let id = producer.id();
        let consumed = people[0].call(move || transport.consume(id, ConsumerOptions::new()));
        people[1].post(move || drop(producer.close())).unwrap();
        simulation.run_until_idle();
        match consumed.wait().unwrap().wait() {
            Err(error) => {
                assert_eq!(ObjectError::ProducerClosed(id), error);
                refused += 1;
            }
            Ok(mut consumer) => {
                let last = ConsumerEvent::Closed(CloseReason::ProducerClosed);
                assert_eq!(vec![last], consumer.events().drain());
                closed += 1;
            }
        }
    });
    assert!(explored.is_complete && refused > 0 && closed > 0);
}

#[test]
fn an_operation_whose_handle_is_dropped_takes_place_all_the_same() {
    in_every_world(|world| {
        let here = place(world, "worker");
        let producer = here.produce();
        for _ in 0..100 {
            drop(producer.pause());
            drop(producer.resume());
        }
        drop(producer.pause());
        let status = producer.status().wait().unwrap();
        assert!(status.paused);
        assert_eq!(201, status.changes);
    });
}
