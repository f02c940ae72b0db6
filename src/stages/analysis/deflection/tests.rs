//! Dialogues and stories of noise, and with planted directions.

use super::super::labelled::Row;
use super::measure::{Draw, Found, What, by_class, measure, space};
use crate::stages::analysis::labelled::Labelled;
use crate::stages::principal::{dot, norm};
use crate::stages::statistics::draws::Draws;

const N: usize = 6;
const D: usize = 20;

/// Dialogues on 6 topics, in each of which each emotion is hidden once and shown once; `planted`: what is added for
/// the two emotions.
fn dialogues(seed: u64, planted: &dyn Fn(usize, usize) -> Vec<f64>) -> Labelled {
    let mut draws = Draws::new("deflected", &[seed]);
    let mut rows = Vec::new();
    for group in 0..6 {
        let topic: Vec<f64> = (0..D).map(|_| 2.0 * draws.normal()).collect();
        let mut order = draws.shuffled(N);
        while (0..N).any(|at| order[at] == at) {
            order = draws.shuffled(N);
        }
        for (hidden, shown) in order.into_iter().enumerate() {
            let own = planted(hidden, shown);
            let row = topic.iter().zip(own).map(|(topic, x)| (topic + x + draws.normal()) as f32);
            rows.push(Row { group, block: group, labels: [hidden, shown], spans: vec![row.collect()] });
        }
    }
    let emotions = (0..N).map(|at| format!("e{at}")).collect();
    Labelled { d: D, emotions, rows, groups: 6, skipped: 0 }
}

/// The stories' vectors: directions drawn for `purpose`, centred.
fn stories(purpose: &str, seed: u64) -> Vec<f64> {
    let rows: Vec<Vec<f64>> = (0..N).map(|at| Draws::new(purpose, &[seed, at as u64]).direction(D)).collect();
    let mean: Vec<f64> = (0..D).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / N as f64).collect();
    rows.iter().flat_map(|row| row.iter().zip(&mean).map(|(x, m)| x - m).collect::<Vec<_>>()).collect()
}

fn vector(purpose: &str, at: usize) -> Vec<f64> {
    Draws::new(purpose, &[0, at as u64]).direction(D).into_iter().map(|x| 6.0 * x).collect()
}

fn found(read: &Labelled, stories: &[f64], shuffles: usize, seed: u64) -> Found {
    measure(read, stories, &[], 0.99, &Draw { shuffles, resamples: 20, seed }).unwrap()
}

fn p(found: &Found, wanted: What) -> (f64, f64) {
    let (_, tested) = found.tests.iter().find(|(what, _)| *what == wanted).unwrap();
    (tested.value, tested.p)
}

/// scipy.stats.binom.ppf([.001, .999], 200, .05) is 2 and 21.
fn at_the_stated_rate(counts: &[usize]) {
    assert!(counts.iter().all(|n| (2..=21).contains(n)), "{counts:?}");
}

/// If dialogues are noise, then whatever the stories' vectors are, every p is small at its nominal rate; if the
/// stories' vectors are noise and the dialogues are not, so are the p of comparisons between the two; if the shown
/// emotion is present and the hidden one is not, so are those about the hidden emotion.
#[test]
fn noise_is_found_at_the_stated_rate() {
    let nothing = |_: usize, _: usize| vec![0.0; D];
    let planted = |hidden: usize, shown: usize| -> Vec<f64> {
        vector("hidden", hidden).iter().zip(vector("shown", shown)).map(|(a, b)| a + b).collect()
    };
    let (mut of_dialogues, mut of_both, mut of_stories, mut of_shown) = ([0; 5], [0; 5], [0; 2], [0; 3]);
    for seed in 0..200 {
        let noise = dialogues(seed, &nothing);
        for (stories, counts) in
            [(stories("structured", 0), &mut of_dialogues), (stories("noise", seed), &mut of_both)]
        {
            let found = found(&noise, &stories, 19, seed);
            for (what, n) in What::ALL.into_iter().zip(counts) {
                *n += usize::from(p(&found, what).1 <= 0.05);
            }
        }
        let found = found(&dialogues(seed, &planted), &stories("noise", seed), 19, seed);
        for (what, n) in [What::HiddenWithStories, What::ShownWithStories].into_iter().zip(&mut of_stories) {
            *n += usize::from(p(&found, what).1 <= 0.05);
        }
        let shown = |_: usize, shown: usize| vector("shown", shown);
        let masked = self::found(&dialogues(seed, &shown), &stories("structured", 0), 19, seed);
        for (what, n) in [What::Hidden, What::Outside, What::Kept].into_iter().zip(&mut of_shown) {
            *n += usize::from(p(&masked, what).1 <= 0.05);
        }
    }
    at_the_stated_rate(&of_shown);
    at_the_stated_rate(&of_dialogues);
    at_the_stated_rate(&of_both);
    at_the_stated_rate(&of_stories);
}

/// A hidden emotion with directions of its own is found outside the stories' space; along the stories' vectors, inside
/// it; and a shown emotion along them is distinguished from a hidden one.
#[test]
fn what_is_planted_is_found() {
    let stories = stories("structured", 0);
    let along = |purpose: &'static str| move |hidden: usize, _: usize| vector(purpose, hidden);
    let own = found(&dialogues(1, &along("hidden")), &stories, 99, 0);
    assert!(p(&own, What::Hidden) == (p(&own, What::Hidden).0, 0.01) && p(&own, What::Outside).1 == 0.01);
    assert!(p(&own, What::Hidden).0 > 3.0 && p(&own, What::HiddenWithStories).1 > 0.05);
    let same = found(&dialogues(1, &along("structured")), &stories, 99, 0);
    assert!(p(&same, What::HiddenWithStories).0 > 0.7 && p(&same, What::HiddenWithStories).1 == 0.01);
    let (kept, p_kept) = p(&same, What::Kept);
    assert!(kept < 0.5 && p_kept == 0.01, "{kept} {p_kept}");
    assert!(p(&same, What::Outside).1 > 0.05);
    let shown = found(&dialogues(1, &|_, shown| vector("structured", shown)), &stories, 99, 0);
    assert!(p(&shown, What::ShownWithStories).0 > 0.7 && p(&shown, What::ShownWithStories).1 == 0.01);
    assert!(p(&shown, What::HiddenWithStories).1 > 0.05);
}

/// By hand: five of six centred vectors are independent, and random vectors keep sqrt(1 - 5/20) of their norm without
/// them.
#[test]
fn what_is_left_is_orthogonal_to_the_stories_and_random_vectors_keep_what_is_said() {
    let stories = stories("structured", 0);
    let found = found(&dialogues(2, &|_, _| vec![0.0; D]), &stories, 9, 0);
    assert_eq!(found.components, 5);
    assert!((found.random - 0.75f64.sqrt()).abs() < 1e-12);
    for (before, after) in found.before.chunks_exact(D).zip(found.after.chunks_exact(D)) {
        assert!(stories.chunks_exact(D).all(|story| dot(story, after).abs() < 1e-9));
        assert!(norm(after) < norm(before));
    }
    let space = space(&stories, D, 1.0).unwrap();
    let kept: Vec<f64> = (0..4000)
        .map(|at| {
            let mut row = Draws::new("any", &[at]).direction(D);
            crate::stages::vectors::project_out(&mut row, &space);
            dot(&row, &row)
        })
        .collect();
    let mean = kept.iter().sum::<f64>() / 4000.0;
    // The variance of Beta(7.5, 2.5) is .017, of the mean of 4,000 a standard deviation of .002.
    assert!((mean - 0.75).abs() < 0.01, "{mean}");
    assert_eq!(found.dialogues, [6; N]);
}

#[test]
fn classes_of_prompts_by_hand_and_on_noise() {
    let draw = |seed| Draw { shuffles: 19, resamples: 20, seed };
    let one = by_class(&[vec![vec![1.0], vec![3.0]], vec![vec![0.0], vec![1.0], vec![2.0]]], &draw(0));
    assert_eq!([one[0].mean, one[0].more.value, one[1].mean, one[1].more.value], [2.0, 1.0, 1.0, -1.0]);
    let mut small = [0; 3];
    for seed in 0..200 {
        let mut draws = Draws::new("prompts", &[seed]);
        let rows: Vec<Vec<Vec<f64>>> =
            (0..3).map(|_| (0..5).map(|_| vec![draws.normal()]).collect()).collect();
        for of in by_class(&rows, &draw(seed)) {
            small[of.class] += usize::from(of.more.p <= 0.05);
        }
    }
    at_the_stated_rate(&small);
    let moved = |by: f64| (0..6).map(|at| vec![by + 0.1 * f64::from(at)]).collect::<Vec<_>>();
    let found = by_class(&[moved(0.0), moved(2.0)], &Draw { shuffles: 99, resamples: 20, seed: 0 });
    assert!(found.iter().all(|of| of.more.p <= 0.02 && of.more.interval.is_some()));
}

#[test]
fn an_emotion_that_nobody_hides_is_named() {
    let mut read = dialogues(3, &|_, _| vec![0.0; D]);
    read.rows.retain(|row| row.labels[0] != 2);
    let draw = Draw { shuffles: 1, resamples: 2, seed: 0 };
    let error = measure(&read, &stories("structured", 0), &[], 0.99, &draw).err().unwrap();
    assert!(format!("{error:#}").contains("hides `e2`"), "{error:#}");
}
