//! Dialogues of noise, and with planted directions.

use std::collections::BTreeMap;

use super::super::tests::set;
use super::*;
use crate::stages::statistics::draws::Draws;
use crate::stages::vectors::{Center, Denoise, Equal};

const EMOTIONS: [&str; 6] = ["happy", "angry", "sad", "calm", "excited", "tired"];
const D: usize = 12;

/// The emotional content of a residual: for speaker and owner, the purpose and seed from which directions, one per
/// emotion, are drawn; `None`: nothing.
type Planted<'a> = &'a dyn Fn(usize, usize) -> Option<(&'static str, u64)>;

const NOTHING: Planted = &|_, _| None;

/// A table of spans at layer 3: in each of `topics`, each emotion of the person is paired with `each` of the
/// assistant's. The noise that both turns of a dialogue share is as large as the noise of each.
fn table(seed: u64, topics: usize, each: usize, planted: Planted) -> Table {
    let n = EMOTIONS.len();
    let mut draws = Draws::new("dialogues", &[seed]);
    let mut values = Vec::new();
    let (mut id, mut topic_of, mut emotion, mut other, mut span) = (vec![], vec![], vec![], vec![], vec![]);
    for topic in 0..topics {
        let topics_own: Vec<f64> = (0..D).map(|_| 2.0 * draws.normal()).collect();
        for index in 0..each {
            let order = draws.shuffled(n);
            for (first, &second) in order.iter().enumerate() {
                let labels = [first, second];
                let dialogue: Vec<f64> = topics_own.iter().map(|x| x + draws.normal()).collect();
                for (speaker, name) in ["user", "assistant"].into_iter().enumerate() {
                    let mut row: Vec<f64> = dialogue.iter().map(|x| x + draws.normal()).collect();
                    for (owner, label) in labels.into_iter().enumerate() {
                        let Some((code, number)) = planted(speaker, owner) else { continue };
                        let direction = Draws::new(code, &[label as u64, number]).direction(D);
                        row.iter_mut().zip(direction).for_each(|(x, u)| *x += 6.0 * u);
                    }
                    values.extend(row.into_iter().map(|x| x as f32));
                    id.push(format!("{topic}-{index}-{first}"));
                    topic_of.push(Some(format!("topic {topic}")));
                    emotion.push(Some(EMOTIONS[labels[0]].to_string()));
                    other.push(Some(EMOTIONS[labels[1]].to_string()));
                    span.push(name.to_string());
                }
            }
        }
    }
    let rows = id.len();
    Table::new(
        "spans/1",
        vec![
            ("text_id", Column::Str(id)),
            ("emotion", Column::OptStr(emotion)),
            ("other", Column::OptStr(other)),
            ("topic", Column::OptStr(topic_of)),
            ("layer", Column::I32(vec![3; rows])),
            ("span", Column::Str(span)),
            ("activation", Column::List { width: D, values, half: false }),
        ],
    )
}

/// The two tables of dialogues; the stories' vectors have directions of their own.
fn run(speakers: &Speakers, table: Table, seed: u64) -> Result<Tables> {
    let rows: Vec<Vec<f64>> =
        (0..EMOTIONS.len()).map(|at| Draws::new("relation", &[at as u64, 0]).direction(D)).collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let params = vectors::Params {
        center: Center::Emotions,
        denoise: Denoise::None,
        normalize: false,
        weights: Equal::Stories,
        tokens: None,
    };
    let spans = Spans { count: 1, read: &|_| Ok(table.clone()), params: &params, neutral: &|_| Ok(None) };
    let situations = (0..6).map(|at| Draws::new("situation", &[at]).direction(D)).collect();
    speakers.run_on(&set(&EMOTIONS, &rows), &spans, &[situations], seed)
}

fn speakers(permutations: usize) -> Speakers {
    Speakers {
        dialogues: "talk".into(),
        situations: Vec::new(),
        layers: Layers::Default,
        resamples: 40,
        permutations,
    }
}

/// The value and p of a claimed number, by its name.
fn tested(tables: &Tables, wanted: &str) -> (f64, f64) {
    let table = &tables[1].1;
    let row = table.str("what").unwrap().iter().position(|what| what == wanted).unwrap();
    (table.f64("value").unwrap()[row], table.f64("p").unwrap()[row])
}

/// How many of `rounds` tables have each p at most .05: by the names of claimed numbers, and by those of pairs of
/// sets.
fn small(rounds: u64, planted: impl Fn(u64) -> Table) -> BTreeMap<String, usize> {
    let mut small = BTreeMap::new();
    for seed in 0..rounds {
        let tables = run(&Speakers { resamples: 2, ..speakers(19) }, planted(seed), seed).unwrap();
        let [(_, pairs), (_, tests)] = tables.as_slice() else { panic!() };
        let mut count = |name: String, p: f64| *small.entry(name).or_default() += usize::from(p <= 0.05);
        for row in 0..pairs.rows() {
            let name = format!("{}, {}", pairs.str("a").unwrap()[row], pairs.str("b").unwrap()[row]);
            count(format!("rsa: {name}"), pairs.f64("p_rsa").unwrap()[row]);
            count(name, pairs.f64("p").unwrap()[row]);
        }
        for row in 0..tests.rows() {
            count(tests.str("what").unwrap()[row].clone(), tests.f64("p").unwrap()[row]);
        }
    }
    small
}

/// With noise, which both turns of a dialogue share, every p is small at its nominal rate.
#[test]
fn noise_is_found_at_the_stated_rate() {
    let small = small(200, |seed| table(seed, 8, 1, NOTHING));
    assert_eq!(small.len(), 2 * 10 + 9);
    // scipy.stats.binom.ppf([.0003, .9997], 200, .05) is 1 and 22.
    assert!(small.values().all(|n| (1..=22).contains(n)), "{small:#?}");
}

/// If both speakers express their own emotions, each in their own way, nothing is shared: the comparisons of sets of
/// two owners are significant at their nominal rate.
#[test]
fn what_each_shows_in_a_way_of_its_own_is_nothing_in_common() {
    let small = small(200, |seed| {
        let own = |speaker: usize, owner: usize| {
            (speaker == owner).then_some((["says", "answers"][owner], seed + 1))
        };
        table(seed, 8, 1, &own)
    });
    for what in ["same relation", "same speaker", "arousal regulation"] {
        assert!((1..=22).contains(&small[what]), "{what}: {small:#?}");
    }
    assert!(small.iter().filter(|(name, _)| name.contains("stories")).all(|(_, n)| *n <= 22), "{small:#?}");
}

/// Directions of the relation, of the owner, of the speaker alone, and of all: what is planted is found, and nothing
/// else.
#[test]
fn what_is_planted_is_found() {
    let relation: Planted = &|speaker, owner| Some((if speaker == owner { "relation" } else { "other" }, 0));
    let owner: Planted = &|_, owner| Some((["person", "assistant"][owner], 0));
    let speaker: Planted = &|speaker, _| Some((["says", "answers"][speaker], 0));
    let all: Planted = &|_, _| Some(("emotion", 0));
    for (planted, highest) in [(relation, 0), (owner, 1), (speaker, 2)] {
        let tables = run(&speakers(99), table(1, 8, 2, planted), 0).unwrap();
        let found = ["same relation", "same owner", "same speaker"].map(|name| tested(&tables, name));
        for (at, (value, p)) in found.into_iter().enumerate() {
            if at == highest {
                assert!(value > 0.7 && p == 0.01, "{found:?}");
            } else {
                assert!(value.abs() < 0.3 && p > 0.01, "{found:?}");
            }
        }
        // The part shared by both owners' emotions does not depend on the owner.
        let (value, p) = tested(&tables, "relation minus owner");
        match highest {
            2 => assert!(p > 0.05, "{value} {p}"),
            _ => assert!((value > 0.0) == (highest == 0) && p <= 0.02, "{value} {p}"),
        }
        // The stories have the directions of the speaker's own emotion.
        let table = &tables[0].1;
        let row = table.str("b").unwrap().iter().position(|b| b == "stories").unwrap();
        assert!((table.f64("value").unwrap()[row] > 0.6) == (highest == 0));
    }
    // One direction per emotion in all sets: all sets are alike, and the owner makes no difference.
    let tables = run(&speakers(99), table(1, 8, 2, all), 0).unwrap();
    for name in ["same relation", "same owner", "same speaker"] {
        assert!(tested(&tables, name).0 > 0.7);
    }
    assert!(tested(&tables, "relation minus owner").1 > 0.05);
}

/// The first pair's cosine compared with the definition, in plain loops.
#[test]
fn a_cosine_is_that_of_the_means_by_hand() {
    let table = table(3, 3, 1, NOTHING);
    let (emotion, other) = (table.opt_str("emotion").unwrap(), table.opt_str("other").unwrap());
    let (span, (_, values)) = (table.str("span").unwrap(), table.list("activation").unwrap());
    let vectors = |speaker: &str, labels: &[Option<String>]| -> Vec<Vec<f64>> {
        let mean = |name: &str| -> Vec<f64> {
            let own: Vec<usize> = (0..table.rows())
                .filter(|&row| span[row] == speaker && labels[row].as_deref() == Some(name))
                .collect();
            (0..D)
                .map(|at| {
                    own.iter().map(|row| f64::from(values[row * D + at])).sum::<f64>() / own.len() as f64
                })
                .collect()
        };
        let means: Vec<Vec<f64>> = EMOTIONS.iter().map(|name| mean(name)).collect();
        let grand: Vec<f64> = (0..D).map(|at| means.iter().map(|m| m[at]).sum::<f64>() / 6.0).collect();
        means.iter().map(|m| m.iter().zip(&grand).map(|(x, g)| x - g).collect()).collect()
    };
    let (a, b) = (vectors("user", emotion), vectors("user", other));
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    let cosine = |(x, y): (&Vec<f64>, &Vec<f64>)| dot(x, y) / (dot(x, x) * dot(y, y)).sqrt();
    let want = a.iter().zip(&b).map(cosine).sum::<f64>() / 6.0;
    let tables = run(&speakers(1), table.clone(), 0).unwrap();
    assert_eq!(tables[0].1.str("common").unwrap()[0], "same speaker");
    let got = tables[0].1.f64("value").unwrap()[0];
    assert!((got - want).abs() < 1e-9, "{got} {want}");
}

#[test]
fn an_emotion_that_nobody_feels_is_named() {
    let mut table = table(3, 3, 1, NOTHING);
    let rows: Vec<usize> = (0..table.rows())
        .filter(|&row| table.opt_str("other").unwrap()[row].as_deref() != Some("calm"))
        .collect();
    table = table.select(&rows);
    let error = format!("{:#}", run(&speakers(1), table, 0).unwrap_err());
    assert!(error.contains("no dialogue in which the assistant feels `calm`"), "{error}");
}
