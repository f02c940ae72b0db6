//! Scorers with known error rates.

use super::*;
use crate::stages::analysis::tests::set;
use crate::stages::rollouts::Asked;
use crate::stages::rollouts::cells::NONE;
use crate::stages::statistics::draws::Draws;

/// For an arm: the share of the act, sensitivity and specificity.
type Rates = (f64, f64, f64);

/// 120 texts of two cases with grounds and one without in each arm, 60 of them labelled, scored at these rates.
fn drawn(seed: u64, arms: &[(&str, Rates)]) -> (Samples, Vec<Label>) {
    let mut draws = Draws::new("accuracy", &[seed]);
    let mut uniform = || draws.below(1_000_000) as f64 / 1e6;
    let asked = |name: &str, control| Asked {
        name: name.into(),
        control,
        system: String::new(),
        turns: vec!["Well?".into()],
        replies: Vec::new(),
        answer: String::new(),
        shown: String::new(),
        hidden: String::new(),
        options: Vec::new(),
    };
    let cases = vec![asked("one", false), asked("two", false), asked("twin", true)];
    let (mut all, mut labels) = (Vec::new(), Vec::new());
    for (cell, (_, (share, sensitivity, specificity))) in arms.iter().enumerate() {
        for number in 0..180 {
            let is_act = uniform() < *share;
            let told = if is_act { uniform() < *sensitivity } else { uniform() >= *specificity };
            let id = format!("{cell}-{number}");
            if number % 2 == 0 {
                labels.push(Label { of: Of::SampleId(id.clone()), act: is_act });
            }
            all.push(Sample {
                id,
                case: number % 3,
                cell,
                number: number as i32,
                seed: String::new(),
                outcome: if told { "yes" } else { "no" }.into(),
                act: told,
                evidence: String::new(),
                ended: "end".into(),
                tokens: 1,
                text: String::new(),
                earlier: Vec::new(),
            });
        }
    }
    let cells =
        arms.iter().map(|(name, _)| (name.to_string(), if *name == NONE { 0.0 } else { 0.1 })).collect();
    (Samples { cells, cases, all }, labels)
}

fn of(seed: u64, arms: &[(&str, Rates)]) -> Table {
    let (samples, labelled) = drawn(seed, arms);
    let params = Scenario { labelled, ..Scenario::plain("refusal") };
    let set = set(&["calm"], &[&[1.0, 0.0]]);
    table(&params, (&set, Layer::Block(0)), &samples, seed).unwrap()
}

#[test]
fn arms_that_are_told_as_well_differ_no_oftener_than_chance_and_others_are_found() {
    // Shares differ; accuracies do not.
    let same = [
        (NONE, (0.2, 0.8, 0.9)),
        ("angry", (0.6, 0.8, 0.9)),
        ("random-1", (0.3, 0.8, 0.9)),
        ("random-2", (0.3, 0.8, 0.9)),
    ];
    let p = |seed, arms: &[(&str, Rates)]| of(seed, arms).opt_f64("p_differs").unwrap()[0].unwrap();
    let small = (0..200).filter(|&seed| p(seed, &same) <= 0.05).count();
    // scipy.stats.binom.cdf(17, 200, .05) is .987, and cdf(3, 200, .05) .009.
    assert!((4..=17).contains(&small), "{small} of 200");
    let other = [(NONE, (0.4, 0.95, 0.95)), ("angry", (0.4, 0.4, 0.95))];
    let found = (0..50).filter(|&seed| p(seed, &other) <= 0.05).count();
    assert!(found >= 40, "{found} of 50");
}

#[test]
fn shares_are_corrected_by_each_arm_s_own_accuracy() {
    let arms = [(NONE, (0.2, 0.9, 0.95)), ("angry", (0.6, 0.6, 0.7))];
    let mut missed = [0; 2];
    let mut told = [0.0; 2];
    for seed in 0..200 {
        let table = of(seed, &arms);
        assert_eq!(table.str("arm").unwrap(), [NONE, "angry", ALL]);
        let [low, high] = ["low", "high"].map(|name| table.opt_f64(name).unwrap().to_vec());
        for (at, (_, (share, ..))) in arms.iter().enumerate() {
            told[at] += table.opt_f64("told").unwrap()[at].unwrap() / 200.0;
            // None if the scorer is no better than chance: then there is no claim.
            missed[at] +=
                usize::from(low[at].zip(high[at]).is_some_and(|(low, high)| *share < low || *share > high));
        }
    }
    // The uncorrected shares would be .22 and .48.
    assert!((told[0] - 0.22).abs() < 0.02 && (told[1] - 0.48).abs() < 0.02, "{told:?}");
    assert!(missed.iter().all(|&missed| missed <= 17), "{missed:?} of 200 intervals miss the true share");
}

#[test]
fn counts_are_those_of_the_labels() {
    let (mut samples, _) =
        drawn(1, &[(NONE, (0.5, 1.0, 1.0)), ("random-1", (0.5, 1.0, 1.0)), ("random-2", (0.5, 1.0, 1.0))]);
    let act = samples.all[0].act;
    samples.all[0].text = " Yes. ".into();
    let label = |of, act| Label { of, act };
    let labelled = vec![
        label(Of::Text("Yes.".into()), !act),
        label(Of::SampleId("1-0".into()), true),
        label(Of::SampleId("2-1".into()), true),
        // For a control, and for a text that does not exist.
        label(Of::SampleId("0-2".into()), true),
        label(Of::SampleId("none".into()), true),
    ];
    let params = Scenario { labelled, ..Scenario::plain("refusal") };
    let set = set(&["calm"], &[&[1.0, 0.0]]);
    let found = table(&params, (&set, Layer::Block(0)), &samples, 1).unwrap();
    assert_eq!(found.str("arm").unwrap(), [NONE, "random", ALL]);
    let sum = |name: &str| found.i32(name).unwrap().to_vec();
    assert_eq!(sum("n_act")[1], 2, "both random directions are one arm");
    assert_eq!(sum("n_act")[0] + sum("n_other")[0], 1);
    assert_eq!(sum("n_act")[2] + sum("n_other")[2], 3);
    assert_eq!(sum("n"), [120, 240, 360]);
    // The only label of the unsteered arm contradicts the score.
    let wrong = [found.opt_f64("sensitivity").unwrap()[0], found.opt_f64("specificity").unwrap()[0]];
    assert!(wrong.iter().flatten().all(|share| *share == 0.0) && wrong.iter().flatten().count() == 1);
    let none =
        Scenario { labelled: vec![label(Of::SampleId("none".into()), true)], ..Scenario::plain("refusal") };
    assert!(table(&none, (&set, Layer::Block(0)), &samples, 1).is_none());
}
