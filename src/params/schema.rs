//! The tables of a file as JSON Schema (2020-12), for editors. Rules across keys are only checked by `emoflow check`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::presets::Preset;
use super::table::{Default, Key, Kind, Place, Placed, Table, Type};

/// What [`super::Reader::check_name`] accepts, except for `.` and `..`.
const NAME: &str = "^[A-Za-z0-9._-]{1,100}$";

/// The schema of a whole file.
pub fn schema(top: &Placed, title: &str) -> Value {
    let mut schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
    });
    merge(&mut schema, table(top));
    schema
}

fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}

fn table(placed: &Placed) -> Value {
    let keys = placed.keys();
    let (others, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(Key::is_others);
    let required: Vec<&str> =
        keys.iter().filter(|key| matches!(key.default, Default::Required)).map(|key| key.name).collect();
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_string(), described(placed, key))).collect();
    let mut table = json!({
        "type": "object",
        "description": placed.about(),
        "properties": properties,
        "additionalProperties": others.first().map_or(json!(false), |key| values(placed, key)),
    });
    if !required.is_empty() {
        merge(&mut table, json!({ "required": required }));
    }
    table
}

/// The schema of a key's values, with its description and default.
fn described(placed: &Placed, key: &Key) -> Value {
    let mut schema = values(placed, key);
    let mut about = key.about.to_string();
    match key.default {
        Default::Is(text) => {
            let read = toml::de::ValueDeserializer::parse(text).map(Value::deserialize);
            // Defaults are read like values from the file; the tests read each of them.
            let default = read.ok().and_then(Result::ok).unwrap_or_default();
            merge(&mut schema, json!({ "default": default }));
        }
        Default::Said(said) | Default::Ships(said, _) if said != "-" => {
            about.push_str(&format!(" Default: {said}."));
        }
        _ => {}
    }
    merge(&mut schema, json!({ "description": about }));
    schema
}

fn values(placed: &Placed, key: &Key) -> Value {
    let names = |presets: &[Preset]| presets.iter().map(|preset| preset.name).collect::<Vec<_>>();
    let texts = || list(json!({ "type": "string", "minLength": 1 }));
    let below = |table| {
        let placed = placed.below(&Key { of: Type::Table(table), ..*key });
        placed.first().map_or(Value::Null, self::table)
    };
    match key.of {
        Type::Text => json!({ "type": "string" }),
        Type::Name => json!({ "type": "string", "pattern": NAME }),
        Type::Bool => json!({ "type": "boolean" }),
        Type::Integer { min, max: i64::MAX } => json!({ "type": "integer", "minimum": min }),
        Type::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Type::Number { from: f64::MIN, to: f64::MAX, .. } => json!({ "type": "number" }),
        Type::Number { from, above, to } => {
            let least = if above { "exclusiveMinimum" } else { "minimum" };
            json!({ "type": "number", least: from, "maximum": to })
        }
        Type::Choice(words) => json!({ "enum": words() }),
        Type::Preset(presets) => json!({ "enum": names(presets) }),
        Type::PresetOrTexts(presets) => json!({ "anyOf": [{ "enum": names(presets) }, texts()] }),
        Type::Texts => texts(),
        Type::Numbers => list(json!({ "type": "number" })),
        Type::Pairs => {
            let pair =
                json!({ "type": "array", "items": { "type": "string" }, "minItems": 2, "maxItems": 2 });
            json!({ "type": "array", "items": pair })
        }
        Type::NamedTexts => json!({ "type": "object", "additionalProperties": texts() }),
        Type::TextByName => {
            json!({ "type": "object", "additionalProperties": { "type": "string", "minLength": 1 } })
        }
        Type::TextOrFields => json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] }),
        Type::Fields | Type::Sweep => json!({ "type": "object" }),
        Type::Forms { words, layers, table } => {
            let mut forms: Vec<Value> =
                (!words.is_empty()).then(|| json!({ "enum": words })).into_iter().collect();
            let layer = json!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "const": crate::lm::layer::EMBED }] });
            forms.extend(layers.then(|| list(layer)));
            forms.extend(table.map(below));
            json!({ "anyOf": forms })
        }
        Type::Table(table) | Type::Inline(table) => below(table),
        Type::Others(table) => below(table),
        Type::Named(table) => named(below(table), matches!(key.default, Default::Required)),
        Type::Kind(Kind { name, table, texts: _ }) => at(table, Place { kind: name, ..placed.place }),
        Type::Kinds(kinds) => one_of(&kinds()),
        Type::NamedKinds(kinds) => named(one_of(&kinds()), matches!(key.default, Default::Required)),
    }
}

/// At least one of `items`, no duplicates.
fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items, "minItems": 1, "uniqueItems": true })
}

/// Tables with user-defined names.
fn named(table: Value, required: bool) -> Value {
    let least = usize::from(required);
    json!({
        "type": "object",
        "propertyNames": { "pattern": NAME },
        "additionalProperties": table,
        "minProperties": least,
    })
}

/// Exactly one of these tables.
fn one_of(kinds: &[Kind]) -> Value {
    let kind =
        |&Kind { name, table, texts }: &Kind| (name.to_string(), at(table, Place { texts, kind: name }));
    let properties: Map<String, Value> = kinds.iter().map(kind).collect();
    json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
    })
}

fn at(table: &'static Table, place: Place) -> Value {
    self::table(&Placed { path: String::new(), table, place })
}
