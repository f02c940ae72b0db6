//! Number of stories per emotion and topic. Independent of what is computed from them.

use std::collections::BTreeMap;

use anyhow::Result;

use super::page::table_figure;
use crate::report::figure::{Body, Cell, Figure, Heatmap};
use crate::store::table::Table;

/// Up to this many cells are shown individually; otherwise there is one row per topic.
const CELLS: usize = 2000;

/// The table of emotions by topics for a source's stories; `None` where no story has a topic, or where every emotion
/// has equally many stories on each topic.
pub fn figure(stories: &Table, emotions: &[String]) -> Result<Option<Figure>> {
    let mut topics: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (emotion, topic) in stories.opt_str("emotion")?.iter().zip(stories.opt_str("topic")?) {
        let place = emotions.iter().position(|known| Some(known) == emotion.as_ref());
        if let (Some(at), Some(topic)) = (place, topic) {
            topics.entry(topic).or_insert_with(|| vec![0; emotions.len()])[at] += 1;
        }
    }
    let (least, most) = topics.values().flatten().fold((usize::MAX, 0), |(a, b), &n| (a.min(n), b.max(n)));
    if topics.is_empty() || least == most {
        return Ok(None);
    }
    let empty = topics.values().flatten().filter(|n| **n == 0).count();
    let caption = format!(
        "Accepted stories per emotion and topic: {least} to {most}; {empty} of {} cells have none. If an emotion's \
         stories are distributed over topics differently from other emotions', for example because more are rejected \
         on some topics, its vector partly encodes topics: `weights = \"topics\"` in `[vectors]` corrects for that.",
        topics.len() * emotions.len()
    );
    let title = "Stories by emotion and topic";
    if topics.len() * emotions.len() > CELLS {
        let row = |(topic, counts): (&&str, &Vec<usize>)| {
            let end = |best: fn(usize, usize) -> bool| {
                let at = (0..counts.len())
                    .reduce(|a, b| if best(counts[b], counts[a]) { b } else { a })
                    .unwrap_or(0);
                Cell::Text(format!("{} ({})", counts[at], emotions[at]))
            };
            let all: usize = counts.iter().sum();
            vec![
                Cell::Text(topic.to_string()),
                Cell::Number(all as f64, 0),
                end(|a, b| a < b),
                end(|a, b| a > b),
            ]
        };
        let columns = ["topic", "stories", "fewest", "most"];
        return Ok(Some(table_figure("cells", title, &caption, &columns, topics.iter().map(row).collect())));
    }
    let mut figure = table_figure("cells", title, &caption, &[], Vec::new());
    let value = |(emotion, counts): (usize, &Vec<usize>)| counts[emotion] as f64;
    figure.body = Body::Heatmap(Heatmap {
        row_axis: "emotion".into(),
        column_axis: "topic".into(),
        rows: emotions.to_vec(),
        columns: topics.keys().map(ToString::to_string).collect(),
        values: (0..emotions.len())
            .flat_map(|emotion| topics.values().map(move |counts| value((emotion, counts))))
            .collect(),
        value: "stories".into(),
        limit: None,
    });
    Ok(Some(figure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    fn shown(rows: &[(&str, Option<&str>)], emotions: &[&str]) -> Option<Figure> {
        let some =
            |of: Vec<Option<&str>>| Column::OptStr(of.into_iter().map(|x| x.map(String::from)).collect());
        let columns = vec![
            ("emotion", some(rows.iter().map(|row| Some(row.0)).collect())),
            ("topic", some(rows.iter().map(|row| row.1).collect())),
        ];
        let emotions: Vec<String> = emotions.iter().map(|e| e.to_string()).collect();
        figure(&Table::new("stories/1", columns), &emotions).unwrap()
    }

    #[test]
    fn uneven_cells_are_shown_and_even_ones_are_not() {
        let rows = [
            ("a", Some("rain")),
            ("b", Some("rain")),
            ("a", Some("snow")),
            ("a", Some("snow")),
            ("x", Some("rain")),
        ];
        let figure = shown(&rows, &["a", "b"]).unwrap();
        assert!(figure.caption.contains("0 to 2; 1 of 4 cells have none"), "{}", figure.caption);
        let Body::Heatmap(map) = figure.body else { panic!() };
        assert_eq!(
            (map.columns, map.values),
            (vec!["rain".to_string(), "snow".into()], vec![1.0, 2.0, 1.0, 0.0])
        );
        assert!(shown(&rows[..2], &["a", "b"]).is_none());
        assert!(shown(&[("a", None), ("b", None)], &["a", "b"]).is_none());
        // With many cells there is one row per topic.
        let topics: Vec<String> = (0..1001).map(|at| format!("t{at:04}")).collect();
        let mut rows: Vec<_> =
            topics.iter().flat_map(|t| [("a", Some(t.as_str())), ("b", Some(t.as_str()))]).collect();
        rows.push(("b", Some("t0000")));
        let Body::Table(table) = shown(&rows, &["a", "b"]).unwrap().body else { panic!() };
        let text = |of: &str| Cell::Text(of.to_string());
        assert_eq!(table.rows[0], [text("t0000"), Cell::Number(3.0, 0), text("1 (a)"), text("2 (b)")]);
        assert_eq!(table.rows.len(), 1001);
    }
}
