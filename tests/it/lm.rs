//! Language models: the chat templates of the fixtures (`tests/fixtures/make_fixtures.py`), and the laws that hold for
//! every model. `parity` compares their numbers with transformers'.

mod adapters;
mod chat;
mod gguf;
mod gguf_tokenizers;
mod memory;
pub(crate) mod parity;
mod refusals;
pub(crate) mod sharing;
mod steering;
mod strangers;

use emoflow::lm::weights;
use emoflow::lm::{
    Batch, Capture, Chat, Checkpoint, Decoder, Dtype, Hook, LanguageModel, Layer, LensNorm, Message,
    Positions, Role, Sampling, Spans, Steer, Wrap,
};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use tch::{Device, Kind, Tensor};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn load(name: &str) -> LanguageModel {
    load_as(name, Dtype::F32)
}

fn load_as(name: &str, dtype: Dtype) -> LanguageModel {
    let checkpoint = Checkpoint::open(&folder(name)).unwrap();
    LanguageModel::load(&checkpoint, dtype, Device::Cpu).unwrap()
}

fn reference(name: &str) -> HashMap<String, Tensor> {
    Tensor::read_safetensors(folder(name).join("reference.safetensors")).unwrap().into_iter().collect()
}

fn ids(tensor: &Tensor) -> Vec<i64> {
    tensor.try_into().unwrap()
}

/// Largest difference, relative to the largest entry of `want`.
fn relative_error(got: &Tensor, want: &Tensor) -> f64 {
    assert_eq!(got.size(), want.size());
    let (got, want) = (got.to_kind(Kind::Double), want.to_kind(Kind::Double));
    (got - &want).abs().max().double_value(&[]) / want.abs().max().double_value(&[])
}

/// Keeps every block's residuals in full, on the CPU.
#[derive(Default)]
struct Everything(Vec<Tensor>);

impl Hook for Everything {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, _: &Batch) -> Tensor {
        if let Layer::Block(block) = layer {
            assert_eq!(block, self.0.len());
            self.0.push(resid.to_device(Device::Cpu));
        }
        resid
    }
}

/// Random numbers that do not depend on the tests' order.
fn random(shape: &[i64], seed: u64) -> Tensor {
    let n: i64 = shape.iter().product();
    let numbers: Vec<f32> =
        (0..n).map(|i| emoflow::lm::sample::uniform(seed, i as u64, 0) * 2.0 - 1.0).collect();
    Tensor::from_slice(&numbers).view(shape)
}

#[test]
fn chat_templates_agree_with_transformers() {
    let say = Message::new;
    let chat = [
        say(Role::System, "Write a short story."),
        say(Role::User, "  About a lost key, please. "),
        say(Role::Assistant, "The key left."),
        say(Role::User, "Write it again."),
    ];
    // A string, the default of a list, a file of its own; a tokenizer that marks spaces.
    for name in ["llama-gqa", "llama-bf16", "llama3-rope", "llama-untied"] {
        let model = load(name);
        assert!(model.has_chat_template());
        assert_eq!(
            model.encode_chat(&chat, Chat::default()).unwrap(),
            ids(&reference(name)["chat"]),
            "{name}"
        );
        let refused = model.encode_chat(&chat[2..], Chat::default()).unwrap_err();
        assert!(format!("{refused:#}").contains("turns must alternate"), "{refused:#}");
    }
    let without = load("llama-bias");
    assert!(!without.has_chat_template());
    assert!(
        without
            .encode_wrapped("x", Wrap::User, Chat::default())
            .unwrap_err()
            .to_string()
            .contains("no chat template")
    );
}

#[test]
fn wrapped_text_keeps_its_own_tokens() {
    for name in ["llama-gqa", "llama-untied"] {
        let model = load(name);
        for text in ["Mara laughs at the old map.", "user", "  The rain sang.\n", "café ✨", "a"] {
            for wrap in [Wrap::Raw, Wrap::User, Wrap::Assistant] {
                let tokens = model.encode_wrapped(text, wrap, Chat::default()).unwrap();
                let own = model.decode(&tokens.ids[tokens.text.clone()]).unwrap();
                assert_eq!(own.trim(), text.trim(), "{name}, {wrap:?}");
                assert_eq!(tokens.ids.iter().filter(|&&id| id == 0).count(), 1, "{name}, {wrap:?}: one BOS");
            }
        }
        let raw = model.encode_wrapped("user", Wrap::Raw, Chat::default()).unwrap();
        assert_eq!((raw.text.start, raw.ids.len()), (1, raw.text.end));
        assert!(model.encode_wrapped("user", Wrap::Assistant, Chat::default()).unwrap().text.start > 10);
        assert_eq!(model.encode("").unwrap().text, 1..1, "no text has no tokens");
    }
}

#[test]
fn a_continuation_is_split_after_its_prompt() {
    for name in ["llama-gqa", "llama-untied"] {
        let model = load(name);
        let (prompt, word) = model.encode_continuation("He feels", "proud").unwrap();
        assert_eq!(prompt, model.encode("He feels").unwrap().ids);
        let shown: String = word.iter().map(|&id| model.token(id as u32)).collect();
        assert_eq!(shown, " proud", "{name}");
        assert_eq!([prompt, word].concat(), model.encode("He feels proud").unwrap().ids);
    }
}

#[test]
fn padding_and_neighbours_do_not_change_a_row() {
    for name in ["llama-gqa", "llama-bias", "llama3-rope", "qwen3_5"] {
        let model = load(name);
        let long = ids(&reference(name)["ids"]);
        let rows = [long[..40].to_vec(), long[5..12].to_vec(), long.clone(), long[..1].to_vec()];
        let ranges = vec![3..40, 0..7, 50..long.len(), 0..1];
        let layers: Vec<Layer> = (0..model.spec.n_layers()).map(Layer::Block).collect();
        let mut together = Capture::new(&layers, ranges.clone());
        let _ = model.forward(&Batch::new(&rows).unwrap(), &mut [&mut together], None).unwrap();
        let together = together.finish().unwrap();
        for (row, range) in ranges.into_iter().enumerate() {
            let mut seen = Everything::default();
            let _ = model.forward(&Batch::new(&rows[row..=row]).unwrap(), &mut [&mut seen], None).unwrap();
            for layer in 0..layers.len() {
                // The mean by its definition, in double precision.
                let own = seen.0[layer].get(0).narrow(0, range.start as i64, range.len() as i64);
                let want = own.to_kind(Kind::Double).mean_dim(0, false, Kind::Double);
                let error = relative_error(&together.get(layer as i64).get(row as i64), &want);
                assert!(error < 2e-6, "{name}: row {row}, layer {layer}: {error:.1e}");
            }
        }
    }
}

#[test]
fn a_pass_stops_after_the_last_layer_asked_for() {
    let model = load("llama-gqa");
    let batch = Batch::new(&[ids(&reference("llama-gqa")["ids"])]).unwrap();
    let mut seen = Everything::default();
    let resid = model.forward(&batch, &mut [&mut seen], Some(Layer::Block(1))).unwrap();
    assert_eq!(seen.0.len(), 2);
    assert!(resid.equal(&seen.0[1]));
    let mut beyond = Capture::new(&[Layer::Block(2)], std::iter::once(0..3).collect());
    let _ = model.forward(&batch, &mut [&mut beyond], Some(Layer::Block(1))).unwrap();
    assert!(beyond.finish().unwrap_err().to_string().contains("layer 2"));
    assert!(
        model.forward(&batch, &mut [], Some(Layer::Block(3))).unwrap_err().to_string().contains("layer 3")
    );
}

#[test]
fn the_embedding_is_the_tokens_own_rows() {
    // Gemma multiplies them by the root of `d_model`, which is 32 here.
    for (name, scale) in [("llama-gqa", 1.0), ("gemma2", 32f64.sqrt())] {
        let model = load(name);
        assert_eq!(model.spec.d_model, 32);
        let ids = ids(&reference(name)["ids"]);
        let mut seen = Capture::new(&[Layer::Embed], std::iter::once(1..4).collect());
        let batch = Batch::new(&[&ids[..5]]).unwrap();
        let resid = model.forward(&batch, &mut [&mut seen], Some(Layer::Embed)).unwrap();
        let tensors = Tensor::read_safetensors(folder(name).join("model.safetensors")).unwrap();
        let (_, table) = tensors.into_iter().find(|(name, _)| name == "model.embed_tokens.weight").unwrap();
        let rows = table.to_kind(Kind::Double).index_select(0, &Tensor::from_slice(&ids[..5])) * scale;
        assert!(relative_error(&resid.get(0), &rows) < 1e-6, "{name}");
        let mean = rows.narrow(0, 1, 3).mean_dim(0, false, Kind::Double);
        assert!(relative_error(&seen.finish().unwrap().get(0).get(0), &mean) < 1e-6, "{name}");
    }
}

#[test]
fn steering_follows_its_laws() {
    let model = load("llama-gqa");
    let long = ids(&reference("llama-gqa")["ids"]);
    let batch = Batch::with_prompts(&[long[..20].to_vec(), long[..9].to_vec()], &[12, 9]).unwrap();
    let v = random(&[32], 1);
    let steer = |block, vector: &Tensor, strength, positions| Steer {
        layer: Layer::Block(block),
        vector: vector.shallow_clone(),
        strength,
        spans: Spans::At(positions),
    };
    let plain = model.forward(&batch, &mut [], None).unwrap();
    let run = |hooks: &mut [&mut dyn Hook]| model.forward(&batch, hooks, None).unwrap();

    let zero = run(&mut [&mut steer(1, &v, 0.0, Positions::All)]);
    assert!(zero.equal(&plain), "steering by 0 is the identity");

    let (mut plus, mut minus) = (steer(1, &v, 2.0, Positions::All), steer(1, &v, -2.0, Positions::All));
    assert!(relative_error(&run(&mut [&mut plus, &mut minus]), &plain) < 1e-5, "+v then -v restores");

    let last = run(&mut [&mut steer(2, &v, 2.0, Positions::All)]);
    assert!(relative_error(&last, &(&plain + &v * 2.0)) < 1e-6, "after the last block, steering is addition");

    let generated = run(&mut [&mut steer(0, &v, 2.0, Positions::Generated)]);
    assert!(
        generated.narrow(1, 0, 12).get(0).equal(&plain.narrow(1, 0, 12).get(0)),
        "the prompt is not steered"
    );
    assert!(relative_error(&generated.get(0).get(12), &plain.get(0).get(12)) > 1e-2);
    let prompt = run(&mut [&mut steer(0, &v, 2.0, Positions::Prompt)]);
    assert!(relative_error(&prompt.get(0).get(0), &plain.get(0).get(0)) > 1e-2);

    let own = Tensor::stack(&[v.zeros_like(), v.shallow_clone()], 0);
    let each = run(&mut [&mut steer(2, &own, 2.0, Positions::All)]);
    assert!(
        each.get(0).equal(&plain.get(0)) && !each.get(1).equal(&plain.get(1)),
        "each row by its own vector"
    );
}

#[test]
fn cached_generation_equals_uncached() {
    for name in ["llama-gqa", "llama-bias", "llama3-rope", "qwen3_5-text"] {
        let model = load(name);
        let long = ids(&reference(name)["ids"]);
        let prompts =
            vec![long[..30].to_vec(), long[..2].to_vec(), long[10..17].to_vec(), long[..1].to_vec()];
        let v = random(&[32], 2);
        for positions in [Positions::All, Positions::Prompt, Positions::Generated] {
            let steer = || Steer {
                layer: Layer::Block(1),
                vector: v.shallow_clone(),
                strength: 1.5,
                spans: positions.into(),
            };
            let together = model
                .generate(&prompts, &Sampling::greedy(24), &[0; 4], &mut [&mut steer()], &mut |_| {})
                .unwrap();
            for (prompt, together) in prompts.iter().zip(&together) {
                let mut row = prompt.clone();
                for _ in 0..24 {
                    let batch = Batch::with_prompts(&[&row], &[prompt.len()]).unwrap();
                    let resid = model.forward(&batch, &mut [&mut steer()], None).unwrap();
                    let next = model.logits(&resid.get(0).get(-1)).argmax(0, false).int64_value(&[]);
                    if model.spec.eos.contains(&next) {
                        break;
                    }
                    row.push(next);
                }
                assert_eq!(together, &row[prompt.len()..], "{name}, {positions:?}");
            }
        }
    }
}

/// Of every family: each token that is written after prompts whose beginning is computed once, against a pass over all
/// tokens of its own row. The beginning is longer than the fixtures' windows; one prompt is it and a single token.
#[test]
fn prompts_that_begin_alike_are_continued_as_each_is_alone() {
    for dir in parity::fixtures() {
        let name = dir.display();
        let model = LanguageModel::load(&Checkpoint::open(&dir).unwrap(), Dtype::F32, Device::Cpu).unwrap();
        let start: Vec<i64> = (0..60).map(|i| 20 + i * 7 % 200).collect();
        let prompts: Vec<Vec<i64>> = [&[30][..], &[31, 32, 33, 34], &[40, 41], &[50, 51, 52, 53, 54, 55]]
            .map(|end| [&start, end].concat())
            .to_vec();
        let greedy = Sampling::greedy(12);
        let together = model.generate(&prompts, &greedy, &[0; 4], &mut [], &mut |_| {}).unwrap();
        for (prompt, together) in prompts.iter().zip(&together) {
            let mut row = prompt.clone();
            for &token in together {
                let resid = model.forward(&Batch::new(&[&row]).unwrap(), &mut [], None).unwrap();
                let logits = model.logits(&resid.get(0).get(-1));
                let best = logits.max().double_value(&[]);
                // The token may be another one where two are as likely but for rounding.
                assert!(best - logits.double_value(&[token]) < 1e-4 * best.abs().max(1.0), "{name}");
                row.push(token);
            }
        }
    }
}

/// Of every family, in fp32 on a processor whose registers are known (`lm/cpu`): a row has the same bits alone and beside others,
/// among few rows and among many, padded or packed.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
        return;
    }
    for dir in parity::fixtures() {
        let model = LanguageModel::load(&Checkpoint::open(&dir).unwrap(), Dtype::F32, Device::Cpu).unwrap();
        let row = |n: i64| -> Vec<i64> { (0..n).map(|i| 20 + i * (n + 6) % 200).collect() };
        let last = Layer::Block(model.spec.n_layers() - 1);
        let residuals = |batch: &Batch| {
            let mut seen = Everything::default();
            let mut pooled = Capture::new(&[last], batch.lengths.iter().map(|&length| 1..length).collect());
            let _ = model.forward(batch, &mut [&mut seen, &mut pooled], None).unwrap();
            (seen.0, pooled.finish().unwrap().get(0))
        };
        let rows = [70, 3, 41, 8, 64, 50].map(row);
        let packed = model.batch(&rows).unwrap();
        let delta = model.spec.layers.iter().any(|layer| layer.attention().is_none());
        assert_eq!(packed.tokens(), if delta { 6 * 70 } else { 70 + 3 + 41 + 8 + 64 + 50 });
        for batch in [Batch::new(&rows).unwrap(), packed] {
            let (all, means) = residuals(&batch);
            for (at, n) in [(0, 70), (1, 3), (2, 41)] {
                let (alone, mean) = residuals(&Batch::new(&[row(n)]).unwrap());
                assert!(mean.get(0).equal(&means.get(at as i64)), "{}: mean of {n} tokens", dir.display());
                assert_eq!(alone.len(), model.spec.n_layers());
                for (layer, (alone, all)) in alone.iter().zip(&all).enumerate() {
                    let all = batch.row(all, at);
                    assert!(alone.get(0).equal(&all), "{}: {n} tokens, layer {layer}", dir.display());
                }
            }
        }
    }
}

/// The last residuals of each sequence and position.
struct Steps {
    last: Layer,
    seen: HashMap<(usize, usize), Tensor>,
}

impl Hook for Steps {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor {
        for row in (0..batch.rows()).filter(|_| layer == self.last) {
            for at in 0..batch.lengths[row] {
                let place = (batch.sequences[row], batch.starts[row] + at);
                self.seen.insert(place, resid.get(row as i64).get(at as i64).copy());
            }
        }
        resid
    }
}

/// And the same bits, token by token beside other sequences, as in one pass alone.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_step_has_the_bits_of_a_pass() {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
        return;
    }
    for dir in parity::fixtures() {
        let model = LanguageModel::load(&Checkpoint::open(&dir).unwrap(), Dtype::F32, Device::Cpu).unwrap();
        let prompts = [50, 2, 17].map(|n: i64| (0..n).map(|i| 20 + i * (n + 6) % 200).collect::<Vec<i64>>());
        let last = Layer::Block(model.spec.n_layers() - 1);
        let mut steps = Steps { last, seen: HashMap::new() };
        let written =
            model.generate(&prompts, &Sampling::greedy(9), &[0; 3], &mut [&mut steps], &mut |_| {}).unwrap();
        for (sequence, (prompt, written)) in prompts.iter().zip(&written).enumerate() {
            let row = [prompt.as_slice(), written].concat();
            let alone = model.forward(&Batch::new(&[&row]).unwrap(), &mut [], None).unwrap().get(0);
            // What was written last was not read any more.
            for at in 0..row.len() - 1 {
                let step = &steps.seen[&(sequence, at)];
                assert!(alone.get(at as i64).equal(step), "{}: {sequence}, {at}", dir.display());
            }
        }
    }
}

#[test]
fn a_sampled_text_depends_on_its_prompt_and_seed_alone() {
    for name in ["llama-untied", "qwen3_5"] {
        let model = load(name);
        let long = ids(&reference(name)["ids"]);
        let prompts: Vec<Vec<i64>> = (0..6).map(|i| long[..4 + 3 * i].to_vec()).collect();
        let sampling = Sampling { max_new_tokens: 40, temperature: 1.5, top_k: 50, top_p: 0.95 };
        let seeds = [5, 6, 7, 8, 9, 10];
        let mut ended = Vec::new();
        let together = model.generate(&prompts, &sampling, &seeds, &mut [], &mut |n| ended.push(n)).unwrap();
        assert_eq!(ended.last(), Some(&6));
        for ((prompt, seed), together) in prompts.iter().zip(seeds).zip(&together) {
            let prompt = std::slice::from_ref(prompt);
            let alone = model.generate(prompt, &sampling, &[seed], &mut [], &mut |_| {}).unwrap();
            assert_eq!(&alone[0], together, "{name}: seed {seed}");
        }
        let other = model.generate(&prompts, &sampling, &[1; 6], &mut [], &mut |_| {}).unwrap();
        assert_ne!(other, together);
        assert!(together.iter().flatten().all(|id| !model.spec.eos.contains(id)), "no end token in the text");
    }
}

/// Rows whose texts end at different steps leave the batch, and others take their places in keys, values and states.
#[test]
fn a_row_that_ends_leaves_the_others_as_they_are() {
    for name in ["llama-untied", "qwen3_5"] {
        let model = load(name);
        // Where the context is full, texts end one after the other.
        let prompts: Vec<Vec<i64>> =
            [250, 12, 244, 31, 247].map(|n: i64| (0..n).map(|i| 20 + i * (n + 6) % 200).collect()).to_vec();
        let greedy = Sampling::greedy(14);
        let together = model.generate(&prompts, &greedy, &[0; 5], &mut [], &mut |_| {}).unwrap();
        let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
        assert!(lengths.iter().collect::<std::collections::BTreeSet<_>>().len() > 2, "{lengths:?}");
        for (prompt, together) in prompts.iter().zip(&together) {
            let prompt = std::slice::from_ref(prompt);
            let alone = model.generate(prompt, &greedy, &[0], &mut [], &mut |_| {}).unwrap();
            assert_eq!(&alone[0], together, "{name}");
        }
    }
}

#[test]
fn generation_stops_where_the_context_is_full() {
    let model = load("llama-gqa");
    let prompts = vec![vec![5; 250], vec![6; 100]];
    let written = model.generate(&prompts, &Sampling::greedy(9), &[0; 2], &mut [], &mut |_| {}).unwrap();
    assert_eq!((written[0].len(), written[1].len()), (6, 9));
    let too_long = model.generate(&[vec![5; 257]], &Sampling::greedy(9), &[0], &mut [], &mut |_| {});
    assert!(too_long.unwrap_err().to_string().contains("context of 256"));
    let unknown = model.generate(&[vec![320]], &Sampling::greedy(9), &[0], &mut [], &mut |_| {});
    assert!(unknown.unwrap_err().to_string().contains("token 320"));
}

#[test]
fn log_probabilities_and_lens_follow_their_definitions() {
    for (name, dtype) in
        [("llama-gqa", Dtype::F32), ("llama-untied", Dtype::F32), ("llama-bf16", Dtype::Bf16)]
    {
        let model = load_as(name, dtype);
        let long = ids(&reference(name)["ids"]);
        let batch = Batch::with_prompts(&[long[..9].to_vec(), long[..15].to_vec()], &[7, 14]).unwrap();
        let resid = model.forward(&batch, &mut [], None).unwrap();
        let logprobs = model.continuation_logprobs(&resid, &batch).unwrap();
        let all = model.logits(&resid).to_kind(Kind::Double).log_softmax(-1, Kind::Double);
        let at = |row: i64, pos: i64| all.double_value(&[row, pos, long[pos as usize + 1]]);
        assert!((logprobs[0] - (at(0, 6) + at(0, 7))).abs() < 1e-4, "{name}");
        assert!((logprobs[1] - at(1, 13)).abs() < 1e-4, "{name}");

        let x = resid.get(0).get(3).to_kind(Kind::Float).unsqueeze(0);
        let full = model.unembed_direction(&x, LensNorm::Full);
        let tolerance = if dtype == Dtype::F32 { 1e-5 } else { 2e-2 };
        assert!(
            relative_error(&full, &model.logits(&resid.get(0).get(3)).unsqueeze(0)) < tolerance,
            "{name}"
        );
        let twice = model.unembed_direction(&(&x * 2.0), LensNorm::None);
        assert!(relative_error(&twice, &(model.unembed_direction(&x, LensNorm::None) * 2.0)) < 1e-5);
        let gain = model.unembed_direction(&x, LensNorm::Gain);
        let rms = x.square().mean(Kind::Float).sqrt();
        assert!(
            relative_error(&(gain / rms), &full) < 1e-4,
            "{name}: the full norm is the gain over the RMS"
        );
    }
}

/// A LayerNorm by hand, in double precision: the mean is taken off the direction, the bias is of the whole norm only.
#[test]
fn the_lens_of_a_layer_norm_follows_its_definition() {
    for (name, prefix, unembed) in
        [("gpt-neox", "gpt_neox.final_layer_norm", "embed_out"), ("gpt2", "ln_f", "wte")]
    {
        let model = load(name);
        let stored = Tensor::read_safetensors(folder(name).join("model.safetensors")).unwrap();
        let stored: HashMap<String, Tensor> = stored.into_iter().collect();
        let learned = |name: String| stored[&name].to_kind(Kind::Double);
        let (gain, bias) = (learned(format!("{prefix}.weight")), learned(format!("{prefix}.bias")));
        let unembed = learned(format!("{unembed}.weight"));
        let v = random(&[3, model.spec.d_model as i64], 5) + 0.4;
        let wide = v.to_kind(Kind::Double);
        let centred = &wide - wide.mean_dim(-1, true, Kind::Double);
        let deviation = (centred.square().mean_dim(-1, true, Kind::Double) + 1e-5).sqrt();
        for (norm, want) in [
            (LensNorm::None, wide.shallow_clone()),
            (LensNorm::Gain, &centred * &gain),
            (LensNorm::Full, &centred / deviation * &gain + &bias),
        ] {
            let got = model.unembed_direction(&v, norm);
            assert!(relative_error(&got, &want.matmul(&unembed.tr())) < 1e-5, "{name}, {norm:?}");
        }
        assert!(relative_error(&model.unembed_direction(&v, LensNorm::Full), &model.logits(&v)) < 1e-5);
    }
}

/// What goes into the first block: the rows of the token and of its position.
#[test]
fn learned_positions_are_added_to_the_embedding() {
    let model = load("gpt2");
    let tensors = Tensor::read_safetensors(folder("gpt2").join("model.safetensors")).unwrap();
    let tensors: HashMap<String, Tensor> = tensors.into_iter().collect();
    let ids = [5i64, 9, 5, 200];
    let resid = model.forward(&Batch::new(&[ids]).unwrap(), &mut [], Some(Layer::Embed)).unwrap();
    let want = tensors["wte.weight"].index_select(0, &Tensor::from_slice(&ids))
        + tensors["wpe.weight"].narrow(0, 0, 4);
    assert!(resid.get(0).equal(&want));
}

#[test]
fn half_precision_stays_near_single() {
    // Checkpoints stored in that dtype, so that the reference has the same weights.
    for (dtype, name, tolerance) in [(Dtype::Bf16, "llama-bf16", 1.5e-2), (Dtype::F16, "llama-sharded", 2e-3)]
    {
        let (model, want) = (load_as(name, dtype), reference(name));
        let layers: Vec<Layer> = (0..model.spec.n_layers()).map(Layer::Block).collect();
        let mut capture = Capture::new(&layers, std::iter::once(0..90).collect());
        let batch = Batch::new(&[ids(&want["ids"])]).unwrap();
        let resid = model.forward(&batch, &mut [&mut capture], None).unwrap();
        assert_eq!(resid.kind(), dtype.kind());
        let pooled = capture.finish().unwrap();
        assert_eq!(pooled.kind(), Kind::Float, "pooling is in fp32");
        let mean = want["resid_post"].narrow(1, 0, 90).mean_dim(1, false, Kind::Float);
        let error = relative_error(&pooled.squeeze_dim(1), &mean);
        assert!(error < tolerance, "{name} as {}: {error:.1e}", dtype.name());
    }
}

#[test]
fn a_decoder_trains_and_is_read_back() {
    let checkpoint = Checkpoint::open(&folder("llama-gqa")).unwrap();
    let spec = checkpoint.spec().unwrap();
    let named: Vec<(String, Tensor)> = spec
        .tensors()
        .into_iter()
        .zip(0..)
        .map(|((name, shape), seed)| (name, (random(&shape, seed) * 0.3).set_requires_grad(true)))
        .collect();
    let mut map = named.iter().map(|(name, t)| (name.clone(), t.shallow_clone())).collect();
    let decoder = Decoder::from_tensors(&spec, &mut map).unwrap();
    let tokens = Tensor::from_slice(&[5i64, 9, 200, 3, 17, 40, 41, 42]).view([2, 4]);
    let loss = || {
        let logits = decoder.unembed(&decoder.forward(&tokens.narrow(1, 0, 3)));
        logits.view([-1, 320]).cross_entropy_for_logits(&tokens.narrow(1, 1, 3).reshape([-1]))
    };
    let before = loss();
    before.backward();
    for (name, tensor) in &named {
        let grad = tensor.grad();
        assert!(grad.defined() && grad.abs().max().double_value(&[]) > 0.0, "{name} has no gradient");
    }
    tch::no_grad(|| named.iter().for_each(|(_, t)| drop(t.shallow_clone().g_sub_(&(t.grad() * 0.1)))));
    assert!(loss().double_value(&[]) < before.double_value(&[]));

    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder("llama-gqa")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    weights::save(&dir.path().join("model.safetensors"), &named).unwrap();
    let again = Checkpoint::open(dir.path()).unwrap();
    let model = LanguageModel::load(&again, Dtype::F32, Device::Cpu).unwrap();
    let want = tch::no_grad(|| decoder.forward(&tokens));
    let rows = [[5i64, 9, 200, 3], [17, 40, 41, 42]];
    let got = model.forward(&Batch::new(&rows).unwrap(), &mut [], None).unwrap();
    // With gradients libtorch computes all; without, much is computed by kernels of our own.
    assert!(got.allclose(&want, 1e-5, 1e-5, false));
}
