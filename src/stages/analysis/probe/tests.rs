//! The probe compared with scikit-learn, and its null compared with classifiers refitted to relabelled stories.

use super::ridge::Products;
use super::*;
use crate::lm::{Chat, Layer};
use crate::stages::analysis::Activations;
use crate::stages::principal::dot;
use crate::stages::statistics::draws::Draws;
use crate::stages::vectors::{Center, Denoise, Equal, Params};

/// A story: emotion, topic, activation.
type Story = (usize, usize, Vec<f32>);

fn table(stories: &[Story]) -> Table {
    let n = stories.len();
    let values = stories.iter().flat_map(|s| s.2.clone()).collect();
    Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..n).map(|i| i.to_string()).collect())),
            ("emotion", Column::OptStr(stories.iter().map(|s| Some(format!("e{}", s.0))).collect())),
            ("topic", Column::OptStr(stories.iter().map(|s| Some(format!("t{}", s.1))).collect())),
            ("layer", Column::I32(vec![3; n])),
            ("n_tokens", Column::I32(vec![20; n])),
            ("activation", Column::List { width: stories[0].2.len(), values, half: false }),
        ],
    )
}

fn fitted(stories: &[Story], n: usize, folds: usize, penalty: f64, permutations: usize, seed: u64) -> Found {
    let shards = stories.split_at(stories.len() / 3);
    let shards = [table(shards.0), table(shards.1)];
    let activations = Activations {
        shards: 2,
        read: &|shard| Ok(shards[shard].clone()),
        stories: &|_| bail!("every story has a topic"),
        params: &Params {
            center: Center::Emotions,
            denoise: Denoise::None,
            normalize: false,
            weights: Equal::Stories,
            tokens: None,
        },
        neutral: None,
    };
    let emotions: Vec<String> = (0..n).map(|e| format!("e{e}")).collect();
    let settings = Settings { folds, penalty, permutations, seed };
    fit::fit(&activations, &emotions, settings, &mut |_, _| {}).unwrap()
}

/// Stories of `n` emotions in `topics` topics, two or three per cell, with `signal` of emotion `e` along dimension
/// `e`.
fn drawn(n: usize, topics: usize, d: usize, signal: f64, seed: u64) -> Vec<Story> {
    let mut draws = Draws::new("probe", &[seed]);
    let mut stories = Vec::new();
    for (topic, emotion) in (0..topics).flat_map(|t| (0..n).map(move |e| (t, e))) {
        for _ in 0..2 + draws.below(2) {
            let value = (0..d).map(|j| {
                let own = if j == emotion { signal } else { 0.0 };
                (30.0 + topic as f64 + own + draws.normal()) as f32
            });
            stories.push((emotion, topic, value.collect()));
        }
    }
    stories
}

#[test]
fn predictions_are_those_of_scikit_learn() {
    // import numpy as np; from sklearn.linear_model import RidgeClassifier
    // X = [[np.float32(3*np.sin(0.7*i + 1.9*j + 0.31*i*j) + 20*(j == 0) + 2*(j == e[i])) for j in range(9)] ...]
    // with 7 topics of 3 emotions of 2 stories, in this order; for each fold f of 3, train = topic % 3 != f:
    // Xc = X[train] - X[train].mean(0); alpha = 0.05 * np.trace(Xc.T @ Xc) / 9
    // RidgeClassifier(alpha=alpha).fit(X[train], y[train]).predict(X[~train])
    let mut stories: Vec<Story> = Vec::new();
    for (topic, emotion) in (0..7).flat_map(|t| (0..3).map(move |e| (t, e))) {
        for _ in 0..2 {
            let i = stories.len() as f64;
            let value = (0..9).map(|j| {
                let (at, first, own) = (j as f64, f64::from(j == 0), f64::from(j == emotion));
                (3.0 * (0.7 * i + 1.9 * at + 0.31 * i * at).sin() + 20.0 * first + 2.0 * own) as f32
            });
            stories.push((emotion, topic, value.collect()));
        }
    }
    let found = fitted(&stories, 3, 3, 0.05, 0, 0);
    assert_eq!(found.confusion, CONFUSION);
    assert_eq!(found.right, RIGHT);
    // d = .decision_function(X[~train]); d[e] - max(d[others])
    let told: Vec<usize> = found.stories.iter().map(|story| story.told).collect();
    assert_eq!(told[..12], [0, 0, 0, 2, 2, 0, 1, 2, 2, 2, 1, 0]);
    for (story, margin) in found.stories.iter().zip(MARGINS) {
        assert!((story.margin - margin).abs() < 1e-8, "{} is not {margin}", story.margin);
        assert_eq!(story.told == story.emotion, story.margin > 0.0, "{}", story.id);
    }
    // All stories are evaluated: the same classifiers, computed the way shuffles are.
    assert!((found.tried - RIGHT.iter().sum::<f64>() / 42.0).abs() < 1e-12);
    assert_eq!(found.design.grouped(), "7 topics");
}

#[test]
fn a_shuffle_is_what_classifiers_fitted_to_shuffled_labels_give() {
    let (n, topics) = (4, 6);
    let stories = drawn(n, topics, 11, 1.0, 5);
    let found = fitted(&stories, n, 4, 0.1, 6, 9);
    assert_eq!(found.folds, 4);
    for (number, &accuracy) in found.shuffled.iter().enumerate() {
        let shuffle = found.design.shuffle(number);
        let label = |s: &Story| (0..n).find(|&to| shuffle.from(to, s.1) == s.0).unwrap();
        let again: Vec<Story> = stories.iter().map(|s| (label(s), s.1, s.2.clone())).collect();
        let want = fitted(&again, n, 4, 0.1, 0, 0);
        let want = want.right.iter().sum::<f64>() / stories.len() as f64;
        assert!((accuracy - want).abs() < 1e-12, "{accuracy} is not {want}");
    }
}

#[test]
fn what_is_planted_is_found_and_noise_is_significant_as_often_as_it_should_be() {
    let found = fitted(&drawn(3, 6, 8, 9.0, 1), 3, 5, 0.01, 99, 1);
    assert_eq!(found.right, found.design.counts());
    assert_eq!(p_value(found.tried, &found.shuffled), 0.01);
    let mut hits = 0;
    for seed in 0..200 {
        let found = fitted(&drawn(3, 5, 4, 0.0, 100 + seed), 3, 5, 0.01, 39, seed);
        hits += usize::from(p_value(found.tried, &found.shuffled) <= 0.05);
    }
    // At most 10 of 200 are expected (ties make it fewer), with a standard deviation of 3.1.
    assert!((1..=19).contains(&hits), "{hits}");
}

#[test]
fn the_system_is_solved_over_several_blocks() {
    let (n, d) = (300, 150);
    let mut draws = Draws::new("ridge", &[]);
    let rows: Vec<f64> = (0..n * d).map(|_| 2.0 + draws.normal()).collect();
    let mut products = Products::new(d);
    products.add(&rows[..200 * d]);
    products.add(&rows[200 * d..]);
    let right: Vec<f64> = (0..2 * d).map(|_| draws.normal()).collect();
    let solved = products.solve(0.2, &right).unwrap();
    let mean = products.mean();
    let centred: Vec<Vec<f64>> =
        rows.chunks_exact(d).map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect()).collect();
    let penalty = 0.2 * centred.iter().map(|row| dot(row, row)).sum::<f64>() / d as f64;
    for (solved, right) in solved.chunks_exact(d).zip(right.chunks_exact(d)) {
        let along: Vec<f64> = centred.iter().map(|row| dot(row, solved)).collect();
        for i in 0..d {
            let got =
                centred.iter().zip(&along).map(|(row, a)| row[i] * a).sum::<f64>() + penalty * solved[i];
            assert!((got - right[i]).abs() < 1e-9, "{got} is not {}", right[i]);
        }
    }
}

#[test]
fn tables_have_shares_and_their_intervals() {
    let stories = drawn(3, 6, 8, 2.0, 3);
    let all = [table(&stories)];
    let activations = Activations {
        shards: 1,
        read: &|shard| Ok(all[shard].clone()),
        stories: &|_| bail!("every story has a topic"),
        params: &Params {
            center: Center::Emotions,
            denoise: Denoise::None,
            normalize: false,
            weights: Equal::Stories,
            tokens: None,
        },
        neutral: None,
    };
    let mut set = crate::stages::analysis::tests::set(&["e0", "e1", "e2"], &[&[1.0], &[2.0], &[3.0]]);
    set.layers[0].layer = Layer::Block(3);
    let params = Probe { folds: 3, penalty: 0.01, resamples: 200, permutations: 19 };
    let progress = &mut |_: usize, _: usize| {};
    let input = Input {
        set: &set,
        activations: Some(activations),
        reads: None,
        spans: None,
        rollouts: None,
        model: None,
        chat: Chat::default(),
        seed: 1,
        progress,
    };
    let tables = run(&params, input).unwrap();
    let one = |name: &str| tables[0].1.f64(name).unwrap()[0];
    let recall = tables[1].1.f64("recall").unwrap();
    let counts: Vec<f64> = tables[1].1.i32("n_stories").unwrap().iter().map(|&n| f64::from(n)).collect();
    let all: f64 = counts.iter().sum();
    assert!((one("accuracy") - dot(recall, &counts) / all).abs() < 1e-12);
    assert!((one("chance") - counts.iter().fold(0.0f64, |m, &x| m.max(x)) / all).abs() < 1e-12);
    let (low, high) = (tables[0].1.opt_f64("low").unwrap()[0], tables[0].1.opt_f64("high").unwrap()[0]);
    assert!(low.unwrap() < one("accuracy") && one("accuracy") < high.unwrap());
    let share = tables[2].1.f64("share").unwrap();
    assert!(share.chunks_exact(3).all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-12));
    assert_eq!([share[0], share[4], share[8]], [recall[0], recall[1], recall[2]]);
}

const MARGINS: [f64; 12] = [
    1.294568125,
    0.435366983,
    -1.081422132,
    -1.296876573,
    1.036783321,
    -1.84324378,
    -0.411103495,
    -0.573396945,
    -0.856056222,
    -0.179789824,
    -0.239995382,
    -0.988398051,
];
const CONFUSION: [f64; 9] = [10.0, 3.0, 1.0, 5.0, 2.0, 7.0, 3.0, 3.0, 8.0];
const RIGHT: [f64; 21] =
    [2.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 1.0, 2.0, 0.0, 2.0, 0.0, 0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 0.0, 2.0];
