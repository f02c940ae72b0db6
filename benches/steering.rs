//! Measures the cost of steering along many directions if their passes share the computation below the steered layer,
//! compared with as many full passes: forty directions at two thirds of the depth of a checkpoint, over one set of
//! texts. Both must give the same numbers.
//!
//!     cargo run --release --example random_checkpoint -- smollm2-135m DIR
//!     cargo bench --bench steering -- DIR [--layer 20] [--directions 40]

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use emoflow::lm::{Batch, Checkpoint, Dtype, DtypePolicy, LanguageModel, Layer, Positions, Steer, device};
use emoflow::stages::statistics::draws::Draws;
use tch::{Kind, Tensor};

#[derive(Parser)]
struct Args {
    /// Folder of a checkpoint.
    checkpoint: PathBuf,
    /// After which block the directions are added; two thirds of the depth.
    #[arg(long)]
    layer: Option<usize>,
    #[arg(long, default_value_t = 40)]
    directions: usize,
    #[arg(long, default_value = "auto")]
    device: String,
    /// Texts, and tokens of the longest; the shortest has half of them.
    #[arg(long, default_value_t = 16)]
    texts: usize,
    #[arg(long, default_value_t = 48)]
    tokens: usize,
    /// How often each way is measured, by turns.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let device = device::choose(&args.device)?.device;
    let checkpoint = Checkpoint::open(&args.checkpoint)?;
    let weights = checkpoint.spec()?.dtype;
    let model =
        LanguageModel::load(&checkpoint, DtypePolicy { compute: Dtype::F32, ..weights.into() }, device)?;
    let n_layers = model.spec.n_layers();
    let layer = Layer::Block(args.layer.unwrap_or(2 * n_layers / 3));
    let mut draws = Draws::new("bench", &[0]);
    let mut row = |length| -> Vec<i64> { (0..length).map(|_| draws.below(300) as i64).collect() };
    let lengths = (0..args.texts).map(|text| args.tokens - text * args.tokens / 2 / args.texts);
    let texts: Vec<Vec<i64>> = lengths.map(&mut row).collect();
    let batch = Batch::new(&texts)?;
    let directions =
        Tensor::randn([args.directions as i64, model.spec.d_model as i64], (Kind::Float, tch::Device::Cpu));

    // Only the last token of each text is read from a pass, so that both ways wait for the same transfer.
    let last: Vec<i64> = batch.lengths.iter().map(|&length| length as i64 - 1).collect();
    let read = |resid: &Tensor| {
        let rows = Tensor::arange(resid.size()[0], (Kind::Int64, resid.device()));
        let last = Tensor::from_slice(&last).to_device(resid.device());
        let last = last.repeat([resid.size()[0] / last.size()[0]]);
        resid.index(&[Some(rows), Some(last)]).to_device(tch::Device::Cpu)
    };
    let steer = |vector: Tensor| Steer { layer, vector, strength: 4.0, spans: Positions::All.into() };
    let whole = || -> Result<Vec<Tensor>> {
        let pass = |direction| {
            let resid = model.forward(&batch, &mut [&mut steer(directions.get(direction))], None)?;
            Ok(read(&resid))
        };
        (0..args.directions as i64).map(pass).collect()
    };
    let all: Vec<usize> = (0..texts.len()).collect();
    let shared = |at_once: usize| -> Result<Vec<Tensor>> {
        let kept = &model.keep(&batch, &[layer])?[0];
        let mut found = Vec::new();
        for first in (0..args.directions).step_by(at_once) {
            let n = at_once.min(args.directions - first);
            let vectors = directions.narrow(0, first as i64, n as i64);
            let vectors = vectors.repeat_interleave_self_int(texts.len() as i64, 0, None::<i64>);
            let resid = model.forward_from(kept, &all.repeat(n), &mut [&mut steer(vectors)], None)?.1;
            found.extend(read(&resid).chunk(n as i64, 0));
        }
        Ok(found)
    };
    println!(
        "{} directions after block {} of {n_layers}, {} texts of up to {} tokens, {weights:?} computed in fp32 on {device:?}",
        args.directions,
        layer.number(),
        args.texts,
        args.tokens
    );
    let want = whole()?;
    let at_once = [1, 4, args.directions];
    let mut seconds = vec![Vec::new(); 1 + at_once.len()];
    for _ in 0..args.rounds {
        let begun = Instant::now();
        whole()?;
        seconds[0].push(begun.elapsed().as_secs_f64());
        for (&at_once, seconds) in at_once.iter().zip(&mut seconds[1..]) {
            let begun = Instant::now();
            let found = shared(at_once)?;
            seconds.push(begun.elapsed().as_secs_f64());
            let apart = found.iter().zip(&want).map(|(found, want)| {
                (found - want).abs().max().double_value(&[]) / want.abs().max().double_value(&[])
            });
            let apart = apart.fold(0.0, f64::max);
            ensure!(apart < 1e-4, "{at_once} directions at once are {apart:e} apart from whole passes");
        }
    }
    let median = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        seconds[seconds.len() / 2]
    };
    let plain = median(&mut seconds[0]);
    println!("whole passes                {plain:7.2} s");
    for (&at_once, seconds) in at_once.iter().zip(&mut seconds[1..]) {
        let took = median(seconds);
        println!("shared, {at_once:3} at once         {took:7.2} s, {:.3} of that", took / plain);
    }
    Ok(())
}
