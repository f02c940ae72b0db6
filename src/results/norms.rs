//! Norms of residuals by layer, the unit of steering strengths.

use anyhow::Result;

use super::Shown;
use super::page::table_figure;
use crate::lm::{LARGEST, Layer};
use crate::plan::Work;
use crate::report::Section;
use crate::report::figure::Cell;
use crate::store::table::Table;

/// The norms of every available set of vectors; `None` if there is none.
pub fn section(shown: &Shown) -> Result<Option<Section>> {
    let mut figures = Vec::new();
    for node in shown.nodes() {
        let Work::Vectors { set, .. } = &node.work else { continue };
        let Some(table) = shown.whole(node)? else { continue };
        let rows = rows(&table)?;
        let largest = format!("% of the square in {LARGEST} dimensions");
        let without = format!("without {LARGEST} dimensions");
        let columns = ["layer", "of tokens", "of pooled residuals", without.as_str(), largest.as_str()];
        let caption = format!(
            "Mean norms over the stories from which the emotion vectors are computed; of tokens: over each story's \
             pooled tokens. The norm of tokens is the unit of strengths with `unit = \"resid_norm\"`; that of pooled \
             residuals is smaller, since differences between tokens average out. Without {LARGEST} dimensions: those \
             in which a story's pooled residual is largest; if these hold most of the squared norm, they dominate the \
             unit."
        );
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
        ..Section::default()
    }))
}

/// One row per layer of a table of vectors; all rows of a layer have the same norms.
fn rows(table: &Table) -> Result<Vec<Vec<Cell>>> {
    let (layers, tokens) = (table.i32("layer")?, table.f32("resid_norm")?);
    let (rest, pooled) = (table.f32("rest_norm")?, table.f32("pooled_norm")?);
    let first = |at: &usize| *at == 0 || layers[at - 1] != layers[*at];
    let row = |at: usize| {
        let [token, rest, pooled] = [tokens[at], rest[at], pooled[at]].map(f64::from);
        vec![
            Layer::of_number(layers[at]).map_or(Cell::Empty, Cell::layer),
            Cell::Number(token, 2),
            Cell::Number(pooled, 2),
            Cell::Number(rest, 2),
            Cell::Number(100.0 * (1.0 - (rest / token).powi(2)), 1),
        ]
    };
    Ok((0..layers.len()).filter(first).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn a_layer_has_one_row_and_the_share_of_its_large_dimensions() {
        let norms = |values: [f32; 4]| Column::F32(values.to_vec());
        let table = Table::new(
            "vectors/2",
            vec![
                ("layer", Column::I32(vec![2, 2, 5, 5])),
                ("resid_norm", norms([10.0, 10.0, 5.0, 5.0])),
                ("rest_norm", norms([6.0, 6.0, 5.0, 5.0])),
                ("pooled_norm", norms([8.0, 8.0, 4.5, 4.5])),
            ],
        );
        let number = |x: f64| Cell::Number(x, 2);
        let found = rows(&table).unwrap();
        // Without the largest dimensions 36 of 100 remain at the first layer, everything at the second.
        let [first, second] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(first[1..], [number(10.0), number(8.0), number(6.0), Cell::Number(64.0, 1)]);
        assert_eq!(second[1..], [number(5.0), number(4.5), number(5.0), Cell::Number(0.0, 1)]);
        assert_eq!([&first[0], &second[0]], [&Cell::layer(Layer::Block(2)), &Cell::layer(Layer::Block(5))]);
    }
}
