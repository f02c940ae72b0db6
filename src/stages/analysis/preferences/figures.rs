//! The figures and claims of `preferences`. Depends only on its tables.

use anyhow::Result;

use super::Preferences;
use super::tables::MASS;
use crate::report::figure::{Body, Cell, Dot, Dots, Figure, Panel, Panels, Point, Scatter, TableFigure};
use crate::report::short;
use crate::stages::analysis::published::PAPER;
use crate::stages::analysis::{Claim, Group, Null, Published, distinct, groups};
use crate::stages::statistics::Interval;
use crate::stages::statistics::correlation::pearson;
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::{percentile, two_sided};
use crate::store::table::Table;

/// What the claims of this analysis mean.
pub const READING: &str = "Each activity's Elo rating comes from the model's choices among all pairs in both orders \
     (soft wins, Bradley-Terry). r is the correlation over activities between an emotion's reading on the activity's \
     own tokens and that rating: over all activities, and of differences from the category means. Most of the ratings' \
     variance lies between categories, so a reading that only encodes the category has a large r: the relevant value \
     is the one within categories, tested by shuffling ratings within them. Steering adds a vector to the tokens of \
     half of the activities.";

/// The paper's correlations over its own 64 activities.
const PUBLISHED: [(&str, f64); 2] = [("blissful", 0.71), ("hostile", -0.74)];
/// The same within categories, as computed by others from the paper's printed ratings.
const PUBLISHED_WITHIN: [(&str, f64); 2] = [("blissful", 0.35), ("hostile", -0.44)];
/// The correlation over emotions of r with the shift under steering.
const PUBLISHED_SHIFT: f64 = 0.85;
/// Why neither is directly comparable.
const BUT: &str = "of other activities";

/// Shuffles of emotions for the p of the correlation over emotions.
const SHUFFLES: usize = 999;

/// One emotion's row.
struct Row<'a> {
    emotion: &'a str,
    r: f64,
    within: f64,
    p: [f64; 4],
    between: f64,
    interval: Option<Interval>,
    beyond: Option<f64>,
    p_beyond: Option<f64>,
}

fn rows<'a>(group: &'a Group<'a>) -> Result<Vec<Row<'a>>> {
    let table = group.table;
    let number = |name: &'static str| table.f64(name);
    let p = [number("p")?, number("p_max")?, number("p_within")?, number("p_within_max")?];
    let (emotion, r, within) = (table.str("emotion")?, number("r")?, number("r_within")?);
    let (between, low, high) = (number("r_between")?, table.opt_f64("low")?, table.opt_f64("high")?);
    let (beyond, p_beyond) = (table.opt_f64("r_beyond")?, table.opt_f64("p_beyond")?);
    let row = |&row: &usize| Row {
        emotion: &emotion[row],
        r: r[row],
        within: within[row],
        p: p.map(|p| p[row]),
        between: between[row],
        interval: low[row].zip(high[row]).map(|(low, high)| Interval { low, high }),
        beyond: beyond[row],
        p_beyond: p_beyond[row],
    };
    Ok(group.rows.iter().map(row).collect())
}

/// Per set and layer: r of each emotion, the ratings plotted against the readings that follow them most, the numbers,
/// and the effect of steering.
pub fn figures(name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let of = |kind: &str| groups(tables, kind);
    let (activities, readings) = (of("preferences_activities")?, of("preferences_readings")?);
    let (steered, elo) = (of("preferences_steered")?, of("preferences_elo")?);
    for group in &groups(tables, "preferences")? {
        let rows = rows(group)?;
        let here = |other: &&Group| other.place() == group.place();
        let (Some(activities), Some(readings)) = (activities.iter().find(here), readings.iter().find(here))
        else {
            continue;
        };
        figures.push(correlations(name, group, &rows, activities)?);
        figures.push(scatter(name, group, &rows, activities, readings)?);
        figures.push(numbers(name, group, &rows));
        figures.push(ratings(name, activities)?);
        if let (Some(steered), Some(elo)) = (steered.iter().find(here), elo.iter().find(here)) {
            for shift in Shifts::of(steered)? {
                figures.push(shift.figure(name, group, &rows));
                figures.extend(shift.panels(name, group, elo)?);
            }
        }
    }
    Ok(figures)
}

fn correlations(name: &str, group: &Group, rows: &[Row], activities: &Group) -> Result<Figure> {
    let mut order: Vec<&Row> = rows.iter().collect();
    order.sort_by(|a, b| b.r.total_cmp(&a.r));
    let dot = |row: &&Row| Dot {
        label: row.emotion.to_string(),
        value: row.r,
        interval: row.interval.map(|i| (i.low, i.high)),
        band: Some((-row.between, row.between)),
    };
    let first = activities.rows[0];
    let number = |column: &str| activities.table.f64(column).map(|values| values[first]);
    let (bias, mass, low) = (number("position_bias")?, number("mass")?, number("low_mass")?);
    let flag = match low {
        0.0 => String::new(),
        low => format!(
            " In {:.0} % of the questions they have less than {MASS}: there the model would answer something else, and \
             the logits say little.",
            100.0 * low
        ),
    };
    let caption = format!(
        "Correlation over {} activities of each emotion's reading with the activity's Elo rating, with the 95 % \
         interval of a bootstrap over categories. Band: the 97.5 % quantile of |r| when ratings are shuffled within \
         categories, that is, the correlation that the category alone explains. The letters A and B have a mean total \
         probability of {mass:.2}.{flag} The first option is preferred by {bias:+.2} (position bias, from -1 to 1).",
        activities.rows.len()
    );
    let dots = Dots {
        x: "r of reading and Elo".into(),
        dots: order.iter().map(dot).collect(),
        decimals: 2,
        band: "shuffled within categories".into(),
    };
    Ok(group.figure(name.to_string(), "Readings and preferences".into(), caption, Body::Dots(dots)))
}

/// The ratings plotted against the readings of the emotions with the largest and the smallest r.
fn scatter(name: &str, group: &Group, rows: &[Row], activities: &Group, readings: &Group) -> Result<Figure> {
    let by_r = |a: &&Row, b: &&Row| a.r.total_cmp(&b.r);
    let chosen = [rows.iter().max_by(by_r), rows.iter().min_by(by_r)];
    let (label, elo) = (activities.table.str("activity")?, activities.table.f64("elo")?);
    let (emotion, reading) = (readings.table.str("emotion")?, readings.table.f64("reading")?);
    let panel = |row: &Row| {
        let own = readings.rows.iter().filter(|&&at| emotion[at] == row.emotion);
        let point =
            |(&at, &read): (&usize, &usize)| Point { label: brief(&label[at]), x: reading[read], y: elo[at] };
        Panel {
            title: format!("{}, r = {:.2}", row.emotion, row.r),
            details: vec![format!("within categories {:.2}", row.within)],
            plane: Scatter {
                x: format!("reading of {}", row.emotion),
                y: "Elo".into(),
                points: activities.rows.iter().zip(own).map(point).collect(),
            },
        }
    };
    let panels = Panels { panels: chosen.into_iter().flatten().map(panel).collect() };
    let caption = "Each activity's Elo rating against the reading of two emotions on its own tokens: those with the \
         largest and the smallest correlation.";
    let title = "Elo and readings".to_string();
    Ok(group.figure(format!("{name}-elo"), title, caption.into(), Body::Panels(panels)))
}

/// A label shortened to fit the plot.
fn brief(text: &str) -> String {
    let words: Vec<&str> = text.split(' ').collect();
    if words.len() > 4 { format!("{}\u{2026}", words[..4].join(" ")) } else { text.to_string() }
}

fn numbers(name: &str, group: &Group, rows: &[Row]) -> Figure {
    let columns = [
        "emotion",
        "r",
        "p",
        "p, largest of all",
        "r within",
        "p within",
        "p within, largest",
        "by category",
        "r beyond PC1",
        "p, largest",
    ];
    let cells = rows.iter().map(|row| {
        let [p, p_max, p_within, p_within_max] = row.p.map(|p| Cell::Number(p, 3));
        let r = row.interval.map_or(Cell::Number(row.r, 2), |i| Cell::Ranged(row.r, (i.low, i.high), 2));
        let emotion = Cell::Text(row.emotion.to_string());
        vec![
            emotion,
            r,
            p,
            p_max,
            Cell::Number(row.within, 2),
            p_within,
            p_within_max,
            Cell::Number(row.between, 2),
            row.beyond.map_or(Cell::Empty, |r| Cell::Number(r, 2)),
            row.p_beyond.map_or(Cell::Empty, |p| Cell::Number(p, 3)),
        ]
    });
    let caption = "p: ratings shuffled over activities; within: shuffled within categories, for differences from the \
         category means. Largest: compared with the largest correlation of any emotion in each shuffle, which corrects \
         for the number of emotions. By category: the 97.5 % quantile of |r| over shuffles within categories. Beyond \
         PC1: the partial correlation controlling for the reading along the first principal component of all emotion \
         vectors, which is valence in most sets; near 0 if an emotion predicts preferences only through its valence.";
    let body = TableFigure { columns: columns.map(String::from).to_vec(), rows: cells.collect() };
    group.figure(format!("{name}-r"), "Correlations".into(), caption.into(), Body::Table(body))
}

fn ratings(name: &str, group: &Group) -> Result<Figure> {
    let table = group.table;
    let (category, activity, elo) = (table.str("category")?, table.str("activity")?, table.f64("elo")?);
    let mut order = group.rows.clone();
    order.sort_by(|&a, &b| elo[b].total_cmp(&elo[a]));
    let row = |&row: &usize| {
        vec![Cell::Text(activity[row].clone()), Cell::Text(category[row].clone()), Cell::Number(elo[row], 0)]
    };
    let columns = ["activity", "category", "Elo"].map(String::from).to_vec();
    let body = Body::Table(TableFigure { columns, rows: order.iter().map(row).collect() });
    let caption = "The model's preferences, on a scale whose mean is 1500; 400 points are odds of 10.";
    Ok(group.figure(format!("{name}-activities"), "Activities".into(), caption.into(), body))
}

/// Mean shifts and slopes at one strength.
struct Shifts {
    strength: f64,
    /// The mean of each emotion over splits and halves.
    emotions: Vec<(String, f64, f64)>,
    /// For each random direction.
    random: Vec<f64>,
}

impl Shifts {
    fn of(group: &Group) -> Result<Vec<Shifts>> {
        let table = group.table;
        let (steered, strength) = (table.str("steered")?, table.f64("strength")?);
        let (shift, slope) = (table.f64("shift")?, table.f64("slope")?);
        let mut strengths: Vec<f64> = group.rows.iter().map(|&row| strength[row]).collect();
        strengths.sort_by(f64::total_cmp);
        strengths.dedup();
        let at = |at: f64| {
            let rows: Vec<usize> = group.rows.iter().copied().filter(|&row| strength[row] == at).collect();
            let mut found = Shifts { strength: at, emotions: Vec::new(), random: Vec::new() };
            for name in distinct(steered, &rows) {
                let own: Vec<usize> = rows.iter().copied().filter(|&row| steered[row] == name).collect();
                let mean = |of: &[f64]| own.iter().map(|&row| of[row]).sum::<f64>() / own.len() as f64;
                match name.starts_with("random-") {
                    true => found.random.push(mean(shift)),
                    false => found.emotions.push((name.to_string(), mean(shift), mean(slope))),
                }
            }
            found
        };
        Ok(strengths.into_iter().map(at).collect())
    }

    /// The correlation over emotions of r with the shift, and its p by shuffling emotions; `None` for fewer than four.
    fn follows(&self, rows: &[Row]) -> Option<(f64, f64)> {
        let both: Vec<(f64, f64)> = self
            .emotions
            .iter()
            .filter_map(|(name, shift, _)| Some((rows.iter().find(|row| row.emotion == name)?.r, *shift)))
            .collect();
        if both.len() < 4 {
            return None;
        }
        let (x, y): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
        let r = pearson(&x, &y);
        let shuffled = |number: usize| {
            let order = Draws::new("emotions shuffled", &[number as u64]).shuffled(y.len());
            pearson(&x, &order.iter().map(|&at| y[at]).collect::<Vec<_>>())
        };
        let null: Vec<f64> = (0..SHUFFLES).map(shuffled).collect();
        Some((r, two_sided(r, &null)))
    }

    fn figure(&self, name: &str, group: &Group, rows: &[Row]) -> Figure {
        let band = percentile(&self.random).map(|i| (i.low, i.high));
        let mut order: Vec<&(String, f64, f64)> = self.emotions.iter().collect();
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        let dot = |(emotion, shift, slope): &&(String, f64, f64)| Dot {
            label: format!("{emotion} (slope {slope:.2})"),
            value: *shift,
            interval: None,
            band,
        };
        let follows = self.follows(rows).map_or(String::new(), |(r, p)| {
            format!(
                " Over emotions r and shift are correlated by {r:.2} (p = {} by shuffling emotions; published for {PAPER}: \
                 {PUBLISHED_SHIFT}).",
                short(p)
            )
        });
        let caption = format!(
            "The rise of half of the activities over the other half when a vector of {} mean residual norms is added \
             to its tokens, averaged over splits and halves. Band: {} random directions of the same norm. Slope: of \
             ratings with steering on ratings without; below 1 the preferences are compressed.{follows}",
            self.strength,
            self.random.len()
        );
        let band = if band.is_some() { "random directions" } else { "" };
        let dots = Dots {
            x: "shift, Elo points".into(),
            dots: order.iter().map(dot).collect(),
            decimals: 0,
            band: band.into(),
        };
        let title = format!("Steered preferences, strength {}", self.strength);
        group.figure(format!("{name}-steered-{}", self.strength), title, caption, Body::Dots(dots))
    }

    /// Ratings under steering plotted against those without, for the emotions with the largest shifts in either
    /// direction.
    fn panels(&self, name: &str, group: &Group, elo: &Group) -> Result<Option<Figure>> {
        let by_shift = |a: &&(String, f64, f64), b: &&(String, f64, f64)| a.1.total_cmp(&b.1);
        let chosen = [self.emotions.iter().max_by(by_shift), self.emotions.iter().min_by(by_shift)];
        let table = elo.table;
        let (steered, activity, strength) =
            (table.str("steered")?, table.str("activity")?, table.f64("strength")?);
        let (before, after) = (table.f64("elo")?, table.f64("steered_elo")?);
        let panel = |(emotion, shift, slope): &(String, f64, f64)| {
            let own = |&&row: &&usize| steered[row] == *emotion && strength[row] == self.strength;
            let point = |&row: &usize| Point { label: brief(&activity[row]), x: before[row], y: after[row] };
            Panel {
                title: emotion.clone(),
                details: vec![format!("shift {shift:+.0}, slope {slope:.2}")],
                plane: Scatter {
                    x: "Elo".into(),
                    y: "Elo, steered".into(),
                    points: elo.rows.iter().filter(own).map(point).collect(),
                },
            }
        };
        let panels: Vec<Panel> = chosen.into_iter().flatten().map(panel).collect();
        let caption = "Ratings of activities with steering against those without, from the same pairs, for the \
             emotions that raise and lower them most. Any vector large enough to obscure the question gives a slope \
             below 1.";
        let title = format!("Elo steered and not, strength {}", self.strength);
        let figure = || {
            let body = Body::Panels(Panels { panels: panels.clone() });
            group.figure(format!("{name}-steered-elo-{}", self.strength), title.clone(), caption.into(), body)
        };
        Ok((!panels.is_empty()).then(figure))
    }
}

/// Each emotion's r, over all activities and within categories; shifts, slopes, and whether shifts follow r.
pub fn claims(params: &Preferences, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
    let mut claims = Vec::new();
    let steered = groups(tables, "preferences_steered")?;
    for group in &groups(tables, "preferences")? {
        let rows = rows(group)?;
        let published = |list: [(&str, f64); 2], emotion: &str| {
            let own = list.into_iter().find(|(name, _)| *name == emotion);
            own.map(|(_, value)| Published { source: PAPER, value, but: BUT }).into_iter().collect()
        };
        for row in &rows {
            let null = |of: &'static str, p| Some(Null { of, draws: params.permutations, mean: None, p });
            let [_, p_max, _, p_within_max] = row.p;
            let of = "ratings shuffled over activities, the largest of any emotion";
            let claim = group.claim(format!("r of {}", row.emotion), "", row.r, 2);
            let claim =
                claim.within(row.interval, "percentile bootstrap over categories").against(null(of, p_max));
            claims.push(claim.beside(published(PUBLISHED, row.emotion)));
            let of = "ratings shuffled within categories, the largest of any emotion";
            let claim = group.claim(format!("r of {} within categories", row.emotion), "", row.within, 2);
            let claim = claim.against(null(of, p_within_max));
            claims.push(claim.beside(published(PUBLISHED_WITHIN, row.emotion)));
        }
        let Some(steered) = steered.iter().find(|other| other.place() == group.place()) else { continue };
        for shifts in Shifts::of(steered)? {
            let strength = shifts.strength;
            if let Some((r, p)) = shifts.follows(&rows) {
                let of = "emotions shuffled";
                let claim = group.claim(format!("r of r and shift at {strength}"), "", r, 2);
                let claim = claim.against(Some(Null { of, draws: SHUFFLES, mean: None, p }));
                claims.push(claim.beside(vec![Published {
                    source: PAPER,
                    value: PUBLISHED_SHIFT,
                    but: BUT,
                }]));
            }
            for (emotion, shift, _) in &shifts.emotions {
                let null = (!shifts.random.is_empty()).then(|| Null {
                    of: "random directions of the same norm",
                    draws: shifts.random.len(),
                    mean: None,
                    p: two_sided(*shift, &shifts.random),
                });
                let what = format!("shift by {emotion} at {strength}");
                claims.push(group.claim(what, "Elo points", *shift, 0).against(null));
            }
        }
    }
    Ok(claims)
}
