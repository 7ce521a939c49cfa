//! `--write docs/performance.md`: fills the tables and plots of that page from `target/bench`. What was not measured here keeps what it
//! says.

use std::path::Path;

use serde_json::Value;
use signet_tests::failure::{Failure, Outcome};
use signet_tests::tools::{self, say};

/// What was measured, as Markdown.
type Written = fn(&Value) -> String;

/// The blocks of the page: which file each is from, and how it is written.
const BLOCKS: [(&str, Written); 10] = [
    ("rate", rate),
    ("connections", |all| rows(all, "connections", &CONNECTIONS)),
    ("backends", |all| rows(all, "backends", &BACKENDS)),
    ("herd", herd),
    ("start", start),
    ("growth-events", |all| growth(all, &EVENTS)),
    ("growth-holders", |all| growth(all, &HOLDERS)),
    ("growth-streams", |all| growth(all, &STREAMS)),
    ("growth-clusters", |all| growth(all, &PLAIN)),
    ("growth-roots", |all| growth(all, &PLAIN)),
];

/// A column: its title, and the field that it is from.
type Column = (&'static str, &'static str);

const CONNECTIONS: [Column; 7] = [
    ("connections", "connections"),
    ("certificates a second", "per_second"),
    ("x whole handshake", "of_whole"),
    ("p50 ms", "p50_ms"),
    ("p99 ms", "p99_ms"),
    ("us of the CA", "ca_cpu_us"),
    ("us of the client", "load_cpu_us"),
];
const BACKENDS: [Column; 7] = [
    ("backend", "backend"),
    ("certificates a second", "per_second"),
    ("x native", "of_native"),
    ("x `pki/sign`", "of_raw"),
    ("p50 ms", "p50_ms"),
    ("us of the CA", "ca_cpu_us"),
    ("us of OpenBao", "openbao_cpu_us"),
];
const EVENTS: [Column; 7] = [
    ("events", "size"),
    ("us of the CA each", "ca_cpu_us"),
    ("certificates a second", "per_second"),
    ("p99 ms", "p99_ms"),
    ("MiB resident", "rss_mib"),
    ("ready after ms", "ready_ms"),
    ("bytes of storage each", "bytes_each"),
];
const HOLDERS: [Column; 6] = [
    ("holders", "size"),
    ("us of the CA each", "ca_cpu_us"),
    ("certificates a second", "per_second"),
    ("MiB resident", "rss_mib"),
    ("ready after ms", "ready_ms"),
    ("`status` ms", "status_ms"),
];
const STREAMS: [Column; 5] = [
    ("streams", "streams"),
    ("KiB each", "kib_each"),
    ("a bundle reached all after ms", "reached_all_ms"),
    ("all on record after ms", "on_record_ms"),
    ("ms of the CA", "cpu_ms"),
];
const PLAIN: [Column; 6] = [
    ("how many", "size"),
    ("us of the CA each", "ca_cpu_us"),
    ("certificates a second", "per_second"),
    ("p99 ms", "p99_ms"),
    ("MiB resident", "rss_mib"),
    ("ready after ms", "ready_ms"),
];

/// Fills the page.
pub(crate) fn write(page: &Path) -> Outcome {
    let mut text = std::fs::read_to_string(page).map_err(Failure::io(format!("read {}", page.display())))?;
    for (name, block) in BLOCKS {
        let file = tools::target_dir().join("bench").join(format!("{name}.json"));
        let Ok(found) = std::fs::read_to_string(&file) else {
            say(&format!("{} is not there; that block stays as it is", file.display()));
            continue;
        };
        let all: Value = serde_json::from_str(&found).map_err(Failure::while_doing("read what was measured"))?;
        let machine = all.get("machine").map(cell).unwrap_or_default();
        text = replaced(&text, name, &format!("{}\nMeasured on {machine}.\n", block(&all)))?;
    }
    std::fs::write(page, text).map_err(Failure::io(format!("write {}", page.display())))
}

/// The page with another text between the marks of a block.
fn replaced(page: &str, name: &str, text: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->\n"));
    let parts = page.split_once(&begin).and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| Failure::unexpected(format!("the page has no block {name}")))?;
    Ok(format!("{before}{begin}{text}{end}{after}"))
}

/// A number or a text as people read it.
fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(number) if number >= 1000.0 => thousands(number),
            Some(number) if number >= 100.0 => format!("{number:.0}"),
            Some(number) if number.fract() == 0.0 => format!("{number:.0}"),
            Some(number) if number >= 10.0 => format!("{number:.1}"),
            _ => format!("{:.2}", number.as_f64().unwrap_or_default()),
        },
        _ => "–".to_owned(),
    }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut parts: Vec<&str> = digits.as_bytes().rchunks(3).filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.reverse();
    parts.join(",")
}

fn table(columns: &[Column], rows: &[Value]) -> String {
    let titles: Vec<&str> = columns.iter().map(|(title, _)| *title).collect();
    let mut text = format!("| {} |\n|{}\n", titles.join(" | "), "---|".repeat(columns.len()));
    for row in rows {
        let cells: Vec<String> = columns.iter().map(|(_, field)| row.get(field).map_or("–".to_owned(), cell)).collect();
        text.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    text
}

fn rows(all: &Value, field: &str, columns: &[Column]) -> String {
    table(columns, all.get(field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default())
}

/// A table, and a plot of its second column over its first: where costs grow as they should, it is a level line.
fn growth(all: &Value, columns: &[Column]) -> String {
    let rows = all.get("rows").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = table(columns, rows);
    let [(over, size), (what, field), ..] = columns else { return text };
    let number = |row: &Value, field: &str| row.get(field).and_then(Value::as_f64).unwrap_or_default();
    let sizes: Vec<String> = rows.iter().map(|row| format!("\"{}\"", thousands(number(row, size)))).collect();
    let values: Vec<String> = rows.iter().map(|row| format!("{:.1}", number(row, field))).collect();
    let top = rows.iter().map(|row| number(row, field)).fold(1.0, f64::max) * 1.3;
    format!(
        "{text}\n```mermaid\nxychart-beta\n  x-axis \"{over}\" [{}]\n  y-axis \"{what}\" 0 --> {top:.0}\n  line [{}]\n```\n",
        sizes.join(", "),
        values.join(", ")
    )
}

/// Two columns: what, and how much.
fn facts(facts: &[(&str, Option<f64>)]) -> String {
    let mut text = "| what | measured |\n|---|---|\n".to_owned();
    for (what, much) in facts {
        text.push_str(&format!("| {what} | {} |\n", much.map_or("–".to_owned(), |much| cell(&much.into()))));
    }
    text
}

fn rate(all: &Value) -> String {
    let number = |field: &str| all.get(field).and_then(Value::as_f64);
    let over = |one: &str, other: &str| number(one).zip(number(other)).map(|(one, other)| one / other);
    facts(&[
        ("certificates a second, 32 connections that stay open", number("per_second")),
        ("times the rate of `cfssl serve`", over("per_second", "cfssl_per_second")),
        ("times the rate of OpenBao's `pki/sign`", over("per_second", "openbao_per_second")),
        ("microseconds of the CA's processor time for each", number("cpu_us_per_issuance")),
        (
            "times what the CSR's check and the signature cost alone",
            over("cpu_us_per_issuance", "floor_without_token_us"),
        ),
        ("p50 in milliseconds", number("p50_ms")),
        ("p99 in milliseconds", number("p99_ms")),
        ("cores that CA and load keep busy", number("busy_cores")),
        ("bytes that the disk writes for each", number("written_bytes_per_certificate")),
        ("MiB resident", number("rss_mib")),
    ])
}

fn herd(all: &Value) -> String {
    let number = |field: &str| all.get(field).and_then(Value::as_f64);
    facts(&[
        ("agents at once", number("agents")),
        ("seconds until all have their certificates", number("all_s")),
        ("seconds until half of them have", number("p50_s")),
        ("times that one was turned away, in all", number("turned_away")),
        ("the same, of the one that was turned away most often", number("turned_away_most")),
        ("connections that came to nothing", number("lost")),
        ("microseconds of the CA for each", number("ca_cpu_us")),
        ("MiB resident before", number("rss_before_mib")),
        ("MiB resident at most", number("rss_peak_mib")),
    ])
}

fn start(all: &Value) -> String {
    let number = |field: &str| all.get(field).and_then(Value::as_f64);
    facts(&[
        ("certificates on record", number("events")),
        ("milliseconds until the CA is ready", number("ca_ready_ms")),
        ("the slowest of eleven starts", number("ca_ready_worst_ms")),
        ("milliseconds until an agent has served its first secret", number("agent_first_secret_ms")),
        ("the slowest of eleven starts", number("agent_first_secret_worst_ms")),
        ("MiB of the agent", number("agent_mib")),
        ("percent of a core of an idle CA", number("ca_idle_percent")),
        ("percent of a core of an idle agent", number("agent_idle_percent")),
    ])
}
