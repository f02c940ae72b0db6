//! Steering beside nulls, resamples and neutral text, on a tiny random checkpoint, against plain passes with a vector
//! added.

use emoflow::lm::{Batch, Chat, LanguageModel, Layer, LensNorm, Positions, Steer};
use emoflow::stages::analysis::steering::{At, Layers, Steering, Unit};
use emoflow::stages::analysis::{Activations, Analysis, Input, Tables, VectorSet};
use emoflow::stages::statistics::design::Design;
use emoflow::stages::vectors::{self, Center, Denoise, Equal};
use emoflow::store::table::{Column, Table};
use tch::{Kind, Tensor};

use super::stages::{check, load};

const PARAMS: vectors::Params = vectors::Params {
    center: Center::Emotions,
    denoise: Denoise::None,
    normalize: false,
    weights: Equal::Stories,
    tokens: None,
};

fn tiny() -> LanguageModel {
    load("tests/fixtures/llama-gqa")
}

/// Steering of the last block at every position, without nulls and all else.
fn plain() -> Steering {
    Steering {
        prompts: vec!["He feels".into(), "Now she is".into()],
        strength: vec![1.5],
        unit: Unit::Vector,
        layers: Layers::List(vec![Layer::Block(2)]),
        positions: At::All,
        random: 0,
        permuted: 0,
        shuffled: 0,
        topics: 0,
        ask: String::new(),
        together: false,
        write: 0,
        resamples: 0,
        coherence: Vec::new(),
    }
}

/// Activations at layer 2: (emotion, topic, values).
fn activations(rows: &[(&str, &str, Vec<f64>)]) -> Table {
    let some = |text: &str| Some(text.to_string());
    let values = rows.iter().flat_map(|row| row.2.iter().map(|&x| x as f32)).collect();
    Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..rows.len()).map(|row| row.to_string()).collect())),
            ("n_tokens", Column::I32(vec![9; rows.len()])),
            ("emotion", Column::OptStr(rows.iter().map(|row| some(row.0)).collect())),
            ("topic", Column::OptStr(rows.iter().map(|row| some(row.1)).collect())),
            ("layer", Column::I32(vec![2; rows.len()])),
            ("activation", Column::List { width: rows[0].2.len(), values, half: false }),
            ("token_norm", Column::F32(vec![1.0; rows.len()])),
            ("token_norm_rest", Column::F32(vec![1.0; rows.len()])),
        ],
    )
}

/// The tables of steering by the vectors of some activations.
fn steer(params: Steering, model: &LanguageModel, emotions: &[&str], shard: &Table) -> Tables {
    let emotions: Vec<String> = emotions.iter().map(|e| e.to_string()).collect();
    let vectors = vectors::run(&PARAMS, [Ok(shard.clone())], &emotions, None).unwrap();
    let set = &VectorSet::from_tables("tiny", "s", 3, &[vectors]).unwrap();
    let read = |_: usize| Ok(shard.clone());
    let activations = Some(Activations {
        shards: 1,
        read: &read,
        stories: &|_| anyhow::bail!("every story has a topic"),
        params: &PARAMS,
        neutral: None,
    });
    let mut last = (0, 1);
    let progress = &mut |done, of| last = (done, of);
    let tables = Analysis::Steering(params).run(Input {
        set,
        activations,
        reads: None,
        spans: None,
        rollouts: None,
        model: Some(model),
        chat: Chat::default(),
        seed: 4,
        progress,
    });
    assert_eq!(last.0, last.1);
    tables.unwrap()
}

fn table<'a>(tables: &'a Tables, name: &str) -> &'a Table {
    &tables.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no table {name}")).1
}

/// The log-probability of the tokens after the first `prompt` ones, with a vector added after block 2.
fn log_probability(model: &LanguageModel, ids: &[i64], prompt: usize, vector: &[f64]) -> f64 {
    let vector: Vec<f32> = vector.iter().map(|&x| x as f32).collect();
    let vector = Tensor::from_slice(&vector);
    let mut steer = Steer { layer: Layer::Block(2), vector, strength: 1.0, spans: Positions::All.into() };
    let batch = Batch::with_prompts(&[ids], &[prompt]).unwrap();
    let resid = model.forward(&batch, &mut [&mut steer], None).unwrap();
    model.continuation_logprobs(&resid, &batch).unwrap()[0]
}

/// The mean over prompts of what a vector does to a word.
fn effect(model: &LanguageModel, params: &Steering, word: &str, vector: &[f64]) -> f64 {
    let of_prompt = |prompt: &String| {
        let (before, word) = model.encode_continuation(prompt, word).unwrap();
        let ids = [before.clone(), word].concat();
        let at = |vector: &[f64]| log_probability(model, &ids, before.len(), vector);
        at(vector) - at(&vec![0.0; vector.len()])
    };
    params.prompts.iter().map(of_prompt).sum::<f64>() / params.prompts.len() as f64
}

/// Numbers without a pattern.
fn noise(d: usize, seed: usize) -> Vec<f64> {
    (0..d).map(|i| 0.3 * ((i * 37 + seed * 101) as f64).sin()).collect()
}

#[test]
fn labels_that_cannot_be_shuffled_give_the_vector_itself() {
    let model = tiny();
    let d = model.spec.d_model;
    // Each topic has stories of one emotion alone.
    let shard =
        activations(&[("happy", "t", noise(d, 1)), ("sad", "u", noise(d, 2)), ("sad", "u", noise(d, 3))]);
    let tables = steer(Steering { shuffled: 2, ..plain() }, &model, &["happy", "sad"], &shard);
    let rows = table(&tables, "steering");
    let (steered, measured) = (rows.str("steered").unwrap(), rows.str("measured").unwrap());
    let deltas = |name: &str, word: &str| -> Vec<f64> {
        let here = (0..rows.rows()).filter(|&row| steered[row] == name && measured[row] == word);
        here.map(|row| rows.f64("delta").unwrap()[row]).collect()
    };
    for word in ["happy", "sad"] {
        let own = deltas(word, word);
        assert!(own.len() == 2 && own[0].abs() > 0.05, "{own:?}");
        check(&deltas("shuffled-1", word), &own, 1e-3, "shuffled-1");
        check(&deltas("shuffled-2", word), &own, 1e-3, "shuffled-2");
    }
}

/// What a topic's vector does, at the length of the emotion's whose word is measured.
#[test]
fn topics_steer_by_vectors_of_their_own() {
    let model = tiny();
    let d = model.spec.d_model;
    let topics = ["t", "u", "v", "w", "x"];
    let story = |(at, topic)| [("happy", topic, noise(d, at + 1)), ("sad", topic, noise(d, at + 11))];
    let rows: Vec<_> = topics.into_iter().enumerate().flat_map(story).collect();
    let params = Steering { topics: 19, ..plain() };
    let tables = steer(params.clone(), &model, &["happy", "sad"], &activations(&rows));
    let found = table(&tables, "steering");
    let (steered, measured) = (found.str("steered").unwrap(), found.str("measured").unwrap());
    let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mean = |of: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        (0..d).map(|i| (0..5).map(|t| of(t, i)).sum::<f64>() / 5.0).collect()
    };
    let half = mean(&|t, i| (rows[2 * t].2[i] - rows[2 * t + 1].2[i]) / 2.0);
    let all = mean(&|t, i| (rows[2 * t].2[i] + rows[2 * t + 1].2[i]) / 2.0);
    for (at, word) in [(0, "happy"), (3, "sad")] {
        let vector: Vec<f64> =
            (0..d).map(|i| (rows[2 * at].2[i] + rows[2 * at + 1].2[i]) / 2.0 - all[i]).collect();
        let scale = params.strength[0] * norm(&half) / norm(&vector);
        let want = effect(&model, &params, word, &vector.iter().map(|x| scale * x).collect::<Vec<_>>());
        let name = format!("topic-{}", at + 1);
        let here = (0..found.rows()).filter(|&row| steered[row] == name && measured[row] == word);
        let deltas: Vec<f64> = here.map(|row| found.f64("delta").unwrap()[row]).collect();
        check(&[deltas.iter().sum::<f64>() / deltas.len() as f64], &[want], 1e-3, &name);
    }
    assert_eq!(steered.iter().filter(|name| name.starts_with("topic-")).count(), 2 * 2 * 5);
    // Of four topics there is none, and it is said.
    let tables =
        steer(Steering { random: 1, ..params.clone() }, &model, &["happy", "sad"], &activations(&rows[..8]));
    assert!(
        table(&tables, "steering").str("steered").unwrap().iter().all(|name| !name.starts_with("topic-"))
    );
    let figures = Analysis::Steering(Steering { random: 1, ..params }).figures("causes", &tables).unwrap();
    let evidence = figures.iter().find(|figure| figure.name == "causes-evidence").unwrap();
    assert!(evidence.caption.contains("fewer than five topics"), "{}", evidence.caption);
}

#[test]
fn intervals_are_those_of_vectors_of_resampled_topics() {
    let model = tiny();
    let d = model.spec.d_model;
    let topics = ["t", "u", "v", "w", "x"];
    let story = |(at, topic)| [("happy", topic, noise(d, at + 1)), ("sad", topic, noise(d, at + 11))];
    let rows: Vec<_> = topics.into_iter().enumerate().flat_map(story).collect();
    let params = Steering { resamples: 41, ..plain() };
    let tables = steer(params.clone(), &model, &["happy", "sad"], &activations(&rows));
    let intervals = table(&tables, "steering_interval");
    assert_eq!(intervals.str("emotion").unwrap(), ["happy", "sad"]);
    assert_eq!(intervals.i32("resamples").unwrap(), [41, 41]);
    assert_eq!(intervals.i32("topics").unwrap(), [5, 5]);
    // The same draws: of 41 the second smallest and the second largest lie at the ends.
    let design = Design::new(2, vec![1.0; 10], String::new(), 4);
    for (word, sign) in [("happy", 1.0), ("sad", -1.0)] {
        let effects = (0..41).map(|number| {
            let weights = design.drawn(number).unwrap();
            let entry = |i: usize| {
                let apart = |topic: usize| rows[2 * topic].2[i] - rows[2 * topic + 1].2[i];
                let sum: f64 = (0..5).map(|topic| f64::from(weights[topic]) * apart(topic)).sum();
                // Minus the mean over the two emotions: half of their difference.
                params.strength[0] * sign * sum / 5.0 / 2.0
            };
            effect(&model, &params, word, &(0..d).map(entry).collect::<Vec<_>>())
        });
        let mut effects: Vec<f64> = effects.collect();
        effects.sort_by(f64::total_cmp);
        let row = usize::from(word == "sad");
        let found = [intervals.f64("low").unwrap()[row], intervals.f64("high").unwrap()[row]];
        assert!(effects[39] - effects[1] > 0.01, "{effects:?}");
        // Shifted so that their mean is the effect of all topics.
        let rows = table(&tables, "steering");
        let (steered, measured) = (rows.str("steered").unwrap(), rows.str("measured").unwrap());
        let own = (0..rows.rows()).filter(|&row| steered[row] == word && measured[row] == word);
        let own: Vec<f64> = own.map(|row| rows.f64("delta").unwrap()[row]).collect();
        let own = own.iter().sum::<f64>() / own.len() as f64;
        let shift = own - effects.iter().sum::<f64>() / 41.0;
        check(&found, &[effects[1] + shift, effects[39] + shift], 1e-3, word);
        assert!(found[0] < own && own < found[1]);
    }
    // Of four topics there is none.
    let tables = steer(params, &model, &["happy", "sad"], &activations(&rows[..8]));
    assert!(tables.iter().all(|(name, _)| name != "steering_interval"));
}

#[test]
fn neutral_text_is_as_likely_as_the_model_says_with_the_vector_added() {
    let model = tiny();
    let d = model.spec.d_model;
    let shard = activations(&[("happy", "t", noise(d, 1)), ("sad", "t", noise(d, 2))]);
    let texts = ["The drawer holds the screws and the nails.", "Rain fell."].map(String::from);
    let params = Steering { strength: vec![-2.0, 1.0], coherence: texts.to_vec(), ..plain() };
    let tables = steer(Steering { random: 7, ..params }, &model, &["happy", "sad"], &shard);
    let read = table(&tables, "steering_coherence");
    // Of seven random directions five are read under.
    assert_eq!(read.rows(), 2 * (2 + 5));
    let mean = |vector: &[f64]| {
        let ids: Vec<Vec<i64>> = texts.iter().map(|text| model.encode(text).unwrap().ids).collect();
        let n: usize = ids.iter().map(|ids| ids.len() - 1).sum();
        ids.iter().map(|ids| log_probability(&model, ids, 1, vector)).sum::<f64>() / n as f64
    };
    for (row, strength, sign) in [(0, -2.0, 1.0), (1, -2.0, -1.0), (7, 1.0, 1.0), (8, 1.0, -1.0)] {
        let half = noise(d, 1).into_iter().zip(noise(d, 2)).map(|(a, b)| strength * sign * (a - b) / 2.0);
        let wanted = [mean(&vec![0.0; d]), mean(&half.collect::<Vec<_>>())];
        let of = |column: &str| read.f64(column).unwrap()[row];
        check(&[of("baseline_logprob"), of("steered_logprob")], &wanted, 1e-5, "neutral text");
        assert!((of("delta") - (wanted[1] - wanted[0])).abs() < 1e-4);
    }
}

#[test]
fn a_planted_direction_is_beyond_every_null_and_one_the_wrong_way_round_is_not() {
    let model = tiny();
    let d = model.spec.d_model;
    let words = ["happy", "sad", "angry", "calm", "afraid", "loving"];
    // Rows of the unembedding: `[d_vocab, d_model]`.
    let eye = Tensor::eye(d as i64, (Kind::Float, tch::Device::Cpu));
    let unembed = model.unembed_direction(&eye, LensNorm::None).transpose(0, 1);
    let planted = |word: &str| {
        let (_, ids) = model.encode_continuation("He feels", word).unwrap();
        let rows = unembed.index_select(0, &Tensor::from_slice(&ids));
        let sum = rows.sum_dim_intlist(0, false, Kind::Double);
        Vec::<f64>::try_from(&sum / sum.norm()).unwrap()
    };
    let mut rows = Vec::new();
    let topics = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"];
    for (t, topic) in topics.into_iter().enumerate() {
        for (w, word) in words.into_iter().enumerate() {
            let sign = if word == "loving" { -2.0 } else { 2.0 };
            let values = planted(word).into_iter().zip(noise(d, t * 10 + w));
            rows.push((word, topic, values.map(|(own, x)| sign * own + 0.3 * x).collect()));
        }
    }
    let nulls = Steering { random: 39, permuted: 39, shuffled: 39, strength: vec![-1.0, 1.0], ..plain() };
    let steering = Analysis::Steering(nulls.clone());
    let tables = steer(nulls, &model, &words, &activations(&rows));
    let figures = steering.figures("causes", &tables).unwrap();
    let evidence = figures.iter().find(|figure| figure.name == "causes-evidence-1").unwrap();
    let emoflow::report::figure::Body::Table(table) = &evidence.body else { panic!() };
    assert_eq!(table.columns, ["emotion", "change, nats", "p, random", "p, permuted", "p, shuffled", "q"]);
    let least = |row: usize| {
        // p = 1 / 40 five times, and one above: q = .03.
        table.rows[row][2..]
            .iter()
            .all(|cell| matches!(cell, emoflow::report::figure::Cell::Number(p, _) if *p < 0.0301))
    };
    assert!((0..5).all(least), "{:?}", table.rows);
    assert!(!least(5), "{:?}", table.rows[5]);
    assert!(evidence.caption.contains("5 of 6 emotions"), "{}", evidence.caption);
}
