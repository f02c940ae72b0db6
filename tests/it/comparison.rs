//! Several sets of vectors side by side: the table of claims, and what the page shows of it.

use std::collections::BTreeMap;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [0, 2, 3]

[models.demo]
path = "{demo}"
[models.other]
path = "{demo}"
dtype = "bf16"

[emotions]
words = ["happy", "joyful", "sad", "angry"]

[stories.passages.template]
set = "passages-10"

[analysis.space.pca]
components = 3
[analysis.similarity.cosine]
pairs = [["happy", "angry"]]
[analysis.words.logit_lens]
[analysis.causes.steering]
random = 2
"#;

type Row = BTreeMap<String, String>;

fn rows(project: &Project, table: &str) -> Vec<Row> {
    let path = project.path("results/exp/tables").join(table);
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap()
}

/// The one row in which these columns have these values.
fn one<'a>(rows: &'a [Row], wanted: &[(&str, &str)]) -> &'a Row {
    let mut found = rows.iter().filter(|row| wanted.iter().all(|(column, value)| row[*column] == *value));
    let row = found.next().unwrap_or_else(|| panic!("no row with {wanted:?}"));
    assert!(found.next().is_none(), "several rows with {wanted:?}");
    row
}

/// Each claim is what the analysis's own table says at block 2 of 4, the kept one nearest to two thirds.
#[test]
fn claims_are_those_of_the_tables_at_the_default_layer() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).code, 0);
    let comparison = rows(&project, "comparison.csv");
    for model in ["demo", "other"] {
        let claim = |name: &str| {
            let row = one(&comparison, &[("model", model), ("name", name)]);
            assert_eq!((row["layer"].as_str(), row["n_layers"].as_str()), ("2", "4"));
            assert_eq!((row["stories"].as_str(), row["published"].as_str()), ("passages", "false"));
            number(row, "value")
        };
        let here = [("model", model), ("layer", "2")];
        let at = |table: &str, wanted: &[(&str, &str)], column: &str| {
            number(one(&rows(&project, table), &[&here, wanted].concat()), column)
        };
        let share = at("space.pca_variance.csv", &[("component", "2")], "explained_variance_ratio");
        assert_eq!(claim("PC2, % of variance"), 100.0 * share);
        assert_eq!(claim("|r(PC1, norm)|"), at("space.pca_checks.csv", &[], "value"));
        let pair = [("emotion_a", "happy"), ("emotion_b", "angry")];
        assert_eq!(claim("happy / angry"), at("similarity.csv", &pair, "cosine"));

        let mut ranks: Vec<f64> = rows(&project, "words.own_word.csv")
            .iter()
            .filter(|row| here.iter().all(|(column, value)| row[*column] == *value))
            .map(|row| number(row, "rank"))
            .collect();
        ranks.sort_by(f64::total_cmp);
        assert_eq!(claim("own word: median rank"), (ranks[1] + ranks[2]) / 2.0);

        let own: Vec<f64> = rows(&project, "causes.csv")
            .iter()
            .filter(|row| row["model"] == model && row["steered"] == row["measured"])
            .map(|row| number(row, "delta"))
            .collect();
        assert_eq!(own.len(), 4);
        assert!((claim("own word at 1 \u{d7} vector, nats") - own.iter().sum::<f64>() / 4.0).abs() < 1e-12);
        assert_eq!(claim("own word: most, nats"), own.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    }
    // The published cosine is of thirty vectors that are centred together, and not like one of four.
    assert!(comparison.iter().all(|row| row["name"] != "happy / joyful" || row["published"] == "false"));
    let claims = rows(&project, "claims.csv");
    let pair = [("model", "demo"), ("layer", "2"), ("claim", "happy / joyful")];
    assert_eq!(one(&claims, &pair)["published"], "0.923");
    assert_eq!(one(&claims, &pair)["published_unlike"], "of another number of emotions");

    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("<section id=\"comparison\">"));
    assert!(page.contains("<section id=\"findings\">"));
    assert!(project.path("results/exp/figures/space-planes.svg").is_file());
}

#[test]
fn a_comparison_that_is_gone_is_written_again_and_one_set_has_none() {
    let project = Project::new(EXPERIMENT);
    project.run(&[]);
    let table = project.path("results/exp/tables/comparison.csv");
    std::fs::remove_file(&table).unwrap();
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert!(table.is_file());
    project.write(&EXPERIMENT.replace("[models.other]\npath = \"{demo}\"\ndtype = \"bf16\"\n", ""));
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert!(!table.exists());
    assert!(!project.path("results/exp/figures/space-planes.svg").exists());
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(!page.contains("id=\"comparison\""));
}
