//! Readings that are unrelated to outcomes, and readings that are related.

use super::*;
use crate::stages::statistics::draws::Draws;

/// Cases of twenty texts. The frequency of the act and the mean reading differ between cases. The first emotion's
/// reading of an answer is higher by `within` if the answer is the act; its reading of a case's turns is higher by
/// `across` if the act is frequent.
fn texts(seed: u64, cases: usize, within: f64, across: f64) -> Vec<Read> {
    let mut draws = Draws::new("scenario probe test", &[seed]);
    let mut read = Vec::new();
    for case in 0..cases {
        let rate = 0.1 + 0.8 * draws.below(1_000_000) as f64 / 1e6;
        let turns: Vec<f64> = (0..5)
            .map(|direction| draws.normal() + if direction == 0 { across * rate } else { 0.0 })
            .collect();
        for _ in 0..20 {
            let act = (draws.below(1_000_000) as f64) < 1e6 * rate;
            let answer = turns
                .iter()
                .enumerate()
                .map(|(direction, x)| x + draws.normal() + if direction == 0 && act { within } else { 0.0 });
            let answer = answer.collect();
            read.push(Read { case: 2 * case, act, at: [turns.clone(), turns.clone(), answer] });
        }
    }
    read
}

fn of(seed: u64, cases: usize, within: f64, across: f64) -> Vec<Found> {
    let emotions = ["angry", "calm"].map(String::from);
    of_layer(Layer::Block(1), &emotions, &texts(seed, cases, within, across), (20, 199, seed))
}

fn one<'a>(found: &'a [Found], emotion: &str, place: &str, form: &str) -> &'a Found {
    found.iter().find(|of| of.emotion == emotion && of.place == place && of.form == form).unwrap()
}

#[test]
fn noise_is_found_as_often_as_stated() {
    let mut small = [0; 3];
    for seed in 0..200 {
        let found = of(seed, 6, 0.0, 0.0);
        // The text before the answer is the same in all texts of a case.
        assert_eq!(found.len(), 2 * 4);
        for (count, (place, form)) in
            small.iter_mut().zip([(PLACES[2], WITHIN), (PLACES[2], ACROSS), (PLACES[0], ACROSS)])
        {
            *count += usize::from(one(&found, "angry", place, form).p <= 0.05);
        }
    }
    // scipy.stats.binom.ppf([.001, .999], 200, .05) is 2 and 21.
    assert!(small.iter().all(|count| (2..=21).contains(count)), "{small:?} of 200");
}

#[test]
fn what_is_there_is_found_where_it_is() {
    let all: Vec<Vec<Found>> = (0..20).map(|seed| of(seed, 6, 1.0, 0.0)).collect();
    let planted: Vec<&Found> = all.iter().map(|found| one(found, "angry", PLACES[2], WITHIN)).collect();
    // Two normal variables whose means are 1 apart: the former is larger with probability .76; a single area has a
    // standard deviation of .05.
    let area = planted.iter().map(|of| of.area).sum::<f64>() / 20.0;
    assert!((area - 0.76).abs() < 0.04, "{area}");
    let small =
        |emotion: &str| all.iter().filter(|found| one(found, emotion, PLACES[2], WITHIN).p <= 0.05).count();
    assert!(small("angry") >= 18 && small("calm") <= 5, "{} and {} of 20", small("angry"), small("calm"));
    for of in planted {
        let (ends, random) = (of.interval.unwrap(), of.random.unwrap());
        assert!(ends.low < of.area && of.area < ends.high && random.0 <= random.1 && random.2 >= 0.25);
    }
    // With ten cases, a difference between cases is found in 94 of 100 such draws (simulated in Python), and 15 of 20
    // in all but one of 1,000.
    let found =
        (0..20).filter(|&seed| one(&of(seed, 10, 0.0, 12.0), "angry", PLACES[0], ACROSS).p <= 0.05).count();
    assert!(found >= 15, "{found} of 20");
}

/// Compared with numbers computed by hand.
#[test]
fn areas_are_shares_of_pairs() {
    let (cases, act) = (vec![vec![0, 1, 2], vec![3, 4]], [true, false, false, true, false]);
    let values = [2.0, 1.0, 2.0, 0.0, 3.0];
    // 2 over 1, 2 tied with 2, 0 under 3.
    assert_eq!(within(&cases, &act, &values), Some(0.5));
    assert_eq!(within(&cases, &[true; 5], &values), None);
    let numbers = means(&cases, &values);
    assert_eq!(numbers, [5.0 / 3.0, 1.5]);
    // One act of the first case above one other of the second; one act of the second below two others of the first.
    assert_eq!(across(&cases, &act, &numbers), Some(1.0 / 3.0));
    assert!(vary(&cases, &values) && !vary(&cases, &[1.0, 1.0, 1.0, 4.0, 4.0]));
    let again = dealt(&cases, &act, &mut Draws::new("dealt", &[1]));
    assert_eq!((again[..3].iter().filter(|&&act| act).count(), again[3] != again[4]), (1, true));
}
