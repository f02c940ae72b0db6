//! Emoflow's stages, end to end, against values that transformers and NumPy computed from the same checkpoint
//! (`tests/e2e/reference.py`): each file in `tests/e2e/reference/` names its checkpoint and how it was run.

use std::path::Path;

use emoflow::lm::{Chat, LanguageModel, Layer, LensNorm};
use emoflow::stages::activations::{self, Long, Short, StoreDtype, Wrap};
use emoflow::stages::analysis::steering::{At, Layers, Steering, Unit};
use emoflow::stages::analysis::{
    Analysis, Input, VectorSet, cosine::Cosine, logit_lens::LogitLens, pca::Pca,
};
use emoflow::stages::stories::{Template, template};
use emoflow::stages::vectors::{self, Center, Denoise, Equal};
use emoflow::store::table::Table;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::stages::{check, load, numbers, wide};

/// What every value must agree to, relative to the largest of its kind.
const TOLERANCE: f64 = 1e-4;

#[test]
fn every_stage_agrees_with_transformers_and_numpy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    let read = |path: &Path| serde_json::from_str::<Value>(&fs_err::read_to_string(path).unwrap()).unwrap();
    let texts = read(&folder.join("texts.json"));
    let mut checked = 0;
    for entry in fs_err::read_dir(folder.join("reference")).unwrap() {
        let reference = read(&entry.unwrap().path());
        compare(&reference, &texts);
        checked += 1;
    }
    assert!(checked > 0, "there are no reference values");
}

/// SHA-256 of the files that decide the values, as the script takes it.
fn digest(checkpoint: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(checkpoint);
    let mut hasher = Sha256::new();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        hasher.update(fs_err::read(folder.join(name)).unwrap());
    }
    hex::encode(hasher.finalize())
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_string()).collect()
}

fn size(value: &Value) -> usize {
    value.as_u64().unwrap() as usize
}

fn compare(reference: &Value, texts: &Value) {
    let checkpoint = reference["checkpoint"].as_str().unwrap();
    assert_eq!(
        digest(checkpoint),
        reference["digest"].as_str().unwrap(),
        "the reference values are of another version of {checkpoint}: run `python tests/e2e/reference.py {checkpoint} \
         --layers {}` again",
        numbers(&reference["layers"]).iter().map(f64::to_string).collect::<Vec<_>>().join(",")
    );
    let model = load(checkpoint);
    let emotions = strings(&texts["emotions"]);
    let layers = reference["layers"].as_array().unwrap().iter();
    let layers: Vec<Layer> = layers.map(|layer| Layer::Block(size(layer))).collect();
    let params = activations::Params {
        from_token: size(&reference["from_token"]),
        wrap: Wrap::Raw,
        short: Short::Error,
        long: Long::Error,
        batch_tokens: Some(512),
        store_dtype: StoreDtype::F32,
    };
    let pool = |passages: &Value, emotions: Option<&[String]>| {
        let template = Template { passages: strings(passages) };
        let stories = template::run(&template, &template::items(&template, emotions)).unwrap();
        let read =
            activations::read(&params, Chat::default(), &stories, model.tokenizer(), model.spec.context)
                .unwrap();
        activations::run(&params, &layers, &read.rows, &model, &mut |_: usize, _: usize| {}).unwrap()
    };
    let activations = pool(&texts["passages"], Some(&emotions));
    let neutral = pool(&texts["neutral"], None);
    let n_tokens: Vec<f64> = activations[0].i32("n_tokens").unwrap().iter().map(|&n| f64::from(n)).collect();
    check(&n_tokens, &numbers(&reference["n_tokens"]), 0.0, &format!("{checkpoint}: n_tokens"));

    let denoise = Denoise::Components(size(&reference["denoise_components"]));
    let params = vectors::Params {
        center: Center::Emotions,
        denoise,
        normalize: false,
        weights: Equal::Stories,
        tokens: None,
    };
    let mut tables = Vec::new();
    for (at, wanted) in reference["of_layer"].as_array().unwrap().iter().enumerate() {
        let what = |value: &str| format!("{checkpoint}, layer {}: {value}", layers[at]);
        let neutral = vectors::neutral(&params, &neutral[at..at + 1]).unwrap();
        let table = vectors::run(&params, [Ok(activations[at].clone())], &emotions, Some(&neutral)).unwrap();
        compare_vectors(wanted, &activations[at], &neutral, &table, &what);
        tables.push(table);
    }
    let set = VectorSet::from_tables("m", "s", model.spec.n_layers(), &tables).unwrap();
    compare_analyses(reference, texts, &set, &model);
}

fn compare_vectors(
    wanted: &Value,
    activations: &Table,
    neutral: &Table,
    table: &Table,
    what: &dyn Fn(&str) -> String,
) {
    let (d_model, values) = activations.list("activation").unwrap();
    let rows: Vec<Vec<f64>> = values.chunks_exact(d_model).map(wide).collect();
    let norms: Vec<f64> = rows.iter().map(|row| norm(row)).collect();
    check(&norms, &numbers(&wanted["activation_norm"]), TOLERANCE, &what("norms of activations"));
    let starts = wanted["activation_start"].as_array().unwrap();
    for ((row, start), norm) in rows.iter().zip(starts).zip(&norms) {
        for (got, want) in row.iter().zip(numbers(start)) {
            assert!((got - want).abs() <= TOLERANCE * norm, "{}: {got} is not {want}", what("activations"));
        }
    }
    let ratios = wide(neutral.f32("explained_variance_ratio").unwrap());
    let ratio = numbers(&wanted["neutral_ratio"]);
    check(&ratios[..ratio.len()], &ratio, TOLERANCE, &what("neutral ratios"));
    assert_eq!(neutral.bool("removed").unwrap().iter().filter(|r| **r).count(), ratio.len());
    let raw: Vec<f64> =
        table.list("raw").unwrap().1.chunks_exact(d_model).map(|row| norm(&wide(row))).collect();
    check(&raw, &numbers(&wanted["raw_norm"]), TOLERANCE, &what("norms before denoising"));
    for (row, vector) in
        table.list("vector").unwrap().1.chunks_exact(d_model).zip(wanted["vector"].as_array().unwrap())
    {
        check(&wide(row), &numbers(vector), TOLERANCE, &what("vectors"));
    }
    let pooled_norm = wide(&table.f32("pooled_norm").unwrap()[..1]);
    check(&pooled_norm, &numbers(&wanted["resid_norm"]), TOLERANCE, &what("pooled_norm"));
}

fn norm(row: &[f64]) -> f64 {
    row.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn compare_analyses(reference: &Value, texts: &Value, set: &VectorSet, model: &LanguageModel) {
    let run = |analysis: Analysis| {
        let progress = &mut |_: usize, _: usize| {};
        let model = Some(model);
        analysis
            .run(Input {
                set,
                activations: None,
                reads: None,
                spans: None,
                rollouts: None,
                model,
                chat: Chat::default(),
                seed: 0,
                progress,
            })
            .unwrap()
    };
    let of_layer = reference["of_layer"].as_array().unwrap();
    // All layers' values, one after another, under one scale a layer.
    let within =
        |tolerance: f64, table: &Table, got: &[f64], name: &str, wanted: &dyn Fn(&Value) -> Vec<f64>| {
            for layer in of_layer {
                let number = layer["layer"].as_i64().unwrap() as i32;
                let here = table.i32("layer").unwrap().iter().zip(got).filter(|(l, _)| **l == number);
                let got: Vec<f64> = here.map(|(_, value)| *value).collect();
                check(
                    &got,
                    &wanted(layer),
                    tolerance,
                    &format!("{}, layer {number}: {name}", reference["checkpoint"]),
                );
            }
        };
    let compare = |table: &Table, got: &[f64], name: &str, wanted: &dyn Fn(&Value) -> Vec<f64>| {
        within(TOLERANCE, table, got, name, wanted);
    };
    let field = |name: &'static str| move |layer: &Value| numbers(&layer[name]);

    let pca = run(Analysis::Pca(Pca { components: size(&reference["pca_components"]) }));
    compare(&pca[0].1, pca[0].1.f64("score").unwrap(), "scores", &field("pca_score"));
    compare(&pca[1].1, pca[1].1.f64("explained_variance_ratio").unwrap(), "pca ratios", &field("pca_ratio"));
    // A correlation's scale is 1, however near to 0 it is: 1 is added on both sides.
    let correlations: Vec<f64> = pca[2].1.f64("value").unwrap().iter().map(|r| 1.0 + r).collect();
    let wanted = |layer: &Value| numbers(&layer["norm_check"]).iter().map(|r| 1.0 + r).collect();
    compare(&pca[2].1, &correlations, "1 + |r(PC1, norm)|", &wanted);
    let cosine = run(Analysis::Cosine(Cosine { pairs: vec![] }));
    compare(&cosine[0].1, cosine[0].1.f64("cosine").unwrap(), "cosines", &field("cosine"));

    let lens = run(Analysis::LogitLens(LogitLens {
        top: size(&reference["lens_top"]),
        norm: LensNorm::None,
        topics: 0,
    }));
    let ids: Vec<f64> = lens[0].1.i32("token_id").unwrap().iter().map(|&id| f64::from(id)).collect();
    let both_sides = |promoted: &'static str, suppressed: &'static str| {
        move |layer: &Value| {
            let rows = layer[promoted].as_array().unwrap().iter().zip(layer[suppressed].as_array().unwrap());
            rows.flat_map(|(p, s)| [numbers(p), numbers(s)].concat()).collect()
        }
    };
    compare(
        &lens[0].1,
        lens[0].1.f64("value").unwrap(),
        "lens",
        &both_sides("promoted_value", "suppressed_value"),
    );
    within(0.0, &lens[0].1, &ids, "lens tokens", &both_sides("promoted", "suppressed"));
    for (column, of) in [("token_id", "own_token"), ("rank", "own_rank")] {
        let got: Vec<f64> = lens[1].1.i32(column).unwrap().iter().map(|&x| f64::from(x)).collect();
        within(0.0, &lens[1].1, &got, of, &field(of));
    }

    let steering = run(Analysis::Steering(Steering {
        prompts: strings(&texts["prompts"]),
        strength: vec![reference["strength"].as_f64().unwrap()],
        unit: Unit::Vector,
        layers: Layers::All,
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
    }));
    let table = &steering[0].1;
    let of_prompts = |name: &'static str| {
        move |layer: &Value| {
            layer["steering"].as_array().unwrap().iter().flat_map(|p| numbers(&p[name])).collect()
        }
    };
    compare(table, table.f64("delta").unwrap(), "deltas", &of_prompts("delta"));
    // Every steered emotion is measured against the same baselines.
    let n = set.layers[0].emotions.len();
    let baselines = |layer: &Value| {
        let prompts = layer["steering"].as_array().unwrap().iter();
        prompts.flat_map(|p| numbers(&p["baseline"]).repeat(n)).collect()
    };
    compare(table, table.f64("baseline_logprob").unwrap(), "baselines", &baselines);
}
