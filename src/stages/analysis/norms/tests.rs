//! Ratings compared with vectors of known content.

use super::*;
use crate::stages::analysis::tests::set;

const WORDS: [&str; 12] = [
    "happy",
    "excited",
    "tense",
    "angry",
    "afraid",
    "miserable",
    "sad",
    "bored",
    "tired",
    "calm",
    "glad",
    "nobody",
];

/// Vectors with twice the valence and once the arousal of the circumplex, plus noise.
fn vectors(noise: f64, seed: u64) -> VectorSet {
    let rated = Ratings::circumplex().rated(&WORDS.map(String::from));
    let mut draws = Draws::new("norms", &[seed]);
    let mut rows = vec![vec![0.0; 6]; WORDS.len()];
    for row in &mut rows {
        row.iter_mut().for_each(|x| *x = noise * draws.normal());
    }
    for rated in rated {
        rows[rated.emotion][2] += 2.0 * rated.ratings[0].unwrap();
        rows[rated.emotion][4] += rated.ratings[1].unwrap();
    }
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    set(&WORDS, &rows)
}

fn params() -> Norms {
    Norms { file: None, content: None, synonyms: 0.9, components: 3, resamples: 200, permutations: 99 }
}

fn value(tables: &Tables, component: &str, rating: &str, column: &str) -> f64 {
    let table = &tables[0].1;
    let (components, ratings) = (table.str("component").unwrap(), table.str("rating").unwrap());
    let row = (0..table.rows()).find(|&row| components[row] == component && ratings[row] == rating).unwrap();
    match column {
        "p" | "low" | "high" | "partial" | "partial_p" => table.opt_f64(column).unwrap()[row].unwrap(),
        _ => table.f64(column).unwrap()[row],
    }
}

#[test]
fn planted_ratings_are_found() {
    let tables = run(&params(), &vectors(0.1, 1), 3).unwrap();
    for (component, rating) in
        [("PC1", "valence"), ("PC2", "arousal"), (WHOLE, "valence"), (WHOLE, "arousal")]
    {
        assert!(value(&tables, component, rating, "pearson").abs() > 0.9, "{component} {rating}");
        assert!(value(&tables, component, rating, "p") <= 0.02);
        let (low, high) =
            (value(&tables, component, rating, "low"), value(&tables, component, rating, "high"));
        assert!(low * high > 0.0, "{component} {rating}: {low} to {high}");
    }
    // `nobody` is not rated, and no word has a dominance.
    assert_eq!(tables[0].1.i32("n_emotions").unwrap()[0], 11);
    assert!(!tables[0].1.str("rating").unwrap().contains(&"dominance".to_string()));
    let (plane, words) = (&tables[1].1, &tables[2].1);
    assert!(plane.f64("r2").unwrap()[0] > 0.8 && plane.opt_f64("p").unwrap()[0].unwrap() <= 0.01);
    assert_eq!(words.rows(), 11);
}

#[test]
fn noise_is_significant_as_often_as_it_should_be() {
    let params = Norms { resamples: 2, permutations: 39, ..params() };
    let mut hits = [0usize; 5];
    for seed in 0..200 {
        let mut noise = vectors(1.0, 500 + seed);
        // Without the planted component.
        let mut draws = Draws::new("noise", &[seed]);
        noise.layers[0].vectors.iter_mut().for_each(|x| *x = draws.normal());
        let tables = run(&params, &noise, seed).unwrap();
        hits[0] += usize::from(value(&tables, "PC1", "valence", "p") <= 0.05);
        hits[1] += usize::from(value(&tables, WHOLE, "arousal", "p") <= 0.05);
        hits[2] += usize::from(tables[1].1.opt_f64("p").unwrap()[0].unwrap() <= 0.05);
        hits[3] += usize::from(value(&tables, "PC1", "valence", "partial_p") <= 0.05);
        hits[4] += usize::from(value(&tables, WHOLE, "arousal", "partial_p") <= 0.05);
    }
    // scipy.stats.binom.ppf([.0005, .9995], 200, .05)
    assert!(hits.iter().all(|hits| (2..=21).contains(hits)), "{hits:?}");
}

/// Words with similar ratings have similar vectors, whatever else those contain: three words with two synonyms each
/// are effectively three, not six.
#[test]
fn near_synonyms_are_shuffled_together() {
    let words = [
        "sad",
        "gloomy",
        "depressed",
        "calm",
        "relaxed",
        "at ease",
        "tense",
        "alarmed",
        "bored",
        "happy",
        "tired",
    ];
    let rated = Ratings::circumplex().rated(&words.map(String::from));
    let alike = Alike::of(&rated, |_, _| false);
    // Degrees: 207.5, 209, 210; 316.2, 318, 321; 92.8, 96.5; 242; 7.8; 267.7.
    assert_eq!((alike.of.as_slice(), alike.blocks), (&[0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5][..], 6));
    let ratings: Vec<f64> = (0..11).map(f64::from).collect();
    let moved = alike.shuffled(&ratings, &[1, 0, 2, 3, 5, 4]);
    assert_eq!(moved, [4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 6.5, 6.5, 8.0, 10.0, 9.0]);
    let mut hits = [0; 2];
    for seed in 0..200 {
        // Each block has its own position, and its words lie near it.
        let mut draws = Draws::new("synonyms", &[seed]);
        let places: Vec<f64> = (0..6).map(|_| draws.normal()).collect();
        let rows: Vec<Vec<f64>> =
            alike.of.iter().map(|&b| vec![10.0 * places[b] + 0.1 * draws.normal(), draws.normal()]).collect();
        let set = set(&words, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let params = Norms { resamples: 2, permutations: 39, synonyms: 1.0, ..params() };
        let tables = run(&params, &set, seed).unwrap();
        hits[0] += usize::from(value(&tables, "PC1", "valence", "p") <= 0.05);
        // Word by word.
        let valence: Vec<f64> = rated.iter().map(|r| r.ratings[0].unwrap()).collect();
        let x: Vec<f64> = rows.iter().map(|row| row[0]).collect();
        let null: Vec<f64> = (0..39)
            .map(|_| {
                let mut y = valence.clone();
                draws.shuffle(&mut y);
                pearson(&x, &y)
            })
            .collect();
        hits[1] += usize::from(two_sided(pearson(&x, &valence), &null) <= 0.05);
    }
    // scipy.stats.binom.ppf([.0005, .9995], 200, .05) is 2 and 21.
    assert!((2..=21).contains(&hits[0]) && hits[1] > 30, "{hits:?}");
    let five = set(&WORDS[..5], &[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0], &[2.0, 0.0], &[0.0, 3.0]]);
    let tables = run(&params(), &five, 1).unwrap();
    assert_eq!([tables[0].1.rows(), tables[1].1.rows(), tables[2].1.rows()], [0, 0, 5], "five words");
    let figures = figures::figures("rated", &tables).unwrap();
    assert!(figures.len() == 1 && figures[0].caption.contains("5 are too few"), "{}", figures[0].caption);
}

/// A file of ratings of `e00`, `e01`, ...
fn ratings(folder: &std::path::Path, rows: &[[f64; 2]], frequencies: Option<&[f64]>) -> Norms {
    let mut text = format!("word,valence,arousal{}\n", if frequencies.is_some() { ",frequency" } else { "" });
    for (at, [valence, arousal]) in rows.iter().enumerate() {
        let frequency = frequencies.map(|of| format!(",{}", of[at])).unwrap_or_default();
        text += &format!("{},{valence},{arousal}{frequency}\n", word(at));
    }
    let path = folder.join("norms.csv");
    fs_err::write(&path, text).unwrap();
    Norms { file: Some(path), resamples: 2, permutations: 39, ..params() }
}

/// Words of several lengths.
fn word(at: usize) -> String {
    format!("q{at:02}{}", "x".repeat(at % 5))
}

fn set_of(rows: &[Vec<f64>]) -> VectorSet {
    let words: Vec<String> = (0..rows.len()).map(word).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    set(&words, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// Twenty-four words in twelve pairs: the vectors of a pair are similar, and their ratings are related, but not close
/// enough to count as equal.
#[test]
fn words_with_like_vectors_are_shuffled_together() {
    let folder = tempfile::tempdir().unwrap();
    let mut hits = [0; 2];
    for seed in 0..200 {
        let mut draws = Draws::new("pairs", &[seed]);
        let (mut rows, mut rated) = (Vec::new(), Vec::new());
        for _ in 0..12 {
            let (place, rating) =
                (draws.direction(12), [0, 1].map(|_| 0.6 * draws.below(1000) as f64 / 1000.0));
            for apart in [0.0, 0.3] {
                rows.push(place.iter().map(|x| x + 0.05 * draws.normal()).collect::<Vec<f64>>());
                rated.push(rating.map(|rating| rating + apart));
            }
        }
        let norms = ratings(folder.path(), &rated, None);
        for (hits, synonyms) in hits.iter_mut().zip([0.9, 1.0]) {
            let tables = run(&Norms { synonyms, ..norms.clone() }, &set_of(&rows), seed).unwrap();
            *hits += usize::from(value(&tables, "PC1", "valence", "p") <= 0.05);
        }
    }
    assert!((2..=21).contains(&hits[0]), "{hits:?}");
}

/// The effect of a word's length on its vector is not taken for valence; valence besides it is found.
#[test]
fn length_and_frequency_are_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut hits = [0; 3];
    for seed in 0..200 {
        let mut draws = Draws::new("controls", &[seed]);
        let mut some = |n: usize| (0..n).map(|_| draws.normal()).collect::<Vec<f64>>();
        let (noise, frequency, apart) = (some(40), some(20), some(20));
        let length = |at: usize| word(at).chars().count() as f64;
        // Ratings and vectors depend on length and frequency, and on nothing else.
        let rating = |at: usize| 0.5 + 0.05 * (length(at) - 5.0) + 0.05 * frequency[at];
        let rated: Vec<[f64; 2]> =
            (0..20).map(|at| [(rating(at) + 0.05 * noise[at]).clamp(0.0, 1.0), 0.01 * at as f64]).collect();
        let rows = |own: f64| -> Vec<Vec<f64>> {
            let along = |at: usize| 20.0 * rating(at) + own * (rated[at][0] - rating(at)) + noise[20 + at];
            (0..20).map(|at| vec![3.0 * along(at), apart[at]]).collect()
        };
        let norms = Norms { synonyms: 1.0, ..ratings(folder.path(), &rated, Some(&frequency)) };
        let tables = run(&norms, &set_of(&rows(0.0)), seed).unwrap();
        assert_eq!(tables[0].1.str("controls").unwrap()[0], "word length and frequency");
        hits[0] += usize::from(value(&tables, "PC1", "valence", "p") <= 0.05);
        hits[1] += usize::from(value(&tables, "PC1", "valence", "partial_p") <= 0.05);
        let tables = run(&norms, &set_of(&rows(60.0)), seed).unwrap();
        hits[2] += usize::from(value(&tables, "PC1", "valence", "partial_p") <= 0.05);
    }
    assert!(hits[0] > 150 && (2..=21).contains(&hits[1]) && hits[2] > 150, "{hits:?}");
}

#[test]
fn no_rated_emotion_is_refused_and_a_changed_file_too() {
    let few = set(&["y", "z", "x"], &[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0]]);
    let error = run(&params(), &few, 1).unwrap_err().to_string();
    assert!(error.contains("none of the 3 emotions") && error.contains("Russell"), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("norms.csv");
    fs_err::write(&path, "word,valence,arousal\nhappy,0.9,0.5\n").unwrap();
    let pinned = Norms { file: Some(path), content: Some("00".into()), ..params() };
    assert!(pinned.ratings().err().unwrap().to_string().contains("was changed"));
    assert_eq!(Norms { content: None, ..pinned }.ratings().unwrap().source, "1 words rated from 0 to 1");
}

#[test]
fn an_interval_of_a_magnitude_is_never_below_zero() {
    let of = |low, high| {
        let found = figures::magnitudes(low, high);
        (found.low, found.high)
    };
    assert_eq!(of(0.2, 0.9), (0.2, 0.9));
    assert_eq!(of(-0.9, -0.2), (0.2, 0.9));
    assert_eq!(of(-0.9, 0.5), (0.0, 0.9));
    assert_eq!(of(-0.1, 0.5), (0.0, 0.5));
}
