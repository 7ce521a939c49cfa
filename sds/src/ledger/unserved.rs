//! Names that clients ask for and that are not served, mostly by a typing error. A client is never told on its stream that a
//! secret does not exist (rule 18), so it waits, and the log must say for what.

use crate::session::printable;
use crate::snapshot::{Name, Snapshot};

/// The most names of one stream that the log is told.
const MAX_TOLD: usize = 16;

/// The longest part of a name that is shown, in characters.
const MAX_SHOWN: usize = 128;

/// The most names that one message speaks of.
const MAX_NAMED: usize = 3;

/// What the log was told of one stream: each name once, and no more than a few.
#[derive(Debug, Default)]
pub(super) struct Told {
    names: Vec<Name>,
    is_full: bool,
}

/// What is to be told now.
#[derive(Debug, PartialEq, Eq)]
enum Telling<'n> {
    Name(&'n Name),
    /// There are more, of which nothing is told; for the last time.
    More,
}

impl Told {
    /// Tells the log of names that `peer`, on this node, has begun to ask for.
    pub(super) fn tell(&mut self, names: &[Name], (peer, node): (&str, &str), snapshot: &Snapshot) {
        for telling in self.note(names) {
            match telling {
                Telling::Name(name) => tracing::warn!(
                    peer.addr = peer,
                    node.id = node,
                    secret = shown(name),
                    served = snapshot.served(),
                    "an SDS client asks for a secret that is not served here, and waits for it in vain"
                ),
                Telling::More => tracing::warn!(
                    peer.addr = peer,
                    node.id = node,
                    "an SDS client asks for more secrets that are not served here; they are counted and told no more"
                ),
            }
        }
    }

    fn note<'n>(&mut self, names: &'n [Name]) -> Vec<Telling<'n>> {
        let mut tellings = Vec::new();
        for name in names {
            if self.names.contains(name) || self.is_full {
                continue;
            }
            self.is_full = self.names.len() == MAX_TOLD;
            if self.is_full {
                tellings.push(Telling::More);
            } else {
                self.names.push(Name::clone(name));
                tellings.push(Telling::Name(name));
            }
        }
        tellings
    }
}

/// The message to whoever asks for these names and for no other.
pub(crate) fn not_served(names: &[&str], snapshot: &Snapshot) -> String {
    let named: Vec<String> = names.iter().take(MAX_NAMED).map(|name| format!("{:?}", shown(name))).collect();
    let more = match names.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("no secret is called {}{more} here; served are: {}", named.join(", "), snapshot.served())
}

/// A name from outside, as much of it as is shown.
fn shown(name: &str) -> String {
    let whole = printable(name);
    match whole.char_indices().nth(MAX_SHOWN) {
        Some((at, _)) => whole.get(..at).unwrap_or_default().to_owned() + "...",
        None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(range: std::ops::Range<usize>) -> Vec<Name> {
        range.map(|number| Name::from(format!("name-{number}"))).collect()
    }

    #[test]
    fn each_name_is_told_once_and_of_too_many_that_there_are_more() {
        let mut told = Told::default();
        let all = names(0..10_000);
        let first: Vec<Telling<'_>> = all.iter().take(3).map(Telling::Name).collect();
        assert_eq!(told.note(&names(0..3)), first);
        assert_eq!(told.note(&names(0..3)), []);
        let next: Vec<Telling<'_>> = all.iter().skip(3).take(1).map(Telling::Name).collect();
        assert_eq!(told.note(&names(2..4)), next);
        assert_eq!(told.note(&all).len(), MAX_TOLD - 4 + 1, "and that there are more");
        assert_eq!(told.note(&all), []);
        assert_eq!(told.names.len(), MAX_TOLD);
    }

    #[test]
    fn a_message_is_bounded_and_steers_no_terminal() {
        let served: std::sync::Arc<[Name]> = ["default", "ROOTCA"].map(Name::from).into();
        let snapshot = Snapshot::empty().expecting(&served);
        let long = "\u{e9}".repeat(2000);
        let cut = "\u{e9}".repeat(MAX_SHOWN) + "...";
        for (names, message) in [
            (&["defualt"][..], "no secret is called \"defualt\" here; served are: ROOTCA, default".to_owned()),
            (&["a", "b", "c"], "no secret is called \"a\", \"b\", \"c\" here; served are: ROOTCA, default".to_owned()),
            (
                &["a", "b", "c", "d", "e"],
                "no secret is called \"a\", \"b\", \"c\" and 2 more here; served are: ROOTCA, default".to_owned(),
            ),
            (&["\x1b[31m\n"], "no secret is called \" [31m \" here; served are: ROOTCA, default".to_owned()),
            (&[&long], format!("no secret is called \"{cut}\" here; served are: ROOTCA, default")),
        ] {
            assert_eq!(not_served(names, &snapshot), message);
        }
    }
}
