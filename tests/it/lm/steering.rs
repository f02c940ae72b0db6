//! Steering several layers, on spans of each row, against transformers with forward hooks in float64
//! (`tests/fixtures/make_steering.py`): in one batch, row by row, from a kept pass, and in cached generation.

use super::*;
use serde_json::Value;
use std::ops::Range;

struct Case {
    ids: Vec<i64>,
    /// Block, vector times strength, spans.
    additions: Vec<(usize, Tensor, Vec<Range<usize>>)>,
    logits: Tensor,
    greedy: Vec<i64>,
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(folder("steering.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    let list = |of: &Value| of.as_array().unwrap().clone();
    let ids = |of: &Value| -> Vec<i64> { list(of).iter().map(|id| id.as_i64().unwrap()).collect() };
    let number = |of: &Value| of.as_u64().map_or(usize::MAX, |n| n as usize);
    let addition = |of: Value| {
        let (k, strength) = (of["k"].as_f64().unwrap(), of["strength"].as_f64().unwrap());
        let vector: Vec<f32> = (1..=32).map(|i| (strength * (k * f64::from(i)).sin()) as f32).collect();
        let spans = list(&of["spans"]).iter().map(|span| number(&span[0])..number(&span[1])).collect();
        (number(&of["block"]), Tensor::from_slice(&vector), spans)
    };
    let case = |row: &Value| Case {
        ids: ids(&row["ids"]),
        additions: list(&row["additions"]).into_iter().map(addition).collect(),
        logits: Tensor::from_slice(
            &list(&row["logits"]).iter().map(|x| x.as_f64().unwrap()).collect::<Vec<_>>(),
        ),
        greedy: ids(&row["greedy"]),
    };
    rows.iter().map(case).collect()
}

/// The hooks of some cases in one batch: one a layer, each row with its own vector and spans.
fn hooks(cases: &[&Case]) -> Vec<Steer> {
    let of_layer = |at: usize| {
        let vectors: Vec<&Tensor> = cases.iter().map(|case| &case.additions[at].1).collect();
        Steer {
            layer: Layer::Block(cases[0].additions[at].0),
            vector: Tensor::stack(&vectors, 0),
            strength: 1.0,
            spans: Spans::Each(cases.iter().map(|case| case.additions[at].2.clone()).collect()),
        }
    };
    (0..2).map(of_layer).collect()
}

fn last_logits(model: &LanguageModel, batch: &Batch, resid: &Tensor, row: usize) -> Tensor {
    model.logits(&batch.row(resid, row).get(batch.lengths[row] as i64 - 1))
}

#[test]
fn several_layers_and_spans_give_the_logits_of_transformers() {
    let (model, all) = (load("llama-gqa"), cases());
    let every: Vec<&Case> = all.iter().collect();
    let ids: Vec<&[i64]> = all.iter().map(|case| case.ids.as_slice()).collect();
    let (batch, packed) = (Batch::new(&ids).unwrap(), model.batch(&ids).unwrap());
    let together = |batch: &Batch| {
        let mut own = hooks(&every);
        let mut own: Vec<&mut dyn Hook> = own.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
        model.forward(batch, &mut own, None).unwrap()
    };
    let (resid, in_packed) = (together(&batch), together(&packed));
    let kept = model.keep(&batch, &[Layer::Block(0)]).unwrap();
    for (row, case) in all.iter().enumerate() {
        let logits = last_logits(&model, &batch, &resid, row);
        assert!(relative_error(&logits, &case.logits) < 1e-5, "row {row}");
        // Packed and by itself, to the bit; and from where the lowest steered layer begins.
        assert!(last_logits(&model, &packed, &in_packed, row).equal(&logits), "row {row} packed");
        let mut own = hooks(&[case]);
        let [first, second] = &mut own[..] else { panic!("two layers") };
        let own: &mut [&mut dyn Hook] = &mut [first, second];
        let alone = Batch::new(&[&case.ids]).unwrap();
        let resid = model.forward(&alone, own, None).unwrap();
        assert!(last_logits(&model, &alone, &resid, 0).equal(&logits), "row {row} by itself");
        let (alone, resid) = model.forward_from(&kept[0], &[row], own, None).unwrap();
        assert!(last_logits(&model, &alone, &resid, 0).equal(&logits), "row {row} from a kept pass");
    }
    // The cases differ from each other and from no steering.
    let plain = model.forward(&batch, &mut [], None).unwrap();
    let differs =
        |row: &usize| relative_error(&last_logits(&model, &batch, &plain, *row), &all[*row].logits) > 1e-3;
    assert_eq!((0..all.len()).filter(differs).collect::<Vec<_>>(), [0, 1, 3, 4]);
}

#[test]
fn cached_generation_is_steered_on_the_same_tokens() {
    let (model, all) = (load("llama-gqa"), cases());
    let write = |cases: &[&Case]| {
        let prompts: Vec<Vec<i64>> = cases.iter().map(|case| case.ids.clone()).collect();
        let mut own = hooks(cases);
        let mut own: Vec<&mut dyn Hook> = own.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
        let seeds = vec![0; cases.len()];
        model.generate(&prompts, &Sampling::greedy(12), &seeds, &mut own, &mut |_| {}).unwrap()
    };
    let every: Vec<&Case> = all.iter().collect();
    for (row, (case, text)) in all.iter().zip(write(&every)).enumerate() {
        assert_eq!(text, case.greedy, "row {row} beside others");
        assert_eq!(write(&[case]), std::slice::from_ref(&case.greedy), "row {row} by itself");
    }
}

/// Counts the tokens of each pass.
struct Rows(Vec<usize>);

impl Hook for Rows {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor {
        if layer == Layer::Embed {
            self.0.push(batch.tokens());
        }
        resid
    }

    fn alike(&self, _: usize, _: usize) -> usize {
        usize::MAX
    }
}

/// Prompts that begin alike are computed once as far as nothing is added; the texts stay the same.
#[test]
fn what_prompts_share_is_computed_once_where_steering_leaves_it_alone() {
    let model = load("llama-gqa");
    let prompt = |end: i64| -> Vec<i64> { (0..40).map(|at| 2 + at * 5).chain([end, end + 1]).collect() };
    let prompts: Vec<Vec<i64>> = [3, 60, 90, 120].map(prompt).to_vec();
    let vectors = random(&[4, 32], 8);
    let steer = |spans: Spans| Steer {
        layer: Layer::Block(1),
        vector: vectors.shallow_clone(),
        strength: 0.6,
        spans,
    };
    let from = |start: usize| Spans::Each(vec![vec![start..usize::MAX]; 4]);
    for (spans, shared) in
        [(from(41), 40), (from(25), 25), (Positions::Generated.into(), 40), (Positions::All.into(), 0)]
    {
        let mut seen = Rows(Vec::new());
        let mut hook = steer(spans.clone());
        let sampling = Sampling { max_new_tokens: 10, temperature: 1.0, top_k: 0, top_p: 1.0 };
        let together = model
            .generate(&prompts, &sampling, &[1, 2, 3, 4], &mut [&mut hook, &mut seen], &mut |_| {})
            .unwrap();
        let expected: &[usize] = if shared > 0 { &[shared, 4 * (42 - shared)] } else { &[4 * 42] };
        assert_eq!(&seen.0[..expected.len()], expected, "{spans:?}");
        for row in 0..4 {
            let mut hook = Steer { vector: vectors.get(row as i64), ..steer(spans.select(&[row])) };
            let alone = model
                .generate(&prompts[row..=row], &sampling, &[row as u64 + 1], &mut [&mut hook], &mut |_| {})
                .unwrap();
            assert_eq!(alone[0], together[row], "row {row}, {spans:?}");
        }
    }
}

/// Of samples that are steered alike the prompt is computed once, steered tokens and all; to the bit, in every family (with windows, gated
/// delta nets, keys and values that layers share).
#[test]
fn samples_that_are_steered_alike_share_their_prompt() {
    for dir in parity::fixtures() {
        let checkpoint = Checkpoint::open(&dir).unwrap();
        let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
        let prompt: Vec<i64> = (0..30).map(|at| 2 + at % 40).collect();
        let prompts = vec![prompt; 7];
        // Of two vectors in turn, the last row on other tokens.
        let d_model = model.spec.d_model as i64;
        let vectors =
            random(&[2, d_model], 8).index_select(0, &Tensor::from_slice(&[0i64, 0, 1, 0, 1, 0, 0]));
        let mut spans = vec![vec![0..usize::MAX]; 7];
        spans[6] = vec![3..20];
        let sampling = Sampling { max_new_tokens: 6, temperature: 1.0, top_k: 0, top_p: 1.0 };
        let steer = |rows: &[usize]| {
            let at = Tensor::from_slice(&rows.iter().map(|&row| row as i64).collect::<Vec<_>>());
            let spans = Spans::Each(rows.iter().map(|&row| spans[row].clone()).collect());
            Steer { layer: Layer::Block(0), vector: vectors.index_select(0, &at), strength: 1.5, spans }
        };
        let (mut hook, mut seen) = (steer(&[0, 1, 2, 3, 4, 5, 6]), Rows(Vec::new()));
        let seeds: Vec<u64> = (0..7).collect();
        let together =
            model.generate(&prompts, &sampling, &seeds, &mut [&mut hook, &mut seen], &mut |_| {}).unwrap();
        // Past its original context a text shares nothing.
        let shares = model.decoder().original_context().is_none_or(|context| context >= 30);
        let expected: &[usize] = if shares { &[3 * 29, 7] } else { &[7 * 30] };
        assert_eq!(&seen.0[..expected.len()], expected, "{}", dir.display());
        for (row, together) in together.iter().enumerate() {
            let mut hook = steer(&[row]);
            let alone = model
                .generate(&prompts[..1], &sampling, &[row as u64], &mut [&mut hook], &mut |_| {})
                .unwrap();
            assert_eq!(alone[0], *together, "row {row} of {}", dir.display());
        }
    }
}
