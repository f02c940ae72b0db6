//! Several layers: the embedding among them, and every number over them.

use std::collections::BTreeMap;

use emoflow::config::Experiment;

use crate::project::Project;

const EXPERIMENT: &str = r#"
layers = ["embed", 1, 3]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad"]
[stories.said.template]
passages = ["{emotion}", "{emotion}."]
[activations]
from_token = 0
[vectors]
denoise = "none"
[analysis.similarity.cosine]
[analysis.causes.steering]
layers = "all"
random = 1
"#;

fn rows(project: &Project, table: &str) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(project.path("results/exp/tables").join(table)).unwrap();
    reader.deserialize().map(Result::unwrap).collect()
}

#[test]
fn the_embedding_goes_through_every_analysis() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).out, "ran 6, cached 0, failed 0\n");
    let layers = |table: &str| {
        let mut layers: Vec<i32> =
            rows(&project, table).iter().map(|row| row["layer"].parse().unwrap()).collect();
        layers.dedup();
        layers
    };
    assert_eq!(layers("similarity.csv"), [-1, 1, 3]);
    assert_eq!(layers("causes.csv"), [-1, 1, 3]);
    // A table of every claim: each at three layers, at the middle of their blocks.
    let numbers = rows(&project, "claims.csv");
    let depths: Vec<_> =
        numbers.iter().filter(|row| row["claim"] == "separation").map(|row| &row["depth"]).collect();
    assert_eq!(depths, ["0.0", "0.375", "0.875"]);
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("layer (-1: embed)"));
    // Another layer runs nothing anew at those that were there.
    project.write(&EXPERIMENT.replace("1, 3", "1, 2, 3"));
    let widened = project.run(&[]);
    assert_eq!(widened.names("cached"), ["stories/said"]);
    project.write(&EXPERIMENT.replace("\"embed\", 1, 3", "1"));
    assert_eq!(project.run(&["--only", "vectors/*"]).out, "ran 0, cached 1, failed 0\n");
}

#[test]
fn a_word_that_is_nearly_a_layer_is_a_problem_with_a_hint() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = EXPERIMENT.replace("\"embed\"", "\"embeds\"");
    let problems = Experiment::parse(&root.join("exp.toml"), root, &text).unwrap_err().to_string();
    assert!(
        problems.contains("`layers` cannot be `embeds`") && problems.contains("did you mean `embed`?"),
        "{problems}"
    );
}
