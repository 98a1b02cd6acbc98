use super::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn timings() -> Timings {
    Timings { rise: 2, fall: 3, slow_start: 10 * SECOND, ejection_min: SECOND, ejection_max: 60 * SECOND }
}

/// One backend among others that take connections.
struct Patient {
    health: Health,
    timings: Timings,
    now: Instant,
    another_takes: bool,
    another_is_warm: bool,
    rng: Rng,
}

fn scene(timings: &Timings, now: Instant, another_takes: bool, another_is_warm: bool) -> Scene<'_> {
    Scene { now, timings, another_takes, another_is_warm }
}

impl Patient {
    fn new() -> Patient {
        let now = Instant::now();
        let health = Health::new(now);
        let rng = Rng::with_seed(5);
        Patient { health, timings: timings(), now, another_takes: true, another_is_warm: false, rng }
    }

    fn up() -> Patient {
        let mut patient = Patient::new();
        patient.check(Checked::Status(200), State::Up);
        patient
    }

    fn act(&mut self, act: impl FnOnce(&mut Health, &Scene<'_>, &mut Rng), expected: State) {
        let scene = scene(&self.timings, self.now, self.another_takes, self.another_is_warm);
        act(&mut self.health, &scene, &mut self.rng);
        assert_eq!(self.health.state(), expected, "{:?}", self.health);
    }

    fn check(&mut self, checked: Checked, expected: State) {
        self.act(|health, scene, rng| health.handle_check(&checked, scene, rng), expected);
    }

    fn pass(&mut self, passed: Passed, expected: State) {
        self.act(|health, scene, rng| health.handle_passed(&passed, scene, rng), expected);
    }

    fn good(&mut self, expected: State) {
        self.check(Checked::Status(204), expected);
    }

    fn bad(&mut self, expected: State) {
        self.check(Checked::Failed("timed out".to_owned()), expected);
    }

    fn connect_failed(&mut self, expected: State) {
        self.pass(Passed::ConnectFailed("no route".to_owned()), expected);
    }

    fn wait(&mut self, span: Duration) {
        self.now += span;
        let scene = scene(&self.timings, self.now, self.another_takes, self.another_is_warm);
        self.health.handle_timeout(&scene);
    }

    /// Ejects it, waits until that may end, and returns how long it lasted.
    fn serve_time(&mut self) -> Duration {
        self.connect_failed(State::Ejected);
        let span = self.health.ejected_until().unwrap() - self.now;
        self.wait(span);
        self.good(State::Up);
        span
    }
}

#[test]
fn a_check_that_was_not_made_says_nothing() {
    let not_made = || Checked::NotMade("too many open files".to_owned());
    Patient::new().check(not_made(), State::Checking);
    let mut patient = Patient::up();
    patient.bad(State::Up);
    (0..5).for_each(|_| patient.check(not_made(), State::Up));
    patient.bad(State::Up);
    patient.bad(State::Down);
    patient.check(not_made(), State::Down);
}

#[test]
fn the_first_check_decides_at_once() {
    let check = |checked, expected, why: &str| {
        let mut patient = Patient::new();
        assert_eq!((patient.health.state(), &*patient.health.why()), (State::Checking, "not checked yet"));
        patient.check(checked, expected);
        assert_eq!(patient.health.why(), why);
    };
    check(Checked::Status(200), State::Up, "a check passed");
    check(Checked::Status(503), State::Draining, "it says that it is not ready (503)");
    check(Checked::Status(500), State::Down, "a check failed: answered 500");
    check(Checked::Status(302), State::Down, "a check failed: answered 302");
    check(Checked::Refused, State::Down, "a check failed: connection refused");
    check(Checked::Failed("timed out".to_owned()), State::Down, "a check failed: timed out");
}

#[test]
fn rise_and_fall_count_checks_in_a_row() {
    let mut patient = Patient::up();
    for _ in 0..2 {
        patient.bad(State::Up);
        assert!(!patient.health.is_sound());
        patient.bad(State::Up);
        patient.good(State::Up);
        assert!(patient.health.is_sound());
    }
    patient.bad(State::Up);
    patient.bad(State::Up);
    patient.bad(State::Down);
    assert_eq!(patient.health.why(), "3 checks failed, the last: timed out");
    patient.good(State::Down);
    patient.bad(State::Down);
    patient.good(State::Down);
    patient.good(State::Up);
    assert_eq!(patient.health.why(), "2 checks passed");
}

#[test]
fn who_is_not_ready_is_leaving_not_dead() {
    let mut patient = Patient::up();
    patient.check(Checked::Status(503), State::Draining);
    assert_eq!(patient.health.share(patient.now, &patient.timings), 0);
    patient.bad(State::Draining);
    patient.bad(State::Draining);
    patient.check(Checked::Status(503), State::Draining);
    patient.bad(State::Draining);
    patient.bad(State::Draining);
    patient.bad(State::Down);
    patient.check(Checked::Status(503), State::Draining);
    patient.good(State::Draining);
    patient.good(State::Up);
}

#[test]
fn a_failed_connect_ejects_at_once() {
    let mut patient = Patient::up();
    patient.connect_failed(State::Ejected);
    assert_eq!(patient.health.why(), "a connect failed: no route");
    let until = patient.health.ejected_until().unwrap();
    patient.connect_failed(State::Ejected);
    assert_eq!(patient.health.ejected_until(), Some(until), "what was under way counts for nothing");
    patient.good(State::Ejected);
    patient.pass(Passed::Connected, State::Ejected);
    patient.wait(2 * SECOND);
    assert_eq!(patient.health.state(), State::Ejected, "time alone does not end it");
    patient.pass(Passed::Connected, State::Up);
}

#[test]
fn a_refused_check_ejects_and_counts_as_failed() {
    let mut patient = Patient::up();
    patient.check(Checked::Refused, State::Ejected);
    patient.check(Checked::Refused, State::Ejected);
    patient.check(Checked::Refused, State::Down);
    patient.good(State::Down);
    patient.good(State::Up);
}

#[test]
fn ejections_double_with_jitter_and_are_forgotten() {
    let mut patient = Patient::up();
    let mut spans: Vec<Duration> = (0..9).map(|_| patient.serve_time()).collect();
    for (span, seconds) in spans.iter().zip([1, 2, 4, 8, 16, 32, 60, 60, 60]) {
        let due = SECOND * seconds;
        assert!(*span >= due * 8 / 10 && *span <= (due * 12 / 10).min(60 * SECOND), "{spans:?}");
    }
    spans.dedup();
    assert!(spans.len() > 6, "{spans:?} have jitter");
    patient.wait(121 * SECOND);
    assert!(patient.serve_time() <= SECOND * 12 / 10, "good for long enough");
    patient.wait(9 * SECOND);
    assert!(patient.serve_time() > SECOND * 12 / 10, "so soon again");
}

#[test]
fn the_only_one_that_takes_connections_is_not_ejected() {
    let mut patient = Patient::up();
    patient.another_takes = false;
    patient.connect_failed(State::Up);
    patient.check(Checked::Refused, State::Up);
    patient.check(Checked::Refused, State::Up);
    patient.check(Checked::Refused, State::Down);
}

#[test]
fn handshakes_and_young_connections_that_fail_have_to_be_several() {
    let failed = || Passed::HandshakeFailed("answered 500".to_owned());
    let mut patient = Patient::up();
    patient.pass(failed(), State::Up);
    patient.pass(Passed::Lost(1, 100 * MS), State::Up);
    patient.wait(10 * SECOND);
    patient.pass(failed(), State::Up);
    patient.pass(failed(), State::Up);
    patient.pass(failed(), State::Ejected);
    assert_eq!(patient.health.why(), "3 handshakes or connections failed, the last: answered 500");

    let mut busy = Patient::up();
    (0..10).for_each(|_| busy.pass(Passed::Connected, State::Up));
    (0..9).for_each(|_| busy.pass(failed(), State::Up));
    busy.pass(failed(), State::Ejected);

    let mut broken = Patient::up();
    broken.pass(Passed::Lost(1000, 5 * SECOND), State::Up);
    broken.pass(Passed::Lost(3, 5 * SECOND - MS), State::Ejected);
}

#[test]
fn what_an_operator_drained_stays_so_whatever_happens() {
    let mut patient = Patient::up();
    patient.act(|health, scene, _| health.set_drained(true, scene), State::Draining);
    assert_eq!(patient.health.why(), "drained by an operator");
    patient.good(State::Draining);
    patient.connect_failed(State::Draining);
    (0..2).for_each(|_| patient.bad(State::Draining));
    patient.bad(State::Down);
    assert!(patient.health.is_drained());
    patient.good(State::Down);
    patient.good(State::Draining);
    patient.act(|health, scene, _| health.set_drained(false, scene), State::Up);
}

#[test]
fn enabling_forgives_and_being_unlisted_is_another_matter() {
    let mut patient = Patient::up();
    patient.connect_failed(State::Ejected);
    patient.act(|health, scene, _| health.set_drained(false, scene), State::Up);
    patient.act(|health, scene, _| health.set_unlisted(true, scene), State::Draining);
    patient.act(|health, scene, _| health.set_drained(true, scene), State::Draining);
    assert_eq!(patient.health.why(), "no longer listed");
    patient.act(|health, scene, _| health.set_unlisted(false, scene), State::Draining);
    patient.act(|health, scene, _| health.set_drained(false, scene), State::Up);
}

#[test]
fn a_newcomer_among_warm_ones_starts_slowly() {
    let mut patient = Patient::new();
    patient.another_is_warm = true;
    patient.good(State::SlowStart);
    let began = patient.now;
    let mut shares = vec![patient.health.share(patient.now, &patient.timings)];
    while let Some(next) = patient.health.poll_timeout(patient.now, &patient.timings) {
        patient.wait(next - patient.now);
        shares.push(patient.health.share(patient.now, &patient.timings));
    }
    assert_eq!(shares, (2..=20).map(|step| step * 5).collect::<Vec<_>>());
    assert_eq!(patient.health.state(), State::Up);
    let took = patient.now - began;
    assert!(took >= 10 * SECOND && took < 11 * SECOND, "{took:?}");
}

#[test]
fn who_starts_slowly_and_who_does_not() {
    let mut early = Patient::up();
    assert_eq!(early.health.share(early.now, &early.timings), 100, "nobody is warm at the start");
    assert!(!early.health.is_warm(early.now, &early.timings));
    early.wait(10 * SECOND);
    assert!(early.health.is_warm(early.now, &early.timings));

    early.another_is_warm = true;
    early.serve_time();
    assert_eq!(early.health.state(), State::Up, "an ejection is short");
    (0..2).for_each(|_| early.bad(State::Up));
    early.bad(State::Down);
    early.good(State::Down);
    early.good(State::SlowStart);
    early.connect_failed(State::Ejected);
    early.wait(3 * SECOND);
    early.good(State::SlowStart);
    let share = early.health.share(early.now, &early.timings);
    assert_eq!(share, 35, "the ejection was part of it");

    let mut quick = Patient::new();
    (quick.another_is_warm, quick.timings.slow_start) = (true, Duration::ZERO);
    quick.good(State::Up);
    assert_eq!(quick.health.poll_timeout(quick.now, &quick.timings), None);
}
