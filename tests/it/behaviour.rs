//! Situations and growing numbers, read where the model would answer, against values of transformers and plain passes.

use std::path::Path;

use emoflow::lm::{Batch, Capture, Chat, Checkpoint, Dtype, LanguageModel, Layer, Message, Role};
use emoflow::stages::analysis::implicit::{Implicit, Situation};
use emoflow::stages::analysis::intensity::{Intensity, Template};
use emoflow::stages::analysis::turns::ReadAt;
use emoflow::stages::analysis::{Activations, Analysis, Input, LayerVectors, Tables, VectorSet};
use emoflow::stages::vectors::{self, Center, Denoise, Equal};
use emoflow::store::table::{Column, Table};
use tch::Device;

use super::project::Project;
use super::stages::{check, load};

/// As in `tests/e2e/turns.py`.
fn sines(d: usize, seed: usize) -> Vec<f64> {
    (0..d).map(|i| 0.3 * ((i * 37 + seed * 101) as f64).sin()).collect()
}

/// Vectors of sines at two layers.
fn set(emotions: &[&str], d_model: usize, n_layers: usize) -> VectorSet {
    let vectors: Vec<f64> = (0..emotions.len()).flat_map(|e| sines(d_model, e + 1)).collect();
    let layer = |layer| LayerVectors {
        layer,
        emotions: emotions.iter().map(|e| e.to_string()).collect(),
        d_model,
        vectors: vectors.clone(),
        raw: vectors.clone(),
        n_stories: vec![3; emotions.len()],
        resid_norm: 5.0,
    };
    VectorSet {
        model: "m".into(),
        stories: "s".into(),
        n_layers,
        layers: [1, 2].map(Layer::Block).map(layer).to_vec(),
    }
}

fn run(analysis: &Analysis, set: &VectorSet, model: &LanguageModel) -> anyhow::Result<Tables> {
    let progress = &mut |_: usize, _: usize| {};
    let chat = Chat::default();
    analysis.run(Input {
        set,
        activations: None,
        reads: None,
        spans: None,
        rollouts: None,
        model: Some(model),
        chat,
        seed: 4,
        progress,
    })
}

/// One layer at a time, with activations of two topics.
fn by_layer(analysis: &Analysis, set: &VectorSet, model: &LanguageModel) -> Vec<Tables> {
    let emotions = set.layers[0].emotions.clone();
    let cells = || emotions.iter().flat_map(|emotion| ["rain", "snow"].map(|topic| (emotion.clone(), topic)));
    let n = cells().count();
    let values = |at| sines(model.spec.d_model, 50 + at).into_iter().map(|x| x as f32);
    let table = Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..n).map(|at| at.to_string()).collect())),
            ("emotion", Column::OptStr(cells().map(|(emotion, _)| Some(emotion)).collect())),
            ("topic", Column::OptStr(cells().map(|(_, topic)| Some(topic.to_string())).collect())),
            ("layer", Column::I32(vec![1; n])),
            ("n_tokens", Column::I32(vec![9; n])),
            (
                "activation",
                Column::List {
                    width: model.spec.d_model,
                    values: (0..n).flat_map(values).collect(),
                    half: false,
                },
            ),
        ],
    );
    let activations = Activations {
        shards: 1,
        read: &|_| Ok(table.clone()),
        stories: &|_| anyhow::bail!("every story has a topic"),
        params: &vectors::Params {
            center: Center::Emotions,
            denoise: Denoise::None,
            normalize: false,
            weights: Equal::Stories,
            tokens: None,
        },
        neutral: None,
    };
    let one = |layer: &LayerVectors| {
        let set = VectorSet { layers: vec![layer.clone()], ..set.clone() };
        let progress = &mut |_: usize, _: usize| {};
        let (activations, chat) = (Some(activations), Chat::default());
        analysis
            .run(Input {
                set: &set,
                activations,
                reads: None,
                spans: None,
                rollouts: None,
                model: Some(model),
                chat,
                seed: 4,
                progress,
            })
            .unwrap()
    };
    set.layers.iter().map(one).collect()
}

fn situation(text: &str, emotion: &str) -> Situation {
    Situation { text: text.into(), emotion: emotion.into() }
}

const DOOR: &str = "Somebody is turning the handle of the back door.";

#[test]
fn situations_are_read_where_transformers_would_answer() {
    let model = load("models/demo");
    let situations = vec![
        situation(DOOR, "afraid"),
        situation("Left out.", "bored"),
        situation("The dog is back.", "happy"),
    ];
    let analysis = Analysis::Implicit(Implicit { situations: situations.clone(), wrap: ReadAt::User });
    let tables = run(&analysis, &set(&["afraid", "happy"], model.spec.d_model, 4), &model).unwrap();
    let table: &Table = &tables[0].1;
    assert_eq!(table.i32("layer").unwrap(), [1, 1, 1, 1, 2, 2, 2, 2]);
    assert_eq!(table.i32("situation").unwrap(), [1, 1, 3, 3, 1, 1, 3, 3]);
    assert_eq!(table.str("implied").unwrap()[1..3], ["afraid", "happy"]);
    // python tests/e2e/turns.py
    let layer_1 = [0.044567836, 0.019204139, 0.018779184, -0.018953399];
    let layer_2 = [0.089977783, 0.061374770, 0.042809571, -0.009407911];
    let cosines = table.f64("cosine").unwrap();
    check(&cosines[..4], &layer_1, 1e-4, "layer 1");
    check(&cosines[4..], &layer_2, 1e-4, "layer 2");
    let half = (layer_1[0] - layer_1[2]) / 2.0;
    check(
        &[table.f64("centred").unwrap()[0], table.f64("centred").unwrap()[2]],
        &[half, -half],
        1e-3,
        "centred",
    );
    let analysis = Analysis::Implicit(Implicit { situations, wrap: ReadAt::Mean });
    let tables = run(&analysis, &set(&["afraid", "happy"], model.spec.d_model, 4), &model).unwrap();
    let cosines = tables[0].1.f64("cosine").unwrap();
    let layer_1 = [0.021633764, 0.000273474, -0.042856712, -0.070701480];
    let layer_2 = [0.044160390, 0.003111927, -0.013981769, -0.062567269];
    check(&cosines[..4], &layer_1, 1e-4, "mean, layer 1");
    check(&cosines[4..], &layer_2, 1e-4, "mean, layer 2");
}

/// The cosine of `vector` with the residual stream after block `layer` at the last of some tokens.
fn cosine(model: &LanguageModel, ids: &[i64], layer: usize, vector: &[f64]) -> f64 {
    let last = ids.len() - 1..ids.len();
    let mut capture = Capture::new(&[Layer::Block(layer)], vec![last]);
    let _resid = model.forward(&Batch::new(&[ids]).unwrap(), &mut [&mut capture], None).unwrap();
    let resid = Vec::<f32>::try_from(capture.finish().unwrap().view(-1)).unwrap();
    let resid: Vec<f64> = resid.into_iter().map(f64::from).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(&resid, vector) / (dot(&resid, &resid) * dot(vector, vector)).sqrt()
}

#[test]
fn numbers_are_put_into_every_phrasing_and_read_one_by_one() {
    let model = load("models/demo");
    let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let template = Template {
        name: "wait".into(),
        texts: strings(&["I waited {number} hours.", "It took her {number} hours to find the key again."]),
        numbers: vec![1.0, 2.5, 40.0, 300.0],
        rise: strings(&["afraid", "bored"]),
        fall: strings(&["happy"]),
    };
    let other = Template { name: "none".into(), rise: strings(&["bored"]), fall: vec![], ..template.clone() };
    for wrap in [ReadAt::User, ReadAt::Raw] {
        let templates = vec![other.clone(), template.clone()];
        let analysis = Analysis::Intensity(Intensity { templates, wrap });
        let tables = by_layer(&analysis, &set(&["afraid", "happy"], model.spec.d_model, 4), &model);
        for (curves, trends) in tables.iter().map(|tables| (&tables[0].1, &tables[1].1)) {
            assert_eq!(curves.rows(), 2 * 2 * 4);
            assert!(curves.str("template").unwrap().iter().all(|name| name == "wait"));
            assert_eq!(trends.str("emotion").unwrap(), ["afraid", "happy"]);
            assert_eq!(trends.i32("expected").unwrap(), [1, -1]);
            assert!(trends.f64("p_label").unwrap().iter().all(|p| (0.005..=1.0).contains(p)));
        }
        // Row 6: afraid, second phrasing, third number; row 15: the last of all.
        for (row, text, layer, seed) in [
            (6, "It took her 40 hours to find the key again.", 1, 1),
            (1, "I waited 2.5 hours.", 1, 1),
            (15, "It took her 300 hours to find the key again.", 2, 2),
        ] {
            let ids = match wrap {
                ReadAt::User => {
                    model.encode_chat(&[Message::new(Role::User, text)], Chat::default()).unwrap()
                }
                _ => model.encode(text).unwrap().ids,
            };
            let wanted = cosine(&model, &ids, layer, &sines(model.spec.d_model, seed));
            let got = tables[layer - 1][0].1.f64("cosine").unwrap()[row];
            assert!((got - wanted).abs() < 1e-5, "{wrap:?}, {text}: {got} is not {wanted}");
        }
    }
}

#[test]
fn a_model_without_a_chat_template_is_refused_unless_texts_are_read_as_they_stand() {
    let folder = tempfile::tempdir().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    for file in fs_err::read_dir(&demo).unwrap() {
        let file = file.unwrap();
        fs_err::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    let config = folder.path().join("tokenizer_config.json");
    let text = fs_err::read_to_string(&config).unwrap().replace("\"chat_template\"", "\"no_chat_template\"");
    fs_err::write(&config, text).unwrap();
    let model =
        LanguageModel::load(&Checkpoint::open(folder.path()).unwrap(), Dtype::F32, Device::Cpu).unwrap();
    assert!(!model.has_chat_template());
    let set = set(&["afraid"], model.spec.d_model, 4);
    let of = |wrap| Analysis::Implicit(Implicit { situations: vec![situation(DOOR, "afraid")], wrap });
    let error = run(&of(ReadAt::User), &set, &model).unwrap_err().to_string();
    assert!(error.contains("no chat template") && error.contains("wrap = \"raw\""), "{error}");
    assert_eq!(run(&of(ReadAt::Raw), &set, &model).unwrap()[0].1.rows(), 2);
}

/// The experiment that ships, with fewer emotions, stories and strengths.
#[test]
fn the_behaviour_experiment_runs_on_the_demonstration_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs_err::read_to_string(root.join("experiments/behaviour.toml")).unwrap();
    let project = Project::new(&text.replace("\"models/", &format!("\"{}/", root.join("models").display())));
    let sets = [
        "emotions.preset=\"core-9\"",
        "shard=18",
        "analysis.doses.steering.strength=[-1.0, 1.0]",
        "analysis.doses.steering.random=2",
        "analysis.doses.steering.resamples=4",
    ];
    let mut few: Vec<&str> = sets.iter().flat_map(|set| ["--set", set]).collect();
    few.extend(["--limit", "2"]);
    let ran = project.run(&few);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    assert_eq!(project.run(&few).names("ran"), Vec::<&str>::new());
    let page = crate::page(&project.path("results/exp/report.html"));
    for title in ["Situations that name no emotion", "Numbers that grow", "Is the model still coherent?"] {
        assert!(page.contains(title), "{title}");
    }
}
