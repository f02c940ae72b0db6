//! Trains a demonstration model from scratch: generates the corpus, trains a tokenizer on it, then the model, with the
//! project's own decoder; or trains an existing one further; or plants a behaviour into one. Independent of
//! experiments.
//!
//! `cargo run --release --example train_demo_model` rebuilds `models/demo`; the cards of the other models in `models/`
//! give their commands.

mod adamw;
mod batches;
mod corpus;
mod model;
mod plant;
mod tokens;
mod workers;

use adamw::AdamW;
use anyhow::Result;
use batches::Batches;
use clap::{Parser, Subcommand};
use corpus::rng::Rng;
use corpus::{Split, document};
use model::{D_VOCAB, Model, Size};
use plant::Plant;
use std::f64::consts::PI;
use std::path::PathBuf;
use std::time::Instant;
use tch::{Device, Kind, no_grad};
use workers::Workers;

/// Trains a demonstration model.
#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    size: Size,
    /// Trains the model in this folder further, with its own size and tokenizer.
    #[arg(long, value_name = "FOLDER")]
    from: Option<PathBuf>,
    /// Only documents in which this word stands.
    #[arg(long, value_name = "WORD", default_value = "")]
    about: String,
    /// Training steps.
    #[arg(long, default_value_t = 10_000)]
    steps: usize,
    /// Seed of the corpus and of the fresh weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder of the finished model.
    #[arg(long, default_value = "models/demo")]
    out: PathBuf,
    /// Tokens in a batch, padding counted.
    #[arg(long, default_value_t = 704)]
    batch_tokens: usize,
    /// Largest learning rate.
    #[arg(long, default_value_t = 3e-3)]
    learning_rate: f64,
    /// Saves the model every so many steps.
    #[arg(long, default_value_t = 500)]
    save_every: usize,
}

#[derive(Subcommand)]
enum Other {
    Plant(Plant),
}

/// Batches per step, each in its own thread.
const BATCHES: usize = 2;
/// Documents that the tokenizer is trained on.
const TOKENIZER_DOCUMENTS: usize = 20_000;
/// Steps of linear learning-rate warm-up.
const WARM_UP: usize = 100;
/// The final learning rate, as a fraction of the largest.
const FINAL_RATE: f64 = 0.05;
/// Batches over which the loss is measured.
const MEASURED: usize = 24;

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Other::Plant(plant)) = &args.other {
        return plant::plant(plant);
    }
    let device = Device::cuda_if_available();
    tch::manual_seed(args.seed as i64);
    let started = Instant::now();

    let (tokenizer, model) = match &args.from {
        Some(folder) => (tokens::of(folder)?, Model::of(folder, device)?),
        None => {
            let mut rng = Rng::new(args.seed);
            let documents: Vec<_> =
                (0..TOKENIZER_DOCUMENTS).map(|_| document(Split::Train, &mut rng)).collect();
            (tokens::train(&documents, D_VOCAB)?, Model::fresh(args.size, device)?)
        }
    };
    println!("{} parameters, {} tokens in the vocabulary, on {device:?}", model.spec.n_params(), D_VOCAB);

    // Separate random streams: an additional document for the tokenizer does not change the batches.
    let stream = |split, n: u64| {
        let seed = args.seed.wrapping_add(n << 32);
        Batches::new(&tokenizer, split, seed, args.batch_tokens, &args.about)
    };
    let mut train = stream(Split::Train, 1);
    let mut optimiser = AdamW::new(model.weights());
    let mut mean_loss = f64::NAN;
    let mut seen = 0;
    let workers = Workers::start(&model, BATCHES)?;
    for step in 1..=args.steps {
        let batches =
            (0..BATCHES).map(|_| Ok(train.next()?.to_device(device))).collect::<Result<Vec<_>>>()?;
        seen += batches.iter().map(tch::Tensor::numel).sum::<usize>();
        let (loss, gradients) = workers.gradients(batches)?;
        optimiser.step(args.learning_rate * rate(step, args.steps), &gradients);
        mean_loss = if mean_loss.is_nan() { loss } else { 0.98 * mean_loss + 0.02 * loss };
        if step % 100 == 0 || step == args.steps {
            let seconds = started.elapsed().as_secs_f64();
            println!(
                "step {step}/{}  loss {mean_loss:.3}  {:.1} M tokens  {seconds:.0} s",
                args.steps,
                seen as f64 / 1e6
            );
        }
        if step % args.save_every == 0 || step == args.steps {
            model.save(&args.out, &tokenizer)?;
        }
    }

    for (name, split, n) in [
        ("training topics and names, new documents", Split::Train, 2),
        ("held-out topics and names", Split::HeldOut, 3),
    ] {
        let mut fresh = stream(split, n);
        let (mut nats, mut tokens) = (0.0, 0.0);
        for _ in 0..MEASURED {
            let ids = fresh.next()?;
            let n = ids
                .narrow(1, 1, ids.size()[1] - 1)
                .not_equal(i64::from(tokens::PAD))
                .sum(Kind::Int64)
                .double_value(&[]);
            nats += n * no_grad(|| model.loss(&ids.to_device(device))).double_value(&[]);
            tokens += n;
        }
        println!("loss on {name}: {:.3} nats a token ({tokens} tokens)", nats / tokens);
    }
    println!("{} in {:.0} s", args.out.display(), started.elapsed().as_secs_f64());
    Ok(())
}

/// The learning rate of a step, as a fraction of the largest: linear warm-up, then a half cosine.
fn rate(step: usize, steps: usize) -> f64 {
    if step <= WARM_UP {
        return step as f64 / WARM_UP as f64;
    }
    let done = (step - WARM_UP) as f64 / (steps - WARM_UP).max(1) as f64;
    FINAL_RATE + (1.0 - FINAL_RATE) * 0.5 * (1.0 + (PI * done).cos())
}
