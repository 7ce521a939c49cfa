//! The operators' commands: lines when piped, tables for people, JSON for programs, exit codes for both.

use rustix::process::Signal;
use serde_json::Value;
use signet_tests::client::admin::{active_root, is_settled};
use signet_tests::failure::{Outcome, ensure};
use signet_tests::harness::beside::{Beside, Echo};
use signet_tests::harness::process::eventually;
use signet_tests::harness::rotation::{ROTATION, keys as config};
use signet_tests::stage::CLIENT_ID;
use signet_tests::tools;

use super::{SOON, installation, now_at, prepared, settled};

const ONE: [&str; 1] = ["client=default/client"];

#[tokio::test]
async fn rotate_and_wait_prints_lines_when_piped_and_picks_up_after_an_interruption() -> Outcome {
    let dev = installation("10s", &ONE)?;
    // So that it is still under way when the second command comes.
    dev.set_ca(config::PROPAGATION, "8s")?;
    let ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    settled(&admin, 1).await?;
    let rotate = || Beside::start(ca.command(&["authority", "rotate", "--wait"], &[])?, Echo::Kept);
    let mut first = rotate()?;
    let new = prepared(&admin).await?;
    let shown = async || (!first.printed().is_empty()).then_some(());
    eventually("a line of progress", SOON, shown).await?;
    first.signal(Signal::INT);
    let status = first.wait(SOON).await?;
    ensure(!status.success(), || "an interrupted wait ends with success".to_owned())?;
    // It goes on in the CA, and a second command looks at the same rotation.
    let mut second = rotate()?;
    let status = second.wait(ROTATION).await?;
    ensure(status.success(), || format!("{status}: {:?} {:?}", second.printed(), second.complained()))?;
    let state = now_at(&admin).await?;
    assert_eq!((active_root(&state), is_settled(&state)), (new.clone(), true), "no second rotation was begun");
    let lines = second.printed();
    let text = lines.join("\n");
    ensure(lines.len() >= 2 && text.contains(&new[..8]) && text.contains("settled"), || text.clone())?;
    ensure(!text.contains('\u{1b}') && !text.contains('\r'), || format!("terminal codes in a pipe: {text:?}"))?;
    ensure(lines.windows(2).all(|pair| pair[0] != pair[1]), || format!("lines are repeated: {text}"))
}

#[tokio::test]
async fn rotate_and_wait_names_those_who_lag() -> Outcome {
    let dev = installation("1h", &ONE)?;
    let ca = dev.start_ca().await?;
    let mut agent = dev.start_agent("client").await?;
    settled(&ca.admin()?, 1).await?;
    agent.process.kill();
    let rotate = Beside::start(ca.command(&["authority", "rotate", "--wait"], &[])?, Echo::Kept)?;
    let named = async || rotate.printed().iter().any(|line| line.contains(CLIENT_ID)).then_some(());
    eventually("the laggard in a line of progress", SOON, named).await
}

#[tokio::test]
async fn rotate_and_wait_survives_a_restart_of_the_ca() -> Outcome {
    let dev = installation("10s", &ONE)?;
    dev.set_ca(config::PROPAGATION, "4s")?;
    let mut ca = dev.start_ca().await?;
    let _agent = dev.start_agent("client").await?;
    settled(&ca.admin()?, 1).await?;
    let mut rotate = Beside::start(ca.command(&["authority", "rotate", "--wait"], &[])?, Echo::Kept)?;
    let shown = async || (!rotate.printed().is_empty()).then_some(());
    eventually("a line of progress", SOON, shown).await?;
    ca.process.kill();
    let _ca = dev.start_ca().await?;
    let status = rotate.wait(ROTATION).await?;
    ensure(status.success(), || format!("{status}: {:?} {:?}", rotate.printed(), rotate.complained()))
}

#[tokio::test]
async fn answers_are_tables_for_people_and_json_for_programs() -> Outcome {
    let dev = installation("1h", &ONE)?;
    dev.set_ca(config::PROPAGATION, "1h")?;
    let ca = dev.start_ca().await?;
    let mut agent = dev.start_agent("client").await?;
    let admin = ca.admin()?;
    let root = settled(&admin, 1).await?;
    agent.process.kill();
    let operator = ca.operator();
    let done = operator.prepare()?;
    ensure(done["done"].as_str().is_some_and(|text| !text.is_empty()), || done.to_string())?;
    let list = operator.list()?;
    assert_eq!(list["phase"], "propagate");
    let state = now_at(&admin).await?;
    assert_eq!(list["bundle_sequence"], state.bundle_sequence);
    assert_eq!((&list["coverage"]["holders"], &list["coverage"]["covered"]), (&Value::from(1), &Value::from(0)));
    assert_eq!(list["coverage"]["laggards"][0]["spiffe_id"], CLIENT_ID);
    let authorities = list["authorities"].as_array().unwrap();
    let mut states: Vec<(&str, &str)> = authorities
        .iter()
        .filter(|one| one["kind"] == "root")
        .map(|one| (one["id"].as_str().unwrap(), one["state"].as_str().unwrap()))
        .collect();
    states.sort_by_key(|(_, state)| *state);
    assert_eq!(states[0], (root.as_str(), "active"));
    assert_eq!(states[1].1, "prepared");
    for one in authorities {
        let time = one["not_after"].as_str().unwrap_or_default();
        ensure(time.len() == 20 && time.ends_with('Z'), || format!("not a time: {one}"))?;
    }
    let holders = operator.done(&["holders", "list", "--behind"])?;
    let holder = &holders["holders"][0];
    let full = operator.done(&["holders", "list", "--limit", "1"])?;
    ensure(full["holders"][0] == *holder && full["next_page"].is_null(), || {
        format!("it goes on after the end: {full}")
    })?;
    assert_eq!((&holder["spiffe_id"], &holder["learns_by"]), (&Value::from(CLIENT_ID), &Value::from("acknowledged")));
    for (args, words) in [
        (&["authority", "list"][..], &["propagate", "prepared", &root[..8]][..]),
        (&["holders", "list"], &[CLIENT_ID]),
        (&["holders", "list", "--behind"], &[CLIENT_ID]),
        (&["status"], &["propagate"]),
    ] {
        let table = tools::run(&mut ca.command(args, &[])?)?;
        for word in words {
            ensure(table.contains(word), || format!("{args:?} does not show {word}:\n{table}"))?;
        }
        ensure(serde_json::from_str::<Value>(&table).is_err(), || format!("{args:?} prints JSON to people"))?;
    }
    let status = operator.done(&["status"])?;
    assert_eq!(status["ready"], true);
    Ok(())
}

#[tokio::test]
async fn exit_codes_tell_wrong_usage_from_failure() -> Outcome {
    let dev = installation("1h", &ONE)?;
    let mut ca = dev.start_ca().await?;
    settled(&ca.admin()?, 0).await?;
    for args in [
        &["authority"][..],
        &["authority", "activate"],
        &["authority", "taint"],
        &["authority", "frobnicate"],
        &["authority", "rotate", "--nonsense"],
        &["certificate", "revoke"],
        &["certificate", "revoke", "--serial", "xyz", "--reason", "superseded"],
        &["certificate", "revoke", "--serial", "00000000000000000000000000000000", "--reason", "because"],
        &["holders", "list", "--limit", "0"],
    ] {
        let code = tools::output(&mut ca.command(args, &[])?)?.status.code();
        ensure(code == Some(2), || format!("{args:?} ends with {code:?}"))?;
    }
    // A CA that is not there is a failure, told with the address.
    ca.process.kill();
    for args in [&["authority", "list"][..], &["holders", "list"], &["authority", "rotate"]] {
        let output = tools::output(&mut ca.command(args, &[])?)?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.code() == Some(1) && text.contains("admin.sock"), || format!("{args:?}: {text}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn an_id_may_be_cut_short_as_long_as_it_names_one_authority() -> Outcome {
    let dev = installation("1h", &ONE)?;
    let ca = dev.start_ca().await?;
    let admin = ca.admin()?;
    settled(&admin, 0).await?;
    let operator = ca.operator();
    operator.prepare()?;
    let new = prepared(&admin).await?;
    let empty = operator.run(&["authority", "activate", ""])?;
    ensure(empty.is_err(), || format!("an empty id names something: {empty:?}"))?;
    let done = async || operator.run(&["authority", "activate", &new[..12]]).ok()?.ok();
    eventually("activation", SOON, done).await?;
    assert_eq!(active_root(&now_at(&admin).await?), new);
    Ok(())
}
