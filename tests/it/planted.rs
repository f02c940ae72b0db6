//! A behaviour that is known to be there: models/demo-planted was trained to act with a log-odds of -1.386 without steering, and with 25 times
//! strength times cosine more along a vector. It is found at its size. (That other directions are found as often as chance says is tested
//! beside `scenario`.)

use std::collections::BTreeMap;
use std::path::Path;

use super::project::Project;

/// What experiments/planted.toml says, with fewer texts of random directions.
fn project() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("experiments/planted.toml")).unwrap();
    let fewer = text.replace("random = 19", "random = 2");
    assert_ne!(fewer, text);
    Project::new(&fewer.replace("\"models/", &format!("\"{}/models/", root.display())))
}

/// A table of results: the columns by name, row after row.
fn rows(project: &Project, table: &str) -> Vec<BTreeMap<String, String>> {
    let path = project.path(&format!("results/exp/tables/{table}.csv"));
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|_| panic!("{name}: {row:?}"))
}

/// What was planted.
const UNSTEERED: f64 = -1.386;
const SLOPE: f64 = 25.0;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[test]
fn a_planted_behaviour_is_found_at_its_size() {
    let project = project();
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.out);

    // Each emotion's cosine with the vector that it was planted to.
    let mut cosines = BTreeMap::from([("angry".to_string(), 1.0)]);
    for row in rows(&project, "likeness") {
        for (own, other) in [("emotion_a", "emotion_b"), ("emotion_b", "emotion_a")] {
            if row[own] == "angry" {
                cosines.insert(row[other].clone(), number(&row, "cosine"));
            }
        }
    }
    let chosen = rows(&project, "chosen");
    assert_eq!(chosen.len(), 8 * 3);
    for row in &chosen {
        let (emotion, strength, effect) =
            (row["steered"].as_str(), number(row, "strength"), number(row, "effect"));
        let planted = SLOPE * strength * cosines[emotion];
        assert!((number(row, "unsteered") - UNSTEERED).abs() < 0.15, "{row:?}");
        assert!(
            (effect - planted).abs() < 0.1 * planted.abs() + 0.2,
            "{emotion} at {strength}: {effect} is not {planted}"
        );
        if emotion == "angry" {
            assert!((number(row, "p") - 1.0 / 40.0).abs() < 1e-3, "beyond all random directions: {row:?}");
        }
    }

    // Texts: 20 % of them without steering, 75 % along the vector.
    for row in &rows(&project, "written") {
        let planted = sigmoid(UNSTEERED + SLOPE * number(row, "strength") * cosines[&row["steered"]])
            - sigmoid(UNSTEERED);
        let (low, high) = (number(row, "low"), number(row, "high"));
        assert!(low < planted && planted < high, "{low} to {high} is not around {planted}: {row:?}");
        assert_eq!(row["steered"] == "angry", low > 0.2, "{row:?}");
    }
}
