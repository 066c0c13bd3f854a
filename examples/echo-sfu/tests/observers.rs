//! Who speaks, and how loud: conformance item 47. What is told in which interval is seen where time
//! passes only when it is told to; for real, that it is told.

mod world;

use std::time::{Duration, Instant};

use echo_sfu::objects::{
    ActiveSpeakerEvent, ActiveSpeakerObserverOptions, AudioLevelEvent, AudioLevelObserver,
    AudioLevelObserverOptions, CloseReason, ObjectError, Producer, ProducerId, ProducerOptions,
    RtpSource,
};
use str0m::format::CodecConfig;
use str0m::media::MediaKind;
use world::{Here, World, in_every_world, in_simulations};

const INTERVAL: Duration = Duration::from_millis(250);
/// From one packet to the next.
const FRAME: Duration = Duration::from_millis(20);

/// What has not come about after so long does not come at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who is as loud as is told.
struct Person {
    producer: Producer,
    sequence: u16,
}

impl Person {
    /// On whichever network thread comes next.
    fn enter(here: &Here) -> Self {
        let mut config = CodecConfig::empty();
        config.enable_opus(true, false);
        let source = RtpSource::new(MediaKind::Audio, config.params().to_vec(), 1);
        let producer = here.direct().produce_rtp(source).wait().unwrap();
        Self {
            producer,
            sequence: 0,
        }
    }

    fn id(&self) -> ProducerId {
        self.producer.id()
    }

    /// Sends a packet that says how loud it is, in decibels below the loudest.
    fn speak(&mut self, below_full_db: u8) {
        let mut config = CodecConfig::empty();
        config.enable_opus(true, false);
        self.sequence += 1;
        let mut packet = vec![0x90, *config.params()[0].pt()];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend((u32::from(self.sequence) * 960).to_be_bytes());
        packet.extend(1_u32.to_be_bytes());
        packet.extend([0xbe, 0xde, 0, 1, 0x10, below_full_db, 0, 0, 9]);
        drop(self.producer.send_rtp(packet));
    }
}

/// Lets people speak for some intervals, each as loud as is told.
fn speak(world: &World, intervals: u32, people: &mut [(&mut Person, u8)]) {
    let frames = intervals * (INTERVAL.as_millis() / FRAME.as_millis()) as u32;
    for _ in 0..frames {
        for (person, level) in people.iter_mut() {
            person.speak(*level);
        }
        world.pass(FRAME);
    }
}

fn options() -> AudioLevelObserverOptions {
    AudioLevelObserverOptions::default()
        .interval(INTERVAL)
        .max_entries(2)
}

fn observe(here: &Here, people: &[&Person]) -> AudioLevelObserver {
    let observer = here.router.create_audio_level_observer(options());
    let observer = observer.wait().unwrap();
    for person in people {
        observer.add_producer(person.id()).wait().unwrap();
    }
    observer
}

/// Who was told to be how loud.
fn volumes(events: Vec<AudioLevelEvent>) -> Vec<Vec<(ProducerId, i8)>> {
    let volumes = events.into_iter().filter_map(|event| match event {
        AudioLevelEvent::Volumes(volumes) => Some(volumes),
        _ => None,
    });
    volumes
        .map(|told| told.iter().map(|own| (own.producer, own.dbov)).collect())
        .collect()
}

#[test]
fn item_47_volumes_are_told_the_loudest_first_and_silence_once() {
    in_simulations(|world| {
        let here = world.here();
        let mut people = [(); 3].map(|()| Person::enter(&here));
        let mut observer = observe(&here, &people.each_ref());
        // Twice the same is once.
        observer.add_producer(people[0].id()).wait().unwrap();
        let [one, two, three] = &mut people;
        speak(world, 4, &mut [(one, 40), (two, 20), (three, 90)]);
        let told = volumes(observer.events().drain());
        assert!(told.len() >= 2, "{told:?}");
        let expected = vec![(people[1].id(), -20), (people[0].id(), -40)];
        assert!(told.iter().all(|own| *own == expected), "{told:?}");
        // It is quiet.
        world.pass(4 * INTERVAL);
        let events = observer.events().drain();
        assert_eq!(Some(&AudioLevelEvent::Silence), events.last());
        let is_silence = |event: &&AudioLevelEvent| **event == AudioLevelEvent::Silence;
        assert_eq!(1, events.iter().filter(is_silence).count());
        here.stop();
    });
}

#[test]
fn item_47_who_is_removed_paused_or_closed_is_not_heard() {
    in_simulations(|world| {
        let here = world.here();
        let mut people = [(); 3].map(|()| Person::enter(&here));
        let ids = people.each_ref().map(Person::id);
        let mut observer = observe(&here, &people.each_ref());
        observer.remove_producer(ids[0]).wait().unwrap();
        people[1].producer.pause().wait().unwrap();
        let [one, two, three] = &mut people;
        speak(world, 4, &mut [(one, 10), (two, 20), (three, 30)]);
        let told = volumes(observer.events().drain());
        assert!(told.len() >= 2, "{told:?}");
        assert!(told.iter().all(|own| *own == [(ids[2], -30)]), "{told:?}");
        people[2].producer.close().wait().unwrap();
        world.settle();
        observer.events().drain();
        let [one, two, three] = &mut people;
        speak(world, 4, &mut [(one, 10), (two, 20), (three, 30)]);
        assert!(volumes(observer.events().drain()).is_empty());
        here.stop();
    });
}

#[test]
fn item_47_a_paused_observer_tells_that_it_is_silent_and_no_more() {
    in_simulations(|world| {
        let here = world.here();
        let mut person = Person::enter(&here);
        let mut observer = observe(&here, &[&person]);
        speak(world, 3, &mut [(&mut person, 30)]);
        observer.pause().wait().unwrap();
        let events = observer.events().drain();
        assert_eq!(Some(&AudioLevelEvent::Silence), events.last());
        speak(world, 3, &mut [(&mut person, 30)]);
        assert!(observer.events().drain().is_empty());
        observer.resume().wait().unwrap();
        world.settle();
        speak(world, 3, &mut [(&mut person, 50)]);
        let told = volumes(observer.events().drain());
        // What was said while it was paused does not count.
        let expected = vec![(person.id(), -50)];
        assert!(
            told.len() >= 2 && told.iter().all(|own| *own == expected),
            "{told:?}"
        );
        here.stop();
    });
}

#[test]
fn item_47_the_dominant_speaker_is_told_and_a_short_noise_changes_nothing() {
    in_simulations(|world| {
        let here = world.here();
        let mut people = [Person::enter(&here), Person::enter(&here)];
        let ids = people.each_ref().map(Person::id);
        let options = ActiveSpeakerObserverOptions::default().interval(INTERVAL);
        let observer = here.router.create_active_speaker_observer(options);
        let mut observer = observer.wait().unwrap();
        for id in ids {
            observer.add_producer(id).wait().unwrap();
        }
        let dominant = ActiveSpeakerEvent::DominantSpeaker;
        let [one, other] = &mut people;
        speak(world, 6, &mut [(one, 30), (other, 80)]);
        assert_eq!(vec![dominant(ids[0])], observer.events().drain());
        // A cough.
        other.speak(5);
        speak(world, 2, &mut [(one, 30), (other, 80)]);
        assert!(observer.events().drain().is_empty());
        speak(world, 10, &mut [(one, 80), (other, 25)]);
        assert_eq!(vec![dominant(ids[1])], observer.events().drain());
        observer.close().wait().unwrap();
        let closed = ActiveSpeakerEvent::Closed(CloseReason::Called);
        assert_eq!(vec![closed], observer.events().drain());
        here.stop();
    });
}

/// Has somebody speak, for as long as it takes until something is told.
#[track_caller]
fn speak_until(what: &str, person: &mut Person, level: u8, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
        person.speak(level);
        World::Real.pass(FRAME);
    }
}

#[test]
fn item_47_on_real_threads_it_is_told_as_well() {
    let here = World::Real.here();
    let mut person = Person::enter(&here);
    let mut observer = observe(&here, &[&person]);
    let options = ActiveSpeakerObserverOptions::default().interval(INTERVAL);
    let speakers = here.router.create_active_speaker_observer(options);
    let mut speakers = speakers.wait().unwrap();
    speakers.add_producer(person.id()).wait().unwrap();
    let dominant = ActiveSpeakerEvent::DominantSpeaker(person.id());
    speak_until("who speaks", &mut person, 20, || {
        speakers.events().drain().contains(&dominant)
    });
    let expected = vec![(person.id(), -20)];
    speak_until("how loud", &mut person, 20, || {
        volumes(observer.events().drain()).contains(&expected)
    });
    // Nobody speaks any more. Silence is told, and not again before somebody has been heard.
    let (start, mut told) = (Instant::now(), Vec::new());
    while told.last() != Some(&AudioLevelEvent::Silence) {
        assert!(start.elapsed() < PATIENCE, "it is never silent: {told:?}");
        World::Real.pass(FRAME);
        told.extend(observer.events().drain());
    }
    World::Real.pass(3 * INTERVAL);
    told.extend(observer.events().drain());
    let again = [AudioLevelEvent::Silence, AudioLevelEvent::Silence];
    assert!(told.windows(2).all(|two| two != again), "{told:?}");
    here.stop();
}

#[test]
fn item_47_wrong_arguments_and_closed_observers_are_refused() {
    in_every_world(|world| {
        let here = world.here();
        let refused = here
            .router
            .create_audio_level_observer(options().threshold(1));
        assert_eq!(ObjectError::BadThreshold(1), refused.wait().unwrap_err());
        let person = Person::enter(&here);
        let mut observer = observe(&here, &[&person]);
        let mut config = CodecConfig::empty();
        config.enable_vp8(true);
        let source = RtpSource::new(MediaKind::Video, config.params().to_vec(), 1);
        let transport = here.direct();
        let video = transport.produce_rtp(source).wait().unwrap();
        let refused = observer.add_producer(video.id()).wait();
        assert_eq!(Err(ObjectError::NoAudio(video.id())), refused);
        let silent = transport.produce(ProducerOptions::new()).wait().unwrap();
        let refused = observer.add_producer(silent.id()).wait();
        assert_eq!(Err(ObjectError::NoAudio(silent.id())), refused);
        video.close().wait().unwrap();
        let refused = observer.add_producer(video.id()).wait();
        assert_eq!(Err(ObjectError::ProducerClosed(video.id())), refused);
        here.router.close().wait().unwrap();
        let closed = AudioLevelEvent::Closed(CloseReason::RouterClosed);
        assert_eq!(vec![closed], observer.events().drain());

        let router = here.worker.create_router().wait().unwrap();
        let observer = router.create_audio_level_observer(options()).wait();
        let mut observer = observer.unwrap();
        observer.close().wait().unwrap();
        let gone = ObjectError::ObserverClosed(observer.id());
        assert_eq!(Err(gone), observer.pause().wait());
        let closed = AudioLevelEvent::Closed(CloseReason::Called);
        assert_eq!(vec![closed], observer.events().drain());
        let observer = router.create_active_speaker_observer(Default::default());
        let mut observer = observer.wait().unwrap();
        here.worker.close().wait().unwrap();
        let closed = ActiveSpeakerEvent::Closed(CloseReason::WorkerClosed);
        assert_eq!(vec![closed], observer.events().drain());
        here.stop();
    });
}
