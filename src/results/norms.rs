//! How long residuals are, by layer: what strengths of steering are counted in.

use anyhow::Result;

use super::Shown;
use super::page::table_figure;
use crate::lm::{LARGEST, Layer};
use crate::plan::Work;
use crate::report::Section;
use crate::report::figure::Cell;

/// The norms of every set of vectors that is there; `None` where there is none.
pub fn section(shown: &Shown) -> Result<Option<Section>> {
    let mut figures = Vec::new();
    for node in shown.nodes() {
        let Work::Vectors { set, .. } = &node.work else { continue };
        let Some(table) = shown.whole(node)? else { continue };
        let (layers, tokens) = (table.i32("layer")?, table.f32("resid_norm")?);
        let (rest, pooled) = (table.f32("rest_norm")?, table.f32("pooled_norm")?);
        let mut rows: Vec<(i32, Vec<Cell>)> = Vec::new();
        for (at, &layer) in layers.iter().enumerate() {
            if rows.last().is_some_and(|(last, _)| *last == layer) {
                continue;
            }
            let [token, rest, pooled] = [tokens[at], rest[at], pooled[at]].map(f64::from);
            rows.push((
                layer,
                vec![
                    Layer::of_number(layer).map_or(Cell::Empty, Cell::layer),
                    Cell::Number(token, 2),
                    Cell::Number(pooled, 2),
                    Cell::Number(rest, 2),
                    Cell::Number(100.0 * (1.0 - (rest / token).powi(2)), 1),
                ],
            ));
        }
        let largest = format!("% of the square in {LARGEST} dimensions");
        let without = format!("without {LARGEST} dimensions");
        let columns = ["layer", "of tokens", "of pooled residuals", without.as_str(), largest.as_str()];
        let caption = format!(
            "Mean norms over the stories that the emotion vectors are made of; of tokens: over each story's tokens that are pooled. \
             The norm of tokens is what `unit = \"resid_norm\"` counts strengths in; that of pooled residuals is smaller, since \
             what differs between tokens is averaged away. Without {LARGEST} dimensions: those in which a story's pooled residual is \
             largest; where they hold most of the square, a strength is mostly counted in them."
        );
        let rows = rows.into_iter().map(|(_, cells)| cells).collect();
        let mut figure = table_figure("residuals-norms", "Norms of residuals", &caption, &columns, rows);
        figure.model = Some(set.model.clone());
        figure.stories = Some(set.stories.clone());
        figure.axes = node.id.axes.clone();
        figures.push(figure);
    }
    Ok((!figures.is_empty()).then(|| Section {
        id: "residuals".to_string(),
        title: "Residuals".to_string(),
        intro: String::new(),
        figures,
    }))
}
