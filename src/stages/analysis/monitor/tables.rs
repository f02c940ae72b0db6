//! The tables of a monitor. Independent of models and texts.

use super::super::{Places, Tables, VectorSet};
use super::Watched;
use super::lead::Leads;
use super::rule::{Threshold, auroc};
use crate::lm::Layer;
use crate::stages::statistics::draws;
use crate::stages::statistics::interval::percentile;
use crate::store::table::{Column, Table};

/// All tables.
#[derive(Default)]
pub struct Out {
    pub rule: Rows<Rule>,
    pub alarms: Rows<Alarmed>,
    pub outcomes: Rows<Outcome>,
}

/// Rows with their set and layer.
pub struct Rows<T> {
    places: Places,
    rows: Vec<T>,
}

impl<T> Default for Rows<T> {
    fn default() -> Rows<T> {
        Rows { places: Places::default(), rows: Vec::new() }
    }
}

impl<T> Rows<T> {
    pub fn push(&mut self, set: &VectorSet, layer: Layer, row: T) {
        self.places.push(set, layer);
        self.rows.push(row);
    }
}

/// A direction's alarm in a length class.
pub struct Rule {
    pub direction: String,
    pub class: usize,
    /// The upper limit of the class; `None`: no limit.
    pub most_tokens: Option<usize>,
    pub threshold: Threshold,
    /// Alarms, transcripts.
    pub held_out: (usize, usize),
    pub watched: (usize, usize),
    /// Per token, of the readings in the neutral transcripts reserved for it.
    pub mean: f64,
    pub sd: f64,
}

/// A watched transcript.
pub struct Alarmed {
    id: String,
    place: String,
    label: Option<String>,
    tokens: usize,
    class: usize,
    peak: f64,
    threshold: f64,
    /// The probability of at least such a peak in a neutral transcript.
    p: f64,
    alarm: Option<Alarm>,
    event: Option<usize>,
}

/// The position of the first alarm.
struct Alarm {
    turn: usize,
    token: usize,
    text: String,
}

/// The number of tokens shown before an alarm.
const SHOWN: usize = 24;

impl Alarmed {
    /// `along`: the running mean of a transcript; `neutral`: peaks of neutral transcripts of its length class.
    pub fn of(one: &Watched, class: usize, along: &[f64], threshold: &Threshold, neutral: &[f64]) -> Alarmed {
        let peak = super::peak(along);
        let alarm = along.iter().position(|&x| x > threshold.value).map(|at| {
            let (token, turn) = one.tokens[at];
            let from = one.tokens[at.saturating_sub(SHOWN - 1)].0;
            Alarm { turn, token, text: one.pieces[from..=token].concat() }
        });
        let as_large = neutral.iter().filter(|&&other| other >= peak).count();
        Alarmed {
            id: one.id.clone(),
            place: one.place.clone(),
            label: one.label.clone(),
            tokens: one.tokens.len(),
            class,
            peak,
            threshold: threshold.value,
            p: (1 + as_large) as f64 / (1 + neutral.len()) as f64,
            alarm,
            event: one.event,
        }
    }
}

/// How well a direction's peak distinguishes transcripts with the outcome from others.
pub struct Outcome {
    direction: String,
    counts: [usize; 2],
    auroc: Option<f64>,
    interval: Option<[f64; 2]>,
    leads: Option<Leads>,
}

impl Outcome {
    /// `sides`: peaks with the outcome and without it.
    pub fn of(
        direction: &str,
        sides: &[Vec<f64>; 2],
        leads: Option<Leads>,
        resamples: usize,
        seed: u64,
    ) -> Outcome {
        let [yes, no] = sides;
        let area = auroc(yes, no);
        let resampled = area.map(|_| {
            draws::rounds(seed, "monitor auroc", resamples, |draws| {
                let mut again = |side: &Vec<f64>| -> Vec<f64> {
                    draws.resampled(side.len()).into_iter().map(|at| side[at]).collect()
                };
                auroc(&again(yes), &again(no)).unwrap_or(f64::NAN)
            })
        });
        let interval = resampled.and_then(|all| percentile(&all)).map(|i| [i.low, i.high]);
        Outcome { direction: direction.into(), counts: [yes.len(), no.len()], auroc: area, interval, leads }
    }
}

impl Out {
    /// One entry per row.
    pub fn tables(self) -> Tables {
        let Out { rule, alarms, outcomes } = self;
        let mut tables =
            vec![("monitor".to_string(), rule.table()), ("monitor_alarms".to_string(), alarms.table())];
        if !outcomes.rows.is_empty() {
            tables.push(("monitor_outcomes".to_string(), outcomes.table()));
        }
        tables
    }
}

macro_rules! column {
    ($rows:expr, $Kind:ident, $row:ident => $value:expr) => {
        Column::$Kind($rows.iter().map(|$row| $value).collect())
    };
}

impl Rows<Rule> {
    fn table(self) -> Table {
        let rows = self.rows;
        let columns = vec![
            ("direction", column!(rows, Str, r => r.direction.clone())),
            ("length_class", column!(rows, I32, r => r.class as i32 + 1)),
            ("most_tokens", column!(rows, OptI64, r => r.most_tokens.map(|n| n as i64))),
            ("n_threshold", column!(rows, I32, r => r.threshold.n as i32)),
            ("k", column!(rows, I32, r => r.threshold.k as i32)),
            ("threshold", column!(rows, F64, r => r.threshold.value)),
            ("rate", column!(rows, F64, r => r.threshold.rate())),
            ("rate_bound", column!(rows, F64, r => r.threshold.bound())),
            ("held_out", column!(rows, I32, r => r.held_out.1 as i32)),
            ("held_out_alarms", column!(rows, I32, r => r.held_out.0 as i32)),
            ("watched", column!(rows, I32, r => r.watched.1 as i32)),
            ("watched_alarms", column!(rows, I32, r => r.watched.0 as i32)),
            ("mean", column!(rows, F64, r => r.mean)),
            ("sd", column!(rows, F64, r => r.sd)),
        ];
        self.places.table("monitor/1", columns)
    }
}

impl Rows<Alarmed> {
    fn table(self) -> Table {
        let rows = self.rows;
        let columns = vec![
            ("text_id", column!(rows, Str, r => r.id.clone())),
            ("place", column!(rows, Str, r => r.place.clone())),
            ("label", column!(rows, OptStr, r => r.label.clone())),
            ("n_tokens", column!(rows, I32, r => r.tokens as i32)),
            ("length_class", column!(rows, I32, r => r.class as i32 + 1)),
            ("peak", column!(rows, F64, r => r.peak)),
            ("threshold", column!(rows, F64, r => r.threshold)),
            ("p", column!(rows, F64, r => r.p)),
            ("alarm", column!(rows, Bool, r => r.alarm.is_some())),
            ("turn", column!(rows, OptI64, r => r.alarm.as_ref().map(|a| a.turn as i64))),
            ("token", column!(rows, OptI64, r => r.alarm.as_ref().map(|a| a.token as i64))),
            ("event_turn", column!(rows, OptI64, r => r.event.map(|e| e as i64))),
            ("text", column!(rows, OptStr, r => r.alarm.as_ref().map(|a| a.text.clone()))),
        ];
        self.places.table("monitor_alarms/1", columns)
    }
}

impl Rows<Outcome> {
    fn table(self) -> Table {
        let rows = self.rows;
        let columns = vec![
            ("direction", column!(rows, Str, r => r.direction.clone())),
            ("with_outcome", column!(rows, I32, r => r.counts[0] as i32)),
            ("without", column!(rows, I32, r => r.counts[1] as i32)),
            ("auroc", column!(rows, OptF64, r => r.auroc)),
            ("auroc_low", column!(rows, OptF64, r => r.interval.map(|i| i[0]))),
            ("auroc_high", column!(rows, OptF64, r => r.interval.map(|i| i[1]))),
            ("events", column!(rows, OptI64, r => r.leads.as_ref().map(|l| l.cases as i64))),
            ("alarm_before", column!(rows, OptI64, r => r.leads.as_ref().map(|l| l.before as i64))),
            ("median_lead_turns", column!(rows, OptF64, r => r.leads.as_ref().and_then(|l| l.median))),
            ("p_lead", column!(rows, OptF64, r => r.leads.as_ref().map(|l| l.p))),
        ];
        self.places.table("monitor_outcomes/1", columns)
    }
}
