//! Preferences of the demonstration model: batches, spans, and the contents of the tables.

use std::path::Path;

use tch::{Device, Tensor};

use super::asking::Answer;
use super::*;
use crate::lm::{Batch, Chat, Checkpoint, Dtype, Hook, LanguageModel, Spans, Steer};
use crate::stages::analysis::VectorSet;
use crate::stages::statistics::draws::Draws;
use crate::store::table::{Column, Table};

const LAYER: Layer = Layer::Block(2);

fn model() -> LanguageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    LanguageModel::load(&Checkpoint::open(&folder).unwrap(), Dtype::F32, Device::Cpu).unwrap()
}

fn params(steer: Option<Steered>) -> Preferences {
    Preferences {
        activities: Source(None),
        list: activities::shipped("activities-16").unwrap(),
        question: "Which? (A) {a} (B) {b}".into(),
        answer: "(".into(),
        feeling: "How about this: {activity}?".into(),
        wrap: Ask::User,
        hard: false,
        layers: Layers::Default,
        bootstrap: 100,
        permutations: 99,
        steer,
    }
}

fn set(d_model: usize) -> VectorSet {
    let emotions = ["happy", "sad", "calm", "angry"].map(String::from).to_vec();
    let mut draws = Draws::new("preferences test", &[1]);
    let vectors: Vec<f64> = (0..4 * d_model).map(|_| draws.normal()).collect();
    let layer = LayerVectors {
        layer: LAYER,
        emotions,
        d_model,
        raw: vectors.clone(),
        vectors,
        n_stories: vec![1; 4],
        resid_norm: 20.0,
    };
    VectorSet { model: "demo".into(), stories: "own".into(), n_layers: 4, layers: vec![layer] }
}

/// The same question by itself, with a vector added to one of the two activities by a separate hook.
fn alone(model: &LanguageModel, question: &asking::Question, steered: Option<(usize, &[f32])>) -> f64 {
    let mut hook = steered.map(|(which, vector)| Steer {
        layer: LAYER,
        vector: Tensor::from_slice(vector),
        strength: 1.0,
        spans: Spans::Each(vec![vec![question.spans[which].clone()]]),
    });
    let mut hooks: Vec<&mut dyn Hook> = hook.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
    let resid = model.forward(&Batch::new(&[&question.ids]).unwrap(), &mut hooks, None).unwrap();
    let last = resid.get(0).narrow(0, question.ids.len() as i64 - 1, 1);
    let logits = Vec::<f32>::try_from(model.logits(&last).reshape(-1)).unwrap();
    let letter = |letter: &str| {
        let ids = model.encode(letter).unwrap();
        logits[ids.ids[ids.text.start] as usize]
    };
    f64::from(letter("A")) - f64::from(letter("B"))
}

#[test]
fn answers_in_batches_are_those_of_each_question_by_itself() {
    let (model, params) = (model(), params(None));
    let questions = Questions::new(&params, &model, Chat::default()).unwrap();
    assert_eq!(questions.all.len(), 16 * 15);
    let decode = |ids: &[i64]| model.decode(ids).unwrap();
    for question in &questions.all {
        for (of, span) in question.of.iter().zip(&question.spans) {
            assert_eq!(decode(&question.ids[span.clone()]).trim(), params.list[*of].activity);
        }
    }
    let every: Vec<usize> = (0..questions.all.len()).collect();
    let nothing = (None, &[][..], Positions::All.into());
    let answers: Vec<Answer> = questions.answers(&model, &every, nothing, &mut |_, _| {}).unwrap().remove(0);
    // With our own kernels a row has the same bits whatever the other rows of the batch are.
    let exact = matches!(model.decoder().backend(), crate::lm::Backend::Own(..));
    let bound = if exact { 0.0 } else { 1e-4 };
    for (question, answer) in questions.all.iter().zip(&answers).step_by(7) {
        assert!((alone(&model, question, None) - answer.logit).abs() <= bound);
        assert!(answer.mass > 0.0 && answer.mass < 1.0);
    }
    // Two vectors in one pass, added to the first activity's tokens only.
    let vectors: Vec<Vec<f32>> =
        [3.0, -5.0].iter().map(|x| (0..192).map(|i| x * (i as f32).sin()).collect()).collect();
    let asked = [5, 100, 17];
    let spans = Spans::Each(asked.iter().map(|&at| vec![questions.all[at].spans[0].clone()]).collect());
    let steered = (Some(LAYER), vectors.as_slice(), spans);
    let found = questions.answers(&model, &asked, steered, &mut |_, _| {}).unwrap();
    for (vector, found) in vectors.iter().zip(&found) {
        for (&at, answer) in asked.iter().zip(found) {
            let wanted = alone(&model, &questions.all[at], Some((0, vector)));
            assert!((wanted - answer.logit).abs() <= bound, "{wanted} {answer:?}");
            assert_ne!(answer.logit, answers[at].logit);
        }
    }
    let pairs = questions.pairs(&every, &answers);
    assert_eq!(pairs.len(), 16 * 15 / 2);
    assert!(questions.pairs(&every[..1], &answers[..1]).is_empty(), "both orders");
}

#[test]
fn the_tables_hold_every_activity_emotion_and_split() {
    let model = model();
    let steer = Steered {
        emotions: vec!["happy".into(), "angry".into()],
        strength: vec![0.5, -0.5],
        splits: 2,
        random: 3,
    };
    let params = params(Some(steer));
    let set = set(model.spec.d_model);
    let run = |progress: &mut dyn FnMut(usize, usize)| {
        let input = Input {
            set: &set,
            activations: None,
            reads: None,
            spans: None,
            rollouts: None,
            model: Some(&model),
            chat: Chat::default(),
            seed: 4,
            progress: &mut |done, of| progress(done, of),
        };
        params.run(input).unwrap()
    };
    let mut last = (0, 0);
    let tables = run(&mut |done, of| {
        assert!(done >= last.0 && done <= of, "{done} of {of} after {last:?}");
        last = (done, of);
    });
    assert_eq!(last.0, last.1);
    let rows: Vec<(&str, usize)> = tables.iter().map(|(name, table)| (name.as_str(), table.rows())).collect();
    let wanted = [
        ("preferences", 4),
        ("preferences_activities", 16),
        ("preferences_pairs", 240),
        ("preferences_readings", 64),
        ("preferences_steered", (2 + 3) * 2 * 2 * 2),
        ("preferences_elo", 2 * 2 * 16),
    ];
    assert_eq!(rows, wanted);
    assert!(tables[0].1.opt_f64("r_beyond").unwrap().iter().all(|r| r.is_some_and(|r| r.abs() <= 1.0)));
    let elo = tables[1].1.f64("elo").unwrap();
    assert!(
        (elo.iter().sum::<f64>() / 16.0 - 1500.0).abs() < 1e-6
            && elo.iter().any(|x| (x - 1500.0).abs() > 1.0)
    );
    assert!(tables[4].1.f64("shift").unwrap().iter().all(|x| x.abs() > 1e-6), "something moves");
    assert_eq!(run(&mut |_, _| {}), tables, "the same again");
    assert!(!params.figures("likes", &tables).unwrap().is_empty());
    let claims = params.claims(&tables).unwrap();
    let has = |what: &str| claims.iter().any(|claim| claim.what == what);
    assert!(has("r of happy") && has("r of calm within categories") && has("shift by angry at -0.5"));
}

/// Whether an emotion's readings of activities and its effect on preferences are related: the correlation over
/// emotions, compared with its definition.
#[test]
fn shifts_are_correlated_with_r_over_emotions() {
    let names: Vec<String> = (0..7).map(|number| format!("e{number}")).collect();
    let r = [0.9, 0.5, 0.1, -0.3, -0.6, -0.8, 0.2];
    let with = |shifts: [f64; 7]| {
        let place = |rows: usize| {
            vec![
                ("model", Column::Str(vec!["m".into(); rows])),
                ("stories", Column::Str(vec!["s".into(); rows])),
                ("layer", Column::I32(vec![2; rows])),
            ]
        };
        let (same, none) = (Column::F64(vec![0.5; 7]), Column::OptF64(vec![None; 7]));
        let mut correlated = place(7);
        correlated.extend([("emotion", Column::Str(names.clone())), ("r", Column::F64(r.to_vec()))]);
        for name in ["p", "p_max", "r_within", "p_within", "p_within_max", "r_between"] {
            correlated.push((name, same.clone()));
        }
        correlated.extend(["low", "high", "r_beyond", "p_beyond"].map(|name| (name, none.clone())));
        // Two halves, whose mean is the shift.
        let mut moved = place(14);
        let twice = |of: &dyn Fn(usize, f64) -> f64| {
            Column::F64([-1.0, 1.0].iter().flat_map(|side| (0..7).map(|at| of(at, *side))).collect())
        };
        moved.extend([
            ("steered", Column::Str(names.iter().chain(&names).cloned().collect())),
            ("strength", twice(&|_, _| 0.1)),
            ("shift", twice(&|at, side| shifts[at] + 5.0 * side)),
            ("slope", twice(&|_, _| 1.0)),
        ]);
        let tables = vec![
            ("preferences".to_string(), Table::new("preferences/2", correlated)),
            ("preferences_steered".to_string(), Table::new("preferences_steered/1", moved)),
        ];
        let claims = params(None).claims(&tables).unwrap();
        let claim = claims.into_iter().find(|claim| claim.what == "r of r and shift at 0.1").unwrap();
        (claim.estimate, claim.p().unwrap())
    };
    let (line, p) = with(r.map(|r| 30.0 - 80.0 * r));
    assert!((line + 1.0).abs() < 1e-12 && p <= 0.01, "{line} {p}");
    let (other, p) = with([3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0]);
    // numpy.corrcoef([.9, .5, .1, -.3, -.6, -.8, .2], [3, -1, 4, 1, -5, 9, 2])
    assert!((other - -0.095195275).abs() < 1e-6 && p > 0.5, "{other} {p}");
}
