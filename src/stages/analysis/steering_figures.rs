//! The figures and claims of steering: the effect of each vector on its own word compared with null directions, and on
//! every other word.

use anyhow::Result;

use super::claim::adjusted;
use super::estimates::{mean, p_at_least};
use super::made_of::NO_TOPICS;
use super::steering::Steering;
use super::steering_deltas::Deltas;
use super::steering_nulls::TOPIC;
use super::steering_specific::{METHOD, over_prompts, specific};
use super::{Claim, Group, Null, Published, published, steering_topics};
use crate::report::figure::{Bar, Bars, Body, Cell, Figure, Heatmap, TableFigure};
use crate::store::table::Table;

/// For each set, layer and strength: the bars of self-steering, their comparison with nulls, and the heat map of
/// cross-steering.
pub fn figures(params: &Steering, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (group, deltas) in Deltas::read(tables)? {
        for &strength in &deltas.strengths {
            let sign = if strength < 0.0 { "minus-" } else { "" };
            let suffix = match deltas.strengths.len() {
                1 => String::new(),
                _ => format!("-{sign}{}", strength.abs()),
            };
            let mut own = self_steering(format!("{name}-self{suffix}"), &group, &deltas, strength);
            if !params.ask.is_empty() {
                own.caption += &format!(
                    " The prompts begin the model\u{2019}s answer to \u{201c}{}\u{201d}, in the chat template.",
                    params.ask
                );
            }
            figures.push(own);
            if !deltas.nulls.is_empty() || deltas.resampled.is_some() {
                let mut evidence = evidence(format!("{name}-evidence{suffix}"), &group, &deltas, strength);
                if params.topics > 0 && deltas.number(TOPIC) == 0 {
                    evidence.caption += &format!(" {NO_TOPICS}");
                }
                figures.push(evidence);
            }
            figures.push(cross_steering(format!("{name}-cross{suffix}"), &group, &deltas, strength));
        }
    }
    Ok(figures)
}

/// The level at which a p-value counts as small.
const LEVEL: f64 = 0.05;

/// The unit of every delta.
pub const DELTA: &str = "change of log-probability, nats";

fn self_steering(name: String, group: &Group, deltas: &Deltas, strength: f64) -> Figure {
    // Below 0 the word's probability should fall.
    let down = strength < 0.0;
    let (mut bars, mut moved, mut beyond) = (Vec::new(), 0, 0);
    for emotion in &deltas.emotions {
        let Some(value) = deltas.delta(strength, emotion, emotion) else { continue };
        let band = deltas.band(strength, emotion);
        moved += usize::from(if down { value < 0.0 } else { value > 0.0 });
        beyond += usize::from(band.is_some_and(|(low, high)| if down { value < low } else { value > high }));
        bars.push(Bar { label: emotion.clone(), value, band, interval: deltas.interval(strength, emotion) });
    }
    let n = bars.len();
    let (moves, lie) = if down { ("falls", "below") } else { ("rises", "above") };
    let null = match deltas.nulls.len() {
        0 => "No null directions were measured.".to_string(),
        _ => format!("The band shows {}; {beyond} of {n} emotions lie {lie} it.", deltas.band_name()),
    };
    let whiskers = match deltas.resampled {
        Some((topics, resamples)) => format!(
            " The thin line is the central 95 % of the effect in {resamples} resamples of the {topics} topics, shifted \
             so that their mean is the effect: vectors from resampled topics are noisier, which biases it towards 0."
        ),
        None => String::new(),
    };
    let quiet = match mean(&deltas.quiet(strength, false)) {
        Some(change) => format!(
            " At the same strength the log-probability per token of neutral text changes by {change:+.2} nats on \
             average over emotions, and by {} under null directions: far below 0, the model is no longer coherent.",
            mean(&deltas.quiet(strength, true)).map_or("nothing".into(), |change| format!("{change:+.2}"))
        ),
        None => String::new(),
    };
    let [least, most] = published::LLAMA_SELF_STEERING;
    let published = match is_published(deltas, strength) {
        true => format!(
            " Published for {} at this strength: {:+.1} ({}) to {:+.1} ({}).",
            published::LLAMA,
            least.1,
            least.0,
            most.1,
            most.0
        ),
        false => String::new(),
    };
    group.figure(
        name,
        format!("Self-steering: {}", deltas.setting(strength)),
        format!(
            "Effect of adding an emotion's own vector on the log-probability of its word. It {moves} for {moved} of \
             {n} emotions. {null}{whiskers}{quiet}{published}"
        ),
        Body::Bars(Bars {
            y: DELTA.into(),
            bars,
            band: if deltas.nulls.is_empty() { String::new() } else { deltas.band_name() },
        }),
    )
}

/// One row per emotion: the effect, its interval, p against each kind of null, and the effect on neutral text.
fn evidence(name: String, group: &Group, deltas: &Deltas, strength: f64) -> Figure {
    let kinds = deltas.kinds();
    let (resampled, read) = (deltas.resampled.is_some(), deltas.n_tokens > 0);
    let mut columns = vec!["emotion".to_string(), "change, nats".into()];
    if resampled {
        columns.extend(["2.5 %".to_string(), "97.5 %".into()]);
    }
    columns.extend(kinds.iter().map(|kind| format!("p, {kind}")));
    let qs = qs(deltas, strength);
    columns.extend(qs.as_ref().map(|_| "q".to_string()));
    if read {
        columns.push("neutral text, nats per token".into());
    }
    let number =
        |value: Option<f64>, decimals| value.map_or(Cell::Empty, |value| Cell::Number(value, decimals));
    let row = |(at, emotion): (usize, &String)| {
        let interval = deltas.interval(strength, emotion);
        let mut row = vec![Cell::Text(emotion.clone()), number(deltas.delta(strength, emotion, emotion), 2)];
        if resampled {
            row.extend([number(interval.map(|i| i.0), 2), number(interval.map(|i| i.1), 2)]);
        }
        row.extend(kinds.iter().map(|kind| number(deltas.p(strength, emotion, Some(kind)), 3)));
        row.extend(qs.as_ref().map(|qs| Cell::Number(qs[at], 3)));
        if read {
            row.push(number(deltas.quiet_of(strength, emotion), 2));
        }
        row
    };
    let mut caption = format!(
        "The effect of each emotion's vector on its own word, compared with {}. p is the share of null directions that \
         move the word at least as far in the same direction, counting the vector itself: (1 + count) / (1 + n), so \
         never below 1 / (1 + n). q: the largest of these p, adjusted over the emotions (Benjamini and Hochberg 1995). \
         {}",
        if kinds.is_empty() { "no null directions".to_string() } else { deltas.counted() },
        match beyond(deltas, strength) {
            Some(n) => format!("{n} of {} emotions have q \u{2264} {LEVEL}.", deltas.emotions.len()),
            None => format!("There are too few for p to reach {LEVEL}."),
        }
    );
    if !resampled {
        caption += " No interval: topics are not resampled, or there are fewer than five, which is too few.";
    }
    if read {
        caption += &format!(
            " The last column is the change of the mean log-probability of the {} tokens of the neutral texts.",
            deltas.n_tokens
        );
    }
    group.figure(
        name,
        format!("Self-steering and nulls: {}", deltas.setting(strength)),
        caption,
        Body::Table(TableFigure { columns, rows: deltas.emotions.iter().enumerate().map(row).collect() }),
    )
}

/// For each emotion, the largest of its p-values over the kinds of null, adjusted over the emotions. `None` without
/// nulls.
fn qs(deltas: &Deltas, strength: f64) -> Option<Vec<f64>> {
    let worst = |emotion: &String| {
        let each = deltas.severe().into_iter().map(|kind| deltas.p(strength, emotion, Some(kind)));
        each.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
    };
    Some(adjusted(&deltas.emotions.iter().map(worst).collect::<Option<Vec<f64>>>()?))
}

/// The number of emotions with a small q. `None` if a kind of null has too few directions for that.
fn beyond(deltas: &Deltas, strength: f64) -> Option<usize> {
    let enough = |kind: &str| 1.0 / (1 + deltas.number(kind)) as f64 <= LEVEL;
    let told = deltas.severe().into_iter().all(enough);
    qs(deltas, strength).filter(|_| told).map(|qs| qs.into_iter().filter(|&q| q <= LEVEL).count())
}

/// The mean effect on the own words, tested against the kind of null with the largest p.
fn hardest(deltas: &Deltas, strength: f64, own: f64) -> Option<Null> {
    let each = deltas.severe().into_iter().filter_map(|kind| null(deltas, strength, own, kind));
    each.max_by(|a, b| a.p.total_cmp(&b.p))
}

/// The mean effect on the own words, tested against the means of one kind of null directions.
pub fn null(deltas: &Deltas, strength: f64, own: f64, kind: &'static str) -> Option<Null> {
    let towards = |delta: f64| delta * strength.signum();
    let means = deltas.null_means(strength, Some(kind));
    let p = p_at_least(towards(own), &means.iter().map(|&m| towards(m)).collect::<Vec<_>>())?;
    let of = NULL_NAMES.iter().find(|(name, _)| *name == kind).map_or(kind, |(_, of)| of);
    Some(Null { of, draws: means.len(), mean: mean(&means), p })
}

/// The kinds of null directions, in words.
const NULL_NAMES: [(&str, &str); 4] = [
    ("random", "random directions of equal norm"),
    ("permuted", "directions with the vector\u{2019}s entries permuted"),
    ("shuffled", "vectors of the same stories with labels shuffled within topics"),
    (TOPIC, "vectors of topics of equal norm"),
];

/// Whether the published self-steering used this setting: the unscaled vector, added once.
fn is_published(deltas: &Deltas, strength: f64) -> bool {
    deltas.unit == "vector" && strength == 1.0
}

fn cross_steering(name: String, group: &Group, deltas: &Deltas, strength: f64) -> Figure {
    let every = |steered: &String| {
        let row = deltas
            .emotions
            .iter()
            .map(|measured| deltas.delta(strength, steered, measured).unwrap_or(f64::NAN));
        row.collect::<Vec<_>>()
    };
    group.figure(
        name,
        format!("Cross-steering: {}", deltas.setting(strength)),
        "Effect of adding the vector of the row's emotion on the log-probability of the column's word. The diagonal is \
         self-steering."
            .into(),
        Body::Heatmap(Heatmap {
            row_axis: "steered".into(),
            column_axis: "measured".into(),
            rows: deltas.emotions.clone(),
            columns: deltas.emotions.clone(),
            values: deltas.emotions.iter().flat_map(every).collect(),
            value: DELTA.into(),
            limit: None,
        }),
    )
}

/// What the claims of this analysis mean.
pub const READING: &str = "Effect of adding an emotion's own vector on the log-probability of its word, in nats: the \
     mean over emotions at each strength (in units of the vector, or of the mean residual norm), tested against null \
     directions of equal norm where available: random directions, directions with the vector's entries permuted, \
     vectors from the same stories with shuffled emotions, and, if there are 19 or more, vectors of topics; the p \
     shown is the largest of theirs. Beside topics: how much more the emotions' own vectors raise these words than \
     vectors of topics do. At the largest strength also the smallest and the largest effect of an emotion, the share \
     of emotions that raise their own word, the share with q <= .05, and the change of the log-probability per token \
     of neutral text.";

/// Self-steering and its nulls at each strength; minimum, maximum, the shares and neutral text at the largest
/// strength.
pub fn claims(tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    for (group, deltas) in Deltas::read(tables)? {
        let strengths = deltas.rising();
        for (at, &strength) in strengths.iter().enumerate() {
            let Some(own) = mean(&deltas.own(strength)) else { continue };
            let setting = format!("{strength} \u{d7} {}", deltas.unit());
            let claim = group.claim(format!("own word at {setting}"), "nats", own, 2);
            let interval = over_prompts(&deltas.own_by_prompt(strength));
            claims.push(claim.within(interval, METHOD).against(hardest(&deltas, strength, own)));
            claims.extend(steering_topics::claim(&group, &deltas, strength, own));
            if let Some(found) = specific(&deltas, strength) {
                let claim =
                    group.claim(format!("own word more than others at {setting}"), "nats", found.mean, 2);
                claims.push(claim.within(found.interval, METHOD).against(Some(found.null)));
                let name = format!("specific (q \u{2264} .05) at {setting}");
                claims.extend(found.share.map(|share| group.claim(name, "% of emotions", 100.0 * share, 0)));
            }
            if at + 1 == strengths.len() {
                // The published values are for the unscaled vector, added once.
                claims.extend(extremes(&group, &deltas, strength));
                if let Some(n) = beyond(&deltas, strength) {
                    let share = 100.0 * n as f64 / deltas.emotions.len() as f64;
                    claims.push(group.claim("beyond every null (q \u{2264} .05)", "% of emotions", share, 0));
                }
                if let Some(change) = mean(&deltas.quiet(strength, false)) {
                    claims.push(group.claim(format!("neutral text at {setting}"), "nats a token", change, 2));
                }
            }
        }
    }
    Ok(claims)
}

/// The smallest and the largest effect on an own word, and the share of emotions whose own word becomes more likely.
fn extremes(group: &Group, deltas: &Deltas, strength: f64) -> Vec<Claim> {
    let own = deltas.own(strength);
    let least = own.iter().copied().fold(f64::INFINITY, f64::min);
    let most = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let rising = own.iter().filter(|&&delta| delta > 0.0).count() as f64 / own.len() as f64;
    let [(_, published_least), (_, published_most)] = published::LLAMA_SELF_STEERING;
    let published = |value: f64| match is_published(deltas, strength) {
        true => vec![Published {
            source: published::LLAMA,
            value,
            but: published::unlike(published::LLAMA, own.len()),
        }],
        false => Vec::new(),
    };
    vec![
        group.claim("own word: least", "nats", least, 2).beside(published(published_least)),
        group.claim("own word: most", "nats", most, 2).beside(published(published_most)),
        group.claim("own word rises", "% of emotions", 100.0 * rising, 0).beside(published(100.0)),
    ]
}

#[cfg(test)]
pub mod tests {
    use super::super::Places;
    use super::super::tests::set;
    use super::*;
    use crate::lm::Layer;
    use crate::store::table::Column;

    /// A table of (prompt, strength, steered, measured, delta).
    pub fn table(rows: &[(&str, f64, &str, &str, f64)]) -> Vec<(String, Table)> {
        let set = set(&["a"], &[&[1.0]]);
        let mut places = Places::default();
        rows.iter().for_each(|_| places.push(&set, Layer::Block(3)));
        let strings =
            |f: fn(&(&str, f64, &str, &str, f64)) -> String| Column::Str(rows.iter().map(f).collect());
        let columns = vec![
            ("prompt", strings(|r| r.0.into())),
            ("strength", Column::F64(rows.iter().map(|r| r.1).collect())),
            ("unit", strings(|_| "vector".into())),
            ("layers", strings(|_| "3".into())),
            ("steered", strings(|r| r.2.into())),
            ("measured", strings(|r| r.3.into())),
            ("delta", Column::F64(rows.iter().map(|r| r.4).collect())),
        ];
        vec![("steering".into(), places.table("steering/1", columns))]
    }

    #[test]
    fn prompts_are_averaged_and_random_directions_make_the_band() {
        let tables = table(&[
            ("p", 1.0, "a", "a", 2.0),
            ("p", 1.0, "a", "b", -1.0),
            ("p", 1.0, "b", "a", 0.5),
            ("p", 1.0, "b", "b", 0.1),
            ("p", 1.0, "random-1", "a", 0.2),
            ("p", 1.0, "random-2", "a", -0.4),
            ("p", 1.0, "random-1", "b", 0.3),
            ("q", 1.0, "a", "a", 1.0),
            ("q", 1.0, "random-1", "a", 0.4),
        ]);
        let figures = figures(&Steering::plain(), "causes", &tables).unwrap();
        assert_eq!(
            figures.iter().map(|f| f.name.as_str()).collect::<Vec<_>>(),
            ["causes-self", "causes-evidence", "causes-cross"]
        );
        let Body::Bars(bars) = &figures[0].body else { panic!() };
        let third = 0.6 / 2.0;
        let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        assert_eq!(bars.bars.len(), 2);
        close(bars.bars[0].value, 1.5);
        close(bars.bars[0].band.unwrap().0, -0.4);
        close(bars.bars[0].band.unwrap().1, third);
        assert!(figures[0].caption.contains("rises for 2 of 2"), "{}", figures[0].caption);
        assert!(figures[0].caption.contains("1 of 2 emotions lie above"), "{}", figures[0].caption);
        let Body::Table(table) = &figures[1].body else { panic!() };
        assert_eq!(table.columns, ["emotion", "change, nats", "p, random", "q"]);
        // Of two random directions, none or one changes the word as much.
        let number = |value, decimals| Cell::Number(value, decimals);
        // Adjusted over two emotions: 2 / 3 and 1.
        assert_eq!(
            table.rows[0],
            [Cell::Text("a".into()), number(1.5, 2), number(1.0 / 3.0, 3), number(2.0 / 3.0, 3)]
        );
        assert_eq!(table.rows[1], [Cell::Text("b".into()), number(0.1, 2), number(1.0, 3), number(1.0, 3)]);
        let Body::Heatmap(map) = &figures[2].body else { panic!() };
        assert_eq!(map.values, [1.5, -1.0, 0.5, 0.1]);
    }

    #[test]
    fn claims_by_hand() {
        let tables = table(&[
            ("p", 1.0, "a", "a", 2.0),
            ("q", 1.0, "a", "a", 1.0),
            ("p", 1.0, "b", "b", -0.5),
            ("p", 1.0, "a", "b", 9.0),
            ("p", 1.0, "random-1", "a", 0.25),
            ("p", 1.0, "random-1", "b", -0.75),
            ("p", 0.5, "a", "a", 0.5),
            ("p", 0.5, "b", "b", 1.5),
        ]);
        let claims = claims(&tables).unwrap();
        let got: Vec<_> = claims.iter().map(|c| (c.what.as_str(), c.estimate)).collect();
        let wanted = [
            ("own word at 0.5 \u{d7} vector", 1.0),
            ("own word at 1 \u{d7} vector", 0.5),
            ("own word: least", -0.5),
            ("own word: most", 1.5),
            ("own word rises", 50.0),
        ];
        assert_eq!(got, wanted);
        // The one random direction present reaches no more than the vectors' effect: p = 1 / 2.
        let null = claims[1].null.clone().unwrap();
        assert_eq!((null.draws, null.mean, null.p), (1, Some(-0.25), 0.5));
        assert_eq!((claims[2].published[0].source, claims[2].published[0].value), (published::LLAMA, 1.2));
        // At a strength other than the published one there is no published value to compare with.
        let other = super::claims(&table(&[("p", 2.0, "a", "a", 2.0)])).unwrap();
        assert!(other.iter().all(|c| c.published.is_empty()));
    }

    #[test]
    fn several_strengths_have_figures_of_their_own() {
        let tables = table(&[("p", 2.0, "a", "a", 4.0), ("p", 0.5, "a", "a", 1.0)]);
        let figures = figures(&Steering::plain(), "causes", &tables).unwrap();
        let names: Vec<_> = figures.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["causes-self-2", "causes-cross-2", "causes-self-0.5", "causes-cross-0.5"]);
    }

    #[test]
    fn what_falls_under_a_negative_strength_is_what_should() {
        let mut rows = vec![("p", -1.0, "a", "a", -2.0)];
        let names: Vec<String> = (1..=19).map(|k| format!("permuted-{k}")).collect();
        rows.extend(
            names.iter().enumerate().map(|(k, name)| ("p", -1.0, name.as_str(), "a", k as f64 - 2.0)),
        );
        let tables = table(&rows);
        let (_, deltas) = &Deltas::read(&tables).unwrap()[0];
        // Of 19 directions one falls as far as -2, so that with the vector itself p = 2 / 20.
        assert_eq!(deltas.p(-1.0, "a", Some("permuted")), Some(0.1));
        assert_eq!(deltas.p(-1.0, "a", Some("random")), None);
        assert_eq!(deltas.counted(), "19 permuted");
    }
}
