//! Ratings against vectors of which is known what they hold.

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

/// Vectors with twice the valence and once the arousal of the circumplex, and noise.
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
    Norms { file: None, content: None, components: 3, resamples: 200, permutations: 99 }
}

fn value(tables: &Tables, component: &str, rating: &str, column: &str) -> f64 {
    let table = &tables[0].1;
    let (components, ratings) = (table.str("component").unwrap(), table.str("rating").unwrap());
    let row = (0..table.rows()).find(|&row| components[row] == component && ratings[row] == rating).unwrap();
    match column {
        "p" | "low" | "high" => table.opt_f64(column).unwrap()[row].unwrap(),
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
    let mut hits = [0usize; 3];
    for seed in 0..200 {
        let mut noise = vectors(1.0, 500 + seed);
        // Without what was planted.
        let mut draws = Draws::new("noise", &[seed]);
        noise.layers[0].vectors.iter_mut().for_each(|x| *x = draws.normal());
        let tables = run(&params, &noise, seed).unwrap();
        hits[0] += usize::from(value(&tables, "PC1", "valence", "p") <= 0.05);
        hits[1] += usize::from(value(&tables, WHOLE, "arousal", "p") <= 0.05);
        hits[2] += usize::from(tables[1].1.opt_f64("p").unwrap()[0].unwrap() <= 0.05);
    }
    // 10 of 200 are expected, with a standard deviation of 3.1.
    assert!(hits.iter().all(|hits| (2..=19).contains(hits)), "{hits:?}");
}

/// Words that people rate alike have like vectors, whatever else those hold: three words of two synonyms each are six words
/// that know three things.
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
    let alike = Alike::of(&rated);
    // Degrees: 207.5, 209, 210; 316.2, 318, 321; 92.8, 96.5; 242; 7.8; 267.7.
    assert_eq!((alike.of.as_slice(), alike.blocks), (&[0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5][..], 6));
    let ratings: Vec<f64> = (0..11).map(f64::from).collect();
    let moved = alike.shuffled(&ratings, &[1, 0, 2, 3, 5, 4]);
    assert_eq!(moved, [4.0, 4.0, 4.0, 1.0, 1.0, 1.0, 6.5, 6.5, 8.0, 10.0, 9.0]);
    let mut hits = [0; 2];
    for seed in 0..200 {
        // Each block has a place of its own, and its words lie near it.
        let mut draws = Draws::new("synonyms", &[seed]);
        let places: Vec<f64> = (0..6).map(|_| draws.normal()).collect();
        let rows: Vec<Vec<f64>> =
            alike.of.iter().map(|&b| vec![10.0 * places[b] + 0.1 * draws.normal(), draws.normal()]).collect();
        let set = set(&words, &rows.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let params = Norms { resamples: 2, permutations: 39, ..params() };
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
    assert!(tables[0].1.opt_f64("p").unwrap().iter().all(Option::is_none), "five words");
}

#[test]
fn too_few_rated_emotions_are_refused_and_a_changed_file_too() {
    let few = set(&["happy", "sad", "x"], &[&[1.0, 0.0], &[0.0, 1.0], &[1.0, 1.0]]);
    let error = run(&params(), &few, 1).unwrap_err().to_string();
    assert!(error.contains("2 of 3 emotions") && error.contains("Russell"), "{error}");
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
