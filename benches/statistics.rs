//! How long intervals and nulls take: `geometry` on 171 emotions in 100 topics, d_model 2,048, with 1,000 resamples and
//! 1,000 permutations, for each of 16 layers. Numbers are drawn at random: only their count matters.
//!
//!     cargo bench --bench statistics [-- LAYERS]

use std::time::Instant;

use anyhow::Result;
use emoflow::lm::Chat;
use emoflow::stages::analysis::geometry::Geometry;
use emoflow::stages::analysis::{Activations, Analysis, Input, VectorSet};
use emoflow::stages::statistics::draws::Draws;
use emoflow::stages::vectors::{self, Center, Denoise};
use emoflow::store::table::{Column, Table};

const EMOTIONS: usize = 171;
const TOPICS: usize = 100;
const D_MODEL: usize = 2048;

fn main() -> Result<()> {
    let layers = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(16);
    let analysis = Analysis::Geometry(Geometry {
        pairs: Vec::new(),
        families: Vec::new(),
        resamples: 1000,
        permutations: 1000,
        halves: 0,
    });
    let emotions: Vec<String> = (0..EMOTIONS).map(|e| format!("emotion {e}")).collect();
    let params = vectors::Params { center: Center::Emotions, denoise: Denoise::None, normalize: false };
    let mut seconds = 0.0;
    for layer in 0..layers {
        // A shard a topic, of one story an emotion.
        let shards: Vec<Table> = (0..TOPICS).map(|topic| shard(layer, topic, &emotions)).collect();
        let table = vectors::run(&params, shards.iter().cloned().map(Ok), &emotions, None)?;
        let set = VectorSet::from_tables("m", "s", layers, &[table])?;
        let begun = Instant::now();
        let activations = Activations {
            shards: TOPICS,
            read: &|shard| Ok(shards[shard].clone()),
            stories: &|_| anyhow::bail!("every story has a topic"),
            params: &params,
            neutral: None,
        };
        let progress = &mut |_: usize, _: usize| {};
        analysis.run(Input {
            set: &set,
            activations: Some(activations),
            model: None,
            chat: Chat::default(),
            seed: 0,
            progress,
        })?;
        let took = begun.elapsed().as_secs_f64();
        println!("layer {layer}: {took:.2} s");
        seconds += took;
    }
    let threads = std::thread::available_parallelism()?;
    println!("{layers} layers: {seconds:.1} s on {threads} threads; peak memory {} MB", peak_mb());
    Ok(())
}

fn shard(layer: usize, topic: usize, emotions: &[String]) -> Table {
    let mut draws = Draws::new("bench", &[layer as u64, topic as u64]);
    let n = emotions.len();
    let values = (0..n * D_MODEL).map(|_| (draws.bits() >> 40) as f32 / (1u32 << 24) as f32 - 0.5).collect();
    Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..n).map(|e| format!("{topic}/{e}")).collect())),
            ("emotion", Column::OptStr(emotions.iter().cloned().map(Some).collect())),
            ("topic", Column::OptStr(vec![Some(format!("topic {topic}")); n])),
            ("layer", Column::I32(vec![layer as i32; n])),
            ("n_tokens", Column::I32((0..n).map(|_| 50 + draws.below(50) as i32).collect())),
            ("activation", Column::List { width: D_MODEL, values, half: false }),
        ],
    )
}

/// The most memory that this process has had, as Linux counts it; 0 elsewhere.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}
