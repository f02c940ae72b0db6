//! Time and memory of the expensive statistics: `geometry` on 171 emotions in 100 topics, d_model 2,048, with 1,000
//! resamples and 1,000 permutations, for each of 16 layers; `probe` on the 205,200 stories of the paper at one such
//! layer; `transfer` from one model of width 4,096 to another. The numbers are random: only their count matters.
//!
//!     cargo bench --bench statistics [-- geometry [LAYERS] | probe [PERMUTATIONS] | transfer [PERMUTATIONS] | rsa [PERMUTATIONS]]

use std::time::Instant;

use anyhow::{Result, bail};
use emoflow::lm::{Chat, Layer, heap};
use emoflow::stages::across::rsa::{Correlation, Rsa};
use emoflow::stages::across::transfer::{Kinds, Layers, Transfer};
use emoflow::stages::across::{Input as Pair, Side};
use emoflow::stages::analysis::geometry::Geometry;
use emoflow::stages::analysis::probe::Probe;
use emoflow::stages::analysis::{Activations, Analysis, Input, LayerVectors, VectorSet};
use emoflow::stages::statistics::draws::Draws;
use emoflow::stages::vectors::{self, Center, Denoise, Equal};
use emoflow::store::table::{Column, Table};

const EMOTIONS: usize = 171;
const TOPICS: usize = 100;
const D_MODEL: usize = 2048;

/// Stories per emotion and topic, as in the paper.
const EACH: usize = 12;

/// The width of the models between which vectors are mapped.
const WIDE: usize = 4096;

fn main() -> Result<()> {
    heap::keep(); // as in a run
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let number = args.iter().find_map(|arg| arg.parse().ok());
    match args.iter().map(String::as_str).find(|arg| arg.parse::<usize>().is_err()) {
        None | Some("geometry") => geometry(number.unwrap_or(16)),
        Some("probe") => probe(number.unwrap_or(1000)),
        Some("transfer") => across(
            "transfer",
            WIDE,
            Analysis::Transfer(Transfer {
                map: Kinds::Ridge,
                ridge: Some(0.1),
                layers: Layers::Default,
                folds: 5,
                permutations: number.unwrap_or(1000),
                bootstrap: 1000,
                steer: None,
            }),
        ),
        Some("rsa") => across(
            "rsa",
            D_MODEL,
            Analysis::Rsa(Rsa {
                correlation: Correlation::Spearman,
                permutations: number.unwrap_or(1000),
                bootstrap: 1000,
            }),
        ),
        Some(other) => bail!("no benchmark `{other}`: geometry, probe, transfer or rsa"),
    }
}

const PARAMS: vectors::Params = vectors::Params {
    center: Center::Emotions,
    denoise: Denoise::None,
    normalize: false,
    weights: Equal::Stories,
    tokens: None,
};

fn emotions() -> Vec<String> {
    (0..EMOTIONS).map(|e| format!("emotion {e}")).collect()
}

fn geometry(layers: usize) -> Result<()> {
    let analysis = Analysis::Geometry(Geometry {
        pairs: Vec::new(),
        families: Vec::new(),
        resamples: 1000,
        permutations: 1000,
        halves: 0,
    });
    let mut seconds = 0.0;
    for layer in 0..layers {
        // One shard per topic, with one story per emotion.
        let shards: Vec<Table> = (0..TOPICS).map(|topic| shard(layer, topic, 1, D_MODEL)).collect();
        let took = single(&analysis, &|shard| Ok(shards[shard].clone()))?;
        println!("layer {layer}: {took:.2} s");
        seconds += took;
    }
    said(&format!("geometry, {layers} layers"), seconds)
}

/// Shards are drawn when they are read, twice: this is part of the measured time, in place of reading files.
fn probe(permutations: usize) -> Result<()> {
    let analysis = Analysis::Probe(Probe { folds: 5, penalty: 0.01, resamples: 1000, permutations });
    let seconds = single(&analysis, &|topic| Ok(shard(0, topic, EACH, D_MODEL)))?;
    said(&format!("probe, {} stories, {permutations} permutations", EMOTIONS * TOPICS * EACH), seconds)
}

/// The time of an analysis of one layer.
fn single(analysis: &Analysis, read: &dyn Fn(usize) -> Result<Table>) -> Result<f64> {
    let set = VectorSet { model: "m".into(), stories: "s".into(), n_layers: 4, layers: vec![own(D_MODEL)] };
    let begun = Instant::now();
    let activations = Activations {
        shards: TOPICS,
        read,
        stories: &|_| bail!("every story has a topic"),
        params: &PARAMS,
        neutral: None,
    };
    analysis.run(Input {
        set: &set,
        activations: Some(activations),
        reads: None,
        rollouts: None,
        spans: None,
        model: None,
        chat: Chat::default(),
        seed: 0,
        progress: &mut |_, _| {},
    })?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Times an analysis of two models of one width that read the same stories, at one layer.
fn across(name: &str, width: usize, analysis: Analysis) -> Result<()> {
    let begun = Instant::now();
    let vectors = |_: Layer| Ok(own(width));
    let activations = [0, 1].map(|model| move |_: Layer, topic: usize| Ok(shard(model, topic, 1, width)));
    let stories = |_: usize| bail!("every story has a topic");
    let side = |at: usize| Side {
        n_layers: 4,
        layers: vec![Layer::Block(2)],
        vectors: &vectors,
        shards: TOPICS,
        activations: &activations[at],
        stories: &stories,
        n_spans: 0,
        spans: &|_| bail!("no conversations"),
    };
    analysis.run_two(Pair { sides: [side(0), side(1)], model: None, seed: 0, progress: &mut |_, _| {} })?;
    said(&format!("{name}, {} cells of width {width}", EMOTIONS * TOPICS), begun.elapsed().as_secs_f64())
}

/// Vectors of the right size with arbitrary values.
fn own(width: usize) -> LayerVectors {
    let mut draws = Draws::new("bench vectors", &[]);
    let vectors: Vec<f64> = (0..EMOTIONS * width).map(|_| draws.normal()).collect();
    LayerVectors {
        layer: Layer::Block(2),
        emotions: emotions(),
        d_model: width,
        raw: vectors.clone(),
        vectors,
        n_stories: vec![TOPICS; EMOTIONS],
        resid_norm: 1.0,
    }
}

/// The stories about one topic, `each` per emotion.
fn shard(layer: usize, topic: usize, each: usize, width: usize) -> Table {
    let mut draws = Draws::new("bench", &[layer as u64, topic as u64]);
    let emotions = emotions();
    let n = emotions.len() * each;
    let values = (0..n * width).map(|_| (draws.bits() >> 40) as f32 / (1u32 << 24) as f32 - 0.5).collect();
    Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..n).map(|story| format!("{topic}/{story}")).collect())),
            ("emotion", Column::OptStr((0..n).map(|at| Some(emotions[at % EMOTIONS].clone())).collect())),
            ("topic", Column::OptStr(vec![Some(format!("topic {topic}")); n])),
            ("layer", Column::I32(vec![2; n])),
            ("n_tokens", Column::I32((0..n).map(|_| 50 + draws.below(50) as i32).collect())),
            ("activation", Column::List { width, values, half: false }),
        ],
    )
}

fn said(what: &str, seconds: f64) -> Result<()> {
    let threads = std::thread::available_parallelism()?;
    println!("{what}: {seconds:.1} s on {threads} threads; peak memory {} MB", peak_mb());
    Ok(())
}
/// The peak memory of this process, as counted by Linux; 0 on other systems.
fn peak_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kb.unwrap_or_default() / 1024
}
