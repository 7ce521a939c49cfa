//! Changes to JSON values: in the whole input, or in one line of it that holds an object.

use serde_json::Value;

use super::{Material, NUMBERS, replaced};
use crate::random::Random;

/// One small change to a JSON value.
#[must_use]
pub fn change(random: &mut Random, input: &[u8], material: &Material<'_>) -> Option<Vec<u8>> {
    let (range, mut value) = find(random, input)?;
    let mut places = 0;
    count(&value, &mut places);
    let mut wanted = random.below(places);
    let other = find(random, material.other).map_or(Value::Null, |(_, value)| value);
    alter(&mut value, &mut wanted, &mut |value| *value = altered(random, value, &other, material));
    Some(replaced(input, range, value.to_string().as_bytes()))
}

fn find(random: &mut Random, input: &[u8]) -> Option<(std::ops::Range<usize>, Value)> {
    if let Ok(value) = serde_json::from_slice(input) {
        return Some((0..input.len(), value));
    }
    let mut start = 0;
    let mut found = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let (true, Ok(value)) = (line.starts_with(b"{"), serde_json::from_slice(line)) {
            found.push((start..start + line.len(), value));
        }
        start += line.len() + 1;
    }
    let chosen = random.below(found.len());
    found.into_iter().nth(chosen)
}

fn count(value: &Value, places: &mut usize) {
    *places += 1;
    match value {
        Value::Array(items) => items.iter().for_each(|item| count(item, places)),
        Value::Object(fields) => fields.values().for_each(|item| count(item, places)),
        _ => {}
    }
}

/// Calls `with` for the value at place `wanted`, in the order of [`count`].
fn alter(value: &mut Value, wanted: &mut usize, with: &mut dyn FnMut(&mut Value)) -> bool {
    if *wanted == 0 {
        with(value);
        return true;
    }
    *wanted -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| alter(item, wanted, with)),
        Value::Object(fields) => fields.values_mut().any(|item| alter(item, wanted, with)),
        _ => false,
    }
}

fn altered(random: &mut Random, value: &Value, other: &Value, material: &Material<'_>) -> Value {
    let word = || (*material.words.first().unwrap_or(&"")).to_owned();
    match (random.below(7), value) {
        (0, _) => Value::Null,
        (1, _) => Value::Array(vec![value.clone()]),
        (2, _) => random.choose(material.words).map_or_else(|| word().into(), |word| (*word).into()),
        (3, _) => random.choose(&NUMBERS).map_or(Value::Null, |number| (*number).into()),
        (4 | 5, Value::Object(fields)) => {
            let mut fields = fields.clone();
            let names: Vec<String> = fields.keys().cloned().collect();
            let name = random.choose(&names).cloned().unwrap_or_default();
            let taken = fields.remove(&name);
            if random.once_in(2) {
                let new = random.choose(material.words).map_or_else(word, |word| (*word).to_owned());
                fields.insert(new, taken.unwrap_or_else(|| other.clone()));
            }
            Value::Object(fields)
        }
        (4 | 5, Value::Array(items)) => {
            let mut items = items.clone();
            let item = random.choose(&items).unwrap_or(other).clone();
            items.push(item);
            Value::Array(items)
        }
        (4 | 5, Value::Number(number)) => {
            let step = i64::try_from(random.below(1200)).unwrap_or(0).saturating_sub(600);
            number.as_i64().map_or(Value::Null, |number| number.saturating_add(step).into())
        }
        (4 | 5, Value::String(text)) => {
            let bytes = super::bytes::change(random, text.as_bytes(), material).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned().into()
        }
        _ => other.clone(),
    }
}
