//! The experiment that ships, on the demonstration model's own stories: what its report must show.

use std::collections::BTreeMap;

use crate::project::Project;

const PLEASANT: [&str; 10] =
    ["happy", "joyful", "excited", "loving", "calm", "peaceful", "relaxed", "proud", "hopeful", "grateful"];
/// Neither pleasant nor unpleasant.
const SURPRISE: [&str; 2] = ["surprised", "astonished"];
/// Two thirds of the model's four layers.
const LAYER: &str = "2";

/// The rows of a result table about the model's own stories.
fn rows(project: &Project, table: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(project.path("results/exp/tables").join(table)).unwrap();
    let rows: Vec<BTreeMap<String, String>> = reader.deserialize().map(Result::unwrap).collect();
    rows.into_iter().filter(|row| row["stories"] == "own" && row["layer"] == LAYER).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap()
}

#[test]
fn the_demonstration_model_shows_what_the_experiment_is_about() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/quickstart.toml"));
    let project = Project::new(&text.unwrap().replace("\"models/demo\"", "\"{demo}\""));
    assert_eq!(project.run(&[]).out, "ran 18, cached 0, failed 0\n");
    assert_eq!(project.run(&[]).out, "ran 0, cached 18, failed 0\n");

    // The leading component separates pleasant from unpleasant emotions.
    let (mut pleasant, mut unpleasant) = (Vec::new(), Vec::new());
    for row in rows(&project, "space.csv").iter().filter(|row| row["component"] == "1") {
        match row["emotion"].as_str() {
            emotion if SURPRISE.contains(&emotion) => {}
            emotion if PLEASANT.contains(&emotion) => pleasant.push(number(row, "score")),
            _ => unpleasant.push(number(row, "score")),
        }
    }
    let above = pleasant.iter().flat_map(|p| unpleasant.iter().filter(move |u| p > u)).count();
    let auc = above as f64 / (pleasant.len() * unpleasant.len()) as f64;
    assert!(auc.max(1.0 - auc) >= 0.95, "AUC {auc}");

    // Synonyms are closer than opposites.
    let cosines = rows(&project, "similarity.csv");
    let cosine = |a: &str, b: &str| {
        number(cosines.iter().find(|row| row["emotion_a"] == a && row["emotion_b"] == b).unwrap(), "cosine")
    };
    let synonyms = [("happy", "joyful"), ("angry", "furious"), ("afraid", "terrified"), ("calm", "peaceful")];
    let opposites = [("happy", "sad"), ("calm", "panicked"), ("loving", "disgusted"), ("calm", "angry")];
    let least = synonyms.map(|(a, b)| cosine(a, b)).into_iter().fold(f64::INFINITY, f64::min);
    let most = opposites.map(|(a, b)| cosine(a, b)).into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert!(least > most + 0.3, "synonyms from {least}, opposites to {most}");

    // The vectors promote their own words, though no story contains them.
    let mut promoted: BTreeMap<String, bool> = BTreeMap::new();
    for row in rows(&project, "words.csv").iter().filter(|row| row["side"] == "promoted") {
        let (token, emotion) = (row["token"].trim().to_lowercase(), &row["emotion"]);
        let stem = &emotion[..(emotion.len() - 2).max(3)];
        *promoted.entry(emotion.clone()).or_default() |= token.starts_with(stem);
    }
    let found = promoted.values().filter(|&&own| own).count();
    assert!(found * 10 >= promoted.len() * 8, "{found} of {} own words: {promoted:?}", promoted.len());

    // Every vector raises its own word, and more than random directions of its norm do.
    let steered = rows(&project, "causes.csv");
    let own: Vec<f64> =
        steered.iter().filter(|r| r["steered"] == r["measured"]).map(|r| number(r, "delta")).collect();
    let random: Vec<f64> =
        steered.iter().filter(|r| r["steered"].starts_with("random")).map(|r| number(r, "delta")).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert_eq!((own.len(), random.len()), (30, 150));
    assert!(own.iter().all(|&delta| delta > 0.0), "{own:?}");
    assert!(mean(&own) > 5.0 * mean(&random).abs(), "own {}, random {}", mean(&own), mean(&random));

    assert!(std::fs::metadata(project.path("results/exp/report.html")).unwrap().len() < 3_000_000);
}
