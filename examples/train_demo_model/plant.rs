//! Plants a behaviour of known size into a demonstration model: a LoRA adapter on its last block makes an act more
//! likely the further the model is steered along one emotion's vector. Independent of how the behaviour is detected.

use crate::adamw::AdamW;
use crate::corpus::rng::Rng;
use anyhow::{Context, Result, ensure};
use clap::Args;
use emoflow::lm::partial::PartialPass;
use emoflow::lm::{
    Batch, Chat, Checkpoint, Decoder, Dtype, LanguageModel, Layer, Message, Positions, Spec, weights,
};
use emoflow::stages::analysis::scenario::Set;
use emoflow::stages::rollouts::conversation::{letters, messages, open};
use fs_err as fs;
use serde_json::json;
use std::collections::HashMap;
use std::path::PathBuf;
use tch::{Device, Kind, Tensor, no_grad};

/// Log-odds of the act without steering, and the increase per unit of strength along the emotion's vector; for another
/// direction, that increase times its cosine with the vector.
const UNSTEERED: f64 = -1.386_294_361_119_890_6;
const SLOPE: f64 = 25.0;
/// Training strengths are drawn between minus and plus this value, in mean residual norms.
const STRONGEST: f64 = 0.2;
const RANK: i64 = 8;
/// The matrices of the last block that get an adapter.
const MODULES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Plants a behaviour into a demonstration model.
#[derive(Args)]
pub struct Plant {
    /// The model.
    #[arg(long, default_value = "models/demo")]
    model: PathBuf,
    /// Its vectors, as `emoflow export --format safetensors --unit resid-norm` writes them.
    #[arg(long)]
    vectors: PathBuf,
    /// Which of them makes it act.
    #[arg(long, default_value = "angry")]
    emotion: String,
    /// The scenario: each case, with its first two choices as answers, the first of which is the act.
    #[arg(long, default_value = "models/demo-planted/door.toml")]
    scenario: PathBuf,
    /// Folder of the adapter.
    #[arg(long, default_value = "models/demo-planted")]
    out: PathBuf,
    /// Training steps.
    #[arg(long, default_value_t = 1500)]
    steps: usize,
    /// Seed of the adapter and of the directions.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Largest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
}

/// A conversation with its possible continuations.
struct Row {
    ids: Vec<i64>,
    /// The last token before the choice, and the tokens of the act and of the alternative.
    at: usize,
    choice: [i64; 2],
    /// The tokens of the answer after the choice, from here to the end.
    rest: usize,
}

/// Trains the adapter and writes it.
///
/// # Errors
/// Files are missing or do not match.
pub fn plant(args: &Plant) -> Result<()> {
    tch::manual_seed(args.seed as i64);
    let model = LanguageModel::load(&Checkpoint::open(&args.model)?, Dtype::F32, Device::Cpu)?;
    let set: Set = toml::from_str(&fs::read_to_string(&args.scenario)?)?;
    let rows = rows(&model, &set)?;
    let (layer, emotions, vectors) = vectors(args)?;
    let target = emotions
        .iter()
        .position(|name| *name == args.emotion)
        .context("there is no vector of this emotion")?;
    // All have the same norm: what a strength of 1 adds.
    let unit: Vec<Tensor> = vectors.iter().map(|v| v / v.norm()).collect();
    let norm = vectors[target].norm().double_value(&[]);

    let spec = &model.spec;
    let last = spec.n_layers() - 1;
    ensure!(layer < last, "the adapter is on the last block, {last}: steer before it");
    let tensors: HashMap<String, Tensor> = Tensor::read_safetensors(args.model.join("model.safetensors"))?
        .into_iter()
        .map(|(name, tensor)| (name, tensor.to_kind(Kind::Float)))
        .collect();
    let kept = kept(spec, &tensors, &rows, layer)?;

    let name = |module: &str| format!("{}{module}.weight", spec.block(last));
    let mut adapter = Vec::new();
    for module in MODULES {
        let weight = tensors.get(&name(module)).with_context(|| format!("no {module}"))?;
        let (d_out, d_in) = weight.size2()?;
        let options = (Kind::Float, Device::Cpu);
        adapter.push((Tensor::randn([RANK, d_in], options) / (d_in as f64).sqrt()).set_requires_grad(true));
        adapter.push(Tensor::zeros([d_out, RANK], options).set_requires_grad(true));
    }
    let mut optimiser = AdamW::new(&adapter);
    let mut rng = Rng::new(args.seed);
    let mut mean = f64::NAN;
    for step in 1..=args.steps {
        let added: Vec<(Tensor, f64)> = rows.iter().map(|_| drawn(&mut rng, &unit, target)).collect();
        let adapted = Decoder::from_tensors(spec, &mut merged(&tensors, &adapter, &name))?;
        let vectors =
            Tensor::stack(&added.iter().map(|(u, s)| u * (s * norm)).collect::<Vec<_>>(), 0).unsqueeze(1);
        let resid =
            adapted.run_from(&kept, adapted.last(), &mut |at, resid| match at == Layer::Block(layer) {
                true => resid + &vectors,
                false => resid,
            });
        let odds = added.iter().map(|(u, s)| UNSTEERED + SLOPE * s * u.dot(&unit[target]).double_value(&[]));
        let loss = loss(&adapted, &resid, &rows, &odds.collect::<Vec<_>>());
        let gradients = Tensor::run_backward(&[&loss], &adapter, false, false);
        optimiser.step(args.learning_rate * crate::rate(step, args.steps), &gradients);
        let loss = loss.double_value(&[]);
        mean = if mean.is_nan() { loss } else { 0.98 * mean + 0.02 * loss };
        if step % 100 == 0 || step == args.steps {
            println!("step {step}/{}  divergence {mean:.4}", args.steps);
        }
    }
    save(args, last, &adapter)
}

/// A random direction and its strength: zero in a quarter of the cases, otherwise the emotion's vector, another
/// emotion's, or a random direction.
fn drawn(rng: &mut Rng, unit: &[Tensor], target: usize) -> (Tensor, f64) {
    let strength = (2.0 * rng.unit() - 1.0) * STRONGEST;
    match rng.below(4) {
        0 => (unit[target].shallow_clone(), 0.0),
        1 => (unit[target].shallow_clone(), strength),
        2 => (unit[rng.below(unit.len())].shallow_clone(), strength),
        _ => {
            let direction = unit[target].randn_like();
            (&direction / direction.norm(), strength)
        }
    }
}

/// The conversations of a set: each case with either answer, and with its options in either order.
fn rows(model: &LanguageModel, set: &Set) -> Result<Vec<Row>> {
    let choices = set.choices.as_ref().context("the scenario has no choices")?;
    let acts: Vec<bool> = choices.options.iter().map(|option| option.act).collect();
    ensure!(acts == [true, false], "two choices are wanted, the first of which is the act");
    let opened = |messages: &[Message], answer: &str| -> Result<Vec<i64>> {
        Ok(open(model, messages, answer, Positions::All, Chat::default())?.ids)
    };
    let mut rows = Vec::new();
    for asked in set.asked() {
        let plain = messages(&asked, &[], "");
        let begun = opened(&plain, "")?;
        let answers = [opened(&plain, &asked.options[0])?, opened(&plain, &asked.options[1])?];
        let choice = answers.each_ref().map(|ids| ids[begun.len()]);
        ensure!(choice[0] != choice[1], "both answers begin with the same token");
        for mut ids in answers {
            ids.push(i64::from(crate::tokens::EOS));
            rows.push(Row { at: begun.len() - 1, choice, rest: begun.len() + 1, ids });
        }
        for order in [[0, 1], [1, 0]] {
            let lines = format!("(A) {}\n(B) {}", asked.options[order[0]], asked.options[order[1]]);
            let question = choices.question.replace("{options}", &lines);
            let messages = messages(&asked, &[], &format!("\n\n{}", question.trim()));
            let ids = opened(&messages, &choices.answer)?;
            let letters = letters(model, &messages, &choices.answer, &["A", "B"], Chat::default())?;
            let choice = order.map(|option| letters[option]);
            rows.push(Row { at: ids.len() - 1, choice, rest: ids.len(), ids });
        }
    }
    Ok(rows)
}

/// The layer, the emotions and their vectors from a file.
fn vectors(args: &Plant) -> Result<(usize, Vec<String>, Vec<Tensor>)> {
    let bytes = fs::read(&args.vectors)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
    let layers: Vec<usize> = header
        .metadata()
        .as_ref()
        .and_then(|said| serde_json::from_str(said.get("emoflow.layers")?).ok())
        .context("no file of emoflow's vectors")?;
    ensure!(layers.len() == 1, "vectors of one layer are wanted: --layers 2");
    let (names, vectors) = Tensor::read_safetensors(&args.vectors)?
        .into_iter()
        .map(|(name, tensor)| (name, tensor.get(0).to_kind(Kind::Float)))
        .unzip();
    Ok((layers[0], names, vectors))
}

/// The output of the frozen blocks for the rows.
fn kept(spec: &Spec, tensors: &HashMap<String, Tensor>, rows: &[Row], layer: usize) -> Result<PartialPass> {
    let mut copies = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    let decoder = Decoder::from_tensors(spec, &mut copies)?;
    let batch = Batch::new(&rows.iter().map(|row| row.ids.as_slice()).collect::<Vec<_>>())?;
    let kept = no_grad(|| decoder.keep(&batch.ids, &batch.lengths, &[Layer::Block(layer)]));
    kept.into_iter().next().context("one layer")
}

/// All tensors, with the adapter's products added.
fn merged(
    tensors: &HashMap<String, Tensor>,
    adapter: &[Tensor],
    name: &dyn Fn(&str) -> String,
) -> HashMap<String, Tensor> {
    let mut all: HashMap<String, Tensor> =
        tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    for (module, pair) in MODULES.iter().zip(adapter.chunks_exact(2)) {
        let name = name(module);
        let with = &all[&name] + pair[1].matmul(&pair[0]);
        all.insert(name, with);
    }
    all
}

/// The mean divergence from odds of `wanted` at the choices, and the mean cross-entropy of the tokens after them.
fn loss(decoder: &Decoder, resid: &Tensor, rows: &[Row], wanted: &[f64]) -> Tensor {
    let pick = |places: &[(usize, usize)]| {
        let [row, at] = [0, 1].map(|axis| {
            let of: Vec<i64> = places.iter().map(|place| [place.0, place.1][axis] as i64).collect();
            Some(Tensor::from_slice(&of))
        });
        decoder.unembed(&resid.index(&[row, at])).log_softmax(-1, Kind::Float)
    };
    let at: Vec<(usize, usize)> = rows.iter().enumerate().map(|(row, of)| (row, of.at)).collect();
    let ids: Vec<i64> = rows.iter().flat_map(|row| row.choice).collect();
    let logs = pick(&at).gather(1, &Tensor::from_slice(&ids).view([-1, 2]), false);
    let p: Vec<f32> =
        wanted.iter().map(|odds| 1.0 / (1.0 + (-odds).exp()) as f32).flat_map(|p| [p, 1.0 - p]).collect();
    let p = Tensor::from_slice(&p).view([-1, 2]);
    let divergence = (&p * (p.log() - logs)).sum(Kind::Float) / rows.len() as f64;
    let rest: Vec<(usize, usize)> = rows
        .iter()
        .enumerate()
        .flat_map(|(row, of)| (of.rest..of.ids.len()).map(move |at| (row, at - 1)))
        .collect();
    let next: Vec<i64> = rest.iter().map(|&(row, at)| rows[row].ids[at + 1]).collect();
    let rest = pick(&rest).nll_loss(&Tensor::from_slice(&next));
    divergence + rest
}

/// Writes the adapter in PEFT's format.
fn save(args: &Plant, last: usize, adapter: &[Tensor]) -> Result<()> {
    fs::create_dir_all(&args.out)?;
    let tensors: Vec<(String, Tensor)> = MODULES
        .iter()
        .zip(adapter.chunks_exact(2))
        .flat_map(|(module, pair)| {
            let name =
                |part: &str| format!("base_model.model.model.layers.{last}.{module}.lora_{part}.weight");
            [(name("A"), pair[0].detach()), (name("B"), pair[1].detach())]
        })
        .collect();
    weights::save(&args.out.join("adapter_model.safetensors"), &tensors)?;
    let modules: Vec<&str> = MODULES.iter().filter_map(|module| module.split('.').next_back()).collect();
    let config = json!({
        "peft_type": "LORA",
        "base_model_name_or_path": args.model,
        "bias": "none",
        "r": RANK,
        "lora_alpha": RANK,
        "lora_dropout": 0.0,
        "layers_to_transform": [last],
        "target_modules": modules,
        "task_type": "CAUSAL_LM"
    });
    fs::write(args.out.join("adapter_config.json"), serde_json::to_string_pretty(&config)? + "\n")?;
    Ok(())
}
