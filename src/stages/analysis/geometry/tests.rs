//! Resampling compared with a direct implementation: the same stories, resampled or relabelled one by one, through
//! `vectors` and `pca`.

use super::*;
use crate::lm::Chat;
use crate::stages::analysis::cosine::Cosine;
use crate::stages::analysis::pca::Pca;
use crate::stages::analysis::{Activations, Analysis};
use crate::stages::statistics::Design;
use crate::stages::statistics::draws::Draws;
use crate::stages::vectors::{self, Center, Denoise};

const D: usize = 19;

/// A story: emotion, topic, tokens, activation.
type Story = (usize, usize, i32, Vec<f32>);

fn words(n: usize) -> Vec<String> {
    (0..n).map(|e| format!("e{e}")).collect()
}

fn table(stories: &[Story]) -> Table {
    let n = stories.len();
    let values = stories.iter().flat_map(|s| s.3.clone()).collect();
    Table::new(
        "activations/1",
        vec![
            ("story_id", Column::Str((0..n).map(|i| i.to_string()).collect())),
            ("emotion", Column::OptStr(stories.iter().map(|s| Some(format!("e{}", s.0))).collect())),
            ("topic", Column::OptStr(stories.iter().map(|s| Some(format!("t{}", s.1))).collect())),
            ("layer", Column::I32(vec![3; n])),
            ("n_tokens", Column::I32(stories.iter().map(|s| s.2).collect())),
            ("activation", Column::List { width: stories[0].3.len(), values, half: false }),
            ("token_norm", Column::F32(vec![1.0; n])),
            ("token_norm_rest", Column::F32(vec![1.0; n])),
        ],
    )
}

/// Stories of `n` emotions in `topics` topics, `per` or one more per cell, around `means` in noise of this size, far
/// from the origin.
fn stories(means: &[Vec<f64>], topics: usize, per: usize, noise: f64, seed: u64) -> Vec<Story> {
    let mut draws = Draws::new("stories", &[seed]);
    let mut stories = Vec::new();
    for topic in 0..topics {
        let shift: Vec<f64> = means[0].iter().map(|_| 5.0 + draws.normal()).collect();
        for (emotion, mean) in means.iter().enumerate() {
            for _ in 0..per + draws.below(2) {
                let tokens = 20 + draws.below(30) as i32;
                let value = mean.iter().zip(&shift).map(|(m, s)| (m + s + noise * draws.normal()) as f32);
                stories.push((emotion, topic, tokens, value.collect()));
            }
        }
    }
    stories
}

/// Random means; those of emotions 0 and 1, 2 and 3, ... are close to each other.
fn planted(n: usize, d: usize) -> Vec<Vec<f64>> {
    let mut draws = Draws::new("planted", &[]);
    let base: Vec<Vec<f64>> = (0..n).map(|_| (0..d).map(|_| draws.normal()).collect()).collect();
    let near = |e: usize| base[e - e % 2].iter().zip(&base[e]).map(|(x, y)| 2.0 * x + 0.3 * y).collect();
    (0..n).map(near).collect()
}

fn params(center: Center, denoise: Denoise, normalize: bool) -> vectors::Params {
    vectors::Params { center, denoise, normalize, weights: vectors::Equal::Stories, tokens: None }
}

fn plain() -> vectors::Params {
    params(Center::Emotions, Denoise::None, false)
}

fn set(of: &vectors::Params, stories: &[Story], n: usize, neutral: Option<&Table>) -> VectorSet {
    let table = vectors::run(of, [Ok(table(stories))], &words(n), neutral).unwrap();
    VectorSet::from_tables("m", "s", 6, &[table]).unwrap()
}

fn tables(
    geometry: &Geometry,
    of: &vectors::Params,
    stories: &[Story],
    n: usize,
    neutral: Option<&Table>,
    seed: u64,
) -> Tables {
    let set = set(of, stories, n, neutral);
    // In two shards.
    let shards = stories.split_at(stories.len() / 3);
    let shards = [table(shards.0), table(shards.1)];
    let activations = Activations {
        shards: 2,
        read: &|shard| Ok(shards[shard].clone()),
        stories: &|_| anyhow::bail!("every story has a topic"),
        params: of,
        neutral,
    };
    let progress = &mut |_: usize, _: usize| {};
    run(
        geometry,
        Input {
            set: &set,
            activations: Some(activations),
            reads: None,
            spans: None,
            rollouts: None,
            model: None,
            chat: Chat::default(),
            seed,
            progress,
        },
    )
    .unwrap()
}

fn geometry(resamples: usize, permutations: usize, halves: usize) -> Geometry {
    let family =
        |a: usize| Family { name: String::new(), words: vec![format!("e{a}"), format!("e{}", a + 1)] };
    Geometry { pairs: vec![], families: vec![family(0), family(2)], resamples, permutations, halves }
}

/// Shares and cosines (above the diagonal) from the analyses that compute them.
fn by_analyses(set: &VectorSet) -> (Vec<f64>, Vec<f64>) {
    let run = |analysis: Analysis| {
        let progress = &mut |_: usize, _: usize| {};
        analysis
            .run(Input {
                set,
                activations: None,
                reads: None,
                spans: None,
                rollouts: None,
                model: None,
                chat: Chat::default(),
                seed: 0,
                progress,
            })
            .unwrap()
    };
    let n = set.layers[0].emotions.len();
    let cosines = run(Analysis::Cosine(Cosine { pairs: vec![] }))[0].1.f64("cosine").unwrap().to_vec();
    let shares =
        run(Analysis::Pca(Pca { components: 2 }))[1].1.f64("explained_variance_ratio").unwrap().to_vec();
    (shares, pairs(n).map(|(i, j)| cosines[i * n + j]).collect())
}

#[track_caller]
fn close(got: &[f64], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < tolerance, "{got:?} is not {want:?}");
    }
}

/// The basic interval of plain values on a scale, computed by hand.
fn ends(estimate: f64, drawn: &[f64], scale: Scale) -> [f64; 2] {
    let interval = basic(estimate, drawn, scale).unwrap();
    [interval.low, interval.high]
}

#[test]
fn resamples_are_what_resampled_stories_give() {
    let (n, topics, seed) = (6, 7, 11);
    let stories = stories(&planted(n, D), topics, 1, 0.7, 1);
    let neutral_text: Vec<Story> = self::stories(&[vec![0.0; D]], 12, 1, 1.0, 9);
    let denoised = Denoise::Components(2);
    for of in [
        plain(),
        params(Center::None, Denoise::None, false),
        params(Center::Emotions, denoised, true),
        params(Center::None, denoised, true),
    ] {
        let neutral =
            (of.denoise != Denoise::None).then(|| vectors::neutral(&of, &[table(&neutral_text)]).unwrap());
        let tables = tables(&geometry(8, 3, 0), &of, &stories, n, neutral.as_ref(), seed);
        let (shares, cosines) = by_analyses(&set(&of, &stories, n, neutral.as_ref()));
        let statistics = &tables[0].1;
        close(&statistics.f64("value").unwrap()[1..3], &shares, 1e-6);
        close(tables[1].1.f64("cosine").unwrap(), &cosines, 1e-6);

        let mut counts = vec![0.0; topics * n];
        stories.iter().for_each(|s| counts[s.1 * n + s.0] += 1.0);
        let design = Design::new(n, counts, String::new(), seed);
        let mut drawn: Vec<(Vec<f64>, Vec<f64>)> = Vec::new();
        for number in 0..8 {
            let weights = design.drawn(number).unwrap();
            let again = stories.iter().flat_map(|s| std::iter::repeat_n(s.clone(), weights[s.1] as usize));
            drawn.push(by_analyses(&set(&of, &again.collect::<Vec<_>>(), n, neutral.as_ref())));
        }
        let (low, high) = (statistics.opt_f64("low").unwrap(), statistics.opt_f64("high").unwrap());
        for at in 0..2 {
            let values: Vec<f64> = drawn.iter().map(|d| d.0[at]).collect();
            close(
                &[low[at + 1].unwrap(), high[at + 1].unwrap()],
                &ends(shares[at], &values, Scale::Share),
                1e-4,
            );
        }
        let (low, high) = (tables[1].1.opt_f64("low").unwrap(), tables[1].1.opt_f64("high").unwrap());
        for at in 0..cosines.len() {
            let values: Vec<f64> = drawn.iter().map(|d| d.1[at]).collect();
            close(
                &[low[at].unwrap(), high[at].unwrap()],
                &ends(cosines[at], &values, Scale::Correlation),
                1e-4,
            );
        }
        // Whole cells exchange their labels within a topic.
        let mut means = [0.0; 2];
        for number in 0..3 {
            let shuffle = design.shuffle(number);
            let label =
                |topic: usize, from: usize| (0..n).find(|&to| shuffle.from(to, topic) == from).unwrap();
            let again: Vec<Story> =
                stories.iter().map(|s| (label(s.1, s.0), s.1, s.2, s.3.clone())).collect();
            let (shares, _) = by_analyses(&set(&of, &again, n, neutral.as_ref()));
            means.iter_mut().zip(shares).for_each(|(mean, share)| *mean += share / 3.0);
        }
        let null = statistics.opt_f64("null_mean").unwrap();
        close(&[null[1].unwrap(), null[2].unwrap()], &means, 1e-5);
    }
}

#[test]
fn families_lengths_and_their_gap_by_hand() {
    let stories = stories(&planted(4, D), 6, 2, 0.5, 3);
    let tables = tables(&geometry(50, 99, 20), &plain(), &stories, 4, None, 1);
    let (statistics, cosines) = (&tables[0].1, tables[1].1.f64("cosine").unwrap());
    let names = statistics.str("statistic").unwrap();
    let value = |name: &str| statistics.f64("value").unwrap()[names.iter().position(|n| n == name).unwrap()];
    // Pairs in order: 01 02 03 12 13 23; families 01 and 23.
    let (within, between) = ((cosines[0] + cosines[5]) / 2.0, cosines[1..5].iter().sum::<f64>() / 4.0);
    close(&[value(WITHIN), value(BETWEEN), value(GAP)], &[within, between, within - between], 1e-6);
    let gap = names.iter().position(|n| n == GAP).unwrap();
    assert!(statistics.opt_f64("p").unwrap()[gap].unwrap() <= 0.05);
    // The mean square of the vectors, whose mean is zero.
    let vectors = &set(&plain(), &stories, 4, None).layers[0].vectors;
    close(&[value(VARIANCE)], &[dot(vectors, vectors) / 4.0], 1e-9);
    assert_eq!(statistics.opt_f64("p").unwrap()[0], Some(0.01));
    assert!(statistics.str("groups").unwrap().iter().all(|groups| groups == "6 topics"));
    assert!(
        !names.iter().any(|name| name == COMPARED),
        "four emotions are too few to be compared with topics"
    );
    // r(PC1, length) of stories, from the stories themselves.
    let set = set(&plain(), &stories, 4, None);
    let found = principal::components(&set.layers[0].vectors, D).unwrap();
    let score =
        |s: &Story| dot(&found.directions[..D], &s.3.iter().map(|&x| f64::from(x)).collect::<Vec<_>>());
    let (scores, lengths): (Vec<f64>, Vec<f64>) = stories.iter().map(|s| (score(s), f64::from(s.2))).unzip();
    let want = crate::stages::statistics::correlation::pearson(&scores, &lengths);
    close(&[value(STORY_LENGTH[0])], &[want], 1e-9);
}

/// With a signal of length s and noise of length t in the mean of a half, the cosine of the two halves is
/// approximately s^2 / (s^2 + t^2).
#[test]
fn halves_agree_as_far_as_signal_exceeds_noise() {
    let (n, d, topics) = (4, 400, 20);
    let mut means = planted(n, d);
    let mean: Vec<f64> = (0..d).map(|i| means.iter().map(|m| m[i]).sum::<f64>() / n as f64).collect();
    means.iter_mut().for_each(|m| m.iter_mut().zip(&mean).for_each(|(x, y)| *x -= y));
    let noise = 3.0;
    let mut draws = Draws::new("halves", &[]);
    let mut stories = Vec::new();
    for (topic, (emotion, mean)) in (0..topics).flat_map(|t| means.iter().enumerate().map(move |m| (t, m))) {
        let value = mean.iter().map(|m| (m + noise * draws.normal()) as f32).collect();
        stories.push((emotion, topic, 20, value));
    }
    let tables = tables(&geometry(2, 0, 50), &plain(), &stories, n, None, 1);
    let (half, whole) = (tables[2].1.f64("half").unwrap(), tables[2].1.f64("reliability").unwrap());
    for (at, mean) in means.iter().enumerate() {
        let signal = dot(mean, mean);
        // A fraction 1/n of the noise in each mean is removed with the overall mean.
        let spread = d as f64 * noise * noise / (topics as f64 / 2.0) * (1.0 - 1.0 / n as f64);
        let want = signal / (signal + spread);
        assert!((half[at] - want).abs() < 0.05, "{} is not {want}", half[at]);
        close(&[whole[at]], &[2.0 * half[at] / (1.0 + half[at])], 1e-12);
        assert!((whole[at] - signal / (signal + spread / 2.0)).abs() < 0.05);
    }
}

#[test]
fn noise_is_significant_as_often_as_it_should_be() {
    let mut hits = [0usize; 4];
    for seed in 0..200 {
        let stories = stories(&vec![vec![0.0; 5]; 4], 5, 1, 1.0, 1000 + seed);
        let tables = tables(&geometry(2, 39, 0), &plain(), &stories, 4, None, seed);
        let (names, p) = (tables[0].1.str("statistic").unwrap(), tables[0].1.opt_f64("p").unwrap());
        for (hit, name) in hits.iter_mut().zip(TESTED) {
            let at = names.iter().position(|n| n == name).unwrap();
            *hit += usize::from(p[at].unwrap() <= 0.05);
        }
    }
    // 10 of 200 are expected, with a standard deviation of 3.1.
    assert!(hits.iter().all(|hits| (2..=19).contains(hits)), "{hits:?}");
}

/// With five emotions in five topics, one story per cell, the vectors of topics equal those that topics would have as
/// emotions.
#[test]
fn topics_beside_emotions_by_the_other_analyses() {
    let stories: Vec<Story> =
        stories(&planted(5, D), 5, 1, 1.0, 5).into_iter().fold(Vec::new(), |mut all, s| {
            if !all.iter().any(|other: &Story| (other.0, other.1) == (s.0, s.1)) {
                all.push(s);
            }
            all
        });
    let turned: Vec<Story> = stories.iter().map(|s| (s.1, s.0, s.2, s.3.clone())).collect();
    let both = [&stories, &turned].map(|stories| set(&plain(), stories, 5, None));
    let shares = both.each_ref().map(|set| by_analyses(set).0[0]);
    let variance = both.each_ref().map(|set| dot(&set.layers[0].vectors, &set.layers[0].vectors));
    let got = beside(&tables(&geometry(2, 9, 0), &plain(), &stories, 5, None, 1)).unwrap();
    close(&[got[0].0, got[1].0], &[variance[0] / variance[1], shares[0] - shares[1]], 1e-5);
    let table = tables(&geometry(2, 9, 0), &plain(), &stories, 5, None, 1).remove(0).1;
    let row = table.str("statistic").unwrap().iter().position(|s| s == COMPARED).unwrap();
    close(&table.f64("value").unwrap()[row - 2..=row], &[shares[0], shares[1], 5.0], 1e-5);
}

/// Values and p of the statistics compared with topics.
fn beside(tables: &Tables) -> Option<[(f64, f64); 2]> {
    let table = &tables[0].1;
    let (names, value, p) =
        (table.str("statistic").unwrap(), table.f64("value").unwrap(), table.opt_f64("p").unwrap());
    let of = |name: &str| names.iter().position(|n| n == name).map(|at| (value[at], p[at].unwrap()));
    Some([of(VARIANCE_BESIDE)?, of(SHARE_BESIDE)?])
}

/// Means of `n` emotions: Gaussian, with `long` times the extent along one axis.
fn along(n: usize, long: f64, draws: &mut Draws) -> Vec<Vec<f64>> {
    (0..n).map(|_| (0..5).map(|at| draws.normal() * if at == 0 { long } else { 1.0 }).collect()).collect()
}

#[test]
fn emotions_like_topics_differ_from_them_one_time_in_twenty_and_one_axis_is_found() {
    // As many emotions as topics; then more topics, from which some are selected.
    for (n, topics, least) in [(6, 6, 2), (5, 8, 0)] {
        let mut hits = [0; 2];
        for seed in 0..200 {
            let means = along(n, 1.0, &mut Draws::new("like topics", &[seed]));
            let stories = stories(&means, topics, 1, 1.0, 3000 + seed);
            let found = beside(&tables(&geometry(2, 39, 0), &plain(), &stories, n, None, seed)).unwrap();
            hits.iter_mut().zip(found).for_each(|(hits, (_, p))| *hits += usize::from(p <= 0.05));
        }
        // scipy.stats.binom.ppf([.0005, .9995], 200, .05) is 2 and 21; averages over selections vary less than a
        // single one.
        assert!(hits.iter().all(|hits| (least..=21).contains(hits)), "{n} {topics}: {hits:?}");
    }
    for seed in 0..5 {
        let stories = stories(&along(8, 9.0, &mut Draws::new("one axis", &[seed])), 8, 1, 0.3, seed);
        let [(variance, p_variance), (more, p_more)] =
            beside(&tables(&geometry(2, 99, 0), &plain(), &stories, 8, None, seed)).unwrap();
        assert!(variance > 4.0 && p_variance <= 0.05, "{variance} {p_variance}");
        assert!(more > 0.2 && p_more <= 0.05, "{more} {p_more}");
    }
}

#[test]
fn numbers_do_not_depend_on_how_many_threads_there_are() {
    let stories = stories(&planted(5, 40), 6, 1, 1.0, 4);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| tables(&geometry(70, 70, 9), &plain(), &stories, 5, None, 2))
    };
    assert_eq!(on(1), on(3));
}

#[test]
fn one_topic_cannot_be_resampled() {
    let stories = stories(&planted(3, D), 1, 2, 1.0, 4);
    let (of, table) = (plain(), table(&stories));
    let set = set(&of, &stories, 3, None);
    let activations = Activations {
        shards: 1,
        read: &|_| Ok(table.clone()),
        stories: &|_| anyhow::bail!("every story has a topic"),
        params: &of,
        neutral: None,
    };
    let progress = &mut |_: usize, _: usize| {};
    let input = Input {
        set: &set,
        activations: Some(activations),
        reads: None,
        spans: None,
        rollouts: None,
        model: None,
        chat: Chat::default(),
        seed: 0,
        progress,
    };
    let error = run(&geometry(5, 5, 5), input).unwrap_err().to_string();
    assert!(error.contains("two topics"), "{error}");
}
