//! What is told on the way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

use signet_proto::admin::v1alpha1::{Coverage, Phase};

use super::*;

fn rotation(phase: Phase) -> Rotation {
    Rotation { phase: phase.into(), coverage: Some(Coverage::default()), ..Rotation::default() }
}

#[test]
fn pipes_get_a_line_and_programs_an_object_per_change() {
    let first = rotation(Phase::Propagate);
    let second = rotation(Phase::Drain);
    let now = time::macros::datetime!(2026-03-01 12:00 UTC);
    let told = |presentation: Presentation| {
        let mut writer = ProgressWriter { writer: Vec::new(), presentation };
        for rotation in [&first, &first, &second, &second] {
            let moment = Moment { title: "", rotation, renewed: None, trouble: None, now };
            writer.show(&moment).unwrap();
        }
        writer.end("it is \u{1b}so").unwrap();
        String::from_utf8(writer.writer).unwrap()
    };
    let lines = told(Presentation::Lines(None));
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.contains("Z  propagate: ") && lines.ends_with("done: it is \\u{1b}so\n"), "{lines}");
    let objects = told(Presentation::Objects(None));
    let phases: Vec<String> = objects
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["phase"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(phases, ["propagate", "drain"]);
}

#[test]
fn a_reader_that_went_away_ends_the_waiting() {
    struct Gone;
    impl Write for Gone {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let rotation = rotation(Phase::Drain);
    let now = time::OffsetDateTime::UNIX_EPOCH;
    let moment = Moment { title: "", rotation: &rotation, renewed: None, trouble: None, now };
    let mut writer = ProgressWriter { writer: Gone, presentation: Presentation::Lines(None) };
    assert!(matches!(writer.show(&moment), Err(Failure::Failed(text)) if text.contains("nobody reads")));
}
