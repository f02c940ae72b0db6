//! The alarm computed from tables of readings: its rate on noise, and its detection of planted signals.

use super::super::LayerVectors;
use super::super::reads::Reads;
use super::*;
use crate::lm::{Message, Role};
use crate::stages::stories::{self, Story};
use crate::stages::texts::{self, Transcript};
use crate::store::table::Column;

fn monitor(false_alarms: f64) -> Monitor {
    Monitor {
        transcripts: "logs".into(),
        neutral: "calm".into(),
        alarm: Alarm { on: "desperate".into(), false_alarms },
        roles: Roles::All,
        window: 4,
        skip: 2,
        classes: 1,
        outcome: Some("bad".into()),
        layers: Layers::Default,
        random: 19,
        resamples: 200,
    }
}

fn set() -> VectorSet {
    let layer = LayerVectors {
        layer: Layer::Block(1),
        emotions: vec!["desperate".into(), "glad".into()],
        d_model: 1,
        vectors: vec![1.0, 1.0],
        raw: vec![1.0, 1.0],
        n_stories: vec![1, 1],
        resid_norm: 1.0,
    };
    VectorSet { model: "m".into(), stories: "s".into(), n_layers: 2, layers: vec![layer] }
}

/// A shard of noise transcripts from `seed`, each with two turns; those labelled `bad` are shifted by `planted` along
/// the first direction in their second turn, and have the outcome in the third.
fn shard(seed: u64, n: usize, bad: usize, planted: f64) -> (Table, Table) {
    let turns = [("user", 0), ("assistant", 1), ("user", 2)];
    let mut transcripts = Vec::new();
    let (mut ids, mut turn_of, mut token_of, mut pieces, mut values) =
        (vec![], vec![], vec![], vec![], vec![]);
    for i in 0..n {
        let mut draws = Draws::new("transcript", &[seed, i as u64]);
        let is_bad = i < bad;
        let said = |(role, turn): &(&str, usize)| {
            let role = if *role == "user" { Role::User } else { Role::Assistant };
            Message::new(role, format!("{seed} {i} {turn}"))
        };
        let transcript = Transcript {
            id: format!("{seed}-{i}"),
            place: format!("line {i}"),
            turns: turns.iter().map(said).collect(),
            label: Some(if is_bad { "bad" } else { "good" }.into()),
            event: is_bad.then_some(2),
            labels: None,
        };
        let (mut token, mut value) = (0, 0.0);
        for turn in 0..3 {
            for _ in 0..4 + draws.below(8) {
                value = 0.7 * value + draws.normal();
                ids.push(transcript.id.clone());
                turn_of.push(turn);
                token_of.push(token);
                pieces.push(" word".to_string());
                let own = value + if is_bad && turn == 1 { planted } else { 0.0 };
                values.push(own as f32);
                // Another emotion, and random directions.
                values.extend((0..20).map(|_| draws.normal() as f32));
                token += 1;
            }
        }
        transcripts.push(transcript);
    }
    let rows = ids.len();
    let columns = vec![
        ("text_id", Column::Str(ids)),
        ("turn", Column::I32(turn_of)),
        ("token", Column::I32(token_of)),
        ("piece", Column::Str(pieces)),
        ("layer", Column::I32(vec![1; rows])),
        ("reading", Column::List { width: 21, values, half: false }),
    ];
    (Table::new("readings/1", columns), texts::table(&transcripts))
}

fn story() -> Table {
    stories::table(&[Story {
        story_id: "a".into(),
        emotion: Some("desperate".into()),
        other: None,
        topic: None,
        index: 0,
        text: "word".into(),
        writer: "file".into(),
        prompt: None,
        seed: None,
        rejected: 0,
    }])
}

fn run(monitor: &Monitor, neutral: (Table, Table), watched: (Table, Table), seed: u64) -> Result<Tables> {
    let shards = [neutral, watched];
    let sources = ["texts/calm".to_string(), "texts/logs".to_string()];
    let reads = Reads {
        sources: &sources,
        read: &|shard| Ok(shards[shard].clone()),
        stories: &|_| Ok(story()),
        n_stories: 1,
    };
    monitor.run_on(&set(), &reads, seed)
}

fn table<'a>(tables: &'a Tables, name: &str) -> &'a Table {
    &tables.iter().find(|(n, _)| n == name).unwrap().1
}

/// Over 200 calibrations the rate of alarms on new transcripts of the same kind is the stated one, and so are those on
/// held-out transcripts and along random directions.
#[test]
fn new_neutral_transcripts_alarm_at_the_stated_rate() {
    let monitor = monitor(0.1);
    let (mut alarms, mut held_out, mut random) = ([0, 0], [0, 0], [0, 0]);
    for seed in 0..200 {
        let tables = run(&monitor, shard(seed, 50, 0, 0.0), shard(1000 + seed, 10, 0, 0.0), seed).unwrap();
        let rule = table(&tables, "monitor");
        let count = |name: &str, row: usize| rule.i32(name).unwrap()[row];
        for (row, direction) in rule.str("direction").unwrap().iter().enumerate() {
            let into: &mut [i32; 2] =
                if direction.starts_with("random-") { &mut random } else { &mut alarms };
            if direction != WORDS {
                into[0] += count("watched_alarms", row);
                into[1] += count("watched", row);
            }
            if direction == "desperate" {
                held_out[0] += count("held_out_alarms", row);
                held_out[1] += count("held_out", row);
                assert_eq!((count("n_threshold", row), count("k", row)), (30, 28));
            }
        }
    }
    // k of 30 at .1 is 28: a rate of 3 / 31.
    for ([alarms, of], slack) in [(alarms, 0.03), (held_out, 0.03), (random, 0.01)] {
        let rate = f64::from(alarms) / f64::from(of);
        assert!((rate - 3.0 / 31.0).abs() < slack, "{alarms} of {of}");
    }
}

#[test]
fn what_is_planted_is_found_before_the_event_and_random_directions_find_nothing() {
    let monitor = monitor(0.05);
    let tables = run(&monitor, shard(1, 100, 0, 0.0), shard(2, 60, 30, 6.0), 0).unwrap();
    let outcomes = table(&tables, "monitor_outcomes");
    let area = outcomes.opt_f64("auroc").unwrap();
    assert_eq!(outcomes.str("direction").unwrap()[0], "desperate");
    assert!(area[0].unwrap() > 0.95, "{area:?}");
    let random = &area[1..20];
    assert!(random.iter().all(|a| (0.2..0.8).contains(&a.unwrap())), "{random:?}");
    // Every text has the same words.
    assert_eq!(area[20], Some(0.5));
    assert_eq!(outcomes.opt_i64("events").unwrap()[0], Some(30));
    assert!(outcomes.opt_i64("alarm_before").unwrap()[0].unwrap() >= 27);
    assert_eq!(outcomes.opt_f64("median_lead_turns").unwrap()[0], Some(1.0));
    let alarms = table(&tables, "monitor_alarms");
    assert_eq!(alarms.rows(), 60);
    let (alarm, turn) = (alarms.bool("alarm").unwrap(), alarms.opt_i64("turn").unwrap());
    assert!((0..60).all(|row| alarm[row] == turn[row].is_some()));
    assert!((0..30).filter(|&row| turn[row] == Some(1)).count() >= 27);
    let p = alarms.f64("p").unwrap();
    assert!(p.iter().all(|p| (1.0 / 61.0 - 1e-12..=1.0).contains(p)));
    let found = figures::claims(&monitor, &tables).unwrap();
    let auroc = found.iter().find(|claim| claim.what == "AUROC").unwrap();
    assert_eq!((auroc.p(), auroc.ends().is_some()), (Some(0.05), true));
}

#[test]
fn too_few_neutral_transcripts_are_an_error_that_says_how_many_would_do() {
    let error = run(&monitor(0.01), shard(1, 100, 0, 0.0), shard(2, 4, 0, 0.0), 0).unwrap_err();
    let error = format!("{error:#}");
    for said in [
        "at layer 1",
        "about 165 in all would do",
        "60 neutral transcripts are too few",
        "at least 99 are needed",
    ] {
        assert!(error.contains(said), "{said}: {error}");
    }
    let two = Monitor { classes: 2, ..monitor(0.05) };
    assert!(run(&two, shard(1, 100, 0, 0.0), shard(2, 4, 0, 0.0), 0).is_ok());
    let error = run(&two, shard(1, 40, 0, 0.0), shard(2, 4, 0, 0.0), 0).unwrap_err();
    assert!(format!("{error:#}").contains("length class"), "{error:#}");
}

#[test]
fn transcripts_that_are_watched_and_neutral_are_refused_and_twins_count_once() {
    let error = run(&monitor(0.05), shard(1, 100, 0, 0.0), shard(1, 4, 0, 0.0), 0).unwrap_err();
    assert!(format!("{error:#}").contains("4 of the transcripts that are watched"), "{error:#}");
}
