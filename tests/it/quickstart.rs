//! The experiments on the models that ship, as they ship: what their reports must show.

use std::collections::{BTreeMap, BTreeSet};

use crate::project::Project;

const PLEASANT: [&str; 10] =
    ["happy", "joyful", "excited", "loving", "calm", "peaceful", "relaxed", "proud", "hopeful", "grateful"];
/// Neither pleasant nor unpleasant.
const SURPRISE: [&str; 2] = ["surprised", "astonished"];
/// Two thirds of the models' four layers.
const LAYER: &str = "2";

type Row = BTreeMap<String, String>;

/// One model's vectors from its own stories, in one variant of the experiment (empty without a sweep).
struct Set<'a> {
    project: &'a Project,
    model: &'a str,
    variant: &'a str,
}

fn table(project: &Project, name: &str) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(project.path("results/exp/tables").join(name)).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

impl Set<'_> {
    /// The rows of a result table about this set.
    fn rows(&self, name: &str) -> Vec<Row> {
        let mut rows = table(self.project, name);
        rows.retain(|row| {
            row["model"] == self.model
                && row["variant"] == self.variant
                && row["stories"] == "own"
                && row["layer"] == LAYER
        });
        rows
    }

    /// How well the leading component separates pleasant from unpleasant emotions, whichever its sign.
    fn auc(&self) -> f64 {
        let (mut pleasant, mut unpleasant) = (Vec::new(), Vec::new());
        for row in self.rows("space.csv").iter().filter(|row| row["component"] == "1") {
            match row["emotion"].as_str() {
                emotion if SURPRISE.contains(&emotion) => {}
                emotion if PLEASANT.contains(&emotion) => pleasant.push(number(row, "score")),
                _ => unpleasant.push(number(row, "score")),
            }
        }
        assert_eq!((pleasant.len(), unpleasant.len()), (10, 18));
        let above = pleasant.iter().flat_map(|p| unpleasant.iter().filter(move |u| p > u)).count();
        let auc = above as f64 / (pleasant.len() * unpleasant.len()) as f64;
        auc.max(1.0 - auc)
    }

    /// The least cosine of some synonyms, and the largest of some opposites.
    fn synonyms_and_opposites(&self) -> (f64, f64) {
        let cosines = self.rows("similarity.csv");
        let cosine = |a: &str, b: &str| {
            number(
                cosines.iter().find(|row| row["emotion_a"] == a && row["emotion_b"] == b).unwrap(),
                "cosine",
            )
        };
        let synonyms =
            [("happy", "joyful"), ("angry", "furious"), ("afraid", "terrified"), ("calm", "peaceful")];
        let opposites = [("happy", "sad"), ("calm", "panicked"), ("loving", "disgusted"), ("calm", "angry")];
        let least = synonyms.map(|(a, b)| cosine(a, b)).into_iter().fold(f64::INFINITY, f64::min);
        let most = opposites.map(|(a, b)| cosine(a, b)).into_iter().fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }

    /// How many of the thirty vectors promote their own word, or its stem, among their first ten tokens.
    fn own_words(&self) -> usize {
        let own = |row: &Row| {
            let (token, emotion) = (row["token"].trim().to_lowercase(), &row["emotion"]);
            row["side"] == "promoted" && token.starts_with(&emotion[..(emotion.len() - 2).max(3)])
        };
        let rows = self.rows("words.csv").into_iter().filter(own);
        rows.map(|row| row["emotion"].clone()).collect::<BTreeSet<String>>().len()
    }

    /// What steering by each emotion does to its own word, and what random directions do.
    fn self_steering(&self) -> (Vec<f64>, Vec<f64>) {
        let steered = self.rows("causes.csv");
        let deltas = |keep: &dyn Fn(&Row) -> bool| {
            steered.iter().filter(|row| keep(row)).map(|row| number(row, "delta")).collect::<Vec<f64>>()
        };
        let own = deltas(&|row| row["steered"] == row["measured"]);
        let random = deltas(&|row| row["steered"].starts_with("random"));
        assert_eq!((own.len(), random.len()), (30, 150));
        (own, random)
    }
}

/// A project with an experiment that ships, on the models that ship.
fn shipped(name: &str) -> Project {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("experiments").join(name)).unwrap();
    Project::new(&text.replace("\"models/", &format!("\"{}/", root.join("models").display())))
}

#[test]
fn the_demonstration_model_shows_what_the_experiment_is_about() {
    let project = shipped("quickstart.toml");
    assert_eq!(project.run(&[]).out, "ran 18, cached 0, failed 0\n");
    assert_eq!(project.run(&[]).out, "ran 0, cached 18, failed 0\n");
    let set = Set { project: &project, model: "demo", variant: "" };
    let auc = set.auc();
    assert!(auc >= 0.95, "AUC {auc}");
    let (least, most) = set.synonyms_and_opposites();
    assert!(least > most + 0.3, "synonyms from {least}, opposites to {most}");
    // Though no story contains them.
    let own_words = set.own_words();
    assert!(own_words >= 24, "{own_words} of 30 own words");
    // Every vector raises its own word, and more than random directions of its norm do.
    let (own, random) = set.self_steering();
    assert!(own.iter().all(|&delta| delta > 0.0), "{own:?}");
    assert!(mean(&own) > 5.0 * mean(&random).abs(), "own {}, random {}", mean(&own), mean(&random));

    assert!(std::fs::metadata(project.path("results/exp/report.html")).unwrap().len() < 3_000_000);
}

#[test]
fn three_models_show_the_same() {
    let project = shipped("quickstart-sweep.toml");
    assert_eq!(project.run(&[]).out, "ran 55, cached 0, failed 0\n");
    for model in ["demo", "demo-small", "demo-seed1"] {
        for variant in ["from_token=20", "from_token=50"] {
            let set = Set { project: &project, model, variant };
            let (auc, (least, most)) = (set.auc(), set.synonyms_and_opposites());
            let (own_words, (own, random)) = (set.own_words(), set.self_steering());
            let found = format!(
                "{model}, {variant}: AUC {auc}; synonyms from {least}, opposites to {most}; {own_words} own words; \
                 self-steering {own:?}, random {}",
                mean(&random)
            );
            assert!(auc >= 0.9, "{found}");
            assert!(least > most + 0.3, "{found}");
            assert!(own_words >= 20, "{found}");
            assert!(own.iter().all(|&delta| delta > 0.0), "{found}");
            assert!(mean(&own) > 5.0 * mean(&random).abs(), "{found}");
        }
    }
}
