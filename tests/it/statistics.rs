//! Intervals, nulls, probes and ratings, end to end on the demonstration model: tables that agree with those of other analyses,
//! chapters of the report, and what runs again.

use std::collections::BTreeMap;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [2, 3]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "sad", "angry", "afraid", "calm", "tired"]

[stories.passages.template]
set = "passages-10"

[neutral.template]
set = "neutral-40"

[vectors]
denoise = { components = 2 }

[activations]
from_token = 5

[analysis.space.pca]
[analysis.similarity.cosine]

[analysis.certainty.geometry]
pairs = [["happy", "sad"]]
families = { low = ["sad", "tired"], high = ["angry", "afraid"] }
resamples = 60
permutations = 39
halves = 10

[analysis.told.probe]
folds = 5
resamples = 60
permutations = 19

[analysis.rated.norms]
resamples = 60
permutations = 39
"#;

type Row = BTreeMap<String, String>;

fn rows(project: &Project, table: &str) -> Vec<Row> {
    let path = project.path("results/exp/tables").join(table);
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

fn close(got: f64, want: f64) {
    assert!((got - want).abs() < 1e-6, "{got} is not {want}");
}

#[test]
fn intervals_stand_beside_the_values_of_other_analyses() {
    let project = Project::new(EXPERIMENT);
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);

    let variance = rows(&project, "space.pca_variance.csv");
    let statistics = rows(&project, "certainty.csv");
    for layer in ["2", "3"] {
        let of = |name: &str| {
            statistics
                .iter()
                .find(|row| row["layer"] == layer && row["statistic"] == name)
                .expect("a statistic")
        };
        for component in ["1", "2"] {
            let share =
                variance.iter().find(|row| row["layer"] == layer && row["component"] == component).unwrap();
            let row = of(&format!("PC{component} share"));
            close(number(row, "value"), number(share, "explained_variance_ratio"));
            assert!(number(row, "low") < number(row, "high"));
            assert!((1.0 / 40.0..=1.0).contains(&number(row, "p")));
        }
        let check = rows(&project, "space.pca_checks.csv");
        let check = check.iter().find(|row| row["layer"] == layer).unwrap();
        close(number(of("|r(PC1, norm)|"), "value"), number(check, "value"));
        assert_eq!(of("PC1 share")["groups"], "10 passages");
    }
    let cosines = rows(&project, "similarity.csv");
    let pairs = rows(&project, "certainty.geometry_cosines.csv");
    assert_eq!(pairs.len(), 2 * 15);
    for pair in &pairs {
        let same = |row: &&Row| {
            ["layer", "emotion_a", "emotion_b"].iter().all(|column| row[*column] == pair[*column])
        };
        close(number(pair, "cosine"), number(cosines.iter().find(same).unwrap(), "cosine"));
    }
    assert_eq!(rows(&project, "certainty.geometry_reliability.csv").len(), 2 * 6);
    let probe = rows(&project, "told.csv");
    assert_eq!((probe.len(), probe[0]["stories_read"].as_str(), probe[0]["folds"].as_str()), (2, "60", "5"));
    // With the emotion's word in the passage a linear classifier tells it far more often than one time in six.
    assert!(probe.iter().all(|row| number(row, "accuracy") > 0.5 && number(row, "p") <= 0.05), "{probe:?}");
    let rated = rows(&project, "rated.csv");
    assert_eq!(rated.len(), 2 * 2 * 4, "three components and the whole vector, with valence and arousal");
    assert!(rated.iter().all(|row| row["n_emotions"] == "6"));

    let page = crate::page(&project.path("results/exp/report.html"));
    for chapter in ["certainty", "told", "rated", "residuals"] {
        assert!(page.contains(&format!("<section id=\"{chapter}\">")), "{chapter}");
    }
    for figure in
        ["certainty-shares", "certainty-pairs", "certainty-families", "certainty-reliability", "told-recall"]
    {
        let file = format!("results/exp/figures/{figure}_demo_passages_layer-2.svg");
        assert!(project.path(&file).is_file(), "{file}");
    }

    // Another layer leaves what there is; other topics do not.
    project.write(&EXPERIMENT.replace("layers = [2, 3]", "layers = [1, 2, 3]"));
    let plan = project.emoflow("plan", &["--json"]);
    assert_eq!(plan.code, 0);
    let again = project.run(&[]);
    assert_eq!(again.code, 0);
    assert_eq!(rows(&project, "certainty.csv").len(), 3 * statistics.len() / 2);
}

#[test]
fn a_file_of_ratings_is_checked_where_it_is_named() {
    let with = EXPERIMENT.replace("[analysis.rated.norms]", "[analysis.rated.norms]\nfile = \"norms.csv\"");
    let project = Project::new(&with);
    let check = project.emoflow("check", &[]);
    assert_eq!(check.code, 2);
    std::fs::write(project.path("norms.csv"), "word,valence,arousal\nhappy,0.9,high\n").unwrap();
    let error = emoflow::config::Experiment::read(&project.path("exp.toml")).unwrap();
    let problems = emoflow::resolve::check(&error.asked(), &mut Vec::new());
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].message.contains("norms.csv")
            && problems[0].message.contains("line 2: `high` is no arousal")
    );
    let text = std::fs::read_to_string(project.path("exp.toml")).unwrap();
    assert_eq!(&text[problems[0].span.clone()], "\"norms.csv\"");
}
