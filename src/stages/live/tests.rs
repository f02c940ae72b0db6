//! Steered texts, step by step, against transformers with forward hooks in float64
//! (`tests/fixtures/make_steering.py`); readings against products in float64.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::*;
use crate::lm::{Checkpoint, Dtype};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(path: &Path) -> LanguageModel {
    LanguageModel::load(&Checkpoint::open(path).unwrap(), Dtype::F32, Device::Cpu).unwrap()
}

struct Case {
    text: Text,
    logits: Vec<f64>,
    greedy: Vec<i64>,
}

fn cases() -> Vec<Case> {
    let text = fs_err::read_to_string(folder("steering.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let list = |of: &Value| of.as_array().unwrap().clone();
    let ids = |of: &Value| -> Vec<i64> { list(of).iter().map(|id| id.as_i64().unwrap()).collect() };
    let place = |of: &Value| of.as_u64().map_or(usize::MAX, |n| n as usize);
    let added = |of: Value| {
        let (k, strength) = (of["k"].as_f64().unwrap(), of["strength"].as_f64().unwrap());
        Added {
            layer: Layer::Block(place(&of["block"])),
            vector: (1..=32).map(|i| (strength * (k * f64::from(i)).sin()) as f32).collect(),
            spans: list(&of["spans"]).iter().map(|span| place(&span[0])..place(&span[1])).collect(),
        }
    };
    let case = |row: &Value| Case {
        text: Text {
            ids: ids(&row["ids"]),
            seed: 0,
            added: list(&row["additions"]).into_iter().map(added).collect(),
        },
        logits: list(&row["logits"]).iter().map(|x| x.as_f64().unwrap()).collect(),
        greedy: ids(&row["greedy"]),
    };
    rows.iter().map(case).collect()
}

#[test]
fn every_step_is_that_of_transformers() {
    let (model, cases) = (load(&folder("llama-gqa")), cases());
    let texts: Vec<Text> = cases.iter().map(|case| case.text.clone()).collect();
    let mut first: Vec<Option<Token>> = vec![None; cases.len()];
    let mut told = |told: Told| {
        for token in told.tokens {
            first[token.text].get_or_insert(token);
        }
        Ok(Vec::new())
    };
    let written = write(&model, &texts, &Sampling::greedy(12), (None, Some(3)), &mut told).unwrap();
    for (row, case) in cases.iter().enumerate() {
        assert_eq!(written[row], case.greedy, "row {row}");
        // ln(softmax) in float64.
        let most = case.logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = case.logits.iter().map(|x| (x - most).exp()).sum();
        let logprob = |id: i64| case.logits[id as usize] - most - total.ln();
        let token = first[row].as_ref().unwrap();
        assert_eq!((token.id, token.ends), (case.greedy[0], false));
        assert!((token.logprob.unwrap() - logprob(case.greedy[0])).abs() < 1e-4, "row {row}: {token:?}");
        assert_eq!((token.likeliest.len(), token.likeliest[0].0), (3, case.greedy[0]));
        for &(id, p) in &token.likeliest {
            assert!((p - logprob(id)).abs() < 1e-4, "row {row}: token {id}");
        }
        // The same token, read after its text; the addition reaches it through the open-ended spans.
        let longer = Text { ids: [&case.text.ids[..], &case.greedy[..1]].concat(), ..case.text.clone() };
        let read = read(&model, &longer, 2).unwrap();
        assert_eq!(read.len(), longer.ids.len() - 1);
        let last = read.last().unwrap();
        assert!((last.logprob.unwrap() - logprob(case.greedy[0])).abs() < 1e-4, "row {row}: {last:?}");
    }
}

/// Keeps the residual stream at a layer.
struct Seen(Layer, Option<Tensor>);

impl Hook for Seen {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, _: &Batch) -> Tensor {
        if layer == self.0 {
            self.1 = Some(resid.copy());
        }
        resid
    }
}

#[test]
fn every_token_is_read_before_anything_is_added_there() {
    let model = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo"));
    let d = model.spec.d_model;
    let layer = Layer::Block(2);
    let vector =
        |k: f64, scale: f64| (0..d).map(|i| (scale * (k * i as f64).cos()) as f32).collect::<Vec<f32>>();
    let add =
        |layer: Layer, scale: f64| Added { layer, vector: vector(0.3, scale), spans: vec![0..usize::MAX] };
    let prompt: Vec<i64> = (20..50).collect();
    let text = |seed, added| Text { ids: prompt.clone(), seed, added };
    let texts = [text(1, vec![]), text(2, vec![add(Layer::Block(1), 0.5), add(layer, 4.0)])];
    let along = Along { layer, direction: vector(0.7, 0.1) };
    let sampling = Sampling { max_new_tokens: 9, temperature: 1.0, top_k: 0, top_p: 1.0 };
    let mut values: Vec<Vec<Option<f32>>> = vec![Vec::new(); 2];
    let mut told = |told: Told| {
        for Traced { sequence, token, value } in told.traced {
            let own = &mut values[sequence];
            own.resize(own.len().max(token + 1), None);
            assert!(own[token].replace(value).is_none(), "token {token} is told twice");
        }
        Ok(Vec::new())
    };
    let written = write(&model, &texts, &sampling, (Some(&along), None), &mut told).unwrap();
    for (row, text) in texts.iter().enumerate() {
        let whole = [&prompt[..], &written[row]].concat();
        let mut seen = Seen(layer, None);
        let mut steer = hooks(std::slice::from_ref(text), d);
        let mut all: Vec<&mut dyn Hook> = vec![&mut seen];
        all.extend(steer.iter_mut().map(|hook| hook as &mut dyn Hook));
        let _resid = model.forward(&Batch::new(&[&whole]).unwrap(), &mut all, None).unwrap();
        let resid = seen.1.unwrap().get(0).to_kind(Kind::Double);
        let want = resid.matmul(&Tensor::from_slice(&along.direction).to_kind(Kind::Double));
        let want = Vec::<f64>::try_from(want).unwrap();
        assert_eq!(values[row].len(), whole.len(), "row {row}");
        for (at, (got, want)) in values[row].iter().zip(want).enumerate() {
            let got = f64::from(got.unwrap());
            assert!((got - want).abs() < 1e-4 * (1.0 + want.abs()), "row {row}, token {at}: {got}, {want}");
        }
    }
}
