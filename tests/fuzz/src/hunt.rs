//! The hunt for inputs that break a promise of one target.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::mutate::Material;
use crate::random::Random;
use crate::shrink::smaller;
use crate::targets::Target;
use crate::watch::Watched;

/// The longest input that is tried, in bytes: above every limit of the readers, so that those are met too.
const LONGEST: usize = 96 * 1024;

/// How many inputs with new outcomes are kept to build on.
const POOL: usize = 4096;

/// How long one input may take on an unoptimised build of a busy machine. It is measured again before it is told.
const SLOW: Duration = Duration::from_secs(2);

/// An input that breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which promise, or where it panicked.
    pub what: String,
    /// The input, made smaller.
    pub input: Vec<u8>,
    /// Its size before.
    pub found_with: usize,
    /// How many inputs were tried before.
    pub after: u64,
}

/// A hunt under way.
pub struct Hunt<'w> {
    target: Target,
    random: Random,
    /// The kept inputs and, after them, those with new outcomes.
    pool: Vec<Vec<u8>>,
    kept: usize,
    outcomes: HashSet<u64>,
    tried: u64,
    watched: &'w Watched,
}

impl<'w> Hunt<'w> {
    /// A hunt that begins with these inputs. Target, seed and inputs decide the whole of it.
    #[must_use]
    pub fn new(target: Target, seed: u64, inputs: Vec<Vec<u8>>, watched: &'w Watched) -> Self {
        let kept = inputs.len();
        Self { target, random: Random::new(seed), pool: inputs, kept, outcomes: HashSet::new(), tried: 0, watched }
    }

    /// How many inputs were tried.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.tried
    }

    /// How many different outcomes were seen.
    #[must_use]
    pub fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// Tries every input of the pool, then changed ones until `end`.
    ///
    /// # Errors
    /// The first one that breaks a promise.
    pub fn run(&mut self, end: Instant) -> Result<(), Broken> {
        for input in self.pool.clone() {
            self.attempt(input)?;
        }
        while Instant::now() < end {
            let input = self.next_input();
            self.attempt(input)?;
        }
        Ok(())
    }

    fn next_input(&mut self) -> Vec<u8> {
        let from = if self.random.once_in(3) { self.kept } else { self.pool.len() };
        let mut input = self.pool.get(self.random.below(from)).cloned().unwrap_or_default();
        let other = self.pool.get(self.random.below(self.pool.len())).cloned().unwrap_or_default();
        let material = Material { words: self.target.words, other: &other };
        for _ in 0..=self.random.below(3) {
            let Some(change) = self.random.choose(self.target.changes) else { continue };
            if let Some(changed) = change(&mut self.random, &input, &material) {
                input = changed;
                input.truncate(LONGEST);
            }
        }
        input
    }

    fn attempt(&mut self, input: Vec<u8>) -> Result<(), Broken> {
        self.watched.begins(&input);
        let start = Instant::now();
        let mut result = outcome(&self.target, &input);
        if result.is_ok() && start.elapsed() > SLOW {
            result = again(&self.target, &input);
        }
        self.watched.ends();
        self.tried += 1;
        match result {
            Ok(words) => {
                if self.outcomes.insert(digest(&words)) && self.tried > self.kept as u64 {
                    if self.pool.len() < self.kept + POOL {
                        self.pool.push(input);
                    } else {
                        let place = self.kept + self.random.below(POOL);
                        self.pool.splice(place..=place, [input]);
                    }
                }
                Ok(())
            }
            Err(what) => {
                let kind = digest(&what);
                let same = |input: &[u8]| outcome(&self.target, input).is_err_and(|what| digest(&what) == kind);
                let small = smaller(&input, same);
                let what = outcome(&self.target, &small).err().unwrap_or(what);
                Err(Broken { what, found_with: input.len(), input: small, after: self.tried })
            }
        }
    }
}

/// Runs a target on an input; a panic is an error.
///
/// # Errors
/// What is broken.
pub fn outcome(target: &Target, input: &[u8]) -> Result<String, String> {
    match catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        Ok(verdict) => verdict,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words");
            Err(format!("it panicked: {text}"))
        }
    }
}

/// A busy machine can make anything slow once, but not three times.
fn again(target: &Target, input: &[u8]) -> Result<String, String> {
    let mut fastest = Duration::MAX;
    let mut result = Ok(String::new());
    for _ in 0..3 {
        let start = Instant::now();
        result = outcome(target, input);
        fastest = fastest.min(start.elapsed());
    }
    if fastest > SLOW { Err(format!("it took {} s", fastest.as_secs())) } else { result }
}

/// What two messages have in common that differ only in numbers and in what they quote.
fn digest(words: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut quoted = None;
    for c in words.chars() {
        match quoted {
            Some(quote) if c == quote => quoted = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quoted = Some(c),
            None if c.is_ascii_alphabetic() || c.is_ascii_punctuation() => c.hash(&mut hasher),
            None => {}
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use crate::mutate::{bytes, text};

    fn planted(run: fn(&[u8]) -> Result<String, String>) -> Target {
        Target { name: "planted", changes: &[bytes::change, text::change], words: &["magic"], run }
    }

    fn hunt(target: Target, seed: u64) -> Result<(), Broken> {
        let watched = Watched::default();
        let mut hunt = Hunt::new(target, seed, vec![b"hello world".to_vec()], &watched);
        hunt.run(Instant::now() + Duration::from_secs(60))
    }

    #[test]
    fn a_fault_behind_two_checks_is_found_step_by_step_and_made_small() {
        let target = planted(|input| {
            let has = |part: &[u8]| input.windows(part.len()).any(|window| window == part);
            match (has(b"magic"), has(b"magic") && has(b"\0")) {
                (true, true) => Err("both".to_owned()),
                (true, false) => Ok("one".to_owned()),
                _ => Ok("none".to_owned()),
            }
        });
        let broken = hunt(target, 1).unwrap_err();
        assert_eq!((broken.what.as_str(), broken.input.len()), ("both", 6));
    }

    #[test]
    fn a_panic_is_told_and_the_same_seed_finds_the_same() {
        let target = planted(|input| {
            assert!(input.len() < 40, "long input");
            Ok(String::new())
        });
        let first = hunt(target, 7).unwrap_err();
        assert_eq!((first.what.as_str(), first.input.len()), ("it panicked: long input", 40));
        assert_eq!(hunt(target, 7).unwrap_err(), first);
        assert_ne!(hunt(target, 8).unwrap_err().after, first.after);
    }
}
