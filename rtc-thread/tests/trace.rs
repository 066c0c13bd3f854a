//! A recording of what all threads of the process do; alone in its process, so that nobody else does
//! anything.

use rtc_thread::{Thread, TraceRecorder};

#[test]
fn a_trace_shows_each_task_with_its_name_and_an_arrow_from_its_poster() {
    let [one, two] = ["one", "t\"wo"].map(|name| Thread::builder().name(name).spawn().unwrap());
    one.post(|| {}).unwrap();
    one.blocking_call(|| ()).unwrap();
    let recorder = TraceRecorder::start(1000).unwrap();
    assert!(TraceRecorder::start(1000).is_err());
    let handle = two.handle();
    one.post(move || handle.post(|| {}).unwrap()).unwrap();
    one.blocking_call(|| ()).unwrap();
    two.blocking_call(|| ()).unwrap();
    // The note of a blocking call is made after the caller has gone on.
    let last = one.call(|| ()).wait();
    assert_eq!(Ok(()), last);
    one.stop().unwrap();
    two.stop().unwrap();
    let trace = recorder.stop();
    assert_eq!(5, trace.tasks());
    let mut json = Vec::new();
    trace.write_to(&mut json).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let events = json["traceEvents"].as_array().unwrap();
    let of_phase = |phase: &'static str| events.iter().filter(move |event| event["ph"] == phase);
    let names: Vec<_> = of_phase("M")
        .map(|event| event["args"]["name"].clone())
        .collect();
    assert!(
        names.contains(&"one".into()) && names.contains(&"t\"wo".into()),
        "{names:?}"
    );
    let thread_of = |name: &str| {
        let event = of_phase("M").find(|event| event["args"]["name"] == name);
        event.unwrap()["tid"].clone()
    };
    assert_eq!((5, 5), (of_phase("s").count(), of_phase("f").count()));
    let from_one_to_two = of_phase("s").any(|start| {
        let end = of_phase("f").find(|end| end["id"] == start["id"]).unwrap();
        start["tid"] == thread_of("one") && end["tid"] == thread_of("t\"wo")
    });
    assert!(from_one_to_two);
    assert!(of_phase("X").any(|event| {
        event["name"].as_str().unwrap().starts_with("trace.rs:") && event["dur"].is_number()
    }));
    // Afterwards, tasks are not recorded, and a new recording can be made.
    let recorder = TraceRecorder::start(1).unwrap();
    let thread = Thread::builder().spawn().unwrap();
    for _ in 0..3 {
        thread.call(|| ()).wait().unwrap();
    }
    thread.stop().unwrap();
    let trace = recorder.stop();
    assert_eq!((1, 2), (trace.tasks(), trace.dropped()));
}
