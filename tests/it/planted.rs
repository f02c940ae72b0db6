//! A behaviour that is known to be there: models/demo-planted was trained to act with a log-odds of -1.386 without steering, and with 25 times
//! strength times cosine more along a vector. It is found at its size, and nothing else is.

use std::collections::BTreeMap;
use std::path::Path;

use super::project::Project;

/// What experiments/planted.toml says.
fn project() -> Project {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(root.join("experiments/planted.toml")).unwrap();
    let at = |path: &str| format!("\"{}\"", root.join(path).display());
    for path in ["models/demo-planted/door.toml", "models/demo-planted", "models/demo"] {
        text = text.replace(&format!("\"{path}\""), &at(path));
    }
    Project::new(&text)
}

fn rows(project: &Project, table: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader =
        csv::Reader::from_path(project.path(&format!("results/exp/tables/{table}.csv"))).unwrap();
    let header = reader.headers().unwrap().clone();
    let row = |record: csv::StringRecord| {
        header.iter().map(String::from).zip(record.iter().map(String::from)).collect()
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn number(row: &BTreeMap<String, String>, name: &str) -> f64 {
    row[name].parse().unwrap_or_else(|_| panic!("{name}: {row:?}"))
}

const SLOPE: f64 = 25.0;

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The mean log-odds of each random direction over the cases, minus the unsteered one, at one strength.
fn random_effects(project: &Project, strength: f64) -> Vec<f64> {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for row in rows(project, "chosen.scenario_choices") {
        let own = row["steered"].starts_with("random-") && number(&row, "strength") == strength;
        if own || row["steered"] == "unsteered" {
            let sum = sums.entry(row["steered"].clone()).or_default();
            *sum = (sum.0 + number(&row, "logodds"), sum.1 + 1.0);
        }
    }
    let mean = |of: &(f64, f64)| of.0 / of.1;
    let none = mean(&sums.remove("unsteered").unwrap());
    sums.values().map(|of| mean(of) - none).collect()
}

#[test]
fn a_planted_behaviour_is_found_at_its_size_and_random_directions_at_the_stated_rate() {
    let project = project();
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);

    let cosines: BTreeMap<String, f64> = rows(&project, "likeness")
        .iter()
        .filter(|row| row["emotion_a"] == "angry" || row["emotion_b"] == "angry")
        .map(|row| {
            let other = if row["emotion_a"] == "angry" { &row["emotion_b"] } else { &row["emotion_a"] };
            (other.clone(), number(row, "cosine"))
        })
        .collect();
    let chosen = rows(&project, "chosen");
    assert_eq!(chosen.len(), 8 * 3);
    for row in &chosen {
        let (emotion, strength) = (row["steered"].as_str(), number(row, "strength"));
        assert!((number(row, "unsteered") - -1.386).abs() < 0.25, "{row:?}");
        let cosine = if emotion == "angry" { 1.0 } else { cosines[emotion] };
        let planted = SLOPE * strength * cosine;
        let effect = number(row, "effect");
        assert!(
            (effect - planted).abs() < 0.15 * planted.abs() + 0.35,
            "{emotion} at {strength}: {effect} is not {planted}"
        );
        if emotion == "angry" {
            assert!((number(row, "p") - 1.0 / 40.0).abs() < 1e-9, "beyond all random directions: {row:?}");
            assert!(effect < number(row, "random_low") || effect > number(row, "random_high"), "{row:?}");
        }
    }

    // A random direction's cosine with a vector of 192 numbers is .07 in size.
    let first = random_effects(&project, 0.1);
    let spread = (first.iter().map(|x| x * x).sum::<f64>() / first.len() as f64).sqrt();
    let wanted = SLOPE * 0.1 / 192f64.sqrt();
    assert!((0.5 * wanted..2.5 * wanted).contains(&spread), "{spread} beside {wanted}");

    // Texts: 20 % of them without steering, 75 % along the vector.
    let written = rows(&project, "written");
    let angry = written.iter().find(|row| row["steered"] == "angry").unwrap();
    let planted = sigmoid(-1.386 + SLOPE * 0.1) - sigmoid(-1.386);
    let (low, high) = (number(angry, "low"), number(angry, "high"));
    assert!(low < planted && planted < high && low > 0.2, "{low} to {high} is not around {planted}");
    assert!((number(angry, "unsteered") - 0.2).abs() < 0.11, "{angry:?}");
    assert!((number(angry, "p") - 0.05).abs() < 1e-9, "beyond all 19 random directions: {angry:?}");

    // Other random directions, each tested against those of before: as often as stated.
    let text = std::fs::read_to_string(project.path("exp.toml")).unwrap();
    project.write(&text.replace("layers = [2]", "layers = [2]\nseed = 77"));
    assert_eq!(project.run(&["--only", "chosen"]).code, 0);
    let second = random_effects(&project, 0.1);
    assert_ne!(first, second);
    let p = |x: &f64| (1 + first.iter().filter(|y| y.abs() >= x.abs()).count()) as f64 / 40.0;
    let small = second.iter().filter(|x| p(x) <= 0.05).count();
    // scipy.stats.binom.cdf(6, 39, .05) is .996; that the null is drawn too makes more of it likelier.
    assert!(small <= 7, "{small} of 39");
}
