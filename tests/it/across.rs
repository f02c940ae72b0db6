//! Analyses across models, from the experiment file to the report: which sets are compared, what is computed again, and
//! what is said where there is nothing to compare.

use std::collections::BTreeMap;
use std::path::Path;

use emoflow::config::Experiment;
use serde_json::Value;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [1, 2, 3]
[models.demo]
path = "{demo}"
[models.small]
path = "{demo}-small"
[emotions]
words = ["happy", "sad", "angry", "calm"]
[stories.said.template]
passages = ["She felt {emotion} all day.", "A {emotion} man came home.", "Why are you so {emotion} now?", "I was {emotion} at school."]
[activations]
from_token = 0
[vectors]
denoise = "none"
[analysis.space.pca]
[analysis.similarity.cosine]
[analysis.likeness.rsa]
permutations = 20
bootstrap = 20
[analysis.alignment.cka]
permutations = 20
[analysis.carried.transfer]
folds = 3
permutations = 20
bootstrap = 20
steer = true
random = 3
[analysis.trends.scale]
[criteria.alike]
claim = "likeness/correlation of cosines"
at_least = -1.0
p = 1.0
[criteria.carried]
claim = "carried/R²"
at_least = 2.0
where = "small"
"#;

const SEED1: &str = "[models.seed1]\npath = \"{demo}-seed1\"\n[emotions]";

fn with_seed1() -> String {
    EXPERIMENT.replace("[emotions]", SEED1)
}

type Row = BTreeMap<String, String>;

fn rows(project: &Project, table: &str) -> Vec<Row> {
    let path = project.path("results/exp/tables").join(format!("{table}.csv"));
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

/// Units that the last run made, by node.
fn made(project: &Project) -> BTreeMap<String, (u64, u64)> {
    let run = std::fs::read(project.path("results/exp/run.json")).unwrap();
    let run: Value = serde_json::from_slice(&run).unwrap();
    let count = |node: &Value, key: &str| node[key].as_u64().unwrap_or_default();
    let nodes = run["nodes"].as_array().unwrap().iter();
    nodes.map(|n| (n["name"].as_str().unwrap().to_string(), (count(n, "made"), count(n, "units")))).collect()
}

/// Spearman's correlation of values that are all different, from the squares of rank differences.
fn spearman(x: &[f64], y: &[f64]) -> f64 {
    let rank = |of: &[f64], value: f64| of.iter().filter(|v| **v < value).count() as f64;
    let squares = x.iter().zip(y).map(|(a, b)| (rank(x, *a) - rank(y, *b)).powi(2)).sum::<f64>();
    let n = x.len() as f64;
    1.0 - 6.0 * squares / (n * (n * n - 1.0))
}

#[test]
fn models_are_compared_and_a_further_one_computes_its_own_pairs_only() {
    let project = Project::new(EXPERIMENT);
    let first = project.run(&[]);
    assert_eq!(first.code, 0, "{:?}", first.nodes);
    for node in ["likeness", "alignment", "carried/demo/said", "carried/small/said"] {
        assert_eq!(first.nodes.get(node).map(String::as_str), Some("ran"), "{:?}", first.nodes);
    }
    // The correlation is that of the cosines in the other analysis's table.
    let cosines = rows(&project, "similarity");
    let of = |model: &str, layer: &str| -> Vec<f64> {
        let here = |row: &&Row| {
            row["model"] == model && row["layer"] == layer && row["emotion_a"] < row["emotion_b"]
        };
        cosines.iter().filter(here).map(|row| number(row, "cosine")).collect()
    };
    let likeness = rows(&project, "likeness");
    assert_eq!(likeness.len(), 3);
    for row in &likeness {
        let (x, y) = (of(&row["model_a"], &row["layer_a"]), of(&row["model_b"], &row["layer_b"]));
        assert_eq!((x.len(), y.len()), (6, 6));
        assert!((number(row, "r_same") - spearman(&x, &y)).abs() < 1e-9, "{row:?}");
        assert_eq!(row["layer_a"], row["layer_b"]); // both have four blocks
    }
    assert_eq!(rows(&project, "likeness.rsa_layers").len(), 9);
    let alignment = rows(&project, "alignment");
    assert!(alignment.iter().all(|row| row["stories"] == "16" && (0.0..=1.0).contains(&number(row, "cka"))));
    let carried = rows(&project, "carried");
    let targets: Vec<&str> = carried.iter().map(|row| row["model_b"].as_str()).collect();
    assert_eq!(targets, ["demo", "small"]);
    assert!(
        carried.iter().all(|row| (1.0..=4.0).contains(&number(row, "mean_rank")) && row["topics"] == "4")
    );
    // Four emotions under two vectors, three directions and three shuffles, in both models.
    assert_eq!(rows(&project, "carried.transfer_steering").len(), 2 * 4 * 8);
    // Two shares and a check, at three layers of two models; of two models no p is below 1.
    let trends = rows(&project, "trends");
    assert_eq!(trends.iter().filter(|row| row["analysis"] == "space").count(), 18);
    assert!(
        rows(&project, "trends.scale_parameters")
            .iter()
            .all(|row| number(row, "p") == 1.0 && row["models"] == "2")
    );
    let page = crate::page(&project.path("results/exp/report.html"));
    for id in ["likeness", "alignment", "carried", "trends"] {
        assert!(page.contains(&format!("<section id=\"{id}\">")), "{id}");
    }
    assert!(page.contains("nothing can be concluded"));

    // Claims, on the first page and in the comparison; of four emotions there is no interval.
    let claims = rows(&project, "claims");
    let of_two = |analysis: &str, claim: &str| -> Vec<&Row> {
        claims.iter().filter(|row| row["analysis"] == analysis && row["claim"] == claim).collect()
    };
    for (claimed, row) in of_two("likeness", "correlation of cosines").iter().zip(&likeness) {
        assert_eq!((&claimed["model"], &claimed["other"]), (&row["model_a"], &row["model_b"]));
        assert_eq!((&claimed["estimate"], &claimed["p"]), (&row["r"], &row["p"]));
        assert_eq!((claimed["low"].as_str(), claimed["null_draws"].as_str()), ("", "20"));
    }
    let ranks = of_two("carried", "mean rank");
    assert_eq!(ranks.len(), 2);
    for (claimed, row) in ranks.iter().zip(&carried) {
        assert_eq!((&claimed["model"], &claimed["other"]), (&row["model_b"], &row["model_a"]));
        assert_eq!((&claimed["estimate"], &claimed["null_mean"]), (&row["mean_rank"], &row["rank_null"]));
        assert!(number(claimed, "q") >= number(claimed, "p"));
    }
    assert_eq!(of_two("alignment", "CKA of stories").len(), 3);
    let compared = rows(&project, "comparison");
    assert_eq!(
        compared.iter().filter(|row| row["name"] == "mean rank" && !row["other"].is_empty()).count(),
        2
    );
    for said in [
        "Claims on two sets of vectors",
        "carried: mean rank (small on said, demo)",
        "Every estimate by layer",
    ] {
        assert!(page.contains(said), "{said}");
    }
    // One criterion is met, the other is not, and both were tested.
    assert!(page.contains("<td>pass</td>") && page.contains("<td>fail</td>"));
    let methods = std::fs::read_to_string(project.path("results/exp/methods.md")).unwrap();
    assert!(
        methods.contains("carried, mean rank: ") && methods.contains("small on said, and demo: "),
        "{methods}"
    );

    // Names are in no key, nor is the order of the file.
    let renamed = EXPERIMENT.replace("models.demo]", "models.zoe]").replace("likeness", "alike");
    project.write(&renamed);
    assert_eq!(project.run(&[]).names("ran"), ["report"]);
    assert_eq!(rows(&project, "alike")[0]["model_a"].len() + rows(&project, "alike")[0]["model_b"].len(), 8);

    project.write(&with_seed1());
    let third = project.run(&[]);
    assert_eq!(third.code, 0, "{:?}", third.nodes);
    let made = made(&project);
    assert_eq!((made["likeness"], made["alignment"]), ((2, 3), (2, 3)));
    assert_eq!((made["carried/demo/said"], made["carried/seed1/said"]), ((1, 2), (2, 2)));
    assert_eq!(third.nodes["vectors/demo/said"], "cached");
    assert_eq!(rows(&project, "likeness").len(), 9);

    let more = ["likeness", "--device", "cpu", "--set", "analysis.likeness.rsa.permutations=21"];
    let explained = project.emoflow("explain", &more).out;
    assert!(explained.contains("/said with ") && explained.contains("permutations 20 -> 21"), "{explained}");

    // By name, by model, and what is made with the report.
    let only = |pattern: &str| project.run(&["--only", pattern]);
    assert_eq!(only("likeness").out.trim(), "ran 0, cached 1, failed 0");
    assert_eq!(only("stage:transfer,source:said").out.trim(), "ran 0, cached 3, failed 0");
    assert_eq!(only("trends").nodes.len(), third.nodes.len());
}

/// Where one of two models computes in bf16, what is claimed of both stands beside what an experiment in f32 finds.
#[test]
fn claims_on_two_models_are_computed_in_f32_too() {
    let in_f32 = EXPERIMENT.replace("[analysis.trends.scale]", "");
    let rounded = in_f32.replacen("{demo}\"\n", "{demo}\"\ncompute_dtype = \"bf16\"\n", 1);
    let claimed = |text: &str| {
        let project = Project::new(text);
        let ran = project.run(&[]);
        assert_eq!(ran.code, 0, "{:?}", ran.nodes);
        for table in ["likeness", "alignment", "carried", "claims", "comparison"] {
            let path = project.path("results/exp/tables").join(format!("{table}.csv"));
            assert!(!std::fs::read_to_string(path).unwrap().contains('@'), "{table} shows what only checks");
        }
        let claims = rows(&project, "claims").into_iter().filter(|row| !row["other"].is_empty());
        claims.collect::<Vec<_>>()
    };
    let (own, wanted) = (claimed(&rounded), claimed(&in_f32));
    assert!(wanted.iter().all(|row| row["f32_difference"].is_empty()), "nothing is rounded there");
    let mut moved = BTreeMap::new();
    for row in own.iter().filter(|row| row["reported"] == "true") {
        let place =
            |row: &Row| ["analysis", "claim", "model", "other", "layer"].map(|column| row[column].clone());
        let same = wanted.iter().find(|other| place(other) == place(row)).expect("the same claims");
        let wanted = number(same, "estimate") - number(row, "estimate");
        assert!((number(row, "f32_difference") - wanted).abs() < 1e-9, "{row:?} beside {same:?}");
        *moved.entry(row["analysis"].clone()).or_insert(0.0) += wanted.abs();
    }
    // Ranks of six cosines need not change.
    assert!(moved["likeness"] >= 0.0 && moved["alignment"] > 0.0 && moved["carried"] > 0.0, "{moved:?}");
    // A sample is read by all models in their own arithmetic too, also by the one that is in f32 anyway.
    let sample = rounded.replace("layers = [1, 2, 3]", "layers = [1, 2, 3]\ncheck_precision = 12\nshard = 4");
    let sampled = claimed(&sample);
    assert!(
        sampled.iter().filter(|row| row["reported"] == "true").all(|row| !row["f32_difference"].is_empty())
    );
}

/// A sample of which nothing can be computed fails no run: each claim says why it was not checked.
#[test]
fn a_check_of_too_few_stories_says_that_it_is_none() {
    let text = EXPERIMENT
        .replacen("{demo}\"\n", "{demo}\"\ncompute_dtype = \"bf16\"\n", 1)
        .replace("steer = true\nrandom = 3\n", "")
        .replace(
            "[analysis.trends.scale]",
            "[analysis.certainty.geometry]\nresamples = 2\npermutations = 2\nhalves = 0",
        );
    // One passage with all four words; then three of the words, without vectors of the fourth.
    for (stories, whole) in [(4, true), (3, false)] {
        let sample = format!("layers = [1, 2, 3]\ncheck_precision = {stories}\nshard = {stories}");
        let project = Project::new(&text.replace("layers = [1, 2, 3]", &sample));
        let ran = project.run(&[]);
        assert_eq!(ran.code, 0, "{:?}", ran.nodes);
        let claims = rows(&project, "claims");
        let of = |analysis: &str, model: &str| {
            let of = |row: &&Row| {
                row["analysis"] == analysis && row["model"] == model && row["reported"] == "true"
            };
            let found: Vec<&Row> = claims.iter().filter(of).collect();
            assert!(!found.is_empty(), "no claim of {analysis}");
            found
        };
        let said = |analysis: &str, why: &str| {
            for row in of(analysis, "demo") {
                assert!(row["f32_not_checked"].contains(why) && row["f32_difference"].is_empty(), "{row:?}");
            }
        };
        let (few, lacks) = ("at least two topics or passages", "no story");
        said("certainty", if whole { few } else { lacks });
        said("carried", if whole { "three parts are needed" } else { lacks });
        for row in of("space", "demo") {
            let checked = row["f32_not_checked"].is_empty() && !row["f32_difference"].is_empty();
            assert_eq!(checked, whole, "{row:?}");
        }
        // Of a model in f32 nothing is checked.
        assert!(of("certainty", "small").iter().all(|row| row["f32_not_checked"].is_empty()));
        assert!(crate::page(&project.path("results/exp/report.html")).contains("not checked: "));
        let again = project.run(&[]);
        assert_eq!((again.code, again.names("ran")), (0, vec![]), "{:?}", again.nodes);
    }
}

/// The same weights under two names are two models that agree in everything.
#[test]
fn a_model_beside_itself_is_the_same() {
    let project = Project::new(
        &EXPERIMENT
            .replace("{demo}-small", "{demo}")
            .replace("steer = true\n", "")
            .replace("random = 3\n", ""),
    );
    assert_eq!(project.run(&[]).code, 0);
    for row in rows(&project, "likeness") {
        assert!(
            (number(&row, "r_same") - 1.0).abs() < 1e-9
                && (number(&row, "r") - number(&row, "ceiling")).abs() < 1e-3,
            "{row:?}"
        );
    }
    for row in rows(&project, "alignment") {
        assert!((number(&row, "cka_debiased") - 1.0).abs() < 1e-9 && number(&row, "p") < 0.05, "{row:?}");
    }
}

#[test]
fn variants_of_a_sweep_are_compared_among_themselves() {
    let sweep = "[sweep]\nactivations.from_token = [0, 1]\nanalysis.likeness.rsa.correlation = [\"spearman\", \"pearson\"]\n";
    let project = Project::new(&format!("{EXPERIMENT}{sweep}"));
    assert_eq!(project.run(&[]).code, 0);
    let plan = project.emoflow("plan", &["--device", "cpu"]).out;
    for name in [
        "likeness~from_token=0~correlation=spearman ",
        "alignment~from_token=1 ",
        "carried/demo/said~from_token=1 ",
    ] {
        assert!(plan.contains(name), "{name} in {plan}");
    }
    let mut variants: Vec<String> =
        rows(&project, "likeness").into_iter().map(|row| row["variant"].clone()).collect();
    variants.dedup();
    assert_eq!(variants.len(), 4, "{variants:?}");
}

#[test]
fn what_has_nothing_to_compare_is_refused_or_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = |text: &str| {
        let found = Experiment::parse(&root.join("across.toml"), root, text);
        found.err().map_or(String::new(), |problems| problems.to_string())
    };
    let demo = root.join("models/demo");
    let both = EXPERIMENT.replace("{demo}", demo.to_str().unwrap());
    assert_eq!(said(&both), "");
    let second = format!("[models.small]\npath = \"{}-small\"\n", demo.display());
    let one = said(&both.replace(&second, ""));
    for part in [
        "`rsa` (likeness) compares sets of vectors, and there is one",
        "`cka` (alignment) compares models, and there is one",
        "`transfer` (carried) compares models, and there is one",
        "`scale` (trends) compares models, and there is one",
        "5 problems in",
    ] {
        assert!(one.contains(part), "{part}\n{one}");
    }
    let own = said(&both.replace("[stories.said.template]", "[stories.said.generate]").replace(
        "passages = [\"She felt {emotion} all day.\", \"A {emotion} man came home.\", \"Why are you so {emotion} now?\", \"I was {emotion} at school.\"]",
        "topics = [\"rain\"]",
    ));
    assert!(
        own.contains("`cka` (alignment) needs stories that two models read") && own.contains("2 problems"),
        "{own}"
    );
    let few = said(&both.replace("[\"happy\", \"sad\", \"angry\", \"calm\"]", "[\"happy\", \"sad\"]"));
    assert!(few.contains("`rsa` (likeness) compares emotions with each other, and there are 2"), "{few}");
    let of = said(&both.replace("[analysis.trends.scale]", "[analysis.trends.scale]\nof = [\"spice\"]"));
    assert!(of.contains("no analysis `spice`") && of.contains("did you mean `space`"), "{of}");

    // One of two models cannot be had.
    let project = Project::new(&EXPERIMENT.replace("{demo}-small", "gone"));
    std::fs::create_dir(project.path("gone")).unwrap();
    let run = project.run(&[]);
    assert_eq!(run.code, 1);
    for name in ["likeness", "alignment", "carried", "trends"] {
        assert_eq!(run.nodes.get(name).map(String::as_str), Some("blocked"), "{:?}", run.nodes);
    }
    let plan = project.emoflow("plan", &["--device", "cpu"]).out;
    assert!(plan.contains("compares two sets of vectors, and lacks models/small"), "{plan}");
    // Of three, the other two are compared.
    project.write(&with_seed1().replace("{demo}-small", "gone"));
    let run = project.run(&["--only", "likeness"]);
    assert_eq!((run.names("failed"), run.names("ran").contains(&"likeness")), (vec!["models/small"], true));
    assert_eq!(project.run(&["--only", "carried/demo/said"]).code, 0);
}
