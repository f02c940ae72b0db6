//! `emoflow schema`, held against experiments by a validator that is not ours.

use std::path::Path;

use boon::{Compiler, SchemaIndex, Schemas};
use emoflow::config::Experiment;
use serde_json::Value;

const HERE: &str = "file:///schema.json";

/// What the program prints.
fn schema() -> Value {
    let mut out = Vec::new();
    assert_eq!(emoflow::run(["emoflow", "schema"], &mut out), 0);
    serde_json::from_slice(&out).expect("JSON")
}

fn compiler() -> Compiler {
    let mut compiler = Compiler::new();
    compiler.add_resource(HERE, schema()).expect("a resource");
    compiler
}

fn compiled() -> (Schemas, SchemaIndex) {
    let mut schemas = Schemas::new();
    let index = compiler().compile(HERE, &mut schemas).expect("a schema by the rules of 2020-12");
    (schemas, index)
}

fn json(toml: &str) -> Value {
    serde_json::to_value(toml.parse::<toml::Table>().expect("TOML")).expect("JSON")
}

#[test]
fn every_experiment_that_ships_is_right() {
    let (schemas, index) = compiled();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments");
    let mut count = 0;
    for file in fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "toml") {
            let text = json(&fs_err::read_to_string(&file).unwrap());
            let valid = schemas.validate(&text, index);
            assert!(valid.is_ok(), "{}: {:#}", file.display(), valid.unwrap_err());
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

const BASE: &str = r#"
seed = 1
layers = { every = 4 }
[models.demo]
path = "models/demo"
[emotions]
words = ["happy", "sad", "calm"]
[stories.own.generate]
topics = ["rain"]
reject = { min_tokens = 5 }
[stories.api.openai]
url = "https://example.org/v1"
model = "m"
body = { enable_thinking = false }
[neutral.template]
passages = ["Rain falls.", "Snow falls."]
[activations]
from_token = 0
[vectors]
denoise = { components = 1 }
[analysis.sim.cosine]
pairs = [["happy", "sad"]]
[analysis.steer.steering]
strength = [0.5, 1]
"#;

#[test]
fn what_the_program_refuses_the_schema_refuses() {
    let (schemas, index) = compiled();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let refused = |text: &str| {
        let ours = Experiment::parse(&root.join("a.toml"), root, text);
        (ours.is_err(), schemas.validate(&json(text), index).is_err())
    };
    assert_eq!(refused(BASE), (false, false));
    for (from, to) in [
        // Unknown keys, tables and kinds.
        ("seed = 1", "seeds = 1"),
        ("topics =", "topic ="),
        ("min_tokens", "min_token"),
        ("[analysis.sim.cosine]", "[analysis.sim.cosines]"),
        ("[stories.own.generate]", "[stories.own.write]"),
        ("[neutral.template]", "[neutral.template.more]"),
        ("[vectors]", "[vector]"),
        // What neutral text has not.
        ("passages = [\"Rain falls.\", \"Snow falls.\"]", "per_topic = 1"),
        // Other types.
        ("seed = 1", "seed = \"1\""),
        ("seed = 1", "seed = 1.5"),
        ("seed = 1", "description = 3"),
        ("{ every = 4 }", "\"some\""),
        ("{ every = 4 }", "[0, \"last\"]"),
        ("[\"rain\"]", "3"),
        ("[[\"happy\", \"sad\"]]", "[[\"happy\"]]"),
        ("{ enable_thinking = false }", "[]"),
        ("[0.5, 1]", "[]"),
        ("[0.5, 1]", "[1, 1]"),
        ("strength =", "unit ="),
        // Out of bounds.
        ("seed = 1", "seed = -1"),
        ("{ every = 4 }", "{ every = 0 }"),
        ("{ every = 4 }", "{ depth = 1.5 }"),
        ("topics =", "top_p = 0\ntopics ="),
        ("topics =", "temperature = 101\ntopics ="),
        ("model = \"m\"", "model = \"m\"\nparallel = 257"),
        // Nothing where something must be.
        ("[models.demo]\npath = \"models/demo\"", ""),
        ("url = \"https://example.org/v1\"", ""),
        ("\"happy\", \"sad\", \"calm\"", ""),
        ("[models.demo]", "[models.\"a b\"]"),
    ] {
        let text = BASE.replacen(from, to, 1);
        assert_ne!(text, BASE, "{from}");
        assert_eq!(refused(&text), (true, true), "{from} -> {to}");
    }
}

/// Every `default`, by where it stands.
fn defaults(schema: &Value, path: String, found: &mut Vec<(String, Value)>) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == "default" && fields.contains_key("description") {
                    found.push((path.clone(), value.clone()));
                }
                defaults(value, format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| defaults(item, format!("{path}/{i}"), found));
        }
        _ => {}
    }
}

#[test]
fn defaults_are_values() {
    let mut found = Vec::new();
    defaults(&schema(), String::new(), &mut found);
    assert!(found.len() > 100, "{}", found.len());
    let (mut schemas, mut compiler) = (Schemas::new(), compiler());
    for (path, default) in found {
        let at = compiler.compile(&format!("{HERE}#{path}"), &mut schemas).expect("a part of the schema");
        let valid = schemas.validate(&default, at);
        assert!(valid.is_ok(), "{path}: {default}: {:#}", valid.unwrap_err());
    }
}
