//! Analyses of two sets on data with a known answer: a rotated copy is recognised as identical, and independent noise
//! is not significant more often than the stated rate.

use super::cka::Cka;
use super::rsa::{Correlation, Rsa};
use super::transfer::{Kinds, Layers, Transfer};
use super::*;
use crate::stages::analysis::{Kind, LayerVectors, Tables};
use crate::store::table::Column;

/// SplitMix64 and the sum of twelve uniform numbers, which is approximately normal.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Number of emotions, topics, stories of each, and dimensions.
#[derive(Clone, Copy)]
struct Size {
    emotions: usize,
    topics: usize,
    each: usize,
    d: usize,
}

/// One model's activations at layer 2 of 6, in one shard, with their stories and vectors.
struct Data {
    stories: Table,
    activations: Table,
    vectors: LayerVectors,
}

const LAYER: Layer = Layer::Block(2);

fn emotions(n: usize) -> Vec<String> {
    (0..n).map(|at| format!("e{at}")).collect()
}

/// Data with `value` for each emotion, topic, story and dimension.
fn data(size: Size, mut value: impl FnMut(usize, usize, usize, usize) -> f64) -> Data {
    let names = emotions(size.emotions);
    let (mut ids, mut emotion, mut topic, mut index) = (vec![], vec![], vec![], vec![]);
    let mut values: Vec<f32> = Vec::new();
    let mut means = vec![0.0; size.emotions * size.d];
    for e in 0..size.emotions {
        for t in 0..size.topics {
            for s in 0..size.each {
                ids.push(format!("{e}-{t}-{s}"));
                emotion.push(Some(names[e].clone()));
                topic.push(Some(format!("t{t}")));
                index.push(s as i32);
                for d in 0..size.d {
                    let x = value(e, t, s, d) as f32;
                    values.push(x);
                    means[e * size.d + d] += f64::from(x) / (size.topics * size.each) as f64;
                }
            }
        }
    }
    for d in 0..size.d {
        let mean = (0..size.emotions).map(|e| means[e * size.d + d]).sum::<f64>() / size.emotions as f64;
        (0..size.emotions).for_each(|e| means[e * size.d + d] -= mean);
    }
    let n = ids.len();
    Data {
        stories: Table::new(
            "stories/1",
            vec![
                ("story_id", Column::Str(ids.clone())),
                ("emotion", Column::OptStr(emotion.clone())),
                ("topic", Column::OptStr(topic.clone())),
                ("index", Column::I32(index)),
                ("writer", Column::Str(vec!["template".into(); n])),
            ],
        ),
        activations: Table::new(
            "activations/1",
            vec![
                ("story_id", Column::Str(ids)),
                ("emotion", Column::OptStr(emotion)),
                ("topic", Column::OptStr(topic)),
                ("layer", Column::I32(vec![LAYER.number(); n])),
                ("n_tokens", Column::I32(vec![9; n])),
                ("activation", Column::List { width: size.d, values, half: false }),
            ],
        ),
        vectors: LayerVectors {
            layer: LAYER,
            d_model: size.d,
            raw: means.clone(),
            vectors: means,
            n_stories: vec![size.topics * size.each; size.emotions],
            resid_norm: 1.0,
            emotions: names,
        },
    }
}

/// Structure of emotions and topics, plus noise.
fn planted(size: Size, seed: u64) -> Data {
    let mut noise = Noise(seed);
    let mut draw = |n: usize| (0..n * size.d).map(|_| noise.normal()).collect::<Vec<f64>>();
    let (of_emotion, of_topic) = (draw(size.emotions), draw(size.topics));
    let mut noise = Noise(seed ^ 0xff);
    data(size, |e, t, _, d| of_emotion[e * size.d + d] + of_topic[t * size.d + d] + 0.3 * noise.normal())
}

fn noise(size: Size, seed: u64) -> Data {
    let mut noise = Noise(seed);
    data(size, |_, _, _, _| noise.normal())
}

/// The same rows with their entries permuted, with flipped signs, times three: a rotation with a reflection.
fn turned(of: &Data, size: Size) -> Data {
    let values = of.activations.list("activation").unwrap().1.to_vec();
    let row = |e: usize, t: usize, s: usize| ((e * size.topics + t) * size.each + s) * size.d;
    data(size, |e, t, s, d| {
        let sign = if d % 2 == 0 { 3.0 } else { -3.0 };
        sign * f64::from(values[row(e, t, s) + (d * 5 + 1) % size.d])
    })
}

fn run(kind: &dyn Kind, sides: [&Data; 2], seed: u64) -> Result<Tables> {
    let reads = sides.map(|data| {
        (
            |_: Layer| Ok(data.vectors.clone()),
            |_: Layer, _: usize| Ok(data.activations.clone()),
            |_: usize| Ok(data.stories.clone()),
        )
    });
    let side = |at: usize| {
        let (vectors, activations, stories) = &reads[at];
        let (shards, n_spans, spans) = (1, 0, &|_: usize| anyhow::bail!("no spans"));
        Side { n_layers: 6, layers: vec![LAYER], vectors, shards, activations, stories, n_spans, spans }
    };
    kind.run_two(Input { sides: [side(0), side(1)], model: None, seed, progress: &mut |_, _| {} })
}

fn value(tables: &Tables, column: &str) -> f64 {
    let table = &tables[0].1;
    table.f64(column).map_or_else(|_| table.opt_f64(column).unwrap()[0].unwrap(), |values| values[0])
}

fn rsa(correlation: Correlation) -> Rsa {
    Rsa { correlation, permutations: 99, bootstrap: 50 }
}

fn cka() -> Cka {
    Cka { stories: 100, permutations: 99 }
}

fn transfer(map: Kinds) -> Transfer {
    Transfer {
        map,
        ridge: Some(1e-3),
        layers: Layers::Default,
        folds: 4,
        permutations: 99,
        bootstrap: 20,
        steer: None,
    }
}

const SIZE: Size = Size { emotions: 6, topics: 8, each: 2, d: 16 };

#[test]
fn a_rotated_copy_is_the_same() {
    let a = planted(SIZE, 1);
    let b = turned(&a, SIZE);
    for correlation in [Correlation::Spearman, Correlation::Pearson] {
        let found = run(&rsa(correlation), [&a, &b], 0).unwrap();
        assert!((value(&found, "r_same") - 1.0).abs() < 1e-6, "{}", value(&found, "r_same"));
        // As similar as the noise of the halves permits: the copy's halves are the model's own.
        assert!((value(&found, "r") - value(&found, "ceiling")).abs() < 1e-4, "{}", value(&found, "r"));
        assert!(value(&found, "r") > 0.8 && value(&found, "p") <= 0.02, "{}", value(&found, "p"));
        assert!((found[1].1.f64("r").unwrap()[0] - value(&found, "r")).abs() < 1e-12);
    }
    let found = run(&cka(), [&a, &b], 0).unwrap();
    for column in ["cka", "cka_debiased", "low", "high"] {
        assert!((value(&found, column) - 1.0).abs() < 1e-6, "{column}: {}", value(&found, column));
    }
    assert_eq!(value(&found, "p"), 0.01);
    let one = |column: &str| found[0].1.opt_f64(column).unwrap()[0].unwrap();
    assert!((one("emotions") - one("emotions_ceiling")).abs() < 1e-4 && one("emotions") > 0.9);
    assert!(one("emotions_p") <= 0.02, "{}", one("emotions_p"));
    for map in [Kinds::Ridge, Kinds::Procrustes] {
        let found = run(&Transfer { folds: 5, ..transfer(map) }, [&a, &b], 0).unwrap();
        let wanted =
            [("mean_rank", 1.0), ("low", 1.0), ("high", 1.0), ("top1", 1.0), ("p", 0.01), ("r2_p", 0.01)];
        for (column, wanted) in wanted {
            assert_eq!(value(&found, column), wanted, "{column} of {map:?}");
        }
        assert!(value(&found, "r2") > 0.8, "{}", value(&found, "r2"));
        assert_eq!(found[1].1.f64("rank").unwrap(), [1.0; 6]);
    }
}

/// The map needs only what both models share: here half of the second model's entries are independent noise.
#[test]
fn planted_emotions_are_found_through_noise() {
    let a = planted(SIZE, 2);
    let (values, mut own) = (a.activations.list("activation").unwrap().1.to_vec(), Noise(9));
    let row = |e: usize, t: usize, s: usize| ((e * SIZE.topics + t) * SIZE.each + s) * SIZE.d;
    let b = data(SIZE, |e, t, s, d| match d < SIZE.d / 2 {
        true => f64::from(values[row(e, t, s) + d]),
        false => own.normal(),
    });
    let found = run(&Transfer { ridge: Some(0.1), ..transfer(Kinds::Ridge) }, [&a, &b], 0).unwrap();
    assert!(value(&found, "mean_rank") < 1.3 && value(&found, "p") <= 0.02, "{}", value(&found, "mean_rank"));
    assert!((0.2..0.9).contains(&value(&found, "r2")), "{}", value(&found, "r2"));
    assert!(value(&found, "r2") > value(&found, "r2_null") && value(&found, "r2_p") <= 0.02);
    let found = run(&cka(), [&a, &b], 0).unwrap();
    assert_eq!(value(&found, "p"), 0.01);
    assert!((0.2..0.98).contains(&value(&found, "cka_debiased")), "{}", value(&found, "cka_debiased"));
}

const SMALL: Size = Size { emotions: 5, topics: 6, each: 1, d: 6 };

/// Pairs of models without common information about the emotions, in which nothing may be found.
fn unrelated(seed: u64) -> [(&'static str, [Data; 2]); 5] {
    let (noise, planted) = (|salt| noise(SMALL, 8 * seed + salt), |salt| planted(SMALL, 8 * seed + salt));
    // One model encodes only the length of each story; the other encodes it too, in addition to its emotions.
    let mut lengths = Noise(8 * seed + 6);
    let lengths: Vec<f64> = (0..SMALL.emotions * SMALL.topics).map(|_| lengths.normal()).collect();
    let length = |e: usize, t: usize| lengths[e * SMALL.topics + t];
    let other = planted(7);
    let seen = other.activations.list("activation").unwrap().1.to_vec();
    let at = |e: usize, t: usize, d: usize| f64::from(seen[(e * SMALL.topics + t) * SMALL.d + d]);
    let short = data(SMALL, |e, t, _, d| length(e, t) * (1.0 + d as f64));
    let both = data(SMALL, |e, t, _, d| at(e, t, d) + 2.0 * length(e, t) * (d as f64 - 2.0));
    // The same idiosyncrasies of the same stories, without emotions.
    let accidents = noise(5);
    let same = turned(&accidents, SMALL);
    [
        ("source noise", [noise(0), planted(1)]),
        ("target noise", [planted(2), noise(3)]),
        ("both noise", [noise(4), noise(5)]),
        ("length alone", [short, both]),
        ("the same stories", [accidents, same]),
    ]
}

/// For each p-value, how often out of 200 it is at most `.05`, where p-values are multiples of .025; and the means of
/// other results.
fn rates(kind: &dyn Kind, columns: &[&str], means: &[&str]) -> Vec<(&'static str, Vec<usize>, Vec<f64>)> {
    let mut found: Vec<(&'static str, Vec<usize>, Vec<f64>)> = Vec::new();
    for seed in 0..200 {
        for (at, (name, [a, b])) in unrelated(seed).iter().enumerate() {
            let tables = run(kind, [a, b], seed).unwrap();
            if found.len() <= at {
                found.push((name, vec![0; columns.len()], vec![0.0; means.len()]));
            }
            let number = |column: &str| match tables[0].1.opt_f64(column) {
                Ok(values) => values[0].unwrap(),
                Err(_) => value(&tables, column),
            };
            let (_, hits, sums) = &mut found[at];
            hits.iter_mut().zip(columns).for_each(|(n, column)| *n += usize::from(number(column) <= 0.05));
            sums.iter_mut().zip(means).for_each(|(sum, column)| *sum += number(column) / 200.0);
        }
    }
    println!("{found:?}");
    found
}

/// Out of 200 tests at 5 %: `scipy.stats.binom.ppf([.0005, .9995], 200, .05)` is 2 and 21.
const EXPECTED: std::ops::RangeInclusive<usize> = 2..=21;

#[test]
fn nothing_is_carried_where_there_is_nothing() {
    let kind =
        Transfer { folds: 3, bootstrap: 1, permutations: 39, ridge: Some(0.1), ..transfer(Kinds::Ridge) };
    for (name, hits, means) in rates(&kind, &["p", "r2_p"], &["mean_rank", "r2"]) {
        // A map fitted to real structure without emotions brings vectors further off than maps of shuffled cells.
        let noise = name.ends_with("noise");
        let at_the_rate = |hits: &usize| EXPECTED.contains(hits) || !noise && hits <= EXPECTED.end();
        assert!(hits.iter().all(at_the_rate), "{name}: {hits:?} of 200");
        // Ranks of 1 to 5 of five emotions in three rotations: the standard deviation of one seed's mean rank is at
        // most 1.41 / sqrt(15) if emotions are independent, and that of the mean over 200 seeds is .03.
        assert!((means[0] - 3.0).abs() < 0.12, "{name}: mean rank {}", means[0]);
        assert!(means[1] < 0.0, "{name}: R2 {}", means[1]);
    }
}

#[test]
fn sets_that_share_no_emotion_are_alike_as_often_as_they_may_be() {
    let kind = Rsa { bootstrap: 1, permutations: 39, ..rsa(Correlation::Spearman) };
    for (name, hits, means) in rates(&kind, &["p", "p_names", "p_cells"], &["r", "r_same"]) {
        // The larger of two p-values is at most .05 no more often than each of them.
        assert!(hits[0] <= *EXPECTED.end(), "{name}: {hits:?} of 200");
        assert!(means[0].abs() < 0.1, "{name}: r {}", means[0]);
        assert!(name != "the same stories" || means[1] > 0.9, "{name}: r of the same stories {}", means[1]);
    }
    let kind = Cka { permutations: 39, ..cka() };
    for (name, hits, means) in rates(&kind, &["emotions_p"], &["emotions"]) {
        assert!(hits[0] <= *EXPECTED.end(), "{name}: {hits:?} of 200");
        assert!(means[0].abs() < 0.1, "{name}: {}", means[0]);
    }
}

/// Two unrelated geometries: their emotions are real, but similar only by chance.
#[test]
fn unrelated_geometries_are_alike_as_often_as_they_may_be() {
    let size = Size { emotions: 6, ..SMALL };
    let kind = Rsa { bootstrap: 1, permutations: 39, ..rsa(Correlation::Spearman) };
    let p: Vec<f64> = (0..200)
        .map(|seed| {
            value(&run(&kind, [&planted(size, 2 * seed), &planted(size, 2 * seed + 1)], seed).unwrap(), "p")
        })
        .collect();
    let significant = p.iter().filter(|&&p| p <= 0.05).count();
    assert!(significant <= *EXPECTED.end(), "{significant} of 200");
    // Power check: related models are recognised.
    let related = (0..20).filter(|&seed| {
        let a = planted(size, seed);
        value(&run(&kind, [&a, &turned(&a, size)], seed).unwrap(), "p") <= 0.05
    });
    assert!(related.count() >= 19);
}

/// The alignment of activations is tested against shuffled stories.
#[test]
fn activations_of_independent_noise_are_aligned_as_often_as_they_may_be() {
    let size = Size { emotions: 6, topics: 4, each: 1, d: 5 };
    let p: Vec<f64> = (0..200)
        .map(|seed| {
            value(&run(&cka(), [&noise(size, 2 * seed), &noise(size, 2 * seed + 1)], seed).unwrap(), "p")
        })
        .collect();
    let significant = p.iter().filter(|&&p| p <= 0.05).count();
    assert!(EXPECTED.contains(&significant), "{significant} of 200");
    let below = p.iter().filter(|&&p| p <= 0.5).count();
    assert!((70..130).contains(&below), "{below} of 200 below one half");
}

/// Unrelated models: the plain estimate is far from 0, the debiased one is close to 0.
#[test]
fn the_debiased_alignment_of_noise_is_nothing() {
    let size = Size { emotions: 4, topics: 5, each: 1, d: 40 };
    let mean = |column: &str| {
        let one = |seed: u64| {
            let sides = [noise(size, 2 * seed), noise(size, 2 * seed + 1)];
            value(&run(&Cka { permutations: 1, ..cka() }, [&sides[0], &sides[1]], 0).unwrap(), column)
        };
        (0..40).map(one).sum::<f64>() / 40.0
    };
    assert!(mean("cka") > 0.5, "{}", mean("cka"));
    assert!(mean("cka_debiased").abs() < 0.03, "{}", mean("cka_debiased"));
}

#[test]
fn what_cannot_be_compared_is_refused() {
    let said = |kind: &dyn Kind, sides: [&Data; 2]| format!("{:#}", run(kind, sides, 0).unwrap_err());
    let (a, mut b) = (planted(SIZE, 1), planted(SIZE, 2));
    b.vectors.emotions[0] = "other".into();
    assert!(said(&rsa(Correlation::Pearson), [&a, &b]).contains("different emotions"));
    let few = Size { emotions: 2, topics: 2, each: 1, d: 3 };
    let pair = [planted(few, 1), planted(few, 2)];
    assert!(said(&rsa(Correlation::Pearson), [&pair[0], &pair[1]]).contains("2 emotions"));
    assert!(said(&cka(), [&pair[0], &pair[1]]).contains("only 4 stories"));
    let two = Size { topics: 2, ..SIZE };
    let pair = [planted(two, 1), planted(two, 2)];
    assert!(said(&transfer(Kinds::Ridge), [&pair[0], &pair[1]]).contains("2 topics"));
    let one = Size { topics: 1, ..SIZE };
    let pair = [planted(one, 1), planted(one, 2)];
    assert!(said(&rsa(Correlation::Pearson), [&pair[0], &pair[1]]).contains("cannot be halved"));
}

#[test]
fn layers_are_matched_by_depth() {
    let nearest = |layer: usize, of: usize, layers: &[usize], n_layers: usize| {
        let layers: Vec<Layer> = layers.iter().copied().map(Layer::Block).collect();
        nearest(Layer::Block(layer), of, &layers, n_layers).and_then(Layer::block)
    };
    // Midpoints at (l + .5) / n: 1 of 4 is at .375; those of 6 are at .083, .25, .417, .583, ...
    assert_eq!(nearest(1, 4, &[0, 1, 2, 3, 4, 5], 6), Some(2));
    assert_eq!(nearest(1, 4, &[0, 3], 6), Some(3));
    // 0 of 2 is at .25, between 0 (.125) and 1 (.375) of 4.
    assert_eq!(nearest(0, 2, &[0, 1, 2, 3], 4), Some(1));
    assert_eq!(nearest(7, 8, &[], 4), None);
    let embedded = [Layer::Embed, Layer::Block(5)];
    let matched = embedded.map(|layer| super::nearest(layer, 6, &embedded, 6));
    assert_eq!(matched, embedded.map(Some));
    assert_eq!(super::nearest(Layer::Block(0), 6, &embedded, 6), Some(Layer::Block(5)));
    assert!((Layer::Block(28).depth(42) - 28.5 / 42.0).abs() < 1e-15);
}

/// Stories that only one of the two models read are skipped, and a template's passages are its topics.
#[test]
fn stories_are_matched_by_name() {
    let (a, mut b) = (planted(SIZE, 1), planted(SIZE, 1));
    let kept: Vec<usize> = (0..b.activations.rows()).filter(|row| row % 5 != 0).rev().collect();
    b.activations = b.activations.select(&kept);
    let found = run(&cka(), [&a, &b], 0).unwrap();
    assert!((value(&found, "cka_debiased") - 1.0).abs() < 1e-6, "{}", value(&found, "cka_debiased"));
    assert_eq!(found[0].1.i32("stories").unwrap(), [kept.len() as i32]);
    // Each topic has two stories per emotion, which a template has as two passages.
    let passages = Size { each: 3, ..SIZE };
    let (mut a, b) = (planted(passages, 1), planted(passages, 1));
    a.activations.columns.retain(|(name, _)| name != "topic");
    a.activations.columns.push(("topic".into(), Column::OptStr(vec![None; a.stories.rows()])));
    let found = run(&transfer(Kinds::Ridge), [&a, &b], 0).unwrap();
    assert_eq!((found[0].1.i32("topics").unwrap(), found[0].1.i32("folds").unwrap()), (&[3][..], &[3][..]));
}
