//! Stages against NumPy on random numbers, and their laws on a tiny random checkpoint.

use std::path::Path;

use emoflow::lm::tokenizer::Ending;
use emoflow::lm::{
    Batch, Chat, Checkpoint, Dtype, Hook, LanguageModel, Layer, Message, Positions, Role, Spans, Steer,
};
use emoflow::stages::activations::{self, Long, Short, StoreDtype, Wrap};
use emoflow::stages::analysis::steering::{At, Layers, Steering, Unit};
use emoflow::stages::analysis::{Analysis, Input, LayerVectors, VectorSet, cosine::Cosine, pca::Pca};
use emoflow::stages::stories::{self, Generate, Item, Reject, Story, generate, writing};
use emoflow::stages::vectors::{self, Center, Denoise, Equal};
use emoflow::store::table::{Column, Table};
use serde_json::Value;
use std::ops::Range;
use tch::{Device, Tensor};

/// The checkpoint in a folder of the project, in fp32 on the CPU.
pub fn load(folder: &str) -> LanguageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    LanguageModel::load(&Checkpoint::open(&folder).unwrap(), Dtype::F32, Device::Cpu).unwrap()
}

fn tiny() -> LanguageModel {
    load("tests/fixtures/llama-gqa")
}

/// The numbers of a JSON array of any depth, in order.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        value => vec![value.as_f64().unwrap()],
    }
}

/// Whether `got` is `want` within `tolerance` times the largest of `want`.
pub fn check(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    let scale = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    for (at, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tolerance * scale, "{what}, entry {at}: {g} is not {w} (largest: {scale})");
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&x| f64::from(x)).collect()
}

fn activations_table(rows: &[(Option<&str>, Vec<f32>)], d_model: usize) -> Table {
    Table::new(
        "activations/1",
        vec![
            ("emotion", Column::OptStr(rows.iter().map(|r| r.0.map(String::from)).collect())),
            ("topic", Column::OptStr(vec![None; rows.len()])),
            ("layer", Column::I32(vec![2; rows.len()])),
            (
                "activation",
                Column::List {
                    width: d_model,
                    values: rows.iter().flat_map(|r| r.1.clone()).collect(),
                    half: false,
                },
            ),
            ("token_norm", Column::F32(vec![1.0; rows.len()])),
            ("token_norm_rest", Column::F32(vec![0.5; rows.len()])),
        ],
    )
}

#[test]
fn vectors_components_pca_and_cosines_agree_with_numpy() {
    let golden: Value = serde_json::from_str(include_str!("../e2e/goldens.json")).unwrap();
    let d_model = golden["d_model"].as_u64().unwrap() as usize;
    let row = |value: &Value| numbers(value).iter().map(|&x| x as f32).collect::<Vec<f32>>();
    let emotions = ["a", "b", "c", "d"].map(String::from);
    let mut stories = Vec::new();
    for (emotion, rows) in emotions.iter().zip(golden["stories"].as_array().unwrap()) {
        stories.extend(rows.as_array().unwrap().iter().map(|r| (Some(emotion.as_str()), row(r))));
    }
    // In two shards, the second of which starts in the middle of an emotion.
    let shards = [activations_table(&stories[..6], d_model), activations_table(&stories[6..], d_model)];
    let neutral: Vec<_> = golden["neutral"].as_array().unwrap().iter().map(|r| (None, row(r))).collect();
    let denoise = Denoise::Variance(golden["variance"].as_f64().unwrap());
    let params = vectors::Params {
        center: Center::Emotions,
        denoise,
        normalize: false,
        weights: Equal::Stories,
        tokens: None,
    };

    let neutral = vectors::neutral(&params, &[activations_table(&neutral, d_model)]).unwrap();
    let removed = neutral.bool("removed").unwrap().iter().filter(|r| **r).count();
    assert_eq!(removed as u64, golden["removed"].as_u64().unwrap());
    check(
        &wide(neutral.f32("explained_variance_ratio").unwrap()),
        &numbers(&golden["neutral_ratio"]),
        1e-6,
        "ratios",
    );
    check(
        &wide(neutral.list("direction").unwrap().1),
        &numbers(&golden["neutral_direction"]),
        1e-6,
        "directions",
    );

    let table = vectors::run(&params, shards.map(Ok), &emotions, Some(&neutral)).unwrap();
    check(&wide(table.list("raw").unwrap().1), &numbers(&golden["raw"]), 1e-6, "raw");
    check(&wide(table.list("vector").unwrap().1), &numbers(&golden["vector"]), 1e-6, "vectors");
    check(
        &wide(&table.f32("pooled_norm").unwrap()[..1]),
        &numbers(&golden["resid_norm"]),
        1e-6,
        "pooled_norm",
    );

    let set = VectorSet::from_tables("m", "s", 4, &[table]).unwrap();
    let run = |analysis: Analysis| {
        let progress = &mut |_: usize, _: usize| {};
        analysis
            .run(Input {
                set: &set,
                activations: None,
                reads: None,
                spans: None,
                rollouts: None,
                model: None,
                chat: Chat::default(),
                seed: 0,
                progress,
            })
            .unwrap()
    };
    let pca = run(Analysis::Pca(Pca { components: 3 }));
    check(pca[0].1.f64("score").unwrap(), &numbers(&golden["pca_score"]), 1e-5, "scores");
    check(
        pca[1].1.f64("explained_variance_ratio").unwrap(),
        &numbers(&golden["pca_ratio"]),
        1e-5,
        "pca ratios",
    );
    let cosines = run(Analysis::Cosine(Cosine { pairs: vec![] }));
    check(cosines[0].1.f64("cosine").unwrap(), &numbers(&golden["cosine"]), 1e-6, "cosines");
}

fn story(emotion: &str, index: usize, text: &str) -> Story {
    Story {
        story_id: stories::story_id(Some(emotion), None, index, text),
        emotion: Some(emotion.into()),
        other: None,
        topic: Some("t".into()),
        index,
        text: text.into(),
        writer: "file".into(),
        prompt: None,
        seed: None,
        rejected: 0,
    }
}

fn some_stories() -> Table {
    let texts =
        ["Rain fell.", "She ran home, laughing all the way.", "No.", "He sat by the window.", "It was late."];
    stories::table(&texts.iter().enumerate().map(|(i, text)| story("sad", i, text)).collect::<Vec<_>>())
}

fn params(batch_tokens: usize) -> activations::Params {
    let (wrap, short, long, store_dtype) = (Wrap::Raw, Short::Skip, Long::Error, StoreDtype::F32);
    activations::Params { from_token: 2, wrap, short, long, batch_tokens: Some(batch_tokens), store_dtype }
}

fn activate(params: &activations::Params, layers: &[Layer], model: &LanguageModel) -> Vec<Table> {
    let read =
        activations::read(params, Chat::default(), &some_stories(), model.tokenizer(), model.spec.context)
            .unwrap();
    activations::run(params, layers, &read.rows, model, &mut |_: usize, _: usize| {}).unwrap()
}

fn values(table: &Table) -> Vec<f64> {
    wide(table.list("activation").unwrap().1)
}

#[test]
fn batches_and_layers_asked_for_change_no_activation() {
    let model = tiny();
    let all = activate(&params(8192), &[0, 2].map(Layer::Block), &model);
    for batch_tokens in [1, 60] {
        let other = activate(&params(batch_tokens), &[2, 0].map(Layer::Block), &model);
        check(&values(&other[1]), &values(&all[0]), 1e-5, "layer 0");
        check(&values(&other[0]), &values(&all[1]), 1e-5, "layer 2");
        assert_eq!(other[0].str("story_id").unwrap(), all[0].str("story_id").unwrap());
    }
    assert_eq!(all[1].i32("layer").unwrap(), vec![2; all[1].rows()]);
    // Rows stay in the stories' order, whatever their lengths.
    let order = stories::rows(&some_stories()).unwrap();
    let kept: Vec<_> = order.iter().map(|s| s.story_id.clone()).collect();
    assert!(
        kept.iter()
            .filter(|id| all[0].str("story_id").unwrap().contains(id))
            .eq(all[0].str("story_id").unwrap())
    );
}

/// Two rows of one batch with the same tokens may differ in the last bits; these do not, as they are one row.
#[test]
fn stories_that_are_alike_have_the_same_activation() {
    let model = tiny();
    let texts = ["It rained all day long.", "She ran home, laughing.", "It rained all day long.", "He sat."];
    let run = |emotions: &[&str], texts: &[&str]| {
        let stories: Vec<Story> =
            texts.iter().zip(emotions).enumerate().map(|(i, (text, of))| story(of, i, text)).collect();
        let (params, stories) = (params(40), stories::table(&stories));
        let read =
            activations::read(&params, Chat::default(), &stories, model.tokenizer(), model.spec.context)
                .unwrap();
        let mut done = Vec::new();
        let mut at = |n: usize, of: usize| done.push((n, of));
        let tables = activations::run(&params, &[Layer::Block(1)], &read.rows, &model, &mut at).unwrap();
        assert_eq!(done.last(), Some(&(texts.len(), texts.len())));
        let width = model.spec.d_model;
        let of_story = |text: &str, emotion: &str| {
            let id = &story(emotion, texts.iter().position(|t| *t == text).unwrap(), text).story_id;
            let row = tables[0].str("story_id").unwrap().iter().position(|kept| kept == id).unwrap();
            values(&tables[0])[row * width..][..width].to_vec()
        };
        (of_story(texts[0], emotions[0]), tables[0].rows(), values(&tables[0]))
    };
    let emotions = ["sad", "happy", "happy", "sad"];
    let (one, rows, all) = run(&emotions, &texts);
    assert_eq!(rows, 4);
    assert_eq!(all.chunks(model.spec.d_model).filter(|row| **row == one[..]).count(), 2);
    let (alone, _, _) = run(&emotions[..1], &texts[..1]);
    check(&one, &alone, 1e-5, "alone");
}

#[test]
fn pooled_tokens_are_the_texts_own_from_the_first_wanted_on() {
    let model = tiny();
    let raw = activate(&params(8192), &[1].map(Layer::Block), &model);
    let texts = stories::rows(&some_stories()).unwrap();
    let lengths: Vec<usize> = texts.iter().map(|s| model.encode(&s.text).unwrap().text.len()).collect();
    let pooled: Vec<i32> = lengths.iter().filter(|n| **n > 2).map(|n| *n as i32 - 2).collect();
    assert_eq!(raw[0].i32("n_tokens").unwrap(), pooled);
    // In a chat template the same tokens are pooled, but they mean something else.
    let wrapped =
        activate(&activations::Params { wrap: Wrap::User, ..params(8192) }, &[1].map(Layer::Block), &model);
    assert_eq!(wrapped[0].i32("n_tokens").unwrap(), pooled);
    assert_ne!(values(&wrapped[0]), values(&raw[0]));

    let deep = activations::Params { from_token: 1000, ..params(8192) };
    let none = activate(&deep, &[1].map(Layer::Block), &model);
    assert_eq!((none[0].rows(), none[0].list("activation").unwrap().0), (0, model.spec.d_model));
    let error = activations::Params { short: Short::Error, ..deep.clone() };
    let error =
        activations::read(&error, Chat::default(), &some_stories(), model.tokenizer(), 99).err().unwrap();
    assert!(format!("{error:#}").contains("Rain fell."), "{error:#}");
    let whole =
        activate(&activations::Params { short: Short::Whole, ..deep }, &[1].map(Layer::Block), &model);
    assert_eq!(whole[0].i32("n_tokens").unwrap(), lengths.iter().map(|n| *n as i32).collect::<Vec<_>>());
}

#[test]
fn what_is_read_of_a_cut_text_is_the_mean_of_its_tokens_within_the_context() {
    let model = tiny();
    let (from, context) = (2, 7);
    let params = activations::Params { from_token: from, long: Long::Cut, ..params(8192) };
    let stories = some_stories();
    let read = activations::read(&params, Chat::default(), &stories, model.tokenizer(), context).unwrap();
    let exceptions = &read.exceptions;
    let texts: Vec<Story> = stories::rows(&stories).unwrap();
    let mut cut = 0;
    let last = Layer::Block(model.spec.n_layers() - 1);
    let found = activations::run(&params, &[last], &read.rows, &model, &mut |_: usize, _: usize| {}).unwrap();
    for (at, id) in found[0].str("story_id").unwrap().iter().enumerate() {
        let story = texts.iter().find(|story| story.story_id == *id).unwrap();
        let tokens = model.encode(&story.text).unwrap();
        let end = tokens.text.end.min(context);
        let batch = Batch::new(&[&tokens.ids[..tokens.ids.len().min(context)]]).unwrap();
        let resid = model.forward(&batch, &mut [], Some(last)).unwrap().get(0);
        let first = (tokens.text.start + from) as i64;
        let mean = resid.narrow(0, first, end as i64 - first).mean_dim(Some([0i64].as_slice()), false, None);
        let width = model.spec.d_model;
        let mean = Vec::<f32>::try_from(mean).unwrap();
        check(&values(&found[0])[at * width..][..width], &wide(&mean), 1e-5, &story.text);
        if tokens.ids.len() > context {
            let row = exceptions.str("story_id").unwrap().iter().position(|other| other == id).unwrap();
            assert_eq!(exceptions.str("what").unwrap()[row], "cut");
            assert_eq!(exceptions.i32("n_tokens").unwrap()[row] as usize, tokens.ids.len());
            cut += 1;
        }
    }
    assert!(cut > 0 && cut < found[0].rows(), "{cut} of {} are cut", found[0].rows());
    assert!(!exceptions.str("what").unwrap().contains(&"long".to_string()));
}

fn generation(min_tokens: usize, attempts: usize) -> Generate {
    Generate {
        topics: vec!["rain".into(), "bread".into()],
        per_topic: 2,
        max_new_tokens: 12,
        temperature: 1.0,
        top_p: 0.9,
        top_k: 0,
        prompt: "Write about {topic}: {emotion}.".into(),
        system: "Be brief.".into(),
        several: None,
        reject: Reject {
            names_emotion: true,
            min_tokens,
            attempts,
            refusals: true,
            near_duplicate: None,
            cut: false,
        },
    }
}

fn write(params: &Generate, items: &[Item], run: u64, model: &LanguageModel) -> Vec<Story> {
    let seeds = writing::Seeds { run, writer: "w".into() };
    let mut last = (0, 0);
    let mut at = |done: usize, of: usize| last = (done, of);
    let written = generate::run(params, items, model, Chat::default(), "tiny", &seeds, &mut at).unwrap();
    assert_eq!(last, (items.len(), items.len()));
    stories::rows(&written.stories).unwrap()
}

#[test]
fn written_stories_depend_on_their_seeds_alone() {
    let model = tiny();
    let params = generation(1, 3);
    let items = writing::items(&params, Some(&["sad".into(), "calm".into()]));
    let first = write(&params, &items, 0, &model);
    assert_eq!(first.len(), 8);
    assert_eq!(first, write(&params, &items, 0, &model));
    assert_ne!(first, write(&params, &items, 1, &model));
    // In another order and company the texts are the same.
    let reversed: Vec<Item> = items[3..].iter().rev().cloned().collect();
    let mut other = write(&params, &reversed, 0, &model);
    other.reverse();
    assert_eq!(other, first[3..]);
    assert_eq!(first[2].prompt.as_deref(), Some("Write about bread: sad."));
    assert!(first.iter().all(|s| s.writer == "tiny" && s.text == s.text.trim()));
}

#[test]
fn refused_stories_are_written_again_and_given_up_after_the_last_attempt() {
    let model = tiny();
    let items = writing::items(&generation(0, 1), Some(&["sad".into()]));
    let once = write(&generation(0, 1), &items, 0, &model);
    let lengths: Vec<usize> = once.iter().map(|s| model.encode(&s.text).unwrap().text.len()).collect();
    let bound = *lengths.iter().max().unwrap();
    // As long as the longest of the first attempt: that one passes at once, the others are tried again.
    let again = write(&generation(bound, 6), &items, 0, &model);
    for story in &again {
        assert!(model.encode(&story.text).unwrap().text.len() >= bound);
        let at = once.iter().position(|s| (&s.topic, s.index) == (&story.topic, story.index));
        let passed = at.is_some_and(|at| lengths[at] >= bound);
        assert_eq!(story.rejected == 0, passed);
        assert_eq!(at.is_some_and(|at| once[at].seed == story.seed), passed);
    }
    assert!(!again.is_empty());
    assert!(write(&generation(1000, 2), &items, 0, &model).is_empty());
}

/// Two vectors of random numbers at two layers of the tiny model.
fn vector_set(model: &LanguageModel) -> VectorSet {
    let d_model = model.spec.d_model;
    let layer = |layer: usize| {
        let entry = |i: usize| 0.3 * ((i * 37 + layer * 11) as f64).sin();
        let vectors: Vec<f64> = (0..2 * d_model).map(entry).collect();
        let emotions = ["happy", "sad"].map(String::from).to_vec();
        let raw = vectors.clone();
        let layer = Layer::Block(layer);
        LayerVectors { layer, emotions, d_model, vectors, raw, n_stories: vec![3; 2], resid_norm: 5.0 }
    };
    VectorSet { model: "tiny".into(), stories: "s".into(), n_layers: 3, layers: vec![layer(1), layer(2)] }
}

/// Tokens of a text one by one are what they are in the whole text.
#[test]
fn single_tokens_are_those_of_the_whole_text() {
    let model = tiny();
    let params = activations::Params { short: Short::Whole, ..params(512) };
    let read = || {
        activations::read(&params, Chat::default(), &some_stories(), model.tokenizer(), model.spec.context)
            .unwrap()
    };
    let layers = [Layer::Block(2)];
    let run = |read: activations::Read| {
        activations::run(&params, &layers, &read.rows, &model, &mut |_: usize, _: usize| {})
            .unwrap()
            .remove(0)
    };
    // All of them: their mean is the text's.
    let (whole, all) = (run(read()), run(read().one_by_one(1000)));
    let (d, means) = whole.list("activation").unwrap();
    let (ids, values) = (all.str("story_id").unwrap(), all.list("activation").unwrap().1);
    for (text, (id, want)) in whole.str("story_id").unwrap().iter().zip(means.chunks_exact(d)).enumerate() {
        let own: Vec<&[f32]> =
            ids.iter().zip(values.chunks_exact(d)).filter(|(of, _)| *of == id).map(|(_, v)| v).collect();
        assert_eq!(own.len(), whole.i32("n_tokens").unwrap()[text] as usize);
        let mean = |at: usize| own.iter().map(|v| f64::from(v[at])).sum::<f64>() / own.len() as f64;
        let want: Vec<f64> = want.iter().map(|&x| f64::from(x)).collect();
        check(&(0..d).map(mean).collect::<Vec<_>>(), &want, 1e-5, "mean of tokens");
    }
    // Some of them, evenly spaced.
    let some = run(read().one_by_one(3));
    let n = whole.i32("n_tokens").unwrap()[0] as usize;
    let picked = some.list("activation").unwrap().1;
    assert!(n >= 3 && some.i32("n_tokens").unwrap().iter().all(|&n| n == 1));
    for (at, token) in [0, n / 3, 2 * n / 3].into_iter().enumerate() {
        let of = |values: &[f32], row: usize| {
            values[row * d..][..d].iter().map(|&x| f64::from(x)).collect::<Vec<_>>()
        };
        check(&of(picked, at), &of(values, token), 1e-5, "a token");
    }
}

fn steering(layers: Layers, positions: At, strength: f64, random: usize) -> Steering {
    let prompts = vec!["He feels".into()];
    let (strength, unit) = (vec![strength], Unit::Vector);
    let (permuted, shuffled, topics, resamples, coherence) = (0, 0, 0, 0, Vec::new());
    Steering {
        prompts,
        strength,
        unit,
        layers,
        positions,
        random,
        permuted,
        shuffled,
        topics,
        ask: String::new(),
        together: false,
        write: 0,
        resamples,
        coherence,
    }
}

fn steer(params: Steering, model: &LanguageModel) -> Table {
    let mut last = (0, 1);
    let (set, progress) = (&vector_set(model), &mut |a, b| last = (a, b));
    let input = Input {
        set,
        activations: None,
        reads: None,
        spans: None,
        rollouts: None,
        model: Some(model),
        chat: Chat::default(),
        seed: 4,
        progress,
    };
    let tables = Analysis::Steering(params).run(input);
    assert_eq!(last.0, last.1);
    tables.unwrap().remove(0).1
}

#[test]
fn steering_is_what_the_model_says_with_the_vector_added() {
    let model = tiny();
    let set = vector_set(&model);
    let table = steer(steering(Layers::All, At::All, 1.5, 0), &model);
    assert_eq!(table.rows(), 2 * 2 * 2);
    let (layers, steered, measured) =
        (table.i32("layer").unwrap(), table.str("steered").unwrap(), table.str("measured").unwrap());
    let (mut baseline, mut after) = (Vec::new(), Vec::new());
    for row in 0..table.rows() {
        let (prompt, word) = model.encode_continuation("He feels", &measured[row]).unwrap();
        assert!(word.len() > 1, "the tiny tokenizer splits words");
        let batch = Batch::with_prompts(&[[prompt.clone(), word].concat()], &[prompt.len()]).unwrap();
        let layer = set.layers.iter().find(|l| l.layer.number() == layers[row]).unwrap();
        let at = layer.emotions.iter().position(|e| *e == steered[row]).unwrap();
        let vector: Vec<f32> =
            layer.vectors[at * layer.d_model..][..layer.d_model].iter().map(|&x| x as f32).collect();
        let vector = Tensor::from_slice(&vector);
        let mut steer = Steer { layer: layer.layer, vector, strength: 1.5, spans: Positions::All.into() };
        let resid = model.forward(&batch, &mut [&mut steer], None).unwrap();
        after.extend(model.continuation_logprobs(&resid, &batch).unwrap());
        let resid = model.forward(&batch, &mut [], None).unwrap();
        baseline.extend(model.continuation_logprobs(&resid, &batch).unwrap());
    }
    check(table.f64("baseline_logprob").unwrap(), &baseline, 1e-5, "baselines");
    check(table.f64("steered_logprob").unwrap(), &after, 1e-5, "steered");
    let delta: Vec<f64> = after.iter().zip(&baseline).map(|(a, b)| a - b).collect();
    check(table.f64("delta").unwrap(), &delta, 1e-4, "deltas");
    assert!(delta.iter().any(|d| d.abs() > 0.1));
}

#[test]
fn steering_by_nothing_changes_nothing_and_positions_mean_what_they_say() {
    let model = tiny();
    let delta = |layers, positions, strength| {
        steer(steering(layers, positions, strength, 0), &model).f64("delta").unwrap().to_vec()
    };
    assert!(delta(Layers::All, At::All, 0.0).iter().all(|d| d.abs() < 1e-4));
    // After the last block only the positions that predict the word count, and those are the generated ones.
    let last = || Layers::List(vec![Layer::Block(2)]);
    let all = delta(last(), At::All, 1.0);
    check(&delta(last(), At::Generated, 1.0), &all, 1e-4, "generated");
    assert_ne!(delta(last(), At::Prompt, 1.0), all);
    // Earlier, the prompt counts too.
    let first = || Layers::List(vec![Layer::Block(1)]);
    let all = delta(first(), At::All, 1.0);
    for positions in [At::Generated, At::Prompt] {
        let part = delta(first(), positions, 1.0);
        assert!(part.iter().zip(&all).any(|(p, a)| (p - a).abs() > 1e-3), "{positions:?}");
    }
    // All but BOS.
    let (set, mut wanted) = (vector_set(&model), Vec::new());
    assert_eq!(model.encode("He feels").unwrap().text.start, 1);
    let layer = &set.layers[0];
    for steered in 0..2 {
        for measured in &layer.emotions {
            let (prompt, word) = model.encode_continuation("He feels", measured).unwrap();
            let ids = [[prompt.clone(), word].concat()];
            let batch = Batch::with_prompts(&ids, &[prompt.len()]).unwrap();
            let vector: Vec<f32> =
                layer.vectors[steered * layer.d_model..][..layer.d_model].iter().map(|&x| x as f32).collect();
            let vector = Tensor::from_slice(&vector);
            let spans = Spans::Each(vec![vec![Range { start: 1, end: ids[0].len() }]]);
            let mut steer = Steer { layer: layer.layer, vector, strength: 1.0, spans };
            let resid = model.forward(&batch, &mut [&mut steer], None).unwrap();
            let after = model.continuation_logprobs(&resid, &batch).unwrap()[0];
            let resid = model.forward(&batch, &mut [], None).unwrap();
            wanted.push(after - model.continuation_logprobs(&resid, &batch).unwrap()[0]);
        }
    }
    let content = delta(first(), At::Content, 1.0);
    check(&content, &wanted, 1e-4, "content");
    assert!(content.iter().zip(&all).any(|(p, a)| (p - a).abs() > 1e-3));
}

/// Two layers at once, each with half of the strength, on the model's turn alone: words and what is written, against plain passes.
#[test]
fn the_model_s_turn_is_steered_at_several_layers_and_written_under_that() {
    const ASK: &str = "How is he?";
    const WRITTEN: usize = 6;
    let model = tiny();
    let set = vector_set(&model);
    let plain = steering(Layers::All, At::Assistant, 1.5, 0);
    let params = Steering { ask: ASK.into(), together: true, write: WRITTEN, ..plain };
    let tables = Analysis::Steering(params)
        .run(Input {
            set: &set,
            activations: None,
            reads: None,
            rollouts: None,
            spans: None,
            model: Some(&model),
            chat: Chat::default(),
            seed: 4,
            progress: &mut |_, _| {},
        })
        .unwrap();
    let asked = |answer: &str| {
        let turns = [Message::new(Role::User, ASK)];
        model.encode_turns(&turns, Ending::Prefill(answer), Chat::default()).unwrap()
    };
    let begun = asked("He feels");
    let first = begun.spans[1].start;
    assert!(0 < first && first < begun.ids.len());
    let steered = |emotion: usize, ids: &[i64], strength: f64| {
        let of_layer = |layer: &LayerVectors| {
            let vector: Vec<f32> =
                layer.vectors[emotion * layer.d_model..][..layer.d_model].iter().map(|&x| x as f32).collect();
            let spans = Spans::Each(vec![vec![Range { start: first, end: usize::MAX }]]);
            Steer { layer: layer.layer, vector: Tensor::from_slice(&vector), strength: strength / 2.0, spans }
        };
        let mut hooks: Vec<Steer> = set.layers.iter().map(of_layer).collect();
        let mut hooks: Vec<&mut dyn Hook> = hooks.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
        let batch = Batch::with_prompts(&[ids], &[begun.ids.len().min(ids.len())]).unwrap();
        let resid = model.forward(&batch, &mut hooks, None).unwrap();
        (resid, batch)
    };
    let log_probability = |emotion: usize, ids: &[i64], strength: f64| {
        let (resid, batch) = steered(emotion, ids, strength);
        model.continuation_logprobs(&resid, &batch).unwrap()[0]
    };
    let table = &tables[0].1;
    assert_eq!((table.rows(), table.i32("layer").unwrap()[0]), (4, 2));
    assert!(table.str("layers").unwrap().iter().all(|layers| layers == "1 + 2"));
    let mut wanted = Vec::new();
    for emotion in 0..2 {
        for word in &set.layers[0].emotions {
            let ids = asked(&format!("He feels {word}")).ids;
            assert!(ids.starts_with(&begun.ids));
            wanted.push(log_probability(emotion, &ids, 1.5) - log_probability(emotion, &ids, 0.0));
        }
    }
    check(table.f64("delta").unwrap(), &wanted, 1e-4, "the model's turn");
    assert!(wanted.iter().any(|delta| delta.abs() > 0.05));
    let (_, table) = tables.iter().find(|(name, _)| name == "steering_text").unwrap();
    assert_eq!(table.str("steered").unwrap(), ["unsteered", "happy", "sad"]);
    for (row, (emotion, strength)) in [(0, 0.0), (0, 1.5), (1, 1.5)].into_iter().enumerate() {
        let n = table.i32("n_tokens").unwrap()[row] as usize;
        let mut ids = begun.ids.clone();
        for _ in 0..n {
            let (resid, _) = steered(emotion, &ids, strength);
            let last = model.logits(&resid.get(0).get(ids.len() as i64 - 1));
            ids.push(last.argmax(-1, false).int64_value(&[]));
        }
        assert_eq!(table.str("text").unwrap()[row], model.decode(&ids[begun.ids.len()..]).unwrap());
        let surprise = table.opt_f64("surprise").unwrap()[row];
        assert_eq!(surprise.is_some(), n > 0);
        if let Some(surprise) = surprise {
            check(&[surprise], &[-log_probability(0, &ids, 0.0) / n as f64], 1e-4, "surprise");
        }
    }
    assert!(table.i32("n_tokens").unwrap().iter().any(|&n| n as usize == WRITTEN));
}

#[test]
fn random_directions_stand_beside_each_word() {
    let model = tiny();
    let table = steer(steering(Layers::Default, At::All, 1.0, 3), &model);
    let names: Vec<_> = table.str("steered").unwrap().iter().zip(table.str("measured").unwrap()).collect();
    let names: Vec<_> = names.iter().map(|(s, m)| (s.as_str(), m.as_str())).collect();
    assert_eq!(names[..4], [("happy", "happy"), ("happy", "sad"), ("sad", "happy"), ("sad", "sad")]);
    assert_eq!(
        names[4..8],
        [("random-1", "happy"), ("random-1", "sad"), ("random-2", "happy"), ("random-2", "sad")]
    );
    assert_eq!(names.len(), 10);
    assert_eq!(table.i32("layer").unwrap()[0], 2);
    let again = steer(steering(Layers::Default, At::All, 1.0, 3), &model);
    assert_eq!(table, again);
}
