//! Whether calls are made at all: when several in a row have failed for reasons of the server, there is a pause, which grows,
//! and one call tries whether it is over.

use std::time::Duration;

use tokio::time::Instant;

/// How many failures in a row are too many.
const FAILURES: u32 = 3;

/// The first pause.
const FIRST: Duration = Duration::from_secs(2);

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(30);

/// What the circuit is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// No calls are made for a while.
    Open,
    /// The next call tries whether it is over.
    HalfOpen,
}

#[derive(Debug, Default)]
pub(super) struct Circuit {
    failures: u32,
    pause: Duration,
    until: Option<Instant>,
    /// Whether a call is trying at this moment.
    trying: bool,
    last: String,
}

/// No call is to be made now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) left: Duration,
    pub(super) last: String,
}

impl Circuit {
    /// Asks whether a call may be made now; whoever gets a yes tells how it went.
    pub(super) fn ask(&mut self, now: Instant) -> Result<(), Pause> {
        let Some(until) = self.until else { return Ok(()) };
        if now < until || self.trying {
            return Err(Pause { left: until.saturating_duration_since(now), last: self.last.clone() });
        }
        self.trying = true;
        Ok(())
    }

    /// Why nobody should count on calls now: those that try whether it is over are for others to make.
    pub(super) fn paused(&self) -> Option<String> {
        self.until.map(|_| self.last.clone())
    }

    /// A call went well, or failed for a reason that is not the server's.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A call that was allowed was not made, or was given up.
    pub(super) fn left(&mut self) {
        self.trying = false;
    }

    /// A call failed for a reason of the server's.
    pub(super) fn failed(&mut self, now: Instant, why: String) {
        self.failures = self.failures.saturating_add(1);
        self.trying = false;
        self.last = why;
        if self.failures >= FAILURES {
            self.pause = if self.pause.is_zero() { FIRST } else { self.pause.saturating_mul(2).min(LONGEST) };
            self.until = now.checked_add(self.pause);
        }
    }

    pub(super) fn state(&self, now: Instant) -> CircuitState {
        match self.until {
            None => CircuitState::Closed,
            Some(until) if now < until => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_three_failures_tries_one_call_after_a_pause_that_grows_and_closes_when_that_goes_well() {
        let (mut circuit, mut now) = (Circuit::default(), Instant::now());
        let fail = |circuit: &mut Circuit, now| {
            assert_eq!(circuit.ask(now), Ok(()));
            circuit.failed(now, "down".to_owned());
        };
        fail(&mut circuit, now);
        fail(&mut circuit, now);
        assert_eq!(circuit.state(now), CircuitState::Closed);
        fail(&mut circuit, now);
        for pause in [2, 4, 8, 16, 30, 30] {
            let pause = Duration::from_secs(pause);
            assert_eq!(circuit.state(now), CircuitState::Open);
            assert_eq!(circuit.paused().as_deref(), Some("down"));
            assert_eq!(circuit.ask(now), Err(Pause { left: pause, last: "down".to_owned() }));
            now += pause;
            assert_eq!(circuit.state(now), CircuitState::HalfOpen);
            assert_eq!(circuit.ask(now), Ok(()));
            assert_eq!(circuit.paused().as_deref(), Some("down"));
            assert!(circuit.ask(now).is_err(), "one tries, the others wait");
            circuit.left();
            fail(&mut circuit, now);
        }
        now += LONGEST;
        assert_eq!(circuit.ask(now), Ok(()));
        circuit.succeeded();
        assert_eq!((circuit.state(now), circuit.ask(now)), (CircuitState::Closed, Ok(())));
        assert_eq!(circuit.paused(), None);
        fail(&mut circuit, now);
        assert_eq!(circuit.state(now), CircuitState::Closed, "counted from the beginning");
    }
}
